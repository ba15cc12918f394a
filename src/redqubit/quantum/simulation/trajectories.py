"""Monte-Carlo wave functions: noise on more qubits than a density matrix can hold.

A channel rho -> sum_k K_k rho K_k^dagger is one operator K_k / sqrt(q_k) drawn with the probability
q_k = Tr(K_k^dagger K_k) / d, whatever the state, which stays as long as it then is. So

    E |psi><psi| = sum_k q_k (K_k / sqrt(q_k)) rho (K_k / sqrt(q_k))^dagger = sum_k K_k rho K_k^dagger,

and the mean of <psi|O|psi> is unbiased. As the draws know neither inputs nor weights, the derivative of that mean is
the mean of the derivatives: gradients are unbiased too, without the score function that draws by the state would need.
Where the operators are multiples of unitaries (Pauli noise) states keep their length. Under damping the lengths spread:
the mean of |psi|^4 grows by a factor of about 1 + gamma <Z>^2 / 2 at each channel, and the standard error says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.measure import probabilities
from redqubit.quantum.simulation import state_vector as simulate
from redqubit.quantum.simulation.fuse import BLOCK, Permutation, Phase
from redqubit.quantum.simulation.unravelling import Gates, Kick, TrajectoryPlan, Turns, build

__all__ = ["build", "expectations"]

MAX_NUMBERS = 1 << 23  # amplitudes held at a time, those of the graph included


def expectations(
    plan: TrajectoryPlan,
    x: Tensor,
    weights: Tensor,
    table: Tensor | None,
    *,
    n_trajectories: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the averages of a table over the basis states (probabilities without a table), and their standard errors.

    Memory is bounded: trajectories run in chunks, and the backward pass runs each chunk again with the same draws.

    Args:
        plan: What `build` returned, cast to x's type and device.
        x: Features (B, n_inputs).
        weights: Weights (n_weights,).
        table: (2^n, K), the value of each output in each basis state.
        n_trajectories: Runs of each sample, 2 or more.
        generator: Source of the draws, on the CPU: a GPU sees the same numbers.

    Returns:
        Means (B, K), unbiased and with unbiased gradients, and standard errors (B, K), without.

    Raises:
        UsageError: for fewer than 2 trajectories.

    Reference: Dalibard, Castin and Molmer, "Wave-function approach to dissipative processes in quantum optics",
    Physical Review Letters 68 (1992), for draws by the state; those in use here are linear in it, as in Wiseman and
    Milburn, "Quantum Measurement and Control" (2010).

    Example:
        >>> from redqubit.quantum import Circuit, Gate
        >>> from redqubit.quantum.channels import Channel
        >>> plan = build(Circuit(1, (Gate("X", (0,)), Channel("AmplitudeDamping", (0,), (0.3,)))))
        >>> x, weights, z = torch.zeros(1, 0).double(), torch.zeros(0).double(), torch.tensor([[1.0], [-1.0]]).double()
        >>> random = torch.Generator().manual_seed(0)
        >>> mean, error = expectations(plan, x, weights, z, n_trajectories=4000, generator=random)
        >>> bool((mean + 0.4).abs() < 4 * error), bool(error < 0.02)  # <Z> is 2 * 0.3 - 1
        (True, True)
    """
    if n_trajectories < 2:
        raise UsageError(f"Argument `n_trajectories` must be 2 or more, but is {n_trajectories}: one has no spread.")
    # a source without entries still serves angles that are numbers
    x, weights = (t if t.shape[-1] else t.new_zeros(*t.shape[:-1], 1) for t in (x, weights))
    seeds = torch.randint(1 << 62, (n_trajectories,), generator=generator).tolist()
    keeps_graph = torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad)
    size = 2**plan.n_qubits * (len(plan.steps) + 4 if keeps_graph else 4)
    rows = max(1, min(len(x), MAX_NUMBERS // size))
    at_once = max(1, MAX_NUMBERS // (size * rows))
    means, errors = [], []
    for first in range(0, len(x), rows):
        part = slice(first, first + rows)
        total, squares, done = x.new_zeros(()), x.new_zeros(()), 0
        for begin in range(0, n_trajectories, at_once):
            chunk = _Chunk(plan, table, tuple(seeds[begin : begin + at_once]), len(x), part)
            added, spread = _Rerun.apply(chunk, x[part], weights)  # type: ignore[no-untyped-call]
            count = len(chunk.seeds)
            # squared distances from the mean, of both sets together
            apart = added.detach() / count - total.detach() / max(done, 1)
            squares = squares + spread + apart.square() * (done * count / (done + count))
            total, done = total + added, done + count
        means.append(total / n_trajectories)
        errors.append((squares / (n_trajectories * (n_trajectories - 1))).sqrt())
    return torch.cat(means), torch.cat(errors)


@dataclass(frozen=True)
class _Chunk:
    """Some trajectories of some of the samples."""

    plan: TrajectoryPlan
    table: Tensor | None
    seeds: tuple[int, ...]
    batch: int  # samples in all, those of other chunks included
    part: slice

    def __call__(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum over the trajectories (b, K), and the squared distances from their mean."""
        drawn = _draw(self.plan.draws, self.seeds, self.batch, self.part).to(x.device)
        p = probabilities(_run(self.plan, x, weights, drawn)).unflatten(0, drawn.shape[:2])
        values = p if self.table is None else p @ self.table
        return values.sum(0), (values - values.mean(0)).detach().square().sum(0)


class _Rerun(torch.autograd.Function):
    """A chunk, without its graph: the backward pass runs it again."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, chunk: _Chunk, x: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.chunk = chunk  # type: ignore[attr-defined]
        ctx.save_for_backward(x, weights)
        total, squares = chunk(x, weights)
        ctx.mark_non_differentiable(squares)
        return total, squares

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needs: tuple[bool, ...] = ctx.needs_input_grad[1:]  # type: ignore[attr-defined]
        leaves: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        again = torch.is_grad_enabled()  # whether the derivative of this derivative will be asked for
        if not again:
            leaves = tuple(leaf.detach().requires_grad_(need) for leaf, need in zip(leaves, needs, strict=True))
        with torch.enable_grad():
            total, _ = ctx.chunk(*leaves)  # type: ignore[attr-defined]
        asked = [leaf for leaf, need in zip(leaves, needs, strict=True) if need]
        if not total.requires_grad:  # no gate reads what needs a gradient
            return None, None, None
        found = iter(torch.autograd.grad(total, asked, grads[0], create_graph=again, allow_unused=True))
        return None, *(next(found) if need else None for need in needs)


def _draw(draws: Sequence[Sequence[float]], seeds: Sequence[int], batch: int, part: slice) -> Tensor:
    """Return which operator each draw takes (T, b, draws); each trajectory has its own generator."""
    edges = torch.full((len(draws), max(map(len, draws), default=1)), torch.inf, dtype=torch.float64)
    for edge, q in zip(edges, draws, strict=True):
        edge[: len(q) - 1] = torch.tensor(q[:-1], dtype=torch.float64).cumsum(0)  # the last takes what is left
    size = (batch, len(draws))
    u = torch.stack(
        [torch.rand(size, generator=torch.Generator().manual_seed(s), dtype=torch.float64)[part] for s in seeds]
    )
    drawn: Tensor = torch.searchsorted(edges, u.flatten(0, 1).T.contiguous(), right=True)
    return drawn.T.unflatten(0, u.shape[:2])  # type: ignore[no-any-return]


def _run(plan: TrajectoryPlan, x: Tensor, weights: Tensor, drawn: Tensor) -> Tensor:
    """Return the states (T * b, 2^n) of trajectories of samples x (b, n_inputs)."""
    n, steps = plan.n_qubits, plan.steps
    runs, batch = drawn.shape[:2]
    if plan.initial is not None:
        psi = simulate.amplitudes(x[:, : plan.initial.n_features], 2**n).repeat(runs, 1)
    elif steps and isinstance(steps[0], tuple):  # one-qubit gates on |0...0> make a product state
        matrices = _matrices(steps[0], x, weights, drawn)
        zero = x.new_tensor([[1.0], [0.0]])
        columns = _alike([matrices[w][..., :1] if w in matrices else zero for w in range(n)])
        vectors = torch.stack([c.expand(runs, batch, 2, 1) for c in columns], 2)
        psi = simulate.product_state(vectors.reshape(-1, n, 2))
        steps = steps[1:]
    else:
        psi = x.new_zeros(runs * batch, 2**n)
        psi[:, 0] = 1
    for step in steps:
        if isinstance(step, tuple):
            for first, m in _blocks(drawn.shape[:2], _matrices(step, x, weights, drawn)):
                psi = simulate.apply_block(psi, first, m)
        elif isinstance(step, Kick):
            psi = simulate.apply_dense(psi, step.wires, step.operators[drawn[..., step.draw].flatten()])
        elif isinstance(step, Permutation):
            psi = simulate.permute(psi, step.source, step.inverse)
        elif isinstance(step, Phase):
            factor = simulate.phase(step, *simulate.phase_angles(step, x, weights))
            psi = (psi.unflatten(0, (runs, batch)) * factor).flatten(0, 1)
        else:
            psi = simulate.apply_dense(psi, step.wires, step.matrix)
    return psi


def _matrices(step: tuple[Turns, ...], x: Tensor, weights: Tensor, drawn: Tensor) -> dict[int, Tensor]:
    """Return the matrix on each wire, (2, 2), (b, 2, 2) or (T, b, 2, 2)."""
    out: dict[int, Tensor] = {}
    for turns in step:
        product: Tensor | None = None
        for factor in turns.factors:
            if isinstance(factor, Gates):
                m = factor.slots.matrices(x if factor.from_inputs else weights)
            else:
                wires = torch.arange(len(turns.wires), device=drawn.device)
                m = factor.operators[wires, drawn[..., factor.draws]]
            product = m if product is None else torch.matmul(*simulate.same_type(m, product))
        if product is not None:
            out |= dict(zip(turns.wires, product.unbind(-3), strict=True))
    return out


def _blocks(shape: torch.Size, matrices: dict[int, Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Yield Kronecker products over runs of wires and the wire that each begins with, every wire in one of them."""
    runs: list[list[int]] = []
    for wire in sorted(matrices):
        if runs and runs[-1][-1] == wire - 1:
            runs[-1].append(wire)
        else:
            runs.append([wire])
    for run in runs:
        count = -(-len(run) // BLOCK)
        size = -(-len(run) // count)
        for i in range(0, len(run), size):
            some = torch.broadcast_tensors(*_alike([matrices[w] for w in run[i : i + size]]))
            product = simulate.kron(torch.stack(some, -3))
            yield run[i], product if product.ndim == 2 else product.expand(*shape, -1, -1).flatten(0, 1)


def _alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return all as complex when one is."""
    kind = next((t.dtype for t in tensors if t.is_complex()), tensors[0].dtype)
    return [t.to(kind) for t in tensors]
