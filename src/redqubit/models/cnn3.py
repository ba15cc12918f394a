"""Three convolutions: a backbone for small pictures, trained in seconds."""

import torch
from torch import nn

from redqubit.models.backbones import BACKBONES, Backbone, PicturesIn
from redqubit.models.initial import convolution, linear


class CNN3(Backbone):
    """Three 3 x 3 convolutions of 16, 32 and 64 channels, each with ReLU and pooling by 2; then a mean over the map.

    Args:
        n_classes: Number of classes; None leaves the head out.
        generator: Source of the initial weights, He normal.

    Example:
        >>> CNN3(generator=torch.Generator().manual_seed(0))(torch.rand(5, 1, 16, 16)).shape
        torch.Size([5, 64])
    """

    n_features = 64

    def __init__(self, n_classes: int | None = None, *, generator: torch.Generator) -> None:
        super().__init__()
        self.normalise = PicturesIn()
        self.blocks = nn.ModuleList(
            nn.Sequential(convolution(a, b, 3, padding=1, generator=generator), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in ((3, 16), (16, 32), (32, 64))
        )
        head = () if n_classes is None else (linear(64, n_classes, generator=generator),)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)

    def stages(self) -> dict[str, nn.Module]:
        """Return the stages in order."""
        inner = {f"blocks.{i}": block for i, block in enumerate(self.blocks)}
        return {"normalise": self.normalise, **inner, "classifier": self.classifier}

    @property
    def last_block(self) -> nn.Module:
        """The last convolution with its ReLU and pooling."""
        return self.blocks[-1]


@BACKBONES.register("cnn3")
def cnn3(n_classes: int | None = None, *, generator: torch.Generator) -> CNN3:
    """Return three convolutions with 23,584 parameters and 64 features. Pictures have 8 pixels a side or more."""
    return CNN3(n_classes, generator=generator)
