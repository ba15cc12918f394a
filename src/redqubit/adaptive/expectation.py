"""Expectation over transformation (EOT): how many draws of a random model an attack has to average."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from redqubit.adaptive.draws import examples, score
from redqubit.errors import UsageError
from redqubit.evasion import EvasionAttack, GradientAttack, input_gradient
from redqubit.evasion.base import evaluation_mode, is_random
from redqubit.statistics import Difference, MeanProportion, paired_shares
from redqubit.training import BATCH

AGREED = 0.8  # least cosine of two gradients of K draws each, which is the share of their power that is signal


@dataclass(frozen=True)
class Expectation:
    """What averaging over draws does for an attack.

    Attributes:
        draws: The number K to use; 1 when the model is not random.
        converged: Whether twice as many change nothing; if not, `limit` came first.
        agreement: Median cosine of two gradients of K draws each; NaN for an attack without gradients, or where there
            is none to follow.
        accuracy: What the attack leaves, for 1, 2, 4, ... draws.
        change: What doubling K changes, accuracy at 2 K minus that at K; None when the model is not random.
    """

    draws: int
    converged: bool
    agreement: float
    accuracy: tuple[tuple[int, MeanProportion], ...]
    change: Difference | None


def converged_draws(
    model: nn.Module,
    attack: EvasionAttack,
    x: Tensor,
    y: Tensor,
    *,
    limit: int = 64,
    draws: int = 20,
    generator: torch.Generator,
    batch_size: int = BATCH,
) -> Expectation:
    """Double the draws that an attack averages until that no longer makes it stronger.

    K counts as enough when 2 K leave an accuracy whose paired 95 % interval reaches that of K, and gradients of K draws
    point where K others do.

    Args:
        model: Maps (B, ...) to logits (B, n_classes).
        attack: An untargeted attack.
        x: Clean inputs in [0, 1], (N, ...); a few hundred will do.
        y: True labels, (N,).
        limit: Most draws to try; a power of 2.
        draws: Passes that score each attack, fresh ones.
        generator: CPU source of the attack's random numbers, the same for each K.
        batch_size: Samples per pass.

    Raises:
        UsageError: for a limit below 2, or as the attack raises.

    Example:
        >>> from redqubit.evasion import FGSM
        >>> y = torch.zeros(8, dtype=torch.int64)
        >>> converged_draws(nn.Linear(4, 2), FGSM(0.1), torch.rand(8, 4), y, generator=torch.Generator()).draws
        1

    Reference: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018,
        section 4.2, which averages and leaves the number open.
    """
    if limit < 2:
        raise UsageError(f"Argument `limit` must be 2 draws or more, but is {limit}.")
    seed = int(torch.randint(2**62, (1,), generator=generator))

    def left(k: int) -> Tensor:
        x_adv = examples(attack, model, x, y, draws=k, seed=seed, batch_size=batch_size)
        return score(model, x_adv, y, draws=draws, batch_size=batch_size).correct

    k, now = 1, left(1)
    curve = [(1, MeanProportion.of(now))]
    if not is_random(model, x[:batch_size]):
        return Expectation(1, True, agreement(model, attack, x, y, 1, batch_size), tuple(curve), None)
    while True:
        then = left(2 * k)
        curve.append((2 * k, MeanProportion.of(then)))
        change = paired_shares(then, now, generator=generator)
        found = agreement(model, attack, x, y, k, batch_size)
        if change.high >= 0 and not found < AGREED:  # NaN: there is no gradient to average
            return Expectation(k, True, found, tuple(curve), change)
        k, now = 2 * k, then
        if 2 * k > limit:
            found = agreement(model, attack, x, y, k, batch_size)
            return Expectation(k, False, found, tuple(curve), change)


def agreement(model: nn.Module, attack: EvasionAttack, x: Tensor, y: Tensor, draws: int, batch_size: int) -> float:
    """Return the median over samples of the cosine of two input gradients, each a mean of so many passes."""
    if not isinstance(attack, GradientAttack):
        return float("nan")
    cosines: list[Tensor] = []
    with evaluation_mode(model):
        for batch, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            a, b = (
                input_gradient(model, batch, labels, attack_on=attack.attack_on, draws=draws).flatten(1)
                for _ in range(2)
            )
            cosines.append(cosine_similarity(a, b, dim=1)[a.any(1) & b.any(1)])
    return float(torch.cat(cosines).double().quantile(0.5)) if sum(map(len, cosines)) else float("nan")
