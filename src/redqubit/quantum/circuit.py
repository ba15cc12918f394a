"""Circuits as plain data: no simulator, no torch.

A `Circuit` is a number of wires and a tuple of gates; a gate's angles are numbers, `Input(i)`, `Weight(i)`
or an affine function of one of these. Wire 0 is the most significant bit of a basis state's index.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel, Matrix
from redqubit.registry import unknown

# name -> (number of wires, number of angles); "Unitary" takes any number of wires and a matrix
SIGNATURES: Mapping[str, tuple[int, int]] = {
    "H": (1, 0),
    "X": (1, 0),
    "Y": (1, 0),
    "Z": (1, 0),
    "S": (1, 0),
    "T": (1, 0),
    "RX": (1, 1),
    "RY": (1, 1),
    "RZ": (1, 1),
    "P": (1, 1),
    "Rot": (1, 3),
    "CX": (2, 0),
    "CY": (2, 0),
    "CZ": (2, 0),
    "SWAP": (2, 0),
    "CP": (2, 1),
    "CRX": (2, 1),
    "CRY": (2, 1),
    "CRZ": (2, 1),
    "IsingXX": (2, 1),
    "IsingYY": (2, 1),
    "IsingZZ": (2, 1),
    "Toffoli": (3, 0),
}

P = TypeVar("P", bound="_Parameter")


@dataclass(frozen=True, slots=True)
class _Parameter:
    """The angle `scale * source[index] + offset`, in radians."""

    index: int
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.index < 0:
            raise UsageError(f"Argument `index` must be 0 or more, but is {self.index}.")

    def __mul__(self: P, factor: float) -> P:
        return replace(self, scale=self.scale * factor, offset=self.offset * factor)

    __rmul__ = __mul__

    def __neg__(self: P) -> P:
        return self * -1.0

    def __truediv__(self: P, divisor: float) -> P:
        return self * (1.0 / divisor)

    def __add__(self: P, shift: float) -> P:
        return replace(self, offset=self.offset + shift)

    __radd__ = __add__

    def __sub__(self: P, shift: float) -> P:
        return self + -shift


class Input(_Parameter):
    """Feature `index` of the sample, as an angle; `math.pi * Input(0)` scales it."""

    __slots__ = ()


class Weight(_Parameter):
    """Trainable parameter `index` of the circuit, as an angle."""

    __slots__ = ()


Angle = float | Input | Weight


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate: `Gate("RY", (0,), (Input(0),))`, or `Gate("Unitary", wires, matrix=...)`.

    Controlled gates name the control first. `Rot` takes (phi, theta, omega) and is RZ(omega) RY(theta) RZ(phi),
    RZ(phi) acting first. `RX(t) = exp(-i t X / 2)`, `IsingZZ(t) = exp(-i t ZZ / 2)`, `P(t) = diag(1, exp(i t))`.

    Raises:
        UsageError: for an unknown name, a wrong number of wires or angles, or a matrix that is not unitary.
    """

    name: str
    wires: tuple[int, ...]
    angles: tuple[Angle, ...] = ()
    matrix: Matrix | None = None

    def __post_init__(self) -> None:
        if len(set(self.wires)) != len(self.wires) or not self.wires or min(self.wires) < 0:
            raise UsageError(f"Argument `wires` of {self.name} must be distinct and 0 or more, but is {self.wires}.")
        if self.name == "Unitary":
            self._check_matrix()
            return
        if self.name not in SIGNATURES:
            raise unknown("gate", self.name, [*SIGNATURES, "Unitary"])
        n_wires, n_angles = SIGNATURES[self.name]
        if len(self.wires) != n_wires or len(self.angles) != n_angles:
            raise UsageError(
                f"Gate {self.name} must have {n_wires} wires and {n_angles} angles, "
                f"but has {len(self.wires)} and {len(self.angles)}."
            )

    def _check_matrix(self) -> None:
        dim = 2 ** len(self.wires)
        m = self.matrix
        if m is None or len(m) != dim or any(len(row) != dim for row in m):
            raise UsageError(f"Argument `matrix` of Unitary on {len(self.wires)} wires must be {dim} x {dim}.")
        for a in range(dim):
            for b in range(dim):
                dot = sum(x * complex(y).conjugate() for x, y in zip(m[a], m[b], strict=True))
                if abs(dot - (a == b)) > 1e-6:
                    raise UsageError("Argument `matrix` of Unitary must be unitary, but M M^dagger is not 1.")

    def inverse(self) -> tuple["Gate", ...]:
        """Return the gates that undo this one (up to a global phase)."""
        if self.matrix is not None:
            dim = len(self.matrix)
            dagger = tuple(tuple(complex(self.matrix[r][c]).conjugate() for r in range(dim)) for c in range(dim))
            return (replace(self, matrix=dagger),)
        if self.name == "S":
            return (Gate("P", self.wires, (-math.pi / 2,)),)
        if self.name == "T":
            return (Gate("P", self.wires, (-math.pi / 4,)),)
        return (replace(self, angles=tuple(-a for a in reversed(self.angles))),)


