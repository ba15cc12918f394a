"""The replication of Sim et al.: its smoke preset whole, golden facts, resuming, and what it says of known numbers."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.stats import binom

from redqubit import UsageError, report
from redqubit.experiments import EXPERIMENTS, reproduce
from redqubit.experiments.base import Setting
from redqubit.experiments.sim2019 import PRESETS, Sim2019
from redqubit.experiments.sim2019.cells import cells
from redqubit.experiments.sim2019.claims import HAAR_BIAS, summarise
from redqubit.experiments.sim2019.config import ENTANGLERS
from redqubit.experiments.sim2019.published import PUBLISHED
from redqubit.experiments.sim2019.table import Sample, Table, p_value, score, welch
from redqubit.quantum.ansatzes import sim
from redqubit.quantum.descriptors import BINS, PAIRS
from redqubit.result import Finding, Result, load, load_summary

SMOKE = PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke preset as it comes."""
    return reproduce("sim2019", preset="smoke", out=tmp_path_factory.mktemp("sim2019") / "smoke")


@pytest.fixture(scope="module")
def results(smoke: Path) -> list[Result]:
    return load(smoke / "results.jsonl")


@pytest.fixture(scope="module")
def table(results: list[Result]) -> Table:
    return Table(results)


def test_every_circuit_has_all_its_repeats_beside_what_was_published(results: list[Result]) -> None:
    metrics = ("expressibility", "entangling_capability", "mean_root_entropy")
    got = sorted((r.metric, r.config["circuit"], r.config["layers"], r.seed) for r in results if r.metric in metrics)
    assert got == sorted(
        (m, c, n, repeat)
        for m in metrics
        for c in SMOKE.circuits
        for n in SMOKE.layers
        for repeat in range(SMOKE.repeats)
    )
    for r in results:
        known = PUBLISHED.get((r.config.get("circuit", 0), r.config.get("layers", 0)))
        if known and r.metric != "mean_root_entropy":
            assert r.reported == getattr(known, r.metric)
        else:
            assert r.reported is None
    assert len([r for r in results if r.metric == "haar_divergence"]) == SMOKE.floor_repeats


def test_golden_facts(table: Table) -> None:
    assert table.idle == pytest.approx(15 * math.log(75))
    assert round(table.idle, 2) == 64.76
    for layers in (1, 3):
        assert table.entangling[1, layers].mean == 0
        assert table.entangling[9, layers].mean == 1
    ten = table.entangling[10, 1]
    assert ten.mean == pytest.approx(3 / 8, abs=5 * max(ten.standard_error, 0.001))
    assert table.floor.mean == pytest.approx(HAAR_BIAS, abs=4 * table.floor.standard_error)
    k = np.arange(PAIRS + 1)[1:, None]
    mass = -np.diff((1 - np.arange(BINS + 1) / BINS) ** 15)
    exact = float((binom.pmf(k, PAIRS, mass) * k / PAIRS * np.log(k / (PAIRS * mass))).sum())
    assert pytest.approx(exact, abs=1e-6) == HAAR_BIAS
    assert not table.at_floor((9, 1))
    assert table.at_floor((6, 3))


def test_every_number_agrees_with_the_independent_simulation(table: Table) -> None:
    for (c, n), ours in table.expressibility.items():
        known = PUBLISHED[c, n]
        spread = max(known.simulated_spread, table.floor.spread)
        error = spread * math.sqrt(1 / SMOKE.repeats + 1 / 10)
        assert abs(ours.mean - known.simulated_expressibility) < 4.5 * error + 5e-5, (c, n)
        assert abs(table.entangling[c, n].mean - known.simulated_entangling_capability) < 0.012, (c, n)


def finding(findings: Sequence[Finding], words: str) -> Finding:
    found = [f for f in findings if words in f.text]
    assert len(found) == 1
    return found[0]


def test_the_verdict_tells_agreement_mismatch_and_floor(smoke: Path) -> None:
    summary = load_summary(smoke / "summary.json")
    assert finding(summary.findings, "published expressibilities").status == "holds"
    mismatch = finding(summary.findings, "published entangling capabilities")
    assert mismatch.status == "fails"
    assert "3/8 exactly" in mismatch.detail
    assert "published 0.5362" in mismatch.detail
    floor = finding(summary.findings, "must not be ranked")
    assert floor.status == "info"
    assert "with 3 layers: 6" in floor.detail
    assert finding(summary.findings, "Controlled X rotations").status == "holds"
    assert "28 against 11" in finding(summary.findings, "All-to-all").detail
    assert all(f.severity == "ok" for f in summary.flags)
    assert {"circuit 1, 1 layer", "circuit 9, 1 layer", "circuit 10, 1 layer", "floor", "idle circuit"} <= {
        f.subject for f in summary.flags
    }
    rows = next(p for p in summary.panels if p.title == "Expressibility with 3 layers").data["rows"]
    ranks = {row[0]: row[-1] for row in rows}
    assert ranks[6] == "floor"
    assert set(ranks.values()) - {"floor"} <= set(range(2, len(SMOKE.circuits) + 1))
    assert "public test-suite" in summary.limits[0]


def test_the_report_shows_ours_beside_theirs(smoke: Path) -> None:
    page = report.build(smoke).read_text(encoding="utf-8")
    for words in (
        "Expressibility with 1 layer",
        "Entangling capability with 3 layers",
        "at the floor",
        "CRX, all to all",
    ):
        assert words in page
    assert "redqubit reproduce sim2019 --preset smoke" in page
    read = json.loads((smoke / "report.json").read_text(encoding="utf-8"))
    assert len(read["published"]) == 2 * len(SMOKE.circuits) * len(SMOKE.layers)


