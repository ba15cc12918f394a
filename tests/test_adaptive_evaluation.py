"""Adaptive evaluation: masked gradients get no credit, real robustness does, and luck is not counted."""

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from redqubit.adaptive import (
    Averaged,
    Evaluation,
    Scored,
    Substituted,
    converged_draws,
    decide,
    evaluate_defense,
    four_path_grid,
    score,
)
from redqubit.adaptive.evaluation import worst_of
from redqubit.data import Dataset, load_splits
from redqubit.defenses import AdversarialTraining, GaussianNoise
from redqubit.defenses.gaussian_noise import AddNoise
from redqubit.errors import UsageError
from redqubit.evasion import FGSM, PGD, Square, transfer_matrix
from redqubit.evasion.base import is_random
from redqubit.metrics import is_correct
from redqubit.models import QNN, noisy
from redqubit.models.initial import linear
from redqubit.sanity import randomness_check
from redqubit.statistics import Difference, MeanProportion, paired_shares
from redqubit.training import logits, train

HELPS, BLOCKS, HURTS = "helps", "only blocks an attacker who does not know it", "hurts"
PGD10 = PGD(0.1, steps=10)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mlp(seed: int = 0) -> nn.Module:
    g = seeded(seed)
    return nn.Sequential(nn.Flatten(), linear(64, 32, generator=g), nn.ReLU(), linear(32, 10, generator=g))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_splits("digits")[0].subset(torch.arange(600))


@pytest.fixture(scope="module")
def test_set() -> Dataset:
    return load_splits("digits")[1].subset(torch.arange(200))


@pytest.fixture(scope="module")
def plain(data: Dataset) -> nn.Module:
    return train(mlp(), data.x, data.y, epochs=12, lr=3e-3, generator=seeded())


class Quantised(nn.Module):
    """The same model for all that an attack can do, without a gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model((2000 * x).round() / 2000)
        return out


class Rippled(nn.Module):
    """The same model with a ripple of random direction, too low to matter and too steep to see the slope below."""

    def __init__(self, model: nn.Module, slope: float) -> None:
        super().__init__()
        self.model, self.slope, self.generator = model, slope, seeded(9)

    def forward(self, x: Tensor) -> Tensor:
        direction = torch.randn((x[0].numel(), 10), generator=self.generator)
        out: Tensor = self.model(x) + self.slope / 200 * torch.sin(200 * x.flatten(1) @ direction)
        return out


class Scaled(nn.Module):
    """The same model with logits so far apart that softmax is flat."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.model(x)


def evaluated(plain: nn.Module, defended: nn.Module, data: Dataset) -> Evaluation:
    return evaluate_defense(
        plain, defended, PGD10, data.x, data.y, queries=60, limit=8, draws=6, generator=seeded()
    )  # fmt: skip


# Verdicts on real models


@pytest.mark.parametrize("make", [Quantised, Scaled, lambda model: Rippled(model, 3.0)])
def test_masked_gradients_only_block_who_does_not_know(make: type, plain: nn.Module, test_set: Dataset) -> None:
    found = evaluated(plain, make(plain), test_set)
    assert found.verdict.outcome == BLOCKS
    assert found.one_draw.low > 0.1  # what an attack that does not adapt would report as a gain
    assert found.adaptive.high < 0.05
    assert found.strongest not in ("with, one draw", "clean")


def test_adversarial_training_helps(plain: nn.Module, data: Dataset, test_set: Dataset) -> None:
    robust = AdversarialTraining(eps=0.15, epochs=6, lr=3e-3)(plain, data, generator=seeded())
    found = evaluated(plain, robust, test_set)
    assert found.verdict.outcome == HELPS
    assert found.adaptive.low > 0.05
    assert found.expectation.draws == 1
    assert found.worst["with"].accuracy.value <= found.grid["with", "with"].accuracy.value
    left = found.grid["without", "without"].accuracy.value
    assert found.relative_gain == pytest.approx(found.grey_box.value / left)


def test_a_model_made_worse_is_hurt(plain: nn.Module, test_set: Dataset) -> None:
    worse = mlp()
    worse.load_state_dict(plain.state_dict())
    for weight in worse.parameters():
        weight.data.add_(0.5 * weight.std() * torch.randn(weight.shape, generator=seeded(5)))
    assert evaluated(plain, worse, test_set).verdict.outcome == HURTS


