"""The native kernel as a function of torch."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit, Gate, Input, Weight
from redqubit.quantum.measure import probabilities, signs
from redqubit.quantum.simulation.fuse import cast
from redqubit.quantum.simulation.native.plan import CHUNK, SKEW, NativePlan, build
from redqubit.quantum.simulation.state_vector import run

ROW_BYTES = 32  # of a row of samples
THREAD_WORK = 300_000  # multiplications and additions that are worth waking a thread for


def expectations(plan: NativePlan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
    """Return the mean of each column of a table over the basis states that a circuit ends in.

    out[b, k] = sum_j p_j(x_b) table[j, k]

    Args:
        plan: A plan, cast to x's type.
        x: Inputs (B, n_inputs), float32 or float64 on the CPU, in radians where they are angles.
        weights: Weights (n_weights,) of the same type, in radians.
        table: Values to average (2^n, K); None for the probabilities themselves.

    Returns:
        (B, K), or (B, 2^n) probabilities. The same bits whatever the number of threads.

    Raises:
        UsageError: when amplitude encoding meets an all-zero sample.

    Example:
        >>> circuit = Circuit(1, (Gate("RY", (0,), (Input(0),)),))
        >>> x = torch.tensor([[0.0], [torch.pi]], dtype=torch.float64)
        >>> expectations(build(circuit), x, x.new_zeros(0), None).round(decimals=6).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if not (_has_memory(x) and _has_memory(weights)):
        return _by_torch(plan, x, weights, table)
    if torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad):
        out: Tensor = _Native.apply(plan, x, weights, table)  # type: ignore[no-untyped-call]
        return out
    return _forward(plan, x, weights, table, keep=False).out


def warm_up(dtype: torch.dtype) -> float:
    """Compile the kernel for a type, or load it from Numba's cache; return the seconds it took.

    The cache is beside the package, or where that is not writable in the user's cache folder.
    """
    begin = time.perf_counter()
    circuit = Circuit(1, (Gate("RY", (0,), (Input(0),)), Gate("RZ", (0,), (Weight(0),))))
    plan = cast(build(circuit), dtype, torch.device("cpu"))
    x, w = torch.zeros(1, 1, dtype=dtype, requires_grad=True), torch.zeros(1, dtype=dtype)
    expectations(plan, x, w, signs(1).to(dtype)).sum().backward()
    return time.perf_counter() - begin


