"""The network that a denoising autoencoder is put before: an encoder, a circuit, <Z> as logits."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from redqubit.errors import UsageError
from redqubit.models.base import MODELS, FeatureClassifier
from redqubit.models.layer import QuantumLayer
from redqubit.quantum import ansatzes, encodings
from redqubit.quantum.circuit import Circuit
from redqubit.registry import unknown

Encoding = Literal["angle", "amplitude", "pooled"]
SIDE = 16  # pixels along a picture whose amplitudes are encoded: 256 on 8 qubits
POOLED = 4  # means along a picture that is pooled: 16 features, two on each of 8 qubits


class HCQNN(FeatureClassifier):
    """encoder -> strongly entangling layers -> <Z> of the first C qubits, times a learned scale.

        angle:      RY(scale x_q + offset) on qubit q, for features (d,) on d qubits, C at least
        amplitude:  pictures (1, H, W), 16 x 16 by bilinear interpolation, are the initial state of 8 qubits, C at least
        pooled:     means of pictures over 4 x 4 parts; H, RZ(scale x + offset), RX(scale x + offset) on 8, C at least

    Args:
        shape: (d,) of features, or (1, H, W).
        n_classes: Number of classes C, a qubit for each at least.
        encoding: "angle" for features, "amplitude" or "pooled" for pictures.
        layers: Strongly entangling layers.
        scale: Radians per unit of a feature.
        offset: Radians at a feature of 0.
        sharpness: Where the learned scale of the logits starts.
        generator: Source of the initial weights, uniform in [0, 2 pi).

    Raises:
        UsageError: for a shape that the encoding does not take.

    Reference: Yang, Zhang and Yan, "Hybrid classical quantum neural network with high adversarial robustness", PMLR,
        section 3. Differs: encoding, circuit, read-out and sizes are not stated there.

    Example:
        >>> net = HCQNN((1, 28, 28), 4, encoding="amplitude", layers=4, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 1, 28, 28)).shape, net.circuit
        (torch.Size([5, 4]), QuantumLayer(8 qubits, 256 inputs, 96 weights))
    """

    def __init__(
        self,
        shape: Sequence[int],
        n_classes: int,
        *,
        encoding: Encoding = "angle",
        layers: int = 3,
        scale: float = math.pi,
        offset: float = 0.0,
        sharpness: float = 4.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if encoding not in get_args(Encoding):
            raise unknown("encoding", encoding, get_args(Encoding))
        if encoding == "angle" and len(shape) != 1:
            raise UsageError(f"Argument `shape` must be (d,) for angles, but is {tuple(shape)}: encode amplitudes.")
        if encoding != "angle" and (len(shape) != 3 or shape[0] != 1):
            raise UsageError(
                f"Argument `shape` must be (1, H, W) for the encoding {encoding}, but is {tuple(shape)}: encode angles."
            )
        encoder: Circuit
        if encoding == "angle":
            n_qubits = max(shape[0], n_classes)
            encoder = encodings.angle(n_qubits, scale=scale, offset=offset)
        elif encoding == "amplitude":
            n_qubits = max(8, n_classes)
            encoder = encodings.amplitude(n_qubits, SIDE**2)
        else:
            n_qubits = max(8, n_classes)
            encoder = encodings.angle(n_qubits, ("RZ", "RX"), scale=scale, offset=offset, hadamard=True)
        self.encoding = encoding
        self.circuit = QuantumLayer(
            encoder + ansatzes.strongly_entangling(n_qubits, layers), wires=range(n_classes), generator=generator
        )
        self.sharpness = nn.Parameter(torch.tensor(sharpness))

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the circuit takes (B, n_inputs) of samples."""
        if self.encoding == "angle":
            return pad(x, (0, self.circuit.n_inputs - x.shape[1]))
        if self.encoding == "pooled":
            pooled = nn.functional.adaptive_avg_pool2d(x, POOLED).flatten(1)
            return pad(pooled, (0, self.circuit.n_inputs - POOLED**2))
        return interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False).flatten(1)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return <Z> of the first C qubits (B, C)."""
        out: Tensor = self.circuit(self.inputs(x))
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, C)."""
        return self.sharpness * features


@MODELS.register("hcqnn")
def hcqnn(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> HCQNN:
    """Return a circuit whose <Z> are the logits: angles of features and 3 layers, or amplitudes of pictures and 4."""
    if len(input_shape) == 1:
        return HCQNN(input_shape, n_classes, generator=generator)
    if len(input_shape) != 3 or input_shape[0] != 1:
        raise UsageError(
            f"Argument `input_shape` must be (d,) or (1, H, W), but is {tuple(input_shape)}: average channels."
        )
    return HCQNN(input_shape, n_classes, encoding="amplitude", layers=4, generator=generator)
