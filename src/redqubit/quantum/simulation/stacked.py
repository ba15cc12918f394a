"""One circuit with many sets of weights at once, on samples that were encoded before.

When inputs come first, a sample is the Pauli coefficients r(x) that its encoder makes, noise included, for good. What
follows is turns exp(-i t P / 2) about Pauli words P, and constants (fixed gates, channels). For one set of weights all
samples share the observables carried back to the encoder,

    <Z_q>(x) = T_q(w) . r(x),    dL/dw = sum_q O_q . (dR/dw) A_q,    A_q = sum_x dL/d<Z_q>(x) r(x),

so that a step costs three passes over n vectors of 4^n numbers, whatever the batch. With SPSA every sample has weights
of its own: two passes over one vector each. A turn about a word mixes a word Q that does not commute with P with i P Q
and leaves others alone: 4^n multiplications; a controlled rotation is two turns. Wires that nothing couples are apart.

The turns come from U^dagger Q U = cos t Q + sin t i P Q. Reference: Nielsen and Chuang, "Quantum Computation and
Quantum Information" (2010), section 4.2; for the coefficients see `redqubit.quantum.simulation.pauli`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Gate, Input
from redqubit.quantum.gradients import SPSA, unroll
from redqubit.quantum.measure import signs, with_readout
from redqubit.quantum.simulation import density
from redqubit.quantum.simulation.fuse import Angles, cast, reads_input, reads_weight
from redqubit.quantum.simulation.pauli import Factor, factors, single_angle
from redqubit.quantum.simulation.state_vector import check

Array = np.ndarray[Any, Any]

MAX_COUPLED = 5  # wires: 4^5 numbers for each sample
LANES = 4  # vectors side by side in the kernel
_ENCODED = 1 << 22  # coefficients of all wires held at a time while samples are encoded

# a gate as turns about words on its wires, each by a factor times its angle
_TURNS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "RX": (("X", 1.0),),
    "RY": (("Y", 1.0),),
    "RZ": (("Z", 1.0),),
    "P": (("Z", 1.0),),
    "IsingXX": (("XX", 1.0),),
    "IsingYY": (("YY", 1.0),),
    "IsingZZ": (("ZZ", 1.0),),
    # |1><1| = (1 - Z) / 2
    "CRX": (("IX", 0.5), ("ZX", -0.5)),
    "CRY": (("IY", 0.5), ("ZY", -0.5)),
    "CRZ": (("IZ", 0.5), ("ZZ", -0.5)),
    "CP": (("ZI", 0.5), ("IZ", 0.5), ("ZZ", -0.5)),
}


@dataclass(frozen=True)
class Group:
    """Coupled wires, and what happens on them as the arrays of `stacked_kernel`."""

    wires: tuple[int, ...]
    encoder: Circuit  # on these wires and those that the encoder couples them to
    program: tuple[Array, ...]
    back: tuple[Array, ...]  # with its constants transposed
    observables: Array  # (K, 4^m): what is read of each wire, as coefficients
    words: Array  # (K,): the word Z of each wire, and
    gains: Tensor  # (K,): what it counts after read-out errors
    places: Tensor  # (4^m,) long: the words of these wires among those of the encoder's


@dataclass(frozen=True)
class StackedPlan:
    """What `encode`, `observables` and `Stacked` run."""

    encoder: Circuit
    angles: Angles  # from weights to the angles of gates
    n_moved: int  # angles and features that SPSA draws a direction for; the last are those of `angles`
    groups: tuple[Group, ...]
    order: Tensor  # (n,) long: from the wires of the groups in a row to those of the circuit


def build(circuit: Circuit) -> StackedPlan:
    """Return the plan of a circuit that reads <Z> of all wires.

    Raises:
        UsageError: when a gate reads inputs after one that reads weights, or too many wires are coupled.

    Example:
        >>> from redqubit.quantum import ansatzes, encodings
        >>> [len(build(encodings.angle(4) + ansatzes.sim(number)).groups) for number in (1, 6)]
        [4, 1]
    """
    gates = circuit.gates
    first = next((i for i, g in enumerate(gates) if isinstance(g, Gate) and reads_weight([g])), len(gates))
    if reads_input(g for g in gates[first:] if isinstance(g, Gate)):
        raise UsageError("Argument `circuit` must read all inputs before any weight, but does not: train it alone.")
    encoder = replace(circuit, gates=gates[:first], readout=())
    rest, angle_map = unroll(Circuit(circuit.n_qubits, gates[first:]))
    items = [part for item in rest.gates for part in single_angle(item)]
    groups = tuple(_group(wires, items, circuit, encoder) for wires in _coupled(items, circuit.n_qubits))
    order = torch.tensor([w for g in groups for w in g.wires]).argsort()
    n_moved = len(unroll(circuit)[1].inputs.offset) + (circuit.initial.n_features if circuit.initial else 0)
    n_moved += len(angle_map.weights.offset)
    return StackedPlan(encoder, cast(angle_map.weights, torch.float64, order.device), n_moved, groups, order)


def _coupled(items: Iterable[Gate | Channel], n: int) -> list[tuple[int, ...]]:
    """Return the wires in groups that gates and channels couple."""
    groups = [{w} for w in range(n)]
    for item in items:
        touched = [g for g in groups if g & set(item.wires)]
        groups = [g for g in groups if g not in touched] + [set().union(*touched)]
    return sorted(tuple(sorted(g)) for g in groups)


def _group(wires: tuple[int, ...], items: Sequence[Gate | Channel], circuit: Circuit, encoder: Circuit) -> Group:
    m = len(wires)
    if m > MAX_COUPLED:
        raise UsageError(
            f"Argument `circuit` must couple {MAX_COUPLED} wires or fewer for a stack, but couples {m}: train its "
            "models one by one."
        )
    mine = [replace(g, wires=tuple(map(wires.index, g.wires))) for g in items if g.wires[0] in wires]
    program, back = _Programmer(m).of(mine)
    words = np.array([3 * 4 ** (m - 1 - q) for q in range(m)])
    observables, gains = np.zeros((m, 4**m)), torch.ones(m, dtype=torch.float64)
    for q, w in enumerate(wires):
        zero, one = with_readout(signs(1), circuit.readout[w : w + 1])[:, 0].tolist()
        gains[q] = observables[q, words[q]] = (zero - one) / 2
        observables[q, 0] = (zero + one) / 2
    cone = _cone(wires, encoder)
    here = tuple(replace(g, wires=tuple(map(cone.index, g.wires))) for g in encoder.gates if g.wires[0] in cone)
    places = torch.from_numpy(_offsets([cone.index(w) for w in wires], len(cone)))
    own = replace(encoder, n_qubits=len(cone), gates=here)
    return Group(wires, own, program, back, observables, words, gains, places)


def _cone(wires: Sequence[int], encoder: Circuit) -> tuple[int, ...]:
    """Return these wires and those that the encoder couples them to: all where it prepares a state of all."""
    if encoder.initial is not None:
        return tuple(range(encoder.n_qubits))
    coupled = _coupled(encoder.gates, encoder.n_qubits)
    return tuple(sorted(w for group in coupled if set(group) & set(wires) for w in group))


class _Programmer:
    """Gates and channels on m wires, as turns and constants; one-wire constants wait until a turn touches them."""

    def __init__(self, m: int) -> None:
        self.m = m
        self.ops: list[tuple[int, int]] = []
        self.turns: list[tuple[int, float]] = []
        self.words: dict[tuple[int, ...], int] = {}
        self.constants: list[tuple[Array, Array, Array]] = []  # rows, columns and values of what is not 0
        self.pending: dict[int, Factor] = {}

    def of(self, items: Iterable[Gate | Channel]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        for item in items:
            self._add(item)
        self._flush()
        pairs = np.stack([_pairs(w) for w in self.words]) if self.words else np.zeros((0, 4 ** (self.m - 1), 2), int)
        turns = np.array([t[0] for t in self.turns], dtype=int), np.array([t[1] for t in self.turns], dtype=float)
        shared = (np.array(self.ops, dtype=int).reshape(-1, 2), *turns, pairs)
        there = _compressed(self.constants, 4**self.m)
        return (*shared, *there), (*shared, *_compressed([(c, r, v) for r, c, v in self.constants], 4**self.m))

    def _add(self, item: Gate | Channel) -> None:
        angle = item.angles[0] if isinstance(item, Gate) and item.angles else None
        if isinstance(angle, Input):
            if set(item.wires) & set(self.pending):
                self._flush()
            for letters, factor in _TURNS[item.name]:
                word = [0] * self.m
                for w, letter in zip(item.wires, letters, strict=True):
                    word[w] = "IXYZ".index(letter)
                self.ops.append((self.words.setdefault(tuple(word), len(self.words)), len(self.turns)))
                self.turns.append((angle.index, factor))
            return
        (f,) = factors([item])
        if len(f.wires) > 1:
            self._flush()
            self._constant(f.wires, f.terms[0].real)
            return
        w = f.wires[0]
        self.pending[w] = f.after(self.pending[w]) if w in self.pending else f

    def _flush(self) -> None:
        """Write the pending constants as one, which has fewer entries than they have each on all words."""
        if not self.pending:
            return
        matrix = torch.ones(1, 1, dtype=torch.float64)
        for f in self.pending.values():
            matrix = torch.kron(matrix, f.terms[0].real.contiguous())
        self._constant(tuple(self.pending), matrix)
        self.pending = {}

    def _constant(self, wires: tuple[int, ...], matrix: Tensor) -> None:
        own, rest = _offsets(wires, self.m), _offsets([w for w in range(self.m) if w not in wires], self.m)
        rows, columns = np.nonzero(matrix.numpy())
        values = np.repeat(matrix.numpy()[rows, columns], len(rest))
        self.ops.append((-1 - len(self.constants), 0))
        self.constants.append((np.add.outer(own[rows], rest).ravel(), np.add.outer(own[columns], rest).ravel(), values))


def _offsets(wires: Sequence[int], m: int) -> Array:
    """Return where the words of some of m wires stand, with I on the others."""
    out = np.zeros(1, dtype=int)
    for w in wires:
        out = np.add.outer(out, 4 ** (m - 1 - w) * np.arange(4)).ravel()
    return out


def _pairs(word: Sequence[int]) -> Array:
    """Return the pairs (4^(m-1), 2) of words that a turn about `word` takes to cos a + sin b and cos b - sin a."""
    m = len(word)
    all_words = np.arange(4**m)
    product, power = np.zeros(4**m, dtype=int), np.zeros(4**m, dtype=int)  # word Q = i^power product
    for w, p in enumerate(word):
        place = 4 ** (m - 1 - w)
        q = all_words // place % 4
        product += place * (p ^ q)  # I, X, Y, Z are 0 to 3
        power += np.where((p == 0) | (q == 0) | (p == q), 0, np.where((q - p) % 3 == 1, 1, 3))
    a = all_words[power % 4 == 3]  # where i word Q is the product itself
    return np.stack([a, product[a]], 1)


def _compressed(constants: Sequence[tuple[Array, Array, Array]], dim: int) -> tuple[Array, Array, Array]:
    """Return where the rows of each matrix begin (C, dim + 1), and columns and values of all."""
    begins, before = np.zeros((len(constants), dim + 1), dtype=int), 0
    columns, values = [np.zeros(0, dtype=int)], [np.zeros(0)]
    for i, (row, column, value) in enumerate(constants):
        order = np.lexsort((column, row))
        begins[i] = before + np.concatenate([[0], np.cumsum(np.bincount(row, minlength=dim))])
        columns.append(column[order])
        values.append(value[order])
        before += len(row)
    return begins, np.concatenate(columns), np.concatenate(values)


def encode(plan: StackedPlan, x: Tensor) -> tuple[Tensor, ...]:
    """Return what the encoder makes of samples (R, n_inputs): Pauli coefficients (R, 4^m) for each group of wires.

    Raises:
        UsageError: for samples that do not fit, or encoders that couple more than 8 qubits.
    """
    none = torch.zeros(0, dtype=torch.float64)
    x = x.detach().cpu().double()
    check(plan.encoder, x, none)
    return tuple(_encoded(g, x[:, : g.encoder.n_inputs]) for g in plan.groups)


def _encoded(g: Group, x: Tensor) -> Tensor:
    none = torch.zeros(0, dtype=torch.float64)
    ready = density.build(g.encoder)
    at_once = max(1, _ENCODED >> 2 * g.encoder.n_qubits)
    return torch.cat([density.coefficients(ready, part, none).index_select(1, g.places) for part in x.split(at_once)])


def observables(plan: StackedPlan, angles: Tensor) -> tuple[Tensor, ...]:
    """Return <Z_q> of each group's wires as coefficients T (M, K, 4^m), for angles (M, J)."""
    from redqubit.quantum.simulation.stacked_kernel import carry_back

    out = []
    for g in plan.groups:
        table = np.empty((len(angles), *g.observables.shape))
        carry_back(g.back, angles.detach().numpy(), g.observables, *_space(g), table)
        out.append(torch.from_numpy(table))
    return tuple(out)