def _has_memory(tensor: Tensor) -> bool:
    """Tell whether a tensor is one of numbers; the batches that torch makes up for `vmap` are not."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


def _by_torch(plan: NativePlan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
    p = probabilities(run(plan.torch_plan, x, weights))
    return p if table is None else p @ table


@dataclass(frozen=True)
class _Readout:
    """A table as the kernel reads it; its kind and the wires of columns a + b z_wire."""

    code: Tensor
    numbers: Tensor


_PROBABILITIES, _TABLE, _WIRES = 0, 1, 2


def _readout(table: Tensor) -> _Readout:
    rows, columns = table.shape
    n = rows.bit_length() - 1
    z = signs(n).to(table)
    mean, slopes = table.mean(0), z.T @ table / rows  # the parts of a column in 1 and each z_q
    wires = slopes.abs().argmax(0)
    slope = slopes.gather(0, wires[None])[0]
    close = 1e-12 if table.dtype == torch.float64 else 1e-6
    if torch.allclose(table, mean + z[:, wires] * slope, rtol=0, atol=close * max(1.0, float(table.abs().max()))):
        return _Readout(torch.tensor([_WIRES, *wires.tolist()], dtype=torch.int32), torch.cat([mean, slope]))
    filled = torch.nn.functional.pad(table, (0, -columns % 4))
    numbers = filled.reshape(rows, -1, 4).transpose(0, 1).contiguous().flatten()
    return _Readout(torch.tensor([_TABLE], dtype=torch.int32), numbers)


_readouts: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # of tables, and the version that was read


def _readout_of(table: Tensor | None, like: Tensor) -> _Readout:
    if table is None:
        return _Readout(torch.tensor([_PROBABILITIES], dtype=torch.int32), like.new_empty(0))
    known = _readouts.get(table)
    if known is None or known[0] != table._version:
        known = (table._version, _readout(table.detach()))
        _readouts[table] = known
    readout: _Readout = known[1]
    return readout


@dataclass(frozen=True)
class _Ran:
    """What a forward pass leaves for the backward pass: tensors, and where they lie."""

    out: Tensor
    held: tuple[Tensor, ...]
    places: tuple[int, ...]
    sizes: tuple[int, int, int]  # samples, features, columns
    one: Any  # a number of their type


@lru_cache(maxsize=1)
def _kernel() -> tuple[Any, Any, Any, Any]:
    """Return the compiled functions prepare, forward, backward and collect; Numba takes half a second to import."""
    from redqubit.quantum.simulation.native.kernel import entry_points, source_stamp

    return entry_points(source_stamp())


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="redqubit")


os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not live on in a child process


def _share(work: Callable[[int, int], object], blocks: int, cost: int) -> None:
    """Call work(low, high) on parts of the blocks, one in each thread where that pays."""
    n = min(torch.get_num_threads(), blocks, 1 + cost // THREAD_WORK)
    if n < 2:
        work(0, blocks)
        return
    edges = [blocks * i // n for i in range(n + 1)]
    others = [_threads().submit(work, a, b) for a, b in pairwise(edges[1:])]
    work(0, edges[1])
    for other in others:
        other.result()


def _space(plan: NativePlan, lanes: int, states: int) -> int:
    """Return how many numbers a thread works on beside its input and output."""
    gap = lanes << plan.n_qubits
    chains = 4 * plan.n_qubits * plan.planes * lanes + (plan.n_qubits + 4) * lanes
    scratch = max(3 * gap, lanes << (CHUNK + 1))
    return 3 * lanes * plan.n_slots + chains + SKEW + states * (plan.planes * gap + SKEW) + scratch


def _forward(plan: NativePlan, x: Tensor, weights: Tensor, table: Tensor | None, *, keep: bool) -> _Ran:
    prepare, forward, _, _ = _kernel()
    x, weights = x.detach().contiguous(), weights.detach().contiguous()
    if plan.n_features and not bool(x[:, : plan.n_features].any(1).all()):
        raise UsageError("Argument `x` must not hold an all-zero sample: amplitude encoding cannot normalise it.")
    count, rows, lanes = len(x), 2**plan.n_qubits, ROW_BYTES // x.element_size()
    one = np.float32(1) if x.dtype == torch.float32 else np.float64(1)
    blocks = -(-count // lanes)
    coefficients, bases = x.new_empty(plan.n_slots * 2 * lanes), x.new_empty(plan.n_slots)
    phases = x.new_empty(plan.n_phases * 2 * rows)
    saved = x.new_empty(blocks * plan.planes * rows * lanes if keep else 0)
    readout = _readout_of(table, x)
    held = (plan.code, plan.data, coefficients, bases, phases, x, saved, readout.code, readout.numbers)
    places = tuple(t.data_ptr() for t in held)
    spare = x.new_empty(max(lanes, 3 * rows))
    prepare(one, places, weights.data_ptr(), spare.data_ptr())
    columns = rows if table is None else table.shape[1]
    out = x.new_empty(count, columns)
    sizes, space, target = (count, x.shape[1], columns), _space(plan, lanes, 2), out.data_ptr()

    def work(low: int, high: int) -> None:
        own = x.new_empty(space)
        forward(one, places, target, keep, sizes, own.data_ptr(), low, high)

    _share(work, blocks, plan.work * count)
    return _Ran(out, held, places, sizes, one)


class _Native(torch.autograd.Function):
    """The kernel and its backward pass."""

    @staticmethod
    def forward(ctx: Any, plan: NativePlan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
        ran = _forward(plan, x, weights, table, keep=True)
        ctx.save_for_backward(x, weights, table)
        ctx.plan, ctx.held, ctx.places, ctx.sizes, ctx.one = plan, ran.held, ran.places, ran.sizes, ran.one
        return ran.out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weights, table = ctx.saved_tensors
        if torch.is_grad_enabled() or not _has_memory(grad):
            with torch.enable_grad():
                out = _by_torch(ctx.plan, x, weights, table)
                wanted = [t for t in (x, weights) if t.requires_grad]
                found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True, allow_unused=True))
            return None, *(next(found) if t.requires_grad else None for t in (x, weights)), None
        plan, places, sizes, one = ctx.plan, ctx.places, ctx.sizes, ctx.one
        _, _, backward, collect = _kernel()
        grad, count, lanes = grad.contiguous(), len(x), ROW_BYTES // x.element_size()
        blocks = -(-count // lanes)
        grad_x, grad_w = x.new_empty(x.shape), weights.new_empty(weights.shape)
        parts = x.new_empty(blocks * plan.n_slots)
        source, to_parts, to_x, space = grad.data_ptr(), parts.data_ptr(), grad_x.data_ptr(), _space(plan, lanes, 4)

        def work(low: int, high: int) -> None:
            own = x.new_empty(space)
            backward(one, places, source, to_parts, to_x, sizes, own.data_ptr(), low, high)

        _share(work, blocks, 3 * plan.work * count)
        collect(one, places, to_parts, blocks, grad_w.data_ptr(), len(weights))
        return None, grad_x, grad_w, None
