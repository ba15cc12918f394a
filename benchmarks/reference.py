"""A simulation gate by gate in float64 that every library is checked against; nothing of RedQubit's engines is in it.

Channels are sums over Kraus operators. torch is imported inside functions: not every process needs it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cases import Array, Call, Case, values
from workers import Library

ROWS = 1024  # samples at a time: what autograd keeps of more would fill the memory

_PAULIS = {"X": [[0, 1], [1, 0]], "Y": [[0, -1j], [1j, 0]], "Z": [[1, 0], [0, -1]]}
_FIXED = {
    "H": np.array([[1, 1], [1, -1]]) / np.sqrt(2),
    "CX": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]),
}


def reference(case: Case) -> Call:
    """Return the call that computes outputs and gradients."""
    import torch

    x, w, direction = (torch.from_numpy(v).double().to(case.device) for v in case.arrays())
    circuit = case.circuit()

    def call() -> tuple[Array, ...]:
        parts = []
        for rows, start in zip(x.split(ROWS), direction.split(ROWS), strict=True):
            leaves = rows.clone().requires_grad_(), w.clone().requires_grad_(case.trainable)
            out = simulate(circuit, *leaves)
            sources = [v for v in leaves if v.requires_grad]
            gradients = torch.autograd.grad(out, sources, start) if case.gradient else ()
            parts.append((out.detach(), *gradients))
        outputs, *gradients = zip(*parts, strict=True)
        joined = [torch.cat(outputs), *(torch.cat(g) for g in gradients[:1]), *(sum(g) for g in gradients[1:])]
        return tuple(v.cpu() for v in joined)

    return call


def simulate(circuit: Any, x: Array, w: Array) -> Array:
    """Return all <Z> (B, n) of a circuit with or without channels."""
    import torch

    from redqubit.quantum.channels import Channel

    n, noisy = circuit.n_qubits, bool(circuit.channels)
    state = torch.zeros(len(x), *[2] * (2 * n if noisy else n), dtype=torch.complex128, device=x.device)
    state[(slice(None), *[0] * (state.ndim - 1))] = 1
    for gate in circuit.gates:
        if isinstance(gate, Channel):
            matrices = [torch.tensor(k, dtype=torch.complex128, device=x.device) for k in gate.operators]
        else:
            matrices = [_matrix(gate.name, [torch.as_tensor(v).to(x) for v in values(gate, x, w)], x.device)]
        rows, columns = [1 + q for q in gate.wires], [1 + n + q for q in gate.wires]
        if noisy:  # sum_k K rho K^dagger
            state = sum(_on(_on(state, m, rows), m.conj(), columns) for m in matrices)
        else:
            state = _on(state, matrices[0], rows)
    flat = state.reshape(len(x), 2**n, -1)
    p = flat.diagonal(dim1=1, dim2=2).real if noisy else flat[..., 0].abs().square()
    bits = (torch.arange(2**n)[:, None] >> torch.arange(n - 1, -1, -1)) & 1
    return p @ (1 - 2 * bits).double().to(x.device)


def _on(state: Array, m: Array, axes: Sequence[int]) -> Array:
    """Apply m (d, d) or (B, d, d) to some axes of a state (B, 2, ..., 2), the first the most significant."""
    front = list(range(1, 1 + len(axes)))
    moved = state.movedim(list(axes), front)
    product = m @ moved.reshape(len(state), m.shape[-1], -1)
    return product.reshape(moved.shape).movedim(front, list(axes))


def _matrix(name: str, angles: Sequence[Array], device: Any) -> Array:
    import torch

    if name in _FIXED:
        return torch.tensor(_FIXED[name], dtype=torch.complex128, device=device)
    if name == "IsingZZ":
        signs = torch.tensor([1, -1, -1, 1], device=device)
        return torch.diag_embed(torch.exp(-0.5j * angles[0][..., None] * signs))
    if name == "Rot":
        return _turn(angles[2], "Z") @ _turn(angles[1], "Y") @ _turn(angles[0], "Z")
    turn = _turn(angles[0], name[-1])
    if len(name) == 2:
        return turn
    assert name in ("CRX", "CRY", "CRZ"), name
    control = torch.zeros(*turn.shape[:-2], 4, 4, dtype=turn.dtype, device=device)
    control[..., 0, 0] = control[..., 1, 1] = 1
    control[..., 2:, 2:] = turn
    return control


def _turn(angle: Array, axis: str) -> Array:
    """Return exp(-i angle P / 2), (2, 2) or (B, 2, 2)."""
    import torch

    half = angle[..., None, None] / 2
    pauli = torch.tensor(_PAULIS[axis], dtype=torch.complex128, device=angle.device)
    return torch.cos(half) * torch.eye(2, device=angle.device) - 1j * torch.sin(half) * pauli


REFERENCE = Library("reference", reference, ("torch",))
