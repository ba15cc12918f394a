"""Poisoned labels in audits: the numbers are those of a training done by hand, and what they do not show is said."""

import json
import math
import pickle
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from redqubit import MODELS, Dataset, UsageError, audit, cli
from redqubit.auditing.cells import Work
from redqubit.auditing.config import Audit
from redqubit.auditing.encoder import Encoder, find_encoder, first_part
from redqubit.auditing.poisoning import PoisonPlan, plan_poisoning, poisoning_cells
from redqubit.auditing.poisoning_verdict import (
    PoisoningTable,
    poisoning_findings,
    poisoning_flags,
    poisoning_limits,
    poisoning_panels,
)
from redqubit.auditing.subjects import find_model
from redqubit.data import first_stratified, load_splits
from redqubit.models import QuantumLayer, noisy
from redqubit.poisoning import QUID, Cyclic, Farthest, LabelPoison, RandomFlip
from redqubit.quantum import Circuit, Gate, Input, Weight, encodings
from redqubit.quantum.noise import quid_noise
from redqubit.result import Finding, Result, Summary, load, load_summary
from redqubit.statistics import Proportion, mcnemar
from redqubit.training import train

MADE: dict[str, Any] = {
    "attacks": ["fgsm"],
    "eps": [0.1],
    "epochs": 4,
    "seeds": [0, 1],
    "twin": "hybrid_twin",
    "poisons": ["random", "cyclic", "farthest", "quid"],
    "poison_ratios": [0.2, 0.5],
    "n_poison_train": 45,
}
ANGLES = encodings.angle(2, ("RZ", "RX"), hadamard=True)  # of `qnn` for the four features of iris


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def poison(name: str, ratio: float) -> LabelPoison:
    if name == "quid":
        return QUID(ANGLES, ratio=ratio)
    if name == "farthest":
        return Farthest(ratio=ratio)
    return RandomFlip(ratio=ratio) if name == "random" else Cyclic(ratio=ratio)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of a QNN and a twin on iris, with all label poisons."""
    return audit("qnn", "iris", out=tmp_path_factory.mktemp("poisoning") / "run", **MADE).parent


@cache
def iris() -> tuple[Dataset, Dataset]:
    train_set, test_set = load_splits("iris")
    return first_stratified(train_set, 45), test_set


def right(model: str, seed: int, labels: Tensor) -> Tensor:
    """Train on these labels, and return which test samples are right."""
    train_set, test_set = iris()
    net = MODELS[model]((4,), 3, generator=seeded(seed))
    train(net, train_set.x, labels, epochs=4, batch_size=32, lr=5e-3, generator=seeded(seed))
    mask: Tensor = net(test_set.x).argmax(1) == test_set.y
    return mask


def found(folder: Path, metric: str, model: str, name: str, ratio: float, seed: int) -> Result:
    (one,) = (
        r
        for r in load(folder / "results.jsonl")
        if (r.metric, r.seed, r.config.get("model")) == (metric, seed, model)
        and (r.config["poison"], r.config["poison_ratio"]) == (name, ratio)
    )
    return one


def test_the_numbers_are_those_of_a_training_by_hand(run: Path) -> None:
    data = iris()[0]
    for model, seed in (("qnn", 1), ("hybrid_twin", 0)):
        for name in MADE["poisons"]:
            for ratio in (0.0, 0.2, 0.5):
                labels = poison(name, ratio)(data, generator=seeded(seed)).y if ratio else data.y
                mask = right(model, seed, labels)
                p, r = Proportion(int(mask.sum()), 30), found(run, "poisoned_accuracy", model, name, ratio, seed)
                assert (r.k, r.n, r.value, r.low, r.high) == (p.k, 30, p.value, p.low, p.high), (model, name, ratio)


def test_the_labels_are_counted(run: Path) -> None:
    data = iris()[0]
    for name in MADE["poisons"]:
        poisoned = poison(name, 0.5)(data, generator=seeded(1))
        for model in ("qnn", "hybrid_twin"):
            assert found(run, "poisoned_labels", model, name, 0.5, 1).value == 22
            assert found(run, "wrong_labels", model, name, 0.5, 1).value == int((poisoned.y != data.y).sum())
    control = poison("farthest", 0.5)(data, generator=seeded(1))
    same = (poison("quid", 0.5)(data, generator=seeded(1)).y == control.y)[control.is_poisoned]
    assert found(run, "labels_as_farthest", "qnn", "quid", 0.5, 1).value == int(same.sum())


def test_outcomes_of_every_sample_agree_with_the_results(run: Path) -> None:
    rows = pq.read_table(run / "poisoning.parquet").to_pylist()
    assert len(rows) == 2 * 2 * (1 + 4 * 2) * 30
    labels = iris()[1].y.tolist()
    for model, seed, name, ratio in (("qnn", 0, "quid", 0.2), ("hybrid_twin", 1, "none", 0.0)):
        own = [r for r in rows if (r["model"], r["seed"], r["poison"], r["ratio"]) == (model, seed, name, ratio)]
        assert [(r["index"], r["label"]) for r in own] == list(enumerate(labels))
        k = sum(r["prediction"] == r["label"] for r in own)
        assert found(run, "poisoned_accuracy", model, "quid", ratio, seed).k == k


def test_the_report_has_its_section(run: Path) -> None:
    summary = load_summary(run / "summary.json")
    panels = [p for p in summary.panels if p.section == "Poisoned labels"]
    assert [p.kind for p in panels] == ["curves", "table", "facts", "pre"]
    assert panels[-1].data["text"] == str(ANGLES)
    rows = {row[0]: row[2:] for row in panels[2].data["rows"]}
    assert rows["random"] == ["100.0 %", ""]
    assert rows["quid"][1].endswith(" %")
    assert "the first 45 of 120 training samples" in panels[0].caption
    page = json.loads((run / "report.json").read_text(encoding="utf-8"))
    (curves, table) = [p for p in page["panels"] if p["title"] in (panels[0].title, panels[1].title)]
    assert [t["facet"] for t in curves["tables"]] == ["qnn", "hybrid_twin"]
    assert all(len(t["entries"]) == 4 * 3 for t in curves["tables"])
    assert len(table["tables"][0]["entries"]) == 2 * 4 * 3
    assert any("45 training samples" in text for text in page["limits"])
    assert summary.subtitle.endswith("L-infinity perturbations, poisoned labels")


def test_the_same_audit_again_trains_nothing(run: Path) -> None:
    before = (run / "results.jsonl").read_bytes()
    steps = list[tuple[int, int]]()
    audit("qnn", "iris", out=run, progress=lambda done, total, *_: steps.append((done, total)), **MADE)
    assert (run / "results.jsonl").read_bytes() == before
    assert set(steps) == {(9, 9)}


# Which encoder a model has


class Wrapped(nn.Module):
    """A circuit behind something."""

    def __init__(self, circuit: Circuit, front: nn.Module | None = None, **options: Any) -> None:
        super().__init__()
        self.front = front or nn.Identity()
        self.layer = QuantumLayer(circuit, generator=seeded(), **options)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(self.front(x))
        return out


class Scaled(nn.Module):
    """A factor of one that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


