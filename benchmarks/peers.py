"""The workloads W1 and W2 in RedQubit, in its peers, and gate by gate in float64 as the reference.

Every library reads the same circuit, which is data, at trace time. Imports stand inside functions: a process
loads one library.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # of the library at hand
Call = Callable[[], tuple[Array, ...]]  # outputs, gradient to x, gradient to w; the latter two where asked for


@dataclass(frozen=True)
class Case:
    """One thing to time. `gradient`: forward and backward, else forward alone."""

    workload: str
    batch: int
    gradient: bool

    def __str__(self) -> str:
        return f"{self.workload} B={self.batch} {'forward+backward' if self.gradient else 'forward'}"

    @property
    def trainable(self) -> bool:
        """Whether the weights take a gradient; W2 freezes them."""
        return self.workload == "W1"

    def circuit(self) -> Any:
        """Return the circuit as RedQubit's data, which every library below reads."""
        from redqubit.quantum import ansatzes, encodings

        if self.workload == "W1":
            return ansatzes.dressed(10, 6)
        return encodings.angle(4) + ansatzes.robqunn("full", order="zz_first")

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return x (B, n), weights, and the vector (B, n) that the backward pass starts from, in float32."""
        circuit, rng = self.circuit(), np.random.default_rng(0)
        high = math.pi if self.workload == "W1" else 1.0  # W2 takes pixels
        x = rng.uniform(0, high, (self.batch, circuit.n_inputs))
        w = rng.uniform(0, 2 * math.pi, circuit.n_weights)
        direction = rng.uniform(-1, 1, (self.batch, circuit.n_qubits))
        return x.astype(np.float32), w.astype(np.float32), direction.astype(np.float32)


WORKLOADS = {
    "W1": "10 qubits, H, RY(x), 6 layers of CX on even then odd pairs and RY(w), all <Z>; gradients to x and w",
    "W2": "4-qubit quanvolution with a fixed filter, RY(pi x), ZZ on all pairs, Rot, all <Z>; gradient to x",
}
CASES = [Case(name, b, g) for name, b in (("W1", 64), ("W1", 256), ("W2", 3136)) for g in (False, True)]


# Each function named after a library returns the call to time; what it does before counts in the first call.


def redqubit(case: Case) -> Call:
    import torch

    from redqubit.models.layer import QuantumLayer

    x, w, direction = map(torch.from_numpy, case.arrays())
    layer = QuantumLayer(case.circuit(), weights=w, trainable=case.trainable)
    return _torch_call(case, layer, x, layer.weights, direction)


def pennylane_torch(case: Case) -> Call:
    return _pennylane_torch(case, "default.qubit", "backprop", {})


def pennylane_lightning(case: Case) -> Call:
    return _pennylane_torch(case, "lightning.qubit", "adjoint", {"c_dtype": np.complex64})


def _pennylane_torch(case: Case, device: str, diff_method: str, options: dict[str, Any]) -> Call:
    import torch

    x, w, direction = map(torch.from_numpy, case.arrays())
    w.requires_grad_(case.trainable)
    frozen = None if case.trainable else w.tolist()  # numbers are cheaper for PennyLane than tensors
    node = _pennylane(case, device, diff_method, "torch", options)
    return _torch_call(case, lambda v: torch.stack(tuple(node(v, frozen or w)), 1), x, w, direction)


def _torch_call(case: Case, model: Callable[[Array], Array], x: Array, w: Array, direction: Array) -> Call:
    import torch

    if not case.gradient:

        def forward() -> tuple[Array, ...]:
            with torch.no_grad():
                return (model(x),)

        return forward
    x.requires_grad_()
    sources = (x, w) if case.trainable else (x,)

    def both() -> tuple[Array, ...]:
        out = model(x)
        return out.detach(), *torch.autograd.grad(out, sources, direction.to(out.dtype))

    return both


def pennylane_jax(case: Case) -> Call:
    import jax.numpy as jnp

    node = _pennylane(case, "default.qubit", "backprop", "jax", {})
    return _jax_call(case, lambda x, w: jnp.stack(node(x, w), 1))


def _pennylane(case: Case, simulator: str, diff_method: str, interface: str, options: dict[str, Any]) -> Any:
    """Return the circuit as a QNode of (x, w) with broadcasting over the batch."""
    import pennylane as qml

    circuit = case.circuit()
    gates = {"H": qml.Hadamard, "RY": qml.RY, "CX": qml.CNOT, "IsingZZ": qml.IsingZZ, "Rot": qml.Rot}

    def node(x: Array, w: Array) -> list[Any]:
        for gate in circuit.gates:
            gates[gate.name](*_angles(gate, x, w), wires=gate.wires)
        return [qml.expval(qml.PauliZ(q)) for q in range(circuit.n_qubits)]

    device = qml.device(simulator, wires=circuit.n_qubits, **options)
    return qml.QNode(node, device, diff_method=diff_method, interface=interface)


def tensorcircuit_jax(case: Case) -> Call:
    import jax
    import tensorcircuit as tc

    tc.set_backend("jax")
    circuit = case.circuit()
    n = circuit.n_qubits
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1)) & 1).astype(np.float32)

    def one(x: Array, w: Array) -> Array:
        c = tc.Circuit(n)
        for gate in circuit.gates:
            angles = _angles(gate, x, w)
            if gate.name == "H":
                c.h(*gate.wires)
            elif gate.name == "CX":
                c.cnot(*gate.wires)
            elif gate.name == "IsingZZ":
                c.rzz(*gate.wires, theta=angles[0])
            else:  # RY, or Rot = RZ RY RZ
                for name, angle in zip(("ry",) if gate.name == "RY" else ("rz", "ry", "rz"), angles, strict=True):
                    getattr(c, name)(*gate.wires, theta=angle)
        psi = c.state()
        return (psi.real**2 + psi.imag**2) @ signs  # faster here than its own expectation values

    return _jax_call(case, jax.vmap(one, in_axes=(0, None)))


def _jax_call(case: Case, model: Callable[[Array, Array], Array]) -> Call:
    import jax

    x, w, direction = map(jax.numpy.asarray, case.arrays())

    def forward(x: Array, w: Array) -> tuple[Array, ...]:
        return (model(x, w),)

    def both(x: Array, w: Array) -> tuple[Array, ...]:
        out, pull = jax.vjp(model, x, w)
        return out, *pull(direction)

    def both_frozen(x: Array) -> tuple[Array, ...]:  # the weights are constants, which the compiler may fold
        out, pull = jax.vjp(lambda v: model(v, w), x)
        return out, *pull(direction)

    if case.trainable:
        trained = jax.jit(both if case.gradient else forward)
        return lambda: tuple(jax.block_until_ready(trained(x, w)))
    frozen = jax.jit(both_frozen if case.gradient else lambda v: forward(v, w))
    return lambda: tuple(jax.block_until_ready(frozen(x)))


def reference(case: Case) -> Call:
    """Return a simulation gate by gate in float64, with nothing of RedQubit's engine in it."""
    import torch

    circuit = case.circuit()
    n = circuit.n_qubits
    x, w, direction = (torch.from_numpy(v).double() for v in case.arrays())
    w.requires_grad_(case.trainable)
    y_axis = torch.tensor([[0, -1], [1, 0]], dtype=torch.complex128)  # -i Y
    z_axis = torch.tensor([[-1j, 0], [0, 1j]], dtype=torch.complex128)  # -i Z

    def turn(angle: Any, axis: Array) -> Array:  # exp(angle/2 axis), (2, 2) or (B, 2, 2)
        half = torch.as_tensor(angle, dtype=torch.float64)[..., None, None] / 2
        return torch.cos(half) * torch.eye(2) + torch.sin(half) * axis

    def on(psi: Array, m: Array, q: int) -> Array:
        parts = psi.reshape(len(psi), 2**q, 2, -1)
        return (m[..., None, :, :] @ parts).reshape(psi.shape) if m.ndim == 3 else (m @ parts).reshape(psi.shape)

    basis = torch.arange(2**n)
    bits = torch.stack([(basis >> (n - 1 - q)) & 1 for q in range(n)])

    def model(x: Array) -> Array:
        psi = torch.zeros(len(x), 2**n, dtype=torch.complex128)
        psi[:, 0] = 1
        for gate in circuit.gates:
            angles, q = _angles(gate, x, w), gate.wires[0]
            if gate.name == "H":
                psi = on(psi, torch.tensor([[1, 1], [1, -1]], dtype=torch.complex128) / math.sqrt(2), q)
            elif gate.name == "RY":
                psi = on(psi, turn(angles[0], y_axis), q)
            elif gate.name == "Rot":
                for angle, axis in zip(angles, (z_axis, y_axis, z_axis), strict=True):
                    psi = on(psi, turn(angle, axis), q)
            elif gate.name == "CX":
                psi = psi[:, basis ^ (bits[q] << (n - 1 - gate.wires[1]))]
            else:  # IsingZZ
                equal = 1 - 2 * (bits[q] ^ bits[gate.wires[1]])
                psi = psi * torch.exp(-0.5j * angles[0] * equal)
        return psi.abs().square() @ (1 - 2 * bits.T).double()

    return _torch_call(case, model, x, w, direction)


