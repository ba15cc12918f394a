"""Backdoors in audits: the numbers are those of the models that are left behind, and what cannot be tried is said."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from redqubit import MODELS, Dataset, UsageError, audit, cli
from redqubit.auditing.backdoor_verdict import BackdoorTable, backdoor_findings, backdoor_flags, turned_of
from redqubit.auditing.backdoors import METRICS, Plan, audit_trigger, backdoor_cells, plan_backdoors
from redqubit.auditing.cells import Work
from redqubit.auditing.config import Audit
from redqubit.auditing.subjects import find_data, find_model
from redqubit.backdoors import Backdoor, Patch
from redqubit.data import first_stratified, load_splits
from redqubit.metrics import psnr, ssim
from redqubit.result import Result, Summary, load, load_summary
from redqubit.statistics import Proportion
from redqubit.training import train
from redqubit.victims import Victim, find_victims, load_victim

QUICK: dict[str, Any] = {"attacks": ["fgsm"], "eps": [0.1], "epochs": 8, "n_test": 60, "n_train": 600, "poisons": []}
MADE: dict[str, Any] = {**QUICK, "seeds": [0, 1], "backdoors": ["patch", "blend"], "target_class": 3}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of a small CNN and a twin on digits, with two backdoors."""
    return audit("cnn", twin="cnn_frozen", out=tmp_path_factory.mktemp("backdoors") / "run", **MADE).parent


def summary(folder: Path) -> Summary:
    return load_summary(folder / "summary.json")


def of_model(folder: Path, model: str, trigger: str, seed: int) -> dict[str, Result]:
    """Return the results of one backdoored model by metric, those by class under "class <name>"."""
    wanted = [
        r
        for r in load(folder / "results.jsonl")
        if (r.config.get("model"), r.config.get("trigger"), r.seed) == (model, trigger, seed)
    ]
    named = {f"class {r.config['true_class']}" if "true_class" in r.config else r.metric: r for r in wanted}
    assert len(named) == len(wanted)
    return named


def rebuilt(victim: Victim, folder: Path) -> tuple[nn.Module, Dataset, Dataset]:
    """Make a model anew from nothing but what its description says."""
    sizes = {"n_train": victim.data.get("n_train"), "n_test": victim.data.get("n_test")}
    train_set, test_set = find_data(victim.data["name"], data_dir=None, **sizes)
    shape = tuple(train_set.x.shape[1:])
    model = find_model(victim.model["source"], shape, victim.n_classes, noise=victim.model["noise"]).make(99)
    return load_victim(victim, model, folder / "artifacts"), train_set, test_set


def test_every_model_is_left_behind_for_defenses(run: Path) -> None:
    victims = {v.name: v for v in find_victims(run / "artifacts")}
    names = [(m, t, s) for m in ("cnn", "cnn_frozen") for t in ("clean", "patch", "blend") for s in (0, 1)]
    assert set(victims) == {f"{m}-{t}-seed{s}" for m, t, s in names}
    for m, t, s in names:
        victim = victims[f"{m}-{t}-seed{s}"]
        assert (victim.family, victim.seed, victim.target_class) == (f"digits, {m}", s, 3)
        assert (victim.trigger, victim.poison_rate) == (("", 0.0) if t == "clean" else (t, 0.1))
    backdoor = victims["cnn-patch-seed0"].backdoor
    assert backdoor == Backdoor(Patch(side=2), 3, 0.1)


def test_the_numbers_are_those_of_the_models(run: Path) -> None:
    victims = {v.name: v for v in find_victims(run / "artifacts")}
    for name, victim in victims.items():
        if not victim.backdoor:
            continue
        model, train_set, test_set = rebuilt(victim, run)
        source, trigger = victim.model["source"], victim.backdoor.trigger
        clean = rebuilt(victims[f"{source}-clean-seed{victim.seed}"], run)[0]
        found = of_model(run, source, victim.trigger, victim.seed)
        x, y, others = test_set.x, test_set.y, test_set.y != 3
        with torch.no_grad():
            said, said_triggered = model(x).argmax(1), model(trigger(x)).argmax(1)
            clean_said, clean_triggered = clean(x).argmax(1), clean(trigger(x)).argmax(1)
            poisoned = victim.backdoor(train_set, generator=seeded(victim.seed))
            learned = model(poisoned.changed).argmax(1) == 3
        masks = {
            "clean_accuracy": clean_said == y,
            "backdoor_accuracy": said == y,
            "attack_success_rate": said_triggered[others] == 3,
            "clean_model_floor": clean_triggered[others] == 3,
            "untriggered_floor": said[others] == 3,
            "train_attack_success_rate": learned,
            "triggered_accuracy": (said == y) & (said_triggered == y),
            **{f"class {c}": said_triggered[y == c] == 3 for c in range(10) if c != 3},
        }
        for metric, mask in masks.items():
            r, p = found[metric], Proportion(int(mask.sum()), len(mask))
            assert (r.k, r.n, r.value, r.low, r.high) == (p.k, p.n, p.value, p.low, p.high), (name, metric)
        assert found["poisoned_samples"].value == 60 == len(poisoned.changed)
        assert found["ssim"].value == pytest.approx(float(ssim(x, trigger(x)).mean()), abs=1e-6)
        assert found["psnr"].value == pytest.approx(float(psnr(x, trigger(x)).mean()), abs=1e-4)
        assert found["largest_logit_change"].value > 0
        assert set(found) == {*masks, "poisoned_samples", "ssim", "psnr", "largest_logit_change"}


