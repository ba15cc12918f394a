"""Time the training of a noisy QNN by SPSA: 4 qubits, 700 samples, 30 epochs, against PennyLane's default.mixed.

    python benchmarks/qnn_training.py [--rounds 3] [--stack 16] [--whole batch] [--json FILE] [--markdown FILE]

H, RZ, RX with two features a qubit, a Sim circuit, <Z>, a linear head; amplitude damping and depolarizing 0.05 after
every gate; Adam, batches of 32. RedQubit trains by `train_stack`, with a random direction for each sample and step: one
model, and a stack of many, whose time is told a model. PennyLane uses spsa_grad with its defaults, through torch: a
sample at a time, which is the same training, and the batch broadcast, which is faster but draws one direction for all
samples. It takes a few steps, from which the time of all follows, for all are alike; with --whole it takes all of them,
once, so that accuracies can be compared: `batch` broadcast alone, some minutes for a circuit, `all` a sample at a time
too, more than an hour. Each runs in a process of its own, in turns.

Before any time counts, <Z> and the slopes along one direction must be those of a third simulation, gate by gate in
float64. Exit code 1: they are not, a contestant failed, or with --whole an accuracy of PennyLane is outside of what the
models of the stack reach, by more than the 95 % intervals of both.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from cases import Call
from command import arguments, installed, positive, publish
from peers import qnode
from reference import simulate
from speed import distance
from tables import aligned, circumstances, machine, number, say, spread, use_cores
from workers import Library, Worker, failures

MARKER = "qnn-training"
FEATURES, CLASSES, BATCH, RATE, P, STEP = 8, 4, 32, 0.01, 0.05, 1e-5
TEST, CHECKED = 300, 2  # samples
TOLERANCE = 1e-6  # rounding over the two runs of a slope is 1e-10
AIM = 50.0
BUDGET = 60.0  # s; no more rounds of a contestant once its measurements took so long
CIRCUITS = (1, 6)


@dataclass(frozen=True)
class Training:
    """A training of models of one circuit, and how many of its steps a peer takes."""

    pqc: int
    samples: int = 700
    epochs: int = 30
    models: int = 1
    steps: int | None = 2  # of a peer; None for all

    def __str__(self) -> str:
        return f"circuit {self.pqc}"

    @property
    def all_steps(self) -> int:
        """Number of steps of the whole training."""
        return self.epochs * -(-self.samples // BATCH)

    def tensors(self) -> tuple[Any, ...]:
        """Return x, y for training and x, y for a test: clusters about four points, in [-1, 1]."""
        import torch

        g = torch.Generator().manual_seed(0)
        middles = torch.rand(CLASSES, FEATURES, generator=g, dtype=torch.float64) - 0.5
        n = self.samples + TEST
        y = torch.arange(n) % CLASSES
        x = (middles[y] + 0.2 * torch.randn(n, FEATURES, generator=g, dtype=torch.float64)).clamp(-1, 1)
        return x[: self.samples], y[: self.samples], x[self.samples :], y[self.samples :]

    def nets(self) -> tuple[Any, Any]:
        """Return the models before training, and their generators."""
        import torch

        from redqubit.models import QNN
        from redqubit.quantum.noise import quid_noise

        generators = [torch.Generator().manual_seed(seed) for seed in range(self.models)]
        options: dict[str, Any] = {"pqc": self.pqc, "noise": quid_noise(P), "gradient": "spsa"}
        return [QNN(FEATURES, CLASSES, generator=g, **options).double() for g in generators], generators

    def direction(self) -> Any:
        """Return the direction (n_weights,) of +-1 along which slopes are compared."""
        return 1.0 - 2.0 * (np.arange(len(self.nets()[0][0].circuit.weights)) % 3 == 0)


# Each call returns <Z> of a few samples, their slopes, and the accuracy of each model on the test set.


def redqubit(training: Training) -> Call:
    """Return RedQubit's training."""
    import torch

    from redqubit.models import stack_logits, train_stack
    from redqubit.quantum.simulation import stacked

    x, y, x_test, y_test = training.tensors()
    (net, *_), _ = training.nets()
    plan = stacked.build(net.circuit.circuit)
    d = torch.from_numpy(training.direction())
    angles = plan.angles.of(net.circuit.weights.detach())[None].repeat(CHECKED, 1).requires_grad_()
    rows, directions = torch.arange(CHECKED)[:, None], d.expand(CHECKED, 1, -1).contiguous()
    z = stacked.Stacked.apply(angles, plan, stacked.encode(plan, x[:CHECKED]), rows, directions, STEP)
    columns = [torch.autograd.grad(z[..., k].sum(), angles, retain_graph=True)[0] @ d / len(d) for k in range(4)]

    def call() -> tuple[Any, ...]:
        models, generators = training.nets()
        train_stack(models, x, y, epochs=training.epochs, batch_size=BATCH, lr=RATE, generators=generators)
        right = stack_logits(models, x_test).argmax(2) == y_test
        return z.detach()[:, 0], torch.stack(columns, 1), right.double().mean(1)

    return call


