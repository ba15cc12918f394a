"""What is read from a state: every observable as averages of numbers over basis states, after a turn of the basis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Gate

Observable = Mapping[str, float]  # Pauli word of all wires, such as "ZIX" with wire 0 first -> coefficient
_TURNS: Mapping[str, tuple[tuple[str, tuple[float, ...]], ...]] = {
    "X": (("H", ()),),
    "Y": (("P", (-torch.pi / 2,)), ("H", ())),  # Y = (S H) Z (S H)^dagger
}


@dataclass(frozen=True)
class Probabilities:
    """Read the probabilities of the 2^k basis states of `wires`, the first the most significant bit."""

    wires: tuple[int, ...]


@dataclass(frozen=True)
class Basis:
    """Outputs that are read in one basis: <O_k> = sum_i p_i table[i, k], p the probabilities after `gates`."""

    gates: tuple[Gate, ...]
    table: Tensor  # (2^n, K), float64


def bases(n_qubits: int, outputs: Sequence[Observable] | Probabilities) -> tuple[Basis, ...]:
    """Return the bases whose tables sum to the outputs; one for each set of words that agree wire by wire.

    Args:
        n_qubits: Number of wires.
        outputs: The observables, or probabilities.

    Raises:
        UsageError: for a word of another length or with a letter beside I, X, Y and Z, or a wire beyond the circuit.

    Example:
        >>> [len(b.gates) for b in bases(2, [{"ZI": 1.0}, {"IZ": 1.0, "ZZ": 0.5}, {"XX": 1.0}])]
        [0, 2]
    """
    if isinstance(outputs, Probabilities):
        return (Basis((), _marginal(n_qubits, outputs.wires)),)
    if not outputs or not all(outputs):
        raise UsageError("Argument `observables` must have at least one observable, none of them empty.")
    found: list[tuple[list[str], list[tuple[int, str, float]]]] = []  # letter of each wire; output, word, coefficient
    for k, observable in enumerate(outputs):
        for word, coefficient in observable.items():
            if len(word) != n_qubits or set(word) - set("IXYZ"):
                raise UsageError(
                    f"Argument `observables` must have words of {n_qubits} letters I, X, Y, Z, but has {word!r}."
                )
            letters, terms = next((f for f in found if _agree(f[0], word)), (["I"] * n_qubits, []))
            if not terms:
                found.append((letters, terms))
            terms.append((k, word, float(coefficient)))
            letters[:] = [a if b == "I" else b for a, b in zip(letters, word, strict=True)]
    out = []
    for letters, terms in found:
        table = torch.zeros(2**n_qubits, len(outputs), dtype=torch.float64)
        for k, word, coefficient in terms:
            table[:, k] += coefficient * signs(n_qubits, [w for w, letter in enumerate(word) if letter != "I"]).prod(1)
        gates = (Gate(name, (w,), angles) for w, a in enumerate(letters) for name, angles in _TURNS.get(a, ()))
        out.append(Basis(tuple(gates), table))
    return tuple(out)


def _agree(letters: Sequence[str], word: str) -> bool:
    return all(a == b or "I" in (a, b) for a, b in zip(letters, word, strict=True))


def z_of(n_qubits: int, wires: Sequence[int]) -> tuple[Observable, ...]:
    """Return the observables Z of each wire.

    Example:
        >>> z_of(3, [0, 2])
        ({'ZII': 1.0}, {'IIZ': 1.0})
    """
    if not wires or not set(wires) <= set(range(n_qubits)):
        raise UsageError(f"Argument `wires` must be among 0 to {n_qubits - 1}, but is {tuple(wires)}.")
    return tuple({"".join("Z" if q == w else "I" for q in range(n_qubits)): 1.0} for w in wires)


def with_readout(table: Tensor, readout: Sequence[tuple[float, float]]) -> Tensor:
    """Return a table (2^n, K) whose averages over true basis states are those of `table` over what is read.

    Args:
        table: Values of what is read, (2^n, K).
        readout: Read-out errors of each wire, as in `Circuit`.
    """
    for q, (one_for_zero, zero_for_one) in enumerate(readout):
        t = table.reshape(2**q, 2, -1, table.shape[1])
        zero = (1 - one_for_zero) * t[:, 0] + one_for_zero * t[:, 1]
        one = zero_for_one * t[:, 0] + (1 - zero_for_one) * t[:, 1]
        table = torch.stack([zero, one], 1).reshape(table.shape)
    return table


def as_read(probabilities: Tensor, readout: Sequence[tuple[float, float]]) -> Tensor:
    """Return the probabilities (B, 2^n) of what is read, from those of what is.

    Args:
        probabilities: (B, 2^n).
        readout: Read-out errors of each wire, as in `Circuit`.

    Example:
        >>> as_read(torch.tensor([[1.0, 0.0]]), [(0.25, 0.5)])
        tensor([[0.7500, 0.2500]])
    """
    for q, (one_for_zero, zero_for_one) in enumerate(readout):
        zero, one = probabilities.reshape(len(probabilities), 2**q, 2, -1).unbind(2)
        flips = one_for_zero * zero - zero_for_one * one  # on the whole from 0 to 1
        probabilities = torch.stack([zero - flips, one + flips], 2).flatten(1)
    return probabilities


def _marginal(n_qubits: int, wires: Sequence[int]) -> Tensor:
    if len(set(wires)) != len(wires) or not wires or not set(wires) <= set(range(n_qubits)):
        raise UsageError(f"Argument `wires` must be distinct and among 0 to {n_qubits - 1}, but is {tuple(wires)}.")
    basis = torch.arange(2**n_qubits)
    index = torch.zeros_like(basis)
    for w in wires:
        index = 2 * index + ((basis >> (n_qubits - 1 - w)) & 1)
    return torch.nn.functional.one_hot(index, 2 ** len(wires)).double()


def probabilities(state: Tensor) -> Tensor:
    """Return |amplitude|^2, (B, 2^n), of states (B, 2^n)."""
    if state.is_complex():
        return torch.view_as_real(state).square().sum(-1)
    return state.square()


def signs(n_qubits: int, wires: Sequence[int] | None = None) -> Tensor:
    """Return the eigenvalues +-1 of Z on each of `wires` (all by default), (2^n, len(wires)), float64."""
    basis = torch.arange(2**n_qubits)[:, None]
    shift = n_qubits - 1 - torch.tensor(list(range(n_qubits) if wires is None else wires), dtype=torch.long)
    return 1.0 - 2.0 * ((basis >> shift) & 1).double()


def expectation_z(state: Tensor, wires: Sequence[int] | None = None) -> Tensor:
    """Return <Z> on each of `wires` (all by default), (B, len(wires)), of states (B, 2^n).

    Example:
        >>> expectation_z(torch.tensor([[0.0, 1.0, 0.0, 0.0]])).tolist()
        [[1.0, -1.0]]
    """
    p = probabilities(state)
    return p @ signs(state.shape[-1].bit_length() - 1, wires).to(p)
