"""How alike encoded samples are: distances between the states into which a circuit turns them."""

from typing import Literal, get_args

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.gates import IDENTITY, X, Y, Z
from redqubit.quantum.simulation import density
from redqubit.quantum.simulation.fuse import cast
from redqubit.quantum.simulation.state_vector import check, state
from redqubit.registry import unknown

Metric = Literal["hilbert-schmidt", "frobenius", "trace"]

_CHUNK = 2**22  # complex numbers of matrix differences held at a time, 64 MiB
_COMPILED = 64  # rows of a matrix up to which a kernel of ours is faster than a call of LAPACK for each difference
_TOLERANCE = 1e-4  # of the trace and the norm, so that float32 states pass


def state_similarity(a: Tensor, b: Tensor, *, metric: Metric) -> Tensor:
    """Return the distance of every state of `a` from every state of `b`; the smaller, the more alike.

    For density matrices s, r of dimension N

    - "hilbert-schmidt": 1 - |Tr(s^H r)| / N. Not a distance: equal pure states have 1 - 1/N, and a mixed state can be
      nearer to another one than to itself;
    - "frobenius": ||s - r||_F = sqrt(Tr s^2 + Tr r^2 - 2 Re Tr(s r)), of pure states sqrt(2 - 2 F);
    - "trace": the sum of the singular values of s - r, of pure states 2 sqrt(1 - F); twice what is often called so;

    with the fidelity F = |<psi|phi>|^2. Computed in float64: states nearer than about 1e-8 have distance 0.

    Args:
        a: Normalised states (A, N), or density matrices (A, N, N).
        b: The same for (B, N) or (B, N, N); one may be states and the other matrices.
        metric: Which of the three.

    Returns:
        (A, B), float64.

    Raises:
        UsageError: for an unknown metric, dimensions that differ, states that are not normalised, or matrices that are
            not Hermitian with trace 1.

    Reference: Kundu and Ghosh, "Adversarial Data Poisoning Attacks on Quantum Machine Learning in the NISQ Era",
        arXiv 2411.14412, section on encoder state similarity.

    Example:
        >>> zero, plus = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5**0.5, 0.5**0.5]])
        >>> [round(state_similarity(zero, plus, metric=m).item(), 4) for m in get_args(Metric)]
        [0.75, 1.0, 1.4142]
    """
    check_metric(metric)
    a, b = _checked(a, "a"), _checked(b, "b")
    if a.shape[1] != b.shape[1]:
        raise UsageError(
            f"Arguments `a` and `b` must have equally large states, but have {a.shape[1]} and {b.shape[1]}."
        )
    return distances(a, b, metric=metric)


def distances(a: Tensor, b: Tensor, *, metric: Metric) -> Tensor:
    """Return what `state_similarity` does, of states that are known to be right, such as those of `encoded`."""
    dim = a.shape[1]
    if a.ndim == b.ndim == 2:
        overlap = (a @ b.mH).abs().square()
        if metric == "hilbert-schmidt":
            return 1 - overlap / dim
        distance = (1 - overlap).clamp(min=0).sqrt()
        return distance * (2**0.5 if metric == "frobenius" else 2)
    a, b = _matrices(a), _matrices(b)
    if metric == "trace":
        return _trace_distances(a, b)
    inner = _numbers(a) @ _numbers(b).T  # Tr(s^H r) of every pair, which is real
    if metric == "hilbert-schmidt":
        return 1 - inner.abs() / dim
    square = _purities(a)[:, None] + _purities(b) - 2 * inner
    return square.clamp(min=0).sqrt()


def check_metric(metric: str) -> None:
    """Raise a `UsageError` unless the metric is one of `Metric`."""
    if metric not in get_args(Metric):
        raise unknown("metric", metric, get_args(Metric))


def encoded(circuit: Circuit, x: Tensor) -> Tensor:
    """Return what an encoder makes of samples: states (B, N), or density matrices (B, N, N) when it is noisy.

    Read-out errors play no part.

    Args:
        circuit: Inputs and no weights; with noise channels up to 8 qubits.
        x: Samples (B, n_inputs), in radians where they are angles.

    Raises:
        UsageError: for a circuit with weights, a noisy one of too many qubits, or samples that do not fit.

    Example:
        >>> from redqubit.quantum.channels import Channel
        >>> from redqubit.quantum.circuit import Gate, Input
        >>> noisy = Circuit(1, (Gate("RX", (0,), (Input(0),)), Channel("BitFlip", (0,), (0.25,))))
        >>> encoded(noisy, torch.zeros(1, 1)).real.round(decimals=6).tolist()
        [[[0.75, 0.0], [0.0, 0.25]]]
    """
    if circuit.n_weights:
        raise UsageError(
            f"Argument `circuit` must be an encoder without weights, but has {circuit.n_weights}: bind them first."
        )
    if not circuit.channels:
        return state(circuit, x)
    none = x.new_zeros(0, dtype=torch.float64)
    check(circuit, x, none.to(x))
    x = x.double()
    plan = cast(density.build(circuit), x.dtype, x.device)
    return _from_words(density.coefficients(plan, x, none), circuit.n_qubits)


