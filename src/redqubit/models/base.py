"""What the models share: their registry, and features before a head."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.registry import Registry


class Factory(Protocol):
    """Builds a model for inputs of one shape: (C, H, W) for images, (d,) for features."""

    def __call__(self, input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> nn.Module: ...


MODELS: Registry[Factory] = Registry("model", "redqubit.models")


class FeatureClassifier(nn.Module):
    """A model in two parts, `forward_features` then `forward_head` (timm's names)."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the head reads."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes) of features."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes) of inputs in [0, 1]."""
        return self.forward_head(self.forward_features(x))


def swapped(model: nn.Module, swap: Callable[[nn.Module], nn.Module | None]) -> nn.Module | None:
    """Return a copy of a model in which each part that `swap` has another for is that other; None when it has none."""
    if (whole := swap(model)) is not None:
        return whole
    out = copy.deepcopy(model)
    parts = [(parent, name, child) for parent in out.modules() for name, child in parent.named_children()]
    found = [(parent, name, new) for parent, name, child in parts if (new := swap(child)) is not None]
    for parent, name, new in found:
        setattr(parent, name, new)
    return out if found else None


def image_shape(input_shape: Sequence[int], kernel_size: int) -> tuple[int, int, int]:
    """Return (C, H, W), or raise a `UsageError` when the inputs are no images of that size at least."""
    if len(input_shape) != 3:
        raise UsageError(
            f"Argument `input_shape` must be (C, H, W) for a convolution, but is {tuple(input_shape)}: "
            "use a model for feature vectors, such as `hybrid`."
        )
    c, h, w = input_shape
    if min(h, w) < kernel_size:
        raise UsageError(f"Images must be at least {kernel_size} x {kernel_size}, but are {h} x {w}.")
    return c, h, w


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode for a while; then each of its parts has the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
