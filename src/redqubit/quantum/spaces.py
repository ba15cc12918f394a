"""Where samples lie near each other: among the states of an encoder, or among the features that it is given."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from redqubit.quantum.circuit import Circuit
from redqubit.quantum.similarity import Metric, encoded, state_similarity

_NUMBERS = 2**24  # amplitudes or matrix elements that are held of each side at a time: 256 MiB


class Space(Protocol):
    """Distances between samples."""

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (A, B), float64, of samples (A, ...) from samples (B, ...)."""


@dataclass(frozen=True)
class States:
    """The states into which an encoder turns samples: what a quantum model sees of them.

    For pure states all metrics order neighbours alike.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> States(angle(1)).distances(torch.tensor([[0.0]]), torch.tensor([[0.0], [0.5], [1.0]])).round(decimals=3)
        tensor([[0.0000, 1.0000, 1.4140]], dtype=torch.float64)
    """

    circuit: Circuit  # the encoder: inputs and no weights; noisy ones, as `with_noise` makes them, up to 8 qubits
    metric: Metric = "frobenius"

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (A, B) between the states of samples (A, n_inputs) and (B, n_inputs).

        Raises:
            UsageError: for a circuit that is no encoder, or samples of another number of features.
        """
        n_numbers = 2 ** (self.circuit.n_qubits * (2 if self.circuit.channels else 1))
        blocks_a, blocks_b = (x.flatten(1).double().split(max(1, _NUMBERS // n_numbers)) for x in (a, b))
        rows = []
        for block in blocks_a:
            states = encoded(self.circuit, block)
            columns = [state_similarity(states, encoded(self.circuit, x), metric=self.metric) for x in blocks_b]
            rows.append(torch.cat(columns, 1))
        return torch.cat(rows)


@dataclass(frozen=True)
class Features:
    """The samples themselves with Euclidean distances: the control, in which nothing is quantum.

    Example:
        >>> Features().distances(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        tensor([[5.]], dtype=torch.float64)
    """

    def distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return Euclidean distances (A, B) of samples (A, ...) and (B, ...)."""
        a, b = a.flatten(1).double(), b.flatten(1).double()
        # not by products, which round where points are near each other
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