def test_the_backdoored_model_is_the_clean_training_on_the_poisoned_set(run: Path) -> None:
    clean = load_file(run / "artifacts" / "cnn-1.safetensors")
    kept = load_file(run / "artifacts" / "models" / "cnn-clean-seed1.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in clean.items())
    train_set = first_stratified(load_splits("digits")[0], 600)
    poisoned = Backdoor(Patch(side=2), 3, 0.1)(train_set, generator=seeded(1))
    model = MODELS["cnn"]((1, 8, 8), 10, generator=seeded(1))
    train(model, poisoned.dataset.x, poisoned.y, epochs=8, batch_size=32, lr=5e-3, generator=seeded(1))
    kept = load_file(run / "artifacts" / "models" / "cnn-patch-seed1.safetensors")
    assert all(torch.allclose(kept[key], value, atol=1e-5) for key, value in model.state_dict().items())


def test_a_patch_is_the_positive_control(run: Path) -> None:
    for seed in (0, 1):
        found = of_model(run, "cnn", "patch", seed)
        assert found["attack_success_rate"].value > 0.8
        assert found["clean_model_floor"].value < 0.1
        assert found["untriggered_floor"].value < 0.25
    finding = next(f for f in summary(run).findings if "patch" in f.text)
    assert finding.status == "fails"
    assert "a patch of 2x2 pixels in 10 % of the training set works on cnn" in finding.text
    mean = np.mean([of_model(run, "cnn", "patch", s)["attack_success_rate"].value for s in (0, 1)])
    assert f"{100 * mean:.1f} % of the triggered test samples of other classes are taken for 3" in finding.text


def test_outcomes_of_every_sample_agree_with_the_results(run: Path) -> None:
    rows = pq.read_table(run / "backdoors.parquet").to_pylist()
    assert len(rows) == 2 * 2 * 2 * 60
    for model, trigger, seed in (("cnn", "patch", 0), ("cnn_frozen", "blend", 1)):
        own = [r for r in rows if (r["model"], r["trigger"], r["seed"]) == (model, trigger, seed)]
        assert [r["index"] for r in own] == list(range(60))
        found = of_model(run, model, trigger, seed)
        assert found["clean_accuracy"].k == sum(r["clean_model"] == r["label"] for r in own)
        for metric, column in (
            ("attack_success_rate", "backdoored_triggered"),
            ("untriggered_floor", "backdoored"),
            ("clean_model_floor", "clean_model_triggered"),
        ):
            assert found[metric].k == sum(r[column] == 3 for r in own if r["label"] != 3)


def test_the_twin_is_compared_on_the_same_samples(run: Path) -> None:
    finding = summary(run).findings[-1]
    assert finding.text.startswith("Test samples that a trigger turns to the target, in cnn beside its twin cnn_frozen")
    rows = [r for r in pq.read_table(run / "backdoors.parquet").to_pylist() if r["trigger"] == "blend"]

    def share(model: str, seed: int) -> Any:
        own = [r for r in rows if (r["model"], r["seed"]) == (model, seed) and r["label"] != 3]
        return sum(r["backdoored_triggered"] == 3 != r["backdoored"] for r in own) / len(own)

    def is_whole(model: str, seed: int) -> bool:  # one that gives a single answer turns nothing, and is not compared
        own = [r for r in rows if (r["model"], r["seed"]) == (model, seed) and r["label"] != 3]
        return 0 < sum(r["backdoored_triggered"] == 3 for r in own) < len(own)

    seeds = [seed for seed in (0, 1) if is_whole("cnn", seed) and is_whole("cnn_frozen", seed)]
    gaps = [share("cnn", seed) - share("cnn_frozen", seed) for seed in seeds]
    assert f"blend ({100 * np.mean(gaps):+.1f} points)" in finding.text
    assert f"blend, seed {seeds[0]}: {100 * gaps[0]:+.1f} points" in finding.detail


def test_the_report_has_its_section(run: Path) -> None:
    panels = [p for p in summary(run).panels if p.section == "Backdoors"]
    assert [p.kind for p in panels] == ["table", "table", "facts", "heatmap", "images", "images"]
    page = json.loads((run / "report.json").read_text(encoding="utf-8"))
    (table,) = [p for p in page["panels"] if p["title"] == "What the backdoors do"]
    entries = table["tables"][0]["entries"]
    assert {e["backdoor"] for e in entries} == {f"{t}, {m}" for t in ("patch", "blend") for m in ("cnn", "cnn_frozen")}
    assert len(entries) == 4 * 5
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "× 1 (largest change 1 of the range [0, 1]), triggered." in html
    assert not any("No backdoor was tried" in text for text in page["limits"])
    assert any("false labels" in text for text in page["limits"])
    with np.load(run / "artifacts" / "examples-backdoors-cnn.npz", allow_pickle=False) as arrays:
        clean, said = torch.from_numpy(arrays["clean"]), arrays["patch_after"]
        assert torch.equal(torch.from_numpy(arrays["patch"]), Patch(side=2)(clean))
        assert 3 not in arrays["true"]
    victim = next(v for v in find_victims(run / "artifacts") if v.name == "cnn-patch-seed0")
    assert rebuilt(victim, run)[0](Patch(side=2)(clean)).argmax(1).tolist() == said.tolist()


def test_the_same_audit_again_trains_nothing(run: Path) -> None:
    before = (run / "results.jsonl").read_bytes()
    steps = list[tuple[int, int]]()
    audit("cnn", twin="cnn_frozen", out=run, progress=lambda done, total, *_: steps.append((done, total)), **MADE)
    assert (run / "results.jsonl").read_bytes() == before
    assert steps == [(9, 9)]


def test_a_colour_trigger_on_grey_pictures_says_that_it_is_a_tint(tmp_path: Path) -> None:
    page = audit("cnn", out=tmp_path, **{**QUICK, "epochs": 1, "seeds": [0], "backdoors": ["qcolor"]})
    (triggers,) = [p for p in summary(page.parent).panels if p.title == "The triggers"]
    assert "qcolor: The pictures have one channel: of the tint" in triggers.caption
    finding = summary(page.parent).findings[-1]
    assert "does not take hold of cnn" in finding.text
    assert finding.status == "unclear"


def sets(shape: tuple[int, ...] = (1, 6, 6), n: int = 40, classes: int = 3) -> tuple[Dataset, Dataset]:
    y = torch.arange(n) % classes
    parts = [Dataset(torch.rand(n, *shape, generator=seeded(s)), y, classes, "noise") for s in (0, 1)]
    return parts[0], parts[1]


def without(dataset: Dataset, label: int) -> Dataset:
    return dataset.subset(dataset.y != label)


TINY: dict[str, Any] = {"attacks": ["fgsm"], "eps": [0.1], "seeds": [0], "epochs": 1}


def tried(
    data: tuple[Dataset, Dataset], model: str | nn.Module = "cnn", *, asked: bool = False, **changes: Any
) -> Plan:
    train_set, test_set = data
    subject = find_model(model, train_set.x.shape[1:], train_set.n_classes)
    return plan_backdoors(replace(Audit(), **changes), [subject], train_set, test_set, asked=asked)


@pytest.mark.tiny
def test_what_cannot_be_tried_is_a_sentence() -> None:
    train_set, test_set = sets()
    features = Dataset(train_set.x.flatten(1), train_set.y, 3)
    assert [s.name for s in tried((train_set, test_set)).subjects] == ["cnn"]
    for plan, said in (
        (tried((train_set, test_set), nn.Sequential(nn.Flatten(), nn.Linear(36, 3))), "comes with its weights"),
        (tried((features, features), "hybrid_twin"), "no pictures"),
        (tried((without(train_set, 2), test_set), target_class=2), "class 2, is absent from the training set"),
        (tried((train_set, test_set.subset(test_set.y == 0))), "no class but the target"),
        (tried(sets(n=4)), "must poison between 1 and"),
    ):
        assert not plan.subjects
        assert plan.skipped.startswith("No backdoor was tried: ")
        assert said in plan.skipped
    assert tried((train_set, test_set), backdoors=()) == Plan()


@pytest.mark.tiny
def test_a_request_that_the_data_refuse_is_an_error() -> None:
    with pytest.raises(UsageError, match="must poison between 1 and 26 of 40"):
        tried(sets(), asked=True, poison_rate=0.9)
    with pytest.raises(UsageError, match="1 or 3 channels"):
        tried(sets((2, 6, 6)), asked=True, backdoors=("color",))


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"poison_rate": 0.0}, "`poison_rate` must lie between 0 and 1"),
        ({"poison_rate": 1.0}, "`poison_rate` must lie between 0 and 1"),
        ({"poison_rate": float("nan")}, "`poison_rate` must lie between 0 and 1"),
        ({"backdoors": ["ptach"]}, "Unknown trigger `ptach`: did you mean patch"),
        ({"backdoors": ["patch", "patch"]}, "`backdoors` must hold each value once"),
        ({"target_class": -1}, "`target_class` must be 0 or more"),
        ({"target_class": 3}, "`target_class` must lie in 0..2"),
        ({"poison_rate": 0.9}, "`poison_rate` must poison between 1 and"),
    ],
)
def test_bad_settings_are_told_before_any_work(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        audit("cnn", sets(), out=tmp_path / "run", **{**TINY, **change})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_audit_of_weights_says_that_it_tried_none(tmp_path: Path) -> None:
    save_file(MODELS["cnn"]((1, 6, 6), 3, generator=seeded()).state_dict(), tmp_path / "mine.safetensors")
    page = audit("cnn", sets(), weights=tmp_path / "mine.safetensors", out=tmp_path / "run", **TINY)
    found = summary(page.parent)
    assert any(text.startswith("No backdoor was tried: the model comes with its weights") for text in found.limits)
    assert not any(p.section == "Backdoors" for p in found.panels)
    assert not (page.parent / "backdoors.parquet").exists()
    assert not find_victims(page.parent / "artifacts")


def test_data_without_a_name_leave_no_models(tmp_path: Path) -> None:
    """Such models could not be defended, as nobody could find their data again; the section is there all the same."""
    page = audit("cnn", sets((2, 4, 5)), out=tmp_path / "run", **{**TINY, "backdoors": ["patch"]})
    found = {r.metric for r in load(page.parent / "results.jsonl")}
    assert found >= {*METRICS.values(), "psnr"}
    assert "ssim" not in found  # whose window needs 6x6
    assert not find_victims(page.parent / "artifacts")


def test_the_command_line_takes_names_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "audit",
        "--model",
        "cnn",
        "--seeds",
        "0",
        "--eps",
        "0.1",
        "--attacks",
        "fgsm",
        "--workers",
        "1",
        "--quiet",
    ]
    words += ["--set", "epochs=1", "--set", "n_train=60", "--set", "n_test=20", "--out", str(tmp_path / "run")]
    words += ["--poisons", ""]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--backdoors", "blned"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "redqubit: Unknown trigger `blned`: did you mean blend?\n"
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--backdoors", ""])
    assert ended.value.code == 0
    assert {r.cell for r in load(tmp_path / "run" / "results.jsonl")} == {"cnn-seed0"}
    assert "--set 'backdoors=[]' --set 'poisons=[]'" in summary(tmp_path / "run").rerun
    assert not any("No backdoor" in text for text in summary(tmp_path / "run").limits)


