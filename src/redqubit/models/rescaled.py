"""A model of features in any range, for inputs in [0, 1]."""

import math

from torch import Tensor, nn

from redqubit.errors import UsageError


class Rescaled(nn.Module):
    """f(low + (high - low) x): what a model of features in [low, high] makes of inputs in [0, 1].

    Attacks keep to [0, 1]. A range that reaches eps beyond the data on both sides lets them leave the range of the
    data; an eps in units of the features is eps / (high - low) here.

    Args:
        model: Takes features in [low, high].
        low: Feature at an input of 0.
        high: Feature at an input of 1.

    Raises:
        UsageError: when `low` is not below `high`.

    Example:
        >>> import torch
        >>> net = Rescaled(nn.Identity(), -1.0, 2.0)
        >>> net(torch.tensor([0.0, 0.5, 1.0])), net.unit(torch.tensor([-1.0, 0.5]))
        (tensor([-1.0000,  0.5000,  2.0000]), tensor([0.0000, 0.5000]))
    """

    def __init__(self, model: nn.Module, low: float, high: float) -> None:
        super().__init__()
        if not -math.inf < low < high < math.inf:
            raise UsageError(f"Argument `low` must be below `high`, both finite, but they are {low} and {high}.")
        self.model, self.low, self.high = model, low, high

    def extra_repr(self) -> str:
        return f"low={self.low:g}, high={self.high:g}"

    def unit(self, features: Tensor) -> Tensor:
        """Return the inputs of features: in [0, 1] when these lie in [low, high]."""
        return (features - self.low) / (self.high - self.low)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the model makes of the features."""
        out: Tensor = self.model(self.low + (self.high - self.low) * x)
        return out
