"""Defenses in audits: what helps, what hides its gradient and what does nothing are told apart."""

import json
import math
import pickle
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from redqubit import Dataset, UsageError, audit, cli, load_splits
from redqubit.auditing.cells import Work
from redqubit.auditing.config import EVASION_DEFENSES, Audit, check
from redqubit.auditing.defense_panels import defense_panels
from redqubit.auditing.defense_verdict import DefenseTable, defense_findings, defense_flags, defense_limits
from redqubit.auditing.defenses import WORST, DefensePlan, defense_cells, plan_defenses, protect
from redqubit.auditing.subjects import find_model
from redqubit.data import first_stratified
from redqubit.defenses import AdversarialTraining, Defense, DenoisingAutoencoder, Smoothed
from redqubit.models import QuantumLayer
from redqubit.models.quantum_products import QuantumProducts
from redqubit.result import Finding, Result, Summary, load, load_summary
from redqubit.statistics import Proportion, mcnemar
from redqubit.training import train

EPS = 0.1
ONLY: dict[str, Any] = {"attacks": ["fgsm"], "eps": [EPS], "backdoors": [], "poisons": [], "n_examples": 2}
QUICK: dict[str, Any] = {**ONLY, "defense_steps": 4, "defense_queries": 10, "defense_draws": 2}
MADE: dict[str, Any] = {
    **QUICK,
    "defenses": ["quantum_noise", "gaussian_noise+smoothing"],
    "epochs": 3,
    "seeds": [0, 1],
    "n_train": 60,
    "n_defense_test": 12,
    "twin": "hybrid_twin",
}
CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# One strong feature and many weak ones, of which training without attacks makes use


