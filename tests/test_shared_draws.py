"""Draws that share a pass: the same gradient in the mean, and one draw a pass where they cannot."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from redqubit.evasion import PGD, input_gradient
from redqubit.evasion.shared_draws import ROWS, first_noise, several_draws
from redqubit.models import MODELS, quantum_mac
from redqubit.models.initial import linear


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int) -> Tensor:
    return torch.rand(n, 1, 12, 12, generator=seeded(2))


def lenet(seed: int = 3) -> nn.Module:
    model = MODELS["lenet5"]((1, 12, 12), 4, generator=seeded(1))
    return quantum_mac(model, pictures(16), calibrate_offset=True, generator=seeded(seed)).eval()


class Front(nn.Module):
    """Noise before the network."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.generator = model, seeded(5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x + 0.01 * torch.randn(x.shape, generator=self.generator))
        return out


class Around(nn.Module):
    """A way around the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = linear(6, 6, generator=seeded())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x) + x
        return out


def around() -> nn.Module:
    return quantum_mac(Around(), torch.rand(16, 6, generator=seeded()), generator=seeded())


def test_a_pass_of_several_draws_is_distributed_as_so_many_passes() -> None:
    model, x, y = lenet(), pictures(2), torch.tensor([0, 3])
    many = input_gradient(model, x, y, draws=4096)
    one = torch.stack([input_gradient(model, x, y) for _ in range(1024)])
    error = one.var(0).mul(1 / 1024 + 1 / 4096).sqrt()
    off = ((many - one.mean(0)) / error.clamp(min=1e-12))[error > 1e-9]
    assert float(off.abs().max()) < 6
    assert float(off.square().mean()) < 1.6
    few = torch.stack([input_gradient(model, x, y, draws=64) for _ in range(64)])  # and the draws are independent
    assert float((few.var(0).mean() / one.var(0).mean()).sqrt()) == pytest.approx(1 / 8, rel=0.15)


@pytest.mark.parametrize(("batch", "draws"), [(1, 300), (7, 40), (50, 5), (200, 3)])
def test_passes_hold_as_many_draws_as_fit(batch: int, draws: int) -> None:
    model, x = lenet(), pictures(batch)
    with several_draws(model, x, draws) as passes:
        rows = [(n, len(model(x))) for n in passes]
    assert sum(n for n, _ in rows) == draws
    assert len(rows) == math.ceil(draws / max(1, ROWS // batch))
    assert all(found == n * batch for n, found in rows)
    assert model.conv1.draws == 1
    assert len(model(x)) == batch
    assert not any(part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: Front(lenet()), pictures(3)),
        (around, torch.rand(3, 6, generator=seeded())),
        (around, torch.rand(1, 6, generator=seeded())),
        (lambda: MODELS["lenet5"]((1, 12, 12), 4, generator=seeded()), pictures(3)),
    ],
    ids=["noise in front", "a way around", "a way around one row", "no noise"],
)
def test_other_models_draw_one_at_a_time_or_right(make: Callable[[], nn.Module], x: Tensor) -> None:
    model = make()
    with several_draws(model, x, 4) as passes:
        rows = [(n, len(model(x))) for n in passes]
    assert sum(n for n, _ in rows) == 4
    assert all(found == n * len(x) for n, found in rows)
    if len(x) > 1:
        assert first_noise(model, x) is None
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_draws_are_one_again_after_an_error() -> None:
    model, x = lenet(), pictures(3)
    with pytest.raises(IndexError):
        input_gradient(model, x, torch.tensor([0, 1, 9]), draws=4)
    assert model.conv1.draws == 1


def test_attacks_use_them_and_stay_reproducible() -> None:
    x, y = pictures(5), torch.tensor([0, 1, 2, 3, 0])
    first, again = (PGD(0.2, steps=3, draws=8)(lenet(), x, y, generator=seeded()) for _ in range(2))
    assert torch.equal(first, again)
