"""The workloads in RedQubit and in its peers. Imports stand inside functions: a process loads one library."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cases import Array, Call, Case, values
from workers import Library

# Each function named after a library returns the call to time; what it does before counts in the first call.


def redqubit(case: Case) -> Call:
    return _redqubit(case, graphs=False)


def redqubit_graphs(case: Case) -> Call:
    return _redqubit(case, graphs=True)


def _redqubit(case: Case, *, graphs: bool) -> Call:
    import torch

    from redqubit.models.layer import QuantumLayer

    x, w, direction = _tensors(case)
    layer = QuantumLayer(case.circuit(), weights=w, trainable=case.trainable).to(case.device)
    if not graphs:
        return torch_call(case, layer, x, layer.weights, direction)
    layer.weights.requires_grad_()  # frozen ones are compared with those folded before, for which a graph cannot wait
    sample = x.clone().requires_grad_(case.gradient)
    with torch.set_grad_enabled(case.gradient):
        captured = torch.cuda.make_graphed_callables(layer, (sample,))
    return torch_call(case, captured, x, layer.weights, direction)


def pennylane_torch(case: Case) -> Call:
    return _pennylane_torch(case, _device(case), "backprop", {})


def pennylane_lightning(case: Case) -> Call:
    return _pennylane_torch(case, "lightning.qubit", "adjoint", {"c_dtype": np.complex64})


def _pennylane_torch(case: Case, device: str, diff_method: str, options: dict[str, Any]) -> Call:
    import torch

    x, w, direction = _tensors(case)
    w.requires_grad_(case.trainable)
    frozen = None if case.trainable else w.tolist()  # numbers are cheaper for PennyLane than tensors
    node = qnode(case.circuit(), device, diff_method, "torch", options)
    return torch_call(case, lambda v: torch.stack(tuple(node(v, frozen or w)), 1), x, w, direction)


def _tensors(case: Case) -> Any:
    import torch

    return (torch.from_numpy(v).to(case.device) for v in case.arrays())


def torch_call(case: Case, model: Callable[[Array], Array], x: Array, w: Array, direction: Array) -> Call:
    import torch

    wait = torch.cuda.synchronize if case.device == "cuda" else lambda: None
    if not case.gradient:

        def forward() -> tuple[Array, ...]:
            with torch.no_grad():
                out = model(x)
            wait()
            return (out,)

        return forward
    x.requires_grad_()
    sources = (x, w) if case.trainable else (x,)

    def both() -> tuple[Array, ...]:
        out = model(x)
        results = out.detach(), *torch.autograd.grad(out, sources, direction.to(out.dtype))
        wait()
        return results

    return both


def pennylane_jax(case: Case) -> Call:
    import jax.numpy as jnp

    node = qnode(case.circuit(), _device(case), "backprop", "jax", {})
    return _jax_call(case, lambda x, w: jnp.stack(node(x, w), 1))


def _device(case: Case) -> str:
    return "default.mixed" if case.noisy else "default.qubit"


_PENNYLANE = {"H": "Hadamard", "CX": "CNOT", "Depolarizing": "DepolarizingChannel"}  # the others go by our names


def qnode(circuit: Any, simulator: str, diff_method: str, interface: str, options: dict[str, Any], **more: Any) -> Any:
    """Return a circuit as a QNode of (inputs, weights), the batch broadcast; `options` are the simulator's."""
    import pennylane as qml

    def node(inputs: Array, weights: Array) -> list[Any]:  # the first name is the one that TorchLayer asks for
        for gate in circuit.gates:
            getattr(qml, _PENNYLANE.get(gate.name, gate.name))(*values(gate, inputs, weights), wires=gate.wires)
        return [qml.expval(qml.PauliZ(q)) for q in range(circuit.n_qubits)]

    device = qml.device(simulator, wires=circuit.n_qubits, **options)
    return qml.QNode(node, device, diff_method=diff_method, interface=interface, **more)


def tensorcircuit_jax(case: Case) -> Call:
    import jax
    import tensorcircuit as tc

    tc.set_backend("jax")
    circuit = case.circuit()
    n = circuit.n_qubits
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1)) & 1).astype(np.float32)
    names = {"CX": "cnot", "IsingZZ": "rzz"}

    def one(x: Array, w: Array) -> Array:
        c = (tc.DMCircuit if case.noisy else tc.Circuit)(n)
        for gate in circuit.gates:
            v = values(gate, x, w)
            if gate.name == "AmplitudeDamping":
                c.amplitudedamping(*gate.wires, gamma=v[0], p=1.0)
            elif gate.name == "Depolarizing":
                c.depolarizing(*gate.wires, px=v[0] / 3, py=v[0] / 3, pz=v[0] / 3)
            elif gate.name == "Rot":  # RZ RY RZ
                for name, angle in zip(("rz", "ry", "rz"), v, strict=True):
                    getattr(c, name)(*gate.wires, theta=angle)
            else:
                getattr(c, names.get(gate.name, gate.name.lower()))(*gate.wires, **({"theta": v[0]} if v else {}))
        state = c.state()
        p = state.diagonal().real if case.noisy else state.real**2 + state.imag**2
        return p @ signs  # faster here than its own expectation values

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


_REDQUBIT = ("redqubit", "torch"), ("redqubit.models.layer",)
_PENNYLANE_TORCH = Library(
    "PennyLane, torch", pennylane_torch, ("pennylane", "torch"), ("redqubit.quantum", "pennylane")
)
LIBRARIES = {
    "cpu": [
        Library("RedQubit", redqubit, *_REDQUBIT),
        Library(
            "TensorCircuit-NG, JAX jit",
            tensorcircuit_jax,
            ("tensorcircuit-ng", "jax"),
            ("redqubit.quantum", "jax.numpy", "tensorcircuit"),
        ),
        Library(
            "PennyLane, JAX jit",
            pennylane_jax,
            ("pennylane", "jax"),
            ("redqubit.quantum", "jax.numpy", "pennylane"),
        ),
        _PENNYLANE_TORCH,
        Library(
            "PennyLane lightning, adjoint",
            pennylane_lightning,
            ("pennylane-lightning", "pennylane", "torch"),
            ("redqubit.quantum", "pennylane", "pennylane_lightning.lightning_qubit"),
            lacks="noise channels",
        ),
    ],
    "cuda": [
        Library("RedQubit, eager", redqubit, *_REDQUBIT),
        Library("RedQubit, CUDA graphs", redqubit_graphs, *_REDQUBIT),
        _PENNYLANE_TORCH,
    ],
}
