"""A simulator of circuits with noise that is as plain as can be: density matrices, one Kraus operator at a time."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from redqubit.quantum import Circuit, Input, Weight
from redqubit.quantum.channels import PAULIS, Channel
from redqubit.quantum.circuit import Angle, Gate
from redqubit.quantum.gates import matrix
from redqubit.quantum.measure import Observable

Array = np.ndarray[tuple[int, ...], np.dtype[np.complex128]]


def density_matrix(circuit: Circuit, x: Sequence[float], weights: Sequence[float]) -> Array:
    """Return the final state (2^n, 2^n), wire 0 the most significant bit, of one sample."""

    def number(a: Angle) -> float:
        return (
            a.scale * (x if isinstance(a, Input) else weights)[a.index] + a.offset
            if isinstance(a, Input | Weight)
            else a
        )

    n = circuit.n_qubits
    rho = np.zeros((2**n, 2**n), dtype=complex)
    rho[0, 0] = 1
    for item in circuit.gates:
        if isinstance(item, Channel):
            operators = [np.array(k) for k in item.operators]
        elif item.matrix is not None:
            operators = [np.array(item.matrix)]
        else:
            operators = [matrix(item.name, *map(number, item.angles)).numpy()]
        # K rho, then (K (K rho)^dagger)^dagger = K rho K^dagger
        rho = sum(_on(k, item, n, _on(k, item, n, rho).conj().T).conj().T for k in operators)
    return rho


def _on(operator: Array, item: Gate | Channel, n: int, rho: Array) -> Array:
    k = len(item.wires)
    tensor = operator.reshape((2,) * (2 * k))
    turned = np.tensordot(tensor, rho.reshape((2,) * n + (-1,)), axes=(range(k, 2 * k), item.wires))
    return np.moveaxis(turned, range(k), item.wires).reshape(rho.shape)


def expectation(rho: Array, observable: Observable) -> float:
    """Return Tr(rho O)."""
    words = sum(c * reduce(np.kron, [np.array(PAULIS[letter]) for letter in w]) for w, c in observable.items())
    return float(np.trace(rho @ words).real)


def little_endian(rho: Array) -> Array:
    """Return a state with wire 0 as the least significant bit."""
    n = len(rho).bit_length() - 1
    axes = [*range(n)[::-1], *range(n, 2 * n)[::-1]]
    return rho.reshape((2,) * (2 * n)).transpose(axes).reshape(rho.shape)
