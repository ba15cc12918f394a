"""Adversarial training: learn from examples that fool the model."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.data import Dataset
from redqubit.defenses.base import DEFENSES, Defense
from redqubit.errors import UsageError
from redqubit.evasion import FGSM, PGD
from redqubit.evasion.base import bounds, evaluation_mode, sign
from redqubit.registry import unknown
from redqubit.training import train

Method = Literal["fgsm", "pgd", "trades"]
START = 1e-3  # TRADES starts this far from x, where its divergence has no gradient


@DEFENSES.register("adversarial_training")
@dataclass(frozen=True)
class AdversarialTraining(Defense):
    """Train the model on examples that are made to fool it, within an L-infinity ball of radius eps.

    On-line, each step lowers, with x' made against the model of that moment,

        fgsm, pgd:  L(f(x'), y)                              x' = argmax L(f(x'), y)
        trades:     L(f(x), y) + beta KL(f(x) || f(x'))      x' = argmax KL(f(x) || f(x'))

    Static, the examples are made once against the model as it comes, and it learns from them and as many clean samples:
    weak, because the model moves away from where they fool it.

    Raises:
        UsageError: for an unknown method, `static` with TRADES, a model that has no gradient, or a loss that stops
            being finite.

    Example:
        >>> AdversarialTraining("pgd", eps=0.3).rel_step * 0.3 / 7  # the step, eps / 4
        0.075

    Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018; Goodfellow,
        Shlens and Szegedy, ICLR 2015, section 6; Zhang et al., "Theoretically principled trade-off between robustness
        and accuracy", ICML 2019, section 4. Differs: Adam, and examples are made in evaluation mode.
    """

    method: Method = "pgd"
    eps: float = 0.1  # radius, in data space
    steps: int = 7  # of PGD and TRADES
    rel_step: float = 1.75  # step size times steps, in units of eps
    beta: float = 6.0  # weight of TRADES' divergence
    static: bool = False  # make the examples once, and keep the clean samples
    epochs: int = 10
    batch_size: int = 32
    lr: float = 1e-3  # of Adam

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in get_args(Method):
            raise unknown("value of `method`", self.method, get_args(Method))
        if self.static and self.method == "trades":
            raise UsageError("Argument `static` must be false for trades, whose examples follow the model: use pgd.")

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Train this model."""
        pgd = PGD(self.eps, steps=self.steps, rel_step=self.rel_step)
        attack = FGSM(self.eps) if self.method == "fgsm" else pgd
        x, y = clean.x, clean.y
        first = attack(model, x, y, generator=generator)  # also says what is wrong with the model, if anything is
        if self.static:
            x, y = torch.cat([x, first]), torch.cat([y, y])

        def on_examples(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            with evaluation_mode(model):
                x_adv = attack.perturb(model, x, y, generator).detach()
            return F.cross_entropy(model(x_adv), y)

        def trades(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            x_adv = self._divergent(model, x, generator)
            logits: Tensor = model(x)
            return F.cross_entropy(logits, y) + self.beta * divergence(logits, model(x_adv))

        return train(
            model,
            x,
            y,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            loss=None if self.static else trades if self.method == "trades" else on_examples,
            generator=generator,
        )

    def _divergent(self, model: nn.Module, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return inputs whose logits are far from those of `x`."""
        low, high = bounds(x, self.eps)
        with evaluation_mode(model):
            clean: Tensor = model(x).detach()
            x_adv = x + START * torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)
            for _ in range(self.steps):
                x_adv = x_adv.clamp(low, high).requires_grad_()
                (gradient,) = torch.autograd.grad(divergence(clean, model(x_adv)), x_adv)
                x_adv = x_adv.detach() + self.rel_step * self.eps / self.steps * sign(gradient)
        return x_adv.clamp(low, high)


def divergence(clean: Tensor, logits: Tensor) -> Tensor:
    """Return KL(softmax(clean) || softmax(logits)), the mean over a batch, in nats.

    Example:
        >>> divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
        tensor(0.)
    """
    return F.kl_div(logits.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
