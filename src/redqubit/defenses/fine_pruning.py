"""Fine-Pruning: zero the filters that clean data need least, then fine-tune."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from redqubit.data import Dataset
from redqubit.defenses.base import DEFENSES, Defense, check_classifier, check_enough, check_images
from redqubit.errors import UsageError
from redqubit.metrics import accuracy, is_correct
from redqubit.registry import unknown
from redqubit.statistics import Proportion
from redqubit.training import BATCH, logits, train

Ranking = Literal["activation", "l1"]
RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOLERATED_LOSS = 0.05  # of benign accuracy, for the verdict
ALIVE = 0.5  # attack success rate from which a backdoor counts as alive


@DEFENSES.register("fine_pruning")
@dataclass(frozen=True)
class FinePruning(Defense):
    """Zero the least filters of the last convolution, then train on clean data.

    round(rate * n) of the n filters go, lowest first, by one of

        activation:  mean over clean samples and places of max(0, z_c), z_c the channel after its batch norm, if any
        l1:          ||W_c||_1 of the filter

    A pruned channel is 0 and stays 0: the filter, its bias, and scale and shift of a batch norm right behind it. The
    shape of the layer is kept. Fine-tuning is Adam on the cross-entropy.

    Raises:
        UsageError: for inputs that are no images, a model without a 2-D convolution, a rate outside [0, 1), or fewer
            clean samples than a batch of the fine-tuning.

    Example:
        >>> FinePruning.paper(0.9)
        FinePruning(rate=0.9, ranking='l1', layer='', epochs=0, lr=0.0001, batch_size=32)

    Reference: Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural
        Networks", RAID 2018, section 3. Differs: `rate` is given, not sought by a drop of the accuracy, so that the
        whole curve can be drawn (`pruning_curve`).
    """

    against = "backdoors"

    rate: float = 0.5  # share of the filters
    ranking: Ranking = "activation"  # what goes first
    layer: str = ""  # name of the convolution; "" is the last one that runs
    epochs: int = field(default=1, metadata={"least": 0})  # of fine-tuning; 0 prunes only
    lr: float = 1e-4  # of Adam
    batch_size: int = 32  # samples per step of the fine-tuning

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.rate < 1:
            raise UsageError(f"Argument `rate` must lie in [0, 1), but is {self.rate}: some filter has to stay.")
        if self.ranking not in get_args(Ranking):
            raise unknown("value of `ranking`", self.ranking, get_args(Ranking))

    @classmethod
    def paper(cls, rate: float) -> Self:
        """Return the setting of the paper on backdoors in hybrid networks: by L1 norm, and no fine-tuning."""
        return cls(rate, ranking="l1", epochs=0)

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Prune and fine-tune this model."""
        check_images(clean, "Fine-Pruning")
        conv, norm = _find(model, clean.x[:1], self.layer)
        scores = filter_norms(conv) if self.ranking == "l1" else mean_activations(model, conv, norm, clean.x)
        pruned = scores.argsort(stable=True)[: round(self.rate * conv.out_channels)]
        masked = [_mask(part, name, pruned) for part in (conv, norm) if part for name in _weights(part)]
        if self.epochs:
            check_enough(clean, self.batch_size, "one batch of the fine-tuning (`batch_size`)")
            train(
                model,
                clean.x,
                clean.y,
                epochs=self.epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                generator=generator,
            )
        for part, name in masked:
            prune.remove(part, name)
        return model


@dataclass(frozen=True)
class PruningPoint:
    """What is left of the model and of its backdoor at one pruning rate."""

    rate: float
    benign_accuracy: Proportion  # of clean test samples
    attack_success_rate: Proportion  # of triggered samples, the target class left out
    fails: bool  # the defense at this rate: accuracy within 5 points of the unpruned model's, backdoor at 50 % or more
    fails_by_paper: bool  # ASR above BA, the rule of the paper on hybrid networks


