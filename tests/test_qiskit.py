"""Circuits, neural networks and OpenQASM programs go in and out of Qiskit and mean the same."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dense_noise import density_matrix, little_endian
from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, Input, Weight
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import SIGNATURES, Amplitude
from redqubit.quantum.interop import Imported
from redqubit.quantum.measure import bases, probabilities
from redqubit.quantum.qiskit import from_qasm, from_qiskit, to_qiskit
from redqubit.quantum.simulation.state_vector import state

pytest.importorskip("qiskit", reason="Qiskit is not installed")
from qiskit import QuantumCircuit, qasm2, qasm3
from qiskit.circuit import Gate as TheirGate
from qiskit.circuit import Parameter, ParameterVector, library
from qiskit.quantum_info import DensityMatrix, Operator, Pauli, SparsePauliOp, Statevector


def values(found: Imported, x: Tensor, weights: Tensor) -> Tensor:
    """Return the outputs (B, K) of an imported circuit without noise."""
    inputs, out = found.inputs(x), torch.zeros(())
    for basis in bases(found.circuit.n_qubits, found.observables):
        turned = replace(found.circuit, gates=found.circuit.gates + basis.gates)
        out = out + probabilities(state(turned, inputs, weights)) @ basis.table.to(x)
    return out


def on_qubits(build: object, *args: object) -> QuantumCircuit:
    gate = build(*args)  # type: ignore[operator]
    return QuantumCircuit(gate.num_qubits).compose(gate)


def all_standard_gates() -> QuantumCircuit:
    """Every gate that Qiskit calls standard, on qubits in mixed order, with parameters of its own."""
    circuit = QuantumCircuit(4)
    circuit.h(range(4))
    for name, gate in library.get_standard_gate_name_mapping().items():
        if name in ("measure", "reset", "delay"):
            continue
        parameters = [Parameter(f"{name}{i}") for i in range(len(gate.params))]
        made = gate.base_class(*parameters) if parameters else gate
        circuit.append(made, [2, 0, 3, 1][: gate.num_qubits])
        circuit.rx(0.3, range(4))
    return circuit


def prepared() -> QuantumCircuit:
    circuit = QuantumCircuit(3)
    circuit.initialize(np.arange(1, 9) / np.linalg.norm(np.arange(1, 9)))
    circuit.mcp(Parameter("a"), [0, 1], 2)
    circuit.append(library.XGate().control(2, ctrl_state=1), [0, 2, 1])
    circuit.barrier()
    circuit.id(0)
    circuit.append(library.PermutationGate([2, 0, 1]), [0, 1, 2])
    circuit.append(library.DiagonalGate([1, -1, 1j, 1]), [2, 0])
    circuit.append(library.PauliEvolutionGate(SparsePauliOp(["XXI", "YYZ"]), time=Parameter("b")), [0, 1, 2])
    return circuit


def oracle() -> QuantumCircuit:
    circuit = QuantumCircuit(3)
    circuit.ccz(0, 1, 2)
    return circuit


PUBLIC = {
    "zz feature map": lambda: library.zz_feature_map(3),
    "zz feature map, linear": lambda: library.zz_feature_map(4, reps=1, entanglement="linear"),
    "z feature map": lambda: library.z_feature_map(3),
    "pauli feature map": lambda: library.pauli_feature_map(3, paulis=["X", "Y", "ZZ", "ZYX"]),
    "real amplitudes": lambda: library.real_amplitudes(4),
    "efficient su2": lambda: library.efficient_su2(3, su2_gates=["rx", "y"]),
    "n local": lambda: library.n_local(3, ["rx", "h"], "crz", entanglement="circular"),
    "n local of u": lambda: library.n_local(3, ["u", "sx"], "cu", reps=1),
    "excitation preserving": lambda: library.excitation_preserving(3, mode="fsim", reps=1),
    "pauli two design": lambda: library.pauli_two_design(4, seed=1),
    "qft": lambda: on_qubits(library.QFTGate, 4),
    "graph state": lambda: on_qubits(library.GraphStateGate, [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]),
    "iqp": lambda: library.iqp(np.array([[6, 5, 3], [5, 4, 5], [3, 5, 1]])),
    "quantum volume": lambda: library.quantum_volume(4, 3, seed=3),
    "grover operator": lambda: library.grover_operator(oracle()),
    "hidden linear function": lambda: library.hidden_linear_function(np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]])),
    "fourier checking": lambda: library.fourier_checking([1, -1, -1, 1], [1, 1, -1, -1]),
    "phase estimation": lambda: library.phase_estimation(2, on_qubits(library.TGate)),
    "qaoa": lambda: library.qaoa_ansatz(SparsePauliOp(["ZZI", "IZZ", "XIX"])),
    "evolved operators": lambda: library.evolved_operator_ansatz([SparsePauliOp(["XY", "ZZ"]), SparsePauliOp("YX")]),
    "state preparation": prepared,
    "standard gates": all_standard_gates,
}


def vectors(circuit: Circuit) -> dict[str, object]:
    return {"inputs": ParameterVector("x", circuit.n_inputs), "weights": ParameterVector("w", circuit.n_weights)}


@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")  # Qiskit's exact PauliEvolutionGate
@pytest.mark.parametrize("name", PUBLIC)
def test_public_circuits_go_in_and_out_unchanged(name: str) -> None:
    circuit = PUBLIC[name]()
    n, are_inputs = circuit.num_qubits, "feature map" in name
    rng = np.random.default_rng(len(name))
    angles = rng.uniform(-2, 2, len(circuit.parameters))
    asked = [
        *(SparsePauliOp("I" * (n - 1 - q) + "Z" + "I" * q) for q in range(n)),
        SparsePauliOp(["".join(rng.choice(list("IXYZ"), n)) for _ in range(3)], rng.normal(size=3)),
    ]
    bound = circuit.assign_parameters(angles)
    if name == "state preparation":
        bound = bound.decompose(["initialize"])
        bound.data = [item for item in bound.data if item.operation.name != "reset"]
    expected = [Statevector(bound).expectation_value(o).real for o in asked]

    found = from_qiskit(circuit, inputs=circuit.parameters if are_inputs else (), observables=asked)
    given = (angles[None], np.zeros(0)) if are_inputs else (np.zeros((1, 0)), angles)
    x, weights = map(torch.tensor, given)
    assert np.abs(values(found, x, weights)[0].numpy() - expected).max() < 1e-8
    assert np.abs(values(found, x.float(), weights.float())[0].numpy() - expected).max() < 1e-5

    back = to_qiskit(found.circuit)
    again = from_qiskit(back, **vectors(found.circuit))
    assert again.circuit == found.circuit


ANGLES = st.one_of(
    st.floats(-4, 4),
    st.builds(Input, st.integers(0, 1), st.floats(0.1, 3), st.floats(-1, 1)),
    st.builds(Weight, st.integers(0, 1), st.just(1.0), st.just(0.0)),
)


@st.composite
def circuits(draw: st.DrawFn) -> Circuit:
    gates: list[Gate | Channel] = []
    for name in draw(st.lists(st.sampled_from([*SIGNATURES, "Unitary", "noise"]), min_size=1, max_size=12)):
        wires = tuple(draw(st.permutations(range(3))))
        if name == "Unitary":
            matrix = np.linalg.qr(np.random.default_rng(draw(st.integers(0, 99))).normal(size=(4, 4)))[0]
            gates.append(Gate(name, wires[:2], matrix=tuple(map(tuple, matrix.tolist()))))
        elif name == "noise":
            gates.append(Channel("Pauli", wires[:2], (draw(st.floats(0, 1)), *[0.0] * 14)))
            gates.append(Channel("AmplitudeDamping", wires[2:], (draw(st.floats(0, 1)),)))
        else:
            n_wires, n_angles = SIGNATURES[name]
            gates.append(Gate(name, wires[:n_wires], tuple(draw(ANGLES) for _ in range(n_angles))))
    return Circuit(3, tuple(gates))


@settings(max_examples=40, deadline=None)
@given(circuits())
def test_random_circuits_mean_the_same_in_qiskit(circuit: Circuit) -> None:
    theirs = to_qiskit(circuit)
    numbers = {"x[0]": 0.7, "x[1]": -0.4, "w[0]": 1.1, "w[1]": 0.2}
    rho = DensityMatrix.from_label("000").evolve(
        theirs.assign_parameters({p: numbers[p.name] for p in theirs.parameters})
    )
    ours = density_matrix(circuit, [0.7, -0.4], [1.1, 0.2])
    assert np.abs(little_endian(ours) - rho.data).max() < 1e-8
    again = from_qiskit(theirs, **vectors(circuit)).circuit
    assert [g.name for g in again.gates if isinstance(g, Gate)] == [
        g.name for g in circuit.gates if isinstance(g, Gate)
    ]
    back = to_qiskit(again)
    rho_again = DensityMatrix.from_label("000").evolve(
        back.assign_parameters({p: numbers[p.name] for p in back.parameters})
    )
    assert np.abs(rho.data - rho_again.data).max() < 1e-8


def imported(angle: object, **listed: object) -> Imported:
    circuit = QuantumCircuit(2)
    circuit.ry(angle, 0)
    return from_qiskit(circuit, **listed)


def test_sums_of_parameters_become_gates_and_products_become_features() -> None:
    x, w = ParameterVector("x", 2), ParameterVector("w", 1)
    found = imported(2 * x[0] + w[0] / 2 - 0.25, inputs=[x[0]])
    assert sorted(str(g.angles[0]) for g in found.circuit.gates) == sorted(
        map(str, (Weight(0, 0.5, -0.25), Input(0, 2.0, 0.0)))
    )
    found = imported(2 * (math.pi - x[0]) * (math.pi - x[1]) + x[1] ** 2, inputs=x)
    assert found.n_features == 2
    assert set(found.products) == {(0, 1), (1, 1)}
    features = torch.tensor([[0.3, 0.8]], dtype=torch.float64)
    angle = 2 * (math.pi - 0.3) * (math.pi - 0.8) + 0.8**2
    assert values(found, features, torch.zeros(0))[0, 0].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_parameters_may_be_listed_in_several_ways() -> None:
    x, w = ParameterVector("x", 2), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.rx(x[1], 0)
    circuit.ry(w, 0)
    circuit.rz(x[0], 1)
    expected = (Input(1), Weight(0), Input(0))
    for listed in ({"inputs": x}, {"inputs": ["x"]}, {"inputs": "x"}, {"inputs": ["x[0]", x[1]]}, {"weights": [w]}):
        assert from_qiskit(circuit, **listed).circuit.angles == expected
    assert from_qiskit(circuit, inputs=[x[1], x[0]]).circuit.angles == (Input(0), Weight(0), Input(1))
    # without a word all are weights, in the order of Qiskit: by name
    assert from_qiskit(circuit).circuit.angles == (Weight(2), Weight(0), Weight(1))
    found = from_qiskit(circuit, weights={w: 0.5})
    assert (found.weights, found.circuit.n_inputs) == ((0.5,), 2)


def test_measurements_at_the_end_are_left_out() -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.measure_all()
    found = from_qiskit(circuit)
    assert found.circuit == Circuit(2, (Gate("H", (0,)),))
    assert found.observables == ({"ZI": 1.0}, {"IZ": 1.0})


def test_observables_are_words_with_wire_0_first() -> None:
    asked = [SparsePauliOp(["XYI", "IIZ"], [0.5, 2.0]), Pauli("-ZII"), "IIX", Operator.from_label("I0I")]
    found = from_qiskit(QuantumCircuit(3), observables=asked)
    assert found.observables == ({"IYX": 0.5, "ZII": 2.0}, {"IIZ": -1.0}, {"XII": 1.0}, {"III": 0.5, "IZI": 0.5})
    assert from_qiskit(QuantumCircuit(3), observables=SparsePauliOp("XII")).observables == ({"IIX": 1.0},)


def test_amplitude_encoding_goes_out_with_numbers() -> None:
    circuit = Circuit(2, (Gate("CX", (0, 1)), Gate("RY", (1,), (Input(2),))), Amplitude(3))
    x = torch.tensor([[0.2, -0.5, 0.7]], dtype=torch.float64)
    theirs = Statevector(to_qiskit(circuit, x=x[0])).data.reshape(2, 2).T.ravel()
    assert abs(np.vdot(theirs, state(circuit, x)[0].numpy())) == pytest.approx(1, abs=1e-12)


QASM2 = """OPENQASM 2.0;
include "qelib1.inc";
gate mine(a) x, y { cx x, y; u3(a, 0, pi/2) y; rzz(a) x, y; }
qreg q[2];
creg c[2];
h q[0]; sx q[1];
mine(0.3) q[0], q[1];
measure q -> c;
"""
QASM3 = """OPENQASM 3.0;
include "stdgates.inc";
input float theta;
input angle phi;
qubit[2] q;
rx(2 * theta) q[0];
cx q[0], q[1];
ctrl @ ry(phi) q[1], q[0];
"""


def test_openqasm_2_means_what_qiskit_reads(tmp_path: Path) -> None:
    read = qasm2.loads(QASM2, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    read.remove_final_measurements()
    expected = Statevector(read).data.reshape(2, 2).T.ravel()
    (tmp_path / "circuit.qasm").write_text(QASM2)
    for source in (QASM2, tmp_path / "circuit.qasm", str(tmp_path / "circuit.qasm")):
        psi = state(from_qasm(source).circuit, torch.zeros(1, 0, dtype=torch.float64))[0].numpy()
        assert abs(np.vdot(expected, psi)) == pytest.approx(1, abs=1e-12)
    own = "OPENQASM 2.0; gate rzz(a) x, y { CX x, y; U(a, 0, 0) y; } qreg q[2]; rzz(0.3) q[0], q[1];"
    assert from_qasm(own).circuit.counts == {"CX": 1, "Rot": 1}  # not Qiskit's gate of that name


def test_openqasm_3_has_parameters_by_name() -> None:
    pytest.importorskip("qiskit_qasm3_import", reason="qiskit-qasm3-import is not installed")
    found = from_qasm(QASM3, inputs=["theta"], weights={"phi": 0.4}, observables="ZX")
    assert found.circuit.n_inputs == found.circuit.n_weights == 1
    assert found.weights == (0.4,)
    read = qasm3.loads(QASM3)
    bound = read.assign_parameters({"theta": 0.3, "phi": 0.4})
    expected = Statevector(bound).expectation_value(SparsePauliOp("ZX")).real
    got = values(found, torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64))
    assert got.item() == pytest.approx(expected, abs=1e-12)


def changed(*steps: tuple[object, ...]) -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2)
    for name, *arguments in steps:
        getattr(circuit, str(name))(*arguments)
    return circuit


X, W = ParameterVector("x", 2), Parameter("w")
BAD_CIRCUITS = {
    "wire 0 is measured before `x`": lambda: from_qiskit(changed(("measure", 0, 0), ("x", 0))),
    "Instruction `reset` on (0,) cannot be taken over": lambda: from_qiskit(changed(("h", 0), ("reset", 0))),
    "Instruction `for_loop`": lambda: from_qiskit(
        changed(("for_loop", (0, 1), None, changed(("h", 0)), [0, 1], [0, 1]))
    ),
    "Instruction `blob` on (1,) has no counterpart": lambda: from_qiskit(
        changed(("append", TheirGate("blob", 1, []), [1]))
    ),
    "gate `ry` has w*x[0] with the weight `w`": lambda: imported(X[0] * W, inputs=X[:1]),
    "gate `ry` has sin(x[0])": lambda: imported(X[0].sin()),
    "Angles must be real": lambda: imported(X[0] * 1j),
    "`w` is in neither": lambda: imported(X[0] + W, inputs=X[:1], weights=()),
    "`x[0]` is in both": lambda: imported(X[0], inputs=X[:1], weights=X[:1]),
    "has `x[0]` twice": lambda: imported(X[0], inputs=[X[0], "x[0]"]),
    "`x[1]` is in none of its gates": lambda: imported(X[0], inputs=X),
    "`y` is none of x[0]": lambda: imported(X[0], inputs=["y"]),
    "must list Parameters, ParameterVectors or names": lambda: imported(X[0], inputs=3),
    "act on the circuit's 2 qubits, but one acts on 3": lambda: imported(0.1, observables="XYZ"),
    "real coefficients, but XY has 1j": lambda: imported(0.1, observables=SparsePauliOp("XY", [1j])),
    "must hold SparsePauliOps": lambda: imported(0.1, observables=[3]),
    "must be a QuantumCircuit, EstimatorQNN": lambda: from_qiskit("circuit"),
    "<input>:3,0: 'foo' is not defined": lambda: from_qasm("OPENQASM 2.0;\nqreg q[1];\nfoo q[0];"),
    "4,3: Undefined symbol 'a'": lambda: from_qasm('OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit q;\nrx(a) q;'),
    "line 2:7 no viable": lambda: from_qasm("OPENQASM 3.0;\nrx(0.3 q[0];"),
    "must begin with `OPENQASM": lambda: from_qasm("qreg q[2];"),
    "a file that exists, but is 'nowhere.qasm'": lambda: from_qasm("nowhere.qasm"),
    "no read-out errors": lambda: to_qiskit(Circuit(1, readout=((0.1, 0.1),))),
    "Argument `x` must be given for a circuit with amplitude": lambda: to_qiskit(Circuit(1, initial=Amplitude(2))),
    "must not be all zero": lambda: to_qiskit(Circuit(1, initial=Amplitude(2)), x=[0.0, 0.0]),
    "Argument `x` must have 2 values": lambda: to_qiskit(Circuit(1, initial=Amplitude(2)), x=[1.0]),
}


@pytest.mark.parametrize("message", BAD_CIRCUITS)
def test_what_cannot_be_taken_over_is_named_in_one_line(message: str) -> None:
    with pytest.raises(UsageError) as error:
        BAD_CIRCUITS[message]()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qiskit", None)
    with pytest.raises(UsageError, match=r'Package qiskit is needed for this: pip install "redqubit\[qiskit\]"'):
        to_qiskit(Circuit(1))
