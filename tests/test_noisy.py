"""Exact noisy simulation against dense Kraus sums, PennyLane, Qiskit Aer and closed forms."""

import math
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisy_oracles import P, aer_probabilities, dense, pennylane
from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.channels import CHANNELS, Channel
from redqubit.quantum.circuit import SIGNATURES, Amplitude
from redqubit.quantum.measure import signs
from redqubit.quantum.simulation import density, heisenberg
from redqubit.quantum.simulation.fuse import cast

UPPER = np.array([[0.6, 0.8j], [0.8j, 0.6]])
# a fixed channel without structure: the first columns of a random unitary
_rng = np.random.default_rng(7)


def random_kraus(n_wires: int, count: int) -> tuple[tuple[tuple[complex, ...], ...], ...]:
    dim = 2**n_wires
    a = _rng.normal(size=(count * dim, dim)) + 1j * _rng.normal(size=(count * dim, dim))
    q = np.linalg.qr(a)[0].reshape(count, dim, dim)
    return tuple(tuple(tuple(complex(v) for v in row) for row in m) for m in q)


CHANNEL_EXAMPLES = [
    Channel("AmplitudeDamping", (0,), (0.2,)),
    Channel("GeneralizedAmplitudeDamping", (0,), (0.3, 0.7)),
    Channel("PhaseDamping", (0,), (0.25,)),
    Channel("Depolarizing", (0,), (0.15,)),
    Channel("Depolarizing", (0, 1), (0.2,)),
    Channel("BitFlip", (0,), (0.1,)),
    Channel("PhaseFlip", (0,), (0.35,)),
    Channel("BitPhaseFlip", (0,), (0.2,)),
    Channel("ThermalRelaxation", (0,), (50.0, 60.0, 20.0, 0.1)),
    Channel("ThermalRelaxation", (0,), (50.0, 30.0, 20.0, 0.0)),
    Channel("Pauli", (0,), (0.1, 0.05, 0.2)),
    Channel("Pauli", (0, 1), tuple(0.01 * i for i in range(1, 16) if i % 2) + (0.0,) * 7),
    Channel("Kraus", (0,), kraus=random_kraus(1, 3)),
    Channel("Kraus", (0, 1), kraus=random_kraus(2, 2)),
]


def test_every_channel_is_tried() -> None:
    assert {c.name for c in CHANNEL_EXAMPLES} == {*CHANNELS, "Pauli", "Kraus"}


# ---- random circuits


@st.composite
def circuits(draw: st.DrawFn, sizes: tuple[int, int] = (1, 4), inputs_first: bool = False) -> Circuit:
    """Gates of every kind, each perhaps followed by noise; with `inputs_first` in the form of heisenberg."""
    n = draw(st.integers(*sizes))
    gates: list[Gate | Channel] = []

    def angle(source: type[Input] | type[Weight] | None) -> float | Input | Weight:
        shift = draw(st.floats(-3, 3))
        return shift if source is None else source(draw(st.integers(0, 2)), draw(st.sampled_from((1.0, -0.7))), shift)

    def add(names: list[str], sources: list[type[Input] | type[Weight] | None], widest: int = 3) -> None:
        fits = [v for v in names if SIGNATURES[v][0] <= min(n, widest)]
        name = draw(st.sampled_from(fits))
        wires = tuple(draw(st.permutations(range(n)))[: SIGNATURES[name][0]])
        gates.append(
            Gate(name, wires, tuple(angle(draw(st.sampled_from(sources))) for _ in range(SIGNATURES[name][1])))
        )
        if draw(st.booleans()):
            c = draw(st.sampled_from([c for c in CHANNEL_EXAMPLES if len(c.wires) <= min(n, widest)]))
            gates.append(replace(c, wires=tuple(draw(st.permutations(range(n)))[: len(c.wires)])))

    names = list(SIGNATURES)
    if inputs_first:
        for _ in range(draw(st.integers(1, 6))):
            add(names, [Input, Input, None], widest=1)
    for _ in range(draw(st.integers(1, 10))):
        add(names, [Weight, None] if inputs_first else [Input, Weight, None])
    gates.append(Gate("RX", (0,), (Weight(2),)))
    if not inputs_first:
        gates.append(Gate("RY", (0,), (Input(2),)))
    else:
        gates.insert(0, Gate("RY", (0,), (Input(2),)))
    return Circuit(n, tuple(gates))


