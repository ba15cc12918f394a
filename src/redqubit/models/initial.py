"""Layers with initial weights drawn from a given generator, so that torch's global one is left alone."""

from typing import Any, TypeVar

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


def convolution(n_in: int, n_out: int, kernel_size: int, *, generator: torch.Generator, **options: Any) -> nn.Conv2d:
    """Return a convolution with He-normal weights, sd sqrt(2 / (n_out k^2)), and zero bias, as ResNets start.

    Args:
        n_in: Input channels.
        n_out: Output channels.
        kernel_size: Side k of the kernel, in pixels.
        generator: Source of the weights.
        **options: Options of `nn.Conv2d`, such as stride, padding and bias.

    Reference: He et al., "Delving deep into rectifiers", ICCV 2015, section 2.2.
    """
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, n_in, n_out, kernel_size, **options)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
