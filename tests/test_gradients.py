"""Shift rules, SPSA and shots against exact gradients, PennyLane and the formulas by hand."""

import math
from collections.abc import Callable, Sequence

import pennylane as qml
import pytest
import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum import Amplitude, Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.circuit import SIGNATURES
from redqubit.quantum.gradients import (
    RULES,
    SPSA,
    AngleMap,
    Evaluate,
    at_value,
    parameter_shift,
    sample,
    spsa,
    unroll,
)
from redqubit.quantum.measure import signs
from redqubit.quantum.simulation import state_vector as simulate
from redqubit.quantum.simulation.fuse import build, cast

PARAMETRISED = [name for name, (_, n_angles) in SIGNATURES.items() if n_angles]
# features and weights that are shared, scaled, shifted and mixed, by all kinds of gates
MIXED = Circuit(
    3,
    (
        *(Gate("H", (q,)) for q in range(3)),
        Gate("RX", (0,), (2.0 * Input(0) + 0.3,)),
        Gate("CRY", (0, 1), (Weight(0),)),
        Gate("Rot", (2,), (Input(1), 0.4, -0.5 * Weight(0))),
        Gate("CRX", (2, 0), (0.7 * Input(0),)),
        Gate("IsingYY", (1, 2), (Weight(1) - 1.0,)),
        Gate("CP", (0, 2), (Weight(1),)),
        Gate("CRZ", (1, 0), (Input(1) * 3.0,)),
        Gate("P", (1,), (0.2,)),
        Gate("RY", (1,), (Weight(0),)),
        Gate("RX", (0,), (0.5,)),
    ),
)


def exact(circuit: Circuit, x: Tensor, w: Tensor, table: Tensor | None = None) -> Tensor:
    plan = cast(build(circuit), x.dtype, x.device)
    return simulate.expectations(plan, x, w, signs(circuit.n_qubits).to(x) if table is None else table)


def by_runs(circuit: Circuit, log: list[int] | None = None) -> tuple[Evaluate, AngleMap]:
    """Return the unrolled circuit as a function of its angles, without any graph, and its map."""
    unrolled, angle_map = unroll(circuit)

    def evaluate(angles: Tensor) -> Tensor:
        if log is not None:
            log.append(len(angles))
        return exact(unrolled, angles.detach(), angles.new_zeros(0))

    return evaluate, angle_map


def point(circuit: Circuit, batch: int = 3) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(4)
    x = torch.rand(batch, circuit.n_inputs, generator=g, dtype=torch.float64) + 0.2
    w = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64) * 6
    return x.requires_grad_(), w.requires_grad_()


