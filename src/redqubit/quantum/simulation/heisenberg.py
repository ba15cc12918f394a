"""The Heisenberg picture of circuits whose inputs come first: the observable is carried back to them.

When every input acts through one-qubit gates (and channels) on |0> before anything else, qubit q enters with the
coefficients r_q(x) = (1, <X>, <Y>, <Z>), and everything after it folds into the observable, whatever its noise:

    <O_k> = sum_f T[k, f_1 ... f_n] F_1[f_1] ... F_n[f_n],    T[k] = 2^-n Tr(O_k E(P_f1 x ... x P_fn))

With one angle t on each qubit F = (1, cos t, sin t) is enough. T depends on weights alone, so that for frozen weights
it is computed once. The sum runs over two halves of the qubits. Wires that no gate couples stay apart: each group has
a distribution of its own, and the joint one is their product.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Gate
from redqubit.quantum.gates import IDENTITY, X, Y, Z
from redqubit.quantum.simulation.fuse import Plan, reads_input
from redqubit.quantum.simulation.fuse import build as build_pure
from redqubit.quantum.simulation.pauli import factors
from redqubit.quantum.simulation.products import Vectors, head_vectors, outer, split, vectors
from redqubit.quantum.simulation.program import Program, program
from redqubit.quantum.simulation.state_vector import unitary_rows
from redqubit.quantum.simulation.sweep import Path, Words, path, sweep, words

MAX_PURE = 4  # qubits with entanglers and no noise; beyond, the product of features outgrows the state vector
MAX_QUBITS = 8  # with noise, or without entanglers
_PAULIS = torch.stack([IDENTITY, X, Y, Z])


@dataclass(frozen=True)
class PurePart:
    """Coupled wires without noise: all of the circuit."""

    wires: Tensor
    rest: Plan
    basis: Tensor  # (F^n, 4^n): the operators E_1[f_1] x ... x E_n[f_n], flattened and transposed

    def fold(self, weights: Tensor, table: Tensor) -> Tensor:
        """Return T (K, F^n)."""
        rows = unitary_rows(self.rest, weights).to(self.basis.dtype)  # psi_out = psi_in @ rows
        folded = torch.einsum("ij,jk,lj->kil", rows.conj(), table.to(rows.dtype), rows)  # U^dagger O_k U
        return (folded.flatten(1) @ self.basis.T).real


@dataclass(frozen=True)
class NoisyPart:
    """Coupled wires with noise."""

    wires: Tensor
    rest: Program
    way: Path
    words: Words

    def fold(self, weights: Tensor, table: Tensor) -> Tensor:
        """Return T (K, 4^n)."""
        return sweep(self.way, self.words.rows(table), self.rest.stacks(None, weights))


@dataclass(frozen=True)
class HeisenbergPlan:
    """What `fold` and `contract` run; the joint order of wires is the single ones, then those of the parts."""

    n_qubits: int
    features: Vectors
    folds_last: bool  # whether T takes waves instead of Bloch vectors
    single: Tensor  # wires that nothing couples
    observables: Vectors | None  # their Z, carried back
    pairing: Tensor  # (m, F, F'): from the waves of these to those of the features
    parts: tuple[PurePart | NoisyPart, ...]
    order: tuple[int, ...]
    words: Words | None  # where all wires are single
    light: Tensor  # (n,) long: the words of one Z
    heavy: Tensor  # long: the words of two Z or more


@dataclass(frozen=True)
class Folded:
    """The observable, carried back through everything that depends on weights alone."""

    single: Tensor | None  # (m, 1, F): <Z> of each single wire
    parts: tuple[Tensor, ...]  # (K L, R) each: the table's rows for an only part, else projectors
    table: Tensor | None  # (K, 2^n) in the joint order of wires, where it is needed
    linear: tuple[Tensor, Tensor] | None = None  # (K, 1) and (K, n): the table is a sum of Z on single wires


def build(circuit: Circuit) -> HeisenbergPlan | None:
    """Return the plan of a circuit, or None when its inputs do not come first or it is too large.

    Example:
        >>> from redqubit.quantum import ansatzes, encodings
        >>> build(encodings.angle(4) + ansatzes.sim(6)) is None, build(ansatzes.sim(6) + encodings.angle(4)) is None
        (False, True)
    """
    n = circuit.n_qubits
    if n > MAX_QUBITS or circuit.initial is not None or circuit.n_inputs == 0:
        return None
    heads, rest = split(circuit)
    if reads_input(g for g in rest if isinstance(g, Gate)):
        return None
    groups = _coupled(rest, n)
    if groups and not circuit.channels:
        if n > MAX_PURE:
            return None
        groups = [tuple(range(n))]
    features = head_vectors(heads, circuit.n_inputs)
    single = [w for w in range(n) if not any(w in group for group in groups)]
    folds_last = not groups or (not circuit.channels and features.last.shape[-1] == 3)
    observables, pairing = None, torch.zeros(0, 4, 4, dtype=torch.float64)
    if single:
        chains = [factors(g for g in rest if g.wires == (w,)) for w in single]
        observables = vectors(chains, circuit.n_weights, backward=True)
        pairing = observables.last.mT @ features.last[single] if folds_last else observables.last.mT
    return HeisenbergPlan(
        n,
        features,
        folds_last,
        torch.tensor(single),
        observables,
        pairing,
        tuple(_part(circuit, features, group, rest, folds_last) for group in groups),
        (*single, *(w for group in groups for w in group)),
        None if groups else words(n),
        2 ** torch.arange(n - 1, -1, -1),
        torch.tensor([i for i in range(2**n) if i.bit_count() > 1], dtype=torch.long),
    )


def _coupled(items: Iterable[Gate | Channel], n: int) -> list[tuple[int, ...]]:
    """Return the groups of two or more wires that gates and channels couple."""
    groups = [{w} for w in range(n)]
    for item in items:
        touched = [g for g in groups if g & set(item.wires)]
        groups = [g for g in groups if g not in touched] + [set().union(*touched)]
    return sorted(tuple(sorted(g)) for g in groups if len(g) > 1)


def _part(
    circuit: Circuit, features: Vectors, wires: tuple[int, ...], rest: Sequence[Gate | Channel], folds_last: bool
) -> PurePart | NoisyPart:
    place = torch.tensor(wires)
    if circuit.channels:
        mine = [replace(g, wires=tuple(map(wires.index, g.wires))) for g in rest if g.wires[0] in wires]
        n = len(wires)
        found = program(factors(mine), n, 0, circuit.n_weights)
        return NoisyPart(place, found, path(n, found.steps[::-1]), words(n))
    # E[f] = 1/2 sum_i last[i, f] P_i
    half = torch.einsum("nif,iab->nfab", features.last.to(_PAULIS.dtype), _PAULIS) / 2
    if not folds_last:
        half = (_PAULIS / 2).expand(len(wires), 4, 2, 2)
    basis = half[0]
    for e in half[1:]:
        basis = torch.einsum("fij,gkl->fgikjl", basis, e).reshape(len(basis) * len(e), 2 * basis.shape[1], -1)
    plan = replace(build_pure(Circuit(len(wires), tuple(rest))), n_weights=circuit.n_weights)
    return PurePart(place, plan, basis.transpose(1, 2).flatten(1))


def fold(plan: HeisenbergPlan, weights: Tensor, table: Tensor | None) -> Folded:
    """Return the observables of a table (2^n, K), None for the projectors on the basis states."""
    n = plan.n_qubits
    if table is None:
        table = torch.eye(2**n, dtype=plan.pairing.dtype, device=plan.pairing.device)
    per_qubit = plan.features.last.shape[-1] if plan.folds_last else 4
    if plan.observables is None and len(plan.parts) == 1:
        t = plan.parts[0].fold(weights, table)
        return Folded(None, (t.reshape(-1, per_qubit ** (n - n // 2)),), None)
    single = None
    if plan.observables is not None:
        single = torch.bmm(plan.observables.features(weights[None]).mT, plan.pairing)
    if plan.words is not None and table.device.type == "cpu":  # to look into a table would make a GPU wait
        coefficients = table.detach().T @ plan.words.walsh
        rest = coefficients.index_select(1, plan.heavy).abs().sum()
        if not table.requires_grad and float(rest) <= 8 * torch.finfo(table.dtype).eps * len(coefficients):
            return Folded(single, (), None, (coefficients[:, :1], coefficients.index_select(1, plan.light)))
    parts = []
    for part in plan.parts:
        m = len(part.wires)
        t = part.fold(weights, torch.eye(2**m, dtype=table.dtype, device=table.device))
        parts.append(t.reshape(-1, per_qubit ** (m - m // 2)))
    joint = table.reshape(*[2] * n, -1).permute(n, *plan.order).reshape(-1, 2**n)
    return Folded(single, tuple(parts), joint)


def contract(plan: HeisenbergPlan, folded: Folded, x: Tensor) -> Tensor:
    """Return the means (B, K) for inputs x (B, n_inputs)."""
    f = plan.features.features(x)
    if not plan.folds_last:
        f = torch.bmm(plan.features.last, f)
    if folded.linear is not None and folded.single is not None:
        return torch.addmm(folded.linear[0], folded.linear[1], torch.bmm(folded.single, f)[:, 0]).T
    if folded.table is None:
        return _halves(folded.parts[0], f).T
    joint = None
    if folded.single is not None:
        own = f if len(plan.single) == len(f) else f.index_select(0, plan.single)
        half = torch.bmm(folded.single, own) / 2
        joint = outer(torch.cat([0.5 + half, 0.5 - half], 1))
    for part, t in zip(plan.parts, folded.parts, strict=True):
        own = _halves(t, f.index_select(0, part.wires))
        joint = own if joint is None else (joint[:, None] * own).flatten(0, 1)
    assert joint is not None
    return (folded.table @ joint).T


def _halves(t: Tensor, f: Tensor) -> Tensor:
    """Return the sums (K, B) of T (K L, R) over features (n, F, B)."""
    n = len(f)
    if n % 2:
        left, right = outer(f[: n // 2]), outer(f[n // 2 :])
    else:
        left, right = outer(f.unflatten(0, (2, -1)).transpose(0, 1)).unbind(0)
    partial = (t @ right).reshape(-1, *left.shape)  # (K, L, B)
    return (partial * left).sum(1)


def expectations(plan: HeisenbergPlan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
    """Return the means (B, K) of the columns of a table (2^n, K), or the probabilities (B, 2^n) for None.

    Args:
        plan: Cast to the precision and device of the tensors.
        x: Inputs (B, n_inputs).
        weights: Weights (n_weights,).
        table: Values to be averaged, one row per basis state.
    """
    return contract(plan, fold(plan, weights, table), x)
