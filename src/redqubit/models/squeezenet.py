"""SqueezeNet 1.0 with torchvision's parameter names: a backbone small enough for a laptop."""

import torch
from torch import Tensor, nn

from redqubit.models.backbones import BACKBONES, Backbone, PicturesIn
from redqubit.models.initial import convolution


class Fire(nn.Module):
    """A 1 x 1 convolution to few channels, then 1 x 1 and 3 x 3 convolutions side by side."""

    def __init__(self, n_in: int, squeezed: int, expanded: int, generator: torch.Generator) -> None:
        super().__init__()
        self.squeeze = convolution(n_in, squeezed, 1, generator=generator)
        self.expand1x1 = convolution(squeezed, expanded, 1, generator=generator)
        self.expand3x3 = convolution(squeezed, expanded, 3, padding=1, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of 2 * expanded channels."""
        z = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.expand1x1(z), self.expand3x3(z)], 1))


# squeezed and expanded channels of each Fire module; "pool" halves the map
_PLAN = ((16, 64), (16, 64), (32, 128), "pool", (32, 128), (48, 192), (48, 192), (64, 256), "pool", (64, 256))


class SqueezeNet(Backbone):
    """SqueezeNet 1.0: a 7 x 7 convolution and eight Fire modules; its head is a convolution, then a mean over the map.

    Pooled features of the published weights are large (mean 15, sd 25), so that a tanh saturates: standardise them.
    The first convolution has no padding and never sees the last row and column of pictures with even sides.

    Args:
        n_classes: Number of classes; None leaves the head out, and features are means over the map.
        generator: Source of the initial weights, He normal.

    Reference: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", arXiv:1602.07360, 2016.
        Differs: no dropout before the head, which would draw from torch's global generator.

    Example:
        >>> SqueezeNet(generator=torch.Generator().manual_seed(0))(torch.rand(5, 3, 32, 32)).shape
        torch.Size([5, 512])
    """

    n_features = 512

    def __init__(self, n_classes: int | None = None, *, generator: torch.Generator) -> None:
        super().__init__()
        self.normalise = PicturesIn()
        modules: list[nn.Module] = [
            convolution(3, 96, 7, stride=2, generator=generator),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
        ]
        n_in = 96
        for step in _PLAN:
            if isinstance(step, str):
                modules.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            else:
                modules.append(Fire(n_in, *step, generator))
                n_in = 2 * step[1]
        self.features = nn.Sequential(*modules)
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if n_classes is None:
            self.classifier = nn.Sequential(*pool)
        else:
            head = convolution(512, n_classes, 1, generator=generator)
            self.classifier = nn.Sequential(nn.Identity(), head, nn.ReLU(), *pool)

    def stages(self) -> dict[str, nn.Module]:
        """Return the stages in order; those of `features` are named by their places."""
        inner = {f"features.{i}": module for i, module in enumerate(self.features)}
        return {"normalise": self.normalise, **inner, "classifier": self.classifier}

    @property
    def last_block(self) -> nn.Module:
        """The last Fire module."""
        return self.features[-1]


@BACKBONES.register("squeezenet1_0")
def squeezenet1_0(n_classes: int | None = None, *, generator: torch.Generator) -> SqueezeNet:
    """Return a SqueezeNet 1.0; 735,424 parameters and 512 features without its head. Pictures have 21 pixels a side."""
    return SqueezeNet(n_classes, generator=generator)
