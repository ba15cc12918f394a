"""Run the cells of an experiment so that a kill loses at most the cells in flight.

A cell is a pure function of its config and seed. Whole cells are appended to `results.jsonl` as they
end, by the parent process alone, and a run that starts again skips them.
"""

import fcntl
import hashlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
import yaml

from redqubit.errors import UsageError
from redqubit.result import Result, append, load, repair, write_text
from redqubit.version import __version__

Progress = Callable[[int, int, str, float | None], None]


@dataclass(frozen=True)
class Cell:
    """One unit of work that is done whole or not at all.

    Attributes:
        name: Unique within the experiment; every result of the cell carries it.
        run: Returns the results. With several workers it travels to another process, so make it a
            `functools.partial` of a module-level function.
    """

    name: str
    run: Callable[[], Sequence[Result]]


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
    times), creates `artifacts/`, cuts off a torn tail of `results.jsonl` and holds a lock on `run.lock`.

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
        run = RunFolder(folder, lock)
        repair(run.results)
        write_text(folder / "run.json", json.dumps(_circumstances(folder, experiment, text, device, rerun), indent=1))
    except BaseException:
        os.close(lock)
        raise
    return run


def run_cells(
    cells: Iterable[Cell], folder: RunFolder, *, workers: int = 1, progress: Progress | None = None
) -> list[Result]:
    """Run the cells that are not in `results.jsonl` yet, and return the results of all of them.

    Each cell is appended as it ends; the order of the file is the order of completion, the order of
    the list is that of `cells`. With several workers each gets its share of torch's threads, which
    can change the last digits of a float against a run with one worker.

    Args:
        cells: Cells with unique names.
        folder: What `open_run` returned.
        workers: Processes, at least 1; with 1 the cells run in this process.
        progress: Called as `progress(done, total, name, seconds_left)` once at the start (name "") and
            after each cell, with the name of the cell that ended; `seconds_left` is None until one has.

    Returns:
        All results in the order of `cells`, as they were stored.

    Raises:
        UsageError: If a cell raises one (its name is put in front), returns results of another cell,
            or the disk is full. Any other exception of a cell is raised with a note that names it.
            Whatever happens, Ctrl-C included, the cells that ended are kept.
    """
    todo = list(cells)
    names = [cell.name for cell in todo]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"Argument `cells` must have unique names, but `{twice}` is there twice: rename one")
    if workers < 1:
        raise UsageError(f"Argument `workers` must be at least 1, but is {workers}: use 1 to stay in this process")
    stored = {result.cell for result in load(folder.results)} if folder.results.exists() else set()
    rest = [cell for cell in todo if cell.name not in stored]
    start, skipped = time.monotonic(), len(todo) - len(rest)
    if progress:
        progress(skipped, len(todo), "", None)
    ended = _in_workers(rest, folder.results, workers) if workers > 1 else _in_this_process(rest, folder.results)
    with closing(ended):  # so that an error in `progress` ends the workers too
        for done, name in enumerate(ended, start=1):
            if progress:
                left = (time.monotonic() - start) / done * (len(rest) - done)
                progress(skipped + done, len(todo), name, left)
    by_cell: dict[str, list[Result]] = {name: [] for name in names}
    for result in load(folder.results) if names else []:
        if result.cell in by_cell:
            by_cell[result.cell].append(result)
    return [result for name in names for result in by_cell[name]]


def _in_this_process(cells: list[Cell], path: Path) -> Generator[str]:
    for cell in cells:
        with _named(cell.name):
            results = _measured(cell)
        append(path, results)
        yield cell.name


def _in_workers(cells: list[Cell], path: Path, workers: int) -> Generator[str]:
    """Yield the names of the cells as they end; whatever ends this early also ends the workers."""
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)  # that `held` closes, in whatever way, tells the workers to go
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (watched, threads))
    queue, running = iter(cells), dict[Future[list[Result]], str]()
    try:
        while True:
            for cell in queue:
                running[pool.submit(_measured, cell)] = cell.name
                if len(running) == workers:  # no more, so that an error can name the few that were running
                    break
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield _kept(future, running, path)
    except BaseException as error:
        try:
            for future in [f for f in running if f.done() and not f.exception()]:
                _kept(future, running, path)
        finally:
            held.close()
        if isinstance(error, BrokenProcessPool):
            names = ", ".join(running.values())
            raise UsageError(
                f"Argument `workers` must leave each process enough memory, but one died in {names}: "
                "use fewer workers, and in a script of your own keep the call under `if __name__ == '__main__':`"
            ) from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        held.close()
        watched.close()


def _kept(future: Future[list[Result]], running: dict[Future[list[Result]], str], path: Path) -> str:
    """Append the results of a cell that ended, and return its name."""
    name = running[future]
    with _named(name):
        results = future.result()
    # Taken off before it is written: a Ctrl-C in between costs a rerun, the other order would write it twice.
    del running[future]
    append(path, results)
    return name


def _measured(cell: Cell) -> list[Result]:
    """Run a cell and fill in what only the runner knows."""
    start = time.perf_counter()
    results = list(cell.run())
    seconds = time.perf_counter() - start
    if {result.cell for result in results} != {cell.name}:
        raise ValueError("a cell must return at least one result, and all of its results must carry its name")
    return [
        replace(
            result,
            seconds=seconds if result.seconds is None else result.seconds,
            version=result.version or __version__,
        )
        for result in results
    ]


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Tell in which cell an error arose."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"Cell `{name}`: {error}") from error
    except Exception as error:
        error.add_note(f"This happened in cell `{name}`; finished cells are kept.")
        raise


def _start_worker(parent: Connection, threads: int) -> None:
    """Prepare a worker: few threads, deaf to Ctrl-C (the parent's affair), gone when the parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)

    def leave_with_parent() -> None:
        try:
            parent.recv_bytes()  # nothing is ever sent: this returns when the other end is closed or dead
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


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
    if (old := path.read_text(encoding="utf-8")) != text:
        raise UsageError(
            f"Argument `folder` must be empty or hold this run, but {folder} holds another "
            f"({_difference(old, text)}): {remedy}"
        )
    if not resume:
        raise UsageError(f"Argument `folder` must be empty, but {folder} holds this run already: resume it, {remedy}")


def _difference(old: str, new: str) -> str:
    """Say in which keys two configs differ."""
    try:
        a, b = yaml.safe_load(old) or {}, yaml.safe_load(new) or {}
        keys = [str(key) for key in {**b, **a} if key not in a or key not in b or a[key] != b[key]]
    except (yaml.YAMLError, TypeError):
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
        before = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    return {
        "experiment": experiment,
        "config_sha256": config.split("# sha256: ")[1].split("\n")[0],
        "rerun": rerun,
        "started": before.get("started", now),
        "resumed": [*before.get("resumed", []), now] if before else [],
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
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
