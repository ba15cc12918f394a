"""WaNet: an elastic warp too small to see."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from redqubit.backdoors.base import TRIGGERS, CoverTrigger
from redqubit.errors import UsageError

MOST = 256  # control points along a side, beyond the pixels of most pictures


@TRIGGERS.register("wanet")
@dataclass(frozen=True)
class WaNet(CoverTrigger):
    """Warp every picture by one smooth random field.

    Control points P ~ U(-1, 1)^{k x k x 2}, divided by mean|P|, are interpolated bicubically to the field F of the
    picture's size; x' samples x bilinearly at identity + s F / size, in coordinates from -1 to 1, kept inside. The mean
    shift is about 0.2 pixels along each axis whatever the size.

    With `cover_ratio` above 0 this is the paper's noise mode: that many more samples are warped by F plus U(-1, 1)
    noise on each pixel and keep their labels, so that the net learns this warp and no other.

    Example:
        >>> field = WaNet().displacement(32, 32)
        >>> field.shape, 0.1 < float(field.abs().mean()) < 0.3
        (torch.Size([32, 32, 2]), True)

    Reference: Nguyen and Tran, "WaNet: imperceptible warping-based backdoor attack", ICLR 2021, section 3 and its
        published code. Differs: the cover samples are drawn once and stay, as a poisoned set has them, instead of
        anew in each batch; pictures that are not square are warped by the same number of pixels along both axes.
    """

    grid: int = 4  # k, control points along each side
    strength: float = 0.5  # s
    seed: int = 0  # of the control points

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.grid <= MOST:
            raise UsageError(f"Argument `grid` must be 2 to {MOST}, but is {self.grid}: the paper has 4.")
        if self.strength <= 0:
            raise UsageError(f"Argument `strength` must be positive, but is {self.strength}: the paper has 0.5.")

    def apply(self, x: Tensor) -> Tensor:
        """Return the warped pictures."""
        return self._warp(x, self.displacement(*x.shape[2:]))

    def cover(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return pictures warped by the field plus noise of its own for each."""
        noise = torch.rand(len(x), *x.shape[2:], 2, dtype=torch.float64, generator=generator).mul_(2).sub_(1)
        return self._warp(x, self.displacement(*x.shape[2:]) + noise * _per_pixel(*x.shape[2:]))

    def displacement(self, height: int, width: int) -> Tensor:
        """Return by how many pixels each point is sampled to the right and below, float64, (H, W, 2)."""
        control = torch.rand(1, 2, self.grid, self.grid, dtype=torch.float64, generator=_seeded(self.seed))
        control = control.mul_(2).sub_(1)
        field = F.interpolate(control / control.abs().mean(), (height, width), mode="bicubic", align_corners=True)
        return self.strength * field[0].permute(1, 2, 0) * _per_pixel(height, width)

    def _warp(self, x: Tensor, displacement: Tensor) -> Tensor:
        """Sample pictures at displaced places; (H, W, 2) for all or (B, H, W, 2)."""
        height, width = x.shape[2:]
        rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in (height, width))
        identity = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)], 2)
        half = torch.tensor([max(width - 1, 1), max(height - 1, 1)], dtype=torch.float64) / 2  # pixels per unit
        where = (identity + displacement / half).clamp(-1, 1).to(x)
        return F.grid_sample(x, where.expand(len(x), height, width, 2), align_corners=True)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _per_pixel(height: int, width: int) -> Tensor:
    """Return in pixels the paper's unit: 1 / size in coordinates from -1 to 1, along x and y."""
    return torch.tensor([(width - 1) / (2 * width), (height - 1) / (2 * height)], dtype=torch.float64)
