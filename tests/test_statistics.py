"""Intervals and tests against published values, hand calculation and plain counting."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from redqubit.errors import UsageError
from redqubit.statistics import Proportion, holm, mcnemar, paired_bootstrap, smallest_detectable_difference


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, 1998, Table I
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(k: int, n: int, low: float, high: float) -> None:
    found = Proportion(k, n)
    assert found.value == k / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_solves_its_equation() -> None:
    """The bounds are the p with (k/n - p)^2 = z^2 p (1 - p) / n, z = 1.959964."""
    for k, n in product((1, 7, 29), (30, 300)):
        found = Proportion(k, n)
        for p in (found.low, found.high):
            assert (k / n - p) ** 2 == pytest.approx(1.959963985**2 * p * (1 - p) / n, rel=1e-6)


def test_proportion_of_nothing_knows_nothing() -> None:
    nothing = Proportion(0, 0)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3), (0, -1)])
def test_impossible_proportion(k: int, n: int) -> None:
    with pytest.raises(UsageError, match="`k`"):
        Proportion(k, n)


def masks(both: int, only_a: int, only_b: int, neither: int) -> tuple[torch.Tensor, torch.Tensor]:
    a = [True] * both + [True] * only_a + [False] * only_b + [False] * neither
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return torch.tensor(a), torch.tensor(b)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    # twice the lower tail of Binomial(b + c, 1/2), by hand
    [
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        (0, 6, 2 / 64),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (9, 1, 2 * (1 + 10) / 1024),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(only_a: int, only_b: int, p: float) -> None:
    found = mcnemar(*masks(20, only_a, only_b, 10))
    assert found.p_value == pytest.approx(p, rel=1e-12)
    assert found.value == (only_a - only_b) / (30 + only_a + only_b)
    assert (found.only_a, found.only_b, found.n) == (only_a, only_b, 30 + only_a + only_b)


def test_paired_interval_as_published() -> None:
    """Newcombe 1998 (paired data), example 36, 12, 2, 0: method 10 gives 0.0569 to 0.3404."""
    found = mcnemar(*masks(36, 12, 2, 0))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_paired_interval_corrects_a_positive_correlation_for_continuity() -> None:
    """40, 12, 4, 44 of 100 by hand: phi = (40 * 44 - 12 * 4 - 100 / 2) / sqrt(52 * 48 * 44 * 56)."""
    found = mcnemar(*masks(40, 12, 4, 44))
    phi = 1662 / math.sqrt(52 * 48 * 44 * 56)

    def wilson(p: float, n: int, side: int, z: float = 1.959963985) -> float:
        return (p + z * z / 2 / n + side * z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)) / (1 + z * z / n)

    down_a, up_b = 0.52 - wilson(0.52, 100, -1), wilson(0.44, 100, 1) - 0.44
    up_a, down_b = wilson(0.52, 100, 1) - 0.52, 0.44 - wilson(0.44, 100, -1)
    assert found.low == pytest.approx(0.08 - math.sqrt(down_a**2 - 2 * phi * down_a * up_b + up_b**2))
    assert found.high == pytest.approx(0.08 + math.sqrt(up_a**2 - 2 * phi * up_a * down_b + down_b**2))


def test_paired_interval_is_antisymmetric_and_stays_in_range() -> None:
    for cells in product((0, 3, 40), (0, 4), (0, 5), (0, 6)):
        if sum(cells):
            ab, ba = mcnemar(*masks(*cells)), mcnemar(*reversed(masks(*cells)))
            assert (ab.low, ab.high) == pytest.approx((-ba.high, -ba.low))
            assert -1 <= ab.low <= ab.value <= ab.high <= 1


def test_paired_interval_covers() -> None:
    """In 400 draws of 60 correlated pairs the 95 % interval holds the truth in about 95 %."""
    random = torch.Generator().manual_seed(3)
    held = 0
    for _ in range(400):
        cell = torch.multinomial(torch.tensor([0.55, 0.2, 0.05, 0.2]), 60, replacement=True, generator=random)
        found = mcnemar(cell < 2, (cell == 0) | (cell == 2))
        held += found.low <= 0.15 <= found.high
    assert 0.92 <= held / 400 <= 0.985


def test_mcnemar_needs_pairs() -> None:
    for a, b in ([[True], [True, False]], [[], []], [[[True]], [[True]]]):
        with pytest.raises(UsageError, match="`b_correct` must pair"):
            mcnemar(torch.tensor(a), torch.tensor(b))


def test_few_seeds_get_students_interval() -> None:
    """Differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.302653."""
    found = paired_bootstrap([2, 4, 6], [1, 2, 3], generator=generator())
    half = 4.302652730 / math.sqrt(3)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half))
    assert (found.method, found.n) == ("Student t", 3)


def test_many_draws_get_the_bootstrap() -> None:
    """For near-normal differences it agrees with mean +- 1.96 standard errors; the same seed, the same interval."""
    random = np.random.default_rng(1)
    a, b = random.normal(0.8, 0.05, 200), random.normal(0.7, 0.05, 200)
    found = paired_bootstrap(list(a), list(b), generator=generator())
    error = (a - b).std(ddof=1) / math.sqrt(200)
    assert found.method == "BCa bootstrap"
    assert found.value == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * error, found.value + 1.96 * error), abs=0.15 * error
    )
    assert found == paired_bootstrap(list(a), list(b), generator=generator())
    shuffled = paired_bootstrap(list(a), sorted(b, key=lambda v: -v), generator=generator())
    assert shuffled.value == pytest.approx(found.value)


def test_pairing_removes_the_spread_between_seeds() -> None:
    seeds = np.linspace(0.2, 0.9, 30)
    found = paired_bootstrap(list(seeds + 0.05 + 0.001 * np.cos(np.arange(30))), list(seeds), generator=generator())
    assert found.high - found.low < 0.002
    assert found.low > 0


def test_equal_differences_have_no_spread() -> None:
    found = paired_bootstrap([1.0] * 30, [0.5] * 30, generator=generator())
    assert (found.value, found.low, found.high, found.method) == (0.5, 0.5, 0.5, "constant")
    assert 0.6 - 0.5 != 0.8 - 0.7
    rounded = paired_bootstrap([0.6, 0.8], [0.5, 0.7], generator=generator())
    assert rounded.method == "constant"


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0]), ([1, 2], [1, 2, 3]), ([1, math.nan], [1, 2])])
def test_bootstrap_needs_finite_pairs(a: list[float], b: list[float]) -> None:
    with pytest.raises(UsageError, match="`values_b` must pair"):
        paired_bootstrap(a, b, generator=generator())


def test_smallest_detectable_difference_by_hand() -> None:
    """(1.959964 + 0.841621) * sqrt(2 * 0.25 / 100) = 0.19810."""
    assert smallest_detectable_difference(100) == pytest.approx(0.198102, abs=1e-6)
    assert smallest_detectable_difference(400) == pytest.approx(0.198102 / 2, abs=1e-6)
    assert smallest_detectable_difference(100, p=0.9) == pytest.approx(0.198102 * 0.6, abs=1e-6)
    assert smallest_detectable_difference(2) == 1.0


def test_smallest_detectable_difference_is_detected_four_times_in_five() -> None:
    """Simulated: two samples of 400 around 0.5 that differ by it, two-sided z-test at 5 %."""
    n, random = 400, np.random.default_rng(0)
    d = smallest_detectable_difference(n)
    a, b = random.binomial(n, 0.5 + d / 2, 4000) / n, random.binomial(n, 0.5 - d / 2, 4000) / n
    pooled = (a + b) / 2
    detected = np.abs(a - b) > 1.959964 * np.sqrt(2 * pooled * (1 - pooled) / n)
    assert detected.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": 9, "p": 1.5}, {"n": 9, "power": 1.0}, {"n": 9, "alpha": 0.0}])
def test_smallest_detectable_difference_checks_its_arguments(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be a count"):
        smallest_detectable_difference(**bad)  # type: ignore[arg-type]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == pytest.approx([0.02])
    assert len(holm([])) == 0