@dataclass(frozen=True, slots=True)
class Amplitude:
    """Amplitude encoding: the first `n_features` inputs, divided by their L2 norm, are the initial state.

    Fewer features than basis states are padded with zeros. An all-zero sample has no state and is an error
    where it is simulated.
    """

    n_features: int


@dataclass(frozen=True)
class Circuit:
    """A parametrised circuit on `n_qubits` wires, starting in |0...0> or in an amplitude-encoded state.

    `gates` holds gates and noise channels in the order of time. `readout` holds for each wire the probabilities to
    read 1 when it is 0, and 0 when it is 1; empty where read-out is perfect.

    `a + b` runs a then b and renumbers b's weights to follow a's; inputs keep their numbers, so
    `(encoding + layer) * 3` uploads the same data three times with fresh weights.

    Example:
        >>> c = Circuit(2, (Gate("RY", (0,), (Input(0),)), Gate("CX", (0, 1)), Gate("RZ", (1,), (Weight(0),))))
        >>> (c * 2).n_weights, c.n_inputs, c.depth
        (2, 1, 3)
        >>> print(c)
        0: ─RY(x0)─●────────
        1: ────────X─RZ(w0)─

    Raises:
        UsageError: when a wire is not among the `n_qubits`, or `readout` has no two probabilities for each of them.
    """

    n_qubits: int
    gates: tuple[Gate | Channel, ...] = ()
    initial: Amplitude | None = None
    readout: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if self.n_qubits < 1:
            raise UsageError(f"Argument `n_qubits` must be 1 or more, but is {self.n_qubits}.")
        for gate in self.gates:
            if max(gate.wires) >= self.n_qubits:
                raise UsageError(f"Gate {gate.name} acts on wires {gate.wires}, but the circuit has {self.n_qubits}.")
        if self.initial is not None and not 1 <= self.initial.n_features <= 2**self.n_qubits:
            raise UsageError(
                f"Argument `n_features` must be 1 to {2**self.n_qubits} for {self.n_qubits} qubits, "
                f"but is {self.initial.n_features}."
            )
        if self.readout and (
            len(self.readout) != self.n_qubits or not all(0 <= p <= 1 for pair in self.readout for p in pair)
        ):
            raise UsageError(
                f"Argument `readout` must be two probabilities for each of {self.n_qubits} wires, "
                f"but is {self.readout}."
            )

    @cached_property
    def angles(self) -> tuple[Angle, ...]:
        """The angles of all gates, in order."""
        return tuple(a for g in self.gates if isinstance(g, Gate) for a in g.angles)

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """The noise channels, in order."""
        return tuple(g for g in self.gates if isinstance(g, Channel))

    @property
    def is_noisy(self) -> bool:
        """Whether it has noise channels or read-out errors."""
        return bool(self.readout or self.channels)

    def _highest(self, kind: type[_Parameter]) -> int:
        return max((a.index for a in self.angles if isinstance(a, kind)), default=-1)

    @cached_property  # read on every pass of a layer
    def n_inputs(self) -> int:
        """Number of features that a sample must have."""
        return max(self._highest(Input) + 1, self.initial.n_features if self.initial else 0)

    @cached_property
    def n_weights(self) -> int:
        """Number of trainable parameters."""
        return self._highest(Weight) + 1

    @property
    def depth(self) -> int:
        """Longest chain of gates that share wires; a `Rot` counts as one, noise does not count."""
        level = [0] * self.n_qubits
        for gate in self.gates:
            if isinstance(gate, Channel):
                continue
            reached = 1 + max(level[w] for w in gate.wires)
            for w in gate.wires:
                level[w] = reached
        return max(level)

    @property
    def counts(self) -> dict[str, int]:
        """Number of gates and channels by name."""
        return dict(Counter(g.name for g in self.gates))

    def __add__(self, other: "Circuit") -> "Circuit":
        if other.n_qubits != self.n_qubits:
            raise UsageError(
                f"Added circuits must have equally many qubits, but have {self.n_qubits} and {other.n_qubits}."
            )
        if other.initial is not None and self.gates:
            raise UsageError("An amplitude encoding must come first, but gates stand before it.")
        if self.readout and other.readout and self.readout != other.readout:
            raise UsageError("Added circuits must have the same `readout`, or one of them none.")
        shift = self.n_weights
        moved = other.with_angles(lambda a: replace(a, index=a.index + shift) if isinstance(a, Weight) else a)
        return Circuit(
            self.n_qubits, self.gates + moved.gates, self.initial or other.initial, self.readout or other.readout
        )

    def __mul__(self, times: int) -> "Circuit":
        if times < 0:
            raise UsageError(f"A circuit can be repeated 0 or more times, but not {times}.")
        out = Circuit(self.n_qubits)
        for _ in range(times):
            out = out + self
        return out

    __rmul__ = __mul__

    def bind(self, weights: Sequence[float]) -> "Circuit":
        """Return the circuit with its weights replaced by numbers (radians)."""
        if len(weights) != self.n_weights:
            raise UsageError(f"Argument `weights` must have {self.n_weights} values, but has {len(weights)}.")

        def fixed(a: Angle) -> Angle:
            return a.scale * float(weights[a.index]) + a.offset if isinstance(a, Weight) else a

        return self.with_angles(fixed)

    def with_angles(self, change: Callable[[Angle], Angle]) -> "Circuit":
        """Return the circuit with `change` applied to every angle, in the order of `angles`."""
        gates = (
            replace(g, angles=tuple(map(change, g.angles))) if isinstance(g, Gate) and g.angles else g
            for g in self.gates
        )
        return replace(self, gates=tuple(gates))

    def inverse(self) -> "Circuit":
        """Return the circuit that undoes this one, up to a global phase; the initial state must be |0...0>."""
        if self.initial is not None:
            raise UsageError("An amplitude encoding has no inverse circuit.")
        gates = tuple(g for g in self.gates if isinstance(g, Gate))
        if self.is_noisy:
            raise UsageError("A noisy circuit has no inverse circuit.")
        return replace(self, gates=tuple(h for g in reversed(gates) for h in g.inverse()))

    def __str__(self) -> str:
        """Return a drawing: one line per wire, time to the right."""
        rows = [[f"{q}: "] for q in range(self.n_qubits)]
        width = max(len(r[0]) for r in rows)
        lines = [r[0].rjust(width) + ("─ψ(x)─" if self.initial else "─") for r in rows]
        for gate in self.gates:
            span = range(min(gate.wires), max(gate.wires) + 1)
            column = max(len(lines[w]) for w in span)
            labels = {w: _label(gate, i) for i, w in enumerate(gate.wires)}
            wide = max(map(len, labels.values()))
            for w in span:
                lines[w] = lines[w].ljust(column, "─") + labels.get(w, "│").center(wide, "─") + "─"
        end = max(map(len, lines))
        return "\n".join(line.ljust(end, "─") for line in lines)


