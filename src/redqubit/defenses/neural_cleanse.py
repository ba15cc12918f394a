"""Neural Cleanse: the target of a backdoor is the class that the smallest trigger leads to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from redqubit.data import Dataset
from redqubit.defenses.base import DETECTORS, ModelDetector, check_enough, check_images, frozen_copy
from redqubit.detection import ANOMALOUS, anomaly_index
from redqubit.errors import UsageError

INSIDE = 1 - 1e-6  # keeps the inverse tanh of an initial 0 or 1 finite


@dataclass(frozen=True, eq=False)
class RestoredTriggers:
    """The smallest trigger found for each class, in R restarts; H, W and channels are the pictures'."""

    masks: Tensor  # (R, n_classes, 1, H, W), in [0, 1]
    patterns: Tensor  # (R, n_classes, channels, H, W), in [0, 1]
    success: Tensor  # (R, n_classes): share of pictures that the trigger sends to the class
    steps: Tensor  # (R, n_classes), int64: steps taken

    @property
    def norms(self) -> Tensor:
        """L1 norm of each mask, (R, n_classes)."""
        return self.masks.flatten(2).sum(2)

    @property
    def scores(self) -> Tensor:
        """How far each norm lies below the median class, in robust standard deviations, (R, n_classes)."""
        return anomaly_index(self.norms)

    @property
    def anomaly_index(self) -> Tensor:
        """The index of the model, that of its smallest mask, (R,)."""
        return self.scores.amax(1)

    @property
    def flagged(self) -> list[list[int]]:
        """The classes with an index above 2 in each restart, smallest mask first."""
        return [[c for c in row.argsort(descending=True).tolist() if row[c] > ANOMALOUS] for row in self.scores]