class Rounded(nn.Module):
    """The same model for all that an attack can do, without a gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model((1000 * x).round() / 1000)
        return out


@dataclass(frozen=True)
class Masking(Defense):
    """Gradient masking and nothing else."""

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        return Rounded(model)


@dataclass(frozen=True)
class Nothing(Defense):
    """The model as it is."""

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        return model


def weak_features(n: int, seed: int) -> Dataset:
    g = seeded(seed)
    y = torch.arange(n) % 2
    side = 2.0 * y[:, None] - 1
    strong = 0.5 + 0.25 * side * torch.where(torch.rand(n, 1, generator=g) < 0.9, 1.0, -1.0)
    weak = 0.5 + 0.04 * side + 0.08 * torch.randn(n, 30, generator=g).clamp(-3, 3)
    return Dataset(torch.cat([strong, weak], 1), y, 2, "weak")


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """A linear model, trained without attacks, and its data."""
    train_set, test_set = weak_features(400, 0), weak_features(120, 1)
    net = nn.Sequential(nn.Linear(31, 2))
    net[0].weight.data.zero_(), net[0].bias.data.zero_()  # type: ignore[operator]
    train(net, train_set.x, train_set.y, epochs=10, lr=0.05, generator=seeded())
    return {"model": net, "data": (train_set, test_set)}


@pytest.fixture(scope="module")
def linear(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of it with a defense that is known to help, one that only masks, and one that does nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EVASION_DEFENSES, "masking", lambda *_: Masking())
        patch.setitem(EVASION_DEFENSES, "nothing", lambda *_: Nothing())
        out = tmp_path_factory.mktemp("linear") / "run"
        settings = {**QUICK, "epochs": 10, "lr": 0.05, "n_defense_test": None}
        names = ["adversarial_pgd", "masking", "nothing", "nothing+masking"]
        return audit(**made, out=out, seeds=[0], defenses=names, **settings).parent


def findings(folder: Path) -> dict[str, Finding]:
    said = load_summary(folder / "summary.json").findings
    return {f.text.split()[0]: f for f in said if "worst of all attacks leaves" in f.text}


def found(folder: Path, metric: str, defense: str, model: str, seed: int = 0, **where: object) -> Result:
    where |= {"defense": defense, "model": model}
    (one,) = (
        r
        for r in load(folder / "results.jsonl")
        if (r.metric, r.seed) == (metric, seed) and where.items() <= r.config.items()
    )
    return one


def robust(net: nn.Module, data: Dataset) -> Tensor:
    """Return which samples a linear model gets right whatever happens within eps: no value comes near 0 or 1."""
    (layer,) = (part for part in net.modules() if isinstance(part, nn.Linear))
    across = layer.weight[1] - layer.weight[0]
    margin = (2.0 * data.y - 1) * (data.x @ across + layer.bias[1] - layer.bias[0])
    return (margin > EPS * across.abs().sum()).detach()


def test_what_is_left_of_a_linear_model_is_its_closed_form(linear: Path, made: dict[str, Any]) -> None:
    (train_set, test_set), net = made["data"], made["model"]
    config = replace(Audit(), epochs=10, lr=0.05)
    hardened, steps = protect(config, "adversarial_pgd", net, train_set, seed=0)
    assert isinstance(steps[0], AdversarialTraining)
    assert steps[0].eps == config.claim_eps
    for side, model in (("without", net), ("with", hardened)):
        hits = robust(model, test_set)
        r = found(linear, "defense_accuracy", "adversarial_pgd", "Sequential", made=WORST, judged=side)
        p = Proportion(int(hits.sum()), 120)
        assert (r.k, r.n, r.low, r.high) == (p.k, 120, p.low, p.high), side
    gain = mcnemar(robust(hardened, test_set), robust(net, test_set))
    said = f"worst of all attacks {100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    assert said in findings(linear)["adversarial_pgd"].detail


def test_each_defense_gets_the_verdict_that_it_deserves(linear: Path) -> None:
    said = findings(linear)
    assert {name: f.status for name, f in said.items()} == {
        "adversarial_pgd": "holds",
        "masking": "fails",
        "nothing": "unclear",
        "nothing+masking": "fails",
    }
    assert said["adversarial_pgd"].text.startswith("adversarial_pgd helps Sequential before an attacker who knows it:")
    assert said["masking"].text.startswith("masking only blocks an attacker of Sequential who does not know it:")
    assert said["nothing"].text.startswith("nothing is not shown to help Sequential, nor to hurt it:")
    assert "worst of all attacks +0.0 points" in said["nothing"].detail
    assert said["masking"].detail.index("points") < said["masking"].detail.index("relative")  # absolute first


def test_gradients_that_mislead_are_flagged(linear: Path) -> None:
    flags = {f.subject: f for f in load_summary(linear / "summary.json").flags if f.code == "gradient-masking"}
    assert flags["Sequential / nothing"].severity == "ok"
    assert flags["Sequential / masking"].severity == "warning"


def test_outcomes_of_every_sample_agree_with_the_results(linear: Path, made: dict[str, Any]) -> None:
    rows = pq.read_table(linear / "defenses.parquet").to_pylist()
    labels = made["data"][1].y.tolist()
    for defense, source, side in (("masking", "clean", "with"), ("adversarial_pgd", "square with", "without")):
        own = [r for r in rows if (r["defense"], r["made"], r["judged"]) == (defense, source, side)]
        assert [(r["index"], r["label"], r["draws"]) for r in own] == [(i, y, 1) for i, y in enumerate(labels)]
        r = found(linear, "defense_accuracy", defense, "Sequential", made=source, judged=side)
        assert r.k == sum(row["right"] for row in own)


# Random defenses, quantum models and twins


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of a hybrid network and its classical twin on iris."""
    return audit("hybrid", "iris", out=tmp_path_factory.mktemp("defenses") / "run", **MADE).parent


def test_models_twins_and_seeds_are_judged_alike(run: Path) -> None:
    for defense in ("quantum_noise", "gaussian_noise+smoothing"):
        for model in ("hybrid", "hybrid_twin"):
            for seed in (0, 1):
                r = found(run, "defense_accuracy", defense, model, seed, made="with", judged="with")
                assert r.n == 12
                paths = {"transfer", "deterministic part", "gaussian", "fgsm with", "with, one draw"}
                for source in paths:  # of a random defense
                    found(run, "defense_accuracy", defense, model, seed, made=source, judged="with")
                assert found(run, "eot_draws", defense, model, seed).value <= 2


def test_circuits_stay_as_they_are_on_a_noisy_device() -> None:
    data = first_stratified(load_splits("iris")[0], 12)
    net = find_model("hybrid", (4,), 3).make(0).eval()
    noisy, _ = protect(Audit(), "quantum_noise", net, data, seed=0)
    assert [type(p) for p in noisy.modules() if isinstance(p, QuantumProducts | QuantumLayer)].count(QuantumLayer) == 1
    assert any(isinstance(p, QuantumProducts) for p in noisy.modules())