def pennylane(broadcast: bool, training: Training) -> Call:
    """Return PennyLane's training of one model."""
    import torch

    x, y, x_test, y_test = training.tensors()
    (net,), _ = replace(training, models=1).nets()
    spsa: dict[str, Any] = {"h": STEP, "num_directions": 1, "sampler_rng": np.random.default_rng(0)}

    def values(rows: Any, weights: Any, **changes: Any) -> Any:
        node = qnode(net.circuit.circuit, "default.mixed", "spsa", "torch", {}, gradient_kwargs=spsa | changes)
        if broadcast:
            return torch.stack(tuple(node(rows, weights)), 1)
        return torch.stack([torch.stack(tuple(node(row, weights))) for row in rows])

    d, w = training.direction(), net.circuit.weights.detach().clone().requires_grad_()
    z = values(x[:CHECKED], w, sampler=lambda indices, n, *rest, rng: d)
    unit = torch.from_numpy(d) / len(d)
    slopes = [[torch.autograd.grad(v, w, retain_graph=True)[0] @ unit for v in row] for row in z]

    def call() -> tuple[Any, ...]:
        start = (net.circuit.weights, net.head.weight, net.head.bias)
        w, weight, bias = (p.detach().clone().requires_grad_() for p in start)
        optimizer = torch.optim.Adam([w, weight, bias], lr=RATE)
        g, taken = torch.Generator().manual_seed(0), 0
        for _ in range(training.epochs):
            for batch in torch.randperm(len(x), generator=g).split(BATCH):
                if taken == training.steps:
                    break
                optimizer.zero_grad()
                logits = torch.nn.functional.linear(values(x[batch], w), weight, bias)
                torch.nn.functional.cross_entropy(logits, y[batch]).backward()
                optimizer.step()
                taken += 1
        if training.steps is not None:  # nothing to judge yet
            return z.detach(), torch.tensor(slopes), torch.zeros(0)
        with torch.no_grad():
            found = torch.nn.functional.linear(values(x_test, w), weight, bias).argmax(1)
        return z.detach(), torch.tensor(slopes), (found == y_test).double().mean()[None]

    return call


OURS = Library("RedQubit", redqubit, ("redqubit", "torch"), ("redqubit.models", "redqubit.quantum"))
_PEER = ("pennylane", "torch"), ("redqubit.models", "pennylane")
THEIRS = Library("PennyLane default.mixed, a sample at a time", partial(pennylane, False), *_PEER)
BROADCAST = Library("PennyLane default.mixed, one direction a batch", partial(pennylane, True), *_PEER)
LIBRARIES = (OURS, THEIRS, BROADCAST)


