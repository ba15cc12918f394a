"""The stand-in for the victim: a function of the trigger alone that tells strong triggers from weak ones."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.backdoors import Blend, Patch, Qcolor, QcolorSearch, Surrogate, Trigger, WaNet
from redqubit.data import Dataset, load_splits
from redqubit.errors import UsageError
from redqubit.metrics import ssim
from redqubit.search import NSGA2

TARGET = 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def digits() -> tuple[Dataset, Dataset]:
    """Digits in three channels, darkened so that ratios above 1 can be seen: training and held-out pictures."""
    train, held = (replace(part, x=0.7 * part.x.expand(-1, 3, -1, -1)) for part in load_splits("digits"))
    return train.subset(range(600)), held.subset(range(150))


def front() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Dropout(0.5))
    for i, parameter in enumerate(layers.parameters()):
        nn.init.normal_(parameter, std=0.4, generator=seeded(i))
    return layers


def back(generator: torch.Generator) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    for parameter in (net[0].weight, net[4].weight):
        assert isinstance(parameter, Tensor)
        nn.init.kaiming_normal_(parameter, generator=generator)
    for parameter in (net[0].bias, net[4].bias):
        assert isinstance(parameter, Tensor)
        nn.init.zeros_(parameter)
    return net


@cache
def surrogate() -> Surrogate:
    return made()


def made(**settings: Any) -> Surrogate:
    train, held = digits()
    small = {"target_class": TARGET, "steps": 40, "lr": 5e-3, "warm_lr": 5e-3, "warm_steps": 100, **settings}
    return Surrogate(front(), back, **{"train": train, "held": held, **small})


def test_a_strong_trigger_has_a_lower_loss_than_a_weak_one_and_that_than_none() -> None:
    strong, weak, none = (torch.tensor(surrogate()(t)) for t in (Patch(3), Qcolor(1.3, 1, 0.7), Qcolor(1, 1, 1)))
    assert (strong < weak).all(), "for each seed"
    assert (weak < none).all()
    assert none.mean() - weak.mean() > none.std(), "by more than the spread over seeds"
    assert len(set(none.tolist())) == 3, "each seed has a head of its own"


def test_the_loss_is_a_function_of_the_trigger_alone() -> None:
    state, first = torch.get_rng_state(), surrogate()(Patch(2))
    surrogate()(Blend())
    surrogate()(WaNet(cover_ratio=1.0))
    with torch.no_grad():
        assert surrogate()(Patch(2)) == first
    assert torch.equal(state, torch.get_rng_state())
    assert made()(Patch(2)) == first, "and of the arguments"
    assert made(seeds=(2, 0))(Patch(2)) == (first[2], first[0]), "a seed does not depend on those beside it"
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(surrogate(), [Patch(2)] * 6)) == [first] * 6


def test_a_search_finds_the_same_whatever_the_number_of_workers() -> None:
    search, quick = QcolorSearch(NSGA2(population=4, generations=2), low=0.7, high=1.3), made(steps=5, warm_steps=20)
    alone, beside = (search(quick, quick.dissimilarity, generator=seeded(), workers=n) for n in (1, 2))
    assert alone == beside
    assert len(alone.evaluated) == 8


def test_pictures_of_the_target_class_are_left_out() -> None:
    _, held = digits()
    others = held.subset(held.y != TARGET)
    assert len(others) < len(held)
    assert made(held=others)(Patch(2)) == surrogate()(Patch(2))


def test_what_is_passed_in_stays_as_it_was() -> None:
    train, held = digits()
    module = front().train()
    before = [p.clone() for p in (*module.parameters(), train.x, held.x)]
    Surrogate(module, back, train, held, steps=1, warm_steps=1)(Patch(2))
    assert all(torch.equal(a, b) for a, b in zip(before, (*module.parameters(), train.x, held.x), strict=True))
    assert all(part.training for part in module.modules())
    assert all(p.requires_grad and p.grad is None for p in module.parameters())


def test_the_loss_is_that_of_a_training_written_out() -> None:
    """A linear rest, a whole set a batch, one step: Adam's first step is lr times the sign of the gradient."""
    train, held = digits()
    weight = torch.randn(10, 192, generator=seeded(5)) / 14

    def linear(generator: torch.Generator) -> nn.Module:
        net = nn.Linear(192, 10, bias=False)
        net.weight.data = weight.clone()
        return nn.Sequential(nn.Flatten(), net)

    trigger, n, lr = Patch(3), len(train), 0.01
    one_step = Surrogate(
        nn.Identity(), linear, train, held,
        target_class=TARGET, poison_rate=0.2, steps=1, warm_steps=1, batch_size=n, lr=lr, warm_lr=2 * lr, seeds=(0,),
    )  # fmt: skip

    def step(weight: Tensor, x: Tensor, y: Tensor, lr: float) -> Tensor:
        share = (x.flatten(1) @ weight.T).softmax(1) - F.one_hot(y, 10)
        return weight - lr * torch.sign(share.T @ x.flatten(1))

    others = (train.y != TARGET).nonzero()[:, 0]
    poison = others[torch.randperm(len(others), generator=seeded())[: round(0.2 * n)]]  # as `Backdoor` documents
    x, y = train.x.clone(), train.y.clone()
    x[poison], y[poison] = trigger(x[poison]), TARGET
    trained = step(step(weight, train.x, train.y, 2 * lr), x, y, lr)
    logits = trigger(held.x[held.y != TARGET]).flatten(1) @ trained.T
    expected = -logits.log_softmax(1)[:, TARGET].mean()
    assert one_step(trigger) == pytest.approx((float(expected),), abs=1e-4)


