"""Encoder state similarity: how near encoded samples are to each class, and which labels that suggests."""

from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.noise import NoiseModel, with_noise
from redqubit.quantum.similarity import Metric, check_metric, distances, encoded

_ROWS = 1024  # samples encoded at a time; their distances take 8 MiB, and
_NUMBERS = 2**24  # amplitudes or matrix elements that these have at most: 256 MiB
_TIE = 1e-9  # scores nearer than this are equal: rounding must not choose a label


@dataclass(frozen=True, eq=False)
class ESS:
    """How near each sample is to each class in state space.

    Attributes:
        scores: Mean distance of each sample from the other members of each class, (N, C), float64.
        classes: Mean distance between the members of each two classes, in the diagonal between different members of
            one class, (C, C), float64.
        y: The labels given, (N,).
    """

    scores: Tensor
    classes: Tensor
    y: Tensor

    @property
    def agreement(self) -> float:
        """Share of samples whose nearest class is their label."""
        return float((nearest_class(self.scores) == self.y).double().mean())


@dataclass(frozen=True, eq=False)
class LabelAgreement:
    """Which labels one half of a set suggests to the other half.

    Attributes:
        judged: Places of the samples of the other half, (n,), rising.
        suggested: The class nearest to each of them, (n,).
        hits: How many of these are the labels given.
    """

    judged: Tensor
    suggested: Tensor
    hits: int

    @property
    def share(self) -> float:
        """Share of labels that agree."""
        return self.hits / len(self.judged)


@torch.no_grad()
def ess(
    circuit: Circuit,
    x: Tensor,
    y: Tensor,
    *,
    metric: Metric = "frobenius",
    n_classes: int | None = None,
    noise: NoiseModel | None = None,
) -> ESS:
    """Return how near each encoded sample is to each class of the same set.

    score(i, c) = mean of d(rho_i, rho_j) over the samples j != i of class c

    A sample is left out of its own class: at distance 0 from itself, it would speak for the label that it has, a
    poisoned one included. Time grows with N^2 / 2 distances; memory does not, beyond some blocks of states and scores.

    Args:
        circuit: The encoder: inputs and no weights; with noise channels up to 8 qubits.
        x: Samples (N, n_inputs) as the circuit reads them, in radians where it has angles of scale 1.
        y: Labels (N,) in 0 .. n_classes - 1, at least two samples of each class.
        metric: A distance of `state_similarity`.
        n_classes: Number of classes C; one more than the largest label by default.
        noise: Put on the encoder by `with_noise`; its read-out errors play no part.

    Raises:
        UsageError: for samples or labels that do not fit or are not finite, a class of fewer than two samples, an
            unknown metric, or a circuit that is no encoder.

    Reference: Kundu and Ghosh, "Adversarial Data Poisoning Attacks on Quantum Machine Learning in the NISQ Era",
        arXiv 2411.14412, section 4.1. Differs: the paper does not say whether a sample counts in its own class.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> found = ess(angle(1), torch.tensor([[0.0], [0.1], [0.9], [1.0]]), torch.tensor([0, 0, 1, 1]))
        >>> found.classes.round(decimals=2).tolist(), found.agreement
        ([[0.22, 1.39], [1.39, 0.22]], 1.0)
    """
    circuit = _prepared(circuit, metric, noise)
    _check_samples(x, y, "x", "y")
    shares = class_shares(y, _count(y, n_classes), "y")
    member = (shares > 0).double()
    peers = member.sum(0) - member  # (N, C)
    if not bool(peers.all()):
        lonely = int(peers.amin(0).argmin())
        raise UsageError(
            f"Argument `y` must have two samples of every class, but class {lonely} has one: a sample is not compared "
            "with itself, so add another."
        )
    sums = torch.zeros_like(peers)
    blocks = torch.arange(len(x), device=x.device).split(_block(circuit))
    for i, rows in enumerate(blocks):
        states = encoded(circuit, x[rows].double())
        for j, columns in enumerate(blocks[i:], i):
            d = distances(states, states if i == j else encoded(circuit, x[columns].double()), metric=metric)
            if i == j:
                d.fill_diagonal_(0)
            else:
                sums[columns] += d.T @ member[rows]
            sums[rows] += d @ member[columns]
    scores = sums / peers
    return ESS(scores, shares.T @ scores, y)


