"""PennyLane in and out: outputs and gradients as the user's own node has them, and errors that name what cannot be."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.evasion.pgd import PGD
from redqubit.models.layer import QuantumLayer
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import SIGNATURES
from redqubit.quantum.interop import Imported
from redqubit.quantum.measure import Probabilities
from redqubit.quantum.pennylane import from_pennylane, to_pennylane

Shapes = Mapping[str, tuple[int, ...]]
FERMI = np.array([1, 1, 0, 0])
WORDS = qml.Hamiltonian([0.5, -1.2, 0.3], [qml.Z(0) @ qml.Z(1), qml.X(0), qml.Y(1) @ qml.X(2)])


def z(n: int) -> list[Any]:
    return [qml.expval(qml.Z(i)) for i in range(n)]


def block(weights: Any, wires: Any) -> None:
    qml.RY(weights[0], wires=wires[0])
    qml.RY(weights[1], wires=wires[1])
    qml.CNOT(wires=wires)


def dressed(template: Callable[[Any], object], n: int, measured: Callable[[], Any] | None = None) -> Callable[..., Any]:
    """Return a node function: angles of the features, a template of the weights, and turns so that all of it shows."""

    def function(inputs: Any, weights: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(n), rotation="Y")
        template(weights)
        for q in range(n):
            qml.RX(0.4 + 0.1 * q, wires=q)
        return measured() if measured else z(n)

    return function


def iqp(inputs: Any, weights: Any) -> Any:
    qml.IQPEmbedding(inputs, wires=range(3), n_repeats=2)
    qml.BasicEntanglerLayers(weights, wires=range(3))
    return z(3)


def zz_map(inputs: Any, weights: Any) -> Any:
    for i in range(2):
        qml.Hadamard(i)
        qml.PhaseShift(2 * inputs[..., i], wires=i)
    qml.CNOT([0, 1])
    qml.PhaseShift(2 * (np.pi - inputs[..., 0]) * (np.pi - inputs[..., 1]), wires=1)
    qml.CNOT([0, 1])
    qml.StronglyEntanglingLayers(weights, wires=range(2))
    return z(2)


def qaoa(inputs: Any, weights: Any) -> Any:
    qml.QAOAEmbedding(inputs, weights, wires=range(3))
    return z(3)


def amplitude(inputs: Any, weights: Any) -> Any:
    qml.AmplitudeEmbedding(inputs, wires=range(3), pad_with=0.0, normalize=True)
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return z(3)


def amplitude_of_some(inputs: Any, weights: Any) -> Any:
    qml.AmplitudeEmbedding(inputs, wires=[2, 0], pad_with=0.0, normalize=True)
    qml.Hadamard(1)
    qml.StronglyEntanglingLayers(weights, wires=range(4))
    return z(4)


def reupload(inputs: Any, weights: Any, scales: Any) -> Any:
    for layer in range(2):
        for q in range(2):
            qml.RX(np.pi * inputs[..., q] + scales[layer, q] - 0.3, wires=q)
            qml.Rot(weights[layer, q, 0], weights[layer, q, 1] + inputs[..., 1 - q], weights[layer, q, 2] / 2, wires=q)
        qml.CZ(wires=[0, 1])
    return z(2)


def rotations(weights: Any) -> None:
    qml.CRot(*weights[:3], wires=[0, 1])
    qml.U2(weights[3], weights[4], wires=0)
    qml.U3(*weights[4:7], wires=1)
    qml.PauliRot(weights[7], "XYZ", wires=[0, 2, 1])
    qml.MultiRZ(weights[8], wires=[0, 1, 2])
    qml.IsingXY(weights[9], wires=[1, 2])
    qml.PSWAP(weights[0], wires=[0, 2])
    qml.CPhaseShift00(weights[1], wires=[0, 1])
    qml.CPhaseShift01(weights[2], wires=[2, 1])
    qml.PCPhase(weights[3], 2, wires=[0, 1])


def excitations(weights: Any) -> None:
    qml.SingleExcitation(weights[0], wires=[0, 1])
    qml.SingleExcitationPlus(weights[1], wires=[1, 2])
    qml.SingleExcitationMinus(weights[2], wires=[2, 3])
    qml.DoubleExcitation(weights[3], wires=range(4))
    qml.DoubleExcitationPlus(weights[4], wires=range(4))
    qml.OrbitalRotation(weights[5], wires=range(4))
    qml.FermionicSWAP(weights[6], wires=[0, 2])


def controlled(weights: Any) -> None:
    qml.ctrl(qml.RX(weights[0], wires=3), control=[0, 1])
    qml.ctrl(qml.RZ(weights[1], wires=2), control=[0, 1], control_values=[0, 1])
    qml.ctrl(qml.PhaseShift(weights[2], wires=0), control=[2, 1])
    qml.ctrl(qml.Rot(weights[3], weights[4], weights[5], wires=0), control=[2, 1])
    qml.ctrl(qml.IsingXX(weights[6], wires=[0, 1]), control=3)
    qml.ctrl(qml.RY(weights[7], wires=1), control=0, control_values=0)
    qml.adjoint(qml.CRX(weights[8], wires=[0, 2]))
    qml.pow(qml.RX(weights[9], wires=0), 3)
    qml.ctrl(qml.U3(weights[0], weights[1], weights[2], wires=1), control=0)
    qml.ctrl(qml.GlobalPhase(weights[0]), control=0)


def swapped(weights: Any) -> None:
    qml.TwoLocalSwapNetwork(range(4), lambda index, wires, param: qml.CRY(param, index), weights)


def constants(weights: Any) -> None:
    qml.SX(0)
    qml.adjoint(qml.T(1))
    qml.ISWAP([0, 1])
    qml.SISWAP([1, 2])
    qml.ECR([0, 2])
    qml.CH([0, 1])
    qml.RY(weights[0], wires=1)
    qml.CCZ([0, 1, 2])
    qml.CSWAP([2, 1, 0])
    qml.MultiControlledX([0, 1, 2, 3], control_values=[1, 0, 1])
    qml.QubitUnitary(qml.matrix(qml.QFT([0, 1, 2])), wires=[3, 0, 1])
    qml.DiagonalQubitUnitary([1, 1j, -1, 1], wires=[0, 3])
    qml.BlockEncode(np.array([[0.1, 0.2], [0.3, 0.4]]), wires=[1, 2])
    qml.Permute([2, 0, 1, 3], wires=range(4))
    qml.Barrier()
    qml.Snapshot()
    qml.Identity(0)
    qml.GlobalPhase(0.3)


def evolutions(weights: Any) -> None:
    qml.TrotterProduct(WORDS, weights[0], n=2, order=2)
    qml.ApproxTimeEvolution(WORDS, weights[1], 2)
    qml.CommutingEvolution(qml.Hamiltonian([1.0, 2.0], [qml.X(0) @ qml.X(1), qml.X(1)]), weights[2])
    qml.evolve(qml.X(0) @ qml.Z(2), weights[3])
    qml.QDrift(WORDS, 0.3, n=3, seed=1)


def estimated(weights: Any) -> None:
    qml.ControlledSequence(qml.RX(weights[0], wires=0), control=[1, 2, 3])
    qml.adjoint(qml.QFT)(wires=[1, 2, 3])
    qml.QuantumPhaseEstimation(qml.PhaseShift(weights[1], wires=0), estimation_wires=[1, 2])


MODELS: dict[str, tuple[Callable[..., Any], int, Shapes]] = {
    "AngleEmbedding, StronglyEntanglingLayers": (
        dressed(lambda w: qml.StronglyEntanglingLayers(w, wires=range(3)), 3), 3, {"weights": (2, 3, 3)}),
    "BasicEntanglerLayers": (dressed(lambda w: qml.BasicEntanglerLayers(w, wires=range(3)), 3), 3, {"weights": (2, 3)}),
    "SimplifiedTwoDesign": (
        dressed(lambda w: qml.SimplifiedTwoDesign(w[:3], w[3:].reshape(2, 2, 2), range(3)), 3), 3, {"weights": (11,)}),
    "RandomLayers": (dressed(lambda w: qml.RandomLayers(w, wires=range(3), seed=5), 3), 3, {"weights": (2, 6)}),
    "IQPEmbedding": (iqp, 3, {"weights": (2, 3)}),
    "ZZ feature map": (zz_map, 2, {"weights": (1, 2, 3)}),
    "QAOAEmbedding": (qaoa, 3, {"weights": (2, 6)}),
    "AmplitudeEmbedding": (amplitude, 6, {"weights": (2, 3, 3)}),
    "AmplitudeEmbedding of some wires": (amplitude_of_some, 3, {"weights": (1, 4, 3)}),
    "data re-uploading": (reupload, 2, {"weights": (2, 2, 3), "scales": (2, 2)}),
    "QFT": (dressed(lambda w: (qml.QFT(range(4)), qml.RY(w[0], 0)), 4), 4, {"weights": (1,)}),
    "GroverOperator": (dressed(lambda w: (qml.RY(w[0], 0), qml.GroverOperator(range(4))), 4), 4, {"weights": (1,)}),
    "ArbitraryUnitary": (dressed(lambda w: qml.ArbitraryUnitary(w, range(2)), 2), 2, {"weights": (15,)}),
    "ArbitraryStatePreparation": (
        dressed(lambda w: qml.ArbitraryStatePreparation(w, range(2)), 2), 2, {"weights": (6,)}),
    "MPS": (dressed(lambda w: qml.MPS(range(4), 2, block, 2, template_weights=w), 4), 4, {"weights": (3, 2)}),
    "TTN": (dressed(lambda w: qml.TTN(range(4), 2, block, 2, template_weights=w), 4), 4, {"weights": (3, 2)}),
    "MERA": (dressed(lambda w: qml.MERA(range(4), 2, block, 2, template_weights=w), 4), 4, {"weights": (5, 2)}),
    "AllSinglesDoubles": (
        dressed(lambda w: qml.AllSinglesDoubles(w, range(4), FERMI, [[0, 2], [1, 3]], [[0, 1, 2, 3]]), 4), 4,
        {"weights": (3,)}),
    "UCCSD": (
        dressed(lambda w: qml.UCCSD(w, range(4), [[0, 1, 2]], [[[0, 1], [2, 3]]], init_state=FERMI), 4), 4,
        {"weights": (2,)}),
    "kUpCCGSD": (
        dressed(lambda w: qml.kUpCCGSD(w, range(4), k=1, delta_sz=0, init_state=FERMI), 4), 4, {"weights": (1, 6)}),
    "ParticleConservingU1": (
        dressed(lambda w: qml.ParticleConservingU1(w, range(4), init_state=FERMI), 4), 4, {"weights": (1, 3, 2)}),
    "ParticleConservingU2": (
        dressed(lambda w: qml.ParticleConservingU2(w, range(4), init_state=FERMI), 4), 4, {"weights": (2, 7)}),
    "GateFabric": (
        dressed(lambda w: qml.GateFabric(w, range(4), init_state=FERMI), 4), 4, {"weights": (2, 1, 2)}),
    "BasisRotation": (
        dressed(lambda w: (qml.BasisRotation(range(3), np.linalg.qr(np.vander([1.0, 2, 3]))[0]), qml.RY(w[0], 1)), 3),
        3, {"weights": (1,)}),
    "TwoLocalSwapNetwork": (dressed(swapped, 4), 4, {"weights": (6,)}),
    "Select": (
        dressed(lambda w: qml.Select([qml.X(2), qml.RY(w[0], 2), qml.CNOT([2, 3])], control=[0, 1]), 4), 4,
        {"weights": (1,)}),
    "FABLE": (
        dressed(lambda w: (qml.FABLE(np.array([[0.1, 0.2], [0.3, 0.4]]), range(3)), qml.RX(w[0], 0)), 3), 3,
        {"weights": (1,)}),
    "StatePrep, BasisState of constants": (
        dressed(lambda w: (qml.StatePrep(np.array([0.6, 0, 0, 0.8j]), [2, 3]), qml.BasisState([1, 0], [4, 5]),
                           qml.BasisEmbedding(3, wires=[6, 7]), qml.StronglyEntanglingLayers(w, range(8))), 2), 2,
        {"weights": (1, 8, 3)}),
    "rotations": (dressed(rotations, 3), 3, {"weights": (10,)}),
    "excitations": (dressed(excitations, 4), 4, {"weights": (7,)}),
    "controlled, adjoint, powers": (dressed(controlled, 4), 4, {"weights": (10,)}),
    "constants": (dressed(constants, 4), 4, {"weights": (1,)}),
    "evolutions": (dressed(evolutions, 3), 3, {"weights": (4,)}),
    "phase estimation": (dressed(estimated, 4), 4, {"weights": (2,)}),
}  # fmt: skip


def node_of(function: Callable[..., Any], n: int = 8, device: str = "default.qubit") -> Any:
    return qml.QNode(function, qml.device(device, wires=n), interface="torch", diff_method="backprop")


def draw(n_features: int, shapes: Shapes, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n_features, dtype=torch.float64, generator=g)
    return x, {name: torch.randn(s, dtype=torch.float64, generator=g) for name, s in shapes.items()}


def rows(node: Any, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Return the outputs (B, K) of the user's node, one sample after another."""
    found = [node(row, *weights.values()) for row in x]
    return torch.stack([torch.stack(list(r)) if isinstance(r, list | tuple) else r.reshape(-1) for r in found])


