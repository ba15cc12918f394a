"""The options that several commands share, and what their texts stand for."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from redqubit.cli.complete import one
from redqubit.errors import UsageError

T = TypeVar("T")

Out = Annotated[Path | None, typer.Option("--out", help="Run folder; a run that was stopped is taken up there.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of data sets; REDQUBIT_DATA when absent, then downloads.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of `key: value` lines.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change one field of the configuration: --set eps=[0.05,0.1].")
]
Device = Annotated[str, typer.Option("--device", help="Torch device, or auto.")]
Noise = Annotated[str | None, typer.Option("--noise", help="Noise of the circuits, such as quid:0.05 or ibm_kyiv.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one per core on a CPU by default.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _destinations(targets: list[str] | None) -> list[str] | None:
    """Check where to log before any work."""
    from redqubit.tracking import destination

    for target in targets or ():
        destination(target)
    return targets


Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        callback=_destinations,
        autocompletion=one("trackers"),
        help="Log the finished run: mlflow:URI or tensorboard:DIR.",
    ),
]


def changed(config: Path | None, settings: list[str] | None) -> dict[str, Any]:
    """Return what the file of --config and then --set change of a configuration.

    Raises:
        UsageError: when the file or a setting cannot be read.
    """
    from redqubit.config import assignments, read

    return (read(config) if config else {}) | assignments(settings or [])


def words(text: str) -> list[str]:
    """Return what stands between commas.

    Example:
        >>> words("fgsm, pgd")
        ['fgsm', 'pgd']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def numbers(option: str, text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    """Return the numbers that stand between commas.

    Raises:
        UsageError: when one is no number.

    Example:
        >>> numbers("eps", "0.1,0.2", float)
        (0.1, 0.2)
    """
    try:
        return tuple(map(kind, words(text)))
    except ValueError:
        raise UsageError(f"Option --{option} must be numbers with commas between, but is {text}.") from None


def processes(asked: int | None, device: str) -> int:
    """Return how many processes to use: small models gain from one thread each and all cores."""
    from redqubit.device import find_device

    if asked is not None:
        return asked
    return max(1, len(os.sched_getaffinity(0))) if find_device(device).type == "cpu" else 1


def run_name(model: str, noise: str | None) -> str:
    """Return what a folder calls a model, or an encoder, and its noise."""
    return model.rpartition(":")[2] + ("" if noise is None else f"+{noise.replace(':', '-')}")
