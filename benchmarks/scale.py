"""Time and peak memory of forward and backward by the number of qubits, against PennyLane's simulators.

    python benchmarks/scale.py [--qubits 4 8 12 16 20] [--plot FILE] [--json FILE] [--markdown FILE]

The circuit is the dressed one, H, RY(x), 6 layers of CX and RY(w), all <Z>, with gradients to x and w. Batch 16, but 1
from 18 qubits on, for all libraries alike.

Each point is measured in a process of its own, after a call on at most 5 qubits that loads what a library has;
RedQubit's runs twice, since the first process of all compiles its kernel and leaves it on disk.
Time is the median call within a second after the first one, which also builds and has a column of its own; where the
first one takes more than 20 s, it is the time. Peak memory is that of the first call: the highest resident memory
during it less that before it (Linux only). A point that takes more than 60 s or 10 GiB is left out, and said to be.
Results are compared with default.qubit, in complex128.

Exit code 1: a library computed other numbers.
"""

import argparse
import gc
import importlib
import logging
import multiprocessing
import resource
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cases import Array, Call
from command import arguments, publish
from peers import qnode, torch_call
from speed import TOLERANCE, distance
from tables import aligned, circumstances, machine, number, say, use_cores, version
from workers import Library, leave_with_parent, numbers

MARKER = "scale"
QUBITS = (4, 8, 12, 16, 20)
WARM_QUBITS = 5
LIMIT = 60.0  # s
LOADING = 300.0  # s, for imports and compilation before that
MEMORY = 10 * 2**30
SLOW = 20.0  # s; after such a first call there is time for no other
ENOUGH = 1.0  # s of calls for a median
RESOLVED = 1.0  # MiB; less is lost among the pages that a process holds anyway
COLORS = {"RedQubit": "#0072B2", "lightning.qubit, adjoint": "#D55E00", "default.qubit, backprop": "#009E73"}


@dataclass(frozen=True)
class Size:
    """The circuit of one number of qubits."""

    qubits: int
    device: str = "cpu"
    gradient: bool = True
    trainable: bool = True

    @property
    def batch(self) -> int:
        """How many samples."""
        return 16 if self.qubits < 18 else 1

    def circuit(self) -> Any:
        """Return the circuit as RedQubit's data."""
        from redqubit.quantum import ansatzes

        return ansatzes.dressed(self.qubits, 6)

    def tensors(self) -> tuple[Array, Array, Array]:
        """Return x, weights and the vector that the backward pass starts from."""
        import torch

        generator, n = torch.Generator().manual_seed(0), self.qubits
        shapes = (self.batch, n), (6 * n,), (self.batch, n)
        x, w, direction = (torch.rand(shape, generator=generator) for shape in shapes)
        return 3 * x, 6 * w, 2 * direction - 1


def redqubit(size: Size) -> Call:
    """Return RedQubit's call."""
    from redqubit.models.layer import QuantumLayer

    x, w, direction = size.tensors()
    layer = QuantumLayer(size.circuit(), weights=w)
    return torch_call(size, layer, x, layer.weights, direction)


def lightning(size: Size) -> Call:
    """Return PennyLane's call with lightning.qubit."""
    # one pass back for all outputs, which is the faster way from 12 qubits on
    return _pennylane(size, "lightning.qubit", "adjoint", {"c_dtype": np.complex64}, device_vjp=size.qubits >= 12)


def default(size: Size) -> Call:
    """Return PennyLane's call with default.qubit."""
    return _pennylane(size, "default.qubit", "backprop", {})


def _pennylane(size: Size, simulator: str, diff_method: str, options: dict[str, Any], **more: Any) -> Call:
    import torch

    x, w, direction = size.tensors()
    w.requires_grad_()
    node = qnode(size.circuit(), simulator, diff_method, "torch", options, **more)
    return torch_call(size, lambda v: torch.stack(tuple(node(v, w)), 1), x, w, direction)


LIBRARIES = [
    Library("RedQubit", redqubit, ("redqubit", "torch"), ("redqubit.models.layer",)),
    Library(
        "lightning.qubit, adjoint",
        lightning,
        ("pennylane-lightning", "pennylane", "torch"),
        ("redqubit.quantum", "pennylane", "pennylane_lightning.lightning_qubit"),
    ),
    Library("default.qubit, backprop", default, ("pennylane", "torch"), ("redqubit.quantum", "pennylane")),
]


@dataclass
class Point:
    """What was measured of one library at one size."""

    library: str
    qubits: int
    batch: int
    ms: float | None = None
    first_s: float | None = None
    mib: float | None = None
    left_out: str = ""
    error: float | None = None  # against default.qubit
    results: list[Any] = field(default_factory=list)


def serve(connection: Connection, library: Library, size: Size) -> None:
    """Measure one point and send (ms, s of the first call, MiB, results), or why not."""
    leave_with_parent()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        for module in library.modules:
            importlib.import_module(module)
        library.build(Size(min(size.qubits, WARM_QUBITS)))()
        gc.collect()
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        connection.send("ready")
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
        before = resident("VmRSS")
        start = time.perf_counter()
        call = library.build(size)
        results = call()
        first = time.perf_counter() - start
        mib = (resident("VmHWM") - before) / 1024
        times = [first] if first > SLOW else []
        while sum(times) < ENOUGH:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        connection.send((median(times) * 1e3, first, mib, [numbers(r) for r in results]))
    except Exception as error:  # said by the parent
        memory = isinstance(error, MemoryError) or "memory" in str(error)
        text = f"more than {MEMORY / 2**30:.0f} GiB" if memory else f"{type(error).__name__}: {error}".splitlines()[0]
        connection.send(text)


