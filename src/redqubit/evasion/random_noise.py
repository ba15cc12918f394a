"""Random noise: the control that any attack must beat."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.evasion.base import ATTACKS, EvasionAttack, keep_worst, uniform


@ATTACKS.register("random_noise")
@dataclass(frozen=True)
class RandomNoise(EvasionAttack):
    """Noise of size eps and random sign in every entry, the worst of several draws per sample.

    x_adv = clip(x + eps * s, 0, 1) with s uniform in {-1, 1}: the same distance as FGSM and no knowledge of the model
    beyond which draw fools it. An attack that does no better owes its success to the size of eps.

    Example:
        >>> x = torch.full((1, 4), 0.5)
        >>> x_adv = RandomNoise(0.25)(nn.Linear(4, 2), x, torch.tensor([0]), generator=torch.Generator())
        >>> (x_adv - x).abs()
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])

    Reference: Carlini et al., "On evaluating adversarial robustness", arXiv:1902.06705, 2019, which asks for
        random controls. Differs: signs rather than uniform values, so that the size equals that of FGSM.
    """

    draws: int = 10  # noise patterns per sample

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_adv of one batch."""

        def noisy(x: Tensor, y: Tensor) -> Tensor:
            return x.add(uniform(x, generator).sign_(), alpha=self.eps).clamp_(0, 1)

        return keep_worst(noisy, self.draws, model, x, y, targeted=self.targeted)
