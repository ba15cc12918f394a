"""What all label poisons share: which samples of a training set are poisoned, and the set that comes out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from redqubit.data import Dataset, check_trainable
from redqubit.errors import UsageError
from redqubit.registry import Registry

POISONS: Registry[type["LabelPoison"]] = Registry("label poison", "redqubit.poisoning")


@dataclass(frozen=True, eq=False)
class PoisonedLabels:
    """A training set with poisoned labels.

    Attributes:
        clean: The set that was poisoned.
        dataset: The poisoned set, its samples in the same order; it shares the inputs, unless these were replaced.
        is_poisoned: Which samples the attacker chose, bool, (N,); one of them may have got its own label.
        notes: What a reader should know, a sentence each.
    """

    clean: Dataset
    dataset: Dataset
    is_poisoned: Tensor
    notes: tuple[str, ...] = ()

    @property
    def y(self) -> Tensor:
        """The labels after poisoning, (N,)."""
        return self.dataset.y

    @property
    def is_flipped(self) -> Tensor:
        """Which samples have another label than before, bool, (N,)."""
        return self.dataset.y != self.clean.y


@dataclass(frozen=True)
class LabelPoison(ABC):
    """An attack that gives a random part of a training set new labels; `poison(dataset, generator=g)` poisons it.

    round(ratio N) samples are drawn uniformly from all N, not class by class. With `targeted` they are drawn from one
    class, and the ratio is a share of that class. A subclass is a frozen dataclass that defines `relabel`.

    Raises:
        UsageError: when the ratio is not between 0 and 1.
    """

    ratio: float = field(kw_only=True)  # share of the set, or of the class `targeted`; the paper's epsilon: 0.1 to 0.7
    targeted: int | None = field(default=None, kw_only=True)  # the class whose samples are poisoned; None for any

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise UsageError(
                f"Argument `ratio` must lie between 0 and 1, but is {self.ratio}: give a fraction, such as 0.3."
            )

    @final
    def __call__(self, dataset: Dataset, *, generator: torch.Generator) -> PoisonedLabels:
        """Return the poisoned set.

        Args:
            dataset: Training set; it is left as it is.
            generator: CPU source of the draws.

        Raises:
            UsageError: when the set has one class or none of `targeted`, the ratio poisons no sample or leaves none
                clean, or the set does not suit the method.
        """
        is_poisoned = self.draw(dataset, generator)
        return relabeled(self, dataset, dataset, is_poisoned, generator)

    @final
    def draw(self, dataset: Dataset, generator: torch.Generator) -> Tensor:
        """Return which samples are poisoned, bool, (N,)."""
        check_trainable(dataset)
        y = dataset.y.cpu()
        pool = torch.arange(len(y)) if self.targeted is None else (y == self.targeted).nonzero()[:, 0]
        if not len(pool):
            present = ", ".join(map(str, y.unique().tolist()))
            raise UsageError(
                f"Argument `targeted` must be a class of the training set, but {self.targeted} is none of {present}: "
                "choose one of them."
            )
        count = round(self.ratio * len(pool))
        if not 1 <= count < len(pool):
            raise UsageError(
                f"Argument `ratio` must poison between 1 and {len(pool) - 1} of {len(pool)} samples, but {self.ratio} "
                f"is {count}: change it or take a larger set."
            )
        is_poisoned = torch.zeros(len(y), dtype=torch.bool)
        is_poisoned[pool[torch.randperm(len(pool), generator=generator)[:count]]] = True
        return is_poisoned.to(dataset.y.device)

    @abstractmethod
    def relabel(self, dataset: Dataset, is_poisoned: Tensor, generator: torch.Generator) -> Tensor:
        """Return new labels of the poisoned samples in their order, int64, (P,).

        Args:
            dataset: The training set, which has two classes at least.
            is_poisoned: Which samples are poisoned, bool, (N,).
            generator: CPU source of what is random.
        """


def relabeled(
    poison: LabelPoison, clean: Dataset, dataset: Dataset, is_poisoned: Tensor, generator: torch.Generator
) -> PoisonedLabels:
    """Return `dataset`, made of the set `clean`, with the labels that a poison gives."""
    new = poison.relabel(dataset, is_poisoned, generator)
    kept = int((new == dataset.y[is_poisoned]).sum())
    notes = (f"{kept} of {len(new)} chosen samples keep their label: no other was worse by this method.",)
    y = dataset.y.clone()
    y[is_poisoned] = new
    return PoisonedLabels(clean, replace(dataset, y=y), is_poisoned, notes if kept else ())


def clean_part(dataset: Dataset, is_poisoned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the clean samples tell of the classes: their inputs (M, d), the places of their classes, the classes.

    Returns:
        Inputs as rows of float64, each sample's place (M,) in the classes, and the classes that the set has, rising.

    Raises:
        UsageError: when a class of the set has no clean sample left.

    Example:
        >>> data = Dataset(torch.tensor([[0.1], [0.2], [0.3]]), torch.tensor([4, 4, 7]), n_classes=8)
        >>> [t.tolist() for t in clean_part(data, torch.tensor([True, False, False]))[1:]]
        [[0, 1], [4, 7]]
    """
    classes = dataset.y.unique()
    y = dataset.y[~is_poisoned]
    absent = classes[~torch.isin(classes, y)]
    if len(absent):
        raise UsageError(
            f"Argument `ratio` must leave a clean sample of every class, but none is left of class {int(absent[0])}: "
            "lower it, or add samples of that class."
        )
    return dataset.x[~is_poisoned].flatten(1).double(), torch.searchsorted(classes, y), classes