def judge(training: Training) -> tuple[Any, Any]:
    """Return <Z> of a few samples, and their slopes along the direction, by a simulation gate by gate."""
    import torch

    (net, *_), _ = training.nets()
    x, w = training.tensors()[0][:CHECKED], net.circuit.weights.detach()
    move = STEP * torch.from_numpy(training.direction())
    z, plus, minus = (simulate(net.circuit.circuit, x, v) for v in (w, w + move, w - move))
    return z.numpy(), ((plus - minus) / (2 * STEP)).numpy()


@dataclass(frozen=True)
class Contestant:
    """A row of the table: who trains what, and what a model's share of a call is."""

    name: str
    worker: Worker
    training: Training

    @property
    def once(self) -> bool:
        """Whether this is a whole training by a peer, which is too long to repeat."""
        return self.worker.library is not OURS and self.training.steps is None

    @property
    def share(self) -> float:
        """Trainings of one model that a call stands for."""
        if self.training.steps is None:
            return float(self.training.models)
        return self.training.steps / self.training.all_steps

    def seconds(self) -> dict[int, float]:
        """Return the time of one training of one model by round."""
        times = self.worker.times.get(self.training, {})
        return {r: ms / 1e3 / self.share for r, ms in times.items()}


def contestants(workers: Sequence[Worker], training: Training, stack: int, whole: str | None) -> list[Contestant]:
    """Return a stack, one model and the peers on one circuit."""
    ours, theirs, broadcast = workers
    one, many = replace(training, steps=None), replace(training, models=stack, steps=None)
    return [
        Contestant(f"RedQubit, {stack} models at once, a model", ours, many),
        Contestant("RedQubit, one model", ours, one),
        Contestant(theirs.name, theirs, one if whole == "all" else training),
        Contestant(broadcast.name, broadcast, one if whole else training),
    ]


def run(
    trainings: Sequence[Training], stack: int, whole: str | None, rounds: int
) -> tuple[list[list[Contestant]], dict[Contestant, Any]]:
    """Return the contestants for each circuit after all rounds, and the accuracies that they reached."""
    workers = [Worker(library) for library in LIBRARIES]
    groups = [contestants(workers, t, stack, whole) for t in trainings]
    accuracies: dict[Contestant, Any] = {}
    try:
        for c in (c for group in groups for c in group):
            worker, training = c.worker, c.training
            if (results := worker.start(training)) is None:
                continue
            *found, accuracies[c] = results
            error = worker.errors[training] = max(distance(a, b) for a, b in zip(found, judge(training), strict=True))
            if not error <= TOLERANCE:
                worker.failures[training] = f"wrong numbers, off by {error:.1e}"
            if c.once:
                worker.times[training] = {0: worker.first[training] * 1e3}
            say(f"{training}, {c.name}: first call {worker.first[training]:.1f} s")
        for r in range(rounds):
            for group in groups:
                for c in group[:: 1 if r % 2 else -1]:
                    if not c.once:
                        c.worker.run(c.training, r, BUDGET)
            say(f"round {r + 1} of {rounds}")
    finally:
        for worker in workers:
            worker.close()
    return groups, accuracies


def ratios(c: Contestant, peer: Contestant) -> list[float]:
    """Return time of the peer / time of this one, for each round that both took part in."""
    mine, its = c.seconds(), peer.seconds()
    return [its[r] / mine[r] for r in sorted(mine.keys() & its.keys())]


def agree(stack: Sequence[float], theirs: Sequence[float]) -> bool:
    """Tell whether a peer's accuracy is among those of the stack, within the intervals; yes when it has none."""
    from redqubit.statistics import Proportion

    if not len(theirs):
        return True
    low, mine, high = (Proportion(round(float(a) * TEST), TEST) for a in (min(stack), theirs[0], max(stack)))
    return low.low <= mine.high and mine.low <= high.high


