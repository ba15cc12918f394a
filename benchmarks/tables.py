"""Facts about the machine, and tables in Markdown."""

import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

START, END = "<!-- {}:start -->", "<!-- {}:end -->"


def say(line: str) -> None:
    """Report progress, apart from the table."""
    print(line, file=sys.stderr, flush=True)


def spread(numbers: Sequence[float]) -> str:
    """Return median (lowest to highest)."""
    if not numbers:
        return "-"
    low, middle, high = (number(v) for v in (min(numbers), median(numbers), max(numbers)))
    return f"{middle} ({low} to {high})" if len(numbers) > 1 else middle


def number(value: float) -> str:
    """Return a number in three digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, the first row its head; all but the first column to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])], *rows[1:]]
    return [f"| {' | '.join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])])} |" for r in ruled]


def cores() -> int:
    """Return how many cores this process may use, which is what torch and XLA take."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores() -> None:
    """Set how many threads the processes take that are started from here; JAX would take a GPU without the others."""
    os.environ.update(OMP_NUM_THREADS=str(cores()), MKL_NUM_THREADS=str(cores()), JAX_PLATFORMS="cpu")


def machine() -> dict[str, Any]:
    """Return what the numbers hang on, before the work starts."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine(),
        "cores": cores(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def version(package: str) -> str | None:
    """Return the version of a package; None when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def circumstances(facts: dict[str, Any]) -> str:
    """Return machine, threads and versions in one sentence or two."""
    n, versions = facts["cores"], ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    load = "" if facts["load"] is None else f", load {facts['load']:.1f} before the start"
    return (
        f"{facts['date']}, {facts.get('gpu') or facts['cpu']}, cores: {n}{load}. Each library in a process of its own "
        f"with {n} threads. Python {facts['python']}, {versions}."
    )


def marked(path: Path, name: str) -> str:
    """Return why no table can be written between the markers of a file; empty when it can."""
    if not path.parent.is_dir():
        return f"The folder of {path} must be there: make it first."
    start, end = START.format(name), END.format(name)
    content = path.read_text(encoding="utf-8") if path.exists() else f"{start}{end}"
    if [content.count(start), content.count(end)] == [1, 1] and content.index(start) < content.index(end):
        return ""
    return f"Argument `--markdown` must be a new file or have one {start} and, after it, one {end}."


def between_markers(path: Path, name: str, text: str) -> str:
    """Return the file with `text` between its markers; a file that is not there becomes just that."""
    start, end = START.format(name), END.format(name)
    content = path.read_text(encoding="utf-8") if path.exists() else f"{start}{end}\n"
    return f"{content.partition(start)[0]}{start}\n{text}{end}{content.partition(end)[2]}"
