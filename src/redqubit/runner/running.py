"""Run what is not stored yet, wherever it runs."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing

from redqubit.errors import UsageError
from redqubit.result import Result, load
from redqubit.runner.cells import Cell
from redqubit.runner.cluster import Cluster, on_cluster
from redqubit.runner.folder import RunFolder
from redqubit.runner.processes import in_this_process, in_workers

Progress = Callable[[int, int, str, float | None], None]


def run_cells(
    cells: Iterable[Cell], folder: RunFolder, *, workers: int | Cluster = 1, progress: Progress | None = None
) -> list[Result]:
    """Run the cells that are not in `results.jsonl` yet, and return the results of all of them.

    Each cell is appended as it ends; the order of the file is the order of completion, the order of
    the list is that of `cells`. With several workers each gets its share of torch's threads, and on a
    cluster as many as its CPUs, which can change the last digits of a float against a run with one worker.

    Args:
        cells: Cells with unique names, each behind those that it needs.
        folder: What `open_run` returned.
        workers: Processes, at least 1; with 1 the cells run in this process. Or a Ray cluster.
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
    place = {name: i for i, name in enumerate(names)}
    for i, cell in enumerate(todo):
        if late := [name for name in cell.needs if place.get(name, i) >= i]:
            raise ValueError(f"cell {cell.name} needs {', '.join(late)}, which must stand before it")
    if isinstance(workers, int) and workers < 1:
        raise UsageError(f"Argument `workers` must be at least 1, but is {workers}: use 1 to stay in this process")
    stored = {result.cell for result in load(folder.results)} if folder.results.exists() else set()
    rest = [cell for cell in todo if cell.name not in stored]
    start, skipped = time.monotonic(), len(todo) - len(rest)
    if progress:
        progress(skipped, len(todo), "", None)
    if isinstance(workers, Cluster):
        ended = on_cluster(rest, folder.path, folder.results, workers)
    else:
        ended = in_workers(rest, folder.results, workers) if workers > 1 else in_this_process(rest, folder.results)
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
