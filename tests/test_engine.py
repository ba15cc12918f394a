"""The engine against PennyLane, a dense Kronecker simulator and closed forms."""

import math
import random

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.models.layer import QuantumLayer
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, encodings, expectation_z, state
from redqubit.quantum.circuit import SIGNATURES, Amplitude
from redqubit.quantum.gates import DIAGONALS, FIXED, GENERATORS, PERMUTATIONS, matrix
from redqubit.quantum.simulation import heisenberg
from redqubit.quantum.simulation.fuse import pure_gates

PENNYLANE = {
    "H": qml.Hadamard, "X": qml.PauliX, "Y": qml.PauliY, "Z": qml.PauliZ, "S": qml.S, "T": qml.T,
    "RX": qml.RX, "RY": qml.RY, "RZ": qml.RZ, "P": qml.PhaseShift, "Rot": qml.Rot, "CX": qml.CNOT, "CY": qml.CY,
    "CZ": qml.CZ, "SWAP": qml.SWAP, "CP": qml.ControlledPhaseShift, "CRX": qml.CRX, "CRY": qml.CRY, "CRZ": qml.CRZ,
    "IsingXX": qml.IsingXX, "IsingYY": qml.IsingYY, "IsingZZ": qml.IsingZZ, "Toffoli": qml.Toffoli,
}  # fmt: skip


def pennylane_z(circuit: Circuit, x: Tensor, weights: Tensor) -> Tensor:
    """Return <Z> (B, n) by PennyLane, one sample after another, differentiable."""

    @qml.qnode(qml.device("default.qubit", wires=circuit.n_qubits), interface="torch", diff_method="backprop")
    def node(row: Tensor) -> list[Tensor]:
        if circuit.initial is not None:
            features = row[: circuit.initial.n_features]
            qml.AmplitudeEmbedding(features, wires=range(circuit.n_qubits), pad_with=0.0, normalize=True)
        for gate in pure_gates(circuit):
            angles = [
                a.scale * (row if isinstance(a, Input) else weights)[a.index] + a.offset
                if isinstance(a, Input | Weight)
                else a
                for a in gate.angles
            ]
            if gate.matrix is not None:
                qml.QubitUnitary(torch.tensor(gate.matrix, dtype=torch.complex128), wires=gate.wires)
            else:
                PENNYLANE[gate.name](*angles, wires=gate.wires)
        return [qml.expval(qml.PauliZ(i)) for i in range(circuit.n_qubits)]

    return torch.stack([torch.stack(tuple(node(row))) for row in x])


