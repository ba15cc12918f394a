"""What a set of predictions amounts to: proportions from logits and from masks of correct samples."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.registry import unknown
from redqubit.statistics import Proportion

# Networks of LPIPS: torchvision's name for their weights, and the least side in pixels that leaves a map to each layer.
_LPIPS = {
    "alex": ("AlexNet_Weights", 31),
    "vgg": ("VGG16_Weights", 16),
    "squeeze": ("SqueezeNet1_1_Weights", 17),
}


def is_correct(logits: Tensor, y: Tensor) -> Tensor:
    """Return which samples are classified as `y`, bool, (N,).

    Args:
        logits: Outputs of the model, (N, n_classes).
        y: True labels, (N,).

    Example:
        >>> is_correct(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
        tensor([ True, False])
    """
    if logits.ndim != 2 or y.shape != logits.shape[:1]:
        raise UsageError(
            f"Argument `y` must hold one label per row of `logits`, but the shapes are {tuple(y.shape)} and "
            f"{tuple(logits.shape)}."
        )
    return logits.argmax(1) == y


def accuracy(correct: Tensor) -> Proportion:
    """Return the share of correct samples.

    Example:
        >>> accuracy(torch.tensor([True, False, True, True])).value
        0.75
    """
    return Proportion(int(correct.sum()), len(correct))


def robust_accuracy(clean_correct: Tensor, attacked_correct: Tensor) -> Proportion:
    """Return the share of all samples that are correct both before and after the attack.

    A sample that the attack happens to correct does not count.

    Example:
        >>> robust_accuracy(torch.tensor([True, True, False]), torch.tensor([True, False, True])).k
        1
    """
    return accuracy(worst_case([clean_correct, attacked_correct]))


def attack_success_rate(clean_correct: Tensor, attacked_correct: Tensor) -> Proportion:
    """Return the share of initially correct samples that the attack turns into errors.

    Example:
        >>> attack_success_rate(torch.tensor([True, True, False]), torch.tensor([True, False, False])).value
        0.5
    """
    survived = robust_accuracy(clean_correct, attacked_correct).k
    n = int(clean_correct.sum())
    return Proportion(n - survived, n)


def worst_case(correct: Iterable[Tensor]) -> Tensor:
    """Return which samples are correct under every one of several attacks, bool, (N,).

    Args:
        correct: One mask per attack, bool, (N,) each.

    Raises:
        UsageError: when there is no mask or their lengths differ.

    Example:
        >>> worst_case([torch.tensor([True, True, False]), torch.tensor([True, False, True])])
        tensor([ True, False, False])
    """
    masks = [mask.bool() for mask in correct]
    if len({mask.shape for mask in masks}) != 1:
        raise UsageError(
            f"Argument `correct` must hold one or more masks of equal shape, but has {[tuple(m.shape) for m in masks]}:"
            " judge every attack on the same samples."
        )
    return torch.stack(masks).all(0)


def linf_distance(x: Tensor, x_adv: Tensor) -> Tensor:
    """Return max|x_adv - x| per sample, (N,).

    Example:
        >>> linf_distance(torch.zeros(1, 2), torch.tensor([[0.5, -0.25]]))
        tensor([0.5000])
    """
    return (x_adv - x).abs().flatten(1).amax(1)


def squared_error(x: Tensor, changed: Tensor) -> Tensor:
    """Return the mean squared difference of each sample, (N,); its mean is that of all entries.

    Args:
        x: Clean samples, (N, ...).
        changed: The same samples after a change, shape of `x`.

    Example:
        >>> squared_error(torch.zeros(1, 4), torch.full((1, 4), 0.5))
        tensor([0.2500])
    """
    _check_pairs(x, changed)
    return (x - changed).square().flatten(1).mean(1)


def cosine_similarity(x: Tensor, changed: Tensor) -> Tensor:
    """Return x . x' / (|x| |x'|) of each sample, (N,); 0 where one of them is all zero.

    Of a whole set as one vector it is `cosine_similarity(x.reshape(1, -1), changed.reshape(1, -1))`, the other reading
    of papers that give one number for a set.

    Args:
        x: Clean samples, (N, ...).
        changed: The same samples after a change, shape of `x`.

    Example:
        >>> x, changed = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]])
        >>> cosine_similarity(x, changed), cosine_similarity(x.reshape(1, -1), changed.reshape(1, -1))
        (tensor([1., 0.]), tensor([0.2236]))
    """
    _check_pairs(x, changed)
    return torch.nn.functional.cosine_similarity(x.flatten(1), changed.flatten(1), dim=1)


def psnr(x: Tensor, changed: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each sample in decibels, (N,); infinite where nothing changed.

    PSNR = -10 log10(mean (x - x')^2), for values in [0, 1].

    Args:
        x: Clean samples, (N, ...).
        changed: The same samples after a change, shape of `x`.

    Example:
        >>> psnr(torch.zeros(1, 4), torch.full((1, 4), 0.1))
        tensor([20.])
    """
    _check_pairs(x, changed)
    return -10 * (x - changed).square().flatten(1).mean(1).log10()


