"""Cells on a Ray cluster, which Ray's own launchers start and scale.

Ray is imported when a cluster is asked for. It sends cells and results as pickles between its processes: who reaches
the ports of a cluster can run code on it.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar
from uuid import uuid4

import torch

from redqubit.errors import UsageError
from redqubit.result import Result, append
from redqubit.runner.cells import Cell, measured, named, take
from redqubit.version import __version__

V = TypeVar("V")
T = TypeVar("T")

PATIENCE = 5.0  # seconds that a new file may take to show on another machine


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, given in place of a number of processes.

    Attributes:
        address: "auto" for the running cluster that Ray finds from here, "local" for one on this machine that starts
            and ends with the run, or host:port of a cluster's head.
        cpus: CPUs of a cell, and its threads; at least 1.
        gpus: GPUs of a cell; 0.5 puts two cells on each.
        retries: How often a cell is begun again whose worker or machine was lost. An error of the cell itself ends the
            run, as it does without a cluster.

    Raises:
        UsageError: for a number out of range, or the address of a Ray client.

    Example:
        >>> Cluster("local", cpus=2).gpus
        0.0
    """

    address: str = "auto"
    cpus: int = 1
    gpus: float = 0.0
    retries: int = 3

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise UsageError(f"Argument `cpus` must be at least 1, but is {self.cpus}: a cell takes one or more.")
        if not (0 <= self.gpus < 1 or (self.gpus >= 1 and self.gpus % 1 == 0)):
            raise UsageError(
                f"Argument `gpus` must be a share below 1 or a whole number, but is {self.gpus}: take 0.5, 1 or 2."
            )
        if self.retries < 0:
            raise UsageError(f"Argument `retries` must not be negative, but is {self.retries}: take 0 for none.")
        if self.address.startswith("ray://"):
            raise UsageError(
                f"Argument `address` must be one of the cluster's own network, but is {self.address}: start the run on "
                "a machine of the cluster, for example by `ray job submit`."
            )

    def device(self, name: str) -> torch.device:
        """Return the device of the cells, which need not be one of this machine; "auto" is a GPU when cells get one.

        Raises:
            UsageError: when cells ask for a GPU that they do not get, or get one that they do not ask for.
        """
        kind = "cuda" if self.gpus else "cpu"  # of its GPUs a cell sees its own alone, so that a number says nothing
        if name not in ("auto", kind):
            raise UsageError(
                f"Argument `device` must go with the GPUs of a cell, but is {name} with gpus={self.gpus:g}: use cuda "
                "with some, cpu with none."
            )
        return torch.device(kind)


@dataclass(frozen=True)
class _Place:
    """What a worker must find where it runs."""

    here: Path  # working directory of the run, for paths that are relative to it
    token: Path  # a file in the run folder, new for this run
    version: str


