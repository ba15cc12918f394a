"""Qubits that have not met: each is a vector of four real numbers, and the state is their product.

A chain of one-wire gates and channels, with one angle each at most, takes a vector v to

    C_d (... (C_1 f_1) x f_2 ...) with constants C_k and waves f_k (1, cos t, sin t for one angle; 9 for two),

two operations per polynomial for all qubits of all samples. Run forward on (1, 0, 0, 1) it gives the Pauli coefficients
(1, <X>, <Y>, <Z>) of a qubit that starts in |0>; run backward on (0, 0, 0, 1), the coefficients of the observable that
Z becomes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Gate
from redqubit.quantum.simulation.fuse import reads_weight
from redqubit.quantum.simulation.pauli import (
    MAX_ANGLES,
    Factor,
    Wave,
    Waves,
    blocks,
    factors,
    identity,
    polynomial,
    single_angle,
    waves,
)


@dataclass(frozen=True)
class Vectors:
    """Vectors of n qubits: `last @ features` for products of waves."""

    depth: int  # polynomials of each qubit
    waves: Waves  # depth n F
    maps: tuple[Tensor, ...]  # (n, 4, F) for the first polynomial, then (n, 4, 4 F), but for the last
    last: Tensor  # (n, 4, F) or (n, 4, 4 F)

    def features(self, source: Tensor) -> Tensor:
        """Return (n, F or 4 F, B) for a source (B, n_source): batch last, so that rows are long."""
        table = self.waves.of(source)
        if self.depth == 1:
            return table.view(len(self.last), -1, len(source))
        out, *parts = table.view(self.depth, len(self.last), -1, len(source)).unbind(0)
        for part, m in zip(parts, self.maps, strict=True):
            out = (torch.bmm(m, out)[:, :, None] * part[:, None]).flatten(1, 2)
        return out


def vectors(chains: Sequence[Sequence[Factor]], n_source: int, *, backward: bool = False) -> Vectors:
    """Return the vectors of qubits, each with its chain of factors in the order of time.

    Args:
        chains: One per qubit; angles read one source.
        n_source: Length of the source.
        backward: Start from (0, 0, 0, 1) and go back in time, instead of forward from (1, 0, 0, 1).
    """
    if backward:
        chains = [[Factor(f.wires, f.terms.mT, f.angle) for f in reversed(c)] for c in chains]
    rows = [[polynomial(b) for b in blocks(_folded(c), MAX_ANGLES)] for c in chains]
    depth, n_waves = max(map(len, rows)), max(len(p) for row in rows for p in row)
    still: list[Wave] = [(0.0, {}, torch.eye(4, dtype=torch.float64))]
    none: Wave = (0.0, {}, torch.zeros(4, 4, dtype=torch.float64))
    full = [[*row, *[still] * (depth - len(row))] for row in rows]
    by_depth = [[[*r[k], *[none] * (n_waves - len(r[k]))] for r in full] for k in range(depth)]  # (depth, n, F)
    terms = torch.stack([torch.stack([torch.stack([w[2] for w in p]) for p in level]) for level in by_depth])
    start = torch.tensor([0.0 if backward else 1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    maps = [torch.einsum("nfij,j->nif", terms[0], start)]
    maps += [t.permute(0, 2, 3, 1).flatten(2) for t in terms[1:]]
    table = waves([w[:2] for level in by_depth for p in level for w in p], n_source)
    return Vectors(depth, table, tuple(maps[:-1]), maps[-1])


def _folded(chain: Sequence[Factor]) -> list[Factor]:
    """Return the chain with its constants folded into its neighbours, one factor at least."""
    out: list[Factor] = []
    for f in chain:
        if out and (f.angle is None or out[-1].angle is None):
            out[-1] = f.after(out[-1])
        else:
            out.append(f)
    return out or [identity(0)]


def split(circuit: Circuit) -> tuple[list[list[Gate | Channel]], list[Gate | Channel]]:
    """Return for each wire what acts on it alone before anything that reads weights or couples it; and the rest.

    An amplitude encoding couples all wires.
    """
    heads: list[list[Gate | Channel]] = [[] for _ in range(circuit.n_qubits)]
    closed = [circuit.initial is not None] * circuit.n_qubits
    rest: list[Gate | Channel] = []
    for item in (part for composite in circuit.gates for part in single_angle(composite)):
        wire = item.wires[0]
        free = isinstance(item, Channel) or not reads_weight([item])
        if len(item.wires) == 1 and free and not closed[wire]:
            heads[wire].append(item)
            continue
        for w in item.wires:
            closed[w] = True
        rest.append(item)
    return heads, rest


def head_vectors(heads: Sequence[Sequence[Gate | Channel]], n_inputs: int) -> Vectors:
    """Return the Pauli coefficients of qubits that start in |0>."""
    return vectors([factors(h) for h in heads], n_inputs)


def outer(f: Tensor) -> Tensor:
    """Return the products (..., F^m, B) of vectors (m, ..., F, B), pair by pair; (..., 1, B) of ones for none."""
    if len(f) == 0:
        return f.new_ones(*f.shape[1:-2], 1, f.shape[-1])
    if len(f) == 1:
        return f[0]
    if len(f) % 2:
        return (outer(f[:-1])[..., :, None, :] * f[-1][..., None, :, :]).flatten(-3, -2)
    even, odd = f.unflatten(0, (-1, 2)).unbind(1)
    return outer((even[..., :, None, :] * odd[..., None, :, :]).flatten(-3, -2))