def test_a_model_that_always_says_the_same_is_no_defense_however_little_was_left(
    plain: nn.Module, test_set: Dataset
) -> None:
    constant = linear(64, 10, generator=seeded())
    constant.weight.data.mul_(1e-4)
    constant.bias.data[3] = 5.0
    strong = replace(PGD10, eps=0.25)  # leaves the plain model nothing
    found = evaluate_defense(
        plain, nn.Sequential(nn.Flatten(), constant), strong, test_set.x, test_set.y, queries=20, generator=seeded()
    )
    assert found.adaptive.low > 0
    assert found.verdict.outcome == HURTS


def test_no_defense_is_no_difference(plain: nn.Module, test_set: Dataset) -> None:
    found = evaluated(plain, plain, test_set)
    assert found.verdict.outcome == "unclear"
    assert found.adaptive.value == found.grey_box.value == found.clean.value == 0


def test_noise_is_evaluated_with_its_controls(plain: nn.Module, data: Dataset, test_set: Dataset) -> None:
    some = test_set.subset(torch.arange(80))
    noise = GaussianNoise(0.3)(plain, data, generator=seeded())
    found = evaluated(plain, noise, some)
    assert found.verdict.outcome != HELPS
    for name in ("deterministic part", "gaussian"):
        assert (name, name) in found.grid.cells
        assert (name, "with") in found.grid.cells
    assert len(found.grid["with", "gaussian"].correct) == 6  # draws
    assert len(found.grid["with", "without"].correct) == 1
    assert len(found.worst["with"].correct) == 3  # the half that judges
    with pytest.raises(UsageError, match="must not name `with`"):
        evaluate_defense(plain, plain, PGD10, some.x, some.y, others={"with": plain}, queries=1, generator=seeded())


def test_the_worst_is_over_all_attacks_that_are_given(plain: nn.Module, test_set: Dataset) -> None:
    weak = PGD(0.1, steps=1, step_size=0.001, random_start=False)  # which one step of FGSM beats
    options = {"queries": 1, "limit": 2, "generator": seeded()}
    alone = evaluate_defense(plain, plain, weak, test_set.x, test_set.y, **options)
    both = evaluate_defense(plain, plain, weak, test_set.x, test_set.y, more={"fgsm": FGSM(0.1)}, **options)
    assert both.worst["with"].accuracy.value < alone.worst["with"].accuracy.value - 0.3
    assert both.strongest in ("fgsm without", "fgsm with")
    assert torch.equal(both.grid["fgsm with", "with"].correct, both.grid["fgsm without", "without"].correct)
    assert (both.worst["with"].correct <= both.grid["fgsm with", "with"].correct).all()
    blocked = evaluate_defense(
        plain, Quantised(plain), weak, test_set.x, test_set.y, more={"fgsm": FGSM(0.1)}, **options
    )
    assert blocked.adaptive.value == pytest.approx(0, abs=0.03)  # FGSM made without it goes through
    with pytest.raises(UsageError, match="must not name `fgsm with`"):
        evaluate_defense(
            plain, plain, weak, test_set.x, test_set.y,
            more={"fgsm": FGSM(0.1)}, others={"fgsm with": plain}, **options,
        )  # fmt: skip


def test_other_models_are_transferred_from(plain: nn.Module, test_set: Dataset) -> None:
    found = evaluate_defense(
        plain, Quantised(plain), FGSM(0.1), test_set.x, test_set.y,
        others={"twin": Scaled(plain), "mine": plain}, queries=1, generator=seeded(),
    )  # fmt: skip
    assert torch.equal(found.grid["mine", "with"].correct, found.grid["without", "with"].correct)
    assert ("twin", "without") in found.grid.cells


# The verdict


@pytest.mark.parametrize(
    ("clean", "unaware", "adaptive", "above_chance", "outcome"),
    [
        (0.0, 0.3, 0.3, True, HELPS),
        (-0.2, 0.3, 0.3, True, HELPS),  # the cost stands beside it
        (-0.6, 0.3, 0.3, False, HURTS),
        (0.0, 0.3, 0.3, False, "unclear"),
        (0.0, 0.3, 0.0, True, BLOCKS),
        (0.0, 0.3, -0.2, True, BLOCKS),
        (-0.4, 0.3, 0.0, True, HURTS),  # costs more than it gains against anyone
        (-0.2, 0.5, 0.11, False, BLOCKS),  # 11 points that leave no more than chance
        (-0.2, 0.3, 0.11, False, HURTS),  # not shown to be less than what an attack that does not know it loses
        (0.0, 0.0, -0.2, True, HURTS),
        (-0.2, 0.0, 0.0, True, HURTS),
        (0.0, 0.0, 0.0, True, "unclear"),
        (0.05, 0.05, 0.05, True, "unclear"),
        (0.0, -0.3, 0.0, True, "unclear"),
    ],
)
def test_verdicts_follow_the_rule(
    clean: float, unaware: float, adaptive: float, above_chance: bool, outcome: str
) -> None:
    def gain(value: float) -> Difference:
        return Difference(value, value - 0.1, value + 0.1, 100, "")

    found = decide(
        clean=gain(clean),
        unaware=[gain(unaware), gain(-0.5)],
        adaptive=gain(adaptive),
        above_chance=above_chance,
    )
    assert found.outcome == outcome
    assert f"{100 * clean:+.1f}" in found.reason
    assert f"{100 * adaptive:+.1f}" in found.reason
    assert f"{100 * unaware:+.1f}" in found.reason


