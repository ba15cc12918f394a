"""What is read from a state."""

from collections.abc import Sequence

import torch
from torch import Tensor


def probabilities(state: Tensor) -> Tensor:
    """Return |amplitude|^2, (B, 2^n), of states (B, 2^n)."""
    if state.is_complex():
        return torch.view_as_real(state).square().sum(-1)
    return state.square()


def signs(n_qubits: int, wires: Sequence[int] | None = None) -> Tensor:
    """Return the eigenvalues +-1 of Z on each of `wires` (all by default), (2^n, len(wires)), float64."""
    basis = torch.arange(2**n_qubits)[:, None]
    shift = n_qubits - 1 - torch.tensor(list(range(n_qubits) if wires is None else wires))
    return 1.0 - 2.0 * ((basis >> shift) & 1).double()


def expectation_z(state: Tensor, wires: Sequence[int] | None = None) -> Tensor:
    """Return <Z> on each of `wires` (all by default), (B, len(wires)), of states (B, 2^n).

    Example:
        >>> expectation_z(torch.tensor([[0.0, 1.0, 0.0, 0.0]])).tolist()
        [[1.0, -1.0]]
    """
    p = probabilities(state)
    return p @ signs(state.shape[-1].bit_length() - 1, wires).to(p)