def test_certificates_are_of_smoothing_that_stands_first(run: Path) -> None:
    certified = [r for r in load(run / "results.jsonl") if r.metric == "certified_accuracy"]
    assert {r.config["defense"] for r in certified} == {"gaussian_noise+smoothing"}
    for model in ("hybrid", "hybrid_twin"):
        own = [r for r in certified if (r.config["model"], r.seed) == (model, 1)]
        assert [r.config["radius"] for r in own] == [0.0, 0.125, 0.25, 0.375, 0.5]
        values = [r.value for r in own]
        assert values == sorted(values, reverse=True)
        ball = found(run, "certified_ball_accuracy", "gaussian_noise+smoothing", model, 1)
        assert ball.config["radius"] == pytest.approx(EPS * math.sqrt(4))
        assert values[1] >= ball.value >= values[2]  # 0.125 <= 0.2 <= 0.25
    data = first_stratified(load_splits("iris")[0], 12)
    net = find_model("hybrid_twin", (4,), 3).make(0).eval()
    inner, _ = protect(replace(Audit(), epochs=1), "smoothing+gaussian_noise", net, data, seed=0)
    assert not isinstance(inner, Smoothed)


def test_the_report_has_its_section_and_the_command_that_makes_it(run: Path) -> None:
    summary = load_summary(run / "summary.json")
    panels = [p for p in summary.panels if p.section == "Defenses"]
    assert [p.kind for p in panels] == ["facts"] * 6 + ["curves", "facts"]
    assert [" hybrid_twin" in p.title for p in panels[:6]] == [False] * 3 + [True] * 3
    worth, paths, _ = (p.data for p in panels[:3])
    assert [row[0] for row in worth["rows"]] == ["quantum_noise", "gaussian_noise+smoothing"]
    assert paths["columns"].index("gain") < paths["columns"].index("relative gain")
    where = {"made": "with", "judged": "without"}
    back = [found(run, "defense_accuracy", "quantum_noise", "hybrid", seed, **where).value for seed in (0, 1)]
    assert paths["rows"][0][3] == f"{50 * sum(back):.1f}"
    clean = []
    for side in ("without", "with"):
        where = {"made": "clean", "judged": side}
        both = [found(run, "defense_accuracy", "quantum_noise", "hybrid", seed, **where).value for seed in (0, 1)]
        clean.append(100 * sum(both) / 2)
    assert worth["rows"][0][2] == "{:.1f}\u00a0→\u00a0{:.1f}".format(*clean)
    settings = {(name, models): setting for name, models, setting in panels[-1].data["rows"]}
    said = settings["gaussian_noise+smoothing", "hybrid, hybrid_twin"]
    assert said.startswith("GaussianNoise(sigma=0.1, on='inputs') then RandomizedSmoothing(sigma=0.25, samples=16, ")
    assert "epochs=3" in said
    words = shlex.split(summary.rerun)
    assert 'defenses=["quantum_noise", "gaussian_noise+smoothing"]' in words
    assert any("at one radius, eps 0.1, on 12 test samples" in text for text in summary.limits)
    assert "Defenses" in (run / "report.html").read_text(encoding="utf-8")


def test_a_run_goes_on_where_it_was(run: Path) -> None:
    before = (run / "results.jsonl").read_bytes()
    lines = before.splitlines(keepends=True)
    cells = [json.loads(line)["cell"] for line in lines]
    last = [name for name in cells if name.startswith("defense-")][-1]
    (run / "results.jsonl").write_bytes(b"".join(lines[: cells.index(last)]))
    done: list[str] = []
    audit("hybrid", "iris", out=run, progress=lambda *said: done.append(said[2]), **MADE)
    assert [name for name in done if name] == [last]
    assert strip((run / "results.jsonl").read_bytes()) == strip(before)


def strip(lines: bytes) -> list[str]:
    kept = ({k: v for k, v in json.loads(line).items() if k not in ("seconds", "crc32")} for line in lines.splitlines())
    return [json.dumps(row, sort_keys=True) for row in kept]


# What is planned


def blobs(n: int = 24, d: int = 4, classes: int = 3) -> Dataset:
    y = torch.arange(n) % classes
    x = 0.5 * torch.rand(n, d, generator=seeded())
    x[torch.arange(n), y] += 0.5
    return Dataset(x, y, classes, "blobs")


def planned(*models: str | nn.Module, **changes: Any) -> DefensePlan:
    data = blobs()
    subjects = [find_model(model, (4,), 3) for model in models]
    return plan_defenses(replace(Audit(), **changes), subjects, data, data, device=CPU)


