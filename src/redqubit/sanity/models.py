"""Trust checks on a model: its gradients, logits, randomness and noise. They leave the model as it was."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.evasion.base import evaluation_mode, input_gradient, spread_of
from redqubit.models import QuantumLayer
from redqubit.quantum.canary import canary
from redqubit.result import Flag, Severity

ZERO_SAMPLES = 0.01  # a sample without gradient counts as robust unattacked: more would shift accuracy by a point
ZERO_ENTRIES = 0.5  # gradient attacks cannot move these entries: beyond half they search a minor part of the ball
TINY_GRADIENT = 1e-8  # below the rounding of a loss of order 0.1 in single precision: softmax is saturated
CONTRACTED = 1e-3  # a margin of logits below which single precision keeps 4 digits or fewer of what the loss changes by
AGREEMENT = 0.5  # least correlation, and least ratio of sizes, of gradient and finite differences


@dataclass(frozen=True)
class GradientStatistics:
    """How much there is to follow in the input gradient of the cross-entropy."""

    zero_entries: float  # fraction of entries that are exactly zero
    zero_samples: float  # fraction of samples whose gradient is zero throughout
    median_magnitude: float  # median over samples of the mean |gradient|, per unit of input
    n: int  # samples


def input_gradient_statistics(model: nn.Module, x: Tensor, y: Tensor) -> GradientStatistics:
    """Return how large and how often exactly zero the input gradient of the cross-entropy is.

    Args:
        model: Maps (N, ...) to logits (N, n_classes).
        x: Inputs in [0, 1], (N, ...), one batch.
        y: True labels, (N,).

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> _ = model[0].bias.data.fill_(-9.0)  # both units are dead
        >>> input_gradient_statistics(model, torch.rand(8, 4), torch.zeros(8, dtype=torch.int64)).zero_samples
        1.0
    """
    with evaluation_mode(model):
        size = input_gradient(model, x, y).flatten(1).abs()
    zero = size == 0
    return GradientStatistics(
        zero_entries=zero.double().mean().item(),
        zero_samples=zero.all(1).double().mean().item(),
        median_magnitude=size.mean(1).median().item(),
        n=len(x),
    )


def gradient_check(model: nn.Module, x: Tensor, y: Tensor, *, subject: str = "") -> Flag:
    """Flag input gradients that are zero or too small to follow.

    Example:
        >>> gradient_check(nn.Linear(4, 2), torch.rand(8, 4), torch.zeros(8, dtype=torch.int64)).severity
        'ok'
    """
    found = input_gradient_statistics(model, x, y)
    evidence = vars(found)
    if found.zero_samples > ZERO_SAMPLES:
        severity: Severity = "fail"
        message = (
            f"The input gradient is exactly zero for {found.zero_samples:.1%} of the samples: no attack by gradient."
        )
    elif found.median_magnitude < TINY_GRADIENT:
        severity = "warning"
        message = f"The input gradient is tiny: {found.median_magnitude:.1e} in the median; attack scaled logits too."
    elif found.zero_entries > ZERO_ENTRIES:
        severity = "warning"
        message = f"The input gradient is exactly zero in {found.zero_entries:.1%} of its entries."
    else:
        severity, message = "ok", "The input gradient is neither zero nor tiny."
    return Flag("vanishing-gradients", severity, message, evidence, subject)


@torch.no_grad()
def logit_check(model: nn.Module, x: Tensor, *, subject: str = "") -> Flag:
    """Flag logits so close together or so far apart that the softmax gradient carries nothing.

    The margin is the top logit minus the second. Beyond -log(machine epsilon), 16 in single precision, the top
    probability rounds to 1 and the gradient loses the top class; beyond -log(smallest number), 87, it is zero. Either
    scale can be undone by a factor on the logits, so that robustness which rests on it is none.

    Args:
        model: Maps (N, ...) to logits (N, n_classes).
        x: Inputs in [0, 1], (N, ...), one batch.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> _ = model.weight.data.mul_(1e-6), model.bias.data.mul_(1e-6)
        >>> logit_check(model, torch.rand(8, 4)).severity
        'warning'
    """
    with evaluation_mode(model):
        logits = model(x)
    top = logits.topk(2, 1).values
    margin = top[:, 0] - top[:, 1]
    median, info = margin.median().item(), torch.finfo(logits.dtype)
    evidence = {"median_margin": median, "logit_sd": logits.std().item(), "n": len(x)}
    if median < CONTRACTED:
        severity: Severity = "warning"
        message = f"The logits are contracted: the median margin is {median:.1e}, so that all classes look alike."
    elif median > -math.log(info.tiny):
        severity, message = "fail", f"The logits are saturated: the median margin is {median:.0f}, and softmax is flat."
    elif median > -math.log(info.eps):
        severity = "warning"
        message = (
            f"The logits are near saturation: at the median margin, {median:.0f}, the top probability rounds to 1."
        )
    else:
        severity, message = "ok", f"The median margin of the logits is {median:.2g}: softmax passes gradients."
    return Flag("logit-scale", severity, message, evidence, subject)


def finite_difference_check(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    generator: torch.Generator,
    step: float = 0.05,
    directions: int = 8,
    draws: int = 1,
    subject: str = "",
) -> Flag:
    """Flag a gradient that does not say how the logits change over a step of attack size.

    Compares grad m . (x+ - x-) with m(x+) - m(x-), where m is the logit of y minus the best other one (fixed at x) and
    x+- = clip(x +- step * v) along random signs v. Softmax plays no part: quantised inputs, zeroed or straight-through
    gradients are found, saturated logits are not.

    Args:
        model: Maps (N, ...) to logits (N, n_classes).
        x: Inputs in [0, 1], (N, ...), one batch.
        y: True labels, (N,).
        generator: Source of the directions.
        step: Half the distance between the two points, in data space.
        directions: Directions per sample.
        draws: Passes of a randomised model to average; its noise would pass for disagreement.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> y = torch.zeros(8, dtype=torch.int64)
        >>> finite_difference_check(model, torch.rand(8, 4), y, generator=torch.Generator()).severity
        'ok'
    """
    with evaluation_mode(model):
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = _mean_logits(model, leaf, draws)
            other = logits.detach().scatter(1, y[:, None], -math.inf).argmax(1)
            (gradient,) = torch.autograd.grad(_margin(logits, y, other).sum(), leaf)
        predicted, measured = [], []
        for _ in range(directions):
            v = torch.randint(2, x.shape, generator=generator).mul_(2).sub_(1).to(x)
            up, down = (x + step * v).clamp(0, 1), (x - step * v).clamp(0, 1)
            predicted.append((gradient * (up - down)).flatten(1).sum(1))
            with torch.no_grad():
                ends = [_margin(_mean_logits(model, end, draws), y, other) for end in (up, down)]
            measured.append(ends[0] - ends[1])
    p, m = torch.cat(predicted).double(), torch.cat(measured).double()
    ratio = (p.norm() / m.norm()).item() if m.any() else math.inf if p.any() else 1.0
    correlation = torch.corrcoef(torch.stack([p, m]))[0, 1].nan_to_num(0.0).item() if p.any() or m.any() else 1.0
    evidence = {"correlation": correlation, "ratio": ratio, "step": step, "n": len(x)}
    if correlation >= AGREEMENT and AGREEMENT <= ratio <= 1 / AGREEMENT:
        severity: Severity = "ok"
        message = "The gradient agrees with finite differences."
    else:
        severity = "fail"
        message = (
            f"The gradient does not agree with finite differences: correlation {correlation:.2f}, size x{ratio:.2g}."
        )
    return Flag("gradient-differs-from-finite-differences", severity, message, evidence, subject)


@torch.no_grad()
def randomness_check(model: nn.Module, x: Tensor, *, draws: int = 1, subject: str = "") -> Flag:
    """Flag a randomised model that is attacked without expectation over its randomness (EOT).

    Args:
        model: Maps (N, ...) to logits (N, n_classes).
        x: Inputs in [0, 1], (N, ...), one batch.
        draws: Passes over which the attack averages its gradient.

    Example:
        >>> randomness_check(nn.Dropout(), torch.rand(8, 4)).message
        'Two passes of the model give the same logits.'
    """
    with evaluation_mode(model):
        first, second = model(x), model(x)
    spread = spread_of(first, second)
    changed = (first.argmax(1) != second.argmax(1)).double().mean().item()
    evidence = {"largest_difference": spread, "changed_predictions": changed, "draws": draws, "n": len(x)}
    if not spread:
        severity: Severity = "ok"
        message = "Two passes of the model give the same logits."
    elif draws == 1:
        severity = "fail"
        message = (
            f"The model is random (logits differ by up to {spread:.2g}) but the attack does not average over draws."
        )
    else:
        severity, message = "ok", f"The model is random and the attack averages over {draws} draws."
    return Flag("randomised-without-eot", severity, message, evidence, subject)


def noise_on_check(model: nn.Module, *, subject: str = "") -> Flag:
    """Flag noise that does nothing, or something else than its channels say.

    The channels of each quantum layer act on a circuit of two gates whose values are known from Kraus operators, which
    is simulated as the layer is.

    Args:
        model: Its `QuantumLayer`s are looked at.

    Example:
        >>> noise_on_check(nn.Linear(4, 2)).message
        'No quantum layer has noise channels.'
    """
    layers = [m for m in model.modules() if isinstance(m, QuantumLayer) and m.circuit.channels]
    if not layers:
        return Flag("noise-is-off", "ok", "No quantum layer has noise channels.", {"layers": 0}, subject)
    found = [canary(layer.circuit.channels, method=layer.choice().method) for layer in layers]
    error, effect = max(c.error for c in found), min(c.effect for c in found)
    evidence = {"layers": len(layers), "largest_error": error, "smallest_effect": effect}
    if all(c.alive for c in found):
        message = f"The noise is on: it moves a circuit of two gates by {effect:.2g}, as its Kraus operators say."
        return Flag("noise-is-off", "ok", message, evidence, subject)
    wrong = any(c.error > c.tolerance for c in found)
    message = f"The noise is wrong by {error:.2g} on a circuit of known value." if wrong else "The channels do nothing."
    return Flag("noise-is-off", "fail", message, evidence, subject)


def _mean_logits(model: nn.Module, x: Tensor, draws: int) -> Tensor:
    logits: Tensor = model(x)
    for _ in range(draws - 1):
        logits = logits + model(x)
    return logits / draws


def _margin(logits: Tensor, y: Tensor, other: Tensor) -> Tensor:
    rows = torch.arange(len(y), device=y.device)
    return logits[rows, y] - logits[rows, other]
