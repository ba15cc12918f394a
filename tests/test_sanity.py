"""Every trust check fires on a real model with the fault, and stays silent on a plain logistic regression."""

import math
from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from redqubit import sanity
from redqubit.errors import UsageError
from redqubit.evasion import FGSM, MIM, PGD, EvasionAttack, RandomNoise, Square, check_model
from redqubit.evasion.base import AttackOn
from redqubit.metrics import is_correct
from redqubit.result import Flag

EPS = 0.15


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """200 held-out digits."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x[1500:1700] / 16, dtype=torch.float32), torch.tensor(y[1500:1700])


def trained(features: nn.Module, scale: float = 1.0) -> nn.Sequential:
    """Fit logistic regression by scikit-learn on features of the first 1500 digits."""
    x, y = load_digits(return_X_y=True)
    z = features(torch.tensor(x[:1500] / 16, dtype=torch.float32)).detach().numpy()
    fitted = LogisticRegression(C=0.3, max_iter=300).fit(z, y[:1500])
    head = nn.Linear(z.shape[1], 10)
    head.weight.data = scale * torch.tensor(fitted.coef_, dtype=torch.float32)
    head.bias.data = scale * torch.tensor(fitted.intercept_, dtype=torch.float32)
    return nn.Sequential(features, head)


class Quantise(nn.Module):
    """Five grey levels: rounding has the gradient zero."""

    def forward(self, x: Tensor) -> Tensor:
        return (4 * x).round() / 4


class Reversed(nn.Module):
    """Returns x with the gradient of another input entry, as a faulty backward pass would."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach() + x.flip(1) - x.flip(1).detach()


