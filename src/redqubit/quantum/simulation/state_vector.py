"""Run a plan: exact state vectors, batched, differentiable to any order in inputs and weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.measure import probabilities
from redqubit.quantum.simulation.fuse import Dense, Layer, Op, Permutation, Phase, Plan, build, cast

Key = tuple[bool, bool]  # (from inputs, real) of a table of one-qubit matrices
COLLAPSE = 6  # up to so many qubits, parts without inputs become one matrix, computed once per call


class _Permute(torch.autograd.Function):
    """state[:, source]; the backward pass gathers by the inverse, where autograd's own would scatter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(state: Tensor, source: Tensor, inverse: Tensor) -> Tensor:
        return state.index_select(1, source)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        source, inverse = ctx.saved_tensors  # type: ignore[attr-defined]
        return permute(grads[0], inverse, source), None, None


def permute(state: Tensor, source: Tensor, inverse: Tensor) -> Tensor:
    """Return state[:, source] (B, 2^n); `inverse` undoes `source`."""
    out: Tensor = _Permute.apply(state, source, inverse)  # type: ignore[no-untyped-call]
    return out


def state(circuit: Circuit, x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the final states of a circuit, up to a global phase.

    Args:
        circuit: A circuit without noise.
        x: Features (B, n_inputs), in radians where they are angles; float32 or float64 sets the precision.
        weights: Its weights (n_weights,), in radians.

    Returns:
        Amplitudes (B, 2^n_qubits); real when every gate is real, complex otherwise. Wire 0 is the most
        significant bit.

    Raises:
        UsageError: when a shape does not fit the circuit.

    Example:
        >>> from redqubit.quantum import Circuit, Gate, Input
        >>> bell = Circuit(2, (Gate("RY", (0,), (Input(0),)), Gate("CX", (0, 1))))
        >>> state(bell, torch.tensor([[torch.pi / 2]])).square().round(decimals=3).tolist()
        [[0.5, 0.0, 0.0, 0.5]]
    """
    weights = x.new_zeros(0) if weights is None else weights
    check(circuit, x, weights)
    return run(cast(build(circuit), x.dtype, x.device), x, weights.to(x))


def check(circuit: Circuit, x: Tensor, weights: Tensor) -> None:
    """Raise a `UsageError` unless x is (B, n_inputs), weights (n_weights,), both of a floating type."""
    if x.ndim != 2 or x.shape[1] != circuit.n_inputs:
        raise UsageError(
            f"Argument `x` must have shape (B, {circuit.n_inputs}) for this circuit, but has {tuple(x.shape)}: pass as "
            "many features as it reads, or choose another encoder."
        )
    if weights.shape != (circuit.n_weights,):
        raise UsageError(f"Argument `weights` must have shape ({circuit.n_weights},), but has {tuple(weights.shape)}.")
    if not x.is_floating_point():
        raise UsageError(f"Argument `x` must be float32 or float64, but is {x.dtype}.")


def run(plan: Plan, x: Tensor, weights: Tensor) -> Tensor:
    """Return the states (B, 2^n) of a plan that was cast to x's type and device."""
    run_ = _Run(plan, x, weights)
    psi = start(plan, x, run_.matrices)
    ops = list(plan.ops)
    while ops:
        free = next((i for i, op in enumerate(ops) if op.from_inputs), len(ops))
        if plan.n_qubits <= COLLAPSE and free > 1:
            psi = _matmul(psi, run_.unitary_rows(ops[:free]))
            ops = ops[free:]
        else:
            psi = run_.apply(psi, ops.pop(0))
    return psi.expand(x.shape[0], -1)


def unitary_rows(plan: Plan, weights: Tensor) -> Tensor:
    """Return R (2^n, 2^n) with final state = initial state @ R, of a plan whose operations read no input.

    A leading layer of one-qubit gates counts as one of the operations.
    """
    if plan.first is not None:
        plan = replace(plan, first=None, ops=(plan.first, *plan.ops))
    return _Run(plan, weights.new_zeros(1, plan.n_inputs), weights).unitary_rows(plan.ops)


def expectations(plan: Plan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
    """Return the averages (B, K) of a table (2^n, K) over the basis states; their probabilities without a table."""
    p = probabilities(run(plan, x, weights))
    return p if table is None else p @ table


def matrices(plan: Plan, x: Tensor, weights: Tensor) -> dict[Key, Tensor]:
    """Return the one-qubit matrices of the layers, (S, 2, 2) or (B, S, 2, 2), by the key of their table."""
    # a source without entries still serves angles that are numbers
    sources = {
        True: x if x.shape[1] else x.new_zeros(len(x), 1),
        False: weights if len(weights) else x.new_zeros(1),
    }
    return {key: table.matrices(sources[key[0]]) for key, table in plan.tables.items()}


def kronecker(ops: Iterable[Op], tables: Mapping[Key, Tensor]) -> dict[tuple[bool, bool, tuple[int, ...]], Tensor]:
    """Return the Kronecker product of every block of the layers, those of equal kind and size computed in one go."""
    groups: dict[tuple[bool, bool, int], list[tuple[int, ...]]] = {}
    for op in ops:
        if isinstance(op, Layer):
            for _, slots in op.blocks:
                groups.setdefault((op.from_inputs, op.real, len(slots)), []).append(slots)
    out = {}
    for (from_inputs, real, size), blocks in groups.items():
        table = tables[from_inputs, real]
        lo, hi = blocks[0][0], blocks[-1][-1] + 1
        if hi - lo == len(blocks) * size:  # neighbours in the table: a view instead of a gather
            stack = table[..., lo:hi, :, :].unflatten(-3, (len(blocks), size))
        else:
            stack = table[..., torch.tensor(blocks, device=table.device), :, :]
        for slots, product in zip(blocks, kron(stack).unbind(-3), strict=True):
            out[from_inputs, real, slots] = product
    return out


def start(plan: Plan, x: Tensor, tables: Mapping[Key, Tensor]) -> Tensor:
    """Return the initial states (B or 1, 2^n), after the leading layer where the plan has one."""
    if plan.initial is not None:
        return amplitudes(x[:, : plan.initial.n_features], 2**plan.n_qubits)
    if plan.first is None:
        psi = x.new_zeros(1, 2**plan.n_qubits)
        psi[:, 0] = 1
        return psi
    table = tables[plan.first.from_inputs, plan.first.real]
    begin = plan.first.blocks[0][1][0]  # the first layer holds every wire, in order
    vectors = table[..., begin : begin + plan.n_qubits, :, 0]  # M |0>
    return product_state(vectors.reshape(-1, plan.n_qubits, 2))


class _Run:
    """One evaluation of a plan: the matrices of its layers, computed together, and the operations."""

    def __init__(self, plan: Plan, x: Tensor, weights: Tensor) -> None:
        self.plan, self.x, self.weights = plan, x, weights
        self.matrices = matrices(plan, x, weights)
        self.kronecker = kronecker(plan.ops, self.matrices)

    def unitary_rows(self, ops: Sequence[Op]) -> Tensor:
        """Return R with psi_out = psi_in @ R, for operations that read no input."""
        rows = torch.eye(2**self.plan.n_qubits, dtype=self.x.dtype, device=self.x.device)
        for op in ops:
            rows = self.apply(rows, op)
        return rows

    def apply(self, psi: Tensor, op: Op) -> Tensor:
        """Return the states (B, 2^n) after one operation."""
        if isinstance(op, Permutation):
            return permute(psi, op.source, op.inverse)
        if isinstance(op, Phase):
            return psi * phase(op, *phase_angles(op, self.x, self.weights))
        if isinstance(op, Dense):
            return apply_dense(psi, op.wires, op.matrix)
        for first, slots in op.blocks:
            psi = apply_block(psi, first, self.kronecker[op.from_inputs, op.real, slots])
        return psi


def phase_angles(op: Phase, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles (G,) that read weights and those (B, G) that read inputs, empty where there are none."""
    return (
        op.weights.of(weights) if len(op.w_table) else op.weights.offset,
        op.inputs.of(x) if len(op.x_table) else op.inputs.offset,
    )


def phase(op: Phase, from_weights: Tensor, from_inputs: Tensor) -> Tensor:
    """Return the factors (2^n,) or (B, 2^n) of the amplitudes, of what `phase_angles` returns."""
    angle: Tensor | None = None
    if len(op.w_table):
        angle = from_weights @ op.w_table
    if len(op.x_table):
        angle = from_inputs @ op.x_table if angle is None else angle + from_inputs @ op.x_table
    if angle is None:
        return op.constant
    return op.constant * torch.complex(torch.cos(angle), torch.sin(angle))


def apply_block(psi: Tensor, first: int, m: Tensor) -> Tensor:
    """Apply m, (2^k, 2^k) or (B, 2^k, 2^k), to the k wires from `first` on."""
    psi, m = same_type(psi, m)
    batch = max(len(psi), len(m) if m.ndim == 3 else 1)
    before, dim = 2**first, m.shape[-1]
    after = psi.shape[1] // (before * dim)
    if m.ndim == 2 and after == 1:
        return (psi.reshape(-1, dim) @ m.T).reshape(batch, -1)
    if after == 1:  # the matrix on the right, where it is not copied for every row
        return (psi.reshape(-1, before, dim) @ m.mT).reshape(batch, -1)
    if m.ndim == 3:
        psi = psi.reshape(-1, before, dim, after)
        if after >= dim:
            return torch.matmul(m[:, None], psi).reshape(batch, -1)
        # copies of the state are cheaper here than a copy of the matrix for each of the `before` parts
        out: Tensor = (m @ psi.transpose(1, 2).flatten(2)).unflatten(2, (before, after))
        return out.transpose(1, 2).reshape(batch, -1)
    psi = psi.reshape(-1, dim, after)
    # not matmul: it would copy the state to make one product of it, and again on the way back
    return torch.bmm(m.expand(len(psi), dim, dim), psi).reshape(batch, -1)


def apply_dense(psi: Tensor, wires: Sequence[int], m: Tensor) -> Tensor:
    """Apply m, (2^k, 2^k) or (B, 2^k, 2^k), to k wires in any order."""
    psi, m = same_type(psi, m)
    n, k = psi.shape[1].bit_length() - 1, len(wires)
    axes = [1 + w for w in wires]
    moved = psi.reshape(-1, *[2] * n).movedim(axes, list(range(n - k + 1, n + 1)))
    rows = (-1, 2**k) if m.ndim == 2 else (len(psi), -1, 2**k)
    out = (moved.reshape(rows) @ m.mT).reshape(moved.shape)
    return out.movedim(list(range(n - k + 1, n + 1)), axes).reshape(psi.shape)


def same_type(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as complex when one is; equal types are returned as they are."""
    if a.dtype == b.dtype:
        return a, b
    return (a.to(b.dtype), b) if b.is_complex() else (a, b.to(a.dtype))


def _matmul(psi: Tensor, rows: Tensor) -> Tensor:
    """Return psi @ rows; a real psi is multiplied by the real and imaginary parts in one real product."""
    if rows.is_complex() and not psi.is_complex():
        parts = psi @ torch.view_as_real(rows).flatten(1)
        return torch.view_as_complex(parts.unflatten(1, (-1, 2)))
    psi, rows = same_type(psi, rows)
    return psi @ rows


def kron(matrices: Tensor) -> Tensor:
    """Return the Kronecker products (..., 2^g, 2^g) of matrices (..., g, 2, 2), by halves."""
    parts = list(matrices.unbind(-3))
    while len(parts) > 1:
        pairs = [_kron(parts[i], parts[i + 1]) for i in range(0, len(parts) - 1, 2)]
        parts = [*pairs, *parts[len(pairs) * 2 :]]
    return parts[0]


def _kron(a: Tensor, b: Tensor) -> Tensor:
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.flatten(-4, -3).flatten(-2, -1)


def product_state(vectors: Tensor) -> Tensor:
    """Return the states (B, 2^n) of one-qubit vectors (B, n, 2), by halves."""
    b, n = vectors.shape[:2]
    if n == 1:
        return vectors[:, 0]
    if n % 2:
        left, right = product_state(vectors[:, : n // 2]), product_state(vectors[:, n // 2 :])
    else:  # both halves at once
        left, right = product_state(vectors.reshape(2 * b, n // 2, 2)).reshape(b, 2, -1).unbind(1)
    return (left[:, :, None] * right[:, None, :]).flatten(1)


def amplitudes(x: Tensor, dim: int) -> Tensor:
    """Return x (B, d) divided by its L2 norm and padded with zeros to (B, dim)."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if not bool((norm > 0).all()):
        raise UsageError("Argument `x` must not hold an all-zero sample: amplitude encoding cannot normalise it.")
    return torch.nn.functional.pad(x / norm, (0, dim - x.shape[1]))
