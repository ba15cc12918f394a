"""Monte-Carlo wave functions against density matrices of PennyLane, within their standard errors."""

import itertools
import math
import random
from functools import cache

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum import Amplitude, Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import SIGNATURES, Angle
from redqubit.quantum.gates import matrix
from redqubit.quantum.measure import probabilities, signs
from redqubit.quantum.simulation import state_vector as simulate
from redqubit.quantum.simulation import trajectories
from redqubit.quantum.simulation.fuse import build as build_pure
from redqubit.quantum.simulation.fuse import cast
from redqubit.quantum.simulation.unravelling import TrajectoryPlan

DAMPING = (("AmplitudeDamping", (0.1,)), ("Depolarizing", (0.05,)))
# a channel on two wires whose operators are no Kronecker products: CX with probability 0.2
_CX = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0))
SOMETIMES_CX = tuple(
    tuple(tuple(math.sqrt(q) * v for v in row) for row in m)
    for q, m in ((0.8, tuple(tuple(float(i == j) for j in range(4)) for i in range(4))), (0.2, _CX))
)


def after_each_gate(circuit: Circuit, *channels: tuple[str, tuple[float, ...]], pairs: float = 0.0) -> Circuit:
    """Return the circuit with channels on every wire of each gate, and depolarizing of pairs behind those on two."""
    gates: list[Gate | Channel] = []
    for gate in circuit.gates:
        gates.append(gate)
        gates += [Channel(name, (w,), values) for w in gate.wires for name, values in channels]
        if pairs and len(gate.wires) == 2:
            gates.append(Channel("Depolarizing", gate.wires, (pairs,)))
    return Circuit(circuit.n_qubits, tuple(gates), circuit.initial)


UNITARY = torch.linalg.qr(torch.randn(4, 4, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))).Q
MANY = Circuit(
    3,
    (
        Gate("H", (0,)),
        Gate("RX", (1,), (Input(0),)),
        Gate("Unitary", (2, 0), matrix=tuple(map(tuple, UNITARY.tolist()))),
        Channel("ThermalRelaxation", (0,), (50.0, 60.0, 10.0, 0.1)),
        Channel("GeneralizedAmplitudeDamping", (1,), (0.2, 0.7)),
        Gate("RZ", (1,), (Weight(0),)),
        Gate("RY", (1,), (2.0 * Input(1) + 0.1,)),
        Channel("PhaseDamping", (1,), (0.2,)),
        Gate("IsingZZ", (0, 2), (Input(1),)),
        Gate("CX", (2, 1)),
        Channel("Kraus", (2, 0), kraus=SOMETIMES_CX),
        Channel("Pauli", (1, 2), tuple(0.01 * i for i in range(1, 6)) + (0.0,) * 10),
        Gate("CRX", (0, 1), (Weight(1),)),
        Channel("BitFlip", (0,), (0.1,)),
        Channel("BitPhaseFlip", (1,), (0.1,)),
        Gate("RY", (0,), (0.4 * Weight(0),)),
    ),
)
CIRCUITS = {
    "encoder": after_each_gate(encodings.angle(3, ("RZ", "RX"), hadamard=True) + ansatzes.sim(2, 3), *DAMPING),
    "real": after_each_gate(ansatzes.dressed(4, 2), *DAMPING),
    "pairs": after_each_gate(encodings.angle(3) + ansatzes.strongly_entangling(3), pairs=0.1),
    "amplitude": after_each_gate(Circuit(3, ansatzes.basic_entangling(3, 2).gates, Amplitude(6)), *DAMPING),
    "many": MANY,
}


def density(circuit: Circuit, x: Tensor, weights: Tensor) -> Tensor:
    """Return the probabilities (B, 2^n) by PennyLane's density matrices, differentiable."""

    @qml.qnode(qml.device("default.mixed", wires=circuit.n_qubits), interface="torch", diff_method="backprop")
    def node(row: Tensor) -> object:
        def value(a: Angle) -> Tensor | float:
            if isinstance(a, Input | Weight):
                return a.scale * (row if isinstance(a, Input) else weights)[a.index] + a.offset
            return a

        if circuit.initial is not None:
            features = row[: circuit.initial.n_features]
            qml.AmplitudeEmbedding(features, wires=range(circuit.n_qubits), pad_with=0.0, normalize=True)
        for gate in circuit.gates:
            if isinstance(gate, Channel):
                qml.QubitChannel([torch.tensor(k, dtype=torch.complex128) for k in gate.operators], wires=gate.wires)
            else:
                m = gate.matrix
                unitary = matrix(gate.name, *map(value, gate.angles)) if m is None else torch.tensor(m)
                qml.QubitUnitary(unitary.to(torch.complex128), wires=gate.wires)
        return qml.probs(wires=range(circuit.n_qubits))

    return torch.stack([node(row) for row in x])  # type: ignore[misc]