@DETECTORS.register("neural_cleanse")
@dataclass(frozen=True)
class NeuralCleanse(ModelDetector):
    """Restore a trigger for every class and look for one that is too small.

    For each class y, a mask m = (1 + tanh a) / 2 of shape (H, W) and a pattern p = (1 + tanh b) / 2 minimise

        mean_x CE(f((1 - m) x + m p), y) + lam ||m||_1

    by Adam, from uniform m and p. A step goes through about `images_per_step` clean pictures. lam is 0 until
    `threshold` of a step's pictures reach y for `patience` steps, and then `initial_lam`; it is doubled after
    `patience` successes in a row, and divided by 2^1.5 after as many failures. Kept is the smallest mask among the
    steps that succeed. A class ends when none smaller was found for `early_stop` steps and lam has gone both ways.

    A class's score is its anomaly index (`redqubit.detection.anomaly_index`), the median over restarts. With 10
    classes the median absolute deviation is coarse, so look at the restarts one by one: `restore` gives them.
    The classes are optimised together; each takes the steps that it would take alone.

    Raises:
        UsageError: for inputs that are no images, fewer than 3 classes, or fewer clean samples than a batch.

    Example:
        >>> NeuralCleanse.reduced().steps
        100

    Reference: Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE
        S&P 2019, sections IV and V; schedule and settings of the authors' code for 32 x 32 pictures.
        Differs: several restarts, as the index moves with the start.
    """

    steps: int = 1000  # at most
    images_per_step: int = 1000  # rounded down to whole batches, one at least
    batch_size: int = 32  # pictures per step of Adam
    lr: float = 0.1  # of Adam, with betas 0.5 and 0.9
    initial_lam: float = 1e-3  # weight of the norm, per pixel
    threshold: float = 0.99  # share of pictures that is a success
    patience: int = 5  # steps before lam changes
    multiplier: float = 2.0  # of lam; its inverse to the power 1.5 on the way down
    early_stop: int = 25  # steps without a smaller mask
    restarts: int = 3  # independent runs
    pass_size: int = 256  # pictures per pass of the model: bounds memory, changes no result

    @classmethod
    def reduced(cls) -> Self:
        """Return the setting for large pictures: 100 steps of 512."""
        return cls(steps=100, images_per_step=512)

    def __call__(self, model: nn.Module, clean: Dataset, *, generator: torch.Generator) -> Tensor:
        """Return the anomaly index of each class, (n_classes,), the median over restarts."""
        return self.restore(model, clean, generator=generator).scores.quantile(0.5, dim=0)

    def restore(self, model: nn.Module, clean: Dataset, *, generator: torch.Generator) -> RestoredTriggers:
        """Return the triggers themselves.

        Args:
            model: Maps (B, C, H, W) to logits (B, n_classes); left as it was.
            clean: Pictures without a trigger, of any class.
            generator: CPU source of the starts and of the order of the pictures.
        """
        check_images(clean, "Neural Cleanse")
        check_enough(clean, self.batch_size, "one batch (`batch_size`)")
        if clean.n_classes < 3:
            raise UsageError(
                f"Argument `clean` must have 3 classes or more, but has {clean.n_classes}: the anomaly index of two "
                "classes is always 0.67, use another detector."
            )
        frozen = frozen_copy(model, clean)
        masks, patterns, success, steps = zip(
            *(self._run(frozen, clean, generator) for _ in range(self.restarts)), strict=True
        )
        return RestoredTriggers(*(torch.stack(parts) for parts in (masks, patterns, success, steps)))

    def _run(
        self, model: nn.Module, clean: Dataset, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return masks, patterns, success and number of steps of one restart."""
        x, n_classes = clean.x, clean.n_classes
        a = [_start((1, *x.shape[2:]), x, generator) for _ in range(n_classes)]
        b = [_start(tuple(x.shape[1:]), x, generator) for _ in range(n_classes)]
        # One tensor per class: Adam leaves a class that has ended, and has no gradient, where it is.
        optimizer = torch.optim.Adam([*a, *b], lr=self.lr, betas=(0.5, 0.9))
        batches = _batches(x, self.batch_size, generator)
        per_step = max(1, self.images_per_step // self.batch_size)
        schedule = Schedule(n_classes, self)
        masks, patterns = _unit(torch.stack(a)), _unit(torch.stack(b))
        success, steps = torch.zeros(n_classes), torch.zeros(n_classes, dtype=torch.int64)
        for _ in range(self.steps):
            active = (~schedule.ended).nonzero()[:, 0]
            if len(active) == 0:
                break
            hits, norms, seen = x.new_zeros(n_classes), x.new_zeros(n_classes), 0
            for _ in range(per_step):
                batch = next(batches)
                seen += len(batch)
                optimizer.zero_grad(set_to_none=True)
                for part in active.split(max(1, self.pass_size // self.batch_size)):
                    mask = _unit(torch.stack([a[c] for c in part]))
                    pattern = _unit(torch.stack([b[c] for c in part]))
                    stamped = batch + mask[:, None] * (pattern[:, None] - batch)  # (classes, B, channels, H, W)
                    logits = model(stamped.flatten(0, 1))
                    y = part.to(x.device).repeat_interleave(len(batch))
                    loss = cross_entropy(logits, y, reduction="none").view(len(part), -1).mean(1)
                    norm = mask.flatten(1).sum(1)
                    (loss + schedule.lam[part].to(norm) * norm).sum().backward()
                    hits[part] += (logits.argmax(1) == y).view(len(part), -1).sum(1)
                    norms[part] += norm.detach() / per_step
                optimizer.step()
            rate = (hits / seen).cpu()
            found = schedule.best.isfinite()
            smaller = schedule.update(rate, norms.cpu())
            # until a mask succeeds, the last one stands for the class
            for c in active[(smaller | ~found)[active]].tolist():
                masks[c], patterns[c], success[c] = _unit(a[c].detach()), _unit(b[c].detach()), rate[c]
            steps[active] += 1
        return masks.detach(), patterns.detach(), success, steps


class Schedule:
    """The weight lam of the norm of each class, and when to stop: all state is (n_classes,)."""

    def __init__(self, n_classes: int, settings: NeuralCleanse) -> None:
        self.settings = settings
        self.lam = torch.zeros(n_classes)
        self.best = torch.full((n_classes,), torch.inf)  # smallest norm of a success
        self.ended, self.raised, self.lowered = (torch.zeros(n_classes, dtype=torch.bool) for _ in range(3))
        self.successes, self.failures, self.stale = (torch.zeros(n_classes, dtype=torch.int64) for _ in range(3))

    def update(self, rate: Tensor, norm: Tensor) -> Tensor:
        """Take in a step's success rate and mean norm, and return which classes have a new smallest mask."""
        settings, running = self.settings, ~self.ended
        succeeds = rate >= settings.threshold
        smaller = running & succeeds & (norm < self.best)
        self.best = torch.where(smaller, norm.to(self.best), self.best)
        self.stale = torch.where(smaller, 0, self.stale + self.best.isfinite().long())
        self.ended |= self.raised & self.lowered & (self.stale >= settings.early_stop)

        self.successes = torch.where(succeeds, self.successes + 1, 0)
        self.failures = torch.where(succeeds, 0, self.failures + 1)
        up, down = self.successes >= settings.patience, self.failures >= settings.patience
        first = up & (self.lam == 0)
        # the step that sets lam for the first time is also the first success under it
        self.successes = torch.where(first, 1, torch.where(up, 0, self.successes))
        self.failures = torch.where(down, 0, self.failures)
        self.raised = (self.raised | up) & ~first
        self.lowered = (self.lowered | down) & ~first
        factor = torch.ones_like(self.lam)
        factor[up], factor[down] = settings.multiplier, settings.multiplier**-1.5
        self.lam = torch.where(first, settings.initial_lam, self.lam * factor)
        return smaller


def _unit(raw: Tensor) -> Tensor:
    """Map real numbers to (0, 1)."""
    return (raw.tanh() + 1) / 2


def _start(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Return what `_unit` maps to a uniform draw, as a leaf."""
    drawn = torch.rand(shape, dtype=like.dtype, generator=generator)
    return ((2 * drawn - 1) * INSIDE).atanh().to(like.device).requires_grad_()


def _batches(x: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches for ever, in a new order each time round."""
    while True:
        for places in torch.randperm(len(x), generator=generator).split(batch_size):
            yield x[places.to(x.device)]
