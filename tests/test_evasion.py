"""Contracts that every registered evasion attack keeps, and the errors of the call."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.evasion import (
    ATTACKS,
    FGSM,
    MIM,
    PGD,
    GradientAttack,
    RandomNoise,
    Square,
    input_gradient,
    transfer_matrix,
)
from redqubit.evasion.base import keep_worst
from redqubit.evasion.square import _change

EPS = 0.15


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fill(model: nn.Module, scale: float = 0.6) -> nn.Module:
    """Give every weight fixed numbers that do not depend on the global seed."""
    generator = seeded(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, dtype=weight.dtype, generator=generator) * scale)
    return model


def conv_net(n_classes: int = 3) -> nn.Module:
    """A small net with every nuisance: batch norm, dropout, mixed modes, a frozen weight, a stored gradient."""
    model = fill(
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(),
            nn.Linear(4 * 6 * 5, n_classes),
        )
    )  # fmt: skip
    model.train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    return model


def flat_net(n_classes: int = 3) -> nn.Module:
    return fill(nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, n_classes)))


def images(n: int = 12) -> Tensor:
    x = torch.rand(n, 2, 6, 5, generator=seeded(2))
    x[0], x[1] = 0.0, 1.0  # corners of the cube
    return x


def labels(n: int = 12, n_classes: int = 3) -> Tensor:
    return torch.arange(n) % n_classes


KINDS: dict[str, tuple[Callable[[int], nn.Module], Callable[[], Tensor]]] = {
    "images": (conv_net, images),
    "flat": (flat_net, lambda: torch.rand(12, 7, generator=seeded(3))),
}
each_attack = pytest.mark.parametrize("name", list(ATTACKS))
each_kind = pytest.mark.parametrize("kind", list(KINDS))


@each_attack
@each_kind
@pytest.mark.parametrize("n_classes", [2, 3])
def test_result_is_a_detached_input_in_the_ball_and_the_unit_cube(name: str, kind: str, n_classes: int) -> None:
    make_model, make_x = KINDS[kind]
    x = make_x()
    kept = x.clone()
    x_adv = ATTACKS[name](EPS)(make_model(n_classes), x, labels(n_classes=n_classes), generator=seeded())
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert (x_adv - x).abs().max() <= EPS + 1e-6
    assert (x_adv - x).abs().max() > 0.9 * EPS
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert torch.equal(x, kept)


@each_attack
def test_model_is_left_as_it_was(name: str) -> None:
    model = conv_net()

    def state() -> list[object]:
        modes = [module.training for module in model.modules()]
        weights = [
            (p.requires_grad, p.tolist(), p.grad if p.grad is None else p.grad.tolist()) for p in model.parameters()
        ]
        return [modes, weights, {key: value.tolist() for key, value in model.state_dict().items()}]

    before = state()
    ATTACKS[name](EPS)(model, images(), labels(), generator=seeded())
    assert state() == before


@each_attack
def test_model_is_restored_when_it_fails(name: str) -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            raise ArithmeticError("of the model's own")

    model = Fails()
    with pytest.raises(ArithmeticError):
        ATTACKS[name](EPS)(model, images(), labels(), generator=seeded())
    assert model.training
    assert model.weight.requires_grad


@each_attack
@each_kind
def test_same_seed_same_bytes_whatever_the_global_seed(name: str, kind: str) -> None:
    make_model, make_x = KINDS[kind]
    model, x = make_model(3), make_x()
    state = torch.get_rng_state()
    first = ATTACKS[name](EPS)(model, x, labels(), generator=seeded(5), batch_size=5)
    assert torch.equal(torch.get_rng_state(), state), "an attack must not draw from the global generator"
    torch.rand(3)
    assert torch.equal(first, ATTACKS[name](EPS)(model, x, labels(), generator=seeded(5), batch_size=5))


@each_attack
@each_kind
def test_zero_eps_is_the_identity(name: str, kind: str) -> None:
    make_model, make_x = KINDS[kind]
    x = make_x()
    assert torch.equal(ATTACKS[name](0.0)(make_model(3), x, labels(), generator=seeded()), x)


@each_attack
@each_kind
def test_untargeted_raises_the_loss_and_targeted_lowers_it(name: str, kind: str) -> None:
    make_model, make_x = KINDS[kind]
    model, x = make_model(3).eval(), make_x()
    with torch.no_grad():
        predicted = model(x).argmax(1)
        target = (predicted + 1) % 3

        def probability(x: Tensor, y: Tensor) -> Tensor:
            return model(x).softmax(1).gather(1, y[:, None]).mean()

        away = ATTACKS[name](0.3)(model, x, predicted, generator=seeded())
        toward = ATTACKS[name](0.3, targeted=True)(model, x, target, generator=seeded())
        assert probability(away, predicted) < probability(x, predicted)
        assert probability(toward, target) > probability(x, target)


@each_attack
def test_float64_stays_float64(name: str) -> None:
    x = torch.rand(12, 7, dtype=torch.float64, generator=seeded(3))
    model = flat_net().double()
    x_adv = ATTACKS[name](1e-9)(model, x, labels(), generator=seeded())  # single precision would round eps away
    assert x_adv.dtype == torch.float64
    assert 0 < (x_adv - x).abs().max() <= 1.001e-9


@each_attack
def test_works_where_gradients_are_switched_off(name: str) -> None:
    x = torch.rand(12, 7, generator=seeded(3))
    plain = ATTACKS[name](EPS)(flat_net(), x, labels(), generator=seeded())
    with torch.no_grad():
        assert torch.equal(plain, ATTACKS[name](EPS)(flat_net(), x, labels(), generator=seeded()))


@each_attack
def test_docstring_names_its_source(name: str) -> None:
    assert "Reference:" in (ATTACKS[name].__doc__ or "")


@each_attack
def test_fields_are_checked(name: str) -> None:
    attack = ATTACKS[name]()
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="`eps`"):
            replace(attack, eps=value)
    for count in ("steps", "restarts", "draws", "queries"):
        if hasattr(attack, count):
            with pytest.raises(UsageError, match=f"`{count}`"):
                replace(attack, **{count: 0})
    if isinstance(attack, GradientAttack):
        with pytest.raises(UsageError, match="did you mean logits"):
            replace(attack, attack_on="logit")


X, Y = torch.full((4, 7), 0.5), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (X + 1, Y, r"`x` must lie in \[0, 1\], but spans 1.5 to 1.5"),
        (X - 1, Y, r"`x` must lie in \[0, 1\]"),
        (X * float("nan"), Y, r"`x` must lie in \[0, 1\], but spans nan"),
        (X[0], Y[:1], "`x` must hold samples"),
        (X[:0], Y[:0], "`x` must hold samples"),
        (X.int(), Y, "`x` must be floating point"),
        (X, Y[:3], "`y` must be int64"),
        (X, Y[:, None], "`y` must be int64"),
        (X, Y.float(), "`y` must be int64"),
        (X, Y - 1, "`y` must hold labels from 0"),
        (X, Y + 1, "`model` must return a logit per class, but Sequential has 3 and the labels need 4"),
    ],
)
def test_bad_inputs_and_labels(x: Tensor, y: Tensor, match: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        FGSM()(flat_net(), x, y, generator=seeded())
    assert "\n" not in str(error.value)


class Casts(nn.Linear):
    """A model that turns its inputs into the type of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def test_inputs_of_another_type_than_the_weights() -> None:
    said = (
        r"inputs of torch.float64, but Linear has parameters of torch.float32 and does not: call .float\(\) on the inp"
    )
    x, y = X.flatten(1), Y
    with pytest.raises(UsageError, match=said) as error:
        FGSM()(nn.Linear(x.shape[1], 5), x.double(), y, generator=seeded())
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match=r"call .double\(\) on the inputs, or .float\(\) on the model"):
        FGSM()(nn.Linear(x.shape[1], 5).double(), x, y, generator=seeded())
    assert FGSM()(Casts(x.shape[1], 5), x.double(), y, generator=seeded()).dtype == torch.float64
    with pytest.raises(RuntimeError, match="shapes"):  # a fault that has nothing to do with types stays what it is
        FGSM()(nn.Linear(x.shape[1] + 1, 5), x, y, generator=seeded())


