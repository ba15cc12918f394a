"""QNN: against PennyLane, whose circuits are written out here, and a closed form."""

import math
from collections.abc import Callable

import pennylane as qml
import pytest
import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.models import MODELS, QNN, noisy
from redqubit.quantum.noise import quid_noise
from redqubit.training import logits

P = 0.05


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(n: int, d: int = 8) -> Tensor:
    """Return features in [-1, 1]."""
    return 2 * torch.rand(n, d, generator=seeded(1), dtype=torch.float64) - 1


def sim_1(w: list[float], n: int) -> list[tuple[str, list[int], float]]:
    it = iter(w)
    return [(name, [q], next(it)) for name in ("RX", "RZ") for q in range(n)]


def sim_6(w: list[float], n: int) -> list[tuple[str, list[int], float]]:
    pairs = [[c, t] for c in reversed(range(n)) for t in reversed(range(n)) if c != t]
    first, crossed = sim_1(w[: 2 * n], n), w[2 * n : 2 * n + len(pairs)]
    middle = [("CRX", wires, v) for wires, v in zip(pairs, crossed, strict=True)]
    return [*first, *middle, *sim_1(w[2 * n + len(pairs) :], n)]


def sim_8(w: list[float], n: int) -> list[tuple[str, list[int], float]]:
    even, odd = ([[t + 1, t] for t in range(start, n - 1, 2)] for start in (0, 1))
    a, b = 2 * n, 2 * n + len(even)
    c = b + 2 * n
    one = [("CRX", wires, v) for wires, v in zip(even, w[a:b], strict=True)]
    two = [("CRX", wires, v) for wires, v in zip(odd, w[c:], strict=True)]
    return [*sim_1(w[:a], n), *one, *sim_1(w[b:c], n), *two]


SIM: dict[int, Callable[[list[float], int], list[tuple[str, list[int], float]]]] = {1: sim_1, 6: sim_6, 8: sim_8}


def by_pennylane(net: QNN, x: Tensor, *, pqc: int, rotations: tuple[str, ...], prep: str, noise: bool) -> Tensor:
    """Return <Z> (B, n) of features in units of pi, gate by gate; no rotations for amplitude encoding."""
    n, k = net.circuit.circuit.n_qubits, len(rotations)
    weights = net.circuit.weights.detach().tolist()
    per_layer = {1: 2 * n, 6: n**2 + 3 * n, 8: 5 * n - 1}[pqc]

    def apply(name: str, wires: list[int], *angle: float) -> None:
        getattr(qml, name)(*angle, wires=wires)
        if noise:
            follow(wires)

    def follow(wires: list[int]) -> None:
        for channel in (qml.AmplitudeDamping, qml.DepolarizingChannel):
            for w in wires:
                channel(P, wires=w)

    @qml.qnode(qml.device("default.mixed" if noise else "default.qubit", wires=n))
    def node(row: Tensor) -> list[object]:
        if not rotations:
            padded = torch.nn.functional.pad(row, (0, 2**n - len(row)))
            qml.StatePrep((padded / padded.norm()).numpy(), wires=range(n))
            if noise:
                follow(list(range(n)))
        for q in range(n) if rotations else ():
            if prep == "h":
                apply("Hadamard", [q])
            for i, name in enumerate(rotations):
                apply(name, [q], math.pi * float(row[k * q + i]) if k * q + i < len(row) else 0.0)
        for start in range(0, len(weights), per_layer):
            for name, wires, angle in SIM[pqc](weights[start : start + per_layer], n):
                apply(name, wires, angle)
        return [qml.expval(qml.PauliZ(q)) for q in range(n)]

    return torch.tensor([[float(v) for v in node(row)] for row in x], dtype=torch.float64)


@pytest.mark.parametrize(
    ("pqc", "layers", "d", "rotations", "prep", "noise"),
    [
        (1, 2, 8, ("RZ", "RX"), "h", False),
        (6, 1, 8, ("RZ", "RX"), "h", True),
        (8, 2, 6, ("RZ", "RX"), "none", False),
        (8, 1, 12, ("RZ", "RX", "RZ", "RX"), "h", True),
        (6, 1, 3, ("RZ",), "h", False),
        (6, 1, 7, ("RZ", "RX"), "h", True),  # one feature is lacking
        (8, 1, 6, (), "h", False),
        (6, 1, 8, (), "h", True),
    ],
)
def test_a_qnn_is_the_circuit_that_pennylane_runs(
    pqc: int, layers: int, d: int, rotations: tuple[str, ...], prep: str, noise: bool
) -> None:
    net = QNN(
        d,
        4,
        encoding="angle" if rotations else "amplitude",
        features_per_qubit=max(1, len(rotations)),
        prep=prep,  # type: ignore[arg-type]
        pqc=pqc,
        layers=layers,
        noise=quid_noise(P) if noise else None,
        generator=seeded(),
    ).double()
    x = samples(2, d)
    wanted = by_pennylane(net, x, pqc=pqc, rotations=rotations, prep=prep, noise=noise)
    assert torch.allclose(net.forward_features(x), wanted, atol=1e-12)
    assert torch.allclose(net(x), wanted @ net.head.weight.T + net.head.bias, atol=1e-12)


