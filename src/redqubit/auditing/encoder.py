"""What a model's circuit makes of the features alone, before anything that trains."""

from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.models import QuantumLayer
from redqubit.quantum import Circuit, Gate, Input, Weight
from redqubit.quantum.interop import with_products


@dataclass(frozen=True)
class Encoder:
    """How features become a state.

    Attributes:
        circuit: Has inputs and no weights.
        products: Features that are multiplied to make its last inputs.
    """

    circuit: Circuit
    products: tuple[tuple[int, ...], ...] = ()

    def inputs(self, x: Tensor) -> Tensor:
        """Return what the circuit reads (B, n_inputs) of samples (B, ...); features that are lacking count as 0."""
        rows = x.flatten(1)
        lacking = self.circuit.n_inputs - len(self.products) - rows.shape[1]
        return with_products(F.pad(rows, (0, max(0, lacking))), self.products)


def find_encoder(model: nn.Module, x: Tensor) -> Encoder | str:
    """Return the encoder of a model, or why it has none, as the end of a sentence about the model.

    A model has one when its first circuit is given the features as they are, and reads all of them before its first
    weight. Noise is left out.

    Args:
        model: In evaluation mode, on the device of `x`.
        x: Some samples (B, ...), at least two that differ.

    Example:
        >>> from redqubit.models import MODELS
        >>> x, g = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), torch.Generator()
        >>> print(find_encoder(MODELS["qnn"]((4,), 2, generator=g), x).circuit)
        0: ─H─RZ(π·x0)─RX(π·x1)─
        1: ─H─RZ(π·x2)─RX(π·x3)─
        >>> find_encoder(MODELS["hybrid"]((4,), 2, generator=g), x)
        'its circuit is not given the features as they are'
    """
    seen: list[tuple[QuantumLayer, Tensor]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, QuantumLayer)
        seen.append((layer, given[0]))

    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, QuantumLayer):
                hooks.callback(module.register_forward_pre_hook(note).remove)
        model(x)
    if not seen:
        return "it has no circuit that can be read"
    layer, rows = seen[0]
    encoder = Encoder(first_part(layer.circuit), layer.products)
    features = F.pad(x.flatten(1), (0, max(0, rows.shape[-1] - x[0].numel())))
    # rows with a gradient come from something that trains, even when it changes nothing yet
    if rows.requires_grad or not torch.equal(rows.detach().to(features), features):
        return "its circuit is not given the features as they are"
    if _read(encoder.circuit) != _read(layer.circuit):
        return "its circuit reads features after weights only"
    return encoder


def first_part(circuit: Circuit) -> Circuit:
    """Return the gates of a circuit that no weight comes before on their wires, without noise.

    Example:
        >>> from redqubit.quantum.ansatzes import sim
        >>> from redqubit.quantum.encodings import angle
        >>> first_part(angle(3) + sim(6, 3)) == angle(3)
        True
    """
    kept, reached = [], set[int]()
    for gate in (g for g in circuit.gates if isinstance(g, Gate)):
        if reached.isdisjoint(gate.wires) and not any(isinstance(angle, Weight) for angle in gate.angles):
            kept.append(gate)
        else:
            reached.update(gate.wires)
    return replace(circuit, gates=tuple(kept), readout=())


def _read(circuit: Circuit) -> set[int]:
    """Return which inputs a circuit reads."""
    initial = circuit.initial.n_features if circuit.initial else 0
    return {angle.index for angle in circuit.angles if isinstance(angle, Input)} | set(range(initial))
