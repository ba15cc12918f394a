"""Exact noisy simulation against dense Kraus sums, PennyLane, Qiskit Aer and closed forms."""

import math
from dataclasses import replace
from itertools import product
from types import ModuleType

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator
from qiskit_aer import AerSimulator
from qiskit_aer import noise as aer
from scipy.linalg import expm
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, density, encodings, heisenberg
from redqubit.quantum.channels import CHANNELS, Channel
from redqubit.quantum.circuit import SIGNATURES, Amplitude
from redqubit.quantum.fuse import cast
from redqubit.quantum.measure import signs

Array = NDArray[np.complex128]
P = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
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


# ---- oracle 1: density matrices and Kraus sums in numpy, nothing of the package but the data


def gate_matrix(name: str, t: list[float]) -> Array:
    turn = {k: (lambda a, g=g: expm(-0.5j * a * g)) for k, g in (("RX", P["X"]), ("RY", P["Y"]), ("RZ", P["Z"]))}
    one = {
        "H": (P["X"] + P["Z"]) / math.sqrt(2), "X": P["X"], "Y": P["Y"], "Z": P["Z"], "S": np.diag([1, 1j]),
        "T": np.diag([1, np.exp(0.25j * math.pi)]), "SWAP": np.eye(4)[[0, 2, 1, 3]],
    }  # fmt: skip
    if name in one:
        return np.asarray(one[name], dtype=complex)
    if name in turn:
        return turn[name](t[0])
    if name == "Rot":
        return turn["RZ"](t[2]) @ turn["RY"](t[1]) @ turn["RZ"](t[0])
    if name == "P":
        return np.diag([1, np.exp(1j * t[0])])
    if name.startswith("Ising"):
        return expm(-0.5j * t[0] * np.kron(P[name[-1]], P[name[-1]]))
    if name == "Toffoli":
        return np.kron(np.diag([0, 0, 0, 1]), P["X"]) + np.kron(np.diag([1, 1, 1, 0]), P["I"])
    return np.kron(np.diag([1, 0]), P["I"]) + np.kron(np.diag([0, 1]), gate_matrix(name[1:], t))  # controlled


def embedded(m: Array, wires: tuple[int, ...], n: int) -> Array:
    rest = [w for w in range(n) if w not in wires]
    full = np.kron(m, np.eye(2 ** len(rest))).reshape([2] * (2 * n))
    order = [[*wires, *rest].index(w) for w in range(n)]
    return full.transpose(order + [n + a for a in order]).reshape(2**n, 2**n)


def dense(circuit: Circuit, x: Tensor, w: Tensor) -> Tensor:
    """Return the probabilities (B, 2^n)."""
    n, out = circuit.n_qubits, []
    for row in x.detach().numpy():
        psi = np.eye(2**n)[0]
        if circuit.initial is not None:
            psi = np.zeros(2**n)
            psi[: circuit.initial.n_features] = row[: circuit.initial.n_features]
            psi /= np.linalg.norm(psi)
        rho = np.outer(psi, psi).astype(complex)
        for item in circuit.gates:
            if isinstance(item, Channel):
                operators = [np.array(k) for k in item.operators]
            elif item.matrix is not None:
                operators = [np.array(item.matrix)]
            else:
                angles = [value(a, row, w.detach().numpy()) for a in item.angles]
                operators = [gate_matrix(item.name, angles)]
            full = [embedded(k, item.wires, n) for k in operators]
            rho = sum((k @ rho @ k.conj().T for k in full), np.zeros_like(rho))
        out.append(np.diag(rho).real)
    return torch.tensor(np.array(out))


def value(angle: object, row: NDArray[np.float64] | Tensor, w: NDArray[np.float64] | Tensor) -> float:
    if isinstance(angle, Input | Weight):
        return angle.scale * (row if isinstance(angle, Input) else w)[angle.index] + angle.offset  # type: ignore[return-value]
    assert isinstance(angle, float | int)
    return float(angle)


# ---- oracle 2: PennyLane's default.mixed, with its own names of gates and channels

PENNYLANE = {
    "H": qml.Hadamard, "X": qml.PauliX, "Y": qml.PauliY, "Z": qml.PauliZ, "P": qml.PhaseShift, "CX": qml.CNOT,
    "CP": qml.ControlledPhaseShift,
}  # fmt: skip


