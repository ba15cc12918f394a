"""What a set of predictions amounts to: proportions from logits and from masks of correct samples."""

from collections.abc import Iterable

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.statistics import Proportion


def is_correct(logits: Tensor, y: Tensor) -> Tensor:
    """Return which samples are classified as `y`, bool, (N,).

    Args:
        logits: Outputs of the model, (N, n_classes).
        y: True labels, (N,).

    Example:
        >>> is_correct(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
        tensor([ True, False])
    """
    if logits.ndim != 2 or y.shape != logits.shape[:1]:
        raise UsageError(
            f"Argument `y` must hold one label per row of `logits`, but the shapes are {tuple(y.shape)} and "
            f"{tuple(logits.shape)}."
        )
    return logits.argmax(1) == y


def accuracy(correct: Tensor) -> Proportion:
    """Return the share of correct samples.

    Example:
        >>> accuracy(torch.tensor([True, False, True, True])).value
        0.75
    """
    return Proportion(int(correct.sum()), len(correct))


def robust_accuracy(clean_correct: Tensor, attacked_correct: Tensor) -> Proportion:
    """Return the share of all samples that are correct both before and after the attack.

    A sample that the attack happens to correct does not count.

    Example:
        >>> robust_accuracy(torch.tensor([True, True, False]), torch.tensor([True, False, True])).k
        1
    """
    return accuracy(worst_case([clean_correct, attacked_correct]))


def attack_success_rate(clean_correct: Tensor, attacked_correct: Tensor) -> Proportion:
    """Return the share of initially correct samples that the attack turns into errors.

    Example:
        >>> attack_success_rate(torch.tensor([True, True, False]), torch.tensor([True, False, False])).value
        0.5
    """
    survived = robust_accuracy(clean_correct, attacked_correct).k
    n = int(clean_correct.sum())
    return Proportion(n - survived, n)


def worst_case(correct: Iterable[Tensor]) -> Tensor:
    """Return which samples are correct under every one of several attacks, bool, (N,).

    Args:
        correct: One mask per attack, bool, (N,) each.

    Raises:
        UsageError: when there is no mask or their lengths differ.

    Example:
        >>> worst_case([torch.tensor([True, True, False]), torch.tensor([True, False, True])])
        tensor([ True, False, False])
    """
    masks = [mask.bool() for mask in correct]
    if len({mask.shape for mask in masks}) != 1:
        raise UsageError(
            f"Argument `correct` must hold one or more masks of equal shape, but has {[tuple(m.shape) for m in masks]}:"
            " judge every attack on the same samples."
        )
    return torch.stack(masks).all(0)


def linf_distance(x: Tensor, x_adv: Tensor) -> Tensor:
    """Return max|x_adv - x| per sample, (N,).

    Example:
        >>> linf_distance(torch.zeros(1, 2), torch.tensor([[0.5, -0.25]]))
        tensor([0.5000])
    """
    return (x_adv - x).abs().flatten(1).amax(1)
