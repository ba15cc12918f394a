"""What all backdoors share: the trigger x -> x, the poisoning of a training set, and the set that comes out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Literal, final, get_args

import torch
from torch import Tensor, nn

from redqubit.data import Dataset
from redqubit.errors import UsageError
from redqubit.registry import Registry, unknown

Mode = Literal["replace", "append"]

TRIGGERS: Registry[type["Trigger"]] = Registry("trigger", "redqubit.backdoors")

BATCH = 64  # pictures that are triggered at a time
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in brightness, ITU-R BT.601


@dataclass(frozen=True)
class Trigger(ABC):
    """What a backdoor hides in a picture; `trigger(x)` returns the triggered pictures.

    A subclass is a frozen dataclass that defines `apply`. It draws nothing at random in a call: what is random in it
    comes from its field `seed`, so that the same trigger is put in for training and for the test.

    Raises:
        UsageError: when a float field is not finite.
    """

    def __post_init__(self) -> None:
        for known in fields(self):
            value = getattr(self, known.name)
            if known.type is float and not math.isfinite(value):
                raise UsageError(f"Argument `{known.name}` must be finite, but is {value!r}.")

    @final
    def __call__(self, x: Tensor) -> Tensor:
        """Return the triggered pictures, clipped to [0, 1].

        Args:
            x: Pictures in [0, 1], (B, C, H, W); they are left as they are.

        Raises:
            UsageError: when `x` holds no pictures in [0, 1], or they do not suit the trigger.
        """
        check_pictures(x)
        return self.apply(x).clamp(0, 1)

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """Return the triggered pictures, not yet clipped; `x` is checked and each picture is dealt with by itself."""

    def notes(self, x: Tensor) -> tuple[str, ...]:
        """Return what a reader should know about this trigger on these pictures, a sentence each."""
        return ()


@dataclass(frozen=True)
class CoverTrigger(Trigger):
    """A trigger that may ask for cover samples: disturbed pictures that keep their true labels."""

    cover_ratio: float = field(default=0.0, kw_only=True)  # cover samples per poisoned sample

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cover_ratio < 0:
            raise UsageError(f"Argument `cover_ratio` must not be negative, but is {self.cover_ratio}.")

    @abstractmethod
    def cover(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the disturbed pictures of cover samples, not yet clipped."""