@torch.no_grad()
def encoder_similarity(
    circuit: Circuit,
    x: Tensor,
    reference_x: Tensor,
    reference_y: Tensor,
    n_classes: int,
    *,
    metric: Metric,
    noise: NoiseModel | None = None,
) -> Tensor:
    """Return the mean distance of each encoded sample from the encoded members of each class of a reference set.

    The class with the least mean is the label that the encoder suggests, the one with the largest is the label
    furthest from it.

    Args:
        circuit: The encoder: inputs and no weights; with noise channels up to 8 qubits.
        x: Samples (B, n_inputs), in radians where they are angles.
        reference_x: Samples (R, n_inputs) whose classes are known.
        reference_y: Their classes (R,), each of 0 .. n_classes - 1 at least once.
        n_classes: Number of classes C.
        metric: A distance of `state_similarity`.
        noise: Put on the encoder by `with_noise`; its read-out errors play no part.

    Returns:
        (B, C), float64.

    Raises:
        UsageError: for a circuit with weights, a noisy one of too many qubits, samples or labels that do not fit or
            are not finite, or an unknown metric.

    Reference: Kundu and Ghosh, arXiv 2411.14412, algorithm 1.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> reference = torch.tensor([[0.0], [0.1], [0.9]])
        >>> scores = encoder_similarity(
        ...     angle(1), torch.tensor([[0.2]]), reference, torch.tensor([0, 0, 1]), 2, metric="trace"
        ... )
        >>> scores.argmin(1).tolist(), scores.argmax(1).tolist()
        ([0], [1])
    """
    circuit = _prepared(circuit, metric, noise)
    _check_samples(reference_x, reference_y, "reference_x", "reference_y")
    _check_samples(x, None, "x", "")
    shares = class_shares(reference_y, n_classes)
    scores = torch.zeros(len(x), n_classes, dtype=torch.float64, device=x.device)
    size = _block(circuit)
    for known, share in zip(reference_x.split(size), shares.split(size), strict=True):
        states = encoded(circuit, known.double())
        for rows in torch.arange(len(x), device=x.device).split(size):
            scores[rows] += distances(encoded(circuit, x[rows].double()), states, metric=metric) @ share
    return scores


