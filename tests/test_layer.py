"""QuantumLayer: observables, noise, shots, gradient modes, methods and backends on one front."""

import copy
import itertools
import pickle

import pennylane as qml
import pytest
import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.evasion import PGD
from redqubit.models import HybridNet, QuantumLayer, QuNN, converted, noisy
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, canary, encodings
from redqubit.quantum.channels import Channel
from redqubit.quantum.gradients import SPSA
from redqubit.quantum.measure import Observable, Probabilities
from redqubit.quantum.noise import NoiseModel, quid_noise, with_noise, without_noise
from redqubit.quantum.simulation.engine import NOISY, PURE, Engine, choose
from redqubit.sanity import noise_on_check, randomness_check

READOUT = ((0.03, 0.08),)
NOISE = NoiseModel(quid_noise(0.05).rules, READOUT)
CIRCUIT = encodings.angle(3) + ansatzes.sim(6, 3, 1)
UPLOAD = (encodings.angle(2, ("RX",)) + ansatzes.strongly_entangling(2)) * 2
OUTPUTS: list[Observable] = [{"ZII": 1.0}, {"XYI": 0.5, "IZZ": -1.0}, {"IIY": 2.0, "III": 0.25}]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(circuit: Circuit, **options: object) -> QuantumLayer:
    weights = 6 * torch.rand(circuit.n_weights, generator=random(1), dtype=torch.float64)
    return QuantumLayer(circuit, weights=weights, **{"generator": random(), **options})  # type: ignore[arg-type]


def sample(layer: QuantumLayer, n: int = 3) -> Tensor:
    return torch.rand(n, layer.n_inputs, generator=random(2), dtype=torch.float64).requires_grad_()


def slopes(layer: QuantumLayer, x: Tensor) -> tuple[Tensor, ...]:
    direction = torch.linspace(0.5, 1.5, layer.n_outputs, dtype=torch.float64)
    return torch.autograd.grad((layer(x) * direction).sum(), (x, layer.weights))


def pennylane_values(circuit: Circuit, x: Tensor, weights: Tensor, words: list[Observable]) -> Tensor:
    """Return <O_k> (B, K) of default.mixed, with the noise of NOISE written out here."""
    gates = {"RY": qml.RY, "RX": qml.RX, "RZ": qml.RZ, "CRX": qml.CRX, "CRZ": qml.CRZ}
    paulis = {"X": qml.X, "Y": qml.Y, "Z": qml.Z}

    weights = weights.detach()

    @qml.qnode(qml.device("default.mixed", wires=circuit.n_qubits))
    def node(row: Tensor) -> list[object]:
        for gate in circuit.gates:
            assert isinstance(gate, Gate)
            (a,) = gate.angles
            assert isinstance(a, Input | Weight)
            value = float((row if isinstance(a, Input) else weights)[a.index]) * a.scale + a.offset
            gates[gate.name](value, wires=gate.wires)
            for w in gate.wires:
                qml.AmplitudeDamping(0.05, wires=w)
            for w in gate.wires:
                qml.DepolarizingChannel(0.05, wires=w)
        return [
            qml.expval(
                qml.sum(
                    *(
                        c * qml.prod(*(paulis[p](w) for w, p in enumerate(word) if p != "I"), qml.Identity(0))
                        for word, c in o.items()
                    )
                )
            )
            for o in words
        ]

    return torch.tensor([[float(complex(v).real) for v in node(row)] for row in x.detach()], dtype=torch.float64)


def test_noisy_pauli_sums_equal_pennylane() -> None:
    layer = made(CIRCUIT, noise=quid_noise(0.05), observables=OUTPUTS)
    x = sample(layer)
    assert torch.allclose(layer(x), pennylane_values(CIRCUIT, x, layer.weights, OUTPUTS), atol=1e-9)


def test_read_out_errors_shrink_and_shift_z() -> None:
    one, zero = READOUT[0]
    exact, read = made(CIRCUIT), made(CIRCUIT, noise=NoiseModel(readout=READOUT))
    x = sample(exact)
    assert torch.allclose(read(x), (1 - one - zero) * exact(x) + zero - one)


