"""How features enter a circuit."""

import math
from collections.abc import Sequence

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Amplitude, Circuit, Gate, Input


def angle(
    n_qubits: int, rotations: Sequence[str] = ("RY",), *, scale: float = math.pi, hadamard: bool = False
) -> Circuit:
    """Return angle encoding: each feature turns one qubit by `scale` times its value.

    Qubit q takes features k q ... k q + k - 1 for k `rotations`, in this order in time.

    Args:
        n_qubits: Number of qubits.
        rotations: Names of the rotations on every qubit, such as ("RY",) or ("RZ", "RX").
        scale: Radians per unit of a feature; pi sends [0, 1] to half a turn.
        hadamard: Whether H comes first on every qubit, without which RZ on |0> does nothing.

    Returns:
        A circuit with n_qubits * len(rotations) inputs and no weights.

    Raises:
        UsageError: for an unknown rotation.

    Example:
        >>> print(angle(2, ("RZ", "RX"), scale=1.0, hadamard=True))
        0: ─H─RZ(x0)─RX(x1)─
        1: ─H─RZ(x2)─RX(x3)─
    """
    wrong = [r for r in rotations if r not in ("RX", "RY", "RZ", "P")]
    if wrong or not rotations:
        raise UsageError(f"Argument `rotations` must name RX, RY, RZ or P, but is {tuple(rotations)}.")
    start = tuple(Gate("H", (q,)) for q in range(n_qubits)) if hadamard else ()
    k = len(rotations)
    turns = tuple(Gate(r, (q,), (scale * Input(k * q + i),)) for i, r in enumerate(rotations) for q in range(n_qubits))
    return Circuit(n_qubits, start + turns)


def amplitude(n_qubits: int, n_features: int | None = None) -> Circuit:
    """Return amplitude encoding: the normalised features, padded with zeros, are the initial state.

    Args:
        n_qubits: Number of qubits.
        n_features: Number of features, 2^n_qubits by default.

    Example:
        >>> amplitude(3, 6).n_inputs
        6
    """
    return Circuit(n_qubits, (), Amplitude(2**n_qubits if n_features is None else n_features))