def notes(groups: Sequence[Sequence[Contestant]], facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    t = groups[0][-1].training
    reached = {g[0].training.pqc: [median(ratios(g[1], peer)) for peer in g[2:]] for g in groups}
    aims = "; ".join(
        f"circuit {pqc}: {'met' if sample >= AIM else 'missed'}, {number(sample)}, and {number(batch)} over the batch "
        "broadcast"
        for pqc, (sample, batch) in reached.items()
    )
    same, broadcast = (c.training.steps or "all" for c in groups[0][2:])
    return [
        f"Noisy QNN on 4 qubits, {t.samples} samples of {FEATURES} features and {CLASSES} classes, {t.epochs} epochs",
        f"of batches of {BATCH}, SPSA, amplitude damping and depolarizing {P} after every gate on each of its wires.",
        f"PennyLane takes {same} of its {t.all_steps} steps, which are alike, a sample at a time, and {broadcast} with",
        "one direction a batch. Median over rounds (lowest to highest). Ratio: time of PennyLane, a sample at a time,",
        f"over the time of this one, in the same round. Accuracy on {TEST} test samples: median (lowest to highest)",
        "over models.",
        "",
        f"Aim: one model at least {AIM:g} times as fast as PennyLane, a sample at a time. {aims}.",
        "",
        f"{circumstances(facts)} Rounds: {facts['rounds']}.",
    ]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time the training of a noisy QNN by SPSA.")
    parser.add_argument("--rounds", type=positive, default=3, help="rounds through all contestants (3)")
    parser.add_argument("--stack", type=positive, default=16, help="models that RedQubit trains at once (16)")
    parser.add_argument("--samples", type=positive, default=700, help="training samples (700)")
    parser.add_argument("--epochs", type=positive, default=30, help="epochs (30)")
    parser.add_argument("--steps", type=positive, default=2, help="steps that PennyLane is timed over (2)")
    parser.add_argument("--circuits", type=int, nargs="+", choices=(1, 6, 8), default=CIRCUITS, help="Sim circuits")
    parser.add_argument(
        "--whole", choices=("batch", "all"), help="let PennyLane take all steps, broadcast or both ways"
    )
    options = arguments(parser, MARKER)
    if options.samples < CHECKED:
        parser.error(f"Argument `--samples` must be {CHECKED} or more, but is {options.samples}.")
    versions = installed(parser, LIBRARIES)
    use_cores()
    facts = {**machine(), "rounds": options.rounds, "versions": versions}

    steps = min(options.steps, Training(1, options.samples, options.epochs).all_steps)
    trainings = [Training(pqc, options.samples, options.epochs, steps=steps) for pqc in options.circuits]
    groups, accuracies = run(trainings, options.stack, options.whole, options.rounds)
    if failed := failures(dict.fromkeys(c.worker for group in groups for c in group)):
        say("\n".join(failed))
        return 1

    rows = [["", "a training, s", "ratio", "accuracy"]]
    results = []
    for group in groups:
        for c in group:
            over = ratios(c, group[2])
            shown = "1" if c is group[2] else spread(over)
            accuracy = [float(a) for a in accuracies[c]]
            rows.append([f"{c.training}: {c.name}", spread(list(c.seconds().values())), shown, spread(accuracy)])
            results.append(
                {
                    "circuit": c.training.pqc,
                    "contestant": c.name,
                    "seconds": list(c.seconds().values()),
                    "ratio": over,
                    "first_call_s": c.worker.first[c.training],
                    "accuracy": accuracy,
                    "error": c.worker.errors[c.training],
                }
            )
    same = all(agree(accuracies[stack], accuracies[peer]) for stack, _, *peers in groups for peer in peers)
    if not same:
        say("The accuracies differ: see the column `accuracy`.")
    lines = [*aligned(rows), "", *notes(groups, facts)]
    return publish(options, MARKER, lines, {"facts": facts, "results": results}, right=same)


if __name__ == "__main__":
    sys.exit(main())