def test_a_few_seeds_that_happen_to_agree_decide_nothing() -> None:
    none, agreed = Difference(0.0, -0.1, 0.1, 3, "Student t"), Difference(0.2, 0.2, 0.2, 3, "constant")
    assert decide(clean=none, unaware=[none], adaptive=agreed).outcome == "unclear"
    assert decide(clean=none, unaware=[agreed], adaptive=none).outcome == "unclear"
    assert decide(clean=none, unaware=[none], adaptive=replace(agreed, n=20)).outcome == HELPS


# The grid


def test_without_noise_the_grid_is_a_transfer_matrix(plain: nn.Module, test_set: Dataset) -> None:
    x, y, other = test_set.x[:60], test_set.y[:60], mlp(3)
    grid = four_path_grid(plain, other, FGSM(0.1), x, y, generator=seeded())
    expected = transfer_matrix({"without": plain, "with": other}, FGSM(0.1), x, y, generator=seeded())
    for path, transfer in expected.items():
        assert torch.equal(grid[path].correct[0], transfer.correct)
    assert torch.equal(grid["clean", "with"].correct[0], is_correct(logits(other, x), y))
    with pytest.raises(UsageError, match="must be untargeted"):
        four_path_grid(plain, other, FGSM(0.1, targeted=True), x, y, generator=seeded())
    with pytest.raises(UsageError, match="must not name `clean`"):
        four_path_grid(plain, other, FGSM(0.1), x, y, controls={"clean": plain}, generator=seeded())


def test_a_stand_in_lends_its_gradient_and_not_its_answer(plain: nn.Module) -> None:
    x = torch.rand(4, 1, 8, 8, generator=seeded()).requires_grad_()
    both = Substituted(Quantised(mlp(1)), plain)
    torch.testing.assert_close(both(x), Quantised(mlp(1))(x))
    mine = torch.autograd.grad(both(x).sum(), x)[0]
    assert torch.equal(mine, torch.autograd.grad(plain(x).sum(), x)[0])


def test_the_deterministic_part_is_the_mean(plain: nn.Module, test_set: Dataset) -> None:
    noise = nn.Sequential(plain, AddNoise(1.0, seeded()))
    rest = (Averaged(noise, 400)(test_set.x) - plain(test_set.x)).detach()
    assert rest.std().item() == pytest.approx(1 / 20, rel=0.1)


# Draws


def test_randomness_is_recognised_in_one_way_whatever_it_comes_from() -> None:
    x = torch.rand(8, 4, generator=seeded())
    net = QNN(4, 2, generator=seeded())
    random = [
        noisy(net, shots=50, generator=seeded()),
        nn.Sequential(net, AddNoise(0.01, seeded())),
        Rippled(nn.Linear(4, 10), 1.0),
    ]
    for model in random:
        assert is_random(model, x)
        assert randomness_check(model, x).severity == "fail"
    for model in (net, nn.Dropout()):
        assert not is_random(model, x)
        assert randomness_check(model, x).severity == "ok"


def test_each_sample_has_a_probability_of_success() -> None:
    margin, draws = torch.tensor([-1.0, 0.0, 0.5, 2.0]), 4000
    x = torch.stack([margin, torch.zeros(4)], 1)  # right when margin + n1 > n2
    found = score(nn.Sequential(nn.Identity(), AddNoise(1.0, seeded())), x, torch.zeros(4).long(), draws=draws)
    expected = stats.norm.cdf(-margin.numpy() / math.sqrt(2))
    assert found.correct.shape == (draws, 4)
    assert found.success.tolist() == pytest.approx(expected.tolist(), abs=0.03)
    with pytest.raises(UsageError, match="`draws` must be 1 or more"):
        score(nn.Identity(), x, torch.zeros(4).long(), draws=0)


