"""What an audit does, and the attacks, poisons and defenses it knows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from redqubit.backdoors import TRIGGERS, Backdoor, Patch
from redqubit.defenses import (
    AdversarialTraining,
    CrosstalkInjection,
    Defense,
    DenoisingAutoencoder,
    GaussianNoise,
    QuantumNoise,
    RandomizedSmoothing,
)
from redqubit.errors import UsageError
from redqubit.evasion import ATTACKS, PGD, EvasionAttack
from redqubit.models import QuantumLayer
from redqubit.poisoning import QUID, Cyclic, Farthest, LabelPoison, RandomFlip
from redqubit.quantum.noise import named
from redqubit.registry import unknown

# The settings of an audit by label: every registered attack as it comes, and PGD as a claim needs it.
SETTINGS: Mapping[str, Callable[[float], EvasionAttack]] = {
    **{name: ATTACKS[name] for name in ATTACKS},
    "pgd_strong": PGD.strong,
}

# The label poisons of an audit; all but QUID are controls, which know no circuit.
POISONINGS: Mapping[str, type[LabelPoison]] = {
    "random": RandomFlip,
    "cyclic": Cyclic,
    "farthest": Farthest,
    "quid": QUID,
}

SMOOTHED = 16  # noisy copies in a pass of randomized smoothing; attacks average several passes, its certificate votes


@dataclass(frozen=True)
class Audit:
    """The configuration of an audit."""

    attacks: tuple[str, ...] = tuple(SETTINGS)
    eps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5)  # L-infinity radii
    claim_eps: float = 0.1  # the radius that the verdict is about; one of `eps`
    seeds: tuple[int, ...] = (0, 1, 2)  # of initial weights, circuit angles and order of samples
    n_train: int | None = None  # the first of each class; all by default
    n_test: int | None = None
    backdoors: tuple[str, ...] = ("patch", "blend", "wanet")  # triggers that the training set is poisoned with
    target_class: int = 0  # what the triggers shall call up
    poison_rate: float = 0.1  # share of the training set, in (0, 1)
    poisons: tuple[str, ...] = ("random", "farthest", "quid")  # label poisons to train on
    poison_ratios: tuple[float, ...] = (0.1, 0.3, 0.5)  # shares of poisoned labels, in (0, 1); none is always included
    n_poison_train: int | None = 500  # training samples that label poisons get, the first of each class; None for all
    defenses: tuple[str, ...] = ()  # against evasion, "a+b" for a and then b; costly, so that none is tried unasked
    defense_eps: float | None = None  # L-infinity radius that they are judged at; `claim_eps` when None
    defense_steps: int = 40  # of PGD
    defense_queries: int = 500  # of Square, per sample
    defense_draws: int = 16  # passes of a random defense that attacks average, at most (EOT); a power of 2
    n_defense_test: int | None = 100  # test samples that judge defenses, the first of each class; None for all
    noise: str | None = None  # of the model's circuits: "quid:0.05", "ibm_kyiv" (redqubit.quantum.noise.named)
    epochs: int = 30
    batch_size: int = 32
    lr: float = 5e-3
    n_examples: int = 8  # pictures in the report

    @property
    def judged_eps(self) -> float:
        """The radius that defenses are judged at."""
        return self.claim_eps if self.defense_eps is None else self.defense_eps


def _trained(config: Audit) -> dict[str, Any]:
    """Return how a defense trains the model: as the audit does."""
    return {"epochs": config.epochs, "batch_size": config.batch_size, "lr": config.lr}


def _circuits(model: nn.Module) -> tuple[str, ...]:
    """Return the names of a model's circuits, which noisy products leave as they are."""
    return tuple(name for name, part in model.named_modules() if isinstance(part, QuantumLayer))


# The defenses against evasion of an audit, as made for a model with inputs of a shape.
EVASION_DEFENSES: Mapping[str, Callable[[Audit, nn.Module, Sequence[int]], Defense]] = {
    "denoising": lambda config, model, shape: DenoisingAutoencoder.paper(shape),
    "quantum_noise": lambda config, model, shape: QuantumNoise(leave=_circuits(model)),
    "crosstalk": lambda config, model, shape: CrosstalkInjection(leave=_circuits(model)),
    "adversarial_fgsm": lambda config, *_: AdversarialTraining("fgsm", eps=config.judged_eps, **_trained(config)),
    "adversarial_pgd": lambda config, *_: AdversarialTraining("pgd", eps=config.judged_eps, **_trained(config)),
    "trades": lambda config, *_: AdversarialTraining("trades", eps=config.judged_eps, **_trained(config)),
    "gaussian_noise": lambda config, *_: GaussianNoise(config.judged_eps),
    "smoothing": lambda config, *_: RandomizedSmoothing(samples=SMOOTHED, **_trained(config)),
}


def check(config: Audit) -> None:
    """Raise a `UsageError` for fields that do not fit together."""
    for name in config.attacks:
        if name not in SETTINGS:
            raise unknown("attack", name, SETTINGS)
    for field in fields(config):
        value = getattr(config, field.name)
        if value == () and field.name not in ("backdoors", "poisons", "defenses"):
            raise UsageError(f"Argument `{field.name}` must hold at least one value, but is empty.")
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise UsageError(
                f"Argument `{field.name}` must hold each value once, but is {list(value)}: drop the doubles."
            )
    for name in config.backdoors:
        TRIGGERS[name]  # refuses unknown names
    Backdoor(Patch(), poison_rate=config.poison_rate)  # refuses what is no share
    for name in config.poisons:
        if name not in POISONINGS:
            raise unknown("label poison", name, POISONINGS)
    for whole in config.defenses:
        for name in whole.split("+"):
            if name not in EVASION_DEFENSES:
                raise unknown("defense", name, EVASION_DEFENSES)
    for ratio in config.poison_ratios:
        if not 0 < ratio < 1:  # NaN is not
            raise UsageError(
                f"Argument `poison_ratios` must lie between 0 and 1, but has {ratio}: give fractions, such as 0.3."
            )
    if config.target_class < 0:
        raise UsageError(f"Argument `target_class` must be 0 or more, but is {config.target_class}: choose a class.")
    if config.noise is not None:
        named(config.noise)
    if min(config.eps) <= 0:
        raise UsageError(f"Argument `eps` must hold radii above 0, but has {min(config.eps)}: 0 is always included.")
    for eps in config.eps:
        for name in config.attacks:
            SETTINGS[name](eps)  # refuses NaN and infinity
    if config.claim_eps not in config.eps:
        raise UsageError(f"Argument `claim_eps` must be one of `eps` {list(config.eps)}, but is {config.claim_eps}.")
    if not all(0 <= seed < 2**63 for seed in config.seeds):
        raise UsageError(f"Argument `seeds` must hold whole numbers from 0 to 2^63 - 1, but is {list(config.seeds)}.")
    if not 0 < config.judged_eps < math.inf:  # NaN is not
        raise UsageError(f"Argument `defense_eps` must be a radius above 0, but is {config.judged_eps}.")
    if config.defense_draws < 2 or config.defense_draws.bit_count() > 1:
        raise UsageError(
            f"Argument `defense_draws` must be a power of 2 from 2, but is {config.defense_draws}: draws are doubled "
            "until attacks gain no more."
        )
    counts = ("epochs", "batch_size", "n_examples", "lr", "n_poison_train", "n_defense_test")
    for name in (*counts, "defense_steps", "defense_queries"):
        value = getattr(config, name)
        if value is not None and not value > 0:  # NaN is not
            raise UsageError(f"Argument `{name}` must be above 0, but is {value}.")
