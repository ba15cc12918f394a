"""Trust checks: what must hold before a robustness number is believed.

Each check returns a `Flag` with the numbers behind it, "ok" when it finds nothing. Masks of correct samples are bool,
(N,), and two masks of one check judge the same samples. A difference counts when an exact paired test finds it at the
5 % level. `subject` names what the flag is about. Model checks put the model in evaluation mode and leave it as it was.

Reference: Carlini et al., "On evaluating adversarial robustness", arXiv:1902.06705, 2019; Athalye, Carlini and Wagner,
    "Obfuscated gradients give a false sense of security", ICML 2018, section 3.1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.evasion.base import evaluation_mode, input_gradient
from redqubit.metrics import accuracy
from redqubit.result import Flag, Severity
from redqubit.statistics import PairedTest, holm, mcnemar, smallest_detectable_difference

LEVEL = 0.05  # two-sided level of every test
ZERO_SAMPLES = 0.01  # a sample without gradient counts as robust unattacked: more would shift accuracy by a point
ZERO_ENTRIES = 0.5  # gradient attacks cannot move these entries: beyond half they search a minor part of the ball
TINY_GRADIENT = 1e-8  # below the rounding of a loss of order 0.1 in single precision: softmax is saturated
CONTRACTED = 1e-3  # a margin of logits below which single precision keeps 4 digits or fewer of what the loss changes by
AGREEMENT = 0.5  # least correlation, and least ratio of sizes, of gradient and finite differences
FULL_RANGE = 0.5  # at this eps every input can be made uniform grey, so that no classifier can beat chance


def single_step_check(single_correct: Tensor, iterative_correct: Tensor, *, subject: str = "") -> Flag:
    """Flag an iterative attack that is weaker than one step (FGSM) of the same eps.

    Example:
        >>> single_step_check(torch.zeros(9) > 0, torch.zeros(9) == 0).severity
        'fail'
    """
    advice = "raise the steps or use a step size relative to eps"
    code = "iterative-weaker-than-single-step"
    return _rival(code, "fail", iterative_correct, single_correct, "a single step", advice, subject)


def black_box_check(
    white_box_correct: Tensor, black_box_correct: Tensor, *, black_box: str = "black box", subject: str = ""
) -> Flag:
    """Flag gradient masking: an attack without gradients, or transfer, beats the white-box attack.

    Example:
        >>> black_box_check(torch.zeros(9) == 0, torch.zeros(9) > 0, black_box="square").code
        'gradient-masking'
    """
    advice = "the model hides its gradients, so that the white-box number overstates robustness"
    return _rival("gradient-masking", "fail", white_box_correct, black_box_correct, black_box, advice, subject)


def convergence_check(correct: Tensor, more_correct: Tensor, *, more: str = "more steps", subject: str = "") -> Flag:
    """Flag an attack that still gains from more steps or restarts.

    Example:
        >>> convergence_check(torch.zeros(9) == 0, torch.zeros(9) == 0, more="5 restarts").severity
        'ok'
    """
    advice = "raise them until nothing changes"
    return _rival("attack-not-converged", "warning", correct, more_correct, more, advice, subject)


def loss_check(logits_correct: Tensor, softmax_correct: Tensor, *, subject: str = "") -> Flag:
    """Flag that attacking the softmax output instead of the logits changes the outcome.

    A stronger attack on the softmax output is a failure of the primary attack; a weaker one is the double-softmax trap.

    Example:
        >>> loss_check(torch.zeros(9) > 0, torch.zeros(9) == 0).severity
        'warning'
    """
    test = mcnemar(softmax_correct, logits_correct)
    evidence = _evidence(test, logits=logits_correct, softmax_output=softmax_correct)
    if test.p_value < LEVEL:
        severity: Severity = "warning" if test.value > 0 else "fail"
        word = "weaker" if test.value > 0 else "stronger"
        message = f"Attacking the softmax output is {word} than attacking the logits by {abs(test.value):.3f}."
    else:
        severity, message = "ok", "Attacking the softmax output or the logits makes no difference."
    return Flag("softmax-output-differs", severity, message, evidence, subject)


def noise_check(noise_correct: Tensor, attack_correct: Tensor, *, subject: str = "") -> Flag:
    """Flag an attack that random noise of the same size matches.

    An attack that leaves nothing correct cannot be beaten and passes.

    Example:
        >>> noise_check(torch.zeros(9) == 0, torch.zeros(9) == 0).severity
        'warning'
    """
    test = mcnemar(noise_correct, attack_correct)
    evidence = _evidence(test, noise=noise_correct, attack=attack_correct)
    significant = test.p_value < LEVEL
    if significant and test.value < 0:
        severity: Severity = "fail"
        message = f"Random noise of the same size is stronger than the attack by {-test.value:.3f}."
    elif not significant and attack_correct.any():
        severity, message = "warning", "Random noise of the same size does as much as the attack, as far as n can show."
    else:
        severity, message = "ok", "The attack is stronger than random noise of the same size."
    return Flag("attack-no-better-than-noise", severity, message, evidence, subject)


def chance_check(correct: Tensor, eps: float, n_classes: int, *, subject: str = "") -> Flag:
    """Flag an attack that leaves accuracy above chance, 1 / n_classes, at the largest `eps` it was given.

    From eps 0.5 on a failing attack is certain; below it may be the grid that ends too early, hence a warning.

    Example:
        >>> chance_check(torch.zeros(90) == 0, 0.5, 10).severity
        'fail'
    """
    left, chance = accuracy(correct), 1 / n_classes
    if left.low > chance:
        severity: Severity = "fail" if eps >= FULL_RANGE else "warning"
        message = f"At the largest eps, {eps:g}, accuracy is {left.value:.3f}, above chance ({chance:.3f})."
    else:
        severity, message = "ok", f"At the largest eps, {eps:g}, accuracy is {left.value:.3f}, not above chance."
    evidence = {"eps": eps, "accuracy": left.value, "low": left.low, "n": left.n, "chance": chance}
    return Flag("largest-eps-above-chance", severity, message, evidence, subject)


def curve_check(correct: Mapping[float, Tensor], *, subject: str = "") -> Flag:
    """Flag a security curve, masks by eps, that rises from one eps to the next; corrected for the number of steps.

    Example:
        >>> curve_check({0.1: torch.zeros(9) > 0, 0.2: torch.zeros(9) == 0}).severity
        'warning'
    """
    if len(correct) < 2:
        raise UsageError(f"Argument `correct` must hold two or more values of eps, but has {len(correct)}.")
    grid = sorted(correct)
    tests = [mcnemar(correct[right], correct[left]) for left, right in pairwise(grid)]
    corrected = holm([test.p_value for test in tests])
    rises = [
        (test.value, eps)
        for test, eps, p in zip(tests, grid[1:], corrected, strict=True)
        if test.value > 0 and p < LEVEL
    ]
    worst = max(tests, key=lambda test: test.value)
    evidence = {"largest_rise": worst.value, "steps": len(tests), "n": worst.n}
    if rises:
        rise, eps = max(rises)
        message = f"Accuracy rises by {rise:.3f} up to eps {eps:g}, although a larger ball holds the smaller one."
        return Flag("non-monotone-curve", "warning", message, evidence, subject)
    return Flag("non-monotone-curve", "ok", "Accuracy does not rise with eps.", evidence, subject)


def sample_size_check(difference: float, n: int, *, p: float = 0.5, subject: str = "") -> Flag:
    """Flag a difference of accuracies (near `p`) that is smaller than n samples can be expected to show.

    Example:
        >>> sample_size_check(0.05, 30).severity
        'warning'
    """
    least = smallest_detectable_difference(n, p=p)
    small = abs(difference) < least
    message = (
        f"A difference of {abs(difference):.3f} is {'below' if small else 'within'} what {n} samples can show "
        f"({least:.3f} with 80 % power)."
    )
    evidence = {"difference": difference, "detectable": least, "n": n}
    return Flag("sample-too-small", "warning" if small else "ok", message, evidence, subject)


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
    spread = (first - second).abs().max().item()
    changed = (first.argmax(1) != second.argmax(1)).double().mean().item()
    evidence = {"largest_difference": spread, "changed_predictions": changed, "draws": draws, "n": len(x)}
    # Threaded sums may differ in the last digits from pass to pass without any intended randomness.
    if spread <= 1e3 * torch.finfo(first.dtype).eps * max(1.0, first.abs().max().item()):
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


def _rival(
    code: str, severity: Severity, correct: Tensor, rival_correct: Tensor, rival: str, advice: str, subject: str
) -> Flag:
    """Flag when the rival leaves fewer samples correct than the attack that should be the stronger one."""
    test = mcnemar(correct, rival_correct)
    counts = {"only_rival_fools": test.only_a, "only_attack_fools": test.only_b}
    evidence = {**_evidence(test, attack=correct, rival=rival_correct), "rival": rival, **counts}
    if test.value > 0 and test.p_value < LEVEL:
        message = f"The attack is weaker than {rival} by {test.value:.3f}: {advice}."
        return Flag(code, severity, message, evidence, subject)
    message = f"The attack is not weaker than {rival}, as far as {test.n} samples show."
    return Flag(code, "ok", message, evidence, subject)


def _evidence(test: PairedTest, **correct: Tensor) -> dict[str, float | int | str | None]:
    shares = {f"{name}_accuracy": accuracy(mask).value for name, mask in correct.items()}
    return {**shares, "p_value": test.p_value, "n": test.n}


def _mean_logits(model: nn.Module, x: Tensor, draws: int) -> Tensor:
    logits: Tensor = model(x)
    for _ in range(draws - 1):
        logits = logits + model(x)
    return logits / draws


def _margin(logits: Tensor, y: Tensor, other: Tensor) -> Tensor:
    rows = torch.arange(len(y), device=y.device)
    return logits[rows, y] - logits[rows, other]
