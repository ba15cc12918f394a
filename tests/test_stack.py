"""Many QNNs at once: the kernel against QuantumLayer, each model against its training alone, SPSA against the slope."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from redqubit.errors import UsageError
from redqubit.models import QNN, QuantumLayer, noisy, stack_logits, train_stack
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import SIGNATURES
from redqubit.quantum.gradients import SPSA
from redqubit.quantum.noise import NoiseModel, device, quid_noise, with_noise
from redqubit.quantum.simulation import stacked
from redqubit.quantum.simulation.stacked import Stacked
from redqubit.training import logits, train

ANGLES = encodings.angle(4, ("RZ", "RX"), hadamard=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(n: int, d: int, seed: int = 1) -> Tensor:
    return 2 * torch.rand(n, d, generator=seeded(seed), dtype=torch.float64) - 1


def every_gate() -> Circuit:
    """Return three wires with every gate: angles that read weights, some of them twice and scaled, and fixed ones."""
    gates, n = [], 0
    for turn, (name, (n_wires, n_angles)) in enumerate(SIGNATURES.items()):
        wires = tuple((turn + i) % 3 for i in range(n_wires))
        gates.append(Gate(name, wires, tuple(0.7 * Weight((n + i) % 9) + 0.3 for i in range(n_angles))))
        if n_angles:
            gates.append(Gate(name, wires[::-1], (0.4, -1.1, 2.0)[:n_angles]))
        n += n_angles
    channels = (Channel("Depolarizing", (0, 2), (0.1,)), Channel("PhaseDamping", (1,), (0.2,)))
    return Circuit(3, (*gates[:9], *channels, *gates[9:]))


CIRCUITS: dict[str, Callable[[], Circuit]] = {
    "circuit 1": lambda: ANGLES + ansatzes.sim(1, layers=2),
    "circuit 6, noisy": lambda: with_noise(ANGLES + ansatzes.sim(6), quid_noise(0.05)),
    "circuit 8, noisy read-out": lambda: with_noise(
        ANGLES + ansatzes.sim(8), NoiseModel(quid_noise(0.1).rules, ((0.02, 0.05), (0.1, 0.0), (0.0, 0.0), (0.0, 0.3)))
    ),
    "circuit 6 on a device": lambda: with_noise(ANGLES + ansatzes.sim(6), device("ibm_kyiv")),
    "circuit 2, five wires": lambda: encodings.angle(5) + ansatzes.sim(2, 5),
    "amplitudes, two groups": lambda: with_noise(
        encodings.amplitude(4, 13) + Circuit(4, (Gate("CRX", (3, 1), (Weight(0),)), Gate("RX", (2,), (Weight(1),)))),
        quid_noise(0.05),
    ),
    "entangled encoder": lambda: Circuit(
        4, (*ANGLES.gates, Gate("CX", (0, 3)), Gate("CRY", (1, 2), (Input(0),)))
    ) + ansatzes.sim(1),
    "every gate": lambda: encodings.angle(3) + every_gate(),
    "one wire": lambda: Circuit(1, (Gate("RY", (0,), (Input(0),)), Gate("RX", (0,), (Weight(0),)))),
}  # fmt: skip


@pytest.mark.parametrize("name", CIRCUITS)
def test_values_and_slopes_are_those_of_the_layer(name: str) -> None:
    circuit = CIRCUITS[name]()
    layers = [QuantumLayer(circuit, generator=seeded(s)).double() for s in range(3)]
    x = samples(12, circuit.n_inputs)
    rows = torch.stack([torch.randperm(12, generator=seeded(s))[:7] for s in range(3)])
    grads = samples(3 * 7, circuit.n_qubits).reshape(3, 7, -1)
    plan = stacked.build(circuit)
    weights = torch.stack([layer.weights.detach() for layer in layers]).requires_grad_()
    encoded = stacked.encode(plan, x)
    z = Stacked.apply(plan.angles.of(weights), plan, encoded, rows, None, 0.0)  # type: ignore[no-untyped-call]
    (slopes,) = torch.autograd.grad((z * grads).sum(), weights)
    directions = torch.stack([stacked.draw(plan, SPSA(0.1, 3), 7, generator=seeded(10 + s)) for s in range(3)])
    again = Stacked.apply(plan.angles.of(weights), plan, encoded, rows, directions, 0.1)  # type: ignore[no-untyped-call]
    (perturbed,) = torch.autograd.grad((again * grads).sum(), weights)
    for m, layer in enumerate(layers):
        wanted = layer(x[rows[m]])
        assert torch.allclose(z[m], wanted, atol=1e-12)
        (slope,) = torch.autograd.grad((wanted * grads[m]).sum(), layer.weights)
        assert torch.allclose(slopes[m], slope, atol=1e-11)
        shifted = layer.replaced(gradient=SPSA(0.1, 3), generator=seeded(10 + m)).double()
        (slope,) = torch.autograd.grad((shifted(x[rows[m]]) * grads[m]).sum(), shifted.weights)
        assert torch.allclose(perturbed[m], slope, atol=1e-11)
    assert float(slopes.abs().max()) > 0.1
    assert float((slopes - perturbed).detach().abs().max()) > 1e-4


@pytest.mark.parametrize("pqc", [1, 6, 8])
def test_the_mean_of_spsa_is_the_slope(pqc: int) -> None:
    circuit = with_noise(ANGLES + ansatzes.sim(pqc), quid_noise(0.05))
    plan, x, draws = stacked.build(circuit), samples(4, 8), 2000
    weights = 2 * math.pi * torch.rand(1, circuit.n_weights, generator=seeded(), dtype=torch.float64)
    weights = weights.expand(draws, -1).contiguous().requires_grad_()
    encoded, rows, y = stacked.encode(plan, x), torch.arange(4).expand(draws, -1), torch.arange(4)
    head = samples(4, 4, 3)

    def slope(directions: Tensor | None) -> Tensor:
        angles = plan.angles.of(weights)
        z = Stacked.apply(angles, plan, encoded, rows, directions, 1e-5)  # type: ignore[no-untyped-call]
        loss = F.cross_entropy((z @ head).flatten(0, 1), y.repeat(draws), reduction="sum")
        return torch.autograd.grad(loss, weights)[0]

    drawn = stacked.draw(plan, SPSA(), 4 * draws, generator=seeded(5)).reshape(draws, 4, -1)
    found, wanted = slope(drawn), slope(None)[0]
    error = found.std(0) / draws**0.5
    assert float(((found.mean(0) - wanted).abs() / error).max()) < 4
    assert float(wanted.abs().max() / error.max()) > 10  # or the test would say nothing


def nets(pqc: int, gradient: object, seeds: int = 3, **options: object) -> tuple[list[QNN], list[torch.Generator]]:
    generators = [seeded(s) for s in range(seeds)]
    return [
        QNN(6, 3, pqc=pqc, gradient=gradient, generator=g, **options).double()  # type: ignore[arg-type]
        for g in generators
    ], generators


def same(a: QNN, b: QNN, tolerance: float) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(float((p - q).abs().max()) <= tolerance for p, q in pairs)


# a weight without effect moves by lr times what rounding makes of its slope, over Adam's 1e-8
@pytest.mark.parametrize(
    ("pqc", "gradient", "noise"),
    [(1, "exact", False), (6, "exact", True), (1, "spsa", True), (8, "spsa", True), (6, SPSA(0.1, 2), False)],
)
def test_each_model_trains_as_it_would_alone(pqc: int, gradient: object, noise: bool) -> None:
    options = {"noise": quid_noise(0.05)} if noise else {}
    x = samples(21, 6)
    labels = torch.stack([torch.randint(3, (21,), generator=seeded(7 + s)) for s in range(3)])
    together, generators = nets(pqc, gradient, **options)
    assert train_stack(together, x, labels, epochs=4, batch_size=8, generators=generators) == together
    one, own = nets(pqc, gradient, **options)
    train_stack(one[1:2], x, labels[1], epochs=4, batch_size=8, generators=own[1:2])
    assert same(together[1], one[1], 1e-13)
    apart, own = nets(pqc, gradient, **options)
    for net, y, g in zip(apart, labels, own, strict=True):
        start = {k: v.clone() for k, v in net.state_dict().items()}
        train(net, x, y, epochs=4, batch_size=8, lr=0.01, generator=g)
        assert all(not torch.allclose(v, start[k], atol=1e-3) for k, v in net.state_dict().items())
    for a, b in zip(together, apart, strict=True):
        assert same(a, b, 1e-9)
        assert not a.training
    assert [g.get_state().tolist() for g in generators] == [g.get_state().tolist() for g in own]
    assert not same(together[0], together[1], 0.1)


@pytest.mark.parametrize(("gradient", "noise"), [("exact", None), ("spsa", quid_noise(0.05)), (SPSA(0.1, 2), None)])
def test_models_may_have_samples_of_their_own_and_fewer_of_them(gradient: object, noise: NoiseModel | None) -> None:
    sets = [samples(n, 6, n) for n in (23, 20, 21, 11)]  # of 3, 2, 3 and 2 steps, their last ones of 3, 10, 1 and 1
    labels = [torch.randint(3, (len(x),), generator=seeded(7)) for x in sets]
    together, generators = nets(8, gradient, 4, noise=noise)
    train_stack(together, sets, labels, epochs=3, batch_size=10, lr=0.05, generators=generators)
    apart, own = nets(8, gradient, 4, noise=noise)
    for net, x, y, g in zip(apart, sets, labels, own, strict=True):
        train(net, x, y, epochs=3, batch_size=10, lr=0.05, generator=g)
    assert all(same(a, b, 1e-9) for a, b in zip(together, apart, strict=True))
    assert [g.get_state().tolist() for g in generators] == [g.get_state().tolist() for g in own]


def test_wires_that_nothing_couples_are_encoded_apart() -> None:
    net = QNN(20, 3, pqc=1, layers=2, noise=quid_noise(0.05), generator=seeded()).eval()
    plan = stacked.build(net.circuit.circuit)
    x = samples(5, 20)
    assert [r.shape for r in stacked.encode(plan, x)] == [(5, 4)] * 10  # of all together there would be 4^10
    few = QNN(6, 3, pqc=1, layers=2, noise=quid_noise(0.05), generator=seeded()).eval()
    z = stacked.encode(plan, x), stacked.encode(stacked.build(few.circuit.circuit), x[:, :6])
    assert all(torch.equal(a, b) for a, b in zip(*z, strict=False))


def test_parameters_keep_their_type() -> None:
    double, generators = nets(1, "exact", 2)
    single = [QNN(6, 3, generator=seeded(s)) for s in range(2)]
    y = torch.arange(21) % 3
    train_stack(double, samples(21, 6), y, epochs=2, generators=generators)
    own = [seeded(s) for s in range(2)]
    for net, g in zip(single, own, strict=True):
        QNN(6, 3, generator=g)  # draws what `nets` drew
        assert net.head.weight.dtype == torch.float32
    train_stack(single, samples(21, 6), y, epochs=2, generators=own)
    assert single[0].head.weight.dtype == torch.float32
    assert all(same(a, b, 1e-6) for a, b in zip(single, double, strict=True))


@pytest.mark.parametrize("options", [{}, {"encoding": "amplitude"}, {"noise": quid_noise(0.05)}])
def test_a_stack_gives_the_logits_of_its_models(options: dict[str, object]) -> None:
    models, generators = nets(6, "exact", **options)
    x = samples(300, 6)
    assert torch.allclose(stack_logits(models, x), torch.stack([logits(m, x) for m in models]), atol=1e-12)
    drawn = stack_logits(models, x, shots=50, generators=[seeded(s) for s in range(3)])
    alone = [logits(noisy(m, shots=50, generator=seeded(s)), x) for s, m in enumerate(models)]
    assert torch.equal(drawn, torch.stack(alone))
    before = generators[0].get_state()
    stack_logits(models, x[:5], shots=50, generators=generators)
    assert not torch.equal(generators[0].get_state(), before)


def test_each_model_may_be_asked_about_its_own_samples() -> None:
    models, _ = nets(6, "exact")
    first, second = samples(9, 6), samples(9, 6, 2)
    own = [first, second, first]
    assert torch.allclose(stack_logits(models, own), torch.stack([m(x) for m, x in zip(models, own, strict=True)]))
    drawn = stack_logits(models, own, shots=50, generators=[seeded(s) for s in range(3)])
    for m, x in enumerate(own):
        assert torch.equal(drawn[m], stack_logits(models[m : m + 1], x, shots=50, generators=[seeded(m)])[0])


def test_shots_scatter_as_a_binomial_draw_does() -> None:
    models, generators = nets(6, "exact", 1)
    shots, x = 100, samples(1, 6).expand(2000, -1)
    with torch.no_grad():
        models[0].head.weight.copy_(torch.eye(3, dtype=torch.float64))
    z = stack_logits(models, x[:1])[0, 0]
    drawn = stack_logits(models, x, shots=shots, generators=generators)[0]
    error = ((1 - z**2) / shots).sqrt()
    assert float(((drawn.mean(0) - z).abs() / (error / 2000**0.5)).max()) < 4
    assert torch.allclose(drawn.std(0), error, rtol=0.1)


def test_a_stack_learns_what_one_model_can() -> None:
    """Labels that a product of sines tells apart are learned; the same labels shuffled are not."""
    x = samples(120, 6)
    clean = (torch.sin(math.pi * x[:, 0]) * torch.sin(math.pi * x[:, 1] + 1.0) > 0).long()
    shuffled = clean[torch.randperm(120, generator=seeded(3))]
    models, generators = nets(1, "spsa", 4, noise=quid_noise(0.02))
    labels = torch.stack([clean, shuffled, clean, shuffled])
    train_stack(models, x, labels, epochs=30, lr=0.05, generators=generators)
    accuracy = (stack_logits(models, x).argmax(2) == labels).float().mean(1)
    assert float(accuracy[::2].min()) > 0.9
    assert float(accuracy[1::2].max()) < 0.8


def trained(epochs: int) -> tuple[list[Tensor], Tensor]:
    """Return the logits after each epoch, as they were seen then, and those after all."""
    x, nets = samples(40, 4), [QNN(4, 2, generator=seeded())]
    seen: list[Tensor] = []
    options = {"epochs": epochs, "generators": [seeded(3)]}
    train_stack(nets, x, torch.arange(40) % 2, on_epoch=lambda done: seen.append(stack_logits(nets, x)), **options)
    return seen, stack_logits(nets, x)


def test_after_each_epoch_the_models_hold_its_weights() -> None:
    (first,), after_one = trained(1)
    (early, late), after_two = trained(2)
    assert torch.equal(first, after_one)
    assert torch.equal(early, after_one)
    assert torch.equal(late, after_two)
    assert not torch.equal(early, late)


def test_what_does_not_fit_is_told_in_a_line() -> None:
    models, generators = nets(1, "exact", 2)
    x, y = samples(9, 6), torch.arange(9) % 3
    other = QNN(6, 3, pqc=6, generator=seeded()).double()
    wide = QNN(12, 3, pqc=6, generator=seeded())
    late = Circuit(1, (Gate("RX", (0,), (Weight(0),)), Gate("RX", (0,), (Input(0),))))
    nan = x.clone()
    nan[0, 0] = math.nan

    def told(words: str, call: Callable[[], object]) -> None:
        with pytest.raises(UsageError) as caught:
            call()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    def training(models: list[QNN], x: object = x, y: object = y, g: list[torch.Generator] = generators) -> object:
        return train_stack(models, x, y, generators=g, epochs=1)  # type: ignore[arg-type]

    told("must hold a model, but is empty", lambda: training([], g=[]))
    told("`generators` must have one for each of 2 models, but has 1", lambda: training(models, g=generators[:1]))
    told("two models share one", lambda: training(models, g=generators[:1] * 2))
    told("two models share one", lambda: training([QNN(6, 3, gradient="spsa", generator=generators[0])] * 2))
    told("one architecture, but has two", lambda: training([models[0], other]))
    told("must be for 2 models, but are for 2 and 3", lambda: training(models, y=torch.zeros(3, 9, dtype=torch.long)))
    told("a class of 0 to 2 for each of 9 samples", lambda: training(models, y=y + 1))
    told("a class of 0 to 2 for each of 9 samples", lambda: training(models, y=y[:5]))
    told("a class of 0 to 2 for each of 9 samples", lambda: training(models, y=y.double()))
    told("`x` must be finite", lambda: training(models, nan))
    told("must have shape (B, 6)", lambda: training(models, samples(9, 7)))
    told(
        "couple 5 wires or fewer for a stack, but couples 6", lambda: training([wide], samples(9, 12), g=generators[:1])
    )
    told("but one has adjoint", lambda: training(nets(1, "adjoint", 2)[0]))
    told("must have no shots in training", lambda: training(nets(1, "exact", 2, shots=9)[0]))
    told("must read all inputs before any weight", lambda: stacked.build(late))
    told("diverged in epoch 2", lambda: train_stack(models, x, y, lr=math.inf, epochs=2, generators=generators))
    told("`generators` must have one for each of 2", lambda: stack_logits(models, x, shots=9))
    told("for 2 models, with equally many samples for each, but is for 3", lambda: stack_logits(models, [x] * 3))
    told("but is for 2, with 8, 9 samples: take", lambda: stack_logits(models, [x, x[:8]]))
    for options in ({}, {"shots": 9, "generators": generators}):
        told("`x` must be finite", lambda options=options: stack_logits(models, nan, **options))  # type: ignore[misc]
    models[1].circuit.weights.requires_grad_(False)
    told("has frozen ones: train it alone", lambda: training(models))