def test_the_worst_attack_is_chosen_without_luck() -> None:
    coin = [Scored(torch.rand(20, 500, generator=seeded(i)) < 0.5) for i in range(12)]
    assert worst_of(coin).accuracy.value == pytest.approx(0.5, abs=0.02)  # the least of each would be near 0.3
    known = torch.rand(2, 50, generator=seeded()) < 0.5
    exact = worst_of([Scored(row[None]) for row in known])
    assert torch.equal(exact.correct[0], known.all(0))


def test_the_worst_of_few_draws_leaves_no_more_than_the_strongest_attack() -> None:
    g = seeded(3)
    weak = [Scored(torch.rand(4, 4000, generator=g) < 0.35) for _ in range(6)]
    strong = Scored(torch.rand(4, 4000, generator=g) < 0.2)
    assert worst_of([*weak, strong]).accuracy.value == pytest.approx(0.2, abs=0.02)


def test_intervals_over_samples_hold_what_they_promise() -> None:
    g, truth, held = seeded(), 0.6, 0
    for _ in range(300):
        p = torch.where(torch.rand(80, generator=g) < 0.5, 0.9, 0.3)  # of samples drawn anew
        found = MeanProportion.of(torch.rand(10, 80, generator=g) < p)
        held += found.low <= truth <= found.high
    assert 0.91 * 300 <= held <= 0.985 * 300
    one = MeanProportion.of((torch.arange(50) < 20)[None])
    wilson = stats.binomtest(20, 50).proportion_ci(method="wilson")
    assert (one.low, one.high) == pytest.approx((wilson.low, wilson.high))
    rows = torch.arange(10)[:, None] < 5  # all samples share a draw: ten trials, not eighty
    assert MeanProportion.of(rows.expand(10, 80)).low < 0.25


def test_differences_pair_over_samples() -> None:
    shares = torch.rand(60, generator=seeded())
    a = torch.rand(10, 60, generator=seeded(1)) < shares
    b = torch.rand(20, 60, generator=seeded(2)) < 0.5 * shares
    found = paired_shares(a, b, generator=seeded())
    assert found.value == pytest.approx(float(a.double().mean() - b.double().mean()))
    assert found.low > 0
    assert found.n == 60
    assert paired_shares(a[:1], b[:1], generator=seeded()).method == "Newcombe"


# Expectation over transformation


def test_draws_are_doubled_until_gradients_agree(plain: nn.Module, test_set: Dataset) -> None:
    found = converged_draws(
        Rippled(plain, 1.0), FGSM(0.1), test_set.x, test_set.y, limit=256, draws=1, generator=seeded()
    )
    assert found.converged
    assert found.draws > 1
    assert found.agreement >= 0.8
    assert [k for k, _ in found.accuracy] == [2**i for i in range(len(found.accuracy))]
    assert found.accuracy[-1][0] == 2 * found.draws
    assert found.accuracy[-1][1].value < found.accuracy[0][1].value - 0.05


def test_the_limit_is_told(plain: nn.Module, test_set: Dataset) -> None:
    some = test_set.subset(torch.arange(50))
    found = converged_draws(Rippled(plain, 300.0), FGSM(0.1), some.x, some.y, limit=4, draws=1, generator=seeded())
    assert not found.converged
    assert found.draws == 4
    assert found.agreement < 0.8


def test_agreement_is_the_share_of_the_signal() -> None:
    class Steep(nn.Module):
        """A loss gradient along a fixed vector, plus noise half as long again."""

        def __init__(self) -> None:
            super().__init__()
            self.generator = seeded(2)

        def forward(self, x: Tensor) -> Tensor:
            noise = torch.randn(x.shape, generator=self.generator)
            z = (x * (1 + 1.5 * noise)).sum(1)
            return torch.stack([z, -z], 1) / 1e4

    x = torch.rand(64, 400, generator=seeded())
    found = converged_draws(Steep(), FGSM(0.1), x, torch.zeros(64).long(), draws=2, limit=64, generator=seeded())
    share = 1 / (1 + 1.5**2 / found.draws)  # of the power of a mean of K draws
    assert found.draws == 16
    assert found.agreement == pytest.approx(share, abs=0.03)


def test_what_has_no_gradient_or_no_randomness_needs_one_draw(plain: nn.Module, test_set: Dataset) -> None:
    x, y = test_set.x[:20], test_set.y[:20]
    for model, attack in ((plain, FGSM(0.1)), (Quantised(plain), FGSM(0.1)), (plain, Square(0.1, queries=3))):
        found = converged_draws(model, attack, x, y, generator=seeded())
        assert (found.draws, found.converged, found.change) == (1, True, None)
    with pytest.raises(UsageError, match="`limit` must be 2"):
        converged_draws(plain, FGSM(0.1), x, y, limit=1, generator=seeded())
