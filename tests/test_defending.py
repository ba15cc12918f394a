"""Defenses over the models of a run: small models on digits, a patch as positive control, and what goes wrong."""

import json
import math
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from redqubit import cli
from redqubit.backdoors import Blend, Patch, Qcolor
from redqubit.data import as_rgb, first_stratified, load, load_splits
from redqubit.defending import (
    METHODS,
    Defending,
    checks,
    data_of,
    defend,
    defense_cells,
    findings,
    held_out,
    model_of,
    panels,
    trigger_label,
)
from redqubit.defending.cells import RUNS, entropy_counts
from redqubit.defending.late import from_last_convolution
from redqubit.defending.rebuild import shared_out
from redqubit.defenses import DEFENSES, DETECTORS, FinePruning, pruning_curve
from redqubit.defenses.fine_pruning import Ranking
from redqubit.errors import UsageError
from redqubit.metrics import backdoor_success_rate
from redqubit.models import MODELS, on_backbone
from redqubit.result import Result
from redqubit.result import load as load_results
from redqubit.storage.files import save_json
from redqubit.training import logits, train
from redqubit.victims import Victim, find_victims, save_victim

CPU = torch.device("cpu")
CONTROL = "patch side=2"
SETTINGS = {
    "n_defender": 100,
    "n_inputs": 100,
    "strip_overlays": 40,
    "cleanse_steps": 60,
    "cleanse_images_per_step": 32,
    "cleanse_restarts": 2,
    "pruning_rates": [0.25, 0.5, 0.75],
}
SET = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={json.dumps(value)}")]
CLEAN = Victim("clean-0", "digits, cnn", 0, {"source": "cnn"}, {"name": "digits"}, 10)
PATCHED = replace(CLEAN, name="patch-0", trigger="patch", settings={"side": 2}, poison_rate=0.1)
Line = Callable[..., tuple[int, str, str]]


