"""Overlaps of encoded samples as hardware finds them: by counting outcomes of a circuit, without tomography."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Angle, Circuit, Gate, Input
from redqubit.quantum.noise import NoiseModel, with_noise
from redqubit.quantum.similarity import encoded
from redqubit.quantum.spaces import States

_PAIRS = 2**18  # numbers of density matrices of pairs held at a time, 4 MiB


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Estimates of Tr(rho_i sigma_j), which for pure states is the fidelity |<a_i|b_j>|^2.

    With it and the purities Tr rho^2, which are overlaps of a sample with itself, come the distances

    - hilbert-schmidt: 1 - value / 2^n;
    - frobenius: sqrt(Tr rho^2 + Tr sigma^2 - 2 value), sqrt(2 - 2 value) for pure states;
    - trace: 2 sqrt(1 - value) for pure states, but not for mixed ones.

    Attributes:
        value: (A, B), float64. Without bias, so that a swap test may leave [0, 1] a little.
        standard_error: Of each value, (A, B), float64; above 0 even where all shots agree.
    """

    value: Tensor
    standard_error: Tensor


def swap_test(circuit: Circuit, a: Tensor, b: Tensor, *, shots: int, generator: torch.Generator) -> Overlaps:
    """Estimate the overlap of every sample of `a` with every sample of `b` by swap tests.

    Both states are prepared side by side; the ancilla of `swap_test_circuit` is 0 with probability
    (1 + Tr(rho sigma)) / 2, for mixed states too. The outcomes are drawn from this probability: noise disturbs the
    preparation, but not the test itself, which would need 2 n + 1 qubits here.

    Args:
        circuit: The encoder: inputs and no weights; a noisy one, as `with_noise` makes it, has up to 8 qubits.
        a: Samples (A, n_inputs) as the circuit reads them.
        b: Samples (B, n_inputs).
        shots: Runs for each pair.
        generator: CPU source of the outcomes.

    Raises:
        UsageError: for samples that do not fit or are not finite, no shots, or a circuit that is no encoder.

    Reference: Buhrman et al., "Quantum fingerprinting", Phys. Rev. Lett. 87, 167902 (2001).

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> found = swap_test(angle(1), torch.tensor([[0.2]]), torch.tensor([[0.2]]), shots=100,
        ...                   generator=torch.Generator())
        >>> found.value.tolist(), round(found.standard_error.item(), 3)
        ([[1.0]], 0.027)
    """
    _check(a, b, shots)
    p, error = _drawn((1 + _overlaps(circuit, a, b)) / 2, shots, generator)
    return Overlaps(2 * p - 1, 2 * error)


def compute_uncompute(
    circuit: Circuit,
    a: Tensor,
    b: Tensor,
    *,
    shots: int,
    generator: torch.Generator,
    noise: NoiseModel | None = None,
) -> Overlaps:
    """Estimate the fidelity of every sample of `a` with every sample of `b` by undoing one after the other.

    F = P(00...0) after U(b)^dagger U(a), on the encoder's own n qubits. Noise acts on both halves and lowers all
    values, those of equal samples too: of noisy states this is not Tr(rho sigma), which `swap_test` has.

    Args:
        circuit: The encoder: inputs, no weights, and no noise of its own.
        a: Samples (A, n_inputs) as the circuit reads them.
        b: Samples (B, n_inputs).
        shots: Runs for each pair.
        generator: CPU source of the outcomes.
        noise: Put on every gate of `compute_uncompute_circuit`, on up to 8 qubits; not its read-out errors.

    Raises:
        UsageError: for samples that do not fit or are not finite, no shots, or a circuit that is no encoder, has noise
            of its own, or with `noise` is an amplitude encoding.

    Reference: Havlicek et al., "Supervised learning with quantum-enhanced feature spaces", Nature 567, 209 (2019),
        quantum kernel estimation.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> found = compute_uncompute(angle(1), torch.tensor([[0.0]]), torch.tensor([[1.0]]), shots=100,
        ...                           generator=torch.Generator())
        >>> found.value.tolist(), round(found.standard_error.item(), 3)
        ([[0.0]], 0.014)
    """
    _check(a, b, shots)
    if circuit.channels:
        raise UsageError(
            "Argument `circuit` must be free of noise, as a noisy circuit cannot be undone, but has some: give it as "
            "`noise`."
        )
    if noise is None:
        p = _overlaps(circuit, a, b)
    else:
        p = _all_zero(with_noise(compute_uncompute_circuit(circuit), noise), a, b)
    return Overlaps(*_drawn(p, shots, generator))


