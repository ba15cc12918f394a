"""Screening: planted flips are found, numbers agree with other ways to get them, and bad input is one line."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import precision_score, recall_score, roc_auc_score, silhouette_samples
from torch import Tensor

from redqubit.data import Dataset, first_stratified, load
from redqubit.defenses import ClassVote, NeighbourVote
from redqubit.errors import UsageError
from redqubit.poisoning import PoisonedLabels, RandomFlip
from redqubit.quantum import Circuit, Gate, Input, Weight
from redqubit.quantum.encodings import angle
from redqubit.quantum.ess import ess, label_agreement
from redqubit.quantum.spaces import Features, States
from redqubit.result import Result
from redqubit.result import load as read
from redqubit.screening import Screening, screen
from redqubit.screening.cells import Work, plant, run_classes, run_labels, run_planted
from redqubit.screening.inputs import encode, find_set, first_places
from redqubit.screening.verdict import conflicts

TINY = {"draws": 2, "neighbours": 5}
ONE_TURN = Circuit(1, (Gate("RY", (0,), (Input(0),)),))


@cache
def digits() -> PoisonedLabels:
    """400 digits, of which 20 have a label that is wrong for certain."""
    data = first_stratified(load("digits"), 400)
    return RandomFlip(ratio=0.05)(data, generator=torch.Generator().manual_seed(3))


@cache
def blobs(n: int = 60, d: int = 4) -> Dataset:
    """Three classes far from each other."""
    y = torch.arange(n) % 3
    x = 0.02 * torch.rand(n, d, generator=torch.Generator().manual_seed(0)) + 0.3
    x[torch.arange(n), y] += 0.5
    return Dataset(x, y, 3, name="blobs")


def work(tmp_path: Path, data: Dataset, encoder: str | Circuit = "angle", **changes: Any) -> Work:
    config = replace(Screening(**TINY), **changes)
    encoded = encode(data, encoder, config)
    return Work(encoded.dataset, encoded.circuit, config, tmp_path, torch.device("cpu"))


def pick(results: Sequence[Result], metric: str, **where: Any) -> list[Result]:
    return [r for r in results if r.metric == metric and all(r.config.get(k) == v for k, v in where.items())]


def one(results: Sequence[Result], metric: str, **where: Any) -> float:
    (found,) = pick(results, metric, **where)
    return found.value


# ---- what a user gets ------------------------------------------------------------------------------------------------


def test_wrong_labels_of_digits_are_found_and_mended(tmp_path: Path) -> None:
    flips = digits()
    page = screen(flips.dataset, out=tmp_path / "run", **TINY)
    samples = pq.read_table(page.parent / "samples.parquet").to_pydict()
    wrong = flips.is_flipped.numpy()
    assert samples["sample"] == list(range(400))
    assert samples["label"] == flips.y.tolist()
    for column in ("neighbour_vote_states", "class_vote_states", "neighbour_vote_features", "class_vote_features"):
        assert roc_auc_score(wrong, samples[column]) > 0.93, column
    flagged = np.array(samples["flagged"])
    assert flagged[wrong].mean() > 0.9
    assert flagged[~wrong].mean() < 0.15
    suggested = torch.tensor(samples["suggested"])
    assert float((suggested[wrong] == flips.clean.y[wrong]).double().mean()) > 0.8
    listed = pc.read_csv(page.parent / "artifacts" / "suspicious.csv").to_pydict()
    assert sorted(listed["sample"]) == np.flatnonzero(flagged).tolist()
    assert wrong[listed["sample"][:10]].mean() >= 0.9  # the most suspicious come first
    html = page.read_text(encoding="utf-8")
    assert f"{listed['sample'][0]}: label {listed['label'][0]}, suggested {listed['suggested'][0]}" in html
    assert html.count('alt="the nearest sample of the suggested label"') == 12
    with np.load(page.parent / "artifacts" / "suspicious.npz") as pictures:
        first = torch.from_numpy(pictures["given"].astype(np.float32))
        near = torch.from_numpy(pictures["near"].astype(np.float32))
    assert torch.equal(first, flips.dataset.x[listed["sample"][:12]])  # digits are sixteenths
    places = [int((flips.dataset.x == picture).flatten(1).all(1).nonzero()[0]) for picture in near]
    assert flips.y[places].tolist() == listed["suggested"][:12]
    report = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    statuses = [finding["status"] for finding in report["findings"]]
    assert statuses[:2] == ["holds", "unclear"]  # the control works, and labels stand out
    assert f"{flagged.sum()} of 400 labels are suspicious" in report["findings"][1]["text"]


def test_a_clean_set_holds_and_features_are_drawn_as_bars(tmp_path: Path) -> None:
    page = screen(blobs(), out=tmp_path / "clean", **TINY)
    report = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert "0 of 60 labels are suspicious" in report["findings"][1]["text"]
    assert report["findings"][1]["status"] == "holds"
    assert not [panel for panel in report["panels"] if panel["kind"] == "images"]
    assert pc.read_csv(page.parent / "artifacts" / "suspicious.csv").num_rows == 0
    y = blobs().y.clone()
    y[7] = (y[7] + 1) % 3
    page = screen(replace(blobs(), y=y), out=tmp_path / "wrong", **TINY)
    assert "7: label 2, suggested 1" in page.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").count('class="bars"') == 2  # the sample and the one beside it


def test_labels_that_mean_nothing_are_told(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = Dataset(torch.rand(120, 4, generator=generator), torch.randint(0, 2, (120,), generator=generator), 2)
    page = screen(noise, out=tmp_path / "run", draws=6)
    report = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert report["findings"][0]["status"] == "fails"
    assert "The screening does not work on this set" in report["findings"][0]["text"]


def test_an_encoder_that_throws_the_classes_together_is_told(tmp_path: Path) -> None:
    data = digits().clean
    blind = Circuit(1, (Gate("RZ", (0,), (Input(0),)),))  # a phase of |0>
    page = screen(data, blind, out=tmp_path / "run", draws=6)
    report = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert {f["code"]: f["severity"] for f in report["checks"]}["blind-encoder"] == "fail"
    assert [f["status"] for f in report["findings"][2:4]] == ["fails", "fails"]  # the control is better in both


def test_a_stopped_screening_goes_on_and_says_the_same(tmp_path: Path) -> None:
    def stop(done: int, total: int, name: str, left: float | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        screen(blobs(), out=tmp_path / "a", progress=stop, **TINY)
    assert {r.cell for r in read(tmp_path / "a" / "results.jsonl")} == {"classes", "labels-states", "labels-features"}
    for name in ("a", "b"):
        screen(blobs(), out=tmp_path / name, **TINY)
    first, second = (read(tmp_path / name / "results.jsonl") for name in ("a", "b"))
    assert [replace(r, seconds=None) for r in first] == [replace(r, seconds=None) for r in second]
    with pytest.raises(UsageError, match="other neighbours"):
        screen(blobs(), out=tmp_path / "a", draws=2, neighbours=4)
    with pytest.raises(UsageError, match="other content"):
        screen(replace(blobs(), x=1 - blobs().x), out=tmp_path / "a", **TINY)


def test_the_first_samples_keep_their_places(tmp_path: Path) -> None:
    assert first_places(blobs(), 6).tolist() == [0, 1, 2, 3, 4, 5]
    rare = Dataset(torch.rand(50, 1, generator=torch.Generator()), (torch.arange(50) > 47).long(), 2)
    assert first_places(rare, 5).tolist() == [0, 1, 2, 3, 4, 48, 49]  # two of each class at least
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1)).sort().indices
    data = blobs().subset(order)
    screen(data, out=tmp_path / "run", n_samples=30, **TINY)
    samples = pq.read_table(tmp_path / "run" / "samples.parquet").to_pydict()
    assert len(samples["sample"]) == 30
    assert data.y[samples["sample"]].tolist() == samples["label"]


# ---- numbers against other ways to get them --------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [None, "quid:0.05"])
def test_classes_agree_with_encoder_similarity_and_with_plain_loops(tmp_path: Path, noise: str | None) -> None:
    task = work(tmp_path, blobs(30), noise=noise)
    x, y = task.dataset.x, task.dataset.y
    results = run_classes(task)
    encoded = ess(task.circuit, x, y)
    half = label_agreement(task.circuit, x, y, generator=torch.Generator().manual_seed(0))
    assert one(results, "agreement", space="states") == half.share
    apart = torch.cdist(x.double(), x.double())
    known = torch.tensor([i not in half.judged for i in range(30)])
    for a in range(3):
        for b in range(3):
            where = {"label": str(a), "other": str(b)}
            found = one(results, "class_distance", space="states", **where)
            assert found == pytest.approx(float(encoded.classes[a, b]))
            pairs = [float(apart[i, j]) for i in range(30) for j in range(30) if i != j and (y[i], y[j]) == (a, b)]
            assert one(results, "class_distance", space="features", **where) == pytest.approx(np.mean(pairs))
    widths = silhouette_samples(x.numpy(), y.numpy())
    assert one(results, "silhouette", space="features") == pytest.approx(float(widths.mean()), rel=1e-5)
    for c in range(3):
        mean = float(widths[y.numpy() == c].mean())
        assert one(results, "class_silhouette", space="features", label=str(c)) == pytest.approx(mean, rel=1e-5)
    nearest = [min(range(3), key=lambda c: float(apart[i][known & (y == c)].mean())) for i in half.judged.tolist()]
    right = [c == int(y[i]) for c, i in zip(nearest, half.judged.tolist(), strict=True)]
    assert one(results, "agreement", space="features") == np.mean(right)
    assert one(results, "agreement_gain") == pytest.approx(half.share - np.mean(right))


def test_scores_are_those_of_the_detectors(tmp_path: Path) -> None:
    flips = digits()
    task = work(tmp_path, flips.dataset)
    for name, space in (("states", States(task.circuit)), ("features", Features())):
        results = run_labels(task, name)
        for detector, threshold in ((NeighbourVote(space, k=5), 0.5), (ClassVote(space), 0.0)):
            label = {NeighbourVote: "neighbour_vote", ClassVote: "class_vote"}[type(detector)]
            found = detector(task.dataset)
            assert torch.equal(task.scores(name)[label].scores, found.scores)
            assert torch.equal(task.scores(name)[label].suggested, found.suggested)
            words = label.replace("_", " ")
            assert one(results, "flagged", detector=words) == float((found.scores > threshold).double().mean())
            again = detector(found.relabel(threshold))
            mended = float((again.scores > threshold).double().mean())
            assert one(results, "flagged_when_mended", detector=words) == mended


def test_the_control_counts_the_flips_that_it_planted(tmp_path: Path) -> None:
    task = work(tmp_path, digits().clean, planted=0.1, n_control=300)
    results = run_planted(task, 1)
    flips = plant(task.dataset, task.config, 1)
    wrong = flips.is_flipped.numpy()
    assert (len(wrong), wrong.sum()) == (300, 30)
    assert torch.equal(flips.y != flips.clean.y, flips.is_flipped)
    scores = NeighbourVote(States(task.circuit), k=5)(flips.dataset).scores.numpy()
    where = {"space": "states", "detector": "neighbour vote"}
    assert one(results, "auroc", **where) == pytest.approx(roc_auc_score(wrong, scores))
    assert one(results, "recall", **where) == recall_score(wrong, scores > 0.5)
    assert one(results, "precision", **where) == precision_score(wrong, scores > 0.5)
    assert one(results, "false_flag_rate", **where) == np.mean(scores[~wrong] > 0.5)
    found = [one(results, "found", inspected=share, **where) for share in (0.01, 0.1, 0.3)]
    assert found == sorted(found)
    top = np.sort(scores)[::-1][:30]
    assert (scores[wrong] > top[-1]).sum() <= 30 * found[1] <= (scores[wrong] >= top[-1]).sum()


def test_equal_samples_with_different_labels_are_counted() -> None:
    x = torch.tensor([[0.1], [0.2], [0.1], [0.2], [0.3], [0.3]])
    assert conflicts(Dataset(x, torch.tensor([0, 1, 1, 1, 0, 0]), 2)) == 2


# ---- what enters the encoder -----------------------------------------------------------------------------------------


def test_samples_are_reduced_to_what_the_encoder_takes() -> None:
    data, config = digits().clean, Screening()
    encoded = encode(data, "angle", config)
    assert encoded.circuit == angle(4, ("RZ", "RX"), hadamard=True)
    x, z = data.x.flatten(1).double(), encoded.dataset.x.double()
    assert x.shape == (400, 64)
    assert z.shape == (400, 8)
    _, _, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    for i in range(8):  # each feature is an affine image of one principal component, 0 in the middle
        expected = (x - x.mean(0)) @ axes[i]
        scaled = expected / expected.abs().max()
        assert min(float((2 * z[:, i] - 1 - s * scaled).abs().max()) for s in (1, -1)) < 1e-4
    kept = float(((x - x.mean(0)) @ axes[:8].T).var(0).sum() / x.var(0).sum())
    assert encoded.kept == pytest.approx(kept, rel=1e-4)
    assert "64 features, reduced to 8 principal components" in encoded.said


def test_encoders_take_features_as_they_are() -> None:
    data = blobs(12)
    odd = Dataset(data.x[:, :3], data.y, 3)
    for set_, encoder, changes, qubits, inputs in (
        (data, "angle", {}, 2, 4),
        (odd, "angle", {}, 2, 4),  # one input is 0
        (data, "angle", {"features_per_qubit": 1}, 4, 4),
        (data, "amplitude", {}, 2, 4),
        (odd, "amplitude", {}, 2, 3),
        (digits().clean, "amplitude", {"reduce": "none"}, 6, 64),
    ):
        encoded = encode(set_, encoder, replace(Screening(), **changes))
        assert (encoded.circuit.n_qubits, encoded.circuit.n_inputs) == (qubits, inputs)
        assert torch.equal(encoded.dataset.x[:, : set_.x[0].numel()], set_.x.flatten(1))
        assert not encoded.dataset.x[:, set_.x[0].numel() :].any()
        assert encoded.kept == 1
    noisy = encode(data, "angle", replace(Screening(), noise="quid:0.05"))
    assert len(noisy.circuit.channels) == 2 * len(noisy.circuit.gates) / 3  # two after each gate
    own = encode(data, angle(3), Screening())
    assert own.dataset.x.shape == (12, 3)


def test_sets_are_found_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs().x.numpy(), blobs().y.numpy()
    np.savez(tmp_path / "whole.npz", x=x, y=y)
    np.savez(tmp_path / "parts.npz", x_train=x[:30], y_train=y[:30], x_test=x, y_test=y)
    assert len(find_set(str(tmp_path / "whole.npz"))) == 60  # nothing is kept back for testing
    assert len(find_set(str(tmp_path / "parts.npz"))) == 30
    for folder in ("pictures/train", "plain"):
        for label in ("cat", "dog"):
            (tmp_path / folder / label).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (4, 4), (i, i, i)).save(tmp_path / folder / label / f"{i}.png")
    for name in ("pictures", "plain"):
        found = find_set(str(tmp_path / name))
        assert (tuple(found.x.shape), found.classes) == ((4, 3, 4, 4), ("cat", "dog"))


# ---- bad input -------------------------------------------------------------------------------------------------------


def changed(y: Tensor, **where: int) -> Dataset:
    """Return the blobs with other labels of the first samples."""
    return replace(blobs(), y=torch.cat([y, blobs().y[len(y) :]]), n_classes=where.get("n_classes", 3))


BAD: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "must hold two classes to train on": (replace(blobs(), y=torch.zeros(60, dtype=torch.long)), "angle", {}),
    "has one of class 3: add another": (changed(torch.tensor([3]), n_classes=4), "angle", {}),
    "has none of class 3: number the classes without gaps": (replace(blobs(), n_classes=4), "angle", {}),
    "24 features or less for the encoder angle, 12 qubits of 2 each, but has 64: set `reduce` to pca": (
        "digits",
        "angle",
        {"reduce": "none"},
    ),
    "256 features or less for the encoder amplitude, 8 qubits, but has 300: set `n_features` to 256": (
        Dataset(torch.rand(400, 500, generator=torch.Generator()), torch.arange(400) % 2, 2),
        "amplitude",
        {"n_features": 300, "noise": "quid:0.05"},
    ),
    "must have the 1 features that the encoder takes, but has 4: set `reduce` to pca": (
        blobs(),
        ONE_TURN,
        {"reduce": "none"},
    ),
    "must have the 6 features that the encoder takes, but has 4: take a smaller": (blobs(), angle(6), {}),
    "`n_features` must be below the number of samples, 12": (blobs(12, 20), "angle", {"n_features": 14}),
    "Unknown encoder `angel`: did you mean angle?": ("iris", "angel", {}),
    "No module named 'nowhere'": ("iris", "nowhere:f", {}),
    "returned OrderedDict": ("iris", "collections:OrderedDict", {}),
    "raised TypeError": ("iris", "collections:namedtuple", {}),
    "must have inputs and no weights, but has 0 inputs and 1 weights": (
        "iris",
        Circuit(1, (Gate("RY", (0,), (Weight(0),)),)),
        {},
    ),
    "must be a circuit that runs, but raised TypeError": (
        "iris",
        Circuit(1, (Gate("RY", (0,), (Input(0) + Input(1),)),)),  # type: ignore[operator]
        {},
    ),
    "must have 12 qubits or less, but has 13": (blobs(60, 30), angle(13), {}),
    "must have 8 qubits or less with noise, but has 9": (blobs(60, 30), angle(9), {"noise": "quid:0.05"}),
    "no all-zero sample for an amplitude encoding, but sample 5": (
        replace(blobs(), x=blobs().x * (torch.arange(60) != 5)[:, None]),
        "amplitude",
        {},
    ),
    "`neighbours` must be below the number of samples, 60": (blobs(), "angle", {"neighbours": 60}),
    "`planted` must flip 2 labels or more of 60": (blobs(), "angle", {"planted": 0.01}),
    "more samples of its rarest classes, such as 0": (
        Dataset(torch.rand(80, 2, generator=torch.Generator()), torch.arange(80) % 40, 40),
        "angle",
        {"planted": 0.4},
    ),
    "`draws` must be 2 or more": (blobs(), "angle", {"draws": 1}),
    "`planted` must lie between 0 and 0.5": (blobs(), "angle", {"planted": 0.7}),
    "Unknown noise": (blobs(), "angle", {"noise": "loud"}),
    "`reduce` is wrong": (blobs(), "angle", {"reduce": "ica"}),
    "`metric` is wrong": (blobs(), "angle", {"metric": "l1"}),
    "`scale` not 0": (blobs(), "angle", {"scale": 0}),
    "Unknown configuration key `neighbors`: did you mean neighbours": (blobs(), "angle", {"neighbors": 3}),
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line_before_any_work(said: str, tmp_path: Path) -> None:
    data, encoder, changes = BAD[said]
    with pytest.raises(UsageError) as error:
        screen(data, encoder, out=tmp_path / "run", **changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
