"""How well suspicion separates: AUROC, rates at a threshold, outliers among classes, and a null band."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.statistics import Proportion

MAD_TO_SD = 1.4826  # the standard deviation of a normal distribution, in units of its median absolute deviation
ANOMALOUS = 2.0  # anomaly index from which Neural Cleanse flags a class


@dataclass(frozen=True)
class Separation:
    """An area under the ROC curve with its 95 % interval."""

    value: float  # 0.5 is chance, 1 separates without an error
    low: float
    high: float
    n_clean: int
    n_triggered: int


@dataclass(frozen=True)
class OperatingPoint:
    """What a detector does at one threshold; a sample is flagged when its score is above it."""

    threshold: float
    false_positives: Proportion  # clean samples that are flagged: STRIP's false rejection rate (FRR)
    true_positives: Proportion  # triggered samples that are flagged

    @property
    def false_acceptance(self) -> Proportion:
        """Triggered samples that pass: STRIP's false acceptance rate (FAR)."""
        return Proportion(self.true_positives.n - self.true_positives.k, self.true_positives.n)


def auroc(clean: Tensor, triggered: Tensor, *, generator: torch.Generator, resamples: int = 999) -> Separation:
    """Return the probability that a triggered sample scores above a clean one, with its interval.

    AUROC = P(s_triggered > s_clean) + P(s_triggered = s_clean) / 2. The interval is the percentile bootstrap's over
    both sets. It has no width where the sets do not overlap at all: then the sizes of the sets say how much is known.

    Args:
        clean: Scores of clean samples, (N,); higher is more suspicious.
        triggered: Scores of triggered samples, (M,).
        generator: CPU source of the resampling.
        resamples: Number of resamples.

    Raises:
        UsageError: when a set has fewer than 2 scores, or a score is not finite.

    Example:
        >>> auroc(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.5, 3.0]), generator=torch.Generator()).value
        0.8333333333333334

    Reference: Hanley and McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
        curve", Radiology 143, 1982.
    """
    from sklearn.metrics import roc_auc_score  # takes a third of the time of torch to load

    low_scores, high_scores = _scores(clean, "clean"), _scores(triggered, "triggered")
    is_triggered = np.repeat([False, True], [len(low_scores), len(high_scores)])

    interval = scipy.stats.bootstrap(
        (low_scores, high_scores),
        _area,
        n_resamples=resamples,
        paired=False,
        method="percentile",
        random_state=np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator))),
    ).confidence_interval
    value = float(roc_auc_score(is_triggered, np.concatenate([low_scores, high_scores])))
    return Separation(value, float(interval.low), float(interval.high), len(low_scores), len(high_scores))


def operating_point(clean: Tensor, triggered: Tensor, threshold: float) -> OperatingPoint:
    """Return how many clean and triggered samples score above a threshold.

    Args:
        clean: Scores of clean samples, (N,), other than those that set the threshold.
        triggered: Scores of triggered samples, (M,).
        threshold: A sample is flagged above it.

    Example:
        >>> point = operating_point(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0, 3.0]), 0.5)
        >>> point.false_positives.value, point.true_positives.k, point.false_acceptance.k
        (0.5, 2, 1)
    """
    of_clean, of_triggered = _scores(clean, "clean", least=1), _scores(triggered, "triggered", least=1)
    return OperatingPoint(
        threshold,
        Proportion(int((of_clean > threshold).sum()), len(of_clean)),
        Proportion(int((of_triggered > threshold).sum()), len(of_triggered)),
    )


def at_false_positive_rate(clean: Tensor, triggered: Tensor, rate: float = 0.01) -> OperatingPoint:
    """Return the point of the ROC curve that flags most triggered samples with no more than `rate` of the clean ones.

    The threshold is the greatest score that passes. Fewer than 1 / rate clean samples allow no false positive at all.

    Args:
        clean: Scores of clean samples, (N,).
        triggered: Scores of triggered samples, (M,).
        rate: Largest share of clean samples flagged, in [0, 1].

    Example:
        >>> point = at_false_positive_rate(torch.arange(100.0), torch.tensor([50.0, 98.5, 200.0]))
        >>> point.false_positives.k, point.true_positives.k
        (1, 2)
    """
    from sklearn.metrics import roc_curve

    _check_rate(rate)
    of_clean, of_triggered = _scores(clean, "clean", least=1), _scores(triggered, "triggered", least=1)
    scores = np.concatenate([of_clean, of_triggered])
    is_triggered = np.repeat([False, True], [len(of_clean), len(of_triggered)])
    false, _, thresholds = roc_curve(is_triggered, scores, drop_intermediate=False)
    lowest = thresholds[np.flatnonzero(false <= rate)[-1]]  # scikit-learn flags from a threshold on, not above it
    threshold = float(scores[scores < lowest].max(initial=-math.inf))
    return operating_point(clean, triggered, threshold)


