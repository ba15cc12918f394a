"""Flips by one who knows the sanitizer: as many as asked for, whole neighbourhoods, and harder to find."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from redqubit.data import Dataset, load, stratified_subset
from redqubit.defenses import ClassVote, NeighbourVote
from redqubit.detection import at_false_positive_rate, auroc
from redqubit.errors import UsageError
from redqubit.poisoning import NeighbourhoodFlip, RandomFlip
from redqubit.quantum.encodings import angle
from redqubit.quantum.spaces import Features, States


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("space", [Features(), States(angle(4)), States(angle(4), "trace")])
@pytest.mark.parametrize(("ratio", "size"), [(0.1, 5), (0.37, 20), (0.99, 7), (0.3, 400)])
def test_as_many_are_flipped_as_asked_for(space: Features | States, ratio: float, size: int) -> None:
    data = Dataset(torch.rand(60, 4, generator=seeded(1)), torch.arange(60) % 3 * 2, n_classes=6)
    data.x[10:20] = data.x[10]  # the same point ten times
    before = data.y.clone()
    poison = NeighbourhoodFlip(space, size=size, ratio=ratio)
    poisoned = poison(data, generator=seeded(2))
    assert int(poisoned.is_poisoned.sum()) == round(ratio * 60)
    assert torch.equal(poisoned.is_flipped, poisoned.is_poisoned)
    assert set(poisoned.y.tolist()) <= {0, 2, 4}  # classes that the set has
    assert poisoned.dataset.x is data.x
    assert torch.equal(data.y, before)
    assert torch.equal(poison(data, generator=seeded(2)).y, poisoned.y)
    assert not torch.equal(poison(data, generator=seeded(3)).y, poisoned.y)


def test_one_neighbourhood_is_the_nearest_samples_with_one_label() -> None:
    data = Dataset(torch.rand(60, 2, generator=seeded(1)), torch.arange(60) % 3, n_classes=3)
    poisoned = NeighbourhoodFlip(Features(), size=12, ratio=0.2)(data, generator=seeded(3))
    (label,) = poisoned.y[poisoned.is_poisoned].unique().tolist()
    others = (data.y != label).nonzero()[:, 0]
    balls = [set(others[(data.x[others] - data.x[c]).norm(dim=1).argsort()[:12]].tolist()) for c in others]
    assert set(poisoned.is_poisoned.nonzero()[:, 0].tolist()) in balls


@dataclass(frozen=True)
class Case:
    """A set, a detector, and how much worse it must find flips that are consistent in neighbourhoods."""

    data: str
    detector: NeighbourVote | ClassVote
    ratio: float
    gap: float  # least loss of AUROC


@pytest.mark.parametrize(
    "case",
    [
        Case("digits", NeighbourVote(Features()), 0.1, 0.2),
        Case("iris", NeighbourVote(Features()), 0.1, 0.15),
        Case("iris", NeighbourVote(States(angle(4))), 0.1, 0.15),
        Case("digits", ClassVote(Features()), 0.3, 0.1),
        Case("iris", ClassVote(States(angle(4))), 0.3, 0.02),
    ],
)
def test_the_sanitizer_finds_them_less_than_random_ones(case: Case) -> None:
    clean = load(case.data)
    clean = stratified_subset(clean, min(400, len(clean)), generator=seeded())
    areas, hits = np.zeros(2), np.zeros(2)
    for seed in range(4):
        for kind, poison in enumerate(
            (RandomFlip(ratio=case.ratio), NeighbourhoodFlip(case.detector.space, size=40, ratio=case.ratio))
        ):
            poisoned = poison(clean, generator=seeded(seed))
            scores, mask = case.detector(poisoned.dataset).scores, poisoned.is_flipped
            areas[kind] += auroc(scores[~mask], scores[mask], generator=seeded(), resamples=9).value / 4
            hits[kind] += at_false_positive_rate(scores[~mask], scores[mask]).true_positives.value / 4
    assert areas[0] > 0.97
    assert areas[1] < areas[0] - case.gap
    assert hits[1] < 0.8 * hits[0]


@pytest.mark.parametrize("settings", [{"ratio": 0.0}, {"ratio": 1.0}, {"ratio": float("nan")}, {"size": 0}])
def test_settings_that_flip_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="`ratio` and `size` must"):
        NeighbourhoodFlip(Features(), **{"ratio": 0.3, **settings})  # type: ignore[arg-type]


def test_sets_that_have_nothing_to_flip_are_refused() -> None:
    x = torch.rand(4, 2, generator=seeded())
    with pytest.raises(UsageError, match="flips none: raise it"):
        NeighbourhoodFlip(Features(), ratio=0.1)(Dataset(x, torch.arange(4) % 2, 2), generator=seeded())
    with pytest.raises(UsageError, match="all labels are 1"):
        NeighbourhoodFlip(Features(), ratio=0.5)(Dataset(x, torch.ones(4, dtype=torch.long), 2), generator=seeded())
