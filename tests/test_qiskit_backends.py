"""Backends of Qiskit: circuits in native gates, with the noise that Qiskit Aer puts on them, and runs there."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from dense_noise import density_matrix, expectation, little_endian
from redqubit.errors import UsageError
from redqubit.models import QuantumLayer
from redqubit.quantum import Circuit, Gate, Input, Weight
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Amplitude
from redqubit.quantum.measure import Probabilities
from redqubit.quantum.noise import NoiseModel, with_noise
from redqubit.quantum.qiskit import (
    BackendRun,
    from_qiskit,
    noise_from_qiskit,
    on_backend,
    run_on_backend,
    to_qiskit,
    transpile_to,
)
from redqubit.quantum.qiskit.outgoing import pauli_sums

pytest.importorskip("qiskit_aer", reason="Qiskit Aer is not installed")
from qiskit import QuantumCircuit, transpile
from qiskit.primitives import BackendEstimatorV2, StatevectorEstimator
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import DensityMatrix
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoise
from qiskit_aer.noise import ReadoutError, amplitude_damping_error, depolarizing_error
from qiskit_aer.primitives import EstimatorV2 as AerEstimator

CIRCUIT = Circuit(
    3,
    (
        Gate("RY", (0,), (2 * Input(0) + 0.3,)),
        Gate("H", (1,)),
        Gate("CX", (0, 2)),
        Gate("RX", (1,), (Weight(0),)),
        Gate("CRY", (1, 0), (Weight(1),)),
        Gate("IsingZZ", (0, 2), (Input(1),)),
        Gate("Rot", (2,), (Input(1), Weight(2), 0.4)),
    ),
)
X, WEIGHTS = [0.4, 0.7], [0.2, 0.5, -0.9]
ASKED = ({"ZII": 1.0}, {"IZI": 1.0}, {"XIY": 0.5, "IZZ": 1.0})


@cache
def nairobi() -> Any:
    fake = pytest.importorskip("qiskit_ibm_runtime.fake_provider", reason="qiskit-ibm-runtime is not installed")
    return fake.FakeNairobiV2()


def line() -> Any:
    return GenericBackendV2(5, seed=3, coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]])


def echoed() -> Any:
    return GenericBackendV2(
        4, basis_gates=["ecr", "id", "rz", "sx", "x"], coupling_map=[[1, 0], [1, 2], [2, 3]], seed=5
    )


def with_rzz() -> Any:
    return GenericBackendV2(3, basis_gates=["cz", "rx", "rz", "rzz", "sx"], coupling_map=[[0, 1], [1, 2]], seed=6)


def simulator() -> Any:
    return AerSimulator.from_backend(line())


def tutorial_noise() -> Any:
    """Noise of all qubits by the names of old gates, and before read-outs."""
    model = AerNoise(basis_gates=["u1", "u2", "u3", "cx"])
    model.add_all_qubit_quantum_error(depolarizing_error(0.1, 1), ["u2", "u3"])
    model.add_all_qubit_quantum_error(amplitude_damping_error(0.2).tensor(depolarizing_error(0.1, 1)), ["cx"])
    model.add_all_qubit_quantum_error(depolarizing_error(0.3, 1), ["reset"])
    model.add_all_qubit_readout_error(ReadoutError([[0.9, 0.1], [0.25, 0.75]]))
    return model


def by_aer(backend: Any, **options: Any) -> list[float]:
    """Return the expectation values that Aer's density matrices give for the sample."""
    if isinstance(backend, AerNoise):
        native = transpile(to_qiskit(CIRCUIT), basis_gates=backend.basis_gates, seed_transpiler=0, optimization_level=1)
        aer = AerSimulator(noise_model=backend)
    else:
        native = transpile(to_qiskit(CIRCUIT), backend, seed_transpiler=0, optimization_level=1, **options)
        aer = backend if isinstance(backend, AerSimulator) else AerSimulator.from_backend(backend)
    values = {f"x[{i}]": v for i, v in enumerate(X)} | {f"w[{i}]": v for i, v in enumerate(WEIGHTS)}
    bound = native.assign_parameters(values)
    for k, operator in enumerate(pauli_sums(ASKED)):
        placed = operator if native.layout is None else operator.apply_layout(native.layout)
        bound.save_expectation_value(placed, range(bound.num_qubits), label=str(k))
    data = aer.run(bound, method="density_matrix").result().data()
    return [data[str(k)] for k in range(len(ASKED))]