def pruning_curve(
    defense: FinePruning,
    model: nn.Module,
    clean: Dataset,
    test: Dataset,
    triggered: Tensor,
    target_class: int,
    *,
    rates: Sequence[float] = RATES,
    generator: torch.Generator,
) -> list[PruningPoint]:
    """Return benign accuracy and attack success rate at several pruning rates; the first point is the model as it is.

    Args:
        defense: Everything but the rate.
        model: Maps (B, C, H, W) to logits (B, n_classes); left as it was.
        clean: Samples that the defender holds.
        test: Clean test samples.
        triggered: Triggered test pictures whose true class is not the target, (M, C, H, W).
        target_class: The backdoor's target.
        rates: Shares of the filters, in [0, 1).
        generator: CPU source of the order of samples in fine-tuning.

    Raises:
        UsageError: when the target is no class of `test`, or there is no triggered picture.
    """
    if not 0 <= target_class < test.n_classes:
        raise UsageError(
            f"Argument `target_class` must lie in 0..{test.n_classes - 1}, but is {target_class}: pass a class of "
            "`test`."
        )
    if len(triggered) == 0 or triggered.shape[1:] != test.x.shape[1:]:
        raise UsageError(
            f"Argument `triggered` must hold pictures of shape {tuple(test.x.shape[1:])} like `test`, but its shape "
            f"is {tuple(triggered.shape)}: apply the trigger to test pictures of other classes than the target."
        )
    check_classifier(copy.deepcopy(model).eval(), test)
    points: list[PruningPoint] = []
    for rate in (0.0, *rates):
        part = replace(defense, rate=rate)(model, clean, generator=generator) if points else model
        benign = accuracy(is_correct(logits(part, test.x), test.y))
        target = torch.full((len(triggered),), target_class, device=triggered.device)
        success = accuracy(is_correct(logits(part, triggered), target))
        unpruned = points[0].benign_accuracy if points else benign
        alive = success.value >= ALIVE and benign.value >= unpruned.value - TOLERATED_LOSS
        points.append(PruningPoint(rate, benign, success, alive, success.value > benign.value))
    return points


def filter_norms(conv: nn.Conv2d) -> Tensor:
    """Return ||W_c||_1 of each filter, (out_channels,).

    Example:
        >>> conv = nn.Conv2d(1, 2, 2).requires_grad_(False)
        >>> conv.weight[:] = torch.tensor([1.0, -2.0])[:, None, None, None]
        >>> filter_norms(conv)
        tensor([4., 8.])
    """
    return conv.weight.detach().abs().flatten(1).sum(1)


@torch.no_grad()
def mean_activations(model: nn.Module, conv: nn.Conv2d, norm: nn.Module | None, x: Tensor) -> Tensor:
    """Return the mean of max(0, z_c) over samples and places, (out_channels,); z after the batch norm, if any."""
    total = x.new_zeros(conv.out_channels)
    places = 0

    def add(_: nn.Module, __: object, z: Tensor) -> None:
        nonlocal places
        total.add_(z.clamp(min=0).sum((0, 2, 3)))
        places += len(z) * z.shape[2] * z.shape[3]

    handle = (norm or conv).register_forward_hook(add)
    for batch in x.split(BATCH):
        model(batch)
    handle.remove()
    return total / places


@torch.no_grad()
def _find(model: nn.Module, x: Tensor, layer: str) -> tuple[nn.Conv2d, nn.Module | None]:
    """Return the convolution to prune, and the batch norm that takes its output, by watching one pass."""
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    ran: list[tuple[nn.Conv2d, Tensor]] = []
    norms: list[tuple[nn.Module, Tensor]] = []

    def saw(module: nn.Module, _: object, z: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        ran.append((module, z))

    def entered(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        norms.append((module, inputs[0]))

    handles = [conv.register_forward_hook(saw) for conv in names]
    handles += [m.register_forward_pre_hook(entered) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    model(x)
    for handle in handles:
        handle.remove()
    wanted = [(conv, z) for conv, z in ran if not layer or names[conv] == layer]
    if layer and not wanted:
        raise unknown("convolution", layer, [names[conv] for conv, _ in ran])
    if not wanted:
        raise UsageError(
            f"Argument `model` must have a Conv2d to prune, but {type(model).__name__} runs none: use another defense."
        )
    conv, z = wanted[-1]
    return conv, next((norm for norm, entry in norms if entry is z), None)


def _weights(part: nn.Module) -> list[str]:
    """Return the names of a layer's own parameters."""
    return [name for name, _ in part.named_parameters(recurse=False)]


def _mask(part: nn.Module, name: str, pruned: Tensor) -> tuple[nn.Module, str]:
    """Hold the pruned channels of a parameter at 0, also while it trains, until the mask is removed."""
    mask = torch.ones_like(getattr(part, name))
    mask[pruned] = 0
    prune.custom_from_mask(part, name, mask)
    return part, name