def gradients(y: Tensor, *leaves: Tensor) -> Tensor:
    mix = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).reshape(y.shape)
    grads = torch.autograd.grad((mix * y).sum(), leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten().double() for g in grads])


def agree(found: Imported, node: Any, x: Tensor, weights: Mapping[str, Tensor]) -> None:
    """Assert that outputs and gradients are those of the node, and of the circuit that goes out again."""
    start = torch.tensor(found.weights, dtype=torch.float64)
    method = "auto" if found.circuit.channels else "state-vector"
    layer = QuantumLayer(found.circuit, observables=found.observables, weights=start, method=method)
    x = x.clone().requires_grad_()
    theirs = {name: w.clone().requires_grad_() for name, w in weights.items()}
    wanted, ours = rows(node, x, theirs), layer(found.inputs(x))
    assert ours.shape == wanted.shape
    assert torch.allclose(ours, wanted, atol=1e-9), (ours - wanted).abs().max()
    expected = gradients(wanted, x, *theirs.values())
    assert expected.abs().max() > 1e-3  # the comparison says something
    assert torch.allclose(gradients(ours, x, layer.weights), expected, atol=1e-8)
    w = layer.weights.detach().clone().requires_grad_()
    again = to_pennylane(found)(x, w)
    again = torch.stack(list(again), 1) if isinstance(again, list | tuple) else again
    assert torch.allclose(again, wanted, atol=1e-9)
    assert torch.allclose(gradients(again, x, w), expected, atol=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_a_circuit_goes_in_and_out_unchanged(name: str) -> None:
    function, n_features, shapes = MODELS[name]
    node = node_of(function)
    x, weights = draw(n_features, shapes)
    found = from_pennylane(node, inputs=n_features, weights=weights)
    assert found.n_features == n_features
    assert len(found.weights) == found.circuit.n_weights == sum(w.numel() for w in weights.values())
    agree(found, node, x, weights)


def test_names_shapes_and_order_of_arguments() -> None:
    def function(theta: Any, sample: Any, phi: Any, offset: float = 0.25) -> Any:
        qml.RX(sample[0, 1] + offset, wires=0)
        qml.RY(theta[1, 0] - sample[1, 0] / 4, wires=0)
        qml.RZ(3 * phi, wires=0)
        return qml.expval(qml.X(0))

    node = node_of(function)
    theta = np.arange(4.0).reshape(2, 2)
    found = from_pennylane(node, inputs={"sample": np.zeros((2, 2))}, weights={"theta": theta, "phi": 7})
    assert str(found.circuit).split("RX")[1] == "(x1+0.25)─RY(-0.25·x2)─RY(w2)─RZ(3·w4)─"
    assert found.weights == (0.0, 1.0, 2.0, 3.0, 7.0)
    assert (found.n_features, found.circuit.n_weights) == (4, 5)  # the last feature has no effect, and is kept
    assert from_pennylane(node, inputs={"sample": np.zeros((2, 2))}, weights=[theta, 7]) == found
    x = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    layer = QuantumLayer(found.circuit, observables=found.observables, weights=torch.tensor(found.weights).double())
    wanted = node(torch.as_tensor(theta), x, torch.tensor(7.0))
    assert torch.allclose(layer(x.flatten()[None])[0, 0], wanted, atol=1e-12)


@pytest.mark.parametrize("style", ["batch of one", "one sample", "either"])
def test_a_torch_layer_becomes_a_circuit(style: str) -> None:
    @qml.qnode(qml.device("default.qubit", wires=3), interface="torch")
    def node(inputs: Any, weights_0: Any, weights_1: Any) -> Any:
        if style == "batch of one":
            for q in range(3):
                qml.RY(inputs[:, q], wires=q)
        elif style == "one sample":
            for q, value in enumerate(inputs):
                qml.RY(value, wires=q)
        else:
            qml.AngleEmbedding(inputs, wires=range(3), rotation="Y")
        qml.StronglyEntanglingLayers(weights_0, wires=range(3))
        qml.CRX(weights_1, wires=[2, 0])
        return z(3)

    torch_layer = qml.qnn.TorchLayer(node, {"weights_0": (2, 3, 3), "weights_1": 1})
    found = from_pennylane(torch_layer, inputs=3)
    assert from_pennylane(torch_layer) == found  # it takes 3 features and reads all of them
    assert found.weights == tuple(torch.cat([p.flatten() for p in torch_layer.parameters()]).tolist())
    layer = QuantumLayer(found.circuit, observables=found.observables, weights=torch.tensor(found.weights))
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.stack([torch_layer(row) for row in x]) if style == "one sample" else torch_layer(x)
    assert layer(x).dtype == wanted.dtype == torch.float32
    assert torch.allclose(layer(x), wanted, atol=1e-5)
    assert torch.allclose(layer.double()(x.double()), wanted.double(), atol=1e-5)


COUNTED: dict[str, tuple[Callable[[Any], object], int | None]] = {
    "picked one by one": (lambda x: [qml.RX(2 * x[i], 0) and qml.RZ(-x[i], 0) for i in range(3)], 3),
    "the last two of three": (lambda x: [qml.RX(x[1], 0), qml.RX(x[2], 1)], 3),
    "up to the wires": (lambda x: qml.IQPEmbedding(x, wires=range(4)), 4),
    "as many as there are": (lambda x: [qml.RX(v, wires=i) for i, v in enumerate(x)], 8),
    "amplitudes": (lambda x: qml.AmplitudeEmbedding(x, wires=range(3), normalize=True), 8),
    "padded amplitudes": (lambda x: qml.AmplitudeEmbedding(x, wires=range(3), normalize=True, pad_with=0.0), None),
    "any number": (lambda x: [qml.RX(v, wires=0) for v in x], None),
    "a fault": (lambda x: qml.RX(x.nothing, 0), None),
}


@pytest.mark.parametrize("name", COUNTED)
def test_features_are_counted_where_their_number_is_settled(name: str) -> None:
    operation, n = COUNTED[name]

    def function(inputs: Any) -> Any:
        operation(inputs)
        return z(1)

    if n is None:
        with pytest.raises(UsageError, match="`inputs` must be given"):
            from_pennylane(node_of(function))
    else:
        assert from_pennylane(node_of(function)) == from_pennylane(node_of(function), inputs=n)


def test_wires_follow_the_device_or_their_numbers() -> None:
    def function(inputs: Any) -> Any:
        qml.RY(inputs[..., 0], wires="b")
        qml.CNOT(wires=["b", 7])
        return qml.expval(qml.Z("b")), qml.expval(qml.Z(7) @ qml.X("b"))

    found = from_pennylane(qml.QNode(function, qml.device("default.qubit", wires=[7, "idle", "b"])), inputs=1)
    assert found.circuit == Circuit(2, (Gate("RY", (1,), (Input(0),)), Gate("CX", (1, 0))))
    assert found.observables == ({"IZ": 1.0}, {"ZX": 1.0})

    def numbered() -> Any:
        qml.CNOT(wires=[3, 1])
        return qml.expval(qml.Z(3))

    found = from_pennylane(qml.QNode(numbered, qml.device("default.qubit")))
    assert found.circuit == Circuit(2, (Gate("CX", (1, 0)),))
    assert found.observables == ({"IZ": 1.0},)


MATRIX = np.array([[1.0, 2 - 1j], [2 + 1j, -0.5]])
MEASURED: dict[str, Callable[[], Any]] = {
    "words and sums": lambda: [
        qml.expval(qml.X(0) @ qml.Y(2)), qml.expval(WORDS), qml.expval(2 * qml.Z(0) - qml.I(1)), qml.expval(qml.I(1)),
        qml.expval(qml.prod(qml.X(0), qml.sum(qml.Y(1), qml.Z(1)))),
    ],
    "matrices": lambda: [
        qml.expval(qml.Hermitian(MATRIX, wires=1)), qml.expval(qml.Projector([1, 0], wires=[2, 0])),
        qml.expval(qml.Hadamard(0) @ qml.Z(2)), qml.expval(qml.Hermitian(np.kron(MATRIX, MATRIX), wires=[2, 1])),
    ],
    "one": lambda: qml.expval(qml.Y(1)),
    "probabilities": lambda: qml.probs(wires=[2, 0]),
    "probabilities of all": lambda: qml.probs(),
}  # fmt: skip


@pytest.mark.parametrize("name", MEASURED)
def test_what_is_measured_is_kept(name: str) -> None:
    function = dressed(lambda w: qml.StronglyEntanglingLayers(w, wires=range(3)), 3, MEASURED[name])
    node = node_of(function, 3)
    x, weights = draw(3, {"weights": (1, 3, 3)})
    agree(from_pennylane(node, inputs=3, weights=weights), node, x, weights)


@pytest.mark.parametrize("labels", [(2, 0, 1), (5, 3, 4)])
def test_probabilities_of_a_device_without_wires_come_in_the_order_of_pennylane(labels: tuple[int, ...]) -> None:
    @qml.qnode(qml.device("default.qubit"), interface="torch")
    def node(inputs: Any) -> Any:
        qml.RY(inputs[0], wires=labels[0])
        qml.CNOT(wires=labels[:2])
        qml.RX(inputs[1], wires=labels[2])
        return qml.probs()

    x, _ = draw(2, {})
    agree(from_pennylane(node, inputs=2), node, x, {})


KRAUS = [np.array([[1, 0], [0, math.sqrt(0.7)]]), np.array([[0, math.sqrt(0.3)], [0, 0]])]
NOISE: dict[str, Callable[[], Any]] = {
    "AmplitudeDamping": lambda: qml.AmplitudeDamping(0.2, wires=0),
    "GeneralizedAmplitudeDamping": lambda: qml.GeneralizedAmplitudeDamping(0.2, 0.7, wires=0),
    "PhaseDamping": lambda: qml.PhaseDamping(0.3, wires=1),
    "DepolarizingChannel": lambda: qml.DepolarizingChannel(0.2, wires=0),
    "BitFlip": lambda: qml.BitFlip(0.2, wires=1),
    "PhaseFlip": lambda: qml.PhaseFlip(0.2, wires=0),
    "ThermalRelaxationError, T2 < T1": lambda: qml.ThermalRelaxationError(0.1, 5.0, 4.0, 1.5, wires=0),
    "ThermalRelaxationError, T2 > T1": lambda: qml.ThermalRelaxationError(0.3, 5.0, 8.0, 1.5, wires=0),
    "PauliError": lambda: qml.PauliError("YX", 0.2, wires=[1, 0]),
    "ResetError": lambda: qml.ResetError(0.1, 0.2, wires=1),
    "QubitChannel": lambda: qml.QubitChannel(KRAUS, wires=1),
}


@pytest.mark.parametrize("name", NOISE)
def test_channels_go_in_and_out_unchanged(name: str) -> None:
    function = dressed(lambda w: (block(w, [0, 1]), NOISE[name](), qml.CRX(w[2], wires=[1, 0]), NOISE[name]()), 2)
    node = node_of(function, 2, "default.mixed")
    x, weights = draw(2, {"weights": (3,)})
    found = from_pennylane(node, inputs=2, weights=weights)
    assert len(found.circuit.channels) == 2
    agree(found, node, x, weights)


def test_transforms_of_the_user_are_imported() -> None:
    @qml.qnode(qml.device("default.mixed", wires=2), interface="torch", diff_method="backprop")
    def node(inputs: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(2), rotation="Y")
        qml.CNOT(wires=[0, 1])
        return z(2)

    noisy = qml.noise.insert(node, qml.AmplitudeDamping, 0.1, position="all")
    found = from_pennylane(noisy, inputs=2)
    assert found.circuit.counts == {"RY": 2, "CX": 1, "AmplitudeDamping": 4}
    agree(found, noisy, draw(2, {})[0], {})


def a_gate(name: str) -> Circuit:
    n_wires, n_angles = SIGNATURES[name]
    angles = (0.3 * Input(1) + 0.1, -2 * Weight(0), 0.7)[:n_angles]
    first = tuple(Gate("RY", (q,), (Input(q),)) for q in range(3))
    return Circuit(3, (*first, Gate(name, (2, 0, 1)[:n_wires], angles), Gate("RX", (0,), (Weight(1),))))


AMPLITUDE_DAMPED = Circuit(2, (Gate("H", (0,)), Channel("AmplitudeDamping", (0,), (0.1,)), Gate("CX", (0, 1))))
OURS = {
    **{name: a_gate(name) for name in SIGNATURES},
    "re-upload": (encodings.angle(4) + ansatzes.strongly_entangling(4)) * 2,
    "amplitude": encodings.amplitude(3, 6) + ansatzes.basic_entangling(3, 2),
    "robqunn": encodings.angle(4) + ansatzes.robqunn("full"),
    "sim14": encodings.angle(4, ("RZ", "RX"), hadamard=True) + ansatzes.sim(14, 4, 1),
    "damped": AMPLITUDE_DAMPED,
}


@pytest.mark.parametrize("name", OURS)
def test_a_circuit_of_ours_comes_back_as_the_same_data(name: str) -> None:
    circuit = OURS[name]
    back = from_pennylane(to_pennylane(circuit), inputs=circuit.n_inputs, weights=[torch.zeros(circuit.n_weights)])
    assert back.circuit == circuit


@st.composite
def circuits(draw: Any) -> Circuit:
    """Draw a circuit on 3 wires whose weights are numbered in the order of use."""
    numbers = st.integers(-3000, 3000).map(lambda k: k / 1000)
    gates: list[Gate | Channel] = [Gate("H", (q,)) for q in range(3)]
    n_weights = 0
    for name in draw(st.lists(st.sampled_from(sorted(SIGNATURES)), min_size=1, max_size=12)):
        n_wires, n_angles = SIGNATURES[name]
        angles: list[Any] = []
        for _ in range(n_angles):
            scale, kind = draw(numbers.filter(bool)), draw(st.integers(0, 2))
            angles.append([scale, Input(draw(st.integers(0, 2)), scale, draw(numbers)), Weight(n_weights, scale)][kind])
            n_weights += kind == 2
        gates.append(Gate(name, tuple(draw(st.permutations(range(3)))[:n_wires]), tuple(angles)))
        if draw(st.booleans()):
            gates.append(Channel("BitFlip", (draw(st.integers(0, 2)),), (draw(st.floats(0, 1)),)))
    return Circuit(3, tuple(gates))


@settings(max_examples=25, deadline=None)
@given(circuits())
def test_random_circuits_come_back_as_the_same_data(circuit: Circuit) -> None:
    back = from_pennylane(to_pennylane(circuit), inputs=circuit.n_inputs, weights=[torch.zeros(circuit.n_weights)])
    assert back.circuit == circuit


CROSSED = tuple(tuple(0.5 * v for v in row) for row in ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1)))
NOISY = Circuit(
    2,
    (
        Gate("RY", (0,), (Input(0),)),
        Gate("Unitary", (1, 0), matrix=CROSSED),
        Channel("Depolarizing", (1, 0), (0.1,)),
        Gate("CRX", (0, 1), (Weight(0),)),
        Channel("BitPhaseFlip", (1,), (0.1,)),
        Channel("Pauli", (0,), (0.1, 0.05, 0.2)),
        Channel("ThermalRelaxation", (1,), (5.0, 4.0, 1.0, 0.1)),
        Channel("Kraus", (0,), kraus=Channel("AmplitudeDamping", (0,), (0.2,)).operators),
        Gate("RX", (1,), (Weight(1),)),
    ),
    readout=((0.05, 0.1), (0.02, 0.0)),
)


