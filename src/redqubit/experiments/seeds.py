"""What seeds say together: means with intervals, and differences in words."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import scipy
import torch

from redqubit.result import Result
from redqubit.statistics import FEW, Difference, Proportion, paired_bootstrap

NBSP, HYPHEN = "\u00a0", "\u2011"  # which do not break a line
BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Mean:
    """A number over seeds, with a 95 % interval: Student's over seeds, Wilson's or none for a single one."""

    value: float
    low: float
    high: float
    seeds: int

    def percent(self) -> str:
        """Return a share in percent."""
        if math.isnan(self.value):
            return "–"
        return f"{100 * self.value:.1f}\u00a0[{100 * self.low:.1f},\u00a0{100 * self.high:.1f}]"


def mean(results: Sequence[Result]) -> Mean:
    """Return the mean of one number over seeds; a share's interval is at least Wilson's of all trials."""
    values = [r.value for r in results]
    if not values:
        return Mean(math.nan, math.nan, math.nan, 0)
    middle = fmean(values)
    if len(values) == 1:
        low, high = results[0].low, results[0].high
        return Mean(middle, middle if low is None else low, middle if high is None else high, 1)
    half = float(scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values))
    low, high = middle - half, middle + half
    if any(r.k is None or r.n is None for r in results):
        return Mean(middle, low, high, len(values))
    pooled = Proportion(sum(r.k or 0 for r in results), sum(r.n or 0 for r in results))
    # seeds that happen to agree do not make the samples more
    return Mean(middle, max(0.0, min(low, pooled.low)), min(1.0, max(high, pooled.high)), len(values))


def sign(d: Difference | None) -> int:
    """Return +1 or -1 where an interval excludes 0; 0 where it does not, or where a few seeds happen to agree."""
    if d is None or (d.method == "constant" and d.n < FEW):
        return 0
    return (d.low > 0) - (d.high < 0)


def points(d: Difference | None) -> str:
    """Return a difference of shares in points, with its interval."""
    if d is None:
        return "not measured on two seeds"
    return f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]".replace("-", "−")


def seeds(n: int) -> str:
    """Return a number of seeds in words."""
    return f"{n} seed{'' if n == 1 else 's'}"


def short(m: Mean) -> str:
    """Return a share in percent and half of its interval, for a cell of a table."""
    if math.isnan(m.value):
        return "–"
    return f"{100 * m.value:.1f}{NBSP}±{NBSP}{50 * (m.high - m.low):.1f}"


def gap(d: Difference | None) -> str:
    """Return a difference of shares in points for a cell of a table: without the unit, on one line."""
    if d is None:
        return "–"
    return f"{100 * d.value:+.1f}{NBSP}[{100 * d.low:+.1f},{NBSP}{100 * d.high:+.1f}]".replace("-", "−")


def difference(a: BySeed, b: BySeed) -> Difference | None:
    """Return the mean of a - b over the seeds of both, with its interval; None for fewer than two."""
    both = sorted(a.keys() & b.keys())
    if len(both) < 2:
        return None
    generator = torch.Generator().manual_seed(0)
    return paired_bootstrap([a[s] for s in both], [b[s] for s in both], generator=generator)


def agree(results: Iterable[Result], theirs: float) -> bool:
    """Return whether a published share could be one more seed of ours: it is in the 95 % prediction interval.

    The published number is one run on as many test samples as each seed has, so that it scatters as a seed does:
    mean +- t s sqrt(1 + 1 / m) of m seeds, and half of the last digit that is printed.
    """
    values = [r.value for r in results]
    m = len(values)
    if m < 2:
        return False
    half = float(scipy.stats.t.ppf(0.975, m - 1)) * stdev(values) * math.sqrt(1 + 1 / m) + 0.0005
    return abs(fmean(values) - theirs) <= half
