"""What an audit does, and the attacks it knows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from redqubit.backdoors import TRIGGERS, Backdoor, Patch
from redqubit.errors import UsageError
from redqubit.evasion import ATTACKS, PGD, EvasionAttack
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
    noise: str | None = None  # of the model's circuits: "quid:0.05", "ibm_kyiv" (redqubit.quantum.noise.named)
    epochs: int = 30
    batch_size: int = 32
    lr: float = 5e-3
    n_examples: int = 8  # pictures in the report


def check(config: Audit) -> None:
    """Raise a `UsageError` for fields that do not fit together."""
    for name in config.attacks:
        if name not in SETTINGS:
            raise unknown("attack", name, SETTINGS)
    for field in fields(config):
        value = getattr(config, field.name)
        if value == () and field.name not in ("backdoors", "poisons"):
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
    for name in ("epochs", "batch_size", "n_examples", "lr", "n_poison_train"):
        value = getattr(config, name)
        if value is not None and not value > 0:  # NaN is not
            raise UsageError(f"Argument `{name}` must be above 0, but is {value}.")