@pytest.mark.parametrize("outputs", [({"XY": 0.5, "ZI": 1.0}, {"ZZ": -1.0}), Probabilities((1, 0))])
def test_noise_and_readout_errors_of_ours_go_out(outputs: Any) -> None:
    x, _ = draw(1, {})
    w = torch.tensor([0.4, 1.1], dtype=torch.float64)
    wanted = QuantumLayer(NOISY, observables=outputs, weights=w)(x)
    theirs = to_pennylane(NOISY, observables=outputs)(x, w)
    theirs = theirs if isinstance(outputs, Probabilities) else torch.stack(list(theirs), 1)
    assert torch.allclose(theirs, wanted, atol=1e-9)


def test_our_node_works_in_a_torch_layer_on_a_device_of_choice() -> None:
    circuit = encodings.angle(2) + ansatzes.strongly_entangling(2)
    node = to_pennylane(circuit, device=qml.device("default.mixed", wires=2))
    torch_layer = qml.qnn.TorchLayer(node, {"weights": circuit.n_weights})
    x = torch.rand(4, 2, generator=torch.Generator().manual_seed(0))
    layer = QuantumLayer(circuit, weights=next(torch_layer.parameters()).detach())
    assert torch.allclose(torch_layer(x), layer(x), atol=1e-5)
    assert to_pennylane(circuit, device="reference.qubit").device.name == "reference.qubit"