X = torch.rand(6, 2, generator=seeded())
TURNS = encodings.angle(2)
WEIGHTS = Circuit(2, (Gate("RX", (0,), (Weight(0),)), Gate("CX", (0, 1)), Gate("RX", (1,), (Weight(1),))))


@pytest.mark.tiny
def test_an_encoder_is_what_comes_before_the_weights() -> None:
    qnn = MODELS["qnn"]((4,), 3, generator=seeded())
    assert find_encoder(qnn, torch.rand(5, 4)) == Encoder(ANGLES)
    pictures = MODELS["qnn"]((1, 8, 8), 3, generator=seeded())
    assert find_encoder(pictures, torch.rand(5, 1, 8, 8)) == Encoder(encodings.amplitude(6, 64))
    assert find_encoder(noisy(qnn, quid_noise(0.1)), torch.rand(5, 4)) == Encoder(ANGLES)
    assert find_encoder(Wrapped((TURNS + WEIGHTS) * 2), X) == Encoder(TURNS)  # uploads the features again
    # in the order of the list a weight comes before the second feature; in time it does not
    first, second = (Circuit(2, (gate,)) for gate in TURNS.gates)
    assert first_part(first + Circuit(2, (Gate("RZ", (0,), (Weight(0),)),)) + second + WEIGHTS) == TURNS