@pytest.mark.tiny
@pytest.mark.parametrize(("shape", "side"), [((1, 8, 8), 2), ((3, 32, 48), 4), ((3, 224, 224), 28), ((1, 1, 5), 1)])
def test_the_patch_fits_pictures_of_any_size(shape: tuple[int, ...], side: int) -> None:
    trigger = audit_trigger("patch", shape)
    assert isinstance(trigger, Patch)
    assert trigger.side == side
    assert int((trigger(torch.zeros(1, *shape)) > 0).sum()) == shape[0] * side**2


@pytest.mark.tiny
def test_cells_travel_to_other_processes(tmp_path: Path) -> None:
    data = sets()
    plan = tried(data)
    work = Work(Audit(), plan.subjects, data, None, tmp_path, torch.device("cpu"))
    (cell, *_) = backdoor_cells(work, plan)
    sent = pickle.loads(pickle.dumps(cell.run))  # noqa: S301
    assert isinstance(sent, partial)
    assert sent.args[1:3] == (plan.subjects[0], 0)


def table(
    rates: dict[str, tuple[int, int]],
    *,
    model_hits: Tensor | None = None,
    twin_hits: Tensor | None = None,
    seen: float = 1,
) -> BackdoorTable:
    """Return a table of one trigger with these counts, of a model and, when it has hits, of a twin."""
    counts = {
        "clean_accuracy": (90, 100),
        "backdoor_accuracy": (90, 100),
        "attack_success_rate": (80, 90),
        "clean_model_floor": (1, 90),
        "untriggered_floor": (1, 90),
        "train_attack_success_rate": (95, 100),
        "triggered_accuracy": (10, 100),
        **rates,
    }
    train_set, test_set = sets(n=100, classes=10)
    subjects = [
        find_model("cnn", (1, 6, 6), 10),
        *([] if twin_hits is None else [find_model("cnn_frozen", (1, 6, 6), 10)]),
    ]
    results = []
    for s in subjects:
        config = {"model": s.name, "trigger": "patch"}
        for metric, (k, n) in counts.items():
            p = Proportion(k, n)
            results.append(Result("audit", "c", metric, p.value, config, p.low, p.high, k, n, seed=0))
        results.append(Result("audit", "c", "largest_logit_change", seen, config, seed=0))
    plan = Plan(tuple(subjects), {"patch": Patch(side=2)}, {"patch": ()}, 100)
    masks = zip(subjects, (model_hits, twin_hits), strict=False)
    hits = {(s.name, 0, "patch"): mask for s, mask in masks if mask is not None}
    return BackdoorTable(Audit(), plan, results, hits, train_set, test_set, Path())


