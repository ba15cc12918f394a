"""A circuit of two gates whose noisy value is known: proof that the noise is on, and right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from redqubit.quantum.channels import Channel, Matrix, pauli_word
from redqubit.quantum.circuit import Circuit, Gate, Input
from redqubit.quantum.measure import bases
from redqubit.quantum.simulation.engine import Engine, choose

ANGLE = 0.7  # radians; cos and sin differ from each other and from 0 and 1


@dataclass(frozen=True)
class Canary:
    """What the canary said.

    Attributes:
        error: Largest difference of <Z> of each wire and <XX> from their known values.
        effect: Largest difference of the known values from those without noise.
        tolerance: The error allowed.
        method: How the circuit was simulated.
    """

    error: float
    effect: float
    tolerance: float
    method: str

    @property
    def alive(self) -> bool:
        """Whether the noise acts, and as it should."""
        return self.error <= self.tolerance < self.effect


def canary(channels: Sequence[Channel], *, method: str = "auto") -> Canary:
    """Run RY(0.7) on wire 0, CX from wire to wire, and the channels, and compare with a sum over Kraus operators.

    Args:
        channels: They are moved to the first wires; each kind is taken once.
        method: How to simulate, see `redqubit.quantum.simulation.engine`.

    Example:
        >>> canary([Channel("Depolarizing", (0,), (0.05,))]).alive
        True
    """
    noise = tuple(dict.fromkeys(replace(c, wires=tuple(range(len(c.wires)))) for c in channels))
    n = max([2, *(len(c.wires) for c in noise)])
    entanglers = (Gate("CX", (w, w + 1)) for w in range(n - 1))
    circuit = Circuit(n, (Gate("RY", (0,), (Input(0),)), *entanglers, *noise))
    words = ["I" * w + "Z" + "I" * (n - 1 - w) for w in range(n)] + ["X" * n]
    known, pure = _values(noise, words), _values((), words)
    method = choose(circuit).method if method == "auto" else method
    options: dict[str, Any] = {}
    if method == "trajectories":
        options = {"n_trajectories": 4000, "generator": torch.Generator().manual_seed(0)}
    tolerance = 1e-9
    x = torch.full((1, 1), ANGLE, dtype=torch.float64)
    found = torch.zeros(len(words), dtype=torch.float64)
    for basis in bases(n, [{word: 1.0} for word in words]):
        turned = replace(circuit, gates=circuit.gates + basis.gates)
        values, spread = Engine(turned, basis.table, method, **options).estimate(x, x.new_zeros(0))
        found += values[0]
        tolerance += 5 * float(spread.max())
    errors = [abs(float(a) - b) for a, b in zip(found, known, strict=True)]
    return Canary(max(errors), max(abs(a - b) for a, b in zip(known, pure, strict=True)), tolerance, method)


def _values(channels: Sequence[Channel], words: Sequence[str]) -> list[float]:
    """Return the expectation values by sums over Kraus operators, with nothing of the simulators in it."""
    a, b = math.cos(ANGLE / 2), math.sin(ANGLE / 2)
    dim = 2 ** len(words[0])
    psi = torch.zeros(dim, dtype=torch.complex128)
    psi[0], psi[-1] = a, b
    rho = torch.outer(psi, psi)
    for channel in channels:
        others = torch.eye(dim // 2 ** len(channel.wires))
        operators = [torch.kron(_dense(k), others) for k in channel.operators]
        rho = torch.stack([k @ rho @ k.mH for k in operators]).sum(0)
    return [float(torch.trace(_dense(pauli_word(word)) @ rho).real) for word in words]


def _dense(m: Matrix) -> torch.Tensor:
    return torch.tensor(m, dtype=torch.complex128)
