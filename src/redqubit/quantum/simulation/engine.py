"""Which way to simulate a circuit, and why; one front for all ways."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.gradients import at_value, sample
from redqubit.quantum.measure import Observable, Probabilities, as_read, with_readout
from redqubit.quantum.simulation import heisenberg
from redqubit.quantum.simulation.fuse import cast
from redqubit.registry import unknown

# method -> module with build(circuit) -> plan and expectations(plan, x, weights, table) -> (B, K)
_MODULES: Mapping[str, str] = {
    "heisenberg": "heisenberg",
    "native": "native",
    "state-vector": "state_vector",
    "adjoint": "adjoint",
    "density-matrix": "density",
    "trajectories": "trajectories",
}
PURE = ("heisenberg", "native", "state-vector", "adjoint")  # methods for circuits without channels
NOISY = ("heisenberg", "density-matrix", "trajectories")
MAX_DENSITY = 8  # qubits: 4^8 real numbers for each sample
MIN_ADJOINT = 12  # qubits from which the states of every layer are too much to keep


@dataclass(frozen=True)
class Choice:
    """A method and why it was chosen."""

    method: str
    reason: str


def choose(
    circuit: Circuit, device: torch.device | str = "cpu", *, shots: bool = False, frozen: bool = False
) -> Choice:
    """Return the method that `method="auto"` stands for.

    Args:
        circuit: The circuit, noise included.
        device: Where it is simulated.
        shots: Whether all probabilities are wanted, which carrying observables back pays for one by one.
        frozen: Whether weights stay as they are, so that the observable is carried back once.

    Example:
        >>> from redqubit.quantum import Gate, Input
        >>> choose(Circuit(1, (Gate("RY", (0,), (Input(0),)),))).method
        'native'
    """
    n = circuit.n_qubits
    cpu, noisy = torch.device(device).type == "cpu", bool(circuit.channels)
    unfit = (noisy and shots and n > heisenberg.MAX_PURE) or (cpu and not noisy and not frozen)
    if not unfit and heisenberg.build(circuit) is not None:
        return Choice("heisenberg", f"{n} qubits whose inputs come first: the observable is carried back to them")
    if noisy:
        if n <= MAX_DENSITY:
            return Choice("density-matrix", f"noise on {n} qubits, at most {MAX_DENSITY}: exact")
        return Choice("trajectories", f"noise on {n} qubits, more than {MAX_DENSITY}: a Monte-Carlo estimate")
    if cpu:
        return Choice("native", f"no noise, {n} qubits on a CPU: the compiled kernel")
    if n >= MIN_ADJOINT:
        return Choice("adjoint", f"no noise, {n} qubits, {MIN_ADJOINT} or more: memory that does not grow with depth")
    return Choice("state-vector", f"no noise, {n} qubits on {torch.device(device).type}: fused tensor operations")


def check_method(method: str, circuit: Circuit) -> None:
    """Raise a `UsageError` unless the method, or "auto", can simulate the circuit."""
    if method == "auto":
        return
    if method not in _MODULES:
        raise unknown("method", method, ["auto", *_MODULES])
    if method not in (NOISY if circuit.channels else PURE):
        kind = "with" if circuit.channels else "without"
        raise UsageError(
            f"Argument `method` must be one of {', '.join(NOISY if circuit.channels else PURE)} for a circuit {kind} "
            f"noise, but is {method}."
        )
    if method == "heisenberg" and heisenberg.build(circuit) is None:
        raise UsageError(
            "Argument `method` must not be heisenberg: this circuit has too many qubits for it, or its inputs do not "
            "come first."
        )


class Runner(Protocol):
    """What evaluates a circuit: a simulator or a backend."""

    def run(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the outputs (B, K) as they come, from shots where there are any."""
        ...

    def estimate(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return expectation values and their standard errors (B, K)."""
        ...


class Engine:
    """A circuit and a table of what its basis states stand for, evaluated by one method.

    Args:
        circuit: The circuit, noise and read-out errors included.
        table: (2^n, K); output k is the mean of column k over the basis states that are read.
        method: A method, not "auto".
        shots: Draws of a basis state for each sample; exact expectation values when None.
        n_trajectories: Runs per sample of the method "trajectories".
        generator: Source of draws and trajectories.
    """

    def __init__(
        self,
        circuit: Circuit,
        table: Tensor,
        method: str,
        *,
        shots: int | None = None,
        n_trajectories: int = 100,
        generator: torch.Generator | None = None,
    ) -> None:
        module = import_module(f"redqubit.quantum.simulation.{_MODULES[method]}")
        self._method, self._shots, self._generator = method, shots, generator
        self._plan, self._values, self._readout = module.build(circuit), table, circuit.readout
        self._table = with_readout(table, circuit.readout)
        self._expectations: Callable[..., Any] = module.expectations
        if method == "trajectories":
            self._expectations = partial(module.expectations, n_trajectories=n_trajectories, generator=generator)
        self._ready: dict[tuple[torch.dtype, torch.device], Any] = {}  # plan and table in the precisions used
        self._folded: tuple[Tensor, heisenberg.Folded] | None = None  # frozen weights and their observable

    def run(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the outputs (B, K): exact, or from shots with the gradient of the expectation values."""
        if self._shots is None:
            return self.estimate(x, weights)[0]
        assert self._generator is not None
        plan, _ = self._cast(x)
        p: Tensor = self._expectations(plan, x, weights, None)
        p = as_read(p[0] if self._method == "trajectories" else p, self._readout)
        values = self._values.to(p)
        return at_value(p @ values, sample(p, values, self._shots, generator=self._generator))

    def estimate(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return expectation values and their standard errors (B, K), which are zero but for trajectories."""
        plan, table = self._cast(x)
        if self._method == "heisenberg":
            values = heisenberg.contract(plan, self._fold(plan, weights, table), x)
        elif self._method == "trajectories":
            mean, error = self._expectations(plan, x, weights, table)
            return mean, error
        else:
            values = self._expectations(plan, x, weights, table)
        return values, x.new_zeros(()).expand_as(values)

    def _cast(self, x: Tensor) -> Any:
        key = (x.dtype, x.device)
        if key not in self._ready:
            self._ready[key] = cast((self._plan, self._table), x.dtype, x.device)
        return self._ready[key]

    def _fold(self, plan: heisenberg.HeisenbergPlan, weights: Tensor, table: Tensor) -> heisenberg.Folded:
        if weights.requires_grad:
            return heisenberg.fold(plan, weights, table)
        # by value: frozen weights may still be loaded, or be thawed and trained, and a fused optimizer step leaves
        # their version counter as it was
        if self._folded is not None:
            old, folded = self._folded
            if (old.dtype, old.device) == (weights.dtype, weights.device) and torch.equal(old, weights):
                return folded
        folded = heisenberg.fold(plan, weights, table)
        if not torch.is_inference_mode_enabled():  # what is made there cannot be part of a graph later
            self._folded = (weights.detach().clone(), folded)
        return folded


class OnBackend:
    """A circuit that a Qiskit backend runs, with gradients from shifted runs only."""

    def __init__(
        self, circuit: Circuit, outputs: Sequence[Observable] | Probabilities, backend: Any, *, shots: int | None
    ) -> None:
        from redqubit.quantum.qiskit import BackendRun

        observables: Any = outputs  # probabilities are refused there
        self._run = BackendRun(circuit, observables, backend, shots=shots)

    def run(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the outputs (B, K)."""
        if torch.is_grad_enabled() and (x.requires_grad or weights.requires_grad):
            raise UsageError(
                "Argument `gradient` must be parameter-shift or spsa for gradients on a backend, which gives no exact "
                "ones; for values alone use torch.no_grad()."
            )
        return self._run(x, weights)

    def estimate(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Refuse: a backend has no expectation values."""
        raise UsageError("A backend gives no expectation values: run the layer without `backend` for them.")
