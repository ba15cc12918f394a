"""Expressibility and entangling capability against an independent simulation, closed forms and exact bin masses."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, Input, Weight
from redqubit.quantum.ansatzes import sim
from redqubit.quantum.channels import Channel
from redqubit.quantum.descriptors import (
    BINS,
    PAIRS,
    Estimate,
    entangling_capability,
    expressibility,
    expressibility_floor,
    haar_entangling_capability,
    linear_entropies,
    meyer_wallach,
    random_states,
)
from redqubit.quantum.encodings import amplitude

# Circuits of Sim et al., n = 4, one layer, by a numpy simulation written apart from this package: angles uniform in
# [0, 2 pi), 5000 pairs, 75 bins; mean and standard deviation of 10 repeats of the divergence, mean Meyer-Wallach.
# The divergences agree with the published ones; the published entangling values are above this definition.
SIMULATED = {
    1: (0.3006, 0.0158, 0.0),
    2: (0.3017, 0.0126, 0.6215),
    3: (0.2595, 0.0147, 0.1719),
    4: (0.1364, 0.0056, 0.3118),
    5: (0.0546, 0.0053, 0.2902),
    6: (0.0040, 0.0006, 0.6856),
    7: (0.1102, 0.0050, 0.2120),
    8: (0.0730, 0.0062, 0.2901),
    9: (0.6776, 0.0196, 1.0),
    10: (0.2483, 0.0176, 0.3744),
    11: (0.1432, 0.0078, 0.5365),
    12: (0.1789, 0.0100, 0.4002),
    13: (0.0634, 0.0061, 0.4065),
    14: (0.0143, 0.0017, 0.5447),
    15: (0.1781, 0.0147, 0.7114),
    16: (0.2625, 0.0135, 0.1714),
    17: (0.1371, 0.0071, 0.2953),
    18: (0.2468, 0.0137, 0.2185),
    19: (0.0727, 0.0061, 0.3858),
}


PAULIS = torch.tensor([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=torch.complex128)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def haar(n_qubits: int, n: int) -> Tensor:
    z = torch.randn(n, 2**n_qubits, generator=seeded(7), dtype=torch.complex128)
    return z / torch.linalg.vector_norm(z, dim=1, keepdim=True)


@pytest.mark.parametrize("number", SIMULATED)
def test_circuits_of_sim_equal_an_independent_simulation(number: int) -> None:
    divergence, spread, entanglement = SIMULATED[number]
    # one repeat of theirs scatters by `spread`; our mean of 3 and theirs of 10 differ by less
    e = expressibility(sim(number), generator=seeded(number), repeats=3)
    assert abs(e.value - divergence) < 4 * spread * math.sqrt(1 / 3 + 1 / 10) + 5e-5
    q = entangling_capability(sim(number), generator=seeded(number), n_states=4000)
    assert abs(q.value - entanglement) < 5 * q.standard_error + 1e-3


def test_entanglement_has_closed_forms_on_circuits() -> None:
    assert entangling_capability(sim(1), generator=seeded()).value == pytest.approx(0, abs=1e-9)
    assert entangling_capability(sim(9), generator=seeded()).value == pytest.approx(1, abs=1e-9)
    ten = entangling_capability(sim(10), generator=seeded(), n_states=20_000)
    assert ten.value == pytest.approx(3 / 8, abs=4 * ten.standard_error)
    assert 0 < ten.standard_error < 0.003


def superposition(n_qubits: int, **amplitudes: complex) -> Tensor:
    psi = torch.zeros(1, 2**n_qubits, dtype=torch.complex128)
    for bits, value in amplitudes.items():
        psi[0, int(bits[1:], 2)] = value
    return psi / psi.abs().square().sum().sqrt()


def test_meyer_wallach_has_closed_forms_on_states() -> None:
    assert meyer_wallach(superposition(4, b0000=1, b1111=1j)).item() == pytest.approx(1)  # GHZ
    w = superposition(4, b1000=1, b0100=-1, b0010=1j, b0001=1)
    assert meyer_wallach(w).item() == pytest.approx(2 * (1 - (9 + 1) / 16))  # each qubit is |1> in one term of four
    bell_pairs = superposition(4, b0000=1, b0011=1, b1100=1, b1111=1)
    assert meyer_wallach(bell_pairs).item() == pytest.approx(1)
    half = superposition(3, b000=1, b110=1)  # the third qubit stands apart
    assert meyer_wallach(half).item() == pytest.approx(2 / 3)
    for t in (0.0, 0.3, 1.2):
        pair = superposition(2, b00=math.cos(t), b11=math.sin(t))
        assert meyer_wallach(pair).item() == pytest.approx(math.sin(2 * t) ** 2)  # concurrence squared


def test_meyer_wallach_of_haar_states_is_known() -> None:
    for n in (2, 4):
        q = meyer_wallach(haar(n, 20_000))
        error = float(q.std()) / math.sqrt(len(q))
        assert float(q.mean()) == pytest.approx(haar_entangling_capability(n), abs=4 * error)
    assert haar_entangling_capability(1) == 0  # one qubit has nothing to be entangled with
    assert haar_entangling_capability(4) == pytest.approx(14 / 17)


def test_linear_entropies_tell_the_qubits_apart() -> None:
    pair = superposition(3, b000=math.cos(0.4), b110=math.sin(0.4))  # the third qubit stands apart
    want = math.sin(0.8) ** 2
    assert linear_entropies(pair)[0].tolist() == pytest.approx([want, want, 0])
    psi = haar(4, 20_000)[:5]
    for k in range(4):
        halves = psi.reshape(5, 2**k, 2, -1).movedim(2, 1).reshape(5, 2, 8)
        bloch = [torch.einsum("bix,ij,bjx->b", halves.conj(), pauli, halves).real for pauli in PAULIS]
        length = torch.stack(bloch).square().sum(0)
        assert torch.allclose(linear_entropies(psi)[:, k], 1 - length)  # Tr rho^2 = (1 + |r|^2) / 2


@pytest.mark.tiny
def test_a_circuit_without_parameters_has_all_its_weight_in_the_last_bin() -> None:
    for n in (1, 2, 4):
        idle = expressibility(Circuit(n), generator=seeded(), repeats=2)
        assert idle.value == pytest.approx((2**n - 1) * math.log(BINS))  # the last bin holds BINS^-(N-1) of Haar
        assert idle.standard_error == 0


@pytest.mark.parametrize("angle", [Weight(0), Input(0)])
def test_a_state_that_turns_round_the_equator_has_the_divergence_of_the_arcsine_law(angle: Weight | Input) -> None:
    edges = [i / BINS for i in range(BINS + 1)]
    law = [2 / math.pi * math.asin(math.sqrt(v)) for v in edges]
    mass = [u - v for v, u in itertools.pairwise(law)]
    exact = sum(p * math.log(p * BINS) for p in mass)  # one qubit: Haar overlaps are uniform
    circuit = Circuit(1, (Gate("H", (0,)), Gate("RZ", (0,), (angle,))))
    got = expressibility(circuit, generator=seeded(), repeats=10)
    bias = (BINS - 1) / (2 * PAIRS)  # of a histogram's divergence, to first order
    assert got.value == pytest.approx(exact + bias, abs=4 * got.standard_error)


def test_haar_states_are_at_the_floor() -> None:
    edges = np.arange(BINS + 1) / BINS
    mass = -np.diff((1 - edges) ** 15)
    k = np.arange(PAIRS + 1)[1:, None]
    exact = float((binom.pmf(k, PAIRS, mass) * k / PAIRS * np.log(k / (PAIRS * mass))).sum())  # counts are binomial
    floor = expressibility_floor(4, generator=seeded())
    assert floor.value == pytest.approx(exact, abs=4 * floor.standard_error)
    assert 0.003 < exact < 0.004
    deep = expressibility(sim(6, 4, 3), generator=seeded())
    assert deep.value == pytest.approx(floor.value, abs=5 * deep.standard_error + 5 * floor.standard_error)
    # the overlaps that the floor draws have the distribution of real Haar states
    overlaps = (haar(4, 20_000)[::2].conj() * haar(4, 20_000)[1::2]).sum(1).abs().square()
    assert float(overlaps.mean()) == pytest.approx(1 / 16, abs=0.002)
    assert float((overlaps > 0.2).double().mean()) == pytest.approx(0.8**15, abs=0.006)


def test_random_states_are_normal_fresh_and_repeatable() -> None:
    circuit = Circuit(2, (Gate("RY", (0,), (Input(0) * 0.5 + 0.2,)),)) + sim(2, 2)
    psi = random_states(circuit, 50, generator=seeded())
    assert psi.shape == (50, 4)
    assert psi.dtype == torch.complex128
    assert torch.allclose(psi.abs().square().sum(1), torch.ones(50, dtype=torch.float64))
    assert len({complex(v) for v in psi[:, 0]}) == 50
    assert torch.equal(psi, random_states(circuit, 50, generator=seeded()))
    assert not torch.equal(psi, random_states(circuit, 50, generator=seeded(1)))
    assert random_states(Circuit(2), 3, generator=seeded()).shape == (3, 4)


def test_every_parameter_is_drawn_over_one_whole_turn() -> None:
    turned = Circuit(1, (Gate("RY", (0,), (Weight(0),)),))
    angle = 2 * torch.atan2(*random_states(turned, 4000, generator=seeded()).real.T.flip(0))  # in (-2 pi, 2 pi]
    assert float(angle.min()) > -1e-9
    assert float(angle.max()) == pytest.approx(2 * math.pi, abs=0.01)
    assert float(angle.mean()) == pytest.approx(math.pi, abs=0.1)


def test_a_weight_keeps_its_scale_and_offset() -> None:
    half = Circuit(1, (Gate("RY", (0,), (Weight(0) * 0.5 + 1.0,)),))
    angle = 2 * torch.atan2(*random_states(half, 4000, generator=seeded()).real.T.flip(0))
    assert float(angle.min()) == pytest.approx(1.0, abs=0.01)
    assert float(angle.max()) == pytest.approx(1.0 + math.pi, abs=0.01)


def test_estimates_repeat() -> None:
    one, two = (expressibility(sim(14), generator=seeded(3), repeats=2) for _ in range(2))
    assert one == two
    assert isinstance(one, Estimate)


def test_one_repeat_has_no_standard_error() -> None:
    one = expressibility(sim(9, 2), generator=seeded(), repeats=1)
    assert math.isfinite(one.value)
    assert math.isnan(one.standard_error)


@pytest.mark.tiny
def test_what_has_no_descriptor_is_one_line() -> None:
    noisy = sim(9, 2) + Circuit(2, (Channel("Depolarizing", (0,), (0.1,)),))
    for circuit, said in ((noisy, "noise channels"), (amplitude(2), "an amplitude encoding")):
        for describe in (expressibility, entangling_capability):
            with pytest.raises(UsageError, match=f"Argument `circuit` must .*{said}"):
                describe(circuit, generator=seeded())
    with pytest.raises(UsageError, match="`repeats` must"):
        expressibility(sim(9, 2), generator=seeded(), repeats=0)
