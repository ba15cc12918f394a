"""What defenses and detectors share: their calls, their registries, and the copy of the model that they work on."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from redqubit.data import Dataset
from redqubit.errors import UsageError
from redqubit.registry import Registry

DEFENSES: Registry[type["Defense"]] = Registry("defense", "redqubit.defenses")
DETECTORS: Registry[type["InputDetector"] | type["ModelDetector"]] = Registry("detector", "redqubit.defenses")
DATA_DEFENSES: Registry[type["LabelDetector"] | type["Ensemble"]] = Registry("data defense", "redqubit.defenses")


@dataclass(frozen=True)
class Settings:
    """The fields of a method, checked when it is made.

    Raises:
        UsageError: when a float field is negative or not finite, or a count is below its least, usually 1.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = field.metadata.get("least", 1)
            if field.type is int and (not isinstance(value, int) or value < least):
                raise UsageError(f"Argument `{field.name}` must be an integer of at least {least}, but is {value!r}.")
            if field.type is float and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"Argument `{field.name}` must be finite and not negative, but is {value!r}.")


@dataclass(frozen=True)
class Defense(Settings, ABC):
    """A repair of a model; `defense(model, clean, generator=g)` returns a new module.

    Attributes:
        against: What it is for.
    """

    against: ClassVar[Literal["evasion", "backdoors"]] = "evasion"

    @final
    def __call__(self, model: nn.Module, clean: Dataset, *, generator: torch.Generator) -> nn.Module:
        """Return a repaired copy in evaluation mode; the model passed in is left as it was.

        Args:
            model: Maps (B, ...) to logits (B, n_classes).
            clean: Samples without a trigger that the defender holds, on the model's device; a defense that trains
                does so on these.
            generator: CPU source of the random numbers.

        Raises:
            UsageError: when the model does not classify these samples or cannot be repaired in this way.
        """
        repaired = copy.deepcopy(model)
        check_classifier(repaired.eval(), clean)
        return self.repair(repaired, clean, generator).eval()

    @abstractmethod
    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Change this copy of the model, which is in evaluation mode, and return it."""


@dataclass(frozen=True)
class InputDetector(Settings, ABC):
    """A detector of triggered inputs; `detector(model, x, clean, generator=g)` returns a score per input."""

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, clean: Dataset, *, generator: torch.Generator) -> Tensor:
        """Return how suspicious each input is, (N,); higher is more.

        Args:
            model: Maps (B, ...) to logits (B, n_classes); left as it was.
            x: Inputs to judge, in [0, 1], (N, ...).
            clean: Samples without a trigger that the defender holds, apart from `x`.
            generator: CPU source of the random numbers.
        """


@dataclass(frozen=True)
class ModelDetector(Settings, ABC):
    """A detector of backdoored models; `detector(model, clean, generator=g)` returns a score per class."""

    @abstractmethod
    def __call__(self, model: nn.Module, clean: Dataset, *, generator: torch.Generator) -> Tensor:
        """Return how suspicious each class is as a backdoor's target, (n_classes,); higher is more.

        Args:
            model: Maps (B, ...) to logits (B, n_classes); left as it was.
            clean: Samples without a trigger that the defender holds.
            generator: CPU source of the random numbers.
        """


@dataclass(frozen=True, eq=False)
class Suspicion:
    """What a detector of wrong labels makes of a set.

    Attributes:
        dataset: The set.
        scores: How suspicious each label is, (N,), float64; higher is more.
        suggested: The label that each sample should have, (N,); its own where no other is better.

    Example:
        >>> data = Dataset(torch.rand(3, 1), torch.tensor([1, 1, 0]), n_classes=2)
        >>> found = Suspicion(data, torch.tensor([0.1, 0.9, 0.5]), torch.tensor([0, 0, 0]))
        >>> found.drop(0.5).y.tolist(), found.relabel(0.5).y.tolist()
        ([1, 0], [1, 0, 0])
    """

    dataset: Dataset
    scores: Tensor
    suggested: Tensor

    def flagged(self, threshold: float) -> Tensor:
        """Return which samples score above a threshold, bool, (N,)."""
        return self.scores > threshold

    def drop(self, threshold: float) -> Dataset:
        """Return the set without the samples that score above a threshold.

        Raises:
            UsageError: when nothing is left.
        """
        kept = ~self.flagged(threshold)
        if not kept.any():
            raise UsageError(
                f"Argument `threshold` must leave a sample, but {threshold} is below all scores, the least of which is "
                f"{float(self.scores.min()):.4g}: raise it."
            )
        return self.dataset.subset(kept)

    def relabel(self, threshold: float) -> Dataset:
        """Return the set in which the samples that score above a threshold have the suggested labels."""
        return replace(self.dataset, y=torch.where(self.flagged(threshold), self.suggested, self.dataset.y))


@dataclass(frozen=True)
class LabelDetector(Settings, ABC):
    """A detector of wrong labels; `detector(dataset)` returns a score and a better label per sample."""

    @abstractmethod
    def __call__(self, dataset: Dataset) -> Suspicion:
        """Return how suspicious each label of a training set is; nothing in it is random.

        Args:
            dataset: Training set, of whose labels some may be wrong; it is left as it is.

        Raises:
            UsageError: when the set does not suit the detector.
        """


Predict = Callable[[Tensor], Tensor]  # samples (M, ...) to labels (M,), or of k models (k, M)


@dataclass(frozen=True, eq=False)
class Part:
    """The share of a training set from which one model of an ensemble learns.

    Attributes:
        x: Samples (n, ...).
        y: Their labels (n,).
        seed: Of everything random in that model: the number of the part.
    """

    x: Tensor
    y: Tensor
    seed: int


@dataclass(frozen=True, eq=False)
class Vote:
    """How an ensemble votes.

    Attributes:
        votes: Models that choose each class, (M, n_classes).
    """

    votes: Tensor

    @classmethod
    def of(cls, chosen: Tensor, n_classes: int) -> "Vote":
        """Count the votes of k models on M samples.

        Args:
            chosen: The label that each model gives to each sample, (k, M).
            n_classes: Number of classes.

        Raises:
            UsageError: when these are no labels (k, M) of the classes.

        Example:
            >>> Vote.of(torch.tensor([[0, 2], [0, 1], [1, 1]]), 3).votes.tolist()
            [[2, 1, 0], [0, 2, 1]]
        """
        classes = torch.arange(n_classes, device=chosen.device)
        if chosen.ndim != 2 or chosen.is_floating_point() or not torch.isin(chosen, classes).all():
            raise UsageError(
                f"Argument `chosen` must hold labels 0 .. {n_classes - 1} (k, M), one of each model for each sample, "
                f"but is {chosen.dtype} {tuple(chosen.shape)} or has others: take the argmax of logits (k, M, "
                f"{n_classes})."
            )
        return cls((chosen[:, :, None] == classes).sum(0))

    @property
    def predictions(self) -> Tensor:
        """The class with most votes, (M,), of equal ones the lowest."""
        return self.votes.argmax(1)  # which returns the first of equal ones

    def certificates(self, y: Tensor) -> Tensor:
        """Return how many models may change their mind and each prediction still is right, (M,); -1 where it is wrong.

        For the predicted class c it is floor((n_c - max_{c' != c} (n_c' + [c' < c])) / 2).

        Args:
            y: True labels (M,).

        Example:
            >>> Vote(torch.tensor([[3, 0], [2, 1], [1, 2], [0, 3]])).certificates(torch.tensor([0, 0, 1, 0]))
            tensor([ 1,  0,  0, -1])
        """
        chosen = self.predictions[:, None]
        classes = torch.arange(self.votes.shape[1], device=self.votes.device)
        rivals = (self.votes + (classes < chosen)).scatter(1, chosen, -1)
        margin = self.votes.gather(1, chosen)[:, 0] - rivals.amax(1)
        return torch.where(chosen[:, 0] == y, margin // 2, -1)


@dataclass(frozen=True)
class Ensemble(Settings, ABC):
    """A training that bears wrong labels: models that learn from parts of the data vote."""

    @abstractmethod
    def __call__(self, dataset: Dataset, x: Tensor, *, fit_all: Callable[[Sequence[Part]], Predict]) -> Vote:
        """Return the votes on other samples.

        Args:
            dataset: Training set, of whose labels some may be wrong; it is left as it is.
            x: Samples to classify, (M, ...).
            fit_all: Trains a model on each of k parts and returns what predicts labels (k, M) of samples (M, ...).
        """


def frozen_copy(model: nn.Module, clean: Dataset) -> nn.Module:
    """Return a copy in evaluation mode without trainable weights, once it is known to classify `clean`.

    A copy, so that hooks, modes and gradients cannot reach the model passed in.
    """
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    check_classifier(frozen, clean)
    return frozen


@torch.no_grad()
def check_classifier(model: nn.Module, clean: Dataset) -> None:
    """Raise an error when the model, in evaluation mode, has no finite logit for each class of the data.

    Raises:
        UsageError: for outputs of another shape, too few of them, or NaN and infinity.

    Example:
        >>> check_classifier(nn.Linear(2, 2), Dataset(torch.rand(4, 2), torch.tensor([0, 1, 2, 0]), n_classes=3))
        Traceback (most recent call last):
            ...
        redqubit.errors.UsageError: Argument `model` must return a logit for each of the 3 classes, but Linear returned shape (1, 2): pass the model that was trained on this data.
    """  # noqa: E501
    name = type(model).__name__
    out = model(clean.x[:1])
    if out.ndim != 2 or len(out) != 1 or out.shape[1] < clean.n_classes:
        raise UsageError(
            f"Argument `model` must return a logit for each of the {clean.n_classes} classes, but {name} returned "
            f"shape {tuple(out.shape)}: pass the model that was trained on this data."
        )
    if not out.isfinite().all():
        raise UsageError(f"Argument `model` must return finite logits, but {name} returned {out.tolist()}: retrain it.")


def spawned(generator: torch.Generator) -> torch.Generator:
    """Return a generator for a defended model to keep, seeded from this one."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, (1,), generator=generator)))


def check_images(clean: Dataset, method: str) -> None:
    """Raise an error when the samples are no images."""
    if clean.x.ndim != 4:
        raise UsageError(
            f"Argument `clean` must hold images (N, C, H, W) for {method}, but its shape is {tuple(clean.x.shape)}: "
            "use `strip`, which takes any input."
        )


def check_enough(clean: Dataset, least: int, reason: str) -> None:
    """Raise an error when there are too few clean samples."""
    if len(clean) < least:
        raise UsageError(
            f"Argument `clean` must hold at least {least} samples, {reason}, but holds {len(clean)}: pass more, or "
            "lower that number."
        )
