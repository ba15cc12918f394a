"""What a replication has still to do, without doing it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any

from redqubit.errors import UsageError
from redqubit.experiments.base import prepare
from redqubit.result import Result
from redqubit.runner import Cell, Cluster, stored


@dataclass(frozen=True)
class Stage:
    """The cells of a stage.

    Attributes:
        cells: How many there are; None while the results of earlier stages must say it.
        done: How many the folder holds.
        is_final: Whether results still to come cannot change the number.
    """

    cells: int | None
    done: int
    is_final: bool = False


@dataclass(frozen=True)
class Forecast:
    """What is left of a run.

    Attributes:
        stages: In their order.
        seconds: Time of all cells left whose like was timed, one after the other.
        untimed: How many are left whose like was not.
        basis: What the seconds rest on, a sentence each.
        evaluations: Circuit evaluations of all cells of known stages, where the experiment counts them.
        evaluations_left: Those of the cells left.
    """

    stages: tuple[Stage, ...]
    seconds: float
    untimed: int
    basis: tuple[str, ...]
    evaluations: int | None
    evaluations_left: int | None

    def lines(self, workers: int | None) -> list[str]:
        """Return the forecast in words.

        Args:
            workers: Cells at a time; None when a cluster decides.
        """
        out = []
        for number, stage in enumerate(self.stages, start=1):
            if stage.cells is None:
                out.append(f"stage {number}: known when the stages before are done")
            else:
                end = "" if stage.is_final else ", as things stand"
                out.append(f"stage {number}: {stage.done:,} of {stage.cells:,} cells done{end}")
        if self.evaluations is None:
            out.append("circuit evaluations: not counted by this experiment")
        else:
            out.append(f"circuit evaluations: {self.evaluations:,}, {self.evaluations_left:,} of them left")
        left = sum((stage.cells or 0) - stage.done for stage in self.stages)
        open_end = ", and stages not known yet" if any(stage.cells is None for stage in self.stages) else ""
        if left and left == self.untimed:
            out.append("time left: not known, no cell like these was timed")
        else:
            one = f"time left: {_span(self.seconds)} with one worker"
            share = f", {_span(self.seconds / workers)} with {workers}" if workers and workers > 1 else ""
            more = f", and {self.untimed:,} cells of unknown time" if self.untimed else ""
            out.append(one + share + more + open_end)
        return out + [f"  {line}" for line in self.basis]


def forecast(
    name: str,
    *,
    preset: str = "laptop",
    changes: Mapping[str, Any] | None = None,
    parts: Sequence[str] = (),
    out: Path | None = None,
    data_dir: Path | None = None,
    workers: int | Cluster = 1,
    device: str = "cpu",
) -> Forecast:
    """Return what `reproduce` has still to do with these arguments, its own; nothing is run and nothing written.

    The data are read, since some plans depend on them.

    Raises:
        UsageError: where `reproduce` would.
    """
    asked = prepare(
        name,
        preset=preset,
        changes=changes,
        parts=parts,
        out=out,
        data_dir=data_dir,
        workers=workers,
        device=device,
    )
    experiment, config, setting = asked.experiment, asked.config, asked.setting
    here = stored(asked.folder, experiment=name, config=asked.settings)
    names = {result.cell for result in here}
    stages, cells = [], list[Cell]()
    for make in (lambda c, s, _: experiment.cells(c, s), *experiment.later):
        complete = all(cell.name in names for cell in cells)
        results = [result for cell in cells for result in here if result.cell == cell.name]
        try:
            stage = list(make(config, setting, results))
        except (UsageError, LookupError):
            if complete:
                raise
            stages.append(Stage(None, 0))  # it asks for models or results that are not there yet
            continue
        stages.append(Stage(len(stage), sum(cell.name in names for cell in stage), is_final=complete))
        cells += stage
    left = [cell.name for cell in cells if cell.name not in names]
    seconds, untimed, basis = _time(left, _seconds(here), {} if changes else _measured(name, preset))
    counts = experiment.evaluations(config, setting) if experiment.evaluations else None
    return Forecast(
        tuple(stages),
        seconds,
        untimed,
        basis,
        None if counts is None else sum(counts[cell.name] for cell in cells),
        None if counts is None else sum(counts[name] for name in left),
    )


def kind_of(cell: str) -> str:
    """Return what cells of about the same work have in common: the first word of the name.

    Example:
        >>> kind_of("draw-003"), kind_of("search-qcolor")
        ('draw', 'search')
    """
    return re.split(r"[-\d]", cell, maxsplit=1)[0]


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _seconds(results: Iterable[Result]) -> dict[str, list[float]]:
    """Return the seconds of stored cells by kind; a result of a part of its cell has fewer than the cell."""
    took: dict[str, float] = {}
    for result in results:
        took[result.cell] = max(took.get(result.cell, 0.0), result.seconds or 0.0)
    out: dict[str, list[float]] = {}
    for cell, seconds in took.items():
        out.setdefault(kind_of(cell), []).append(seconds)
    return out


def _measured(name: str, preset: str) -> Mapping[str, Any]:
    """Return what a run of this preset took elsewhere, empty where that is not known."""
    text = files("redqubit.experiments").joinpath("measured.json").read_text(encoding="utf-8")
    known: Mapping[str, Any] = json.loads(text).get(name, {}).get(preset, {})
    return known


def _time(
    left: Sequence[str], here: Mapping[str, Sequence[float]], elsewhere: Mapping[str, Any]
) -> tuple[float, int, tuple[str, ...]]:
    """Return the seconds of cells to come, how many have no like, and what this rests on."""
    seconds, timed_here, timed_elsewhere, untimed = 0.0, 0, 0, 0
    means = elsewhere.get("seconds", {})
    for name in left:
        kind = kind_of(name)
        if kind in here:
            seconds, timed_here = seconds + fmean(here[kind]), timed_here + 1
        elif kind in means:
            seconds, timed_elsewhere = seconds + means[kind][1], timed_elsewhere + 1
        else:
            untimed += 1
    basis = []
    if timed_here:
        n = sum(map(len, here.values()))
        basis.append(f"{timed_here:,} cells by the mean of their like among the {n:,} that ended in this folder")
    if timed_elsewhere:
        machine, version = elsewhere["machine"], elsewhere["version"]
        basis.append(f"{timed_elsewhere:,} cells by a run of this preset elsewhere: RedQubit {version} on {machine}")
    if untimed:
        basis.append("to know more, start the run, stop it by Ctrl-C after some cells, which are kept, and ask again")
    return seconds, untimed, tuple(basis)
