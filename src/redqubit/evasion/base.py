"""What every evasion attack shares: the call, the checks of its arguments, the loss and its input gradient."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from redqubit.errors import UsageError
from redqubit.evasion.shared_draws import several_draws
from redqubit.registry import Registry, unknown

AttackOn = Literal["logits", "softmax_output"]

ATTACKS: Registry[type["EvasionAttack"]] = Registry("evasion attack", "redqubit.evasion")


@dataclass(frozen=True)
class EvasionAttack(ABC):
    """An L-infinity attack on inputs in [0, 1]; `attack(model, x, y, generator=g)` returns x_adv.

    A subclass is a frozen dataclass that defines `perturb`; arguments, model modes, batches and the check of the
    result are dealt with here.

    Raises:
        UsageError: when a float field is negative or not finite, or a count is below 1.
    """

    eps: float = 0.1  # radius of the L-infinity ball, in data space
    targeted: bool = False  # y holds the labels to reach, not the true ones

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (not isinstance(value, int) or value < 1):
                raise UsageError(f"Argument `{field.name}` must be an integer of at least 1, but is {value!r}.")
            if field.type is float and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"Argument `{field.name}` must be finite and not negative, but is {value!r}.")

    @final
    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, batch_size: int = 256
    ) -> Tensor:
        """Return x_adv with ||x_adv - x||_inf <= eps and values in [0, 1].

        The model is put in evaluation mode for the call; its weights, modes, `requires_grad` and `.grad` are left as
        they were. Samples are independent of each other, but the random numbers depend on `batch_size`.

        Args:
            model: Maps (B, ...) to logits (B, n_classes).
            x: Clean inputs in [0, 1], (N, d) or (N, C, H, W).
            y: True labels, or the labels to reach when `targeted`, int64, (N,).
            generator: CPU source of the attack's random numbers.
            batch_size: Samples per pass of the model.

        Returns:
            The perturbed inputs, detached, shape and type of `x`.

        Raises:
            UsageError: when the inputs, labels or the model cannot be attacked; the message says why.
        """
        _check_inputs(x, y, batch_size)
        with evaluation_mode(model):
            check_model(model, x[:batch_size], int(y.max()) + 1, needs_gradient=isinstance(self, GradientAttack))
            batches = zip(x.detach().split(batch_size), y.split(batch_size), strict=True)
            x_adv = torch.cat([self.perturb(model, batch, labels, generator).detach() for batch, labels in batches])
        if not x_adv.isfinite().all():
            raise UsageError(
                "Argument `model` must have finite outputs and gradients around its inputs, but "
                f"{type(model).__name__} gave NaN or infinity during the attack: bound its logits."
            )
        slack = 8 * torch.finfo(x.dtype).eps
        if (x_adv - x).abs().max() > self.eps + slack or x_adv.min() < 0 or x_adv.max() > 1:
            raise RuntimeError(f"{type(self).__name__} left the eps-ball or [0, 1]")
        return x_adv

    @abstractmethod
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_adv of one batch; the arguments are checked and the model is in evaluation mode."""