def _label(gate: Gate | Channel, position: int) -> str:
    """Return what the drawing shows of `gate` on its wire number `position`."""
    if isinstance(gate, Channel):
        short = "".join(c for c in gate.name if c.isupper()) if gate.name not in ("Kraus", "Pauli") else gate.name
        return f"[{','.join([short, *map(_number, gate.parameters[:4])])}]"
    controls = {"CX": 1, "CY": 1, "CZ": 1, "CP": 1, "CRX": 1, "CRY": 1, "CRZ": 1, "Toffoli": 2}.get(gate.name, 0)
    if position < controls:
        return "●"
    if gate.name == "SWAP":
        return "x"
    name = {"Toffoli": "X", "Unitary": "U"}.get(gate.name, gate.name[1:] if controls else gate.name)
    name = name.removeprefix("Ising")
    return f"{name}({','.join(map(angle_text, gate.angles))})" if gate.angles else name


def angle_text(angle: Angle) -> str:
    """Return an angle as the drawing shows it.

    Example:
        >>> angle_text(math.pi * Input(0) + 0.5), angle_text(math.pi / 2)
        ('π·x0+0.5', 'π/2')
    """
    if not isinstance(angle, _Parameter):
        return _number(angle)
    scale = "" if angle.scale == 1 else "-" if angle.scale == -1 else f"{_number(angle.scale)}·"
    offset = f"{'+' if angle.offset > 0 else ''}{_number(angle.offset)}" if angle.offset else ""
    return f"{scale}{'x' if isinstance(angle, Input) else 'w'}{angle.index}{offset}"


def _number(value: float) -> str:
    """Return a number in three digits, or as a simple part of pi."""
    for divisor in (1, 2, 3, 4, 6, 8):
        times = value * divisor / math.pi
        if abs(times) > 0.5 and abs(times - round(times)) < 1e-9 and abs(times) < 10:
            sign, count = "-" if times < 0 else "", abs(round(times))
            return f"{sign}{'' if count == 1 else count}π{'' if divisor == 1 else f'/{divisor}'}"
    return f"{value:.3g}"