@pytest.mark.parametrize("circuit", [CIRCUIT, UPLOAD], ids=["inputs first", "uploaded twice"])
@pytest.mark.parametrize("noise", [None, NOISE], ids=["pure", "noisy"])
def test_every_method_gives_the_same_values_and_gradients(circuit: Circuit, noise: NoiseModel | None) -> None:
    wanted, x = None, None
    for method in PURE if noise is None else NOISY:
        if method == "trajectories" or (method == "heisenberg" and circuit is UPLOAD):
            continue
        layer = made(circuit, noise=noise, method=method)
        x = sample(layer) if x is None else x
        found = (layer(x), *slopes(layer, x))
        wanted = found if wanted is None else wanted
        for a, b in zip(found, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-9), method


@pytest.mark.parametrize("noise", [None, NOISE], ids=["pure", "noisy"])
@pytest.mark.parametrize("outputs", [None, OUTPUTS, Probabilities((2, 0))], ids=["z", "paulis", "probabilities"])
def test_parameter_shift_equals_exact(noise: NoiseModel | None, outputs: list[Observable] | Probabilities) -> None:
    exact = made(CIRCUIT, noise=noise, observables=outputs)
    shifted = made(CIRCUIT, noise=noise, observables=outputs, gradient="parameter-shift")
    x = sample(exact)
    assert torch.allclose(exact(x), shifted(x), atol=1e-10)
    for a, b in zip(slopes(exact, x), slopes(shifted, x), strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_adjoint_equals_exact_and_refuses_noise() -> None:
    exact, adjoint = made(CIRCUIT), made(CIRCUIT, gradient="adjoint")
    x = sample(exact)
    for a, b in zip(slopes(exact, x), slopes(adjoint, x), strict=True):
        assert torch.allclose(a, b, atol=1e-10)
    with pytest.raises(UsageError, match="cannot be undone"):
        made(CIRCUIT, gradient="adjoint", noise=NOISE)


@pytest.mark.parametrize("noise", [None, NOISE], ids=["pure", "noisy"])
def test_spsa_points_along_the_gradient_on_average(noise: NoiseModel | None) -> None:
    exact = made(CIRCUIT, noise=noise)
    x = sample(exact, 1)
    draws = [
        torch.cat(
            [
                g.flatten()
                for g in slopes(made(CIRCUIT, noise=noise, gradient=SPSA(directions=50), generator=random(s)), x)
            ]
        )
        for s in range(30)
    ]
    stack = torch.stack(draws)
    wanted = torch.cat([g.flatten() for g in slopes(exact, x)])
    error = stack.std(0) / len(draws) ** 0.5
    assert ((stack.mean(0) - wanted).abs() <= 4 * error + 1e-6).all()
    assert float(error.max()) < 0.2


@pytest.mark.parametrize("gradient", ["exact", "adjoint", "parameter-shift", "spsa"])
def test_shots_scatter_around_the_expectation(gradient: str) -> None:
    exact = made(CIRCUIT)
    layer = made(CIRCUIT, shots=400, gradient=SPSA(0.3) if gradient == "spsa" else gradient)
    x = sample(exact)
    runs = torch.stack([layer(x).detach() for _ in range(40)])
    error = ((1 - exact(x).detach() ** 2) / 400 / 40).sqrt()
    assert ((runs.mean(0) - exact(x)).abs() <= 4 * error).all()
    assert torch.allclose(runs.std(0), error * 40**0.5, rtol=0.6)
    for g in slopes(layer, x):
        assert g.isfinite().all()
        assert g.abs().sum() > 0


@pytest.mark.parametrize("noise", [None, NOISE], ids=["pure", "noisy"])
def test_every_shot_is_read_with_its_error(noise: NoiseModel | None) -> None:
    errors = ((0.1, 0.3), (0.0, 0.2), (0.4, 0.0))
    model = NoiseModel(noise.rules if noise else (), errors)
    exact, layer = made(CIRCUIT, noise=model), made(CIRCUIT, noise=model, shots=1)
    x = sample(exact, 1).detach()
    z, once = exact(x)[0].detach(), layer(x.expand(4000, -1)).detach()
    assert set(once.flatten().tolist()) == {-1.0, 1.0}
    assert float(((once.mean(0) - z) / ((1 - z**2) / 4000).sqrt()).abs().max()) < 4
    certain = Circuit(1, readout=((0.25, 0.0),))
    layer = QuantumLayer(certain, observables=Probabilities((0,)), shots=100, generator=random())
    ones = layer(torch.zeros(2000, 0)).detach()[:, 1]
    assert float(ones.mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 100 / 2000) ** 0.5)
    assert float(ones.std()) == pytest.approx((0.25 * 0.75 / 100) ** 0.5, rel=0.1)


