"""Noise channels as plain data: names, strengths and Kraus operators; no simulator, no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

from redqubit.errors import UsageError
from redqubit.registry import unknown

Matrix = tuple[tuple[complex, ...], ...]

# name -> (numbers of wires it may have, names of its parameters); "Pauli" and "Kraus" are checked on their own
CHANNELS: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "AmplitudeDamping": ((1,), ("gamma",)),
    "GeneralizedAmplitudeDamping": ((1,), ("gamma", "ground_population")),
    "PhaseDamping": ((1,), ("gamma",)),
    "Depolarizing": ((1, 2), ("p",)),
    "BitFlip": ((1,), ("p",)),
    "PhaseFlip": ((1,), ("p",)),
    "BitPhaseFlip": ((1,), ("p",)),
    "ThermalRelaxation": ((1,), ("t1", "t2", "duration", "excited_population")),
}
PAULIS: Mapping[str, Matrix] = {
    "I": ((1, 0), (0, 1)),
    "X": ((0, 1), (1, 0)),
    "Y": ((0, -1j), (1j, 0)),
    "Z": ((1, 0), (0, -1)),
}


@dataclass(frozen=True, slots=True)
class Channel:
    """One noise channel: `Channel("Depolarizing", (0,), (0.05,))`, or `Channel("Kraus", wires, kraus=...)`.

    rho -> sum_k K_k rho K_k^dagger with, for the probability p or damping gamma,

    - `AmplitudeDamping` (gamma): diag(1, sqrt(1 - gamma)) and sqrt(gamma) |0><1|;
    - `GeneralizedAmplitudeDamping` (gamma, ground_population): the same towards |0> with that weight, towards |1> else;
    - `PhaseDamping` (gamma): coherences shrink by sqrt(1 - gamma);
    - `Depolarizing` (p), on 1 or 2 wires: with probability p one of the 3 or 15 Pauli words that are not the identity;
    - `BitFlip`, `PhaseFlip`, `BitPhaseFlip` (p): X, Z or Y with probability p;
    - `ThermalRelaxation` (t1, t2, duration, excited_population), in one unit of time: populations decay by
      exp(-duration / t1), coherences by exp(-duration / t2);
    - `Pauli` (probabilities): of the words after the identity in the order X, Y, Z or IX, IY, ..., ZZ;
    - `Kraus`: the matrices `kraus`, whose first wire is the most significant bit.

    Raises:
        UsageError: for an unknown name, a wrong number of wires or parameters, a value out of range, or Kraus operators
            that do not keep the trace.

    Reference: Nielsen and Chuang, "Quantum Computation and Quantum Information" (2010), section 8.3.

    Example:
        >>> damping = Channel("AmplitudeDamping", (0,), (0.36,))
        >>> [[round(abs(v), 3) for v in row] for row in damping.operators[0]]
        [[1.0, 0.0], [0.0, 0.8]]
    """

    name: str
    wires: tuple[int, ...]
    parameters: tuple[float, ...] = ()
    kraus: tuple[Matrix, ...] | None = None

    def __post_init__(self) -> None:
        if len(set(self.wires)) != len(self.wires) or not self.wires or min(self.wires) < 0:
            raise UsageError(f"Argument `wires` of {self.name} must be distinct and 0 or more, but is {self.wires}.")
        if self.name == "Kraus":
            self._check_kraus()
            return
        if self.kraus is not None:
            raise UsageError(f"Argument `kraus` belongs to the channel Kraus, but is given to {self.name}.")
        if self.name == "Pauli":
            n = 4 ** len(self.wires) - 1
            if len(self.parameters) != n or not sum(self.parameters) <= 1 + 1e-9:
                raise UsageError(
                    f"Channel Pauli on {len(self.wires)} wires must have {n} probabilities of sum 1 or less, "
                    f"but has {self.parameters}."
                )
            self._check_fractions(self.parameters)
            return
        if self.name not in CHANNELS:
            raise unknown("channel", self.name, [*CHANNELS, "Pauli", "Kraus"])
        n_wires, names = CHANNELS[self.name]
        if len(self.wires) not in n_wires or len(self.parameters) != len(names):
            raise UsageError(
                f"Channel {self.name} must have {' or '.join(map(str, n_wires))} wires and the parameters "
                f"{', '.join(names)}, but has {len(self.wires)} wires and {self.parameters}."
            )
        if self.name == "ThermalRelaxation":
            t1, t2, duration, excited = self.parameters
            if not (0 < t2 <= 2 * t1 and 0 <= duration < math.inf):
                raise UsageError(
                    f"Channel ThermalRelaxation must have 0 < t2 <= 2 t1 and a duration of 0 or more, but has t1 {t1}, "
                    f"t2 {t2}, duration {duration}."
                )
            self._check_fractions((excited,))
        else:
            self._check_fractions(self.parameters)

    def _check_fractions(self, values: Sequence[float]) -> None:
        if not all(0 <= v <= 1 for v in values):
            raise UsageError(f"The parameters of {self.name} must be within [0, 1], but are {self.parameters}.")

    def _check_kraus(self) -> None:
        dim = 2 ** len(self.wires)
        if not self.kraus or any(len(m) != dim or any(len(row) != dim for row in m) for m in self.kraus):
            raise UsageError(f"Argument `kraus` on {len(self.wires)} wires must be matrices of {dim} x {dim}.")
        for a in range(dim):
            for b in range(dim):
                total = sum(complex(m[r][a]).conjugate() * m[r][b] for m in self.kraus for r in range(dim))
                if not abs(total - (a == b)) <= 1e-6:
                    raise UsageError(
                        "Argument `kraus` must keep the trace, but the sum of K^dagger K differs from 1 by "
                        f"{abs(total - (a == b)):.2g}: add the operator that is missing or rescale them."
                    )

    @property
    def operators(self) -> tuple[Matrix, ...]:
        """The Kraus operators, those that are zero left out."""
        if self.kraus is not None:
            return self.kraus
        if self.name in ("Depolarizing", "BitFlip", "PhaseFlip", "BitPhaseFlip", "Pauli"):
            words = ["".join(w) for w in product("IXYZ", repeat=len(self.wires))]
            p = self._word_probabilities()
            weights = (max(0.0, 1 - sum(p)), *p)
            return tuple(_scaled(math.sqrt(q), pauli_word(w)) for q, w in zip(weights, words, strict=True) if q > 0)
        gamma, up, dephasing = self._damping()
        # towards |0> with weight 1 - up, towards |1> with weight up; then Z with probability `dephasing`
        low, keep = math.sqrt(gamma), math.sqrt(1 - gamma)
        decay: list[tuple[float, Matrix]] = [
            (1 - up, ((1, 0.0), (0.0, keep))),
            (1 - up, ((0.0, low), (0.0, 0.0))),
            (up, ((keep, 0.0), (0.0, 1))),
            (up, ((0.0, 0.0), (low, 0.0))),
        ]
        flips = ((1 - dephasing, PAULIS["I"]), (dephasing, PAULIS["Z"]))
        found = [_scaled(math.sqrt(q * w), _product(m, d)) for q, m in flips for w, d in decay if q * w > 0]
        return tuple(m for m in found if any(v != 0 for row in m for v in row))

    def _word_probabilities(self) -> tuple[float, ...]:
        n: int = 4 ** len(self.wires) - 1
        if self.name == "Pauli":
            return self.parameters
        p = self.parameters[0]
        if self.name == "Depolarizing":
            return (p / n,) * n
        place = ("BitFlip", "BitPhaseFlip", "PhaseFlip").index(self.name)
        return tuple(p if i == place else 0.0 for i in range(3))

    def _damping(self) -> tuple[float, float, float]:
        """Return (damping of populations, weight of |1> in the long run, probability of Z)."""
        if self.name == "AmplitudeDamping":
            return self.parameters[0], 0.0, 0.0
        if self.name == "GeneralizedAmplitudeDamping":
            return self.parameters[0], 1 - self.parameters[1], 0.0
        if self.name == "PhaseDamping":
            return 0.0, 0.0, (1 - math.sqrt(1 - self.parameters[0])) / 2
        t1, t2, duration, excited = self.parameters
        # amplitude damping alone shrinks coherences by exp(-duration / (2 t1))
        rest = math.exp(duration / (2 * t1) - duration / t2)
        return -math.expm1(-duration / t1), excited, (1 - min(rest, 1.0)) / 2


def pauli_word(word: str) -> Matrix:
    """Return the Kronecker product of a word such as "XZ", its first letter the most significant."""
    return reduce(_kron, (PAULIS[letter] for letter in word), ((1,),))


def _kron(a: Matrix, b: Matrix) -> Matrix:
    return tuple(tuple(x * y for x in ra for y in rb) for ra in a for rb in b)


def _scaled(factor: float, m: Matrix) -> Matrix:
    return tuple(tuple(factor * v for v in row) for row in m)


def _product(a: Matrix, b: Matrix) -> Matrix:
    columns = tuple(zip(*b, strict=True))
    return tuple(tuple(sum(x * y for x, y in zip(row, c, strict=True)) for c in columns) for row in a)
