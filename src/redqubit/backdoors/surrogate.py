"""How well a trigger would work, as an attacker without the victim can tell: a stand-in is trained briefly."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.backdoors.base import Backdoor, Trigger
from redqubit.data import Dataset
from redqubit.errors import UsageError
from redqubit.metrics import ssim

BATCH = 32  # pictures that pass the front at a time; more are slower, as they leave the cache
JUDGED = 256  # held-out pictures, at most, behind the similarity


@dataclass(frozen=True)
class _Nothing(Trigger):
    """Leaves pictures as they are."""

    def apply(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True, eq=False)
class Surrogate:
    """The loss of a backdoor in a stand-in for the victim, one per seed; less is better for the attacker.

    f1 = mean over held-out pictures x of other classes than y_t of CE(f(T(x)), y_t), where f is the stand-in after
    `steps` steps of Adam on the poisoned training set, its rate falling along half a cosine. Its front is frozen, so
    that maps of clean pictures are made once; its rest starts from the state in which `warm_steps` steps on the clean
    set left it, made once a seed. A candidate costs the front on its triggered pictures and `steps` steps a seed.

    A call is a function of the trigger alone: poisoned samples, starts and orders of batches are the same for all
    triggers, each call trains copies, and several threads may call at once. The stand-in stays in evaluation mode while
    it is trained: batch norms keep their statistics, which batches of a short training would blur, and dropout, which
    draws from torch's global source, is off.

    Example:
        >>> from redqubit.backdoors import Patch
        >>> from redqubit.data import load
        >>> digits = load("digits")
        >>> head = lambda generator: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> mine, held = digits.subset(range(300)), digits.subset(range(300, 400))
        >>> surrogate = Surrogate(nn.Identity(), head, mine, held, warm_steps=30)
        >>> len(surrogate(Patch(side=2))), surrogate.dissimilarity(Patch(side=2)) > 0
        (3, True)

    Reference: Guo et al., "Backdoor attacks against hybrid classical-quantum neural networks", section 5.2, eq. 18.
        Differs: the paper names no f1; the victim is not trained for each candidate, as 300 trainings would be.
    """

    front: nn.Module  # pictures (B, C, H, W) in [0, 1] to maps (B, ...); a frozen copy of it is used
    back: Callable[[torch.Generator], nn.Module]  # makes the trainable rest, maps to logits; draws its head
    train: Dataset  # clean pictures that the attacker holds
    held: Dataset  # clean pictures beside them, on which the loss is taken
    target_class: int = 0  # y_t
    poison_rate: float = 0.1  # share of the training set
    steps: int = 40  # of Adam, on the poisoned set
    batch_size: int = 32
    lr: float = 1.5e-3
    # Of Adam before, on the clean set: enough to fit it. While clean pictures still have something to teach, poisoned
    # ones are learnt as pictures of the target class like others, and the loss tells no trigger from another.
    warm_steps: int = 450
    warm_lr: float = 1e-3
    seeds: tuple[int, ...] = (0, 1, 2)  # each draws a head and orders of its own
    _front: nn.Module = field(init=False, repr=False)
    _maps: Tensor = field(init=False, repr=False)  # of the clean training set
    _starts: tuple[nn.Module, ...] = field(init=False, repr=False)  # the rest after the warm start, one per seed

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "warm_steps"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise UsageError(f"Argument `{name}` must be an integer of at least 1, but is {value!r}.")
        for name in ("lr", "warm_lr"):
            if not (math.isfinite(rate := getattr(self, name)) and rate > 0):
                raise UsageError(f"Argument `{name}` must be finite and positive, but is {rate!r}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"Argument `seeds` must be one or more, each once, but is {self.seeds}: give 3 or more.")
        if self.held.x.shape[1:] != self.train.x.shape[1:]:
            raise UsageError(
                f"Argument `held` must hold pictures like those of `train`, but their shapes are "
                f"{tuple(self.held.x.shape[1:])} and {tuple(self.train.x.shape[1:])}: split one set."
            )
        if bool((self.held.y == self.target_class).all()):
            raise UsageError(
                f"Argument `held` must hold pictures of other classes than the target, but all are of class "
                f"{self.target_class}: give it pictures of each class."
            )
        self._backdoor(_Nothing())(self.train, generator=torch.Generator())  # refuses what cannot be poisoned
        front = copy.deepcopy(self.front).eval().requires_grad_(False)
        object.__setattr__(self, "_front", _channels_last(front))
        object.__setattr__(self, "_maps", self._through_front(self.train.x))
        object.__setattr__(self, "_starts", tuple(self._start(seed) for seed in self.seeds))

    def __call__(self, trigger: Trigger) -> tuple[float, ...]:
        """Return the loss of the backdoor with this trigger for each seed.

        Args:
            trigger: The candidate; pictures of the training set must suit it.

        Raises:
            UsageError: when they do not.
        """
        poisoned = self._backdoor(trigger)(self.train, generator=torch.Generator().manual_seed(0))
        maps = self._maps.clone()
        maps[poisoned.is_poisoned | poisoned.is_cover] = self._through_front(poisoned.changed)
        triggered = self._through_front(trigger(self.held.x[self.held.y != self.target_class]))
        target = torch.full((len(triggered),), self.target_class, device=triggered.device)
        losses = []
        for seed, start in zip(self.seeds, self._starts, strict=True):
            model = copy.deepcopy(start)
            self._fit(model, maps, poisoned.y, self.steps, self.lr, torch.Generator().manual_seed(seed))
            with torch.no_grad():
                losses.append(float(F.cross_entropy(model(triggered), target)))
        return tuple(losses)

    def dissimilarity(self, trigger: Trigger) -> float:
        """Return f2 = 1 - SSIM of clean and triggered held-out pictures, the mean over up to 256 of them.

        Raises:
            UsageError: when the pictures do not suit the trigger, or are smaller than 6x6.
        """
        x = self.held.x[:JUDGED]
        return 1 - float(ssim(x, trigger(x), batch_size=16).mean())

    def _backdoor(self, trigger: Trigger) -> Backdoor:
        return Backdoor(trigger, self.target_class, self.poison_rate)

    @torch.no_grad()
    def _through_front(self, x: Tensor) -> Tensor:
        return torch.cat([self._front(b.contiguous(memory_format=torch.channels_last)) for b in x.split(BATCH)])

    def _start(self, seed: int) -> nn.Module:
        """Return the rest with the head of this seed, trained on the clean set."""
        generator = torch.Generator().manual_seed(seed)
        model = _channels_last(self.back(generator).to(self._maps.device)).eval()
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UsageError(
                "Argument `back` must make a rest with a trainable parameter, but all are frozen: free it."
            )
        self._fit(model, self._maps, self.train.y, self.warm_steps, self.warm_lr, generator)
        return model

    def _fit(
        self, model: nn.Module, maps: Tensor, y: Tensor, steps: int, lr: float, generator: torch.Generator
    ) -> None:
        """Train in place, on batches that go through the set as often as it takes."""
        passes = math.ceil(steps * self.batch_size / len(y))
        order = torch.cat([torch.randperm(len(y), generator=generator) for _ in range(passes)]).to(y.device)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
        # to rest at the end tells candidates apart: with a constant rate the last few batches decide the loss
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        with torch.enable_grad():
            for batch in order.split(self.batch_size)[:steps]:
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(model(maps[batch]), y[batch]).backward()
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()


def _channels_last(module: nn.Module) -> nn.Module:
    """Bring weights, in place, into the order in which convolutions take about half the time on a CPU."""
    out: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return out
