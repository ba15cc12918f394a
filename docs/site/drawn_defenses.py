"""Pictures of defenses and detectors."""

from dataclasses import replace

import torch
from matplotlib.figure import Figure
from scenes import (
    COLORS,
    TRIGGER,
    backdoored,
    cnn,
    digits,
    encoder,
    grid,
    iris,
    named,
    plot,
    qunn,
    right,
    seeded,
    shows,
)
from torch import Tensor

from redqubit.defenses import DenoisingAutoencoder, FinePruning, NeuralCleanse, one_by_one, pruning_curve
from redqubit.defenses.base import Predict
from redqubit.evasion import FGSM, PGD
from redqubit.poisoning import RandomFlip
from redqubit.quantum.spaces import States
from redqubit.training import train

RADII = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
SHOWN = 200  # first test digits
STEPS = 20


def adversarial_training(cls: type) -> tuple[Figure, str]:
    """Draw accuracy by radius, before and after."""
    g, (train_set, _) = seeded(), digits()
    robust = cls(eps=0.1, epochs=4, lr=5e-3)(cnn(), train_set, generator=g)
    figure, (ax,) = plot()
    for model, text, color in ((cnn(), "before", COLORS[1]), (robust, "after", COLORS[0])):
        ax.plot(RADII, [100 * _under(PGD, model, eps) for eps in RADII], "o-", color=color, label=text, ms=4)
    ax.set(xlabel="radius of PGD", ylabel="right, %", ylim=(0, 103))
    ax.legend()
    return figure, (
        "Accuracy of a small CNN under PGD before and after adversarial training at radius 0.1. Each model is "
        f"attacked by itself, {STEPS} steps, on the first {SHOWN} test digits; 4 epochs of training."
    )


def denoising(cls: type[DenoisingAutoencoder]) -> tuple[Figure, str]:
    """Draw clean, attacked and denoised digits, and what an attacker who knows the defense leaves."""
    g, (train_set, test_set) = seeded(), digits()
    model, eps = qunn(), 0.15
    defended = cls(sigma=0.3, epochs=40)(model, train_set, generator=g)
    x, y = test_set.x[:SHOWN], test_set.y[:SHOWN]
    x_adv = FGSM(eps)(model, x, y, generator=g)
    knowing = PGD(eps, steps=STEPS)(defended, x, y, generator=g)
    autoencoder = next(part for part in defended.modules() if type(part).__name__ == "Denoiser")
    cleaned = autoencoder(x_adv)
    figure, axes = grid(3, 7)
    for column, i in zip(zip(*axes, strict=True), range(7), strict=True):
        shows(column[0], x[i])
        taken, then = (int(net(x_adv[i : i + 1]).argmax()) for net in (model, defended))
        shows(column[1], x_adv[i], f"{taken}", bad=taken != int(y[i]))
        shows(column[2], cleaned[i].clamp(0, 1), f"{then}", bad=then != int(y[i]))
    for row, text in zip(axes, ("clean", "attacked", "denoised"), strict=True):
        named(row, text)
    return figure, (
        f"Digits under FGSM of radius {eps} that was made on the bare network, and what the autoencoder makes of them. "
        "The number is what the network takes each for, red where it is wrong. Of the first "
        f"{SHOWN} test digits the network has {right(model, x_adv, y):.0%} right under this attack, with the "
        f"autoencoder {right(defended, x_adv, y):.0%}; under PGD by an attacker who knows the autoencoder "
        f"{right(defended, knowing, y):.0%}."
    )


