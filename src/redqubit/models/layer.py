"""A circuit as a torch module."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.quantum.bloch import BlochPlan, build_bloch, contract, features, observable
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.fuse import Plan, build, cast
from redqubit.quantum.measure import expectation_z
from redqubit.quantum.simulate import check, run


class QuantumLayer(nn.Module):
    """Expectation values <Z> of a circuit: (B, n_inputs) -> (B, len(wires)).

    Gradients reach weights and inputs, to any order. Small circuits whose inputs come first are evaluated in
    the Heisenberg picture (`redqubit.quantum.bloch`), others as state vectors; both are exact.

    Args:
        circuit: The circuit; inputs are features as they come, in radians where the circuit does not scale them.
        wires: The wires read out, all by default.
        weights: Initial weights (n_weights,), in radians; uniform in [0, 2 pi) when absent.
        trainable: Whether weights are an `nn.Parameter` with gradient; frozen weights stay in the state dict.
        generator: Source of the initial weights, needed when the circuit has weights and none are given.

    Raises:
        UsageError: for a wire outside the circuit or weights of the wrong shape.

    Example:
        >>> from redqubit.quantum import Circuit, Gate, Input
        >>> layer = QuantumLayer(Circuit(1, (Gate("RY", (0,), (Input(0),)),)))
        >>> layer(torch.tensor([[0.0], [math.pi]])).tolist()
        [[1.0], [-1.0]]
    """

    def __init__(
        self,
        circuit: Circuit,
        *,
        wires: Sequence[int] | None = None,
        weights: Tensor | None = None,
        trainable: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.circuit = circuit
        self.wires = tuple(range(circuit.n_qubits)) if wires is None else tuple(wires)
        if not self.wires or not set(self.wires) <= set(range(circuit.n_qubits)):
            raise UsageError(f"Argument `wires` must be among 0 to {circuit.n_qubits - 1}, but is {self.wires}.")
        if weights is None:
            if circuit.n_weights and generator is None:
                raise UsageError("Argument `generator` must be given when `weights` are not: they are drawn from it.")
            weights = torch.rand(circuit.n_weights, generator=generator) * (2 * math.pi)
        if weights.shape != (circuit.n_weights,):
            raise UsageError(
                f"Argument `weights` must have shape ({circuit.n_weights},), but has {tuple(weights.shape)}."
            )
        self.weights = nn.Parameter(weights.detach().clone(), requires_grad=trainable)
        self._plan: Plan | BlochPlan = build_bloch(circuit, self.wires) or build(circuit)
        self._ready: tuple[object, Plan | BlochPlan] | None = None  # the plan in the precision last used
        self._folded: tuple[Tensor, Tensor] | None = None  # frozen weights and their observable

    @property
    def n_inputs(self) -> int:
        """Number of features that a sample must have."""
        return self.circuit.n_inputs

    @property
    def n_outputs(self) -> int:
        """Number of expectation values."""
        return len(self.wires)

    def extra_repr(self) -> str:
        return f"{self.circuit.n_qubits} qubits, {self.n_inputs} inputs, {self.circuit.n_weights} weights"

    def forward(self, x: Tensor) -> Tensor:
        """Return <Z> (B, n_outputs) of features (B, n_inputs)."""
        check(self.circuit, x, self.weights)
        plan = self._cast(x)
        weights = self.weights.to(x)
        if isinstance(plan, BlochPlan):
            return contract(self._observable(plan, weights), features(plan, x))
        return expectation_z(run(plan, x, weights), self.wires)

    def _cast(self, x: Tensor) -> Plan | BlochPlan:
        key = (x.dtype, x.device)
        if self._ready is None or self._ready[0] != key:
            self._ready = (key, cast(self._plan, x.dtype, x.device))
        return self._ready[1]

    def _observable(self, plan: BlochPlan, weights: Tensor) -> Tensor:
        if self.weights.requires_grad:
            return observable(plan, weights)
        # by value: frozen weights may still be loaded, or be thawed and trained, and a fused optimizer step leaves
        # their version counter as it was
        if self._folded is not None:
            old, folded = self._folded
            if (old.dtype, old.device) == (weights.dtype, weights.device) and torch.equal(old, weights):
                return folded
        self._folded = (weights.detach().clone(), observable(plan, weights))
        return self._folded[1]
