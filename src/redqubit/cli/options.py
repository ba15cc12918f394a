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


def _data_dir(folder: Path | None) -> Path | None:
    """Check a folder before any work: one that is mistyped would otherwise be made, and filled."""
    if folder is not None:
        from redqubit.data.downloads import data_folders

        data_folders(folder)
    return folder


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        callback=_data_dir,
        help="Folder of data sets; REDQUBIT_DATA when absent, then downloads.",
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of `key: value` lines.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change one field of the configuration: --set eps=[0.05,0.1].")
]
Device = Annotated[str, typer.Option("--device", help="Torch device, or auto.")]
Noise = Annotated[str | None, typer.Option("--noise", help="Noise of the circuits, such as quid:0.05 or ibm_kyiv.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one per core on a CPU by default.")]
Ray = Annotated[
    str | None,
    typer.Option(
        help='Run on a Ray cluster: auto, local or host:port; with what a cell gets: "auto cpus=4 gpus=0.5 retries=5".'
    ),
]
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


def placed(workers: int | None, ray: str | None, device: str, data_dir: Path | None) -> dict[str, Any]:
    """Return the arguments of a job that say where it runs: `workers`, `device` and `data_dir`.

    Small models gain from one thread each and all cores. The machines of a cluster have neither our working directory
    nor our environment: they are told where the data are.

    Raises:
        UsageError: when a number of processes and a cluster are given, or the cluster is none.

    Example:
        >>> placed(3, None, "cpu", None)
        {'workers': 3, 'device': 'cpu', 'data_dir': None}
    """
    if ray is not None:
        from redqubit.config import assignments, resolve
        from redqubit.runner import Cluster

        if workers is not None:
            raise UsageError("Option --workers must be left out with --ray, which runs as many cells as have CPUs.")
        address, *settings = ray.split() or [""]
        cluster = resolve(Cluster(), {"address": address, **assignments(settings)})
        folder = data_dir or os.environ.get("REDQUBIT_DATA")
        where = Path(folder).absolute() if folder else None
        return {"workers": cluster, "device": str(cluster.device(device)), "data_dir": where}
    if workers is None:
        from redqubit.device import find_device

        # macOS does not tell which cores a process may use
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = cores if find_device(device).type == "cpu" else 1
    return {"workers": workers, "device": device, "data_dir": data_dir}


def run_name(model: str, noise: str | None) -> str:
    """Return what a folder calls a model, or an encoder, and its noise."""
    return model.rpartition(":")[2] + ("" if noise is None else f"+{noise.replace(':', '-')}")
