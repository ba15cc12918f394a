"""The replication of the paper on quantum noise: its plan, its controls, its verdicts, and the smoke preset whole."""

import random
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from redqubit import UsageError, report
from redqubit.cli import app
from redqubit.data import Dataset
from redqubit.experiments import reproduce
from redqubit.experiments.base import Setting
from redqubit.experiments.qnad import PRESETS, published
from redqubit.experiments.qnad.cells import first, second
from redqubit.experiments.qnad.claims import summarise
from redqubit.experiments.qnad.config import JUDGED, PARTS, Case
from redqubit.experiments.qnad.judge import CONTRACTED, DETERMINISTIC, GAUSSIAN, chosen_level
from redqubit.experiments.qnad.material import contracted, moved, network, on_device, samples
from redqubit.experiments.qnad.plan import Level, cases_for, data_for, figure
from redqubit.experiments.qnad.sweep import best
from redqubit.experiments.qnad.table import ONE_DRAW, Table, judged
from redqubit.experiments.qnad.tables import status
from redqubit.result import Result, load_summary
from redqubit.result import load as load_results
from redqubit.training import logits

SMOKE, LAPTOP, PAPER = (PRESETS[name] for name in ("smoke", "laptop", "paper"))
CASE = SMOKE.cases[0]
HERE = Setting(None, torch.device("cpu"), Path())


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke preset as it comes."""
    return reproduce("qnad", preset="smoke", out=tmp_path_factory.mktemp("qnad") / "smoke")


# the plan


def test_figures_are_those_of_the_paper() -> None:
    assert figure("figure3") == (0, "fgsm", "eps")
    assert figure("figure6") == (0, "pgd", "fraction")
    assert figure("figure9") == (1, "pgd", "eps")
    assert figure("figure12") == (2, "fgsm", "fraction")
    assert [case.name for case in PAPER.cases] == list(published.CLEAN)
    assert set(published.TABLE1) == {(name, attack) for name in published.CLEAN for attack in ("fgsm", "pgd")}


def test_a_part_needs_its_own_case_and_cells_alone() -> None:
    assert data_for(PAPER, ["figure7"]) == ["cifar10"]
    assert data_for(LAPTOP, []) == ["mnist", "cifar10"]
    setting = replace(HERE, parts=("figure3",))
    assert [cell.name for cell in first(LAPTOP, setting)] == [f"sweep-LeNet-MNIST-seed{s}" for s in (0, 1, 2)]
    assert second(LAPTOP, setting, []) == []
    assert cases_for(LAPTOP, ("table1",)) == list(LAPTOP.cases)


def test_figures_of_a_network_that_is_not_run_are_told() -> None:
    with pytest.raises(UsageError, match="--preset paper has all three"):
        data_for(LAPTOP, ["figure11"])


@pytest.mark.parametrize(
    "changes",
    [
        {"cases": ()},
        {"cases": (CASE, CASE)},
        {"cases": (replace(CASE, model="lennet"),)},
        {"cases": (replace(CASE, shown_eps=0.3),)},
        {"cases": (replace(CASE, judged_eps=(2.0,)),)},
        {"cases": (replace(CASE, epochs=0),)},
        {"cases": (replace(CASE, limit=1),)},
        {"seeds": ()},
        {"fractions": (0.0,)},
        {"pairs": (-1,)},
        {"ratio": 1000.0},
        {"shots": 0},
        {"draws": 1},
        {"judge_draws": 1},
        {"cases": (replace(CASE, judged_eps=(0.05,)),)},
        {"cases": (replace(CASE, judged=("croostalk",)),)},
    ],
)
def test_a_config_that_cannot_run_is_told_in_a_line(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        first(replace(SMOKE, **changes), HERE)
    assert "\n" not in str(caught.value)


# pictures, networks and controls


def test_sets_of_a_seed_share_no_picture_and_seeds_draw_others() -> None:
    part, other = (samples(CASE, seed, HERE) for seed in (0, 1))
    assert [len(s) for s in (part.train, part.validation, part.test)] == [600, 100, 100]
    every = torch.cat([part.train.x, part.validation.x, part.test.x])
    assert len(every.unique(dim=0)) == len(every)
    assert not torch.equal(part.test.x, other.test.x)
    assert torch.equal(part.test.x, samples(CASE, 0, HERE).test.x)


def test_more_pictures_than_there_are_is_told() -> None:
    with pytest.raises(UsageError, match="lower `n_train`"):
        samples(replace(CASE, n_train=10_000), 0, HERE)


def test_moved_pictures_are_shifted_or_mirrored_ones() -> None:
    x = torch.arange(64.0).view(1, 1, 8, 8)
    padded = nn.functional.pad(x, (1,) * 4, mode="replicate")
    allowed = [
        windows[:, :, top : top + 8, left : left + 8]
        for windows in (padded, padded.flip(3))
        for top in range(3)
        for left in range(3)
    ]
    found = [moved(x, torch.Generator().manual_seed(seed)) for seed in range(40)]
    assert all(any(torch.equal(f, a) for a in allowed) for f in found)
    assert len({tuple(f.flatten().tolist()) for f in found}) > 9


def linear(generator: torch.Generator) -> tuple[nn.Sequential, Dataset]:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.rand(30, 6, generator=generator)
    return net.eval(), Dataset(x, torch.arange(30) % 3, n_classes=3)


def test_contraction_keeps_directions_and_takes_the_devices_size() -> None:
    net, clean = linear(torch.Generator().manual_seed(0))
    level = Level(1.0, 2)
    noisy = on_device(SMOKE, net, clean, level, 0, shots=None)
    out = contracted(net, noisy)
    for name in ("0", "2"):
        before, after = (m.get_submodule(name).get_parameter("weight").detach() for m in (net, out))
        factors = after / before
        assert factors.amin() == pytest.approx(float(factors.amax()), rel=1e-5)
        rest = noisy.get_submodule(name).get_buffer("kernel") - after
        assert float((rest * before).sum()) == pytest.approx(0, abs=1e-5)  # the least distance to the device's
        assert 0.3 < float(factors.mean()) < 0.95
    assert torch.equal(net[0].bias, out.get_submodule("0").get_parameter("bias"))


def test_without_shots_the_device_is_the_mean_of_its_draws() -> None:
    net, clean = linear(torch.Generator().manual_seed(1))
    level = Level(0.5, 1, "random")
    noisy, mean = (on_device(SMOKE, net[0], clean, level, 3, shots=shots) for shots in (64, None))
    with torch.no_grad():
        draws = torch.stack([noisy(clean.x) for _ in range(400)])
        assert torch.equal(mean(clean.x), mean(clean.x))
        distance = (draws.mean(0) - mean(clean.x)) / draws.std(0) * 20  # in standard errors of 400 draws
    assert distance.abs().max() < 5
    assert 0.8 < float(distance.square().mean()) < 1.25


def test_the_best_level_is_that_with_most_right_and_disturbs_least() -> None:
    key = ("validation", "pgd", 0.1)
    hits = {Level(f): {key: torch.arange(10)[None] < n} for f, n in ((0.1, 3), (0.2, 7), (0.3, 7))}
    assert best(hits, key) == Level(0.2)


# what the numbers say


def made(case: Case, numbers: Mapping[str, float], seeds: int = 4) -> list[Result]:
    """Return results of the second stage: grid paths by "made > judged", worst by side; others 0.5, with scatter."""
    out = []
    models = ("without", "with", DETERMINISTIC, GAUSSIAN, CONTRACTED)
    for seed in range(seeds):

        def keep(metric: str, value: float, seed: int = seed, **where: object) -> None:
            config = {"case": case.name, **where}
            draw = random.Random(f"{seed} {metric} {where}").uniform(0, 0.01)
            scatter = draw if metric.endswith("accuracy") else 0
            out.append(Result("qnad", "c", metric, value + scatter, config, seed=seed))

        keep("n_classes", 10)
        for defense in JUDGED:
            for eps in case.judged_eps:
                where = {"defense": defense, "eps": eps}
                for attack in ("pgd", "fgsm"):
                    for source in ("clean", *models, ONE_DRAW, "square with"):
                        for on in models:
                            value = numbers.get(f"{source} > {on}", 0.5)
                            keep("grid_accuracy", value, **where, made=source, judged=on, attack=attack)
                for side in ("without", "with"):
                    keep("worst_accuracy", numbers.get(side, 0.5), **where, side=side)
    return out


def scattered(numbers: Mapping[str, float]) -> Table:
    return Table(made(CASE, numbers))


def test_a_gain_that_the_attacker_who_knows_takes_back_only_blocks() -> None:
    table = scattered({"without > without": 0.1, "without > with": 0.5, "without": 0.1, "with": 0.1})
    found = judged(table, CASE, "crosstalk", CASE.judged_eps[0])
    assert found is not None
    assert found.verdict.outcome == "only blocks an attacker who does not know it"
    helps = judged(scattered({"without": 0.1, "with": 0.4}), CASE, "crosstalk", CASE.judged_eps[0])
    assert helps is not None
    assert helps.verdict.outcome == "helps"
    chance = judged(scattered({"without": 0.01, "with": 0.09}), CASE, "crosstalk", CASE.judged_eps[0])
    assert chance is not None
    assert chance.verdict.outcome != "helps"
    assert judged(Table(made(CASE, {}, seeds=1)), CASE, "crosstalk", CASE.judged_eps[0]) is None


def gains(case: Case, relative: float, accuracies: Mapping[str, float], seeds: int = 3) -> list[Result]:
    """Return results of the first stage."""
    out = []
    for seed in range(seeds):
        for defense, value in accuracies.items():
            where = {"case": case.name, "defense": defense, "attack": "fgsm", "eps": case.shown_eps}
            out.append(Result("qnad", "c", "accuracy", value * (1 + 0.01 * seed), where, seed=seed))
            quotient = Result("qnad", "c", "relative_gain", relative + 0.1 * seed, where, seed=seed)
            out += [] if defense == "none" else [quotient]
    return out


def test_a_quotient_is_reproduced_only_at_full_size() -> None:
    lenet = PAPER.cases[0]
    three = replace(PAPER, seeds=(0, 1, 2))
    above = {"none": 0.1, "crosstalk, chosen on the test": 0.35}
    table = Table(gains(lenet, 2.3, above))
    assert status(three, table, lenet, "fgsm") == "reproduced"
    assert status(replace(three, shots=10), table, lenet, "fgsm") == "trend only"
    assert status(three, Table(gains(lenet, 9.0, above)), lenet, "fgsm") == "trend only"
    below = {"none": 0.3, "crosstalk, chosen on the test": 0.1}
    assert status(three, Table(gains(lenet, -0.6, below)), lenet, "fgsm") == "not reproduced"
    assert status(PAPER, table, lenet, "fgsm") == "not comparable"  # two of five seeds have no quotient
    assert status(three, table, CASE, "fgsm") == "–"


# the whole


def test_smoke_leaves_every_table_and_figure(smoke: Path) -> None:
    summary = load_summary(smoke / "summary.json")
    sections = {panel.section.partition(":")[0] for panel in summary.panels}
    assert sections == {"Attackers who know the defense", "Table I", "Figure 3", "Figure 4", "Figure 5", "Figure 6"}
    page = report.build(smoke).read_text(encoding="utf-8")
    assert "nan" not in re.sub(r"<(style|script|svg).*?</\1>", "", page, flags=re.S).lower().split()
    results = load_results(smoke / "results.jsonl")
    assert all(0 <= r.value <= 1 for r in results if r.metric.endswith("accuracy"))
    assert {r.seed for r in results} == set(SMOKE.seeds)
    assert all(flag.severity == "ok" for flag in summary.flags if flag.code == "accuracy")


def test_accuracies_of_the_run_are_those_of_its_networks(smoke: Path) -> None:
    setting = replace(HERE, artifacts=smoke / "artifacts")
    table = Table(load_results(smoke / "results.jsonl"))
    for seed in SMOKE.seeds:
        part = samples(CASE, seed, setting)
        net = network(CASE, part, seed, setting)  # from the run's folder
        right = float((logits(net, part.test.x).argmax(1) == part.test.y).double().mean())
        assert table.accuracy(CASE, "none", "pgd", CASE.shown_eps, clean=True)[seed].value == pytest.approx(right)
        on_grid = table.path(CASE, "crosstalk", CASE.judged_eps[0], "clean", "without")[seed].value
        judged_x, judged_y = part.test.x[: CASE.n_judged], part.test.y[: CASE.n_judged]
        assert on_grid == pytest.approx(float((logits(net, judged_x).argmax(1) == judged_y).double().mean()))


def test_the_judged_level_is_the_one_that_validation_chose(smoke: Path) -> None:
    results = load_results(smoke / "results.jsonl")
    table = Table(results)
    for seed in SMOKE.seeds:
        level = chosen_level(results, CASE, seed, CASE.judged_eps[0])
        where = {"split": "validation", "attack": "pgd", "eps": CASE.judged_eps[0]}
        by_level = {
            (f, p): table.by_seed("level_accuracy", CASE, **where, fraction=f, pairs=p)[seed].value
            for f in SMOKE.fractions
            for p in SMOKE.pairs
        }
        assert by_level[level.fraction, level.pairs] == max(by_level.values())
        kept = [
            table.by_seed(f"judged_{name}", CASE, defense="crosstalk")[seed].value for name in ("fraction", "pairs")
        ]
        assert kept == [level.fraction, level.pairs]


def test_chosen_on_the_test_is_never_worse_there(smoke: Path) -> None:
    table = Table(load_results(smoke / "results.jsonl"))
    for attack in ("fgsm", "pgd"):
        a, b = (
            table.accuracy(CASE, f"crosstalk, chosen on {where}", attack, CASE.shown_eps)
            for where in ("the test", "validation")
        )
        assert all(a[seed].value >= b[seed].value for seed in SMOKE.seeds)


def test_a_figure_alone_takes_no_judging(tmp_path: Path) -> None:
    command = ["reproduce", "qnad", "--preset", "smoke", "--figure", "4", "--set", "seeds=[0]", "--set", "pairs=[1]"]
    result = CliRunner().invoke(app, [*command, "--set", "fractions=[0.1]", "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert {r.cell for r in load_results(tmp_path / "run" / "results.jsonl")} == {"sweep-CNN-Digits-seed0"}


def test_every_part_of_the_paper_is_known() -> None:
    assert ("table1", *(f"figure{n}" for n in range(3, 15))) == PARTS
    assert summarise(SMOKE, []).panels == ()
