"""Quanvolution: a circuit that slides over an image, and the network QuNN made of it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.models.base import MODELS, FeatureClassifier, image_shape
from redqubit.models.initial import linear
from redqubit.models.layer import QuantumLayer
from redqubit.quantum import Circuit, ansatzes, encodings


class Quanvolution(nn.Module):
    """Apply a quantum filter to every patch: (B, C, H, W) -> (B, C * K, H', W').

    Channel c * K + k is <Z_k> of the circuit on the patches of channel c; pixel (i, j) of a patch is feature
    i * kernel_size + j. H' = (H - kernel_size) // stride + 1, as in a convolution without padding.

    Args:
        layer: A circuit with kernel_size^2 inputs and K outputs.
        kernel_size: Side of a patch, in pixels.
        stride: Step between patches, in pixels.

    Raises:
        UsageError: when the circuit does not take kernel_size^2 inputs.

    Reference: Henderson et al., "Quanvolutional neural networks", Quantum Mach. Intell. 2, 2 (2020).
    """

    def __init__(self, layer: QuantumLayer, *, kernel_size: int = 2, stride: int = 2) -> None:
        super().__init__()
        if layer.n_inputs != kernel_size**2:
            raise UsageError(
                f"Argument `layer` must take {kernel_size**2} inputs for kernel_size {kernel_size}, "
                f"but takes {layer.n_inputs}."
            )
        if stride < 1:
            raise UsageError(f"Argument `stride` must be 1 or more, but is {stride}.")
        self.layer = layer
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature map of images."""
        k, b, c = self.kernel_size, x.shape[0], x.shape[1]
        patches = x.unfold(2, k, self.stride).unfold(3, k, self.stride)  # (B, C, H', W', k, k)
        height, width = patches.shape[2:4]
        # features first in memory: the engine works on rows as long as the batch
        rows = patches.permute(4, 5, 0, 1, 2, 3).reshape(k * k, -1)
        out: Tensor = self.layer(rows.T).T
        return out.reshape(-1, b, c, height, width).permute(1, 2, 0, 3, 4).flatten(1, 2)


class QuNN(FeatureClassifier):
    """A quanvolution, flattened, and a linear head: the network of RobQuNNs.

    Args:
        input_shape: (C, H, W) of the images.
        n_classes: Number of classes.
        circuit: The filter on kernel_size^2 inputs; angle encoding RY(pi x) and the full ZZ ansatz, ZZ first,
            by default.
        kernel_size: Side of a patch, in pixels.
        stride: Step between patches, in pixels.
        weights: Weights of the filter, uniform in [0, 2 pi) when absent.
        trainable: Whether the filter trains; the paper freezes it.
        generator: Source of the initial weights.

    Reference: El Maouaki et al., "RobQuNNs", arXiv 2407.03875, section 4.1.

    Example:
        >>> net = QuNN((1, 8, 8), 10, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_classes: int,
        circuit: Circuit | None = None,
        *,
        kernel_size: int = 2,
        stride: int = 2,
        weights: Tensor | None = None,
        trainable: bool = False,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        c, h, w = image_shape(input_shape, kernel_size)
        if circuit is None:
            n = kernel_size**2
            circuit = encodings.angle(n) + ansatzes.robqunn("full", n, order="zz_first")
        layer = QuantumLayer(circuit, weights=weights, trainable=trainable, generator=generator)
        self.quanvolution = Quanvolution(layer, kernel_size=kernel_size, stride=stride)
        n_patches = ((h - kernel_size) // stride + 1) * ((w - kernel_size) // stride + 1)
        self.head = linear(c * layer.n_outputs * n_patches, n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the flattened feature map (B, d)."""
        out: Tensor = self.quanvolution(x)
        return out.flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.head(features)
        return out


@MODELS.register("qunn")
def qunn(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> QuNN:
    """Return a QuNN with a frozen filter, full ZZ entanglement before the rotations."""
    return QuNN(input_shape, n_classes, generator=generator)


@MODELS.register("qunn_trainable")
def qunn_trainable(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> QuNN:
    """Return a QuNN whose filter trains."""
    return QuNN(input_shape, n_classes, trainable=True, generator=generator)