def normal_threshold(clean: Tensor, rate: float = 0.01) -> float:
    """Return the score that a share `rate` of clean samples would exceed if their scores were normal.

    t = mean + sd * z_(1 - rate), sd with the divisor N. STRIP fits it to about 2000 clean samples.

    Args:
        clean: Scores of clean samples, (N,), N >= 2.
        rate: False rejection rate aimed at, in (0, 1).

    Example:
        >>> round(normal_threshold(torch.tensor([-1.0, 1.0]), rate=0.025), 2)
        1.96

    Reference: Gao et al., "STRIP", ACSAC 2019, section 4.
    """
    _check_rate(rate)
    mean, sd = scipy.stats.norm.fit(_scores(clean, "clean"))
    return float(mean + sd * scipy.stats.norm.isf(rate))


def anomaly_index(norms: Tensor) -> Tensor:
    """Return how far each class's norm lies below the median, in robust standard deviations.

    a_c = (median - L_c) / (1.4826 MAD), MAD = median |L_c - median|. The anomaly index of a model is the greatest;
    classes above 2 are flagged, which leaves out those above the median. Where MAD is 0, a deviation is infinite.

    The rule "above 2" is no test at 5 %: with 10 classes whose norms are normal and equal but for chance, a third of
    all clean models have a class above 2, and 4 % one above 4. Hold the index against a `null_band`.

    Args:
        norms: L1 norm of each class's restored mask, (..., n_classes), at least 3 classes: of two, both are always
            0.67 from the median.

    Example:
        >>> anomaly_index(torch.tensor([1.0, 9.0, 10.0, 11.0, 12.0]))
        tensor([ 6.0704,  0.6745,  0.0000, -0.6745, -1.3490])

    Reference: Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE
        S&P 2019, section IV.B; Hampel, "The influence curve and its role in robust estimation", JASA 69, 1974.
    """
    if norms.ndim == 0 or norms.shape[-1] < 3:
        raise UsageError(
            f"Argument `norms` must hold 3 classes or more, but its shape is {tuple(norms.shape)}: an outlier needs "
            "others to differ from."
        )
    values = norms.detach().cpu().double().numpy()
    below = np.median(values, axis=-1, keepdims=True) - values
    spread = np.expand_dims(scipy.stats.median_abs_deviation(values, axis=-1, scale=1 / MAD_TO_SD), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.where(below == 0, 0.0, below / spread)
    return torch.from_numpy(index).to(norms)


@dataclass(frozen=True)
class NullBand:
    """Where a detector's number lies for models without a backdoor.

    `low` and `high` are the 95 % prediction interval for one more clean model, mean -+ t s sqrt(1 + 1/n), which takes
    the values for normal; `p_value` takes them only for exchangeable.

    Reference: Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2, for the p-value.
    """

    values: tuple[float, ...]  # one per clean model
    low: float
    high: float

    def p_value(self, value: float) -> float:
        """Return the share of models, this one counted among the clean ones, that look as suspicious or more.

        An alarm at p <= 1/(n + 1), above every clean model, is false that often; n models cannot show less.
        """
        return (1 + sum(null >= value for null in self.values)) / (1 + len(self.values))


def null_band(values: Sequence[float]) -> NullBand:
    """Return the band of a number, such as an AUROC or an anomaly index, over several clean models.

    Args:
        values: The number of each clean model, 2 or more, finite; higher is more suspicious.

    Raises:
        UsageError: when fewer than 2 are given or one is not finite.

    Example:
        >>> band = null_band([1.0, 1.2, 1.4, 0.9])
        >>> f"{band.low:.2f} {band.high:.2f} {band.p_value(3.0)}"
        '0.34 1.91 0.2'
    """
    null = np.asarray(values, dtype=float)
    if null.ndim != 1 or len(null) < 2 or not np.isfinite(null).all():
        raise UsageError(
            f"Argument `values` must hold 2 or more finite numbers, one per clean model, but holds {list(values)}: "
            "train more clean models."
        )
    n = len(null)
    half = float(scipy.stats.t.ppf(0.975, n - 1) * null.std(ddof=1) * math.sqrt(1 + 1 / n))
    return NullBand(tuple(null.tolist()), float(null.mean()) - half, float(null.mean()) + half)


def _area(clean: NDArray[np.float64], triggered: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Return the AUROC of many resamples at once, by ranks (Mann and Whitney's U), for which scikit-learn loops."""
    n, m = clean.shape[axis], triggered.shape[axis]
    ranks = scipy.stats.rankdata(np.concatenate([clean, triggered], axis=axis), axis=axis)
    of_clean = np.take(ranks, range(n), axis=axis).sum(axis)
    area: NDArray[np.float64] = 1 - (of_clean - n * (n + 1) / 2) / (n * m)
    return area


def _scores(scores: Tensor, name: str, *, least: int = 2) -> NDArray[np.float64]:
    values = np.asarray(scores.detach().cpu().double().numpy())
    if values.ndim != 1 or len(values) < least or not np.isfinite(values).all():
        raise UsageError(
            f"Argument `{name}` must hold {least} or more finite scores, (N,), but its shape is {values.shape} with "
            f"{int(np.isfinite(values).sum())} finite: score more samples, or look for NaN in the model."
        )
    return values


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise UsageError(f"Argument `rate` must lie between 0 and 1, but is {rate}: 0.01 is 1 %.")
