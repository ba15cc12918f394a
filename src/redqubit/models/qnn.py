"""The quantum neural network of QUID: an encoder, a Sim circuit, <Z> of every qubit, a linear head."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from redqubit.errors import UsageError
from redqubit.models.base import MODELS, FeatureClassifier
from redqubit.models.initial import linear
from redqubit.models.layer import Gradient, QuantumLayer
from redqubit.quantum import ansatzes, encodings
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.gradients import SPSA
from redqubit.quantum.noise import NoiseModel
from redqubit.registry import unknown

Encoding = Literal["angle", "amplitude"]
Preparation = Literal["h", "none"]
MAX_ANGLES = 16  # features that the registered model turns into angles: 8 qubits


class QNN(FeatureClassifier):
    """features -> encoder -> Sim circuit -> <Z> of all n qubits -> Linear(n, C).

    Angle encoding gives qubit q the features k q ... k q + k - 1 by RZ, RX, RZ, ... in turn, after H: without H the
    first RZ turns |0> by a phase, and RX alone after H does nothing either. Features that are lacking count as 0.

    With circuit 1, two features a qubit and no noise <Z_q> = sin(t_2q) sin(t_2q+1 + w_q), t the angles: four live
    weights on four qubits, and nothing quantum.

    Args:
        n_features: Length d of a sample.
        n_classes: Number of classes C.
        encoding: "angle", or "amplitude": normalised features are the initial state.
        features_per_qubit: Features k that turn one qubit; angle encoding only.
        prep: "h" or "none": what comes before angle encoding.
        scale: Radians per unit of a feature; angle encoding only.
        offset: Radians at a feature of 0; angle encoding only. The paper has angles of 0 to 2 pi or -pi to pi: features
            in [-1, 1] with scale pi, or in [0, 1] with scale 2 pi and offset -pi. By default [0, 1] is half a turn,
            whose ends differ.
        pqc: Number of the Sim circuit, 1 to 19; the paper has 1, 6 and 8.
        layers: Repetitions of it.
        n_qubits: Number of qubits n; as few as hold the features, but two, when None.
        noise: What follows each gate.
        shots: Read-outs of each sample, in training too; the paper's 1000 only fit evaluation, as
            `noisy(model, shots=1000, generator=g)` does.
        gradient: "exact", or "spsa" as the paper trains with noise, or another of `QuantumLayer`.
        generator: Source of the initial weights, uniform in [0, 2 pi) and in the head Glorot uniform, and of shots and
            directions.

    Raises:
        UsageError: for an unknown encoding or preparation, or more features than the qubits take.

    Reference: Kundu and Ghosh, "Adversarial Data Poisoning Attacks on Quantum Machine Learning in the NISQ Era",
        arXiv 2411.14412, sections 2 and 5. Differs: H first, where the paper writes RZ on |0>.

    Example:
        >>> net = QNN(8, 4, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 8)).shape, net.circuit
        (torch.Size([5, 4]), QuantumLayer(4 qubits, 8 inputs, 8 weights))
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        encoding: Encoding = "angle",
        features_per_qubit: int = 2,
        prep: Preparation = "h",
        scale: float = math.pi,
        offset: float = 0.0,
        pqc: int = 1,
        layers: int = 1,
        n_qubits: int | None = None,
        noise: NoiseModel | None = None,
        shots: int | None = None,
        gradient: Gradient | SPSA = "exact",
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if encoding not in get_args(Encoding):
            raise unknown("encoding", encoding, get_args(Encoding))
        if prep not in get_args(Preparation):
            raise unknown("value of `prep`", prep, get_args(Preparation))
        if min(n_features, features_per_qubit) < 1:
            raise UsageError(
                "Arguments `n_features` and `features_per_qubit` must be 1 or more, but are "
                f"{n_features} and {features_per_qubit}."
            )
        if n_qubits is None:
            by_amplitude = encoding == "amplitude"
            n_qubits = max(2, (n_features - 1).bit_length() if by_amplitude else -(-n_features // features_per_qubit))
        encoder: Circuit
        if encoding == "amplitude":
            holds, encoder = 2**n_qubits, Circuit(n_qubits)
        else:
            rotations = (("RZ", "RX") * features_per_qubit)[:features_per_qubit]
            encoder = encodings.angle(n_qubits, rotations, scale=scale, offset=offset, hadamard=prep == "h")
            holds = encoder.n_inputs
        if n_features > holds:
            raise UsageError(
                f"Argument `n_features` must be {holds} or less for {n_qubits} qubits, but is {n_features}: use more "
                "qubits, or more features a qubit."
            )
        if encoding == "amplitude":
            encoder = encodings.amplitude(n_qubits, n_features)
        self.circuit = QuantumLayer(
            encoder + ansatzes.sim(pqc, n_qubits, layers),
            noise=noise,
            shots=shots,
            gradient=gradient,
            generator=generator,
        )
        self.head = linear(n_qubits, n_classes, generator=generator)

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the circuit takes (B, n_inputs) of samples (B, ...)."""
        return F.pad(x.flatten(1), (0, max(0, self.circuit.n_inputs - x[0].numel())))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return <Z> of all qubits (B, n)."""
        out: Tensor = self.circuit(self.inputs(x))
        return out

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.head(features)
        return out


@MODELS.register("qnn")
def qnn(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> QNN:
    """Return the network of QUID with Sim's circuit 6: two features a qubit, or amplitudes beyond 16 features."""
    d = math.prod(input_shape)
    return QNN(d, n_classes, encoding="angle" if d <= MAX_ANGLES else "amplitude", pqc=6, generator=generator)
