"""Defenses against wrong labels: certificates against every flip, votes against plain loops, an attack that knows."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from redqubit.data import Dataset, load, stratified_subset
from redqubit.defenses import (
    DATA_DEFENSES,
    SSDPA,
    ClassVote,
    LabelDetector,
    NeighbourVote,
    Part,
    Suspicion,
    Vote,
    one_by_one,
    sanitizer,
)
from redqubit.defenses.base import Predict
from redqubit.detection import at_false_positive_rate, auroc
from redqubit.errors import UsageError
from redqubit.quantum import spaces
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.encodings import angle
from redqubit.quantum.similarity import Metric, encoded, state_similarity
from redqubit.quantum.spaces import Features, States

X, Y = torch.linspace(0, 1, 16).reshape(8, 2), torch.arange(8) % 2
SPACES = (Features(), *(States(angle(4), metric) for metric in get_args(Metric)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "must" in message
    assert ": " in message
    return message


# ---- SS-DPA ----------------------------------------------------------------------------------------------------------


def nearest(x: Tensor, y: Tensor, seed: int) -> Predict:
    """Learn by heart: the label of the nearest training sample."""
    return lambda test: y[torch.cdist(test, x).argmin(1)]


def majority(x: Tensor, y: Tensor, seed: int) -> Predict:
    """Learn the label of most samples, of equally many the lowest; with an odd seed the highest of them."""
    counts = y.bincount(minlength=3)
    most = (counts == counts.max()).nonzero()[:, 0]
    return lambda test: most[-1 if seed % 2 else 0].repeat(len(test))


def as_defined(counts: Sequence[int], label: int) -> int:
    """Return the certificate as the paper defines it, for one sample."""
    best = max(range(len(counts)), key=lambda c: (counts[c], -c))
    if best != label:
        return -1
    second = max((c for c in range(len(counts)) if c != best), key=lambda c: (counts[c], -c))
    return (counts[best] - counts[second] - (second < best)) // 2


@pytest.mark.parametrize(("k", "n_classes"), [(1, 2), (3, 2), (5, 3), (6, 3), (4, 4)])
def test_certificates_of_all_votes_are_exact(k: int, n_classes: int) -> None:
    """Of each split of k votes, as many models may change their mind as certified, and no more."""
    splits = [s for s in itertools.product(range(k + 1), repeat=n_classes) if sum(s) == k]
    vote = Vote(torch.tensor(splits))
    predictions = vote.predictions.tolist()
    for label in range(n_classes):
        certified = vote.certificates(torch.full((len(splits),), label)).tolist()
        assert certified == [as_defined(split, label) for split in splits]
    distance = {
        (a, b): sum(abs(i - j) for i, j in zip(a, b, strict=True))
        // 2  # models that must change for one to be the other
        for a in splits
        for b in splits
    }
    own = vote.certificates(vote.predictions).tolist()
    for split, prediction, radius in zip(splits, predictions, own, strict=True):
        turned = [distance[split, b] for b, other in zip(splits, predictions, strict=True) if other != prediction]
        assert radius == min(turned) - 1


@pytest.mark.parametrize(
    ("fit", "k", "n_classes"), [(nearest, 3, 3), (nearest, 5, 2), (majority, 3, 2), (majority, 3, 3)]
)
def test_no_flips_within_the_certificate_change_a_prediction(
    fit: Callable[[Tensor, Tensor, int], Predict], k: int, n_classes: int
) -> None:
    n, test_x = 7, torch.rand(6, 2, generator=seeded(1))
    x = torch.rand(n, 2, generator=seeded(2))
    y = (torch.arange(n) == (3 if fit is nearest else n)).long()  # the majorities agree
    defense, fit_all = SSDPA(k=k), one_by_one(fit)
    clean = defense(Dataset(x, y, n_classes), test_x, fit_all=fit_all)
    radii = clean.certificates(clean.predictions)
    least = torch.full((len(test_x),), n + 1)  # flips that turned each prediction
    for labels in itertools.product(range(n_classes), repeat=n):
        poisoned = torch.tensor(labels)
        vote = defense(Dataset(x, poisoned, n_classes), test_x, fit_all=fit_all)
        turned = vote.predictions != clean.predictions
        flips = int((poisoned != y).sum())
        least[turned] = least[turned].clamp(max=flips)
    assert (least > radii).all()
    assert int(radii.max()) >= 1  # so that something was certified
    if fit is nearest:  # one flip turns a model that learned by heart, so nothing more could be certified
        assert torch.equal(least, radii + 1)


def test_samples_are_sorted_by_content_and_dealt_out() -> None:
    x = torch.randint(0, 2, (23, 3, 2), generator=seeded()).float()
    rows = [tuple(row) for row in x.flatten(1).tolist()]
    order = sorted(range(23), key=lambda i: rows[i])  # stable, as duplicates must be
    assert len(set(rows)) < 23
    parts = SSDPA(k=4).parts(x)
    assert [part.tolist() for part in parts] == [order[i::4] for i in range(4)]
    assert [len(part) for part in SSDPA(k=3).parts(torch.rand(700, 2, generator=seeded()))] == [234, 233, 233]
    shuffled = torch.randperm(23, generator=seeded(1))
    again = SSDPA(k=4).parts(x[shuffled])
    for part, other in zip(parts, again, strict=True):
        assert torch.equal(x[part], x[shuffled][other])


def test_models_get_their_part_and_seed_and_may_be_trained_together() -> None:
    x, y, test_x = torch.rand(11, 2, generator=seeded()), torch.arange(11) % 3, torch.rand(4, 2, generator=seeded(1))
    seen: list[Part] = []

    def together(parts: Sequence[Part]) -> Predict:
        seen.extend(parts)
        return lambda x: torch.tensor([[0, 1, 2, 0], [0, 1, 1, 2], [2, 1, 0, 1]])

    vote = SSDPA(k=3)(Dataset(x, y, 3), test_x, fit_all=together)
    assert [part.seed for part in seen] == [0, 1, 2]
    for part, places in zip(seen, SSDPA(k=3).parts(x), strict=True):
        assert torch.equal(part.x, x[places])
        assert torch.equal(part.y, y[places])
    assert vote.votes.tolist() == [[2, 0, 1], [0, 3, 0], [1, 1, 1], [1, 1, 1]]
    assert vote.predictions.tolist() == [0, 1, 0, 0]  # ties to the lowest
    assert vote.certificates(torch.tensor([0, 1, 2, 0])).tolist() == [0, 1, -1, 0]


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (torch.zeros(3, dtype=torch.long), r"`fit_all` must predict labels \(2, 3\)"),
        (torch.zeros(3, 2, dtype=torch.long), r"`fit_all` must predict labels \(2, 3\)"),
        (torch.zeros(2, 3), r"`chosen` must hold labels 0 .. 1"),
        (torch.tensor([[0, 1, 2], [0, 0, 0]]), r"`chosen` must hold labels 0 .. 1"),
        (torch.tensor([[0, 1, -1], [0, 0, 0]]), r"`chosen` must hold labels 0 .. 1"),
    ],
)
def test_what_is_no_vote_is_refused(predicted: Tensor, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        SSDPA(k=2)(Dataset(X, Y, 2), X[:3], fit_all=lambda _: lambda _: predicted)
    one_line(error)


def test_more_parts_than_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="`k` must be at most the number of samples, 2") as error:
        SSDPA(k=3).parts(torch.rand(2, 1))
    one_line(error)


# ---- votes of neighbours and classes ---------------------------------------------------------------------------------


def by_hand(space: Features | States, a: Tensor, b: Tensor) -> float:
    """Return the distance of two samples; the states are RY(pi x)|0> of each feature, written out."""
    if isinstance(space, Features):
        return float(np.linalg.norm(a.double().numpy() - b.double().numpy()))
    turns = np.cos(np.pi * (a.double().numpy() - b.double().numpy()) / 2)
    fidelity = min(1.0, float(np.prod(turns**2)))
    return {
        "hilbert": 1 - fidelity / 2 ** len(turns),
        "frobeni": (2 - 2 * fidelity) ** 0.5,
        "trace": 2 * (1 - fidelity) ** 0.5,
    }[space.metric[:7]]


@pytest.mark.parametrize("space", SPACES)
def test_votes_are_those_of_plain_loops(space: Features | States, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitizer, "ROWS", 7)  # several rounds, the last one shorter
    n, k, n_classes = 25, 4, 3
    x, y = torch.rand(n, 4, generator=seeded(1)), torch.arange(n) % n_classes
    y = y[torch.randperm(n, generator=seeded(2))]
    data = Dataset(x, y, n_classes)
    by_neighbours, by_classes = NeighbourVote(space, k=k)(data), ClassVote(space)(data)
    for i in range(n):
        distance = {j: by_hand(space, x[i], x[j]) for j in range(n) if j != i}
        voters = [int(y[j]) for j in sorted(distance, key=lambda j: distance[j])[:k]]
        own = int(y[i])
        assert float(by_neighbours.scores[i]) == pytest.approx(1 - voters.count(own) / k)
        winners = [c for c in range(n_classes) if voters.count(c) == max(map(voters.count, range(n_classes)))]
        assert int(by_neighbours.suggested[i]) == (own if own in winners else winners[0])
        means = [np.mean([distance[j] for j in distance if y[j] == c]) for c in range(n_classes)]
        other = min(means[c] for c in range(n_classes) if c != own)
        assert float(by_classes.scores[i]) == pytest.approx(means[own] - other, abs=1e-6)
        assert int(by_classes.suggested[i]) == int(np.argmin(means))


def test_feature_votes_are_those_of_scikit_learn() -> None:
    digits = load("digits").subset(range(300))
    flat = digits.x.flatten(1).double() + 1e-3 * torch.rand(300, 64, generator=seeded())  # so that no two tie
    _, near = NearestNeighbors(n_neighbors=10).fit(flat.numpy()).kneighbors()  # leaves each sample itself out
    shares = np.stack([np.bincount(digits.y.numpy()[row], minlength=10) / 10 for row in near])
    found = NeighbourVote(Features(), k=10)(Dataset(flat.view(300, 1, 8, 8) / 2, digits.y, 10))
    own = shares[np.arange(300), digits.y.numpy()]
    assert np.allclose(found.scores.numpy(), 1 - own)
    assert found.suggested.tolist() == np.where(own == shares.max(1), digits.y, shares.argmax(1)).tolist()


@pytest.mark.parametrize("space", SPACES)
def test_equally_near_neighbours_vote_together_in_any_order(space: Features | States) -> None:
    x = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [0.3, 0, 0, 0], [0, 0.3, 0, 0], [0, 0, 0.3, 0], [0.9, 0.9, 0, 0]])
    y = torch.tensor([0, 0, 0, 1, 1, 2])
    found = NeighbourVote(space, k=2)(Dataset(x, y, 3))  # beside the twin, all three at 0.3 are the second nearest
    assert found.scores[:2].tolist() == pytest.approx([0.5, 0.5])
    assert found.suggested[:2].tolist() == [0, 0]  # two votes each: the sample's own
    order = torch.tensor([4, 5, 1, 3, 0, 2])
    again = NeighbourVote(space, k=2)(Dataset(x[order], y[order], 3))
    assert again.scores.tolist() == pytest.approx(found.scores[order].tolist())
    assert again.suggested.tolist() == found.suggested[order].tolist()


def noisy_encoder() -> Circuit:
    gates = [step for gate in angle(4).gates for step in (gate, Channel("AmplitudeDamping", gate.wires, (0.1,)))]
    return Circuit(4, tuple(gates))


def test_distances_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(9, 4, generator=seeded())
    for circuit in (angle(4), noisy_encoder()):
        states = encoded(circuit, x.double())
        for metric in get_args(Metric):
            monkeypatch.setattr(spaces, "_NUMBERS", 2**24)
            whole = States(circuit, metric).distances(x[:5], x)
            assert torch.allclose(whole, state_similarity(states[:5], states, metric=metric), atol=1e-7)
            monkeypatch.setattr(spaces, "_NUMBERS", 2 * states[0].numel())
            assert torch.allclose(States(circuit, metric).distances(x[:5], x), whole, atol=1e-7)


def test_noise_moves_states_but_the_vote_still_finds_a_wrong_label() -> None:
    iris = load("iris").subset(range(40))
    y = iris.y.clone()
    y[0] = (y[0] + 1) % 3
    for metric in get_args(Metric)[:2]:
        found = NeighbourVote(States(noisy_encoder(), metric))(replace(iris, y=y))
        assert float(found.scores[0]) == 1
        assert int(found.suggested[0]) == int(iris.y[0])


# ---- flips at random -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "detector", "threshold", "false", "wrong"),  # most true labels flagged; most labels wrong once mended
    [
        ("digits", NeighbourVote(Features()), 0.5, 0.1, 0.05),
        ("iris", NeighbourVote(Features()), 0.5, 0.1, 0.05),
        ("iris", NeighbourVote(States(angle(4))), 0.5, 0.1, 0.05),
        ("digits", ClassVote(Features()), 0.0, 0.2, 0.2),  # class means are a coarse classifier
        ("iris", ClassVote(Features()), 0.0, 0.2, 0.2),
        ("iris", ClassVote(States(angle(4))), 0.0, 0.2, 0.2),
    ],
)
def test_random_flips_are_found(
    name: str, detector: LabelDetector, threshold: float, false: float, wrong: float
) -> None:
    clean = load(name)
    clean = stratified_subset(clean, min(400, len(clean)), generator=seeded())
    n, n_classes = len(clean), clean.n_classes
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randperm(n, generator=seeded(5))[: n // 10]] = True
    steps = torch.randint(1, n_classes, (n,), generator=seeded(6))
    poisoned = replace(clean, y=torch.where(mask, (clean.y + steps) % n_classes, clean.y))
    found = detector(poisoned)
    of_clean, of_flipped = found.scores[~mask], found.scores[mask]
    assert auroc(of_clean, of_flipped, generator=seeded(), resamples=9).value > 0.97
    assert at_false_positive_rate(of_clean, of_flipped, 0.01).true_positives.value > 0.6
    flagged = found.flagged(threshold)
    assert torch.equal(found.drop(threshold).x, clean.x[~flagged])
    assert torch.equal(found.drop(threshold).y, poisoned.y[~flagged])
    assert float(mask[~flagged].double().mean()) < 0.03  # of 10 % of wrong labels, most go
    assert float(flagged[~mask].double().mean()) < false  # and few others
    mended = found.relabel(threshold)
    assert torch.equal(mended.y, torch.where(flagged, found.suggested, poisoned.y))
    assert mended.x is poisoned.x
    assert float((mended.y != clean.y).double().mean()) < wrong


# ---- contracts -------------------------------------------------------------------------------------------------------

DETECTORS = (NeighbourVote(Features(), k=3), ClassVote(Features()), NeighbourVote(States(angle(2)), k=3))


def test_registered_and_documented() -> None:
    assert list(DATA_DEFENSES) == ["class_vote", "neighbour_vote", "ss_dpa"]
    for name in DATA_DEFENSES:
        doc = DATA_DEFENSES[name].__doc__ or ""
        assert all(part in doc for part in ("Raises:", "Example:", "Reference:"))


@pytest.mark.parametrize("detector", DETECTORS)
def test_detectors_leave_all_as_it_was(detector: LabelDetector) -> None:
    data = Dataset(X.clone().requires_grad_(), Y.clone(), 2)
    drawn = torch.get_rng_state()
    found = detector(data)
    assert torch.equal(data.x, X)
    assert torch.equal(data.y, Y)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert found.scores.shape == found.suggested.shape == (8,)
    assert found.scores.isfinite().all()
    assert not found.scores.requires_grad
    assert torch.equal(detector(data).scores, found.scores)


def test_sets_that_do_not_suit_are_refused() -> None:
    for detector, classes, message in (
        (NeighbourVote(Features(), k=8), 2, "`k` must be below the number of samples, 8"),
        (ClassVote(Features()), 3, "2 samples or more of every class, but has 0 of class 2"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            detector(Dataset(X, Y, classes))
        one_line(error)
    with pytest.raises(
        UsageError, match=r"must have shape \(B, 1\) for this circuit, but has \(8, 2\): pass as"
    ) as error:
        NeighbourVote(States(angle(1)), k=3)(Dataset(X, Y, 2))
    one_line(error)
    with pytest.raises(UsageError, match="`k` must be an integer of at least 1"):
        NeighbourVote(Features(), k=0)
    with pytest.raises(UsageError, match="`threshold` must leave a sample") as error:
        Suspicion(Dataset(X, Y, 2), torch.ones(8), Y).drop(0.5)
    one_line(error)
