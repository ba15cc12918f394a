"""Intervals and tests that stand behind every claim."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import scipy
import torch
from torch import Tensor

from redqubit.errors import UsageError

BATCH = 4_000_000  # numbers that are resampled at a time
FEW = 20  # below this many pairs a resampled interval is too narrow, and Student's is used


@dataclass(frozen=True)
class Proportion:
    """k successes in n trials, with the Wilson 95 % interval.

    Of no trials at all the value is NaN and the interval is [0, 1].

    Example:
        >>> accuracy = Proportion(81, 263)
        >>> f"{accuracy.value:.3f} [{accuracy.low:.4f}, {accuracy.high:.4f}]"
        '0.308 [0.2553, 0.3662]'

    Reference: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.n:
            raise UsageError(f"Argument `k` must lie between 0 and n = {self.n}, but is {self.k}.")

    @property
    def value(self) -> float:
        """The share k / n."""
        return self.k / self.n if self.n else math.nan

    @property
    def low(self) -> float:
        """Lower bound of the interval."""
        return self._interval[0]

    @property
    def high(self) -> float:
        """Upper bound of the interval."""
        return self._interval[1]

    @cached_property
    def _interval(self) -> tuple[float, float]:
        if self.n == 0:
            return 0.0, 1.0
        interval = scipy.stats.binomtest(self.k, self.n).proportion_ci(0.95, method="wilson")
        return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class MeanProportion:
    """The mean over n samples of each one's share of successes in several draws, with its 95 % interval.

    The interval is Wilson's with an effective number of trials p (1 - p) / v, where v is the variance of the mean with
    both samples and draws taken at random: n where all draws of a sample agree, K n where samples do not differ and
    draws are independent, less than n where draws differ and samples share them, as with noise on weights.

    Attributes:
        value: The mean.
        low: Lower bound of the interval.
        high: Upper bound.
        n: Samples.
        draws: Draws of each.

    Reference: Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
        estimated from survey data", Survey Methodology 24, 1998, for the number of trials; with Wilson's interval as
        Dean and Pagano, Journal of Survey Statistics and Methodology 3, 2015.
    """

    value: float
    low: float
    high: float
    n: int
    draws: int

    @classmethod
    def of(cls, correct: Tensor) -> Self:
        """Return the mean of samples' successes over draws.

        Args:
            correct: Successes, bool, (K, n), a row for each draw.

        Raises:
            UsageError: when there is no draw or no sample.

        Example:
            >>> always = MeanProportion.of((torch.arange(263) < 81).repeat(10, 1))
            >>> f"{always.value:.3f} [{always.low:.4f}, {always.high:.4f}]"  # as of 81 of 263, whatever the draws
            '0.308 [0.2553, 0.3662]'
        """
        if correct.ndim != 2 or not correct.numel():
            raise UsageError(
                f"Argument `correct` must hold draws and samples (K, n), but has shape {tuple(correct.shape)}: pass "
                "a row for each draw."
            )
        draws, n = correct.shape
        shares = correct.double().mean(0)
        p = float(shares.mean())
        trials = float(n)
        if min(draws, n) > 1 and 0 < p < 1:
            rows = correct.double().mean(1)
            rest = float((correct.double() - shares - rows[:, None] + p).square().sum()) / ((draws - 1) * (n - 1))
            by_sample, by_draw, least = float(shares.var(correction=0)) / n, float(rows.var()) / draws, rest / draws / n
            trials = p * (1 - p) / max(by_sample + by_draw - least, by_sample, by_draw, p * (1 - p) / draws / n)
        z = float(scipy.stats.norm.ppf(0.975))
        middle, half = p + z**2 / (2 * trials), z * math.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
        whole = 1 + z**2 / trials
        return cls(p, max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole), n, draws)


