"""A model as a noisy device would run it."""

from typing import Any

from torch import nn

from redqubit.errors import UsageError
from redqubit.models.base import swapped
from redqubit.models.layer import QuantumLayer
from redqubit.quantum.noise import NoiseModel


def noisy(model: nn.Module, noise: NoiseModel | None = None, **options: Any) -> nn.Module:
    """Return a copy of a model in which every `QuantumLayer` has this noise, and other options where they are given.

    The copy can be attacked, trained and audited like any model: `PGD(0.1)(noisy(model, quid_noise(0.05)), x, y,
    generator=g)` is an attack that knows the noise.

    Args:
        model: Holds one `QuantumLayer` or more, or is one; it is left as it was.
        noise: What to add to each circuit; nothing when None.
        **options: Options of `QuantumLayer` to change, such as shots=1000, gradient="spsa" and generator.

    Raises:
        UsageError: when the model has no `QuantumLayer`.

    Example:
        >>> import torch
        >>> from redqubit.models import QuNN
        >>> from redqubit.quantum.noise import quid_noise
        >>> net = QuNN((1, 4, 4), 2, generator=torch.Generator().manual_seed(0))
        >>> noisy(net, quid_noise(0.05)).quanvolution.layer
        QuantumLayer(4 qubits, 4 inputs, 12 weights, 40 channels)
    """
    changes = options if noise is None else {"noise": noise, **options}
    out = swapped(model, lambda part: part.replaced(**changes) if isinstance(part, QuantumLayer) else None)
    if out is None:
        raise UsageError(
            f"Argument `model` must hold a QuantumLayer for noise, but {type(model).__name__} holds none: make one of "
            "its circuit, for example by QuantumLayer.from_pennylane."
        )
    return out