def _space(g: Group) -> tuple[Array, Array]:
    """Return space for two states, and for cos and sin of all turns."""
    return np.empty((2, g.observables.shape[1], LANES)), np.empty((2, len(g.program[1]), LANES))


class Stacked(torch.autograd.Function):
    """<Z> (M, B, n) of M sets of angles (M, J), set m on the samples `rows[m]` of the encoded ones.

    With `directions` (M, D B, J) of +-1 the gradient is that of `redqubit.quantum.gradients.spsa`, averaged over D.
    """

    @staticmethod
    def forward(
        ctx: Any,
        angles: Tensor,
        plan: StackedPlan,
        encoded: tuple[Tensor, ...],
        rows: Tensor,
        directions: Tensor | None,
        step: float,
    ) -> Tensor:
        tables = observables(plan, angles)
        z = [torch.bmm(r[rows], t.mT) for r, t in zip(encoded, tables, strict=True)]
        ctx.save_for_backward(angles)
        ctx.rest = plan, encoded, rows, directions, step
        return torch.cat(z, 2).index_select(2, plan.order)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        plan, encoded, rows, directions, step = ctx.rest
        (angles,) = ctx.saved_tensors
        parts = grads[0].index_select(2, plan.order.argsort()).split([len(g.wires) for g in plan.groups], 2)
        if directions is None:
            found = _slopes(plan, angles, encoded, rows, parts)
        else:
            found = _perturbed(plan, angles, encoded, rows, parts, directions, step)
        return found, None, None, None, None, None


