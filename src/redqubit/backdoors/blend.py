"""Blend: a faint picture or noise over the whole image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from redqubit.backdoors.base import TRIGGERS, Trigger
from redqubit.data.formats import MAX_PICTURE_BYTES, open_picture
from redqubit.errors import UsageError
from redqubit.reading import read_bytes


@TRIGGERS.register("blend")
@dataclass(frozen=True)
class Blend(Trigger):
    """Mix every picture with one and the same pattern.

    x' = (1 - alpha) x + alpha k, where the pattern k is U(0, 1) noise, fixed by `seed` and the shape of the pictures,
    or a picture from a file.

    Example:
        >>> grey = torch.full((2, 3, 4, 4), 0.5)
        >>> bool(((Blend(alpha=0.2)(grey) - grey).abs() <= 0.1).all())
        True

    Reference: Chen et al., "Targeted backdoor attacks on deep learning systems using data poisoning", 2017, section 4
        (blended injection).
    """

    alpha: float = 0.2  # share of the pattern, in (0, 1]
    seed: int = 0  # of the noise
    picture: str = ""  # PNG or JPEG file of the pattern, stretched to the size of the pictures; empty for noise

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha <= 1:
            raise UsageError(f"Argument `alpha` must lie in (0, 1], but is {self.alpha}: 0.05 to 0.2 are usual.")

    def apply(self, x: Tensor) -> Tensor:
        """Return the mixed pictures."""
        return torch.lerp(x, self.pattern(*x.shape[1:]).to(x), self.alpha)

    def pattern(self, channels: int, height: int, width: int) -> Tensor:
        """Return the pattern k for pictures of this shape, float64 in [0, 1], (C, H, W).

        Raises:
            UsageError: when the file cannot be read, or the pictures have neither 1 nor 3 channels for it.
        """
        if not self.picture:
            noise = torch.Generator().manual_seed(self.seed)
            return torch.rand(channels, height, width, dtype=torch.float64, generator=noise)
        if channels not in (1, 3):
            raise UsageError(
                f"Argument `picture` must go with pictures of 1 or 3 channels, but they have {channels}: use noise."
            )
        try:
            data = read_bytes(Path(self.picture).expanduser(), max_bytes=MAX_PICTURE_BYTES)
            image = open_picture(data, n_channels=channels, where=self.picture).resize((width, height))
        except UsageError as error:
            raise UsageError(
                f"Argument `picture` must name a PNG or JPEG file, but `{self.picture}` cannot be read: {error}"
            ) from None
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float64) / 255)
        return pixels.reshape(height, width, channels).permute(2, 0, 1)
