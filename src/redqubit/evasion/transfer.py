"""Transfer: examples made against one model, shown to others."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.evasion.base import EvasionAttack, evaluation_mode
from redqubit.metrics import is_correct
from redqubit.statistics import Proportion


@dataclass(frozen=True)
class Transfer:
    """What one model's adversarial examples do to another; source and target may be the same."""

    correct: Tensor  # which examples of the source the target still gets right, bool, (N,)
    both_correct: Tensor  # which clean samples source and target both get right, bool, (N,)

    @property
    def accuracy(self) -> Proportion:
        """The target's accuracy on all of the source's examples."""
        return Proportion(int(self.correct.sum()), len(self.correct))

    @property
    def accuracy_where_both_correct(self) -> Proportion:
        """The target's accuracy on the examples whose clean sample both models get right."""
        return Proportion(int((self.correct & self.both_correct).sum()), int(self.both_correct.sum()))


def transfer_matrix(
    models: Mapping[str, nn.Module],
    attack: EvasionAttack,
    x: Tensor,
    y: Tensor,
    *,
    generator: torch.Generator,
    batch_size: int = 256,
) -> dict[tuple[str, str], Transfer]:
    """Attack every model once and show its examples to all of them.

    Args:
        models: Classifiers by name, on the device of `x`.
        attack: An untargeted attack.
        x: Clean inputs in [0, 1], (N, ...).
        y: True labels, (N,).
        generator: Source of the attack's random numbers; each source starts from the same state, so that adding a
            model does not change the examples of the others.
        batch_size: Samples per pass of a model.

    Returns:
        One `Transfer` per (source, target); the diagonal is the white-box attack.

    Raises:
        UsageError: when the attack is targeted, or as the attack raises.

    Example:
        >>> from redqubit.evasion import FGSM
        >>> models = {"a": nn.Linear(4, 2), "b": nn.Linear(4, 2)}
        >>> x, y = torch.rand(8, 4), torch.arange(8) % 2
        >>> grid = transfer_matrix(models, FGSM(0.1), x, y, generator=torch.Generator())
        >>> sorted(grid)
        [('a', 'a'), ('a', 'b'), ('b', 'a'), ('b', 'b')]

    Reference: Papernot, McDaniel and Goodfellow, "Transferability in machine learning", arXiv:1605.07277, 2016.
    """
    if attack.targeted:
        raise UsageError("Argument `attack` must be untargeted, but is targeted: transfer is judged by true labels.")
    clean = {name: _correct(model, x, y, batch_size) for name, model in models.items()}
    state = generator.get_state()
    grid = {}
    for source, attacked in models.items():
        generator.set_state(state)
        x_adv = attack(attacked, x, y, generator=generator, batch_size=batch_size)
        for target, judged in models.items():
            grid[source, target] = Transfer(_correct(judged, x_adv, y, batch_size), clean[source] & clean[target])
    return grid


@torch.no_grad()
def _correct(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    with evaluation_mode(model):
        return is_correct(torch.cat([model(batch) for batch in x.split(batch_size)]), y)
