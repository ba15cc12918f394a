"""Qcolor: the ratios of the colour channels as a trigger, found by NSGA-II."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import torch
from torch import Tensor

from redqubit.backdoors.base import TRIGGERS, ColorTrigger
from redqubit.errors import UsageError
from redqubit.search import NSGA2, OnGeneration, Vector, Workers, knee
from redqubit.storage.files import load_json, save_json

SEEDS = 3  # fewest seeds behind the loss of a candidate that may be called an optimum


@TRIGGERS.register("qcolor")
@dataclass(frozen=True)
class Qcolor(ColorTrigger):
    """Multiply each colour channel by a ratio of its own.

    x' = clip(r1 R, r2 G, r3 B).

    Example:
        >>> Qcolor(0.9, 1.0, 1.1)(torch.full((1, 3, 1, 1), 0.5)).flatten()
        tensor([0.4500, 0.5000, 0.5500])

    Reference: Guo et al., "Backdoor attacks against hybrid classical-quantum neural networks", section 5.1, eq. 15.
    """

    r1: float = 1.05  # of red
    r2: float = 1.0  # of green
    r3: float = 1.0  # of blue

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("r1", "r2", "r3"):
            if (value := getattr(self, name)) < 0:
                raise UsageError(f"Argument `{name}` must not be negative, but is {value}: 1 leaves a channel alone.")

    def recolor(self, x: Tensor) -> Tensor:
        """Return RGB pictures in their new colours."""
        return x * x.new_tensor([self.r1, self.r2, self.r3])[:, None, None]


@dataclass(frozen=True)
class QcolorCandidate:
    """A trigger that the search looked at, with its two objectives."""

    trigger: Qcolor
    losses: tuple[float, ...]  # what `effectiveness` returned, one per seed
    dissimilarity: float  # 1 - SSIM

    @property
    def loss(self) -> float:
        """f1: the mean over the seeds."""
        return fmean(self.losses)

    @property
    def spread(self) -> float:
        """Standard deviation of the loss over the seeds; infinite when there is one."""
        return stdev(self.losses) if len(self.losses) > 1 else float("inf")

    @property
    def ssim(self) -> float:
        """Mean similarity of clean and triggered pictures."""
        return 1 - self.dissimilarity


@dataclass(frozen=True)
class Choice:
    """The trigger that is taken from a front, and how much the choice means."""

    candidate: QcolorCandidate
    rule: Literal["ssim", "knee"]  # least loss among those similar enough, or the knee because there is none
    tied: tuple[QcolorCandidate, ...]  # others it could have been, whose loss is within the spread over the seeds
    is_optimum: bool  # least loss of similar ones, over 3 seeds or more, by more than the spread


@dataclass(frozen=True)
class QcolorFront:
    """What the search ends with: the front of its last generation, by falling similarity, and all it looked at."""

    candidates: tuple[QcolorCandidate, ...]
    evaluated: tuple[QcolorCandidate, ...]

    def best(self, min_ssim: float = 0.99) -> Choice:
        """Choose the least loss among the candidates with SSIM >= `min_ssim`, or the knee when there is none.

        The knee is where both objectives, scaled to [0, 1] over the front, have the least sum. Any evaluated candidate
        that is similar enough, and whose mean loss is within the larger standard deviation over seeds of the least
        one, is reported as tied.

        Example:
            >>> near = QcolorCandidate(Qcolor(1.02), (2.0, 2.1, 1.9), 0.001)
            >>> far = QcolorCandidate(Qcolor(1.1), (0.4, 0.5, 0.6), 0.03)
            >>> front = QcolorFront((near, far), (near, far))
            >>> front.best().candidate.trigger, front.best().rule, front.best(min_ssim=0.95).candidate.trigger.r1
            (Qcolor(r1=1.02, r2=1.0, r3=1.0), 'ssim', 1.1)
        """
        similar = [candidate for candidate in self.candidates if candidate.ssim >= min_ssim]
        if not similar:
            losses = [candidate.loss for candidate in self.candidates]
            place = knee(losses, [candidate.dissimilarity for candidate in self.candidates])
            return Choice(self.candidates[place], "knee", (), False)
        least = min(similar, key=lambda candidate: candidate.loss)
        rivals = [c for c in self.evaluated if c.ssim >= min_ssim and c.trigger != least.trigger]
        tied = tuple(c for c in rivals if c.loss - least.loss <= max(c.spread, least.spread))
        return Choice(least, "ssim", tied, len(least.losses) >= SEEDS and not tied)


@dataclass(frozen=True)
class QcolorSearch:
    """Find channel ratios that are effective and unseen by NSGA-II.

    The objectives are f1, the loss of the backdoor averaged over seeds, and f2 = 1 - SSIM, over the box
    low <= r1, r2, r3 <= high.

    Reference: Guo et al., "Backdoor attacks against hybrid classical-quantum neural networks", section 5.2, eq. 18 and
        algorithm 1. Differs: the paper names no population, operators, bounds or choice of the best; its generations
        come after the random one, which counts as the first here.
    """

    nsga2: NSGA2 = field(default_factory=NSGA2)
    low: float = 0.85  # least ratio of a channel
    high: float = 1.15  # greatest ratio of a channel

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high < float("inf"):
            raise UsageError(
                f"Arguments `low` and `high` must be ratios with low < high, but are {self.low} and {self.high}."
            )

    def __call__(
        self,
        effectiveness: Callable[[Qcolor], Sequence[float]],
        dissimilarity: Callable[[Qcolor], float],
        *,
        generator: torch.Generator,
        workers: Workers = 1,
        on_generation: OnGeneration | None = None,
    ) -> QcolorFront:
        """Return the front.

        Args:
            effectiveness: Losses of the backdoor with a trigger, one per seed of its training, such as a surrogate's
                cross-entropy to the target class on triggered pictures; less is better. The seeds must be the same
                for all triggers. Several threads call it at once, so that it must be a function of the trigger alone.
            dissimilarity: 1 - SSIM of clean and triggered pictures.
            generator: CPU source of the search's random numbers.
            workers: Evaluations at a time, or a Ray cluster; neither changes a digit.
            on_generation: Called with the number of finished generations and of all.

        Raises:
            UsageError: when there is no loss or one is not finite.
        """

        def evaluate(ratios: Vector) -> QcolorCandidate:
            trigger = Qcolor(*ratios)
            losses = tuple(float(loss) for loss in effectiveness(trigger))
            if not losses:
                raise UsageError("Argument `effectiveness` must return a loss per seed, but returned none.")
            return QcolorCandidate(trigger, losses, float(dissimilarity(trigger)))

        found = self.nsga2(
            evaluate,
            lambda candidate: (candidate.loss, candidate.dissimilarity),
            [self.low] * 3,
            [self.high] * 3,
            generator=generator,
            workers=workers,
            on_generation=on_generation,
        )
        return QcolorFront(tuple(sorted(found.best, key=lambda c: (c.dissimilarity, c.loss))), found.evaluated)


def save_front(front: QcolorFront, path: str | os.PathLike[str], *, min_ssim: float = 0.99) -> Path:
    """Write all that a search looked at, its front and the choice as JSON, which `load_front` reads.

    `evaluated` lists the candidates in the order of the search, each with its ratios, the losses per seed, their mean
    and spread (null for one seed), and SSIM. `front` holds their places in that list, by falling similarity. `choice`
    is what `front.best(min_ssim)` returns: the place, the rule, the places of those tied with it.

    Args:
        front: What `QcolorSearch` returned.
        path: File to write; an old one is replaced once the new one is whole.
        min_ssim: Least similarity of the choice.

    Raises:
        UsageError: when the file cannot be written, or the front is empty or none of those evaluated.
    """
    place = front.evaluated.index
    if not front.candidates or not all(candidate in front.evaluated for candidate in front.candidates):
        raise UsageError(
            "Argument `front` must have candidates, all among those evaluated, but has not: pass what the search "
            "returned."
        )
    choice = front.best(min_ssim)
    text = {
        "evaluated": [
            {
                **asdict(candidate.trigger),
                "losses": candidate.losses,
                "loss": candidate.loss,
                "spread": candidate.spread if math.isfinite(candidate.spread) else None,
                "ssim": candidate.ssim,
                "dissimilarity": candidate.dissimilarity,
            }
            for candidate in front.evaluated
        ],
        "front": [place(candidate) for candidate in front.candidates],
        "choice": {
            "place": place(choice.candidate),
            "rule": choice.rule,
            "min_ssim": min_ssim,
            "tied": [place(candidate) for candidate in choice.tied],
            "is_optimum": choice.is_optimum,
        },
    }
    path = Path(path).expanduser()
    save_json(path, text)
    return path


def load_front(path: str | os.PathLike[str]) -> QcolorFront:
    """Return the front that `save_front` wrote, equal to what was saved.

    Raises:
        UsageError: when the file cannot be read, or is no such front.
    """
    path = Path(path).expanduser()
    try:
        raw = load_json(path)
        evaluated = tuple(_candidate(row) for row in raw["evaluated"])
        by_place = dict(enumerate(evaluated))
        candidates = tuple(by_place[place] for place in raw["front"])
    except OSError as error:
        raise UsageError(f"Argument `path` must be a saved front, but {path}: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"Argument `path` must be a saved front, but {path} is damaged ({type(error).__name__}: {error}): run the "
            "search again."
        ) from None
    if not candidates:
        raise UsageError(f"Argument `path` must be a saved front, but {path} has an empty one: run the search again.")
    return QcolorFront(candidates, evaluated)


def _candidate(row: dict[str, Any]) -> QcolorCandidate:
    losses = tuple(map(float, row["losses"]))
    candidate = QcolorCandidate(Qcolor(row["r1"], row["r2"], row["r3"]), losses, float(row["dissimilarity"]))
    if not losses or not all(map(math.isfinite, (*losses, candidate.dissimilarity))):
        raise ValueError("a candidate without finite losses and similarity")
    return candidate
