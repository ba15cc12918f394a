"""Repeats of the Sim experiment by circuit and layers, and what they can tell apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from redqubit.result import Result

Place = tuple[int, int]  # circuit and layers


@dataclass(frozen=True)
class Sample:
    """Independent repeats of one estimate."""

    values: tuple[float, ...]

    @cached_property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values))

    @cached_property
    def spread(self) -> float:
        """The standard deviation of one repeat."""
        return float(np.std(self.values, ddof=1))

    @property
    def standard_error(self) -> float:
        """That of the mean."""
        return self.spread / math.sqrt(len(self.values))

    def __str__(self) -> str:
        if self.spread < 1e-9:  # rounding: no draw changes it
            return f"{abs(self.mean):.4f}"
        digits = max(4, math.ceil(-math.log10(self.standard_error)))
        return f"{self.mean:.{digits}f}\u00a0±\u00a0{self.standard_error:.{digits}f}"


@dataclass(frozen=True)
class Gap:
    """A difference with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]".replace("-", "−")


class Table:
    """The samples of a run."""

    def __init__(self, results: Sequence[Result]) -> None:
        found: dict[str, dict[Place, list[float]]] = {}
        for r in results:
            place = (r.config.get("circuit", 0), r.config.get("layers", 0))
            found.setdefault(r.metric, {}).setdefault(place, []).append(r.value)
        self.samples: Mapping[str, Mapping[Place, Sample]] = {
            metric: {place: Sample(tuple(values)) for place, values in by_place.items()}
            for metric, by_place in found.items()
        }

    @property
    def expressibility(self) -> Mapping[Place, Sample]:
        """By circuit and layers, in nats."""
        return self.samples["expressibility"]

    @property
    def entangling(self) -> Mapping[Place, Sample]:
        """Mean Q by circuit and layers."""
        return self.samples["entangling_capability"]

    @property
    def root(self) -> Mapping[Place, Sample]:
        """Mean of the root of one qubit's linear entropy, by circuit and layers."""
        return self.samples["mean_root_entropy"]

    @property
    def floor(self) -> Sample:
        """The expressibility that Haar-random states have, one value per histogram."""
        return self.samples["haar_divergence"][0, 0]

    @property
    def idle(self) -> float:
        """The expressibility of a circuit without gates."""
        return self.samples["idle_divergence"][0, 0].mean

    def at_floor(self, place: Place) -> bool:
        """Whether a circuit's expressibility cannot be told from that of Haar-random states."""
        return welch(self.expressibility[place], self.floor).low <= 0

    def ranks(self, layers: int) -> dict[int, int | None]:
        """Return the place of each circuit, the most expressible first; None for those at the floor.

        Those at the floor share the first places, so that the best of the others comes after them.
        """
        means = {c: s.mean for (c, n), s in self.expressibility.items() if n == layers}
        above = sorted((c for c in means if not self.at_floor((c, layers))), key=means.__getitem__)
        first = len(means) - len(above) + 1
        return {c: above.index(c) + first if c in above else None for c in sorted(means)}


def welch(a: Sample, b: Sample) -> Gap:
    """Return the mean of a minus that of b, with Welch's t interval; no spread leaves no doubt."""
    value = a.mean - b.mean
    va, vb = a.standard_error**2, b.standard_error**2
    if va + vb == 0:
        return Gap(value, value, value)
    degrees = (va + vb) ** 2 / (va**2 / (len(a.values) - 1) + vb**2 / (len(b.values) - 1))
    half = float(scipy.stats.t.ppf(0.975, degrees)) * math.sqrt(va + vb)
    return Gap(value, value - half, value + half)


def score(ours: Sample, published: float, least_spread: float = 0.0) -> float:
    """Return published minus ours in standard errors of this difference.

    The published value is taken for one more repeat, so that the standard error is s sqrt(1 + 1/m), s the standard
    deviation of our m repeats. Values that agree in the four digits that are published have score 0.

    Args:
        ours: Our repeats.
        published: The published value.
        least_spread: What a standard deviation is known to be at least; a few repeats may lie close by chance.
    """
    gap, spread = published - ours.mean, max(ours.spread, least_spread)
    if abs(gap) < 5e-5:
        return 0.0
    return gap / (spread * math.sqrt(1 + 1 / len(ours.values))) if spread else math.copysign(math.inf, gap)


def p_value(score: float, ours: Sample) -> float:
    """Return how likely a score this far from 0 is where both are draws of one thing."""
    return float(2 * scipy.stats.t.sf(abs(score), len(ours.values) - 1))
