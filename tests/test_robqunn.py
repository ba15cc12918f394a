"""The RobQuNN replication: its smoke preset whole, and that a killed run ends like one that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from redqubit import UsageError, report
from redqubit.experiments import reproduce
from redqubit.experiments.robqunn import PRESETS, RobQuNN
from redqubit.result import Result, load, load_summary

QUANTUM = ("none", "linear", "star", "full", "random")
CLASSICAL = ("CNN frozen", "CNN cosine", "CNN trained")
MODELS = (*QUANTUM, *CLASSICAL)
SMOKE = PRESETS["smoke"]
SMALL: dict[str, Any] = {
    "draws": 3,
    "n_train": 100,
    "n_test": 20,
    "epochs": 2,
    "eps": [0.1],
    "iterative_eps": [0.1],
    "n_iterative": 20,
    "pgd_steps": 2,
    "n_square": 10,
    "square_queries": 10,
}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke preset as it comes."""
    return reproduce("robqunn", preset="smoke", out=tmp_path_factory.mktemp("robqunn") / "smoke")


@pytest.fixture(scope="module")
def results(smoke: Path) -> list[Result]:
    return load(smoke / "results.jsonl")


def value(results: list[Result], metric: str, **config: object) -> Result:
    """Return the one result of a metric with these values in its config."""
    found = [r for r in results if r.metric == metric and all(r.config.get(k) == v for k, v in config.items())]
    assert len(found) == 1, f"{len(found)} results of {metric} {config}"
    return found[0]


def test_every_number_of_the_figures_is_there(results: list[Result]) -> None:
    got = [
        (r.metric, r.config["draw"], r.config["model"], r.config["attack"], r.config["eps"])
        for r in results
        if r.metric == "robust_accuracy"
    ]
    assert len(got) == len(set(got))
    draws = range(SMOKE.draws)
    grids = {
        "fgsm": (0.0, *SMOKE.eps),
        "pgd": (0.0, *SMOKE.iterative_eps),
        "mim": (0.0, *SMOKE.iterative_eps),
        **dict.fromkeys(("random_noise", "fgsm_softmax", "pgd_absolute_step", "square"), (SMOKE.probe_eps,)),
    }
    for attack, eps in grids.items():
        wanted = {("robust_accuracy", d, m, attack, e) for d, m, e in product(draws, MODELS, eps)}
        assert {row for row in got if row[3] == attack} == wanted
    for direction, metric in product(
        ("to_quantum", "to_classical"), ("transfer_accuracy", "transfer_accuracy_both_correct")
    ):
        for d, m, e in product(draws, QUANTUM, SMOKE.eps):
            value(results, metric, draw=d, model=m, eps=e, direction=direction)
    for d, m in product(draws, MODELS):
        value(results, "accuracy", draw=d, model=m)
        assert 0 <= value(results, "zero_gradient_entries", draw=d, model=m).value <= 1
        assert value(results, "median_gradient", draw=d, model=m).value >= 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_as_printed_the_four_entangled_circuits_are_one(results: list[Result], dtype: str, tolerance: float) -> None:
    differences = [r.value for r in results if r.metric == "feature_difference" and r.config["dtype"] == dtype]
    assert len(differences) == SMOKE.draws
    assert max(differences) <= tolerance
    assert dtype == "float64" or max(differences) > 0  # they were computed, by circuits that differ


def test_shares_are_whole_counts_within_their_intervals(results: list[Result]) -> None:
    sizes = {
        "fgsm": SMOKE.n_test,
        "random_noise": SMOKE.n_test,
        "fgsm_softmax": SMOKE.n_test,
        "square": SMOKE.n_square,
        "pgd": SMOKE.n_iterative,
        "mim": SMOKE.n_iterative,
        "pgd_absolute_step": SMOKE.n_iterative,
    }
    for r in results:
        if r.metric in ("accuracy", "robust_accuracy", "transfer_accuracy"):
            assert r.k is not None
            assert r.n is not None
            assert r.value == pytest.approx(r.k / r.n)
            assert r.low is not None
            assert r.high is not None
            assert 0 <= r.low <= r.value <= r.high <= 1
            assert r.n == sizes.get(str(r.config.get("attack")), r.n)
        assert r.seconds is not None
        assert r.version


def test_models_learn_and_attacks_work(results: list[Result]) -> None:
    for d, m in product(range(SMOKE.draws), MODELS):
        clean = value(results, "accuracy", draw=d, model=m)
        start = value(results, "robust_accuracy", draw=d, model=m, attack="fgsm", eps=0.0)
        assert (start.k, start.n) == (clean.k, clean.n)
        assert clean.value > 0.2  # chance is 0.1, and a filter with unlucky angles passes little
        curve = [
            value(results, "robust_accuracy", draw=d, model=m, attack="pgd", eps=e).value
            for e in (0.0, *SMOKE.iterative_eps)
        ]
        assert curve == sorted(curve, reverse=True)
        assert curve[-1] < 0.6 * curve[0]
        noise = value(results, "robust_accuracy", draw=d, model=m, attack="random_noise").value
        fgsm = value(results, "robust_accuracy", draw=d, model=m, attack="fgsm", eps=SMOKE.probe_eps).value
        assert fgsm <= noise + 0.05


