"""A circuit as a PennyLane QNode."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Input, Weight
from redqubit.quantum.interop import Imported
from redqubit.quantum.measure import Observable, Probabilities, z_of
from redqubit.quantum.pennylane.tapes import CHANNELS, GATES, pennylane


def to_pennylane(
    circuit: Circuit | Imported, *, observables: Sequence[Observable] | Probabilities | None = None, device: Any = None
) -> Any:
    """Return a QNode of (inputs, weights) that has the outputs of a circuit.

    Args:
        circuit: A circuit with or without noise, or what `from_pennylane` returned.
        observables: What is measured, as in `QuantumLayer`; by default Z of each wire, or what was imported.
        device: A device of PennyLane's or its name; "default.mixed" where there are channels, else "default.qubit".

    Returns:
        A QNode for torch tensors, inputs (n_features,) or (B, n_features) and weights (n_weights,), that returns a list
        of expectation values, each () or (B,), or the probabilities. Read-out errors become part of the observables,
        those of probabilities become channels.

    Example:
        >>> from redqubit.quantum import Circuit, Gate, Input, Weight
        >>> node = to_pennylane(Circuit(1, (Gate("RY", (0,), (Input(0),)), Gate("RY", (0,), (Weight(0),)))))
        >>> [round(float(v), 3) for v in node(torch.tensor([0.5]), torch.tensor([0.5]))]
        [0.54]
    """
    qml = pennylane()
    model = (
        circuit if isinstance(circuit, Imported) else Imported(circuit, z_of(circuit.n_qubits, range(circuit.n_qubits)))
    )
    plain = model.circuit
    n, readout = plain.n_qubits, plain.readout or ((0.0, 0.0),) * plain.n_qubits
    outputs = model.observables if observables is None else observables
    flips = list(_flips(qml, readout, outputs.wires)) if plain.readout and isinstance(outputs, Probabilities) else []
    if device is None or isinstance(device, str):
        kind = "default.mixed" if plain.channels or flips else "default.qubit"
        device = qml.device(device or kind, wires=n)
    words = () if isinstance(outputs, Probabilities) else tuple(_operator(qml, o, readout) for o in outputs)

    def node(inputs: Tensor, weights: Tensor | None = None) -> Any:
        x = model.inputs(torch.as_tensor(inputs))
        sources = {Input: x, Weight: x.new_zeros(0) if weights is None else weights}
        if plain.initial is not None:
            qml.AmplitudeEmbedding(x[..., : plain.initial.n_features], wires=range(n), pad_with=0.0, normalize=True)
        for gate in plain.gates:
            if isinstance(gate, Channel):
                _apply_channel(qml, gate)
            elif gate.matrix is not None:
                qml.QubitUnitary(np.array(gate.matrix), wires=gate.wires)
            else:
                angles = [
                    a.scale * sources[type(a)][..., a.index] + a.offset if isinstance(a, Input | Weight) else a
                    for a in gate.angles
                ]
                getattr(qml, GATES[gate.name])(*angles, wires=gate.wires)
        for flip in flips:
            qml.apply(flip)
        if isinstance(outputs, Probabilities):
            return qml.probs(wires=outputs.wires)
        return [qml.expval(o) for o in words]

    return qml.QNode(node, device, interface="torch")


def _apply_channel(qml: Any, channel: Channel) -> None:
    if channel.name in CHANNELS and len(channel.wires) == 1:
        getattr(qml, CHANNELS[channel.name])(*channel.parameters, wires=channel.wires)
    elif channel.name == "ThermalRelaxation":
        t1, t2, duration, excited = channel.parameters
        qml.ThermalRelaxationError(excited, t1, t2, duration, wires=channel.wires)
    else:
        qml.QubitChannel([np.array(k, dtype=complex) for k in channel.operators], wires=channel.wires)


def _flips(qml: Any, readout: Sequence[tuple[float, float]], wires: Sequence[int]) -> Iterator[Any]:
    """Yield the channels that change what is read: |b> to |1 - b> with the probability of that error."""
    zero, one = np.eye(2)
    for w in wires:
        one_for_zero, zero_for_one = readout[w]
        keep = [math.sqrt(1 - one_for_zero) * np.outer(zero, zero), math.sqrt(1 - zero_for_one) * np.outer(one, one)]
        flip = [math.sqrt(one_for_zero) * np.outer(one, zero), math.sqrt(zero_for_one) * np.outer(zero, one)]
        with qml.QueuingManager.stop_recording():
            yield qml.QubitChannel([*keep, *flip], wires=[w])


def _operator(qml: Any, observable: Observable, readout: Sequence[tuple[float, float]]) -> Any:
    """Return an observable as it is read: each letter P of a word becomes (1 - a - b) P + (b - a).

    Here a is the probability to read 1 for 0 and b to read 0 for 1.
    """
    read: dict[str, float] = {}
    for word, coefficient in observable.items():
        parts = {"": coefficient}
        for letter, (a, b) in zip(word, readout, strict=True):
            kept = {w + letter: c * (1.0 if letter == "I" else 1 - a - b) for w, c in parts.items()}
            lost = {w + "I": c * (b - a) for w, c in parts.items() if letter != "I" and a != b}
            parts = {w: kept.get(w, 0.0) + lost.get(w, 0.0) for w in {**kept, **lost}}
        for w, c in parts.items():
            read[w] = read.get(w, 0.0) + c
    words = {qml.pauli.PauliWord({q: p for q, p in enumerate(w) if p != "I"}): c for w, c in read.items()}
    with qml.QueuingManager.stop_recording():
        return qml.pauli.PauliSentence(words).operation(wire_order=range(len(readout)))
