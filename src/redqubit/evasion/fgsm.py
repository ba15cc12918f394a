"""Fast gradient sign method."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.evasion.base import ATTACKS, GradientAttack, sign


@ATTACKS.register("fgsm")
@dataclass(frozen=True)
class FGSM(GradientAttack):
    """One step of size eps along the sign of the input gradient.

    x_adv = clip(x + eps * sign(grad_x L(f(x), y)), 0, 1), with sign(0) = 0.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        >>> FGSM(0.25)(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), generator=torch.Generator())
        tensor([[0.2500, 0.7500]])

    Reference: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015,
        section 4. Differs: the result is clipped to [0, 1].
    """

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_adv of one batch."""
        return x.add(sign(self.gradient(model, x, y)), alpha=self.eps).clamp_(0, 1)
