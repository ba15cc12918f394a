"""Models of qiskit-machine-learning give the same values and gradients here."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.models import QuantumLayer
from redqubit.quantum.circuit import Amplitude
from redqubit.quantum.interop import Imported
from redqubit.quantum.measure import Probabilities, bases, probabilities
from redqubit.quantum.qiskit import from_qiskit
from redqubit.quantum.simulation.state_vector import state

pytest.importorskip("qiskit_machine_learning", reason="qiskit-machine-learning is not installed")
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import real_amplitudes, zz_feature_map
from qiskit.primitives import StatevectorEstimator, StatevectorSampler
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_machine_learning.circuit.library import raw_feature_vector
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN

FEATURES, ANSATZ = zz_feature_map(3, reps=1), real_amplitudes(3, reps=1)
RNG = np.random.default_rng(0)
X, WEIGHTS = RNG.uniform(0, 1, (4, 3)), RNG.uniform(-1, 1, 6)
SHOTS = 20_000


def values(found: Imported, x: Tensor, weights: Tensor) -> Tensor:
    """Return the outputs (B, K) of an imported circuit without noise."""
    inputs, out = found.inputs(x), torch.zeros(())
    for basis in bases(found.circuit.n_qubits, found.observables):
        turned = replace(found.circuit, gates=found.circuit.gates + basis.gates)
        out = out + probabilities(state(turned, inputs, weights)) @ basis.table.to(x)
    return out


def estimator_network() -> EstimatorQNN:
    return EstimatorQNN(
        circuit=FEATURES.compose(ANSATZ),
        observables=[SparsePauliOp(["ZII", "IXI"], [1, 0.5]), SparsePauliOp("YIZ")],
        input_params=FEATURES.parameters,
        weight_params=ANSATZ.parameters,
        estimator=StatevectorEstimator(),
        default_precision=0.0,
        input_gradients=True,
    )


def test_an_estimator_network_has_the_same_values_and_gradients() -> None:
    network = estimator_network()
    found = from_qiskit(network)
    assert (found.n_features, found.products) == (3, ((0, 1), (0, 2), (1, 2)))
    assert found.observables == ({"IIZ": 1.0, "IXI": 0.5}, {"ZIY": 1.0})
    x, weights = torch.tensor(X, requires_grad=True), torch.tensor(WEIGHTS, requires_grad=True)
    out = values(found, x, weights)
    assert np.abs(out.detach().numpy() - network.forward(X, WEIGHTS)).max() < 1e-8
    to_x, to_weights = network.backward(X, WEIGHTS)
    for b in range(4):
        for k in range(2):
            by_x, by_weights = torch.autograd.grad(out[b, k], (x, weights), retain_graph=True)
            assert np.abs(by_x[b].numpy() - to_x[b, k]).max() < 1e-8
            assert np.abs(by_weights.numpy() - to_weights[b, k]).max() < 1e-8


def test_a_torch_connector_brings_its_weights() -> None:
    connector = TorchConnector(estimator_network(), initial_weights=WEIGHTS)
    found = from_qiskit(connector)
    assert found.weights == pytest.approx(WEIGHTS, abs=1e-6)
    assert found.circuit == from_qiskit(estimator_network()).circuit
    x = torch.tensor(X, dtype=torch.float32)
    assert torch.allclose(QuantumLayer.from_qiskit(connector)(x), connector(x), atol=1e-5)


@pytest.mark.parametrize("labels", [None, 2, 3])
def test_a_sampler_network_has_the_same_probabilities(labels: int | None) -> None:
    interpret = None if labels is None else lambda i: (i + i // 2) % labels
    network = SamplerQNN(
        circuit=FEATURES.compose(ANSATZ),
        input_params=FEATURES.parameters,
        weight_params=ANSATZ.parameters,
        sampler=StatevectorSampler(default_shots=SHOTS, seed=1),
        interpret=interpret,
        output_shape=labels,
    )
    found = from_qiskit(network)
    assert isinstance(found.observables, Probabilities) == (labels is None)
    got = values(found, torch.tensor(X), torch.tensor(WEIGHTS)).numpy()
    assert np.allclose(got.sum(1), 1)
    error = np.sqrt(got * (1 - got) / SHOTS)
    assert (np.abs(got - network.forward(X, WEIGHTS)) <= 4 * error + 1e-9).all()


def test_a_sampler_network_may_measure_some_qubits_in_any_order() -> None:
    theta = ParameterVector("t", 3)
    circuit = QuantumCircuit(3, 2)
    for q in range(3):
        circuit.ry(theta[q], q)
    circuit.measure([2, 0], [0, 1])
    network = SamplerQNN(circuit=circuit, input_params=theta, sampler=StatevectorSampler(default_shots=SHOTS, seed=1))
    assert from_qiskit(network).observables == Probabilities((0, 2))  # bit 1 is the most significant
    circuit = QuantumCircuit(3, 3)
    circuit.measure(0, 1)
    with pytest.raises(UsageError, match="must measure into all its classical bits"):
        from_qiskit(SamplerQNN(circuit=circuit, sampler=StatevectorSampler()))


def test_a_raw_feature_vector_is_an_amplitude_encoding() -> None:
    raw = raw_feature_vector(8)
    circuit = QuantumCircuit(3).compose(raw, qubits=[2, 0, 1]).compose(ANSATZ)
    observable = SparsePauliOp(["ZII", "IXI", "IIY", "ZXI"], [1, 0.5, 0.3, 0.2])
    found = from_qiskit(circuit, inputs=raw.parameters, weights=ANSATZ.parameters, observables=observable)
    assert found.circuit.initial == Amplitude(8)
    x = RNG.uniform(0, 1, 8)
    prepared = QuantumCircuit(3)
    prepared.prepare_state(x / np.linalg.norm(x), [2, 0, 1])
    expected = Statevector(prepared.compose(ANSATZ.assign_parameters(WEIGHTS))).expectation_value(observable).real
    got = values(found, torch.tensor(x[None]), torch.tensor(WEIGHTS))
    assert got.item() == pytest.approx(expected, abs=1e-8)

    late = QuantumCircuit(3)
    late.h(0)
    with pytest.raises(UsageError, match="Amplitude encoding must come first"):
        from_qiskit(late.compose(raw), inputs=raw.parameters)
    with pytest.raises(UsageError, match="Amplitude encoding must come first"):
        from_qiskit(QuantumCircuit(3).compose(raw), inputs=raw.parameters[::-1])


def test_a_network_names_its_own_inputs() -> None:
    with pytest.raises(UsageError, match="the EstimatorQNN brings its own"):
        from_qiskit(estimator_network(), observables="ZZZ")


def test_several_dimensions_of_output_are_named() -> None:
    network = SamplerQNN(
        circuit=ANSATZ,
        weight_params=ANSATZ.parameters,
        interpret=lambda i: (i % 2, i // 4),
        output_shape=(2, 2),
        sampler=StatevectorSampler(),
    )
    with pytest.raises(UsageError, match=r"outputs of one dimension .* has shape \(2, 2\)"):
        from_qiskit(network)
