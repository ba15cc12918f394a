"""The work of a screening: how the classes lie, which labels stand out, and whether flips are found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from redqubit.data import Dataset
from redqubit.defenses import ClassVote, LabelDetector, NeighbourVote, Suspicion
from redqubit.detection import auroc
from redqubit.errors import UsageError
from redqubit.poisoning import PoisonedLabels, RandomFlip
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.ess import class_shares, ess, label_agreement, nearest_class
from redqubit.quantum.spaces import Features, Space, States
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.screening.config import Screening
from redqubit.screening.inputs import first_places
from redqubit.statistics import Proportion, mcnemar
from redqubit.storage.arrays import load_arrays, save_arrays

STATES, FEATURES = "states", "features"
SPACES = (STATES, FEATURES)
THRESHOLDS = {"neighbour_vote": 0.5, "class_vote": 0.0}  # above which a detector flags a label
WORDS = {name: name.replace("_", " ") for name in THRESHOLDS}
INSPECTED = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # shares of the labels that someone looks through
ROWS = 1024  # samples whose distances from all are held at a time
TRIES = 100  # of draws that leave two samples of every class


@dataclass(frozen=True, eq=False)
class Work:
    """All that a cell needs.

    Attributes:
        dataset: Samples as the encoder reads them, (N, d) in [0, 1].
        circuit: The encoder, with its noise.
        config: What to do.
        artifacts: Folder for the scores.
        device: Where to compute.
    """

    dataset: Dataset
    circuit: Circuit
    config: Screening
    artifacts: Path
    device: torch.device

    @property
    def spaces(self) -> Mapping[str, Space]:
        """The space of the encoder, and the control."""
        return {STATES: States(self.circuit, self.config.metric), FEATURES: Features()}

    def detectors(self, space: str) -> Mapping[str, LabelDetector]:
        """Return the detectors in a space."""
        where = self.spaces[space]
        return {"neighbour_vote": NeighbourVote(where, k=self.config.neighbours), "class_vote": ClassVote(where)}

    def moved(self) -> Dataset:
        """Return the samples on the device."""
        return replace(self.dataset, x=self.dataset.x.to(self.device), y=self.dataset.y.to(self.device))

    def cells(self) -> list[Cell]:
        """Return the cells: the classes, the labels in each space, and each draw of flips."""
        return [
            Cell("classes", partial(run_classes, self)),
            *(Cell(f"labels-{space}", partial(run_labels, self, space)) for space in SPACES),
            *(Cell(f"planted-{draw}", partial(run_planted, self, draw)) for draw in range(self.config.draws)),
        ]

    def scores(self, space: str) -> dict[str, Suspicion]:
        """Return what the detectors made of the labels in a space, which an earlier cell kept."""
        kept = load_arrays(self.artifacts / f"scores-{space}.npz", cell=f"labels-{space}")
        return {
            name: Suspicion(
                self.dataset, torch.from_numpy(kept[f"{name}_score"]), torch.from_numpy(kept[f"{name}_suggested"])
            )
            for name in THRESHOLDS
        }


def run_classes(work: Work) -> list[Result]:
    """Measure how far the classes lie apart, and let each half of the samples judge the other's labels."""
    data, config, results = work.moved(), work.config, list[Result]()
    add = partial(_result, "classes")
    x, y, n = data.x, data.y, data.n_classes
    generator = torch.Generator().manual_seed(config.seed)
    encoded = ess(work.circuit, x, y, metric=config.metric, n_classes=n)
    half = label_agreement(work.circuit, x, y, metric=config.metric, n_classes=n, generator=generator)
    known = torch.ones(len(y), dtype=torch.bool, device=y.device)
    known[half.judged] = False
    plain = Features()
    means = _means(plain, x[half.judged], x[known], class_shares(y[known], n))
    shares = class_shares(y, n)
    sizes = (shares > 0).sum(0)
    scores = _means(plain, x, x, shares)
    scores *= sizes / (sizes - (shares > 0).double())  # a sample is not compared with itself
    by_space = {
        STATES: (encoded.scores, encoded.classes, half.suggested),
        FEATURES: (scores, shares.T @ scores, nearest_class(means)),
    }
    names = class_names(work.dataset)
    judged = y[half.judged]
    for space, (own, apart, suggested) in by_space.items():
        right = suggested == judged
        results += _share(add, "agreement", right, space=space)
        width = silhouettes(own, y)
        results.append(add("silhouette", float(width.mean()), space=space))
        for c, name in enumerate(names):
            results += _share(add, "class_agreement", right[judged == c], space=space, label=name)
            results.append(add("class_silhouette", float(width[y == c].mean()), space=space, label=name))
            results += [
                add("class_distance", float(apart[c, other]), space=space, label=name, other=names[other])
                for other in range(n)
            ]
    ours, control = (by_space[space][2] == judged for space in SPACES)
    gain = mcnemar(ours, control)
    results.append(add("agreement_gain", gain.value, low=gain.low, high=gain.high, n=gain.n, p_value=gain.p_value))
    return results