@pytest.mark.tiny
def test_features_that_are_lacking_and_products_are_added() -> None:
    odd = find_encoder(MODELS["qnn"]((3,), 2, generator=seeded()), torch.rand(5, 3))
    assert odd == Encoder(ANGLES)
    assert odd.inputs(torch.tensor([[0.1, 0.2, 0.3]])).tolist() == [pytest.approx([0.1, 0.2, 0.3, 0.0])]
    maps = TURNS + Circuit(2, (Gate("IsingZZ", (0, 1), (2 * Input(2),)),))
    found = find_encoder(Wrapped(maps + WEIGHTS, products=((0, 1),)), X)
    assert found == Encoder(maps, ((0, 1),))
    assert found.inputs(torch.tensor([[0.5, 0.5]])).tolist() == [[0.5, 0.5, 0.25]]


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("model", "x", "why"),
    [
        (MODELS["cnn"]((1, 4, 4), 2, generator=seeded()), torch.rand(5, 1, 4, 4), "no circuit"),
        (MODELS["qunn"]((1, 4, 4), 2, generator=seeded()), torch.rand(5, 1, 4, 4), "not given the features"),
        (MODELS["hybrid"]((4,), 2, generator=seeded()), torch.rand(5, 4), "not given the features"),
        (Wrapped(TURNS + WEIGHTS, Scaled()), X, "not given the features"),
        (Wrapped(TURNS + WEIGHTS, nn.Hardtanh(0, 0.1)), X, "not given the features"),
        (Wrapped(WEIGHTS + TURNS), X, "after weights only"),
    ],
)
def test_why_a_model_has_no_encoder(model: nn.Module, x: Tensor, why: str) -> None:
    said = find_encoder(model.eval(), x)
    assert isinstance(said, str)
    assert why in said


# What is planned


def blobs(n: int = 30, d: int = 4, classes: int = 3) -> Dataset:
    y = torch.arange(n) % classes
    x = 0.5 * torch.rand(n, d, generator=seeded())
    x[torch.arange(n), y] += 0.5
    return Dataset(x, y, classes, "blobs")


def planned(data: Dataset, model: str | nn.Module = "qnn", *, asked: str = "", **changes: Any) -> PoisonPlan:
    subject = find_model(model, data.x.shape[1:], data.n_classes)
    config = replace(Audit(), **changes)
    return plan_poisoning(config, [subject], data, device=torch.device("cpu"), asked=asked.split())


@pytest.mark.tiny
def test_seeds_draw_the_same_samples_for_every_poison() -> None:
    data = blobs()
    plan = planned(data, poisons=("random", "cyclic", "farthest", "quid"))
    draws = {
        (name, ratio): plan.poisoned(name, ratio, data, 3).is_poisoned for name in plan.poisons for ratio in (0.1, 0.5)
    }
    for name in plan.poisons:
        assert torch.equal(draws[name, 0.5], draws["random", 0.5])
        assert bool((draws[name, 0.1] <= draws[name, 0.5]).all())
    assert not torch.equal(plan.poisoned("random", 0.5, data, 4).is_poisoned, draws["random", 0.5])
    assert torch.equal(plan.poisoned("quid", 0.5, data, 3).dataset.y, poison("quid", 0.5)(data, generator=seeded(3)).y)


@pytest.mark.tiny
def test_quid_without_an_encoder_takes_another_or_is_left_out() -> None:
    own = planned(blobs())
    assert (own.own, own.encoder) == (True, Encoder(ANGLES))
    assert "qnn's own encoder" in own.note
    other = planned(blobs(), "hybrid")
    assert (other.own, other.encoder) == (False, Encoder(ANGLES))
    assert "since hybrid has no encoder of its own (its circuit is not given the features as they are)." in other.note
    wide = blobs(d=17)
    none = planned(wide, "hybrid", asked="poison_ratios seeds")  # not by name
    assert (none.poisons, none.encoder) == (("random", "farthest"), None)
    assert none.note in poisoning_limits(none)
    assert none.note.startswith("QUID was not tried, since hybrid has no encoder of its own (its circuit is not given")
    assert none.note.endswith(", and 17 features are more than the 16 that the angle encoding of `qnn` takes.")
    with pytest.raises(UsageError, match=r"`poisons` must hold no quid here, as hybrid .*: leave it out\.$"):
        planned(wide, "hybrid", asked="poisons")
    only = planned(wide, "hybrid", poisons=("quid",))
    assert not only.subjects
    assert only.skipped.startswith("No label poison was tried: QUID was not tried, since hybrid has no")


