"""Encoder state similarity against dense numpy formulas, Qiskit, PennyLane and closed forms."""

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, Input
from redqubit.quantum.ansatzes import sim
from redqubit.quantum.channels import Channel
from redqubit.quantum.encodings import angle
from redqubit.quantum.ess import class_shares, encoder_similarity
from redqubit.quantum.gates import matrix
from redqubit.quantum.similarity import Metric, encoded, state_similarity

METRICS = get_args(Metric)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pure(n: int, dim: int, seed: int = 0) -> Tensor:
    z = torch.randn(n, dim, generator=seeded(seed), dtype=torch.complex128)
    return z / z.abs().square().sum(1, keepdim=True).sqrt()


def mixed(n: int, dim: int, seed: int = 0) -> Tensor:
    z = torch.randn(n, dim, dim, generator=seeded(seed), dtype=torch.complex128)
    rho = z @ z.mH
    return rho / rho.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]


def projectors(psi: Tensor) -> Tensor:
    return torch.einsum("ai,aj->aij", psi, psi.conj())


def by_definition(s: Tensor, r: Tensor, metric: Metric) -> float:
    """The formulas of the paper on one pair of density matrices."""
    a, b = s.numpy(), r.numpy()
    if metric == "hilbert-schmidt":
        return float(1 - abs(np.trace(a.conj().T @ b)) / len(a))
    if metric == "frobenius":
        return float(np.linalg.norm(a - b))
    return float(np.linalg.svd(a - b, compute_uv=False).sum())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kinds", ["pure pure", "mixed mixed", "pure mixed", "mixed pure"])
@pytest.mark.parametrize("dim", [2, 8])
def test_every_pair_follows_the_definition(metric: Metric, kinds: str, dim: int) -> None:
    makers = {"pure": pure, "mixed": mixed}
    a, b = (makers[kind](n, dim, seed) for kind, n, seed in zip(kinds.split(), (3, 4), (1, 2), strict=True))
    got = state_similarity(a, b, metric=metric)
    assert got.shape == (3, 4)
    assert got.dtype == torch.float64
    s, r = (t if t.ndim == 3 else projectors(t) for t in (a, b))
    want = [[by_definition(u, v, metric) for v in r] for u in s]
    assert torch.allclose(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("metric", METRICS)
def test_states_and_their_matrices_give_the_same(metric: Metric) -> None:
    a, b = pure(5, 16, 3), pure(6, 16, 4)
    one = state_similarity(a, b, metric=metric)
    two = state_similarity(projectors(a), projectors(b), metric=metric)
    assert torch.allclose(one, two, rtol=0, atol=1e-7)


def test_qiskit_and_pennylane_agree() -> None:
    information = pytest.importorskip("qiskit.quantum_info", reason="needs the extra `qiskit`")
    pennylane = pytest.importorskip("pennylane", reason="needs the extra `pennylane`")
    psi, phi, rho = pure(1, 8, 5), pure(1, 8, 6), mixed(1, 8, 7)
    fidelity = information.state_fidelity(
        information.Statevector(psi[0].numpy()), information.Statevector(phi[0].numpy())
    )
    assert state_similarity(psi, phi, metric="hilbert-schmidt").item() == pytest.approx(1 - fidelity / 8)
    assert state_similarity(psi, phi, metric="frobenius").item() == pytest.approx(math.sqrt(2 - 2 * fidelity))
    against_pure = information.state_fidelity(
        information.DensityMatrix(rho[0].numpy()), information.Statevector(psi[0].numpy())
    )
    assert state_similarity(rho, psi, metric="hilbert-schmidt").item() == pytest.approx(1 - against_pure / 8)
    for s, r in ((projectors(psi), projectors(phi)), (rho, projectors(psi)), (rho, mixed(1, 8, 8))):
        half = pennylane.math.trace_distance(s[0].numpy(), r[0].numpy())
        assert state_similarity(s, r, metric="trace").item() == pytest.approx(2 * float(half))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 4, 8]))
def test_frobenius_and_trace_are_distances(seed: int, dim: int) -> None:
    states = torch.cat([mixed(2, dim, seed), projectors(pure(2, dim, seed + 1))])
    largest: dict[Metric, float] = {"frobenius": math.sqrt(2), "trace": 2.0}
    for metric, most in largest.items():
        d = state_similarity(states, states, metric=metric)
        assert torch.allclose(d, d.T, rtol=0, atol=1e-7)
        assert float(d.diagonal().abs().max()) < 1e-7
        assert 0 <= float(d.min()) <= float(d.max()) <= most + 1e-9
        assert bool((d[:, :, None] <= d[:, None, :] + d.T[None, :, :] + 1e-7).all())  # d(i, j) <= d(i, k) + d(k, j)


