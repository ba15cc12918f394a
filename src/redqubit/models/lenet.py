"""LeNet-5: two convolutions and three linear layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.models.base import MODELS, FeatureClassifier, image_shape
from redqubit.models.initial import convolution, linear


class LeNet5(FeatureClassifier):
    """LeNet-5 with ReLU and pooling by the maximum; 61,706 parameters for 28 x 28 pixels in grey and 10 classes.

    Args:
        input_shape: (C, H, W) of the images, of 12 pixels a side at least.
        n_classes: Number of classes.
        generator: Source of the initial weights.

    Reference: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86, 1998, section
        II.B. Differs: no squashing and no sparse connections, as is usual today.

    Example:
        >>> LeNet5((1, 28, 28), 10, generator=torch.Generator().manual_seed(0))(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5, 10])
    """

    def __init__(self, input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        c, h, w = image_shape(input_shape, 12)
        self.conv1 = convolution(c, 6, 5, padding=2, generator=generator)
        self.conv2 = convolution(6, 16, 5, generator=generator)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc1 = linear(16 * ((h // 2 - 4) // 2) * ((w // 2 - 4) // 2), 120, generator=generator)
        self.fc2 = linear(120, 84, generator=generator)
        self.fc3 = linear(84, n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the last layer reads (B, 84)."""
        z = self.pool(self.relu(self.conv1(x)))
        z = self.pool(self.relu(self.conv2(z))).flatten(1)
        out: Tensor = self.relu(self.fc2(self.relu(self.fc1(z))))
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.fc3(features)
        return out


@MODELS.register("lenet5")
def lenet5(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> LeNet5:
    """Return a LeNet-5 with ReLU and pooling by the maximum."""
    return LeNet5(input_shape, n_classes, generator=generator)