@dataclass(frozen=True)
class Difference:
    """The mean of a - b over n pairs, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int  # pairs
    method: str  # of the interval


@dataclass(frozen=True)
class PairedTest(Difference):
    """The difference of two accuracies on the same samples, and how far chance explains it."""

    p_value: float  # exact, two-sided
    only_a: int  # samples that a alone gets right
    only_b: int  # samples that b alone gets right


def mcnemar(a_correct: Tensor, b_correct: Tensor) -> PairedTest:
    """Compare two accuracies measured on the same samples.

    p is exact and two-sided: of the samples that just one of the two gets right, half should be a's. The interval of
    the difference is Newcombe's for paired samples, from two Wilson intervals and their correlation.

    Args:
        a_correct: Which samples a gets right, bool, (N,).
        b_correct: The same for b.

    Returns:
        The difference accuracy(a) - accuracy(b) with interval and p-value.

    Raises:
        UsageError: when the masks differ in length or are empty.

    Example:
        >>> a = torch.tensor([True] * 8 + [False] * 2)
        >>> b = torch.tensor([True] * 2 + [False] * 8)
        >>> mcnemar(a, b).value, mcnemar(a, b).p_value
        (0.6, 0.03125)

    Reference: McNemar, Psychometrika 12, 1947 (exact binomial form); Newcombe, "Improved confidence intervals for
        the difference between binomial proportions based on paired data", Statistics in Medicine 17, 1998, method 10.
    """
    a, b = torch.as_tensor(a_correct).cpu().bool(), torch.as_tensor(b_correct).cpu().bool()
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise UsageError(
            f"Argument `b_correct` must pair one to one with `a_correct`, but the shapes are {tuple(b.shape)} and "
            f"{tuple(a.shape)}: judge both on the same samples."
        )
    n, both, only_a, only_b = len(a), int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    neither = n - both - only_a - only_b
    p_value = float(scipy.stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    share_a, share_b = Proportion(both + only_a, n), Proportion(both + only_b, n)
    product = share_a.k * (n - share_a.k) * share_b.k * (n - share_b.k)
    numerator = float(both * neither - only_a * only_b)
    if numerator > 0:
        numerator = max(numerator - n / 2, 0.0)
    correlation = numerator / math.sqrt(product) if product else 0.0
    value = (only_a - only_b) / n
    a_down, a_up = share_a.value - share_a.low, share_a.high - share_a.value
    b_down, b_up = share_b.value - share_b.low, share_b.high - share_b.value
    down = math.sqrt(max(a_down**2 - 2 * correlation * a_down * b_up + b_up**2, 0.0))
    up = math.sqrt(max(a_up**2 - 2 * correlation * a_up * b_down + b_down**2, 0.0))
    return PairedTest(value, value - down, value + up, n, "Newcombe", p_value, only_a, only_b)


def paired_bootstrap(values_a: Sequence[float], values_b: Sequence[float], *, generator: torch.Generator) -> Difference:
    """Return the mean of a - b over paired seeds or draws, with its 95 % interval.

    From 20 pairs on the interval is the bootstrap's (bias-corrected and accelerated, 9999 resamples). Resampling a
    handful of seeds gives intervals that are too narrow, so that fewer pairs get Student's t interval instead;
    `method` says which.

    Args:
        values_a: One value per seed, at least 2.
        values_b: The same seeds under the other condition.
        generator: Source of the resampling.

    Returns:
        The mean difference; an interval that excludes 0 is a win.

    Raises:
        UsageError: when the two do not pair, are fewer than 2 or not finite.

    Example:
        >>> gain = paired_bootstrap([0.9, 0.8, 0.85], [0.7, 0.7, 0.6], generator=torch.Generator())
        >>> f"{gain.value:.3f} [{gain.low:.3f}, {gain.high:.3f}] {gain.method}"
        '0.183 [-0.006, 0.373] Student t'

    Reference: Efron, "Better bootstrap confidence intervals", JASA 82, 1987.
    """
    a, b = np.asarray(values_a, dtype=float), np.asarray(values_b, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2 or not np.isfinite(a - b).all():
        raise UsageError(
            "Argument `values_b` must pair with `values_a`, 2 or more finite numbers each, but the shapes are "
            f"{b.shape} and {a.shape}: run both conditions on the same seeds."
        )
    differences = a - b
    mean, n = float(differences.mean()), len(differences)
    if np.ptp(differences) < 1e-12:  # equal but for rounding: 0.6 - 0.5 and 0.8 - 0.7
        return Difference(mean, mean, mean, n, "constant")
    if n < FEW:
        half = float(scipy.stats.t.ppf(0.975, n - 1) * scipy.stats.sem(differences))
        return Difference(mean, mean - half, mean + half, n, "Student t")
    seed = int(torch.randint(2**31, (1,), generator=generator))
    interval = scipy.stats.bootstrap(
        (differences,), np.mean, method="BCa", batch=max(1, BATCH // n), random_state=np.random.default_rng(seed)
    ).confidence_interval
    return Difference(mean, float(interval.low), float(interval.high), n, "BCa bootstrap")


def paired_shares(a_correct: Tensor, b_correct: Tensor, *, generator: torch.Generator) -> Difference:
    """Compare two accuracies on the same samples where one or both are means over draws.

    `mcnemar` where each has one draw, `paired_bootstrap` of the samples' shares else.

    Args:
        a_correct: Successes of a, bool, (K, N), a row for each draw.
        b_correct: The same for b, with as many draws or others.
        generator: Source of the resampling.

    Returns:
        accuracy(a) - accuracy(b), with the interval over samples.

    Raises:
        UsageError: when the samples do not pair.

    Example:
        >>> a, b = torch.arange(40) < 30, torch.arange(40) < 10
        >>> paired_shares(a[None], b[None], generator=torch.Generator()).value
        0.5
    """
    if len(a_correct) == 1 and len(b_correct) == 1:
        return mcnemar(a_correct[0], b_correct[0])
    a, b = (correct.double().mean(0).tolist() for correct in (a_correct, b_correct))
    return paired_bootstrap(a, b, generator=generator)


def smallest_detectable_difference(n: int, *, p: float = 0.5, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest difference of two accuracies that n samples each can be expected to show.

    d = (z_{1-alpha/2} + z_power) * sqrt(2 p (1 - p) / n), for independent samples. A paired test on the same samples
    can show less, so that this bound errs to the safe side.

    Args:
        n: Samples per accuracy.
        p: Accuracy near which the difference is sought; 0.5 is the worst case.
        power: Wanted probability of detecting it.
        alpha: Two-sided level of the test.

    Returns:
        The difference, as a fraction; at most 1.

    Example:
        >>> round(smallest_detectable_difference(300), 3)
        0.114

    Reference: Cohen, "Statistical power analysis for the behavioral sciences", 2nd edition, 1988, chapter 6, in the
        normal approximation.
    """
    if n < 1 or not (0 <= p <= 1 and 0 < power < 1 and 0 < alpha < 1):
        raise UsageError(
            "Arguments `n`, `p`, `power`, `alpha` must be a count and three fractions, but are "
            f"{n}, {p}, {power}, {alpha}."
        )
    z = scipy.stats.norm.ppf(1 - alpha / 2) + scipy.stats.norm.ppf(power)
    return min(1.0, float(z * math.sqrt(2 * p * (1 - p) / n)))


def holm(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return p-values corrected for being several tests, in the order given.

    The i-th smallest of m, counted from 0, is multiplied by m - i and never falls below its predecessors.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        array([0.03, 0.06, 0.06])

    Reference: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6,
        1979.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected
