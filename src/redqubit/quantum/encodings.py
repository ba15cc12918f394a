"""How features enter a circuit."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Amplitude, Circuit, Gate, Input
from redqubit.quantum.simulation.state_vector import amplitudes


def angle(
    n_qubits: int,
    rotations: Sequence[str] = ("RY",),
    *,
    scale: float = math.pi,
    offset: float = 0.0,
    hadamard: bool = False,
) -> Circuit:
    """Return angle encoding: each feature turns one qubit by `scale` times its value, plus `offset`.

    Qubit q takes features k q ... k q + k - 1 for k `rotations`, in this order in time.

    Args:
        n_qubits: Number of qubits.
        rotations: Names of the rotations on every qubit, such as ("RY",) or ("RZ", "RX").
        scale: Radians per unit of a feature; pi sends [0, 1] to half a turn.
        offset: Radians at a feature of 0; with scale 2 pi and offset -pi, [0, 1] becomes [-pi, pi].
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
    turns = tuple(
        Gate(r, (q,), (scale * Input(k * q + i) + offset,)) for i, r in enumerate(rotations) for q in range(n_qubits)
    )
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


def amplitude_rotations(n_qubits: int) -> Circuit:
    """Return amplitude encoding as a device runs it: 2^n - 1 RY and 2^n - 2 CX instead of an initial state.

    Its inputs are the angles that `amplitude_angles` makes of features, so that noise follows each gate.

    Args:
        n_qubits: Number of qubits n.

    Reference: Mottonen et al., "Transformation of quantum states using uniformly controlled rotations", Quantum Inf.
        Comput. 5, 467 (2005), for real amplitudes.

    Example:
        >>> print(amplitude_rotations(2))
        0: ─RY(x0)─●────────●─
        1: ─RY(x1)─X─RY(x2)─X─
    """
    gates: list[Gate] = []
    for k in range(n_qubits):  # RY on wire k, one for each state of the wires before it
        for i in range(2**k):
            gates.append(Gate("RY", (k,), (Input(2**k - 1 + i),)))
            if k:  # the bit in which the Gray codes of i and i + 1 differ
                bit = min((i ^ (i + 1)).bit_length() - 1, k - 1)
                gates.append(Gate("CX", (k - 1 - bit, k)))
    return Circuit(n_qubits, tuple(gates))


def amplitude_angles(x: Tensor, n_qubits: int) -> Tensor:
    """Return the angles with which `amplitude_rotations` prepares the normalised features.

    Args:
        x: Features (B, d) with d of 1 to 2^n, of either sign, padded with zeros.
        n_qubits: Number of qubits n.

    Returns:
        (B, 2^n - 1), in radians.

    Raises:
        UsageError: for too many features, or an all-zero sample.

    Example:
        >>> amplitude_angles(torch.tensor([[1.0, 1.0]]), 1) / torch.pi
        tensor([[0.5000]])
    """
    if x.ndim != 2 or not 1 <= x.shape[1] <= 2**n_qubits:
        raise UsageError(
            f"Argument `x` must have 1 to {2**n_qubits} features (B, d) for {n_qubits} qubits, but has shape "
            f"{tuple(x.shape)}: take more qubits or fewer features."
        )
    left = amplitudes(x, 2**n_qubits)
    levels: list[Tensor] = []
    for k in range(n_qubits - 1, -1, -1):
        pairs = left.unflatten(1, (-1, 2))  # (B, 2^k, 2): the halves that wire k tells apart
        turns = 2 * torch.atan2(pairs[..., 1], pairs[..., 0])
        index = torch.arange(2**k, device=x.device)
        gray = index ^ (index >> 1)
        common = gray[:, None] & index  # row i: the ones of its Gray code in each state of the controls
        odd = sum(((common >> bit) & 1 for bit in range(k)), torch.zeros_like(common)) % 2
        levels.append(turns @ (1.0 - 2.0 * odd.to(x)).T / 2**k)
        left = torch.linalg.vector_norm(pairs, dim=2)
    return torch.cat(levels[::-1], 1)
