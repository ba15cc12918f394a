"""`redqubit reproduce --dry-run`: what is left of a run, and what the estimate rests on."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from redqubit.cli import app
from redqubit.config import resolve
from redqubit.data import load_splits
from redqubit.errors import UsageError
from redqubit.experiments import EXPERIMENTS, Experiment, forecast, reproduce
from redqubit.experiments.base import Setting
from redqubit.experiments.forecast import Stage, kind_of
from redqubit.result import Result, Summary
from redqubit.runner import Cell, open_run, run_cells

SETTING = Setting(None, torch.device("cpu"), Path("artifacts"))
TIMED = {"fast": 2.0, "slow": 30.0}


@dataclass(frozen=True)
class Counted:
    n: int = 3
    slow: int = 2


def work(name: str) -> list[Result]:
    """A result that is of a part of its cell, and one that is of all of it."""
    seconds = TIMED[kind_of(name)]
    return [Result("counted", name, metric, 1.0, seconds=s) for metric, s in (("part", 0.1), ("whole", seconds))]


def first(config: Counted, setting: Setting) -> list[Cell]:
    return [Cell(f"fast-{i}", partial(work, f"fast-{i}")) for i in range(config.n)]


def second(config: Counted, setting: Setting, results: Sequence[Result]) -> list[Cell]:
    return [Cell(f"slow-{i}", partial(work, f"slow-{i}")) for i in range(config.slow)]


def third(config: Counted, setting: Setting, results: Sequence[Result]) -> list[Cell]:
    chosen = {r.cell: r for r in results}["slow-0"]  # which only the second stage can say
    return [Cell(f"fast-{chosen.cell}", partial(work, f"fast-{chosen.cell}"))]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Experiment[Counted]:
    made = Experiment(
        "counted",
        "a paper",
        {"smoke": Counted(), "laptop": Counted(30)},
        first,
        lambda config, results: Summary("counted"),
        later=(second, third),
        parts=("table1",),
        evaluations=lambda config, setting: (
            {f"fast-{i}": 100 for i in range(config.n)} | {"slow-0": 7, "slow-1": 7, "fast-slow-0": 1}
        ),
    )
    assert "sim2019" in list(EXPERIMENTS)  # which fills the registry
    monkeypatch.setitem(EXPERIMENTS._entries, "counted", made)
    return made


def begin(made: Experiment[Counted], folder: Path, n: int) -> None:
    """Run the first n cells of the smoke preset."""
    config = made.presets["smoke"]
    cells = [*first(config, SETTING), *second(config, SETTING, [])][:n]
    with open_run(folder, experiment="counted", config={"preset": "smoke", **asdict(config)}) as run:
        run_cells(cells, run)


def test_stages_are_counted_and_timed_by_the_cells_that_ended(counted: Experiment[Counted], tmp_path: Path) -> None:
    new = forecast("counted", preset="smoke", out=tmp_path / "new")
    assert new.stages == (Stage(3, 0, True), Stage(2, 0), Stage(None, 0))
    assert (new.seconds, new.untimed, new.evaluations, new.evaluations_left) == (0.0, 5, 314, 314)
    assert "time left: not known, no cell like these was timed" in new.lines(2)
    assert not (tmp_path / "new").exists()

    begin(counted, tmp_path / "run", 2)
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    some = forecast("counted", preset="smoke", out=tmp_path / "run")
    assert some.stages == (Stage(3, 2, True), Stage(2, 0), Stage(None, 0))
    assert (some.seconds, some.untimed, some.evaluations_left) == (TIMED["fast"], 2, 114)
    assert some.lines(2)[:3] == [
        "stage 1: 2 of 3 cells done",
        "stage 2: 0 of 2 cells done, as things stand",
        "stage 3: known when the stages before are done",
    ]
    assert some.lines(2)[4:6] == [
        "time left: 0 min with one worker, 0 min with 2, and 2 cells of unknown time, and stages not known yet",
        "  1 cells by the mean of their like among the 2 that ended in this folder",
    ]
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before

    begin(counted, tmp_path / "run", 4)
    more = forecast("counted", preset="smoke", out=tmp_path / "run")
    assert more.stages == (Stage(3, 3, True), Stage(2, 1, True), Stage(1, 0))  # which may grow by what is to come
    assert (more.seconds, more.untimed) == (TIMED["slow"] + TIMED["fast"], 0)
    reproduce("counted", preset="smoke", out=tmp_path / "run")
    all_done = forecast("counted", preset="smoke", out=tmp_path / "run")
    assert all_done.stages == (Stage(3, 3, True), Stage(2, 2, True), Stage(1, 1, True))
    assert (all_done.seconds, all_done.untimed, all_done.basis, all_done.evaluations_left) == (0.0, 0, (), 0)


def test_the_folder_of_another_run_is_refused(counted: Experiment[Counted], tmp_path: Path) -> None:
    begin(counted, tmp_path, 1)
    with pytest.raises(UsageError, match=r"holds another \(other n\)"):
        forecast("counted", preset="smoke", changes={"n": 4}, out=tmp_path)


def test_the_command_says_it_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "sim2019", "--dry-run", "--device", "cpu", "--workers", "2"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    assert lines[0] == "stage 1: 0 of 96 cells done"
    assert lines[2].startswith("time left: ")
    assert "by a run of this preset elsewhere: RedQubit" in lines[3]
    told = json.loads(CliRunner().invoke(app, [*command, "--json"]).output)
    assert told["stages"] == [{"cells": 96, "done": 0, "is_final": True}]
    assert told["seconds"] > 60
    assert list(tmp_path.iterdir()) == []
    changed = CliRunner().invoke(app, [*command, "--set", "n_states=9"])  # what took another time tells nothing
    assert "time left: not known" in changed.output, changed.output


def test_what_is_known_of_other_runs_names_experiments_and_their_cells() -> None:
    from importlib.resources import files

    known = json.loads(files("redqubit.experiments").joinpath("measured.json").read_text())
    for name, presets in known.items():
        assert set(presets) <= set(EXPERIMENTS[name].presets)
        for run in presets.values():
            assert all(n >= 1 and math.isfinite(mean) and mean >= 0 for n, mean in run["seconds"].values())
    assert {"floor", "circuit"} == set(known["sim2019"]["laptop"]["seconds"])


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_smoke_run_can_be_foreseen(name: str, tmp_path: Path) -> None:
    config = EXPERIMENTS[name].presets["smoke"]
    try:
        for data in EXPERIMENTS[name].data(config, ()):
            load_splits(data)
    except UsageError as error:
        pytest.skip(str(error))
    found = forecast(name, preset="smoke", out=tmp_path / "run")
    assert found.stages[0].cells
    assert found.stages[0].is_final
    assert not (tmp_path / "run").exists()


def test_sim2019_counts_the_states_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from redqubit.quantum import descriptors

    taken = list[int]()

    def counting(circuit: Any, n: int, **rest: Any) -> Any:
        taken.append(n)
        return taken_from(circuit, n, **rest)

    taken_from = descriptors.random_states
    monkeypatch.setattr("redqubit.quantum.descriptors.random_states", counting)
    module = import_module("redqubit.experiments.sim2019.cells")
    monkeypatch.setattr(module, "random_states", counting)
    few = {"circuits": [1], "layers": [1], "repeats": 2, "n_states": 10, "floor_repeats": 2}
    foreseen = forecast("sim2019", preset="smoke", changes=few, out=tmp_path / "run").evaluations
    for cell in module.cells(resolve(EXPERIMENTS["sim2019"].presets["smoke"], few), SETTING):
        cell.run()
    assert sum(taken) == foreseen
