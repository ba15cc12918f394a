"""Which models each table needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from redqubit.errors import UsageError
from redqubit.experiments.quid.config import PARTS, QUIDStudy, Task
from redqubit.quantum.noise import NoiseModel, named

CLEAN = "none"  # the poison, or the defense, that does nothing
EXACT, SPSA = "exact", "spsa"  # training without noise, by exact slopes or by SPSA; all else is the name of a noise
CONTROLS = ("random", "cyclic", "farthest")
BILEVEL = ("bilevel-random", "bilevel-quid")
ADAPTIVE = "neighbourhood"
TRAINED = ("table3", "table4", "table5", "table6", "table7")
SANITIZERS = (
    "neighbours-states-drop",
    "neighbours-features-drop",
    "neighbours-states-relabel",
    "classes-states-drop",
    "classes-features-drop",
    "classes-states-relabel",
)
DEFENSES = (CLEAN, "ss_dpa", *SANITIZERS)


@dataclass(frozen=True)
class Spec:
    """A model that is trained with every seed."""

    task: str
    pqc: int
    regime: str  # "exact", "spsa", or what `named` reads: noise, and slopes by SPSA
    poison: str = CLEAN
    ratio: float = 0.0
    defense: str = CLEAN
    radian: bool = False  # angles of one radian at most, for those of the config

    @property
    def name(self) -> str:
        """The name of its cell."""
        words = [self.task, f"pqc{self.pqc}", self.regime.replace(":", "-"), self.poison]
        words += [f"{self.ratio:g}"] if self.ratio else []
        words += [] if self.defense == CLEAN else [self.defense]
        return "-".join([*words, *(["radian"] if self.radian else [])])

    @property
    def config(self) -> dict[str, Any]:
        """What its results are found by."""
        return {
            "task": self.task,
            "pqc": self.pqc,
            "regime": self.regime,
            "poison": self.poison,
            "ratio": self.ratio,
            "defense": self.defense,
            "radian": self.radian,
        }

    @property
    def noise(self) -> NoiseModel | None:
        """What follows each gate of its circuit, in training and test, and of the attacker's encoder."""
        return None if self.regime in (EXACT, SPSA) else named(self.regime)


def in_order(parts: Sequence[str]) -> tuple[str, ...]:
    """Return tables and figures in the order of the paper, all of them when none is named."""
    return tuple(part for part in PARTS if not parts or part in parts)


def specs(config: QUIDStudy, parts: Sequence[str]) -> list[Spec]:
    """Return the models that some tables need, each once."""
    found: dict[Spec, None] = {}
    for part in parts:
        if part in TRAINED:
            found.update(dict.fromkeys(of_table(config, part)))
    return list(found)


def environments(config: QUIDStudy) -> tuple[tuple[str, bool], ...]:
    """Return how the models of Table 4 are trained, and whether their angles are one radian at most."""
    own = (EXACT, False), (SPSA, False), (config.noise, False)
    if math.isclose(config.scale * math.pi, 1, rel_tol=1e-3):
        return own
    return *own, (EXACT, True), (config.noise, True)


def of_table(config: QUIDStudy, part: str) -> list[Spec]:
    """Return the models of one table, in its order."""
    pqc, tasks = config.pqcs[0], [task.name for task in config.tasks]
    usual = (*CONTROLS, "quid")
    if part == "table3":
        both = ("random", "quid", *BILEVEL)
        return [s for t in tasks for s in _group(t, pqc, config.strong_noise, both, [config.ratio])]
    if part == "table4":
        return [
            replace(s, radian=radian)
            for t in tasks
            for regime, radian in environments(config)
            for s in _group(t, pqc, regime, usual, [config.ratio])
        ]
    if part == "table5":
        return [
            s for t in tasks[:2] for regime in config.devices for s in _group(t, pqc, regime, usual, [config.ratio])
        ]
    if part == "table6":
        places = [(t, c) for t in tasks for c in (config.pqcs if t == tasks[0] else config.pqcs[:1])]
        return [s for t, c in places for s in _group(t, c, config.noise, usual, config.ratios)]
    poisons = ("random", "farthest", "quid", ADAPTIVE)
    return [
        replace(s, defense=defense)
        for t in tasks
        for s in _group(t, pqc, EXACT, poisons, config.defended_ratios)
        for defense in DEFENSES
    ]


def _group(task: str, pqc: int, regime: str, poisons: Sequence[str], ratios: Sequence[float]) -> list[Spec]:
    return [
        Spec(task, pqc, regime),
        *(Spec(task, pqc, regime, poison, ratio) for ratio in ratios for poison in poisons),
    ]


def task_named(config: QUIDStudy, name: str) -> Task:
    """Return a task of the config."""
    return next(task for task in (*config.tasks, config.large) if task is not None and task.name == name)


def tasks_for(config: QUIDStudy, parts: Sequence[str]) -> list[Task]:
    """Return the tasks that some parts need."""
    wanted = in_order(parts)
    small = config.tasks if {"table2", "table3", "table4", "table6", "table7"} & set(wanted) else config.tasks[:2]
    out = list(small) if any(part.startswith("table") for part in wanted) else []
    if config.large is not None and any(part.startswith("figure") for part in wanted):
        out.append(config.large)
    return out


def data_for(config: QUIDStudy, parts: Sequence[str]) -> list[str]:
    """Return the names of the data sets that some parts need."""
    return list(dict.fromkeys(task.source for task in tasks_for(config, parts)))


def check(config: QUIDStudy) -> None:
    """Raise a `UsageError` for what would break a cell or leave nothing to say."""
    known = [task.name for task in (*config.tasks, config.large) if task is not None]
    if not config.tasks or len(set(known)) < len(known):
        raise UsageError(f"Argument `tasks` must hold tasks of different names, but has {', '.join(known) or 'none'}.")
    for task in (*config.tasks, *([] if config.large is None else [config.large])):
        if len(set(task.classes)) < max(2, len(task.classes)) or task.per_class < 4:
            raise UsageError(
                f"Argument `tasks` must have two different classes or more with 4 samples or more, but {task.name} has "
                f"{list(task.classes)} with {task.per_class}."
            )
    for name in ("seeds", "ratios", "defended_ratios", "pqcs", "strengths"):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise UsageError(f"Argument `{name}` must hold different values, but is {list(values)}.")
    for ratio in (config.ratio, *config.ratios, *config.defended_ratios, config.test_share):
        if not 0 < ratio < 1:
            raise UsageError(f"Arguments `ratio` and `test_share` must lie between 0 and 1, but one is {ratio}.")
    if not all(0 <= p <= 1 for p in config.strengths):
        raise UsageError(f"Argument `strengths` must lie in [0, 1], but is {list(config.strengths)}.")
    for name in ("autoencoder_epochs", "epochs", "batch_size", "shots", "large_layers", "k", "neighbours", "cluster"):
        if getattr(config, name) < 1:
            raise UsageError(f"Argument `{name}` must be 1 or more, but is {getattr(config, name)}.")
    if not (0 < config.lr < math.inf and 0 < config.scale < math.inf):
        raise UsageError(f"Arguments `lr` and `scale` must be above 0, but are {config.lr} and {config.scale}.")
    if config.d_large % 2 or config.d % 2 or min(config.d, config.d_large) < 4:
        raise UsageError(
            f"Arguments `d` and `d_large` must be even and 4 or more, two for a qubit, but are {config.d} and "
            f"{config.d_large}."
        )
    for text in (config.noise, config.strong_noise, *config.devices):
        named(text)
