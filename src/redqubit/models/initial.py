"""Layers with initial weights drawn from a given generator, so that torch's global one is left alone."""

from typing import TypeVar

import torch
from torch import nn

L = TypeVar("L", nn.Linear, nn.Conv2d)


def linear(n_in: int, n_out: int, *, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with Glorot-uniform weights and zero bias, as Keras makes it."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
    return glorot(layer, generator)


def glorot(layer: L, generator: torch.Generator) -> L:
    """Fill a layer's weights (Glorot uniform) and bias (zero) in place, and return it."""
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
