"""Projected gradient descent."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.evasion.base import ATTACKS, GradientAttack, bounds, keep_worst, sign, uniform


@ATTACKS.register("pgd")
@dataclass(frozen=True)
class PGD(GradientAttack):
    """Many small FGSM steps, each projected back into the eps-ball and [0, 1].

    x_{t+1} = proj(x_t + a * sign(grad_x L(f(x_t), y))) from x_0 = x + U(-eps, eps), or x_0 = x. The step is relative
    to eps by default, a = rel_step * eps / steps: an absolute one that is too small for eps can leave PGD weaker than
    FGSM. One restart returns the final iterate; of several, each sample keeps the one that fools, else the one with
    the highest loss.

    Example:
        >>> PGD.paper(0.3).step, PGD.strong(0.1).step
        (0.01, 0.0025)

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, section 2.1.
    """

    steps: int = 40  # gradient steps
    rel_step: float = 2.5  # step size times steps, in units of eps
    step_size: float | None = None  # absolute step in data space, at most eps; replaces `rel_step` when given
    random_start: bool = True  # start anywhere in the ball rather than at x
    restarts: int = 1  # independent runs; several need a random start or a randomised model

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size >= 0):
            raise UsageError(f"Argument `step_size` must be finite and not negative, but is {self.step_size!r}.")

    @classmethod
    def paper(cls, eps: float) -> Self:
        """Return the setting that papers with CleverHans use: 40 steps of min(0.01, eps) from x itself."""
        return cls(eps, steps=40, step_size=0.01, random_start=False)

    @classmethod
    def strong(cls, eps: float) -> Self:
        """Return the setting for claims of robustness: 100 relative steps, worst of 5 random starts."""
        return cls(eps, steps=100, restarts=5)

    @property
    def step(self) -> float:
        """The step size in data space."""
        return self.rel_step * self.eps / self.steps if self.step_size is None else min(self.step_size, self.eps)

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_adv of one batch."""

        def run(x: Tensor, y: Tensor) -> Tensor:
            low, high = bounds(x, self.eps)
            x_adv = x.add(uniform(x, generator), alpha=self.eps).clamp_(0, 1) if self.random_start else x
            for _ in range(self.steps):
                x_adv = x_adv.add(sign(self.gradient(model, x_adv, y)), alpha=self.step).clamp_(low, high)
            return x_adv

        if self.restarts == 1:
            return run(x, y)
        return keep_worst(run, self.restarts, model, x, y, targeted=self.targeted, draws=self.draws)
