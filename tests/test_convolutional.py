"""LeNet-5, AlexNet and VGG16: their sizes, published names, and the contract of registered models."""

import copy
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.models import MODELS, FeatureClassifier

# name: the least input, and weights of each layer at the size of the papers' data, counted by hand
LEAST = {"lenet5": (1, 12, 12), "alexnet": (3, 15, 15), "vgg16": (3, 32, 32)}
CONVOLUTIONS = [
    (3, 64),
    (64, 64),
    (64, 128),
    (128, 128),
    (128, 256),
    (256, 256),
    (256, 256),
    (256, 512),
    *[(512, 512)] * 5,
]
SIZES = {
    "lenet5": (
        (1, 28, 28),
        10,
        61_706,
        5 * 5 * 6 + 6 + 6 * 25 * 16 + 16 + 400 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10,
    ),
    "alexnet": (
        (3, 32, 32),
        10,
        23_272_266,
        sum(9 * a * b + b for a, b in ((3, 64), (64, 192), (192, 384), (384, 256), (256, 256)))
        + (256 * 4 + 1) * 4096
        + 4097 * 4096
        + 4097 * 10,
    ),
    "vgg16": (
        (3, 32, 32),
        100,
        15_299_748,
        sum(9 * a * b + 3 * b for a, b in CONVOLUTIONS) + 2 * 513 * 512 + 513 * 100,
    ),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(name: str, seed: int = 0, shape: Sequence[int] | None = None, n_classes: int = 3) -> nn.Module:
    return MODELS[name](shape or LEAST[name], n_classes, generator=seeded(seed)).eval()


def pictures(n: int, *shape: int) -> Tensor:
    return torch.rand(n, *shape, generator=seeded(5))


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_counted_by_hand(name: str) -> None:
    shape, n_classes, published, counted = SIZES[name]
    model = make(name, 0, shape, n_classes)
    assert sum(p.numel() for p in model.parameters()) == published == counted
    assert model(pictures(2, *shape)).shape == (2, n_classes)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("lenet5", {"conv1", "conv2", "fc1", "fc2", "fc3"}),
        ("alexnet", {f"features.{i}" for i in (0, 3, 6, 8, 10)} | {f"classifier.{i}" for i in (1, 4, 6)}),
        (
            "vgg16",
            {f"features.{i}" for i in (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)}
            | {f"features.{i + 1}" for i in (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)}
            | {f"classifier.{i}" for i in (0, 3, 6)},
        ),
    ],
)
def test_names_are_the_published_ones(name: str, places: set[str]) -> None:
    """torchvision's alexnet and vgg16_bn; it has no LeNet."""
    assert {re.sub(r"\.\w+$", "", key) for key in make(name).state_dict()} == places


@pytest.mark.parametrize("name", LEAST)
def test_they_keep_the_contract_of_registered_models(name: str, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    model, again, other = make(name), make(name).state_dict(), make(name, 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again[key]) for key, value in model.state_dict().items())
    assert isinstance(model, FeatureClassifier)
    assert (MODELS[name].__doc__ or "").startswith("Return ")
    x = pictures(3, *LEAST[name]).requires_grad_()
    logits = model(x)
    assert logits.shape == (3, 3)
    assert torch.equal(logits, model.forward_head(model.forward_features(x)))
    assert model.forward_features(x).ndim == 2
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (slope.flatten(1).abs().sum(1) > 0).all()
    with torch.no_grad():
        assert torch.allclose(torch.cat([model(row[None]) for row in x]), logits, atol=1e-4)
        double = copy.deepcopy(model).double()(x.double())
        assert torch.allclose(double.float(), logits, atol=1e-4)
        assert not torch.allclose(other(x), logits, atol=1e-3)
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(other(x), logits)
    model.train()(x).square().sum().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in model.parameters() if p.ndim > 1)


@pytest.mark.parametrize("name", LEAST)
def test_inputs_that_do_not_fit_are_refused(name: str) -> None:
    c, side, _ = LEAST[name]
    for wrong in ((4,), (c, side - 1, side), (c, side, side - 1)):
        with pytest.raises(UsageError, match=r"input_shape|Images must be at least") as caught:
            make(name, 0, wrong)
        assert "\n" not in str(caught.value)
    oblong = (c, side + 3, side + 9)
    assert make(name, 0, oblong)(pictures(2, *oblong)).shape == (2, 3)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_grey_pictures_are_taken_as_three_equal_channels(name: str) -> None:
    grey = (1, *LEAST[name][1:])
    model, x = make(name, 0, grey), pictures(2, *grey)
    assert torch.allclose(model(x), model(x.expand(-1, 3, -1, -1)), atol=1e-5)
