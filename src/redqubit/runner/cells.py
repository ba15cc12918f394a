"""Cells: what is done whole or not at all."""

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import torch

from redqubit.errors import UsageError
from redqubit.result import Result
from redqubit.version import __version__


@dataclass(frozen=True)
class Cell:
    """One unit of work that is done whole or not at all.

    Attributes:
        name: Unique within the experiment; every result of the cell carries it.
        run: Returns the results. With several workers it travels to another process, so make it a
            `functools.partial` of a module-level function.
        needs: Names of cells that must have ended before it begins; all of them stand before it.
    """

    name: str
    run: Callable[[], Sequence[Result]]
    needs: tuple[str, ...] = ()


def take(queue: list[Cell], unended: Collection[str], most: int | None = None) -> list[Cell]:
    """Take cells that can begin off a queue, in its order, and return them.

    Example:
        >>> queue = [Cell("a", list), Cell("b", list, needs=("a",)), Cell("c", list)]
        >>> [cell.name for cell in take(queue, {"a", "b", "c"})], [cell.name for cell in queue]
        (['a', 'c'], ['b'])
    """
    ready = list(islice((cell for cell in queue if not any(name in unended for name in cell.needs)), most))
    for cell in ready:
        queue.remove(cell)
    return ready


def measured(cell: Cell) -> list[Result]:
    """Run a cell and fill in what only the runner knows.

    Models of other people draw from torch's own generator (initial weights, dropout): it is set by the name of the
    cell, so that its results do not depend on what ran before in the same process.
    """
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(cell.name.encode()))
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
def named(name: str) -> Iterator[None]:
    """Tell in which cell an error arose."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"Cell `{name}`: {error}") from error
    except Exception as error:
        error.add_note(f"This happened in cell `{name}`; finished cells are kept.")
        raise
