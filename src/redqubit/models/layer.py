"""A circuit as a torch module."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.gradients import SPSA, check_shots, parameter_shift, spsa, unroll
from redqubit.quantum.interop import Imported, with_products
from redqubit.quantum.measure import Observable, Probabilities, bases, z_of
from redqubit.quantum.noise import NoiseModel, with_noise
from redqubit.quantum.simulation.engine import Choice, Engine, OnBackend, Runner, check_method, choose
from redqubit.quantum.simulation.fuse import cast
from redqubit.quantum.simulation.state_vector import check
from redqubit.registry import unknown

Gradient = Literal["exact", "adjoint", "parameter-shift", "spsa"]


class QuantumLayer(nn.Module):
    """Expectation values of a circuit: (B, n_inputs) -> (B, n_outputs).

    Gradients reach weights and inputs in every mode. Exact ones are differentiable to any order.

    Args:
        circuit: The circuit; inputs are features as they come, in radians where the circuit does not scale them.
        wires: The wires whose <Z> is read, all by default.
        observables: What is read instead: Pauli sums such as {"ZZI": 0.5, "XII": 1.0}, or `Probabilities(wires)`.
        noise: Channels and read-out errors to add; a circuit may also bring its own.
        shots: Samples that each output is the mean of; exact expectation values when None.
        gradient: "exact"; "adjoint", the same with memory that does not grow with depth; "parameter-shift", from
            shifted runs, as hardware can; "spsa", or `SPSA(step, directions)`, from runs along random directions. The
            latter two take their runs with shots and noise as the forward pass does; with the former two the value is
            sampled and its gradient is that of the expectation value.
        method: How to simulate, see `redqubit.quantum.simulation.engine`; "auto" chooses.
        products: Features that are multiplied to make the circuit's last inputs, as in ZZ feature maps.
        backend: A Qiskit backend or estimator primitive, fake or real, that runs the circuit in place of a simulator,
            with `shots`; it has gradients by parameter-shift and spsa only.
        n_trajectories: Runs per sample where noise is simulated by trajectories.
        weights: Initial weights (n_weights,), in radians; uniform in [0, 2 pi) when absent.
        trainable: Whether weights are an `nn.Parameter` with gradient; frozen weights stay in the state dict.
        generator: Source of the initial weights, shots, trajectories and directions; needed where there are any.

    Raises:
        UsageError: for a wire outside the circuit, weights of the wrong shape, or arguments that exclude each other.

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
        observables: Sequence[Observable] | Probabilities | None = None,
        noise: NoiseModel | None = None,
        shots: int | None = None,
        gradient: Gradient | SPSA = "exact",
        method: str = "auto",
        products: Sequence[Sequence[int]] = (),
        backend: Any = None,
        n_trajectories: int = 100,
        weights: Tensor | None = None,
        trainable: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if wires is not None and observables is not None:
            raise UsageError("Argument `wires` must be absent when `observables` are given: they say what is read.")
        n = circuit.n_qubits
        outputs = z_of(n, range(n) if wires is None else wires) if observables is None else observables
        self.circuit = circuit if noise is None else with_noise(circuit, noise)
        self.outputs = outputs if isinstance(outputs, Probabilities) else tuple(outputs)
        self.shots, self.gradient, self.method, self.n_trajectories = shots, gradient, method, n_trajectories
        self.products, self.backend = tuple(map(tuple, products)), backend
        self._check_options()
        if weights is None:
            if circuit.n_weights and generator is None:
                raise UsageError("Argument `generator` must be given when `weights` are not: they are drawn from it.")
            weights = torch.rand(circuit.n_weights, generator=generator) * (2 * math.pi)
        if weights.shape != (circuit.n_weights,):
            raise UsageError(
                f"Argument `weights` must have shape ({circuit.n_weights},), but has {tuple(weights.shape)}."
            )
        self.weights = nn.Parameter(weights.detach().clone(), requires_grad=trainable)
        self.generator = generator
        draws = self.is_random if backend is None else False  # a backend has a generator of its own
        if generator is None and (draws or isinstance(gradient, SPSA) or gradient == "spsa"):
            raise UsageError("Argument `generator` must be given for shots, trajectories and spsa: they draw from it.")
        self._bases = bases(n, outputs)
        self._angles = unroll(self.circuit)[1] if self._by_runs else None
        self._engines: dict[tuple[str, bool], Sequence[Runner]] = {}  # by type of device and frozen weights

    @classmethod
    def of(cls, imported: Imported, **options: Any) -> Self:
        """Return the layer of a circuit from PennyLane, Qiskit or OpenQASM; `options` are those of the layer.

        Weights start at the values that they had there.
        """
        weights = torch.tensor(imported.weights) if len(imported.weights) == imported.circuit.n_weights else None
        found: dict[str, Any] = {
            "observables": imported.observables, "products": imported.products, "shots": imported.shots,
            "weights": weights,
        }  # fmt: skip
        return cls(imported.circuit, **(found | options))

    @classmethod
    def from_pennylane(cls, node: Any, *, inputs: Any = None, weights: Any = None, **options: Any) -> Self:
        """Return the layer of a QNode, tape or TorchLayer; see `redqubit.quantum.pennylane.from_pennylane`."""
        from redqubit.quantum.pennylane import from_pennylane

        return cls.of(from_pennylane(node, inputs=inputs, weights=weights), **options)

    @classmethod
    def from_qiskit(
        cls, circuit: Any, *, inputs: Any = None, weights: Any = None, observables: Any = None, **options: Any
    ) -> Self:
        """Return the layer of a QuantumCircuit, EstimatorQNN, SamplerQNN or TorchConnector.

        See `redqubit.quantum.qiskit.from_qiskit`.
        """
        from redqubit.quantum.qiskit import from_qiskit

        return cls.of(from_qiskit(circuit, inputs=inputs, weights=weights, observables=observables), **options)

    @classmethod
    def from_qasm(
        cls, source: Any, *, inputs: Any = None, weights: Any = None, observables: Any = None, **options: Any
    ) -> Self:
        """Return the layer of an OpenQASM 2 or 3 program or file; see `redqubit.quantum.qiskit.from_qasm`."""
        from redqubit.quantum.qiskit import from_qasm

        return cls.of(from_qasm(source, inputs=inputs, weights=weights, observables=observables), **options)

    def replaced(self, **changes: Any) -> Self:
        """Return a layer with some options changed, and a copy of the weights."""
        options: dict[str, Any] = {
            "observables": self.outputs, "shots": self.shots, "gradient": self.gradient, "method": self.method,
            "products": self.products, "n_trajectories": self.n_trajectories, "weights": self.weights,
            "trainable": self.weights.requires_grad, "generator": self.generator, "backend": self.backend,
        }  # fmt: skip
        return type(self)(self.circuit, **(options | changes)).train(self.training)

    @property
    def n_inputs(self) -> int:
        """Number of features that a sample must have."""
        return self.circuit.n_inputs - len(self.products)

    @property
    def n_outputs(self) -> int:
        """Number of expectation values or probabilities."""
        return 2 ** len(self.outputs.wires) if isinstance(self.outputs, Probabilities) else len(self.outputs)

    @property
    def is_random(self) -> bool:
        """Whether two passes over the same sample may differ."""
        return self.shots is not None or self.backend is not None or self.choice().method == "trajectories"

    @property
    def _by_runs(self) -> bool:
        return isinstance(self.gradient, SPSA) or self.gradient in ("parameter-shift", "spsa")

    def _check_options(self) -> None:
        if not isinstance(self.gradient, SPSA) and self.gradient not in get_args(Gradient):
            raise unknown("value of `gradient`", self.gradient, get_args(Gradient))
        if self.gradient == "adjoint" and self.circuit.channels:
            raise UsageError(
                "Argument `gradient` must not be adjoint for a circuit with noise channels, which cannot be undone: "
                "use exact, parameter-shift or spsa."
            )
        if self.shots is not None:
            check_shots(self.shots)
        if self.n_trajectories < 2:
            raise UsageError(f"Argument `n_trajectories` must be 2 or more, but is {self.n_trajectories}.")
        check_method(self.method, unroll(self.circuit)[0] if self._by_runs else self.circuit)
        known = self.circuit.n_inputs - len(self.products)
        if any(not product or not set(product) <= set(range(known)) for product in self.products):
            raise UsageError(f"Argument `products` must name features 0 to {known - 1}, but is {self.products}.")

    def choice(self, device: torch.device | str = "cpu") -> Choice:
        """Return how the circuit is simulated on a device, and why."""
        if self.method != "auto":
            return Choice(self.method, "asked for")
        if self.gradient == "adjoint":
            return Choice("native" if torch.device(device).type == "cpu" else "adjoint", "the gradient asked for")
        circuit = unroll(self.circuit)[0] if self._by_runs else self.circuit
        return choose(circuit, device, shots=self.shots is not None, frozen=not self.weights.requires_grad)

    def extra_repr(self) -> str:
        c = self.circuit
        parts = [f"{c.n_qubits} qubits, {self.n_inputs} inputs, {c.n_weights} weights"]
        parts += [f"{len(c.channels)} channels"] if c.channels else []
        parts += [f"{self.shots} shots"] if self.shots else []
        parts += [f"gradient {self.gradient}"] if self.gradient != "exact" else []
        return ", ".join(parts)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs (B, n_outputs) of features (B, n_inputs)."""
        x = self._features(x)
        weights = self.weights.to(x)
        engines = self._ready(x.device)
        return torch.stack([self._read(engine, x, weights) for engine in engines]).sum(0)

    def estimate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return expectation values without shots and their standard errors (B, n_outputs).

        The errors are 0 unless the circuit is simulated by trajectories.
        """
        x = self._features(x)
        rows, weights = x, self.weights.to(x)
        if self._angles is not None:
            rows, weights = cast(self._angles, x.dtype, x.device).of(x, weights), x.new_zeros(0)
        values, errors = zip(*(engine.estimate(rows, weights) for engine in self._ready(x.device)), strict=True)
        return torch.stack(values).sum(0), torch.stack(errors).square().sum(0).sqrt()

    def _features(self, x: Tensor) -> Tensor:
        """Return checked features, with their products behind them."""
        if x.ndim == 2 and x.shape[1] == self.n_inputs:
            x = with_products(x, self.products)
        check(self.circuit, x, self.weights)
        return x

    def _read(self, engine: Runner, x: Tensor, weights: Tensor) -> Tensor:
        """Return what one basis adds to the outputs."""
        if self._angles is None:
            return engine.run(x, weights)

        def run(angles: Tensor) -> Tensor:
            return engine.run(angles, angles.new_zeros(0))

        angles = cast(self._angles, x.dtype, x.device)
        if self.gradient == "parameter-shift":
            return parameter_shift(run, angles, x, weights)
        assert self.generator is not None  # held by the constructor
        mode = self.gradient if isinstance(self.gradient, SPSA) else SPSA()
        return spsa(run, angles, x, weights, mode=mode, generator=self.generator)

    def _ready(self, device: torch.device) -> Sequence[Runner]:
        """Return what evaluates each basis, made when first used."""
        key = (device.type, self.weights.requires_grad)
        if key not in self._engines:
            self._engines[key] = self._made(device)
        return self._engines[key]

    def _made(self, device: torch.device) -> Sequence[Runner]:
        def ready(circuit: Circuit) -> Circuit:
            return unroll(circuit)[0] if self._by_runs else circuit

        if self.backend is not None:
            return [OnBackend(ready(self.circuit), self.outputs, self.backend, shots=self.shots)]
        method = self.choice(device).method
        turned = [replace(self.circuit, gates=self.circuit.gates + basis.gates) for basis in self._bases]
        return [
            Engine(
                ready(circuit),
                basis.table,
                method,
                shots=self.shots,
                n_trajectories=self.n_trajectories,
                generator=self.generator,
            )
            for circuit, basis in zip(turned, self._bases, strict=True)
        ]
