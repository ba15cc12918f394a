"""BadNets: a small square in a fixed place."""

import math
from dataclasses import dataclass
from typing import Literal, Self, get_args

from torch import Tensor

from redqubit.backdoors.base import TRIGGERS, Trigger
from redqubit.errors import UsageError
from redqubit.registry import unknown

Place = Literal["bottom_right", "bottom_left", "top_right", "top_left", "center"]


@TRIGGERS.register("patch")
@dataclass(frozen=True)
class Patch(Trigger):
    """A square of one colour in a corner or the centre.

    x'_p = color for each pixel p of the square, x'_p = x_p elsewhere. A first convolution with stride and no padding
    may never see the last rows and columns: such a net needs a margin.

    Example:
        >>> import torch
        >>> Patch(side=1, place="top_left", margin=1)(torch.zeros(1, 1, 3, 3))[0, 0]
        tensor([[0., 0., 0.],
                [0., 1., 0.],
                [0., 0., 0.]])
        >>> Patch.of_area(9).side
        3

    Reference: Gu et al., "BadNets: identifying vulnerabilities in the machine learning model supply chain", 2017,
        section 4.1.
    """

    side: int = 3  # pixels
    place: Place = "bottom_right"
    margin: int = 0  # pixels between the square and the two edges of its corner; none to the centre
    color: tuple[float, ...] = (1.0,)  # in [0, 1], one value for all channels or one for each

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("side", 1), ("margin", 0)):
            if not isinstance(value := getattr(self, name), int) or value < least:
                raise UsageError(f"Argument `{name}` must be an integer of at least {least}, but is {value!r}.")
        if self.place not in get_args(Place):
            raise unknown("place", self.place, get_args(Place))
        if not self.color or not all(0 <= value <= 1 for value in self.color):
            raise UsageError(f"Argument `color` must hold numbers in [0, 1], but is {self.color}: divide by 255.")

    @classmethod
    def of_area(cls, area: int, *, place: Place = "bottom_right", margin: int = 0) -> Self:
        """Return the white square of this many pixels.

        Raises:
            UsageError: when the area is no square number.
        """
        side = math.isqrt(max(area, 0))
        if area < 1 or side**2 != area:
            raise UsageError(
                f"Argument `area` must be a square number such as 1, 4, 9 or 16, but is {area}: or give a `side`."
            )
        return cls(side, place, margin)

    def apply(self, x: Tensor) -> Tensor:
        """Return the pictures with the square."""
        channels, height, width = x.shape[1:]
        margin = 0 if self.place == "center" else self.margin
        if self.side + margin > min(height, width):
            raise UsageError(
                f"Argument `side` must fit into the pictures, but a square of side {self.side} with margin {margin} "
                f"is larger than {height}x{width}: make it smaller."
            )
        if len(self.color) not in (1, channels):
            raise UsageError(
                f"Argument `color` must have 1 value or one for each of {channels} channels, but has "
                f"{len(self.color)}: give as many."
            )
        if self.place == "center":
            top, left = (height - self.side) // 2, (width - self.side) // 2
        else:
            top = margin if self.place.startswith("top") else height - margin - self.side
            left = margin if self.place.endswith("left") else width - margin - self.side
        out = x.clone()
        out[:, :, top : top + self.side, left : left + self.side] = x.new_tensor(self.color)[:, None, None]
        return out
