"""VGG16 with batch normalisation for pictures of 32 pixels a side, with torchvision's parameter names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.models.backbones import PicturesIn, check_pictures
from redqubit.models.base import MODELS, FeatureClassifier
from redqubit.models.initial import convolution, linear

_CHANNELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # pooling by 2 after each group


class VGG16(FeatureClassifier):
    """VGG16: thirteen 3 x 3 convolutions, each with batch normalisation, and three linear layers of 512.

    The names of the convolutions are those of torchvision's vgg16_bn, whose weights fit them; its linear layers are for
    maps of 7 x 7 and do not. 15,299,748 parameters for CIFAR-100.

    Args:
        input_shape: (1 or 3, H, W) of the pictures, of 32 pixels a side at least.
        n_classes: Number of classes.
        generator: Source of the initial weights.

    Reference: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015,
        configuration D. Differs: batch normalisation, linear layers of 512, as pictures are small, and no dropout,
        which would draw from torch's global generator.

    Example:
        >>> VGG16((3, 32, 32), 100, generator=torch.Generator().manual_seed(0))(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 100])
    """

    def __init__(self, input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        check_pictures(input_shape, 32)
        modules: list[nn.Module] = []
        n_in = 3
        for group in _CHANNELS:
            for n_out in group:
                modules += [convolution(n_in, n_out, 3, padding=1, generator=generator), nn.BatchNorm2d(n_out)]
                modules += [nn.ReLU()]
                n_in = n_out
            modules += [nn.MaxPool2d(2)]
        height, width = (side // 32 for side in input_shape[1:])
        self.normalise = PicturesIn()
        self.features = nn.Sequential(*modules)
        self.classifier = nn.Sequential(
            linear(512 * height * width, 512, generator=generator), nn.ReLU(), nn.Identity(),
            linear(512, 512, generator=generator), nn.ReLU(), nn.Identity(),
            linear(512, n_classes, generator=generator),
        )  # fmt: skip

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the last layer reads (B, 512)."""
        out: Tensor = self.classifier[:-1](self.features(self.normalise(x)).flatten(1))
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.classifier[-1](features)
        return out


@MODELS.register("vgg16")
def vgg16(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> VGG16:
    """Return a VGG16 with batch normalisation for pictures of 32 pixels a side, untrained."""
    return VGG16(input_shape, n_classes, generator=generator)
