"""Attacks against Foolbox, which was written apart from this package, and against closed forms."""

from collections.abc import Callable
from dataclasses import replace

import foolbox
import numpy as np
import pytest
import torch
from foolbox.attacks import FGSM as FoolboxFGSM
from foolbox.attacks import LinfProjectedGradientDescentAttack as FoolboxPGD
from torch import Tensor, nn

from redqubit.evasion import ATTACKS, FGSM, MIM, PGD, EvasionAttack, Square

N, CLASSES = 20, 4


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fill(model: nn.Module) -> nn.Module:
    generator = seeded(1)
    for weight in model.double().eval().parameters():
        weight.data.copy_(torch.randn(weight.shape, dtype=weight.dtype, generator=generator) * 0.5)
    return model


def conv_net() -> nn.Module:
    layers = nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27, CLASSES)
    return fill(nn.Sequential(*layers))


def linear() -> nn.Module:
    return fill(nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)))


def data() -> tuple[Tensor, Tensor]:
    return torch.rand(N, 1, 8, 8, dtype=torch.float64, generator=seeded(2)), torch.arange(N) % CLASSES


def start(x: Tensor, eps: float) -> Tensor:
    """The random start that PGD draws from a generator with seed 7."""
    return (x + eps * (2 * torch.rand(x.shape, dtype=x.dtype, generator=seeded(7)) - 1)).clamp(0, 1)


class FoolboxPGDFromStart(FoolboxPGD):
    def get_random_start(self, x0, epsilon):  # type: ignore[no-untyped-def]
        return type(x0)(start(x0.raw, epsilon))


def criterion(y: Tensor, targeted: bool) -> foolbox.criteria.Criterion:
    return foolbox.criteria.TargetedMisclassification(y) if targeted else foolbox.criteria.Misclassification(y)


@pytest.mark.parametrize("make_model", [conv_net, linear])
@pytest.mark.parametrize("eps", [0.03, 0.3])
@pytest.mark.parametrize(
    ("ours", "theirs", "targeted"),
    [
        (FGSM(), FoolboxFGSM(), False),  # has no targeted form
        (PGD(random_start=False), FoolboxPGD(rel_stepsize=2.5 / 40, steps=40, random_start=False), False),
        (PGD(random_start=False), FoolboxPGD(rel_stepsize=2.5 / 40, steps=40, random_start=False), True),
        (PGD(steps=12, step_size=0.02), FoolboxPGDFromStart(abs_stepsize=0.02, steps=12), False),
        (PGD(steps=12, step_size=0.02), FoolboxPGDFromStart(abs_stepsize=0.02, steps=12), True),
    ],
    ids=["fgsm", "pgd", "pgd-targeted", "pgd-from-start", "pgd-from-start-targeted"],
)
def test_equals_foolbox(
    make_model: Callable[[], nn.Module],
    eps: float,
    ours: EvasionAttack,
    theirs: foolbox.attacks.base.Attack,
    targeted: bool,
) -> None:
    model, (x, y) = make_model(), data()
    judged = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    wanted = theirs.run(judged, x, criterion(y, targeted), epsilon=eps)
    found = replace(ours, eps=eps, targeted=targeted)(model, x, y, generator=seeded(7))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert (found - x).abs().max() > 0.99 * eps