def resident(name: str) -> int:
    """Return a figure of this process's memory in KiB: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(library: Library, size: Size) -> Point:
    """Return a point, measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    point = Point(library.name, size.qubits, size.batch)
    mine, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, library, size), daemon=True)
    process.start()
    theirs.close()
    try:
        for limit in (LOADING, LIMIT):
            if not mine.poll(limit):
                point.left_out = f"more than {limit:.0f} s"
                break
            answer = mine.recv()
            if isinstance(answer, tuple):
                point.ms, point.first_s, point.mib, point.results = answer
            elif answer != "ready":
                point.left_out = answer
                break
    except EOFError:
        point.left_out = "its process died"
    finally:
        process.kill()
        process.join()
    return point


def compare(points: Sequence[Point]) -> None:
    """Note how far the results of each size are from the last library's, default.qubit, where it has any."""
    for point in points:
        wanted = [p.results for p in points if p.qubits == point.qubits and p.results][-1:]
        if wanted and point.results:
            point.error = max(distance(a, b) for a, b in zip(point.results, wanted[0], strict=True))


def table(points: Sequence[Point], names: Sequence[str]) -> list[str]:
    """Return the lines of a table: a row per number of qubits; time, first call and memory per library."""
    rows = [["qubits (batch)", *(f"{name}: {unit}" for unit in ("ms", "first s", "MiB") for name in names)]]
    by = {(p.qubits, p.library): p for p in points}
    for qubits, batch in dict.fromkeys((p.qubits, p.batch) for p in points):
        row = [by[qubits, name] for name in names]
        ms = ["-" if p.ms is None else number(p.ms) for p in row]
        first = ["-" if p.first_s is None else number(p.first_s) for p in row]
        mib = ["-" if p.mib is None else number(p.mib) if p.mib >= RESOLVED else "< 1" for p in row]
        rows.append([f"{qubits} ({batch})", *ms, *first, *mib])
    return aligned(rows)


def draw(points: Sequence[Point], names: Sequence[str], path: Path) -> None:
    """Draw time and peak memory against the number of qubits; its white ground serves light and dark pages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.9), layout="constrained", facecolor="white")
    for axes, unit, title in zip(
        panels, ("ms", "mib"), ("Time per sample, ms", "Peak memory of a call, MiB (1 or more)"), strict=True
    ):
        for name, marker in zip(names, "osD", strict=False):
            mine = [p for p in points if p.library == name and p.ms is not None]
            shown = [(p.qubits, p.ms / p.batch if unit == "ms" else max(p.mib or 0, RESOLVED)) for p in mine]
            axes.plot(*zip(*shown, strict=True), color=COLORS[name], marker=marker, linewidth=2, label=name)
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xlabel("qubits (samples in a call)")
        ticks = sorted({(p.qubits, p.batch) for p in points})
        axes.set_xticks([n for n, _ in ticks], [f"{n} ({batch})" for n, batch in ticks])
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=160, metadata={"Software": None})
    pyplot.close(figure)


def notes(points: Sequence[Point], facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    left_out = [f"Left out: {p.library}, {p.qubits} qubits: {p.left_out}." for p in points if p.left_out]
    errors = [p.error for p in points if p.error is not None]
    return [
        "Forward and backward of H, RY(x), 6 layers of CX and RY(w), all <Z>, gradients to x and w. First call: with",
        "building and tracing. Memory: highest resident memory during it less that before it. Greatest difference",
        f"between libraries, of outputs and gradients: {max(errors, default=0.0):.0e}.",
        "",
        circumstances(facts),
        *left_out,
    ]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time and memory by the number of qubits.")
    parser.add_argument("--qubits", type=int, nargs="+", default=list(QUBITS), help="sizes (4 8 12 16 20)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory, such as docs/images/scale.png")
    options = arguments(parser, MARKER)
    if not all(2 <= n <= 24 for n in options.qubits):
        parser.error(f"Argument `--qubits` must be from 2 to 24, but is {options.qubits}.")
    if options.plot and not options.plot.parent.is_dir():
        parser.error(f"The folder of {options.plot} must be there: make it first.")
    use_cores()
    libraries = [lib for lib in LIBRARIES if all(version(p) for p in lib.packages)]
    names = [library.name for library in libraries]
    facts = {**machine(), "versions": {p: version(p) for library in libraries for p in library.packages}}

    points = []
    for qubits in sorted(set(options.qubits)):
        for library in libraries:
            if library.name == "RedQubit":  # compiles its kernel, which the next process finds on disk
                measure(library, Size(qubits))
            point = measure(library, Size(qubits))
            points.append(point)
            measured = point.left_out or f"{point.ms:.3g} ms, first {point.first_s:.3g} s, {point.mib:.3g} MiB"
            say(f"{qubits} qubits, {library.name}: {measured}")
    compare(points)
    wrong = [p for p in points if p.error is not None and not p.error <= TOLERANCE]
    for p in wrong:
        say(f"{p.library}, {p.qubits} qubits: other numbers, by {p.error:.1e}")
    if options.plot and not wrong:
        draw(points, names, options.plot)
    lines = [*table(points, names), "", *notes(points, facts)]
    results = [{k: v for k, v in vars(p).items() if k != "results"} for p in points]
    return publish(options, MARKER, lines, {"facts": facts, "results": results}, right=not wrong)


if __name__ == "__main__":
    sys.exit(main())
