"""What is timed: circuits as data, which every library reads at trace time, and numbers to feed them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # of the library at hand
Call = Callable[[], tuple[Array, ...]]  # outputs, gradient to x, gradient to w; the latter two where asked for

_SEVERAL = "4 qubits, H, RZ(x), RX(x), Sim circuit {}, amplitude damping and depolarizing 0.05 after every gate on each"
WORKLOADS = {
    "W1": "10 qubits, H, RY(x), 6 layers of CX on even then odd pairs and RY(w), all <Z>; gradients to x and w",
    "W2": "4-qubit quanvolution with a fixed filter, RY(pi x), ZZ on all pairs, Rot, all <Z>; gradient to x",
    "W3": f"{_SEVERAL.format(1)} of its wires, all <Z>; gradients to x and w",
    "W3b": f"{_SEVERAL.format(6)} of its wires, all <Z>; gradients to x and w",
}


@dataclass(frozen=True)
class Case:
    """One thing to time. `gradient`: forward and backward, else forward alone."""

    workload: str
    batch: int
    gradient: bool
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.workload} B={self.batch} {'forward+backward' if self.gradient else 'forward'}"

    @property
    def trainable(self) -> bool:
        """Whether the weights take a gradient; W2 freezes them."""
        return self.workload != "W2"

    @property
    def noisy(self) -> bool:
        """Whether the circuit has channels."""
        return self.workload in ("W3", "W3b")

    def circuit(self) -> Any:
        """Return the circuit as RedQubit's data, which every library reads."""
        from redqubit.quantum import ansatzes, encodings
        from redqubit.quantum.noise import quid_noise, with_noise

        if self.workload == "W1":
            return ansatzes.dressed(10, 6)
        if self.workload == "W2":
            return encodings.angle(4) + ansatzes.robqunn("full", order="zz_first")
        encoding = encodings.angle(4, ("RZ", "RX"), scale=1.0, hadamard=True)
        return with_noise(encoding + ansatzes.sim(1 if self.workload == "W3" else 6, 4), quid_noise(0.05))

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return x (B, n), weights, and the vector (B, n) that the backward pass starts from, in float32."""
        circuit, rng = self.circuit(), np.random.default_rng(0)
        high = 1.0 if self.workload == "W2" else math.pi  # W2 takes pixels
        x = rng.uniform(0, high, (self.batch, circuit.n_inputs))
        w = rng.uniform(0, 2 * math.pi, circuit.n_weights)
        direction = rng.uniform(-1, 1, (self.batch, circuit.n_qubits))
        return x.astype(np.float32), w.astype(np.float32), direction.astype(np.float32)


_CPU = (("W1", 64), ("W1", 256), ("W2", 3136), ("W3", 32), ("W3b", 32))
_GPU = [(name, batch) for name in WORKLOADS for batch in (64, 1024, 16384)]
CASES = {
    "cpu": [Case(name, batch, gradient) for name, batch in _CPU for gradient in (False, True)],
    "cuda": [Case(name, batch, gradient, "cuda") for name, batch in _GPU for gradient in (False, True)],
}


def values(gate: Any, x: Array, w: Array) -> list[Any]:
    """Return the angles of a gate as the library's numbers, or the strengths of a channel."""
    from redqubit.quantum import Input, Weight
    from redqubit.quantum.channels import Channel

    if isinstance(gate, Channel):
        return list(gate.parameters)

    def one(a: Any) -> Any:
        if not isinstance(a, Input | Weight):
            return a
        value = x[..., a.index] if isinstance(a, Input) else w[a.index]
        value = value if a.scale == 1 else a.scale * value
        return value + a.offset if a.offset else value

    return [one(a) for a in gate.angles]
