"""Dressed quantum circuits: a circuit between two linear layers, over any feature extractor."""

import math
from collections.abc import Sequence
from typing import Literal

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
        weights: Initial weights of the circuit (depth * n,), in radians; 0.01 times normal when absent.
        trainable: Whether the circuit trains. Frozen at 0 it is a product of sines: "prodsin", what is multiplicative
            in a dressed circuit without what is quantum.
        generator: Source of the initial weights.

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
        weights: Tensor | None = None,
        trainable: bool = True,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.features = features
        self.down = linear(n_features, n_qubits, generator=generator)
        if weights is None:
            weights = 0.01 * torch.randn(n_qubits * depth, generator=generator)
        circuit = ansatzes.dressed(n_qubits, depth, scale=math.pi / 2)
        self.circuit = QuantumLayer(circuit, weights=weights, trainable=trainable)
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
        activation: What follows the first map; "none" leaves three linear maps, which are one of rank n.
        generator: Source of the initial weights.

    Example:
        >>> net = HybridTwin(nn.Flatten(), 64, 10, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        features: nn.Module,
        n_features: int,
        n_classes: int,
        *,
        width: int = 4,
        activation: Literal["tanh", "none"] = "tanh",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.features = features
        self.activation = activation
        self.down = linear(n_features, width, generator=generator)
        self.middle = linear(width, width, generator=generator)
        self.up = linear(width, n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the extractor's output (B, d)."""
        out: Tensor = self.features(x)
        return out.flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        z: Tensor = self.down(features)
        out: Tensor = self.up(self.middle(torch.tanh(z) if self.activation == "tanh" else z))
        return out


class Bottleneck(FeatureClassifier):
    """A classical head as narrow as a `HybridNet`'s and no deeper: Linear(d, n) -> activation -> Linear(n, C).

    With z the first map's output, "tanh" is tanh(z) and "sine" is sin(pi/2 tanh(z)), which is -<Z> of a qubit after
    H and RY(pi/2 tanh(z)): the read-out of a dressed circuit before its first CX.

    Args:
        features: The extractor; its output is flattened to (B, n_features).
        n_features: Length d of that output.
        n_classes: Number of classes C.
        width: The hybrid net's number of qubits n.
        activation: "tanh" or "sine".
        generator: Source of the initial weights.

    Example:
        >>> net = Bottleneck(nn.Flatten(), 64, 10, activation="sine", generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        features: nn.Module,
        n_features: int,
        n_classes: int,
        *,
        width: int = 4,
        activation: Literal["tanh", "sine"] = "tanh",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.features = features
        self.down = linear(n_features, width, generator=generator)
        self.activation = activation
        self.up = linear(width, n_classes, generator=generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the extractor's output (B, d)."""
        out: Tensor = self.features(x)
        return out.flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        z = torch.tanh(self.down(features))
        out: Tensor = self.up(z if self.activation == "tanh" else torch.sin(math.pi / 2 * z))
        return out


@MODELS.register("hybrid")
def hybrid(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> HybridNet:
    """Return a dressed circuit on 4 qubits, 6 layers, over the raw inputs."""
    return HybridNet(nn.Flatten(), math.prod(input_shape), n_classes, generator=generator)


@MODELS.register("hybrid_twin")
def hybrid_twin(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> HybridTwin:
    """Return the classical twin of `hybrid`."""
    return HybridTwin(nn.Flatten(), math.prod(input_shape), n_classes, generator=generator)