@pytest.mark.parametrize("eps", [0.03, 0.3])
@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("targeted", [False, True])
def test_mim_equals_the_papers_recursion(eps: float, decay: float, targeted: bool) -> None:
    """NumPy, L1 norm, and the gradient of softmax regression by hand: W^T (p - onehot)."""
    model, (x, y) = linear(), data()
    weight, bias = (p.detach().numpy() for p in model.parameters())
    clean = x.flatten(1).numpy()
    x_t, g = clean.copy(), np.zeros_like(clean)
    for _ in range(10):
        z = x_t @ weight.T + bias
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        gradient = (p - np.eye(CLASSES)[y.numpy()]) @ weight
        g = decay * g + gradient / np.abs(gradient).sum(1, keepdims=True)
        x_t = x_t + (-1 if targeted else 1) * eps / 5 * np.sign(g)
        x_t = np.clip(np.clip(x_t, clean - eps, clean + eps), 0, 1)
    found = MIM(eps, targeted, decay=decay)(model, x, y, generator=seeded(7))
    np.testing.assert_allclose(found.flatten(1).numpy(), x_t, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mim"])
def test_linear_model_reaches_the_exact_worst_case(name: str) -> None:
    """On two linear classes the margin can fall by eps * ||w_y - w_k||_1 and no further."""
    model = fill(nn.Linear(9, 2))
    x, y = 0.3 + 0.4 * torch.rand(30, 9, dtype=torch.float64, generator=seeded(2)), torch.arange(30) % 2
    eps = 0.1  # far from the walls of the cube, so that nothing clips

    def margin(x: Tensor) -> Tensor:
        logits = model(x)
        return (logits[:, 0] - logits[:, 1]) * (1 - 2 * y)

    x_adv = ATTACKS[name](eps)(model, x, y, generator=seeded(0))
    drop = eps * (model.weight[0] - model.weight[1]).abs().sum()
    torch.testing.assert_close(margin(x) - margin(x_adv), drop.expand(30), rtol=0, atol=1e-12)


def test_square_finds_most_of_the_worst_case_of_a_linear_model() -> None:
    model = fill(nn.Linear(9, 2))
    model.bias.data[0] += 100  # class 0 always wins, so that no sample drops out
    x, y = torch.full((10, 9), 0.5, dtype=torch.float64), torch.zeros(10, dtype=torch.int64)
    x_adv = Square(0.1, queries=400)(model, x, y, generator=seeded(0))
    drop = (model(x) - model(x_adv)) @ torch.tensor([1.0, -1.0], dtype=torch.float64)
    worst = 0.1 * (model.weight[0] - model.weight[1]).abs().sum()
    torch.testing.assert_close(drop, worst.expand(10), rtol=0, atol=1e-12)


@pytest.mark.parametrize("targeted", [False, True])
def test_square_comes_near_pgd_on_images(targeted: bool) -> None:
    model, (x, _) = conv_net(), data()
    order = model(x).argsort(1)
    y = order[:, -2 if targeted else -1]  # the runner-up is the target, or few samples could be fooled at all

    def fooled(attack: EvasionAttack) -> int:
        hit = model(attack(model, x, y, generator=seeded(0))).argmax(1) == y
        return int((hit if targeted else ~hit).sum())

    eps = 0.3
    assert fooled(PGD(eps, targeted)) > 0.6 * N
    assert fooled(Square(eps, targeted, queries=500)) >= 0.75 * fooled(PGD(eps, targeted))


def test_sign_of_zero_is_zero() -> None:
    model = nn.Linear(3, 2)
    model.weight.data[:] = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    x = torch.full((1, 3), 0.5)
    x_adv = FGSM(0.1)(model, x, torch.tensor([0]), generator=seeded(0))
    torch.testing.assert_close(x_adv, torch.tensor([[0.4, 0.5, 0.6]]))


def test_relative_step_beats_an_absolute_one_that_cannot_reach_the_ball() -> None:
    """The measured trap: 5 steps of 0.01 cover a sixth of eps = 0.3 and stay behind a single FGSM step."""
    model = linear()
    x, y = data()

    def loss(attack: EvasionAttack) -> float:
        logits = model(attack(model, x, y, generator=seeded(0)))
        return nn.functional.cross_entropy(logits, y).item()

    single = loss(FGSM(0.3))
    assert loss(PGD(0.3, steps=5, step_size=0.01, random_start=False)) < single
    assert loss(PGD(0.3, steps=5)) >= single - 1e-9