class Returns(nn.Module):
    def __init__(self, output: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> object:
        return self.output(x)


@pytest.mark.parametrize(
    ("output", "match"),
    [
        (lambda x: x.softmax(1), "must return logits, but the outputs of Returns are probabilities"),
        (lambda x: x[:, 0], "must return logits of shape"),
        (lambda x: x[:, :1], "must return logits of shape"),
        (lambda x: x[:1], "must return logits of shape"),
        (lambda x: (x, x), "returned tuple"),
        (lambda x: x / 0, "must return finite logits"),
        (lambda x: x.detach() * 3, "must pass gradients to its input, but the logits of Returns"),
        (lambda x: x.detach() * torch.ones(7, requires_grad=True), "must pass gradients to its input"),
    ],
)
def test_bad_models(output: Callable[[Tensor], object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        FGSM()(Returns(output), X, Y, generator=seeded())


@pytest.mark.parametrize("name", ["square", "random_noise"])
def test_attacks_without_gradients_take_models_without(name: str) -> None:
    model = Returns(lambda x: x.detach() * 3)
    x = torch.rand(4, 7, generator=seeded())
    y = x.argmax(1)  # right at first, or Square would have nothing to do
    assert not torch.equal(ATTACKS[name](EPS)(model, x, y, generator=seeded()), x)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mim"])
def test_nan_gradient_is_reported_not_hidden_by_sign(name: str) -> None:
    """sqrt has an infinite slope at 0, times 0: finite logits, NaN gradient; sign() alone would make it 0."""
    x = torch.rand(4, 7, generator=seeded())
    x[2, 3] = 0.0
    model = Returns(lambda x: (x * x).sqrt() * 3)
    with pytest.raises(UsageError, match="finite outputs and gradients"):
        replace(ATTACKS[name](EPS), **({"random_start": False} if name == "pgd" else {}))(
            model, x, Y, generator=seeded()
        )


def test_an_attack_that_leaves_the_ball_is_a_fault() -> None:
    class Leaves(FGSM):
        def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
            return (x + 2 * self.eps).clamp(0, 1)

    with pytest.raises(RuntimeError, match="left the eps-ball"):
        Leaves(EPS)(flat_net(), X, Y, generator=seeded())


def test_batches_do_not_mix_samples() -> None:
    x = torch.rand(12, 7, generator=seeded(3))
    whole = MIM(EPS)(flat_net(), x, labels(), generator=seeded())
    torch.testing.assert_close(MIM(EPS)(flat_net(), x, labels(), generator=seeded(), batch_size=5), whole)


def test_restarts_fool_at_least_as_many_and_keep_the_highest_loss() -> None:
    model, x = flat_net(), torch.rand(60, 7, generator=seeded(3))
    y = model(x).argmax(1)
    few = PGD(0.2, steps=3, rel_step=1.0)
    for seed in range(3):
        one = model(few(model, x, y, generator=seeded(seed)))
        five = model(replace(few, restarts=5)(model, x, y, generator=seeded(seed)))
        survives = five.argmax(1) == y
        assert (five.argmax(1) == y).sum() <= (one.argmax(1) == y).sum()
        loss = [nn.functional.cross_entropy(logits, y, reduction="none") for logits in (one, five)]
        # the first restart is the single run, so that none that survives can have lost loss
        assert (loss[1] >= loss[0] - 1e-6)[survives].all()
        assert (loss[1] > loss[0] + 1e-6)[survives].any()


def test_an_attempt_that_fools_is_kept_even_at_a_lower_loss() -> None:
    attempts = iter([torch.tensor([[0.1, 0.0, 0.0]]), torch.tensor([[5.0, 5.1, -9.0]])])  # losses 1.03 and 0.74
    found = keep_worst(
        lambda x, y: next(attempts), 2, nn.Identity(), torch.zeros(1, 3), torch.tensor([0]), targeted=False
    )
    assert found.tolist() == [pytest.approx([5.0, 5.1, -9.0])]


def test_named_settings_of_pgd() -> None:
    paper, strong = PGD.paper(0.3), PGD.strong(0.3)
    assert (paper.steps, paper.step, paper.random_start, paper.restarts) == (40, 0.01, False, 1)
    assert PGD.paper(0.004).step == 0.004
    assert (strong.steps, strong.restarts, strong.random_start) == (100, 5, True)
    assert strong.step == pytest.approx(2.5 * 0.3 / 100)
    with pytest.raises(UsageError, match="`step_size`"):
        PGD(step_size=-0.1)


class Noisy(nn.Module):
    """Logits (z + noise, 0): its mean is known, its single draws are not."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread, self.generator, self.passes = spread, seeded(9), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        slope = torch.ones(x.shape[1]) + self.spread * torch.randn(x.shape[1], generator=self.generator)
        return torch.stack([x @ slope, torch.zeros(len(x))], 1)


def test_draws_average_the_gradient() -> None:
    x, y = torch.zeros(1, 4), torch.tensor([1])
    many = input_gradient(Noisy(1.0), x, y, draws=4000)
    torch.testing.assert_close(many, torch.full((1, 4), 0.5), atol=0.03, rtol=0)  # sd 0.5 / sqrt(4000)
    model = Noisy(3.0)
    FGSM(EPS, draws=7)(model, X, Y.clamp(max=1), generator=seeded())
    assert model.passes == 1 + 7  # one for the check


def test_softmax_output_shrinks_the_gradient_of_a_confident_model() -> None:
    """Closed form: p(1-p) (2 q - ...) for two classes; here L = log(1 + exp(1 - 2p)), p = sigmoid(z)."""
    z = torch.tensor([[4.0, 0.0]])
    p = torch.sigmoid(torch.tensor(4.0))
    found = input_gradient(nn.Identity(), z, torch.tensor([0]), attack_on="softmax_output")[0, 0]
    expected = -torch.sigmoid(1 - 2 * p) * 2 * p * (1 - p)
    torch.testing.assert_close(found, expected)


def test_random_noise_moves_every_entry_by_eps() -> None:
    x = torch.full((5, 7), 0.5)
    x_adv = RandomNoise(0.25)(flat_net(), x, labels(5), generator=seeded())
    torch.testing.assert_close((x_adv - x).abs(), torch.full_like(x, 0.25))
    assert len(x_adv.unique(dim=0)) > 1


def test_square_changes_one_square_with_one_sign_per_channel() -> None:
    x = torch.rand(50, 3, 8, 6)
    where, signs = _change(x, 0.2, seeded())
    side = 3  # sqrt(0.2 * 48) = 3.1
    assert where.shape == (50, 1, 8, 6)
    assert signs.shape == (50, 3, 1, 1)
    assert (where.sum((1, 2, 3)) == side**2).all()
    assert (where.any(3).sum(2) == side).all()
    rows, columns = where.any(3)[:, 0].float().argmax(1), where.any(2)[:, 0].float().argmax(1)
    assert set(rows.tolist()) == set(range(6))
    assert set(columns.tolist()) == set(range(4))


def test_square_changes_the_wanted_number_of_coordinates() -> None:
    where, signs = _change(torch.rand(400, 10), 0.3, seeded())
    assert (where.sum(1) == 3).all()
    assert where.float().mean(0).sub(0.3).abs().max() < 0.1
    assert set(signs.unique().tolist()) == {-1.0, 1.0}


def test_square_respects_its_budget_and_leaves_fooled_samples_alone() -> None:
    class Counts(nn.Module):
        shown = 0

        def forward(self, x: Tensor) -> Tensor:
            self.shown += len(x)
            return torch.tensor([[2.0, 0.0]]).expand(len(x), 2)

    x = torch.rand(3, 7, generator=seeded())
    model = Counts()
    Square(EPS, queries=20)(model, x, torch.zeros(3, dtype=torch.int64), generator=seeded())
    assert model.shown == 3 * (1 + 1 + 20)  # the check, the clean margin and the queries
    wrong = torch.ones(3, dtype=torch.int64)
    assert torch.equal(Square(EPS)(model, x, wrong, generator=seeded()), x)


def test_transfer_grid_agrees_with_attacks_made_one_by_one() -> None:
    models = {"a": flat_net(), "b": fill(nn.Linear(7, 3), 1.0)}
    x, y = torch.rand(60, 7, generator=seeded(3)), labels(60)
    clean = {name: model(x).argmax(1) == y for name, model in models.items()}
    for attack in (PGD(0.1, steps=5), RandomNoise(0.5, draws=1)):
        grid = transfer_matrix(models, attack, x, y, generator=seeded(4))
        assert set(grid) == {(s, t) for s in "ab" for t in "ab"}
        for source, model in models.items():
            x_adv = attack(model, x, y, generator=seeded(4))
            for target, judge in models.items():
                cell, both = grid[source, target], clean[source] & clean[target]
                correct = judge(x_adv).argmax(1) == y
                assert torch.equal(cell.correct, correct)
                assert (cell.accuracy.k, cell.accuracy.n) == (int(correct.sum()), 60)
                kept = cell.accuracy_where_both_correct
                assert (kept.k, kept.n) == (int((correct & both).sum()), int(both.sum()))
    assert (correct & ~both).any(), "the noise must correct some samples, or the restriction goes untested"
    with pytest.raises(UsageError, match="untargeted"):
        transfer_matrix(models, FGSM(targeted=True), x, y, generator=seeded())


def test_unknown_attack_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean pgd"):
        ATTACKS["pdg"]