def noise(cls: type) -> tuple[Figure, str]:
    """Draw accuracy under PGD that does not know the noise, and under PGD that averages over it."""
    g, (train_set, test_set) = seeded(), digits()
    model = cnn()
    defended = cls()(model, train_set, generator=g)
    x, y = test_set.x[:100], test_set.y[:100]
    figure, (ax,) = plot()
    attacks = (("made on the bare model", model, 1, COLORS[1]), ("through the noise, 8 draws", defended, 8, COLORS[0]))
    for text, target, draws, color in attacks:
        made = [PGD(eps, steps=10, draws=draws)(target, x, y, generator=g) if eps else x for eps in RADII]
        left = [100 * sum(right(defended, x_adv, y) for _ in range(4)) / 4 for x_adv in made]
        ax.plot(RADII, left, "o-", color=color, label=text, ms=4)
    bare = [100 * _under(PGD, model, eps, steps=10, n=100) for eps in RADII]
    ax.plot(RADII, bare, "--", color="#808080", label="the bare model itself", lw=1)
    ax.set(xlabel="radius of PGD", ylabel="right, %", ylim=(0, 103))
    ax.legend()
    return figure, (
        f"Accuracy of a small CNN with {cls.__name__} at its defaults, under PGD of 10 steps on the first 100 test "
        "digits, mean of 4 fresh passes. What matters is the attack through the noise beside the bare model under its "
        "own: an attack that does not know a defense says little about it."
    )


def smoothing(cls: type) -> tuple[Figure, str]:
    """Draw certified accuracy by radius."""
    g, (train_set, test_set) = seeded(), digits()
    x, y = test_set.x[:100], test_set.y[:100]
    figure, (ax,) = plot()
    radii = torch.linspace(0, 1, 101)
    for sigma, color in ((0.1, COLORS[0]), (0.25, COLORS[1])):
        smoothed = cls(sigma, epochs=4, lr=5e-3)(cnn(), train_set, generator=g)
        found = smoothed.certify(x, n=2000)
        ax.plot(radii, [100 * found.accuracy(y, float(r)).value for r in radii], color=color, label=f"sigma {sigma}")
    ax.set(xlabel="L2 radius", ylabel="certified, %", ylim=(0, 103))
    ax.legend()
    return figure, (
        "Share of the first 100 test digits that smoothed CNNs have right and certify within an L2 radius. 2,000 noisy "
        "copies each, alpha 0.001; more noise certifies larger radii and costs accuracy."
    )


def fine_pruning(cls: type[FinePruning]) -> tuple[Figure, str]:
    """Draw accuracy and attack success by the share of pruned filters."""
    train_set, test_set = digits()
    triggered = TRIGGER(test_set.x[test_set.y != 0])
    held = train_set.subset(range(200))
    figure, (ax,) = plot()
    points = pruning_curve(cls(epochs=0), backdoored(), held, test_set, triggered, 0, generator=seeded())
    rates = [point.rate for point in points]
    kept, alive = (
        [100 * getattr(p, name).value for p in points] for name in ("benign_accuracy", "attack_success_rate")
    )
    ax.plot(rates, kept, "o-", color=COLORS[0], label="clean digits right", ms=4)
    ax.plot(rates, alive, "o-", color=COLORS[1], label="backdoor works", ms=4)
    ax.set(xlabel="share of pruned filters", ylabel="%", ylim=(0, 103))
    ax.legend()
    return figure, (
        "What pruning without fine-tuning leaves of a small CNN with a backdoor. A 2 x 2 patch was planted in a tenth "
        "of its training digits; the defender holds 200 clean ones. The defense works where the backdoor falls first."
    )


def strip(cls: type) -> tuple[Figure, str]:
    """Draw the scores of clean and triggered digits."""
    g, (train_set, test_set) = seeded(), digits()
    held = train_set.subset(range(200))
    x = test_set.x[test_set.y != 0][:200]
    clean, triggered = (cls()(backdoored(), z, held, generator=g) for z in (x, TRIGGER(x)))
    figure, (ax,) = plot()
    both = torch.cat([clean, triggered])
    bins = torch.linspace(float(both.min()), float(both.max()), 40).tolist()
    ax.hist(clean.numpy(), bins, color=COLORS[0], alpha=0.7, label="clean")
    ax.hist(triggered.numpy(), bins, color=COLORS[1], alpha=0.7, label="with the trigger")
    ax.set(xlabel="score, higher is more suspicious", ylabel="digits")
    ax.legend()
    return figure, (
        "Scores of 200 test digits with and without the trigger, by a CNN with a backdoor. A 2 x 2 patch was planted "
        "in a tenth of its training digits."
    )


