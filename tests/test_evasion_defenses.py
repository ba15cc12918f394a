"""Defenses against evasion: formulas, closed forms, and that training does what it is for."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from redqubit.data import Dataset, load_splits
from redqubit.defenses import (
    AdversarialTraining,
    Defended,
    Denoiser,
    DenoisingAutoencoder,
    GaussianNoise,
    RandomizedSmoothing,
    Smoothed,
    equal_power,
    train_denoiser,
)
from redqubit.defenses.adversarial_training import divergence
from redqubit.errors import UsageError
from redqubit.evasion import PGD
from redqubit.models.initial import linear
from redqubit.training import logits, train


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_moons(n: int, seed: int) -> Dataset:
    """Two classes on arcs in [0, 1]^2."""
    g = seeded(seed)
    y = torch.arange(n) % 2
    angle = math.pi * torch.rand(n, generator=g)
    arc = torch.stack([torch.cos(angle), torch.sin(angle)], 1)
    x = torch.where(y[:, None] == 0, arc, torch.tensor([1.0, 0.3]) - arc) + 0.05 * torch.randn(n, 2, generator=g)
    return Dataset(((x + 1.2) / 3.4).clamp(0, 1), y, n_classes=2)


def mlp(d: int, n_classes: int, seed: int = 0) -> nn.Module:
    g = seeded(seed)
    return nn.Sequential(
        nn.Flatten(), linear(d, 32, generator=g), nn.ReLU(), linear(32, n_classes, generator=g)
    )  # fmt: skip


def linear_model(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    net = linear(len(weight[0]), len(weight), generator=seeded())
    net.weight.data.copy_(torch.tensor(weight))
    net.bias.data.copy_(torch.tensor(bias))
    return net


# Denoising


def test_the_denoiser_brings_noisy_data_nearer_and_labels_play_no_part() -> None:
    train_set, test = load_splits("digits")
    net = train_denoiser(train_set.x, sigma=0.4, epochs=20, batch_size=128, lr=1e-2, generator=seeded())
    noisy = (test.x + 0.4 * torch.randn(test.x.shape, generator=seeded(1))).clamp(0, 1)
    before, after = (noisy - test.x).square().mean(), (net(noisy) - test.x).square().mean()
    assert after < 0.6 * before
    constant = (train_set.x.mean(0) - test.x).square().mean()  # what an autoencoder that looks at nothing can do
    assert after < 0.7 * constant
    other = Dataset(train_set.x[:200], train_set.y[:200].flip(0), 10)
    fronts = [
        DenoisingAutoencoder(epochs=2)(mlp(64, 10), data, generator=seeded(3))[0].state_dict()
        for data in (train_set.subset(torch.arange(200)), other)
    ]
    assert all(torch.equal(fronts[0][name], fronts[1][name]) for name in fronts[0])


def test_a_denoiser_of_features_has_no_bounds() -> None:
    net = Denoiser((3,), generator=seeded())
    net.layers[-2].bias.data.fill_(7.0)
    assert net(torch.rand(4, 3)).min() > 1
    assert torch.equal(net(torch.rand(2, 3, generator=seeded(1))), net(torch.rand(2, 3, generator=seeded(1))))


def test_behind_a_denoiser_the_model_may_learn_and_the_front_stays() -> None:
    data = two_moons(80, 0)
    alone, refitted = (
        DenoisingAutoencoder(sigma=0.1, epochs=3, refit=refit)(mlp(2, 2), data, generator=seeded()) for refit in (0, 5)
    )
    assert all(torch.equal(a, b) for a, b in zip(alone[0].parameters(), refitted[0].parameters(), strict=True))
    assert not torch.equal(alone[1][1].weight, refitted[1][1].weight)
    assert cross_entropy(refitted(data.x), data.y) < cross_entropy(alone(data.x), data.y)


# Adversarial training


@pytest.mark.parametrize("method", ["fgsm", "pgd", "trades"])
def test_adversarial_training_wins_where_plain_training_loses(method: str) -> None:
    train_set, test = load_splits("digits")
    data = train_set.subset(torch.arange(600))
    plain = train(mlp(64, 10), data.x, data.y, epochs=10, lr=3e-3, generator=seeded())
    robust = AdversarialTraining(method, eps=0.15, epochs=5, lr=3e-3)(plain, data, generator=seeded(1))  # type: ignore[arg-type]
    attack, kept = PGD(0.15, steps=10), []
    for net in (plain, robust):
        x_adv = attack(net, test.x, test.y, generator=seeded())
        kept.append(float((logits(net, x_adv).argmax(1) == test.y).float().mean()))
    assert kept[1] > kept[0] + 0.15
    assert (logits(robust, test.x).argmax(1) == test.y).float().mean() > 0.8


def test_static_training_shows_the_examples_of_the_first_model_and_the_clean_samples() -> None:
    data, seen = two_moons(40, 0), []
    plain = mlp(2, 2)

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = plain

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.append(x.detach())
            out: Tensor = self.inner(x)
            return out

    defense = AdversarialTraining("fgsm", eps=0.1, static=True, epochs=2, batch_size=80)
    defense(Watched(), data, generator=seeded())
    leaf = data.x.clone().requires_grad_()
    cross_entropy(plain(leaf), data.y).backward()
    expected = (data.x + 0.1 * leaf.grad.sign()).clamp(0, 1)
    for batch in seen:
        assert len(batch) == 80
        rows = {tuple(row) for row in batch.tolist()}
        assert {tuple(row) for row in data.x.tolist()} <= rows
        assert {tuple(row) for row in expected.tolist()} <= rows


def test_the_divergence_is_that_of_scipy() -> None:
    a, b = torch.randn(5, 4, generator=seeded()).double(), torch.randn(5, 4, generator=seeded(1)).double()
    expected = stats.entropy(a.softmax(1).numpy(), b.softmax(1).numpy(), axis=1).mean()
    assert divergence(a, b).item() == pytest.approx(expected)


# Gaussian noise


@pytest.mark.parametrize(("on", "size"), [("inputs", 0.2 * 5**0.5), ("weights", None), ("activations", None)])
def test_noise_has_the_power_that_is_asked_for(on: str, size: float | None) -> None:
    net = linear_model([[1.0, 2.0], [2.0, -1.0]], [0.0, 0.0])  # rows of norm sqrt(5)
    data = Dataset(torch.full((400, 2), 0.5), torch.arange(400) % 2, n_classes=2)
    noisy = GaussianNoise(0.2, on=on)(net, data, generator=seeded())  # type: ignore[arg-type]
    out = torch.stack([noisy(data.x) for _ in range(400)]).detach()
    rms_weight, rms_output = math.sqrt(10 / 4), math.sqrt((1.5**2 + 0.5**2) / 2)
    expected = size or {"weights": 0.2 * rms_weight * math.sqrt(0.5), "activations": 0.2 * rms_output}[on]
    assert out.std(0).mean().item() == pytest.approx(expected, rel=0.1)
    assert out.mean(0).mean(0).tolist() == pytest.approx(net(data.x)[0].tolist(), abs=0.05)


class ScatteredLinear(nn.Module):
    """A linear layer with noise of its own, of another kind: signs."""

    def __init__(self, layer: nn.Linear, size: float, generator: torch.Generator) -> None:
        super().__init__()
        self.layer, self.size, self.generator = layer, size, generator

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out + self.size * (2 * torch.randint(2, out.shape, generator=self.generator) - 1)


@pytest.mark.parametrize("on", ["weights", "activations", "logits"])
def test_a_control_has_the_power_of_the_noise_that_it_stands_for(on: str) -> None:
    plain = mlp(64, 10)
    noisy = mlp(64, 10)
    noisy[1] = ScatteredLinear(noisy[1], 0.3, seeded(1))
    noisy[3] = ScatteredLinear(noisy[3], 0.7, seeded(2))
    x = load_splits("digits")[1].x[:200]
    control = equal_power(plain, noisy, x, on=on, generator=seeded())  # type: ignore[arg-type]
    assert not torch.equal(control(x), control(x))

    def power(part: nn.Module, z: Tensor) -> float:
        return torch.stack([part(z) for _ in range(300)]).var(0).mean().sqrt().item()

    if on == "logits":
        assert power(control, x) == pytest.approx(power(noisy, x), rel=0.1)
        return
    assert power(control[1], x.flatten(1)) == pytest.approx(0.3, rel=0.15)
    hidden = plain[2](plain[1](x.flatten(1)))
    assert power(control[3], hidden) == pytest.approx(0.7, rel=0.2)


def test_what_is_not_random_has_no_control() -> None:
    plain = mlp(4, 2)
    for on in ("logits", "activations"):
        with pytest.raises(UsageError, match="`noisy` must be random"):
            equal_power(plain, mlp(4, 2), torch.rand(9, 4), on=on, generator=seeded())  # type: ignore[arg-type]


# Randomized smoothing


def test_the_radius_of_a_linear_classifier_is_its_distance_from_the_boundary() -> None:
    sigma, n = 0.5, 20_000
    net = linear_model([[0.0, 0.0], [3.0, 4.0]], [0.0, -3.5])  # boundary 3 a + 4 b = 3.5, norm 5
    x = torch.tensor([[0.5, 0.5], [0.9, 0.9], [0.1, 0.2], [0.9, 0.2]])
    distance = ((3 * x[:, 0] + 4 * x[:, 1] - 3.5) / 5).tolist()  # 0, 0.56, -0.48, 0
    smoothed = Smoothed(net, sigma, 10, seeded())
    found = smoothed.certify(x, n=n, alpha=0.01)
    assert found.prediction.tolist() == [-1, 1, 0, -1]
    assert smoothed.predict(x, alpha=0.01).tolist() == [-1, 1, 0, -1]
    for i in (1, 2):
        exact = abs(distance[i])
        assert found.radius[i] <= exact + 1e-6
        assert found.radius[i] == pytest.approx(exact, abs=0.03)
    y = torch.tensor([1, 1, 0, 0])
    assert [found.accuracy(y, r).k for r in (0.0, 0.45, 0.5, 0.6)] == [2, 2, 1, 0]


def test_certificates_are_wrong_as_seldom_as_they_say() -> None:
    net, sigma, alpha = linear_model([[0.0], [1.0]], [0.0, -0.5]), 0.4, 0.2
    x = torch.full((400, 1), 0.8)  # 0.3 from the boundary
    found = Smoothed(net, sigma, 1, seeded()).certify(x, n_choose=10, n=100, alpha=alpha)
    right = found.prediction != 0
    wrong = int((found.radius[right] > 0.3).sum())
    assert stats.binomtest(wrong, 400, alpha, alternative="greater").pvalue > 1e-3
    assert wrong > 0.4 * alpha * 400  # an exact bound is not far from its level either


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    class Counted(Smoothed):
        def votes(self, x: Tensor, n: int) -> Tensor:
            few = min(7, n // 5)
            return torch.tensor([[few, n - few], [n, 0], [n // 2, n - n // 2]])

    found = Counted(mlp(1, 2), 2.0, 1, seeded()).certify(torch.rand(3, 1), n_choose=9, n=99, alpha=0.05)
    for i, k in ((0, 92), (1, 99)):
        low = stats.binomtest(k, 99, alternative="greater").proportion_ci(0.95, method="exact").low
        assert found.radius[i].item() == pytest.approx(2 * stats.norm.ppf(low))
    assert found.prediction.tolist() == [1, 0, -1]
    assert found.radius[2] == 0


def test_a_pass_is_the_mean_of_probabilities_and_has_a_gradient() -> None:
    net = mlp(2, 3)
    smoothed = Smoothed(net, 0.3, 5, seeded(4))
    x = torch.rand(4, 2, generator=seeded(1)).requires_grad_()
    noise = torch.randn((5, 4, 2), generator=seeded(4))
    out = smoothed(x)
    expected = torch.stack([net(x + 0.3 * part).softmax(1) for part in noise]).mean(0)
    np.testing.assert_allclose(out.exp().detach(), expected.detach(), rtol=1e-5)
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().min() > 0


def test_learning_under_noise_helps_the_smoothed_model() -> None:
    train_set, test = load_splits("digits")
    data = train_set.subset(torch.arange(600))
    plain = train(mlp(64, 10), data.x, data.y, epochs=8, lr=3e-3, generator=seeded())
    right = []
    for epochs in (0, 8):
        net = RandomizedSmoothing(0.5, epochs=epochs, lr=3e-3)(plain, data, generator=seeded(1))
        assert isinstance(net, Smoothed)
        right.append(net.certify(test.x[:200], n=200, alpha=0.01).accuracy(test.y[:200], 0.3).value)
    assert right[1] > right[0] + 0.1


# Several, and bad settings


def test_several_defenses_apply_in_turn() -> None:
    data = two_moons(60, 0)
    front = DenoisingAutoencoder(sigma=0.1, epochs=1)
    trained = AdversarialTraining(epochs=1)
    one, other = (
        Defended(mlp(2, 2), order, data, generator=seeded()) for order in ([trained, front], [front, trained])
    )
    assert one.extra_repr().index("Adversarial") < one.extra_repr().index("Denoising")
    assert other.extra_repr().index("Adversarial") > other.extra_repr().index("Denoising")
    assert isinstance(other.model[0], Denoiser)
    alone = trained(mlp(2, 2), data, generator=seeded())
    assert torch.equal(one.model[1][1].weight, alone[1].weight)  # trained before there was a front
    assert not torch.equal(other.model[1][1].weight, alone[1].weight)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdversarialTraining("free"), "value of `method`"),  # type: ignore[arg-type]
        (lambda: AdversarialTraining("trades", static=True), "`static` must be false"),
        (lambda: AdversarialTraining(eps=-0.1), "`eps` must be finite and not negative"),
        (lambda: DenoisingAutoencoder(epochs=0), "`epochs` must be an integer of at least 1"),
        (lambda: GaussianNoise(on="bias"), "value of `on`"),  # type: ignore[arg-type]
        (lambda: RandomizedSmoothing(0.0), "`sigma` must be above 0"),
        (lambda: Defended(mlp(2, 2), [], two_moons(4, 0), generator=seeded()), "`defenses` must hold at least one"),
        (lambda: Smoothed(mlp(2, 2), 0.1, 2, seeded()).certify(torch.rand(2, 2), n=0), "must be two counts"),
        (lambda: Smoothed(mlp(2, 2), 0.1, 2, seeded()).predict(torch.rand(2, 2), alpha=1.0), "must be two counts"),
        (
            lambda: GaussianNoise(on="weights")(nn.Identity(), two_moons(4, 0), generator=seeded()),
            "`model` must have a linear layer",
        ),
    ],
)
def test_settings_are_checked(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