@dataclass(frozen=True)
class GradientAttack(EvasionAttack):
    """An attack that follows the gradient of the loss to the input.

    The loss is cross-entropy, summed over the batch. `attack_on="softmax_output"` applies it to the probabilities
    as if these were logits: the double softmax that arises when a network ends in softmax and the attack adds its
    own. It takes the gradient away where the model is sure of another class than y, as at the start of a targeted
    attack, and hardly matters where it is sure of y.
    """

    attack_on: AttackOn = "logits"
    draws: int = 1  # passes of a randomised model whose gradients are averaged (EOT)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.attack_on not in get_args(AttackOn):
            raise unknown("value of `attack_on`", self.attack_on, get_args(AttackOn))

    def gradient(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return the gradient of what the attack raises: the loss to y, or minus the loss when targeted."""
        gradient = input_gradient(model, x, y, attack_on=self.attack_on, draws=self.draws)
        return -gradient if self.targeted else gradient


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, *, attack_on: AttackOn = "logits", draws: int = 1) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to the input.

    grad_x sum_b L(f(x_b), y_b), averaged over `draws` passes when the model is random. The model's mode is the
    caller's; nothing is added to the `.grad` of its weights.

    Args:
        model: Maps (B, ...) to logits (B, n_classes).
        x: Inputs, (B, ...).
        y: Labels, int64, (B,).
        attack_on: Whether L takes the logits or, the double softmax, the probabilities.
        draws: Passes to average over.

    Returns:
        The gradient, shape of `x`.

    Example:
        >>> model = nn.Linear(1, 2, bias=False).requires_grad_(False)
        >>> model.weight[:] = torch.tensor([[0.0], [1.0]])
        >>> input_gradient(model, torch.zeros(1, 1), torch.tensor([0]))
        tensor([[0.5000]])
    """
    leaf = x.detach().requires_grad_()
    total = torch.zeros_like(x)
    with several_draws(model, leaf, draws) as passes:
        for n in passes:
            with torch.enable_grad():
                loss = class_loss(model(leaf), y.repeat(n), attack_on).sum()
                total += torch.autograd.grad(loss, leaf)[0]
    return total / draws if draws > 1 else total


def class_loss(logits: Tensor, y: Tensor, attack_on: AttackOn = "logits") -> Tensor:
    """Return the cross-entropy of every sample, (B,)."""
    return cross_entropy(logits if attack_on == "logits" else logits.softmax(1), y, reduction="none")


def sign(gradient: Tensor) -> Tensor:
    """Return the sign, 0 for 0; a NaN or infinity stays NaN, so that the call can report it."""
    return gradient.sign().add(gradient, alpha=0)


def bounds(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the least and greatest value of each entry in the eps-ball and [0, 1]."""
    return (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)


def uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return U(-1, 1) noise like `x`, drawn on the CPU so that every device sees the same numbers."""
    return torch.rand(x.shape, dtype=x.dtype, generator=generator).mul_(2).sub_(1).to(x.device)


@torch.no_grad()
def keep_worst(
    attempt: Callable[[Tensor, Tensor], Tensor],
    tries: int,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    targeted: bool,
    draws: int = 1,
) -> Tensor:
    """Return, per sample, the first attempt that fools the model, else the one with the highest loss.

    A sample that is fooled is not tried again. Over several draws of a random model the loss and the probabilities
    are averaged.

    Args:
        attempt: Maps inputs and labels of some samples to perturbed inputs; called up to `tries` times.
        tries: Number of attempts.
        model: Maps (B, ...) to logits (B, n_classes).
        x: Clean inputs, (B, ...).
        y: Labels, (B,).
        targeted: Whether the model is fooled when it predicts `y`, not when it does not.
        draws: Passes of the model per judgement.
    """
    best = x.clone()
    best_loss = torch.full(y.shape, -math.inf, dtype=x.dtype, device=x.device)
    active = torch.arange(len(x), device=x.device)
    for _ in range(tries):
        x_adv = attempt(x[active], y[active])
        outputs = torch.stack([model(x_adv) for _ in range(draws)])  # (draws, B, n_classes)
        loss = torch.stack([class_loss(logits, y[active]) for logits in outputs]).mean(0).to(x.dtype)
        hit = outputs.softmax(2).mean(0).argmax(1) == y[active]
        fooled = hit if targeted else ~hit
        better = fooled | ((-loss if targeted else loss) > best_loss[active])
        best[active[better]] = x_adv[better]
        best_loss[active[better]] = (-loss if targeted else loss)[better]
        active = active[~fooled]
        if len(active) == 0:
            break
    return best


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode with frozen weights, and restore each submodule and weight after.

    Frozen, because a layer with its own backward pass would otherwise work out gradients of its weights in every step.
    """
    modes = [(module, module.training) for module in model.modules()]
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    model.eval()
    for weight in trainable:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for weight in trainable:
            weight.requires_grad_(True)


@torch.no_grad()
def is_random(model: nn.Module, x: Tensor) -> bool:
    """Return whether two passes of a model differ in evaluation mode: by noise, shots or any other source.

    Differences in the last digits do not count: threaded sums may give them without any intended randomness.

    Args:
        model: Maps (B, ...) to logits (B, n_classes).
        x: A few inputs, one batch.

    Example:
        >>> is_random(nn.Dropout(), torch.rand(8, 4))  # off in evaluation mode
        False
    """
    with evaluation_mode(model):
        return spread_of(model(x), model(x)) > 0


def spread_of(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of two passes' logits, 0 where it may be rounding."""
    spread = (first - second).abs().max().item()
    rounding = 1e3 * torch.finfo(first.dtype).eps * max(1.0, first.abs().max().item())
    return 0.0 if spread <= rounding else spread


def check_model(model: nn.Module, x: Tensor, n_classes: int, *, needs_gradient: bool = True) -> None:
    """Raise an error that says what to do when `model` does not map `x` to logits that can be attacked.

    Args:
        model: What should map (B, ...) to logits (B, n_classes); its mode is the caller's.
        x: A few inputs in [0, 1], (B, ...).
        n_classes: Least number of logits.
        needs_gradient: Whether the logits must have a gradient to the input.

    Raises:
        UsageError: when the model does not take the type of `x`, when the outputs have the wrong shape, are too few,
            not finite or probabilities, or when no gradient reaches the input.

    Example:
        >>> check_model(nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), torch.rand(8, 4), 3)
        Traceback (most recent call last):
            ...
        redqubit.errors.UsageError: Argument `model` must return logits, but the outputs of Sequential are probabilities (rows of numbers from 0 that sum to 1): drop its last softmax.
    """  # noqa: E501
    name = type(model).__name__
    x = x.detach().requires_grad_(needs_gradient)
    try:
        with torch.set_grad_enabled(needs_gradient):
            logits = model(x)
    except RuntimeError as error:
        own = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
        if own == x.dtype:
            raise
        raise UsageError(
            f"Argument `model` must take inputs of {x.dtype}, but {name} has parameters of {own} and does not: call "
            f"{_cast(own)} on the inputs, or {_cast(x.dtype)} on the model."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(
            f"Argument `model` must return logits of shape ({len(x)}, n_classes), n_classes >= 2, but {name} "
            f"returned {got} for inputs {tuple(x.shape)}: wrap it in a module that does."
        )
    if logits.shape[1] < n_classes:
        raise UsageError(
            f"Argument `model` must return a logit per class, but {name} has {logits.shape[1]} and the labels need "
            f"{n_classes}: count labels from 0, or widen the last layer."
        )
    if not logits.isfinite().all():
        raise UsageError(
            f"Argument `model` must return finite logits, but {name} returned NaN or infinity: check its weights."
        )
    detached = logits.detach()
    if (detached >= 0).all() and ((detached.sum(1) - 1).abs() < 1e-4).all():
        raise UsageError(
            f"Argument `model` must return logits, but the outputs of {name} are probabilities (rows of numbers "
            "from 0 that sum to 1): drop its last softmax."
        )
    if not needs_gradient:
        return
    gradient = None
    if logits.requires_grad:
        (gradient,) = torch.autograd.grad(logits, x, torch.ones_like(logits), allow_unused=True)
    if gradient is None:
        raise UsageError(
            f"Argument `model` must pass gradients to its input, but the logits of {name} are cut off from it: remove "
            "detach, no_grad or numpy from its forward pass, or use an attack without gradients such as `square`."
        )


def _cast(dtype: torch.dtype) -> str:
    """Return the method that turns a tensor or a module into a floating type."""
    return {torch.float32: ".float()", torch.float64: ".double()"}.get(dtype, f".to({dtype})")


def _check_inputs(x: Tensor, y: Tensor, batch_size: int) -> None:
    if x.ndim < 2 or len(x) == 0:
        raise UsageError(
            f"Argument `x` must hold samples of shape (N, d) or (N, C, H, W), N >= 1, but has shape {tuple(x.shape)}: "
            "add the batch dimension, or pass at least one sample."
        )
    if not x.is_floating_point():
        raise UsageError(f"Argument `x` must be floating point in [0, 1], but is {x.dtype}: divide it by its maximum.")
    low, high = x.min().item(), x.max().item()  # NaN when any entry is
    if not (low >= 0 and high <= 1):
        raise UsageError(
            f"Argument `x` must lie in [0, 1], but spans {low:.4g} to {high:.4g}: scale it, and put any "
            "normalisation inside the model."
        )
    if y.shape != (len(x),) or y.dtype != torch.int64:
        raise UsageError(
            f"Argument `y` must be int64 of shape ({len(x)},), one label per sample of `x`, but is {y.dtype} of shape "
            f"{tuple(y.shape)}: pass class indices."
        )
    if y.min() < 0:
        raise UsageError(f"Argument `y` must hold labels from 0, but has {int(y.min())}: renumber the classes.")
    if x.device != y.device:
        raise UsageError(f"Argument `y` must be on {x.device} like `x`, but is on {y.device}: move it.")
    if batch_size < 1:
        raise UsageError(f"Argument `batch_size` must be at least 1, but is {batch_size}.")
