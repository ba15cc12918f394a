"""Features of any range as angles, and as the inputs in [0, 1] that data sets hold."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.errors import UsageError


@dataclass(frozen=True, eq=False)
class AngleScaling:
    """Scale features such as the latents of an autoencoder to angles, about 0.

    t = scale pi z / max |z|, with the maximum of each feature over the training set, and

    u = (z / max |z| + 1) / 2 in [0, 1], as a `Dataset` holds it: t = `slope` u + `offset`

    so that a circuit with `angle(n, ..., scale=scaling.slope, offset=scaling.offset)` reads u and turns by t. Features
    beyond the maximum, which a test set may have, are cut to it.

    Attributes:
        largest: max |z| of each feature, (d,), above 0.
        scale: Largest angle in units of pi; 1 uses the whole turn, 1 / pi one radian.

    Raises:
        UsageError: for a scale that is not above 0, or maxima that are not.

    Reference: Kundu and Ghosh, arXiv 2411.14412, section 2.1, "0 to 2 pi (or -pi to pi)". Differs: what is divided by
        is not stated there.

    Example:
        >>> scaling = AngleScaling.fit(torch.tensor([[-2.0], [1.0]]))
        >>> scaling.unit(torch.tensor([[-2.0], [1.0], [3.0]])).tolist()
        [[0.0], [0.75], [1.0]]
        >>> scaling.angles(torch.tensor([[1.0]])) / torch.pi
        tensor([[0.5000]])
    """

    largest: Tensor
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise UsageError(f"Argument `scale` must be above 0, but is {self.scale}: 1 gives angles up to pi.")
        if not (self.largest.ndim == 1 and bool(((self.largest > 0) & self.largest.isfinite()).all())):
            raise UsageError("Argument `largest` must hold a number above 0 a feature, but does not: use `fit`.")

    @classmethod
    def fit(cls, z: Tensor, *, scale: float = 1.0) -> "AngleScaling":
        """Return the scaling of a training set.

        Args:
            z: Features (N, d) of any range; one that is 0 throughout stays 0.
            scale: Largest angle in units of pi.

        Raises:
            UsageError: for another shape, no sample, or NaN and infinity.
        """
        _check(z)
        if not len(z):
            raise UsageError("Argument `z` must hold a sample, but is empty: pass the training features.")
        largest = z.abs().amax(0)
        return cls(torch.where(largest > 0, largest, 1.0), scale)

    @property
    def slope(self) -> float:
        """Radians per unit of u, 2 pi scale."""
        return 2 * math.pi * self.scale

    @property
    def offset(self) -> float:
        """Radians at u = 0, -pi scale."""
        return -math.pi * self.scale

    def unit(self, z: Tensor) -> Tensor:
        """Return features (N, d) in [0, 1]; 0 becomes 1/2."""
        _check(z)
        if z.shape[1] != len(self.largest):
            raise UsageError(
                f"Argument `z` must have the {len(self.largest)} features of the training set, but has {z.shape[1]}."
            )
        return ((z / self.largest.to(z) + 1) / 2).clamp(0, 1)

    def angles(self, z: Tensor) -> Tensor:
        """Return angles (N, d) in radians, in [-pi scale, pi scale]."""
        return self.slope * self.unit(z) + self.offset


def _check(z: Tensor) -> None:
    if z.ndim != 2 or not z.is_floating_point():
        raise UsageError(
            f"Argument `z` must hold floating-point features (N, d), but is {z.dtype} of shape {tuple(z.shape)}."
        )
    if not bool(z.isfinite().all()):
        raise UsageError("Argument `z` must be finite, but holds NaN or infinity: drop or fill those samples.")
