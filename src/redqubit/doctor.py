"""What `redqubit doctor` examines: versions, device, circuits of known value, and how circuits are simulated."""

import math
import sys
from dataclasses import dataclass
from importlib.metadata import version as installed

import torch

from redqubit.models import QuantumLayer
from redqubit.quantum import Circuit, Gate, Input, ansatzes, encodings
from redqubit.quantum.canary import canary
from redqubit.quantum.noise import quid_noise, with_noise
from redqubit.quantum.simulation.engine import choose
from redqubit.quantum.simulation.native import warm_up
from redqubit.version import __version__


@dataclass(frozen=True)
class Examination:
    """What was found; `healthy` tells whether every circuit gave its known value."""

    found: dict[str, str]
    methods: dict[str, str]  # circuit -> method and why
    healthy: bool


def examine() -> Examination:
    """Examine the installation.

    Example:
        >>> examine().healthy
        True
    """
    wrong = _pure_error()
    noisy = canary(quid_noise(0.05).channels)
    seconds = warm_up(torch.float32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {
        "redqubit": __version__,
        "python": sys.version.split()[0],
        "torch": installed("torch"),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "compiled kernel": f"ready after {seconds:.1f} s; the first use on a machine compiles it, later ones load it",
        "canary circuit": "ok" if wrong < 1e-12 else f"WRONG by {wrong:.2g}",
        "noise canary": f"ok, noise moves it by {noisy.effect:.3f}" if noisy.alive else f"WRONG by {noisy.error:.2g}",
    }
    methods = {name: "{0.method}: {0.reason}".format(choose(circuit, device)) for name, circuit in EXAMPLES.items()}
    return Examination(found, methods, wrong < 1e-12 and noisy.alive)


def _pure_error() -> float:
    """Return how far <Z_1> = cos(x0) cos(x1) and its slope are from what the engine says."""
    t = torch.tensor([[0.3, 1.1]], dtype=torch.float64, requires_grad=True)
    circuit = Circuit(2, (Gate("RY", (0,), (Input(0),)), Gate("RY", (1,), (Input(1),)), Gate("CX", (0, 1))))
    value = QuantumLayer(circuit, wires=[1])(t)
    (slope,) = torch.autograd.grad(value.sum(), t)
    return abs(float(value.detach()) - math.cos(0.3) * math.cos(1.1)) + abs(
        float(slope[0, 0]) + math.sin(0.3) * math.cos(1.1)
    )


_UPLOAD = (encodings.angle(6) + ansatzes.basic_entangling(6)) * 2
EXAMPLES = {
    "4 qubits": encodings.angle(4) + ansatzes.strongly_entangling(4),
    "10 qubits": ansatzes.dressed(10, 6),
    "20 qubits": ansatzes.dressed(20, 6),
    "4 qubits, noise": with_noise(encodings.angle(4) + ansatzes.sim(6), quid_noise(0.05)),
    "6 qubits, data uploaded twice, noise": with_noise(_UPLOAD, quid_noise(0.05)),
    "10 qubits, noise": with_noise(ansatzes.dressed(10, 2), quid_noise(0.05)),
}
