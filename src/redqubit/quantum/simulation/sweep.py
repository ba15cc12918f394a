"""Tables of values as Pauli coefficients, and how a stack of such coefficients goes through matrices.

A matrix on k wires multiplies a state (rows, 4^n) from the right once its wires are the last axes. The axes turn from
where one matrix left them to where the next wants them, and back to their order at the end only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

SMALL = 1 << 15  # numbers of a state below which calls cost more than products
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
    """Which matrices follow each other, and how the axes turn.

    `places` are (number of the stack, number in it). Turns stand before each matrix and after the last, with what
    undoes them: axes, or indices of columns, or none.
    """

    n_qubits: int
    places: tuple[tuple[int, int], ...]
    transposed: bool
    there: tuple[Turn, ...]
    back: tuple[Turn, ...]
    gathers: Tensor | None  # (2, T + 1, 4^n) long: `there` and `back` as indices, where all matrices are on two wires

    def matrices(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """Return the matrices in order."""
        found = [stack.unbind(0) for stack in stacks]
        out = [found[a][b] for a, b in self.places]
        return [m.mT for m in out] if self.transposed else out


def path(n_qubits: int, steps: Sequence[tuple[tuple[int, ...], tuple[int, int]]], *, transposed: bool = False) -> Path:
    """Return the path for matrices on (wires, place), one after another."""
    order, turns = list(range(n_qubits)), []
    for wires in (*(wires for wires, _ in steps), tuple(range(n_qubits))):
        new = [w for w in order if w not in wires] + list(wires)
        turns.append(tuple(order.index(w) for w in new))
        order = new
    undone = [tuple(sorted(range(n_qubits), key=t.__getitem__)) for t in turns]
    places = tuple(place for _, place in steps)
    gathers = None
    if n_qubits <= GATHER and all(len(wires) == 2 for wires, _ in steps):
        gathers = torch.stack([torch.stack([_index(t) for t in each]) for each in (turns, undone)])
    return Path(n_qubits, places, transposed, tuple(map(_turn, turns)), tuple(map(_turn, undone)), gathers)


def _turn(axes: tuple[int, ...]) -> Turn:
    n = len(axes)
    if axes == tuple(range(n)):
        return None
    if n > GATHER:
        return (0, *(1 + a for a in axes))
    return _index(axes)


def _index(axes: tuple[int, ...]) -> Tensor:
    n = len(axes)
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


def _carried(way: Path, state: Tensor, stacks: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the last state, and the left factor of each product."""
    n, rows, seen = way.n_qubits, len(state), []
    for turn, m in zip(way.there, way.matrices(stacks), strict=False):
        seen.append(_folded(_turned(state, turn, n), m))
        state = (seen[-1] @ m).reshape(rows, -1)
    return _turned(state, way.there[-1], n), *seen


def _is_small(way: Path, state: Tensor, stacks: Sequence[Tensor]) -> bool:
    """Tell whether the compiled loops serve: a small state on the CPU, and one matrix for all rows in each step."""
    return (
        way.gathers is not None
        and state.device.type == "cpu"
        and state.numel() <= SMALL
        and all(s.ndim == 3 and s.shape[-1] == 16 for s in stacks)
        and not torch._C._are_functorch_transforms_active()
    )


def _joined(way: Path, stacks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return all matrices (S, 16, 16), and which of them each step takes."""
    order = _order(way.places, tuple(s.shape[0] for s in stacks))
    return torch.cat(tuple(stacks)) if len(stacks) > 1 else stacks[0].contiguous(), order


@lru_cache
def _order(places: tuple[tuple[int, int], ...], sizes: tuple[int, ...]) -> Tensor:
    return torch.tensor([sum(sizes[:a]) + b for a, b in places])


def _compiled_forward(way: Path, state: Tensor, stacks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    from redqubit.quantum.simulation.sweep_kernel import forward

    assert way.gathers is not None
    matrices, order = _joined(way, stacks)
    seen = state.new_empty(len(way.places), state.numel() // 16, 16)
    last = state.new_empty(state.shape)
    arrays = (t.detach().contiguous().numpy() for t in (state, matrices, order))
    forward(*arrays, way.transposed, way.gathers[0].numpy(), seen.numpy(), last.reshape(-1, 16).numpy())
    return last, seen


def _compiled_backward(
    way: Path, g: Tensor, stacks: Sequence[Tensor], seen: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    from redqubit.quantum.simulation.sweep_kernel import backward

    assert way.gathers is not None
    matrices, order = _joined(way, stacks)
    slopes, start = torch.zeros_like(matrices), g.new_empty(g.shape)
    arrays = (t.detach().contiguous().numpy() for t in (g, matrices, order))
    back = way.gathers[1].numpy()
    backward(*arrays, way.transposed, back, seen.numpy(), slopes.numpy(), start.reshape(-1, 16).numpy())
    return start, slopes.split([s.shape[0] for s in stacks])


class _Sweep(torch.autograd.Function):
    """`_carried` with a backward pass of two products and one turn for each matrix."""

    generate_vmap_rule = True

    @staticmethod
    def forward(way: Path, state: Tensor, *stacks: Tensor) -> tuple[Tensor, ...]:
        if _is_small(way, state, stacks):
            return _compiled_forward(way, state, stacks)
        return _carried(way, state, stacks)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.way = inputs[0]
        ctx.small = _is_small(inputs[0], inputs[1], inputs[2:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[1:], *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        way, g, saved = ctx.way, grads[0], ctx.saved_tensors
        n, count = way.n_qubits, len(saved) - (1 if ctx.small else len(way.places))
        state, stacks, seen = saved[0], saved[1:count], saved[count:]
        if g is None:
            return (None,) * (count + 1)
        if torch.is_grad_enabled():  # a second derivative is wanted: say where the factors come from
            seen = _carried(way, state, stacks)[1:]
        elif ctx.small:
            start, slopes = _compiled_backward(way, g, stacks, seen[0])
            needs = ctx.needs_input_grad[2:]
            return None, start, *(slope if need else None for slope, need in zip(slopes, needs, strict=True))
        rows = len(state)
        parts: list[list[Tensor | None]] = [[None] * len(stack) for stack in stacks]
        needed = ctx.needs_input_grad[2:]
        g = _turned(g, way.back[-1], n)
        for turn, m, (a, b), factor in zip(
            way.back[-2::-1], way.matrices(stacks)[::-1], way.places[::-1], seen[::-1], strict=True
        ):
            g = _folded(g, m)
            if needed[a]:
                parts[a][b] = g.mT @ factor if way.transposed else factor.mT @ g
            g = _turned((g @ m.mT).reshape(rows, -1), turn, n)
        found = (_stacked(p, s) if need else None for p, s, need in zip(parts, stacks, needed, strict=True))
        return None, g, *found


def _stacked(parts: Sequence[Tensor | None], like: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(like[0]) if p is None else p for p in parts])


def sweep(way: Path, state: Tensor, stacks: Sequence[Tensor]) -> Tensor:
    """Return state times each matrix, from the right, each on its wires.

    Args:
        way: Which matrices, and on which wires.
        state: Coefficients (rows, 4^n).
        stacks: (S, 4^k, 4^k), or (S, rows, 4^k, 4^k) for another matrix on each row.

    Returns:
        (rows, 4^n), differentiable to any order in the state and the matrices.
    """
    if not way.places:
        return state
    out: Tensor = _Sweep.apply(way, state, *stacks)[0]  # type: ignore[no-untyped-call]
    return out