def timeless(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [{**json.loads(line), "seconds": None, "crc32": None} for line in lines]


def test_a_run_that_was_cut_ends_in_the_same_results(tmp_path: Path) -> None:
    small: dict[str, Any] = {"circuits": [1, 9], "layers": [1], "repeats": 2, "n_states": 50, "floor_repeats": 5}
    whole = reproduce("sim2019", preset="smoke", changes=small, out=tmp_path / "whole")
    cut = reproduce("sim2019", preset="smoke", changes=small, out=tmp_path / "cut")
    rows = timeless(whole)
    assert timeless(cut) == rows  # same seed, same bytes
    lines = (cut / "results.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "results.jsonl").write_bytes(b"".join(lines[:8]) + lines[8][:30])  # in the middle of a cell
    (cut / "summary.json").unlink()
    assert timeless(reproduce("sim2019", preset="smoke", changes=small, out=cut)) == rows
    assert load_summary(cut / "summary.json") == replace(load_summary(whole / "summary.json"))
    other = reproduce("sim2019", preset="smoke", changes={**small, "seed": 1}, out=tmp_path / "other")
    assert [row["value"] for row in timeless(other)][:5] != [row["value"] for row in rows][:5]


def test_a_few_circuits_with_unpublished_layers_still_make_a_report(tmp_path: Path) -> None:
    changes = {"circuits": [2], "layers": [2], "repeats": 2, "n_states": 50, "floor_repeats": 5}
    folder = reproduce("sim2019", preset="smoke", changes=changes, out=tmp_path / "run")
    summary = load_summary(folder / "summary.json")
    assert [f.status for f in summary.findings] == ["info"]
    assert report.build(folder).exists()


def test_wrong_numbers_are_told() -> None:
    """What a run of another circuit, or of another measure, would have left."""

    def run(shift: float, n: int = 6) -> Sequence[Finding]:
        made = [Result("sim2019", "floor", "haar_divergence", 0.0037 + 1e-4 * i, seed=i) for i in range(-3, 4)]
        made.append(Result("sim2019", "floor", "idle_divergence", 64.0, seed=0))
        for c in (4, 10):
            known, where = PUBLISHED[c, 1], {"circuit": c, "layers": 1}
            for i in range(n):
                noise = 0.002 * (i - (n - 1) / 2)
                for metric, value in (
                    ("expressibility", known.expressibility + shift),
                    ("entangling_capability", known.entangling_capability + shift),
                    ("mean_root_entropy", 0.9),
                ):
                    made.append(Result("sim2019", f"{c}", metric, value + noise, where, seed=i))
        summary = summarise(Sim2019(circuits=(4, 10), layers=(1,), repeats=n), made)
        assert [f.severity for f in summary.flags if f.subject == "idle circuit"] == ["fail"]
        return summary.findings

    for shift, status in ((0.0, "holds"), (0.1, "fails")):
        for words in ("published expressibilities", "published entangling capabilities"):
            assert finding(run(shift), words).status == status


def test_statistics_of_repeats() -> None:
    a, b = (tuple(torch.randn(n, generator=torch.Generator().manual_seed(n)).tolist()) for n in (5, 9))
    gap = welch(Sample(a), Sample(b))
    oracle = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (gap.low, gap.high) == pytest.approx((oracle.low, oracle.high))
    # one more repeat against m: Student's two-sample test with one value on the other side
    s = score(Sample(a), 1.3)
    assert abs(s) == pytest.approx(abs(stats.ttest_ind(a, [1.3]).statistic))
    assert p_value(s, Sample(a)) == pytest.approx(stats.ttest_ind(a, [1.3]).pvalue)
    assert score(Sample((1.0, 1.0)), 1.00004) == 0
    assert score(Sample((1.0, 1.0)), 1.1) == math.inf
    assert score(Sample((1.0, 1.0)), 1.1, least_spread=0.1) == pytest.approx(1 / math.sqrt(1.5))


@pytest.mark.tiny
def test_presets_and_data_are_whole() -> None:
    assert "sim2019" in EXPERIMENTS
    assert set(PRESETS) == {"smoke", "laptop", "paper"}
    for preset in ("laptop", "paper"):
        assert PRESETS[preset].circuits == tuple(range(1, 20))
        assert PRESETS[preset].layers == (1, 2, 3, 4, 5)
    assert set(PUBLISHED) == {(c, n) for c in range(1, 20) for n in (1, 3)}
    assert set(ENTANGLERS) == set(range(1, 20))
    for c, words in ENTANGLERS.items():
        two = {g.name for g in sim(c).gates if len(g.wires) == 2}
        assert two == ({words.split(",")[0]} if words != "none" else set())
    names = [cell.name for cell in cells(SMOKE, Setting(None, torch.device("cpu"), Path()))]
    assert len(names) == len(set(names)) == 1 + len(SMOKE.circuits) * len(SMOKE.layers)


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"circuits": [1, 20]}, "`circuits` must"),
        ({"circuits": []}, "`circuits` must"),
        ({"layers": [1, 1]}, "`layers` must"),
        ({"layers": [0]}, "`layers` must"),
        ({"repeats": 1}, "`repeats` must"),
        ({"n_states": 1}, "`n_states` must"),
        ({"floor_repeats": 0}, "`floor_repeats` must"),
    ],
)
def test_faults_are_told_before_anything_is_written(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        reproduce("sim2019", preset="smoke", changes=changes, out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
