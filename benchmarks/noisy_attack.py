"""Time a noise-aware attack: PGD-40 on 256 samples of a noisy 4-qubit classifier, against the same of other tools.

    python benchmarks/noisy_attack.py [--rounds 3] [--json FILE] [--markdown FILE]

Both tools attack the same trained weights from the same start with the same steps, through the gradient of the noisy
circuit: RedQubit's PGD on its QuantumLayer, and Foolbox's LinfPGD on PennyLane's default.mixed with torch, the batch
broadcast. Each runs in a process of its own, in turns. A call is the attack and one more pass over what it found.

The examples of both are judged by a third simulation, gate by gate in float64: the robust accuracies must be equal.
Exit code 1: they are not, a library computed wrong logits, or it failed.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cases import Call
from command import arguments, installed, positive, publish
from peers import qnode
from reference import simulate
from speed import TOLERANCE, distance
from tables import aligned, circumstances, machine, say, spread, use_cores
from workers import Library, Worker, failures

MARKER = "noisy-attack"
STEPS, EPS, REL_STEP = 40, 0.03, 2.5
SAMPLES, CLASSES = 256, 4
AGREE = 0.99  # of the entries of x_adv that must be equal; a gradient near 0 may take either sign in float32
BUDGET = 20.0  # s; no more rounds of a model once its attacks took so long
MODELS = {
    "inputs first": "H, RZ(pi x), RX(pi x), two strongly entangling layers",
    "uploaded twice": "the same with one layer, twice in a row",
}


@dataclass(frozen=True)
class Attack:
    """A model to attack: the name of its circuit, and the file with data and weights."""

    model: str
    file: str

    def __str__(self) -> str:
        return self.model

    def circuit(self) -> Any:
        """Return the noisy circuit."""
        from redqubit.quantum import ansatzes, encodings
        from redqubit.quantum.noise import quid_noise, with_noise

        encoding = encodings.angle(4, ("RZ", "RX"), hadamard=True)
        if self.model == "inputs first":
            plain = encoding + ansatzes.strongly_entangling(4, 2)
        else:
            plain = (encoding + ansatzes.strongly_entangling(4, 1)) * 2
        return with_noise(plain, quid_noise(0.05))

    def tensors(self) -> tuple[Any, ...]:
        """Return x, y, the circuit's weights, and weight and bias of the linear head."""
        import torch

        with np.load(self.file) as arrays:
            return tuple(torch.from_numpy(arrays[name]) for name in ("x", "y", "weights", "weight", "bias"))


def redqubit(attack: Attack) -> Call:
    """Return RedQubit's attack."""
    import torch

    from redqubit.evasion.pgd import PGD
    from redqubit.models.layer import QuantumLayer

    x, y, weights, weight, bias = attack.tensors()
    layer = QuantumLayer(attack.circuit(), weights=weights)
    model = torch.nn.Sequential(layer, torch.nn.Linear(4, CLASSES))
    model[1].load_state_dict({"weight": weight, "bias": bias})
    pgd = PGD(EPS, steps=STEPS, rel_step=REL_STEP, random_start=False)

    def call() -> tuple[Any, ...]:
        x_adv = pgd(model, x, y, generator=torch.Generator())
        with torch.no_grad():
            return x_adv, model(x_adv)

    return call


