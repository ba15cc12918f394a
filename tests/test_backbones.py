"""Backbones and heads: counts of the paper, torchvision's names, functions written apart, files that do not fit."""

import hashlib
import math
import os
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.auditing.subjects import TWINS
from redqubit.data import Dataset, find_weights, load
from redqubit.data.downloads import Remote
from redqubit.data.weights import REMOTES
from redqubit.errors import UsageError
from redqubit.models import (
    BACKBONES,
    HEADS,
    MODELS,
    Backbone,
    FromStage,
    HybridNet,
    HybridTwin,
    load_pretrained,
    on_backbone,
    saturation,
    standardise,
    weight_gradients,
)
from redqubit.models.base import FeatureClassifier

RESNETS = [name for name in MODELS if "resnet" in name]
PUBLISHED = [name for name in BACKBONES if name != "cnn3"]  # those with weights by torchvision's names


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=seeded(seed), dtype=dtype)


def n_weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@cache
def backbone(name: str, n_classes: int | None = None) -> Backbone:
    """Return a backbone in evaluation mode whose batch normalisations are not the identity; not to be changed."""
    made, g = BACKBONES[name](n_classes, generator=seeded()).eval(), seeded(5)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var, module.bias.data, module.running_mean):
                assert values is not None
                values.copy_(0.5 + torch.rand(len(values), generator=g))
    return made


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert ": " in message
    assert len(message) < 500
    return message


# ---- what they are ---------------------------------------------------------------------------------------------------

TOTALS = {  # Table 3 of the paper, and the same sums for 50 layers
    ("resnet18", "hybrid"): 11_181_812,
    ("resnet18", "twin"): 11_181_862,
    ("resnet50", "hybrid"): 23_528_692,
    ("resnet50", "twin"): 23_528_742,
}


@pytest.mark.parametrize(("name", "total"), TOTALS.items())
def test_parameters_are_as_many_as_in_the_paper(name: tuple[str, str], total: int) -> None:
    net = on_backbone(*name, 10, generator=seeded())
    assert n_weights(net) == total
    assert n_weights(net.features) == {"resnet18": 11_176_512, "resnet50": 23_508_032}[name[0]]
    registered = f"hq{name[0]}" + ("_twin" if name[1] == "twin" else "")
    assert n_weights(MODELS[registered]((3, 32, 32), 10, generator=seeded())) == total
    if name[1] == "hybrid":
        assert TWINS[registered] == f"{registered}_twin"


@pytest.mark.parametrize("depth", range(1, 7))
def test_a_layer_of_the_circuit_has_ten_weights(depth: int) -> None:
    net = on_backbone("squeezenet1_0", "hybrid", 10, depth=depth, generator=seeded())
    assert isinstance(net, HybridNet)
    assert n_weights(net.circuit) == 10 * depth
    assert sum(gate.name == "CX" for gate in net.circuit.circuit.gates) == 9 * depth


def resnet_names(name: str, *, with_head: bool) -> set[str]:
    """Return torchvision's parameter names, by their rule."""

    def norm(at: str) -> set[str]:
        return {f"{at}.{x}" for x in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}

    depths, convolutions, widened = ((2, 2, 2, 2), 2, False) if name == "resnet18" else ((3, 4, 6, 3), 3, True)
    found = {"conv1.weight"} | norm("bn1")
    for group, depth in enumerate(depths, start=1):
        for block in range(depth):
            at = f"layer{group}.{block}"
            for c in range(1, convolutions + 1):
                found |= {f"{at}.conv{c}.weight"} | norm(f"{at}.bn{c}")
            if block == 0 and (group > 1 or widened):
                found |= {f"{at}.downsample.0.weight"} | norm(f"{at}.downsample.1")
    return found | ({"fc.weight", "fc.bias"} if with_head else set())


def squeezenet_names(*, with_head: bool) -> set[str]:
    convolutions = ["features.0"] + (["classifier.1"] if with_head else [])
    for place in (3, 4, 5, 7, 8, 9, 10, 12):
        convolutions += [f"features.{place}.{part}" for part in ("squeeze", "expand1x1", "expand3x3")]
    return {f"{at}.{x}" for at in convolutions for x in ("weight", "bias")}


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_named_as_torchvision_names_them(name: str, with_head: bool) -> None:
    state = BACKBONES[name](10 if with_head else None, generator=seeded()).state_dict()
    if name == "squeezenet1_0":
        assert set(state) == squeezenet_names(with_head=with_head)
    else:
        assert set(state) == resnet_names(name, with_head=with_head)
    # torchvision counts these for 1000 classes
    totals = {"resnet18": 11_689_512, "resnet50": 25_557_032, "squeezenet1_0": 1_248_424}
    if with_head:
        assert n_weights(BACKBONES[name](1000, generator=seeded())) == totals[name]


