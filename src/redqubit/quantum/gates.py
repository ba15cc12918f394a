"""Matrices of the gates, and the few native gates that the simulator needs.

Conventions follow Nielsen and Chuang, "Quantum Computation and Quantum Information" (2010), section 4.2, and
PennyLane for the order of angles. Matrices are complex128 and broadcast over leading dimensions of the angles.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from redqubit.quantum.circuit import Angle, Gate

_R = math.sqrt(0.5)


def _m(*rows: tuple[complex, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.complex128)


IDENTITY = _m((1, 0), (0, 1))
X = _m((0, 1), (1, 0))
Y = _m((0, -1j), (1j, 0))
Z = _m((1, 0), (0, -1))

FIXED: Mapping[str, Tensor] = {
    "H": _m((_R, _R), (_R, -_R)),
    "X": X,
    "Y": Y,
    "Z": Z,
    "S": _m((1, 0), (0, 1j)),
    "T": _m((1, 0), (0, complex(_R, _R))),
}
# R_G(t) = exp(-i t G / 2) = cos(t/2) - i sin(t/2) G for a generator with G^2 = 1
GENERATORS: Mapping[str, Tensor] = {
    "RX": X,
    "RY": Y,
    "RZ": Z,
    "IsingXX": torch.kron(X, X),
    "IsingYY": torch.kron(Y, Y),
    "IsingZZ": torch.kron(Z, Z),
}
PERMUTATIONS: Mapping[str, tuple[int, ...]] = {  # basis state i goes to PERMUTATIONS[name][i]
    "CX": (0, 1, 3, 2),
    "SWAP": (0, 2, 1, 3),
    "Toffoli": (0, 1, 2, 3, 4, 5, 7, 6),
}
# Exponents d of the diagonal gates diag(exp(i t d)); CZ is CP(pi)
DIAGONALS: Mapping[str, tuple[float, ...]] = {
    "CP": (0, 0, 0, 1),
    "CRZ": (0, 0, -0.5, 0.5),
    "IsingZZ": (-0.5, 0.5, 0.5, -0.5),
}
REAL = frozenset({"H", "X", "Z", "RY", "CX", "CZ", "SWAP", "CRY", "Toffoli"})


def matrix(name: str, *angles: Tensor | float) -> Tensor:
    """Return the matrix of a gate.

    Args:
        name: A name in `redqubit.quantum.circuit.SIGNATURES`.
        angles: Its angles in radians, each a number or a tensor of one shape.

    Returns:
        Complex tensor (..., 2^k, 2^k) for a gate on k wires; the first wire is the most significant bit.

    Example:
        >>> matrix("CX").real.int().tolist()
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    """
    if name in FIXED:
        return FIXED[name]
    if name in PERMUTATIONS:
        return torch.eye(len(PERMUTATIONS[name]), dtype=torch.complex128)[list(PERMUTATIONS[name])].T
    ts = [torch.as_tensor(a, dtype=torch.float64) for a in angles]
    if name in GENERATORS:
        generator = GENERATORS[name]
        half = ts[0][..., None, None] / 2
        return torch.cos(half) * torch.eye(len(generator)) - 1j * torch.sin(half) * generator
    if name == "P":
        return torch.diag_embed(torch.exp(1j * ts[0][..., None] * torch.tensor([0.0, 1.0])))
    if name == "CP":
        return torch.diag_embed(torch.exp(1j * ts[0][..., None] * torch.tensor([0.0, 0.0, 0.0, 1.0])))
    if name == "Rot":
        return matrix("RZ", ts[2]) @ matrix("RY", ts[1]) @ matrix("RZ", ts[0])
    block = {"CY": "Y", "CZ": "Z", "CRX": "RX", "CRY": "RY", "CRZ": "RZ"}[name]  # controlled gates
    inner = matrix(block, *ts)
    out = torch.eye(4, dtype=torch.complex128).repeat(*inner.shape[:-2], 1, 1)
    out[..., 2:, 2:] = inner
    return out


def native(gate: Gate) -> tuple[Gate, ...]:
    """Return `gate` as gates that the simulator fuses: one-qubit gates, permutations, diagonal gates, unitaries.

    Equal to `gate` up to a global phase. CRY stays real: CRY(t) = RY(t/2) CZ RY(-t/2) CZ.
    """
    name, wires, angles = gate.name, gate.wires, gate.angles
    if name == "Rot":
        return tuple(Gate(r, wires, (a,)) for r, a in zip(("RZ", "RY", "RZ"), angles, strict=True))
    if len(wires) == 1 or name in PERMUTATIONS or name in DIAGONALS or name == "Unitary":
        return (gate,)
    target = wires[-1:]

    def one(kind: str, wire: tuple[int, ...], angle: Angle | None = None) -> Gate:
        return Gate(kind, wire, () if angle is None else (angle,))

    if name == "CZ":
        return (Gate("CP", wires, (math.pi,)),)
    if name == "CY":
        return (one("P", target, -math.pi / 2), Gate("CX", wires), one("S", target))
    if name == "CRX":
        return (one("H", target), Gate("CRZ", wires, angles), one("H", target))
    if name == "CRY":
        cz = Gate("CP", wires, (math.pi,))
        return (cz, one("RY", target, -angles[0] / 2), cz, one("RY", target, angles[0] / 2))
    each = [(w,) for w in wires]
    zz = Gate("IsingZZ", wires, angles)
    if name == "IsingXX":
        return (*(one("H", w) for w in each), zz, *(one("H", w) for w in each))
    # Y = (S H) Z (S H)^dagger
    before = tuple(g for w in each for g in (one("P", w, -math.pi / 2), one("H", w)))
    after = tuple(g for w in each for g in (one("H", w), one("S", w)))
    return (*before, zz, *after)  # IsingYY