def test_a_defense_that_does_not_take_a_model_is_named() -> None:
    plan = planned("hcqnn", "hybrid_twin", defenses=("quantum_noise", "gaussian_noise"))
    assert {name: [s.name for s in subjects] for name, subjects in plan.applied.items()} == {
        "quantum_noise": ["hybrid_twin"],
        "gaussian_noise": ["hcqnn", "hybrid_twin"],
    }
    assert list(plan.refused) == [("quantum_noise", "hcqnn")]
    assert [s.name for s in plan.subjects] == ["hcqnn", "hybrid_twin"]
    with pytest.raises(UsageError, match="must hold one that hcqnn takes, but quantum_noise is refused: ") as caught:
        planned("hcqnn", "hybrid_twin", defenses=("quantum_noise",))
    assert "\n" not in str(caught.value)
    assert planned("hcqnn") == DefensePlan()


def test_a_model_with_weights_is_trained_on(made: dict[str, Any]) -> None:
    net, (train_set, _) = made["model"], made["data"]
    before = [w.clone() for w in net.parameters()]
    once = replace(Audit(), epochs=1)
    trained, _ = protect(once, "adversarial_fgsm", net, train_set, seed=0)
    fresh, _ = protect(once, "adversarial_fgsm", nn.Sequential(nn.Linear(31, 2)), train_set, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))  # the one given is left
    shift = [(a - b).abs().max().item() for a, b in zip(before, trained.parameters(), strict=True)]
    assert max(shift) < 0.2 < max((a - b).abs().max().item() for a, b in zip(before, fresh.parameters(), strict=True))
    frozen = nn.Sequential(nn.Linear(4, 3)).requires_grad_(False)
    plan = planned(frozen, defenses=("trades", "gaussian_noise"))
    assert "all are frozen" in plan.refused["trades", "Sequential"]


