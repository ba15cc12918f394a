"""Label flips by an attacker who knows the sanitizer: whole neighbourhoods, whose samples vouch for each other."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from redqubit.data import Dataset, check_trainable
from redqubit.errors import UsageError
from redqubit.poisoning.base import PoisonedLabels
from redqubit.quantum.spaces import Space


@dataclass(frozen=True)
class NeighbourhoodFlip:
    """Flip labels so that neighbours agree: around samples drawn at random, the nearest all get one wrong label.

    Around such a sample, the `size` nearest that are not flipped yet get the same label, drawn from the classes other
    than that sample's; those that have it already stay as they are. This is repeated until round(ratio N) labels are
    flipped. The larger `size` against the number of neighbours that vote, the fewer disagree. It chooses samples and
    labels together, so that a generator gives it other samples than a `LabelPoison`, and is no entry of `POISONS`.

    Raises:
        UsageError: when the ratio is not between 0 and 1, or `size` is below 1.

    Example:
        >>> from redqubit.quantum.spaces import Features
        >>> data = Dataset(torch.linspace(0, 1, 20)[:, None], torch.arange(20) // 10, n_classes=2)
        >>> poison = NeighbourhoodFlip(Features(), size=4, ratio=0.2)
        >>> poisoned = poison(data, generator=torch.Generator().manual_seed(0))
        >>> poisoned.is_poisoned.nonzero()[:, 0].tolist(), poisoned.y[poisoned.is_poisoned].tolist()
        ([4, 5, 6, 7], [1, 1, 1, 1])

    Reference: Koh, Steinhardt and Liang, "Stronger data poisoning attacks break data sanitization defenses", Machine
        Learning 111, 2022, for poisoned samples that vouch for each other.
    """

    space: Space  # where the attacker measures: the defender's, or a guess at it
    size: int = 50  # labels that are flipped around one sample
    ratio: float = field(kw_only=True)  # share of the set

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1 or self.size < 1:
            raise UsageError(
                "Arguments `ratio` and `size` must lie between 0 and 1, and be 1 or more, but are "
                f"{self.ratio} and {self.size}: give a fraction such as 0.3, and a count."
            )

    def __call__(self, dataset: Dataset, *, generator: torch.Generator) -> PoisonedLabels:
        """Return the poisoned set.

        Args:
            dataset: Training set; it is left as it is.
            generator: CPU source of the draws.

        Raises:
            UsageError: when the set has one class, the ratio flips no label, or the space does not take the samples.
        """
        check_trainable(dataset)
        x, y, left = dataset.x, dataset.y, round(self.ratio * len(dataset))
        if left < 1:
            raise UsageError(
                f"Argument `ratio` must flip a label or more of {len(dataset)}, but {self.ratio} flips none: raise it."
            )
        classes = y.unique()
        shifts = torch.randint(1, len(classes), (len(y),), generator=generator).to(y.device)
        labels = classes[(torch.searchsorted(classes, y) + shifts) % len(classes)]
        flipped, is_flipped = y.clone(), torch.zeros_like(y, dtype=torch.bool)
        for center in torch.randperm(len(y), generator=generator).tolist():
            if left and not is_flipped[center]:
                chosen = self._nearest(x, center, (~is_flipped & (y != labels[center])).nonzero()[:, 0])[:left]
                flipped[chosen], is_flipped[chosen] = labels[center], True
                left -= len(chosen)
        return PoisonedLabels(dataset, replace(dataset, y=flipped), is_flipped)

    def _nearest(self, x: Tensor, center: int, free: Tensor) -> Tensor:
        """Return the places of the `size` nearest among those `free`, the center first."""
        distances = self.space.distances(x[center : center + 1], x[free])[0]
        distances[free == center] = -torch.inf  # as two samples may be the same point
        return free[distances.argsort(stable=True)[: self.size]]
