"""Run folders: made once, held by one process, taken up by the next."""

import fcntl
import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import yaml

from redqubit.config import parsed
from redqubit.errors import UsageError
from redqubit.reading import check_links
from redqubit.result import Result, load, repair
from redqubit.storage.files import load_json, save_json, sweep, write_text
from redqubit.version import __version__


@dataclass(frozen=True)
class RunFolder:
    """A run folder that this process holds until `close` (or the end of a `with` block)."""

    path: Path
    lock: int  # descriptor of the locked file

    @property
    def results(self) -> Path:
        """The JSON lines of the run."""
        return self.path / "results.jsonl"

    @property
    def artifacts(self) -> Path:
        """The folder for models and example pictures."""
        return self.path / "artifacts"

    def close(self) -> None:
        """Let other processes use the folder."""
        os.close(self.lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_run(
    folder: Path,
    *,
    experiment: str,
    config: Mapping[str, Any],
    device: str = "cpu",
    rerun: str = "",
    resume: bool = True,
) -> RunFolder:
    """Create a run folder, or take up the one that an earlier process left.

    Writes `config.yaml` (with the hash of experiment and config) and `run.json` (versions, device,
    times), creates `artifacts/`, removes what a kill left (a torn tail of `results.jsonl`, files half written) and
    holds a lock on `run.lock`.

    Args:
        folder: Folder of the run; created with its parents.
        experiment: Name of the experiment, or "audit".
        config: The resolved configuration: plain numbers, text, lists and mappings.
        device: Device on which the cells compute, such as "cpu" or "cuda:0".
        rerun: The command that makes this run again, for `run.json`.
        resume: Whether a folder that already holds this very run may be taken up.

    Raises:
        UsageError: If the folder holds another run or foreign files, is in use by another process or
            cannot be written, or the config is not plain.
    """
    folder = Path(folder)
    text = _config_text(experiment, config)
    with _making(folder):
        folder.mkdir(parents=True, exist_ok=True)
        check_links(folder)
        old = [entry.name for entry in folder.iterdir() if entry.name != "run.lock" and entry.suffix != ".part"]
        if old and "config.yaml" not in old:
            raise UsageError(
                f"Argument `folder` must be empty or hold a run, but {folder} holds {min(old)}: choose another --out"
            )
        lock = _locked(folder)
    try:
        _claim(folder, text, resume=resume)
        with _making(folder):
            (folder / "artifacts").mkdir(exist_ok=True)
            sweep(folder)
        run = RunFolder(folder, lock)
        repair(run.results)
        save_json(folder / "run.json", _circumstances(folder, experiment, text, device, rerun))
    except BaseException:
        os.close(lock)
        raise
    return run


def stored(folder: Path, *, experiment: str, config: Mapping[str, Any]) -> list[Result]:
    """Return the results that a run folder holds so far, none when it is not there; nothing is written.

    Args:
        folder: Folder of the run.
        experiment: As for `open_run`.
        config: As for `open_run`.

    Raises:
        UsageError: If the folder holds another run.
    """
    if not (folder / "config.yaml").exists():
        return []
    _claim(folder, _config_text(experiment, config), resume=True)
    return load(folder / "results.jsonl") if (folder / "results.jsonl").exists() else []


def _config_text(experiment: str, config: Mapping[str, Any]) -> str:
    try:
        text = yaml.safe_dump(dict(config), allow_unicode=True, width=110)
    except yaml.YAMLError as error:
        raise UsageError(
            f"Argument `config` must hold plain values, but {' '.join(str(error).split())}: convert it first"
        ) from None
    digest = hashlib.sha256(f"{experiment}\n{text}".encode()).hexdigest()
    return f"# experiment: {experiment}\n# sha256: {digest}\n{text}"


def _claim(folder: Path, text: str, *, resume: bool) -> None:
    """Write the config of a new run, or make sure that the folder holds this very run."""
    path = folder / "config.yaml"
    if not path.exists():
        write_text(path, text)
        return
    remedy = f"choose another --out, or delete {folder}"
    if (old := path.read_text(encoding="utf-8", errors="replace")) != text:
        raise UsageError(
            f"Argument `folder` must be empty or hold this run, but {folder} holds another "
            f"({_difference(old, text)}): {remedy}"
        )
    if not resume:
        raise UsageError(f"Argument `folder` must be empty, but {folder} holds this run already: resume it, {remedy}")


def _difference(old: str, new: str) -> str:
    """Say in which keys two configs differ."""
    try:
        a, b = (parsed(text, "") or {} for text in (old, new))
        keys = [str(key) for key in {**b, **a} if key not in a or key not in b or a[key] != b[key]]
    except (UsageError, TypeError):
        return "its config.yaml is damaged"
    return f"other {', '.join(keys)}" if keys else "of another experiment"


def _locked(folder: Path) -> int:
    lock = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(
            f"Argument `folder` must be free, but another process runs in {folder}: "
            "wait for it to end or choose another --out"
        ) from None
    return lock


@contextmanager
def _making(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"Argument `folder` must be writable, but {folder}: {error.strerror}: choose another --out"
        ) from error


def _circumstances(folder: Path, experiment: str, config: str, device: str, rerun: str) -> dict[str, Any]:
    """Return what `run.json` holds; a run that is taken up keeps when it first started."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        before = load_json(folder / "run.json")
    except (OSError, ValueError):
        before = {}
    resumed = before.get("resumed", [])
    return {
        "experiment": experiment,
        "config_sha256": config.split("# sha256: ")[1].split("\n")[0],
        "rerun": rerun,
        "started": before.get("started", now),
        "resumed": [*(resumed if isinstance(resumed, list) else []), now] if before else [],
        "device": torch.cuda.get_device_name(device)
        if device.startswith("cuda") and torch.cuda.is_available()
        else device,
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "platform": platform.platform(),
        "versions": {
            "redqubit": __version__,
            "python": sys.version.split()[0],
            "torch": str(torch.__version__),
            "numpy": np.__version__,
        },
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