def by_kraus(circuit: Circuit, asked: Any) -> list[float]:
    rho = density_matrix(circuit, X, WEIGHTS)
    return [expectation(rho, o) for o in asked]


@pytest.mark.parametrize("make", [nairobi, line, echoed, with_rzz, simulator, tutorial_noise])
def test_the_noise_of_a_backend_is_that_of_aer(make: Callable[[], Any]) -> None:
    backend = make()
    noisy = on_backend(CIRCUIT, backend)
    expected = by_aer(backend)
    assert by_kraus(noisy.circuit, noisy.observables(ASKED)) == pytest.approx(expected, abs=1e-6)
    ideal = transpile_to(CIRCUIT, backend)
    assert (ideal.wires, ideal.qubits) == (noisy.wires, noisy.qubits)
    without = by_kraus(CIRCUIT, ASKED)
    assert by_kraus(ideal.circuit, ideal.observables(ASKED)) == pytest.approx(without, abs=1e-8)
    assert np.abs(np.subtract(without, expected)).max() > 1e-3  # the noise is on


def test_idle_times_relax_when_they_are_scheduled() -> None:
    noisy = on_backend(CIRCUIT, nairobi(), scheduling="alap")
    assert noisy.circuit.counts["ThermalRelaxation"] > 0
    expected = by_aer(nairobi(), scheduling_method="alap")
    assert by_kraus(noisy.circuit, noisy.observables(ASKED)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("make", [nairobi, line, echoed])
def test_the_rules_of_a_backend_say_the_same_on_its_wires(make: Callable[[], Any]) -> None:
    backend = make()
    noisy = on_backend(CIRCUIT, backend)
    native = transpile_to(CIRCUIT, backend)
    on_device = Circuit(
        backend.num_qubits,
        tuple(replace(g, wires=tuple(native.qubits[w] for w in g.wires)) for g in native.circuit.gates),
    )
    model = NoiseModel.from_qiskit(backend)
    found = with_noise(on_device, model)
    assert len(model.readout) == backend.num_qubits
    assert tuple(found.readout[q] for q in native.qubits) == noisy.circuit.readout
    for mine, theirs in zip(found.gates, noisy.circuit.gates, strict=True):
        assert (mine.name, mine.wires) == (theirs.name, tuple(native.qubits[w] for w in theirs.wires))
        if isinstance(mine, Channel) and isinstance(theirs, Channel):
            assert np.allclose(mine.operators, theirs.operators, atol=1e-10)


def test_rules_for_all_qubits() -> None:
    model, native = tutorial_noise(), transpile_to(CIRCUIT, tutorial_noise())
    rules = noise_from_qiskit(model)
    assert rules.readout == ((0.1, 0.25),)
    noisy = with_noise(native.circuit, rules)
    assert by_kraus(noisy, native.observables(ASKED)) == pytest.approx(by_aer(model), abs=1e-6)


def test_errors_of_read_outs_come_last() -> None:
    model = AerNoise(basis_gates=["rz", "sx", "cx"])
    model.add_all_qubit_quantum_error(amplitude_damping_error(1.0), "measure")
    noisy = on_backend(CIRCUIT, model)
    assert [type(g) for g in noisy.circuit.gates[-3:]] == [Channel] * 3
    values = by_kraus(noisy.circuit, noisy.observables([{"ZII": 1.0}, {"IZI": 1.0}, {"IIZ": 1.0}]))
    assert values == pytest.approx([1, 1, 1])


def test_read_out_errors_reach_the_wires_of_their_qubits() -> None:
    noisy = on_backend(CIRCUIT, line(), layout=[4, 3, 2], optimization_level=0)
    errors = [line().target["measure"][(q,)].error for q in range(5)]
    assert noisy.circuit.readout == tuple((errors[q], errors[q]) for q in noisy.qubits)
    assert all(noisy.qubits[w] in (2, 3, 4) for w in noisy.wires)


def test_without_routing_wires_stay_where_they_are_put() -> None:
    pair = Circuit(2, (Gate("CX", (0, 1)), Gate("RY", (1,), (Weight(0),))))
    found = transpile_to(pair, line(), layout=[3, 2], routing=False)
    assert [found.qubits[w] for w in found.wires] == [3, 2]
    with pytest.raises(
        UsageError, match=r"wires 0 and 1 are on qubits 4 and 1 of generic_backend_5q, which are not co"
    ):
        transpile_to(pair, line(), layout=[4, 1], routing=False)


@pytest.mark.parametrize("make", [nairobi, line, lambda: AerSimulator(), lambda: BackendEstimatorV2(backend=line())])
def test_runs_agree_with_the_noise_of_the_backend(make: Callable[[], Any]) -> None:
    backend, shots = make(), 4000
    x = torch.tensor([X, X, X], dtype=torch.float64)
    got = run_on_backend(CIRCUIT, x, torch.tensor(WEIGHTS), ASKED, backend, shots=shots, seed=11)
    assert (got.shape, got.dtype) == ((3, 3), torch.float64)
    noisy = on_backend(CIRCUIT, backend if hasattr(backend, "target") else line())
    expected = by_kraus_read(noisy.circuit, noisy.observables(ASKED))
    error = np.sqrt(sum(abs(c) for o in ASKED for c in o.values()) / shots)  # at most 1 / sqrt(shots) a word
    assert np.abs(got.mean(0).numpy() - expected).max() < 4 * error
    if not isinstance(backend, BackendEstimatorV2):
        again = run_on_backend(CIRCUIT, x, torch.tensor(WEIGHTS), ASKED, backend, shots=shots, seed=11)
        assert torch.equal(got, again)


def by_kraus_read(circuit: Circuit, asked: Any) -> list[float]:
    """Return expectation values with read-out errors: a Z of a wire is read as (1 - a - b) Z + (b - a)."""
    letters = {"I": [("I", 1.0)]}
    out = []
    for observable in asked:
        total: dict[str, float] = {}
        for word, coefficient in observable.items():
            terms = {"": coefficient}
            for wire, letter in enumerate(word):
                a, b = circuit.readout[wire] if circuit.readout else (0.0, 0.0)
                read = letters.get(letter, [(letter, 1 - a - b), ("I", b - a)])
                terms = {w + new: c * f for w, c in terms.items() for new, f in read}
            for w, c in terms.items():
                total[w] = total.get(w, 0.0) + c
        out.append(total)
    return by_kraus(circuit, out)


def test_a_layer_runs_the_noisy_circuit_of_a_device() -> None:
    noisy = on_backend(CIRCUIT, line())
    asked = noisy.observables(ASKED)
    layer = QuantumLayer(noisy.circuit, observables=asked, weights=torch.tensor(WEIGHTS, dtype=torch.float64))
    got = layer(torch.tensor([X], dtype=torch.float64))
    assert got[0].tolist() == pytest.approx(by_kraus_read(noisy.circuit, asked), abs=1e-8)


@pytest.mark.parametrize(
    "make", [StatevectorEstimator, AerEstimator, lambda: AerEstimator.from_backend(AerSimulator())]
)
def test_exact_primitives_give_exact_values_of_a_batch(make: Callable[[], Any]) -> None:
    run = BackendRun(CIRCUIT, ASKED, make())
    x = torch.tensor([[0.4, 0.7], [-1.0, 0.2]])
    got = run(x, torch.tensor(WEIGHTS))
    assert got.dtype == torch.float32
    for row, sample in zip(got, x.tolist(), strict=True):
        rho = density_matrix(CIRCUIT, sample, WEIGHTS)
        assert row.tolist() == pytest.approx([expectation(rho, o) for o in ASKED], abs=1e-6)
    bare = BackendRun(Circuit(2, (Gate("H", (0,)),)), [{"XZ": 2.0}], make())
    assert torch.allclose(bare(torch.zeros(3, 0), torch.zeros(0)), torch.full((3, 1), 2.0))


@pytest.mark.filterwarnings("ignore:.*EstimatorV2 class is deprecated:DeprecationWarning")
def test_a_runtime_primitive_gets_the_native_gates_of_its_backend() -> None:
    runtime = pytest.importorskip("qiskit_ibm_runtime", reason="qiskit-ibm-runtime is not installed")
    got = run_on_backend(
        CIRCUIT,
        torch.tensor([X]),
        torch.tensor(WEIGHTS),
        ASKED[:2],
        runtime.EstimatorV2(mode=nairobi(), options={"simulator": {"seed_simulator": 1}}),
        shots=4000,
    )
    noisy = on_backend(CIRCUIT, nairobi())
    expected = by_kraus(noisy.circuit, noisy.observables(ASKED[:2]))
    assert np.abs(got.numpy() - expected).max() < 4 / np.sqrt(4000) + 0.06  # its read-outs err by 2 % each way


def test_channels_of_aer_come_in_and_what_it_saves_is_named() -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.append(amplitude_damping_error(0.3).tensor(depolarizing_error(0.1, 1)), [1, 0])
    circuit.cx(0, 1)
    circuit.append(depolarizing_error(0.2, 2), [0, 1])
    found = from_qiskit(circuit)
    assert found.circuit.counts == {"H": 1, "Kraus": 2, "CX": 1}
    expected = DensityMatrix.from_label("00").evolve(circuit).data
    assert np.abs(little_endian(density_matrix(found.circuit, [], [])) - expected).max() < 1e-8
    circuit.save_density_matrix()
    with pytest.raises(UsageError, match="Instruction `save_density_matrix` on"):
        from_qiskit(circuit)


def conflicting(*errors: tuple[str, float, list[int] | None]) -> Any:
    model = AerNoise(basis_gates=["rx", "sx", "rz", "cx", "measure", "ccz"])
    for name, strength, qubits in errors:
        error = depolarizing_error(strength, 3 if name == "ccz" else 1)
        if qubits is None:
            model.add_all_qubit_quantum_error(error, name)
        else:
            model.add_quantum_error(error, name, qubits, warnings=False)
    return model


def correlated_readout() -> Any:
    model = AerNoise()
    model.add_readout_error(ReadoutError(np.full((4, 4), 0.25)), [0, 1])
    return model


BAD = {
    "`sx` and `rx` are both RX and have different noise": lambda: noise_from_qiskit(
        conflicting(("sx", 0.1, None), ("rx", 0.2, None))
    ),
    "Noise of `sx` must be given for all qubits or for single ones": lambda: noise_from_qiskit(
        conflicting(("sx", 0.1, None), ("sx", 0.2, [0]))
    ),
    "Noise of `measure` cannot follow one gate": lambda: noise_from_qiskit(conflicting(("measure", 0.1, None))),
    "Noise of `ccz` cannot follow one gate": lambda: noise_from_qiskit(conflicting(("ccz", 0.1, None))),
    "one is of the qubits (0, 1)": lambda: noise_from_qiskit(correlated_readout()),
    "Argument `source` must be a BackendV2": lambda: noise_from_qiskit("ibm_nairobi"),
    "Argument `backend` must be a BackendV2 or a noise model": lambda: transpile_to(CIRCUIT, "ibm_nairobi"),
    "must fit generic_backend_5q of 5 qubits, but has 6": lambda: transpile_to(Circuit(6), line()),
    "must name 3 different qubits of 5, but is (0, 0, 1)": lambda: transpile_to(CIRCUIT, line(), layout=[0, 0, 1]),
    "must have no amplitude encoding to be transpiled": lambda: transpile_to(Circuit(1, initial=Amplitude(2)), line()),
    "must have no noise to be transpiled": lambda: on_backend(Circuit(1, readout=((0.1, 0.1),)), line()),
    "must have no noise of its own": lambda: BackendRun(Circuit(1, readout=((0.1, 0.1),)), [{"Z": 1.0}], line()),
    "asks for probabilities": lambda: BackendRun(Circuit(1), Probabilities((0,)), line()),
    "Argument `shots` must be 1 or more, but is 0": lambda: BackendRun(Circuit(1), [{"Z": 1.0}], line(), shots=0),
    "must be a BackendV2 or an estimator": lambda: BackendRun(Circuit(1), [{"Z": 1.0}], "ibm_nairobi"),
    "Argument `x` must have shape (B, 2)": lambda: run_on_backend(
        CIRCUIT, torch.zeros(1, 3), torch.zeros(3), ASKED, line()
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_what_a_backend_cannot_do_is_named_in_one_line(message: str) -> None:
    with pytest.raises(UsageError) as error:
        BAD[message]()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
