"""The samples of one seed, and how networks of features take inputs in [0, 1]."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn

from redqubit.data import Dataset, load_splits, stratified_subset
from redqubit.errors import UsageError
from redqubit.experiments.base import Setting
from redqubit.experiments.hcqnn.config import Task
from redqubit.models.rescaled import Rescaled

STREAMS = 1_000_003  # between seeds, so that no two of them share a stream of random numbers by accident
SAMPLES, DENOISER, CIRCUIT, TWIN, ORDER, NOISE, ATTACK, HARDEN = range(1, 9)  # streams of a seed
FLOWERS = 50  # of each class
LEAST_REACH = 1.0  # beyond the data, which attacks on features may use; no radius of the config is larger


def stream(seed: int, which: int) -> torch.Generator:
    """Return a generator of a seed; all models of the seed draw alike from it."""
    return torch.Generator().manual_seed(seed * STREAMS + which)


@dataclass(frozen=True, eq=False)
class Samples:
    """What one seed trains on and tests with.

    Attributes:
        x: Training samples, (N, d) in units that networks take, or pictures (N, 1, H, W) in [0, 1].
        y: Their classes (N,), numbered from 0.
        test_x: Test samples, (M, ...).
        test_y: Their classes (M,).
        low: Least value that an attack may reach; below all features by the largest radius, so that nothing is clipped.
        high: Largest such value.
        n_classes: Number of classes.
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    low: float
    high: float
    n_classes: int

    @property
    def width(self) -> float:
        """Units of the features in a unit of the inputs of attacks."""
        return self.high - self.low

    @property
    def training(self) -> Dataset:
        """The training set as attacks take it, in [0, 1]."""
        return Dataset(self.unit(self.x), self.y, self.n_classes)

    def unit(self, x: Tensor) -> Tensor:
        """Return samples as attacks take them, in [0, 1]."""
        return (x - self.low) / self.width

    def features(self, u: Tensor) -> Tensor:
        """Return what an attack returns in units of the features."""
        return self.low + self.width * u

    def shown(self, model: nn.Module) -> Rescaled:
        """Return a model as attacks take it, for inputs in [0, 1]."""
        return Rescaled(model, self.low, self.high).eval()

    def noisy(self, x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
        """Return samples with Gaussian noise; pictures are clipped to [0, 1], features are not."""
        out = x + sigma * torch.randn(x.shape, generator=generator)
        return out.clamp(0, 1) if x.ndim > 2 else out


def samples(task: Task, seed: int, setting: Setting) -> Samples:
    """Return the samples of one seed.

    Raises:
        UsageError: when the data are absent, or too few.
    """
    generator = stream(seed, SAMPLES)
    if task.source == "iris":
        x, y = flowers()
        drawn = torch.stack([c + torch.randperm(FLOWERS, generator=generator) for c in (0, FLOWERS, 2 * FLOWERS)])
        n_train, n_test = task.n_train // 3, task.n_test // 3
        if n_train + n_test > FLOWERS or min(n_train, n_test) < 1:
            raise UsageError(
                f"Arguments `n_train` and `n_test` must be 3 or more and 150 together for iris, but are "
                f"{task.n_train} and {task.n_test}: lower them."
            )
        test, train = drawn[:, :n_test].flatten(), drawn[:, n_test : n_test + n_train].flatten()
        low, span = spread(x[train], standardised=task.standardised)
        x = (x - low) / span
        reach = max(*task.eps, task.shown_eps, LEAST_REACH)
        least, most = float(x.min()) - reach, float(x.max()) + reach
        return Samples(x[train], y[train], x[test], y[test], least, most, 3)
    parts = pictures(task.source, task.classes, setting.data_dir)
    for part, n in zip(parts, (task.n_train, task.n_test), strict=True):
        if not len(task.classes) <= n <= len(part):
            raise UsageError(
                f"Arguments `n_train` and `n_test` must be up to {len(parts[0])} and {len(parts[1])} for {task.name}, "
                f"but are {task.n_train} and {task.n_test}: lower them."
            )
    train_set, test_set = (
        stratified_subset(part, n, generator=generator)
        for part, n in zip(parts, (task.n_train, task.n_test), strict=True)
    )
    return Samples(train_set.x, train_set.y, test_set.x, test_set.y, 0.0, 1.0, len(task.classes))


def spread(x: Tensor, *, standardised: bool) -> tuple[Tensor, Tensor]:
    """Return what features (N, d) are lessened and divided by: mean and sd, or least value and range."""
    if standardised:
        return x.mean(0), x.std(0, correction=0)
    return x.amin(0), x.amax(0) - x.amin(0)


@lru_cache(maxsize=1)
def flowers() -> tuple[Tensor, Tensor]:
    """Return Iris as measured, in cm, (150, 4), class after class: `load` cuts test values to the training range."""
    table = load_iris()
    return torch.from_numpy(table.data).float(), torch.from_numpy(table.target).long()


@lru_cache(maxsize=2)
def pictures(source: str, classes: tuple[int, ...], data_dir: Path | None) -> tuple[Dataset, Dataset]:
    """Return the training and test pictures of some classes, renumbered."""

    def chosen(part: Dataset) -> Dataset:
        labels = torch.tensor(classes)
        kept = torch.isin(part.y, labels)
        return Dataset(part.x[kept], torch.searchsorted(labels, part.y[kept]), len(classes))

    train, test = load_splits(source, data_dir=data_dir)
    return chosen(train), chosen(test)
