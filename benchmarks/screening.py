"""Time and peak memory of looking for flipped labels in 10,000 samples, where the aim is to stay within 4 GiB.

    python benchmarks/screening.py [--samples 10000] [--json FILE] [--markdown FILE]

RedQubit's detectors among the states of a 4-qubit encoder, with noise and without, and among the features themselves,
where scikit-learn's NearestNeighbors takes the same vote. Each runs once in a process of its own, after a call on a few
samples that loads what it has. Time is that of the processor, all cores together, which bears company; memory is the
highest that is resident, everything loaded included (Linux only).

Exit code 1: a sample has another share of votes than by scikit-learn, or a process failed.
"""

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cases import Array
from command import arguments, positive, publish
from scale import resident
from tables import aligned, circumstances, machine, number, say, use_cores, version

MARKER = "screening"
FEATURES, CLASSES, K, FLIPPED, STRENGTH = 8, 4, 10, 0.1, 0.05
TOLERANCE = 1e-9  # of a share of votes
AIM = 4096.0  # MiB
SPACES = ("noisy states", "states", "features")
PEER = "scikit-learn NearestNeighbors"


@dataclass(frozen=True)
class Task:
    """What looks for flipped labels, and where."""

    detector: str
    space: str

    def __str__(self) -> str:
        return f"{self.detector}, {self.space}"

    def scores(self, x: Array, y: Array) -> Array:
        """Return the score of each label, (N,)."""
        if self.detector == PEER:
            from sklearn.neighbors import NearestNeighbors

            nearest = NearestNeighbors(n_neighbors=K).fit(x).kneighbors(return_distance=False)
            return (y[nearest] != y[:, None]).mean(1)
        import torch

        from redqubit.data import Dataset
        from redqubit.defenses import ClassVote, NeighbourVote
        from redqubit.quantum import encodings
        from redqubit.quantum.ess import ess
        from redqubit.quantum.noise import quid_noise, with_noise
        from redqubit.quantum.spaces import Features, States

        data = Dataset(torch.from_numpy(x), torch.from_numpy(y), CLASSES)
        encoder = encodings.angle(4, ("RZ", "RX"), hadamard=True)
        if self.space == "noisy states":
            encoder = with_noise(encoder, quid_noise(STRENGTH))
        if self.detector == "ess":
            return ess(encoder, data.x, data.y).scores.amin(1).numpy()
        space = Features() if self.space == "features" else States(encoder)
        detector = NeighbourVote(space, k=K) if self.detector == "NeighbourVote" else ClassVote(space)
        return detector(data).scores.numpy()


TASKS = [
    *(Task(detector, space) for detector in ("NeighbourVote", "ClassVote") for space in SPACES),
    *(Task("ess", space) for space in SPACES[:2]),
    Task(PEER, "features"),
]


def draw(samples: int) -> tuple[Array, Array]:
    """Return x (N, 8), a cluster for each class, and y (N,), some of them flipped."""
    rng = np.random.default_rng(0)
    y = np.arange(samples) % CLASSES
    x = (rng.uniform(0.2, 0.8, (CLASSES, FEATURES))[y] + 0.1 * rng.normal(size=(samples, FEATURES))).clip(0, 1)
    return x, np.where(rng.random(samples) < FLIPPED, (y + 1) % CLASSES, y)


def measure(task: Task, samples: int) -> tuple[float, float, Array]:
    """Return processor seconds, MiB and scores."""
    x, y = draw(samples)
    task.scores(x[:200], y[:200])
    start = time.process_time()
    scores = task.scores(x, y)
    return time.process_time() - start, resident("VmHWM") / 1024, scores


def notes(samples: int, most: float, facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    return [
        f"{samples} samples of {FEATURES} features and {CLASSES} classes, a tenth of the labels flipped. Encoder: H,",
        f"RZ, RX on 4 qubits; noise: amplitude damping and depolarizing {STRENGTH} after each gate; Frobenius",
        "distances. Processor time of all cores, one call each; the highest resident memory, with everything loaded.",
        f"{K} neighbours vote; NeighbourVote and scikit-learn give every sample the same share of votes.",
        "",
        f"Aim: at most {AIM / 1024:g} GiB: {'met' if most <= AIM else 'missed'}, {number(most)} MiB.",
        "",
        circumstances(facts),
    ]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time and memory of looking for flipped labels.")
    parser.add_argument("--samples", type=positive, default=10_000, help="samples, 200 or more (10000)")
    options = arguments(parser, MARKER)
    if options.samples < 200:
        parser.error(f"Argument `--samples` must be 200 or more, but is {options.samples}.")
    use_cores()
    facts = {**machine(), "versions": {p: version(p) for p in ("redqubit", "torch", "scikit-learn")}}

    spawn = multiprocessing.get_context("spawn")
    found = {}
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as fresh:
        for task in TASKS:
            seconds, mib, _ = found[task] = fresh.submit(measure, task, options.samples).result()
            say(f"{task}: {seconds:.1f} s, {mib:.0f} MiB")
    theirs, ours = (found[Task(name, "features")][2] for name in (PEER, "NeighbourVote"))
    right = bool(np.abs(theirs - ours).max() <= TOLERANCE)
    if not right:
        say(f"Other shares of votes than by {PEER}, by up to {np.abs(theirs - ours).max():.1e}.")
    rows = [["", "processor s", "MiB"], *([str(task), number(s), number(mib)] for task, (s, mib, _) in found.items())]
    lines = [*aligned(rows), "", *notes(options.samples, max(mib for _, mib, _ in found.values()), facts)]
    results = [{"task": str(task), "seconds": s, "mib": mib} for task, (s, mib, _) in found.items()]
    return publish(options, MARKER, lines, {"facts": facts, "results": results}, right=right)


if __name__ == "__main__":
    sys.exit(main())
