"""What comes before and after the work of a command: data, and the verdict on screen."""

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from redqubit.cli.bars import download_bar
from redqubit.errors import printable


def download(name: str, data_dir: Path | None, *, silent: bool) -> None:
    """Fetch a named data set that is not on this machine yet, with a bar of its own."""
    from redqubit.data import NAMES, load_splits

    if name in NAMES:
        with download_bar(name, silent) as advance:
            load_splits(name, data_dir=data_dir, progress=advance)


def conclude(page: Path, *, quiet: bool, as_json: bool, log: Sequence[str] | None = None) -> None:
    """Log the run where that is asked for, and print the verdict and where the report is."""
    from redqubit import tracking

    for target in log or ():
        tracking.log(page.parent, target)
    machine = page.with_suffix(".json")
    if as_json:
        typer.echo(machine.read_text(encoding="utf-8"))
        return
    if not quiet:
        for finding in json.loads(machine.read_text(encoding="utf-8"))["findings"]:
            typer.echo(f"[{finding['status']}] {printable(finding['text'])}")
    typer.echo(f"Report: {page.resolve()}")