def label_agreement(
    circuit: Circuit,
    x: Tensor,
    y: Tensor,
    *,
    metric: Metric = "frobenius",
    n_classes: int | None = None,
    noise: NoiseModel | None = None,
    generator: torch.Generator,
) -> LabelAgreement:
    """Let one random half of each class suggest the labels of the other half: the class at the least mean distance.

    Args:
        circuit: The encoder, as in `ess`.
        x: Samples (N, n_inputs) as the circuit reads them.
        y: Labels (N,); of an odd number of samples of a class the reference half gets one more.
        metric: A distance of `state_similarity`.
        n_classes: Number of classes C; one more than the largest label by default.
        noise: Put on the encoder by `with_noise`.
        generator: CPU source of the split.

    Raises:
        UsageError: as `ess`, but one sample of a class is enough; when no sample is left to judge.

    Reference: Kundu and Ghosh, arXiv 2411.14412, table 2 and figure 3, which judge half of the data. Differs: that the
        split is stratified is our choice.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> x, y = torch.tensor([[0.0], [0.1], [0.9], [1.0]]), torch.tensor([0, 0, 1, 1])
        >>> label_agreement(angle(1), x, y, generator=torch.Generator()).share
        1.0
    """
    _check_samples(x, y, "x", "y")
    n_classes = _count(y, n_classes)
    class_shares(y, n_classes, "y")
    labels = y.cpu()
    order = torch.randperm(len(labels), generator=generator)
    known = torch.zeros(len(labels), dtype=torch.bool)
    for c in range(n_classes):
        members = order[labels[order] == c]
        known[members[: (len(members) + 1) // 2]] = True
    judged = (~known).nonzero()[:, 0].to(y.device)
    known = known.to(y.device)
    if not len(judged):
        raise UsageError("Argument `y` must have two samples of a class, so that one judges the other, but has none.")
    scores = encoder_similarity(circuit, x[judged], x[known], y[known], n_classes, metric=metric, noise=noise)
    suggested = nearest_class(scores)
    return LabelAgreement(judged, suggested, int((suggested == y[judged]).sum()))


def nearest_class(scores: Tensor) -> Tensor:
    """Return the class of the least score of each row (B, C), of equal ones the lowest.

    Example:
        >>> nearest_class(torch.tensor([[0.5, 0.2, 0.2], [0.1, 0.1, 0.3]])).tolist()
        [1, 0]
    """
    return (scores <= scores.amin(1, keepdim=True) + _TIE).int().argmax(1)


def farthest_class(scores: Tensor) -> Tensor:
    """Return the class of the largest score of each row (B, C), of equal ones the lowest.

    Example:
        >>> farthest_class(torch.tensor([[0.5, 0.2, 0.5], [0.1, 0.1, 0.3]])).tolist()
        [0, 2]
    """
    return nearest_class(-scores)


def class_shares(y: Tensor, n_classes: int, name: str = "reference_y") -> Tensor:
    """Return the matrix (R, C), float64, that takes distances from R samples to their means over each class.

    Args:
        y: Labels (R,).
        n_classes: Number of classes C.
        name: What an error calls the labels.

    Raises:
        UsageError: when a label is not among the classes, or a class has no sample.

    Example:
        >>> class_shares(torch.tensor([0, 1, 0]), 2).tolist()
        [[0.5, 0.0], [0.0, 1.0], [0.5, 0.0]]
    """
    if y.ndim != 1 or y.is_floating_point() or bool(((y < 0) | (y >= n_classes)).any()):
        raise UsageError(f"Argument `{name}` must hold classes 0 .. {n_classes - 1}, but has others: number them so.")
    member = torch.nn.functional.one_hot(y.long(), n_classes).double()
    sizes = member.sum(0)
    if not bool(sizes.all()):
        raise UsageError(
            f"Argument `{name}` must hold every class, but class {int(sizes.argmin())} has no sample: "
            "add one or number the classes without gaps."
        )
    shares: Tensor = member / sizes
    return shares


def _prepared(circuit: Circuit, metric: Metric, noise: NoiseModel | None) -> Circuit:
    check_metric(metric)
    return circuit if noise is None else with_noise(circuit, noise)


def _block(circuit: Circuit) -> int:
    """Return how many samples are encoded at a time."""
    numbers: int = 2 ** (circuit.n_qubits * (2 if circuit.channels else 1))
    return max(1, min(_ROWS, _NUMBERS // numbers))


def _count(y: Tensor, n_classes: int | None) -> int:
    """Return the number of classes, which must be two at least."""
    if n_classes is None:
        n_classes = int(y.max()) + 1 if len(y) else 0
    if n_classes < 2:
        raise UsageError(
            f"Argument `y` must hold two classes or more, but has {n_classes}: distances tell classes apart."
        )
    return n_classes


def _check_samples(x: Tensor, y: Tensor | None, name: str, label_name: str) -> None:
    if not bool(x.isfinite().all()):
        raise UsageError(f"Argument `{name}` must be finite, but holds NaN or infinity: drop or fill those samples.")
    if y is not None and len(y) != len(x):
        raise UsageError(f"Argument `{label_name}` must have one class per sample ({len(x)}), but has {len(y)}.")
