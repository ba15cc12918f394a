"""Pictures of attacks, triggers and label poisons."""

from matplotlib.figure import Figure
from scenes import (
    COLORS,
    coloured,
    digits,
    encoder,
    enlarged,
    grid,
    iris,
    named,
    plane,
    plot,
    qunn,
    right,
    seeded,
    shows,
)

from redqubit.backdoors import Patch
from redqubit.metrics import ssim

EPS = 0.15
RATIO = 0.3
IRIS = ("setosa", "versicolor", "virginica")


def evasion(attack: type) -> tuple[Figure, str]:
    """Draw digits before and after an attack on the quanvolutional network."""
    model, (_, test_set) = qunn(), digits()
    x, y = test_set.x[:200], test_set.y[:200]
    x_adv = attack(eps=EPS)(model, x, y, generator=seeded())
    before, after = model(x).argmax(1), model(x_adv).argmax(1)
    shown = (before == y).nonzero()[:7, 0]
    figure, axes = grid(3, len(shown))
    for column, i in zip(zip(*axes, strict=True), shown, strict=True):
        shows(column[0], x[i], f"{before[i]}")
        shows(column[1], (x_adv[i] - x[i]) / EPS, signed=True)
        shows(column[2], x_adv[i], f"{after[i]}", bad=bool(after[i] != y[i]))
    for row, text in zip(axes, ("clean", "change", "attacked"), strict=True):
        named(row, text)
    return figure, (
        f"Digits before and after {attack.__name__} of radius {EPS} on a quanvolutional network. The number above a "
        "picture is what the network takes it for, red where it is wrong; the change runs from minus the radius (blue) "
        f"to the radius (red). Of the first 200 test digits it has {right(model, x, y):.0%} right, and "
        f"{right(model, x_adv, y):.0%} under the attack. These are the first seven that it has right."
    )


def trigger(cls: type) -> tuple[Figure, str]:
    """Draw digits with and without a trigger."""
    _, test_set = digits()
    tint = cls.__name__ in ("Color", "Qcolor")
    x = enlarged(test_set.x[:7])
    x = coloured(x) if tint else x
    made = cls(side=6) if cls is Patch else cls()
    triggered = made(x)
    change = triggered - x
    scale = float(change.abs().max())
    figure, axes = grid(3, 7)
    for column, i in zip(zip(*axes, strict=True), range(7), strict=True):
        shows(column[0], x[i])
        shows(column[1], triggered[i])
        difference = change[i] / scale / 2 + 0.5
        shows(column[2], difference if tint else change[i] / scale, signed=not tint)
    for row, text in zip(axes, ("clean", "triggered", "difference"), strict=True):
        named(row, text)
    colours = "digits in two colours of their own" if tint else "digits"
    return figure, (
        f"`{made!r}` on {colours}, 32 pixels a side. The difference is scaled to its largest value, {scale:.2f} of the "
        f"range [0, 1]. The pictures with and without the trigger have a mean SSIM of {ssim(x, triggered).mean():.3f}."
    )


def poison(cls: type) -> tuple[Figure, str]:
    """Draw the labels of Iris before and after a poison, where the encoder puts the samples."""
    data, at = iris(), plane()
    made = cls(encoder(), ratio=RATIO) if cls.__name__ == "QUID" else cls(ratio=RATIO)
    poisoned = made(data, generator=seeded())
    figure, axes = plot(2)
    for ax, y, title in zip(axes, (data.y, poisoned.y), ("true labels", "poisoned labels"), strict=True):
        for c, name in enumerate(IRIS):
            here = y == c
            ax.scatter(at[here, 0], at[here, 1], s=14, color=COLORS[c], label=name, alpha=0.8)
        ax.set(title=title, xlabel="first component", xticks=[], yticks=[])
    chosen = poisoned.is_flipped
    axes[1].scatter(at[chosen, 0], at[chosen, 1], s=44, facecolors="none", edgecolors="#d9482b", linewidths=0.9)
    axes[0].set_ylabel("second component")
    axes[0].legend(loc="best", handletextpad=0.1)
    return figure, (
        f"Iris before and after {cls.__name__} at ratio {RATIO}. Each point is a sample, placed by the first two "
        "principal components of its encoded state (2 qubits; H, RZ, RX); the colour is its label, and circles mark "
        f"the {int(chosen.sum())} of {len(data)} labels that changed."
    )


DRAWERS = {
    **dict.fromkeys(("fgsm", "mim", "pgd", "random_noise", "square"), evasion),
    **dict.fromkeys(("blend", "color", "patch", "qcolor", "wanet"), trigger),
    **dict.fromkeys(("cyclic", "farthest", "quid", "random_flip"), poison),
}
