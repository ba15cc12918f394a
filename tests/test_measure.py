"""Observables, probabilities and read-out errors against dense matrices."""

import itertools
from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, ansatzes, state
from redqubit.quantum.gates import IDENTITY, X, Y, Z
from redqubit.quantum.measure import Observable, Probabilities, as_read, bases, probabilities, with_readout, z_of

Readout = tuple[tuple[float, float], ...]
PAULI = {"I": IDENTITY, "X": X, "Y": Y, "Z": Z}
WORDS = ["".join(w) for w in itertools.product("IXYZ", repeat=3)]


def random_state(seed: int, n: int = 3) -> tuple[Circuit, Tensor]:
    g = torch.Generator().manual_seed(seed)
    circuit = ansatzes.strongly_entangling(n, 2)
    return circuit, 6 * torch.rand(circuit.n_weights, generator=g, dtype=torch.float64)


def read(circuit: Circuit, w: Tensor, outputs: list[Observable] | Probabilities, readout: Readout = ()) -> Tensor:
    """Return the outputs (K,) as the tables of `bases` give them."""
    found = []
    for basis in bases(circuit.n_qubits, outputs):
        turned = circuit + Circuit(circuit.n_qubits, basis.gates)
        found.append(probabilities(state(turned, w.new_zeros(1, 0), w))[0] @ with_readout(basis.table, readout))
    return torch.stack(found).sum(0)


@settings(max_examples=30)
@given(
    st.lists(st.dictionaries(st.sampled_from(WORDS), st.floats(-2, 2), min_size=1, max_size=5), min_size=1, max_size=4)
)
def test_observables_equal_dense_matrices(outputs: list[Observable]) -> None:
    circuit, w = random_state(1)
    psi = state(circuit, w.new_zeros(1, 0), w)[0]
    for value, observable in zip(read(circuit, w, outputs), outputs, strict=True):
        dense = sum(c * reduce(torch.kron, [PAULI[p] for p in word]) for word, c in observable.items())
        assert float(value) == pytest.approx(float((psi.conj() @ dense @ psi).real), abs=1e-10)


def test_words_that_agree_share_a_basis() -> None:
    assert len(bases(3, z_of(3, range(3)))) == 1
    assert len(bases(3, [{"XXI": 1.0}, {"IXX": 1.0}, {"III": 1.0}])) == 1
    assert len(bases(3, [{"XII": 1.0}, {"YII": 1.0}, {"ZII": 1.0}])) == 3


@pytest.mark.parametrize("wires", [(0,), (2, 0), (0, 1, 2)])
def test_probabilities_of_some_wires_equal_a_sum(wires: tuple[int, ...]) -> None:
    circuit, w = random_state(2)
    p = probabilities(state(circuit, w.new_zeros(1, 0), w))[0].reshape(2, 2, 2)
    others = tuple(q for q in range(3) if q not in wires)
    wanted = p.permute(*wires, *others).reshape(2 ** len(wires), -1).sum(1)
    assert torch.allclose(read(circuit, w, Probabilities(wires)), wanted)


def test_readout_errors_equal_the_confusion_matrices() -> None:
    circuit, w = random_state(3)
    p = probabilities(state(circuit, w.new_zeros(1, 0), w))[0]
    readout = ((0.1, 0.2), (0.0, 0.3), (0.05, 0.0))
    confusion = reduce(
        torch.kron, [torch.tensor([[1 - a, b], [a, 1 - b]], dtype=torch.float64) for a, b in readout]
    )  # column: what is, row: what is read
    observed = confusion @ p
    assert torch.allclose(as_read(p[None], readout)[0], observed)
    assert torch.allclose(read(circuit, w, Probabilities((0, 1, 2)), readout=readout), observed)
    # in the basis of X the errors strike what is read after the turn
    turned = circuit + Circuit(3, (Gate("H", (1,)),))
    read_x = confusion @ probabilities(state(turned, w.new_zeros(1, 0), w))[0]
    signs = torch.tensor([1, 1, -1, -1, 1, 1, -1, -1], dtype=torch.float64)
    assert float(read(circuit, w, [{"IXI": 1.0}], readout=readout)) == pytest.approx(float(read_x @ signs))


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ([], "at least one"),
        ([{}], "at least one"),
        ([{"ZZ": 1.0}], "3 letters"),
        ([{"ZZA": 1.0}], "3 letters"),
        (Probabilities((3,)), "0 to 2"),
        (Probabilities((0, 0)), "distinct"),
        (Probabilities(()), "distinct"),
    ],
)
def test_bad_outputs_are_one_clear_line(outputs: list[Observable], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        bases(3, outputs)
