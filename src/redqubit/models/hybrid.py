"""Dressed quantum circuits: a circuit between two linear layers, over any feature extractor."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.models.base import MODELS, FeatureClassifier
from redqubit.models.initial import linear
from redqubit.models.layer import QuantumLayer
from redqubit.quantum import ansatzes


class HybridNet(FeatureClassifier):
    """features -> Linear(d, n) -> tanh * pi/2 -> dressed circuit on n qubits -> <Z> -> Linear(n, C).

    Args:
        features: The extractor; its output is flattened to (B, n_features).
        n_features: Length d of that output.
        n_classes: Number of classes C.
        n_qubits: Number of qubits n.
        depth: Layers of the circuit.
        generator: Source of the initial weights; the circuit's are 0.01 times normal.

    Reference: Mari et al., "Transfer learning in hybrid classical-quantum neural networks", Quantum 4, 340 (2020).

    Example:
        >>> net = HybridNet(nn.Flatten(), 64, 10, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        features: nn.Module,
        n_features: int,
        n_classes: int,
        *,
        n_qubits: int = 4,
        depth: int = 6,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.features = features
        self.down = linear(n_features, n_qubits, generator=generator)
        weights = 0.01 * torch.randn(n_qubits * depth, generator=generator)
        self.circuit = QuantumLayer(ansatzes.dressed(n_qubits, depth, scale=math.pi / 2), weights=weights)
        self.up = linear(n_qubits, n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the extractor's output (B, d)."""
        out: Tensor = self.features(x)
        return out.flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.up(self.circuit(torch.tanh(self.down(features))))
        return out


class HybridTwin(FeatureClassifier):
    """The classical twin of a `HybridNet`: Linear(n, n) in place of the circuit, tanh before it.

    It matches the hybrid net in width; its middle layer has n^2 + n weights against the circuit's depth * n.

    Args:
        features: The extractor; its output is flattened to (B, n_features).
        n_features: Length d of that output.
        n_classes: Number of classes C.
        width: The hybrid net's number of qubits n.
        generator: Source of the initial weights.

    Example:
        >>> net = HybridTwin(nn.Flatten(), 64, 10, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self, features: nn.Module, n_features: int, n_classes: int, *, width: int = 4, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.features = features
        self.down = linear(n_features, width, generator=generator)
        self.middle = linear(width, width, generator=generator)
        self.up = linear(width, n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the extractor's output (B, d)."""
        out: Tensor = self.features(x)
        return out.flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.up(self.middle(torch.tanh(self.down(features))))
        return out


@MODELS.register("hybrid")
def hybrid(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> HybridNet:
    """Return a dressed circuit on 4 qubits, 6 layers, over the raw inputs."""
    return HybridNet(nn.Flatten(), math.prod(input_shape), n_classes, generator=generator)


@MODELS.register("hybrid_twin")
def hybrid_twin(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> HybridTwin:
    """Return the classical twin of `hybrid`."""
    return HybridTwin(nn.Flatten(), math.prod(input_shape), n_classes, generator=generator)