@contextmanager
def connected(workers: int | Cluster) -> Iterator[None]:
    """Hold the connection to a cluster, so that all stages of a run share it; a number needs none.

    A connection that is there already, such as a worker's own, is used and left as it is.

    Raises:
        UsageError: when Ray is not installed or the cluster is not there.
    """
    if not isinstance(workers, Cluster) or _ray().is_initialized():
        yield
        return
    ray = _ray()
    # what Ray tells of a lost machine would fill the screen; `ray status` and its logs keep it
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if workers.address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of our own reports to nobody
        quiet |= {"include_dashboard": False}
    try:
        ray.init(address=workers.address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UsageError(
            f"Argument `ray` must be a cluster that runs, but {workers.address}: {why}: begin one by `ray start "
            "--head`, or use local."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def on_cluster(cells: list[Cell], folder: Path, results: Path, cluster: Cluster) -> Generator[str]:
    """Yield the names of the cells as they end; whatever ends this early also ends what runs on the cluster."""
    if not cells:
        return
    with connected(cluster), _token(folder) as token:
        ray = _ray()
        for name, asked in (("CPU", cluster.cpus), ("GPU", cluster.gpus)):
            if cluster.address == "local" and asked > (found := ray.cluster_resources().get(name, 0)):
                raise UsageError(
                    f"Argument `{name.lower()}s` must be there, but this machine has {found:g} and not {asked:g}: "
                    "take fewer."
                )
        place = _Place(Path.cwd(), token, __version__)
        task = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=cluster.retries)(_there)
        queue, unended, running = list(cells), {cell.name for cell in cells}, dict[Any, str]()
        try:
            while unended:
                # all that can begin: an autoscaler adds machines for what waits
                for cell in take(queue, unended):
                    running[task.options(name=cell.name).remote(cell, place, cluster.cpus)] = cell.name
                for ended in ray.wait(list(running), num_returns=1)[0]:
                    name = _keep(ended, running, results, cluster)
                    unended.remove(name)
                    yield name
        except BaseException:
            for ended in _end(list(running)):
                with suppress(Exception):  # the first error is the one to tell
                    _keep(ended, running, results, cluster)
            raise


@contextmanager
def spread(function: Callable[[V], T], cluster: Cluster) -> Iterator[Callable[[Sequence[V]], list[T]]]:
    """Hold a function on the cluster; yields what calls it there for each of some values, in their order.

    Each call has one CPU, one thread and no GPU. A cell may do this: while it waits, its own CPUs are free for others.
    """
    with connected(cluster):
        ray = _ray()
        held = ray.put(function)
        task = ray.remote(num_cpus=1, max_retries=cluster.retries)(_called)

        def each(values: Sequence[V]) -> list[T]:
            calls = [task.remote(held, value) for value in values]
            try:
                return [_got(call, cluster) for call in calls]
            except BaseException:
                _end(calls)
                raise

        yield each


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise UsageError("Argument `ray` needs Ray, which is not installed: pip install 'redqubit[ray]'.") from None
    return ray


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """Hold a file in the run folder that no other folder of the same name has."""
    for old in folder.glob("*.token"):
        old.unlink(missing_ok=True)
    path = folder / f"{uuid4().hex}.token"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _keep(ended: Any, running: dict[Any, str], results: Path, cluster: Cluster) -> str:
    """Append the results of a cell that ended, and return its name."""
    name = running[ended]
    with named(name):
        found: list[Result] = _got(ended, cluster)
    # Taken off before it is written: a Ctrl-C in between costs a rerun, the other order would write it twice.
    del running[ended]
    append(results, found)
    return name


def _end(calls: list[Any]) -> list[Any]:
    """End the calls that still run, and return those that had ended."""
    if not calls:
        return []
    ray = _ray()
    ended, left = ray.wait(calls, num_returns=len(calls), timeout=0)
    # Those alone: Ray aborts the whole program when a call is cancelled just as it returns ("Tried to complete task
    # that was not pending", Ray 2.60), and the one that failed has done so this moment.
    for call in left:
        ray.cancel(call, force=True)
    return list(ended)


def _got(call: Any, cluster: Cluster) -> Any:
    """Return what a call on the cluster returned, or raise what it raised."""
    from ray.exceptions import RayError, RayTaskError

    try:
        return _ray().get(call)
    except RayTaskError as error:
        raise error.cause from error
    except RayError as error:
        raise UsageError(
            f"Argument `ray` must keep its workers, but one was lost with {cluster.retries} retries "
            f"({type(error).__name__}): give each cell more of a machine by cpus=, or raise retries."
        ) from error


def _there(cell: Cell, place: _Place, threads: int) -> list[Result]:
    """Run a cell on a worker, if the worker sees what the run sees."""
    with suppress(OSError):  # absolute paths need no such directory
        os.chdir(place.here)
    until = time.monotonic() + PATIENCE
    while not place.token.exists():
        if time.monotonic() > until:
            raise UsageError(
                f"Argument `out` must be in a folder that all machines share, but {platform.node()} "
                f"does not see {place.token.parent}: give a shared one, by its full path."
            )
        time.sleep(0.2)
    if __version__ != place.version:
        raise UsageError(
            f"Argument `ray` must be a cluster with RedQubit {place.version}, but {platform.node()} has "
            f"{__version__}: install the same on all machines."
        )
    torch.set_num_threads(threads)
    return measured(cell)


def _called(function: Callable[[V], T], value: V) -> T:
    torch.set_num_threads(1)
    return function(value)
