"""AlexNet for pictures of 32 pixels a side, with torchvision's parameter names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.models.backbones import PicturesIn, check_pictures
from redqubit.models.base import MODELS, FeatureClassifier
from redqubit.models.initial import convolution, linear


class AlexNet(FeatureClassifier):
    """AlexNet with the channels of torchvision's and kernels of 3 x 3; 23,272,266 parameters for CIFAR-10.

    Args:
        input_shape: (1 or 3, H, W) of the pictures, of 15 pixels a side at least.
        n_classes: Number of classes.
        generator: Source of the initial weights.

    Reference: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997, 2014, for
        the channels. Differs: small kernels, pooling by 2, and the first stride is 2, as pictures are small; no
        dropout, which would draw from torch's global generator.

    Example:
        >>> AlexNet((3, 32, 32), 10, generator=torch.Generator().manual_seed(0))(torch.rand(5, 3, 32, 32)).shape
        torch.Size([5, 10])
    """

    def __init__(self, input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        check_pictures(input_shape, 15)
        height, width = ((side + 1) // 2 // 8 for side in input_shape[1:])

        def block(n_in: int, n_out: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
            return convolution(n_in, n_out, 3, stride=stride, padding=1, generator=generator), nn.ReLU()

        self.normalise = PicturesIn()
        self.features = nn.Sequential(
            *block(3, 64, 2), nn.MaxPool2d(2),
            *block(64, 192), nn.MaxPool2d(2),
            *block(192, 384),
            *block(384, 256),
            *block(256, 256), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Identity(), linear(256 * height * width, 4096, generator=generator), nn.ReLU(),
            nn.Identity(), linear(4096, 4096, generator=generator), nn.ReLU(),
            linear(4096, n_classes, generator=generator),
        )  # fmt: skip

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the last layer reads (B, 4096)."""
        out: Tensor = self.classifier[:-1](self.features(self.normalise(x)).flatten(1))
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.classifier[-1](features)
        return out


@MODELS.register("alexnet")
def alexnet(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> AlexNet:
    """Return an AlexNet for pictures of 32 pixels a side, untrained."""
    return AlexNet(input_shape, n_classes, generator=generator)