def pennylane_channel(c: Channel) -> None:
    words = ["".join(v) for v in product("IXYZ", repeat=len(c.wires))]
    if c.name == "ThermalRelaxation":
        t1, t2, duration, excited = c.parameters
        qml.ThermalRelaxationError(excited, t1, t2, duration, wires=c.wires)
    elif c.name == "GeneralizedAmplitudeDamping":  # takes the population of |1>
        qml.GeneralizedAmplitudeDamping(c.parameters[0], 1 - c.parameters[1], wires=c.wires)
    elif c.name == "BitPhaseFlip":
        qml.PauliError("Y", c.parameters[0], wires=c.wires)
    elif c.name in ("Pauli", "Kraus") or len(c.wires) > 1:
        operators = c.kraus
        if operators is None:
            p = c.parameters if c.name == "Pauli" else (c.parameters[0] / 15,) * 15
            kron = {v: np.kron(P[v[0]], P[v[1]]) if len(v) == 2 else P[v] for v in words}
            operators = [math.sqrt(q) * kron[v] for q, v in zip((1 - sum(p), *p), words, strict=True)]
        qml.QubitChannel([torch.tensor(np.array(k), dtype=torch.complex128) for k in operators], wires=c.wires)
    else:
        getattr(qml, {"Depolarizing": "DepolarizingChannel"}.get(c.name, c.name))(*c.parameters, wires=c.wires)


def pennylane(circuit: Circuit, x: Tensor, w: Tensor) -> Tensor:
    """Return the probabilities (B, 2^n), differentiable."""

    @qml.qnode(qml.device("default.mixed", wires=circuit.n_qubits), interface="torch", diff_method="backprop")
    def node(row: Tensor) -> object:
        for item in circuit.gates:
            if isinstance(item, Channel):
                pennylane_channel(item)
            elif item.matrix is not None:
                qml.QubitUnitary(torch.tensor(item.matrix, dtype=torch.complex128), wires=item.wires)
            else:
                angles = [value(a, row, w) for a in item.angles]
                (PENNYLANE.get(item.name) or getattr(qml, item.name))(*angles, wires=item.wires)
        return qml.density_matrix(wires=range(circuit.n_qubits))  # its gradient of probs is nan where they are 0

    return torch.stack([torch.diagonal(node(row)).real for row in x])


# ---- oracle 3: Qiskit Aer's density matrices, with its own error channels


def aer_error(c: Channel) -> object:
    p = c.parameters
    n = len(c.wires)
    if c.name == "AmplitudeDamping":
        return aer.amplitude_damping_error(p[0])
    if c.name == "GeneralizedAmplitudeDamping":
        return aer.amplitude_damping_error(p[0], excited_state_population=1 - p[1])
    if c.name == "PhaseDamping":
        return aer.phase_damping_error(p[0])
    if c.name == "Depolarizing":  # its parameter is the weight of the fully mixed state
        return aer.depolarizing_error(p[0] * 4**n / (4**n - 1), n)
    if c.name in ("BitFlip", "PhaseFlip", "BitPhaseFlip"):
        letter = {"BitFlip": "X", "PhaseFlip": "Z", "BitPhaseFlip": "Y"}[c.name]
        return aer.pauli_error([(letter, p[0]), ("I", 1 - p[0])])
    if c.name == "ThermalRelaxation":
        return aer.thermal_relaxation_error(p[0], p[1], p[2], p[3])
    if c.name == "Pauli":
        words = [a + b for a in "IXYZ" for b in "IXYZ"] if n == 2 else list("IXYZ")
        return aer.pauli_error(list(zip(words, (1 - sum(p), *p), strict=True)))
    return aer.kraus_error([np.array(k) for k in c.operators])


def aer_probabilities(circuit: Circuit, row: Tensor, w: Tensor) -> Tensor:
    """Return the probabilities (2^n,); qubit 0 of Qiskit is the least significant, as its first wire of a matrix."""
    n = circuit.n_qubits
    names = {"CP": "cp", "IsingXX": "rxx", "IsingYY": "ryy", "IsingZZ": "rzz", "Toffoli": "ccx"}
    qc = QuantumCircuit(n)
    for item in circuit.gates:
        wires = [n - 1 - q for q in item.wires]
        if isinstance(item, Channel):
            qc.append(aer_error(item), wires[::-1])
        elif item.matrix is not None:
            qc.unitary(np.array(item.matrix), wires[::-1])
        else:
            angles = [value(a, row.numpy(), w.numpy()) for a in item.angles]
            one = QuantumCircuit(len(wires))
            if item.name == "Rot":
                for name, t in zip(("rz", "ry", "rz"), angles, strict=True):
                    getattr(one, name)(t, 0)
            else:
                getattr(one, names.get(item.name, item.name.lower()))(*angles, *range(len(wires)))
            qc.unitary(Operator(one), wires)
    qc.save_density_matrix()
    rho = AerSimulator(method="density_matrix").run(qc).result().data()["density_matrix"]
    return torch.tensor(np.diag(np.asarray(rho)).real)


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
