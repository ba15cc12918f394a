"""Time RedQubit against other simulators of differentiable circuits, in one run, on the same circuits.

    python benchmarks/speed.py [--rounds 7] [--only W1|W2] [--json FILE] [--markdown FILE]

How it is measured:

- Each library runs in a process of its own, so that the thread pools of torch and JAX never meet, and only one
  process works at a time. All may use every core that this process may (`taskset -c 0 python ...` gives one).
- A round goes through the cases, and within a case through the libraries, each time in another order. A host
  that slows down slows all of them, and speeds are compared within a round.
- A measurement is the median call within 0.2 s, after one call to warm up. The table shows the median and the
  range over rounds. A case sits out once its calls have taken 5 seconds.
- The first call (building, tracing and compiling, not importing) is shown in its own column.
- Outputs and gradients are checked against a float64 simulation gate by gate.

Peers that are not installed are named and left out. Exit code 1: a library failed or computed wrong numbers.
"""

import argparse
import gc
import importlib
import importlib.metadata
import json
import logging
import multiprocessing
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from peers import CASES, LIBRARIES, REFERENCE, WORKLOADS, Call, Case, Library

TOLERANCE = 1e-5  # of max |difference| / max(1, max |reference|); float32 reaches 1e-6
SECONDS = 0.2  # per measurement: one library, one case, one round
BUDGET = 5.0  # s; a case whose calls have taken so long sits out the rounds that are left
START, END = "<!-- bench:start -->", "<!-- bench:end -->"


def serve(connection: Connection, library: Library) -> None:
    """Run one library: the first time a case is asked for make its first call, then measure it."""
    warnings.simplefilter("ignore")  # about what a library would like to have installed or set
    logging.disable(logging.WARNING)
    calls: dict[Case, Call] = {}
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
            connection.send((seconds, [np.asarray(r, dtype=np.float64) for r in results]))
        except Exception as error:  # whatever a library raises ends this library, not the run
            connection.send(f"{type(error).__name__}: {error}".splitlines()[0])


def measure(call: Call) -> float:
    """Return the median time of a call in milliseconds."""
    gc.collect()
    start = time.perf_counter()
    call()  # warms the caches that another library had; a slow call needs no warming
    once = time.perf_counter() - start
    times = [once] if once > SECONDS else []
    while sum(times) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times) * 1e3


class Worker:
    """The process of one library, and what was measured there."""

    def __init__(self, library: Library) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = library.name
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, library), daemon=True)
        self.process.start()
        theirs.close()  # so that a dead process is noticed
        self.first: dict[Case, float] = {}  # s
        self.errors: dict[Case, float] = {}
        self.times: dict[Case, dict[int, float]] = {}  # ms by round
        self.failure = ""

    def ask(self, case: Case) -> Any:
        """Return the answer; None after a failure, which is kept."""
        try:
            self.connection.send(case)
            answer = self.connection.recv()
        except (EOFError, OSError):
            answer = "its process died"
        if isinstance(answer, str):
            self.failure = f"{case}: {answer}"
            return None
        return answer

    def start(self, cases: Sequence[Case], wanted: dict[Case, list[Any]]) -> None:
        """Make the first calls and check what they return."""
        for case in cases:
            if (answer := self.ask(case)) is None:
                return
            self.first[case], results = answer
            self.errors[case] = max(distance(a, b) for a, b in zip(results, wanted[case], strict=True))
            if not self.errors[case] <= TOLERANCE:
                self.failure = f"{case}: wrong numbers, off by {self.errors[case]:.1e}"
                return

    def run(self, case: Case, round_: int) -> None:
        """Measure a case, unless it is slow and had its share."""
        times = self.times.setdefault(case, {})
        if sum(times.values()) < BUDGET * 1e3 and (answer := self.ask(case)) is not None:
            times[round_] = answer

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):
            self.connection.send(None)
        self.process.join(timeout=10)
        self.process.terminate()


