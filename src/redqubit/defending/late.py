"""The end of a network alone: what changes in the last stage needs the stages before only once."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from redqubit.data import Dataset
from redqubit.models import FromStage
from redqubit.models.base import FeatureClassifier
from redqubit.models.narrow import PooledFeatures

BATCH = 64  # pictures at a time


class FromMaps(nn.Module):
    """The last stages of a network with a backbone, from maps that are scaled to [0, 1] as data sets are.

    Args:
        model: The network; it is left as it was.
        stage: The first of the stages.
    """

    def __init__(self, model: FeatureClassifier, stage: str) -> None:
        super().__init__()
        self.rest = FromStage(copy.deepcopy(model), stage)
        self.low, self.span = 0.0, 1.0

    @torch.no_grad()
    def maps(self, *pictures: Tensor) -> list[Tensor]:
        """Return the maps of several sets of pictures, and set the scale by them."""
        front = self.rest.front
        found = [torch.cat([front(batch) for batch in x.split(BATCH)]) for x in pictures]
        self.low = min(float(m.min()) for m in found)
        self.span = max(float(m.max()) for m in found) - self.low or 1.0
        return [m.sub_(self.low).div_(self.span).clamp_(0, 1) for m in found]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes) of maps."""
        out: Tensor = self.rest(x * self.span + self.low)
        return out


def from_last_convolution(
    model: nn.Module, sets: Sequence[Dataset], triggered: Tensor
) -> tuple[nn.Module, list[Dataset], Tensor]:
    """Return a network from the stage of its last convolution on, with the sets and pictures as that takes them.

    A network without a backbone comes back as it is, and so do its sets.

    Args:
        model: Any classifier of pictures.
        sets: Pictures with labels.
        triggered: Pictures without labels.
    """
    features = getattr(model, "features", None)
    if not isinstance(model, FeatureClassifier) or not isinstance(features, PooledFeatures):
        return model, list(sets), triggered
    with_convolution = [
        name
        for name, part in features.backbone.stages().items()
        if any(isinstance(module, nn.Conv2d) for module in part.modules())
    ]
    if not with_convolution:
        return model, list(sets), triggered
    late = FromMaps(model, with_convolution[-1])
    *maps, last = late.maps(*(part.x for part in sets), triggered)
    return late.eval(), [replace(part, x=x) for part, x in zip(sets, maps, strict=True)], last