# ---- what they compute -----------------------------------------------------------------------------------------------


def functional(name: str, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return pooled features by a function of the named weights, batch normalisation by its formula."""

    def norm(at: str, x: Tensor) -> Tensor:
        scale = w[f"{at}.weight"] / torch.sqrt(w[f"{at}.running_var"] + 1e-5)
        shift = w[f"{at}.bias"] - w[f"{at}.running_mean"] * scale
        return x * scale[None, :, None, None] + shift[None, :, None, None]

    def conv(at: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, w[f"{at}.weight"], w.get(f"{at}.bias"), stride, padding)

    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = torch.cat([(x[:, c % x.shape[1]] - mean[c])[:, None] / sd[c] for c in range(3)], 1)
    if name == "squeezenet1_0":
        x = conv("features.0", x, 2).relu()
        for place in range(2, 13):
            if place in (2, 6, 11):
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            else:
                z = conv(f"features.{place}.squeeze", x).relu()
                wide = conv(f"features.{place}.expand3x3", z, padding=1)
                x = torch.cat([conv(f"features.{place}.expand1x1", z), wide], 1).relu()
        return x.mean((2, 3))
    x = F.max_pool2d(norm("bn1", conv("conv1", x, 2, 3)).relu(), 3, 2, 1)
    for group, depth in enumerate((2, 2, 2, 2) if name == "resnet18" else (3, 4, 6, 3), start=1):
        for block in range(depth):
            at, stride = f"layer{group}.{block}", 2 if group > 1 and block == 0 else 1
            if name == "resnet18":
                z = norm(f"{at}.bn1", conv(f"{at}.conv1", x, stride, 1)).relu()
                z = norm(f"{at}.bn2", conv(f"{at}.conv2", z, 1, 1))
            else:
                z = norm(f"{at}.bn1", conv(f"{at}.conv1", x)).relu()
                z = norm(f"{at}.bn2", conv(f"{at}.conv2", z, stride, 1)).relu()
                z = norm(f"{at}.bn3", conv(f"{at}.conv3", z))
            if f"{at}.downsample.0.weight" in w:
                x = norm(f"{at}.downsample.1", conv(f"{at}.downsample.0", x, stride))
            x = (x + z).relu()
    return x.mean((2, 3))


@pytest.mark.parametrize("shape", [(1, 33, 40), (3, 37, 32)])
@pytest.mark.parametrize("name", PUBLISHED)
def test_features_equal_a_function_of_the_named_weights(name: str, shape: tuple[int, int, int]) -> None:
    net, x = backbone(name), pictures(2, *shape)
    with torch.no_grad():
        wanted = functional(name, net.state_dict(), x)
        got = net(x)
    assert got.shape == (2, net.n_features)
    assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def test_own_heads_are_linear_or_a_convolution() -> None:
    x = pictures(2, 3, 32, 32)
    with torch.no_grad():
        net = backbone("resnet18", 7)
        pooled = functional("resnet18", net.state_dict(), x)
        assert torch.allclose(net(x), F.linear(pooled, net.fc.weight, net.fc.bias), rtol=1e-3, atol=1e-3)
        net = backbone("squeezenet1_0", 7)
        maps = net.forward_features(x)
        w = net.state_dict()
        logits = torch.einsum("bchw,kc->bkhw", maps, w["classifier.1.weight"][:, :, 0, 0]).relu().mean((2, 3))
        assert torch.allclose(net(x), logits, atol=1e-5)
        assert torch.allclose(maps.mean((2, 3)), functional("squeezenet1_0", w, x), atol=1e-5)


def test_colours_are_normalised_inside_and_grey_is_three_equal_channels() -> None:
    net, grey = backbone("resnet18"), pictures(2, 1, 20, 20)
    with torch.no_grad():
        assert torch.allclose(net(grey), net(grey.expand(-1, 3, -1, -1)), atol=1e-5)
    for wrong in (pictures(2, 2, 20, 20), pictures(2, 20, 20)):
        with pytest.raises(UsageError, match="must be pictures"):
            net(wrong)


def test_initial_weights_are_he_normal() -> None:
    net = BACKBONES["resnet18"](generator=seeded())
    for name, p in net.named_parameters():
        if p.ndim == 4:
            wanted = math.sqrt(2 / (p.shape[0] * p.shape[2] * p.shape[3]))
            assert float(p.detach().std()) == pytest.approx(wanted, rel=5 / math.sqrt(2 * p.numel())), name


# ---- the contract of registered models, with batch normalisation -----------------------------------------------------


@pytest.mark.parametrize("name", RESNETS)
def test_registered_resnets_keep_the_contract(name: str) -> None:
    before = torch.get_rng_state()
    model = MODELS[name]((1, 16, 16), 3, generator=seeded()).eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(model, FeatureClassifier)
    x = pictures(3, 1, 16, 16).requires_grad_()
    logits = model(x)
    assert logits.shape == (3, 3)
    assert torch.equal(logits, model.forward_head(model.forward_features(x)))
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (slope.flatten(1).abs().sum(1) > 0).all()
    with torch.no_grad():
        assert torch.allclose(torch.cat([model(row[None]) for row in x]), logits, atol=1e-3)
    assert (MODELS[name].__doc__ or "").startswith("Return ")
    for wrong in ((4,), (2, 16, 16)):
        with pytest.raises(UsageError, match="Argument `input_shape`") as error:
            MODELS[name](wrong, 3, generator=seeded())
        one_line(error)


def test_models_of_one_seed_share_their_backbone_and_first_map() -> None:
    nets = {head: on_backbone("squeezenet1_0", head, 4, generator=seeded(3)) for head in HEADS}
    again, other = (on_backbone("squeezenet1_0", "hybrid", 4, generator=seeded(s)) for s in (3, 4))
    one = nets["hybrid"].state_dict()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in one.items())
    assert not torch.equal(one["down.weight"], other.state_dict()["down.weight"])
    for net in nets.values():
        for key, value in net.state_dict().items():
            if key.startswith(("features.", "down.")):
                assert torch.equal(value, one[key])


# ---- heads -----------------------------------------------------------------------------------------------------------


def test_prodsin_is_a_product_of_sines() -> None:
    """With weights 0 the circuit is CX alone: <Z_i> is the product of -sin(q_j) over the light cone of Z_i."""
    net = on_backbone("squeezenet1_0", "prodsin", 10, generator=seeded())
    assert isinstance(net, HybridNet)
    assert not net.circuit.weights.requires_grad
    assert not net.circuit.weights.any()
    features = 3 * torch.randn(6, 512, generator=seeded(2))
    # bits rather than sets: row i marks the wires whose Z is in the product, pulled back through CX, last gate first
    cone = [[i == j for j in range(10)] for i in range(10)]
    for control, target in reversed(6 * [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (1, 2), (3, 4), (5, 6), (7, 8)]):
        for row in cone:
            row[control] ^= row[target]
    with torch.no_grad():
        q = torch.tanh(features @ net.down.weight.T + net.down.bias) * math.pi / 2
        z = torch.stack([torch.prod(-torch.sin(q[:, torch.tensor(row)]), 1) for row in cone], 1)
        assert torch.allclose(net.forward_head(features), z @ net.up.weight.T + net.up.bias, atol=1e-5)
    assert any(sum(row) > 1 for row in cone)  # otherwise it would be the sine twin
    net.forward_head(features).square().sum().backward()
    assert net.circuit.weights.grad is None
    assert net.down.weight.grad is not None
    assert float(net.down.weight.grad.abs().sum()) > 0


def test_classical_heads_are_the_formulas_they_are_named_for() -> None:
    features = torch.randn(6, 512, generator=seeded(2))
    for head, middle in (("twin", True), ("twin_linear", True), ("tanh", False), ("sine", False)):
        net = on_backbone("squeezenet1_0", head, 10, generator=seeded())
        w = net.state_dict()
        with torch.no_grad():
            z = features @ w["down.weight"].T + w["down.bias"]
            if head != "twin_linear":
                z = torch.tanh(z)
            if head == "sine":
                z = torch.sin(math.pi / 2 * z)
            if middle:
                z = z @ w["middle.weight"].T + w["middle.bias"]
            assert torch.allclose(net.forward_head(features), z @ w["up.weight"].T + w["up.bias"], atol=1e-5), head
        assert n_weights(net) - n_weights(net.features) == 5130 + 110 + (110 if middle else 0)


def test_a_net_without_nonlinearity_collapses_to_one_map_of_low_rank() -> None:
    net = on_backbone("squeezenet1_0", "twin_linear", 12, n_qubits=3, generator=seeded()).double()
    eye = torch.eye(512, dtype=torch.float64)
    with torch.no_grad():
        slope = net.forward_head(eye) - net.forward_head(torch.zeros_like(eye))
    assert int(torch.linalg.matrix_rank(slope)) == 3


def test_training_the_head_alone_leaves_the_backbone() -> None:
    net = on_backbone("resnet18", "hybrid", 10, generator=seeded())
    net.features.requires_grad_(False).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.01)
    F.cross_entropy(net(pictures(4, 3, 16, 16)), torch.arange(4)).backward()
    optimizer.step()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"down.weight", "down.bias", "circuit.weights", "up.weight", "up.bias"}
    assert all(p.grad is None for p in net.features.parameters())


@pytest.mark.parametrize("wrong", [{"n_qubits": 0}, {"depth": 0}])
def test_heads_without_qubits_or_layers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="must be 1 or more"):
        on_backbone("resnet18", "hybrid", 10, generator=seeded(), **wrong)


def test_unknown_names_are_told_by_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean resnet18"):
        on_backbone("resnet81", "hybrid", 10, generator=seeded())
    with pytest.raises(UsageError, match="did you mean prodsin"):
        on_backbone("resnet18", "prodsine", 10, generator=seeded())


# ---- standardisation and saturation ----------------------------------------------------------------------------------


def test_standardised_features_have_mean_0_and_sd_1_on_the_training_pictures() -> None:
    net = on_backbone("resnet18", "twin", 4, generator=seeded())
    x = pictures(12, 3, 16, 16) * torch.linspace(0.1, 1, 12)[:, None, None, None]
    net.features.backbone.layer4[-1].bn2.weight.data[:5] = 0
    net.eval()
    with torch.no_grad():
        pooled = net.features.backbone(x)
        assert torch.equal(net.forward_features(x), pooled)  # nothing is changed before
    net.train()
    net.features.backbone.bn1.eval()
    modes = [m.training for m in net.modules()]
    counts = net.features.backbone.bn1.num_batches_tracked.clone()
    standardise(net, x, batch_size=5)
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(net.features.backbone.bn1.num_batches_tracked, counts)
    net.eval()
    with torch.no_grad():
        features = net.forward_features(x).double()
    varies = pooled.std(0) > 1e-3
    assert varies.any()
    assert float(features[:, varies].mean(0).abs().max()) < 1e-3
    assert torch.allclose(features[:, varies].std(0, correction=0), torch.ones(int(varies.sum())).double(), atol=1e-2)
    assert torch.isfinite(features).all()
    assert {"features.mean", "features.scale"} <= set(net.state_dict())
    standardise(net, x)  # of pooled features again, not of standardised ones
    with torch.no_grad():
        assert torch.allclose(net.forward_features(x).double(), features, atol=1e-2)
    with pytest.raises(UsageError, match="must be a head on a backbone"):
        standardise(backbone("resnet18"), x)


def test_features_that_never_vary_keep_their_scale() -> None:
    net = on_backbone("squeezenet1_0", "tanh", 4, generator=seeded())
    standardise(net, torch.full((4, 3, 32, 32), 0.3))
    assert torch.equal(net.features.scale, torch.ones(512))


def test_saturation_counts_units_whose_tanh_is_near_one() -> None:
    net = HybridTwin(nn.Flatten(), 4, 2, width=4, generator=seeded())
    with torch.no_grad():
        net.down.weight.copy_(torch.eye(4))
        net.down.bias.zero_()
    edge = math.atanh(0.99)
    x = torch.tensor([[0.0, edge - 0.01, edge + 0.01, -5.0], [1.0, 9.0, 9.0, 9.0]])
    assert saturation(net, x) == 5 / 8
    assert saturation(net, x, at=0.5, batch_size=1) == 7 / 8
    linear = HybridTwin(nn.Flatten(), 4, 2, activation="none", generator=seeded())
    assert saturation(linear, 100 * x) == 0


def test_large_features_saturate_a_bottleneck_and_standardised_ones_do_not() -> None:
    net = on_backbone("squeezenet1_0", "hybrid", 10, generator=seeded())
    with torch.no_grad():
        net.features.backbone.features[0].weight.mul_(100)
    x = pictures(16, 3, 24, 24)
    assert saturation(net, x) > 0.5
    standardise(net, x)
    assert saturation(net, x) < 0.2


# ---- a model cut at a stage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "stage"), [("resnet18", "layer4"), ("squeezenet1_0", "features.7")])
def test_a_model_from_a_stage_on_is_the_model(name: str, stage: str) -> None:
    net, x = on_backbone(name, "hybrid", 4, generator=seeded()), pictures(5, 3, 32, 32)
    standardise(net, x)
    late = FromStage(net, stage).eval()
    with torch.no_grad():
        maps = late.front(x)
        assert torch.allclose(late(maps), net(x), atol=1e-5)
    late.train()
    F.cross_entropy(late(maps), torch.arange(5) % 4).backward()
    assert all((p.grad is None) == (not p.requires_grad) for p in net.parameters())
    stages = net.features.backbone.stages()
    place = list(stages).index(stage)
    frozen = {id(p) for module in list(stages.values())[:place] for p in module.parameters()}
    assert {id(p) for p in net.parameters() if not p.requires_grad} == frozen
    torch.optim.Adam([p for p in late.parameters() if p.requires_grad], lr=0.01).step()
    with torch.no_grad():
        assert torch.equal(late.front(x), maps)  # in training mode too
        assert torch.allclose(late.eval()(maps), net(x), atol=1e-5)  # trained in place


def test_a_backbone_with_its_own_head_can_be_cut_too() -> None:
    net, x = BACKBONES["resnet18"](5, generator=seeded()).eval(), pictures(2, 3, 32, 32)
    late = FromStage(net, "layer3")
    with torch.no_grad():
        assert torch.allclose(late(late.front(x)), net(x), atol=1e-4)
    with pytest.raises(UsageError, match="did you mean layer"):
        FromStage(net, "layer5")
    with pytest.raises(UsageError, match="must be a head on a backbone"):
        FromStage(HybridTwin(nn.Flatten(), 4, 2, generator=seeded()), "layer1")


@pytest.mark.parametrize("name", list(BACKBONES))
def test_the_last_block_gives_the_map_that_is_pooled(name: str) -> None:
    net, kept = backbone(name), list[Tensor]()
    handle = net.last_block.register_forward_hook(lambda module, given, out: kept.append(out))
    with torch.no_grad():
        pooled = net(pictures(2, 3, 40, 40))
    handle.remove()
    assert torch.allclose(kept[0].mean((2, 3)), pooled, rtol=1e-4, atol=1e-4)


# ---- weights from files ----------------------------------------------------------------------------------------------


def state_of(name: str = "squeezenet1_0", n_classes: int | None = 1000) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in backbone(name, n_classes).state_dict().items()}


def equal_states(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_files_of_both_kinds_load_with_and_without_their_head(tmp_path: Path) -> None:
    state = state_of()
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth")
    for file in (tmp_path / "a.safetensors", tmp_path / "a.pth"):
        bare = BACKBONES["squeezenet1_0"](generator=seeded(9))
        load_pretrained(bare, file)
        assert equal_states(bare.state_dict(), state)
        full = BACKBONES["squeezenet1_0"](1000, generator=seeded(9))
        load_pretrained(full, file)
        assert equal_states(full.state_dict(), state)
        ten = BACKBONES["squeezenet1_0"](10, generator=seeded(9))
        drawn = ten.classifier[1].weight.clone()
        load_pretrained(ten, file)
        assert torch.equal(ten.classifier[1].weight, drawn)
        assert torch.equal(ten.features[0].weight, state["features.0.weight"])
    net = on_backbone("squeezenet1_0", "hybrid", 10, weights=tmp_path / "a.pth", generator=seeded())
    assert equal_states(net.features.backbone.state_dict(), state)


def test_half_precision_and_old_files_without_counters_load(tmp_path: Path) -> None:
    state = state_of("resnet18")
    old = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    net = BACKBONES["resnet18"](generator=seeded(9))
    load_pretrained(net, tmp_path / "old.pth")
    assert net.conv1.weight.dtype == torch.float32
    x = pictures(2, 3, 24, 24)
    with torch.no_grad():
        wanted = functional("resnet18", state, x)
        assert torch.allclose(net.eval()(x), wanted, rtol=0.05, atol=0.02 * float(wanted.abs().max()))


class Payload:
    """What must never run: unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def broken_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Return files by what is wrong with them, and what the error says."""
    state = state_of()

    def saved(name: str, content: object) -> Path:
        torch.save(content, folder / name)
        return folder / name

    (folder / "noise.safetensors").write_bytes(b"\x07" * 300)
    whole = saved("whole.pth", state).read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pth").touch()
    first = {k: v for k, v in state.items() if k != "features.0.weight"}
    return {
        "absent": (folder / "gone.pth", "is not there"),
        "a folder": (folder, "is not there"),
        "noise": (folder / "noise.safetensors", "cannot be read"),
        "cut": (folder / "cut.pth", "cannot be read"),
        "empty": (folder / "empty.pth", "cannot be read"),
        "code": (saved("code.pth", {"a": Payload(folder / "ran")}), "cannot be read"),
        "a list": (saved("list.pth", [1, 2]), "other things than tensors"),
        "nested": (saved("nested.pth", {"state_dict": state}), "other things than tensors"),
        "a missing tensor": (saved("missing.pth", first), "lacks features.0.weight"),
        "another net": (saved("resnet.pth", state_of("resnet18")), "more: name the file of this backbone"),
        "one too many": (saved("more.pth", state | {"extra": torch.zeros(1)}), "has extra too many"),
        "a wrong shape": (
            saved("shape.pth", state | {"features.0.bias": torch.zeros(95)}),
            r"has features.0.bias of shape \(95,\) for \(96,\)",
        ),
    }


def test_files_that_cannot_be_used_are_told_in_one_line(tmp_path: Path) -> None:
    for what, (file, told) in broken_files(tmp_path).items():
        net = BACKBONES["squeezenet1_0"](generator=seeded())
        before = {k: v.clone() for k, v in net.state_dict().items()}
        with pytest.raises(UsageError, match=told) as error:
            load_pretrained(net, file)
        assert str(file) in one_line(error), what
        assert "weights_only" not in str(error.value)  # never advise to run what is in a file
        assert equal_states(before, net.state_dict()), what  # nothing is half loaded
    assert not (tmp_path / "ran").exists()


# ---- weights found and fetched ---------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Serve a file of weights under ResNet-18's name from this machine; yield the paths asked for."""
    torch.save(state_of("resnet18"), tmp_path / "published.pth")
    content, asked = (tmp_path / "published.pth").read_bytes(), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url, digest = f"http://127.0.0.1:{httpd.server_port}/r18.pth", hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(REMOTES, "resnet18", Remote("r18.pth", (url,), f"sha256:{digest}"))
    monkeypatch.setitem(REMOTES, "resnet50", Remote("r50.pth", (url,), "sha256:" + "0" * 64))
    yield asked
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_weights_are_downloaded_once_checked_and_load(served: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"r18.pth is in none of .* allow the download"):
        find_weights("resnet18", data_dir=folder, download=False)
    assert not served
    file = find_weights("resnet18", data_dir=folder)
    assert file == folder / "weights" / "r18.pth"
    assert find_weights("resnet18", data_dir=folder) == file
    assert served == ["/r18.pth"]
    net = on_backbone("resnet18", "hybrid", 10, weights=file, generator=seeded())
    assert equal_states(net.features.backbone.state_dict(), state_of("resnet18"))
    with pytest.raises(UsageError, match="checksum is not sha256:00") as error:
        find_weights("resnet50", data_dir=folder)
    one_line(error)
    assert not (folder / "weights" / "r50.pth").exists()


def test_weights_lie_in_the_data_folder_or_in_weights_in_or_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    name = "squeezenet1_0_imagenet.safetensors"
    with pytest.raises(UsageError, match=r"copy one there \(it cannot be downloaded\)") as error:
        find_weights("squeezenet1_0", data_dir=data)
    assert "\n" not in str(error.value)
    for place in (tmp_path / "weights", data / "weights", data):  # each stands before the ones above
        place.mkdir(exist_ok=True)
        (place / name).touch()
        assert find_weights("squeezenet1_0", data_dir=data) == place / name
        monkeypatch.setenv("REDQUBIT_DATA", str(data))
        assert find_weights("squeezenet1_0") == place / name
    with pytest.raises(UsageError, match="did you mean resnet18"):
        find_weights("resnet17")


def test_published_addresses_carry_the_start_of_their_checksum() -> None:
    for name in ("resnet18", "resnet50"):
        remote = REMOTES[name]
        assert remote is not None
        digest = remote.checksum.removeprefix("sha256:")
        assert len(digest) == 64
        assert remote.urls == (f"https://download.pytorch.org/models/{name}-{digest[:8]}.pth",)


@pytest.fixture(scope="module")
def imagenette() -> Dataset:
    try:
        return load("imagenette", split="test", download=False)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def published() -> Path:
    try:
        return find_weights("squeezenet1_0")
    except UsageError as error:
        pytest.skip(str(error))


def test_published_squeezenet_knows_imagenette(published: Path, imagenette: Dataset) -> None:
    test = imagenette
    chosen = torch.cat([(test.y == c).nonzero()[:5, 0] for c in range(10)])
    net = BACKBONES["squeezenet1_0"](1000, generator=seeded()).eval()
    load_pretrained(net, published)
    places = torch.tensor([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])  # of the ten classes among ImageNet's
    with torch.no_grad():
        guessed = net(test.x[chosen])[:, places].argmax(1)
        plain = net(test.x[chosen] * torch.tensor(0.229) + 0.485)[:, places].argmax(1)
    accuracy = float((guessed == test.y[chosen]).double().mean())
    assert accuracy > 0.6
    assert accuracy > float((plain == test.y[chosen]).double().mean())  # normalisation is inside, and is needed


def test_published_squeezenet_saturates_until_it_is_standardised(published: Path, imagenette: Dataset) -> None:
    net = on_backbone("squeezenet1_0", "tanh", 10, weights=published, generator=seeded())
    small = F.interpolate(imagenette.x[:40], size=64, mode="bilinear", antialias=True).clamp(0, 1)
    assert saturation(net, small) > 0.5
    standardise(net, small)
    assert saturation(net, small) < 0.2


# ---- gradients of weights --------------------------------------------------------------------------------------------


def test_gradient_statistics_equal_a_backward_pass() -> None:
    net = on_backbone("squeezenet1_0", "hybrid", 4, depth=2, generator=seeded()).train()
    x, y = pictures(7, 3, 24, 24), torch.arange(7) % 4
    names = ["down.weight", "circuit.weights", "up.weight", "features"]
    found = weight_gradients(net, x, y, names, batch_size=3)
    assert all(p.grad is None for p in net.parameters())
    assert net.training
    F.cross_entropy(net.eval()(x), y).backward()
    parameters = dict(net.named_parameters())
    for name, got in found.items():
        if name == "total":
            members = list(parameters.values())
        else:
            members = [p for k, p in parameters.items() if k == name or k.startswith(name + ".")]
        every = [v for p in members if p.grad is not None for v in p.grad.flatten().tolist()]
        assert got.n_weights == len(every)
        assert got.norm == pytest.approx(math.sqrt(sum(v * v for v in every)), rel=1e-4)
        assert got.mean == pytest.approx(math.fsum(every) / len(every), rel=1e-3, abs=1e-6)
        assert got.maximum == pytest.approx(max(every), rel=1e-3)
        assert got.minimum == pytest.approx(min(every), rel=1e-3)
    assert [found[k].n_weights for k in names[:3]] == [5120, 20, 40]
    assert found["total"].n_weights == 735_424 + 5130 + 20 + 44


def test_groups_by_default_are_the_parts_that_train() -> None:
    net = on_backbone("resnet18", "prodsin", 4, generator=seeded())
    net.features.requires_grad_(False)
    found = weight_gradients(net, pictures(4, 3, 16, 16), torch.arange(4))
    assert list(found) == ["total", "down", "up"]
    assert found["total"].n_weights == 5130 + 44
    with pytest.raises(UsageError, match="circuit has none"):
        weight_gradients(net, pictures(4, 3, 16, 16), torch.arange(4), ["circuit"])
    with pytest.raises(UsageError, match="at least one sample"):
        weight_gradients(net, pictures(0, 3, 16, 16), torch.arange(0))


def test_statistics_do_not_depend_on_batches_under_batch_normalisation() -> None:
    net = on_backbone("resnet18", "twin", 4, generator=seeded()).train()
    x, y = pictures(6, 3, 16, 16), torch.arange(6) % 4
    one, two = (weight_gradients(net, x, y, batch_size=size)["total"] for size in (6, 2))
    assert one.norm == pytest.approx(two.norm, rel=1e-3)
    assert net.features.backbone.bn1.num_batches_tracked == 0
