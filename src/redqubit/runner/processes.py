"""Cells in this process, or in several on this machine."""

import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from redqubit.errors import UsageError
from redqubit.result import Result, append
from redqubit.runner.cells import Cell, measured, named, take


def in_this_process(cells: list[Cell], path: Path) -> Generator[str]:
    for cell in cells:
        with named(cell.name):
            results = measured(cell)
        append(path, results)
        yield cell.name


def in_workers(cells: list[Cell], path: Path, workers: int) -> Generator[str]:
    """Yield the names of the cells as they end; whatever ends this early also ends the workers."""
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)  # that `held` closes, in whatever way, tells the workers to go
    threads = max(1, torch.get_num_threads() // workers)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (watched, threads))
    queue, unended, running = list(cells), {cell.name for cell in cells}, dict[Future[list[Result]], str]()
    try:
        while unended:
            # no more than run, so that an error can name the few that were running
            for cell in take(queue, unended, workers - len(running)):
                running[pool.submit(measured, cell)] = cell.name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = _keep(future, running, path)
                unended.remove(name)
                yield name
    except BaseException as error:
        try:
            for future in [f for f in running if f.done() and not f.exception()]:
                _keep(future, running, path)
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


def _keep(future: Future[list[Result]], running: dict[Future[list[Result]], str], path: Path) -> str:
    """Append the results of a cell that ended, and return its name."""
    name = running[future]
    with named(name):
        results = future.result()
    # Taken off before it is written: a Ctrl-C in between costs a rerun, the other order would write it twice.
    del running[future]
    append(path, results)
    return name
