"""Tables of values as Pauli coefficients, and how a stack of such coefficients goes through matrices.

A matrix on k wires multiplies a state (rows, 4^n) from the right once its wires are the last axes. The axes turn from
where one matrix left them to where the next wants them, and back to their order at the end only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

GATHER = 5  # qubits up to which an index beats a copy of strided axes: 4^5 indices

Turn = tuple[int, ...] | Tensor | None


@dataclass(frozen=True)
class Words:
    """How a table of values of the basis states turns into coefficients of Pauli words."""

    walsh: Tensor  # (2^n, 2^n), symmetric: coefficients of the words of I and Z
    places: Tensor  # (2^n,) long: where these stand among the 4^n words

    def probabilities(self, state: Tensor) -> Tensor:
        """Return the probabilities (rows, 2^n) of states (rows, 4^n)."""
        return state.index_select(1, self.places) @ self.walsh

    def rows(self, table: Tensor) -> Tensor:
        """Return (K, 4^n) for a table (2^n, K)."""
        coefficients = table.T @ self.walsh
        out = table.new_zeros(len(coefficients), len(self.places) ** 2)
        return out.index_copy(1, self.places, coefficients)


def words(n_qubits: int) -> Words:
    """Return the tables of `Words`."""
    walsh, places = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    for _ in range(n_qubits):
        walsh = torch.kron(walsh, torch.tensor([[0.5, 0.5], [0.5, -0.5]], dtype=torch.float64))
        places = (4 * places[:, None] + torch.tensor([0, 3])).flatten()
    return Words(walsh, places)


@dataclass(frozen=True)
class Path:
    """The turns before each matrix and after the last, and what undoes them: axes, or indices of columns, or none."""

    n_qubits: int
    there: tuple[Turn, ...]
    back: tuple[Turn, ...]


def path(n_qubits: int, targets: Iterable[tuple[int, ...]]) -> Path:
    """Return the path for matrices on these wires, one after another."""
    order, turns = list(range(n_qubits)), []
    for wires in (*targets, tuple(range(n_qubits))):
        new = [w for w in order if w not in wires] + list(wires)
        turns.append(tuple(order.index(w) for w in new))
        order = new
    undone = [tuple(sorted(range(n_qubits), key=t.__getitem__)) for t in turns]
    return Path(n_qubits, tuple(map(_turn, turns)), tuple(map(_turn, undone)))


def _turn(axes: tuple[int, ...]) -> Turn:
    n = len(axes)
    if axes == tuple(range(n)):
        return None
    if n > GATHER:
        return (0, *(1 + a for a in axes))
    return torch.arange(4**n).reshape([4] * n).permute(axes).flatten()


def _turned(state: Tensor, turn: Turn, n: int) -> Tensor:
    """Return state (rows, 4^n) with its axes turned."""
    if turn is None:
        return state
    if isinstance(turn, Tensor):
        return state.index_select(1, turn)
    return state.reshape(-1, *[4] * n).permute(turn).flatten(1)


def _folded(state: Tensor, m: Tensor) -> Tensor:
    """Return state (rows, 4^n) as the left factor of m."""
    return state.reshape(-1, len(m)) if m.ndim == 2 else state.reshape(len(state), -1, m.shape[-1])


def plain(way: Path, state: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Return what `sweep` does, by operations that autograd knows."""
    rows = len(state)
    for turn, m in zip(way.there, matrices, strict=False):
        state = (_folded(_turned(state, turn, way.n_qubits), m) @ m).reshape(rows, -1)
    return _turned(state, way.there[-1], way.n_qubits)


class _Sweep(torch.autograd.Function):
    """`plain` with a backward pass of two products and one turn for each matrix."""

    generate_vmap_rule = True

    @staticmethod
    def forward(way: Path, state: Tensor, *matrices: Tensor) -> tuple[Tensor, ...]:
        n, rows, seen = way.n_qubits, len(state), []
        for turn, m in zip(way.there, matrices, strict=False):
            factor = _folded(_turned(state, turn, n), m)
            seen.append(factor)
            state = (factor @ m).view(rows, -1)
        return _turned(state, way.there[-1], n), *seen

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.way = inputs[0]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:], *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        way, g = ctx.way, grads[0]
        n, count = way.n_qubits, len(way.there) - 1
        state, matrices, seen = ctx.saved_tensors[0], ctx.saved_tensors[1 : count + 1], ctx.saved_tensors[count + 1 :]
        if g is None:
            return (None,) * (count + 2)
        if torch.is_grad_enabled():  # a derivative of this derivative is wanted
            return None, *_again(way, (state, *matrices), g, ctx.needs_input_grad[1:])
        rows, out = len(state), []
        g = _turned(g, way.back[-1], n)
        for turn, m, factor in zip(way.back[-2::-1], matrices[::-1], seen[::-1], strict=True):
            g = _folded(g, m)
            out.append(factor.mT @ g)
            g = _turned((g @ m.mT).reshape(rows, -1), turn, n)
        return None, g, *out[::-1]


def _again(way: Path, sources: Sequence[Tensor], g: Tensor, needed: Sequence[bool]) -> list[Tensor | None]:
    """Return the gradients by autograd itself."""
    wanted = [t for t, need in zip(sources, needed, strict=True) if need]
    found = iter(torch.autograd.grad(plain(way, sources[0], sources[1:]), wanted, g, create_graph=True))
    return [next(found) if need else None for need in needed]


def sweep(way: Path, state: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Return state times each matrix, from the right, each on its wires.

    Args:
        way: The path for the wires of the matrices.
        state: Coefficients (rows, 4^n).
        matrices: (4^k, 4^k), or (rows, 4^k, 4^k) for another matrix on each row.

    Returns:
        (rows, 4^n), differentiable to any order in the state and the matrices.
    """
    if not matrices:
        return state
    out: Tensor = _Sweep.apply(way, state, *matrices)[0]  # type: ignore[no-untyped-call]
    return out
