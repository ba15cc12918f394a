"""Noisy circuits -> few real matrices on two wires each.

Small noisy circuits are bound by the number of tensor operations. One-wire gates and channels collect in a chain on
their wire until a gate couples it, and then multiply into that gate's matrix; channels after a gate multiply into it
from the left, when the plan is built. All matrices that read weights, and all that read inputs, come from one batched
product each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.quantum.circuit import Input, Weight
from redqubit.quantum.simulation.pauli import Factor, Maps, Wave, Waves, identity, maps, waves


@dataclass
class _Node:
    """A map on two wires (or a constant on any number), after the chains `before` of its wires."""

    core: Factor
    before: dict[int, list[Factor]]
    kind: type[Input] | type[Weight] | None  # what it reads, through its chains or itself
    plain: bool = False  # whether the core is the identity


class _Fuser:
    """The state of the fusion pass: pending one-wire chains, and the nodes so far."""

    def __init__(self, n_qubits: int) -> None:
        self.n = n_qubits
        self.pending: dict[int, list[Factor]] = {}
        self.latest: dict[int, _Node] = {}  # by wire: the last node, where nothing came after it
        self.nodes: list[_Node] = []

    def add(self, f: Factor) -> None:
        if len(f.wires) == 1:
            self._add_single(f)
            return
        for w in f.wires:
            if w in self.pending and self.pending[w][-1].angle is None:  # then it is the only one
                f = f.after(self.pending.pop(w)[0].on(f.wires))
        node = self.latest.get(f.wires[0])
        joined = node is not None and all(self.latest.get(w) is node for w in f.wires)
        if node is not None and joined and len(f.wires) == len(node.core.wires):
            kinds = {node.kind, f.kind} - {None}
            if (f.angle is None or node.core.angle is None) and len(kinds) <= 1:
                node.core = f.on(node.core.wires).after(node.core)
                node.kind = node.kind or f.kind
                return
        kind = f.kind
        if kind is None and len(f.wires) == 2:  # a constant joins what stands before it
            ends = {self.pending[w][-1].kind for w in f.wires if w in self.pending} - {None}
            kind = Weight if Weight in ends else Input if ends else None
        for w in f.wires:
            self._settle(w, kind if len(f.wires) == 2 else None, f.wires)
        node = _Node(f, {w: self.pending.pop(w) for w in f.wires if w in self.pending}, kind)
        self.nodes.append(node)
        self.latest |= dict.fromkeys(f.wires, node)

    def _add_single(self, f: Factor) -> None:
        (w,) = f.wires
        chain = self.pending.get(w)
        if chain and (f.angle is None or chain[-1].angle is None):
            chain[-1] = f.after(chain[-1])
        elif chain:
            chain.append(f)
        elif f.angle is None and w in self.latest:
            node = self.latest[w]
            node.core = f.on(node.core.wires).after(node.core)
        else:
            self.pending[w] = [f]
            self.latest.pop(w, None)

    def _settle(self, wire: int, kind: type[Input] | type[Weight] | None, near: Sequence[int]) -> None:
        """Turn the pending chain of a wire into nodes, but for a last run that reads `kind`."""
        while wire in self.pending:
            run = _first_run(self.pending[wire])
            reads = _kind(run)
            if len(run) == len(self.pending[wire]) and kind is not None and reads in (kind, None):
                return
            self._pair(wire, reads, near)

    def _pair(self, wire: int, kind: type[Input] | type[Weight] | None, near: Sequence[int]) -> None:
        """Turn the first run of a wire, and one of another wire that reads the same, into one node."""
        others = [*near, *range(wire + 1, self.n), *range(wire)]
        fits = [w for w in others if w != wire and w in self.pending and _kind(_first_run(self.pending[w])) == kind]
        other = fits[0] if fits else next(w for w in others if w != wire)
        before = {}
        for w in (wire, *fits[:1]):
            run = _first_run(self.pending[w])
            before[w] = run
            self.pending[w] = self.pending[w][len(run) :]
            if not self.pending[w]:
                del self.pending[w]
        pair = (min(wire, other), max(wire, other))
        self.nodes.append(_Node(identity(*pair), before, kind, plain=True))

    def finish(self) -> list[_Node]:
        while self.pending:
            self._settle(min(self.pending), None, ())
        return self.nodes


def _first_run(chain: Sequence[Factor]) -> list[Factor]:
    """Return the leading factors that read one source."""
    kind, run = None, []
    for f in chain:
        if f.kind is not None and kind is not None and f.kind is not kind:
            break
        kind = kind or f.kind
        run.append(f)
    return run


def _kind(chain: Iterable[Factor]) -> type[Input] | type[Weight] | None:
    return next((f.kind for f in chain if f.kind is not None), None)


@dataclass(frozen=True)
class Table:
    """The two-wire maps that read one source: core @ (a x b), with a and b chains of one-wire maps.

    Three stacks, empty ones left out: those whose core is the identity, those with chains and a core, those without
    chains.
    """

    waves: Waves  # of the chains, then of the cores
    chains: Maps | None  # the first wires', then the second wires'
    cores: Maps | None
    n_plain: int
    n_chained: int  # with chains and a core

    def stacks(self, source: Tensor) -> list[Tensor]:
        """Return each (S, 16, 16), or (S, B, 16, 16) where it differs from sample to sample."""
        out: list[Tensor] = []
        counts = [0 if part is None else part.n_waves for part in (self.chains, self.cores)]
        values = self.waves.of(source).split(counts)
        cores = None if self.cores is None else self.cores.matrices(values[1])
        if self.chains is not None:
            pairs = _kron(*self.chains.matrices(values[0]).unflatten(0, (2, -1)).unbind(0))
            plain, chained = pairs.split([self.n_plain, self.n_chained])
            if self.n_plain:
                out.append(_shared(plain))
            if cores is not None and self.n_chained:
                joined, cores = cores.split([self.n_chained, len(cores) - self.n_chained])
                out.append(_shared(joined @ chained))
        if cores is not None and len(cores):
            out.append(_shared(cores))
        return out


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """Return (..., 16, 16) for (..., 4, 4), by a product whose gradients are products too."""
    shape = a.shape[:-2]
    product = a.reshape(-1, 16, 1) @ b.reshape(-1, 1, 16)
    return product.view(-1, 4, 4, 4, 4).transpose(2, 3).reshape(*shape, 16, 16)


def _shared(stack: Tensor) -> Tensor:
    """Return (S, B, D, D), or (S, D, D) where one matrix serves all samples."""
    return stack.squeeze(1) if stack.shape[1] == 1 else stack


@dataclass(frozen=True)
class Op:
    """One map on some wires, and where its matrix is: (number of the stack, number in it)."""

    wires: tuple[int, ...]
    place: tuple[int, int]
    from_inputs: bool


@dataclass(frozen=True)
class Program:
    """Operations in the order of time on n wires, n at least 2."""

    n_qubits: int
    ops: tuple[Op, ...]
    weights: Table | None
    inputs: Table | None
    constants: tuple[Tensor, ...]  # (S, 4^k, 4^k) each

    @property
    def steps(self) -> list[tuple[tuple[int, ...], tuple[int, int]]]:
        """Wires and place of each operation."""
        return [(op.wires, op.place) for op in self.ops]

    def stacks(self, x: Tensor | None, weights: Tensor) -> list[Tensor]:
        """Return the matrices, (S, 4^k, 4^k), or (S, B, 4^k, 4^k) where they differ from sample to sample."""
        from_w = [] if self.weights is None else self.weights.stacks(weights[None])
        from_x = [] if self.inputs is None or x is None else self.inputs.stacks(x)
        return [*from_w, *from_x, *self.constants]


def program(found: Iterable[Factor], n_qubits: int, n_inputs: int, n_weights: int) -> Program:
    """Return the fused operations of factors on n_qubits wires, 2 or more."""
    fuser = _Fuser(n_qubits)
    for f in found:
        fuser.add(f)
    nodes = fuser.finish()
    groups: dict[tuple[int, ...], list[int]] = {}  # stacks in order: the key sorts as `stacks` returns them
    for i, node in enumerate(nodes):
        if node.core.angle is None and not node.before:
            key: tuple[int, ...] = (2, len(node.core.wires))
        else:
            key = (int(node.kind is Input), 0 if node.plain else 1 if node.before else 2)
        groups.setdefault(key, []).append(i)
    places = {i: (stack, slot) for stack, key in enumerate(sorted(groups)) for slot, i in enumerate(groups[key])}
    tables = [
        _table([[nodes[i] for i in groups.get((source, stack), [])] for stack in range(3)], n_source)
        for source, n_source in ((0, n_weights), (1, n_inputs))
    ]
    constants = [torch.stack([nodes[i].core.terms[0].real for i in groups[k]]) for k in sorted(groups) if k[0] == 2]
    ops = [Op(node.core.wires, places[i], node.kind is Input) for i, node in enumerate(nodes)]
    return Program(n_qubits, tuple(ops), tables[0], tables[1], tuple(constants))


def _table(stacks: Sequence[Sequence[_Node]], n_source: int) -> Table | None:
    plain, chained, bare = stacks
    if not any(stacks):
        return None
    chains = cores = None
    entries: list[Wave] = []
    if plain or chained:
        sides = [n.before.get(n.core.wires[i]) or [identity(0)] for i in (0, 1) for n in (*plain, *chained)]
        chains, entries = maps(sides)
    if chained or bare:
        cores, more = maps([[n.core] for n in (*chained, *bare)])
        entries = entries + more
    return Table(waves([e[:2] for e in entries], n_source), chains, cores, len(plain), len(chained))
