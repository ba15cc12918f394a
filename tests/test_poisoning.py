"""Label poisons: contracts over the registry, QUID against plain per-pair loops, controls against numpy."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from dense_noise import density_matrix
from redqubit.data import AngleScaling, Dataset, load
from redqubit.errors import UsageError
from redqubit.poisoning import POISONS, QUID, BiLevel, Cyclic, Farthest, LabelPoison, RandomFlip
from redqubit.quantum import Circuit
from redqubit.quantum.ansatzes import sim
from redqubit.quantum.encodings import amplitude, angle
from redqubit.quantum.noise import quid_noise, with_noise
from redqubit.quantum.similarity import Metric

METRICS: tuple[Metric, ...] = get_args(Metric)
ENCODER = angle(2, ("RZ", "RX"), scale=2 * math.pi, offset=-math.pi, hadamard=True)
NEEDS: dict[str, dict[str, Any]] = {"quid": {"circuit": ENCODER}}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dataset(n: int = 40, n_classes: int = 3, seed: int = 0) -> Dataset:
    y = torch.arange(n) % n_classes
    x = torch.rand(n, 4, generator=seeded(seed), dtype=torch.float64)
    return Dataset(0.3 * x + 0.7 * y[:, None] / n_classes, y, n_classes, "made")


def made(name: str, ratio: float, **fields: Any) -> LabelPoison:
    return POISONS[name](**NEEDS.get(name, {}), ratio=ratio, **fields)


CALLS: dict[str, Callable[[float], Any]] = {
    **{name: partial(made, name) for name in POISONS},
    "bi-level random_flip": lambda ratio: BiLevel(RandomFlip(ratio=ratio)),
    "bi-level quid": lambda ratio: BiLevel(QUID(ENCODER, ratio=ratio)),
}


def test_the_registry_has_all_methods() -> None:
    assert set(POISONS) >= {"cyclic", "farthest", "quid", "random_flip"}
    for name in POISONS:
        assert "Reference:" in (POISONS[name].__doc__ or "")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.7])
def test_a_poison_changes_the_chosen_labels_and_nothing_else(name: str, ratio: float) -> None:
    data = dataset()
    x, y = data.x.clone(), data.y.clone()
    found = CALLS[name](ratio)(data, generator=seeded(3))
    assert torch.equal(data.x, x)
    assert torch.equal(data.y, y)
    assert found.clean is data
    assert int(found.is_poisoned.sum()) == round(ratio * 40)
    assert torch.equal(found.y[~found.is_poisoned], y[~found.is_poisoned])
    assert bool((found.is_poisoned | ~found.is_flipped).all())
    assert found.y.dtype == torch.int64
    assert (found.dataset.n_classes, found.dataset.name) == (3, "made")
    if name.startswith("bi-level"):
        assert torch.equal((found.dataset.x != x).any(1), found.is_poisoned)
    else:
        assert found.dataset.x.data_ptr() == data.x.data_ptr()
    again = CALLS[name](ratio)(data, generator=seeded(3))
    assert torch.equal(again.y, found.y)
    assert torch.equal(again.dataset.x, found.dataset.x)
    kept = int((found.is_poisoned & ~found.is_flipped).sum())
    assert len(found.notes) == bool(kept)
    assert all(note.startswith(f"{kept} of {round(ratio * 40)} chosen samples keep") for note in found.notes)


@pytest.mark.parametrize("name", CALLS)
def test_one_generator_chooses_the_same_samples_for_every_method(name: str) -> None:
    data = dataset()
    wanted = Cyclic(ratio=0.4)(data, generator=seeded(5)).is_poisoned
    assert torch.equal(CALLS[name](0.4)(data, generator=seeded(5)).is_poisoned, wanted)
    assert not torch.equal(CALLS[name](0.4)(data, generator=seeded(6)).is_poisoned, wanted)


def test_the_choice_is_uniform_and_not_stratified() -> None:
    data, poison, g = dataset(60), Cyclic(ratio=0.5), seeded()
    draws = torch.stack([poison.draw(data, g) for _ in range(2000)]).double()
    assert bool((draws.sum(1) == 30).all())
    # each sample in half of the draws, each class by the hypergeometric law: 20 of 60, 30 drawn
    assert float((draws.mean(0) - 0.5).abs().max()) < 4 * 0.5 / 2000**0.5
    of_class = draws[:, data.y == 0].sum(1)
    variance = 30 * (1 / 3) * (2 / 3) * (60 - 30) / 59
    assert float(of_class.mean()) == pytest.approx(10, abs=4 * math.sqrt(variance / 2000))
    assert float(of_class.var()) == pytest.approx(variance, rel=0.15)


def test_random_flips_reach_the_other_classes_alike() -> None:
    data = dataset(4000, 4)
    found = RandomFlip(ratio=0.5)(data, generator=seeded())
    assert bool((found.is_flipped == found.is_poisoned).all())
    steps = ((found.y - data.y) % 4)[found.is_poisoned]
    counts = torch.bincount(steps, minlength=4)
    assert counts[0] == 0
    assert float((counts[1:] - 2000 / 3).abs().max()) < 4 * math.sqrt(2000 * 2 / 9)


def test_only_classes_that_the_set_has_are_given() -> None:
    data = dataset()
    data = Dataset(data.x, torch.tensor([1, 3, 6])[data.y], 8)
    for name in CALLS:
        found = CALLS[name](0.5)(data, generator=seeded())
        assert set(found.y.unique().tolist()) <= {1, 3, 6}, name
    found = Cyclic(ratio=0.5)(data, generator=seeded())
    follower = {1: 3, 3: 6, 6: 1}
    for before, after in zip(data.y[found.is_poisoned].tolist(), found.y[found.is_poisoned].tolist(), strict=True):
        assert after == follower[before]


@pytest.mark.parametrize("name", list(POISONS))
def test_targeted_poisons_leave_the_other_classes_alone(name: str) -> None:
    data = dataset(60)
    found = made(name, ratio=0.4, targeted=2)(data, generator=seeded())
    assert data.y[found.is_poisoned].tolist() == [2] * 8
    assert torch.equal(found.y[data.y != 2], data.y[data.y != 2])


# ---- QUID


def per_pair(
    circuit: Circuit, data: Dataset, x: Tensor, is_poisoned: Tensor, metric: Metric, noisy: bool
) -> tuple[list[list[float]], list[int]]:
    """Algorithm 1 as it is written: a distance for each pair of states, the mean of each class, the largest."""
    encoder = with_noise(circuit, quid_noise(0.05)) if noisy else circuit
    rho = [density_matrix(encoder, row.flatten().tolist(), []) for row in x]
    scores, labels = [], []
    for i in range(len(x)):
        if not is_poisoned[i]:
            continue
        means = []
        for c in sorted(set(data.y.tolist())):
            found = []
            for j in range(len(x)):
                if is_poisoned[j] or data.y[j] != c:
                    continue
                if metric == "hilbert-schmidt":
                    found.append(1 - abs(np.trace(rho[i].conj().T @ rho[j])) / len(rho[i]))
                elif metric == "frobenius":
                    found.append(np.sqrt((np.abs(rho[i] - rho[j]) ** 2).sum()))
                else:
                    found.append(np.linalg.svd(rho[i] - rho[j], compute_uv=False).sum())
            means.append(float(np.mean(found)))
        scores.append(means)
        labels.append(sorted(set(data.y.tolist()))[int(np.argmax(means))])
    return scores, labels


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("bi_level", [False, True])
def test_quid_is_algorithm_1(metric: Metric, noisy: bool, bi_level: bool) -> None:
    g = seeded(4)
    data = Dataset(torch.rand(26, 4, generator=g), torch.randint(0, 4, (26,), generator=g) + 1, 6)
    quid = QUID(ENCODER, metric, quid_noise(0.05) if noisy else None, ratio=0.35)
    found = (BiLevel(quid) if bi_level else quid)(data, generator=seeded(1))
    scores, labels = per_pair(ENCODER, data, found.dataset.x.double(), found.is_poisoned, metric, noisy)
    assert np.abs(quid.scores(found.dataset, found.is_poisoned).numpy() - np.array(scores)).max() < 1e-7
    assert found.y[found.is_poisoned].tolist() == labels
    assert len(set(labels)) > 1


def test_quid_knows_its_closed_form_on_one_qubit() -> None:
    # RY(pi x): F = cos^2(pi (x - r) / 2), and the trace norm 2 |sin(pi (x - r) / 2)| is farthest at the other end
    x = torch.tensor([[0.0], [0.02], [0.04], [0.5], [0.52], [0.54], [0.95], [0.97], [1.0]], dtype=torch.float64)
    data = Dataset(x, torch.arange(9) // 3, 3)
    mask = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0, 1]).bool()
    got = QUID(angle(1), "trace", ratio=0.3).scores(data, mask)
    distance = 2 * torch.sin(math.pi / 2 * (x[mask] - x[~mask].T)).abs()
    assert torch.allclose(got, distance.reshape(3, 3, 2).mean(2), rtol=0, atol=1e-12)
    for metric in METRICS:
        assert QUID(angle(1), metric, ratio=0.3).relabel(data, mask, seeded()).tolist() == [2, 0, 0]


def test_the_own_class_may_be_the_farthest() -> None:
    # an outlier: its label stays, as algorithm 1 has it, and a note says so
    x = torch.tensor([[0.0], [0.02], [1.0], [0.9], [0.95], [0.97]], dtype=torch.float64)
    data, mask = Dataset(x, torch.tensor([0, 0, 0, 1, 1, 1]), 2), torch.tensor([0, 0, 1, 0, 0, 0]).bool()
    for poison in (QUID(angle(1), ratio=0.2), Farthest(ratio=0.2)):
        assert poison.relabel(data, mask, seeded()).tolist() == [0]


def test_equal_classes_give_the_lowest() -> None:
    x = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.5, 0.5]], dtype=torch.float64)
    data, mask = Dataset(x, torch.tensor([2, 2, 2, 1, 1, 0]), 3), torch.tensor([1, 0, 0, 0, 0, 0]).bool()
    for poison in (*(QUID(angle(2), metric, ratio=0.2) for metric in METRICS), Farthest(ratio=0.2)):
        assert poison.relabel(data, mask, seeded()).tolist() == [1]


def test_quid_takes_pictures_and_amplitudes() -> None:
    pictures = load("digits")
    pictures = pictures.subset((pictures.y < 3).nonzero()[:30, 0])
    whole = QUID(amplitude(6), ratio=0.5)(pictures, generator=seeded())
    flat = Dataset(pictures.x.flatten(1), pictures.y, pictures.n_classes)
    assert torch.equal(QUID(amplitude(6), ratio=0.5)(flat, generator=seeded()).y, whole.y)


def test_the_raw_control_follows_the_rule_of_quid_among_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redqubit.poisoning.farthest._ROWS", 5)
    # without clusters, where the farthest class mean would be another class for some
    data = Dataset(torch.rand(30, 4, generator=seeded(2), dtype=torch.float64), torch.arange(30) % 4, 4)
    found = Farthest(ratio=0.4)(data, generator=seeded())
    x, clean = data.x.numpy(), ~found.is_poisoned.numpy()
    members = [x[clean & (data.y.numpy() == c)] for c in range(4)]
    means = [[np.linalg.norm(x[i] - known, axis=1).mean() for known in members] for i in np.flatnonzero(~clean)]
    assert found.y[found.is_poisoned].tolist() == np.argmax(means, axis=1).tolist()


def test_replaced_features_fill_the_whole_range() -> None:
    data = dataset(2000)
    found = BiLevel(Cyclic(ratio=0.5))(data, generator=seeded())
    drawn = found.dataset.x[found.is_poisoned]
    assert float(drawn.mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * 4000))
    assert float(drawn.var()) == pytest.approx(1 / 12, rel=0.05)
    assert float(drawn.min()) < 0.01 < 0.99 < float(drawn.max())
    assert found.dataset.x.dtype == data.x.dtype


# ---- angles


def test_features_become_angles_by_the_maximum_of_the_training_set() -> None:
    z = torch.randn(50, 4, generator=seeded(), dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.1, 0.0])
    scaling = AngleScaling.fit(z[:40], scale=0.5)
    largest = z[:40].abs().amax(0)
    wanted = 0.5 * math.pi * z[:40, :3] / largest[:3]
    assert torch.allclose(scaling.angles(z[:40])[:, :3], wanted)
    assert not bool(scaling.angles(z)[:, 3].abs().any())
    assert float(scaling.angles(1000 * z).abs().max()) == pytest.approx(0.5 * math.pi)
    unit = scaling.unit(z)
    assert 0 <= float(unit.min()) <= float(unit.max()) <= 1
    # a circuit that reads the features of a data set turns by the angles
    reading = angle(2, ("RZ", "RX"), scale=scaling.slope, offset=scaling.offset, hadamard=True)
    data = Dataset(unit, torch.arange(50) % 2, 2)
    by_angle = angle(2, ("RZ", "RX"), scale=1.0, hadamard=True)
    poison, angles = QUID(reading, ratio=0.5), scaling.angles(z)
    mask = poison.draw(data, seeded())
    scores, _ = per_pair(by_angle, data, angles, mask, "frobenius", False)
    assert np.abs(poison.scores(data, mask).numpy() - np.array(scores)).max() < 1e-7


@pytest.mark.tiny
def test_what_does_not_fit_is_one_line() -> None:
    data, g = dataset(), seeded()
    one = Dataset(data.x, data.y * 0, 3)
    rare = Dataset(data.x, torch.tensor([2] + [0, 1, 1] * 13), 3)
    first = next(s for s in range(99) if Cyclic(ratio=0.5).draw(rare, seeded(s))[0])
    other = Dataset(data.x[:, :3], data.y, 3)
    z = torch.rand(5, 3)
    faults: list[tuple[Callable[[], object], str]] = [
        *((lambda ratio=ratio: Cyclic(ratio=ratio), "`ratio` must lie between 0 and 1") for ratio in (0, 1, -1, 1.5)),
        (lambda: RandomFlip(ratio=math.nan), "`ratio` must lie between 0 and 1"),
        (lambda: Cyclic(ratio=0.01)(data, generator=g), "poison between 1 and 39 of 40 samples, but 0.01 is 0"),
        (lambda: Cyclic(ratio=0.99)(data, generator=g), "but 0.99 is 40"),
        (lambda: Cyclic(ratio=0.5, targeted=7)(data, generator=g), "7 is none of 0, 1, 2"),
        (lambda: RandomFlip(ratio=0.5)(one, generator=g), "two classes"),
        (lambda: QUID(ENCODER, ratio=0.5)(one, generator=g), "two classes"),
        (lambda: BiLevel(Cyclic(ratio=0.5))(one, generator=g), "two classes"),
        (lambda: QUID(ENCODER, ratio=0.5)(rare, generator=seeded(first)), "none is left of class 2"),
        (lambda: Farthest(ratio=0.5)(rare, generator=seeded(first)), "none is left of class 2"),
        (
            lambda: QUID(angle(3), ratio=0.5)(data, generator=g),
            "shape (B, 3) for this circuit, but has (20, 4): pass as",
        ),
        (
            lambda: QUID(ENCODER, ratio=0.5)(other, generator=g),
            "shape (B, 4) for this circuit, but has (20, 3): pass as",
        ),
        (lambda: QUID(ENCODER, "bures", ratio=0.5), "Unknown metric"),  # type: ignore[arg-type]
        (lambda: QUID(sim(1, 2), ratio=0.5), "without weights"),
        (lambda: QUID(angle(9), noise=quid_noise(), ratio=0.5)(nine(), generator=g), "8 qubits or fewer"),
        (lambda: Dataset(data.x * math.nan, data.y, 3), "NaN"),
        (lambda: POISONS["qiud"], "did you mean quid"),
        (lambda: AngleScaling.fit(z * math.nan), "holds NaN"),
        (lambda: AngleScaling.fit(z[:0]), "is empty"),
        (lambda: AngleScaling.fit(z[0]), "shape (3,)"),
        (lambda: AngleScaling.fit(z, scale=0.0), "`scale` must be above 0"),
        (lambda: AngleScaling.fit(z).unit(z[:, :2]), "3 features of the training set, but has 2"),
        (lambda: AngleScaling(torch.zeros(2)), "use `fit`"),
    ]
    for call, said in faults:
        with pytest.raises(UsageError) as caught:
            call()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def nine() -> Dataset:
    return Dataset(torch.rand(8, 9, generator=seeded()), torch.arange(8) % 2, 2)
