"""What RedQubit costs beside its computations: starting, two processes against one, the run folder, a large report.

    python benchmarks/runs.py [--rounds 1] [--starts 5] [--json FILE] [--markdown FILE]

All by the clock, each in a process of its own:

- `import redqubit`, alone and with what it puts off, such as torch, against `import torch`, and `redqubit --help`;
- `redqubit audit` with two processes against one, as many rounds as asked, in turns;
- the part of that audit that `results.jsonl` costs: its rows once more, cell by cell, into another file;
- a report of 100,000 results in 23 tables and 21 plots, with reading them, and the highest resident memory.

Exit code 1: the audits count other samples.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from command import arguments, positive, publish
from redqubit.result import Panel, Result, Summary, append, load, save_summary
from tables import aligned, circumstances, machine, number, say, spread, version

MARKER = "runs"
MANY, CELL = 100_000, 100  # results, and those of a cell
STARTS = {
    "import torch": "import torch",
    "import redqubit": "import redqubit",
    "import redqubit, and what needs torch": "import redqubit; redqubit.audit",
    "redqubit --help": "from redqubit.cli import main; main(['--help'])",
}
REPORT = """
import resource, sys, time
start = time.perf_counter()
from redqubit.report import build
build(sys.argv[1])
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def clocked(*words: str) -> float:
    """Return the seconds that a Python process takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def audited(folder: Path, workers: int) -> float:
    """Return the seconds of the default audit."""
    words = ["audit", "--device", "cpu", "--workers", str(workers), "--quiet", "--out", str(folder)]
    return clocked("-c", "import sys; from redqubit.cli import main; main(sys.argv[1:])", *words)


def counted(folder: Path) -> dict[tuple[str, str], int]:
    """Return how many samples each cell of a run counted, by metric, whatever it found."""
    found: dict[tuple[str, str], int] = {}
    for row in load(folder / "results.jsonl"):
        found[row.cell, row.metric] = found.get((row.cell, row.metric), 0) + (row.n or 0)
    return found


def stored(rows: Sequence[Result], path: Path) -> float:
    """Return the seconds to append rows, a cell at a time."""
    start = time.perf_counter()
    for _, cell in groupby(rows, lambda row: row.cell):
        append(path, list(cell))
    return time.perf_counter() - start


def many(folder: Path) -> tuple[float, float]:
    """Return the seconds and MiB of a report of `MANY` results."""
    for cell in range(MANY // CELL):
        append(
            folder / "results.jsonl",
            [
                Result(
                    *("many", f"c{cell}", "robust_accuracy", (7 * cell + 3 * i) % 100 / 100),
                    {"model": f"m{cell % 20}", "attack": f"a{i % 10}", "eps": i // 10 / 10},
                    seed=cell // 20,
                )
                for i in range(CELL)
            ],
        )
    panels = (
        Panel("curves", "Curves", metric="robust_accuracy", x="eps", group="attack", data={"facet": "model"}),
        Panel("heatmap", "Grid", metric="robust_accuracy", group="model", x="attack"),
        Panel("table", "Table", metric="robust_accuracy", group="model", x="attack"),
        Panel("table", "All", group="model", x="metric"),
    )
    save_summary(folder / "summary.json", Summary("Many", panels=panels))
    said = subprocess.run([sys.executable, "-c", REPORT, str(folder)], check=True, capture_output=True, text=True)
    seconds, mib = map(float, said.stdout.split())
    return seconds, mib


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="What RedQubit costs beside its computations.")
    parser.add_argument("--rounds", type=positive, default=1, help="audits with either number of processes (1)")
    parser.add_argument("--starts", type=positive, default=5, help="starts of each program (5)")
    options = arguments(parser, MARKER)
    facts: dict[str, Any] = {**machine(), "versions": {p: version(p) for p in ("redqubit", "torch")}}
    starts: dict[str, list[float]] = {name: [] for name in STARTS}
    for program in STARTS.values():
        clocked("-c", program)  # fills the caches
    for _ in range(options.starts):
        for name, program in STARTS.items():
            starts[name].append(clocked("-c", program))
    audits: dict[int, list[float]] = {1: [], 2: []}
    with TemporaryDirectory() as place:
        for i in range(options.rounds):
            for workers, seconds in audits.items():
                seconds.append(audited(Path(place, f"{workers}-{i}"), workers))
                say(f"audit, {workers} at once: {number(seconds[-1])} s")
        right = len({json.dumps(sorted(counted(f).items())) for f in map(Path(place).joinpath, ("1-0", "2-0"))}) == 1
        rows = load(Path(place, "1-0", "results.jsonl"))
        store = stored(rows, Path(place, "again.jsonl")) / audits[1][0]
        folder = Path(place, "many")
        folder.mkdir()
        large, mib = many(folder)
    ratios = {
        name: [s / t for s, t in zip(seconds, starts["import torch"], strict=True)] for name, seconds in starts.items()
    }
    speedup = [one / two for one, two in zip(audits[1], audits[2], strict=True)]
    told = [
        (f"`{ours}` / `import torch`", spread(ratios[ours]), "< 1.5", median(ratios[ours]) < 1.5)
        for ours in ("import redqubit", "import redqubit, and what needs torch")
    ]
    helped = starts["redqubit --help"]
    told += [
        ("`redqubit --help`, s", spread(helped), "< 0.4", median(helped) < 0.4),
        ("`redqubit audit`, 1 process / 2", spread(speedup), ">= 1.6", median(speedup) >= 1.6),
        (f"`results.jsonl` of that audit, {len(rows)} rows", f"{store:.2%}", "< 1%", store < 0.01),
        (f"report of {MANY:,} results, s", number(large), "< 10", large < 10),
        ("its memory, MiB", number(mib), "< 1024", mib < 1024),
    ]
    table = [["", "measured", "aim", ""], *([*words, "met" if met else "missed"] for *words, met in told)]
    lines = [*aligned(table), "", f"`import torch`: {spread(starts['import torch'])} s.", "", circumstances(facts)]
    measured = {"starts": starts, "audits": audits, "store": store, "report": {"seconds": large, "MiB": mib}}
    return publish(options, MARKER, lines, {"facts": facts, **measured}, right=right)


if __name__ == "__main__":
    sys.exit(main())
