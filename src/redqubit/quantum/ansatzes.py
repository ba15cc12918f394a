"""Trainable circuits of the literature, with weights numbered in order of time."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit, Gate, Input, Weight
from redqubit.registry import unknown

RobQuNNKind = Literal["none", "linear", "star", "full", "random"]
Order = Literal["as_written", "zz_first"]


class _Builder:
    """Gates in order of time; each angle is the next weight."""

    def __init__(self, n_qubits: int) -> None:
        self.n = n_qubits
        self.gates: list[Gate] = []
        self.weights = 0

    def add(self, name: str, *wires: int, angles: int = 0) -> None:
        new = tuple(Weight(self.weights + i) for i in range(angles))
        self.weights += angles
        self.gates.append(Gate(name, wires, new))

    def turns(self, *names: str, wires: Iterable[int] | None = None) -> None:
        wires = list(range(self.n) if wires is None else wires)
        for name in names:
            for w in wires:
                self.add(name, w, angles=1)

    def controlled(self, name: str, pairs: Iterable[tuple[int, int]]) -> None:
        for c, t in pairs:
            self.add(name, c, t, angles=0 if name in ("CX", "CZ") else 1)

    def circuit(self) -> Circuit:
        return Circuit(self.n, tuple(self.gates))


def robqunn(
    kind: RobQuNNKind, n_qubits: int = 4, *, order: Order = "as_written", phi: float | Sequence[float] = math.pi / 4
) -> Circuit:
    """Return an ansatz of RobQuNNs: Rot on every qubit and exp(-i phi ZZ) on the edges of a graph.

    Rot(alpha, beta, gamma) = RZ(alpha) RY(beta) RZ(gamma), so that gamma acts first; qubit q has weights
    3 q, 3 q + 1, 3 q + 2 = alpha, beta, gamma. "random" is the circuit that PennyLane's quanvolution tutorial
    draws with its default seed, with one CX, which fits the paper's words; it has 4 weights and no order.

    Args:
        kind: The graph: no edges, a chain, a star around qubit 0, all pairs; or "random".
        n_qubits: Number of qubits; 4 for "random".
        order: "as_written" puts ZZ after Rot, where it commutes with the read-out and does nothing;
            "zz_first" puts it before.
        phi: Angle of every ZZ, or one per edge, in radians. The paper leaves it open.

    Reference: El Maouaki et al., "RobQuNNs", arXiv 2407.03875, section 3.1, equations 1 to 7.

    Example:
        >>> print(robqunn("linear", 2, order="zz_first"))
        0: ─ZZ(π/2)─Rot(w2,w1,w0)─
        1: ─ZZ(π/2)─Rot(w5,w4,w3)─
    """
    if kind not in get_args(RobQuNNKind):
        raise unknown("RobQuNN ansatz", kind, get_args(RobQuNNKind))
    if order not in get_args(Order):
        raise unknown("order", order, get_args(Order))
    if kind == "random":
        if n_qubits != 4:
            raise UsageError(f"Argument `n_qubits` must be 4 for the random ansatz, but is {n_qubits}.")
        w = [Weight(i) for i in range(4)]
        gates = (
            Gate("RY", (1,), (w[0],)),
            Gate("RX", (2,), (w[1],)),
            Gate("CX", (1, 3)),
            Gate("RZ", (2,), (w[2],)),
            Gate("RX", (2,), (w[3],)),
        )
        return Circuit(4, gates)
    edges = {
        "none": [],
        "linear": [(p, p + 1) for p in range(n_qubits - 1)],
        "star": [(0, p) for p in range(1, n_qubits)],
        "full": [(p, q) for p in range(n_qubits) for q in range(p + 1, n_qubits)],
    }[kind]
    phis = [phi] * len(edges) if isinstance(phi, int | float) else list(phi)
    if len(phis) != len(edges):
        raise UsageError(f"Argument `phi` must be one number or one per edge ({len(edges)}), but has {len(phis)}.")
    zz = tuple(Gate("IsingZZ", e, (2.0 * p,)) for e, p in zip(edges, phis, strict=True))
    rot = tuple(Gate("Rot", (q,), (Weight(3 * q + 2), Weight(3 * q + 1), Weight(3 * q))) for q in range(n_qubits))
    return Circuit(n_qubits, rot + zz if order == "as_written" else zz + rot)


def dressed(n_qubits: int, depth: int = 6, *, scale: float = 1.0) -> Circuit:
    """Return the core of a dressed quantum circuit: H, RY(x), then `depth` layers of CX and RY(w).

    Each layer has CX on pairs (0, 1), (2, 3), ... then (1, 2), (3, 4), ... and RY on every qubit.

    Args:
        n_qubits: Number of qubits, and of inputs.
        depth: Number of layers; n_qubits weights each.
        scale: Radians per unit of an input.

    Reference: Mari et al., "Transfer learning in hybrid classical-quantum neural networks", Quantum 4, 340 (2020).

    Example:
        >>> dressed(10, 6).n_weights
        60
    """
    start = tuple(Gate("H", (q,)) for q in range(n_qubits))
    upload = tuple(Gate("RY", (q,), (scale * Input(q),)) for q in range(n_qubits))
    layer = _Builder(n_qubits)
    layer.controlled("CX", [*zip(range(0, n_qubits - 1, 2), range(1, n_qubits, 2), strict=True)])
    layer.controlled("CX", [(p, p + 1) for p in range(1, n_qubits - 1, 2)])
    layer.turns("RY")
    return Circuit(n_qubits, start + upload) + layer.circuit() * depth


def basic_entangling(n_qubits: int, layers: int = 1, *, rotation: str = "RX") -> Circuit:
    """Return layers of one rotation on every qubit and a closed ring of CX (PennyLane's BasicEntanglerLayers).

    Example:
        >>> basic_entangling(3, 2).counts
        {'RX': 6, 'CX': 6}
    """
    b = _Builder(n_qubits)
    b.turns(rotation)
    b.controlled("CX", _ring(n_qubits, 1))
    return b.circuit() * layers


def strongly_entangling(n_qubits: int, layers: int = 1) -> Circuit:
    """Return layers of Rot on every qubit and a ring of CX whose reach grows from layer to layer.

    Layer l couples q with q + r mod n, r = l mod (n - 1) + 1. Weights of a Rot are phi, theta, omega.

    Reference: Schuld et al., "Circuit-centric quantum classifiers", Phys. Rev. A 101, 032308 (2020).

    Example:
        >>> strongly_entangling(4, 3).n_weights
        36
    """
    out = Circuit(n_qubits)
    for layer in range(layers):
        b = _Builder(n_qubits)
        for q in range(n_qubits):
            b.add("Rot", q, angles=3)
        if n_qubits > 1:
            b.controlled("CX", _ring(n_qubits, layer % (n_qubits - 1) + 1))
        out = out + b.circuit()
    return out


def _ring(n: int, reach: int) -> list[tuple[int, int]]:
    if n == 1:
        return []
    if n == 2:
        return [(0, 1)] if reach == 1 else []
    return [(q, (q + reach) % n) for q in range(n)]


def sim(number: int, n_qubits: int = 4, layers: int = 1) -> Circuit:
    """Return circuit 1 to 19 of Sim, Johnson and Aspuru-Guzik.

    Controlled rotations name the control first. Circuits 13 to 15 are defined here for 4 qubits only: the
    second block of their general form is not stated in a source at hand.

    Args:
        number: 1 to 19.
        n_qubits: Number of qubits, 2 or more.
        layers: Repetitions of the circuit block; circuit 10 has its first RY layer once.

    Reference: Sim et al., Adv. Quantum Technol. 2, 1900070 (2019), figure 2. Differs: wires are numbered from
        the top, which only relabels the ensemble.

    Example:
        >>> [sim(i).n_weights for i in range(1, 20)]
        [8, 8, 11, 11, 28, 28, 19, 19, 4, 8, 12, 12, 16, 16, 8, 11, 11, 12, 12]
    """
    if number not in _SIM:
        raise UsageError(f"Argument `number` must be 1 to 19, but is {number}.")
    if n_qubits < 2 or (13 <= number <= 15 and n_qubits != 4):
        raise UsageError(f"Circuit {number} needs {'4' if number >= 13 else '2 or more'} qubits, but has {n_qubits}.")
    b = _Builder(n_qubits)
    _SIM[number](b)
    start = Circuit(n_qubits)
    if number == 10:
        lead = _Builder(n_qubits)
        lead.turns("RY")
        start = lead.circuit()
    return start + b.circuit() * layers


def _down(b: _Builder) -> list[tuple[int, int]]:
    return [(q, q - 1) for q in range(b.n - 1, 0, -1)]


def _even(b: _Builder) -> list[tuple[int, int]]:
    return [(t + 1, t) for t in range(0, b.n - 1, 2)]


def _odd(b: _Builder) -> list[tuple[int, int]]:
    return [(t + 1, t) for t in range(1, b.n - 1, 2)]


def _plain(b: _Builder) -> None:
    b.turns("RX", "RZ")


def _chain(name: str) -> Callable[[_Builder], None]:
    def add(b: _Builder) -> None:
        b.turns("RX", "RZ")
        b.controlled(name, _down(b))

    return add


def _all_to_all(name: str) -> Callable[[_Builder], None]:
    def add(b: _Builder) -> None:
        b.turns("RX", "RZ")
        b.controlled(name, [(c, t) for c in range(b.n - 1, -1, -1) for t in range(b.n - 1, -1, -1) if t != c])
        b.turns("RX", "RZ")

    return add


def _two_steps(name: str) -> Callable[[_Builder], None]:
    def add(b: _Builder) -> None:
        b.turns("RX", "RZ")
        b.controlled(name, _even(b))
        b.turns("RX", "RZ")
        b.controlled(name, _odd(b))

    return add


def _cz_ladder(b: _Builder) -> None:
    for q in range(b.n):
        b.add("H", q)
    b.controlled("CZ", [(q, q + 1) for q in range(b.n - 2, -1, -1)])
    b.turns("RX")


def _cz_ring(b: _Builder) -> None:
    b.controlled("CZ", [(q, (q - 1) % b.n) for q in range(b.n - 1, -1, -1)])
    b.turns("RY")


def _inner(name: str) -> Callable[[_Builder], None]:
    def add(b: _Builder) -> None:
        b.turns("RY", "RZ")
        b.controlled(name, _even(b))
        b.turns("RY", "RZ", wires=range(1, b.n - 1))
        b.controlled(name, _odd(b))

    return add


def _two_rings(name: str) -> Callable[[_Builder], None]:
    def add(b: _Builder) -> None:
        b.turns("RY")
        b.controlled(name, [(c, (c + 1) % b.n) for c in range(b.n - 1, -1, -1)])
        b.turns("RY")
        b.controlled(name, [(c, (c - 1) % b.n) for c in [b.n - 1, *range(b.n - 1)]])

    return add


def _brick(name: str) -> Callable[[_Builder], None]:
    def add(b: _Builder) -> None:
        b.turns("RX", "RZ")
        b.controlled(name, [*_even(b), *_odd(b)])

    return add


def _closed(name: str) -> Callable[[_Builder], None]:
    def add(b: _Builder) -> None:
        b.turns("RX", "RZ")
        b.controlled(name, [(c, (c + 1) % b.n) for c in range(b.n - 1, -1, -1)])

    return add


_SIM: dict[int, Callable[[_Builder], None]] = {
    1: _plain,
    2: _chain("CX"),
    3: _chain("CRZ"),
    4: _chain("CRX"),
    5: _all_to_all("CRZ"),
    6: _all_to_all("CRX"),
    7: _two_steps("CRZ"),
    8: _two_steps("CRX"),
    9: _cz_ladder,
    10: _cz_ring,
    11: _inner("CX"),
    12: _inner("CZ"),
    13: _two_rings("CRZ"),
    14: _two_rings("CRX"),
    15: _two_rings("CX"),
    16: _brick("CRZ"),
    17: _brick("CRX"),
    18: _closed("CRZ"),
    19: _closed("CRX"),
}