@pytest.mark.tiny
def test_defenses_know_the_shape_and_the_radius() -> None:
    config = replace(Audit(), defense_eps=0.03, epochs=7)
    net = nn.Sequential(nn.Linear(4, 2))
    shown = {name: make(config, net, (4,)) for name, make in EVASION_DEFENSES.items()}
    assert shown["denoising"] == DenoisingAutoencoder.paper((4,))
    assert EVASION_DEFENSES["denoising"](config, net, (1, 8, 8)) == DenoisingAutoencoder.paper((1, 8, 8))
    methods = {name: shown[name].method for name in ("adversarial_fgsm", "adversarial_pgd", "trades")}  # type: ignore[attr-defined]
    assert methods == {"adversarial_fgsm": "fgsm", "adversarial_pgd": "pgd", "trades": "trades"}
    assert shown["trades"].eps == shown["gaussian_noise"].sigma == 0.03  # type: ignore[attr-defined]
    assert shown["trades"].epochs == shown["smoothing"].epochs == 7  # type: ignore[attr-defined]
    assert replace(Audit(), claim_eps=0.2).judged_eps == 0.2


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"defenses": ("denoisin",)}, "Unknown defense `denoisin`: did you mean denoising"),
        ({"defenses": ("denoising+",)}, "Unknown defense ``"),
        ({"defenses": ("denoising+gaussian",)}, "Unknown defense `gaussian`: did you mean gaussian_noise"),
        ({"defenses": ("trades", "trades")}, "`defenses` must hold each value once"),
        ({"defense_eps": 0.0}, "`defense_eps` must be a radius above 0"),
        ({"defense_eps": math.nan}, "`defense_eps` must be a radius above 0"),
        ({"defense_draws": 1}, "`defense_draws` must be a power of 2 from 2"),
        ({"defense_draws": 12}, "`defense_draws` must be a power of 2 from 2"),
        ({"defense_steps": 0}, "`defense_steps` must be above 0"),
        ({"defense_queries": 0}, "`defense_queries` must be above 0"),
        ({"n_defense_test": 0}, "`n_defense_test` must be above 0"),
    ],
)
def test_bad_settings_are_told_before_any_work(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        check(replace(Audit(), **change))
    assert "\n" not in str(caught.value)


@pytest.mark.tiny
def test_cells_travel_to_other_processes(tmp_path: Path) -> None:
    data, subject = blobs(), find_model("hybrid_twin", (4,), 3)
    plan = DefensePlan((subject,), {"trades": (subject,)}, {}, 10)
    work = Work(Audit(), (subject,), (data, data), None, tmp_path, CPU)
    cells = defense_cells(work, plan)
    assert [cell.name for cell in cells] == [f"defense-trades-hybrid_twin-seed{seed}" for seed in (0, 1, 2)]
    sent = pickle.loads(pickle.dumps(cells[0].run))  # noqa: S301
    assert isinstance(sent, partial)
    assert sent.args[4] == plan


def test_the_command_line_takes_names_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "--model", "hybrid_twin", "--data", "iris", "--seeds", "0", "--eps", "0.1", "--attacks", "fgsm"]
    words += ["--workers", "1", "--quiet", "--set", "epochs=1", "--out", str(tmp_path / "run")]
    words += ["--backdoors", "none", "--poisons", "none"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--defenses", "denoising,smothing"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "redqubit: Unknown defense `smothing`: did you mean smoothing?\n"
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--set", "defenses=[trades]", "--defenses", "none"])
    assert ended.value.code == 0
    assert {r.cell for r in load(tmp_path / "run" / "results.jsonl")} == {"hybrid_twin-seed0"}
    summary: Summary = load_summary(tmp_path / "run" / "summary.json")
    assert "No defense was tried: nothing here speaks of what one is worth." in summary.limits
    assert not [p for p in summary.panels if p.section == "Defenses"]


# What is concluded


Counts = Mapping[str, tuple[list[int], list[int]]]  # right of 100 by attack, without and with the defense, by seed
NOTHING: Counts = {"clean": ([90, 91, 89], [90, 91, 89]), WORST: ([20, 22, 21], [20, 22, 21])}


def first(k: int, n: int = 100) -> Tensor:
    return (torch.arange(n) < k).double()


def table(counts: Counts, *, twin: Counts | None = None, converged: bool = True, random: bool = False) -> DefenseTable:
    """Return a table of one defense with these counts; attacks that are not named leave what the worst leaves."""
    data = blobs(100, 5, 5)
    models = {"hybrid": counts, **({"hybrid_twin": twin} if twin else {})}
    subjects = tuple(find_model(m, (5,), 5) for m in models)
    plan = DefensePlan(subjects, {"trades": subjects}, {}, 100)
    shares, results = {}, []
    for model, by in models.items():
        for source in ("clean", WORST, "without", "with", "with, one draw", "fgsm without", "fgsm with", "square with"):
            for side, ks in zip(("without", "with"), by.get(source, by[WORST]), strict=True):
                for seed, k in enumerate(ks):
                    shares[model, seed, "trades", source, side] = first(k)
                    p = Proportion(k, 100)
                    where = {"model": model, "defense": "trades", "made": source, "judged": side}
                    results.append(
                        Result("audit", "c", "defense_accuracy", p.value, where, p.low, p.high, k, 100, seed)
                    )
        told = {"eot_draws": 4.0, "eot_converged": float(converged), "defense_is_random": float(random)}
        for seed in range(len(by["clean"][0])):
            where = {"model": model, "defense": "trades", "setting": "TRADES"}
            results += [Result("audit", "c", metric, value, where, seed=seed) for metric, value in told.items()]
    config = replace(Audit(), defenses=("trades",), seeds=tuple(range(len(counts["clean"][0]))))
    return DefenseTable(config, plan, results, shares, data)


def told(counts: Counts, **more: Any) -> Finding:
    (finding,) = defense_findings(table(counts, **more))
    return finding


HELPS: Counts = {"clean": ([90, 91, 89], [88, 88, 88]), WORST: ([20, 22, 21], [60, 63, 60])}


@pytest.mark.tiny
def test_seeds_are_paired() -> None:
    finding = told(HELPS)
    assert finding.text == (
        "trades helps hybrid before an attacker who knows it: at eps 0.1 the worst of all attacks leaves hybrid right "
        "on 61.0 % of the test samples with the defense and 21.0 % without; on clean samples 88.0 % and 90.0 %."
    )
    assert finding.status == "holds"
    assert "worst of all attacks +40.0 points [+37.5, +42.5]" in finding.detail  # t of 40, 41, 39
    assert "clean samples -2.0 points [" in finding.detail
    assert "relative gains: worst of all attacks +190 %" in finding.detail
    assert "over 3 seeds (Student t)" in finding.detail
    assert told({**HELPS, WORST: ([20, 22, 21], [60, 22, 3])}).status == "unclear"


@pytest.mark.tiny
def test_seeds_that_happen_to_agree_show_nothing() -> None:
    assert told(NOTHING).status == "unclear"
    agreed = told({**NOTHING, WORST: ([20, 21, 22], [30, 31, 32])})
    assert agreed.status == "unclear"
    assert "is not shown to help hybrid" in agreed.text


@pytest.mark.tiny
def test_what_an_attacker_who_does_not_know_it_loses_is_told() -> None:
    blocks = told({**NOTHING, "without": ([30, 32, 31], [80, 81, 82]), WORST: ([20, 22, 21], [20, 21, 22])})
    assert blocks.status == "fails"
    assert blocks.text.startswith("trades only blocks an attacker of hybrid who does not know it: at eps 0.1 the worst")
    assert "attacks that do not adapt to it +50.0 points" in blocks.detail
    fgsm = told({**NOTHING, "fgsm without": ([30, 32, 31], [80, 81, 82])})
    assert "only blocks" in fgsm.text
    hurts = told({"clean": ([90, 91, 89], [70, 73, 69]), WORST: ([20, 22, 21], [10, 11, 12])})
    assert (hurts.status, hurts.text.split(":")[0]) == ("fails", "trades hurts hybrid")
    nothing_left = told({**NOTHING, WORST: ([0, 0, 0], [40, 41, 39])})
    assert "relative gains: worst of all attacks – (of 0)" in nothing_left.detail
    chance = told({**NOTHING, WORST: ([0, 0, 0], [10, 11, 9])})  # a class has 20 of 100
    assert chance.status == "unclear"


@pytest.mark.tiny
def test_a_model_that_learns_nothing_is_not_judged() -> None:
    idle = {**HELPS, "clean": ([90, 22, 91], [88, 88, 88])}
    finding = told(idle)
    assert "cannot be judged" in finding.text
    assert finding.detail == "on 100 test samples, seed 1"
    flag = next(f for f in defense_flags(table(idle)) if f.code == "defense-baseline")
    assert flag.severity == "fail"
    assert defense_panels(table(idle))[0].data["rows"][0][1] == "cannot be judged"
    assert next(f for f in defense_flags(table(HELPS)) if f.code == "defense-baseline").severity == "ok"


@pytest.mark.tiny
def test_the_twin_stands_beside_the_model() -> None:
    assert "its twin hybrid_twin: helps, +40.0 points" in told(NOTHING, twin=HELPS).detail
    idle = {**HELPS, "clean": ([20, 91, 89], [88, 88, 88])}
    assert "its twin hybrid_twin: cannot be judged" in told(NOTHING, twin=idle).detail


@pytest.mark.tiny
def test_draws_that_do_not_suffice_are_flagged() -> None:
    def flags(**more: Any) -> list[str]:
        return [f.severity for f in defense_flags(table(HELPS, **more)) if f.code == "eot-not-converged"]

    assert flags() == []
    assert flags(random=True) == ["ok"]
    assert flags(random=True, converged=False) == ["warning"]


@pytest.mark.tiny
def test_attacks_that_beat_the_white_box_are_flagged() -> None:
    def codes(**leaves: int) -> set[str]:
        counts = {**HELPS, **{f"{name} with": ([20] * 3, [k] * 3) for name, k in leaves.items()}}
        return {f.code for f in defense_flags(table(counts)) if f.severity == "warning"}

    assert codes() == set()
    assert codes(square=30) == {"gradient-masking"}
    assert codes(fgsm=30) == {"gradient-masking"}


@pytest.mark.tiny
def test_what_is_refused_is_said() -> None:
    whole = table(HELPS)
    refused = {("quantum_noise", "hybrid"): "It has none.", ("quantum_noise", "hybrid_twin"): "Nor has this."}
    config = replace(whole.config, defenses=("trades", "quantum_noise"))
    some = replace(whole, config=config, plan=replace(whole.plan, refused=refused))
    said = Finding("quantum_noise does not take hybrid, and was not tried.", "info", "It has none.")
    assert defense_findings(some)[-1] == said
    rows = defense_panels(some)[-1].data["rows"]
    assert rows == [
        ["trades", "hybrid", "TRADES"],
        ["quantum_noise", "hybrid", "not tried: It has none."],
        ["quantum_noise", "hybrid_twin", "not tried: Nor has this."],
    ]


@pytest.mark.tiny
def test_without_defenses_nothing_is_said() -> None:
    empty = DefenseTable(Audit(), DefensePlan(), [], {}, blobs())
    assert [*defense_findings(empty), *defense_flags(empty), *defense_panels(empty)] == []
    assert len(defense_limits(empty)) == 1
