"""Time QUID: labels for half of 700 samples on a noisy 4-qubit encoder by three metrics, against a loop over pairs.

    python benchmarks/quid.py [--samples 700] [--rounds 3] [--json FILE] [--markdown FILE]

The loop is algorithm 1 as it is written: PennyLane's default.mixed gives the density matrix of one sample after the
other, and numpy the distance of one pair after the other. A second loop has the density matrices made before its clock
starts, so that only distances count. Each contestant runs in a process of its own, in turns; a call is one metric.

Exit code 1: the labels differ, or the scores by more than 1e-6, or a contestant failed.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cases import Array, Call, values
from command import arguments, installed, positive, publish
from tables import aligned, circumstances, machine, number, say, spread, use_cores
from workers import Library, Worker, failures

MARKER = "quid"
METRICS = ("hilbert-schmidt", "frobenius", "trace")
SAMPLES, CLASSES, RATIO, STRENGTH = 700, 4, 0.5, 0.05
AIM = 15  # times a loop over pairs
TOLERANCE = 1e-6  # of a score: pairs nearer than about 1e-8 have a rounded distance
BUDGET = 60.0  # s; no more rounds of a metric once it took so long


@dataclass(frozen=True)
class Task:
    """A set to poison by a metric: the file with x, y and which samples are poisoned."""

    metric: str
    file: str

    def __str__(self) -> str:
        return self.metric

    def circuit(self) -> Any:
        """Return the noise-free encoder."""
        from redqubit.quantum import encodings

        return encodings.angle(4, ("RZ", "RX"), hadamard=True)

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return x (N, 8), y (N,) and is_poisoned (N,)."""
        with np.load(self.file) as arrays:
            return arrays["x"], arrays["y"], arrays["is_poisoned"]


def redqubit(task: Task) -> Call:
    """Return RedQubit's QUID: from the data set to the new labels."""
    import torch

    from redqubit.data import Dataset
    from redqubit.poisoning import QUID
    from redqubit.quantum.noise import quid_noise

    x, y, is_poisoned = task.arrays()
    data = Dataset(torch.from_numpy(x), torch.from_numpy(y), CLASSES)
    quid = QUID(task.circuit(), task.metric, quid_noise(STRENGTH), ratio=RATIO)
    chosen = torch.from_numpy(is_poisoned)
    scores = quid.scores(data, chosen)  # once, for the comparison; a call computes its own

    def call() -> tuple[Array, ...]:
        found = quid(data, generator=torch.Generator().manual_seed(0))
        return found.y[found.is_poisoned], scores

    return call


def loop(task: Task) -> Call:
    """Return algorithm 1 in PennyLane and numpy."""
    x, y, is_poisoned = task.arrays()
    encode = encoder(task)

    def call() -> tuple[Array, ...]:
        return algorithm_1([encode(row) for row in x], y, is_poisoned, task.metric)

    return call


def loop_on_states(task: Task) -> Call:
    """Return algorithm 1 in numpy on density matrices that are there."""
    x, y, is_poisoned = task.arrays()
    encode = encoder(task)
    states = [encode(row) for row in x]

    def call() -> tuple[Array, ...]:
        return algorithm_1(states, y, is_poisoned, task.metric)

    return call


def encoder(task: Task) -> Any:
    """Return the function from a sample to its density matrix, by PennyLane."""
    import pennylane as qml

    from redqubit.quantum.noise import quid_noise, with_noise

    circuit = with_noise(task.circuit(), quid_noise(STRENGTH))
    names = {"H": "Hadamard", "Depolarizing": "DepolarizingChannel"}  # the others go by our names

    @qml.qnode(qml.device("default.mixed", wires=circuit.n_qubits))
    def encode(sample: Array) -> Any:
        for gate in circuit.gates:
            getattr(qml, names.get(gate.name, gate.name))(*values(gate, sample, None), wires=gate.wires)
        return qml.state()

    return encode


def algorithm_1(states: Sequence[Array], y: Array, is_poisoned: Array, metric: str) -> tuple[Array, Array]:
    """Return the new label and the score of each class for each poisoned sample."""
    classes = np.unique(y)
    labels, scores = [], []
    for i in np.flatnonzero(is_poisoned):
        means = []
        for c in classes:
            members = np.flatnonzero(~is_poisoned & (y == c))
            means.append(np.mean([distance(states[i], states[j], metric) for j in members]))
        labels.append(classes[np.argmax(means)])
        scores.append(means)
    return np.array(labels), np.array(scores)


def distance(s: Array, r: Array, metric: str) -> float:
    """Return the distance of two density matrices by its definition."""
    if metric == "hilbert-schmidt":
        return 1 - abs(np.trace(s.conj().T @ r)) / len(s)
    if metric == "frobenius":
        return np.linalg.norm(s - r)
    return np.linalg.svd(s - r, compute_uv=False).sum()


LIBRARIES = [
    Library("RedQubit QUID", redqubit, ("torch",), ("redqubit.poisoning",)),
    Library("loop, PennyLane default.mixed", loop, ("pennylane", "numpy"), ("redqubit.quantum", "pennylane")),
    Library("loop over pairs alone", loop_on_states, ("pennylane", "numpy"), ("redqubit.quantum", "pennylane")),
]