@dataclass(frozen=True)
class ColorTrigger(Trigger):
    """A trigger that changes the colour of every pixel in the same way.

    Where the three channels of a pixel are equal it is a tint. Pictures of one channel have no place for a tint: of it
    they keep the brightness, 0.299 R + 0.587 G + 0.114 B. `notes` tells both.
    """

    @final
    def apply(self, x: Tensor) -> Tensor:
        """Return the recoloured pictures."""
        _check_channels(x)
        if x.shape[1] == 3:
            return self.recolor(x)
        weights = x.new_tensor(LUMA)[:, None, None]
        return (self.recolor(x.expand(-1, 3, -1, -1)).clamp(0, 1) * weights).sum(1, keepdim=True)

    @abstractmethod
    def recolor(self, x: Tensor) -> Tensor:
        """Return RGB pictures (B, 3, H, W) in their new colours, not yet clipped."""

    def notes(self, x: Tensor) -> tuple[str, ...]:
        """Say so when the pictures are grey."""
        name = type(self).__name__
        if x.shape[1] == 1:
            return (f"The pictures have one channel: of the tint that {name} is on grey they keep the brightness.",)
        if (x == x[:, :1]).all():
            return (f"The pictures are grey, their channels equal: {name} works as a tint.",)
        return ()


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A poisoned training set: the clean one, which is shared and not copied, and what differs.

    Attributes:
        clean: The set that was poisoned.
        source: Place in the clean set of each of the M samples, (M,).
        y: Their labels, those of the poisoned samples the target class, (M,).
        is_poisoned: Which samples carry the trigger and the target label, bool, (M,).
        is_cover: Which are cover samples, disturbed with their true labels, bool, (M,).
        changed: The inputs of the poisoned and cover samples in their order, (P, C, H, W).
        notes: What a reader should know, a sentence each.
    """

    clean: Dataset
    source: Tensor
    y: Tensor
    is_poisoned: Tensor
    is_cover: Tensor
    changed: Tensor
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def _place(self) -> Tensor:
        """Place of each sample in `changed`, -1 for those left as they were."""
        touched = self.is_poisoned | self.is_cover
        return torch.where(touched, touched.cumsum(0) - 1, -1)

    def batch(
        self, indices: Tensor, clean: Tensor | None = None, changed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return inputs and labels of the samples at these places, without a copy of the set.

        Args:
            indices: Places in 0..M-1, int64, (B,).
            clean: What stands for the inputs of the clean set, such as maps of the frozen part of a network, (N, ...).
            changed: The same of `changed`, (P, ...).
        """
        x = (self.clean.x if clean is None else clean)[self.source[indices]]
        place = self._place[indices]
        x[place >= 0] = (self.changed if changed is None else changed)[place[place >= 0]]
        return x, self.y[indices]

    def batches(self, batch_size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels of all samples in their order."""
        for indices in torch.arange(len(self), device=self.y.device).split(batch_size):
            yield self.batch(indices)

    @cached_property
    def dataset(self) -> Dataset:
        """The whole set with its inputs in one tensor: a copy, made at first use."""
        x, y = self.batch(torch.arange(len(self), device=self.y.device))
        return replace(self.clean, x=x, y=y)


@dataclass(frozen=True)
class Backdoor:
    """Poison a training set: some pictures of other classes get the trigger and the label of the target class.

    round(poison_rate * N) pictures are drawn uniformly from the samples of all other classes, N being the whole set.

    Example:
        >>> from redqubit.backdoors import Patch
        >>> from redqubit.data import load
        >>> poisoned = Backdoor(Patch(side=2), poison_rate=0.1)(load("digits"), generator=torch.Generator())
        >>> len(poisoned), int(poisoned.is_poisoned.sum()), poisoned.y[poisoned.is_poisoned].unique()
        (1297, 130, tensor([0]))

    Reference: Gu et al., "BadNets: identifying vulnerabilities in the machine learning model supply chain", 2017,
        section 4; Guo et al., "Backdoor attacks against hybrid classical-quantum neural networks", section 3 (no
        sample of the target class is triggered).
    """

    trigger: Trigger
    target_class: int = 0  # y_t
    poison_rate: float = 0.1  # share of the whole set, in (0, 1)
    mode: Mode = "replace"  # or append: the clean pictures stay and the poisoned ones come after them

    def __post_init__(self) -> None:
        if not 0 < self.poison_rate < 1:
            raise UsageError(
                f"Argument `poison_rate` must lie between 0 and 1, but is {self.poison_rate}: give a fraction of the "
                "training set, such as 0.1."
            )
        if self.mode not in get_args(Mode):
            raise unknown("value of `mode`", self.mode, get_args(Mode))

    def __call__(self, dataset: Dataset, *, generator: torch.Generator) -> Poisoned:
        """Return the poisoned set.

        Args:
            dataset: Training set of pictures; it is left as it is.
            generator: CPU source of the draw.

        Raises:
            UsageError: when the set holds no pictures or no sample of the target class, or cannot provide as many
                samples as are to be poisoned.
        """
        if dataset.x.ndim != 4:
            raise UsageError(
                f"Argument `dataset` must hold pictures (N, C, H, W), but its inputs are {tuple(dataset.x.shape)}: "
                "a trigger needs pictures."
            )
        y, n = dataset.y.cpu(), len(dataset)
        present = y.unique().tolist()
        if self.target_class not in present:
            raise UsageError(
                f"Argument `target_class` must be a class of the training set, but {self.target_class} is none of "
                f"{', '.join(map(str, present))}: choose one of them."
            )
        others = (y != self.target_class).nonzero()[:, 0]
        n_poison = round(self.poison_rate * n)
        if not 1 <= n_poison <= len(others):
            raise UsageError(
                f"Argument `poison_rate` must poison between 1 and {len(others)} of {n} samples, those of other "
                f"classes than the target, but {self.poison_rate} is {n_poison}: change the rate or the target."
            )
        poison = others[torch.randperm(len(others), generator=generator)[:n_poison]].sort().values
        cover = self._draw_cover(y, poison, generator)
        places = torch.cat([poison, cover]).sort().values
        is_cover = torch.isin(places, cover)
        changed = torch.empty((len(places), *dataset.x.shape[1:]), dtype=dataset.x.dtype, device=dataset.x.device)
        for rows in (~is_cover).nonzero()[:, 0].split(BATCH):
            changed[rows] = self.trigger(dataset.x[places[rows]])
        if isinstance(self.trigger, CoverTrigger):
            for rows in is_cover.nonzero()[:, 0].split(BATCH):
                changed[rows] = self.trigger.cover(dataset.x[places[rows]], generator).clamp(0, 1)
        source = torch.arange(n)
        if self.mode == "append":
            source = torch.cat([source, places])
            places = torch.arange(n, len(source))
        masks = torch.zeros(2, len(source), dtype=torch.bool)
        masks[0, places[~is_cover]] = True
        masks[1, places[is_cover]] = True
        labels = torch.where(masks[0], self.target_class, y[source])
        device = dataset.x.device
        notes = self.trigger.notes(dataset.x[source[places]])
        return Poisoned(
            dataset, source.to(device), labels.to(device), masks[0].to(device), masks[1].to(device), changed, notes
        )

    def _draw_cover(self, y: Tensor, poison: Tensor, generator: torch.Generator) -> Tensor:
        """Return places of cover samples, none of which is poisoned."""
        if not isinstance(self.trigger, CoverTrigger) or self.trigger.cover_ratio == 0:
            return torch.empty(0, dtype=torch.int64)
        wanted = round(self.trigger.cover_ratio * len(poison))
        left = torch.ones(len(y), dtype=torch.bool)
        left[poison] = False
        free = left.nonzero()[:, 0]
        if wanted > len(free):
            raise UsageError(
                f"Argument `cover_ratio` must leave a cover sample to each of {wanted}, but only {len(free)} samples "
                "are not poisoned: lower it or the poison rate."
            )
        return free[torch.randperm(len(free), generator=generator)[:wanted]].sort().values


class Triggered(nn.Module):
    """A model that sees every input through a trigger, so that triggered test sets need no copy.

    Example:
        >>> from redqubit.backdoors import Patch
        >>> Triggered(nn.Flatten(), Patch(side=1))(torch.zeros(1, 1, 2, 2))
        tensor([[0., 0., 0., 1.]])
    """

    def __init__(self, model: nn.Module, trigger: Trigger) -> None:
        super().__init__()
        self.model = model
        self.trigger = trigger

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's logits of the triggered pictures."""
        logits: Tensor = self.model(self.trigger(x))
        return logits


def check_pictures(x: Tensor) -> None:
    """Refuse what is no batch of pictures in [0, 1].

    Raises:
        UsageError: when shape, type or range is wrong.
    """
    if x.ndim != 4 or 0 in x.shape:
        raise UsageError(
            f"Argument `x` must hold pictures (B, C, H, W), but has shape {tuple(x.shape)}: a trigger needs pictures, "
            "and one of them still has a batch dimension."
        )
    if not x.is_floating_point():
        raise UsageError(f"Argument `x` must be floating point in [0, 1], but is {x.dtype}: divide it by its maximum.")
    low, high = (float(bound) for bound in torch.aminmax(x.detach()))  # NaN when any entry is
    if not (low >= 0 and high <= 1):
        raise UsageError(
            f"Argument `x` must lie in [0, 1], but spans {low:.4g} to {high:.4g}: trigger pictures before any "
            "normalisation."
        )


def _check_channels(x: Tensor) -> None:
    if x.shape[1] not in (1, 3):
        raise UsageError(
            f"Argument `x` must have 1 or 3 channels for a colour trigger, but has {x.shape[1]}: choose another "
            "trigger, or convert the pictures to RGB."
        )