def neural_cleanse(cls: type[NeuralCleanse]) -> tuple[Figure, str]:
    """Draw the restored mask of each class."""
    train_set, _ = digits()
    detector = cls(steps=100, images_per_step=64, restarts=1)
    found = detector.restore(backdoored(), train_set.subset(range(300)), generator=seeded())
    figure, axes = grid(2, 5, height=1.35)
    index = found.scores[0]
    for c, ax in enumerate(ax for row in axes for ax in row):
        shows(ax, found.masks[0, c], f"{c}: {float(found.norms[0, c]):.1f}, index {float(index[c]):.1f}")
    return figure, (
        "The smallest mask found for each class of a CNN with a backdoor to class 0. Above each: the class, the "
        "sum of the mask, and its anomaly index, high where the mask is small. 100 steps of 64 digits, one restart: a "
        "reduced setting. The planted trigger is a 2 x 2 patch in the lower right corner."
    )


def vote(cls: type) -> tuple[Figure, str]:
    """Draw the scores of right and of flipped labels."""
    data = iris()
    poisoned = RandomFlip(ratio=0.2)(data, generator=seeded())
    found = cls(States(encoder()))(poisoned.dataset)
    figure, (ax,) = plot()
    flipped = poisoned.is_flipped
    bins = torch.linspace(float(found.scores.min()), float(found.scores.max()), 22).tolist()
    parts = (found.scores[~flipped].numpy(), found.scores[flipped].numpy())
    ax.hist(parts, bins, stacked=True, color=COLORS[:2], label=("right labels", "flipped labels"))
    ax.set(xlabel="score, higher is more suspicious", ylabel="samples")
    ax.legend()
    return figure, (
        f"Scores of the labels of Iris among encoded states, {int(flipped.sum())} of {len(data)} flipped at random. "
        "The encoder has 2 qubits and H, RZ, RX on each."
    )


def ss_dpa(cls: type) -> tuple[Figure, str]:
    """Draw certified accuracy by the number of flipped labels."""
    train_set, test_set = digits()

    def fit(x: Tensor, y: Tensor, seed: int) -> Predict:
        model = torch.nn.Linear(64, 10, device="cpu")
        with torch.no_grad():
            model.weight.normal_(0, 0.01, generator=seeded(seed))
            model.bias.zero_()
        train(model, x.flatten(1), y, epochs=40, lr=0.02, generator=seeded(seed))
        return lambda other: model(other.flatten(1)).argmax(1)

    figure, (ax,) = plot()
    for k, color in ((3, COLORS[0]), (15, COLORS[1])):
        ensemble = cls(k=k)(train_set, test_set.x, fit_all=one_by_one(fit))
        held = ensemble.certificates(test_set.y)
        certified = [100 * float((held >= flips).double().mean()) for flips in range(9)]
        ax.plot(certified, "o-", color=color, label=f"k = {k}", ms=4)
    ax.set(xlabel="flipped training labels", ylabel="certified, %", ylim=(0, 103))
    ax.legend()
    return figure, (
        "Share of all test digits that ensembles of linear classifiers have right whatever labels are flipped. k "
        "models learn from a k-th of the training set each: more parts bear more flips and know less."
    )


def _under(attack: type, model: torch.nn.Module, eps: float, *, steps: int = STEPS, n: int = SHOWN) -> float:
    """Return the share of test digits that a model has right under an attack made on itself."""
    x, y = digits()[1].x[:n], digits()[1].y[:n]
    x_adv = replace(attack(eps), steps=steps)(model, x, y, generator=seeded()) if eps else x
    return right(model, x_adv, y)


DRAWERS = {
    "adversarial_training": adversarial_training,
    "denoising": denoising,
    **dict.fromkeys(("gaussian_noise", "quantum_noise", "crosstalk"), noise),
    "smoothing": smoothing,
    "fine_pruning": fine_pruning,
    "strip": strip,
    "neural_cleanse": neural_cleanse,
    **dict.fromkeys(("class_vote", "neighbour_vote"), vote),
    "ss_dpa": ss_dpa,
}