def _slopes(
    plan: StackedPlan, angles: Tensor, encoded: tuple[Tensor, ...], rows: Tensor, grads: Sequence[Tensor]
) -> Tensor:
    from redqubit.quantum.simulation.stacked_kernel import slopes

    out = np.zeros(angles.shape)
    for g, r, grad in zip(plan.groups, encoded, grads, strict=True):
        states = torch.bmm(grad.mT, r[rows])  # (M, K, 4^m)
        turns, dim = len(g.program[1]), g.observables.shape[1]
        space = (*_space(g), np.empty((turns, dim, LANES)), np.empty(turns))
        slopes(g.program, g.back, angles.numpy(), g.observables, states.numpy(), *space, out)
    return torch.from_numpy(out)


def _perturbed(
    plan: StackedPlan,
    angles: Tensor,
    encoded: tuple[Tensor, ...],
    rows: Tensor,
    grads: Sequence[Tensor],
    directions: Tensor,
    step: float,
) -> Tensor:
    from redqubit.quantum.simulation.stacked_kernel import differences

    times = directions.shape[1] // rows.shape[1]
    slope = angles.new_zeros(directions.shape[:2])
    for g, r, grad in zip(plan.groups, encoded, grads, strict=True):
        out = np.empty((*directions.shape[:2], len(g.wires)))
        space = (*_space(g), np.empty((4, len(g.program[1]))))
        starts = rows.repeat(1, times).numpy()
        differences(g.program, angles.numpy(), directions.numpy(), step, r.numpy(), starts, g.words, *space, out)
        slope += (torch.from_numpy(out) * g.gains * grad.repeat(1, times, 1)).sum(2)
    return torch.bmm(slope[:, None], directions)[:, 0] / (2 * step * times)


def draw(plan: StackedPlan, mode: SPSA, batch: int, *, generator: torch.Generator) -> Tensor:
    """Return directions (D B, J) of +-1, those that `redqubit.quantum.gradients.spsa` draws for a batch."""
    d = torch.randint(2, (mode.directions * batch, plan.n_moved), generator=generator)
    return 2.0 * d[:, plan.n_moved - len(plan.angles.offset) :].double() - 1
