"""Gradients of a model's weights, summed up as in published tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.errors import UsageError
from redqubit.models.base import evaluating


@dataclass(frozen=True)
class WeightGradients:
    """The gradient of the mean cross-entropy in some of a model's trainable weights.

    Attributes:
        n_weights: Number of weights.
        norm: L2 norm of all elements together.
        mean: Mean over elements, with their signs.
        maximum: Largest element.
        minimum: Smallest element.
    """

    n_weights: int
    norm: float
    mean: float
    maximum: float
    minimum: float


def weight_gradients(
    model: nn.Module, x: Tensor, y: Tensor, groups: Sequence[str] | None = None, *, batch_size: int = 64
) -> dict[str, WeightGradients]:
    """Return statistics of the gradient of the mean cross-entropy over a batch, for all weights and for groups.

    They depend on the batch: name its size and origin beside them. The model is in evaluation mode meanwhile, and
    left as it was.

    Args:
        model: Inputs (B, ...) to logits (B, C).
        x: Inputs in [0, 1], (B, ...); 256 clean test pictures for Tables 2 and 3.
        y: Labels (B,).
        groups: Names of parts or of parameters, such as "features", "down.weight" or "circuit.weights"; the model's
            parts with something to train when None. Table 2 counts weights without biases.
        batch_size: Samples at a time; the result does not depend on it.

    Returns:
        Statistics by group; "total" holds all trainable weights.

    Raises:
        UsageError: for a batch without samples, a group without trainable weights, or a model without any.

    Example:
        >>> from redqubit.models import MODELS
        >>> net = MODELS["hybrid"]((4,), 3, generator=torch.Generator().manual_seed(0))
        >>> found = weight_gradients(net, torch.rand(8, 4), torch.arange(8) % 3, ["circuit.weights"])
        >>> {name: one.n_weights for name, one in found.items()}
        {'total': 59, 'circuit.weights': 24}

    Reference: Guo et al., "Backdoor attacks against hybrid classical-quantum neural networks", Tables 2 and 3. Differs:
        batch, split and the time of measurement are not stated there.
    """
    if not len(x):
        raise UsageError("Argument `x` must hold at least one sample, but is empty: pass some test pictures.")
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not weights:
        raise UsageError("Argument `model` must have a trainable weight, but all are frozen: thaw some.")
    found = {name: torch.zeros_like(p) for name, p in weights.items()}
    with evaluating(model):
        for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            loss = F.cross_entropy(model(inputs), labels, reduction="sum") / len(x)
            slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            for name, slope in zip(weights, slopes, strict=True):
                if slope is not None:
                    found[name] += slope
    if groups is None:
        groups = list(dict.fromkeys(name.split(".")[0] for name in weights))
    return {"total": _summary(list(found.values()))} | {group: _summary(_members(found, group)) for group in groups}


def _members(found: dict[str, Tensor], group: str) -> list[Tensor]:
    members = [slope for name, slope in found.items() if name == group or name.startswith(f"{group}.")]
    if not members:
        raise UsageError(
            f"Argument `groups` must name parts with trainable weights, but {group} has none: known are "
            f"{', '.join(dict.fromkeys(name.split('.')[0] for name in found))} and the parameters in them."
        )
    return members


def _summary(slopes: list[Tensor]) -> WeightGradients:
    every = torch.cat([slope.flatten() for slope in slopes]).double()
    return WeightGradients(len(every), float(every.norm()), float(every.mean()), float(every.max()), float(every.min()))