def test_dissimilarity_is_one_minus_ssim_of_the_first_256() -> None:
    train, held = digits()
    many = made(held=train, train=held, steps=1, warm_steps=1)
    trigger, x = Qcolor(1.2, 1, 0.8), train.x[:256]
    assert many.dissimilarity(trigger) == pytest.approx(1 - float(ssim(x, trigger(x)).mean()), abs=1e-6)
    assert many.dissimilarity(Qcolor(1, 1, 1)) == pytest.approx(0, abs=1e-6)


def narrow(dataset: Dataset) -> Dataset:
    return replace(dataset, x=dataset.x[:, :1])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"steps": 0}, "`steps` must be an integer of at least 1, but is 0"),
        ({"warm_steps": 2.5}, "`warm_steps` must be an integer"),
        ({"batch_size": 0}, "`batch_size` must be an integer"),
        ({"lr": float("nan")}, "`lr` must be finite and positive"),
        ({"warm_lr": 0.0}, "`warm_lr` must be finite and positive"),
        ({"seeds": ()}, "`seeds` must be one or more"),
        ({"seeds": (1, 1)}, "`seeds` must be one or more, each once"),
        ({"poison_rate": 0.0}, "`poison_rate` must lie between 0 and 1"),
        ({"poison_rate": 0.99}, "`poison_rate` must poison between 1 and"),
        ({"target_class": 10}, "`target_class` must be a class of the training set"),
        ({"held": narrow(digits()[1])}, "`held` must hold pictures like those of `train`"),
        ({"held": digits()[1].subset(digits()[1].y == TARGET)}, "`held` must hold pictures of other classes"),
        ({"back": lambda generator: back(generator).requires_grad_(False)}, "`back` must make a rest with a trainable"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_once(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        replace(surrogate(), **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("trigger", [Patch(9), Patch(2, color=(1.0, 0.0))])
def test_a_trigger_that_does_not_suit_the_pictures_is_refused(trigger: Trigger) -> None:
    evaluations: Sequence[Any] = (surrogate(), surrogate().dissimilarity)
    for evaluate in evaluations:
        with pytest.raises(UsageError, match=r"Argument `(side|color)`"):
            evaluate(trigger)
