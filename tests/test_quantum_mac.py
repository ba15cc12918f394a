"""Noisy quantum products: against density matrices, real shots, sums written out by hand, and what may be asked."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dense_noise import density_matrix, expectation
from redqubit.errors import UsageError
from redqubit.evasion import PGD
from redqubit.models import MODELS, QuantumLayer
from redqubit.models.initial import convolution, linear
from redqubit.models.quantum_mac import quantum_mac
from redqubit.models.quantum_products import InjectedCrosstalk, QuantumProducts
from redqubit.quantum import Circuit
from redqubit.quantum.lint import lint
from redqubit.quantum.multiplication import NAIROBI, DataQubit, Device, product_circuit, product_noise
from redqubit.quantum.noise import Crosstalk, Rule, with_noise

PERFECT = Device(
    "no noise",
    35.56,
    tuple(
        replace(q, t1=math.inf, t2=math.inf, sx_error=0, read_1_for_0=0, read_0_for_1=0, zz_khz=0, cx_error=0)
        for q in NAIROBI.qubits
    ),
)
X = torch.linspace(-1, 1, 7, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer_of(circuit: Circuit, w: float, **options: Any) -> QuantumLayer:
    weights = torch.tensor([math.acos(w)], dtype=torch.float64)
    return QuantumLayer(circuit, wires=[0], weights=weights, trainable=False, **options)


# ---- one product -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [0, 1, 3])
@pytest.mark.parametrize("w", [-1.0, -0.3, 0.0, 0.72, 1.0])
def test_without_noise_a_product_is_exact_however_many_pairs_there_are(pairs: int, w: float) -> None:
    got = layer_of(product_circuit(pairs), w, method="state-vector")(X.arcsin()[:, None])[:, 0]
    assert torch.allclose(got, X * w, atol=1e-14, rtol=0)


@pytest.mark.parametrize("qubit", NAIROBI.qubits, ids=lambda q: f"qubit {q.qubit}")
@pytest.mark.parametrize(("pairs", "ratio"), [(0, 1), (1, 1), (1, 3), (4, 11)])
def test_moments_are_those_of_density_matrices(qubit: DataQubit, pairs: int, ratio: float) -> None:
    noise = product_noise(qubit, NAIROBI.sx_ns, ratio=ratio)
    for w in (-0.9, 0.37):
        wanted = qubit.gain(NAIROBI.sx_ns) * qubit.kept(pairs, ratio) * math.cos(qubit.turn(pairs)) * X * w
        engine = layer_of(product_circuit(pairs), w, noise=noise, method="density-matrix")
        assert torch.allclose(engine(X.arcsin()[:, None])[:, 0], wanted + qubit.offset, atol=1e-14, rtol=0)
    noisy = with_noise(product_circuit(pairs), noise)
    z = expectation(density_matrix(noisy, [math.asin(0.6)], [math.acos(0.5)]), {"ZII": 1.0})
    p1 = (1 - z) / 2
    read = 1 - 2 * ((1 - p1) * qubit.read_1_for_0 + p1 * (1 - qubit.read_0_for_1))
    shrunk = qubit.gain(NAIROBI.sx_ns) * qubit.kept(pairs, ratio) * math.cos(qubit.turn(pairs))
    assert read == pytest.approx(shrunk * 0.3 + qubit.offset, abs=1e-12)


@pytest.mark.parametrize("pairs", [1, 5])
def test_pairs_change_nothing_without_a_channel_of_crosstalk(pairs: int) -> None:
    qubit = NAIROBI.qubits[2]
    full = product_noise(qubit, NAIROBI.sx_ns, ratio=3)
    without = replace(
        full, rules=tuple(rule for rule in full.rules if isinstance(rule, Rule) and "CX" not in rule.gates)
    )
    assert [type(rule) for rule in full.rules] == [Rule, Rule, Crosstalk, Rule]
    assert len(without.rules) == 2
    x = X.arcsin()[:, None]
    plain = layer_of(product_circuit(), 0.4, noise=without, method="density-matrix")(x)
    assert torch.equal(layer_of(product_circuit(pairs), 0.4, noise=without, method="density-matrix")(x), plain)
    disturbed = layer_of(product_circuit(pairs), 0.4, noise=full, method="density-matrix")(x)
    assert float((disturbed - plain).detach().abs().max()) > 0.05


def test_the_linter_says_that_pairs_alone_have_no_effect() -> None:
    found = next(f for f in lint(product_circuit(2), wires=[0]) if f.code == "RQ005")
    assert [gate.text for gate in found.gates].count("CX on 1,2") == 4


def test_pairs_in_a_network_change_nothing_where_the_device_has_no_crosstalk() -> None:
    quiet = replace(PERFECT, qubits=tuple(replace(q, sx_error=0.001) for q in PERFECT.qubits))
    x = torch.rand(8, 5, generator=seeded())
    crosstalk = InjectedCrosstalk(1.0, pairs=4, selection="random", ratio=11.0, variant="coherent")
    plain, paired = (
        quantum_mac(linear(5, 3, generator=seeded()), x, device=quiet, crosstalk=c, generator=seeded())
        for c in (None, crosstalk)
    )
    assert isinstance(paired, QuantumProducts)
    assert paired.n_disturbed == 15
    for name, value in plain.state_dict().items():
        assert torch.equal(paired.state_dict()[name], value)


def test_turns_are_those_of_the_device() -> None:
    """Transmon formula from coupling J (MHz), frequencies and anharmonicities (GHz) of the snapshot."""
    f, a = (5.2595, 5.1679, 5.2745, 5.0245, 5.1782, 5.2927, 5.1285), (-0.3398, -0.3406, -0.3389, -0.3425, -0.3406)
    a = (*a, -0.3405, -0.3404)
    coupling = {0: 2.424, 2: 3.299, 4: 3.384, 6: 3.299}
    for q in NAIROBI.qubits:
        detuning = (f[q.qubit] - f[q.hub]) * 1e3
        zeta = 2e3 * coupling[q.qubit] ** 2
        zeta *= 1 / (detuning - a[q.hub] * 1e3) - 1 / (detuning + a[q.qubit] * 1e3)
        assert q.zz_khz == pytest.approx(abs(zeta), abs=0.2)
    cosines = [math.cos(q.turn(k)) for q in NAIROBI.qubits for k in (1, 2, 4)]
    noted = [0.99, 0.97, 0.88, 0.97, 0.89, 0.57, 0.84, 0.41, -0.67, 0.81, 0.30, -0.82]
    assert cosines == pytest.approx(noted, abs=0.006)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t2": 200.0}, "`t2` must be above 0 and at most 2 t1 = 178.24"),
        ({"t2": 0.0}, "`t2` must be above 0"),
        ({"sx_error": 0.6}, r"`sx_error` must be within \[0, 0.5\]"),
        ({"read_1_for_0": -0.1}, "`read_1_for_0` must be within"),
        ({"zz_khz": math.nan}, "`zz_khz` must be 0 or more"),
    ],
)
def test_figures_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(NAIROBI.qubits[0], **change)


def test_a_ratio_that_leaves_no_signal_is_refused() -> None:
    with pytest.raises(UsageError, match=r"`ratio` must be 1 to 80.54, .* qubit 4"):
        NAIROBI.qubits[2].kept(1, 90.0)


# ---- sums of products ------------------------------------------------------------------------------------------------


def products(layer: nn.Conv2d | nn.Linear, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Return x_j and w_j of each product, both (B, outputs..., fan-in): inputs cut to the range, padding included."""
    x = x.clamp(-limit, limit)
    if isinstance(layer, nn.Linear):
        return x[:, None, :].expand(-1, layer.out_features, -1), layer.weight.expand(len(x), -1, -1)
    patches = F.unfold(x, layer.kernel_size, dilation=layer.dilation, padding=layer.padding, stride=layer.stride)  # type: ignore[arg-type]
    fan_in = layer.weight[0].numel()
    patches = patches.view(len(x), layer.groups, fan_in, -1).repeat_interleave(layer.out_channels // layer.groups, 1)
    weights = layer.weight.flatten(1)[None, :, None].expand(len(x), -1, patches.shape[3], -1)
    return patches.transpose(2, 3), weights


LAYERS: dict[str, Callable[[], nn.Conv2d | nn.Linear]] = {
    "linear": lambda: linear(7, 3, generator=seeded(1)),
    "convolution": lambda: convolution(4, 6, 3, generator=seeded(1), stride=2, padding=1),
    "groups": lambda: convolution(4, 6, 2, generator=seeded(1), groups=2, dilation=2, padding=(0, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("calibrate_offset", [False, True])
@pytest.mark.parametrize("variant", ["none", "static", "coherent"])
def test_layers_have_the_moments_of_their_products(name: str, calibrate_offset: bool, variant: Any) -> None:
    layer = LAYERS[name]().double()
    assert layer.bias is not None
    layer.bias.data = torch.randn(layer.bias.shape, dtype=torch.float64, generator=seeded(2))
    shape = (5, 7) if name == "linear" else (5, 4, 6, 6)
    x = torch.randn(shape, dtype=torch.float64, generator=seeded(3))
    calibration, shots = 0.5 * x, 100  # so that some inputs are cut
    crosstalk = None if variant == "none" else InjectedCrosstalk(1.0, 2, "random", 3.0, variant)
    noisy = quantum_mac(
        layer, calibration, shots=shots, crosstalk=crosstalk, calibrate_offset=calibrate_offset, generator=seeded(4)
    )
    limit, top = float(calibration.abs().max()), float(layer.weight.detach().abs().max())
    a, w = (part.detach() / size for part, size in zip(products(layer, x, limit), (limit, top), strict=True))
    mean, variance, known = torch.zeros(a.shape[:-1]).double(), torch.zeros(a.shape[:-1]).double(), 0.0
    for j in range(a.shape[-1]):
        q = NAIROBI.qubits[j % 4]
        gain, turn = q.gain(NAIROBI.sx_ns), 0.0
        if crosstalk is not None:
            gain, turn = gain * q.kept(2, 3.0), q.turn(2)
        # the weight's phase f becomes f + turn or f - turn, of equal probability
        ends = [gain * a[..., j] * torch.cos(torch.arccos(w[..., j]) + s * turn) + q.offset for s in (1, -1)]
        own = (ends[0] + ends[1]) / 2
        mean += own
        if variant == "coherent":
            variance += (ends[0] - ends[1]) ** 2 / 4 + ((1 - ends[0] ** 2) + (1 - ends[1] ** 2)) / (2 * shots)
        else:
            variance += (1 - own**2) / shots
        known += q.offset
    size = limit * top
    mean = size * (mean - known if calibrate_offset else mean)
    mean += layer.bias.detach().view(1, -1, *[1] * (mean.ndim - 2))
    generator = seeded(4)
    torch.rand(layer.weight.numel() if crosstalk else 0, generator=generator)  # of the selection
    got = noisy(x).detach()
    noise = torch.randn(got.shape, dtype=torch.float64, generator=generator)
    assert torch.allclose(got, mean.view(got.shape) + size * variance.sqrt().view(got.shape) * noise, atol=1e-12)


@pytest.mark.parametrize("shots", [16, 1024])
def test_a_draw_is_distributed_as_real_shots_of_the_circuits(shots: int) -> None:
    """A sum of four products, one on each qubit, read in binomial shots of the noisy circuits."""
    n, x, w = 5_000, torch.tensor([0.9, -0.5, 0.2, 1.0]).double(), torch.tensor([0.4, 0.8, -1.0, 0.7]).double()
    drawn = seeded(5)
    real = torch.stack(
        [
            layer_of(
                product_circuit(1), float(w[j]), noise=product_noise(q, NAIROBI.sx_ns), shots=shots, generator=drawn
            )(x[j].arcsin().expand(n, 1))[:, 0]
            for j, q in enumerate(NAIROBI.qubits)
        ]
    ).sum(0)
    layer = nn.utils.skip_init(nn.Linear, 4, 1, bias=False).double()
    layer.weight.data = w[None]
    crosstalk = InjectedCrosstalk(1.0, selection="random")
    ours = quantum_mac(layer, x[None], shots=shots, crosstalk=crosstalk, generator=seeded(6))(x.expand(n, 4))[:, 0]
    sd = float(real.std())
    assert abs(float(real.mean() - ours.mean())) < 5 * sd * math.sqrt(2 / n)
    assert float(ours.var() / real.var()) == pytest.approx(1, abs=5 * math.sqrt(2 * 2 / n))
    assert sd == pytest.approx(math.sqrt(4 / shots), rel=0.5)  # not all the same for another reason


def test_one_sign_for_all_shots_scatters_as_a_random_phase_does() -> None:
    """The coherent variant against numpy: a sign of the turn for each product, then binomial shots."""
    n, shots, q = 40_000, 64, NAIROBI.qubits[3]
    only = replace(NAIROBI, qubits=(q,))
    layer = nn.utils.skip_init(nn.Linear, 6, 1, bias=False).double()
    layer.weight.data = torch.tensor([[0.5, -0.2, 1.0, 0.1, 0.0, -0.6]]).double()
    x = torch.tensor([1.0, 0.3, -0.8, 0.5, 0.9, -0.4]).double()
    crosstalk = InjectedCrosstalk(1.0, 1, "random", variant="coherent")
    noisy = quantum_mac(layer, x[None], device=only, shots=shots, crosstalk=crosstalk, generator=seeded(1))
    ours = noisy(x.expand(n, 6))[:, 0]
    random = np.random.default_rng(0)
    phase = np.arccos(layer.weight.detach().numpy()) + q.turn(1) * random.choice([-1, 1], size=(n, 6))
    z = q.gain(NAIROBI.sx_ns) * q.kept(1, 1.0) * x.numpy() * np.cos(phase) + q.offset
    real = (2 * random.binomial(shots, (1 + z) / 2) / shots - 1).sum(1)
    assert float(ours.mean()) == pytest.approx(real.mean(), abs=5 * real.std() * math.sqrt(2 / n))
    assert float(ours.var()) == pytest.approx(real.var(), rel=5 * math.sqrt(4 / n))
    static = quantum_mac(
        layer, x[None], device=only, shots=shots, crosstalk=replace(crosstalk, variant="static"), generator=seeded(1)
    )(x.expand(n, 6))[:, 0]
    assert float(static.mean()) == pytest.approx(float(ours.mean()), abs=0.02)
    assert float(static.var()) < 0.5 * float(ours.var())


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    layer, generator = LAYERS[name]().double(), seeded()
    x = (0.4 * torch.randn((2, 7) if name == "linear" else (2, 4, 4, 4), generator=seeded(1))).double()
    for shots in (None, 32):
        noisy = quantum_mac(layer, 2 * x, shots=shots, generator=generator)
        assert torch.autograd.gradcheck(lambda x, net=noisy: (generator.manual_seed(3), net(x))[1], x.requires_grad_())


# ---- networks --------------------------------------------------------------------------------------------------------


def net(shape: Sequence[int] = (1, 12, 12), n_classes: int = 4) -> nn.Module:
    return MODELS["lenet5"](shape, n_classes, generator=seeded(1))


def pictures(n: int = 16, *shape: int) -> Tensor:
    return torch.rand(n, *(shape or (1, 12, 12)), generator=seeded(2))


LABELS = torch.arange(16) % 4


@pytest.mark.parametrize("name", ["lenet5", "vgg16", "resnet18", "cnn"])
def test_a_perfect_device_gives_the_network_itself(name: str) -> None:
    shape = (3, 32, 32) if name in ("vgg16", "resnet18") else (1, 12, 12)
    x = pictures(3, *shape)
    model = MODELS[name](shape, 5, generator=seeded()).eval()
    before = copy.deepcopy(model.state_dict())
    mapped = quantum_mac(model, x, device=PERFECT, shots=None, generator=seeded())
    assert torch.allclose(mapped(x), model(x), atol=1e-4)
    assert not any(type(part) in (nn.Conv2d, nn.Linear) for part in mapped.modules())
    assert not any(isinstance(part, QuantumProducts) for part in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [name for name, _ in mapped.named_modules()] == [name for name, _ in model.named_modules()]


def test_each_pass_has_noise_of_its_own_from_the_generator_alone() -> None:
    x, state = pictures(), torch.get_rng_state()
    one, again, other = (quantum_mac(net(), x, generator=seeded(s)) for s in (0, 0, 1))
    first = one(x)
    assert torch.equal(first, again(x))
    assert not torch.allclose(first, one(x), atol=1e-3)
    assert not torch.allclose(first, other(x), atol=1e-3)
    copied = copy.deepcopy(one)
    assert torch.equal(copied(x), one(x))
    random = [part for part in one.modules() if getattr(part, "is_random", False)]
    assert len(random) == 5
    assert len({id(part.generator) for part in random}) == 1
    assert len({id(part.generator) for part in copied.modules() if hasattr(part, "generator")}) == 1
    random[0].generator.manual_seed(0)
    assert torch.equal(one(x), first)
    assert torch.equal(torch.get_rng_state(), state)
    exact = quantum_mac(net(), x, shots=None, generator=seeded())
    assert not any(getattr(part, "is_random", False) for part in exact.modules())
    assert torch.equal(exact(x), exact(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_sees_the_same_noise() -> None:
    x, crosstalk = pictures(), InjectedCrosstalk(0.1, variant="coherent")
    here, there = (
        quantum_mac(
            net().to(device), x.to(device), calibration_y=LABELS.to(device), crosstalk=crosstalk, generator=seeded()
        )
        for device in ("cpu", "cuda")
    )
    assert torch.allclose(here(x), there(x.cuda()).cpu(), atol=1e-3)


def test_modes_are_kept_and_weights_go_through_safetensors(tmp_path: Any) -> None:
    model, x = net().train(), pictures()
    noisy = quantum_mac(model, x, generator=seeded())
    assert noisy.training
    assert model.training
    save_file(noisy.state_dict(), tmp_path / "weights.safetensors")
    other = quantum_mac(MODELS["lenet5"]((1, 12, 12), 4, generator=seeded(9)), x, generator=seeded())
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    noisy.conv1.generator.manual_seed(5)
    other.conv1.generator.manual_seed(5)
    assert torch.allclose(noisy(x), other(x), atol=1e-6)


def test_offsets_of_large_sums_shift_the_logits_and_can_be_calibrated() -> None:
    x, model = pictures(), net()
    raw, calibrated = (
        quantum_mac(model, x, shots=None, calibrate_offset=c, generator=seeded()).fc1 for c in (False, True)
    )
    size = float(raw.limit) * float(model.fc1.weight.detach().abs().max())
    total = size * sum(NAIROBI.qubits[j % 4].offset for j in range(model.fc1.in_features))
    assert torch.allclose(raw.bias - calibrated.bias, torch.full((120,), total), rtol=1e-5)
    assert torch.equal(raw.kernel, calibrated.kernel)


def test_attacks_go_through_the_noise() -> None:
    x, model = pictures(), net()
    noisy = quantum_mac(model, x, calibrate_offset=True, generator=seeded())
    y = torch.stack([noisy(x) for _ in range(20)]).mean(0).argmax(1)
    attacked = PGD(0.3, steps=10, draws=4)(noisy, x, y, generator=seeded())
    right = [
        float((torch.stack([noisy(z) for _ in range(20)]).mean(0).argmax(1) == y).float().mean()) for z in (x, attacked)
    ]
    assert right[0] > 0.8
    assert right[1] < 0.5


def test_a_layer_in_two_places_stays_one() -> None:
    shared = linear(4, 4, generator=seeded())
    noisy = quantum_mac(
        nn.Sequential(shared, nn.ReLU(), shared), torch.rand(3, 4, generator=seeded()), generator=seeded()
    )
    assert noisy[0] is noisy[2]
    assert isinstance(noisy[2], QuantumProducts)


# ---- which weights ---------------------------------------------------------------------------------------------------


def disturbed(model: nn.Module, crosstalk: InjectedCrosstalk) -> dict[str, Tensor]:
    """Return which weights of each layer a mapping disturbs, seen in its kernels."""
    options: dict[str, Any] = {"calibration_y": LABELS, "shots": None}
    plain, other = (
        quantum_mac(model, pictures(), crosstalk=c, generator=seeded(), **options) for c in (None, crosstalk)
    )
    kernels = dict(plain.named_buffers())
    return {
        key.removesuffix(".kernel"): value != kernels[key]
        for key, value in other.named_buffers()
        if key.endswith("kernel")
    }


@pytest.mark.parametrize("selection", ["gradient", "lowest", "per-layer", "random"])
def test_selections_are_what_they_are_named_for(selection: Any) -> None:
    model = net()
    names = [name for name, p in model.named_parameters() if name.endswith("weight")]
    loss = F.cross_entropy(model(pictures()), LABELS)
    gradients = torch.autograd.grad(loss, [model.get_parameter(name) for name in names])
    found = disturbed(model, InjectedCrosstalk(0.1, 4, selection))
    flat, marks = torch.cat([g.abs().flatten() for g in gradients]), torch.cat([m.flatten() for m in found.values()])
    total = round(0.1 * len(flat))
    assert list(found) == [name.removesuffix(".weight") for name in names]
    if selection == "gradient":
        assert int(marks.sum()) == total
        assert float(flat[marks].min()) >= float(flat[~marks].max()) * (1 - 1e-5)
    elif selection == "lowest":
        assert float(flat[marks].max()) <= float(flat[~marks].min()) * (1 + 1e-5)
    elif selection == "per-layer":
        for g, m in zip(gradients, found.values(), strict=True):
            assert int(m.sum()) == round(0.1 * g.numel())
            assert float(g.abs()[m].min()) >= float(g.abs()[~m].max()) * (1 - 1e-5)
    else:
        assert int(marks.sum()) == total
        again = disturbed(model, InjectedCrosstalk(0.1, 4, "random"))
        assert all(torch.equal(found[name], again[name]) for name in found)
        sizes = {name: m.double().mean() for name, m in found.items() if m.numel() > 1000}
        assert all(abs(share - 0.1) < 0.05 for share in sizes.values())


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_no_weight_or_every_weight_can_be_disturbed(fraction: float) -> None:
    for selection in ("gradient", "per-layer"):
        found = disturbed(net(), InjectedCrosstalk(fraction, 4, selection))  # type: ignore[arg-type]
        assert all(bool(m.any()) == bool(fraction) for m in found.values())
        if fraction:
            assert all(bool(m.all()) for m in found.values())


# ---- what is refused -------------------------------------------------------------------------------------------------


class Own(nn.Module):
    """Weights of its own beside a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.fc = linear(4, 2, generator=seeded())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x * self.scale)
        return out


class Idle(nn.Module):
    """A layer that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.spare = linear(4, 2, generator=seeded()), linear(4, 2, generator=seeded())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x)
        return out


def broken() -> nn.Module:
    model = net()
    model.get_parameter("fc2.weight").data[3, 5] = math.nan
    return model


def mapped(model: nn.Module, x: Tensor | None = None, **options: Any) -> nn.Module:
    return quantum_mac(model, pictures() if x is None else x, generator=seeded(), **options)


SOME = InjectedCrosstalk(0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mapped(Own(), torch.rand(2, 4)), r"but has the model itself \(Own\): name them in `leave`"),
        (
            lambda: mapped(MODELS["hybrid"]((4,), 2, generator=seeded()), torch.rand(2, 4)),
            r"but has circuit \(QuantumLayer\): name them in `leave`",
        ),
        (
            lambda: mapped(convolution(1, 2, 3, generator=seeded(), padding=1, padding_mode="circular")),
            r"but has the model itself \(Conv2d\)",
        ),
        (lambda: mapped(nn.ReLU()), "`model` must have a Conv2d or Linear to map, but ReLU has none"),
        (lambda: mapped(net(), leave=("conv",)), "Unknown module `conv`: did you mean conv2 or conv1"),
        (lambda: mapped(Idle(), torch.rand(2, 4)), "`model` must run each layer .* does not run spare"),
        (lambda: mapped(broken()), "`model` must have finite weights, but fc2.weight holds NaN"),
        (lambda: mapped(net(), pictures(4, 3, 12, 12)), r"`calibration_x` must .* of shape \(3, 12, 12\)"),
        (lambda: mapped(net(), pictures(4, 1, 16, 16)), r"`calibration_x` must .* of shape \(1, 16, 16\)"),
        (lambda: mapped(net(), pictures()[:0]), "`calibration_x` must be finite inputs of the model, at least one"),
        (lambda: mapped(net(), pictures() * math.nan), "`calibration_x` must be finite inputs"),
        (lambda: mapped(net(), pictures().long()), "`calibration_x` must be finite inputs .* torch.int64"),
        (lambda: mapped(net(), shots=0), "`shots` must"),
        (lambda: mapped(net(), crosstalk=SOME), "`calibration_y` must be the 16 labels .* but is absent"),
        (lambda: mapped(net(), crosstalk=SOME, calibration_y=LABELS[:3]), r"but is torch.int64 \(3,\)"),
        (lambda: mapped(net(), crosstalk=SOME, calibration_y=LABELS + 1), "must hold classes 0 to 3 .* spans 1 to 4"),
        (lambda: mapped(net(), crosstalk=InjectedCrosstalk(0.1, selection="random", ratio=90.0)), "`ratio` must be"),
        (lambda: InjectedCrosstalk(1.1), r"`fraction` must lie in \[0, 1\], but is 1.1"),
        (lambda: InjectedCrosstalk(math.nan), r"`fraction` must lie in \[0, 1\]"),
        (lambda: InjectedCrosstalk(0.1, pairs=-1), "`pairs` must be an integer of at least 0"),
        (lambda: InjectedCrosstalk(0.1, ratio=0.5), "`ratio` must be 1 or more"),
        (lambda: InjectedCrosstalk(0.1, selection="gradients"), "did you mean gradient"),  # type: ignore[arg-type]
        (lambda: InjectedCrosstalk(0.1, variant="random"), "Unknown value of `variant`"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_is_left_stays_classical() -> None:
    noisy = mapped(nn.Sequential(net(), nn.ReLU(), linear(4, 2, generator=seeded())), leave=("0.conv2", "2"))
    classical = {name for name, part in noisy.named_modules() if type(part) in (nn.Conv2d, nn.Linear)}
    assert classical == {"0.conv2", "2"}
    assert isinstance(noisy.get_submodule("0.conv1"), QuantumProducts)
    whole = mapped(nn.Sequential(net(), nn.ReLU(), linear(4, 2, generator=seeded())), leave=("0",))
    assert [name for name, part in whole.named_modules() if isinstance(part, QuantumProducts)] == ["2"]