def data(circuit: Circuit, batch: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(batch, circuit.n_inputs, generator=g, dtype=torch.float64) * 2 - 0.7
    w = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64) * 6
    return x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_()


def table(circuit: Circuit, columns: int) -> Tensor:
    return torch.rand(2**circuit.n_qubits, columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def outputs(module: ModuleType, circuit: Circuit, x: Tensor, w: Tensor, values: Tensor | None) -> Tensor:
    plan = module.build(circuit)
    assert plan is not None
    out: Tensor = module.expectations(plan, x, w, values)
    return out


def engines(circuit: Circuit) -> list[ModuleType]:
    return [density] if heisenberg.build(circuit) is None else [density, heisenberg]


def agree(
    circuit: Circuit, modules: list[ModuleType], reference: Tensor, x: Tensor, w: Tensor, tolerance: float
) -> None:
    """Assert that probabilities and the means of a table of few and of many columns equal the reference."""
    for module in modules:
        assert torch.allclose(outputs(module, circuit, x, w, None), reference, atol=tolerance)
        for columns in (2, 5):  # fewer and more than samples
            means = outputs(module, circuit, x, w, table(circuit, columns))
            assert torch.allclose(means, reference @ table(circuit, columns), atol=tolerance)


def agree_with_gradients(circuit: Circuit, modules: list[ModuleType], tolerance: float = 1e-6) -> None:
    """Assert equality with PennyLane, of gradients to inputs and weights too."""
    x, w = data(circuit, 2)
    reference = pennylane(circuit, x, w)
    agree(circuit, modules, reference, x, w, tolerance)
    values = table(circuit, 3)
    direction = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    options = {"allow_unused": True, "materialize_grads": True}
    wanted = torch.autograd.grad((reference @ values * direction).sum(), (x, w), **options)
    for module in modules:
        got = torch.autograd.grad((outputs(module, circuit, x, w, values) * direction).sum(), (x, w), **options)
        assert all(torch.allclose(a, b, atol=tolerance) for a, b in zip(got, wanted, strict=True))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(circuits())
def test_random_circuits_equal_dense_kraus_sums(circuit: Circuit) -> None:
    x, w = data(circuit)
    agree(circuit, engines(circuit), dense(circuit, x, w), x, w, 1e-10)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(circuits(inputs_first=True))
def test_random_circuits_with_inputs_first_equal_dense_kraus_sums(circuit: Circuit) -> None:
    x, w = data(circuit)
    noisy = replace(circuit, gates=(*circuit.gates, CHANNEL_EXAMPLES[0]))
    agree(noisy, [density, heisenberg], dense(noisy, x, w), x, w, 1e-10)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(circuits(sizes=(5, 6)))
def test_larger_random_circuits_equal_dense_kraus_sums(circuit: Circuit) -> None:
    x, w = data(circuit)
    agree(circuit, engines(circuit), dense(circuit, x, w), x, w, 1e-10)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(circuits())
def test_random_circuits_and_gradients_equal_pennylane(circuit: Circuit) -> None:
    agree_with_gradients(circuit, engines(circuit))


@settings(max_examples=6, deadline=None, derandomize=True)
@given(circuits(inputs_first=True))
def test_random_circuits_with_inputs_first_and_gradients_equal_pennylane(circuit: Circuit) -> None:
    noisy = replace(circuit, gates=(*circuit.gates, CHANNEL_EXAMPLES[0]))
    agree_with_gradients(noisy, [density, heisenberg])


@settings(max_examples=6, deadline=None, derandomize=True)
@given(circuits())
def test_random_circuits_equal_aer(circuit: Circuit) -> None:
    x, w = (v.detach() for v in data(circuit, 1))
    agree(circuit, engines(circuit), aer_probabilities(circuit, x[0], w)[None], x, w, 1e-8)


def around(item: Gate | Channel, n: int = 3) -> Circuit:
    """Return encoding, mixing, the item, and a turn that reads every wire out of its plane."""
    turn = tuple(Gate("RX", (q,), (0.7 + 0.2 * q,)) for q in range(n))
    return encodings.angle(n, scale=1.0) + ansatzes.basic_entangling(n) + Circuit(n, (item, *turn))


@pytest.mark.parametrize("channel", CHANNEL_EXAMPLES, ids=lambda c: f"{c.name}-{len(c.wires)}")
def test_each_channel_equals_pennylane_and_aer(channel: Channel) -> None:
    circuit = around(replace(channel, wires=(2, 0)[: len(channel.wires)]))
    agree_with_gradients(circuit, [density, heisenberg])
    x, w = (v.detach() for v in data(circuit, 1))
    agree(circuit, [density, heisenberg], aer_probabilities(circuit, x[0], w)[None], x, w, 1e-8)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_each_gate_under_noise_equals_pennylane(name: str) -> None:
    n_wires, n_angles = SIGNATURES[name]
    wires = (2, 0, 1)[:n_wires]
    noise = tuple(Channel("AmplitudeDamping", (q,), (0.1,)) for q in range(3))
    for source in (Input, Weight) if n_angles else (Weight,):
        gate = Gate(name, wires, tuple(source(i, 1.3) for i in range(n_angles)))
        circuit = around(gate)
        circuit = replace(circuit, gates=(*circuit.gates[:-3], *noise, *circuit.gates[-3:]))
        agree_with_gradients(circuit, [density] if source is Input else [density, heisenberg])


def test_unitaries_under_noise_equal_dense_kraus_sums() -> None:
    wide = tuple(tuple(complex(v) for v in row) for row in np.kron(UPPER, np.kron(P["Y"], UPPER)))
    small = tuple(tuple(complex(v) for v in row) for row in UPPER)
    items = (Gate("Unitary", (2, 3, 0), matrix=wide), Channel("Kraus", (1, 3), kraus=random_kraus(2, 3)))
    circuit = around(Gate("Unitary", (1,), matrix=small), 4) + Circuit(4, items)
    x, w = data(circuit)
    agree(circuit, [density, heisenberg], dense(circuit, x, w), x, w, 1e-10)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_amplitude_encoding_under_noise_equals_dense_kraus_sums(n: int) -> None:
    noise = tuple(Channel("PhaseDamping", (q,), (0.3,)) for q in range(n))
    body = Circuit(n, noise) + ansatzes.strongly_entangling(n) + encodings.angle(n)
    circuit = replace(body, initial=Amplitude(2**n - 1 if n > 1 else 2))
    x, w = data(circuit)
    agree(circuit, [density], dense(circuit, x, w), x, w, 1e-10)
    with pytest.raises(UsageError, match="all-zero"):
        outputs(density, circuit, torch.zeros_like(x), w, None)


SHAPES = {
    "single wires": encodings.angle(3, ("RZ", "RX"), hadamard=True) + ansatzes.sim(1, 3),
    "a pair, and two single wires": encodings.angle(4) + ansatzes.robqunn("random"),
    "two pairs that cross": encodings.angle(5) + Circuit(5, (Gate("CRY", (3, 0), (Weight(0),)), Gate("CX", (1, 4)))),
    "three angles a wire": encodings.angle(2, ("RX", "RY", "RX")) + ansatzes.strongly_entangling(2),
    "five angles a wire": encodings.angle(3, ("RX", "RY", "RX", "RY", "RX")) + ansatzes.sim(1, 3, 3),
    "weights before inputs": ansatzes.strongly_entangling(3) + encodings.angle(3) + ansatzes.strongly_entangling(3),
    "re-uploading": (encodings.angle(3) + ansatzes.strongly_entangling(3)) * 2,
    "one wire, twice": (encodings.angle(1) + ansatzes.strongly_entangling(1)) * 2,
    "no inputs": ansatzes.strongly_entangling(2),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("noisy", [True, False])
def test_shapes_of_circuits_equal_dense_kraus_sums(name: str, noisy: bool) -> None:
    circuit = SHAPES[name]
    if noisy:
        gates = [v for g in circuit.gates for v in (g, *(Channel("AmplitudeDamping", (q,), (0.1,)) for q in g.wires))]
        circuit = replace(circuit, gates=tuple(gates))
    x, w = data(circuit)
    agree(circuit, engines(circuit), dense(circuit, x, w), x, w, 1e-10)
    z = signs(circuit.n_qubits)
    for module in engines(circuit):
        assert torch.allclose(outputs(module, circuit, x, w, z), dense(circuit, x, w) @ z, atol=1e-10)


def test_which_circuits_the_heisenberg_picture_takes() -> None:
    noise = Circuit(5, (Channel("BitFlip", (0,), (0.1,)),))
    entangled = encodings.angle(5) + ansatzes.basic_entangling(5)
    assert heisenberg.build(entangled) is None  # the state vector is smaller
    assert heisenberg.build(entangled + noise) is not None
    assert heisenberg.build(ansatzes.basic_entangling(5) + entangled + noise) is None
    assert heisenberg.build(encodings.angle(9) + Circuit(9, (Channel("BitFlip", (0,), (0.1,)),))) is None
    assert heisenberg.build(ansatzes.basic_entangling(5) + noise) is None  # no inputs: nothing to gain
    assert heisenberg.build(encodings.amplitude(2, 4) + ansatzes.basic_entangling(2)) is None


def test_density_matrix_of_too_many_qubits_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"8 qubits or fewer.*has 9"):
        density.build(encodings.angle(9))
    wide = tuple(tuple(complex(a == b) for b in range(64)) for a in range(64))
    with pytest.raises(UsageError, match="5 wires or fewer"):
        density.build(encodings.angle(6) + Circuit(6, (Gate("Unitary", tuple(range(6)), matrix=wide),)))


@pytest.mark.parametrize("module", [density, heisenberg])
def test_depolarizing_shrinks_the_bloch_vector(module: ModuleType) -> None:
    p, noise = 0.07, Channel("Depolarizing", (0,), (0.07,))
    z = signs(1)
    x = torch.tensor([[0.4], [2.0]], dtype=torch.float64)
    for times in (1, 2, 5):
        circuit = Circuit(1, (Gate("RY", (0,), (Input(0),)), *[noise] * times))
        got = outputs(module, circuit, x, x.new_zeros(0), z)
        assert torch.allclose(got, (1 - 4 * p / 3) ** times * torch.cos(x), atol=1e-12)


@pytest.mark.parametrize("module", [density, heisenberg])
def test_amplitude_damping_moves_the_bloch_vector_to_the_pole(module: ModuleType) -> None:
    gamma = 0.3
    circuit = Circuit(1, (Gate("RY", (0,), (Input(0),)), Channel("AmplitudeDamping", (0,), (gamma,))))
    x = torch.tensor([[0.4], [2.0]], dtype=torch.float64)
    empty = x.new_zeros(0)
    along_z = outputs(module, circuit, x, empty, signs(1))
    along_x = outputs(module, circuit + Circuit(1, (Gate("H", (0,)),)), x, empty, signs(1))
    assert torch.allclose(along_z, gamma + (1 - gamma) * torch.cos(x), atol=1e-12)
    assert torch.allclose(along_x, math.sqrt(1 - gamma) * torch.sin(x), atol=1e-12)


@pytest.mark.parametrize("module", [density, heisenberg])
def test_purity_of_the_quid_encoder(module: ModuleType) -> None:
    """Amplitude damping and depolarizing 0.05 after H, RZ(0.7), RX(1.1): purity 0.803, of four qubits 0.417."""
    noise = (Channel("AmplitudeDamping", (0,), (0.05,)), Channel("Depolarizing", (0,), (0.05,)))
    gates = (Gate("H", (0,)), *noise, Gate("RZ", (0,), (Input(0),)), *noise, Gate("RX", (0,), (Input(1),)), *noise)
    x = torch.tensor([[0.7, 1.1]], dtype=torch.float64)
    axes = ((Gate("H", (0,)),), (Gate("P", (0,), (-math.pi / 2,)), Gate("H", (0,))), ())
    bloch = [outputs(module, Circuit(1, gates + axis), x, x.new_zeros(0), signs(1)) for axis in axes]
    purity = (1 + sum(float(v) ** 2 for v in bloch)) / 2
    assert purity == pytest.approx(0.803, abs=5e-4)
    assert purity**4 == pytest.approx(0.417, abs=5e-4)


@pytest.mark.parametrize("module", [density, heisenberg])
def test_pqc_1_is_a_product_of_sines(module: ModuleType) -> None:
    upload = [
        Gate(*g)
        for q in range(4)
        for g in (("H", (q,)), ("RZ", (q,), (Input(2 * q),)), ("RX", (q,), (Input(2 * q + 1),)))
    ]
    circuit = Circuit(4, tuple(upload)) + ansatzes.sim(1)
    x, w = data(circuit, 5)
    got = outputs(module, circuit, x, w, signs(4))
    assert torch.allclose(got, torch.sin(x[:, 0::2]) * torch.sin(x[:, 1::2] + w[:4]), atol=1e-12)
    closing = torch.autograd.grad(got.sum(), w)[0][4:]
    assert torch.equal(closing, torch.zeros_like(closing))  # RZ before <Z>


@pytest.mark.parametrize("name", ["single wires", "a pair, and two single wires", "re-uploading", "one wire, twice"])
def test_second_derivatives(name: str) -> None:
    circuit = SHAPES[name] + Circuit(SHAPES[name].n_qubits, (Channel("AmplitudeDamping", (0,), (0.2,)),))
    x, w = data(circuit, 2)
    for module in engines(circuit):
        plan, values = module.build(circuit), table(circuit, 1)
        assert torch.autograd.gradcheck(lambda a, b: module.expectations(plan, a, b, values), (x, w))  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda a, b: module.expectations(plan, a, b, values), (x, w))  # noqa: B023


