"""The replication of the backdoor paper: what each part needs, how models are trained, and the smoke preset whole."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from redqubit import UsageError, report
from redqubit.backdoors import Backdoor, Patch, WaNet, load_front
from redqubit.cli import app
from redqubit.data import as_rgb, load_splits
from redqubit.experiments import reproduce
from redqubit.experiments.base import Setting
from redqubit.experiments.hqnn_backdoor import PRESETS, published
from redqubit.experiments.hqnn_backdoor import cells as work
from redqubit.experiments.hqnn_backdoor import training as trained
from redqubit.experiments.hqnn_backdoor.claims import summarise
from redqubit.experiments.hqnn_backdoor.config import HYBRID, PARTS, TWIN
from redqubit.experiments.hqnn_backdoor.plan import (
    CLEAN,
    Spec,
    double_changes,
    in_order,
    is_kept,
    main_spec,
    sets_for,
    single_changes,
    specs,
    trigger_named,
)
from redqubit.experiments.hqnn_backdoor.rows import status
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.experiments.seeds import Mean
from redqubit.models.narrow import FromStage
from redqubit.result import Result, load, load_summary
from redqubit.training import logits
from redqubit.victims import find_victims

SMOKE, LAPTOP, PAPER = (PRESETS[name] for name in ("smoke", "laptop", "paper"))
HERE = Setting(None, torch.device("cpu"), Path())
FOUND: dict[str, dict[str, Any]] = {"color": {}, "qcolor": {}}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke preset as it comes."""
    return reproduce("hqnn-backdoor", preset="smoke", out=tmp_path_factory.mktemp("hqnn") / "smoke")


@pytest.fixture(scope="module")
def results(smoke: Path) -> list[Result]:
    return load(smoke / "results.jsonl")


# what the paper says


def test_as_many_published_rates_are_exactly_zero_as_are_marked() -> None:
    frozen = [row[3] for row in published.TABLE4.values()]
    zeros = [c for c in (*published.TABLE1.values(), *published.TABLE6.values()) if c.success == 0]
    assert len(zeros) + frozen.count(0.0) == 40
    assert all(cell.note for cell in zeros)


def test_the_published_accuracies_of_table_4_are_shifted_ones_of_table_5() -> None:
    shifts = [round(published.TABLE4[key][i] - published.TABLE5[key][i], 2) for key in published.TABLE4 for i in (0, 2)]
    assert all(shift > 0 for shift in shifts)
    assert sum(shift in (3.0, 4.0) for shift in shifts) == 5


def test_reused_rows_are_those_of_table_1() -> None:
    patches, color = (published.TABLE6["resnet18", t, 0.1] for t in ("patch:3", "color"))
    other, blend = published.TABLE1[HYBRID, "resnet50", "patch:3"], published.TABLE1[HYBRID, "resnet18", "blend:0.2"]
    assert (patches.accuracy, patches.success) == (other.accuracy, other.success)
    assert (color.accuracy, color.success) == (blend.accuracy, blend.success)
    assert patches.note == color.note == published.REUSED


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        (Mean(0.9, 0.85, 0.95, 3), 0.98, "trend only"),
        (Mean(0.3, 0.1, 0.5, 3), 0.0, "trend only"),
        (Mean(0.3, 0.1, 0.5, 3), 0.98, "not reproduced"),
        (Mean(0.9, 0.85, 0.95, 3), 0.9, "trend only"),  # a reduced run shows no more, however near
    ],
)
def test_a_reduced_run_reproduces_nothing(ours: Mean, theirs: float, says: str) -> None:
    assert status(ours, theirs, 0.7, full=False) == says
    assert status(ours, theirs, 0.2, full=False) == "not comparable"


def test_at_full_size_the_interval_decides_on_the_right_side() -> None:
    ours = Mean(0.9, 0.85, 0.95, 3)
    assert status(ours, 0.94, 0.9, full=True) == "reproduced"
    assert status(ours, 0.98, 0.9, full=True) == "trend only"
    assert status(Mean(0.6, 0.05, 1.0, 3), 0.98, 0.9, full=True) == "not reproduced"  # however wide the interval


# the plan


def test_a_table_needs_its_own_data_alone() -> None:
    assert [part.name for part in sets_for(LAPTOP, ["table1"])] == ["imagenette"]
    assert [part.name for part in sets_for(LAPTOP, ["table4"])] == ["imagenette", "cifar10"]
    assert len(sets_for(LAPTOP, [])) == 3


