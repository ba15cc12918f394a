"""Progress bars on standard error."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def cell_bar(silent: bool) -> Iterator[Callable[[int, int, str, float | None], None]]:
    """Show how many cells of a run have ended: yields what `run_cells` calls as `progress`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with _bar(columns, silent) as bar:
        task = bar.add_task("starting", total=None, left="")

        def advance(done: int, total: int, name: str, seconds_left: float | None) -> None:
            left = (
                ""
                if seconds_left is None
                else f"{seconds_left / 60:.0f} min left"
                if seconds_left > 90
                else (f"{seconds_left:.0f} s left")
            )
            bar.update(task, completed=done, total=total, description=name or "running", left=left)

        yield advance


@contextmanager
def download_bar(name: str, silent: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Show a download once it has begun: yields what `redqubit.data.load_splits` calls as `progress`."""
    columns = (TextColumn("downloading {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with _bar(columns, silent) as bar:
        task = bar.add_task(name, total=None, visible=False)

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield advance


def _bar(columns: Sequence[ProgressColumn], silent: bool) -> Progress:
    console = Console(stderr=True)
    # in a file or a pipe a bar leaves nothing but blank lines
    return Progress(*columns, console=console, disable=silent or not console.is_terminal, transient=True)
