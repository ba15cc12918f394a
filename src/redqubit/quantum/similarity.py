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

Metric = Literal["hilbert_schmidt", "frobenius", "trace"]

_CHUNK = 2**22  # complex numbers of matrix differences held at a time, 64 MiB
_TOLERANCE = 1e-4  # of the trace and the norm, so that float32 states pass


def state_similarity(a: Tensor, b: Tensor, *, metric: Metric) -> Tensor:
    """Return the distance of every state of `a` from every state of `b`; the smaller, the more alike.

    For density matrices s, r of dimension N

    - "hilbert_schmidt": 1 - |Tr(s^H r)| / N. Not a distance: equal pure states have 1 - 1/N, and a mixed state can be
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
    if metric not in get_args(Metric):
        raise unknown("metric", metric, get_args(Metric))
    a, b = _checked(a, "a"), _checked(b, "b")
    dim = a.shape[1]
    if b.shape[1] != dim:
        raise UsageError(f"Arguments `a` and `b` must have equally large states, but have {dim} and {b.shape[1]}.")
    if a.ndim == b.ndim == 2:
        overlap = (a @ b.mH).abs().square()
        if metric == "hilbert_schmidt":
            return 1 - overlap / dim
        distance = (1 - overlap).clamp(min=0).sqrt()
        return distance * (2**0.5 if metric == "frobenius" else 2)
    a, b = _matrices(a), _matrices(b)
    if metric == "trace":
        return _trace_distances(a, b)
    inner = a.flatten(1).conj() @ b.flatten(1).T  # Tr(s^H r) of every pair
    if metric == "hilbert_schmidt":
        return 1 - inner.abs() / dim
    square = _purities(a)[:, None] + _purities(b) - 2 * inner.real
    return square.clamp(min=0).sqrt()


def encoder_similarity(
    circuit: Circuit, x: Tensor, reference_x: Tensor, reference_y: Tensor, n_classes: int, *, metric: Metric
) -> Tensor:
    """Return the mean distance of each encoded sample from the encoded members of each class.

    The class with the least mean is the label that the encoder suggests, the one with the largest is the label
    furthest from it.

    Args:
        circuit: The encoder: inputs and no weights; with noise channels up to 8 qubits.
        x: Samples (B, n_inputs), in radians where they are angles.
        reference_x: Samples (R, n_inputs) whose classes are known.
        reference_y: Their classes (R,), each of 0 .. n_classes - 1 at least once.
        n_classes: Number of classes C.
        metric: A distance of `state_similarity`.

    Returns:
        (B, C), float64.

    Raises:
        UsageError: for a circuit with weights, a noisy one of too many qubits, labels that do not fit, or what
            `state_similarity` refuses.

    Reference: Kundu and Ghosh, arXiv 2411.14412, algorithm 1.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> reference = torch.tensor([[0.0], [0.1], [0.9]])
        >>> scores = encoder_similarity(
        ...     angle(1), torch.tensor([[0.2]]), reference, torch.tensor([0, 0, 1]), 2, metric="trace"
        ... )
        >>> scores.argmin(1).tolist(), scores.argmax(1).tolist()
        ([0], [1])
    """
    members = class_shares(reference_y, n_classes)
    if len(members) != len(reference_x):
        raise UsageError(
            f"Argument `reference_y` must have one class per sample ({len(reference_x)}), but has {len(members)}."
        )
    distances = state_similarity(encoded(circuit, x), encoded(circuit, reference_x), metric=metric)
    return distances @ members.to(distances)


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


def class_shares(y: Tensor, n_classes: int) -> Tensor:
    """Return the matrix (R, C), float64, that takes distances from R samples to their means over each class.

    Raises:
        UsageError: when a label is not among the classes, or a class has no sample.

    Example:
        >>> class_shares(torch.tensor([0, 1, 0]), 2).tolist()
        [[0.5, 0.0], [0.0, 1.0], [0.5, 0.0]]
    """
    if y.ndim != 1 or y.is_floating_point() or bool(((y < 0) | (y >= n_classes)).any()):
        raise UsageError(
            f"Argument `reference_y` must hold classes 0 .. {n_classes - 1}, but has others: number them so."
        )
    member = torch.nn.functional.one_hot(y.long(), n_classes).double()
    sizes = member.sum(0)
    if not bool(sizes.all()):
        raise UsageError(
            f"Argument `reference_y` must hold every class, but class {int(sizes.argmin())} has no sample: "
            "add one or number the classes without gaps."
        )
    shares: Tensor = member / sizes
    return shares


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


def _purities(matrices: Tensor) -> Tensor:
    return matrices.abs().square().sum((1, 2))


def _trace_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums of the absolute eigenvalues of all differences, which are Hermitian, a few at a time."""
    step = max(1, _CHUNK // (a.shape[1] ** 2))
    pairs = torch.cartesian_prod(torch.arange(len(a)), torch.arange(len(b))).to(a.device)
    parts: list[Tensor] = [torch.linalg.eigvalsh(a[i] - b[j]).abs().sum(1) for i, j in (p.T for p in pairs.split(step))]
    return torch.cat(parts).reshape(len(a), len(b))