@pytest.mark.tiny
def test_what_cannot_be_tried_is_a_sentence_or_an_error() -> None:
    for plan, said in (
        (planned(blobs(), nn.Linear(4, 3)), "comes with its weights"),
        (planned(blobs(n=3)), "must poison between 1 and"),
        (planned(blobs(n=12), poison_ratios=(0.9,)), "must leave a clean sample of every class"),
        (planned(blobs(), n_poison_train=1), "must hold two classes"),
    ):
        assert not plan.subjects
        assert plan.skipped.startswith("No label poison was tried: ")
        assert said in plan.skipped
        assert poisoning_limits(plan) == (plan.skipped,)
    assert planned(blobs(), poisons=()) == PoisonPlan()
    assert planned(blobs(n=12), poisons=("random", "cyclic"), poison_ratios=(0.9,)).subjects  # ask for no clean class
    with pytest.raises(UsageError, match="must leave a clean sample of every class"):
        planned(blobs(n=12), poison_ratios=(0.9,), asked="poison_ratios")


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"poison_ratios": [0.1, 0.0]}, "`poison_ratios` must lie between 0 and 1, but has 0.0"),
        ({"poison_ratios": [1.0]}, "`poison_ratios` must lie between 0 and 1"),
        ({"poison_ratios": [math.nan]}, "`poison_ratios` must lie between 0 and 1"),
        ({"poison_ratios": []}, "`poison_ratios` must hold at least one value"),
        ({"poison_ratios": [0.1, 0.1]}, "`poison_ratios` must hold each value once"),
        ({"poisons": ["qiud"]}, "Unknown label poison `qiud`: did you mean quid"),
        ({"poisons": ["quid", "quid"]}, "`poisons` must hold each value once"),
        ({"n_poison_train": 0}, "`n_poison_train` must be above 0"),
        ({"poison_ratios": [0.99]}, "`ratio` must poison between 1 and"),
    ],
)
def test_bad_settings_are_told_before_any_work(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        audit("hybrid_twin", (blobs(), blobs()), out=tmp_path / "run", seeds=[0], epochs=1, **change)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.tiny
def test_cells_travel_to_other_processes(tmp_path: Path) -> None:
    data = blobs()
    plan = planned(data)
    work = Work(Audit(), plan.subjects, (data, data), None, tmp_path, torch.device("cpu"))
    (cell, *others) = poisoning_cells(work, plan)
    assert len(others) == 2
    sent = pickle.loads(pickle.dumps(cell.run))  # noqa: S301
    assert isinstance(sent, partial)
    assert sent.args[3] == plan


def test_the_command_line_takes_names_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "--model", "hybrid_twin", "--data", "iris", "--seeds", "0", "--eps", "0.1", "--attacks", "fgsm"]
    words += ["--workers", "1", "--quiet", "--set", "epochs=1", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--poisons", "random,fartest"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "redqubit: Unknown label poison `fartest`: did you mean farthest?\n"
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--poisons", ""])
    assert ended.value.code == 0
    assert {r.cell for r in load(tmp_path / "run" / "results.jsonl")} == {"hybrid_twin-seed0"}
    summary: Summary = load_summary(tmp_path / "run" / "summary.json")
    assert "No label poison was tried: nothing here speaks of wrong labels." in summary.limits
    assert not [p for p in summary.panels if p.section == "Poisoned labels"]


# What is concluded


def first(k: int, n: int = 100) -> Tensor:
    return torch.arange(n) < k


def table(hits: dict[tuple[str, str, float], list[int]], *, twin: bool = False, own: bool = True) -> PoisoningTable:
    """Return a table of one ratio or more with these counts of 100 test samples, seed by seed."""
    data = blobs(n=100, classes=5, d=5)
    names = ("qnn", "hybrid_twin") if twin else ("qnn",)
    poisons = tuple(dict.fromkeys(name for _, name, ratio in hits if ratio))
    ratios = tuple(sorted({ratio for *_, ratio in hits if ratio}))
    seeds = tuple(range(len(next(iter(hits.values())))))
    config = replace(Audit(), poisons=poisons, poison_ratios=ratios, seeds=seeds)
    plan = PoisonPlan(
        tuple(find_model(name, (5,), 5) for name in names),
        poisons,
        Encoder(ANGLES) if "quid" in poisons else None,
        own=own,
        note="A note." if "quid" in poisons else "",
        n_train=50,
    )
    correct = {(m, s, name, r): first(k) for (m, name, r), ks in hits.items() for s, k in enumerate(ks)}
    results = []
    for name in poisons:
        labels = {"model": "qnn", "poison": name}
        counts = {"poisoned_labels": 10, "wrong_labels": 8, "labels_as_farthest": 5}
        results += [Result("audit", "c", metric, v, labels, seed=0) for metric, v in counts.items()]
    return PoisoningTable(config, plan, results, correct, data, data)


CLEAN = {("qnn", "none", 0.0): [90, 88, 92]}


@pytest.mark.tiny
def test_what_a_poison_costs() -> None:
    half = table({**CLEAN, ("qnn", "random", 0.1): [80, 79, 81], ("qnn", "random", 0.3): [40, 39, 41]})
    (finding,) = poisoning_findings(half)
    assert finding.text == (
        "Random flips in 10 and 30 % of the training labels cost qnn 10.0 and 50.0 points of accuracy; without poison "
        "it is right on 90.0 % of the test samples."
    )
    assert finding.status == "fails"  # less than half is left
    more = table({**CLEAN, ("qnn", "random", 0.3): [50, 49, 51]})
    assert poisoning_findings(more)[0].status == "unclear"
    noise = table({**CLEAN, ("qnn", "random", 0.3): [88, 20, 10]})
    assert "[-5" in poisoning_findings(noise)[0].detail
    assert poisoning_findings(noise)[0].status == "unclear"


@pytest.mark.tiny
def test_one_seed_is_judged_by_its_samples() -> None:
    one = table({("qnn", "none", 0.0): [90], ("qnn", "random", 0.5): [30]})
    (finding,) = poisoning_findings(one)
    test = mcnemar(first(90), first(30))
    assert f"+60.0 points [{100 * test.low:+.1f}, {100 * test.high:+.1f}], exact McNemar p = " in finding.detail
    assert finding.status == "fails"


@pytest.mark.tiny
def test_a_model_that_learns_nothing_without_poison_is_not_judged() -> None:
    idle = table({("qnn", "none", 0.0): [90, 22, 91], ("qnn", "random", 0.5): [10, 12, 11]})  # a class has 20 of 100
    (finding,) = poisoning_findings(idle)
    assert "cannot be judged" in finding.text
    assert finding.status == "unclear"
    assert finding.detail == "on 50 training samples, seed 1"
    (flag,) = poisoning_flags(idle)
    assert (flag.code, flag.severity) == ("poisoning-baseline", "fail")
    assert "On seed 1 " in flag.message
    (fine,) = poisoning_flags(table({**CLEAN, ("qnn", "random", 0.5): [10, 12, 11]}))
    assert fine.severity == "ok"


def beside(quid: dict[float, list[int]], control: dict[float, list[int]], other: str = "random") -> Finding:
    hits = {("qnn", name, r): ks for name, found in ((other, control), ("quid", quid)) for r, ks in found.items()}
    seeds = len(next(iter(quid.values())))
    clean = {key: ks[:seeds] for key, ks in CLEAN.items()}
    (finding,) = [f for f in poisoning_findings(table({**clean, **hits})) if " than " in f.text]
    return finding


@pytest.mark.tiny
def test_quid_beside_its_controls() -> None:
    finding = beside({0.5: [50, 50, 49]}, {0.5: [70, 69, 71]})
    assert finding.text == "QUID costs qnn more accuracy than random flips: +20.3 points."
    assert finding.status == "fails"
    finding = beside({0.5: [70, 69, 71]}, {0.5: [50, 50, 49]})
    assert finding.text == "QUID costs qnn less accuracy than random flips: -20.3 points."
    assert finding.status == "holds"
    finding = beside({0.5: [50, 60, 70]}, {0.5: [70, 61, 49]}, "farthest")
    assert finding.status == "unclear"
    assert finding.text.startswith("QUID is not shown to cost qnn more or less accuracy than flips to the class")
    assert finding.text.endswith(", so that its state space is not shown to add anything.")
    assert "50.0 % of its labels are those of the control" in finding.detail
    assert "A note." in finding.detail
    assert "add anything" not in beside({0.5: [50, 50, 49]}, {0.5: [70, 69, 71]}, "farthest").text
    foreign = table({**CLEAN, ("qnn", "random", 0.5): [70, 69, 71], ("qnn", "quid", 0.5): [50, 50, 49]}, own=False)
    assert poisoning_findings(foreign)[2].text.startswith("QUID with another encoder costs qnn more accuracy than")
    # three seeds that happen to agree on a gap show nothing
    assert "is not shown to cost" in beside({0.5: [50, 60, 70]}, {0.5: [60, 70, 80]}).text


@pytest.mark.tiny
def test_shares_of_poison_are_judged_together() -> None:
    more = {0.1: [79, 81, 80], 0.5: [50, 53, 49]}
    finding = beside(more, {0.1: [80, 83, 84], 0.5: [70, 69, 71]})
    assert "more accuracy than random flips: +10.8 points." in finding.text  # (7 + 58) / 3 / 2
    assert "10 %: +2.3 points [" in finding.detail
    assert "50 %: +19.3 points [" in finding.detail
    one = beside({0.1: [50], 0.5: [50]}, {0.1: [80], 0.5: [60]})  # of one seed the samples are the pairs
    assert "+20.0 points" in one.text
    assert "over the test samples (BCa bootstrap, Newcombe)" in one.detail


@pytest.mark.tiny
def test_below_any_guess_needs_an_interval_and_names_the_control() -> None:
    def said(**poisoned: list[int]) -> list[str]:
        hits = {**CLEAN, **{("qnn", name, 0.5): ks for name, ks in poisoned.items()}}
        return [f.text for f in poisoning_findings(table(hits)) if "less often than any guess" in f.text]

    assert not said(cyclic=[5, 5, 30])  # a guess is right on 20 of 100
    (text,) = said(cyclic=[5, 4, 6], random=[60, 61, 62])
    assert "after flips to the next class in 50 % (5.0 %): it has learned wrong labels." in text
    assert text.endswith("so that it is no quantum effect.")
    (text,) = said(quid=[5, 4, 6], random=[60, 61, 62])
    assert "no quantum effect" not in text


@pytest.mark.tiny
def test_the_twin_is_compared_by_what_it_loses() -> None:
    twin = {("hybrid_twin", "none", 0.0): [98, 99, 97]}
    model = {**CLEAN, ("qnn", "random", 0.5): [60, 57, 62]}
    worse = table({**model, **twin, ("hybrid_twin", "random", 0.5): [88, 90, 87]}, twin=True)
    finding = poisoning_findings(worse)[-1]
    assert finding.text == (
        "Accuracy that label poison costs qnn, beside its twin hybrid_twin: more with random (+20.7 points)."
    )
    assert finding.status == "fails"
    assert "random, mean over shares: +20.7 points [" in finding.detail  # 30, 31 and 30 lost, of the twin 10, 9 and 10
    alike = table({**model, **twin, ("hybrid_twin", "random", 0.5): [68, 67, 68]}, twin=True)
    assert poisoning_findings(alike)[-1].status == "unclear"
    idle = table(
        {**model, ("hybrid_twin", "none", 0.0): [20, 99, 97], ("hybrid_twin", "random", 0.5): [20] * 3}, twin=True
    )
    assert "cannot be compared" in poisoning_findings(idle)[-1].text
    one = {key: ks[:1] for key, ks in {**model, **twin, ("hybrid_twin", "random", 0.5): [88]}.items()}
    finding = poisoning_findings(table(one, twin=True))[-1]
    assert "cannot be compared" in finding.text
    assert "one seed" in finding.detail


@pytest.mark.tiny
def test_without_models_nothing_is_said() -> None:
    data = blobs()
    empty = PoisoningTable(Audit(), PoisonPlan(skipped="No."), [], {}, data, data)
    assert [*poisoning_findings(empty), *poisoning_flags(empty), *poisoning_panels(empty)] == []
