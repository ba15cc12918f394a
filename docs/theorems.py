"""Draw both sides of two theorems about backdoors in hybrid networks, for docs/theorems.md.

    python docs/theorems.py [docs/images/theorems.png]

A 4-qubit `hybrid` network learns digits with a backdoor: a tenth of them get a white square in the corner and the label
of the target class. Both sides are measured on test pictures x' = x + delta z, clipped to [0, 1], where z is the
square and delta its strength. Under a minute.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.backdoors import Backdoor, Patch
from redqubit.data import load_splits
from redqubit.metrics import backdoor_success_rate
from redqubit.models import MODELS, HybridNet
from redqubit.training import logits, train

TARGET = 0  # y_t
SIDES = (1, 2, 3)  # pixels
STRENGTHS = tuple(i / 50 for i in range(1, 51))
ETA = 0.05  # 1 - confidence of the bound that holds
RARE = 0.1  # eps of Theorem 2 is the deviation that this share of clean pictures exceeds
INK = {1: "#0072B2", 2: "#D55E00", 3: "#009E73"}


@dataclass(frozen=True)
class Sides:
    """What was measured with a square of one side, by the strength of the trigger.

    Attributes:
        side: Of the square, in pixels.
        norms: delta ||z||, how far the trigger moves a picture at most.
        mean: R_t, of pictures that no right side has seen.
        printed: The right side of Theorem 1 as printed.
        holds: The lower bound of docs/theorems.md, with L the steepest slope seen along the trigger.
        success: Share of the same pictures as in `mean` that are classified as the target.
        far: Share of triggered pictures, at the greatest strength, whose features lie eps or more from the clean mean.
        least: The right side of Theorem 2, for features as they are and in units half as large.
    """

    side: int
    norms: list[float]
    mean: list[float]
    printed: list[float]
    holds: list[float]
    success: list[float]
    far: float
    least: tuple[float, float]


def hoeffding(largest: float, m: int, eta: float) -> float:
    """Return what a mean of m losses in [0, largest] exceeds its expectation by with probability eta at most."""
    return largest * math.sqrt(math.log(1 / eta) / (2 * m))


def largest_loss(up: nn.Linear, target: int) -> float:
    """Return a bound on the cross-entropy to the target, over all that a circuit's <Z> in [-1, 1] can be.

    loss = ln sum_k exp(f_k - f_t), and f_k - f_t is at most ||W_k - W_t||_1 + b_k - b_t.
    """
    differences = (up.weight - up.weight[target]).abs().sum(1) + up.bias - up.bias[target]
    return float(differences.logsumexp(0).detach())


def backdoored(side: int, *, epochs: int = 30) -> HybridNet:
    """Return a hybrid network with a backdoor that calls up the target class."""
    generator = torch.Generator().manual_seed(side)
    clean, _ = load_splits("digits")
    poisoned = Backdoor(Patch(side), TARGET, poison_rate=0.1)(clean, generator=generator).dataset
    model = MODELS["hybrid"]((1, 8, 8), 10, generator=generator)
    assert isinstance(model, HybridNet)
    train(model, poisoned.x, poisoned.y, epochs=epochs, lr=0.01, generator=generator)
    return model


def victims() -> tuple[Tensor, Tensor]:
    """Return test pictures of the other classes: half as the sample D_t, half to estimate expectations from."""
    _, test = load_splits("digits")
    x = test.x[test.y != TARGET]
    return x[::2], x[1::2]


def losses(outputs: Tensor) -> Tensor:
    """Return the cross-entropy of each picture to the target class."""
    return F.cross_entropy(outputs, torch.full((len(outputs),), TARGET), reduction="none")


@torch.no_grad()
def measure(model: HybridNet, side: int, strengths: Sequence[float] = STRENGTHS) -> Sides:
    """Return both sides of both theorems for one model and its square, at strengths that rise."""
    sample, others = victims()
    z = Patch(side)(torch.zeros(1, 1, 8, 8))
    m, norms = len(sample), [s * float(z.norm()) for s in strengths]
    of_sample, of_others = (
        torch.stack([logits(model, (x + s * z).clamp(max=1)) for s in (0.0, *strengths)]) for x in (sample, others)
    )
    found = torch.stack([losses(outputs) for outputs in of_sample])  # (strengths + 1, m)
    steps = torch.tensor([0.0, *norms]).diff()[:, None]
    steepest = float((found.diff(dim=0).abs() / steps).max())  # L_t along the trigger; no larger than the true one
    bound = float(of_sample[1:].norm(dim=2).max())  # B of condition 1
    printed = [
        float(empirical) - bound / math.sqrt(2 * m) * math.sqrt(math.log(2 / s)) + steepest * norm
        for empirical, s, norm in zip(found[1:].mean(1), strengths, norms, strict=True)
    ]
    safe = float(found[0].mean()) - hoeffding(largest_loss(model.up, TARGET), m, ETA)
    clean = torch.cat([sample, others])
    features = [_features(model, x) for x in (clean, (clean + strengths[-1] * z).clamp(max=1))]
    deviations, triggered = ((f - features[0].mean(0)).norm(dim=1) for f in features)
    no_target = torch.full((len(others),), TARGET + 1)  # all of these are of another class
    return Sides(
        side=side,
        norms=norms,
        mean=[float(losses(outputs).mean()) for outputs in of_others[1:]],
        printed=printed,
        holds=[safe - steepest * norm for norm in norms],
        success=[backdoor_success_rate(outputs, no_target, TARGET).value for outputs in of_others[1:]],
        far=float((triggered >= deviations.quantile(1 - RARE)).double().mean()),
        least=least_norm(deviations, RARE),
    )


def _features(model: HybridNet, x: Tensor) -> Tensor:
    """Return the features <Z>, (N, n)."""
    out: Tensor = model.circuit(torch.tanh(model.down(model.forward_features(x))))
    return out


def least_norm(deviations: Tensor, rare: float) -> tuple[float, float]:
    """Return c^-1(eps) of features that deviate so from their mean, and the same in units half as large.

    c(d) = -ln(share of the pictures that lie d or more from the mean), so that c^-1(u) is the deviation that a share
    exp(-u) exceeds; eps is what a share `rare` exceeds. In units half as large each deviation, eps too, doubles.
    """
    eps = float(deviations.quantile(1 - rare))
    as_is, halved = (units * float(deviations.quantile(1 - math.exp(-units * eps))) for units in (1, 2))
    return as_is, halved


def draw(found: Sequence[Sides], path: Path) -> None:
    """Draw Theorem 1 for each square, and Theorem 2 for all; the white ground serves light and dark pages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6.4), layout="constrained", facecolor="white")
    *firsts, last = panels.flat
    for axes, one in zip(firsts, found, strict=True):
        axes.plot(one.norms, one.printed, color="#D55E00", linewidth=2, label="right side as printed")
        axes.plot(one.norms, one.mean, color="black", linewidth=2, label="left side $R_t$, measured")
        axes.plot(
            one.norms, [max(0.0, v) for v in one.holds], color="#0072B2", linewidth=2, label="lower bound that holds"
        )
        axes.set_title(f"Theorem 1, square of side {one.side}", fontsize=11, loc="left")
        axes.set_xlabel(r"strength of the trigger $\delta\|z\|$")
        axes.set_ylabel("loss to the target class, nats")
        axes.set_ylim(-1, 1.05 * max(max(o.printed) for o in found))
    firsts[0].legend(frameon=False, fontsize=9)
    for one in found:
        last.plot(
            one.norms, one.success, color=INK[one.side], linewidth=2, label=f"side {one.side}, {one.far:.0%} beyond ε"
        )
        for place, style in zip(one.least, ("--", ":"), strict=True):
            last.axvline(place, color=INK[one.side], linestyle=style, linewidth=1.2)
    last.set_title("Theorem 2: success, and the least norm as printed", fontsize=11, loc="left")
    for text, style in (("least norm as printed", "--"), ("features in half units", ":")):
        last.plot([], [], color="black", linestyle=style, linewidth=1.2, label=text)
    last.set_xlabel("norm of the trigger")
    last.set_ylabel("attack success rate")
    last.set_ylim(0, 1)
    last.legend(frameon=False, fontsize=8.5, handlelength=1.4, loc=(0.42, 0.2))
    for axes in panels.flat:
        axes.set_xlim(left=0)
        axes.grid(axis="y", color="#dddddd", linewidth=0.7)
        axes.set_axisbelow(True)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images" / "theorems.png"
    draw([measure(backdoored(side), side) for side in SIDES], target)
