"""How much of the state space a circuit reaches, and how entangled what it reaches is."""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Angle, Circuit, Input, Weight
from redqubit.quantum.simulation.fuse import build, cast
from redqubit.quantum.simulation.state_vector import run

PAIRS, BINS = 5000, 75  # of Sim et al.
BLOCK = 1024  # states computed at a time; of few qubits so many stay in the cache


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo mean with its standard error."""

    value: float
    standard_error: float  # NaN where one repeat cannot tell


def random_states(
    circuit: Circuit, n: int, *, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """Return n states (n, 2^n_qubits), complex128, for inputs and weights uniform in [0, 2 pi) radians.

    Raises:
        UsageError: for a circuit that has no random state: one with noise channels or an amplitude encoding.
    """
    if circuit.channels or circuit.initial is not None:
        what = "noise channels" if circuit.channels else "an amplitude encoding"
        raise UsageError(f"Argument `circuit` must have angles as its only parameters, but has {what}: leave it out.")
    offset, n_parameters = circuit.n_inputs, circuit.n_inputs + circuit.n_weights

    def as_input(a: Angle) -> Angle:  # a fresh draw of every parameter in each row of one batch
        if isinstance(a, Weight):
            return Input(a.index + offset, a.scale, a.offset)
        return Input(a.index) if isinstance(a, Input) else a

    x = torch.rand(n, n_parameters, generator=generator, dtype=torch.float64) * (2 * torch.pi)
    plan = cast(build(circuit.with_angles(as_input)), x.dtype, torch.device(device))
    psi = torch.cat([run(plan, part.to(device), x.new_zeros(0, device=device)) for part in x.split(BLOCK)])
    return psi.to(torch.complex128)


def expressibility(
    circuit: Circuit, *, generator: torch.Generator, repeats: int = 5, device: torch.device | str = "cpu"
) -> Estimate:
    """Return the divergence of the circuit's state overlaps from those of Haar-random states; 0 is best.

    Expr = sum_i p_i ln(p_i / q_i), p the histogram of |<a|b>|^2 over 5000 random pairs in 75 bins and q the exact
    Haar mass of each bin, (1 - l)^(N - 1) - (1 - u)^(N - 1), N = 2^n. In nats. A finite sample of Haar states
    itself gives `expressibility_floor`: values near it must not be ranked.

    Args:
        circuit: Its inputs and weights are drawn uniformly from [0, 2 pi) radians.
        generator: Source of the draws.
        repeats: Independent histograms, whose mean and standard error are returned.
        device: Where the states are computed; the draws are the same everywhere.

    Raises:
        UsageError: for a circuit with noise channels or an amplitude encoding.

    Reference: Sim et al., Adv. Quantum Technol. 2, 1900070 (2019), section 3.1.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> round(expressibility(Circuit(4), generator=g).value, 2)  # an idle circuit
        64.76
    """

    def overlaps() -> NDArray[np.float64]:
        psi = random_states(circuit, 2 * PAIRS, generator=generator, device=device)
        inner: NDArray[np.float64] = (psi[:PAIRS].conj() * psi[PAIRS:]).sum(1).abs().square().cpu().numpy()
        return inner

    return _estimate([_divergence(overlaps(), 2**circuit.n_qubits) for _ in range(repeats)])


def expressibility_floor(n_qubits: int, *, generator: torch.Generator, repeats: int = 20) -> Estimate:
    """Return the `expressibility` of Haar-random states themselves, which finite samples keep above 0."""
    dim = 2**n_qubits

    def overlaps() -> NDArray[np.float64]:  # 1 - F has the distribution function u^(N - 1)
        u = torch.rand(PAIRS, generator=generator, dtype=torch.float64)
        haar: NDArray[np.float64] = (1 - u ** (1 / (dim - 1))).numpy()
        return haar

    return _estimate([_divergence(overlaps(), dim) for _ in range(repeats)])


def entangling_capability(
    circuit: Circuit, *, generator: torch.Generator, n_states: int = 2000, device: torch.device | str = "cpu"
) -> Estimate:
    """Return the mean Meyer-Wallach measure Q = 2 (1 - 1/n sum_k Tr rho_k^2) of the circuit's states, 0 to 1.

    A mean of values without bias, so that no floor needs to be known; Haar states have
    `haar_entangling_capability`.

    Raises:
        UsageError: for a circuit with noise channels or an amplitude encoding.

    Reference: Sim et al. (2019), section 3.2; Meyer and Wallach, J. Math. Phys. 43, 4273 (2002). Differs: the
        values that circulate for Sim et al. are above this definition for nearly every circuit.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> from redqubit.quantum.ansatzes import sim
        >>> round(entangling_capability(sim(9), generator=g).value, 6)
        1.0
    """
    q = meyer_wallach(random_states(circuit, n_states, generator=generator, device=device))
    return Estimate(float(q.mean()), float(q.std() / n_states**0.5))


def haar_entangling_capability(n_qubits: int) -> float:
    """Return the mean of Q over Haar-random states, (N - 2) / (N + 1), N = 2^n_qubits.

    A circuit that reaches every state alike has this value; one above it, such as circuit 9 with 1, does not.

    Reference: Scott and Caves, J. Phys. A 36, 9553 (2003), section 3.

    Example:
        >>> round(haar_entangling_capability(4), 4)
        0.8235
    """
    dim = float(2**n_qubits)
    return (dim - 2) / (dim + 1)


def meyer_wallach(psi: Tensor) -> Tensor:
    """Return Q (B,) of states (B, 2^n): the mean over qubits of `linear_entropies`."""
    return linear_entropies(psi).mean(1)


def linear_entropies(psi: Tensor) -> Tensor:
    """Return 2 (1 - Tr rho_k^2) of every qubit, (B, n), of states (B, 2^n): 0 alone, 1 maximally entangled."""
    n = psi.shape[1].bit_length() - 1
    purities = []
    for k in range(n):
        halves = psi.reshape(len(psi), 2**k, 2, -1).transpose(1, 2).flatten(2)  # (B, 2, 2^(n-1))
        rho = halves @ halves.mH
        purities.append(rho.abs().square().sum((1, 2)))
    return 2 * (1 - torch.stack(purities, dim=1))


def _divergence(fidelities: NDArray[np.float64], dim: int) -> float:
    edges = np.linspace(0, 1, BINS + 1)
    # rounding may leave a fidelity a hair above 1
    p = np.histogram(np.clip(fidelities, 0, 1), edges)[0] / len(fidelities)
    survival = (1 - edges) ** (dim - 1)
    return float(scipy.special.rel_entr(p, survival[:-1] - survival[1:]).sum())


def _estimate(values: list[float]) -> Estimate:
    if not values:
        raise UsageError("Argument `repeats` must be 1 or more, but is 0.")
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Estimate(float(np.mean(values)), spread / len(values) ** 0.5)