def prepare(samples: int, folder: Path) -> list[Task]:
    """Write digits of four classes, pooled to 8 features, and which of them are poisoned; return a task a metric."""
    import torch

    from redqubit.data import Dataset, load_splits
    from redqubit.poisoning import RandomFlip

    both = load_splits("digits")
    x, y = torch.cat([part.x for part in both]), torch.cat([part.y for part in both])
    pooled = torch.nn.functional.avg_pool2d(x[y < CLASSES], (2, 4)).flatten(1)[:samples]
    data = Dataset(pooled, y[y < CLASSES][:samples], CLASSES)
    # every poison draws its samples first: another one with the same generator chooses the same
    chosen = RandomFlip(ratio=RATIO).draw(data, torch.Generator().manual_seed(0))
    file = folder / "samples.npz"
    np.savez(file, x=data.x.double().numpy(), y=data.y.numpy(), is_poisoned=chosen.numpy())
    return [Task(metric, str(file)) for metric in METRICS]


def run(tasks: Sequence[Task], rounds: int) -> list[Worker]:
    """Return the workers after all rounds; the difference from the loop's scores is kept as an error."""
    workers = [Worker(library) for library in LIBRARIES]
    try:
        for task in tasks:
            found = {}
            for worker in workers[::-1]:  # the loop first, whose results the others are held against
                if (results := worker.start(task)) is None:
                    continue
                found[worker.name] = results
                say(f"{worker.name}, {task}: first call {worker.first[task]:.1f} s")
            for worker in workers:
                if worker.name in found and (wanted := found.get(LIBRARIES[1].name)) is not None:
                    worker.errors[task] = difference(found[worker.name], wanted)
                    if not worker.errors[task] <= TOLERANCE:
                        worker.failures[task] = f"not the loop's labels or scores, off by {worker.errors[task]:.1e}"
        for r in range(rounds):
            for task in tasks:
                for worker in workers[:: 1 if r % 2 else -1]:
                    worker.run(task, r, BUDGET)
            say(f"round {r + 1} of {rounds}")
    finally:
        for worker in workers:
            worker.close()
    return workers


def difference(ours: Sequence[Array], theirs: Sequence[Array]) -> float:
    """Return the largest difference of a score; infinity when a label differs."""
    if not np.array_equal(ours[0], theirs[0]):
        return float("inf")
    return float(np.abs(ours[1] - theirs[1]).max())


def ratios(worker: Worker, ours: Worker, tasks: Sequence[Task]) -> list[float]:
    """Return the time of a contestant over RedQubit's for these metrics together, in each round that has them all."""
    every = [w.times[task].keys() for w in (worker, ours) for task in tasks]
    rounds = sorted(set.intersection(*map(set, every)))
    return [sum(worker.times[t][r] for t in tasks) / sum(ours.times[t][r] for t in tasks) for r in rounds]


def table(workers: Sequence[Worker], tasks: Sequence[Task]) -> list[str]:
    """Return the lines of the table."""
    rows = [["", *(f"{task.metric}, s" for task in tasks), "times RedQubit, all three"]]
    for worker in workers:
        seconds = ([ms / 1e3 for ms in worker.times[task].values()] for task in tasks)
        over = "1" if worker is workers[0] else spread(ratios(worker, workers[0], tasks))
        rows.append([worker.name, *map(spread, seconds), over])
    return aligned(rows)


def notes(workers: Sequence[Worker], tasks: Sequence[Task], samples: int, facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    reached = [median(ratios(worker, workers[0], tasks)) for worker in workers[1:]]
    return [
        f"New labels for half of {samples} samples: digits of {CLASSES} classes, pooled to 8 features. Encoder: H, RZ,",
        f"RX on 4 qubits, amplitude damping and depolarizing {STRENGTH} after each gate. The loop takes a density",
        "matrix a sample from PennyLane, and a distance a pair from numpy; in the last row it is given the matrices.",
        "Median over rounds (lowest to highest), ratios within a round. All labels are equal, all scores within",
        f"{max(workers[0].errors.values()):.0e}.",
        "",
        f"Aim: at least {AIM} times the loop: {'met' if reached[0] >= AIM else 'missed'}, {number(reached[0])}; over "
        f"its pairs alone {number(reached[1])}.",
        "",
        f"{circumstances(facts)} Rounds: {facts['rounds']}.",
    ]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time QUID against a loop over pairs.")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"samples, 40 to 718 ({SAMPLES})")
    parser.add_argument("--rounds", type=positive, default=3, help="rounds through all contestants (3)")
    options = arguments(parser, MARKER)
    if not 40 <= options.samples <= 718:
        parser.error(f"Argument `--samples` must lie in 40 to 718, the digits there are, but is {options.samples}.")
    versions = installed(parser, LIBRARIES)
    use_cores()
    facts = {**machine(), "rounds": options.rounds, "versions": versions}

    with tempfile.TemporaryDirectory() as folder:
        tasks = prepare(options.samples, Path(folder))
        workers = run(tasks, options.rounds)
    if failed := failures(workers):
        say("\n".join(failed))
        return 1
    lines = [*table(workers, tasks), "", *notes(workers, tasks, options.samples, facts)]
    results = [
        {
            "contestant": worker.name,
            "metric": task.metric,
            "ms": list(worker.times[task].values()),
            "first_call_s": worker.first[task],
            "difference": worker.errors[task],
        }
        for worker in workers
        for task in tasks
    ]
    return publish(options, MARKER, lines, {"facts": facts, "samples": options.samples, "results": results})


if __name__ == "__main__":
    sys.exit(main())
