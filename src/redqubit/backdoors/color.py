"""Color backdoor: one shift in a colour space for all pixels, found by a particle swarm."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from redqubit.backdoors.base import TRIGGERS, ColorTrigger
from redqubit.errors import UsageError
from redqubit.search import Found, OnGeneration, ParticleSwarm, Vector, Workers


@TRIGGERS.register("color")
@dataclass(frozen=True)
class Color(ColorTrigger):
    """Add one shift to hue, saturation and value of every pixel.

    (h, s, v)' = ((h + d1) mod 1, clip(s + d2), clip(v + d3)); the hue is a share of the whole circle.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
        >>> Color(hue=1 / 3, saturation=0.0, value=-0.5)(red).flatten().round(decimals=4)
        tensor([0.0000, 0.5000, 0.0000])

    Reference: Jiang et al., "Color backdoor: a robust poisoning attack in color space", CVPR 2023, section 4. Differs:
        the colour space is HSV, and the hue goes round where the paper clips.
    """

    hue: float = 0.05  # d1, share of the circle
    saturation: float = 0.1  # d2
    value: float = 0.1  # d3

    def recolor(self, x: Tensor) -> Tensor:
        """Return RGB pictures in their new colours."""
        h, s, v = _hsv(x)
        return _rgb((h + self.hue) % 1, (s + self.saturation).clamp(0, 1), (v + self.value).clamp(0, 1))


@dataclass(frozen=True)
class ColorCandidate:
    """A shift that the search looked at."""

    trigger: Color
    loss: float  # as `effectiveness` returned it
    ssim: float  # mean similarity of clean and triggered pictures
    objective: float  # what the swarm makes small


@dataclass(frozen=True)
class ColorSearch:
    """Find the shift of the Color backdoor by a particle swarm.

    It makes loss + penalty max(0, min_ssim - SSIM) small over |d1| <= max_hue, |d2|, |d3| <= max_shift.

    Reference: Jiang et al., "Color backdoor: a robust poisoning attack in color space", CVPR 2023, section 4. Differs:
        the similarity is SSIM alone; swarm, bounds, threshold and penalty are ours, as the paper's were not at hand.
    """

    swarm: ParticleSwarm = field(default_factory=ParticleSwarm)
    max_hue: float = 0.05  # share of the circle
    max_shift: float = 0.2
    min_ssim: float = 0.9  # similarity below which a candidate is penalised
    penalty: float = 100.0  # per unit of missing SSIM

    def __post_init__(self) -> None:
        for name in ("max_hue", "max_shift", "penalty"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise UsageError(f"Argument `{name}` must be finite and positive, but is {value!r}.")

    def __call__(
        self,
        effectiveness: Callable[[Color], float],
        dissimilarity: Callable[[Color], float],
        *,
        generator: torch.Generator,
        workers: Workers = 1,
        on_generation: OnGeneration | None = None,
    ) -> Found[ColorCandidate]:
        """Return the best shift and all that the swarm visited.

        Args:
            effectiveness: Loss of the backdoor with a trigger, such as a surrogate's cross-entropy to the target
                class on triggered pictures; less is better. Several threads call it at once, so that it must be a
                function of the trigger alone.
            dissimilarity: 1 - SSIM of clean and triggered pictures.
            generator: CPU source of the swarm's random numbers.
            workers: Evaluations at a time, or a Ray cluster; neither changes a digit.
            on_generation: Called with the number of finished generations and of all.

        Raises:
            UsageError: when a loss is not finite.
        """

        def evaluate(shift: Vector) -> ColorCandidate:
            trigger = Color(*shift)
            loss, ssim = float(effectiveness(trigger)), 1 - float(dissimilarity(trigger))
            return ColorCandidate(trigger, loss, ssim, loss + self.penalty * max(0.0, self.min_ssim - ssim))

        high = (self.max_hue, self.max_shift, self.max_shift)
        return self.swarm(
            evaluate,
            lambda candidate: (candidate.objective,),
            [-bound for bound in high],
            high,
            generator=generator,
            workers=workers,
            on_generation=on_generation,
        )


def _hsv(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue, saturation and value in [0, 1] of RGB pictures, (B, H, W) each."""
    red, green, blue = x.unbind(1)
    top = x.amax(1)
    chroma = top - x.amin(1)
    safe = chroma.masked_fill(chroma == 0, 1.0)  # grey has no hue: 0 is as good as any
    sixth = torch.where(
        top == red,
        (green - blue) / safe % 6,
        torch.where(top == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return sixth / 6, chroma / top.masked_fill(top == 0, 1.0), top


def _rgb(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Return RGB pictures (B, 3, H, W) of hue, saturation and value."""
    channels = []
    for shift in (5, 3, 1):  # of red, green and blue: how far each ramp is along the circle, in sixths
        k = (shift + 6 * h) % 6
        channels.append(v - v * s * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)