def foolbox(attack: Attack) -> Call:
    """Return Foolbox's attack on PennyLane's simulation."""
    import torch
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD

    x, y, weights, weight, bias = attack.tensors()
    node = qnode(attack.circuit(), "default.mixed", "backprop", "torch", {})

    class Model(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            z = torch.stack(tuple(node(x, weights)), 1)
            return torch.nn.functional.linear(z, weight.to(z), bias.to(z))

    model = Model().eval()
    pgd = LinfPGD(rel_stepsize=REL_STEP / STEPS, steps=STEPS, random_start=False)

    def call() -> tuple[Any, ...]:
        _, x_adv, _ = pgd(PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=EPS)
        with torch.no_grad():
            return x_adv, model(x_adv)

    return call


LIBRARIES = [
    Library("RedQubit PGD", redqubit, ("redqubit", "torch"), ("redqubit.evasion.pgd", "redqubit.models.layer")),
    Library(
        "Foolbox LinfPGD, PennyLane default.mixed, torch",
        foolbox,
        ("foolbox", "pennylane", "torch"),
        ("redqubit.quantum", "foolbox", "pennylane"),
    ),
]


def prepare(model: str, folder: Path) -> Attack:
    """Train a model on four classes of digits, pooled to 8 features, and write data and weights to a file."""
    import torch

    from redqubit.data import load
    from redqubit.models.layer import QuantumLayer
    from redqubit.training import train

    generator = torch.Generator().manual_seed(0)
    digits = load("digits", split="train")
    kept = digits.y < CLASSES
    x = torch.nn.functional.avg_pool2d(digits.x[kept], (2, 4)).flatten(1)
    y = digits.y[kept]
    attack = Attack(model, str(folder / f"{model}.npz"))
    layer = QuantumLayer(attack.circuit(), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(layer, torch.nn.Linear(4, CLASSES))
    train(net, x[SAMPLES:], y[SAMPLES:], epochs=60, lr=0.03, generator=generator)
    arrays = {"weights": layer.weights, **dict(net[1].named_parameters())}
    arrays = {name: value.detach().numpy() for name, value in arrays.items()}
    np.savez(attack.file, x=x[:SAMPLES].numpy(), y=y[:SAMPLES].numpy(), **arrays)
    return attack


def judge(attack: Attack, x: Any) -> Any:
    """Return the logits at x by a float64 simulation gate by gate."""
    import torch

    _, _, weights, weight, bias = (v.double() for v in attack.tensors())
    with torch.no_grad():
        z = simulate(attack.circuit(), torch.from_numpy(x), weights)
        return (z @ weight.T + bias).numpy()


def run(attacks: Sequence[Attack], rounds: int) -> tuple[list[Worker], dict[tuple[str, Attack], Any]]:
    """Return the workers after all rounds, and what each attack found: accuracy and x_adv."""
    workers = [Worker(library) for library in LIBRARIES]
    found: dict[tuple[str, Attack], Any] = {}
    try:
        for worker in workers:
            for attack in attacks:
                if (results := worker.start(attack)) is None:
                    continue
                x_adv, logits = results
                judged = judge(attack, x_adv)
                worker.errors[attack] = distance(logits, judged)
                if not worker.errors[attack] <= TOLERANCE:
                    worker.failures[attack] = f"wrong logits, off by {worker.errors[attack]:.1e}"
                right = judged.argmax(1) == attack.tensors()[1].numpy()
                found[worker.name, attack] = right.mean(), x_adv
                say(f"{worker.name}, {attack}: first call {worker.first[attack]:.1f} s")
        for r in range(rounds):
            for attack in attacks:
                for worker in workers[:: 1 if r % 2 else -1]:
                    worker.run(attack, r, BUDGET)
            say(f"round {r + 1} of {rounds}")
    finally:
        for worker in workers:
            worker.close()
    return workers, found


def ratios(workers: Sequence[Worker], attack: Attack) -> list[float]:
    """Return time of Foolbox / time of RedQubit, for each round that both took part in."""
    ours, theirs = (worker.times.get(attack, {}) for worker in workers)
    return [theirs[r] / ours[r] for r in sorted(ours.keys() & theirs.keys())]


def notes(facts: dict[str, Any]) -> list[str]:
    """Return what the reader must know beside the numbers."""
    models = "; ".join(f"{name}: {what}" for name, what in MODELS.items())
    return [
        f"PGD, {STEPS} steps of {REL_STEP} eps / {STEPS}, eps {EPS}, from x itself, on {SAMPLES} digits of 4 classes",
        "that are pooled to 8 features. Noisy 4-qubit models with a linear head, amplitude damping and depolarizing",
        f"0.05 after every gate on each of its wires. {models}.",
        "Median over rounds (lowest to highest). Ratio: time of Foolbox / time of RedQubit, in the same round.",
        "Accuracies are those of a third simulation, gate by gate in float64.",
        "",
        f"{circumstances(facts)} Rounds: {facts['rounds']}.",
    ]


def main() -> int:
    """Run the benchmark and return the exit code."""
    parser = argparse.ArgumentParser(description="Time a noise-aware PGD.")
    parser.add_argument("--rounds", type=positive, default=3, help="rounds through both libraries (3)")
    options = arguments(parser, MARKER)
    versions = installed(parser, LIBRARIES)
    use_cores()
    facts = {**machine(), "rounds": options.rounds, "versions": versions}

    with tempfile.TemporaryDirectory() as folder:
        attacks = [prepare(model, Path(folder)) for model in MODELS]
        say("models trained")
        clean = {
            a: (judge(a, a.tensors()[0].double().numpy()).argmax(1) == a.tensors()[1].numpy()).mean() for a in attacks
        }
        workers, found = run(attacks, options.rounds)
    if failed := failures(workers):
        say("\n".join(failed))
        return 1

    rows = [["", "attack, s", "ratio", "accuracy", "under attack", "equal entries of x_adv"]]
    results = []
    same = True
    for attack in attacks:
        (accuracy, x_ours), (theirs, x_theirs) = (found[worker.name, attack] for worker in workers)
        agree = float((np.abs(x_ours - x_theirs) < 1e-4).mean())
        same = same and accuracy == theirs and agree >= AGREE
        for worker in workers:
            ours = worker is workers[0]
            seconds = [v / 1e3 for v in worker.times[attack].values()]
            rows.append(
                [
                    f"{attack}: {worker.name}",
                    spread(seconds),
                    spread(ratios(workers, attack)) if ours else "1",
                    f"{clean[attack]:.3f}",
                    f"{found[worker.name, attack][0]:.3f}",
                    f"{agree:.4f}",
                ]
            )
            results.append(
                {
                    "model": attack.model,
                    "library": worker.name,
                    "seconds": seconds,
                    "ratio": ratios(workers, attack) if ours else [],
                    "first_call_s": worker.first[attack],
                    "accuracy": float(clean[attack]),
                    "robust_accuracy": float(found[worker.name, attack][0]),
                    "error": worker.errors[attack],
                    "equal_entries": agree,
                }
            )
    if not same:
        say("The attacks differ: see the columns `under attack` and `equal entries of x_adv`.")
    lines = [*aligned(rows), "", *notes(facts)]
    return publish(options, MARKER, lines, {"facts": facts, "results": results}, right=same)


if __name__ == "__main__":
    sys.exit(main())
