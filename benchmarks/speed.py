"""Time RedQubit against other simulators of differentiable circuits, in one run, on the same circuits.

    python benchmarks/speed.py [--device cpu|cuda] [--rounds 7] [--only W1 W3] [--json FILE] [--markdown FILE]

How it is measured:

- Each library runs in a process of its own, so that the thread pools of torch and JAX never meet, and only one
  process works at a time. All may use every core that this process may (`taskset -c 0 python ...` gives one).
- A round goes through the cases, and within a case through the libraries, each time in another order. A host
  that slows down slows all of them, and speeds are compared within a round.
- A measurement is the median call within 0.2 s, after one call to warm up. The table shows the median and the
  range over rounds. A case sits out once its calls have taken 5 seconds.
- The first call (building, tracing and compiling, not importing) is shown in its own column.
- Outputs and gradients are checked against a float64 simulation gate by gate.
- On a GPU a call ends when the device is idle again. A case that does not fit its memory is named and left out.

Peers that are not installed are named and left out. Exit code 1: a library failed or computed wrong numbers.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from cases import CASES, WORKLOADS, Case
from command import arguments, positive, publish
from peers import LIBRARIES
from reference import REFERENCE
from tables import aligned, circumstances, machine, say, spread, use_cores, version
from workers import Library, Worker, failures

TOLERANCE = 1e-5  # of max |difference| / max(1, max |reference|); float32 reaches 1e-6
MARKER = "bench"


def distance(got: Any, want: Any) -> float:
    """Return max |got - want| / max(1, max |want|); infinite when shapes differ."""
    if got.shape != want.shape:
        return float("inf")
    return float(np.abs(got - want).max() / max(1.0, np.abs(want).max()))


def run(libraries: Sequence[Library], cases: Sequence[Case], rounds: int) -> list[Worker]:
    """Return one worker per library, after all rounds; those that failed say why."""
    oracle = Worker(REFERENCE)
    wanted = {case: oracle.start(case) for case in cases}
    oracle.close()
    for case, failure in oracle.failures.items():
        raise SystemExit(f"The reference failed at {case}: {failure}")
    workers = [Worker(library) for library in libraries]
    try:
        for worker in workers:
            begin = time.perf_counter()
            for case in cases:
                if not (case.noisy and worker.library.lacks):
                    check(worker, case, wanted[case] or [])
            say(f"{worker.name}: first calls took {time.perf_counter() - begin:.1f} s")
            for line in failures([worker]):
                say(line)
        for r in range(rounds):
            begin = time.perf_counter()
            for i, case in enumerate(cases):
                turn = (r + i) % len(workers)
                for worker in [*workers[turn:], *workers[:turn]]:
                    worker.run(case, r)
            say(f"round {r + 1} of {rounds}: {time.perf_counter() - begin:.1f} s")
    finally:
        for worker in workers:
            worker.close()
    return workers


def check(worker: Worker, case: Case, wanted: Sequence[Any]) -> None:
    """Make the first call and compare what it returns."""
    if (results := worker.start(case)) is None:
        return
    worker.errors[case] = max(distance(a, b) for a, b in zip(results, wanted, strict=True))
    if not worker.errors[case] <= TOLERANCE:
        worker.failures[case] = f"wrong numbers, off by {worker.errors[case]:.1e}"


def fastest_peer(workers: Sequence[Worker], case: Case) -> Worker | None:
    """Return the peer with the lowest median."""
    peers = [w for w in workers if not w.name.startswith("RedQubit") and w.times.get(case)]
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
        done = [case for case in cases if worker.times.get(case) and case not in worker.failures]
        if not done:
            continue
        row = [worker.name]
        for case in cases:
            if case not in done:
                row += ["-", "-"]
                continue
            peer = fastest_peer(workers, case)
            speed = "1" if worker is peer else spread(speeds(worker, peer, case))
            row += [spread(list(worker.times[case].values())), speed]
        row.append(" / ".join(f"{worker.first[c]:.2f}" for c in done))
        rows.append([*row, f"{max(worker.errors[c] for c in done):.0e}"])
    return [f"**{workload}, batch {batch}**: {WORKLOADS[workload]}", "", *aligned(rows), ""]


def notes(left_out: Sequence[str], facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    return [
        "Median over rounds (lowest to highest). Speed: time of the fastest peer / time of the row, in the same round;",
        "above 1 is faster than every peer. First call: forward / forward + backward, with building, tracing and",
        "compiling, which the other columns leave out. Error: of outputs and gradients, against float64. PennyLane is",
        "default.qubit, and default.mixed where there is noise; TensorCircuit-NG DMCircuit there.",
        "",
        f"{circumstances(facts)} Rounds: {facts['rounds']}.",
        *left_out,
    ]


def record(workers: Sequence[Worker], cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return one entry per library and case, with the time of every round."""
    return [
        {
            "library": worker.name,
            "workload": case.workload,
            "batch": case.batch,
            "gradient": case.gradient,
            "device": case.device,
            "ms": list(worker.times[case].values()),
            "speed": speeds(worker, fastest_peer(workers, case), case),
            "first_call_s": worker.first[case],
            "error": worker.errors[case],
        }
        for worker in workers
        for case in cases
        if worker.times.get(case)
    ]


def asked(line: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line, or leave with one line that says what is wrong."""
    parser = argparse.ArgumentParser(description="Time RedQubit against its peers.")
    parser.add_argument("--device", choices=list(CASES), default="cpu", help="where to compute (cpu)")
    parser.add_argument("--rounds", type=positive, default=7, help="rounds through all libraries (7)")
    parser.add_argument("--only", choices=list(WORKLOADS), nargs="+", help="some workloads")
    options = arguments(parser, MARKER, line)
    if options.device == "cuda" and (gpu() is None):
        parser.error("Argument `--device` must not be cuda here, since torch finds no GPU.")
    return options


def gpu() -> str | None:
    """Return the name of the GPU that torch finds."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def main() -> int:
    """Run the benchmark and return the exit code."""
    options = asked()
    use_cores()
    missing = {lib.name: [p for p in lib.packages if version(p) is None] for lib in LIBRARIES[options.device]}
    libraries = [library for library in LIBRARIES[options.device] if not missing[library.name]]
    cases = [c for c in CASES[options.device] if not options.only or c.workload in options.only]
    left_out = [f"Left out: {name}, for want of {', '.join(p)}." for name, p in missing.items() if p]
    noisy = ", ".join(dict.fromkeys(c.workload for c in cases if c.noisy))
    left_out += [
        f"Left out: {lib.name}, of {noisy}: it has no {lib.lacks}." for lib in libraries if noisy and lib.lacks
    ]
    facts = {**machine(), "rounds": options.rounds, "gpu": gpu() if options.device == "cuda" else None}
    facts["versions"] = {p: version(p) for library in libraries for p in library.packages}

    for line in left_out:
        say(line)
    workers = run(libraries, cases, options.rounds)
    left_out += failures(workers)
    lines: list[str] = []
    for workload, batch in dict.fromkeys((c.workload, c.batch) for c in cases):
        lines += table(workers, workload, batch, [c for c in cases if (c.workload, c.batch) == (workload, batch)])
    lines += notes(left_out, facts)
    content = {"facts": facts, "left_out": left_out, "results": record(workers, cases)}
    too_large = "OutOfMemoryError"  # of a GPU: the notes say so
    right = all(text.startswith(too_large) for worker in workers for text in worker.failures.values())
    return publish(options, MARKER, lines, content, right=right)


if __name__ == "__main__":
    sys.exit(main())