def agree(circuit: Circuit, seed: int = 0, tolerance: float = 1e-10) -> None:
    """Assert that outputs and gradients to inputs and weights equal PennyLane's."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(3, circuit.n_inputs, generator=g, dtype=torch.float64).requires_grad_()
    w = (torch.rand(circuit.n_weights, generator=g, dtype=torch.float64) * 6).requires_grad_()
    direction = torch.rand(3, circuit.n_qubits, generator=g, dtype=torch.float64)
    layer = QuantumLayer(circuit, weights=w)
    ours = layer(x)
    from_state = expectation_z(state(circuit, x, w))
    reference = pennylane_z(circuit, x, w)
    assert torch.allclose(ours, reference.to(ours), atol=tolerance)
    assert torch.allclose(from_state, ours, atol=tolerance)
    wanted = torch.autograd.grad((reference * direction).sum(), (x, w), allow_unused=True, materialize_grads=True)
    if not ours.requires_grad:
        assert all(float(v.abs().sum()) == 0 for v in wanted)
        return
    for out, weights in ((ours, layer.weights), (from_state, w)):
        if not out.requires_grad:
            continue
        got = torch.autograd.grad((out * direction).sum(), (x, weights), allow_unused=True, materialize_grads=True)
        for a, b in zip(got, wanted, strict=True):
            assert torch.allclose(a, b, atol=tolerance)


def test_every_table_of_gates_names_the_same_gates() -> None:
    assert set(PENNYLANE) == set(SIGNATURES)
    assert set(FIXED) | set(GENERATORS) | set(PERMUTATIONS) | set(DIAGONALS) <= set(SIGNATURES)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_matrix_equals_pennylane(name: str) -> None:
    n_wires, n_angles = SIGNATURES[name]
    angles = [0.3, -1.1, 2.0][:n_angles]
    wanted = qml.matrix(PENNYLANE[name](*angles, wires=range(n_wires)))
    assert torch.allclose(matrix(name, *angles), torch.as_tensor(wanted, dtype=torch.complex128), atol=1e-12)


@pytest.mark.parametrize("name", sorted(SIGNATURES))
@pytest.mark.parametrize("source", ["input", "weight", "number"])
def test_each_gate_and_its_gradients_equal_pennylane(name: str, source: str) -> None:
    n_wires, n_angles = SIGNATURES[name]
    make = {"input": Input, "weight": Weight, "number": lambda i: 0.4 + i}[source]
    scaled = [make(i) * 1.3 for i in range(n_angles)]
    wires = (2, 0, 1)[:n_wires]
    before = encodings.angle(3, scale=1.0) if source != "input" else ansatzes.strongly_entangling(3)
    turn = tuple(Gate("RX", (q,), (0.7,)) for q in range(3))
    agree(before + Circuit(3, (*turn, Gate(name, wires, tuple(scaled)), *turn)))


CIRCUITS = {
    **{f"sim{i}": encodings.angle(4, ("RZ", "RX"), hadamard=True) + ansatzes.sim(i, 4, 2) for i in range(1, 20)},
    **{
        f"robqunn-{kind}-{order}": encodings.angle(4) + ansatzes.robqunn(kind, order=order)
        for kind in ("none", "linear", "star", "full", "random")
        for order in ("as_written", "zz_first")
    },
    "dressed-5": ansatzes.dressed(5, 3),
    "dressed-7": ansatzes.dressed(7, 2, scale=0.5),
    "basic": encodings.angle(3) + ansatzes.basic_entangling(3, 2),
    "strong-6": encodings.angle(6, ("RX",)) + ansatzes.strongly_entangling(6, 3),
    "amplitude": encodings.amplitude(3, 6) + ansatzes.strongly_entangling(3, 2),
    "re-upload": (encodings.angle(4) + ansatzes.strongly_entangling(4)) * 3,
    "re-upload-7": (encodings.angle(7) + ansatzes.basic_entangling(7)) * 2,
}


@pytest.mark.parametrize("name", CIRCUITS)
def test_ansatzes_and_encodings_equal_pennylane(name: str) -> None:
    agree(CIRCUITS[name])


def test_templates_equal_pennylane_templates() -> None:
    w = torch.rand(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    @qml.qnode(qml.device("default.qubit", wires=4))
    def strong() -> list[object]:
        qml.StronglyEntanglingLayers(w, wires=range(4))
        return [qml.expval(qml.PauliZ(i)) for i in range(4)]

    @qml.qnode(qml.device("default.qubit", wires=4))
    def basic() -> list[object]:
        qml.BasicEntanglerLayers(w[..., 0], wires=range(4))
        return [qml.expval(qml.PauliZ(i)) for i in range(4)]

    empty = torch.zeros(1, 0, dtype=torch.float64)
    for node, circuit, weights in (
        (strong, ansatzes.strongly_entangling(4, 2), w),
        (basic, ansatzes.basic_entangling(4, 2), w[..., 0]),
    ):
        ours = expectation_z(state(circuit, empty, weights.flatten()))[0]
        assert torch.allclose(ours, torch.tensor([float(v) for v in node()], dtype=torch.float64), atol=1e-10)


def dense(circuit: Circuit, x: Tensor, w: Tensor) -> Tensor:
    """Return the final state of one sample by full Kronecker matrices: slow and plain."""
    n = circuit.n_qubits
    psi = torch.zeros(2**n, dtype=torch.complex128)
    psi[0] = 1
    for gate in pure_gates(circuit):
        angles = [
            a.scale * (x if isinstance(a, Input) else w)[a.index] + a.offset if isinstance(a, Input | Weight) else a
            for a in gate.angles
        ]
        m = torch.tensor(gate.matrix, dtype=torch.complex128) if gate.matrix else matrix(gate.name, *angles)
        full = torch.zeros(2**n, 2**n, dtype=torch.complex128)
        for column in range(2**n):
            bits = [(column >> (n - 1 - q)) & 1 for q in range(n)]
            local = int("".join(str(bits[q]) for q in gate.wires), 2)
            for row_local in range(len(m)):
                new = list(bits)
                for position, q in enumerate(gate.wires):
                    new[q] = (row_local >> (len(gate.wires) - 1 - position)) & 1
                full[int("".join(map(str, new)), 2), column] += m[row_local, local]
        psi = full @ psi
    return psi


def random_circuit(seed: int, n: int, length: int) -> Circuit:
    r = random.Random(seed)
    gates, w = [], 0
    unitary = torch.linalg.qr(torch.randn(4, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed)))
    for _ in range(length):
        name = r.choice([*SIGNATURES, "Unitary"])
        n_wires, n_angles = SIGNATURES.get(name, (2, 0))
        if n_wires > n:
            continue
        angles = []
        for _ in range(n_angles):
            kind = r.randrange(3)
            angles.append([r.uniform(-3, 3), Input(r.randrange(3)) * r.uniform(-2, 2) + 0.1, Weight(w) * 0.5][kind])
            w += kind == 2
        m = tuple(map(tuple, unitary.Q.tolist())) if name == "Unitary" else None
        gates.append(Gate(name, tuple(r.sample(range(n), n_wires)), tuple(angles), m))
    return Circuit(n, tuple(gates))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 25))
def test_fused_equals_dense_on_random_circuits(seed: int, n: int, length: int) -> None:
    circuit = random_circuit(seed, n, length)
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(2, circuit.n_inputs, generator=g, dtype=torch.float64)
    w = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64)
    ours = state(circuit, x, w).to(torch.complex128)
    for row, psi in zip(x, ours, strict=True):
        wanted = dense(circuit, row, w)
        assert abs(abs(torch.vdot(wanted, psi)) - 1) < 1e-10  # equal up to a global phase
    assert torch.allclose(ours.abs().square().sum(1), torch.ones(2, dtype=torch.float64), atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_a_circuit_and_its_inverse_return_to_zero(seed: int, n: int) -> None:
    circuit = random_circuit(seed, n, 15)
    undone = replace_weights(circuit, seed)
    psi = state(Circuit(n, undone.gates + undone.inverse().gates), torch.full((1, circuit.n_inputs), 0.4).double())
    assert abs(float(psi[0, 0].abs()) - 1) < 1e-10


def replace_weights(circuit: Circuit, seed: int) -> Circuit:
    r = random.Random(seed)
    return circuit.bind([r.uniform(-3, 3) for _ in range(circuit.n_weights)])


@pytest.mark.parametrize("name", ["dressed-5", "strong-6", "robqunn-full-zz_first", "sim6", "re-upload"])
def test_second_derivatives(name: str) -> None:
    circuit = CIRCUITS[name]
    g = torch.Generator().manual_seed(3)
    x = torch.rand(2, circuit.n_inputs, generator=g, dtype=torch.float64).requires_grad_()
    layer = QuantumLayer(circuit, weights=torch.rand(circuit.n_weights, generator=g, dtype=torch.float64))
    names = ["weights"]

    def f(v: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, [w], strict=True)), (v,))

    assert torch.autograd.gradgradcheck(f, (x, layer.weights), atol=1e-6)


def test_ry_gives_cosine() -> None:
    t = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    layer = QuantumLayer(encodings.angle(1, scale=1.0))
    assert torch.allclose(layer(t), torch.cos(t), atol=1e-12)


def test_sim1_closed_form() -> None:
    """<Z_q> = sin(x_2q) sin(x_2q+1 + w_q) for H, RZ, RX and circuit 1, whose last RZ is invisible."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(5, 8, generator=g, dtype=torch.float64)
    w = torch.rand(8, generator=g, dtype=torch.float64)
    circuit = encodings.angle(4, ("RZ", "RX"), scale=1.0, hadamard=True) + ansatzes.sim(1)
    wanted = torch.sin(x[:, 0::2]) * torch.sin(x[:, 1::2] + w[:4])
    assert torch.allclose(QuantumLayer(circuit, weights=w)(x), wanted, atol=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize("kind", ["none", "linear", "star", "full"])
def test_robqunn_zz_first_closed_form(kind: str) -> None:
    """The formula of the notes: a cosine, and a product over neighbours."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(6, 4, generator=g, dtype=torch.float64)
    w = torch.rand(4, 3, generator=g, dtype=torch.float64) * 6
    phi = 0.3
    edges = {"none": [], "linear": [(0, 1), (1, 2), (2, 3)], "star": [(0, 1), (0, 2), (0, 3)]}.get(
        kind, [(a, b) for a in range(4) for b in range(a + 1, 4)]
    )
    z = torch.cos(math.pi * x)
    wanted = []
    for k in range(4):
        product = torch.exp(1j * w[k, 2]) * torch.ones(6, dtype=torch.complex128)
        for a, b in edges:
            if k in (a, b):
                product = product * (math.cos(2 * phi) + 1j * math.sin(2 * phi) * z[:, b if k == a else a])
        wanted.append(torch.cos(w[k, 1]) * z[:, k] - torch.sin(w[k, 1]) * torch.sin(math.pi * x[:, k]) * product.real)
    circuit = encodings.angle(4) + ansatzes.robqunn(kind, order="zz_first", phi=phi)
    ours = QuantumLayer(circuit, weights=w.flatten(), trainable=False)(x)
    assert torch.allclose(ours, torch.stack(wanted, 1), atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_as_written_the_four_robqunn_circuits_are_one(dtype: torch.dtype, tolerance: float) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(50, 4, generator=g, dtype=dtype)
    w = torch.rand(12, generator=g, dtype=dtype) * 6
    outs = [
        QuantumLayer(encodings.angle(4) + ansatzes.robqunn(kind), weights=w)(x)
        for kind in ("none", "linear", "star", "full")
    ]
    assert max(float((o - outs[0]).detach().abs().max()) for o in outs) < tolerance
    first = QuantumLayer(encodings.angle(4) + ansatzes.robqunn("full", order="zz_first"), weights=w)(x)
    assert float((first - outs[0]).detach().abs().max()) > 0.1


def test_float32_is_kept_and_accurate() -> None:
    for circuit in (CIRCUITS["dressed-7"], CIRCUITS["sim6"]):
        w = torch.rand(circuit.n_weights, generator=torch.Generator().manual_seed(0))
        x = torch.rand(4, circuit.n_inputs, generator=torch.Generator().manual_seed(1))
        layer = QuantumLayer(circuit, weights=w)
        assert layer(x).dtype == torch.float32
        assert torch.allclose(layer(x).double(), layer.double()(x.double()), atol=1e-5)


def test_frozen_weights_that_are_loaded_take_effect() -> None:
    circuit = CIRCUITS["robqunn-none-as_written"]
    layers = [QuantumLayer(circuit, trainable=False, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    first, second = (layer(x) for layer in layers)
    assert not torch.allclose(first, second)
    layers[0].load_state_dict(layers[1].state_dict())
    assert torch.equal(layers[0](x), second)


def test_both_pictures_are_tested() -> None:
    assert heisenberg.build(CIRCUITS["sim6"]) is not None
    assert heisenberg.build(CIRCUITS["robqunn-full-zz_first"]) is not None
    assert heisenberg.build(CIRCUITS["re-upload"]) is None
    assert heisenberg.build(CIRCUITS["amplitude"]) is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Gate("RYY", (0,)), "did you mean RY"),
        (lambda: Gate("CX", (0, 0)), "distinct"),
        (lambda: Gate("RX", (0,)), "1 angles"),
        (lambda: Gate("Unitary", (0,), matrix=((1, 1), (0, 1))), "unitary"),
        (lambda: Circuit(1, (Gate("H", (1,)),)), "acts on wires"),
        (lambda: Circuit(1) + Circuit(2), "equally many"),
        (lambda: Circuit(2, (), Amplitude(5)), "1 to 4"),
        (lambda: ansatzes.sim(20), "1 to 19"),
        (lambda: ansatzes.sim(13, 5), "needs 4 qubits"),
        (lambda: ansatzes.robqunn("stars"), "did you mean star"),
        (lambda: encodings.angle(2, ("RW",)), "RX, RY, RZ or P"),
        (lambda: QuantumLayer(CIRCUITS["sim1"]), "generator"),
        (lambda: QuantumLayer(encodings.angle(2))(torch.zeros(3, 5)), r"\(B, 2\)"),
        (lambda: QuantumLayer(encodings.angle(2), wires=[2]), "among 0 to 1"),
        (lambda: state(encodings.amplitude(2), torch.zeros(1, 4)), "all-zero"),
    ],
)
def test_bad_circuits_are_one_line_errors(make: object, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        make()  # type: ignore[operator]
    assert "\n" not in str(error.value)