def test_shots_with_exact_gradients_have_the_gradient_of_the_expectation() -> None:
    exact, layer = made(CIRCUIT, noise=NOISE), made(CIRCUIT, noise=NOISE, shots=10)
    x = sample(exact)
    for a, b in zip(slopes(exact, x), slopes(layer, x), strict=True):
        assert torch.allclose(a, b, atol=1e-9)


def test_the_generator_decides_the_shots() -> None:
    x = sample(made(CIRCUIT))
    first, again, other = (made(CIRCUIT, shots=50, generator=random(s))(x) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    layer = made(CIRCUIT, shots=50)
    assert not torch.equal(layer(x), layer(x))
    assert randomness_check(layer, x.detach()).severity == "fail"


def test_trajectories_agree_with_the_density_matrix_within_their_errors() -> None:
    exact = made(CIRCUIT, noise=NOISE)
    x = sample(exact)
    layer = made(CIRCUIT, noise=NOISE, method="trajectories", n_trajectories=4000)
    mean, error = layer.estimate(x)
    assert ((mean - exact(x)).abs() <= 4 * error).all()
    assert 0 < float(error.max()) < 0.03
    assert (exact(x) - made(CIRCUIT)(x)).abs().max() > 0.1  # noise that the errors would see
    assert exact.estimate(x)[1].abs().max() == 0


def test_products_are_features_of_their_own() -> None:
    circuit = Circuit(1, (Gate("RY", (0,), (Input(0),)), Gate("RY", (0,), (Input(2),))))
    layer = QuantumLayer(circuit, products=[(0, 1)])
    x = torch.tensor([[0.3, 0.5], [1.0, -2.0]], dtype=torch.float64)
    assert layer.n_inputs == 2
    assert torch.allclose(layer(x)[:, 0], torch.cos(x[:, 0] + x[:, 0] * x[:, 1]))


def test_copies_pickles_and_states_keep_what_a_layer_is() -> None:
    layer = made(CIRCUIT, noise=NOISE, observables=OUTPUTS)
    x = sample(layer)
    values = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301
        assert torch.equal(other(x), values)
    fresh = QuantumLayer(CIRCUIT, noise=NOISE, observables=OUTPUTS, generator=random(9)).double()
    fresh.load_state_dict(layer.state_dict())
    assert torch.allclose(fresh(x), values)
    assert torch.allclose(layer.float()(x.float()).double(), values, atol=1e-5)


def test_noisy_copies_a_model_and_leaves_it_as_it_was() -> None:
    net = HybridNet(nn.Flatten(), 4, 3, depth=2, generator=random())
    x, y = torch.rand(20, 4, generator=random(3)), torch.arange(20) % 3
    before = net(x)
    other = noisy(net, quid_noise(0.05))
    assert torch.equal(net(x), before)
    assert (other(x) - before).abs().max() > 0.01
    assert not net.circuit.circuit.channels
    assert other.circuit.circuit.channels  # type: ignore[union-attr]
    assert (noise_on_check(other).severity, noise_on_check(net).severity) == ("ok", "ok")
    off = noisy(net, NoiseModel.uniform(Channel("Depolarizing", (0,), (0.0,))))
    assert noise_on_check(off).severity == "fail"
    x_adv = PGD(0.1)(other, x, y, generator=random())
    assert (x_adv - x).abs().max() <= 0.1 + 1e-6
    sampled = noisy(QuNN((1, 4, 4), 2, generator=random()), shots=10, generator=random())
    assert not torch.equal(*(sampled(torch.rand(1, 1, 4, 4, generator=random(1))) for _ in range(2)))
    with pytest.raises(UsageError, match="holds none"):
        noisy(nn.Linear(2, 2), quid_noise())


def test_a_torch_layer_is_converted_in_place() -> None:
    @qml.qnode(qml.device("default.qubit", wires=2), interface="torch")
    def node(inputs: Tensor, w: Tensor) -> list[object]:
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.BasicEntanglerLayers(w, wires=range(2))
        return [qml.expval(qml.Z(q)) for q in range(2)]

    model = nn.Sequential(nn.Linear(3, 2), qml.qnn.TorchLayer(node, {"w": (2, 2)}), nn.Linear(2, 2))
    x = torch.rand(5, 3, generator=random())
    fast = converted(model)
    assert torch.allclose(fast(x), model(x).to(x), atol=1e-5)
    assert isinstance(fast[1], QuantumLayer)  # type: ignore[index]
    assert torch.equal(fast[0].weight, model[0].weight)  # type: ignore[index,union-attr]
    with pytest.raises(UsageError, match="holds none"):
        converted(nn.Linear(2, 2))


def test_the_choice_follows_noise_size_and_device() -> None:
    big, noisy_big = ansatzes.dressed(13, 1), with_noise(ansatzes.dressed(9, 1), quid_noise())
    found = {
        "small": choose(CIRCUIT).method,
        "small and frozen": choose(CIRCUIT, frozen=True).method,
        "small on a GPU": choose(CIRCUIT, "cuda").method,
        "small noisy": choose(with_noise(CIRCUIT, NOISE)).method,
        "upload noisy": choose(with_noise(UPLOAD, NOISE)).method,
        "big": choose(big).method,
        "big on a GPU": choose(big, "cuda").method,
        "middle on a GPU": choose(ansatzes.dressed(6, 1), "cuda").method,
        "big noisy": choose(noisy_big).method,
    }
    assert found == {
        "small": "native",
        "small and frozen": "heisenberg",
        "small on a GPU": "heisenberg",
        "small noisy": "heisenberg",
        "upload noisy": "density-matrix",
        "big": "native",
        "big on a GPU": "adjoint",
        "middle on a GPU": "state-vector",
        "big noisy": "trajectories",
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shots": 0}, "shots"),
        ({"shots": -5}, "shots"),
        ({"gradient": "paramshift"}, "parameter-shift"),
        ({"method": "density"}, "density-matrix"),
        ({"method": "density-matrix"}, "without noise"),
        ({"method": "native", "noise": NOISE}, "with noise"),
        ({"shots": 10, "generator": None}, "generator"),
        ({"gradient": "spsa", "generator": None}, "generator"),
        ({"method": "trajectories", "noise": NOISE, "generator": None}, "generator"),
        ({"method": "trajectories", "noise": NOISE, "n_trajectories": 1}, "n_trajectories"),
        ({"wires": [0], "observables": OUTPUTS}, "wires"),
        ({"wires": [3]}, "wires"),
        ({"observables": [{"ZZ": 1.0}]}, "3 letters"),
        ({"products": [(0, 3)]}, "products"),
        ({"noise": NoiseModel(readout=((0.1, 0.1),) * 2)}, "3 wires"),
    ],
)
def test_what_cannot_be_is_one_clear_line(options: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(CIRCUIT, **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parameter_shift_refuses_features_of_an_amplitude_encoding() -> None:
    layer = made(encodings.amplitude(2) + ansatzes.sim(2, 2), gradient="parameter-shift")
    x = sample(layer) + 0.1
    with pytest.raises(UsageError, match="no shift rule"):
        layer(x)
    assert torch.autograd.grad(layer(x.detach()).sum(), layer.weights)[0].abs().sum() > 0


def test_random_wires_and_orders() -> None:
    for wires in itertools.permutations(range(3), 2):
        x = sample(made(CIRCUIT))
        assert torch.allclose(made(CIRCUIT, wires=wires)(x), made(CIRCUIT)(x)[:, list(wires)])


@pytest.mark.parametrize("method", NOISY)
def test_the_canary_lives_in_every_method_and_dies_where_noise_is_lost(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert canary.canary(quid_noise(0.05).channels, method=method).alive
    kraus = (torch.eye(8), torch.diag(torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1])))  # Z on the third wire
    turned = tuple(tuple(tuple(0.5**0.5 * v for v in row) for row in m.tolist()) for m in kraus)
    assert canary.canary([Channel("Kraus", (0, 1, 2), kraus=turned)], method=method).alive

    class Noiseless(Engine):
        def __init__(self, circuit: Circuit, *args: object, **options: object) -> None:
            super().__init__(without_noise(circuit), *args[:-1], "native")  # type: ignore[arg-type]

    monkeypatch.setattr(canary, "Engine", Noiseless)
    assert not canary.canary([Channel("Depolarizing", (0,), (0.2,))], method=method).alive
