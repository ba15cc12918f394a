"""What a circuit of another library becomes: all that a `QuantumLayer` needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.quantum.circuit import Circuit
from redqubit.quantum.measure import Observable, Probabilities


@dataclass(frozen=True)
class Imported:
    """A circuit from another library, what is read from it, and the values its weights had.

    A library that keeps global phases loses them here: no expectation value depends on one.

    Products of features, as in IQP and ZZ feature maps, are inputs of their own: with `products` (p_0, p_1, ...) the
    circuit's inputs are the `n_features` features x and then prod_{i in p_k} x_i for each k.
    """

    circuit: Circuit
    observables: tuple[Observable, ...] | Probabilities  # one output each, or the probabilities of some wires
    weights: tuple[float, ...] = ()  # (n_weights,), in the order of the library, flattened
    products: tuple[tuple[int, ...], ...] = ()  # features multiplied to make the circuit's last inputs
    shots: int | None = None  # read-outs that the library was told to take; None for exact values

    @property
    def n_features(self) -> int:
        """Number of features of a sample; the circuit's other inputs are their products."""
        return self.circuit.n_inputs - len(self.products)

    def inputs(self, x: Tensor) -> Tensor:
        """Return the circuit's inputs (B, n_inputs), the features x (B, n_features) and their products."""
        return with_products(x, self.products)


def with_products(x: Tensor, products: Sequence[Sequence[int]]) -> Tensor:
    """Return features (..., d) and behind them their products (..., d + len(products))."""
    extra = [x[..., list(p)].prod(-1, keepdim=True) for p in products]
    return torch.cat([x, *extra], -1) if extra else x
