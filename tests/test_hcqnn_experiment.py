"""The replication of the paper on denoising: what is trained and attacked, what numbers say, and the smoke preset."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from redqubit import UsageError, report
from redqubit.adaptive import decide
from redqubit.cli import app
from redqubit.experiments import reproduce
from redqubit.experiments.base import Setting
from redqubit.experiments.hcqnn import PRESETS, published
from redqubit.experiments.hcqnn.cells import cells, fgsm, run
from redqubit.experiments.hcqnn.claims import agreed, summarise
from redqubit.experiments.hcqnn.config import IRIS, MNIST, STANDARDISED, HCQNNStudy, Task
from redqubit.experiments.hcqnn.material import flowers, samples, spread
from redqubit.experiments.hcqnn.networks import KINDS, NONE, PLACED, Twin, defenses, online, untrained
from redqubit.experiments.hcqnn.plan import CLEAN, GREY, NOISY, TRANSFER, WHITE, data_for, tasks_for
from redqubit.experiments.hcqnn.restored import AFTER, BEFORE
from redqubit.experiments.hcqnn.table import Table
from redqubit.experiments.hcqnn.tables import is_full, table1, table2
from redqubit.models.hcqnn import HCQNN
from redqubit.result import Result, load_summary
from redqubit.result import load as load_results
from redqubit.statistics import Difference

SMOKE, LAPTOP = PRESETS["smoke"], PRESETS["laptop"]
FLOWERS, DIGITS = SMOKE.tasks
HERE = Setting(None, torch.device("cpu"), Path("unused"))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke preset as it comes."""
    return reproduce("hcqnn", preset="smoke", out=tmp_path_factory.mktemp("hcqnn") / "smoke")


# what the paper says


def test_published_accuracies_on_iris_are_those_of_30_samples() -> None:
    for value in published.FIGURE4.values():
        assert value / 100 * 30 == pytest.approx(round(value / 100 * 30), abs=0.02)


def test_published_errors_are_the_settings_of_noise_and_fgsm() -> None:
    for task in LAPTOP.tasks[:2]:
        assert task.shown_eps**2 == pytest.approx(published.TABLE1["mse", GREY][0], abs=1e-3)
        assert task.noise**2 == pytest.approx(published.TABLE1["mse", NOISY][0], abs=4e-3)
        assert task.eps == tuple(published.FIGURE4)
    assert LAPTOP.tasks[2].eps == tuple(published.TABLE2)


# the plan


def test_seeds_are_as_many_as_promised() -> None:
    for name in ("laptop", "paper"):
        for task in PRESETS[name].tasks:
            assert len(task.seeds) >= (5 if task.is_picture else 20)
            assert (task.n_train, task.n_test) == ((4000, 1000) if task.is_picture else (120, 30))


def test_a_part_needs_its_own_data_and_cells_alone() -> None:
    assert data_for(LAPTOP, ["table1"]) == data_for(LAPTOP, ["figure4"]) == ["iris"]
    assert data_for(LAPTOP, ["figure6"]) == ["mnist"]
    assert data_for(LAPTOP, []) == ["iris", "mnist"]
    assert tasks_for(LAPTOP, ["table2"]) == list(LAPTOP.tasks[2:])
    names = [cell.name for cell in cells(SMOKE, replace(HERE, parts=("table1",)))]
    assert names == ["Iris-seed0", "Iris-seed1"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, tasks=()),
        lambda c: replace(c, tasks=(FLOWERS, FLOWERS)),
        lambda c: replace(c, tasks=(replace(FLOWERS, encoding="amplitude"),)),
        lambda c: replace(c, tasks=(replace(DIGITS, encoding="angle"),)),
        lambda c: replace(c, tasks=(replace(DIGITS, classes=(3, 1)),)),
        lambda c: replace(c, tasks=(replace(FLOWERS, seeds=()),)),
        lambda c: replace(c, tasks=(replace(FLOWERS, eps=(0.1, 0.1)),)),
        lambda c: replace(c, tasks=(replace(FLOWERS, epochs=0),)),
        lambda c: replace(c, tasks=(replace(FLOWERS, sigma=math.nan),)),
        lambda c: replace(c, lr=0.0),
        lambda c: replace(c, judged_eps=()),
        lambda c: replace(c, queries=0),
    ],
)
def test_a_config_that_cannot_run_is_told_in_a_line(change: Callable[[HCQNNStudy], HCQNNStudy]) -> None:
    with pytest.raises(UsageError) as caught:
        cells(change(SMOKE), HERE)
    assert "\n" not in str(caught.value)


