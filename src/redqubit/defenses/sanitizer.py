"""The sanitizer: samples that lie near, among encoded states or features, vote on the label of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from redqubit.data import Dataset
from redqubit.defenses.base import DATA_DEFENSES, LabelDetector, Suspicion
from redqubit.errors import UsageError
from redqubit.quantum.spaces import Space

ROWS = 1024  # samples whose distances from all are held at a time
TIE = 1e-7  # distances and votes nearer than this are equal: rounding must not choose


@DATA_DEFENSES.register("neighbour_vote")
@dataclass(frozen=True)
class NeighbourVote(LabelDetector):
    """Score a label by the share of the k nearest other samples that have another one.

    Others that lie as near as the k-th vote too. The suggested label is that of most votes; of equal ones the
    sample's own, then the lowest. A threshold of 0.5 keeps the labels that half of the neighbours share.

    It trusts the majority of each neighbourhood: flips that turn whole neighbourhoods to one label
    (`redqubit.poisoning.NeighbourhoodFlip`) look clean to it, and the true labels at their border do not.

    Raises:
        UsageError: when there are no k other samples, or the encoder does not take the samples.

    Example:
        >>> from redqubit.quantum.spaces import Features
        >>> x, y = torch.tensor([[0.0], [0.1], [0.2], [0.8], [0.9], [1.0]]), torch.tensor([0, 1, 0, 1, 1, 1])
        >>> found = NeighbourVote(Features(), k=2)(Dataset(x, y, n_classes=2))
        >>> found.scores.tolist(), found.suggested.tolist()
        ([0.5, 1.0, 0.5, 0.0, 0.0, 0.0], [0, 0, 0, 1, 1, 1])

    Reference: Paudice, Munoz-Gonzalez and Lupu, "Label sanitization against label flipping poisoning attacks", ECML
        PKDD workshops 2018, for features.
        Differs: the space may be that of the encoded states, whose distances are those of Kundu and Ghosh, arXiv
        2411.14412; a sample does not vote on itself.
    """

    space: Space  # States(encoder), or Features() as the control
    k: int = 10  # neighbours that vote

    @torch.no_grad()
    def __call__(self, dataset: Dataset) -> Suspicion:
        """Return the share of neighbours with another label, in [0, 1], and the label of most."""
        if len(dataset) <= self.k:
            raise UsageError(
                f"Argument `k` must be below the number of samples, {len(dataset)}, but is {self.k}: lower it."
            )
        member = one_hot(dataset.y, dataset.n_classes).double()
        shares = torch.empty_like(member)
        for rows, distances in _distances(self.space, dataset.x):
            distances[torch.arange(len(rows)), rows] = torch.inf
            furthest = distances.topk(self.k, dim=1, largest=False).values[:, -1:]
            near = (distances <= furthest + TIE).double()
            shares[rows] = near @ member / near.sum(1, keepdim=True)
        return Suspicion(dataset, 1 - shares.gather(1, dataset.y[:, None])[:, 0], _best(shares, dataset.y))


@DATA_DEFENSES.register("class_vote")
@dataclass(frozen=True)
class ClassVote(LabelDetector):
    """Score a label by how much further its own class is, in the mean, than the nearest other class.

    With D_c the mean distance of a sample from the other members of class c, the score of label y is
    D_y - min_{c != y} D_c. The suggested label is the class of the least mean, which encoder state similarity takes
    for the label; of equal ones the sample's own, then the lowest. A threshold of 0 is natural.

    It needs classes that are one cluster each; then flips in one neighbourhood hide from it less than from
    `NeighbourVote`, as the rest of the class has a say.

    Raises:
        UsageError: when a class has fewer than 2 samples, or the encoder does not take the samples.

    Example:
        >>> from redqubit.quantum.spaces import Features
        >>> x, y = torch.tensor([[0.0], [0.1], [0.2], [0.8], [0.9], [1.0]]), torch.tensor([0, 1, 0, 1, 1, 1])
        >>> found = ClassVote(Features())(Dataset(x, y, n_classes=2))
        >>> found.flagged(0).tolist(), found.suggested.tolist()
        ([False, True, False, False, False, False], [0, 0, 0, 1, 1, 1])

    Reference: Kundu and Ghosh, arXiv 2411.14412, algorithm 1, whose label estimate this turns into a defense.
        Differs: a sample does not count among the members of its own class.
    """

    space: Space  # States(encoder), or Features() as the control

    @torch.no_grad()
    def __call__(self, dataset: Dataset) -> Suspicion:
        """Return by how much another class is nearer, and the nearest class."""
        member = one_hot(dataset.y, dataset.n_classes).double()
        sizes = member.sum(0)
        if int(sizes.min()) < 2:
            few = int(sizes.argmin())
            raise UsageError(
                f"Argument `dataset` must hold 2 samples or more of every class, but has {int(sizes[few])} of class "
                f"{few}: add some, number the classes without gaps, or let neighbours vote."
            )
        means = torch.empty_like(member)
        for rows, distances in _distances(self.space, dataset.x):
            distances[torch.arange(len(rows)), rows] = 0
            means[rows] = distances @ member / (sizes - member[rows])
        labels = dataset.y[:, None]
        other = means.scatter(1, labels, torch.inf).amin(1)
        return Suspicion(dataset, means.gather(1, labels)[:, 0] - other, _best(-means, dataset.y))


def _distances(space: Space, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the places of a few samples at a time and their distances from all, (B, N)."""
    for rows in torch.arange(len(x), device=x.device).split(ROWS):
        yield rows, space.distances(x[rows], x)


def _best(votes: Tensor, y: Tensor) -> Tensor:
    """Return the class of the greatest vote, (N,): of equal ones the sample's own label, then the lowest."""
    best = votes >= votes.amax(1, keepdim=True) - TIE
    return torch.where(best.gather(1, y[:, None])[:, 0], y, best.int().argmax(1))