def plant(victim: Victim, artifacts: Path) -> None:
    """Train a model for a victim, on poison if it has a backdoor."""
    generator = torch.Generator().manual_seed(victim.seed)
    clean = load("digits")
    seen = victim.backdoor(clean, generator=generator).dataset if victim.backdoor else clean
    model = MODELS["cnn"]((1, 8, 8), 10, generator=generator)
    save_victim(victim, train(model, seen.x, seen.y, epochs=7, lr=7e-3, generator=generator), artifacts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that left three clean models and one with a backdoor."""
    folder = tmp_path_factory.mktemp("run")
    for seed in range(3):
        plant(replace(CLEAN, name=f"clean-{seed}", seed=seed), folder / "artifacts")
    plant(PATCHED, folder / "artifacts")
    return folder


@pytest.fixture(scope="module")
def defended(run: Path) -> Path:
    """What the command line makes of the run: first one defense, then all of them in the same folder."""
    out = run.parent / f"{run.name}-defended"
    for names in (["strip"], []):
        words = ["defend", "--from", str(run), *names, "--control", CONTROL, "--workers", "1", "--device", "cpu", *SET]
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--quiet", "--out", str(out)])
        assert ended.value.code == 0
        shutil.copy(out / "results.jsonl", out / f"after-{len(names)}.jsonl")
    return out


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Line:
    def say(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return say


def numbers(results: list[Result], metric: str, **where: object) -> list[float]:
    return [
        r.value for r in results if r.metric == metric and all(r.config.get(k) == value for k, value in where.items())
    ]


def test_every_registered_defense_has_its_cells() -> None:
    against_backdoors = {name for name in DEFENSES if DEFENSES[name].against == "backdoors"}
    assert set(METHODS) == set(RUNS) == {*against_backdoors, *DETECTORS}


def test_the_positive_control_is_found_and_clean_models_are_not(run: Path, defended: Path) -> None:
    results = load_results(defended / "results.jsonl")
    success = numbers(results, "attack_success_rate", defense="strip", model="poisoned 10 %")
    assert len(success) == 1
    assert success[0] > 0.8
    assert min(numbers(results, "strip_auroc", model="poisoned 10 %")) > 0.95
    assert max(numbers(results, "strip_auroc", model="clean")) < 0.85
    assert len(numbers(results, "strip_auroc", model="clean", trigger=CONTROL)) == 3
    assert max(numbers(results, "attack_success_rate", model="clean")) < 0.2  # the floor
    assert min(numbers(results, "strip_tpr", model="poisoned 10 %")) > 0.7
    assert max(numbers(results, "strip_far", model="poisoned 10 %")) < 0.3  # what passes is the rest
    assert min(numbers(results, "strip_far", model="clean")) > 0.7
    assert max(numbers(results, "strip_frr")) < 0.2
    assert numbers(results, "target_first_rate", backdoor="patch side=2, 10 %") == [1.0]
    index = numbers(results, "model_anomaly_index", model="poisoned 10 %")
    assert index[0] > max(numbers(results, "model_anomaly_index", model="clean"))
    for metric in ("anomaly_index", "mask_norm", "cleanse_success"):
        assert len(numbers(results, metric)) == 4 * 2 * (1 if metric == "anomaly_index" else 10)
    verdicts = {f.text.split(" ")[0]: f for f in findings(results, CONTROL)[:3]}
    assert verdicts["STRIP"].status == "holds"
    assert "finds the positive control" in verdicts["STRIP"].text
    assert all(CONTROL in f.text for f in verdicts.values())


def test_the_numbers_are_those_of_the_model_and_of_other_samples(run: Path, defended: Path) -> None:
    """The attack success rate and the accuracy before pruning, counted anew from the files."""
    test = load("digits", split="test")
    held = first_stratified(test, 100)
    kept = {tuple(row.flatten().tolist()) for row in held.x}
    others = test.subset([i for i, row in enumerate(test.x) if tuple(row.flatten().tolist()) not in kept])
    assert len(others) == 400  # no sample is on both sides
    model = model_of(PATCHED, run / "artifacts", (1, 8, 8))
    results = load_results(defended / "results.jsonl")
    at_0 = [r for r in results if r.config.get("rate") == 0 and r.config["ranking"] == "l1"]
    found = {r.metric: r for r in at_0}
    right = int((model(others.x).argmax(1) == others.y).sum())
    assert (found["benign_accuracy"].k, found["benign_accuracy"].n) == (right, 400)
    success = backdoor_success_rate(model(Patch(side=2)(others.x)), others.y, 0)
    assert (found["attack_success_rate"].k, found["attack_success_rate"].n) == (success.k, success.n)
    by_rate = {(r.metric, r.config["ranking"], r.config["rate"]): r.value for r in results if "rate" in r.config}
    assert {ranking for _, ranking, _ in by_rate} == {"l1", "activation", "l1, fine-tuned"}
    for (metric, ranking, rate), value in by_rate.items():
        if metric == "fails":
            kept_accuracy = by_rate["benign_accuracy", ranking, rate] >= found["benign_accuracy"].value - 0.05
            assert value == float(kept_accuracy and by_rate["attack_success_rate", ranking, rate] >= 0.5)


def test_alarms_follow_from_the_masks(defended: Path) -> None:
    """The index, the alarms and the flagged classes, counted anew from the size of every mask."""
    results = [r for r in load_results(defended / "results.jsonl") if r.config["defense"] == "neural_cleanse"]
    for cell in {r.cell for r in results}:
        mine = [r for r in results if r.cell == cell]
        norms = np.array([[numbers(mine, "mask_norm", draw=d, label=c)[0] for c in range(10)] for d in (0, 1)])
        below = np.median(norms, axis=1, keepdims=True) - norms
        index = below / (1.4826 * np.median(np.abs(below), axis=1, keepdims=True))
        top = index.max(1)
        assert numbers(mine, "anomaly_index") == pytest.approx(top.tolist(), rel=1e-4)
        assert numbers(mine, "model_anomaly_index") == pytest.approx([float(np.median(top))], rel=1e-4)
        assert numbers(mine, "alarm_rate") == [(top > 2).mean()]
        assert numbers(mine, "target_alarm_rate") == [(index[:, 0] > 2).mean()]
        assert numbers(mine, "target_first_rate") == [(norms.argmin(1) == 0).mean()]
        flagged = {r.config["draw"]: r.config["classes"] for r in mine if r.metric == "flagged_classes"}
        for draw, classes in flagged.items():
            assert sorted(int(c) for c in classes.split(", ") if c) == np.flatnonzero(index[draw] > 2).tolist()


def test_entropies_are_shared_out_over_the_bins(defended: Path) -> None:
    results = load_results(defended / "results.jsonl")
    for model in ("clean", "poisoned 10 %"):
        for inputs in ("clean", "triggered"):
            rows = [
                r
                for r in results
                if r.metric == "strip_entropy_share" and r.config["model"] == model and r.config["inputs"] == inputs
            ]
            cells = {r.cell for r in rows}
            assert sum(r.value for r in rows) == pytest.approx(len(cells))
            assert max(r.config["bits"] for r in rows) < math.log2(10)
    drawn = entropy_counts(torch.tensor([1e-7, -math.log2(10) - 1e-6]), 10)  # beyond the range by rounding
    assert (drawn[0][1], drawn[-1][1], len(drawn)) == (1, 1, 20)


def test_defenses_join_a_folder_and_a_finished_one_is_taken_as_it_is(run: Path, defended: Path) -> None:
    first, then = ((defended / f"after-{n}.jsonl").read_bytes() for n in (1, 0))
    assert {r.config["defense"] for r in load_results(defended / "after-1.jsonl")} == {"strip"}
    assert then.startswith(first)
    cells = {r.cell for r in load_results(defended / "results.jsonl")}
    clean = {f"{name}-clean-{seed}" for name in ("strip", "neural_cleanse") for seed in range(3)}
    assert cells == clean | {f"{name}-patch-0" for name in METHODS}
    begun = list[str]()
    config = Defending(**{k: tuple(v) if isinstance(v, list) else v for k, v in SETTINGS.items()})  # type: ignore[arg-type]
    page = defend(run, out=defended, config=config, progress=lambda done, total, name, left: begun.append(name))
    assert begun == [""]
    assert (defended / "results.jsonl").read_bytes() == then
    assert page == defended / "report.html"


def test_the_report_shows_controls_and_restored_triggers(defended: Path) -> None:
    page = (defended / "report.html").read_text(encoding="utf-8")
    for words in ("positive control", "Restored triggers", "Entropy under overlays", "Fine-Pruning by activation"):
        assert words in page
    assert "Nothing was measured for this yet" not in page
    with np.load(defended / "artifacts" / "neural_cleanse-patch-0.npz", allow_pickle=False) as arrays:
        assert arrays["target_clean"].shape == (3, 1, 8, 8)
        changed = np.abs(arrays["target_adv"] - arrays["target_clean"]).mean((0, 1))
    assert changed[-2:, -2:].sum() > changed.sum() / 2  # the trigger is found where it was put
    shown = panels(load_results(defended / "results.jsonl"))
    assert {p.section for p in shown} == {"STRIP", "Neural Cleanse", "Fine-Pruning"}
    assert panels([]) == []


def test_cells_travel_to_other_processes_and_can_be_chosen(run: Path) -> None:
    victims = find_victims(run / "artifacts")
    cells = defense_cells(victims, ["strip"], Defending(), run / "artifacts", None, CPU)
    assert [pickle.loads(pickle.dumps(cell)) for cell in cells]  # noqa: S301
    alone = [replace(victims[0], name="alone", family="another"), *victims]
    assert len(defense_cells(alone, ["strip"], Defending(), run, None, CPU)) == len(cells)  # no backdoor to compare
    with pytest.raises(UsageError, match="must not hold neural_cleanse for models of 2 classes, but patch-0 is one"):
        defense_cells([replace(PATCHED, n_classes=2)], METHODS, Defending(), run, None, CPU)
    with pytest.raises(UsageError, match="must hold a model with a backdoor"):
        defense_cells(victims[:3], ["strip"], Defending(), run, None, CPU)


def test_another_model_is_refused(run: Path, defended: Path, line: Line, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    weights = tmp_path / "run" / "artifacts" / "models" / "clean-1.safetensors"
    shutil.copy(weights.with_name("clean-0.safetensors"), weights)
    words = ["defend", "--from", str(tmp_path / "run"), "strip", "--workers", "1", "--device", "cpu", *SET]
    code, _, err = line(*words, "--out", str(defended))
    assert (code, err.count("\n")) == (2, 1)
    assert "holds another (other models)" in err


BAD = {
    "strp": "Unknown defense `strp`: did you mean strip?",
    "strip --set n_defendr=3": "did you mean n_defender",
    "strip --set n_defender=500": "must leave samples to judge the defense on, but is 500 of 500",
    "strip --set n_defender=50": "`strip_overlays` must not exceed `n_defender`, 50",
    "strip --set families=[mnist]": "Unknown family `mnist`",
    "strip --set victims=[patch-1]": "Unknown model `patch-1`: did you mean patch-0",
    "strip --set victims=[clean-0]": "must hold a model with a backdoor",
    "strip --set pruning_rates=[1.0]": "must lie in [0, 1)",
    "strip --set pruning_rankings=[l2]": "`pruning_rankings.0` is wrong",
    "strip --set n_inputs=1": "`n_inputs` must be 2 or more",
    "--control patch": "Unknown trigger `patch`: did you mean patch side=2",
    "--device tpu9": "`device` must be one of this machine",
}


@pytest.mark.parametrize(("words", "said"), BAD.items(), ids=BAD)
def test_bad_words_are_one_line(run: Path, line: Line, tmp_path: Path, words: str, said: str) -> None:
    out = tmp_path / "out"
    code, printed, err = line("defend", "--from", str(run), *words.split(), "--workers", "1", "--out", str(out))
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not out.exists()


def test_bad_runs_are_one_line(run: Path, line: Line, tmp_path: Path) -> None:
    def said(folder: Path, *words: str) -> str:
        code, _, err = line("defend", "--from", str(folder), "--workers", "1", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert not (folder / "defend").exists()
        return err

    assert "absent is not there" in said(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "redqubit reproduce hqnn-backdoor" in said(tmp_path / "empty")
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    models = folder / "artifacts" / "models"
    told = json.loads((models / "patch-0.json").read_text())
    del told["crc32"]

    def change(**parts: object) -> None:
        save_json(models / "patch-0.json", told | parts)

    change(data={"name": "letters"})
    assert "`letters` must be on disk" in said(folder, "--data-dir", str(tmp_path / "empty"))
    change(data={})
    assert "must name its data set" in said(folder)
    change(model={"depth": 3})
    assert "`backbone` and `head` or `source`" in said(folder)
    change(model={"source": "cnm"})
    assert "did you mean cnn" in said(folder)
    change(model={"source": "qunn"})
    assert "must be as the run wrote it" in said(folder)
    change()
    (models / "clean-0.safetensors").unlink()
    assert "clean-0" in said(folder)


def test_a_model_on_a_backbone_and_its_resized_data_come_back(tmp_path: Path) -> None:
    made = {"backbone": "squeezenet1_0", "head": "hybrid", "n_qubits": 3, "depth": 2}
    victim = replace(CLEAN, model=made, data={"name": "digits", "side": 32, "n_train": 40, "n_test": 30})
    generator = torch.Generator().manual_seed(5)
    net = on_backbone("squeezenet1_0", "hybrid", 10, n_qubits=3, depth=2, generator=generator).eval()
    save_victim(victim, net, tmp_path)
    train_set, test_set = data_of(victim)
    assert (train_set.x.shape, test_set.x.shape) == ((40, 3, 32, 32), (30, 3, 32, 32))
    assert torch.equal(test_set.y, first_stratified(load("digits", split="test"), 30).y)
    assert held_out(victim, None) is test_set  # read once
    again = model_of(victim, tmp_path, test_set.x.shape[1:])
    assert torch.allclose(logits(again, test_set.x[:4]), logits(net, test_set.x[:4]), atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "ranking", "shape"),
    [("squeezenet1_0", "l1", (512, 1, 1)), ("resnet18", "activation", (256, 2, 2))],
)
def test_pruning_from_maps_is_pruning(backbone: str, ranking: Ranking, shape: tuple[int, ...]) -> None:
    """The maps before the last stage are the same at every rate, so that the curve may start there."""
    train_set, test_set = (as_rgb(first_stratified(part, 40), 32) for part in load_splits("digits"))
    generator = torch.Generator().manual_seed(2)
    net = on_backbone(backbone, "tanh", 10, generator=generator).eval()
    defense = FinePruning(ranking=ranking, epochs=0)
    triggered = Patch(side=6)(test_set.x[test_set.y != 3])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    late, (held, test), maps = from_last_convolution(net, [train_set, test_set], triggered)
    assert held.x.shape[1:] == shape
    assert torch.allclose(logits(late, maps), logits(net, triggered), atol=1e-4)
    whole, part = (
        pruning_curve(defense, *parts, 3, rates=(0.4,), generator=generator)
        for parts in ((net, train_set, test_set, triggered), (late, held, test, maps))
    )
    assert whole == part
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    assert from_last_convolution(MODELS["cnn"]((3, 32, 32), 10, generator=generator), [test_set], maps)[1] == [test_set]


def test_data_of_ones_own_are_found_by_their_path(tmp_path: Path) -> None:
    train_set, test_set = load_splits("digits")
    arrays = {"x_train": train_set.x[:50], "y_train": train_set.y[:50], "x_test": test_set.x, "y_test": test_set.y}
    np.savez(tmp_path / "mine.npz", **{key: value.numpy() for key, value in arrays.items()})
    found = data_of(replace(CLEAN, data={"name": str(tmp_path / "mine.npz"), "n_train": 20}))
    assert len(found[0]) == 20
    assert torch.equal(found[1].x, test_set.x)


def test_the_defender_takes_from_every_class_and_nothing_is_lost() -> None:
    test = load("digits", split="test")
    held, others = shared_out(test, 50)
    assert held.y.bincount().tolist() == [5] * 10
    assert torch.equal(held.x, first_stratified(test, 50).x)
    rows = sorted(tuple(row.flatten().tolist()) for part in (held, others) for row in part.x)
    assert rows == sorted(tuple(row.flatten().tolist()) for row in test.x)


def test_triggers_are_told_apart_by_their_labels() -> None:
    def label(name: str, **settings: object) -> str:
        return trigger_label(replace(CLEAN, trigger=name, settings=settings, poison_rate=0.1))

    assert trigger_label(CLEAN) == "clean"
    assert label("patch") == f"patch side={Patch().side}"
    assert label("patch", side=6, margin=1, color=[1.0]) == "patch side=6 margin=1"  # lists are what JSON has
    assert label("patch", color=[1.0, 0.0, 0.5]) == "patch side=3 color=1/0/0.5"
    assert label("blend", alpha=0.05) == "blend alpha=0.05"
    assert label("qcolor", r1=1.0, r3=0.98) == "qcolor r1=1 r3=0.98"
    assert label("wanet", cover_ratio=2.0).startswith("wanet cover_ratio=2 grid=4")
    assert Blend().alpha == 0.2
    assert Qcolor().r1 == 1.05


def score(
    value: float, trigger: str = "patch", *, defense: str = "strip", clean: bool = False, seed: int = 0, **more: object
) -> Result:
    """A result as the cells write them."""
    backdoor = "clean" if clean else f"{trigger}, 10 %"
    metric = {"strip": "strip_auroc", "neural_cleanse": "model_anomaly_index"}.get(defense, "")
    config = {
        "defense": defense,
        "family": "f",
        "seed": seed,
        "trigger": "clean" if clean and defense != "strip" else trigger,
        "model": "clean" if clean else "poisoned 10 %",
        "backdoor": backdoor,
        "case": f"f: {backdoor}",
        **{k: v for k, v in more.items() if k != "metric"},
    }
    return Result("defend", f"{defense}-{backdoor}-{seed}", str(more.get("metric", metric)), value, config, seed=seed)


def case(values: list[float], null: list[float], trigger: str = "patch", success: float = 0.9) -> list[Result]:
    """Results of STRIP for models with a backdoor beside clean ones."""
    rates = [score(success, trigger, metric="attack_success_rate", seed=i) for i in range(len(values))]
    found = [score(v, trigger, seed=i) for i, v in enumerate(values)]
    return [*rates, *found, *(score(v, trigger, clean=True, seed=i) for i, v in enumerate(null))]


NULL = [0.45, 0.5, 0.55]  # their 95 % band ends at 0.5 + 4.303 * 0.05 * sqrt(4 / 3) = 0.748


@pytest.mark.parametrize(
    ("results", "status"),
    [
        (case([0.9, 0.95, 0.99], NULL), "holds"),  # by chance in 1 of 20
        (case([0.99], NULL), "holds"),  # beyond the band
        (case([0.74], NULL), "unclear"),  # above every clean model, which chance does in 1 of 4
        (case([0.9, 0.95, 0.5], NULL), "unclear"),  # one of three is not found
        (case([0.5, 0.55, 0.4], NULL), "unclear"),  # none is found, and there is no control
        (case([0.99, 0.99, 0.99], [0.5]), "unclear"),  # nothing to compare with
        (case([0.9, 0.95, 0.99], NULL, success=0.3), "unclear"),  # hardly a backdoor
    ],
)
def test_a_detector_is_held_against_clean_models(results: list[Result], status: str) -> None:
    assert findings(results)[-1].status == status
    assert findings(results)[0].text.startswith("No positive control")


def test_a_miss_counts_only_when_the_control_was_found() -> None:
    missed = case([0.4, 0.5, 0.55], NULL, "qcolor")
    found, lost = case([0.9, 0.95, 0.99], NULL), case([0.4, 0.5, 0.55], NULL)
    first, tests, second = findings([*missed, *found], "patch")
    assert tests.text.startswith("Detectors were put to 2 tests")
    assert (first.status, second.status) == ("holds", "fails")
    assert "misses qcolor" in second.text
    first, tests, second = findings([*missed, *lost], "patch")
    assert tests.text.startswith("Detectors were put to 2 tests")
    assert (first.status, second.status) == ("fails", "unclear")
    assert "not shown to work on the positive control" in second.text
    weak = case([0.9, 0.95, 0.99], NULL, success=0.7)
    first, tests, second = findings([*missed, *weak], "patch")
    assert tests.text.startswith("Detectors were put to 2 tests")
    assert (first.status, second.status) == ("unclear", "unclear")
    assert "has no positive control" in first.text
    severities = {f.code: f.severity for f in checks([*missed, *found], "patch")}
    assert severities == {"no-positive-control": "ok", "few-clean-models": "ok", "weak-backdoor": "ok"}
    assert {f.code: f.severity for f in checks(missed[:-1])} == severities | {
        "no-positive-control": "warning",
        "few-clean-models": "warning",
    }


def pruned(points: dict[float, tuple[float, float]], seed: int = 0) -> list[Result]:
    """Results of Fine-Pruning: (accuracy, attack success rate) by rate."""
    return [
        score(value, defense="fine_pruning", metric=metric, ranking="l1", rate=rate, seed=seed)
        for rate, pair in points.items()
        for metric, value in zip(("benign_accuracy", "attack_success_rate"), pair, strict=True)
    ]


@pytest.mark.parametrize(
    ("points", "status"),
    [
        ({0.0: (0.9, 0.95), 0.5: (0.86, 0.4)}, "holds"),
        ({0.0: (0.9, 0.95), 0.5: (0.84, 0.4)}, "fails"),  # the accuracy goes with the backdoor
        ({0.0: (0.9, 0.95), 0.5: (0.9, 0.6)}, "fails"),
        ({0.0: (0.9, 0.85), 0.5: (0.9, 0.1), 0.9: (0.1, 1.0)}, "holds"),
        ({0.0: (0.9, 0.4), 0.5: (0.9, 0.1)}, "unclear"),  # there was nothing to remove
    ],
)
def test_pruning_removes_a_backdoor_when_the_accuracy_stays(
    points: dict[float, tuple[float, float]], status: str
) -> None:
    assert findings(pruned(points), "patch")[0].status == status


def test_a_model_without_a_convolution_is_told_apart(tmp_path: Path) -> None:
    victim = replace(PATCHED, model={"source": "cosine_twin"})
    save_victim(victim, MODELS["cosine_twin"]((1, 8, 8), 10, generator=torch.Generator()), tmp_path)
    (cell,) = defense_cells([victim], ["fine_pruning"], Defending(), tmp_path, None, CPU)
    (only,) = cell.run()
    assert (only.metric, only.n) == ("attack_success_rate", 270)  # 300 test samples less those of the target
    verdict = findings([replace(only, value=0.9)])[-1]
    assert (verdict.status, "no convolution to prune" in verdict.detail) == ("unclear", True)
    assert len(panels([only])) == 2


def test_alarms_of_clean_models_stand_beside_the_threshold() -> None:
    of_clean = [score(v, clean=True, defense="neural_cleanse", metric="anomaly_index", draw=0) for v in (1.0, 2.5)]
    of_poisoned = [score(3.0, defense="neural_cleanse", metric="anomaly_index", draw=d) for d in (0, 1)]
    texts = [f.text for f in findings([*of_clean, *of_poisoned])]
    assert any("clean models in 1 of 2 restarts, and by models with a backdoor in 2 of 2" in text for text in texts)