def test_too_many_samples_are_told() -> None:
    for task in (replace(FLOWERS, n_train=150), replace(DIGITS, n_train=100_000)):
        with pytest.raises(UsageError, match="lower them"):
            samples(task, 0, HERE)


# samples


def test_iris_is_split_class_by_class_and_each_flower_is_on_one_side() -> None:
    part = samples(FLOWERS, 0, HERE)
    assert torch.bincount(part.y).tolist() == [40] * 3
    assert torch.bincount(part.test_y).tolist() == [10] * 3
    x, y = flowers()
    low, span = spread(x, standardised=False)
    assert torch.equal(y, torch.arange(150) // 50)
    both = torch.cat([part.x, part.test_x])
    assert len(both.unique(dim=0)) == len(((x - low) / span).unique(dim=0))  # three flowers measure as others do


@pytest.mark.parametrize("standardised", [False, True])
def test_features_are_scaled_by_the_training_set_alone(*, standardised: bool) -> None:
    part = samples(replace(FLOWERS, standardised=standardised), 1, HERE)
    if standardised:
        assert torch.allclose(part.x.mean(0), torch.zeros(4), atol=1e-5)
        assert torch.allclose(part.x.std(0, correction=0), torch.ones(4), atol=1e-5)
    else:
        assert part.x.amin(0).tolist() == [0] * 4
        assert part.x.amax(0).tolist() == [1] * 4


def test_seeds_draw_anew_and_one_seed_the_same() -> None:
    for task in SMOKE.tasks:
        one, again, other = (samples(task, seed, HERE) for seed in (0, 0, 1))
        assert torch.equal(one.x, again.x)
        assert not torch.equal(one.x, other.x)


def test_fgsm_clips_no_feature_and_is_as_large_as_said() -> None:
    part = samples(FLOWERS, 0, HERE)
    model = part.shown(untrained(FLOWERS, part, "circuit", 0))
    moved = part.features(fgsm(part, model, 0.6, 0)) - part.test_x
    assert torch.allclose(moved.abs(), torch.full_like(moved, 0.6), atol=1e-5)
    pictures = samples(DIGITS, 0, HERE)
    assert (pictures.low, pictures.high) == (0, 1)
    assert pictures.noisy(pictures.x, 1.0, torch.Generator()).unique()[[0, -1]].tolist() == [0, 1]


def test_a_model_is_shown_inputs_that_mean_its_features() -> None:
    part = samples(FLOWERS, 0, HERE)
    net = untrained(FLOWERS, part, "twin", 0)
    assert torch.allclose(part.shown(net)(part.unit(part.test_x)), net(part.test_x), atol=1e-5)
    assert 0 <= float(part.training.x.min()) < float(part.training.x.max()) <= 1


# the twin


@pytest.mark.parametrize("encoding", ["amplitude", "pooled"])
def test_the_twin_takes_what_the_circuit_takes(encoding: str) -> None:
    generator = torch.Generator().manual_seed(0)
    net = HCQNN((1, 28, 28), 4, encoding=encoding, generator=generator)  # type: ignore[arg-type]
    twin = Twin(net, generator=generator)
    x = torch.rand(3, 1, 28, 28, generator=generator)
    inputs = torch.nn.functional.normalize(net.inputs(x)) if encoding == "amplitude" else net.inputs(x)
    assert torch.allclose(twin(x), twin.sharpness * twin.layers(inputs))
    assert float(twin(100 * x).detach().abs().max()) <= float(twin.sharpness.detach())
    if encoding == "amplitude":  # both see directions alone
        assert torch.allclose(twin(0.5 * x), twin(x), atol=1e-5)


# what the numbers say


def test_claims_hold_where_all_tasks_say_so() -> None:
    up, down, flat = (Difference(v, v - 0.01, v + 0.01, 5, "Student t") for v in (0.1, -0.1, 0.0))
    assert [agreed(found) for found in ([up, up], [down, flat], [up, flat], [up, down], [flat], [])] == [
        "holds",
        "fails",
        "unclear",
        "unclear",
        "unclear",
        "unclear",
    ]


def made(
    *, placed: dict[str, float], worst: dict[str, float], seeds: int = 6, config: HCQNNStudy = LAPTOP
) -> list[Result]:
    """Return results of all tasks: accuracy with the autoencoder by attack, and what the worst attack leaves."""
    out: list[Result] = []
    generator = torch.Generator().manual_seed(0)

    def add(task: Task, metric: str, value: float, seed: int, **where: object) -> None:
        scattered = value + 0.02 * float(torch.rand((), generator=generator))
        shown = {"task": task.name, **where}
        out.append(Result("hcqnn", "c", metric, scattered, shown, k=int(1000 * scattered), n=1000, seed=seed))

    for task in config.tasks:
        for seed in range(seeds):
            for kind in KINDS:
                add(task, "n_weights", 30, seed, network=kind)
                for name in (NONE, *defenses(config, kind)):
                    for attack in (CLEAN, NOISY):
                        add(task, "accuracy", 0.9, seed, network=kind, defense=name, attack=attack, eps=0.0)
                    for eps in sorted({*task.eps, *config.judged_eps}):
                        for attack in (GREY, WHITE, TRANSFER):
                            value = placed.get(attack, 0.2) if name == PLACED else 0.2
                            where = {"network": kind, "defense": name, "attack": attack, "eps": eps}
                            add(task, "accuracy", value, seed, **where)
                    for eps in config.judged_eps if name != NONE else ():
                        for side in ("with", "without"):
                            where = {"network": kind, "defense": name, "side": side, "eps": eps}
                            value = worst.get(name, 0.1) if side == "with" else 0.1
                            for metric in ("worst_accuracy", "pgd_accuracy", "queried_accuracy"):
                                add(task, metric, value, seed, **where)
            for change in (NOISY, GREY):
                for stage, error in ((BEFORE, 0.25), (AFTER, 0.15)):
                    add(task, "mse", error, seed, change=change, stage=stage)
                    for metric in ("cosine", "cosine_of_set"):
                        add(task, metric, 1 - error, seed, change=change, stage=stage)
    return out


def verdicts(found: list[Result]) -> Callable[[str], str]:
    """Return what says the status of the finding that has some words."""
    findings = summarise(LAPTOP, found).findings
    return lambda words: next(f.status for f in findings if words in f.text)


def test_verdicts_follow_the_numbers() -> None:
    only_grey = verdicts(made(placed={GREY: 0.7, WHITE: 0.2}, worst={}))
    assert only_grey("(grey-box)") == "holds"
    assert only_grey("(white-box)") == "fails"
    assert only_grey("made on the bare circuit the autoencoder is better") == "holds"
    assert only_grey("nearer to the clean ones") == "holds"
    assert only_grey("accuracy on clean samples") == "holds"
    sound = verdicts(made(placed={GREY: 0.7, WHITE: 0.7}, worst={PLACED: 0.7}))
    assert sound("(white-box)") == "holds"
    assert sound("Under the worst attack") == "holds"
    beaten = verdicts(made(placed={}, worst={online(LAPTOP.online_eps[0]): 0.8}))
    assert beaten("On-line adversarial training at radius 0.1 helps") == "holds"
    assert beaten("Under the worst attack") == "fails"


def test_what_stays_at_chance_helps_nobody() -> None:
    assert verdicts(made(placed={}, worst={PLACED: 0.22}))("(white-box)") != "holds"  # less than one of three or four
    gained, none = Difference(0.1, 0.05, 0.15, 6, ""), Difference(0.0, -0.01, 0.01, 6, "")
    assert decide(clean=none, unaware=[none], adaptive=gained, above_chance=False).outcome == "unclear"


def test_a_row_is_reproduced_only_by_the_full_recipe() -> None:
    task = next(t for t in LAPTOP.tasks if t.name == STANDARDISED)
    assert is_full(LAPTOP, task)
    assert not is_full(LAPTOP, replace(task, epochs=3))
    assert not is_full(replace(LAPTOP, lr=0.1), task)

    def status(config: HCQNNStudy, restored: float) -> str:
        found = [
            Result("hcqnn", "c", "mse", (0.26 if stage == BEFORE else restored) + 0.004 * seed**power, where, seed=seed)
            for seed in range(5)
            for power, stage in ((2, BEFORE), (1, AFTER))
            for where in [{"task": IRIS, "change": NOISY, "stage": stage}]
        ]
        (panel,) = table1(config, Table(found))
        return str(panel.data["rows"][0][-1])

    assert status(LAPTOP, 0.165) == "reproduced"
    assert status(replace(LAPTOP, lr=0.1), 0.165) == "trend only"
    assert status(LAPTOP, 0.05) == "trend only"
    assert status(LAPTOP, 0.4) == "not reproduced"


def test_published_numbers_stand_beside_the_papers_tasks_alone() -> None:
    rows = table2(LAPTOP, Table(made(placed={GREY: 0.6}, worst={})))[0].data["rows"]
    first = next(row for row in rows if row[:2] == [MNIST, "0.15"])
    assert first[-2].replace("\u00a0", " ") == "42.2 / 89.9 / 67.4"
    digits = table2(SMOKE, Table(made(placed={}, worst={}, config=SMOKE)))[0].data["rows"]
    assert all(row[-2:] == ["–", "–"] for row in digits)


# the whole


def test_smoke_leaves_every_table_and_figure(smoke: Path) -> None:
    summary = load_summary(smoke / "summary.json")
    sections = {panel.section.partition(":")[0] for panel in summary.panels}
    parts = ("Table 1", "Table 2", "Figure 4", "Figure 5", "Figure 6")
    assert sections == {"Networks and samples", "Defenses before an attacker who knows them", *parts}
    page = report.build(smoke).read_text(encoding="utf-8")
    assert "nan" not in re.sub(r"<(style|script|svg).*?</\1>", "", page, flags=re.S).lower().split()
    assert page.count("restored") > 4


def test_attacks_cost_what_they_must(smoke: Path) -> None:
    table = Table(load_results(smoke / "results.jsonl"))
    for task in SMOKE.tasks:
        for seed in task.seeds:
            for kind in KINDS:
                for eps in task.eps:  # the bare network's own examples are the grey-box ones
                    own, grey = (table.accuracy(task.name, NONE, attack, eps, kind) for attack in (WHITE, GREY))
                    assert own[seed].value == grey[seed].value
                for attack in (GREY, WHITE, TRANSFER):  # a radius of 0 leaves samples as they are
                    same, clean = (table.accuracy(task.name, PLACED, a, 0.0, kind) for a in (attack, CLEAN))
                    assert same[seed].value == clean[seed].value
                for name in defenses(SMOKE, kind):
                    for eps in SMOKE.judged_eps:
                        left = table.worst(task.name, name, eps, network=kind)[seed].value
                        where = {"network": kind, "defense": name, "side": "with", "eps": eps}
                        assert left <= table.by_seed("pgd_accuracy", task.name, **where)[seed].value
                        assert left <= table.by_seed("queried_accuracy", task.name, **where)[seed].value


def test_errors_before_the_autoencoder_are_those_of_the_settings(smoke: Path) -> None:
    table = Table(load_results(smoke / "results.jsonl"))
    for r in table.by_seed("mse", IRIS, change=GREY, stage=BEFORE).values():
        assert r.value == pytest.approx(FLOWERS.shown_eps**2, rel=1e-3)  # so that nothing was clipped
    for r in table.by_seed("mse", IRIS, change=NOISY, stage=BEFORE).values():
        assert r.value == pytest.approx(FLOWERS.noise**2, rel=0.4)


def test_the_smoke_run_is_deterministic(smoke: Path) -> None:
    kept = [r for r in load_results(smoke / "results.jsonl") if r.cell == "Iris-seed1"]
    again = run(SMOKE, FLOWERS, 1, HERE)
    assert [(r.metric, r.config, r.value) for r in again] == [(r.metric, r.config, r.value) for r in kept]


def test_parts_add_to_a_folder(tmp_path: Path) -> None:
    few = ["--set", "queries=1", "--set", "judged_steps=1", "--set", "online_steps=1", "--workers", "1"]
    tasks = [replace(task, seeds=(0,), epochs=1, denoising_epochs=1) for task in SMOKE.tasks]
    out = tmp_path / "run"
    written = tmp_path / "config.yaml"
    written.write_text(json.dumps({"tasks": [asdict(task) for task in tasks]}))  # which is YAML too
    for words in (["--table", "1"], ["--figure", "6"]):
        command = ["reproduce", "hcqnn", "--preset", "smoke", *words, *few, "--config", str(written), "--out", str(out)]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    assert {r.cell for r in load_results(out / "results.jsonl")} == {"Iris-seed0", "Digits-4-seed0"}
