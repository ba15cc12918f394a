"""Separation of scores, thresholds, outliers and null bands, against counting and closed forms."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from redqubit.detection import (
    anomaly_index,
    at_false_positive_rate,
    auroc,
    normal_threshold,
    null_band,
    operating_point,
)
from redqubit.errors import UsageError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scores(n: int, m: int, shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounded, so that ties occur."""
    generator = seeded(1)
    return (
        torch.randn(n, generator=generator).mul(4).round(),
        (torch.randn(m, generator=generator) + shift).mul(4).round(),
    )


def test_auroc_counts_pairs_and_its_interval_is_as_wide_as_theory_says() -> None:
    clean, triggered = scores(80, 60, 0.8)
    pairs = [(float(t > c) + float(t == c) / 2) for c, t in itertools.product(clean, triggered)]
    found = auroc(clean, triggered, generator=seeded())
    a = found.value
    assert a == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert (found.n_clean, found.n_triggered) == (80, 60)
    # Hanley and McNeil's standard error
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = math.sqrt((a * (1 - a) + 59 * (q1 - a * a) + 79 * (q2 - a * a)) / (80 * 60))
    assert found.low < a < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)
    assert auroc(clean, triggered, generator=seeded()) == found
    assert auroc(clean, triggered, generator=seeded(1)) != found


def test_perfect_separation_and_its_opposite() -> None:
    clean, triggered = torch.arange(5.0), torch.arange(5.0) + 10
    assert auroc(clean, triggered, generator=seeded(), resamples=19).value == 1
    assert auroc(triggered, clean, generator=seeded(), resamples=19).value == 0


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("shift", [-1.0, 0.5, 3.0])
def test_no_threshold_flags_more_within_the_rate(rate: float, shift: float) -> None:
    clean, triggered = scores(150, 70, shift)
    found = at_false_positive_rate(clean, triggered, rate)
    every = [
        (int((triggered > t).sum()), int((clean > t).sum()))
        for t in [*torch.cat([clean, triggered]).tolist(), -math.inf]
    ]
    best = max(hits for hits, false in every if false <= rate * 150)
    assert found.true_positives.k == best
    assert found.false_positives.value <= rate
    assert found == operating_point(clean, triggered, found.threshold)


def test_every_sample_may_be_flagged_when_all_triggered_lie_above() -> None:
    found = at_false_positive_rate(torch.zeros(3), torch.ones(4))
    assert (found.threshold, found.true_positives.k, found.false_positives.k, found.false_acceptance.k) == (0, 4, 0, 0)
    none = at_false_positive_rate(torch.ones(3), torch.zeros(4))
    assert (none.true_positives.k, none.false_positives.k) == (0, 0)


def test_the_normal_threshold_rejects_its_share_of_normal_scores() -> None:
    clean = torch.randn(20_000, generator=seeded()) * 0.3 - 1.2
    threshold = normal_threshold(clean)
    assert threshold == pytest.approx(float(clean.double().mean() + 2.326348 * clean.double().std(correction=0)))
    assert float((clean > threshold).double().mean()) == pytest.approx(0.01, abs=0.003)


def test_the_anomaly_index_is_its_formula() -> None:
    norms = torch.rand(3, 10, generator=seeded()) * 50
    for row, index in zip(norms.numpy(), anomaly_index(norms).numpy(), strict=True):
        median = np.median(row)
        spread = 1.4826 * np.median(np.abs(row - median))
        assert np.allclose(index, (median - row) / spread, rtol=1e-5)
        assert index.max() == pytest.approx(abs(row.min() - median) / spread, rel=1e-5)


def test_equal_norms_are_no_outliers_and_one_among_equals_is_infinite() -> None:
    assert anomaly_index(torch.full((10,), 7.0)).tolist() == [0.0] * 10
    assert anomaly_index(torch.tensor([7.0, 7.0, 7.0, 2.0, 7.0])).tolist() == [0, 0, 0, math.inf, 0]
    assert anomaly_index(torch.tensor([7.0, 7.0, 7.0, 9.0, 7.0])).tolist() == [0, 0, 0, -math.inf, 0]


def test_ten_classes_with_normal_norms_are_flagged_in_a_third_of_clean_models() -> None:
    flagged = anomaly_index(torch.randn(20_000, 10, generator=seeded())).amax(1) > 2
    assert float(flagged.double().mean()) == pytest.approx(0.33, abs=0.015)


def test_a_null_band_holds_19_of_20_further_models() -> None:
    generator = seeded()
    inside = 0
    for _ in range(1000):
        *null, new = torch.randn(6, generator=generator).tolist()
        band = null_band(null)
        inside += band.low <= new <= band.high
    low, high = stats.binom(1000, 0.95).interval(0.999)
    assert low <= inside <= high


def test_the_p_value_counts_the_model_itself() -> None:
    band = null_band([1.0, 2.0, 3.0, 4.0])
    assert [band.p_value(value) for value in (0.0, 2.0, 3.5, 9.0)] == [1.0, 0.8, 0.4, 0.2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc(torch.ones(1), torch.ones(5), generator=seeded()), "`clean` must hold 2 or more finite scores"),
        (lambda: auroc(torch.ones(5), torch.full((5,), math.nan), generator=seeded()), "`triggered` .* 0 finite"),
        (lambda: operating_point(torch.ones(2, 2), torch.ones(2), 0.0), r"`clean` .* shape is \(2, 2\)"),
        (lambda: at_false_positive_rate(torch.ones(2), torch.ones(2), 1.0), "`rate` must lie between 0 and 1"),
        (lambda: normal_threshold(torch.ones(2), 0.0), "`rate` must lie between 0 and 1, but is 0"),
        (lambda: anomaly_index(torch.ones(2)), r"3 classes or more, but its shape is \(2,\)"),
        (lambda: null_band([1.0]), "2 or more finite numbers, one per clean model"),
        (lambda: null_band([1.0, math.inf]), "2 or more finite numbers"),
    ],
)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
