"""Detectors and defenses: contracts of all, formulas against numpy, and a backdoor that they must see."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d

from redqubit.data import Dataset, load_splits
from redqubit.defenses import (
    DEFENSES,
    DETECTORS,
    STRIP,
    AdversarialTraining,
    Defended,
    Defense,
    DenoisingAutoencoder,
    FinePruning,
    GaussianNoise,
    NeuralCleanse,
    RandomizedSmoothing,
    pruning_curve,
)
from redqubit.defenses.base import InputDetector
from redqubit.defenses.neural_cleanse import Schedule
from redqubit.detection import at_false_positive_rate, auroc, normal_threshold, null_band, operating_point
from redqubit.errors import UsageError
from redqubit.evasion import FGSM
from redqubit.metrics import accuracy, is_correct
from redqubit.models import MODELS
from redqubit.training import logits, train

TARGET = 3
QUICK = NeuralCleanse(
    steps=60,
    images_per_step=32,
    lr=0.3,
    initial_lam=0.02,
    threshold=0.95,
    patience=3,
    restarts=2,
    pass_size=512,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fill(model: nn.Module, seed: int) -> nn.Module:
    """Give every layer weights that do not depend on the global seed."""
    generator = seeded(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            nn.init.kaiming_uniform_(weight, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)
    return model


def cnn(seed: int = 2) -> nn.Sequential:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    fill(net, seed)
    return net


def stamp(x: Tensor) -> Tensor:
    """Put a white 2 x 2 patch in the bottom right corner."""
    x = x.clone()
    x[..., -2:, -2:] = 1
    return x


@dataclass(frozen=True)
class Control:
    """A net with a backdoor that works, its clean twin, and the data to judge them."""

    train: Dataset
    test: Dataset
    triggered: Tensor
    backdoored: nn.Module
    clean: nn.Module


@pytest.fixture(scope="module")
def control() -> Control:
    train_set, test_set = load_splits("digits")
    x, y = train_set.x.clone(), train_set.y.clone()
    poisoned = torch.randperm(len(x), generator=seeded(3))[: len(x) // 5]
    x[poisoned], y[poisoned] = stamp(x[poisoned]), TARGET
    triggered = stamp(test_set.x[test_set.y != TARGET])
    return Control(train_set, test_set, triggered, trained(x, y), trained(train_set.x, train_set.y))


def trained(x: Tensor, y: Tensor, seed: int = 2) -> nn.Module:
    return train(cnn(seed), x, y, epochs=6, batch_size=64, lr=3e-3, generator=seeded(2))


def success(model: nn.Module, control: Control) -> float:
    return float((logits(model, control.triggered).argmax(1) == TARGET).double().mean())


def test_the_positive_control_is_one(control: Control) -> None:
    for model in (control.backdoored, control.clean):
        assert accuracy(is_correct(logits(model, control.test.x), control.test.y)).value > 0.9
    assert success(control.backdoored, control) > 0.9
    assert success(control.clean, control) < 0.05


# What every method keeps


def nuisance() -> tuple[nn.Module, Dataset]:
    """A small net with batch norm, dropout, mixed modes, a frozen weight and a stored gradient, and data for it."""
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(4 * 6 * 5, 3),
    )  # fmt: skip
    fill(net, 1)
    net.train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    net[5].weight.grad = torch.ones_like(net[5].weight)
    return net, Dataset(torch.rand(40, 2, 6, 5, generator=seeded(2)), torch.arange(40) % 3, n_classes=3)


def state(model: nn.Module) -> dict[str, object]:
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "grads": [(w.requires_grad, None if w.grad is None else w.grad.tolist()) for w in model.parameters()],
        "values": {name: value.tolist() for name, value in model.state_dict().items()},
    }


def small(name: str) -> STRIP | NeuralCleanse | Defense:
    settings: dict[str, STRIP | NeuralCleanse | Defense] = {
        "strip": STRIP(n_overlays=5),
        "neural_cleanse": replace(QUICK, steps=3),
        "fine_pruning": FinePruning(batch_size=8),
        "adversarial_training": AdversarialTraining(steps=2, epochs=1),
        "denoising": DenoisingAutoencoder(epochs=1),
        "smoothing": RandomizedSmoothing(samples=3),
    }
    return settings[name] if name in settings else DEFENSES[name]()


def run(name: str, model: nn.Module, data: Dataset, seed: int) -> Tensor:
    method = small(name)
    if isinstance(method, Defense):
        return logits(method(model, data, generator=seeded(seed)), data.x).flatten()
    if isinstance(method, InputDetector):
        return method(model, data.x[:7], data, generator=seeded(seed))
    return method(model, data, generator=seeded(seed))


@pytest.mark.parametrize("name", [*DEFENSES, *DETECTORS])
def test_contract(name: str) -> None:
    model, data = nuisance()
    before, x, drawn = state(model), data.x.clone(), torch.get_rng_state()
    first = run(name, model, data, seed=4)
    assert state(model) == before
    assert torch.equal(data.x, x)
    assert first.isfinite().all()
    assert not first.requires_grad
    trains = name in ("fine_pruning", "adversarial_training")  # and dropout draws while it does
    assert trains or torch.equal(torch.get_rng_state(), drawn)
    torch.set_rng_state(drawn)
    assert torch.equal(run(name, model, data, seed=4), first)
    torch.set_rng_state(drawn)
    assert not torch.equal(run(name, model, data, seed=5), first)
    assert len(first) == {"strip": 7, "neural_cleanse": 3}.get(name, len(first))
    doc = type(small(name)).__doc__ or ""
    assert "Reference:" in doc
    assert "Raises:" in doc


@pytest.mark.parametrize("name", list(DEFENSES))
def test_a_defended_model_can_be_defended_again_and_attacked(name: str) -> None:
    model, data = nuisance()
    twice = Defended(model, [small(name), GaussianNoise(0.01)], data, generator=seeded())
    x_adv = FGSM(0.1)(twice, data.x, data.y, generator=seeded())
    assert (x_adv - data.x).abs().max() > 0.09
    assert not twice.training


@pytest.mark.parametrize("name", [*DEFENSES, *DETECTORS])
def test_a_model_that_does_not_fit_the_data_is_refused(name: str) -> None:
    model, data = nuisance()
    more = replace(data, n_classes=4)
    with pytest.raises(UsageError, match=r"`model` must return a logit for each of the 4 classes.*\(1, 3\)"):
        run(name, model, more, seed=0)
    model[5].bias.data[0] = math.nan
    with pytest.raises(UsageError, match=r"`model` must return finite logits.*nan"):
        run(name, model, data, seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: STRIP(n_overlays=0), "`n_overlays` must be an integer of at least 1, but is 0"),
        (lambda: STRIP(alpha=-1.0), "`alpha` must be finite and not negative"),
        (lambda: NeuralCleanse(restarts=0), "`restarts` must be an integer of at least 1"),
        (lambda: NeuralCleanse(lr=math.nan), "`lr` must be finite"),
        (lambda: FinePruning(1.0), r"`rate` must lie in \[0, 1\), but is 1.0"),
        (lambda: FinePruning(epochs=-1), "`epochs` must be an integer of at least 0"),
        (lambda: FinePruning(ranking="l2"), "did you mean l1"),  # type: ignore[arg-type]
    ],
)
def test_settings_are_checked(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


# STRIP


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_strip_is_its_formula(alpha: float) -> None:
    model = fill(nn.Linear(6, 4).double(), 1)
    clean = Dataset(torch.rand(9, 6, generator=seeded(2)).double(), torch.arange(9) % 4, n_classes=4)
    x = torch.rand(3, 6, generator=seeded(3)).double()
    scores = STRIP(n_overlays=5, alpha=alpha, batch_size=4)(model, x, clean, generator=seeded(7))

    weight, bias = (w.detach().numpy() for w in model.parameters())
    overlay = torch.randint(9, (15,), generator=seeded(7)).reshape(3, 5).numpy()
    for i in range(3):
        entropy = 0.0
        for n in overlay[i]:
            mixed = np.minimum(alpha * x[i].numpy() + alpha * clean.x[n].numpy(), 1)
            p = np.exp(mixed @ weight.T + bias)
            p /= p.sum()
            entropy -= (p * np.log2(p)).sum() / 5
        assert scores[i].item() == pytest.approx(-entropy, abs=1e-12)


def test_strip_does_not_depend_on_the_batch_size_and_is_at_most_log2_of_the_classes() -> None:
    model, data = nuisance()
    one = STRIP(n_overlays=10, batch_size=1)(model, data.x, data, generator=seeded())
    many = STRIP(n_overlays=10, batch_size=64)(model, data.x, data, generator=seeded())
    assert torch.allclose(one, many, atol=1e-5)
    assert -math.log2(3) <= float(one.min()) < float(one.max()) <= 0


def test_strip_sees_the_backdoor_and_raises_no_alarm_on_the_clean_net(control: Control) -> None:
    strip, overlays = STRIP(n_overlays=50), control.train.subset(range(300))
    fitted, held_out, triggered = control.train.x[300:500], control.test.x[:100], control.triggered[:100]

    def scores(model: nn.Module, x: Tensor) -> Tensor:
        return strip(model, x, overlays, generator=seeded(5))

    for model, least, most in ((control.backdoored, 0.95, 1.0), (control.clean, 0.0, 0.8)):
        threshold = normal_threshold(scores(model, fitted))
        clean, suspect = scores(model, held_out), scores(model, triggered)
        point = operating_point(clean, suspect, threshold)
        assert point.false_positives.value <= 0.06
        assert least <= auroc(clean, suspect, generator=seeded(), resamples=19).value <= most
        seen = at_false_positive_rate(clean, suspect).true_positives.value
        assert seen > 0.8 if model is control.backdoored else seen < 0.2
        assert point.false_acceptance.value < 0.2 if model is control.backdoored else point.false_acceptance.value > 0.8


def test_strip_needs_clean_samples_of_the_same_shape() -> None:
    model, data = nuisance()
    with pytest.raises(UsageError, match=r"`clean` must hold at least 100 samples.*holds 40"):
        STRIP()(model, data.x, data, generator=seeded())
    for x in (data.x[:, :, :4], data.x[:0]):
        with pytest.raises(UsageError, match=r"`x` must hold samples of shape \(2, 6, 5\) like `clean`"):
            STRIP(n_overlays=5)(model, x, data, generator=seeded())


# Neural Cleanse


def test_neural_cleanse_finds_the_target_and_clean_nets_look_alike(control: Control) -> None:
    found = QUICK.restore(control.backdoored, control.test, generator=seeded(7))
    assert found.masks.shape == (2, 10, 1, 8, 8)
    assert found.patterns.shape == (2, 10, 1, 8, 8)
    assert found.norms.argmin(1).tolist() == [TARGET, TARGET]
    assert [classes[0] for classes in found.flagged] == [TARGET, TARGET]  # smallest mask first
    assert (found.success >= 0.95).all()
    for mask, pattern in zip(found.masks[:, TARGET], found.patterns[:, TARGET], strict=True):
        restored = (1 - mask) * control.test.x + mask * pattern  # the trigger found is one, on all pictures
        assert (logits(control.backdoored, restored).argmax(1) == TARGET).double().mean() > 0.85

    x, y = control.train.x, control.train.y
    nets = [control.clean, trained(x, y, seed=1), trained(x, y, seed=3)]
    clean = [QUICK.restore(net, control.test, generator=seeded(7)) for net in nets]
    assert all((one.success >= 0.95).all() for one in clean)
    assert min(float(one.norms.min()) for one in clean) > float(found.norms[:, TARGET].max())
    band = null_band([float(one.scores.quantile(0.5, dim=0).max()) for one in clean])
    index = float(found.scores.quantile(0.5, dim=0).max())
    assert index > 2
    assert band.p_value(index) == 0.25
    scores = QUICK(control.backdoored, control.test, generator=seeded(7))
    assert scores.argmax() == TARGET
    assert float(scores.max()) == pytest.approx(index, rel=1e-5)


def test_one_step_of_neural_cleanse_is_adams_on_the_formula() -> None:
    model = fill(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).double(), 1)
    data = Dataset(torch.rand(4, 1, 2, 3, generator=seeded(2)).double(), torch.tensor([0, 1, 2, 0]), n_classes=3)
    once = NeuralCleanse(steps=1, images_per_step=4, batch_size=4, restarts=1, pass_size=4)
    found = once.restore(model, data, generator=seeded(5))

    generator = seeded(5)
    masks = [torch.rand(1, 2, 3, generator=generator, dtype=torch.float64).flatten().numpy() for _ in range(3)]
    patterns = [torch.rand(1, 2, 3, generator=generator, dtype=torch.float64).flatten().numpy() for _ in range(3)]
    weight, bias = (w.detach().numpy() for w in model.parameters())
    x = data.x.flatten(1).numpy()
    hits = np.zeros(3)
    for c in range(3):
        m, p = (drawn * (1 - 1e-6) + 5e-7 for drawn in (masks[c], patterns[c]))
        z = ((1 - m) * x + m * p) @ weight.T + bias
        hits[c] = (z.argmax(1) == c).mean()
        q = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        slope = (q - np.eye(3)[c]) @ weight / 4  # of the mean cross-entropy to each stamped pixel
        to_a = (slope * (p - x)).sum(0) * 2 * m * (1 - m)  # d m / d a = 2 m (1 - m)
        to_b = (slope * m).sum(0) * 2 * p * (1 - p)
        for raw, gradient, got in ((m, to_a, found.masks[0, c]), (p, to_b, found.patterns[0, c])):
            moved = np.arctanh(2 * raw - 1) - 0.1 * gradient / (np.abs(gradient) + 1e-8)  # Adam's first step
            assert np.allclose(got.flatten().numpy(), (np.tanh(moved) + 1) / 2, atol=1e-9)
    assert np.allclose(found.success[0].numpy(), hits)
    assert found.steps.tolist() == [[1, 1, 1]]


def test_neural_cleanse_does_not_depend_on_the_pass_size() -> None:
    model, data = nuisance()
    few, many = (
        replace(QUICK, steps=6, batch_size=20, pass_size=size).restore(model, data, generator=seeded(1))
        for size in (20, 60)
    )
    assert torch.allclose(few.masks, many.masks, atol=1e-4)
    assert torch.equal(few.steps, many.steps)


def one_class(rates: list[float], norms: list[float], settings: NeuralCleanse) -> list[tuple[float, bool, bool]]:
    """The schedule of one class in plain words: (lam after the step, new best, ended)."""
    lam, best, good, bad, raised, lowered, stale, told = 0.0, math.inf, 0, 0, False, False, 0, []
    for rate, norm in zip(rates, norms, strict=True):
        new = rate >= settings.threshold and norm < best
        if new:
            best, stale = norm, 0
        elif best < math.inf:
            stale += 1
        ended = raised and lowered and stale >= settings.early_stop
        if rate >= settings.threshold:
            good, bad = good + 1, 0
        else:
            good, bad = 0, bad + 1
        if good == settings.patience:
            if lam == 0:
                lam, good, raised, lowered = settings.initial_lam, 1, False, False
            else:
                lam, good, raised = lam * settings.multiplier, 0, True
        elif bad == settings.patience:
            lam, bad, lowered = lam / settings.multiplier**1.5, 0, True
        told.append((lam, new, ended))
        if ended:
            break
    return told


def test_the_schedule_of_lam_and_the_early_stop() -> None:
    settings = NeuralCleanse(early_stop=25, patience=3)
    generator = seeded(3)
    steps, n = 120, 40
    # each class succeeds in runs, as optimisation does
    runs = torch.rand(steps // 4, n, generator=generator).repeat_interleave(4, 0) > 0.45
    rates = runs.double() * 0.05 + 0.95
    norms = torch.rand(steps, n, generator=generator).double()
    schedule = Schedule(n, settings)
    told: list[list[tuple[float, bool, bool]]] = [[] for _ in range(n)]
    for rate, norm in zip(rates, norms, strict=True):
        running = ~schedule.ended
        smaller = schedule.update(rate, norm.float())
        for c in running.nonzero()[:, 0].tolist():
            told[c].append((float(schedule.lam[c]), bool(smaller[c]), bool(schedule.ended[c])))
    ended = 0
    for c in range(n):
        expected = one_class(rates[:, c].tolist(), norms[:, c].tolist(), settings)
        assert len(told[c]) == len(expected)
        for (lam, new, end), (lam_, new_, end_) in zip(told[c], expected, strict=True):
            assert (new, end) == (new_, end_)
            assert lam == pytest.approx(lam_, rel=1e-5)
        ended += expected[-1][2]
    assert 10 < ended < n  # some end, some do not


def test_a_class_that_has_ended_is_left_alone() -> None:
    model, data = nuisance()
    hasty = replace(QUICK, steps=400, early_stop=2, patience=1, threshold=0.5, restarts=1)
    found = hasty.restore(model, data, generator=seeded(1))
    assert (found.steps < 400).all()


def test_neural_cleanse_refuses_what_it_cannot_judge() -> None:
    model, data = nuisance()
    with pytest.raises(UsageError, match=r"at least 64 samples, one batch \(`batch_size`\), but holds 40"):
        NeuralCleanse(batch_size=64)(model, data, generator=seeded())
    two = Dataset(data.x, data.y % 2, n_classes=2)
    with pytest.raises(UsageError, match="must have 3 classes or more, but has 2"):
        QUICK(model, two, generator=seeded())
    flat = Dataset(data.x.flatten(1), data.y, n_classes=3)
    with pytest.raises(UsageError, match=r"must hold images \(N, C, H, W\) for Neural Cleanse"):
        QUICK(nn.Linear(60, 3), flat, generator=seeded())


# Fine-Pruning


def parts(model: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv, norm = model[3], model[4]  # type: ignore[index]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return conv, norm


def lowest(scores: Tensor, n: int) -> set[int]:
    return set(np.argsort(scores.numpy(), kind="stable")[:n].tolist())


def pruned_channels(model: nn.Module) -> set[int]:
    conv, _ = parts(model)
    return {c for c in range(conv.out_channels) if not conv.weight[c].any()}


@pytest.mark.parametrize(("rate", "n"), [(0.0, 0), (0.1, 2), (0.5, 8), (0.9, 14)])
def test_pruning_by_l1_zeroes_the_smallest_filters_and_nothing_else(control: Control, rate: float, n: int) -> None:
    before = control.backdoored
    after = FinePruning.paper(rate)(before, control.test, generator=seeded())
    conv, _ = parts(before)
    gone = lowest(conv.weight.detach().abs().sum((1, 2, 3)), n)
    assert pruned_channels(after) == gone
    index = sorted(gone)
    for (name, was), (_, now) in zip(before.state_dict().items(), after.state_dict().items(), strict=True):
        expected = was.clone()
        if name in ("3.weight", "3.bias", "4.weight", "4.bias"):
            expected[index] = 0
        assert torch.equal(now, expected), name
    assert not after[:5](control.test.x[:9])[:, index].any()  # type: ignore[index]
    assert not after.training
    assert [w.requires_grad for w in after.parameters()] == [w.requires_grad for w in before.parameters()]


def test_pruning_by_activation_zeroes_the_quietest_channels(control: Control) -> None:
    clean = control.train.subset(range(300))
    after = FinePruning(0.25, epochs=0)(control.backdoored, clean, generator=seeded())
    conv, norm = parts(control.backdoored)
    with torch.no_grad():
        z = conv2d(control.backdoored[:3](clean.x), conv.weight, conv.bias, padding=1)  # type: ignore[index]
        z = batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    assert pruned_channels(after) == lowest(z.relu().mean((0, 2, 3)), 4)


def test_fine_tuning_trains_the_rest_and_leaves_pruned_channels_at_zero(control: Control) -> None:
    clean = control.train.subset(range(64))
    pruned = FinePruning(0.5, epochs=0)(control.backdoored, clean, generator=seeded())
    tuned = FinePruning(0.5, epochs=2, lr=1e-3)(control.backdoored, clean, generator=seeded())
    gone = sorted(pruned_channels(pruned))
    assert len(gone) == 8
    assert sorted(pruned_channels(tuned)) == gone
    assert not tuned[:5](clean.x)[:, gone].any()  # type: ignore[index]
    assert all(not torch.equal(a, b) for a, b in zip(pruned.parameters(), tuned.parameters(), strict=True))
    assert set(tuned.state_dict()) == set(control.backdoored.state_dict())
    assert not any(module._forward_pre_hooks for module in tuned.modules())


def test_the_layer_can_be_named_and_is_else_the_last_that_runs(control: Control) -> None:
    after = replace(FinePruning.paper(0.5), layer="0")(control.clean, control.test, generator=seeded())
    assert sum(not w.any() for w in after[0].weight) == 4  # type: ignore[index]
    assert not pruned_channels(after)
    with pytest.raises(UsageError, match="Unknown convolution `7`"):
        replace(FinePruning.paper(0.5), layer="7")(control.clean, control.test, generator=seeded())

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Conv2d(2, 3, 6)
            self.first = nn.Conv2d(1, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.first(x)).flatten(1)
            return out

    data = Dataset(torch.rand(40, 1, 8, 8, generator=seeded()), torch.arange(40) % 3, n_classes=3)
    after = FinePruning.paper(0.34)(Backwards(), data, generator=seeded())
    assert sum(not w.any() for w in after.last.weight) == 1  # type: ignore[union-attr]


def test_what_was_frozen_stays_frozen_and_is_not_tuned() -> None:
    model, data = nuisance()
    after = FinePruning(0.5, batch_size=8)(model, data, generator=seeded())
    assert [w.requires_grad for w in after.parameters()] == [w.requires_grad for w in model.parameters()]
    kept = [c for c in range(4) if after[0].weight[c].any()]  # type: ignore[index]
    assert len(kept) == 2
    assert torch.equal(after[0].bias[kept], model[0].bias[kept])  # type: ignore[index]
    assert not torch.equal(after[0].weight[kept], model[0].weight[kept])  # type: ignore[index]


def test_of_a_resnet_the_last_convolution_of_layer4_is_pruned_with_its_batch_norm() -> None:
    model = MODELS["resnet18"]((3, 32, 32), 3, generator=seeded())
    data = Dataset(torch.rand(2, 3, 32, 32, generator=seeded()), torch.tensor([0, 1]), n_classes=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = FinePruning.paper(0.1)(model, data, generator=seeded()).state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"layer4.1.conv2.weight", "layer4.1.bn2.weight"}  # the shift of a new batch norm is 0 as it is
    gone = lowest(before["layer4.1.conv2.weight"].abs().sum((1, 2, 3)), 51)
    assert set((after["layer4.1.bn2.weight"] == 0).nonzero()[:, 0].tolist()) == gone


@pytest.mark.parametrize("epochs", [0, 1])
def test_the_curve_counts_and_judges(control: Control, epochs: int) -> None:
    defense = FinePruning(ranking="l1", epochs=epochs, lr=1e-3)
    clean, rates = control.train.subset(range(65)), (0.1, 0.3, 0.9)  # 65 samples: 5 %
    points = pruning_curve(
        defense, control.backdoored, clean, control.test, control.triggered, TARGET, rates=rates, generator=seeded()
    )
    assert [point.rate for point in points] == [0.0, *rates]
    assert points[0].attack_success_rate.value == success(control.backdoored, control)
    assert points[0].fails
    model = replace(defense, rate=0.3)(control.backdoored, clean, generator=seeded())
    if not epochs:  # without training nothing is drawn
        assert points[2].attack_success_rate.value == success(model, control)
        assert points[2].benign_accuracy == accuracy(is_correct(logits(model, control.test.x), control.test.y))
    for point in points:
        benign, asr = point.benign_accuracy.value, point.attack_success_rate.value
        assert point.fails == (asr >= 0.5 and benign >= points[0].benign_accuracy.value - 0.05)
        assert point.fails_by_paper == (asr > benign)
    assert points[3].benign_accuracy.value < points[0].benign_accuracy.value - 0.05
    assert not points[3].fails


def test_fine_pruning_refuses_what_it_cannot_prune(control: Control) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(UsageError, match="must have a Conv2d to prune, but Sequential runs none"):
        FinePruning()(flat, control.test, generator=seeded())
    with pytest.raises(UsageError, match=r"at least 32 samples, one batch of the fine-tuning.*holds 20"):
        FinePruning()(control.clean, control.test.subset(range(20)), generator=seeded())
    features = Dataset(control.test.x.flatten(1), control.test.y, n_classes=10)
    with pytest.raises(UsageError, match=r"must hold images \(N, C, H, W\) for Fine-Pruning"):
        FinePruning()(nn.Linear(64, 10), features, generator=seeded())
    for target, triggered, message in (
        (10, control.triggered, r"`target_class` must lie in 0..9, but is 10"),
        (TARGET, control.triggered[:0], r"`triggered` must hold pictures of shape \(1, 8, 8\)"),
        (TARGET, control.triggered[..., 1:], r"`triggered` must hold pictures of shape \(1, 8, 8\)"),
    ):
        with pytest.raises(UsageError, match=message):
            pruning_curve(
                FinePruning(), control.clean, control.test, control.test, triggered, target, generator=seeded()
            )
