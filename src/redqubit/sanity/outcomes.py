"""Trust checks on outcomes: what the correct samples of several attacks must look like side by side.

Masks of correct samples are bool, (N,), and two masks of one check judge the same samples. A difference counts when an
exact paired test finds it at the 5 % level.
"""

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from redqubit.errors import UsageError
from redqubit.metrics import accuracy
from redqubit.result import Flag, Severity
from redqubit.statistics import PairedTest, holm, mcnemar, smallest_detectable_difference

LEVEL = 0.05  # two-sided level of every test
FULL_RANGE = 0.5  # at this eps every input can be made uniform grey, so that no classifier can beat chance


def single_step_check(single_correct: Tensor, iterative_correct: Tensor, *, subject: str = "") -> Flag:
    """Flag an iterative attack that is weaker than one step (FGSM) of the same eps.

    Example:
        >>> import torch
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
        >>> import torch
        >>> black_box_check(torch.zeros(9) == 0, torch.zeros(9) > 0, black_box="square").code
        'gradient-masking'
    """
    advice = "the model hides its gradients, so that the white-box number overstates robustness"
    return _rival("gradient-masking", "fail", white_box_correct, black_box_correct, black_box, advice, subject)


def convergence_check(correct: Tensor, more_correct: Tensor, *, more: str = "more steps", subject: str = "") -> Flag:
    """Flag an attack that still gains from more steps or restarts.

    Example:
        >>> import torch
        >>> convergence_check(torch.zeros(9) == 0, torch.zeros(9) == 0, more="5 restarts").severity
        'ok'
    """
    advice = "raise them until nothing changes"
    return _rival("attack-not-converged", "warning", correct, more_correct, more, advice, subject)


def loss_check(logits_correct: Tensor, softmax_correct: Tensor, *, subject: str = "") -> Flag:
    """Flag that attacking the softmax output instead of the logits changes the outcome.

    A stronger attack on the softmax output is a failure of the primary attack; a weaker one is the double-softmax trap.

    Example:
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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


def guess_check(correct: Tensor, y: Tensor, *, subject: str = "") -> Flag:
    """Flag a model that is not shown to be right without attack more often than the most frequent label `y` would be.

    What attacks leave of such a model says nothing about robustness: an answer that never changes withstands them all.

    Example:
        >>> import torch
        >>> guess_check(torch.arange(90) < 31, torch.arange(90) % 3).severity
        'fail'
    """
    right, guess = accuracy(correct), float(y.bincount().max()) / len(y)
    if right.low <= guess:
        severity: Severity = "fail"
        message = (
            f"Without attack accuracy is {right.value:.3f}, not shown to be above that of one answer to all "
            f"({guess:.3f}): train longer or on more samples."
        )
    else:
        severity = "ok"
        message = f"Without attack accuracy is {right.value:.3f}, above that of one answer to all ({guess:.3f})."
    evidence = {"accuracy": right.value, "low": right.low, "n": right.n, "one_answer": guess}
    return Flag("no-better-than-guessing", severity, message, evidence, subject)


def curve_check(correct: Mapping[float, Tensor], *, subject: str = "") -> Flag:
    """Flag a security curve, masks by eps, that rises from one eps to the next; corrected for the number of steps.

    Example:
        >>> import torch
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
