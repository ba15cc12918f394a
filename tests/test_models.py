"""Models against closed forms patch by patch, and the contract that every registered model keeps."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.models import MODELS, CosineTwin, HybridNet, HybridTwin, QuantumLayer, Quanvolution, QuNN, TwinCNN
from redqubit.models.base import FeatureClassifier
from redqubit.quantum import ansatzes, encodings

Kind = Literal["none", "linear", "star", "full"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=seeded(1), dtype=dtype)


def n_weights(module: nn.Module, *, trainable: bool | None = None) -> int:
    return sum(p.numel() for p in module.parameters() if trainable in (None, p.requires_grad))


EDGES = {
    "none": lambda n: [],
    "linear": lambda n: [(p, p + 1) for p in range(n - 1)],
    "star": lambda n: [(0, p) for p in range(1, n)],
    "full": lambda n: [(p, q) for p in range(n) for q in range(p + 1, n)],
}


def filtered(
    pixels: Sequence[float], weights: Sequence[float], edges: list[tuple[int, int]], phi: float
) -> list[float]:
    """Return <Z_k> of RY(pi x), exp(-i phi ZZ) on the edges, then Rot: a product over neighbours, no simulator."""
    out = []
    for k, x in enumerate(pixels):
        _, b, g = weights[3 * k : 3 * k + 3]
        product = complex(math.cos(g), math.sin(g))
        for j in [q if p == k else p for p, q in edges if k in (p, q)]:
            product *= complex(math.cos(2 * phi), math.sin(2 * phi) * math.cos(math.pi * pixels[j]))
        out.append(math.cos(b) * math.cos(math.pi * x) - math.sin(b) * math.sin(math.pi * x) * product.real)
    return out


def slow_quanvolution(
    x: Tensor, weights: Tensor, kind: str, kernel_size: int, stride: int, phi: float, zz_first: bool
) -> Tensor:
    """Return the feature map by loops over images, channels, rows and columns."""
    n = kernel_size**2
    edges = EDGES[kind](n) if zz_first else []  # ZZ at the end commutes with the read-out
    batch, channels, height, width = x.shape
    rows, columns = (height - kernel_size) // stride + 1, (width - kernel_size) // stride + 1
    out = torch.zeros(batch, channels * n, rows, columns, dtype=x.dtype)
    for b in range(batch):
        for c in range(channels):
            for i in range(rows):
                for j in range(columns):
                    pixels = [
                        float(x[b, c, i * stride + u, j * stride + v])
                        for u in range(kernel_size)
                        for v in range(kernel_size)
                    ]
                    values = filtered(pixels, weights.tolist(), edges, phi)
                    out[b, c * n : (c + 1) * n, i, j] = torch.tensor(values, dtype=x.dtype)
    return out


@pytest.mark.parametrize(
    ("shape", "kernel_size", "stride"),
    [
        ((1, 2, 2), 2, 2),
        ((1, 5, 7), 2, 2),
        ((3, 6, 4), 2, 1),
        ((2, 6, 5), 2, 3),
        ((1, 3, 4), 1, 1),
        ((1, 4, 5), 3, 1),
        ((2, 7, 4), 3, 2),
    ],
)
@pytest.mark.parametrize("kind", ["none", "linear", "star", "full"])
@pytest.mark.parametrize("order", ["as_written", "zz_first"])
def test_quanvolution_equals_the_formula_patch_by_patch(
    shape: tuple[int, int, int],
    kernel_size: int,
    stride: int,
    kind: Kind,
    order: Literal["as_written", "zz_first"],
) -> None:
    n, phi = kernel_size**2, 0.6
    weights = torch.rand(3 * n, generator=seeded(2), dtype=torch.float64) * 6
    circuit = encodings.angle(n) + ansatzes.robqunn(kind, n, order=order, phi=phi)
    layer = Quanvolution(QuantumLayer(circuit, weights=weights), kernel_size=kernel_size, stride=stride)
    x = images(2, *shape, dtype=torch.float64)
    wanted = slow_quanvolution(x, weights, kind, kernel_size, stride, phi, order == "zz_first")
    got = layer(x)
    assert got.shape == wanted.shape
    assert torch.allclose(got, wanted, atol=1e-12)
    net = QuNN(shape, 3, circuit, kernel_size=kernel_size, stride=stride, weights=weights, generator=seeded())
    assert torch.allclose(net.double().forward_features(x), wanted.flatten(1), atol=1e-12)
    assert net(x).shape == (2, 3)


def test_a_quanvolution_refuses_what_does_not_fit() -> None:
    layer = QuantumLayer(encodings.angle(4))
    with pytest.raises(UsageError, match="must take 9 inputs"):
        Quanvolution(layer, kernel_size=3)
    with pytest.raises(UsageError, match="`stride` must be 1"):
        Quanvolution(layer, stride=0)
    with pytest.raises(UsageError, match="at least 3 x 3"):
        QuNN((1, 2, 8), 10, kernel_size=3, generator=seeded())


@pytest.mark.parametrize(("shape", "kernel_size", "stride"), [((1, 8, 8), 2, 2), ((3, 9, 7), 2, 2), ((2, 9, 7), 3, 2)])
def test_the_convolution_twin_has_the_same_map_and_head(
    shape: tuple[int, int, int], kernel_size: int, stride: int
) -> None:
    quantum = QuNN(shape, 10, kernel_size=kernel_size, stride=stride, generator=seeded())
    twin = TwinCNN(shape, 10, channels=kernel_size**2, kernel_size=kernel_size, stride=stride, generator=seeded())
    assert quantum.head.weight.shape == twin.head.weight.shape
    assert n_weights(quantum, trainable=True) == n_weights(twin, trainable=True) == n_weights(twin.head)
    x = images(2, *shape)
    assert quantum.forward_features(x).shape == twin.forward_features(x).shape


def test_weights_are_counted_as_in_the_papers() -> None:
    qunn = QuNN((1, 28, 28), 10, generator=seeded())
    assert n_weights(qunn.head) == 784 * 10 + 10
    assert n_weights(qunn.quanvolution) == 12
    # a ResNet-18's 512 features, 10 qubits, depth 6: 5130 + 60 + 110, against 5130 + 110 + 110
    hybrid = HybridNet(nn.Identity(), 512, 10, n_qubits=10, depth=6, generator=seeded())
    assert n_weights(hybrid.circuit) == 60
    assert n_weights(hybrid) == 5300
    assert n_weights(HybridTwin(nn.Identity(), 512, 10, width=10, generator=seeded())) == 5350


@pytest.mark.parametrize("activation", ["relu", "cosine"])
def test_the_convolution_twin_is_a_convolution_of_each_channel(activation: Literal["relu", "cosine"]) -> None:
    twin = TwinCNN((3, 6, 6), 4, activation=activation, generator=seeded())
    x = images(2, 3, 6, 6)
    for c, k in ((0, 0), (1, 3), (2, 1)):
        z = torch.zeros(2, 3, 3)
        for i in range(3):
            for j in range(3):
                patch = x[:, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                z[:, i, j] = (patch * twin.conv.weight[4 * c + k, 0]).sum((1, 2))
        wanted = z.relu() if activation == "relu" else torch.cos(math.pi * z)
        assert torch.allclose(twin.forward_features(x).unflatten(1, (12, 3, 3))[:, 4 * c + k], wanted, atol=1e-6)


@pytest.mark.tiny
@pytest.mark.parametrize("kind", ["none", "linear", "star", "full"])
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_the_printed_circuits_are_the_cosine_twin(kind: Kind, size: tuple[int, int]) -> None:
    angles = torch.rand(4, 3, generator=seeded(3)) * 2 * math.pi
    circuit = encodings.angle(4) + ansatzes.robqunn(kind, order="as_written")
    x = images(6, 1, *size)
    quantum = QuNN((1, *size), 10, circuit, weights=angles.flatten(), generator=seeded())
    twin = CosineTwin((1, *size), 10, angles=angles, generator=seeded())
    assert torch.allclose(quantum.forward_features(x), twin.forward_features(x), atol=1e-6)
    assert torch.allclose(quantum(x), twin(x), atol=1e-5)  # same seed, same head
    entangled = encodings.angle(4) + ansatzes.robqunn(kind, order="zz_first")
    other = QuNN((1, *size), 10, entangled, weights=angles.flatten(), generator=seeded())
    same = torch.allclose(other.forward_features(x), twin.forward_features(x), atol=1e-6)
    assert same == (kind == "none")


def test_the_cosine_twin_refuses_colour_and_other_angles() -> None:
    with pytest.raises(UsageError, match="one channel"):
        CosineTwin((3, 8, 8), 10, generator=seeded())
    with pytest.raises(UsageError, match="`angles` must have shape"):
        CosineTwin((1, 8, 8), 10, angles=torch.zeros(12), generator=seeded())


def product_of_sines(q: Tensor, depth: int) -> Tensor:
    """Return <Z> of the dressed circuit with all weights 0: CX spreads Z_t to Z_c Z_t, and <Z_j> = -sin q_j."""
    n = q.shape[1]
    layer = [(p, p + 1) for start in (0, 1) for p in range(start, n - 1, 2)]
    out = []
    for wire in range(n):
        cone = {wire}
        for control, target in reversed(layer * depth):
            if target in cone:
                cone ^= {control}
        out.append(torch.stack([-torch.sin(q[:, j]) for j in sorted(cone)]).prod(0))
    return torch.stack(out, 1)


@pytest.mark.parametrize(("n_qubits", "depth"), [(2, 1), (4, 6), (5, 2), (7, 3)])
def test_a_dressed_circuit_with_zero_weights_is_a_product_of_sines(n_qubits: int, depth: int) -> None:
    extractor = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh())  # (B, 2, 4, 3): any extractor, flattened
    nn.init.normal_(next(extractor.parameters()), generator=seeded(4))
    net = HybridNet(extractor, 24, 5, n_qubits=n_qubits, depth=depth, generator=seeded()).double()
    x = images(4, 3, 6, 5, dtype=torch.float64)
    small = net(x)
    net.load_state_dict({**net.state_dict(), "circuit.weights": torch.zeros(n_qubits * depth)})
    features = net.forward_features(x)
    assert features.shape == (4, 24)
    q = torch.tanh(features @ net.down.weight.T + net.down.bias) * math.pi / 2
    wanted = product_of_sines(q, depth) @ net.up.weight.T + net.up.bias
    assert torch.allclose(net(x), wanted, atol=1e-12)
    assert not torch.allclose(small, wanted, atol=1e-6)
    assert torch.allclose(small, wanted, atol=0.5)  # weights start at 0.01 times normal
    weight = next(extractor.parameters())
    net(x).sum().backward()
    assert weight.grad is not None
    assert float(weight.grad.abs().sum()) > 0


def test_the_hybrid_twin_is_three_linear_maps_and_one_tanh() -> None:
    net = HybridTwin(nn.Flatten(), 12, 3, width=5, generator=seeded())
    x = images(4, 3, 2, 2)
    with torch.no_grad():
        wanted = net.up(net.middle(net.down(x.flatten(1)).tanh()))
    assert torch.equal(net(x), wanted)


# What every registered model keeps to. Larger ones do so in test_backbones and test_convolutional.

SMALL = [name for name in MODELS if "resnet" not in name and name not in ("alexnet", "lenet5", "vgg16")]


def make(name: str, seed: int = 0, shape: Sequence[int] = (1, 8, 8), n_classes: int = 10) -> nn.Module:
    return MODELS[name](shape, n_classes, generator=seeded(seed))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 5, 7), (3, 8, 6), (4,)])
def test_registered_models_take_what_they_can_and_refuse_the_rest(name: str, shape: tuple[int, ...]) -> None:
    takes_vectors, one_channel = name.startswith(("hybrid", "qnn", "hcqnn")), name in ("cosine_twin", "hcqnn")
    if (len(shape) == 1 and not takes_vectors) or (shape[0] == 3 and one_channel):
        with pytest.raises(UsageError, match="Argument `input_shape`") as caught:
            make(name, shape=shape)
        assert "\n" not in str(caught.value)
        return
    model = make(name, shape=shape, n_classes=3)
    x = images(6, *shape).requires_grad_()
    logits = model(x)
    assert logits.shape == (6, 3)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (slope.flatten(1).abs().sum(1) > 0).all()
    assert torch.allclose(torch.cat([model(row[None]) for row in x]), logits, atol=1e-5)  # samples are independent


@pytest.mark.parametrize("name", SMALL)
def test_registered_models_are_seeded_by_the_generator_alone(name: str) -> None:
    before = torch.get_rng_state()
    one, again, other = (make(name, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], again[key]) for key in one)
    fixed = {key for key in one if key.endswith(("bias", "sharpness"))}  # which start at a number of their own
    assert {key for key in one if torch.equal(one[key], other[key])} == fixed


@pytest.mark.parametrize("name", SMALL)
def test_registered_models_come_in_two_parts_and_have_a_docstring(name: str) -> None:
    model, x = make(name), images(3, 1, 8, 8)
    assert isinstance(model, FeatureClassifier)
    assert torch.equal(model(x), model.forward_head(model.forward_features(x)))
    assert model.forward_features(x).ndim == 2
    assert (MODELS[name].__doc__ or "").startswith("Return ")


@pytest.mark.parametrize("name", SMALL)
def test_registered_models_agree_in_both_precisions_and_with_finite_differences(name: str) -> None:
    single = make(name)
    double = copy.deepcopy(single).double()
    x = images(4, 1, 8, 8)
    assert single(x).dtype == torch.float32
    assert double(x.double()).dtype == torch.float64
    assert torch.allclose(single(x).double(), double(x.double()), atol=1e-5)
    start = x.double().requires_grad_()
    direction = images(4, 1, 8, 8, dtype=torch.float64) - 0.5
    (slope,) = torch.autograd.grad(double(start)[:, 1].sum(), start)
    step = 1e-6 * direction
    with torch.no_grad():
        measured = (double(start + step) - double(start - step))[:, 1].sum() / 2e-6
    assert float((slope * direction).sum()) == pytest.approx(float(measured), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", SMALL)
def test_weights_go_through_safetensors_and_copies_are_independent(name: str, tmp_path: Path) -> None:
    model, x = make(name), images(3, 1, 8, 8)
    before = model(x)  # also fills what the model keeps between calls
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    other = make(name, 1)
    assert not torch.allclose(other(x), before, atol=1e-4)
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(x), before)
    copied = copy.deepcopy(model)
    assert torch.equal(copied(x), before)
    copied.load_state_dict(make(name, 1).state_dict())
    assert torch.equal(copied(x), make(name, 1)(x))
    assert torch.equal(model(x), before)


@pytest.mark.parametrize("name", ["qunn", "cnn_frozen", "cnn_cosine", "cosine_twin"])
def test_frozen_filters_get_no_gradient_but_the_head_does(name: str) -> None:
    model = make(name)
    model(images(3, 1, 8, 8)).square().sum().backward()
    with_gradient = {key for key, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", ["qunn_trainable", "cnn", "hybrid", "hybrid_twin"])
def test_trainable_models_get_a_gradient_in_every_weight_tensor(name: str) -> None:
    model = make(name)
    model(images(3, 1, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in model.parameters())


def test_a_frozen_filter_forgets_its_old_weights_after_a_step() -> None:
    """Attacks freeze the weights for their time, so what is folded then must not outlive a step of training."""
    model, x = make("qunn_trainable"), images(3, 1, 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)
    for _ in range(2):
        model.requires_grad_(False)
        frozen = model(x)
        model.requires_grad_(True)
        assert torch.allclose(model(x), frozen, atol=1e-6)
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
        model.requires_grad_(False)
        fresh = make("qunn_trainable", 1)
        fresh.load_state_dict(model.state_dict())
        assert not torch.allclose(model(x), frozen, atol=1e-3)
        assert torch.allclose(model(x), fresh(x), atol=1e-6)


def test_a_layer_refuses_wrong_wires_and_weights() -> None:
    circuit = encodings.angle(2) + ansatzes.basic_entangling(2)
    with pytest.raises(UsageError, match="`generator` must be given"):
        QuantumLayer(circuit)
    with pytest.raises(UsageError, match="`wires` must be among 0 to 1"):
        QuantumLayer(circuit, wires=[2], generator=seeded())
    with pytest.raises(UsageError, match=r"`weights` must have shape \(2,\)"):
        QuantumLayer(circuit, weights=torch.zeros(3))


def test_unknown_models_are_told_by_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean qunn"):
        MODELS["qun"]