def test_what_the_papers_measure_is_at_equal_and_orthogonal_states() -> None:
    basis = torch.eye(16)
    hs = state_similarity(basis, basis, metric="hilbert-schmidt")
    assert hs[0, 0] == 1 - 1 / 16
    assert hs[0, 1] == 1
    assert state_similarity(basis, basis, metric="frobenius")[0, 1].item() == pytest.approx(math.sqrt(2))
    assert state_similarity(basis, basis, metric="trace")[0, 1] == 2
    # what is not a distance: a mixed state is "nearer" to a pure one than to itself
    tilted, zero = torch.diag(torch.tensor([0.6, 0.4]))[None], torch.eye(2)[:1]
    assert state_similarity(tilted, zero, metric="hilbert-schmidt") < state_similarity(
        tilted, tilted, metric="hilbert-schmidt"
    )


@pytest.mark.parametrize("metric", ["frobenius", "trace"])
def test_float32_states_are_at_no_distance_from_themselves(metric: Metric) -> None:
    psi = pure(4, 16).to(torch.complex64)
    assert float(state_similarity(psi, psi, metric=metric).diagonal().max()) < 1e-6
    assert float(state_similarity(projectors(psi), projectors(psi), metric="frobenius").diagonal().max()) < 1e-6


@pytest.mark.parametrize("count", [0, 70])
def test_trace_distances_by_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import redqubit.quantum.similarity as module

    a, b = mixed(3, 4, 1), mixed(count, 4, 2) if count else torch.zeros(0, 4, 4)
    compiled = state_similarity(a, b, metric="trace")
    monkeypatch.setattr(module, "_COMPILED", 0)
    whole = state_similarity(a, b, metric="trace")
    monkeypatch.setattr(module, "_CHUNK", 64)
    assert torch.equal(state_similarity(a, b, metric="trace"), whole)
    assert whole.shape == compiled.shape == (3, count)
    assert torch.allclose(compiled, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("metric", METRICS)
def test_distances_have_gradients(metric: Metric) -> None:
    noise = mixed(2, 4, 5)

    def of(t: Tensor) -> Tensor:
        mix = torch.stack([t[0] * noise[0] + (1 - t[0]) * noise[1], t[1] * noise[1] + (1 - t[1]) * noise[0]])
        return state_similarity(mix, mixed(2, 4, 6), metric=metric)

    assert torch.autograd.gradcheck(of, torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("metric", METRICS)
def test_class_scores_are_means_over_the_members(metric: Metric) -> None:
    encoder = angle(2, ("RZ", "RX"), scale=1.0, hadamard=True)
    x, r = (torch.rand(n, 4, generator=seeded(n), dtype=torch.float64) * 6 - 3 for n in (5, 9))
    y = torch.tensor([2, 0, 1, 1, 0, 2, 2, 2, 0])
    got = encoder_similarity(encoder, x, r, y, 3, metric=metric)

    def dense(row: Tensor) -> Tensor:
        """Two qubits, each RX(b) RZ(a) H |0>, written out."""
        qubits = []
        for a, b in row.reshape(2, 2).tolist():
            plus = np.array([np.exp(-0.5j * a), np.exp(0.5j * a)]) / math.sqrt(2)
            c, s = math.cos(b / 2), math.sin(b / 2)
            qubits.append(np.array([[c, -1j * s], [-1j * s, c]]) @ plus)
        psi = np.kron(*qubits)
        return torch.tensor(np.outer(psi, psi.conj()))

    for i in range(len(x)):
        for c in range(3):
            members = [by_definition(dense(x[i]), dense(r[j]), metric) for j in range(9) if y[j] == c]
            assert got[i, c].item() == pytest.approx(float(np.mean(members)), abs=1e-9)


def test_one_qubit_has_a_closed_form_and_labels_its_neighbours() -> None:
    x = torch.tensor([[0.1], [0.8]], dtype=torch.float64)
    reference = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    got = encoder_similarity(angle(1), x, reference, torch.tensor([0, 1]), 2, metric="trace")
    want = 2 * torch.sin(math.pi / 2 * (x - reference.T)).abs()  # F = cos^2(pi (x - r) / 2)
    assert torch.allclose(got, want)
    assert got.argmin(1).tolist() == [0, 1]


def quid_encoder(n: int, p: float) -> Circuit:
    """H, RZ, RX on every qubit, amplitude damping and depolarizing after each gate."""
    gates: list[Gate | Channel] = []
    for q in range(n):
        for gate in (Gate("H", (q,)), Gate("RZ", (q,), (Input(2 * q),)), Gate("RX", (q,), (Input(2 * q + 1),))):
            gates += [gate, Channel("AmplitudeDamping", (q,), (p,)), Channel("Depolarizing", (q,), (p,))]
    return Circuit(n, tuple(gates))


def dense_density(circuit: Circuit, x: Tensor) -> Tensor:
    """sum_k K rho K^dagger of every gate and channel, each written on all wires."""
    n = circuit.n_qubits
    rho = torch.zeros(2**n, 2**n, dtype=torch.complex128)
    rho[0, 0] = 1
    for g in circuit.gates:
        if isinstance(g, Channel):
            operators = [torch.tensor(k, dtype=torch.complex128) for k in g.operators]
        else:
            operators = [matrix(g.name, *(a.scale * x[a.index] + a.offset for a in g.angles if isinstance(a, Input)))]
        total = torch.zeros_like(rho)
        for k in operators:
            rest = [w for w in range(n) if w not in g.wires]
            full = torch.kron(k.contiguous(), torch.eye(2 ** len(rest), dtype=k.dtype)).reshape([2] * (2 * n))
            order = [[*g.wires, *rest].index(w) for w in range(n)]
            full = full.permute(*order, *(n + a for a in order)).reshape(2**n, 2**n)
            total = total + full @ rho @ full.mH
        rho = total
    return rho


@pytest.mark.parametrize("n", [1, 2, 3])
def test_noisy_encoders_have_the_density_matrices_of_their_kraus_operators(n: int) -> None:
    ring = tuple(Gate("CX", (q, (q + 1) % n)) for q in range(n) if n > 1)
    noise = tuple(Channel("PhaseDamping", (q,), (0.2,)) for q in range(n))
    circuit = quid_encoder(n, 0.05) + Circuit(n, ring + noise) + quid_encoder(n, 0.1)
    x = torch.rand(4, 2 * n, generator=seeded(), dtype=torch.float64) * 6 - 3
    got = encoded(circuit, x)
    want = torch.stack([dense_density(circuit, row) for row in x])
    assert torch.allclose(got, want, rtol=0, atol=1e-12)


def test_noise_has_a_known_purity_and_brings_states_together() -> None:
    x = torch.tensor([[0.7, 1.1], [2.0, -0.4]], dtype=torch.float64)
    rho = encoded(quid_encoder(1, 0.05), x)
    assert (rho[0] @ rho[0]).trace().real.item() == pytest.approx(0.803, abs=5e-4)
    four = encoded(quid_encoder(4, 0.05), x[:1].repeat(1, 4))
    assert (four[0] @ four[0]).trace().real.item() == pytest.approx(0.417, abs=1e-3)
    y = torch.tensor([0, 1])
    metrics: list[Metric] = ["frobenius", "trace"]
    for metric in metrics:
        clean = encoder_similarity(quid_encoder(1, 0.0), x, x, y, 2, metric=metric)
        noisy = encoder_similarity(quid_encoder(1, 0.05), x, x, y, 2, metric=metric)
        pure_ = encoder_similarity(angle(1, ("RZ", "RX"), scale=1.0, hadamard=True), x, x, y, 2, metric=metric)
        assert torch.allclose(clean, pure_, rtol=0, atol=1e-7)
        assert noisy[0, 1] < 0.9 * clean[0, 1]


@pytest.mark.tiny
def test_what_does_not_fit_is_one_line() -> None:
    x, y = torch.rand(3, 1), torch.tensor([0, 1, 1])
    noisy = Circuit(1, (Gate("RX", (0,), (Input(0),)), Channel("Depolarizing", (0,), (0.1,))))
    faults: list[tuple[Callable[[], Tensor], str]] = [
        (lambda: state_similarity(torch.eye(2), torch.eye(2), metric="bures"), "Unknown metric"),  # type: ignore[arg-type]
        (lambda: state_similarity(torch.eye(2), torch.eye(4), metric="trace"), "equally large"),
        (lambda: state_similarity(2 * torch.eye(2), torch.eye(2), metric="trace"), "normalised"),
        (lambda: state_similarity(torch.full((1, 2), math.nan), torch.eye(2), metric="trace"), "normalised"),
        (lambda: state_similarity(torch.eye(2), torch.ones(1, 2, 2), metric="trace"), "trace 1"),
        (
            lambda: state_similarity(torch.tensor([[[0.5, 0.5], [0.0, 0.5]]]), torch.eye(2), metric="trace"),
            "Hermitian",
        ),
        (lambda: state_similarity(torch.ones(2), torch.eye(2), metric="trace"), "shape (2,)"),
        (lambda: state_similarity(torch.ones(1, 2, 3), torch.eye(2), metric="trace"), "shape (1, 2, 3)"),
        (lambda: encoder_similarity(sim(9, 2), x, x, y, 2, metric="trace"), "bind them"),
        (lambda: encoder_similarity(noisy, x[:, :0], x, y, 2, metric="trace"), "(B, 1)"),
        (lambda: encoded(quid_encoder(9, 0.1), torch.rand(1, 18)), "8 qubits or fewer"),
        (lambda: encoder_similarity(angle(1), x, x, y, 3, metric="trace"), "class 2 has no sample"),
        (lambda: encoder_similarity(angle(1), x, x, y, 1, metric="trace"), "classes 0 .. 0"),
        (lambda: encoder_similarity(angle(1), x, x[:2], y, 2, metric="trace"), "one class per sample"),
        (lambda: encoder_similarity(angle(2), x, x, y, 2, metric="trace"), "(B, 2)"),
        (lambda: class_shares(torch.tensor([0.0, 1.0]), 2), "classes 0 .. 1"),
    ]
    for call, said in faults:
        with pytest.raises(UsageError) as caught:
            call()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