def test_parameters_of_a_tape_are_features_weights_or_constants() -> None:
    tape = qml.tape.QuantumScript(
        [
            qml.RX(0.1, wires=0),
            qml.AngleEmbedding([0.2, 0.3], wires=[0, 1]),
            qml.CRY(0.5, wires=[0, 1]),
            qml.RZ(0.6, 1),
        ],
        [qml.expval(qml.Z(1))],
        shots=200,
    )
    found = from_pennylane(tape, inputs=[1], weights=[0, 2])
    turns = tuple(Gate("RX", (q,), (a,)) for q, a in ((0, Weight(0)), (0, Input(0)), (1, Input(1))))
    assert found.circuit.gates == (*turns, Gate("CRY", (0, 1), (Weight(1),)), Gate("RZ", (1,), (0.6,)))
    assert (found.weights, found.shots) == ((0.1, 0.5), 200)
    assert from_pennylane(tape).circuit.n_weights == 0


class Net(nn.Module):
    """A quantum layer between a scaling to angles and a linear read-out."""

    def __init__(self, quantum: nn.Module) -> None:
        super().__init__()
        self.quantum = quantum
        self.out = nn.Linear(2, 2)
        with torch.no_grad():
            self.out.weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 2.0]]))
            self.out.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.quantum(torch.pi * x))
        return out


