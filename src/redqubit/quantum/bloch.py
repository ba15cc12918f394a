"""The Heisenberg picture of small circuits whose inputs come first: one matrix product, no state.

When every input acts through one-qubit gates on |0>, qubit q enters as 1/2 (1 + r_q . sigma) with a Bloch vector
r_q(x), and everything after it, U, folds into the observable:

    <Z_k> = sum_f T[k, f_1, ..., f_n] F_1[f_1] ... F_n[f_n],   T[k, f] = Tr(U^dagger Z_k U (E_1[f_1] x ... x E_n[f_n]))

With one angle t on a qubit F = (1, cos t, sin t), with more F = (1, r). T depends on weights alone, so that for
frozen weights it is computed once. The sum runs over two halves of the qubits: a product of L and R features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from redqubit.quantum import fuse
from redqubit.quantum.circuit import Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.fuse import Angles, Plan, affine, one_qubit, pure_gates, reads_input, reads_weight
from redqubit.quantum.gates import IDENTITY, X, Y, Z, native
from redqubit.quantum.measure import signs
from redqubit.quantum.simulate import unitary_rows

MAX_QUBITS = 4  # beyond, the product of features outgrows the state vector
_PAULIS = torch.stack([X, Y, Z])
Turn = tuple[Tensor, Tensor, Tensor, Angle]  # constant, cos and sin of the angle, each (3, 3)


@dataclass(frozen=True)
class BlochPlan:
    """What `features`, `observable` and `contract` run.

    `turns[i]` is (constant, cos, sin), each (n, 3, 3): rotation i of the Bloch vector of each qubit by its
    angle i. `basis` is (F^n, 4^n): the operators E_1[f_1] x ... x E_n[f_n], flattened and transposed.
    """

    n_qubits: int
    angles: tuple[Angles, ...]  # one per turn, each of n angles
    turns: tuple[Tensor, ...]  # (n, 9, 3) from the second on
    first: Tensor  # (n, 9): constant, cos, sin of the first turn, applied to the north pole
    basis: Tensor
    signs: Tensor  # (2^n, K)
    rest: Plan


def build_bloch(circuit: Circuit, wires: Sequence[int] | None = None) -> BlochPlan | None:
    """Return the plan for <Z> on `wires`, or None when the circuit is not of the form above."""
    n = circuit.n_qubits
    if n > MAX_QUBITS or circuit.initial is not None or circuit.n_inputs == 0 or circuit.channels:
        return None
    heads: list[list[Gate]] = [[] for _ in range(n)]
    closed = [False] * n
    rest: list[Gate] = []
    for gate in (g for composite in pure_gates(circuit) for g in native(composite)):
        wire = gate.wires[0]
        if len(gate.wires) == 1 and not closed[wire] and not reads_weight([gate]):
            heads[wire].append(gate)
            continue
        if reads_input([gate]):
            return None
        for w in gate.wires:
            closed[w] = True
        rest.append(gate)
    chains = [_turns(head) for head in heads]
    depth = max(map(len, chains))
    zero = torch.zeros(3, 3, dtype=torch.float64)
    still: Turn = (torch.eye(3, dtype=torch.float64), zero, zero, 0.0)
    chains = [[*c, *[still] * (depth - len(c))] for c in chains]
    turns = [torch.stack([torch.stack(c[i][:3]) for c in chains]) for i in range(depth)]  # (n, 3, 3, 3)
    first = turns[0][..., 2]  # applied to (0, 0, 1): (n, 3, 3) = (qubit, constant/cos/sin, axis)
    if depth == 1:
        half = torch.einsum("nfa,aij->nfij", first.to(_PAULIS.dtype), _PAULIS) / 2
        half[:, 0] += IDENTITY / 2
    else:
        half = torch.stack([IDENTITY, *_PAULIS]).expand(n, 4, 2, 2) / 2
    basis = half[0]
    for e in half[1:]:
        basis = torch.einsum("fij,gkl->fgikjl", basis, e).reshape(len(basis) * len(e), 2 * basis.shape[1], -1)
    return BlochPlan(
        n,
        tuple(affine([c[i][3] for c in chains], Input) for i in range(depth)),
        tuple(t.reshape(n, 9, 3) for t in turns[1:]),
        first.reshape(n, 9),
        basis.transpose(1, 2).flatten(1),
        signs(n, wires),
        replace(fuse.build(Circuit(n, tuple(rest))), n_weights=circuit.n_weights),
    )


def _turns(head: Sequence[Gate]) -> list[Turn]:
    """Return a chain of gates as turns (constant, cos, sin, angle) of the Bloch vector; numbers fold in."""
    out: list[Turn] = []
    before = torch.eye(3, dtype=torch.float64)
    for gate in head:
        a, b, angle = one_qubit(gate)
        # U sigma_j U^dagger with U = cos(t/2) a + sin(t/2) b: cos^2, sin^2 and sin cos give 1, cos t, sin t
        aa, bb = _rotation(a, a), _rotation(b, b)
        constant, cos, sin = (aa + bb) / 2, (aa - bb) / 2, (_rotation(a, b) + _rotation(b, a)) / 2
        if isinstance(angle, Input | Weight):  # heads hold no weights
            out.append((constant @ before, cos @ before, sin @ before, angle))
            before = torch.eye(3, dtype=torch.float64)
        else:
            before = (constant + math.cos(angle) * cos + math.sin(angle) * sin) @ before
    if not out:
        zero = torch.zeros(3, 3, dtype=torch.float64)
        return [(before, zero, zero, 0.0)]
    constant, cos, sin, angle = out[-1]
    out[-1] = (before @ constant, before @ cos, before @ sin, angle)
    return out


def _rotation(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix 1/2 Tr(sigma_i a sigma_j b^dagger), real part, (3, 3)."""
    return torch.einsum("iab,bc,jcd,da->ij", _PAULIS, a, _PAULIS, b.mH).real / 2


