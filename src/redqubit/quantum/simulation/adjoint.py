"""State vectors whose gradients need no stored states: the backward pass undoes the circuit as it goes.

Autograd keeps the state after every operation; here only the last is kept, since each operation U has the inverse
U^dagger. The backward pass carries psi and lambda = dL/d psi^* from the end to the start. At each operation it takes
psi back to what it was, pairs it with lambda for the gradient to the operation's factor (a small matrix, or phases),
which autograd takes to the angles, and takes lambda back by U^dagger. What grows with depth are small matrices alone.
"""

from itertools import accumulate, pairwise

import torch
from torch import Tensor

from redqubit.quantum.measure import probabilities
from redqubit.quantum.simulation import state_vector as simulate
from redqubit.quantum.simulation.fuse import Dense, Layer, Op, Permutation, Phase, Plan, build

__all__ = ["build", "expectations", "run"]

Parts = tuple[Tensor, ...]  # what the factor of an operation is made of


def expectations(plan: Plan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
    """Return the averages (B, K) of a table (2^n, K) over the basis states; their probabilities without a table.

    Args:
        plan: What `build` returned, cast to x's type and device.
        x: Features (B, n_inputs).
        weights: Weights (n_weights,).
        table: The value of each output in each basis state.
    """
    p = probabilities(run(plan, x, weights))
    return p if table is None else p @ table


def run(plan: Plan, x: Tensor, weights: Tensor) -> Tensor:
    """Return the states (B, 2^n), as `simulate.run`; first derivatives keep no other state than the last.

    A backward pass that is itself to be differentiated (`create_graph`) keeps all of them.

    Reference: Jones and Gacon, "Efficient calculation of gradients in classical simulations of variational quantum
    algorithms", arXiv:2009.02823 (2020).
    """
    tables = simulate.matrices(plan, x, weights)
    products = simulate.kronecker((op for op in plan.ops if not op.from_inputs), tables)
    ops: list[Op] = []
    parts: list[Parts] = []
    for op in plan.ops:
        if isinstance(op, Layer):
            for first, slots in op.blocks:  # one matrix each
                ops.append(Layer(((first, slots),), op.from_inputs, op.real))
                if op.from_inputs:  # those of every sample are multiplied where they are used
                    parts.append((tables[True, op.real][:, slots[0] : slots[-1] + 1],))
                else:
                    parts.append((products[False, op.real, slots],))
        else:
            ops.append(op)
            parts.append(simulate.phase_angles(op, x, weights) if isinstance(op, Phase) else ())
    out: Tensor = _Walk.apply(  # type: ignore[no-untyped-call]
        tuple(ops), tuple(map(len, parts)), simulate.start(plan, x, tables), *(p for some in parts for p in some)
    )
    return out.expand(len(x), -1)


class _Walk(torch.autograd.Function):
    """The final state, of the initial state and the parts of all operations."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        ops: tuple[Op, ...],
        sizes: tuple[int, ...],
        start: Tensor,
        *parts: Tensor,
    ) -> Tensor:
        psi = _forward(ops, _split(parts, sizes), start)
        ctx.ops, ctx.sizes = ops, sizes  # type: ignore[attr-defined]
        ctx.save_for_backward(start, psi, *parts)
        return psi

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        ops, sizes = ctx.ops, ctx.sizes  # type: ignore[attr-defined]
        start, psi, *parts = ctx.saved_tensors  # type: ignore[attr-defined]
        needs: tuple[bool, ...] = ctx.needs_input_grad[2:]  # type: ignore[attr-defined]
        if torch.is_grad_enabled():  # the derivative of this derivative will be asked for
            asked = [t for t, need in zip((start, *parts), needs, strict=True) if need]
            again = _forward(ops, _split(tuple(parts), sizes), start)
            found = iter(torch.autograd.grad(again, asked, grads[0], create_graph=True, allow_unused=True))
            return None, None, *(next(found) if need else None for need in needs)
        leaves = tuple(part.detach().requires_grad_(need) for part, need in zip(parts, needs[1:], strict=True))
        lam, slopes = _backward(ops, _split(leaves, sizes), start, psi, grads[0], needs[0])
        return None, None, lam, *slopes


def _split(parts: Parts, sizes: tuple[int, ...]) -> list[Parts]:
    ends = list(accumulate(sizes, initial=0))
    return [parts[a:b] for a, b in pairwise(ends)]


def _forward(ops: tuple[Op, ...], parts: list[Parts], psi: Tensor) -> Tensor:
    for op, some in zip(ops, parts, strict=True):
        psi = _apply(psi, op, _factor(op, some))
    return psi


def _backward(
    ops: tuple[Op, ...], parts: list[Parts], start: Tensor, psi: Tensor, lam: Tensor, need_start: bool
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return the gradients to the initial state and to each part, a leaf that says whether it needs one."""
    wanted = [any(p.requires_grad for p in some) for some in parts]
    first = wanted.index(True) if any(wanted) else len(ops)  # before it nobody asks for psi
    # whether the state before each operation is complex, and whether it differs between samples
    is_complex = list(accumulate((not op.real for op in ops), bool.__or__, initial=start.is_complex()))
    is_batched = list(accumulate((op.from_inputs for op in ops), bool.__or__, initial=len(start) > 1))
    slopes: list[list[Tensor | None]] = [[None] * len(some) for some in parts]
    for number in range(len(ops) - 1, -1 if need_start else first - 1, -1):
        op, batched, is_real = ops[number], is_batched[number], not is_complex[number]
        with torch.enable_grad():
            factor = _factor(op, parts[number])
        undo, inverse = _inverse(op, None if factor is None else factor.detach())
        if number >= first:
            psi = _apply(psi, undo, inverse)
            psi = psi if batched else psi[:1]
            psi = psi.real if is_real and psi.is_complex() else psi
        if factor is not None and wanted[number]:
            slopes[number] = _slopes(factor, parts[number], _pair(op, psi, lam, factor.detach()))
        lam = _apply(lam, undo, inverse)
        lam = lam if batched else lam.sum(0, keepdim=True)
        lam = lam.real if is_real and lam.is_complex() else lam
    return lam if need_start else None, [slope for some in slopes for slope in some]


def _slopes(factor: Tensor, leaves: Parts, slope: Tensor) -> list[Tensor | None]:
    """Return the gradients to the parts, from that to the factor."""
    if factor is leaves[0]:
        return [slope]
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(factor, asked, slope, allow_unused=True))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def _pair(op: Op, psi: Tensor, lam: Tensor, factor: Tensor) -> Tensor:
    """Return the gradient to the factor, from the state before the operation and lambda after it."""
    if not isinstance(op, Layer):  # new = factor * old
        return (lam * psi.conj()).sum_to_size(factor.shape)
    shape = (2 ** op.blocks[0][0], factor.shape[-1], -1)
    lam, psi = lam.reshape(len(lam), *shape), psi.reshape(len(psi), *shape).to(lam.dtype)
    if lam.shape[-1] == 1:  # the last wires: one product of all rows
        lam, psi = lam.permute(0, 3, 2, 1), psi.permute(0, 3, 2, 1)
    slope = (lam @ psi.mH).sum(1)
    slope = slope if factor.ndim == 3 else slope.sum(0)
    return slope.real if slope.is_complex() and not factor.is_complex() else slope


def _factor(op: Op, parts: Parts) -> Tensor | None:
    """Return what multiplies the state: a matrix, a vector of phases, or nothing for a permutation."""
    if isinstance(op, Phase):
        return simulate.phase(op, *parts)
    if isinstance(op, Layer):
        return simulate.kron(parts[0]) if op.from_inputs else parts[0]
    return op.matrix if isinstance(op, Dense) else None


def _inverse(op: Op, factor: Tensor | None) -> tuple[Op, Tensor | None]:
    if isinstance(op, Permutation):
        return Permutation(op.inverse, op.source), None
    if factor is None:
        return op, None
    return op, factor.conj() if isinstance(op, Phase) else factor.mH


def _apply(psi: Tensor, op: Op, factor: Tensor | None) -> Tensor:
    if isinstance(op, Permutation):
        return simulate.permute(psi, op.source, op.inverse)
    if factor is None:
        return psi
    if isinstance(op, Phase):
        return psi * factor
    if isinstance(op, Dense):
        return simulate.apply_dense(psi, op.wires, factor)
    return simulate.apply_block(psi, op.blocks[0][0], factor)