def point(circuit: Circuit, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.rand(batch, circuit.n_inputs, generator=g, dtype=torch.float64) + 0.2
    w = torch.rand(circuit.n_weights, generator=g, dtype=torch.float64) * 6
    return x.requires_grad_(), w.requires_grad_(), signs(circuit.n_qubits)


@cache
def plan_of(circuit: Circuit) -> TrajectoryPlan:
    return trajectories.build(circuit)


def estimate(
    circuit: Circuit, x: Tensor, w: Tensor, table: Tensor | None, runs: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return trajectories.expectations(plan_of(circuit), x, w, table, n_trajectories=runs, generator=g)


@pytest.mark.parametrize("name", CIRCUITS)
def test_values_equal_the_density_matrix(name: str) -> None:
    """Within 4 standard errors, which are far below what the noise changes."""
    circuit = CIRCUITS[name]
    x, w, table = point(circuit)
    with torch.no_grad():
        wanted = density(circuit, x, w) @ table
        found, error = estimate(circuit, x, w, table, 4000)
        pure = Circuit(circuit.n_qubits, tuple(g for g in circuit.gates if isinstance(g, Gate)), circuit.initial)
        ideal = simulate.expectations(build_pure(pure), x, w, table)
    assert bool(((found - wanted).abs() < 4 * error + 1e-12).all())
    assert float((ideal - wanted).abs().max()) > 8 * float(error.max())


def random_circuit(seed: int) -> Circuit:
    """Return a circuit of all kinds of gates and channels, so few of these that all their draws can be told."""
    r, n = random.Random(seed), 3
    gates: list[Gate | Channel] = [Gate("RX", (q,), (Input(q),)) for q in range(n)]
    budget = 2000
    for _ in range(14):
        name = r.choice([*SIGNATURES, *["channel"] * 12])
        if name != "channel":
            n_wires, n_angles = SIGNATURES[name]
            angles = tuple(r.choice((r.uniform(-3, 3), 1.3 * Input(1), Weight(0) + 0.2)) for _ in range(n_angles))
            gates.append(Gate(name, tuple(r.sample(range(n), n_wires)), angles))
            continue
        one, two = tuple(r.sample(range(n), 1)), tuple(r.sample(range(n), 2))
        channel = r.choice(
            [
                Channel("AmplitudeDamping", one, (r.random(),)),
                Channel("PhaseDamping", one, (r.random(),)),
                Channel("Depolarizing", one, (r.random(),)),
                Channel("Depolarizing", two, (r.random(),)),
                Channel("GeneralizedAmplitudeDamping", one, (r.random(), r.random())),
                Channel("ThermalRelaxation", one, (50.0, 70.0, r.uniform(0, 40), r.random())),
                Channel("Kraus", two, kraus=SOMETIMES_CX),
                Channel("BitPhaseFlip", one, (r.random(),)),
            ]
        )
        budget //= len(channel.operators)
        if budget > 0:
            gates.append(channel)
    return Circuit(n, tuple(gates))


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_all_draws_together_are_the_density_matrix(seed: int) -> None:
    """sum over all draws of q * |psi|^2, with no chance at all."""
    circuit = random_circuit(seed)
    x, w, _ = point(circuit)
    plan = plan_of(circuit)
    draws = list(itertools.product(*(range(len(q)) for q in plan.draws)))
    q = torch.tensor([math.prod(q[i] for q, i in zip(plan.draws, d, strict=True)) for d in draws], dtype=torch.float64)
    drawn = torch.tensor(draws, dtype=torch.long)[:, None].expand(-1, len(x), -1)
    with torch.no_grad():
        weights = w if len(w) else w.new_zeros(1)
        p = probabilities(trajectories._run(plan, x, weights, drawn)).unflatten(0, drawn.shape[:2])
        assert torch.allclose(torch.einsum("t,tbi->bi", q, p), density(circuit, x, w), atol=1e-10)


@pytest.mark.parametrize("name", ["encoder", "many", "amplitude"])
def test_gradients_equal_the_density_matrix(name: str) -> None:
    """The spread of the gradient over independent estimates is its standard error."""
    circuit = CIRCUITS[name]
    x, w, table = point(circuit, batch=1)
    direction = torch.linspace(1, 2, table.shape[1], dtype=torch.float64)
    wanted = torch.autograd.grad((density(circuit, x, w) @ table @ direction).sum(), (x, w))
    found = []
    for seed in range(20):
        value, _ = estimate(circuit, x, w, table, 1000, seed)
        found.append(torch.autograd.grad((value @ direction).sum(), (x, w)))
    for some, mean in zip(zip(*found, strict=True), wanted, strict=True):
        stack = torch.stack(some)
        error = stack.std(0) / math.sqrt(len(stack))
        assert bool(((stack.mean(0) - mean).abs() < 4 * error + 1e-9).all())
        assert float(error.max()) < 0.25 * float(mean.abs().max())


@pytest.mark.parametrize("name", ["real", "pairs"])
def test_the_standard_error_is_the_spread_of_the_estimates(name: str) -> None:
    circuit = CIRCUITS[name]
    x, w, table = point(circuit)
    with torch.no_grad():
        runs = [estimate(circuit, x, w, table, 30, seed) for seed in range(120)]
    values, errors = (torch.stack(parts) for parts in zip(*runs, strict=True))
    ratio = values.std(0) / errors.square().mean(0).sqrt()
    assert bool(((ratio > 0.7) & (ratio < 1.3)).all())


def test_without_noise_every_trajectory_is_the_state() -> None:
    circuit = encodings.angle(4) + ansatzes.sim(6, 4)
    x, w, table = point(circuit)
    found, error = estimate(circuit, x, w, table, 2)
    wanted = simulate.expectations(build_pure(circuit), x, w, table)
    assert torch.allclose(found, wanted, atol=1e-12)
    assert float(error.max()) < 1e-12
    for a, b in zip(*(torch.autograd.grad(f.square().sum(), (x, w)) for f in (found, wanted)), strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_pauli_noise_keeps_the_length_of_every_state() -> None:
    circuit = CIRCUITS["pairs"]
    x, w, _ = point(circuit)
    one = torch.ones(8, 1, dtype=torch.float64)
    found, error = estimate(circuit, x, w, one, 20)
    assert torch.allclose(found, torch.ones_like(found), atol=1e-12)
    assert float(error.max()) < 1e-12
    _, damped = estimate(CIRCUITS["real"], *point(CIRCUITS["real"])[:2], torch.ones(16, 1, dtype=torch.float64), 20)
    assert float(damped.min()) > 1e-3


def test_probabilities_without_a_table() -> None:
    circuit = CIRCUITS["many"]
    x, w, table = point(circuit)
    p, spread = estimate(circuit, x, w, None, 20)
    assert p.shape == spread.shape == (2, 8)
    assert torch.allclose(p @ table, estimate(circuit, x, w, table, 20)[0], atol=1e-12)


@pytest.mark.parametrize("limit", [1, 1000])
def test_chunks_change_nothing(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = CIRCUITS["many"]
    x, w, table = point(circuit, batch=3)
    found = []
    for numbers in (trajectories.MAX_NUMBERS, limit):
        monkeypatch.setattr(trajectories, "MAX_NUMBERS", numbers)
        mean, error = estimate(circuit, x, w, table, 15)
        found.append([mean, error, *torch.autograd.grad(mean.square().sum(), (x, w))])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_the_graph_holds_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved for the backward pass are features and weights, once for each chunk."""
    circuit = CIRCUITS["real"]
    x, w, table = point(circuit)
    monkeypatch.setattr(trajectories, "MAX_NUMBERS", 4000)
    sizes: list[int] = []

    def pack(t: Tensor) -> Tensor:
        sizes.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        estimate(circuit, x, w, table, 20)
    assert len(sizes) > 4
    assert max(sizes) <= max(x.numel(), w.numel(), table.numel())


def test_derivatives_of_fixed_draws_by_finite_differences_to_second_order() -> None:
    circuit = CIRCUITS["encoder"]
    x, w, table = point(circuit, batch=1)

    def f(x: Tensor, w: Tensor) -> Tensor:
        return estimate(circuit, x, w, table, 3)[0]

    assert torch.autograd.gradcheck(f, (x, w), atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, (x, w), atol=1e-5, fast_mode=True)


def test_draws_come_from_the_generator_alone() -> None:
    circuit = CIRCUITS["real"]
    x, w, table = point(circuit)
    plan, g = trajectories.build(circuit), torch.Generator().manual_seed(0)
    first, second = (trajectories.expectations(plan, x, w, table, n_trajectories=10, generator=g)[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, estimate(circuit, x, w, table, 10)[0])
    single = cast(plan, torch.float32, x.device)
    same, _ = trajectories.expectations(
        single, x.float(), w.float(), table.float(), n_trajectories=10, generator=torch.Generator().manual_seed(0)
    )
    assert same.dtype == torch.float32
    assert torch.allclose(same.double(), first, atol=1e-5)  # the same operators were drawn


def test_real_circuits_stay_real() -> None:
    """Y is real up to a phase that nothing can see: the noise makes no complex state."""
    plan = trajectories.build(CIRCUITS["real"])
    x, w, _ = point(CIRCUITS["real"])
    drawn = trajectories._draw(plan.draws, [0, 1], 2, slice(None))
    assert trajectories._run(plan, x, w, drawn).dtype == torch.float64


@pytest.mark.parametrize("runs", [1, 0])
def test_one_trajectory_is_an_error(runs: int) -> None:
    circuit = CIRCUITS["real"]
    with pytest.raises(UsageError, match="`n_trajectories` must be 2 or more") as error:
        estimate(circuit, *point(circuit), runs)
    assert "\n" not in str(error.value)