def slopes(out: Tensor, leaves: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients of a function of all outputs that is not linear."""
    return torch.autograd.grad((out * (out.detach() + 0.3)).sum(), leaves, allow_unused=True, materialize_grads=True)


def agree(circuit: Circuit) -> None:
    x, w = point(circuit)
    evaluate, angle_map = by_runs(circuit)
    wanted = exact(circuit, x, w)
    found = parameter_shift(evaluate, angle_map, x, w)
    assert torch.allclose(found, wanted, atol=1e-12)
    for a, b in zip(slopes(found, (x, w)), slopes(wanted, (x, w)), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


@pytest.mark.parametrize("circuit", [MIXED, ansatzes.dressed(4, 2), ansatzes.strongly_entangling(3, 2)])
def test_the_unrolled_circuit_is_the_circuit(circuit: Circuit) -> None:
    x, w = point(circuit)
    unrolled, angle_map = unroll(circuit)
    angles = angle_map.of(x, w)
    assert angles.shape == (3, unrolled.n_inputs)
    assert unrolled.n_weights == 0
    assert torch.allclose(exact(unrolled, angles, w[:0]), exact(circuit, x, w), atol=1e-12)


def test_every_gate_with_an_angle_has_a_rule() -> None:
    assert sorted(RULES) == sorted(PARAMETRISED)


@pytest.mark.parametrize("name", PARAMETRISED)
@pytest.mark.parametrize("make", [Input, Weight])
def test_parameter_shift_of_each_gate(name: str, make: Callable[[int], Input | Weight]) -> None:
    n_wires, n_angles = SIGNATURES[name]
    turn = tuple(Gate("RX", (q,), (0.7 + q,)) for q in range(3))
    gate = Gate(name, (2, 0, 1)[:n_wires], tuple(1.3 * make(i) for i in range(n_angles)))
    agree(Circuit(3, (Gate("H", (0,)), *turn, Gate("CX", (0, 2)), gate, Gate("CX", (2, 1)), *turn)))


@pytest.mark.parametrize("circuit", [MIXED, (encodings.angle(3) + ansatzes.sim(6, 3)) * 2], ids=["mixed", "re-upload"])
def test_parameter_shift_through_shared_weights_and_features(circuit: Circuit) -> None:
    agree(circuit)


def test_two_terms_would_not_do_for_a_controlled_rotation() -> None:
    """The rule of four terms is needed: the test above could fail."""
    circuit = Circuit(2, (Gate("H", (0,)), Gate("CRX", (0, 1), (Input(0),)), Gate("RY", (0,), (0.5,))))
    x, w = point(circuit)
    evaluate, _ = by_runs(circuit)
    two_terms = (evaluate(x + math.pi / 2) - evaluate(x - math.pi / 2)) / 2
    wanted = torch.autograd.grad(exact(circuit, x, w)[:, 0].sum(), x)[0]
    assert not torch.allclose(two_terms[:, 0], wanted[:, 0], atol=1e-2)


def test_second_derivatives_by_shifts_of_shifts() -> None:
    x, w = point(MIXED, batch=2)
    evaluate, angle_map = by_runs(MIXED)
    found = []
    for out in (exact(MIXED, x, w), parameter_shift(evaluate, angle_map, x, w)):
        first = torch.autograd.grad(out.square().sum(), (x, w), create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), (x, w)))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_only_what_needs_a_gradient_is_run() -> None:
    """Two runs an angle, four where it turns a controlled rotation."""
    for leaves, runs in (("x", 2 + 2 + 4 + 4), ("w", 4 + 2 + 2 + 2 + 2)):
        log: list[int] = []
        evaluate, angle_map = by_runs(MIXED, log)
        x, w = (t.detach() for t in point(MIXED))
        (x if leaves == "x" else w).requires_grad_()
        parameter_shift(evaluate, angle_map, x, w).sum().backward()
        assert log == [3, 3 * runs]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = point(MIXED)
    found = []
    for rows in (1 << 14, 20):
        monkeypatch.setattr("redqubit.quantum.gradients.MAX_ROWS", rows)
        log: list[int] = []
        evaluate, angle_map = by_runs(MIXED, log)
        found.append(slopes(parameter_shift(evaluate, angle_map, x, w), (x, w)))
        assert max(log[1:]) <= max(rows, 6)
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_amplitude_features_have_no_rule() -> None:
    circuit = Circuit(2, (*ansatzes.strongly_entangling(2).gates, Gate("RX", (0,), (Input(1),))), Amplitude(3))
    x, w = point(circuit)
    evaluate, angle_map = by_runs(circuit)
    with pytest.raises(UsageError, match="no shift rule, use exact or spsa"):
        parameter_shift(evaluate, angle_map, x, w)
    fixed = x.detach()  # the weights alone can have gradients
    found, wanted = (
        torch.autograd.grad(out.square().sum(), w)[0]
        for out in (parameter_shift(evaluate, angle_map, fixed, w), exact(circuit, fixed, w))
    )
    assert torch.allclose(found, wanted, atol=1e-10)
    with torch.no_grad():
        parameter_shift(evaluate, angle_map, x, w)


NOISY = Circuit(2, (Gate("RX", (0,), (Input(0),)), Gate("CRY", (0, 1), (Weight(0),)), Gate("RZ", (1,), (Weight(1),)),
                    Gate("IsingXX", (0, 1), (Weight(0) * 2.0,))))  # fmt: skip


def noisy_run(row: Sequence[Tensor] | Tensor) -> list[object]:
    """Queue NOISY with damping after each gate, by PennyLane; `row` holds x0, w0, w1, w0."""

    def damp(*wires: int) -> None:
        for wire in wires:
            qml.AmplitudeDamping(0.1, wires=wire)

    qml.RX(row[0], wires=0)
    damp(0)
    qml.CRY(row[1], wires=[0, 1])
    damp(0, 1)
    qml.RZ(row[2], wires=1)
    damp(1)
    qml.IsingXX(2 * row[3], wires=[0, 1])
    damp(0, 1)
    return [qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliY(1))]


def test_parameter_shift_on_a_noisy_circuit_equals_pennylane() -> None:
    device = qml.device("default.mixed", wires=2)
    node = qml.QNode(noisy_run, device, interface="torch", diff_method="parameter-shift")
    _, angle_map = unroll(NOISY)

    def evaluate(angles: Tensor) -> Tensor:  # columns x0, w0, w1, 2 w0
        scale = angles.new_tensor([1, 1, 1, 0.5])
        return torch.stack([torch.stack(tuple(node(row))) for row in angles * scale]).detach()

    x, w = point(NOISY, batch=2)
    found = slopes(parameter_shift(evaluate, angle_map, x, w), (x, w))
    out = torch.stack([torch.stack(tuple(node(torch.stack([r[0], w[0], w[1], w[0]])))) for r in x])
    for a, b in zip(found, slopes(out, (x, w)), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_one_draw_of_spsa_is_the_formula() -> None:
    x, w = point(MIXED)
    evaluate, angle_map = by_runs(MIXED)
    angles = angle_map.of(x, w).detach()
    grad = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    out = spsa(evaluate, angle_map, x, w, mode=SPSA(0.01, 2), generator=torch.Generator().manual_seed(7))
    found = torch.autograd.grad((out * grad).sum(), (x, w))
    directions = 2 * torch.randint(2, (2, *angles.shape), generator=torch.Generator().manual_seed(7)) - 1
    wanted = torch.zeros_like(angles)
    for b in range(3):
        for d in directions[:, b].double():
            f = [evaluate((angles[b] + s * 0.01 * d)[None])[0] for s in (1, -1)]
            jacobian = (f[0] - f[1])[:, None] / (2 * 0.01 * d[None])  # (K, J)
            wanted[b] += grad[b] @ jacobian / 2
    chained = torch.autograd.grad((angle_map.of(x, w) * wanted).sum(), (x, w))
    for a, b in zip(found, chained, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_the_mean_of_spsa_is_the_gradient() -> None:
    """Within 4 standard errors, and these are small beside the gradient."""
    x, w = point(MIXED, batch=1)
    unrolled, angle_map = unroll(MIXED)
    angles, nothing = angle_map.of(x, w).detach(), w.detach()[:0]
    evaluate, same = by_runs(unrolled)
    found = []
    for rows in (1, 4000):  # the exact gradient once, and draws of their own for each row
        leaf = angles.expand(rows, -1).clone().requires_grad_()
        mode, g = SPSA(1e-4, 2), torch.Generator().manual_seed(2)
        out = (
            exact(unrolled, leaf, nothing) if rows == 1 else spsa(evaluate, same, leaf, nothing, mode=mode, generator=g)
        )
        found.append(torch.autograd.grad((out @ out.new_tensor([1.0, -0.5, 2.0])).sum(), leaf)[0])
    error = found[1].std(0) / math.sqrt(4000)
    assert bool(((found[1].mean(0) - found[0][0]).abs() < 4 * error + 1e-6).all())
    assert float(error.max()) < 0.1 * float(found[0].abs().max())


def test_spsa_leaves_alone_what_needs_no_gradient() -> None:
    """With one angle that moves, a direction has no choice: the value is that of finite differences."""
    circuit = Circuit(1, (Gate("RX", (0,), (Input(0),)), Gate("RY", (0,), (Weight(0),))))
    x, w = point(circuit)
    evaluate, angle_map = by_runs(circuit)
    out = spsa(evaluate, angle_map, x, w.detach(), mode=SPSA(), generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad(out.sum(), x)[0]
    assert torch.allclose(found, torch.autograd.grad(exact(circuit, x, w).sum(), x)[0], atol=1e-8)


def test_spsa_in_single_precision() -> None:
    """A step of 1e-5 is a few units in the last place of a float32 angle: its runs are in float64."""
    circuit = Circuit(1, (Gate("RX", (0,), (Input(0),)),))
    x = torch.linspace(0.5, 6.0, 20)[:, None].requires_grad_()
    evaluate, angle_map = by_runs(circuit)
    angle_map = cast(angle_map, torch.float32, x.device)
    spsa(evaluate, angle_map, x, x.new_zeros(0), mode=SPSA(), generator=torch.Generator()).sum().backward()
    assert torch.allclose(x.grad, -torch.sin(x.detach()), atol=1e-5)


def test_samples_are_as_the_probabilities_say() -> None:
    g = torch.Generator().manual_seed(0)
    p = torch.rand(5, 16, generator=g, dtype=torch.float64).square()
    p = p / p.sum(1, keepdim=True)
    table = torch.randn(16, 3, generator=g, dtype=torch.float64)
    for shots in (1, 100, 20_000):
        found = sample(p, table, shots, generator=g)
        mean = p @ table
        error = ((p @ table.square() - mean.square()) / shots).sqrt()
        assert bool(((found - mean).abs() < 4 * error).all())
        assert bool(((found - mean).abs() > 0).all())
    # the spread over many runs is that of so many draws
    many = torch.stack([sample(p, table, 50, generator=g) for _ in range(1000)])
    ratio = many.std(0) / ((p @ table.square() - mean.square()) / 50).sqrt()
    assert bool(((ratio - 1).abs() < 0.12).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_states_and_impossible_ones(dtype: torch.dtype) -> None:
    """What has probability 0 is never drawn, though the others sum to a little less than 1."""
    p = torch.tensor([[0.0, 0.5, 0.0, 0.4999], [0.0, 0.0, 1.0, 0.0]], dtype=dtype)
    p = torch.cat([p, torch.zeros_like(p)], 1)
    table = torch.eye(8, dtype=dtype)
    drawn = sample(p, table, 100_000, generator=torch.Generator().manual_seed(0))
    assert drawn.dtype == dtype
    assert torch.equal(drawn == 0, p == 0)
    assert torch.equal(drawn[1], p[1])
    assert torch.allclose(drawn.sum(1), torch.ones(2, dtype=dtype))


def test_draws_come_from_the_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    p, table = torch.full((2, 4), 0.25, dtype=torch.float64), torch.arange(4.0, dtype=torch.float64)[:, None]
    g = torch.Generator().manual_seed(3)
    first, second = (sample(p, table, 1000, generator=g) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, sample(p, table, 1000, generator=torch.Generator().manual_seed(3)))
    monkeypatch.setattr("redqubit.quantum.gradients.MAX_DRAWS", 100)
    chunked = sample(p, table, 1000, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(chunked, p @ table, atol=0.2)


def test_a_sampled_value_has_the_exact_gradient() -> None:
    x, w = point(MIXED)
    out = exact(MIXED, x, w)
    value = torch.full_like(out, 0.7)
    found = at_value(out, value)
    assert torch.equal(found, value)
    for a, b in zip(torch.autograd.grad(found.sum(), (x, w), retain_graph=True),
                    torch.autograd.grad(out.sum(), (x, w)), strict=True):  # fmt: skip
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SPSA(step=0.0), "`step` must be above 0"),
        (lambda: SPSA(step=math.nan), "`step` must be above 0"),
        (lambda: SPSA(directions=0), "`directions` must be 1 or more"),
        (lambda: sample(torch.ones(1, 2), torch.ones(2, 1), 0, generator=torch.Generator()), "`shots` must be 1"),
        (lambda: sample(torch.ones(1, 2), torch.ones(2, 1), -5, generator=torch.Generator()), "`shots` must be 1"),
    ],
)
def test_bad_arguments_are_one_line_errors(make: Callable[[], object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
