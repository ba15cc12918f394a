"""SS-DPA: models that learn from disjoint parts of the data vote, and a label that is flipped reaches one of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from redqubit.data import Dataset
from redqubit.defenses.base import DATA_DEFENSES, Ensemble, Part, Predict, Vote
from redqubit.errors import UsageError


@DATA_DEFENSES.register("ss_dpa")
@dataclass(frozen=True)
class SSDPA(Ensemble):
    """Deal the training samples to k models, let them vote, and certify each prediction against flipped labels.

    The samples are sorted by what they hold, lexicographically, and dealt out in turn: model i gets every k-th from
    the i-th on. So a flipped label moves no sample to another part and changes one model at most, and a prediction
    holds against as many flips as `Vote.certificates` says. This is true where

    - the samples themselves were not changed, and what made them (an autoencoder, say) saw no labels;
    - a model follows from its part and seed alone, bit for bit.

    Exact duplicates keep the order that they have in the set, which flipped labels do not change.

    Raises:
        UsageError: when there are fewer samples than parts, or `fit_all` does not predict a class for each model and
            sample.

    Example:
        >>> x, y = torch.tensor([[0.0], [0.9], [0.1], [1.0], [0.2], [0.8]]), torch.tensor([0, 1, 0, 1, 0, 1])
        >>> def nearest(x: Tensor, y: Tensor, seed: int) -> Predict:
        ...     return lambda other: y[torch.cdist(other, x).argmin(1)]
        >>> data = Dataset(x, y, n_classes=2)
        >>> vote = SSDPA(k=3)(data, torch.tensor([[0.0], [1.0]]), fit_all=one_by_one(nearest))
        >>> vote.votes.tolist(), vote.certificates(torch.tensor([0, 1])).tolist()
        ([[3, 0], [0, 3]], [1, 1])

    Reference: Levine and Feizi, "Deep partition aggregation: provable defense against general poisoning attacks",
        ICLR 2021: SS-DPA is its variant for flipped labels.
        Differs: its features come from networks trained to tell rotations or views apart; here `x` holds whatever
        features the caller learned without labels. k = 3 is that of Kundu and Ghosh, arXiv 2411.14412, table 7, with
        which 1 flip is certified at most.
    """

    k: int = 3  # parts, and models

    def parts(self, x: Tensor) -> list[Tensor]:
        """Return the places in `x` of the samples of each part, k tensors (n,).

        Args:
            x: Training samples (N, ...), N >= k.

        Example:
            >>> [part.tolist() for part in SSDPA(k=2).parts(torch.tensor([[2.0, 0.0], [1.0, 5.0], [1.0, 4.0]]))]
            [[2, 0], [1]]
        """
        if len(x) < self.k:
            raise UsageError(
                f"Argument `k` must be at most the number of samples, {len(x)}, but is {self.k}: lower it."
            )
        columns = x.detach().flatten(1).cpu().numpy().T
        order = torch.from_numpy(np.lexsort(columns[::-1])).to(x.device)  # its last key counts first
        return [order[i :: self.k] for i in range(self.k)]

    def __call__(self, dataset: Dataset, x: Tensor, *, fit_all: Callable[[Sequence[Part]], Predict]) -> Vote:
        """Return the votes on other samples, (M, n_classes)."""
        places = self.parts(dataset.x)
        parts = [Part(dataset.x[place], dataset.y[place], seed) for seed, place in enumerate(places)]
        chosen = fit_all(parts)(x)
        if chosen.shape != (self.k, len(x)):
            raise UsageError(
                f"Argument `fit_all` must predict labels ({self.k}, {len(x)}), one of each model for each sample, but "
                f"predicts {tuple(chosen.shape)}: stack what the models predict."
            )
        return Vote.of(chosen, dataset.n_classes)


def one_by_one(fit: Callable[[Tensor, Tensor, int], Predict]) -> Callable[[Sequence[Part]], Predict]:
    """Return what trains the models of an ensemble one after another.

    Args:
        fit: Samples (n, ...), labels (n,) and a seed to what predicts labels (M,) of samples (M, ...).

    Returns:
        The `fit_all` of an ensemble; a training that stacks its models takes all parts at once instead.
    """

    def fit_all(parts: Sequence[Part]) -> Predict:
        models = [fit(part.x, part.y, part.seed) for part in parts]
        return lambda x: torch.stack([predict(x) for predict in models])

    return fit_all
