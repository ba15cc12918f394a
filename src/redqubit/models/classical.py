"""Classical twins: what a quantum model must beat before "quantum" explains anything."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.models.base import MODELS, FeatureClassifier, image_shape
from redqubit.models.initial import glorot, linear


class TwinCNN(FeatureClassifier):
    """One convolution and a linear head, with as many features and head weights as a QuNN.

    Args:
        input_shape: (C, H, W) of the images.
        n_classes: Number of classes.
        channels: Output channels per input channel; 4 as a 2 x 2 quanvolution has.
        kernel_size: Side of the kernel, in pixels.
        stride: Step of the kernel, in pixels.
        activation: "relu" as in the paper, or "cosine", cos(pi z), whose range is a quantum read-out's.
        trainable: Whether the convolution trains; the paper freezes it.
        generator: Source of the initial weights, Glorot uniform with zero bias.

    Reference: El Maouaki et al., "RobQuNNs", arXiv 2407.03875, section 4.1.

    Example:
        >>> TwinCNN((1, 8, 8), 10, generator=torch.Generator().manual_seed(0))(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_classes: int,
        *,
        channels: int = 4,
        kernel_size: int = 2,
        stride: int = 2,
        activation: Literal["relu", "cosine"] = "relu",
        trainable: bool = False,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        c, h, w = image_shape(input_shape, kernel_size)
        conv = nn.utils.skip_init(nn.Conv2d, c, c * channels, kernel_size, stride=stride, groups=c)
        self.conv = glorot(conv, generator).requires_grad_(trainable)
        self.activation = activation
        n_patches = ((h - kernel_size) // stride + 1) * ((w - kernel_size) // stride + 1)
        self.head = linear(c * channels * n_patches, n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the flattened feature map (B, d)."""
        z: Tensor = self.conv(x)
        return (torch.relu(z) if self.activation == "relu" else torch.cos(math.pi * z)).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.head(features)
        return out


class CosineTwin(FeatureClassifier):
    """The RobQuNN filter without entanglement, written as a classical formula of one pixel per channel.

    Channel k = cos(b_k) cos(pi x_k) - sin(b_k) cos(g_k) sin(pi x_k), which is <Z_k> of RY(pi x_k) and
    Rot(a_k, b_k, g_k). It has no qubit in it, and equals the circuits of the paper in the order as written.

    Args:
        input_shape: (1, H, W) of the images.
        n_classes: Number of classes.
        angles: (4, 3) angles alpha, beta, gamma of Rot on each pixel of a 2 x 2 patch, in radians; uniform in
            [0, 2 pi) when absent. They are frozen.
        generator: Source of the head's initial weights, and of the angles when absent.

    Raises:
        UsageError: for images of more than one channel or angles of another shape.

    Example:
        >>> CosineTwin((1, 8, 8), 10, generator=torch.Generator().manual_seed(0))(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    amplitude: Tensor
    quadrature: Tensor

    def __init__(
        self, input_shape: Sequence[int], n_classes: int, *, angles: Tensor | None = None, generator: torch.Generator
    ) -> None:
        super().__init__()
        c, h, w = image_shape(input_shape, 2)
        if c != 1:
            raise UsageError(f"Argument `input_shape` must have one channel for the cosine twin, but has {c}.")
        if angles is None:
            angles = torch.rand(4, 3, generator=generator) * (2 * math.pi)
        if angles.shape != (4, 3):
            raise UsageError(f"Argument `angles` must have shape (4, 3), but has {tuple(angles.shape)}.")
        _, b, g = angles.unbind(1)
        self.register_buffer("amplitude", torch.cos(b)[:, None, None])
        self.register_buffer("quadrature", (-torch.sin(b) * torch.cos(g))[:, None, None])
        self.head = linear(4 * (h // 2) * (w // 2), n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the flattened feature map (B, d)."""
        rows, columns = 2 * (x.shape[2] // 2), 2 * (x.shape[3] // 2)
        t = math.pi * nn.functional.pixel_unshuffle(x[..., :rows, :columns], 2)  # (B, 4, H', W')
        return (self.amplitude * torch.cos(t) + self.quadrature * torch.sin(t)).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.head(features)
        return out


@MODELS.register("cnn")
def cnn(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> TwinCNN:
    """Return the twin of a QuNN: the same map and head, a trained convolution and ReLU."""
    return TwinCNN(input_shape, n_classes, trainable=True, generator=generator)


@MODELS.register("cnn_frozen")
def cnn_frozen(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> TwinCNN:
    """Return the paper's baseline: a random, untrained convolution and ReLU."""
    return TwinCNN(input_shape, n_classes, generator=generator)


@MODELS.register("cnn_cosine")
def cnn_cosine(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> TwinCNN:
    """Return a random, untrained convolution followed by a cosine."""
    return TwinCNN(input_shape, n_classes, activation="cosine", generator=generator)


@MODELS.register("cosine_twin")
def cosine_twin(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> CosineTwin:
    """Return the unentangled RobQuNN filter as a classical formula."""
    return CosineTwin(input_shape, n_classes, generator=generator)