def _from_words(coefficients: Tensor, n: int) -> Tensor:
    """Return rho = 2^-n sum_P r_P P, (B, 2^n, 2^n), of the coefficients r_P (B, 4^n)."""
    paulis = torch.stack([IDENTITY, X, Y, Z]).to(coefficients.device).reshape(4, 4) / 2
    rho = coefficients.to(paulis.dtype)
    for _ in range(n):  # the letter of the first wire becomes its row and column, at the end
        rho = (rho.reshape(len(rho), 4, -1).mT @ paulis).flatten(1)
    rows, columns = range(1, 2 * n, 2), range(2, 2 * n + 1, 2)
    return rho.reshape(-1, *[2] * (2 * n)).permute(0, *rows, *columns).reshape(-1, 2**n, 2**n)


def _checked(states: Tensor, name: str) -> Tensor:
    """Return states or density matrices as complex128, the states normalised to the last digit."""
    shape = tuple(states.shape)
    if states.ndim not in (2, 3) or (states.ndim == 3 and shape[1] != shape[2]):
        raise UsageError(
            f"Argument `{name}` must be states (n, N) or density matrices (n, N, N), but has shape {shape}."
        )
    states = states.to(torch.complex128)
    if states.ndim == 2:
        norm: Tensor = torch.linalg.vector_norm(states, dim=1, keepdim=True)
        if not bool(((norm - 1).abs() < _TOLERANCE).all()):
            raise UsageError(f"Argument `{name}` must hold normalised states, but one has another norm: divide by it.")
        return states / norm
    trace = states.diagonal(dim1=1, dim2=2).sum(1)
    if not bool(((trace - 1).abs() < _TOLERANCE).all() and ((states - states.mH).abs() < _TOLERANCE).all()):
        raise UsageError(f"Argument `{name}` must hold density matrices, Hermitian with trace 1, but one is not.")
    return states


def _matrices(states: Tensor) -> Tensor:
    """Return density matrices (n, N, N) of states (n, N); matrices are left as they are."""
    return states if states.ndim == 3 else states[:, :, None] * states[:, None, :].conj()


def _numbers(matrices: Tensor) -> Tensor:
    """Return complex matrices (n, N, N) as rows of real numbers (n, 2 N N)."""
    return torch.view_as_real(matrices).flatten(1)


def _purities(matrices: Tensor) -> Tensor:
    return _numbers(matrices).square().sum(1)


def _trace_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums of the absolute eigenvalues of all differences, which are Hermitian, some at a time."""
    differentiated = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    if a.device.type == "cpu" and a.shape[1] <= _COMPILED and not differentiated:
        return _compiled_trace_distances(a, b)
    out = torch.empty(len(a) * len(b), dtype=torch.float64, device=a.device)
    for part in torch.arange(len(out), device=a.device).split(max(1, _CHUNK // a.shape[1] ** 2)):
        out[part] = torch.linalg.eigvalsh(a[part // len(b)] - b[part % len(b)]).abs().sum(1)
    return out.reshape(len(a), len(b))


def _compiled_trace_distances(a: Tensor, b: Tensor) -> Tensor:
    from redqubit.quantum.trace_norms import LANES, trace_norms  # Numba takes half a second to import

    n, groups = a.shape[1], -(-len(b) // LANES)
    left = _numbers(a).contiguous()
    padded = torch.nn.functional.pad(_numbers(b), (0, 0, 0, groups * LANES - len(b)))
    right = padded.reshape(groups, LANES, 2 * n * n).mT.contiguous()  # the same number of several matrices side by side
    work = left.new_empty(2 * n * n + 6 * n + 2, LANES)
    out = left.new_empty(len(a), groups * LANES)
    addresses = left.data_ptr(), right.data_ptr(), work.data_ptr(), out.data_ptr()
    trace_norms(1.0, n, len(a), groups, *addresses)
    return out[:, : len(b)]
