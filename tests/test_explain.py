"""Grad-CAM where the answer is known, and the two scores of its maps."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from redqubit.errors import UsageError
from redqubit.explain import cosine, grad_cam, mass_inside


def net() -> nn.Sequential:
    """Two channels of half the size, in-place ReLU, their means, three classes."""
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 2, stride=2), nn.ReLU(inplace=True)),
        nn.Dropout(0.5), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(2, 3),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return model


def pictures(n: int = 5) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_map_is_the_weighted_sum_of_channels(batch_size: int) -> None:
    model, x, y = net(), pictures(), torch.tensor([0, 1, 2, 0, 1])
    maps = grad_cam(model, x, y, layer="0", batch_size=batch_size)
    with torch.no_grad():
        a = model[0](x)  # (N, 2, 4, 4); the logit falls on each place of channel k with weight W_yk / 16
        heat = (model[4].weight[y][:, :, None, None] / 16 * a).sum(1, keepdim=True).relu()
    heat = interpolate(heat, (8, 8), mode="bilinear", align_corners=False)[:, 0]
    top = heat.amax((1, 2), keepdim=True)
    assert torch.allclose(maps, torch.where(top > 0, heat / top, 0.0), atol=1e-5)
    assert (top > 0).any()
    assert maps.shape == (5, 8, 8)


def test_the_model_is_left_as_it_was() -> None:
    model, x = net(), pictures()
    model[4].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    maps = grad_cam(model, x, torch.zeros(5, dtype=torch.int64), layer="0")
    assert not maps.requires_grad
    assert modes == [module.training for module in model.modules()]
    assert [w.requires_grad for w in model.parameters()] == [True, True, False, True]
    assert all(w.grad is None for w in model.parameters())
    assert not x.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    # frozen models are explained the same
    assert torch.equal(maps, grad_cam(model.requires_grad_(False), x, torch.zeros(5, dtype=torch.int64), layer="0"))


def test_mass_inside_a_box() -> None:
    cam = torch.zeros(2, 4, 6)
    cam[0, 3, 5] = 1
    cam[0, 0, 0] = 3
    assert mass_inside(cam[:1], (2, 4, 4, 6)).tolist() == [0.25]
    assert mass_inside(cam[:1], (0, 0, 4, 6)).tolist() == [1]
    assert mass_inside(cam[1:], (0, 0, 4, 6)).isnan().all()


def test_cosine_of_maps() -> None:
    a = torch.rand(3, 4, 4)
    assert torch.allclose(cosine(a, 2 * a), torch.ones(3))
    b = torch.zeros(3, 4, 4)
    assert cosine(a, b).tolist() == [0, 0, 0]


LABELS = torch.zeros(5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grad_cam(net(), pictures(), LABELS, layer="conv"), "Unknown layer `conv`"),
        (lambda: grad_cam(net(), pictures(), LABELS + 3, layer="0"), r"`y` must lie in 0..2, but spans 3 to 3"),
        (lambda: grad_cam(net(), pictures(), LABELS - 1, layer="0"), r"`y` must lie in 0..2"),
        (lambda: grad_cam(net(), pictures(), LABELS[:2], layer="0"), "a label for each"),
        (lambda: grad_cam(net(), pictures(), LABELS, layer="4"), "the output of `4` has 2 axes"),
        (lambda: mass_inside(torch.ones(1, 4, 4), (0, 0, 5, 4)), "inside 4 x 4 pixels"),
        (lambda: mass_inside(torch.ones(1, 4, 4), (2, 2, 2, 4)), "inside 4 x 4 pixels"),
        (lambda: cosine(torch.ones(1, 4, 4), torch.ones(1, 4, 5)), "must have the shape"),
    ],
)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
