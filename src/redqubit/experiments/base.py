"""What an experiment is: a config, its cells, and what its results mean."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from redqubit.config import resolve
from redqubit.device import find_device
from redqubit.registry import Registry, unknown
from redqubit.result import Result, Summary, load, save_summary
from redqubit.runner import Cell, Cluster, Progress, RunFolder, connected, open_run, run_cells
from redqubit.storage.files import load_json

C = TypeVar("C")

EXPERIMENTS: Registry["Experiment[Any]"] = Registry("experiment", "redqubit.experiments")


@dataclass(frozen=True)
class Setting:
    """Where an experiment runs, apart from what it computes.

    Attributes:
        data_dir: Folder of the data sets; REDQUBIT_DATA or downloads when None.
        device: Where to compute.
        artifacts: Folder in the run for models and pictures.
        parts: Tables and figures that are asked for; all when empty.
        cluster: The Ray cluster that cells run on, if any.
    """

    data_dir: Path | None
    device: torch.device
    artifacts: Path
    parts: tuple[str, ...] = ()
    cluster: Cluster | None = None

    @property
    def search_workers(self) -> int | Cluster:
        """Who evaluates the candidates of a search: the threads of its cell, or a cluster whose cells need no GPU.

        A cell that waits for others lends them its CPUs, but not its GPU.
        """
        return self.cluster if self.cluster and not self.cluster.gpus else torch.get_num_threads()


@dataclass(frozen=True)
class Experiment(Generic[C]):
    """The replication of one paper.

    Attributes:
        name: Name on the command line.
        source: The paper.
        presets: Configs by name: "smoke" (a minute or two), "laptop" (2 cores), "paper" (full size).
        cells: The units of work of a config.
        summary: What the results say, with the panels of the report.
        later: Stages after the first: each makes its cells from the results so far.
        parts: Tables and figures that can be asked for by themselves.
        data: Names of the data sets that some parts of a config need, to be downloaded first.
        evaluations: Forward circuit evaluations by name of cell, where these can be counted without running it.
    """

    name: str
    source: str
    presets: Mapping[str, C]
    cells: Callable[[C, Setting], Sequence[Cell]]
    summary: Callable[[C, Sequence[Result]], Summary]
    later: tuple[Callable[[C, Setting, Sequence[Result]], Sequence[Cell]], ...] = ()
    parts: tuple[str, ...] = ()
    data: Callable[[C, Sequence[str]], Sequence[str]] = lambda config, parts: ()
    evaluations: Callable[[C, Setting], Mapping[str, int]] | None = None


@dataclass(frozen=True)
class Prepared(Generic[C]):
    """A replication that was asked for, checked but not begun."""

    experiment: Experiment[C]
    preset: str
    config: C
    folder: Path
    setting: Setting

    @property
    def settings(self) -> dict[str, Any]:
        """What the run folder knows it by."""
        return {"preset": self.preset, **_plain(asdict(self.config))}  # type: ignore[call-overload]


def prepare(
    name: str,
    *,
    preset: str,
    changes: Mapping[str, Any] | None,
    parts: Sequence[str],
    out: Path | None,
    data_dir: Path | None,
    workers: int | Cluster,
    device: str,
) -> Prepared[Any]:
    """Check what `reproduce` is asked; the arguments are its own.

    Raises:
        UsageError: for an unknown name, preset, field, part or device.
    """
    experiment = EXPERIMENTS[name]
    if preset not in experiment.presets:
        raise unknown("preset", preset, experiment.presets)
    for part in parts:
        if part not in experiment.parts:
            raise unknown("table or figure", part, experiment.parts)
    config = resolve(experiment.presets[preset], changes or {})
    folder = Path("runs", f"{name}-{preset}") if out is None else Path(out)
    cluster = workers if isinstance(workers, Cluster) else None
    where = cluster.device(device) if cluster else find_device(device)
    setting = Setting(data_dir, where, folder / "artifacts", tuple(parts), cluster)
    return Prepared(experiment, preset, config, folder, setting)


def reproduce(
    name: str,
    *,
    preset: str = "laptop",
    changes: Mapping[str, Any] | None = None,
    parts: Sequence[str] = (),
    out: Path | None = None,
    data_dir: Path | None = None,
    workers: int | Cluster = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Run the replication of a paper, or take it up where it stopped, and return its run folder.

    Args:
        name: Name of the experiment, such as "robqunn".
        preset: Name of one of its configs.
        changes: Fields of the config to change.
        parts: Tables and figures to make, such as "table5"; all by default. Others that the folder holds already are
            kept and shown.
        out: The run folder; runs/<name>-<preset> by default.
        data_dir: Folder of the data sets; REDQUBIT_DATA or downloads by default.
        workers: Processes, each with its share of the threads; or a Ray cluster.
        device: Torch device to compute on, or "auto".
        progress: Called as cells end.

    Raises:
        UsageError: for an unknown name, preset or field, absent data, or a folder that holds another run.
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
    experiment, config, folder, setting = asked.experiment, asked.config, asked.folder, asked.setting
    words = ["redqubit", "reproduce", name, "--preset", preset]
    for part in _with_earlier(parts, folder, experiment.parts):
        words += re.split(r"(?=\d)", f"--{part}", maxsplit=1)
    words += [] if device == "cpu" else ["--device", device]
    words += [] if data_dir is None else ["--data-dir", str(data_dir)]
    for key in changes or {}:
        words += ["--set", f"{key}={json.dumps(asked.settings[key])}"]
    rerun = shlex.join([*words, "--out", str(folder)])
    cells = list(experiment.cells(config, setting))  # what is wrong with the config is told before any work
    opened = open_run(folder, experiment=name, config=asked.settings, device=str(setting.device), rerun=rerun)
    with opened as run, connected(workers):
        results = run_cells(cells, run, workers=workers, progress=progress)
        for stage in experiment.later:
            cells += stage(config, setting, results)
            results = run_cells(cells, run, workers=workers, progress=progress)
        here = {cell.name for cell in cells}
        others = [result for result in load(run.results) if result.cell not in here]  # of parts made before
        finish(run, experiment.summary(config, [*results, *others]))
    return folder


def _with_earlier(parts: Sequence[str], folder: Path, known: Sequence[str]) -> tuple[str, ...]:
    """Return these parts and those that the folder was made for before; () stands for all."""
    try:
        command = str(load_json(folder / "run.json")["rerun"])
    except (OSError, ValueError, KeyError):
        return tuple(parts)
    before = {kind + n for kind, n in re.findall(r"--(table|figure) (\d+)", command)}
    return tuple(part for part in known if part in before | set(parts)) if before and parts else ()


def finish(run: RunFolder, summary: Summary) -> None:
    """Store what the results say, from which the report is drawn."""
    save_summary(run.path / "summary.json", summary)


def _plain(value: Any) -> Any:
    """Return tuples as lists, as YAML holds them."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
