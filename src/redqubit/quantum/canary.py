"""A circuit of two gates whose noisy value is known: proof that the noise is on, and right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from redqubit.quantum.channels import Channel, Matrix, pauli_word
from redqubit.quantum.circuit import Circuit, Gate
from redqubit.quantum.measure import bases
from redqubit.quantum.simulation.engine import Engine, choose

ANGLE = 0.7  # radians; cos and sin differ from each other and from 0 and 1
WORDS = ("ZI", "IZ", "XX")  # every channel that is not the identity moves one of them at least


@dataclass(frozen=True)
class Canary:
    """What the canary said.

    Attributes:
        error: Largest difference of <ZI>, <IZ> and <XX> from their known values.
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
    """Run RY(0.7) on wire 0, CX, and the channels, and compare with a sum over Kraus operators.

    Args:
        channels: On one or two wires each, which are moved to wires 0 and 1; each kind is taken once.
        method: How to simulate, see `redqubit.quantum.simulation.engine`.

    Example:
        >>> canary([Channel("Depolarizing", (0,), (0.05,))]).alive
        True
    """
    kinds = dict.fromkeys(replace(c, wires=tuple(range(len(c.wires)))) for c in channels if len(c.wires) <= 2)
    noise = tuple(kinds)
    circuit = Circuit(2, (Gate("RY", (0,), (ANGLE,)), Gate("CX", (0, 1)), *noise))
    known, pure = _values(noise), _values(())
    method = choose(circuit).method if method == "auto" else method
    options: dict[str, Any] = {}
    if method == "trajectories":
        options = {"n_trajectories": 4000, "generator": torch.Generator().manual_seed(0)}
    tolerance = 1e-9
    nothing = torch.zeros(1, 0, dtype=torch.float64)
    found = torch.zeros(len(WORDS), dtype=torch.float64)
    for basis in bases(2, [{word: 1.0} for word in WORDS]):
        turned = replace(circuit, gates=circuit.gates + basis.gates)
        values, spread = Engine(turned, basis.table, method, **options).estimate(nothing, nothing[0])
        found += values[0]
        tolerance += 5 * float(spread.max())
    errors = [abs(float(a) - b) for a, b in zip(found, known, strict=True)]
    return Canary(max(errors), max(abs(a - b) for a, b in zip(known, pure, strict=True)), tolerance, method)


def _values(channels: Sequence[Channel]) -> list[float]:
    """Return the expectation values by sums over Kraus operators, with nothing of the simulators in it."""
    a, b = math.cos(ANGLE / 2), math.sin(ANGLE / 2)
    psi = torch.tensor([a, 0, 0, b], dtype=torch.complex128)
    rho = torch.outer(psi, psi)
    for channel in channels:
        operators = [_dense(k) for k in channel.operators]
        if len(channel.wires) == 1:
            operators = [torch.kron(k, torch.eye(2)) for k in operators]
        rho = torch.stack([k @ rho @ k.mH for k in operators]).sum(0)
    return [float(torch.trace(_dense(pauli_word(word)) @ rho).real) for word in WORDS]


def _dense(m: Matrix) -> torch.Tensor:
    return torch.tensor(m, dtype=torch.complex128)
