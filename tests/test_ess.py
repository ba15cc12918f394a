"""Encoder state similarity of whole sets, the trace norms behind it, and overlaps by counting, against plain loops."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import redqubit.quantum.ess as module
from dense_noise import density_matrix
from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, state
from redqubit.quantum.ansatzes import sim
from redqubit.quantum.encodings import amplitude, amplitude_angles, amplitude_rotations, angle
from redqubit.quantum.ess import encoder_similarity, ess, farthest_class, label_agreement, nearest_class
from redqubit.quantum.noise import NoiseModel, device, quid_noise, with_noise
from redqubit.quantum.similarity import Metric, encoded, state_similarity
from redqubit.quantum.swap_test import compute_uncompute, compute_uncompute_circuit, swap_test, swap_test_circuit

METRICS: tuple[Metric, ...] = get_args(Metric)
NOISES = {"pure": None, "noisy": quid_noise(0.05)}
ENCODERS = {
    "1 feature": angle(2, ("RZ",), scale=1.0, hadamard=True),
    "2 features": angle(2, ("RZ", "RX"), scale=1.0, hadamard=True),
    "4 features": angle(2, ("RZ", "RX", "RZ", "RX"), scale=1.0, hadamard=True),
    "entangled": angle(3, scale=1.0) + Circuit(3, (Gate("CX", (0, 1)), Gate("CX", (1, 2)))),
    "amplitudes": amplitude(2),
    "rotations": amplitude_rotations(2),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(circuit: Circuit, n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, circuit.n_inputs, generator=seeded(seed), dtype=torch.float64) * 6 - 3


def matrices(circuit: Circuit, x: Tensor, noise: NoiseModel | None) -> list[np.ndarray]:
    """One density matrix a sample, by Kraus operators in numpy, or the amplitudes themselves."""
    noisy = circuit if noise is None else with_noise(circuit, noise)
    if circuit.initial is None:
        return [density_matrix(noisy, row.tolist(), []) for row in x]
    assert noise is None
    psi = (x / x.norm(dim=1, keepdim=True)).numpy()
    return [np.outer(p, p) for p in psi]


def distance(s: np.ndarray, r: np.ndarray, metric: Metric) -> float:
    if metric == "hilbert-schmidt":
        return float(1 - abs(np.trace(s.conj().T @ r)) / len(s))
    if metric == "frobenius":
        return float(np.linalg.norm(s - r))
    return float(np.linalg.svd(s - r, compute_uv=False).sum())


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("name", [n for n in ENCODERS if n != "amplitudes"])
def test_scores_are_means_over_the_other_members(metric: Metric, noise: str, name: str) -> None:
    circuit, y = ENCODERS[name], torch.tensor([1, 0, 2, 2, 0, 1, 1, 2, 0])
    x = samples(circuit, len(y), 3)
    rho = matrices(circuit, x, NOISES[noise])
    pairs = np.array([[distance(s, r, metric) for r in rho] for s in rho])
    wanted = np.array(
        [[np.mean([pairs[i, j] for j in range(9) if y[j] == c and j != i]) for c in range(3)] for i in range(9)]
    )
    found = ess(circuit, x, y, metric=metric, noise=NOISES[noise])
    assert found.scores.dtype == torch.float64
    assert np.abs(found.scores.numpy() - wanted).max() < 1e-7
    labels = y.tolist()
    for a, b in product(range(3), repeat=2):
        between = [pairs[i, j] for i in range(9) for j in range(9) if i != j and (labels[i], labels[j]) == (a, b)]
        assert found.classes[a, b].item() == pytest.approx(np.mean(between), abs=1e-7)
    assert found.agreement == np.mean(wanted.argmin(1) == y.numpy())


def test_amplitudes_and_their_rotations_are_one_encoding_until_noise_comes() -> None:
    y, x = torch.arange(8) % 2, torch.randn(8, 13, generator=seeded(), dtype=torch.float64)
    angles = amplitude_angles(x, 4)
    assert amplitude_rotations(4).counts == {"RY": 15, "CX": 14}
    psi = state(amplitude_rotations(4), angles)
    assert torch.allclose(psi[:, :13], x / x.norm(dim=1, keepdim=True), rtol=0, atol=1e-14)
    assert float(psi[:, 13:].abs().max()) < 1e-15
    assert torch.allclose(ess(amplitude(4, 13), x, y).scores, ess(amplitude_rotations(4), angles, y).scores)
    one_gate = ess(amplitude(4, 13), x, y, noise=quid_noise(0.05)).classes
    rotations = ess(amplitude_rotations(4), angles, y, noise=quid_noise(0.05)).classes
    assert bool((rotations < 0.5 * one_gate).all())  # 43 noisy gates instead of one
    rows = [amplitude_angles(torch.eye(8, dtype=torch.float64)[i : i + 1], 3) for i in range(8)]
    assert torch.equal(
        state(amplitude_rotations(3), torch.cat(rows)).square().round(decimals=12), torch.eye(8).double()
    )


def test_amplitudes_have_their_trace_distances() -> None:
    circuit, x = ENCODERS["amplitudes"], torch.randn(4, 4, generator=seeded(1), dtype=torch.float64)
    rho = matrices(circuit, x, None)
    got = encoder_similarity(circuit, x[:2], x[2:], torch.tensor([0, 1]), 2, metric="trace")
    assert got.numpy() == pytest.approx(np.array([[distance(s, r, "trace") for r in rho[2:]] for s in rho[:2]]))


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("metric", METRICS)
def test_blocks_change_nothing(metric: Metric, noise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit, y = ENCODERS["entangled"], torch.arange(11) % 3
    x = samples(circuit, 11)
    whole = ess(circuit, x, y, metric=metric, noise=NOISES[noise])
    across = encoder_similarity(circuit, x, x[:7], y[:7], 3, metric=metric, noise=NOISES[noise])
    monkeypatch.setattr(module, "_ROWS", 4)
    parts = ess(circuit, x, y, metric=metric, noise=NOISES[noise])
    assert torch.allclose(parts.scores, whole.scores, rtol=0, atol=1e-12)
    assert torch.allclose(parts.classes, whole.classes, rtol=0, atol=1e-12)
    again = encoder_similarity(circuit, x, x[:7], y[:7], 3, metric=metric, noise=NOISES[noise])
    assert torch.allclose(again, across, rtol=0, atol=1e-12)


def test_blocks_bound_the_memory() -> None:
    noisy = with_noise(angle(8), quid_noise(0.1))
    assert module._block(angle(4)) == module._block(with_noise(angle(4), quid_noise())) == 1024
    assert module._block(noisy) * 4**8 * 16 == 2**28  # bytes of the density matrices of a block
    assert module._block(angle(16)) * 2**16 * 16 == 2**28


def test_float32_samples_and_device_noise_have_their_scores_in_float64() -> None:
    circuit, y = ENCODERS["2 features"], torch.arange(6) % 2
    x = samples(circuit, 6).float()
    for noise in (None, device("ibm_kyiv")):
        found = ess(circuit, x, y, noise=noise)
        assert torch.equal(found.scores, ess(circuit, x.double(), y, noise=noise).scores)


def test_equal_scores_give_the_lowest_class() -> None:
    # classes 0 and 2 hold the same samples, in another order, and rounding must not tell them apart
    circuit = ENCODERS["2 features"]
    x = samples(circuit, 5)
    reference, y = torch.cat([x, x.flip(0), x[:1] + 1]), torch.tensor([2] * 5 + [0] * 5 + [1])
    for metric in METRICS:
        scores = encoder_similarity(circuit, samples(circuit, 9, 7), reference, y, 3, metric=metric)
        assert not bool((nearest_class(scores) == 2).any() | (farthest_class(scores) == 2).any())
    assert nearest_class(torch.tensor([[1.0, 1.0 - 1e-12]])).tolist() == [0]
    assert nearest_class(torch.tensor([[1.0, 1.0 - 1e-6]])).tolist() == [1]


def test_half_of_each_class_labels_the_other_half() -> None:
    circuit, y = ENCODERS["2 features"], torch.tensor([0] * 9 + [1] * 6 + [2] * 5)
    centers = samples(circuit, 3, 5)
    x = centers[y] + 0.05 * torch.randn(20, 4, generator=seeded(), dtype=torch.float64)
    found = label_agreement(circuit, x, y, noise=quid_noise(0.05), generator=seeded(3))
    assert torch.bincount(y[found.judged]).tolist() == [4, 3, 2]
    assert found.judged.tolist() == sorted(set(found.judged.tolist()))
    assert (found.share, found.hits) == (1.0, 9)
    # of labels that mean nothing, what is suggested follows from the reference half alone
    noise = torch.randint(0, 3, (20,), generator=seeded(1))
    found = label_agreement(circuit, x, noise, n_classes=3, metric="trace", generator=seeded(3))
    known = [i for i in range(20) if i not in found.judged.tolist()]
    scores = encoder_similarity(circuit, x[found.judged], x[known], noise[known], 3, metric="trace")
    assert torch.equal(found.suggested, nearest_class(scores))
    assert found.hits == int((found.suggested == noise[found.judged]).sum()) < 9
    other = label_agreement(circuit, x, noise, n_classes=3, metric="trace", generator=seeded(4))
    assert not torch.equal(other.judged, found.judged)


def test_without_h_the_first_rotation_is_lost() -> None:
    bare, x = angle(2, ("RZ", "RX"), scale=1.0), samples(ENCODERS["2 features"], 6)
    shifted = x.clone()
    shifted[:, ::2] += 1.234
    y = torch.arange(6) % 2
    assert torch.allclose(ess(bare, x, y).scores, ess(bare, shifted, y).scores)
    assert not torch.allclose(ess(ENCODERS["2 features"], x, y).scores, ess(ENCODERS["2 features"], shifted, y).scores)


def test_the_range_of_the_angles_may_begin_anywhere() -> None:
    # with [0, 2 pi] for [-pi, pi] all Bloch vectors are mirrored, which changes no overlap
    u, y = torch.rand(8, 4, generator=seeded(), dtype=torch.float64), torch.arange(8) % 2
    about_zero = angle(2, ("RZ", "RX"), scale=2 * math.pi, offset=-math.pi, hadamard=True)
    from_zero = angle(2, ("RZ", "RX"), scale=2 * math.pi, hadamard=True)
    raw = ess(ENCODERS["2 features"], 2 * math.pi * u - math.pi, y)
    assert torch.allclose(ess(about_zero, u, y).scores, raw.scores, rtol=0, atol=1e-7)
    assert torch.allclose(ess(from_zero, u, y).scores, raw.scores, rtol=0, atol=1e-7)


# ---- trace norms


def hermitian(kind: str, n: int, seed: int) -> Tensor:
    g = seeded(seed)
    z = torch.randn(n, n, generator=g, dtype=torch.complex128)
    rank_one = torch.outer(z[0], z[0].conj()) / z[0].norm() ** 2
    kinds: dict[str, Callable[[], Tensor]] = {
        "mixed": lambda: z @ z.mH / float(z.abs().square().sum()),
        "pure": lambda: rank_one,
        "diagonal": lambda: torch.diag(torch.rand(n, generator=g).to(z) / n),
        "basis": lambda: torch.diag(torch.nn.functional.one_hot(torch.tensor(seed % n), n)).to(z),
        "even": lambda: torch.eye(n, dtype=z.dtype) / n,
        "off the diagonal": lambda: torch.eye(n, dtype=z.dtype) / n + torch.eye(n, dtype=z.dtype).flip(0) / (2 * n),
        "real": lambda: (z.real @ z.real.T).to(z) / float(z.real.square().sum()),
        "nearly pure": lambda: (1 - 1e-9) * rank_one + 1e-9 * torch.eye(n, dtype=z.dtype) / n,
        "next to nothing": lambda: torch.eye(n, dtype=z.dtype) / n + 10.0 ** -(20 * (seed + 5)) * (z + z.mH),
        "split": lambda: torch.block_diag(z[:1, :1] @ z[:1, :1].mH, z[1:, 1:] @ z[1:, 1:].mH) / n**2,
    }
    return kinds[kind]()


KINDS = (
    "mixed", "pure", "diagonal", "basis", "even", "off the diagonal", "real", "nearly pure", "next to nothing", "split",
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), min_size=1, max_size=3),
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 3)), min_size=1, max_size=6),
    st.sampled_from([2, 3, 4, 16]),
)
def test_trace_norms_of_any_differences(left: list[tuple[str, int]], right: list[tuple[str, int]], n: int) -> None:
    from redqubit.quantum.similarity import distances

    a, b = (torch.stack([hermitian(kind, n, seed) for kind, seed in side]) for side in (left, right))
    wanted = [[np.linalg.svd((s - r).numpy(), compute_uv=False).sum() for r in b] for s in a]
    assert np.abs(distances(a, b, metric="trace").numpy() - np.array(wanted)).max() < 1e-13


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-12])
def test_small_differences_keep_their_digits(scale: float) -> None:
    from redqubit.quantum.similarity import distances

    base, step = hermitian("even", 8, 0), hermitian("mixed", 8, 1) - hermitian("mixed", 8, 2)
    got = distances((base + scale * step)[None], base[None], metric="trace").item()
    assert got / scale == pytest.approx(float(torch.linalg.svdvals(step).sum()), rel=1e-14 / scale + 1e-12)


def test_large_matrices_go_by_lapack() -> None:
    a, b = (torch.stack([hermitian("mixed", 65, s) for s in seeds]) for seeds in ((1, 2), (3,)))
    wanted = torch.linalg.svdvals(a - b).sum(1)
    assert torch.allclose(state_similarity(a, b, metric="trace")[:, 0], wanted)


# ---- overlaps by counting


@pytest.mark.parametrize("noise", NOISES)
def test_the_circuits_of_both_tests_have_the_probabilities_that_are_drawn_from(noise: str) -> None:
    encoder = ENCODERS["2 features"] + Circuit(2, (Gate("CX", (0, 1)),))
    if noise == "noisy":
        encoder = with_noise(encoder, quid_noise(0.1))
    a, b = samples(encoder, 3, 1), samples(encoder, 3, 2)
    s, r = (np.array([density_matrix(encoder, row.tolist(), []) for row in v]) for v in (a, b))
    overlap = np.einsum("bij,bji->b", s, r).real
    test = swap_test_circuit(encoder)
    assert (test.n_qubits, test.n_inputs) == (5, 8)
    both = torch.cat([a, b], 1)
    rho = [density_matrix(test, row.tolist(), []) for row in both]
    zero = np.array([np.trace(m[:16, :16]).real for m in rho])  # the ancilla is wire 0
    assert zero == pytest.approx((1 + overlap) / 2, abs=1e-12)
    if noise == "pure":
        undone = state(compute_uncompute_circuit(encoder), both)
        assert undone[:, 0].abs().square().numpy() == pytest.approx(overlap, abs=1e-12)


@pytest.mark.parametrize("name", ["2 features", "entangled", "amplitudes"])
@pytest.mark.parametrize("noise", NOISES)
def test_swap_tests_are_within_their_errors(name: str, noise: str) -> None:
    circuit = ENCODERS[name]
    a, b = samples(circuit, 12, 1), samples(circuit, 10, 2)
    model = NOISES[noise]
    plain = circuit if model is None else with_noise(circuit, model)
    s, r = encoded(plain, a), encoded(plain, b)
    exact = (s @ r.mH).abs().square() if s.ndim == 2 else torch.einsum("aij,bji->ab", s, r).real
    found = swap_test(plain, a, b, shots=2000, generator=seeded())
    z = (found.value - exact) / found.standard_error
    assert found.value.shape == (12, 10)
    assert float(z.abs().max()) < 4
    assert 0.8 < float(z.std()) < 1.2  # errors are as large as they say
    assert abs(float(z.mean())) < 4 / 120**0.5
    if model is None:
        found = compute_uncompute(circuit, a, b, shots=2000, generator=seeded())
        z = (found.value - exact) / found.standard_error
        assert float(z.abs().max()) < 4
        assert 0.8 < float(z.std()) < 1.2


def test_undoing_a_noisy_encoder_counts_its_noise_twice() -> None:
    circuit, noise = ENCODERS["2 features"], quid_noise(0.05)
    a, b = samples(circuit, 3, 1), samples(circuit, 2, 2)
    undone = with_noise(compute_uncompute_circuit(circuit), noise)
    wanted = [[density_matrix(undone, [*s.tolist(), *r.tolist()], [])[0, 0].real for r in b] for s in a]
    found = compute_uncompute(circuit, a, b, shots=10**7, generator=seeded(), noise=noise)
    assert float(((found.value - torch.tensor(wanted)) / found.standard_error).abs().max()) < 4
    same = compute_uncompute(circuit, a[:1], a[:1], shots=10**5, generator=seeded(), noise=noise)
    assert same.value.item() < 0.7


def test_blocks_change_no_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit, noise = ENCODERS["2 features"], quid_noise(0.05)
    a, b = samples(circuit, 5, 1), samples(circuit, 4, 2)
    tests = (partial(swap_test, with_noise(circuit, noise)), partial(compute_uncompute, circuit, noise=noise))
    whole = [test(a, b, shots=10**6, generator=seeded()) for test in tests]
    monkeypatch.setattr("redqubit.quantum.spaces._NUMBERS", 2 * 4**2)
    monkeypatch.setattr("redqubit.quantum.swap_test._PAIRS", 16)
    for test, wanted in zip(tests, whole, strict=True):
        found = test(a, b, shots=10**6, generator=seeded())
        assert torch.allclose(found.value, wanted.value, rtol=0, atol=1e-5)  # a hit more or less by rounding


def test_estimates_with_few_shots_know_that_they_are_bad() -> None:
    circuit = ENCODERS["1 feature"]
    x = samples(circuit, 1)
    one = compute_uncompute(circuit, x, x, shots=10, generator=seeded())
    assert one.value.item() == 1.0
    assert 0.08 < one.standard_error.item() < 0.2
    again = compute_uncompute(circuit, x, x + 1, shots=10, generator=seeded(5))
    assert torch.equal(again.value, compute_uncompute(circuit, x, x + 1, shots=10, generator=seeded(5)).value)


@pytest.mark.tiny
def test_what_does_not_fit_is_one_line() -> None:
    circuit, g = ENCODERS["2 features"], seeded()
    x, y = samples(circuit, 6), torch.arange(6) % 2
    broken = x.clone()
    broken[2, 1] = math.nan
    noisy = with_noise(circuit, quid_noise())
    faults: list[tuple[Callable[[], object], str]] = [
        (lambda: ess(circuit, x, y * 0), "two classes or more, but has 1"),
        (lambda: ess(circuit, x[:0], y[:0]), "two classes or more, but has 0"),
        (lambda: ess(circuit, x, y, n_classes=3), "class 2 has no sample"),
        (lambda: ess(circuit, x, y, n_classes=1), "two classes or more, but has 1"),
        (lambda: ess(circuit, x[:3], y[:3]), "class 1 has one"),
        (lambda: ess(circuit, x, y[:5]), "one class per sample (6), but has 5"),
        (lambda: ess(circuit, x, y - 1, n_classes=2), "`y` must hold classes 0 .. 1"),
        (lambda: ess(circuit, broken, y), "holds NaN"),
        (lambda: ess(circuit, x[:, :3], y), "(B, 4)"),
        (lambda: ess(circuit, x, y, metric="bures"), "Unknown metric"),  # type: ignore[arg-type]
        (lambda: ess(circuit + sim(1, 2), x, y), "bind them"),
        (lambda: ess(circuit, x, y, noise=NoiseModel(readout=((0.1, 0.1),) * 3)), "read-out errors"),
        (lambda: encoder_similarity(circuit, broken, x, y, 2, metric="trace"), "`x` must be finite"),
        (lambda: encoder_similarity(circuit, x, broken, y, 2, metric="trace"), "`reference_x` must be finite"),
        (lambda: label_agreement(circuit, x, y * 0, generator=g), "two classes or more, but has 1"),
        (lambda: label_agreement(circuit, x[:2], y[:2], generator=g), "two samples of a class"),
        (lambda: label_agreement(circuit, broken, y, generator=g), "holds NaN"),
        (lambda: swap_test(circuit, x, x, shots=0, generator=g), "`shots` must be 1 or more"),
        (lambda: swap_test(circuit, x, broken, shots=9, generator=g), "`b` must be finite"),
        (lambda: compute_uncompute(noisy, x, x, shots=9, generator=g), "free of noise"),
        (lambda: compute_uncompute(amplitude(2), x, x, shots=9, generator=g, noise=quid_noise()), "no inverse"),
        (lambda: swap_test_circuit(amplitude(2)), "amplitude_rotations"),
        (lambda: swap_test_circuit(sim(1, 2)), "without weights"),
        (lambda: amplitude_angles(torch.ones(2, 5), 2), "1 to 4 features"),
        (lambda: amplitude_angles(torch.zeros(2, 4), 2), "all-zero"),
        (lambda: ess(amplitude(2), x * 0, y), "all-zero"),
    ]
    for call, said in faults:
        with pytest.raises(UsageError) as caught:
            call()
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)
