"""Momentum iterative method."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.evasion.base import ATTACKS, GradientAttack, bounds, sign


@ATTACKS.register("mim")
@dataclass(frozen=True)
class MIM(GradientAttack):
    """Iterated FGSM along a running sum of normalised gradients.

    g_{t+1} = decay * g_t + grad / mean|grad| per sample, x_{t+1} = proj(x_t + a * sign(g_{t+1})), from x_0 = x with
    g_0 = 0 and a = rel_step * eps / steps, which is eps / 5 by default.

    Example:
        >>> MIM(0.3).step
        0.06

    Reference: Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018, section 3.1. Differs: the mean of
        |grad| replaces its L1 norm, a constant factor that leaves the iterates as they are.
    """

    steps: int = 10  # gradient steps
    rel_step: float = 2.0  # step size times steps, in units of eps
    decay: float = 1.0  # factor on the running sum of gradients

    @property
    def step(self) -> float:
        """The step size in data space."""
        return self.rel_step * self.eps / self.steps

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_adv of one batch."""
        low, high = bounds(x, self.eps)
        features = tuple(range(1, x.ndim))
        momentum = torch.zeros_like(x)
        x_adv = x
        for _ in range(self.steps):
            gradient = self.gradient(model, x_adv, y)
            scale = gradient.abs().mean(features, keepdim=True).clamp_(min=1e-12)  # a zero gradient stays zero
            momentum = self.decay * momentum + gradient / scale
            x_adv = x_adv.add(sign(momentum), alpha=self.step).clamp_(low, high)
        return x_adv
