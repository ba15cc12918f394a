"""Models of PennyLane and Qiskit, made fast."""

from typing import Any

from torch import nn

from redqubit.errors import UsageError
from redqubit.models.base import swapped
from redqubit.models.layer import QuantumLayer


def converted(model: nn.Module, **options: Any) -> nn.Module:
    """Return a copy of a model in which PennyLane's TorchLayers and Qiskit's TorchConnectors are `QuantumLayer`s.

    Outputs, weights and gradients are the same; parameters of the new layers are one vector each.

    Args:
        model: Holds such layers, or is one; it is left as it was.
        **options: Options of `QuantumLayer`, such as noise, shots, gradient and generator.

    Raises:
        UsageError: when the model holds none, or a circuit has what a `Circuit` cannot; it is named.
    """
    out = swapped(model, lambda part: _layer(part, options))
    if out is None:
        raise UsageError(
            f"Argument `model` must hold a TorchLayer of PennyLane or a TorchConnector of Qiskit, but "
            f"{type(model).__name__} holds none."
        )
    return out


def _layer(module: nn.Module, options: dict[str, Any]) -> QuantumLayer | None:
    """Return the layer of a module of another library, and None for modules of any other kind."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(module).__mro__}
    if ("pennylane", "TorchLayer") in kinds:
        return QuantumLayer.from_pennylane(module, **options).train(module.training)
    if ("qiskit_machine_learning", "TorchConnector") in kinds:
        return QuantumLayer.from_qiskit(module, **options).train(module.training)
    return None
