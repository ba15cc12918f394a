"""Density matrices of noisy circuits, exact and batched: their 4^n real Pauli coefficients.

Qubits start as a product and are multiplied by one real matrix per two-wire gate, which holds the one-wire gates before
it and the channels after it. What follows the last gate that reads inputs is carried back into the observable, when
there are fewer observables than samples; what precedes the first is computed for one sample.

Reference: Nielsen and Chuang, "Quantum Computation and Quantum Information" (2010), sections 8.2 to 8.4.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Amplitude, Circuit, Gate
from redqubit.quantum.simulation.fuse import reads_input
from redqubit.quantum.simulation.pauli import factors
from redqubit.quantum.simulation.products import Vectors, head_vectors, outer, split
from redqubit.quantum.simulation.program import Program, program
from redqubit.quantum.simulation.state_vector import amplitudes
from redqubit.quantum.simulation.sweep import Path, Words, path, sweep, words

MAX_QUBITS = 8  # 4^8 real numbers for each sample and gate


@dataclass(frozen=True)
class AmplitudeStart:
    """From real amplitudes to Pauli coefficients: |b><c| of each qubit to I, X, iY, Z, then a sign for each word."""

    encoding: Amplitude
    way: Path
    stacks: tuple[Tensor, ...]
    signs: Tensor  # (4^n,): of i^-m for m letters Y; 0 for odd m, which real amplitudes do not have

    def state(self, x: Tensor) -> Tensor:
        """Return (B, 4^n)."""
        n = self.way.n_qubits
        psi = amplitudes(x[:, : self.encoding.n_features], 2**n)
        rho = (psi[:, :, None] * psi[:, None]).reshape(-1, *[2] * (2 * n))
        axes = [1 + a for q in range(n) for a in (q, n + q)]
        return sweep(self.way, rho.permute(0, *axes).reshape(-1, 4**n), self.stacks) * self.signs


@dataclass(frozen=True)
class ProductStart:
    """Qubits that start in |0>, each with the gates and channels that act on it before anything else."""

    heads: Vectors
    reads_input: bool

    def state(self, x: Tensor) -> Tensor:
        """Return (B, 4^n), or (1, 4^n) when no input is read."""
        f = self.heads.features(x if self.reads_input else x[:1])
        return outer(torch.bmm(self.heads.last, f)).T.contiguous()


@dataclass(frozen=True)
class DensityPlan:
    """What `expectations` runs."""

    dim: int  # 2^n; the states may have one wire more, in front
    start: AmplitudeStart | ProductStart
    program: Program
    before: Path  # the operations before the first that reads inputs
    between: Path
    after: Path  # those after the last that does
    back: Path  # `after` from its end, for observables
    words: Words


def build(circuit: Circuit) -> DensityPlan:
    """Return the plan of a circuit, its tensors in float64.

    Raises:
        UsageError: for more than 8 qubits.

    Example:
        >>> from redqubit.quantum import Input
        >>> from redqubit.quantum.channels import Channel
        >>> noisy = Circuit(1, (Gate("RX", (0,), (Input(0),)), Channel("Depolarizing", (0,), (0.3,))))
        >>> z = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
        >>> expectations(build(noisy), torch.zeros(1, 1).double(), torch.zeros(0).double(), z).round(decimals=6)
        tensor([[0.6000]], dtype=torch.float64)
    """
    if circuit.n_qubits > MAX_QUBITS:
        raise UsageError(
            f"Argument `circuit` must have {MAX_QUBITS} qubits or fewer for a density matrix, but has "
            f"{circuit.n_qubits}: use trajectories."
        )
    dim = 2**circuit.n_qubits
    if circuit.n_qubits == 1:  # maps come in pairs of wires: put a wire before it that stays |0>
        circuit = Circuit(2, tuple(replace(g, wires=(1,)) for g in circuit.gates), circuit.initial)
    n = circuit.n_qubits
    heads, rest = split(circuit)
    found = program(factors(rest), n, circuit.n_inputs, circuit.n_weights)
    reading = [i for i, op in enumerate(found.ops) if op.from_inputs]
    first, last = (reading[0], reading[-1] + 1) if reading else (0, 0)
    steps = found.steps
    start: AmplitudeStart | ProductStart
    if circuit.initial is None:
        reads = any(reads_input(g for g in head if isinstance(g, Gate)) for head in heads)
        start = ProductStart(head_vectors(heads, circuit.n_inputs), reads)
    else:
        start = _amplitude_start(circuit.initial, n)
    return DensityPlan(
        dim,
        start,
        found,
        path(n, steps[:first], transposed=True),
        path(n, steps[first:last], transposed=True),
        path(n, steps[last:], transposed=True),
        path(n, steps[last:][::-1]),
        words(n),
    )


def _amplitude_start(encoding: Amplitude, n: int) -> AmplitudeStart:
    # column (b, c), row P: P[c, b], with iY for Y, which is real
    one = torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [0, -1, 1, 0], [1, 0, 0, -1]], dtype=torch.float64)
    pairs = [((q, q + 1), (0, 0)) for q in range(0, n - 1, 2)]
    steps = [*pairs, *[((n - 1,), (1, 0))] * (n % 2)]
    stacks = (torch.kron(one, one).T[None].contiguous(), one.T[None].contiguous())
    letters = torch.zeros(1, dtype=torch.long)
    for _ in range(n):
        letters = (letters[:, None] + torch.tensor([0, 0, 1, 0])).flatten()
    signs = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)[letters % 4]
    return AmplitudeStart(encoding, path(n, steps), stacks, signs)


def expectations(plan: DensityPlan, x: Tensor, weights: Tensor, table: Tensor | None) -> Tensor:
    """Return the means (B, K) of the columns of a table (2^n, K), or the probabilities (B, 2^n) for None.

    Memory grows with B 4^n numbers for each two-wire gate where a gradient is wanted.

    Args:
        plan: Cast to the precision and device of the tensors.
        x: Inputs (B, n_inputs).
        weights: Weights (n_weights,).
        table: Values to be averaged, one row per basis state.
    """
    stacks = plan.program.stacks(x, weights)
    state = _to_the_last_input(plan, x, stacks)
    if table is not None and table.shape[1] < len(x):
        full = torch.nn.functional.pad(table, (0, 0, 0, len(plan.words.walsh) - plan.dim))
        return state @ sweep(plan.back, plan.words.rows(full), stacks).T
    p = plan.words.probabilities(sweep(plan.after, state, stacks))[:, : plan.dim]
    return p if table is None else p @ table


def coefficients(plan: DensityPlan, x: Tensor, weights: Tensor) -> Tensor:
    """Return the Pauli coefficients Tr(P rho) (B, 4^n), words in the order II, IX, IY, IZ, XI, ..."""
    stacks = plan.program.stacks(x, weights)
    words = sweep(plan.after, _to_the_last_input(plan, x, stacks), stacks)
    # a single wire has another in front that stays |0>: the first words have I there
    return words[:, : plan.dim**2]


def _to_the_last_input(plan: DensityPlan, x: Tensor, stacks: Sequence[Tensor]) -> Tensor:
    state = sweep(plan.before, plan.start.state(x), stacks).expand(len(x), -1)
    return sweep(plan.between, state, stacks)