@pytest.mark.parametrize("name", PRESETS)
def test_every_poisoned_model_has_its_clean_one(name: str) -> None:
    wanted = specs(PRESETS[name], PARTS)
    assert len(wanted) == len(set(wanted)) == len({spec.name for spec in wanted})
    assert {spec.clean for spec in wanted} <= set(wanted)
    clean = [spec.trigger == CLEAN for spec in wanted]
    assert clean == sorted(clean, reverse=True)


def test_parts_share_models_and_need_no_others() -> None:
    every = set(specs(LAPTOP, PARTS))
    assert set().union(*(specs(LAPTOP, [part]) for part in PARTS)) == every
    assert set(specs(LAPTOP, ["table8"])) <= set(specs(LAPTOP, ["table6"]))
    assert specs(LAPTOP, ["table2"]) == specs(LAPTOP, ["table3"])


def test_defenses_and_heat_maps_find_their_models() -> None:
    for part in ("figure5", "figure9", "figure10", "figure11", "figure12"):
        assert all(is_kept(spec, LAPTOP) for spec in specs(LAPTOP, [part]))


def test_sweeps_change_what_they_say() -> None:
    singles, doubles = single_changes(PAPER), double_changes(PAPER)
    assert (len(singles), len(doubles)) == (30, 48)
    for text, n in ((singles[0], 1), (doubles[0], 2)):
        _, ratios = trigger_named(text, PAPER, FOUND)
        assert sum(r != 1 for r in ratios.values()) == n
    config = Spec("d", "b", HYBRID, 6, "qcolor:1,0.8,1", 0.1, 0).config
    assert (config["channel"], config["change"]) == ("green", -0.2)
    config = Spec("d", "b", HYBRID, 6, "qcolor:1.1,1,0.9", 0.1, 0).config
    assert (config["channels"], config["first_change"], config["second_change"]) == ("red and blue", 0.1, -0.1)


def test_triggers_are_what_their_names_say() -> None:
    assert trigger_named("patch:3", LAPTOP, FOUND) == ("patch", {"side": 3, "margin": 1})
    assert trigger_named("wanet:2", LAPTOP, FOUND) == ("wanet", {"cover_ratio": 2.0})
    assert trigger_named("qcolor", LAPTOP, {"qcolor": {"r1": 1.1}}) == ("qcolor", {"r1": 1.1})
    for wrong in ("patch", "patch:x", "blend:", "qcolor:1,2", "hue:3", ""):
        with pytest.raises(UsageError, match="must be like patch:3"):
            trigger_named(wrong, LAPTOP, FOUND)


def test_parts_come_in_the_order_of_the_paper() -> None:
    assert in_order(["figure6", "table1"]) == ("table1", "figure6")
    assert in_order([]) == PARTS


# training


@pytest.fixture(scope="module")
def small() -> trained.Material:
    """300 digits of 16 pixels for a small backbone."""
    part = replace(SMOKE.sets[0], n_train=300, n_test=100, epochs=2)
    return trained.material(SMOKE, part, "cnn3", None, torch.device("cpu"))


def spec_of(trigger: str, head: str = TWIN) -> Spec:
    return Spec("digits", "cnn3", head, 2 if head == HYBRID else 0, trigger, 0.1, 0)


@pytest.mark.parametrize("trigger", [Patch(3), WaNet(cover_ratio=1.0)], ids=["patch", "covered"])
@pytest.mark.parametrize("mode", ["replace", "append"])
def test_streamed_poison_is_the_poisoned_set(small: trained.Material, trigger: Any, mode: Any) -> None:
    poisoned = Backdoor(trigger, mode=mode)(small.train, generator=torch.Generator().manual_seed(3))
    batch = trained._batch(small.train.x, small.train.y, poisoned, poisoned.changed)
    places = torch.randperm(len(poisoned), generator=torch.Generator().manual_seed(4))
    x, y = batch(places)
    assert torch.equal(x, poisoned.dataset.x[places])
    assert torch.equal(y, poisoned.dataset.y[places])