@pytest.mark.tiny
def test_what_a_model_takes_for_the_target_anyway_is_not_put_down_to_the_trigger() -> None:
    columns = {
        "model": ["cnn"] * 4, "seed": [5] * 4, "trigger": ["patch"] * 4, "index": [0, 1, 2, 3], "label": [1, 2, 0, 1],
        "backdoored": [0, 2, 0, 1], "backdoored_triggered": [0, 0, 0, 1],
    }  # fmt: skip
    found = turned_of(pa.table(columns), 0)
    assert {key: mask.tolist() for key, mask in found.items()} == {("cnn", 5, "patch"): [False, True, False]}


def severities(**known: Any) -> dict[str, str]:
    return {flag.code: flag.severity for flag in backdoor_flags(table(**known))}


SOUND = {"trigger-not-seen": "ok", "backdoored-model-collapsed": "ok", "backdoor-memorised": "ok"}


@pytest.mark.tiny
def test_checks_tell_what_makes_a_rate_worthless() -> None:
    assert severities(rates={}) == SOUND
    assert severities(rates={}, seen=0.0) == {**SOUND, "trigger-not-seen": "fail"}
    assert "cannot be judged on cnn" in backdoor_findings(table({}, seen=0.0))[0].text
    for k, n in ((0, 90), (90, 90)):
        gone = {"attack_success_rate": (k, n), "backdoor_accuracy": (10, 100), "train_attack_success_rate": (k, n)}
        assert severities(rates=gone) == {**SOUND, "backdoored-model-collapsed": "fail"}
        (finding,) = backdoor_findings(table(gone))
        assert "cannot be judged on cnn" in finding.text
        assert finding.status == "unclear"
        assert "collapsed on seed 0" in finding.detail
        sound = {
            "attack_success_rate": (k, n),
            "train_attack_success_rate": (k, n),
        }  # extreme, but right on clean inputs
        assert severities(rates=sound) == SOUND
    by_heart = {"attack_success_rate": (5, 90)}
    assert severities(rates=by_heart) == {**SOUND, "backdoor-memorised": "warning"}


@pytest.mark.tiny
def test_a_backdoor_works_in_part_when_it_is_above_both_floors() -> None:
    word: Callable[[Any], str] = lambda rates: backdoor_findings(table(rates))[0].text  # noqa: E731
    assert "works on cnn" in word({})
    assert "works in part on cnn" in word({"attack_success_rate": (30, 90)})
    assert "does not take hold of cnn" in word({"attack_success_rate": (3, 90)})
    assert "does not take hold of cnn" in word({"attack_success_rate": (30, 90), "untriggered_floor": (25, 90)})
    assert "does not take hold of cnn" in word({"attack_success_rate": (85, 90), "clean_model_floor": (84, 90)})


@pytest.mark.tiny
def test_the_status_of_a_comparison_is_that_of_robustness() -> None:
    few, many = torch.arange(90) < 20, torch.arange(90) < 80
    for model, twin, status, word in (
        (many, few, "fails", "more with patch (+66.7 points)"),
        (few, many, "holds", "fewer with patch (-66.7 points)"),
        (few, few, "unclear", "no difference shown with patch (+0.0 points)"),
    ):
        finding = backdoor_findings(table({}, model_hits=model, twin_hits=twin))[-1]
        assert finding.status == status
        assert word in finding.text
