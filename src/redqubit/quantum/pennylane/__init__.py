"""PennyLane in and out: a QNode, tape or TorchLayer becomes a circuit, and a circuit a QNode."""

from redqubit.quantum.pennylane.incoming import from_pennylane
from redqubit.quantum.pennylane.outgoing import to_pennylane

__all__ = ["from_pennylane", "to_pennylane"]
