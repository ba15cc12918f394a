"""Label flips to the farthest class mean among the features themselves, without any circuit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.data import Dataset
from redqubit.poisoning.base import POISONS, LabelPoison, clean_part
from redqubit.quantum.ess import farthest_class


@POISONS.register("farthest")
@dataclass(frozen=True)
class Farthest(LabelPoison):
    """Give each poisoned sample the class whose mean over the clean samples is farthest from it.

    y = argmax_c ||x - mean of x_j over the clean j of class c||_2, over all classes, the sample's own included

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
        means = torch.stack([x[y == c].mean(0) for c in range(len(classes))])
        poisoned = dataset.x[is_poisoned].flatten(1).double()
        # not by products, which round where points are near each other
        distances = torch.cdist(poisoned, means, compute_mode="donot_use_mm_for_euclid_dist")
        return classes[farthest_class(distances)]