class Waves(nn.Module):
    """Features that turn round within the range of inputs, so that a large step overshoots."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.cos(9 * x), torch.sin(9 * x)], 1)


class NoisyLogits(nn.Module):
    def __init__(self, spread: float) -> None:
        super().__init__()
        self.inner, self.spread, self.generator = plain(), spread, seeded(8)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return logits + self.spread * torch.randn(logits.shape, generator=self.generator)


@cache
def plain() -> nn.Sequential:
    return trained(nn.Identity())


def after(attack: EvasionAttack, model: nn.Module) -> Tensor:
    x, y = digits()
    with torch.no_grad():
        return is_correct(model(attack(model, x, y, generator=seeded())), y)


def ok(flag: Flag) -> bool:
    """True for a passed check; either way the flag must carry its numbers and one sentence."""
    assert flag.evidence
    assert all(isinstance(value, float | int | str) for value in flag.evidence.values())
    assert flag.evidence["n"] == 200
    assert flag.message.endswith(".")
    assert "\n" not in flag.message
    assert flag.subject == "digits / model"
    return flag.severity == "ok"


S = "digits / model"


def test_plain_model_passes_every_check() -> None:
    model, (x, y) = plain(), digits()
    assert is_correct(model(x), y).float().mean() > 0.85
    single, attacked, noise = after(FGSM(EPS), model), after(PGD(EPS), model), after(RandomNoise(EPS), model)
    square = after(Square(EPS, queries=300), model)
    more, softmax = after(PGD(EPS, steps=100, restarts=2), model), after(PGD(EPS, attack_on="softmax_output"), model)
    curve = {eps: after(FGSM(eps), model) for eps in (0.0, 0.05, 0.1, 0.2, 0.5)}
    flags = [
        sanity.single_step_check(single, attacked, subject=S),
        sanity.noise_check(noise, attacked, subject=S),
        sanity.black_box_check(attacked, square, subject=S),
        sanity.convergence_check(attacked, more, subject=S),
        sanity.loss_check(attacked, softmax, subject=S),
        sanity.chance_check(curve[0.5], 0.5, 10, subject=S),
        sanity.curve_check(curve, subject=S),
        sanity.sample_size_check(0.4, 200, subject=S),
        sanity.gradient_check(model, x, y, subject=S),
        sanity.logit_check(model, x, subject=S),
        sanity.finite_difference_check(model, x, y, generator=seeded(), subject=S),
        sanity.randomness_check(model, x, subject=S),
    ]
    assert [flag for flag in flags if not ok(flag)] == []
    assert len({flag.code for flag in flags}) == len(flags)
    check_model(model, x, 10)


def test_quantised_input_masks_the_gradient() -> None:
    model, (x, y) = trained(Quantise()), digits()
    found = sanity.input_gradient_statistics(model, x, y)
    assert (found.zero_entries, found.zero_samples, found.median_magnitude, found.n) == (1.0, 1.0, 0.0, 200)
    assert sanity.gradient_check(model, x, y, subject=S).severity == "fail"
    differences = sanity.finite_difference_check(model, x, y, generator=seeded(), subject=S)
    assert differences.severity == "fail"
    assert differences.evidence["ratio"] == 0

    white, noise = after(PGD(EPS, random_start=False), model), after(RandomNoise(EPS), model)
    black = after(Square(EPS, queries=300), model)
    flag = sanity.black_box_check(white, black, black_box="square", subject=S)
    assert (flag.code, flag.severity, flag.evidence["rival"]) == ("gradient-masking", "fail", "square")
    assert flag.evidence["only_rival_fools"] == int((white & ~black).sum()) > 50
    assert not ok(sanity.noise_check(noise, white, subject=S))
    assert sanity.chance_check(after(PGD(0.5, random_start=False), model), 0.5, 10, subject=S).severity == "fail"


def test_faulty_backward_pass_is_found_by_finite_differences_alone() -> None:
    model, (x, y) = nn.Sequential(Reversed(), *plain()), digits()
    assert ok(sanity.gradient_check(model, x, y, subject=S))
    assert sanity.finite_difference_check(model, x, y, generator=seeded(), subject=S).severity == "fail"


def test_gradient_of_the_wrong_size_is_found() -> None:
    class Shrinks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach() + 0.1 * (x - x.detach())

    flag = sanity.finite_difference_check(nn.Sequential(Shrinks(), *plain()), *digits(), generator=seeded(), subject=S)
    assert flag.severity == "fail"
    assert flag.evidence["ratio"] == pytest.approx(0.1, rel=1e-3)
    assert flag.evidence["correlation"] == pytest.approx(1, abs=1e-3)


def test_saturated_logits() -> None:
    model, (x, y) = trained(nn.Identity(), scale=1000), digits()
    assert sanity.logit_check(model, x, subject=S).severity == "fail"
    assert sanity.gradient_check(model, x, y, subject=S).severity == "fail"
    assert ok(sanity.finite_difference_check(model, x, y, generator=seeded(), subject=S)), (
        "the logits themselves are fine"
    )
    white, black = after(PGD(EPS, random_start=False), model), after(Square(EPS, queries=300), model)
    assert sanity.black_box_check(white, black, subject=S).severity == "fail"


def test_logits_near_saturation_are_a_warning() -> None:
    x, _ = digits()
    median = float(sanity.logit_check(plain(), x, subject=S).evidence["median_margin"])  # type: ignore[arg-type]
    near = trained(
        nn.Identity(), scale=25 / median
    )  # single precision: beyond 16 the top rounds to 1, beyond 87 all is 0
    flag = sanity.logit_check(near, x, subject=S)
    assert flag.severity == "warning"
    assert flag.evidence["median_margin"] == pytest.approx(25, rel=1e-3)
    assert ok(sanity.logit_check(near.double(), x.double(), subject=S)), "double precision reaches 36"


def test_contracted_logits() -> None:
    model, (x, _) = trained(nn.Identity(), scale=1e-5), digits()
    flag = sanity.logit_check(model, x, subject=S)
    assert flag.severity == "warning"
    assert "contracted" in flag.message


def test_tiny_gradient_and_mostly_zero_gradient_are_warnings() -> None:
    x, y = digits()
    tiny = trained(nn.Identity(), scale=1e-9)
    flag = sanity.gradient_check(tiny, x, y, subject=S)
    assert (flag.severity, "tiny" in flag.message) == ("warning", True)
    sparse = nn.Linear(64, 10)
    sparse.weight.data[:, 20:] = 0
    flag = sanity.gradient_check(sparse, x, y, subject=S)
    assert flag.severity == "warning"
    assert flag.evidence["zero_entries"] == pytest.approx(44 / 64)


def test_step_too_small_makes_pgd_weaker_than_fgsm() -> None:
    """The trap that was measured: an absolute step that cannot cross the ball."""
    weak = after(PGD(EPS, steps=5, step_size=0.01, random_start=False), plain())
    assert sanity.single_step_check(after(FGSM(EPS), plain()), weak, subject=S).severity == "fail"
    converged = after(PGD(EPS), plain())
    assert ok(sanity.convergence_check(converged, weak, subject=S)), "a weaker rival proves nothing"
    flag = sanity.convergence_check(weak, converged, more="40 relative steps", subject=S)
    assert flag.severity == "warning"
    assert "40 relative steps" in flag.message


def test_overshoot_makes_the_curve_of_fgsm_rise_and_mim_better_than_it() -> None:
    model = trained(Waves())
    curve = {eps: after(FGSM(eps), model) for eps in (0.05, 0.15, 0.35, 0.7)}
    flag = sanity.curve_check(curve, subject=S)
    assert flag.severity == "warning"
    assert flag.evidence["largest_rise"] > 0.05  # type: ignore[operator]
    assert ok(sanity.single_step_check(curve[0.35], after(MIM(0.35), model), subject=S))
    with pytest.raises(UsageError, match="two or more"):
        sanity.curve_check({0.1: curve[0.05]})


def test_curve_check_allows_noise() -> None:
    few, many = torch.zeros(200) > 0, torch.zeros(200) > 0
    many[:5] = True  # five more correct out of 200: p = 2 / 32
    assert ok(sanity.curve_check({0.1: few, 0.2: many}, subject=S))
    many[5:9] = True
    assert not ok(sanity.curve_check({0.1: few, 0.2: many}, subject=S))
    assert ok(sanity.curve_check({0.2: few, 0.1: many}, subject=S)), "order of eps, not of the mapping"


def test_double_softmax_cannot_pull_a_confident_model_to_a_target() -> None:
    """Where the target's probability rounds to 0 its softmax has no slope, while the logits still have theirs.

    An untargeted attack hardly notices: away from the true class both losses have gradients of the same size.
    """
    model, (x, y) = trained(nn.Identity(), scale=60), digits()
    target = (y + 1) % 10

    def unreached(attack_on: AttackOn) -> Tensor:
        attack = PGD(0.3, targeted=True, attack_on=attack_on, random_start=False)
        return ~is_correct(model(attack(model, x, target, generator=seeded())), target)

    logits, softmax = unreached("logits"), unreached("softmax_output")
    flag = sanity.loss_check(logits, softmax, subject=S)
    assert (flag.severity, "weaker" in flag.message) == ("warning", True)
    assert sanity.loss_check(softmax, logits, subject=S).severity == "fail"


def test_noise_as_strong_as_the_attack() -> None:
    attacked, clean = after(PGD(EPS), plain()), after(PGD(0.0), plain())
    assert sanity.noise_check(attacked, clean, subject=S).severity == "fail"
    assert sanity.noise_check(clean, clean, subject=S).severity == "warning"
    nothing = clean & ~clean
    assert ok(sanity.noise_check(nothing, nothing, subject=S)), "nothing left to win"


def test_accuracy_above_chance_at_the_largest_eps() -> None:
    clean = after(PGD(0.0), plain())
    assert sanity.chance_check(clean, 0.1, 10, subject=S).severity == "warning"
    assert sanity.chance_check(clean, 0.5, 10, subject=S).severity == "fail"
    at_chance = torch.arange(200) < 26  # 13 %, interval from 9 %
    assert ok(sanity.chance_check(at_chance, 0.5, 10, subject=S))


@pytest.mark.parametrize(("draws", "passes"), [(1, False), (32, True)])
def test_randomised_model_needs_eot(draws: int, passes: bool) -> None:
    flag = sanity.randomness_check(NoisyLogits(1.0), digits()[0], draws=draws, subject=S)
    assert ok(flag) == passes
    assert flag.evidence["largest_difference"] > 1  # type: ignore[operator]


def test_dropout_counts_as_random_only_where_it_acts_in_evaluation() -> None:
    x, _ = digits()
    model = nn.Sequential(nn.Dropout(0.5), *plain()).train()
    assert ok(sanity.randomness_check(model, x, subject=S))
    assert model.training


def test_draws_tell_noise_from_disagreement() -> None:
    x, y = digits()

    def check(draws: int) -> Flag:
        return sanity.finite_difference_check(NoisyLogits(2.0), x, y, generator=seeded(), draws=draws, subject=S)

    assert not ok(check(1))
    assert ok(check(100))


def test_sample_too_small() -> None:
    assert not ok(sanity.sample_size_check(-0.05, 200, subject=S))
    flag = sanity.sample_size_check(0.1, 200, p=0.9, subject=S)
    assert ok(flag)
    assert flag.evidence["detectable"] == pytest.approx((1.959964 + 0.841621) * math.sqrt(2 * 0.09 / 200), abs=1e-6)