def test_kept_maps_train_the_model_that_pictures_would(small: trained.Material) -> None:
    """A frozen front applied once gives what it gives when it is applied at each step."""
    spec = spec_of("patch:3")
    poisoned = Backdoor(Patch(3))(small.train, generator=torch.Generator().manual_seed(0))
    net, _ = trained.build(SMOKE, spec, small)
    late, again = FromStage(net, "blocks.1"), trained.build(SMOKE, spec, small)[0]
    again.features.get_submodule("backbone.blocks.0").requires_grad_(False)
    for model, x, changed in (
        (late, late.front(small.train.x), late.front(poisoned.changed)),
        (again, small.train.x, poisoned.changed),
    ):
        trained.fine_tune(
            model,
            trained._batch(x, small.train.y, poisoned, changed),
            len(poisoned),
            [(model.parameters(), 1e-3)],
            epochs=1,
            generator=torch.Generator().manual_seed(1),
        )
    torch.testing.assert_close(logits(net, small.test.x), logits(again, small.test.x), rtol=1e-4, atol=1e-5)


def test_models_of_a_seed_share_poison_and_backbone(small: trained.Material) -> None:
    nets = [trained.build(SMOKE, spec_of(CLEAN, head), small)[0] for head in (HYBRID, TWIN, "prodsin")]
    states = [net.features.state_dict() for net in nets]
    assert all(torch.equal(states[0][key], state[key]) for state in states for key in state)
    draws = [trained.poison(spec_of(t), Backdoor(Patch(3)), small).is_poisoned for t in ("patch:3", "wanet")]
    assert torch.equal(*draws)


def test_augmented_pictures_are_moved_and_mirrored_alone() -> None:
    x = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = trained._augmented(lambda places: (x[places], places), torch.Generator().manual_seed(1))
    moved, y = batch(torch.arange(64))
    assert moved.shape == x.shape
    assert torch.equal(y, torch.arange(64))
    for before, after in zip(x, moved, strict=True):
        inner = after[:, 2:14, 2:14]
        places = [
            picture[:, top : top + 12, left : left + 12]
            for picture in (before, before.flip(2))
            for top in range(5)
            for left in range(5)
        ]
        assert any(torch.equal(inner, place) for place in places)


def test_grey_pictures_get_three_channels_of_the_size_asked_for() -> None:
    digits = load_splits("digits")[1]
    rgb = as_rgb(digits, 16)
    assert rgb.x.shape[1:] == (3, 16, 16)
    assert torch.equal(rgb.x[:, 0], rgb.x[:, 2])
    assert torch.allclose(as_rgb(digits, 8).x, digits.x.expand(-1, 3, -1, -1))
    with pytest.raises(UsageError, match="square pictures"):
        as_rgb(load_splits("iris")[0], 8)


