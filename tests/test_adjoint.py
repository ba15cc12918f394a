"""The adjoint method against the plain state vector, and what it keeps in memory."""

import random
from types import ModuleType, TracebackType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from redqubit.quantum import Amplitude, Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.circuit import SIGNATURES
from redqubit.quantum.simulation import adjoint
from redqubit.quantum.simulation import state_vector as simulate
from redqubit.quantum.simulation.fuse import build, cast


def random_circuit(seed: int, n: int, length: int, initial: Amplitude | None = None) -> Circuit:
    """Return a circuit of all kinds of gates whose angles are numbers, inputs and weights, some of them shared."""
    r = random.Random(seed)
    unitary = torch.linalg.qr(torch.randn(4, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed)))
    gates = []
    for _ in range(length):
        name = r.choice([*(g for g, (wires, _) in SIGNATURES.items() if wires <= n), "Unitary"])
        n_wires, n_angles = SIGNATURES.get(name, (2, 0))
        kinds = [r.randrange(3) for _ in range(n_angles)]
        angles = tuple(
            (r.uniform(-3, 3), r.uniform(-2, 2) * Input(r.randrange(3)) + 0.1, 0.5 * Weight(r.randrange(5)))[kind]
            for kind in kinds
        )
        matrix = tuple(map(tuple, unitary.Q.tolist())) if name == "Unitary" else None
        gates.append(Gate(name, tuple(r.sample(range(n), n_wires)), angles, matrix))
    return Circuit(n, tuple(gates), initial)


def point(circuit: Circuit, batch: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, weights and a table."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, circuit.n_inputs, generator=g, dtype=torch.float64) + 0.1
    w = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64) * 6
    return x, w, torch.randn(2**circuit.n_qubits, 2, generator=g, dtype=torch.float64)


def gradients(engine: ModuleType, circuit: Circuit, leaves: str, batch: int = 3) -> list[Tensor]:
    """Return the outputs and the gradients to `leaves`, a text of x and w."""
    x, w, table = point(circuit, batch)
    x, w = x.requires_grad_("x" in leaves), w.requires_grad_("w" in leaves)
    out = engine.expectations(build(circuit), x, w, table)
    asked = [t for t in (x, w) if t.requires_grad]
    if not out.requires_grad:
        return [out]
    return [out, *torch.autograd.grad(out.square().sum(), asked, allow_unused=True, materialize_grads=True)]


def agree(circuit: Circuit) -> None:
    for leaves in ("xw", "x", "w"):
        found, wanted = (gradients(engine, circuit, leaves) for engine in (adjoint, simulate))
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(1, 25))
def test_random_circuits_equal_the_state_vector(seed: int, n: int, length: int) -> None:
    agree(random_circuit(seed, n, length))


@pytest.mark.parametrize(
    "circuit",
    [
        ansatzes.dressed(7, 3),
        (encodings.angle(6, ("RX",)) + ansatzes.strongly_entangling(6)) * 2,
        random_circuit(1, 4, 20, Amplitude(11)),
        ansatzes.strongly_entangling(5, 2),  # no input at all
        Circuit(2, (Gate("CX", (0, 1)),)),  # nothing to differentiate
        Circuit(3, (Gate("H", (0,)), Gate("IsingZZ", (0, 2), (Input(0),)), Gate("RY", (1,), (Weight(0),)))),
    ],
    ids=["real", "complex", "amplitude", "no-input", "fixed", "phase"],
)
def test_kinds_of_circuits_equal_the_state_vector(circuit: Circuit) -> None:
    agree(circuit)


def test_probabilities_without_a_table() -> None:
    circuit = random_circuit(2, 4, 20)
    x, w, table = point(circuit)
    p = adjoint.expectations(build(circuit), x, w, None)
    assert torch.allclose(p.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(p @ table, adjoint.expectations(build(circuit), x, w, table), atol=1e-12)


def test_derivatives_by_finite_differences_to_second_order() -> None:
    circuit = (encodings.angle(3, ("RZ", "RX"), hadamard=True) + ansatzes.sim(6, 3)) * 2
    x, w, table = point(circuit, batch=2)
    plan = build(circuit)

    def f(x: Tensor, w: Tensor) -> Tensor:
        return adjoint.expectations(plan, x, w, table)

    leaves = (x.requires_grad_(), w.requires_grad_())
    assert torch.autograd.gradcheck(f, leaves, atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, leaves, atol=1e-5, fast_mode=True)


def test_a_graph_that_is_kept_can_be_walked_twice() -> None:
    circuit = random_circuit(3, 4, 20)
    x, w, table = point(circuit)
    out = adjoint.expectations(build(circuit), x, w.requires_grad_(), table).sum()
    first, second = (torch.autograd.grad(out, w, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_single_precision_survives_a_deep_circuit() -> None:
    circuit = ansatzes.dressed(8, 40)
    x, w, table = point(circuit)
    plan = build(circuit)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaf = w.to(dtype).requires_grad_()
        out = adjoint.expectations(cast(plan, dtype, x.device), x.to(dtype), leaf, table.to(dtype))
        assert out.dtype == dtype
        found.append(torch.autograd.grad(out.sum(), leaf)[0].double())
    assert torch.allclose(*found, atol=1e-4)


class Peak(TorchDispatchMode):
    """Counts the bytes of the tensors alive, made while it is on."""

    def __enter__(self) -> "Peak":
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self.alive[reference.cdata] = (reference, storage.nbytes())
        self.alive = {k: v for k, v in self.alive.items() if not v[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def peak(engine: ModuleType, layers: int) -> float:
    """Return the most memory that forward and backward need together, in states."""
    n, batch = 12, 4
    circuit = encodings.angle(n) + (encodings.angle(n, ("RZ",)) + ansatzes.strongly_entangling(n)) * layers
    x, w, table = point(circuit, batch)
    plan = build(circuit)
    leaves = (x.requires_grad_(), w.requires_grad_())
    with Peak() as count:
        torch.autograd.grad(engine.expectations(plan, x, w, table).sum(), leaves)
    return count.peak / (batch * 2**n * 16)


def test_memory_does_not_grow_with_depth() -> None:
    """In units of one state; the small matrices may grow a little."""
    shallow, deep = (peak(adjoint, layers) for layers in (2, 8))
    assert deep < shallow + 1.5 < 12
    assert peak(simulate, 8) > 3 * deep  # the measure sees what a stored state costs
