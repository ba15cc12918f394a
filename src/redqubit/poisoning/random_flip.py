"""Random label flips: the weakest attack, against which others are measured."""

from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.data import Dataset
from redqubit.poisoning.base import POISONS, LabelPoison


@POISONS.register("random_flip")
@dataclass(frozen=True)
class RandomFlip(LabelPoison):
    """Give each poisoned sample one of the other classes that the set has, each with the same probability.

    Example:
        >>> from redqubit.data import load
        >>> poisoned = RandomFlip(ratio=0.3)(load("iris"), generator=torch.Generator())
        >>> int(poisoned.is_poisoned.sum()), bool((poisoned.is_flipped == poisoned.is_poisoned).all())
        (36, True)

    Reference: Kundu and Ghosh, arXiv 2411.14412, section 5, "random label-flipping". Differs: the paper does not say
        whether a label may stay; here it never does.
    """

    def relabel(self, dataset: Dataset, is_poisoned: Tensor, generator: torch.Generator) -> Tensor:
        """Return the new labels."""
        classes: Tensor = dataset.y.unique()
        places = torch.searchsorted(classes, dataset.y[is_poisoned])
        steps = torch.randint(1, len(classes), (len(places),), generator=generator).to(places.device)
        return classes[(places + steps) % len(classes)]