# bad input


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target_class": 10}, "must be a class of the training set"),
        ({"poison_rate": 0.95, "rates": (0.95,)}, "must poison between"),
        ({"poison_rate": 0.0, "rates": (0.0,)}, "must lie between 0 and 1"),
        ({"rates": (0.02,)}, "must be one of `rates`"),
        ({"control": "patch:17"}, "must fit into the pictures"),
        ({"control": "spot:3"}, "must be like patch:3"),
        ({"seeds": ()}, "must hold different values"),
        ({"n_defender": 290}, "must leave"),
        ({"control": "qcolor"}, "needs no search"),
        ({"heads": ("tan",)}, "Unknown head `tan`"),
        ({"depths": (0, 2)}, "must be 1 layer or more"),
        ({"strip_overlays": 200}, "must not exceed"),
    ],
)
def test_what_cannot_run_is_told_before_any_work(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as told:
        work.first(replace(SMOKE, **changes), HERE)
    assert "\n" not in str(told.value)


def test_absent_weights_say_how_to_do_without(tmp_path: Path) -> None:
    part = replace(SMOKE.sets[0], backbones=("squeezenet1_0",), pretrained=True)
    with pytest.raises(UsageError, match="--set pretrained=false"):
        trained.find_pretrained(SMOKE, part, "squeezenet1_0", tmp_path)
    assert trained.find_pretrained(replace(SMOKE, pretrained=False), part, "squeezenet1_0", tmp_path) is None


def test_the_command_names_what_it_does_not_know() -> None:
    run = CliRunner().invoke(app, ["reproduce", "hqnn-backdoor", "--preset", "smoke", "--table", "9"])
    assert isinstance(run.exception, UsageError)
    assert "table9" in str(run.exception)
    run = CliRunner().invoke(app, ["reproduce", "sim2019", "--preset", "smoke", "--figure", "5"])
    assert isinstance(run.exception, UsageError)


# claims, on numbers made up


def made(head: str, trigger: str, rates: tuple[float, ...], accuracy: float = 0.9, floor: float = 0.02) -> list[Result]:
    """Return what the training of a model would have left, a seed for each rate, of 1000 trials."""
    out = []
    for seed, rate in enumerate(rates):
        spec = replace(main_spec(PAPER, head, trigger), seed=seed)
        config = {**spec.config, "frozen": False}
        for metric, value in (
            ("attack_success_rate", rate),
            ("clean_model_floor", floor),
            ("untriggered_floor", floor),
            ("backdoor_accuracy", accuracy + 0.001 * seed),
            ("train_attack_success_rate", rate),
        ):
            k = round(1000 * value)
            out.append(Result("hqnn-backdoor", spec.name, metric, k / 1000, config, 0.0, 1.0, k, 1000, seed))
    return out


def verdict(results: list[Result], words: str) -> str:
    (finding,) = [f for f in summarise(PAPER, results).findings if words in f.text]
    return finding.status


TABLE1 = PAPER.table1


def under_table1(head: str, *rates: float, accuracy: float = 0.9) -> list[Result]:
    return [r for t in TABLE1 for r in made(head, t, rates, accuracy)]


@pytest.mark.parametrize(
    ("hybrid", "twin", "says"),
    [
        ((0.1, 0.12, 0.11), (0.9, 0.93, 0.91), "holds"),
        ((0.9, 0.93, 0.91), (0.1, 0.12, 0.11), "fails"),
        ((0.1, 0.9, 0.5), (0.5, 0.4, 0.6), "unclear"),
        ((0.5, 0.5, 0.5), (0.6, 0.6, 0.6), "unclear"),  # three seeds that agree are no interval of no width
    ],
)
def test_more_robust_is_a_paired_interval(hybrid: tuple[float, ...], twin: tuple[float, ...], says: str) -> None:
    results = under_table1(HYBRID, *hybrid) + under_table1(TWIN, *twin)
    assert verdict(results, "more robust to backdoors") == says


def test_collapsed_or_deaf_networks_are_not_more_robust() -> None:
    twins = under_table1(TWIN, 0.9, 0.93, 0.91)
    collapsed = under_table1(HYBRID, 0.0, 0.01, 0.02, accuracy=0.1)
    assert verdict(collapsed + twins, "more robust to backdoors") == "unclear"
    deaf = twins + made(TWIN, PAPER.control, (0.1, 0.2, 0.1))
    assert verdict(under_table1(HYBRID, 0.1, 0.12, 0.11) + deaf, "more robust to backdoors") == "unclear"


def test_the_circuit_is_credited_only_beside_the_product_of_sines() -> None:
    hybrid = [r for t in PAPER.probes for r in made(HYBRID, t, (0.1, 0.12, 0.11))]
    alike = {"tanh": (0.9, 0.93, 0.91), "sine": (0.9, 0.92, 0.95), "prodsin": (0.1, 0.13, 0.1)}
    heads = [r for head, rates in alike.items() for t in PAPER.probes for r in made(head, t, rates)]
    assert verdict(hybrid + heads, "It is the circuit") == "unclear"
    other = [r for t in PAPER.probes for r in made("prodsin", t, (0.8, 0.83, 0.85))]
    heads = [r for r in heads if r.config["head"] != "prodsin"] + other
    assert verdict(hybrid + heads, "It is the circuit") == "holds"


def test_rates_need_intervals_on_the_right_side() -> None:
    def at(rates: dict[float, tuple[float, ...]], trigger: str) -> list[Result]:
        rows = []
        for rate, values in rates.items():
            for r in made(HYBRID, trigger, values):
                rows.append(replace(r, config={**r.config, "rate": rate}))
        return rows

    rivals = at({0.1: (0.95, 0.96, 0.94), 0.01: (0.02, 0.03, 0.01)}, "wanet")
    works, mixed, not_ = ((0.97, 0.98, 0.99), (0.5, 0.99, 0.9), (0.1, 0.12, 0.11))
    for at_least, says in ((works, "holds"), (mixed, "unclear"), (not_, "fails")):
        assert verdict(at({0.1: works, 0.01: at_least}, "qcolor") + rivals, "every poisoning rate") == says


# the whole


def test_every_model_has_rates_with_their_numbers(results: list[Result]) -> None:
    table = Table(results)
    n_test = SMOKE.sets[0].n_test
    for spec in specs(SMOKE, PARTS):
        if spec.trigger == CLEAN:
            assert table.by_seed("clean_accuracy", spec)[spec.seed].n == n_test
            continue
        rate = table.by_seed("attack_success_rate", spec)[spec.seed]
        assert rate.n is not None
        assert rate.n < n_test  # the target class is left out
        assert table.by_seed("clean_model_floor", spec)[spec.seed].n == rate.n
        poisoned = table.by_seed("n_poisoned", spec)[spec.seed].value
        assert poisoned == round(spec.rate * SMOKE.sets[0].n_train)
        assert table.by_seed("train_attack_success_rate", spec)[spec.seed].n == poisoned
        by_class = [
            r for r in results if r.cell == spec.name and r.metric == "attack_success_rate_of_class" and r.k is not None
        ]
        assert sum(r.k or 0 for r in by_class) == rate.k
        assert sum(r.n or 0 for r in by_class) == rate.n


def test_the_positive_control_works(results: list[Result]) -> None:
    table = Table(results)
    for head in (HYBRID, TWIN):
        spec = spec_of(SMOKE.control, head)
        assert table.mean("attack_success_rate", spec).value > 0.8
        assert table.mean("clean_model_floor", spec).value < 0.5


def test_a_kept_model_gives_the_rates_that_stand_in_the_table(smoke: Path, results: list[Result]) -> None:
    from redqubit.defending import data_of, model_of

    victim = next(v for v in find_victims(smoke / "artifacts") if v.name == spec_of("patch:4").name)
    _, test = data_of(victim)
    assert victim.backdoor is not None
    net = model_of(victim, smoke / "artifacts", test.x.shape[1:])
    others = test.y != SMOKE.target_class
    hits = logits(net, victim.backdoor.trigger(test.x[others])).argmax(1) == SMOKE.target_class
    stored = next(r for r in results if r.cell == victim.name and r.metric == "attack_success_rate")
    assert (int(hits.sum()), len(hits)) == (stored.k, stored.n)


def test_the_search_is_kept_whole(smoke: Path, results: list[Result]) -> None:
    front = load_front(smoke / "artifacts" / "qcolor-front.json")
    chosen = next(r for r in results if r.metric == "chosen_loss" and r.config["trigger"] == "qcolor")
    assert front.best().candidate.loss == pytest.approx(chosen.value)
    assert len(front.evaluated) <= SMOKE.population * SMOKE.generations
    assert all(len(c.losses) == len(SMOKE.search_seeds) for c in front.evaluated)


def test_heat_maps_are_pictures(smoke: Path) -> None:
    files = list((smoke / "artifacts").glob("cam-*.npz"))
    assert len(files) == 6
    with np.load(files[0], allow_pickle=False) as arrays:
        assert arrays["clean"].shape == arrays["adv"].shape
        assert 0 <= arrays["adv"].min() <= arrays["adv"].max() <= 1


def test_the_report_shows_every_part(smoke: Path) -> None:
    summary = load_summary(smoke / "summary.json")
    titles = " ".join(panel.title for panel in summary.panels)
    for n in range(1, 9):
        assert f"the paper's Table {n})" in titles
    for section in ("Figures 5 and 9", "Figures 6 and 7", "STRIP", "Neural Cleanse", "Fine-Pruning"):
        assert any(panel.section.startswith(section) for panel in summary.panels), section
    page = re.sub(r'"data:image[^"]*"', "", report.build(smoke).read_text(encoding="utf-8"))
    assert not re.search(r"\bnan\b", page)
    assert {flag.code for flag in summary.flags} >= {"positive-control", "saturated-head", "collapsed-network"}


def test_a_second_start_does_nothing_again(smoke: Path, results: list[Result]) -> None:
    reproduce("hqnn-backdoor", preset="smoke", out=smoke)
    assert load(smoke / "results.jsonl") == results


def test_one_table_alone_makes_its_models_and_no_others(tmp_path: Path) -> None:
    small = {"seeds": [0], "table1": ["patch:3"], "heads": [], "probes": []}
    folder = reproduce("hqnn-backdoor", preset="smoke", changes=small, parts=["table1"], out=tmp_path / "run")
    cells = {r.cell for r in load(folder / "results.jsonl") if not r.cell.startswith("similarity")}
    config = replace(SMOKE, seeds=(0,), table1=("patch:3",), heads=(), probes=())
    assert cells == {spec.name for spec in specs(config, ["table1"])}
    summary = summarise(config, load(folder / "results.jsonl"))
    assert {panel.section for panel in summary.panels} >= {"Table 1: patches and blends"}
    assert not any("Table 5" in panel.title for panel in summary.panels)