def run_labels(work: Work, space: str) -> list[Result]:
    """Score the labels as they are, and once more after the suspicious ones got the labels that were suggested."""
    data, results, kept = work.moved(), list[Result](), dict[str, Any]()
    for name, detector in work.detectors(space).items():
        add = partial(_result, f"labels-{space}", space=space, detector=WORDS[name])
        found, threshold = detector(data), THRESHOLDS[name]
        results += _share(add, "flagged", found.flagged(threshold))
        mended = found.relabel(threshold)
        if int(torch.bincount(mended.y, minlength=mended.n_classes).min()) >= 2:  # else a class is gone
            results += _share(add, "flagged_when_mended", detector(mended).flagged(threshold))
        kept |= {f"{name}_score": found.scores.cpu().numpy(), f"{name}_suggested": found.suggested.cpu().numpy()}
    save_arrays(work.artifacts / f"scores-{space}.npz", **kept)
    return results


def run_planted(work: Work, draw: int) -> list[Result]:
    """Flip some labels at random, and see which of them the detectors find."""
    results = list[Result]()
    flips = plant(work.moved(), work.config, draw)
    flipped, n = flips.is_flipped, len(flips.dataset)
    for space in SPACES:
        for name, detector in work.detectors(space).items():
            add = partial(_result, f"planted-{draw}", space=space, detector=WORDS[name], draw=draw)
            found = detector(flips.dataset)
            flagged, scores = found.flagged(THRESHOLDS[name]), found.scores
            separation = auroc(scores[~flipped], scores[flipped], generator=torch.Generator(), resamples=9)
            results.append(add("auroc", separation.value, n=n))  # its interval is that over draws
            results += _share(add, "recall", flagged[flipped])
            results += _share(add, "precision", flipped[flagged])
            results += _share(add, "false_flag_rate", flagged[~flipped])
            hits = flipped[scores.argsort(descending=True, stable=True)].cumsum(0)
            for share in INSPECTED:
                if seen := round(share * n):
                    results += [add("found", float(hits[seen - 1] / hits[-1]), inspected=share)]
    return results


def plant(data: Dataset, config: Screening, draw: int) -> PoisonedLabels:
    """Return the set that the control is made on, with some labels flipped at random.

    Raises:
        UsageError: when fewer than 2 labels would be flipped, or flips leave no two samples of a class.
    """
    if config.n_control is not None and config.n_control < len(data):
        data = data.subset(first_places(data, config.n_control))
    if round(config.planted * len(data)) < 2:
        raise UsageError(
            f"Argument `planted` must flip 2 labels or more of {len(data)}, but {config.planted:g} is less: raise it."
        )
    generator = torch.Generator().manual_seed(config.seed + draw)
    for _ in range(TRIES):
        flips = RandomFlip(ratio=config.planted)(data, generator=generator)
        if int(torch.bincount(flips.y, minlength=data.n_classes).min()) >= 2:
            return flips
    rare = int(torch.bincount(data.y, minlength=data.n_classes).argmin())
    raise UsageError(
        f"Argument `data` must have more samples of its rarest classes, such as {rare}, so that two of each are left "
        f"when {100 * config.planted:g} % of the labels are flipped: add some, leave the class out, or lower `planted`."
    )


def silhouettes(scores: Tensor, y: Tensor) -> Tensor:
    """Return how much nearer each sample is to its own class than to the nearest other one, in [−1, 1], (N,).

    s = (b - a) / max(a, b), a the mean distance from the others of its own class, b the least one from another class.

    Args:
        scores: Mean distance of each sample from the other members of each class, (N, C).
        y: Labels (N,).

    Reference: Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 20, 1987.

    Example:
        >>> silhouettes(torch.tensor([[1.0, 4.0], [2.0, 1.0]]), torch.tensor([0, 0])).tolist()
        [0.75, -0.5]
    """
    labels = y[:, None]
    own, other = scores.gather(1, labels)[:, 0], scores.scatter(1, labels, torch.inf).amin(1)
    largest = torch.maximum(own, other)
    return torch.where(largest > 0, (other - own) / largest, 0)


def class_names(data: Dataset) -> tuple[str, ...]:
    """Return what reports call the classes."""
    return data.classes or tuple(map(str, range(data.n_classes)))


def _means(space: Space, x: Tensor, known: Tensor, shares: Tensor) -> Tensor:
    """Return the mean distances (N, C) of samples from the known ones of each class, a sample itself included."""
    return torch.cat([space.distances(rows, known) @ shares for rows in x.split(ROWS)])


def _result(
    cell: str,
    metric: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    k: int | None = None,
    n: int | None = None,
    **config: Any,
) -> Result:
    return Result("screen", cell, metric, value, config, low, high, k, n)


def _share(add: Callable[..., Result], metric: str, found: Tensor, **config: Any) -> list[Result]:
    """Return the share of samples of which something is true; nothing when there are none."""
    if not len(found):
        return []
    share = Proportion(int(found.sum()), len(found))
    return [add(metric, share.value, low=share.low, high=share.high, k=share.k, n=share.n, **config)]
