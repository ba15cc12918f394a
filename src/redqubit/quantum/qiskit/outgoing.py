"""Circuits as QuantumCircuits of Qiskit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Angle, Circuit, Input, Weight
from redqubit.quantum.measure import Observable
from redqubit.quantum.qiskit.optional import need
from redqubit.quantum.qiskit.translate import NAMES

# the first name of several is the usual one
_CLASSES: Mapping[str, str] = {ours: theirs for theirs, ours in reversed(list(NAMES.items()))}


def to_qiskit(circuit: Circuit, *, x: Tensor | Sequence[float] | None = None) -> Any:
    """Return a circuit as a QuantumCircuit with the ParameterVectors x (inputs) and w (weights).

    Noise channels become Kraus instructions, which Qiskit Aer simulates.

    Args:
        circuit: The circuit, without read-out errors: these belong to a backend or a noise model.
        x: One sample (n_inputs,), put in for the inputs; a circuit with amplitude encoding needs it.

    Raises:
        UsageError: for read-out errors, an amplitude encoding without `x`, or an `x` of another length.

    Example:
        >>> from redqubit.quantum import Gate
        >>> circuit = Circuit(2, (Gate("RY", (0,), (2 * Input(0),)), Gate("CX", (0, 1)), Gate("P", (1,), (Weight(0),))))
        >>> [(item.operation.name, str(item.operation.params)) for item in to_qiskit(circuit, x=[0.5])]
        [('ry', '[1.0]'), ('cx', '[]'), ('p', '[ParameterVectorElement(w[0])]')]
    """
    library = need("qiskit.circuit.library")
    if circuit.readout:
        raise UsageError(
            "Argument `circuit` must have no read-out errors, since a QuantumCircuit cannot hold them: put them into "
            "the noise model of the backend."
        )
    if x is not None and len(x) != circuit.n_inputs:
        raise UsageError(f"Argument `x` must have {circuit.n_inputs} values, but has {len(x)}.")
    vector = need("qiskit.circuit").ParameterVector
    features = vector("x", circuit.n_inputs) if x is None else [float(v) for v in x]
    weights = vector("w", circuit.n_weights)
    out = need("qiskit").QuantumCircuit(circuit.n_qubits)
    if circuit.initial is not None:
        if x is None:
            raise UsageError("Argument `x` must be given for a circuit with amplitude encoding: Qiskit needs numbers.")
        out.append(_state(circuit, features, library), list(range(circuit.n_qubits))[::-1])

    def angle(a: Angle) -> Any:
        if not isinstance(a, Input | Weight):
            return a
        parameter = (features if isinstance(a, Input) else weights)[a.index]
        return parameter if (a.scale, a.offset) == (1, 0) else parameter * a.scale + a.offset

    instruction = need("qiskit.circuit").Instruction
    standard = library.get_standard_gate_name_mapping()
    for gate in circuit.gates:
        # the first wire of our matrices is the most significant bit, the first qubit of theirs the least
        if isinstance(gate, Channel):
            kraus = instruction("kraus", len(gate.wires), 0, _arrays(gate.operators))
            out.append(kraus, gate.wires[::-1])
        elif gate.matrix is not None:
            # Qiskit's own check is finer than the tolerance of ours
            out.append(library.UnitaryGate(_arrays([gate.matrix])[0], check_input=False), gate.wires[::-1])
        elif gate.name == "Rot":
            phi, theta, omega = map(angle, gate.angles)
            out.u(theta, omega, phi, gate.wires[0])
        else:
            theirs = standard[_CLASSES[gate.name]].base_class
            out.append(theirs(*map(angle, gate.angles)), gate.wires)
    return out


def pauli_sums(observables: Sequence[Observable]) -> list[Any]:
    """Return sums of Pauli words with wire 0 first as SparsePauliOps."""
    operator = need("qiskit.quantum_info").SparsePauliOp
    return [operator([word[::-1] for word in o], list(o.values())) for o in observables]


def _arrays(matrices: Sequence[Any]) -> list[Any]:
    return [np.array(m, dtype=complex) for m in matrices]


def _state(circuit: Circuit, features: Sequence[float], library: Any) -> Any:
    assert circuit.initial is not None
    values = features[: circuit.initial.n_features]
    norm = sum(v * v for v in values) ** 0.5
    if norm == 0:
        raise UsageError("Argument `x` must not be all zero for an amplitude encoding: it has no state.")
    return library.StatePreparation([v / norm for v in values] + [0.0] * (2**circuit.n_qubits - len(values)))
