"""A PennyLane QNode, tape or TorchLayer as a circuit."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Amplitude, Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.interop import Imported
from redqubit.quantum.measure import Observable, Probabilities
from redqubit.quantum.pennylane import traced
from redqubit.quantum.pennylane.tapes import Model, Step, of_node, of_tape, pennylane, steps_of, tape_at

_LARGEST_OBSERVABLE = 6  # wires of an observable that is known by its matrix


def from_pennylane(node: Any, *, inputs: Any = None, weights: Any = None) -> Imported:
    """Return the circuit of a PennyLane model, with the same outputs and gradients.

    The node is traced with tensors at two random points, which tells how each angle depends on features and weights.
    Templates and operations that a `Circuit` has no gate for are decomposed by PennyLane, constant ones on one or two
    wires become a `Unitary`. Wires are numbered in the order of the device, those without use left out. Global phases,
    barriers and snapshots have no effect and are dropped; nothing else is.

    Args:
        node: A `QNode`, a `qnn.TorchLayer`, or a tape (`QuantumScript`).
        inputs: Values of one sample in the shape that the node takes, or the number of features; they are for the
            argument called "inputs" or else the first, or for the one named in {name: values}. They may be absent where
            the node settles their number: the most, up to 64, that it takes and reads all of. Of a tape: positions of
            the features among its parameters, `tape.get_parameters(trainable_only=False)`.
        weights: Values of the other arguments, {name: values} or in order; a TorchLayer has its own. Those with a
            default may be absent and stay constant. Of a tape: positions, as for `inputs`; its other parameters stay
            constant.

    Returns:
        The circuit, what is measured, and the initial weights, flattened in the order of the arguments. A single
        expectation value is one column, (B, 1). Angles that hold a product of two features, as in `IQPEmbedding`, read
        one of `Imported.products`.

    Raises:
        UsageError: for an operation, angle or measurement that a `Circuit` cannot have; it is named.

    Example:
        >>> import pennylane as qml
        >>> @qml.qnode(qml.device("default.qubit", wires=2))
        ... def node(inputs, theta):
        ...     qml.AngleEmbedding(inputs, wires=range(2))
        ...     qml.CRY(2 * theta, wires=[0, 1])
        ...     return qml.expval(qml.Z(0) @ qml.Z(1))
        >>> found = from_pennylane(node, inputs=2, weights=[0.3])
        >>> print(found.circuit)
        0: ─RX(x0)────●─────
        1: ─RX(x1)─RY(2·w0)─
        >>> found.observables, found.weights
        (({'ZZ': 1.0},), (0.3,))
    """
    qml = pennylane()
    tape = isinstance(node, qml.tape.QuantumScript)
    model = of_tape(node, inputs, weights) if tape else of_node(qml, node, inputs, weights)
    points = traced.points(model.n_features, len(model.weights))
    tapes = [tape_at(qml, model, p) for p in points]
    first, second = ([s for op in t.operations for s in steps_of(qml, op, op.name)] for t in tapes)
    _check_structure(first, second)
    labels = _labels(tapes[0], first, model.device)
    outputs = _outputs(qml, tapes[0], labels)
    if outputs != _outputs(qml, tapes[1], labels):
        raise UsageError("Argument `node` must measure constant observables, but theirs change with its arguments.")
    angles = [_polynomials(a, b, points, model) for a, b in zip(first, second, strict=True)]
    products = traced.products_of(t for step in angles for t in step)
    initial: Amplitude | None = None
    gates: list[Gate | Channel] = []
    for step, other, polynomials in zip(first, second, angles, strict=True):
        wires = tuple(labels.index(w) for w in step.wires)
        if step.what == "Amplitude":
            if initial is not None or {w for g in gates for w in g.wires} & set(wires):
                raise UsageError(
                    "Argument `node` must prepare a state of features before all else on its wires, but "
                    f"{step.source} stands after other operations."
                )
            initial = _amplitude(step, other, points, model)
            gates = [*_moved_from_the_end(wires, len(labels)), *gates]
        elif isinstance(step.what, str):
            gates += traced.gates(step.what, wires, polynomials, model.n_features, products)
        else:
            gates.append(replace(step.what, wires=wires))
    circuit = Circuit(len(labels), tuple(gates), initial)
    # a turn by nothing keeps the number of features and weights where the last of them has no effect
    ends: list[Angle] = [Input(model.n_features - 1, 0.0)] if circuit.n_inputs < model.n_features else []
    ends += [Weight(len(model.weights) - 1, 0.0)] if circuit.n_weights < len(model.weights) else []
    circuit = replace(circuit, gates=(*(Gate("RZ", (0,), (a,)) for a in ends), *circuit.gates))
    return Imported(circuit, outputs, model.weights, products, tapes[0].shots.total_shots)


def _check_structure(first: Sequence[Step], second: Sequence[Step]) -> None:
    for a, b in zip_longest(first, second):
        if a is None or b is None or (a.what, a.wires, len(a.angles)) != (b.what, b.wires, len(b.angles)):
            raise UsageError(
                "Argument `node` must be one circuit whatever the values of its arguments, but "
                f"{(a or b).source} depends on them by more than its angles."
            )


def _labels(tape: Any, steps: Sequence[Step], device: Any) -> tuple[Hashable, ...]:
    """Return the wires in use: in the order of the device, or of numbers, or of their first use."""
    everything = any(not m.wires for m in tape.measurements)  # probs() reads all wires that there are
    used = {w for s in steps for w in s.wires} | {w for m in tape.measurements for w in m.wires}
    found = tuple(w for w in (device.wires if device is not None else None) or tape.wires if everything or w in used)
    if (device is None or not device.wires) and all(isinstance(w, int) for w in found):
        numbered = set(found) == set(range(len(found)))  # only then probs() follows the numbers
        return tuple(sorted(found)) if numbered or not everything else found
    return found


def _polynomials(a: Step, b: Step, points: Sequence[Tensor], model: Model) -> tuple[traced.Terms, ...]:
    """Return the angles of one operation, of which the tapes at both points must tell the same."""
    found = []
    for pair in zip(a.angles, b.angles, strict=True) if a.what != "Amplitude" else ():
        one, two = (traced.terms(angle, p) for angle, p in zip(pair, points, strict=True))
        variables = {key for key in {*one, *two} if key}
        if not traced.agree(one, two) or any(len(key) > 1 and max(key) >= model.n_features for key in variables):
            names = sorted({model.name_of(i) for key in variables for i in key})
            raise UsageError(
                "Argument `node` must have angles that are sums of features, weights and products of two features, but "
                f"{a.source} has another function of {', '.join(names) or 'its arguments'}."
            )
        found.append(one)
    return tuple(found)


def _amplitude(a: Step, b: Step, points: Sequence[Tensor], model: Model) -> Amplitude:
    """Return the encoding of a state vector, which must be the first features divided by their norm."""
    counts = set()
    for step, point in zip((a, b), points, strict=True):
        vector, x = torch.as_tensor(step.angles[0]).detach().to(torch.complex128), point.detach()[: model.n_features]
        k = int(vector.nonzero().max()) + 1
        wanted = torch.zeros_like(vector)
        wanted[: len(x[:k])] = (x[:k] / torch.linalg.vector_norm(x[:k])).to(wanted)
        counts.add(k if torch.allclose(vector, wanted, atol=1e-6) else 0)
    if len(counts) > 1 or 0 in counts:
        raise UsageError(
            f"Argument `node` must give {a.source} its first features as they are, padded with zeros, but gives others."
        )
    return Amplitude(counts.pop())


def _moved_from_the_end(wires: Sequence[int], n_qubits: int) -> Iterator[Gate]:
    """Yield the swaps that bring the state of the last wires, where an encoding has put it, to `wires`."""
    at = list(range(n_qubits - len(wires), n_qubits))
    for j, wire in enumerate(wires):
        if at[j] != wire:
            yield Gate("SWAP", (at[j], wire))
            at = [at[j] if place == wire else place for place in at]
            at[j] = wire


def _outputs(qml: Any, tape: Any, labels: Sequence[Hashable]) -> tuple[Observable, ...] | Probabilities:
    if len(tape.measurements) == 1 and isinstance(tape.measurements[0], qml.measurements.ProbabilityMP):
        measured = tape.measurements[0]
        if measured.obs is None and measured.mv is None:
            return Probabilities(tuple(labels.index(w) for w in measured.wires or labels))
    for m in tape.measurements:
        if not isinstance(m, qml.measurements.ExpectationMP) or m.obs is None:
            raise UsageError(
                "Argument `node` must return expectation values of observables, or the probabilities of wires alone, "
                f"but returns {m}."
            )
    return tuple(_observable(qml, m.obs, labels) for m in tape.measurements)


def _observable(qml: Any, operator: Any, labels: Sequence[Hashable]) -> Observable:
    sentence = operator.pauli_rep
    if sentence is None:
        if not operator.has_matrix or len(operator.wires) > _LARGEST_OBSERVABLE:
            raise UsageError(
                "Argument `node` must measure sums of Pauli words, or matrices on at most "
                f"{_LARGEST_OBSERVABLE} wires, but measures {operator.name} on {len(operator.wires)}."
            )
        wires = operator.wires
        sentence = qml.pauli_decompose(qml.matrix(operator, wire_order=wires), wire_order=wires, pauli=True)
    found: dict[str, float] = {}
    for word, coefficient in sentence.items():
        value = complex(coefficient)
        if abs(value.imag) > 1e-9:
            raise UsageError(f"Argument `node` must measure Hermitian observables, but {operator.name} is not.")
        found["".join(word.get(w, "I") for w in labels)] = value.real
    return found or {"I" * len(labels): 0.0}
