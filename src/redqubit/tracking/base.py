"""What every tracker gets: a finished run, read from its folder."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from redqubit.errors import UsageError
from redqubit.registry import Registry, unknown
from redqubit.result import Result, load


@dataclass(frozen=True)
class FinishedRun:
    """What a run folder holds.

    Attributes:
        folder: The run folder; its name is the name of the run.
        config: The resolved configuration.
        facts: Experiment, hash of the configuration, the command, and versions.
        results: All numbers of the run.
    """

    folder: Path
    config: Mapping[str, Any]
    facts: Mapping[str, str]
    results: tuple[Result, ...]

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.folder.resolve().name


# The name of a tracker is that of its package, and of the extra that installs it.
TRACKERS: Registry[Callable[[FinishedRun, str], None]] = Registry("tracker", "redqubit.tracking")


def destination(target: str) -> tuple[str, str]:
    """Return the tracker that "mlflow:URI" or "tensorboard:DIR" names, and the place.

    Raises:
        UsageError: when the tracker is unknown, its package is not installed, or the place is missing.

    Example:
        >>> destination("tensorboard:runs/board")
        ('tensorboard', 'runs/board')
    """
    name, _, place = target.partition(":")
    if name not in set(TRACKERS):
        raise unknown("tracker", name, TRACKERS)
    if not place:
        raise UsageError(f"Argument `log` must be {name}:PLACE, but is {target}: say where to log to.")
    if find_spec(name) is None:
        raise UsageError(
            f"Argument `log` must name an installed tracker, but {name} is not: pip install 'redqubit[{name}]'."
        )
    return name, place


def log(folder: Path, target: str) -> None:
    """Log the configuration, the numbers with their intervals, and the report of a finished run.

    Args:
        folder: A run folder with its report.
        target: "mlflow:URI" (such as sqlite:///mlflow.db or http://localhost:5000) or "tensorboard:DIR".

    Raises:
        UsageError: when the target or the folder cannot be used.
    """
    name, place = destination(target)
    folder = Path(folder)
    if not (folder / "report.html").is_file():
        raise UsageError(f"Argument `folder` must be that of a finished run, but {folder} has no report.html.")
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    versions = {f"version.{package}": number for package, number in facts["versions"].items()}
    run = FinishedRun(
        folder,
        yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
        {key: str(facts[key]) for key in ("experiment", "config_sha256", "rerun", "device")} | versions,
        tuple(load(folder / "results.jsonl")),
    )
    TRACKERS[name](run, place)


def tag(result: Result) -> str:
    """Return the name of a number: its metric, and what of its config tells it from others but the seed.

    Example:
        >>> tag(Result("audit", "qunn-seed0", "robust_accuracy", 0.5, {"model": "qunn", "eps": 0.1}, seed=0))
        'robust_accuracy/model:qunn eps:0.1'
    """
    told = {k: v for k, v in result.config.items() if k != "seed" and isinstance(v, str | int | float)}
    return "/".join(filter(None, (result.metric, " ".join(f"{key}:{value}" for key, value in told.items()))))