@pytest.mark.tiny
def test_circuit_1_is_a_product_of_sines_and_half_of_its_weights_do_nothing() -> None:
    net, x = QNN(8, 4, generator=seeded()).double(), samples(20)
    t, w = math.pi * x, net.circuit.weights[:4]
    assert torch.allclose(net.forward_features(x), torch.sin(t[:, ::2]) * torch.sin(t[:, 1::2] + w), atol=1e-12)
    net(x).square().sum().backward()
    slope = net.circuit.weights.grad
    assert slope is not None
    assert float(slope[:4].abs().min()) > 1e-2
    assert float(slope[4:].abs().max()) < 1e-12


def test_without_h_the_first_feature_of_each_qubit_is_lost() -> None:
    net, x = QNN(8, 4, prep="none", generator=seeded()).double(), samples(20)
    wanted = torch.cos(math.pi * x[:, 1::2] + net.circuit.weights[:4])
    assert torch.allclose(net.forward_features(x), wanted, atol=1e-12)


def test_features_in_0_to_1_are_turned_as_those_in_minus_1_to_1() -> None:
    signed = QNN(8, 4, pqc=6, generator=seeded()).double()
    unsigned = QNN(8, 4, pqc=6, scale=2 * math.pi, offset=-math.pi, generator=seeded()).double()
    x = samples(5)
    assert torch.allclose(unsigned((x + 1) / 2), signed(x), atol=1e-12)


@pytest.mark.parametrize(
    ("d", "options", "n", "weights"),
    [(8, {}, 4, 8), (8, {"pqc": 6}, 4, 28), (8, {"pqc": 8, "layers": 2}, 4, 38), (16, {"layers": 2}, 8, 32),
     (16, {"features_per_qubit": 4}, 4, 8), (16, {"encoding": "amplitude"}, 4, 8), (2, {}, 2, 4),
     (5, {"n_qubits": 4}, 4, 8)],
)  # fmt: skip
def test_sizes(d: int, options: dict[str, object], n: int, weights: int) -> None:
    net = QNN(d, 3, generator=seeded(), **options)  # type: ignore[arg-type]
    assert (net.circuit.circuit.n_qubits, len(net.circuit.weights)) == (n, weights)
    assert net.head.weight.shape == (3, n)
    angles = net.circuit.weights.detach()
    assert float(angles.min()) >= 0
    assert math.pi < float(angles.max()) < 2 * math.pi


def test_noise_shots_and_spsa_reach_the_layer() -> None:
    net = QNN(8, 4, noise=quid_noise(P), shots=1000, gradient="spsa", generator=seeded())
    assert repr(net.circuit) == ("QuantumLayer(4 qubits, 8 inputs, 8 weights, 40 channels, 1000 shots, gradient spsa)")
    exact = noisy(net, shots=None)
    x = samples(50).float()
    away = (logits(net, x) - logits(exact, x)) @ torch.linalg.pinv(net.head.weight.detach()).T
    assert 0.5 < float(away.std()) * 1000**0.5 < 1.1  # <Z> near 0 scatters by 1 / sqrt(1000)


@pytest.mark.parametrize(
    ("d", "options", "words"),
    [
        (8, {"encoding": "angel"}, "Unknown encoding `angel`: did you mean angle?"),
        (8, {"prep": "x"}, "Unknown value of `prep` `x`"),
        (9, {"n_qubits": 4}, "Argument `n_features` must be 8 or less for 4 qubits, but is 9"),
        (17, {"n_qubits": 4, "encoding": "amplitude"}, "must be 16 or less for 4 qubits, but is 17"),
        (0, {}, "must be 1 or more, but are 0 and 2"),
        (8, {"pqc": 20}, "Argument `number` must be 1 to 19"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line(d: int, options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        QNN(d, 4, generator=seeded(), **options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("shape", "inputs"), [((8,), 8), ((3, 5), 16), ((1, 5, 5), 25)])
def test_the_registered_network_turns_few_features_and_takes_many_as_amplitudes(
    shape: tuple[int, ...], inputs: int
) -> None:
    net = MODELS["qnn"](shape, 3, generator=seeded())
    assert isinstance(net, QNN)
    assert isinstance(net, nn.Module)
    assert net.circuit.n_inputs == inputs
    assert (net.circuit.circuit.initial is None) == (math.prod(shape) <= 16)
    assert net(torch.rand(2, *shape, generator=seeded())).shape == (2, 3)
