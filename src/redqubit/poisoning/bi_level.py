"""Bi-level poisoning: the features of the poisoned samples are replaced along with their labels."""

from dataclasses import dataclass, replace

import torch

from redqubit.data import Dataset
from redqubit.poisoning.base import LabelPoison, PoisonedLabels, relabeled


@dataclass(frozen=True)
class BiLevel:
    """Replace the features of the poisoned samples by uniform draws from [0, 1], and label these by another poison.

    The draws fill the range that a data set allows, which with `redqubit.data.AngleScaling` is that of all angles. The
    same generator chooses the same samples as the other poison alone.

    Example:
        >>> from redqubit.data import load
        >>> from redqubit.poisoning import RandomFlip
        >>> poisoned = BiLevel(RandomFlip(ratio=0.3))(load("iris"), generator=torch.Generator())
        >>> changed = (poisoned.dataset.x != poisoned.clean.x).any(1)
        >>> int(changed.sum()), bool((changed == poisoned.is_poisoned).all())
        (36, True)

    Reference: Kundu and Ghosh, arXiv 2411.14412, section 5.2, "Label-flip vs. Bi-level", and table 3. Differs: the
        distribution of the random features is not given there.
    """

    poison: LabelPoison  # chooses the samples, and then labels the drawn features: QUID or RandomFlip in the paper

    def __call__(self, dataset: Dataset, *, generator: torch.Generator) -> PoisonedLabels:
        """Return the poisoned set, its inputs a copy.

        Args:
            dataset: Training set; it is left as it is.
            generator: CPU source of the draws.

        Raises:
            UsageError: as the other poison does.
        """
        is_poisoned = self.poison.draw(dataset, generator)
        x = dataset.x.clone()
        shape = (int(is_poisoned.sum()), *x.shape[1:])
        x[is_poisoned] = torch.rand(shape, generator=generator, dtype=x.dtype).to(x.device)
        return relabeled(self.poison, dataset, replace(dataset, x=x), is_poisoned, generator)
