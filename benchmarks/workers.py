"""Processes that measure: one library each, so that the thread pools of torch and JAX never meet."""

import gc
import importlib
import logging
import multiprocessing
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import numpy as np

SECONDS = 0.2  # per measurement: one library, one case, one round
BUDGET = 5.0  # s; a case whose measurements add up to so much sits out the rounds that are left


@dataclass(frozen=True)
class Library:
    """A library to time: how, which packages it needs, what to import before the clock starts, what it cannot do."""

    name: str
    build: Callable[[Any], Callable[[], tuple[Any, ...]]]  # case -> the call to time
    packages: tuple[str, ...]
    modules: tuple[str, ...] = ()
    lacks: str = ""


def serve(connection: Connection, library: Library) -> None:
    """Run one library: the first time a case is asked for make its first call, then measure it."""
    leave_with_parent()
    warnings.simplefilter("ignore")  # about what a library would like to have installed or set
    logging.disable(logging.WARNING)
    calls: dict[Any, Callable[[], Any]] = {}
    while (case := connection.recv()) is not None:
        try:
            if case in calls:
                connection.send(measure(calls[case]))
                continue
            for module in library.modules:
                importlib.import_module(module)
            start = time.perf_counter()
            call = library.build(case)
            results = call()
            seconds = time.perf_counter() - start
            calls[case] = call
            connection.send((seconds, [numbers(r) for r in results]))
        except Exception as error:  # whatever a library raises ends this case, not the run
            calls.pop(case, None)
            connection.send(f"{type(error).__name__}: {error}".splitlines()[0])


def leave_with_parent() -> None:
    """End this process as soon as its parent is gone, even in the midst of a call."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # it was started by a `Worker`

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def numbers(result: Any) -> Any:
    """Return an array of any library as float64 in numpy."""
    return np.asarray(result.cpu() if hasattr(result, "cpu") else result, dtype=np.float64)


def measure(call: Callable[[], Any]) -> float:
    """Return the median time of a call in milliseconds."""
    gc.collect()
    start = time.perf_counter()
    call()  # warms the caches that another library had; a slow call needs no warming
    once = time.perf_counter() - start
    if once > SECONDS:
        return once * 1e3
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times) * 1e3


class Worker:
    """The process of one library, and what was measured there."""

    def __init__(self, library: Library) -> None:
        context = multiprocessing.get_context("spawn")
        self.library = library
        self.name = library.name
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, library), daemon=True)
        self.process.start()
        theirs.close()  # so that a dead process is noticed
        self.first: dict[Any, float] = {}  # s
        self.errors: dict[Any, float] = {}
        self.times: dict[Any, dict[int, float]] = {}  # ms by round
        self.failures: dict[Any, str] = {}

    def ask(self, case: Any) -> Any:
        """Return the answer; None after a failure, which is kept."""
        try:
            self.connection.send(case)
            answer = self.connection.recv()
        except (EOFError, OSError):
            answer = "its process died"
        if isinstance(answer, str):
            self.failures[case] = answer
            return None
        return answer

    def start(self, case: Any) -> list[Any] | None:
        """Make the first call and return what it gives; None after a failure."""
        if (answer := self.ask(case)) is None:
            return None
        self.first[case], results = answer
        return results

    def run(self, case: Any, round_: int, budget: float = BUDGET) -> None:
        """Measure a case, unless it failed, or is slow and had its share."""
        if case not in self.first or case in self.failures:
            return
        times = self.times.setdefault(case, {})
        if sum(times.values()) < budget * 1e3 and (answer := self.ask(case)) is not None:
            times[round_] = answer

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(timeout=10)
        self.process.terminate()


def failures(workers: Iterable[Worker]) -> list[str]:
    """Return a line for every case that a worker failed at."""
    return [f"Failed: {w.name}, {case}: {text}" for w in workers for case, text in w.failures.items()]