@pytest.fixture
def torch_layer() -> Any:
    @qml.qnode(qml.device("default.qubit", wires=2), interface="torch")
    def node(inputs: Any, weights: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(2), rotation="Y")
        qml.BasicEntanglerLayers(weights, wires=range(2))
        return z(2)

    return qml.qnn.TorchLayer(
        node, {"weights": (2, 2)}, init_method={"weights": torch.tensor([[0.3, 0.6], [0.9, 0.2]])}
    )


def test_a_model_with_a_torch_layer_is_attacked_like_its_import(torch_layer: Any) -> None:
    found = from_pennylane(torch_layer, inputs=2)
    layer = QuantumLayer(found.circuit, observables=found.observables, weights=torch.tensor(found.weights))
    x = torch.rand(24, 2, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] < x[:, 1]).long()
    for dtype in (torch.float32, torch.float64):
        moved = []
        for quantum in (torch_layer, layer):
            net = Net(quantum).to(dtype)
            moved.append(PGD(eps=0.1, steps=5)(net, x.to(dtype), y, generator=torch.Generator().manual_seed(2)))
        assert moved[0].dtype == dtype
        assert (moved[0] - x).abs().max() > 0.05
        assert torch.allclose(*moved, atol=1e-4)


def test_a_model_with_a_torch_layer_is_audited(torch_layer: Any, tmp_path: Any) -> None:
    from redqubit import Dataset, audit
    from redqubit.result import load

    x = torch.rand(24, 2, generator=torch.Generator().manual_seed(1))
    net = Net(torch_layer)
    data = Dataset(x, net(x).argmax(1), 2, "squares", ("a", "b"))
    page = audit(net, (data, data), out=tmp_path / "run", attacks=["fgsm"], eps=[0.1], seeds=[0])
    accuracy = next(r for r in load(page.parent / "results.jsonl") if r.metric == "accuracy")
    assert (accuracy.k, accuracy.n) == (24, 24)


