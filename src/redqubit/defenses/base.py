"""What defenses and detectors share: their calls, their registries, and the copy of the model that they work on."""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import final

import torch
from torch import Tensor, nn

from redqubit.data import Dataset
from redqubit.errors import UsageError
from redqubit.registry import Registry

DEFENSES: Registry[type["Defense"]] = Registry("defense", "redqubit.defenses")
DETECTORS: Registry[type["InputDetector"] | type["ModelDetector"]] = Registry("detector", "redqubit.defenses")


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
    """A repair of a model; `defense(model, clean, generator=g)` returns a new module."""

    @final
    def __call__(self, model: nn.Module, clean: Dataset, *, generator: torch.Generator) -> nn.Module:
        """Return a repaired copy in evaluation mode; the model passed in is left as it was.

        Args:
            model: Maps (B, ...) to logits (B, n_classes).
            clean: Samples without a trigger that the defender holds, on the model's device.
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
