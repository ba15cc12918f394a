"""Scoring by fresh draws: a random model is right with some probability, not right or wrong."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.evasion import EvasionAttack, GradientAttack, Square
from redqubit.evasion.base import evaluation_mode, is_random
from redqubit.metrics import is_correct
from redqubit.statistics import MeanProportion
from redqubit.training import BATCH


@dataclass(frozen=True, eq=False)
class Scored:
    """How often a model gets each sample right.

    Attributes:
        correct: Which samples each draw of the model gets right, bool, (K, N); one draw when nothing in it is random.
    """

    correct: Tensor

    @property
    def success(self) -> Tensor:
        """The probability that the model errs on each sample, as estimated from the draws, (N,)."""
        return 1 - self.correct.double().mean(0)

    @property
    def accuracy(self) -> MeanProportion:
        """The mean over samples and draws, with the interval over samples."""
        return MeanProportion.of(self.correct)


def score(model: nn.Module, x: Tensor, y: Tensor, *, draws: int = 20, batch_size: int = BATCH) -> Scored:
    """Show samples to a model, as often as its randomness asks for.

    Args:
        model: Maps (B, ...) to logits (B, n_classes); its weights and modes are left as they were.
        x: Samples, (N, ...).
        y: True labels, (N,).
        draws: Passes over the samples when the model is random, each with new noise; one is enough when it is not.
        batch_size: Samples per pass.

    Raises:
        UsageError: when there is no draw, or labels do not pair with samples.

    Example:
        >>> score(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 1])).correct
        tensor([[ True,  True, False]])
    """
    if draws < 1:
        raise UsageError(f"Argument `draws` must be 1 or more, but is {draws}.")
    return in_passes(model, x, y, passes_of(model, x[:batch_size], draws), batch_size)


def passes_of(model: nn.Module, x: Tensor, draws: int) -> int:
    """Return how many passes a model needs: `draws` where it is random, else 1."""
    return draws if is_random(model, x) else 1


@torch.no_grad()
def in_passes(model: nn.Module, x: Tensor, y: Tensor, passes: int, batch_size: int) -> Scored:
    """Return what a model gets right in each of so many passes over all samples."""
    with evaluation_mode(model):
        rows = [is_correct(torch.cat([model(b) for b in x.split(batch_size)]), y) for _ in range(passes)]
    return Scored(torch.stack(rows))


def averaging(attack: EvasionAttack, draws: int) -> EvasionAttack:
    """Return the attack with its gradient, or what it sees of the logits, averaged over this many passes (EOT)."""
    return replace(attack, draws=draws) if isinstance(attack, GradientAttack | Square) else attack


def examples(
    attack: EvasionAttack, model: nn.Module, x: Tensor, y: Tensor, *, draws: int, seed: int, batch_size: int = BATCH
) -> Tensor:
    """Return what an attack makes against a model, with this many passes where the model is random.

    Args:
        attack: An untargeted attack.
        model: Maps (B, ...) to logits (B, n_classes).
        x: Clean inputs in [0, 1], (N, ...).
        y: True labels, (N,).
        draws: Passes of a random model to average over.
        seed: Of the attack, the same for all models that are compared.
        batch_size: Samples per pass.
    """
    if attack.targeted:
        raise UsageError("Argument `attack` must be untargeted, but is targeted: defenses are judged by true labels.")
    passes = passes_of(model, x[:batch_size], draws)
    generator = torch.Generator().manual_seed(seed)
    return averaging(attack, passes)(model, x, y, generator=generator, batch_size=batch_size)