def swap_test_circuit(circuit: Circuit) -> Circuit:
    """Return the swap test of an encoder: wire 0 is the ancilla, then the wires of the two states.

    Its inputs are those of the one sample, then those of the other.

    Raises:
        UsageError: for a circuit with weights or an amplitude encoding.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> print(swap_test_circuit(angle(1, scale=1.0)))
        0: ─H────────●─H─
        1: ─RY(x0)─X─●─X─
        2: ─RY(x1)─●─X─●─
    """
    _check_encoder(circuit)
    if circuit.initial is not None:
        raise UsageError(
            "Argument `circuit` must be made of gates, but starts with an amplitude encoding: use "
            "`amplitude_rotations`."
        )
    n = circuit.n_qubits
    copies = [
        replace(gate, wires=tuple(1 + which * n + w for w in gate.wires))
        for which, half in enumerate((circuit, _second(circuit)))
        for gate in half.gates
    ]
    swaps = [
        gate
        for q in range(1, n + 1)
        for gate in (Gate("CX", (n + q, q)), Gate("Toffoli", (0, q, n + q)), Gate("CX", (n + q, q)))
    ]
    return Circuit(2 * n + 1, (Gate("H", (0,)), *copies, *swaps, Gate("H", (0,))))


def compute_uncompute_circuit(circuit: Circuit) -> Circuit:
    """Return U(b)^dagger U(a) of an encoder; its inputs are those of a, then those of b.

    Raises:
        UsageError: for a circuit with weights, noise or an amplitude encoding.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> print(compute_uncompute_circuit(angle(1, scale=1.0)))
        0: ─RY(x0)─RY(-x1)─
    """
    _check_encoder(circuit)
    return circuit + _second(circuit).inverse()


def _second(circuit: Circuit) -> Circuit:
    """Return the circuit with its inputs numbered after those of the first sample."""

    def moved(angle: Angle) -> Angle:
        return replace(angle, index=angle.index + circuit.n_inputs) if isinstance(angle, Input) else angle

    return circuit.with_angles(moved)


def _overlaps(circuit: Circuit, a: Tensor, b: Tensor) -> Tensor:
    """Return Tr(rho_i sigma_j), (A, B)."""
    return (1 - States(circuit, "hilbert-schmidt").distances(a, b)) * float(2**circuit.n_qubits)


def _all_zero(circuit: Circuit, a: Tensor, b: Tensor) -> Tensor:
    """Return the probability (A, B) to read only zeros from a noisy circuit that takes the inputs of a pair."""
    out = a.new_empty(len(a) * len(b), dtype=torch.float64)
    for part in torch.arange(len(out), device=a.device).split(max(1, _PAIRS // 4**circuit.n_qubits)):
        pairs = torch.cat([a[part // len(b)], b[part % len(b)]], 1)
        out[part] = encoded(circuit, pairs.double())[:, 0, 0].real
    return out.reshape(len(a), len(b))


def _drawn(p: Tensor, shots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the share of `shots` draws that came out, and its standard error, as if two more had and two had not."""
    p = p.clamp(0, 1)
    hits = torch.binomial(torch.full_like(p, shots, device="cpu"), p.cpu(), generator=generator).to(p.device)
    near = (hits + 2) / (shots + 4)
    return hits / shots, (near * (1 - near) / shots).sqrt()


def _check(a: Tensor, b: Tensor, shots: int) -> None:
    if shots < 1:
        raise UsageError(f"Argument `shots` must be 1 or more, but is {shots}: an estimate needs runs.")
    for name, x in (("a", a), ("b", b)):
        if not bool(x.isfinite().all()):
            raise UsageError(
                f"Argument `{name}` must be finite, but holds NaN or infinity: drop or fill those samples."
            )


def _check_encoder(circuit: Circuit) -> None:
    if circuit.n_weights:
        raise UsageError(
            f"Argument `circuit` must be an encoder without weights, but has {circuit.n_weights}: bind them first."
        )
