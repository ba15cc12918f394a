"""Circuit -> few operations for the native kernel: turns, phases, permutations and fixed unitaries.

Every gate is one of four things, up to a global phase: a turn RY on one wire, a diagonal phase, a permutation of
basis states, or a fixed unitary. RX = RZ(-pi/2) RY RZ(pi/2), H = RY(-pi/2) X, and any other one-qubit matrix is
RZ RY RZ. Turns on one wire add their angles; X moves to the front, where it is free; phases move left through
permutations and merge; what comes first on a wire makes its part of a product state; phases before the read-out
have no effect and go.
"""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from redqubit.quantum.circuit import Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.gates import DIAGONALS, FIXED, PERMUTATIONS, native
from redqubit.quantum.simulation import fuse


@dataclass
class Sum:
    """The angle `offset + sum of scale * source`; a key of `terms` is (is an input, index)."""

    offset: float = 0.0
    terms: dict[tuple[bool, int], float] = field(default_factory=dict)

    def add(self, other: "Sum") -> None:
        self.offset += other.offset
        for key, scale in other.terms.items():
            self.terms[key] = self.terms.get(key, 0.0) + scale

    def times(self, factor: float) -> "Sum":
        return Sum(self.offset * factor, {k: v * factor for k, v in self.terms.items()})

    @property
    def is_idle(self) -> bool:
        """Whether a turn or phase by it does nothing, up to a sign of the state."""
        return not self.terms and abs(math.remainder(self.offset, 2 * math.pi)) < 1e-14


@dataclass
class Turns:
    angles: dict[int, Sum]

    @property
    def wires(self) -> set[int]:
        return set(self.angles)


@dataclass
class Phase:
    wires: set[int]
    fixed: Tensor  # (2^n,) radians
    terms: list[tuple[Tensor, Sum]]  # exponents (2^n,) and their angle

    def move(self, order: Tensor) -> None:
        """Relabel the basis states: state j takes the phase of state order[j]."""
        self.fixed = self.fixed[order]
        self.terms = [(table[order], angle) for table, angle in self.terms]


@dataclass
class Permutation:
    wires: set[int]
    source: Tensor  # new[j] = old[source[j]]


@dataclass
class Dense:
    wires: set[int]
    order: tuple[int, ...]
    matrix: Tensor


Op = Turns | Phase | Permutation | Dense


