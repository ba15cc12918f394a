"""The plan of Monte-Carlo wave functions: what is drawn at each channel, and how it joins the gates around it.

Operators on one wire, drawn or from gates, collect until an entangler needs that wire, and become one matrix. So do
the factors of operators on several wires that are Kronecker products, as all Pauli words are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Amplitude, Circuit, Gate
from redqubit.quantum.gates import native
from redqubit.quantum.simulation import fuse
from redqubit.quantum.simulation.fuse import (
    Dense,
    Layer,
    Permutation,
    Phase,
    Slots,
    is_real,
    reads_input,
    reads_weight,
    slots,
)

MAX_OPERATORS = 64  # of channels that follow one another on one wire and are drawn as one


@dataclass(frozen=True)
class Gates:
    """One matrix on each of S wires, from gates."""

    slots: Slots
    from_inputs: bool


@dataclass(frozen=True)
class Drawn:
    """One matrix on each of S wires, that which was drawn."""

    draws: Tensor  # (S,) long: which draw decides
    operators: Tensor  # (S, R, 2, 2), each divided by sqrt(q)


@dataclass(frozen=True)
class Turns:
    """Products of one-qubit matrices, the last factor acting last; alike on all of its wires."""

    wires: tuple[int, ...]
    factors: tuple[Gates | Drawn, ...]


@dataclass(frozen=True)
class Kick:
    """A drawn operator that acts on several wires together."""

    wires: tuple[int, ...]
    draw: int
    operators: Tensor  # (R, d, d)


Step = tuple[Turns, ...] | Kick | Permutation | Phase | Dense


@dataclass(frozen=True)
class TrajectoryPlan:
    """What `expectations` runs."""

    n_qubits: int
    initial: Amplitude | None
    steps: tuple[Step, ...]
    draws: tuple[tuple[float, ...], ...]  # the probabilities q of each draw


def build(circuit: Circuit) -> TrajectoryPlan:
    """Return the plan of a circuit, its tensors in float64."""
    planner = _Planner(circuit.n_qubits)
    for item in circuit.gates:
        if isinstance(item, Channel):
            planner.channel(item)
        else:
            for gate in native(item):
                planner.gate(gate)
    planner.flush()
    return TrajectoryPlan(circuit.n_qubits, circuit.initial, tuple(planner.steps), tuple(planner.draws))


@dataclass(frozen=True)
class _Choice:
    """What a draw does to one wire."""

    draw: int
    operators: Tensor  # (R, 2, 2)
    alone: bool  # whether this wire is the only one that it acts on


class _Planner:
    """Collects one-qubit matrices by wire, and the entanglers behind them, until one of those stands in the way."""

    def __init__(self, n_qubits: int) -> None:
        self.n = n_qubits
        self.steps: list[Step] = []
        self.draws: list[tuple[float, ...]] = []
        self.chains: dict[int, list[list[Gate] | _Choice]] = {}  # gates in a row read inputs or weights, not both
        self.entanglers: list[Gate] = []

    def gate(self, gate: Gate) -> None:
        if len(gate.wires) > 1:
            self.entanglers.append(gate)
            return
        self._make_way(gate.wires)
        chain = self.chains.setdefault(gate.wires[0], [])
        last = chain[-1] if chain else None
        if isinstance(last, list) and not (reads_input([*last, gate]) and reads_weight([*last, gate])):
            last.append(gate)
        else:
            chain.append([gate])

    def channel(self, channel: Channel) -> None:
        self._make_way(channel.wires)
        q, operators = _unravelled(torch.tensor(channel.operators, dtype=torch.complex128))
        number, alone = len(self.draws), len(channel.wires) == 1
        chain = self.chains.get(channel.wires[0])
        last = chain[-1] if chain else None
        if chain and isinstance(last, _Choice) and last.alone and alone:
            before = self.draws[last.draw]
            if len(q) * len(before) <= MAX_OPERATORS:  # two channels in a row are one
                weights = torch.tensor([b * a for a in q for b in before], dtype=torch.float64).sqrt()
                both = (operators[:, None] @ last.operators).flatten(0, 1)
                self.draws[last.draw], joint = _unravelled(weights[:, None, None] * both)
                chain[-1] = _Choice(last.draw, joint, True)
                return
        self.draws.append(q)
        factors = _factors(operators, len(channel.wires))
        if factors is None:
            self.flush()
            self.steps.append(Kick(channel.wires, number, _real(operators)))
            return
        for wire, factor in zip(channel.wires, factors, strict=True):
            self.chains.setdefault(wire, []).append(_Choice(number, factor, alone))

    def _make_way(self, wires: Sequence[int]) -> None:
        if any(w in gate.wires for gate in self.entanglers for w in wires):
            self.flush()

    def flush(self) -> None:
        """Turn what was collected into steps; wires whose chains are alike share their matrix products."""
        groups: dict[tuple[object, ...], dict[int, list[list[Gate] | _Choice]]] = {}
        for wire, chain in self.chains.items():
            groups.setdefault(tuple(map(_kind, chain)), {})[wire] = chain
        turns = []
        for members in groups.values():
            factors: list[Gates | Drawn] = []
            for column in zip(*members.values(), strict=True):
                gates = [item for item in column if isinstance(item, list)]
                choices = [item for item in column if isinstance(item, _Choice)]
                if gates:
                    factors.append(Gates(slots(gates), reads_input(gates[0])))
                else:
                    draws = torch.tensor([choice.draw for choice in choices])
                    factors.append(Drawn(draws, torch.stack([_real(choice.operators) for choice in choices])))
            turns.append(Turns(tuple(members), tuple(factors)))
        if turns:
            self.steps.append(tuple(turns))
        if self.entanglers:
            ops = fuse.build(Circuit(self.n, tuple(self.entanglers))).ops
            self.steps += [op for op in ops if not isinstance(op, Layer)]
        self.chains, self.entanglers = {}, []


def _kind(item: list[Gate] | _Choice) -> tuple[object, ...]:
    if isinstance(item, _Choice):
        return "drawn", len(item.operators), _real(item.operators).is_complex()
    return "gates", reads_input(item), all(map(is_real, item))


def _unravelled(kraus: Tensor) -> tuple[tuple[float, ...], Tensor]:
    """Return the probabilities q of Kraus operators (R, d, d) and the operators divided by sqrt(q)."""
    q = kraus.abs().square().sum((1, 2)) / kraus.shape[-1]
    kraus, q = kraus[q > 0], q[q > 0]
    return tuple(q.tolist()), kraus / q.sqrt()[:, None, None]


def _factors(operators: Tensor, k: int) -> list[Tensor] | None:
    """Return operators (R, 2^k, 2^k) as k factors (R, 2, 2), or None where one is no Kronecker product."""
    if k == 1:
        return [operators]
    rest = 2 ** (k - 1)
    u, s, v = torch.linalg.svd(operators.reshape(-1, 2, rest, 2, rest).transpose(2, 3).reshape(-1, 4, rest * rest))
    if bool((s[:, 1] > 1e-9 * s[:, 0]).any()):
        return None
    others = _factors((s[:, :1] * v[:, 0]).reshape(-1, rest, rest), k - 1)
    return None if others is None else [u[:, :, 0].reshape(-1, 2, 2), *others]


def _real(operators: Tensor) -> Tensor:
    """Return operators (R, d, d) as real numbers where phases, which nothing can see, make them so."""
    largest = operators.flatten(1).gather(1, operators.flatten(1).abs().argmax(1, keepdim=True))[..., None]
    turned = operators * (largest.abs() / largest)
    return turned.real.contiguous() if float(turned.imag.abs().max()) < 1e-12 else turned
