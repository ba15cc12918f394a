"""How much of the state space a circuit reaches, and how entangled what it reaches is."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr
from torch import Tensor

from redqubit.quantum.circuit import Angle, Circuit, Input, Weight
from redqubit.quantum.simulate import state

PAIRS, BINS = 5000, 75  # of Sim et al.


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo mean with its standard error."""

    value: float
    standard_error: float


def random_states(circuit: Circuit, n: int, *, generator: torch.Generator) -> Tensor:
    """Return n states (n, 2^n_qubits), complex128, for inputs and weights uniform in [0, 2 pi) radians."""
    offset, n_parameters = circuit.n_inputs, circuit.n_inputs + circuit.n_weights

    def as_input(a: Angle) -> Angle:  # a fresh draw of every parameter in each row of one batch
        if isinstance(a, Weight):
            return Input(a.index + offset, a.scale, a.offset)
        return Input(a.index) if isinstance(a, Input) else a

    x = torch.rand(n, n_parameters, generator=generator, dtype=torch.float64) * (2 * torch.pi)
    psi = state(circuit.with_angles(as_input), x)
    return psi.to(torch.complex128).expand(n, -1)


def expressibility(circuit: Circuit, *, generator: torch.Generator, repeats: int = 5) -> Estimate:
    """Return the divergence of the circuit's state overlaps from those of Haar-random states; 0 is best.

    Expr = sum_i p_i ln(p_i / q_i), p the histogram of |<a|b>|^2 over 5000 random pairs in 75 bins and q the exact
    Haar mass of each bin, (1 - l)^(N - 1) - (1 - u)^(N - 1), N = 2^n. In nats. A finite sample of Haar states
    itself gives `expressibility_floor`: values near it must not be ranked.

    Args:
        circuit: Its inputs and weights are drawn uniformly from [0, 2 pi) radians.
        generator: Source of the draws.
        repeats: Independent histograms, whose mean and standard error are returned.

    Reference: Sim et al., Adv. Quantum Technol. 2, 1900070 (2019), section 3.1.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> round(expressibility(Circuit(4), generator=g).value, 2)  # an idle circuit
        64.76
    """

    def overlaps() -> NDArray[np.float64]:
        psi = random_states(circuit, 2 * PAIRS, generator=generator)
        inner: NDArray[np.float64] = (psi[:PAIRS].conj() * psi[PAIRS:]).sum(1).abs().square().numpy()
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


def entangling_capability(circuit: Circuit, *, generator: torch.Generator, n_states: int = 2000) -> Estimate:
    """Return the mean Meyer-Wallach measure Q = 2 (1 - 1/n sum_k Tr rho_k^2) of the circuit's states, 0 to 1.

    Reference: Sim et al. (2019), section 3.2; Meyer and Wallach, J. Math. Phys. 43, 4273 (2002). Differs: the
        values that circulate for Sim et al. are above this definition for nearly every circuit.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> from redqubit.quantum.ansatzes import sim
        >>> round(entangling_capability(sim(9), generator=g).value, 6)
        1.0
    """
    q = meyer_wallach(random_states(circuit, n_states, generator=generator))
    return Estimate(float(q.mean()), float(q.std() / n_states**0.5))


def meyer_wallach(psi: Tensor) -> Tensor:
    """Return Q (B,) of states (B, 2^n)."""
    n = psi.shape[1].bit_length() - 1
    purities = []
    for k in range(n):
        halves = psi.reshape(len(psi), 2**k, 2, -1).transpose(1, 2).flatten(2)  # (B, 2, 2^(n-1))
        rho = halves @ halves.mH
        purities.append(rho.abs().square().sum((1, 2)))
    return 2 * (1 - torch.stack(purities).mean(0))


def _divergence(fidelities: NDArray[np.float64], dim: int) -> float:
    edges = np.linspace(0, 1, BINS + 1)
    # rounding may leave a fidelity a hair above 1
    p = np.histogram(np.clip(fidelities, 0, 1), edges)[0] / len(fidelities)
    survival = (1 - edges) ** (dim - 1)
    return float(rel_entr(p, survival[:-1] - survival[1:]).sum())


def _estimate(values: list[float]) -> Estimate:
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5))
