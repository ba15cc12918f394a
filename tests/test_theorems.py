"""The bounds of docs/theorems.md: closed forms, counting, and a small model on which the printed ones fail."""

import math
import sys
from pathlib import Path

import pytest
import torch
from scipy.stats import binom
from torch import nn

from redqubit.models import MODELS
from redqubit.models.hybrid import HybridNet

FOLDER = Path(__file__).parent.parent / "docs"
if not FOLDER.is_dir():
    pytest.skip("the package is installed without its documentation", allow_module_level=True)
sys.path.append(str(FOLDER))

import theorems  # noqa: E402


@pytest.mark.parametrize(("m", "share"), [(20, 0.3), (200, 0.05), (1000, 0.5)])
def test_hoeffding_holds_for_coins(m: int, share: float) -> None:
    """The chance that m coins, each a loss of 3 with probability `share`, exceed their mean by more is exact here."""
    radius = theorems.hoeffding(3.0, m, 0.05)
    chance = binom.sf(math.ceil(m * (share + radius / 3)) - 1, m, share)
    assert 0 < chance <= 0.05
    assert theorems.hoeffding(1.0, 1000, 0.05 / 2) == pytest.approx(0.043, abs=1e-4)


def test_the_largest_loss_is_reached_with_two_classes_and_by_none_exceeded() -> None:
    generator = torch.Generator().manual_seed(0)
    for n_classes in (2, 5):
        up = nn.Linear(3, n_classes)
        with torch.no_grad():
            up.weight.normal_(generator=generator)
            up.bias.normal_(generator=generator)
            corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
            z = torch.cat([corners, 2 * torch.rand(500, 3, generator=generator) - 1])
            worst = float(theorems.losses(up(z)).max())
        bound = theorems.largest_loss(up, theorems.TARGET)
        assert worst == pytest.approx(bound, rel=1e-6) if n_classes == 2 else worst < bound


def test_the_least_norm_of_known_deviations() -> None:
    """Of uniform deviations in [0, 1] a share u is exceeded by 1 - u: eps = 0.9, and c^-1(eps) = 1 - exp(-0.9)."""
    found = theorems.least_norm(torch.linspace(0, 1, 10001), 0.1)
    assert found == pytest.approx((1 - math.exp(-0.9), 2 * (1 - math.exp(-1.8))), abs=1e-4)


def test_an_output_moves_no_more_than_the_page_says() -> None:
    model = MODELS["hybrid"]((1, 8, 8), 10, generator=torch.Generator().manual_seed(0))
    assert isinstance(model, HybridNet)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.circuit.weights.uniform_(0, 2 * math.pi, generator=generator)
        x, t = (torch.rand(300, 64, generator=generator) for _ in range(2))
        t = 0.02 * (2 * t - 1)
        moved = (theorems._features(model, x + t) - theorems._features(model, x)).abs().amax(1)
        allowed = math.pi / 2 * (t @ model.down.weight.T).abs().sum(1)
    assert (moved <= allowed).all()
    assert (moved / allowed).max() > 0.3


def test_the_printed_bound_fails_and_the_other_holds(tmp_path: Path) -> None:
    strengths = [0.02, 0.25, 0.5, 0.75, 1.0]
    found = theorems.measure(theorems.backdoored(1, epochs=20), 1, strengths)
    assert found.norms == strengths
    assert found.success[-1] > 0.6
    assert all(low < mean for low, mean in zip(found.holds, found.mean, strict=True))
    assert found.holds[0] > 3
    assert all(printed > mean + 2 for printed, mean in zip(found.printed[1:], found.mean[1:], strict=True))
    # on its way over the trigger succeeds on more pictures, below what the second theorem demands
    assert found.success == sorted(found.success)
    assert max(found.norms) < min(found.least)
    assert found.far < theorems.RARE
    theorems.draw([found] * 3, tmp_path / "theorems.png")
    assert (tmp_path / "theorems.png").read_bytes().startswith(b"\x89PNG")