@pytest.mark.parametrize("name", ["single wires", "re-uploading", "two pairs that cross"])
def test_float32_and_torch_func(name: str) -> None:
    circuit = SHAPES[name] + Circuit(SHAPES[name].n_qubits, (Channel("AmplitudeDamping", (0,), (0.2,)),))
    x, w = data(circuit, 4, torch.float32)
    for module in engines(circuit):
        plan, values = cast((module.build(circuit), table(circuit, 3)), torch.float32, torch.device("cpu"))
        out = module.expectations(plan, x, w, values)
        assert out.dtype == torch.float32
        exact = outputs(module, circuit, x.double(), w.double(), table(circuit, 3))
        assert torch.allclose(out.double(), exact, atol=2e-6)
        loss = lambda a, plan=plan, values=values: module.expectations(plan, a, w, values).sum()  # noqa: B023, E731
        assert torch.allclose(torch.func.grad(loss)(x), torch.autograd.grad(out.sum(), x)[0], atol=1e-5)


def test_frozen_weights_fold_once() -> None:
    circuit = SHAPES["a pair, and two single wires"] + Circuit(4, (Channel("BitFlip", (2,), (0.2,)),))
    plan = heisenberg.build(circuit)
    assert plan is not None
    x, w = data(circuit)
    folded = heisenberg.fold(plan, w.detach(), table(circuit, 2))
    assert torch.equal(heisenberg.contract(plan, folded, x), heisenberg.expectations(plan, x, w, table(circuit, 2)))


def test_noise_costs_no_operations() -> None:
    """Channels multiply into the matrices of the gates that they follow."""
    pure = encodings.angle(4, ("RZ", "RX"), hadamard=True) + ansatzes.sim(6)
    last = Channel("PhaseDamping", (0,), (0.1,))
    gates = [v for g in pure.gates for v in (g, *(Channel("AmplitudeDamping", (q,), (0.05,)) for q in g.wires))]
    few, many = (density.build(replace(pure, gates=tuple(g))).program for g in ([*pure.gates, last], gates))
    assert [op.wires for op in few.ops] == [op.wires for op in many.ops]
    assert len(few.ops) == 12 + 2  # the controlled rotations, and the turns at the end on two pairs of wires
