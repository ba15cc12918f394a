"""The samples of the poisoning experiment: latents of pictures, drawn anew for each seed."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from redqubit.data import AngleScaling, Dataset, first_stratified, load_splits
from redqubit.errors import UsageError
from redqubit.experiments.base import Setting
from redqubit.experiments.quid.config import QUIDStudy, Task
from redqubit.models.autoencoder import trained_autoencoder
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.encodings import angle

STREAMS = 1_000_003  # between seeds, so that no two of them share a stream of random numbers by accident
SAMPLES, POISON, MODEL, ORDER, SHOTS = 1, 2, 3, 4, 5  # streams of a seed
BATCH = 1024  # pictures that are encoded at a time


def stream(seed: int, which: int) -> torch.Generator:
    """Return a generator of a seed; all models of the seed draw samples and places of poison alike."""
    return torch.Generator().manual_seed(seed * STREAMS + which)


@dataclass(frozen=True, eq=False)
class Pool:
    """The latents that seeds draw from.

    Attributes:
        z: Latents (N, d) of any range.
        y: Classes (N,), numbered in the order of the task.
        pictures: What they were made of, (N, 1, H, H).
        restored: The same after the autoencoder, (N, 1, 28, 28).
        n_shown: Pictures that the autoencoder was trained on and tried on.
    """

    z: Tensor
    y: Tensor
    pictures: Tensor
    restored: Tensor
    n_shown: int


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of one seed: a training set, a test set and the encoder that reads them.

    Attributes:
        train: Latents in [0, 1], scaled by the largest of each feature in this set.
        test: The same for the test set, cut to that range.
        plain: The training set with one scaling for all features: Euclidean distances are those of the latents.
        raw: Latents of training and test set as they are, (N + M, d).
        slope: Radians per unit of a feature.
        offset: Radians at a feature of 0.
    """

    train: Dataset
    test: Dataset
    plain: Dataset
    raw: Tensor
    slope: float
    offset: float

    @property
    def encoder(self) -> Circuit:
        """H, RZ and RX on each qubit, two features of [0, 1] a qubit."""
        n_qubits = self.train.x.shape[1] // 2
        return angle(n_qubits, ("RZ", "RX"), scale=self.slope, offset=self.offset, hadamard=True)


def samples(config: QUIDStudy, task: Task, d: int, seed: int, setting: Setting, *, radian: bool = False) -> Samples:
    """Return the samples of one seed: equally many of each class, split class by class.

    Their angles are `config.scale` pi at most, or one radian.
    """
    pool = pool_of(config, task, d, setting)
    generator = stream(seed, SAMPLES)
    train, test = [], []
    n_test = round(config.test_share * task.per_class)
    for c in range(len(task.classes)):
        places = (pool.y == c).nonzero()[:, 0]
        drawn = places[torch.randperm(len(places), generator=generator)[: task.per_class]]
        test.append(drawn[:n_test])
        train.append(drawn[n_test:])
    scaling = AngleScaling.fit(pool.z[torch.cat(train)], scale=1 / math.pi if radian else config.scale)

    def shuffled(parts: list[Tensor]) -> Tensor:
        order = torch.cat(parts)
        return order[torch.randperm(len(order), generator=generator)]

    def dataset(places: Tensor, x: Tensor) -> Dataset:
        return Dataset(x, pool.y[places], n_classes=len(task.classes), name=task.name)

    in_train, in_test = shuffled(train), shuffled(test)
    z = pool.z.double()
    low, high = z[in_train].aminmax()
    return Samples(
        dataset(in_train, scaling.unit(z[in_train])),
        dataset(in_test, scaling.unit(z[in_test])),
        dataset(in_train, (z[in_train] - low) / (high - low)),
        z[torch.cat([in_train, in_test])],
        scaling.slope,
        scaling.offset,
    )


def pool_of(config: QUIDStudy, task: Task, d: int, setting: Setting) -> Pool:
    """Return the latents of all samples that a task may use, by an autoencoder that was shown none of them.

    Raises:
        UsageError: when the data are absent, or hold too few samples of a class.
    """
    n, epochs = config.autoencoder_pictures, config.autoencoder_epochs
    return _pool(task, d, n, epochs, setting.data_dir, setting.artifacts)


@lru_cache(maxsize=3)
def _pool(task: Task, d: int, n: int, epochs: int, data_dir: Path | None, artifacts: Path) -> Pool:
    others, test = load_splits(task.source, data_dir=data_dir)
    taken = torch.zeros(len(others), dtype=torch.bool)
    x, y = [], []
    for c, label in enumerate(task.classes):
        own = (test.y == label).nonzero()[:, 0]
        more = (others.y == label).nonzero()[:, 0][: max(0, task.per_class - len(own))]
        if len(own) + len(more) < task.per_class:
            raise UsageError(
                f"Argument `tasks` must ask for samples that there are, but {task.name} asks for {task.per_class} of "
                f"class {label}, of which there are {len(own) + len(more)}: lower `per_class`."
            )
        taken[more] = True
        x.append(torch.cat([test.x[own], others.x[more]]))
        y.append(torch.full((len(x[-1]),), c))
    shown = others.subset(~taken)
    if 0 < n < len(shown):
        shown = first_stratified(shown, n)
    model = trained_autoencoder(shown.x, d=d, epochs=epochs, cache=artifacts / "autoencoders", seed=0)
    pictures = torch.cat(x)
    with torch.no_grad():
        z = torch.cat([model.encode(part) for part in pictures.split(BATCH)])
        restored = torch.cat([model.decode(part) for part in z.split(BATCH)])
    return Pool(z, torch.cat(y), pictures, restored, len(shown))
