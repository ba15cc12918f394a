"""Cyclic label flips: a wrong labelling that is as easy to learn as the right one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.data import Dataset
from redqubit.poisoning.base import POISONS, LabelPoison


@POISONS.register("cyclic")
@dataclass(frozen=True)
class Cyclic(LabelPoison):
    """Give each poisoned sample the next class that the set has, the last one the first.

    A control: wherever more than half of the labels are wrong in a way that can be learned, accuracy falls below
    chance, whatever chose the labels.

    Example:
        >>> from redqubit.data import load
        >>> poisoned = Cyclic(ratio=0.3)(load("iris"), generator=torch.Generator())
        >>> bool((poisoned.y == (poisoned.clean.y + poisoned.is_poisoned.long()) % 3).all())
        True

    Reference: none; a control of ours.
    """

    def relabel(self, dataset: Dataset, is_poisoned: Tensor, generator: torch.Generator) -> Tensor:
        """Return the new labels."""
        classes: Tensor = dataset.y.unique()
        return classes[(torch.searchsorted(classes, dataset.y[is_poisoned]) + 1) % len(classes)]