class Scheduler:
    """The operations so far, and for each wire what happens before them: a basis state and a chain of rotations."""

    def __init__(self, circuit: Circuit) -> None:
        self.n = circuit.n_qubits
        self.basis = torch.arange(2**self.n)
        self.product = circuit.initial is None
        self.ops: list[Op] = []
        self.start = [0] * self.n
        self.chains: list[list[tuple[bool, Sum]]] = [[] for _ in range(self.n)]  # (is RZ, angle)
        for gate in fuse.pure_gates(circuit):
            for g in native(gate):
                self.add(g)
        self.readout = self._end()

    def bits(self, wires: Sequence[int]) -> Tensor:
        """Return for each basis state its index on `wires`."""
        out = torch.zeros_like(self.basis)
        for w in wires:
            out = 2 * out + ((self.basis >> (self.n - 1 - w)) & 1)
        return out

    def add(self, gate: Gate) -> None:
        """Add a native gate."""
        wire, name = gate.wires[0], gate.name
        if name in PERMUTATIONS:
            self._permute(gate)
        elif name in DIAGONALS:
            exponents = torch.tensor(DIAGONALS[name], dtype=torch.float64)
            if name == "IsingZZ":
                exponents = exponents + 0.5  # a global phase, with which IsingZZ(pi) is real
            self._phase(set(gate.wires), exponents[self.bits(gate.wires)], _sum(gate.angles[0]))
        elif len(gate.wires) > 1:
            self.ops.append(Dense(set(gate.wires), gate.wires, torch.tensor(gate.matrix, dtype=torch.complex128)))
        elif name == "X":
            self._flip(wire)
        elif name == "H":
            self._flip(wire)
            self._turn(wire, Sum(-math.pi / 2))
        elif name in ("RZ", "P"):
            self._turn_z(wire, _sum(gate.angles[0]))
        elif name in ("RX", "RY"):
            quarter = math.pi / 2 if name == "RX" else 0.0
            self._turn_z(wire, Sum(quarter))
            self._turn(wire, _sum(gate.angles[0]))
            self._turn_z(wire, Sum(-quarter))
        else:
            matrix = FIXED[name] if gate.matrix is None else torch.tensor(gate.matrix, dtype=torch.complex128)
            last, middle, first = euler(matrix)
            self._turn_z(wire, Sum(first))
            self._turn(wire, Sum(middle))
            self._turn_z(wire, Sum(last))

    def _turn_z(self, wire: int, angle: Sum) -> None:
        if not angle.is_idle:
            self._phase({wire}, self.bits([wire]).double(), angle)

    def _turn(self, wire: int, angle: Sum) -> None:
        if angle.is_idle:
            return
        free = None
        for op in reversed(self.ops):
            if isinstance(op, Turns):
                if wire in op.angles:
                    op.angles[wire].add(angle)
                    return
                free = free or op
            elif wire in op.wires:
                break
        else:
            if self.product:
                self._chain(wire, False, angle)
                return
        if free is None:
            free = Turns({})
            self.ops.append(free)
        free.angles[wire] = angle

    def _chain(self, wire: int, is_z: bool, angle: Sum) -> None:
        chain = self.chains[wire]
        if chain and chain[-1][0] == is_z:
            chain[-1][1].add(angle)
            if chain[-1][1].is_idle:
                chain.pop()
        elif chain or not is_z:  # on a basis state RZ does nothing
            chain.append((is_z, angle))

    def _flip(self, wire: int) -> None:
        """Move an X to the left as far as it gets: RY(t) X = X RY(-t)."""
        flipped = self.basis ^ (1 << (self.n - 1 - wire))
        for i in reversed(range(len(self.ops))):
            op = self.ops[i]
            if wire not in op.wires:
                continue
            if isinstance(op, Permutation):
                op.source = op.source[flipped]
                return
            if isinstance(op, Dense):
                self.ops.insert(i + 1, Permutation({wire}, flipped))
                return
            if isinstance(op, Turns):
                op.angles[wire] = op.angles[wire].times(-1)
            else:
                op.move(flipped)
        if self.product:
            self.start[wire] ^= 1
            self.chains[wire] = [(is_z, angle.times(-1)) for is_z, angle in self.chains[wire]]
        else:
            self.ops.insert(0, Permutation({wire}, flipped))

    def _permute(self, gate: Gate) -> None:
        local, source, wires = self.bits(gate.wires), self.basis, set(gate.wires)
        target = torch.tensor(PERMUTATIONS[gate.name])[local]  # all of them are their own inverse
        for position, w in enumerate(reversed(gate.wires)):
            bit = 1 << (self.n - 1 - w)
            source = torch.where((target >> position) & 1 == 1, source | bit, source & ~bit)
        passed = list[Phase]()
        for op in reversed(self.ops):
            if isinstance(op, Permutation):
                for phase in passed:
                    phase.move(source)
                    phase.wires |= wires
                op.source = op.source[source]
                op.wires |= wires
                return
            if isinstance(op, Phase):
                if wires & op.wires:
                    passed.append(op)
            elif wires & op.wires:
                break
        self.ops.append(Permutation(wires, source))

    def _phase(self, wires: set[int], table: Tensor, angle: Sum) -> None:
        at = 0
        for i in reversed(range(len(self.ops))):
            op = self.ops[i]
            if isinstance(op, Phase):
                _into(op, wires, table, angle)
                return
            if not wires & op.wires:
                continue
            if not isinstance(op, Permutation):
                at = i + 1
                break
            moved = torch.empty_like(table)
            moved[op.source] = table
            table, wires = moved, wires | op.wires
        else:
            if self.product and len(wires) == 1:
                (wire,) = wires
                self._chain(wire, True, angle.times(float(table[1 << (self.n - 1 - wire)] - table[0])))
                return
        phase = Phase(set(), torch.zeros(2**self.n, dtype=torch.float64), [])
        _into(phase, wires, table, angle)
        self.ops.insert(at, phase)

    def _end(self) -> Tensor:
        """Drop what does nothing; return the order in which the basis states are read."""
        kept: list[Op] = []
        for op in self.ops:
            if isinstance(op, Turns):
                op.angles = {w: a for w, a in op.angles.items() if not a.is_idle}
            idle = isinstance(op, Turns) and not op.angles
            if not idle and not (isinstance(op, Permutation) and torch.equal(op.source, self.basis)):
                kept.append(op)
        order = self.basis
        while kept and isinstance(kept[-1], Phase | Permutation):
            last = kept.pop()
            if isinstance(last, Permutation):
                order = last.source[order]
        self.ops = kept
        return order


def _sum(angle: Angle) -> Sum:
    if isinstance(angle, Input | Weight):
        return Sum(angle.offset, {(isinstance(angle, Input), angle.index): angle.scale})
    return Sum(float(angle))


def _into(phase: Phase, wires: set[int], table: Tensor, angle: Sum) -> None:
    phase.wires |= wires
    phase.fixed = phase.fixed + angle.offset * table
    if not angle.terms:
        return
    angle = Sum(0.0, dict(angle.terms))
    for known, other in phase.terms:
        if torch.equal(known, table):
            other.add(angle)
            return
    phase.terms.append((table, angle))


def euler(matrix: Tensor) -> tuple[float, float, float]:
    """Return (last, middle, first) with matrix = RZ(last) RY(middle) RZ(first), up to a global phase.

    Example:
        >>> euler(torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128))
        (3.141592653589793, 3.141592653589793, 0.0)
    """
    (a, b), (c, d) = matrix.tolist()
    small, middle = 1e-12, 2 * math.atan2(abs(c), abs(a))
    if abs(c) < small:
        return cmath.phase(d / a), middle, 0.0
    if abs(a) < small:
        return cmath.phase(-c / b), middle, 0.0
    return cmath.phase(c / a), middle, cmath.phase(-b / a)