def returning(operation: Callable[..., Any], measured: Callable[[], Any] = lambda: z(1)) -> Any:
    """Return a node of two features and two weights that applies an operation to them."""

    def function(inputs: Any, w: Any) -> Any:
        operation(inputs, w)
        return measured()

    return node_of(function, 2)


def halt(*_: Any) -> None:
    raise RuntimeError("out of paper")


def branch(x: Any, w: Any) -> None:
    if w[0] > 0:
        qml.Hadamard(0)
    qml.RX(x[0], wires=0)


class Unknown(qml.operation.Operation):  # type: ignore[misc]
    """An operation without matrix, decomposition or generator."""

    num_wires = 1


FAULTS: dict[str, tuple[Any, str]] = {
    "product": (returning(lambda x, w: qml.RX(x[0] * w[0], 0)), r"RX has another function of inputs, w\."),
    "square of a weight": (returning(lambda x, w: qml.RX(w[0] ** 2, 0)), r"RX has another function of w\."),
    "sine": (returning(lambda x, w: qml.CRZ(torch.sin(x[1]), [0, 1])), r"CRZ has another function of inputs\."),
    "cube": (returning(lambda x, w: qml.RY(x[0] ** 3, 0)), r"RY has another function of inputs\."),
    "kink": (returning(lambda x, w: qml.RY(torch.relu(x[0]), 0)), r"RY has another function of inputs\."),
    "cut off": (returning(lambda x, w: qml.RY(float(x[0]), 0)), r"RY has another function of its arguments\."),
    "inside a template": (
        returning(lambda x, w: qml.AngleEmbedding(x * w, [0, 1])), r"AngleEmbedding has another function of inputs, w"),
    "branch": (returning(branch), "one circuit whatever the values of its arguments, but RX depends"),
    "mid-circuit measurement": (returning(lambda x, w: qml.measure(0)), "but has MidMeasure"),
    "unknown operation": (returning(lambda x, w: Unknown(0)), "but has Unknown: replace it"),
    "unknown part": (returning(lambda x, w: qml.adjoint(Unknown(0))), r"but has Adjoint\(Unknown\): replace it"),
    "matrix of a weight": (
        returning(lambda x, w: qml.QubitUnitary(qml.matrix(qml.RX(w[0], 0)), 0)), "QubitUnitary"),
    "not unitary": (returning(lambda x, w: qml.sum(qml.X(0), qml.Z(0))), "unitary operations, but Sum is not"),
    "noise that varies": (returning(lambda x, w: qml.BitFlip(w[0] ** 2 / 9, 0)), "that of BitFlip varies"),
    "bits of features": (
        returning(lambda x, w: qml.BasisState((x > 0) * (1 + 0 * x), [0, 1])), "but BasisState depends on them"),
    "amplitudes too late": (
        returning(lambda x, w: (qml.Hadamard(0), qml.AmplitudeEmbedding(x, 0, normalize=True))),
        "AmplitudeEmbedding stands after other operations"),
    "other amplitudes": (
        returning(lambda x, w: qml.AmplitudeEmbedding(x.flip(0), 0, normalize=True)), "as they are, padded with zeros"),
    "amplitudes of weights": (
        returning(lambda x, w: qml.AmplitudeEmbedding(w, 0, normalize=True)), "as they are, padded with zeros"),
    "state": (returning(lambda x, w: qml.RX(x[0], 0), qml.state), r"but returns state\(wires=\[\]\)"),
    "sample": (returning(lambda x, w: qml.RX(x[0], 0), lambda: qml.sample(wires=0)), "but returns sample"),
    "variance": (returning(lambda x, w: qml.RX(x[0], 0), lambda: qml.var(qml.Z(0))), r"but returns var\(Z\(0\)\)"),
    "probabilities and values": (
        returning(lambda x, w: qml.RX(x[0], 0), lambda: [qml.expval(qml.Z(0)), qml.probs(wires=0)]), "returns probs"),
    "observable of a weight": (
        node_of(lambda inputs, w: qml.expval(w[0] * qml.Z(0)), 2), "constant observables, but theirs change"),
    "wide matrix": (
        node_of(lambda inputs, w: qml.expval(qml.Projector([0] * 7, wires=range(7)))), "measures Projector on 7"),
    "node that fails": (returning(halt), "with one sample of torch tensors, but does not, out of paper"),
    "wire beyond the device": (returning(lambda x, w: qml.RX(x[0], 3)), r"acts on wires \[3, 0\], but its device has"),
    "node of batches": (returning(lambda x, w: qml.RX(torch.stack([x[0]] * 3), 0)), "one sample makes a batch of 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_imported_is_named(name: str) -> None:
    node, message = FAULTS[name]
    with pytest.raises(UsageError, match=message) as caught:
        from_pennylane(node, inputs=2, weights=[[0.1, 0.2]])
    assert "\n" not in str(caught.value)


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no weights": ({"inputs": 2}, r"values of inputs, w, but w has none\."),
    "stranger": ({"inputs": 2, "weights": {"v": [1.0], "w": [0.1, 0.2]}}, r"but v is none of them\."),
    "too many": ({"inputs": 2, "weights": [[1.0, 2.0], 3.0]}, "values of w, but there are 2"),
    "not a number": ({"inputs": 2, "weights": ["many"]}, "`w` of the node must be numbers, but is a str"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_wrong_argument_is_named(name: str) -> None:
    arguments, message = ARGUMENTS[name]
    with pytest.raises(UsageError, match=message):
        from_pennylane(returning(lambda x, w: qml.RX(x[0] + w[1], 0)), **arguments)


def test_a_wrong_node_position_or_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="a QNode, a TorchLayer or a tape, but is function"):
        from_pennylane(lambda: None)
    with pytest.raises(UsageError, match="positions among its 1 parameters"):
        from_pennylane(qml.tape.QuantumScript([qml.RX(0.1, 0)], [qml.expval(qml.Z(0))]), inputs=[1])
    monkeypatch.setitem(sys.modules, "pennylane", None)
    for call in (lambda: from_pennylane(None), lambda: to_pennylane(AMPLITUDE_DAMPED)):
        with pytest.raises(UsageError, match=r'pip install "redqubit\[pennylane\]"'):
            call()