def _angles(gate: Any, x: Array, w: Array) -> list[Any]:
    """Return the angles of a gate as the library's numbers."""
    from redqubit.quantum import Input, Weight

    def one(a: Any) -> Any:
        if not isinstance(a, Input | Weight):
            return a
        value = x[..., a.index] if isinstance(a, Input) else w[a.index]
        return value if a.scale == 1 else a.scale * value

    return [one(a) for a in gate.angles]


@dataclass(frozen=True)
class Library:
    """A library to time: how, which packages it needs, and what to import before the clock starts."""

    name: str
    build: Callable[[Case], Call]
    packages: tuple[str, ...]
    modules: tuple[str, ...]


REFERENCE = Library("reference", reference, ("torch",), ())
LIBRARIES = [
    Library("RedQubit", redqubit, ("redqubit", "torch"), ("redqubit.models.layer",)),
    Library(
        "TensorCircuit-NG, JAX jit",
        tensorcircuit_jax,
        ("tensorcircuit-ng", "jax"),
        ("redqubit.quantum", "jax.numpy", "tensorcircuit"),
    ),
    Library(
        "PennyLane default.qubit, JAX jit",
        pennylane_jax,
        ("pennylane", "jax"),
        ("redqubit.quantum", "jax.numpy", "pennylane"),
    ),
    Library(
        "PennyLane default.qubit, torch",
        pennylane_torch,
        ("pennylane", "torch"),
        ("redqubit.quantum", "pennylane"),
    ),
    Library(
        "PennyLane lightning.qubit, adjoint",
        pennylane_lightning,
        ("pennylane-lightning", "pennylane", "torch"),
        ("redqubit.quantum", "pennylane", "pennylane_lightning.lightning_qubit"),
    ),
]
