"""What each table and figure needs."""

import math
from collections.abc import Sequence

from redqubit.errors import UsageError
from redqubit.experiments.hcqnn.config import PARTS, HCQNNStudy, Task

CLEAN, NOISY, GREY, WHITE, TRANSFER = "clean", "noise", "grey-box", "white-box", "transfer"  # who made the samples
OF_FEATURES = ("table1", "figure4")  # all others are of pictures


def path(defense: str, attack: str) -> str:
    """Return what a curve of a defense under an attack is called."""
    return f"{defense}, {attack}"


def in_order(parts: Sequence[str]) -> tuple[str, ...]:
    """Return tables and figures in the order of the paper, all of them when none is named."""
    return tuple(part for part in PARTS if not parts or part in parts)


def tasks_for(config: HCQNNStudy, parts: Sequence[str]) -> list[Task]:
    """Return the tasks that some parts need: features, pictures or both."""
    wanted = {part in OF_FEATURES for part in in_order(parts)}
    return [task for task in config.tasks if (not task.is_picture) in wanted]


def data_for(config: HCQNNStudy, parts: Sequence[str]) -> list[str]:
    """Return the names of the data sets that some parts need."""
    return list(dict.fromkeys(task.source for task in tasks_for(config, parts)))


def check(config: HCQNNStudy) -> None:
    """Raise a `UsageError` for what would break a cell or leave nothing to say."""
    names = [task.name for task in config.tasks]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"Argument `tasks` must hold tasks of different names, but has {', '.join(names) or 'none'}.")
    for task in config.tasks:
        if (task.source == "iris") == task.is_picture:
            raise UsageError(
                f"Argument `tasks` must encode iris by angles and pictures by amplitude or pooled, but {task.name} has "
                f"{task.encoding} for {task.source}."
            )
        if task.is_picture and (len(set(task.classes)) < 2 or list(task.classes) != sorted(set(task.classes))):
            raise UsageError(
                f"Argument `classes` must hold two labels or more in order, but {task.name} has {list(task.classes)}."
            )
        _different("seeds", task.seeds)
        _different("eps", task.eps)
        for name in ("epochs", "denoising_epochs", "layers"):
            _count(name, getattr(task, name))
        for value in (*task.eps, task.sigma, task.noise, task.shown_eps, task.scale):
            _positive("eps, sigma, noise, shown_eps, scale", value)
    for name in ("static_eps", "online_eps", "judged_eps"):
        _different(name, getattr(config, name))
    for name in ("batch_size", "online_steps", "judged_steps", "judged_samples", "queries"):
        _count(name, getattr(config, name))
    for value in (config.lr, *config.static_eps, *config.online_eps, *config.judged_eps):
        _positive("lr, static_eps, online_eps, judged_eps", value)


def _different(name: str, values: Sequence[float]) -> None:
    if not values or len(set(values)) < len(values):
        raise UsageError(f"Argument `{name}` must hold different values, but is {list(values)}.")


def _count(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"Argument `{name}` must be 1 or more, but is {value}.")


def _positive(names: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UsageError(f"Arguments `{names}` must be above 0 and finite, but one is {value}.")
