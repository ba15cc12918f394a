"""Time training steps of a ResNet-18 with a quantum head, against its classical twin and PennyLane's TorchLayer.

    python benchmarks/heads.py [--rounds 7] [--json FILE] [--markdown FILE]

A step is forward, backward and Adam: of the whole network on 64 pictures of 64x64, and of the head alone on 64 rows of
cached features. The quantum head is the dressed circuit on 10 qubits with 6 layers, in RedQubit's QuantumLayer and in
PennyLane's TorchLayer (default.qubit, backprop, the batch broadcast); the twin has a linear layer in its place.

Each contestant runs in a process of its own, in turns, from the same initial weights and the same numbers. Before any
time counts, logits and all gradients of the first step with RedQubit's layer must be those with PennyLane's.
Exit code 1: they are not, or a contestant failed.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from cases import Array, Call
from command import arguments, installed, positive, publish
from peers import qnode
from tables import aligned, circumstances, machine, number, say, spread, use_cores
from workers import Library, Worker, failures

MARKER = "heads"
TOLERANCE = 1e-4  # of max |difference| / max |reference|; float32 reaches 3e-6 through the whole network
BUDGET = 30.0  # s; no more rounds of a step once its measurements took so long
FEATURES, CLASSES = 512, 10


@dataclass(frozen=True)
class Step:
    """A training step: of the whole network, or of the head on cached features."""

    part: str
    batch: int = 64
    side: int = 64  # pixels

    def __str__(self) -> str:
        return f"{self.part} step"

    def tensors(self) -> tuple[Array, Array]:
        """Return inputs and labels."""
        import torch

        generator = torch.Generator().manual_seed(0)
        y = torch.randint(CLASSES, (self.batch,), generator=generator)
        if self.part == "head":
            return torch.randn(self.batch, FEATURES, generator=generator), y
        return torch.rand(self.batch, 3, self.side, self.side, generator=generator), y


STEPS = {Step("whole"): 1.1, Step("head"): 10.0}  # and how many times the twin's time RedQubit may take


def network(head: str) -> Any:
    """Return a ResNet-18 under a head, from the same random numbers in every process."""
    import torch

    from redqubit.models.narrow import on_backbone

    return on_backbone("resnet18", head, CLASSES, generator=torch.Generator().manual_seed(0))


def with_torch_layer() -> Any:
    """Return the quantum network with PennyLane's layer in place of RedQubit's."""
    import pennylane as qml

    model = network("hybrid")
    circuit, weights = model.circuit.circuit, model.circuit.weights.detach()
    node = qnode(circuit, "default.qubit", "backprop", "torch", {})
    model.circuit = qml.qnn.TorchLayer(node, {"weights": len(weights)}, {"weights": weights})
    return model


def training(make: Callable[[], Any], step: Step) -> Call:
    """Return the call that makes a step and returns logits and gradients."""
    import torch

    x, y = step.tensors()
    model = make().train()
    run = model.forward_head if step.part == "head" else model
    skipped = "features." if step.part == "head" else "nothing"
    parameters = [p for name, p in model.named_parameters() if not name.startswith(skipped)]
    optimizer = torch.optim.Adam(parameters, fused=True)

    def call() -> tuple[Array, ...]:
        optimizer.zero_grad(set_to_none=True)
        out = run(x)
        torch.nn.functional.cross_entropy(out, y).backward()
        optimizer.step()
        return out.detach(), *(p.grad for p in parameters)

    return call


_REDQUBIT = ("redqubit", "torch"), ("redqubit.models.narrow",)
TWIN = Library("classical twin", partial(training, partial(network, "twin")), *_REDQUBIT)
OURS = Library("RedQubit QuantumLayer", partial(training, partial(network, "hybrid")), *_REDQUBIT)
THEIRS = Library(
    "PennyLane TorchLayer",
    partial(training, with_torch_layer),
    ("pennylane", "torch"),
    ("redqubit.models.narrow", "pennylane"),
)


def difference(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    """Return the greatest max |a - b| / max |b| over pairs of arrays; infinite when their shapes differ."""
    if [a.shape for a in found] != [b.shape for b in wanted]:
        return float("inf")
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, wanted, strict=True)]))


def run(rounds: int) -> list[Worker]:
    """Return the workers of twin, RedQubit and PennyLane after all rounds; those that failed say why."""
    workers = [Worker(library) for library in (TWIN, OURS, THEIRS)]
    _, ours, theirs = workers
    try:
        for step in STEPS:
            _, found, wanted = (worker.start(step) for worker in workers)
            if found is not None and wanted is not None:
                ours.errors[step] = difference(found, wanted)
                if not ours.errors[step] <= TOLERANCE:
                    ours.failures[step] = f"not the numbers of {theirs.name}, off by {ours.errors[step]:.1e}"
                say(f"{step.part}: logits and gradients differ by {ours.errors[step]:.1e}")
        for r in range(rounds if not any(worker.failures for worker in workers) else 0):
            for i, step in enumerate(STEPS):
                turn = (r + i) % len(workers)
                for worker in [*workers[turn:], *workers[:turn]]:
                    worker.run(step, r, BUDGET)
            say(f"round {r + 1} of {rounds}")
    finally:
        for worker in workers:
            worker.close()
    return workers


def ratios(worker: Worker, twin: Worker, step: Step) -> list[float]:
    """Return time of this one / time of the twin, for each round that both took part in."""
    mine, its = worker.times[step], twin.times[step]
    return [mine[r] / its[r] for r in sorted(mine.keys() & its.keys())]


def table(workers: Sequence[Worker]) -> list[str]:
    """Return the lines of the table, a row for each contestant."""
    rows = [["", *(f"{step.part} step, {unit}" for step in STEPS for unit in ("ms", "over the twin's"))]]
    for worker in workers:
        row = [worker.name]
        for step in STEPS:
            over = "1" if worker is workers[0] else spread(ratios(worker, workers[0], step))
            row += [spread(list(worker.times[step].values())), over]
        rows.append(row)
    return aligned(rows)


def notes(workers: Sequence[Worker], facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    twin, ours, _ = workers
    reached = {step: median(ratios(ours, twin, step)) for step in STEPS}
    aims = "; ".join(
        f"{step.part} step at most {aim:g} times the twin's: {'met' if reached[step] <= aim else 'missed'}, "
        f"{number(reached[step])}"
        for step, aim in STEPS.items()
    )
    return [
        "Forward, backward and Adam, batch 64, of ResNet-18 on 64x64 pixels (whole) and of its head on 512 cached",
        "features (head): Linear(512, 10), tanh, dressed circuit on 10 qubits with 6 layers, Linear(10, 10); in the",
        "twin the circuit is Linear(10, 10). Median over rounds (lowest to highest), ratios within a round. Greatest",
        f"difference of RedQubit's logits and gradients from PennyLane's: {max(ours.errors.values()):.0e} of the",
        "largest entry.",
        "",
        f"Aims: {aims}.",
        "",
        f"{circumstances(facts)} Rounds: {facts['rounds']}.",
    ]


def record(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    """Return one entry per contestant and step, with the time of every round."""
    return [
        {
            "contestant": worker.name,
            "step": step.part,
            "ms": list(worker.times[step].values()),
            "over_twin": ratios(worker, workers[0], step),
            "first_call_s": worker.first[step],
            "difference": worker.errors.get(step),
        }
        for worker in workers
        for step in STEPS
    ]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time training steps with a quantum head.")
    parser.add_argument("--rounds", type=positive, default=7, help="rounds through all contestants (7)")
    options = arguments(parser, MARKER)
    versions = installed(parser, (TWIN, OURS, THEIRS))
    use_cores()
    facts = {**machine(), "rounds": options.rounds, "versions": versions}

    workers = run(options.rounds)
    if failed := failures(workers):
        say("\n".join(failed))
        return 1
    lines = [*table(workers), "", *notes(workers, facts)]
    return publish(options, MARKER, lines, {"facts": facts, "results": record(workers)})


if __name__ == "__main__":
    sys.exit(main())