def ssim(x: Tensor, changed: Tensor, *, batch_size: int = 64) -> Tensor:
    """Return the structural similarity of each picture, (N,).

    SSIM = (2 m m' + C1)(2 c + C2) / ((m^2 + m'^2 + C1)(v + v' + C2)) with C1 = 0.01^2 and C2 = 0.03^2, where m, v and c
    are means, variances and covariance under a Gaussian window of 11x11 pixels with sigma 1.5; averaged over pixels and
    channels.

    Args:
        x: Clean pictures in [0, 1], (N, C, H, W) with H, W >= 6.
        changed: The same pictures after a change, shape of `x`.
        batch_size: Pictures at a time.

    Raises:
        UsageError: when the shapes differ or are no pictures of at least 6x6.

    Example:
        >>> x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> ssim(x, 0.9 * x)
        tensor([0.9890, 0.9890])

    Reference: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
        Transactions on Image Processing 13, 2004. Differs: at the edges the picture is mirrored, as torchmetrics
        does, where the paper leaves them out.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _check_pairs(x, changed)
    if x.ndim != 4 or min(x.shape[2:]) < 6:
        raise UsageError(
            f"Argument `x` must hold pictures (N, C, H, W) of at least 6x6 pixels, but has shape {tuple(x.shape)}: "
            "the window of SSIM is 11x11."
        )
    with torch.no_grad():
        parts = [
            structural_similarity_index_measure(b, a, sigma=1.5, data_range=1.0, reduction="none")
            for a, b in zip(x.split(batch_size), changed.split(batch_size), strict=True)
        ]
    return torch.cat([part for part in parts if isinstance(part, Tensor)])


def lpips(x: Tensor, changed: Tensor, *, net: str = "alex", batch_size: int = 64) -> Tensor:
    """Return the learned perceptual distance of each picture, (N,); 0 where nothing changed.

    LPIPS = sum over layers l of the mean over pixels of w_l . (a_l - a'_l)^2, where a_l are a network's activations,
    scaled to length 1 at each pixel, and w_l weights that were fitted to what people see.

    Args:
        x: Clean pictures in [0, 1], (N, C, H, W) with C 1 or 3; grey ones are repeated to three channels.
        changed: The same pictures after a change, shape of `x`.
        net: "alex", with H, W >= 31, "vgg" (16) or "squeeze" (17).
        batch_size: Pictures at a time.

    Raises:
        UsageError: when the pictures do not pair or suit the network, torchvision is not installed, or the network's
            weights are neither in torch's cache nor can be downloaded.

    Reference: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018,
        section 3; as torchmetrics computes it.
    """
    _check_pairs(x, changed)
    if net not in _LPIPS:
        raise unknown("net", net, _LPIPS)
    side = _LPIPS[net][1]
    if x.ndim != 4 or x.shape[1] not in (1, 3) or min(x.shape[2:]) < side:
        raise UsageError(
            f"Argument `x` must hold pictures (N, 1 or 3, H, W) of at least {side}x{side} pixels for the net {net!r}, "
            f"but has shape {tuple(x.shape)}: make them larger."
        )
    if not all(values.min() >= 0 and values.max() <= 1 for values in (x, changed)):
        raise UsageError("Arguments `x` and `changed` must lie in [0, 1], but do not: clip them first.")
    distance = _perceptual(net).to(x.device)
    with torch.no_grad():
        for pair in zip(x.split(batch_size), changed.split(batch_size), strict=True):
            distance.update(*(part.float().expand(-1, 3, -1, -1) for part in pair))
    found: Tensor = distance.compute()
    return found.to(x).reshape(len(x))  # a single one comes without a dimension


def _perceptual(net: str) -> Any:
    """Return torchmetrics' LPIPS of each picture, after torch itself has read the weights that it will load."""
    try:
        models = importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:  # the latter from a torchvision that was built for another torch
        raise UsageError(
            f"Package torchvision must be installed for LPIPS, in its build for torch {torch.__version__}, but cannot "
            "be imported: see https://pytorch.org/get-started/locally."
        ) from error
    url = getattr(models, _LPIPS[net][0]).DEFAULT.url
    try:  # torchvision would unpickle whatever is in the cache
        torch.hub.load_state_dict_from_url(url, progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # no network, or torch's many errors for a broken file or a refused object
        raise UsageError(
            f"The published weights of the net {net!r} must be at hand for LPIPS, but cannot be had "
            f"({type(error).__name__}): put {url} into {torch.hub.get_dir()}/checkpoints."
        ) from error
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with torch.random.fork_rng(devices=[]):  # the nets draw weights before they load those
        return LearnedPerceptualImagePatchSimilarity(net_type=net, reduction="none", normalize=True)  # type: ignore[arg-type]


def backdoor_success_rate(logits: Tensor, y: Tensor, target_class: int) -> Proportion:
    """Return the share of samples that are classified as the target class, those that belong to it left out.

    On triggered inputs of a backdoored model this is the attack success rate (ASR). On the same inputs without the
    trigger, or of a clean model, it is a floor: what would be called success where there is no backdoor.

    Args:
        logits: Outputs of the model, (N, n_classes).
        y: True labels, (N,).
        target_class: The class that the trigger should call up.

    Raises:
        UsageError: when the lengths differ or the target is none of the classes.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> backdoor_success_rate(logits, torch.tensor([0, 1, 1]), 0).value
        0.5
    """
    is_correct(logits, y)
    if not 0 <= target_class < logits.shape[1]:
        raise UsageError(
            f"Argument `target_class` must lie in 0..{logits.shape[1] - 1}, but is {target_class}: choose a class of "
            "the model."
        )
    predicted = logits.argmax(1)[y != target_class]
    return Proportion(int((predicted == target_class).sum()), len(predicted))


@dataclass(frozen=True)
class BackdoorRates:
    """What a backdoor does to a model, beside what would happen without it.

    Attributes:
        clean_accuracy: CA, of the clean model on clean inputs.
        backdoor_accuracy: BA, of the backdoored model on clean inputs.
        attack_success_rate: ASR, of triggered inputs.
        clean_model_floor: The clean model's rate of the target class on the same triggered inputs.
        untriggered_floor: The backdoored model's rate on the same inputs without the trigger.
        train_attack_success_rate: ASR on the poisoned training samples; high beside a low ASR means memorised.
        robust_accuracy: Of the backdoored model, right with and without the trigger.
        by_class: ASR for each true class, of no trials for the target.
    """

    clean_accuracy: Proportion
    backdoor_accuracy: Proportion
    attack_success_rate: Proportion
    clean_model_floor: Proportion
    untriggered_floor: Proportion
    train_attack_success_rate: Proportion
    robust_accuracy: Proportion
    by_class: tuple[Proportion, ...]

    @property
    def above_floor(self) -> float:
        """ASR minus the clean model's floor."""
        return self.attack_success_rate.value - self.clean_model_floor.value

    @classmethod
    def of(
        cls,
        y: Tensor,
        target_class: int,
        *,
        clean_model: Tensor,
        clean_model_triggered: Tensor,
        backdoored: Tensor,
        backdoored_triggered: Tensor,
        train_triggered: Tensor,
        train_y: Tensor,
    ) -> Self:
        """Count the rates from logits of one test set, and of the poisoned training samples.

        Args:
            y: True labels of the test set, (N,).
            target_class: The class that the trigger should call up.
            clean_model: Logits of the clean model, (N, n_classes).
            clean_model_triggered: The same with the trigger on every input.
            backdoored: Logits of the backdoored model.
            backdoored_triggered: The same with the trigger on every input.
            train_triggered: Logits of the backdoored model on the poisoned training samples, (P, n_classes).
            train_y: Their labels in the clean set, (P,).

        Raises:
            UsageError: when the lengths differ or the target is none of the classes.
        """
        return cls(
            clean_accuracy=accuracy(is_correct(clean_model, y)),
            backdoor_accuracy=accuracy(is_correct(backdoored, y)),
            attack_success_rate=backdoor_success_rate(backdoored_triggered, y, target_class),
            clean_model_floor=backdoor_success_rate(clean_model_triggered, y, target_class),
            untriggered_floor=backdoor_success_rate(backdoored, y, target_class),
            train_attack_success_rate=backdoor_success_rate(train_triggered, train_y, target_class),
            robust_accuracy=robust_accuracy(is_correct(backdoored, y), is_correct(backdoored_triggered, y)),
            by_class=tuple(
                backdoor_success_rate(backdoored_triggered[y == label], y[y == label], target_class)
                for label in range(backdoored_triggered.shape[1])
            ),
        )


def _check_pairs(x: Tensor, changed: Tensor) -> None:
    if x.shape != changed.shape or x.ndim < 2 or len(x) == 0:
        raise UsageError(
            f"Argument `changed` must pair with `x`, one sample or more, but the shapes are {tuple(changed.shape)} and "
            f"{tuple(x.shape)}: compare the same samples."
        )