def distance(got: Any, want: Any) -> float:
    """Return max |got - want| / max(1, max |want|); infinite when shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    return float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))


def run(libraries: Sequence[Library], cases: Sequence[Case], rounds: int) -> list[Worker]:
    """Return one worker per library, after all rounds; those that failed say why."""
    oracle = Worker(REFERENCE)
    wanted: dict[Case, list[Any]] = {}
    for case in cases:
        if (answer := oracle.ask(case)) is None:
            raise SystemExit(f"The reference failed at {oracle.failure}")
        wanted[case] = answer[1]
    oracle.close()
    workers = [Worker(library) for library in libraries]
    try:
        for worker in workers:
            begin = time.perf_counter()
            worker.start(cases, wanted)
            say(f"{worker.name}: {worker.failure or f'first calls took {time.perf_counter() - begin:.1f} s'}")
        for r in range(rounds):
            begin = time.perf_counter()
            for i, case in enumerate(cases):
                turn = (r + i) % len(workers)
                for worker in [*workers[turn:], *workers[:turn]]:
                    if not worker.failure:
                        worker.run(case, r)
            say(f"round {r + 1} of {rounds}: {time.perf_counter() - begin:.1f} s")
    finally:
        for worker in workers:
            worker.close()
    return workers


def say(line: str) -> None:
    """Report progress, apart from the table."""
    print(line, file=sys.stderr, flush=True)


def fastest_peer(workers: Sequence[Worker], case: Case) -> Worker | None:
    """Return the peer with the lowest median."""
    peers = [w for w in workers if w.name != "RedQubit" and w.times.get(case)]
    return min(peers, key=lambda w: median(w.times[case].values()), default=None)


def speeds(worker: Worker, peer: Worker | None, case: Case) -> list[float]:
    """Return time of the fastest peer / time of this library, for each round that both took part in."""
    if peer is None:
        return []
    mine, theirs = worker.times[case], peer.times[case]
    return [theirs[r] / mine[r] for r in sorted(mine.keys() & theirs.keys())]


def table(workers: Sequence[Worker], workload: str, batch: int, cases: Sequence[Case]) -> list[str]:
    """Return the lines of the table of one workload and batch."""
    rows = [["", "forward, ms", "speed", "forward + backward, ms", "speed", "first call, s", "error"]]
    for worker in workers:
        row = [worker.name]
        for case in cases:
            peer = fastest_peer(workers, case)
            speed = "1" if worker is peer else spread(speeds(worker, peer, case))
            row += [spread(list(worker.times[case].values())), speed]
        row.append(" / ".join(f"{worker.first[c]:.2f}" for c in cases))
        rows.append([*row, f"{max(worker.errors[c] for c in cases):.0e}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])])
    lines = [" | ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]) for r in rows]
    return [f"**{workload}, batch {batch}**: {WORKLOADS[workload]}", "", *(f"| {line} |" for line in lines), ""]


def spread(values: Sequence[float]) -> str:
    """Return median (lowest to highest)."""
    if not values:
        return "-"
    low, middle, high = (f"{v:.3g}" if v < 1000 else f"{v:.0f}" for v in (min(values), median(values), max(values)))
    return f"{middle} ({low} to {high})"


def cores() -> int:
    """Return how many cores this process may use, which is what torch and XLA take."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def notes(workers: Sequence[Worker], left_out: Sequence[str], facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    n, versions = facts["cores"], ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    load = "" if facts["load"] is None else f", load {facts['load']:.1f} before the start"
    return [
        "Median over rounds (lowest to highest). Speed: time of the fastest peer / time of the row, in the same round;",
        "above 1 is faster than every peer. First call: forward / forward + backward, with building, tracing and",
        "compiling, which the other columns leave out. Error: of outputs and gradients, against float64.",
        "",
        f"{facts['date']}, {facts['cpu']}, cores: {n}{load}, rounds: {facts['rounds']}. Each library in a process of",
        f"its own, threads: torch {n}, XLA {n}, lightning OMP_NUM_THREADS={n}. Python {facts['python']},",
        f"{versions}.",
        *left_out,
        *(f"Failed: {worker.name}, {worker.failure}" for worker in workers if worker.failure),
    ]


def record(workers: Sequence[Worker], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return one entry per library and case, with the time of every round."""
    return [
        {
            "library": worker.name,
            "workload": case.workload,
            "batch": case.batch,
            "gradient": case.gradient,
            "ms": list(worker.times[case].values()),
            "speed": speeds(worker, fastest_peer(workers, case), case),
            "first_call_s": worker.first[case],
            "error": worker.errors[case],
        }
        for worker in workers
        for case in cases
    ]


def between_markers(path: Path, text: str) -> str:
    """Return the file with `text` between its markers; a file that is not there becomes just that."""
    content = path.read_text(encoding="utf-8") if path.exists() else f"{START}{END}\n"
    return f"{content.partition(START)[0]}{START}\n{text}{END}{content.partition(END)[2]}"


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time RedQubit against its peers.")
    parser.add_argument("--rounds", type=int, default=7, help="rounds through all libraries (7)")
    parser.add_argument("--only", choices=list(WORKLOADS), help="one workload")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help=f"write the table between {START} and {END}")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"Argument `--rounds` must be 1 or more, but is {options.rounds}.")
    for path in filter(None, (options.json, options.markdown)):
        if not path.parent.is_dir():
            parser.error(f"The folder of {path} must be there: make it first.")
    if options.markdown and options.markdown.exists():
        content = options.markdown.read_text(encoding="utf-8")
        if [content.count(START), content.count(END)] != [1, 1] or content.index(START) > content.index(END):
            parser.error(f"Argument `--markdown` must be a new file or have one {START} and, after it, one {END}.")

    # before any process starts: they inherit it. JAX would take a GPU, which the others do not use
    os.environ.update(OMP_NUM_THREADS=str(cores()), MKL_NUM_THREADS=str(cores()), JAX_PLATFORMS="cpu")
    missing = {library.name: [p for p in library.packages if version(p) is None] for library in LIBRARIES}
    left_out = [f"Left out: {name}, for want of {', '.join(p)}." for name, p in missing.items() if p]
    libraries = [library for library in LIBRARIES if not missing[library.name]]
    cases = [c for c in CASES if options.only in (None, c.workload)]
    facts = {**machine(), "rounds": options.rounds}
    facts["versions"] = {p: version(p) for library in libraries for p in library.packages}

    for line in left_out:
        say(line)
    workers = run(libraries, cases, options.rounds)
    whole = [w for w in workers if not w.failure]
    lines: list[str] = []
    for workload, batch in dict.fromkeys((c.workload, c.batch) for c in cases):
        lines += table(whole, workload, batch, [c for c in cases if (c.workload, c.batch) == (workload, batch)])
    text = "\n".join([*lines, *notes(workers, left_out, facts)]) + "\n"
    print(text)
    if options.json:
        failures = {w.name: w.failure for w in workers if w.failure}
        content = {"facts": facts, "left_out": left_out, "failures": failures, "results": record(whole, cases)}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if len(whole) < len(workers):
        return 1  # and the table in --markdown stays as it was
    if options.markdown:
        options.markdown.write_text(between_markers(options.markdown, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