def features(plan: BlochPlan, x: Tensor) -> Tensor:
    """Return the features (n, F, B) of inputs (B, n_inputs): batch last, so that rows are long."""
    t = plan.angles[0].of(x).T
    cos, sin = torch.cos(t), torch.sin(t)
    one = torch.ones_like(cos)
    trig = torch.stack([one, cos, sin], 1)  # (n, 3, B)
    if not plan.turns:
        return trig
    r = torch.bmm(plan.first.unflatten(1, (3, 3)).transpose(1, 2), trig)
    for angles, turn in zip(plan.angles[1:], plan.turns, strict=True):
        t = angles.of(x).T
        y = torch.bmm(turn, r).unflatten(1, (3, 3))
        r = y[:, 0] + torch.cos(t)[:, None] * y[:, 1] + torch.sin(t)[:, None] * y[:, 2]
    return torch.cat([one[:, None], r], 1)


def observable(plan: BlochPlan, weights: Tensor) -> Tensor:
    """Return T as (K * R, L): rows are output and second half, columns the first half of the features."""
    rows = unitary_rows(plan.rest, weights).to(plan.basis.dtype)  # psi_out = psi_in @ rows
    folded = torch.einsum("ij,jk,lj->kil", rows.conj(), plan.signs.to(rows.dtype), rows)  # U^dagger Z_k U
    t = (folded.flatten(1) @ plan.basis.T).real  # (K, F^n)
    per_qubit = 3 if not plan.turns else 4
    left = per_qubit ** (plan.n_qubits - plan.n_qubits // 2)
    return t.reshape(len(t), left, -1).transpose(1, 2).flatten(0, 1).contiguous()


def contract(t: Tensor, f: Tensor) -> Tensor:
    """Return <Z> (B, K) of a table (K * R, L) and features (n, F, B)."""
    n = len(f)
    left, right = _outer(f[: n - n // 2]), _outer(f[n - n // 2 :])
    partial = (t @ left).reshape(-1, *right.shape)  # (K, R, B)
    return (partial * right).sum(1).T


def _outer(f: Tensor) -> Tensor:
    """Return the products (F^m, B) of features (m, F, B); (1, B) of ones for none."""
    if len(f) == 0:
        return f.new_ones(1, f.shape[-1])
    out = f[0]
    for g in f[1:]:
        out = (out[:, None] * g[None]).flatten(0, 1)
    return out


def build(circuit: Circuit) -> BlochPlan | None:
    """Return the plan, or None."""
    return build_bloch(circuit)


def fold(plan: BlochPlan, weights: Tensor, table: Tensor) -> Tensor:
    """Return T for the outputs of a table."""
    return observable(replace(plan, signs=table), weights)


def expectations(plan: BlochPlan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
    """Return the outputs."""
    values = torch.eye(2**plan.n_qubits).to(x) if table is None else table
    return contract(fold(plan, weights, values), features(plan, x))
