"""Label flips to the class that is farthest among the features themselves, without any circuit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.data import Dataset
from redqubit.poisoning.base import POISONS, LabelPoison, clean_part
from redqubit.quantum.ess import class_shares, farthest_class
from redqubit.quantum.spaces import Features

_ROWS = 1024  # samples whose distances from all clean ones are held at a time


@POISONS.register("farthest")
@dataclass(frozen=True)
class Farthest(LabelPoison):
    """Give each poisoned sample the class at the largest mean distance among the features.

    y = argmax_c mean of ||x - x_j||_2 over the clean samples j of class c, over all classes, the sample's own included;
    of equal ones the lowest

    The control that tells whether the state space of an encoder adds anything to QUID: the same rule on what the
    encoder is given.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [0.5], [0.6], [0.9], [1.0]])
        >>> data = Dataset(x, torch.tensor([0, 0, 1, 1, 2, 2]), n_classes=3)
        >>> poisoned = Farthest(ratio=0.3)(data, generator=torch.Generator().manual_seed(0))
        >>> poisoned.is_poisoned.tolist(), poisoned.y.tolist()
        ([False, False, True, False, False, True], [0, 0, 0, 1, 2, 0])

    Reference: none; a control of ours.
    """

    def relabel(self, dataset: Dataset, is_poisoned: Tensor, generator: torch.Generator) -> Tensor:
        """Return the new labels."""
        x, y, classes = clean_part(dataset, is_poisoned)
        shares = class_shares(y, len(classes))
        parts = dataset.x[is_poisoned].split(_ROWS)
        return classes[farthest_class(torch.cat([Features().distances(part, x) @ shares for part in parts]))]