def test_draws_differ_and_entanglement_first_matters(results: list[Result]) -> None:
    fgsm = {
        (d, m): [value(results, "robust_accuracy", draw=d, model=m, attack="fgsm", eps=e).value for e in SMOKE.eps]
        for d, m in product(range(SMOKE.draws), MODELS)
    }
    assert fgsm[0, "full"] != fgsm[1, "full"]
    assert any(fgsm[d, "full"] != fgsm[d, "none"] for d in range(SMOKE.draws))


def test_the_verdict_covers_the_claims(smoke: Path) -> None:
    summary = load_summary(smoke / "summary.json")
    assert "RobQuNNs" in summary.title
    assert "2407.03875" in summary.source
    assert len(summary.findings) >= 6
    first = summary.findings[0]
    assert first.status == "fails"
    assert "one and the same function" in first.text + first.detail
    assert "cosine" in (first.text + first.detail).lower()
    assert all(f.detail for f in summary.findings)
    assert sum(bool(f.reported) for f in summary.findings) >= 4
    told = " ".join(f.text + f.detail for f in summary.findings)
    assert "Square" in told
    assert {f.subject for f in summary.flags} >= set(MODELS)
    assert {"gradient-masking", "transfer-beats-white-box", "zero-gradient"} <= {f.code for f in summary.flags}
    assert all(f.message and f.evidence for f in summary.flags)


def test_the_report_shows_every_figure(smoke: Path) -> None:
    page = report.build(smoke).read_text(encoding="utf-8")
    for figure in "abcde":
        assert f"igure 3{figure}" in page
    titles = [panel.title for panel in load_summary(smoke / "summary.json").panels]
    assert len(titles) >= 10
    assert "─ZZ(" in page  # the circuits are drawn
    assert "redqubit reproduce robqunn --preset smoke" in page
    read = json.loads((smoke / "report.json").read_text(encoding="utf-8"))
    assert len(read["findings"]) == len(load_summary(smoke / "summary.json").findings)


def timeless(folder: Path) -> list[dict[str, Any]]:
    """Return the stored rows, in which NaN equals itself, without their seconds; a line cut off by a kill is none."""
    whole = (folder / "results.jsonl").read_text(encoding="utf-8").rpartition("\n")[0]
    lines = whole.splitlines()
    return [{**json.loads(line), "seconds": None, "crc32": None} for line in lines]


def test_a_killed_run_ends_in_the_same_results(tmp_path: Path) -> None:
    whole = reproduce("robqunn", preset="smoke", changes=SMALL, out=tmp_path / "whole")
    killed = tmp_path / "killed"
    settings = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    words = ["reproduce", "robqunn", "--preset", "smoke", "--device", "cpu", "--workers", "1", "--out", str(killed)]
    program = "from redqubit.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words, *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    end = time.monotonic() + 100
    while not ((killed / "results.jsonl").exists() and (killed / "results.jsonl").stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    first = timeless(killed)
    assert 0 < len({row["cell"] for row in first}) < SMALL["draws"]
    again = reproduce("robqunn", preset="smoke", changes=SMALL, out=killed)
    assert timeless(again) == timeless(whole)
    assert timeless(again)[: len(first)] == first
    one, two = (load_summary(folder / "summary.json") for folder in (whole, again))
    assert one.findings == two.findings
    assert one.flags == two.flags
    with pytest.raises(UsageError, match="holds another"):
        reproduce("robqunn", preset="smoke", changes={**SMALL, "seed": 1}, out=killed)


def test_presets_grow_and_laptop_has_enough_draws() -> None:
    assert set(PRESETS) == {"smoke", "laptop", "paper"}
    laptop, paper = PRESETS["laptop"], PRESETS["paper"]
    assert (laptop.data, laptop.n_train, laptop.n_test) == ("mnist", 10_000, 2_000)
    assert laptop.draws >= 20
    assert (paper.n_train, paper.n_test) == (60_000, 10_000)
    for preset in PRESETS.values():
        assert isinstance(preset, RobQuNN)
        assert preset.probe_eps in preset.eps
        assert preset.probe_eps in preset.iterative_eps
        assert (preset.epochs, preset.batch_size, preset.lr) == (30, 4, 1e-3) or preset is SMOKE  # as published
    assert asdict(laptop) | {"seed": 1} == asdict(replace(laptop, seed=1))


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"draws": 1}, "`draws` must"),
        ({"probe_eps": 0.07}, "`probe_eps` must"),
        ({"eps": [-1.0, 0.1]}, "`eps` must"),
        ({"eps": [], "probe_eps": 0.1}, "`eps` must"),
        ({"n_train": 10**6}, "must lie in 1..1297"),
        ({"data": "iris", "n_train": 100, "n_test": 30}, "`data` must have grey images"),
    ],
)
def test_faults_are_told_before_anything_is_written(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        reproduce("robqunn", preset="smoke", changes=changes, out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
