"""The work of the poisoning experiment: autoencoders first, then tables and figures."""

from collections.abc import Sequence
from functools import partial

from redqubit.experiments.base import Setting
from redqubit.experiments.quid.config import QUIDStudy, Task
from redqubit.experiments.quid.encoders import run_encodings, run_metrics
from redqubit.experiments.quid.material import pool_of
from redqubit.experiments.quid.plan import CLEAN, check, in_order, specs, task_named, tasks_for
from redqubit.experiments.quid.training import run, run_curve
from redqubit.experiments.record import Record
from redqubit.models.autoencoder import resized
from redqubit.result import Result
from redqubit.runner import Cell

CURVES = (CLEAN, "random", "farthest", "quid")


def first(config: QUIDStudy, setting: Setting) -> list[Cell]:
    """Return the autoencoders, which all else needs.

    Raises:
        UsageError: for a config that cannot run.
    """
    check(config)
    parts = in_order(setting.parts)
    wanted = {(task.name, config.d) for task in tasks_for(config, parts) if task in config.tasks}
    if config.large is not None:
        sizes = {"figure3": config.d, "figure4": config.d_large, "figure5": config.d_large}
        wanted |= {(config.large.name, d) for part, d in sizes.items() if part in parts}
    return [
        Cell(f"autoencoder-{name}-{d}", partial(run_autoencoder, config, task_named(config, name), d, setting))
        for name, d in sorted(wanted)
    ]


def second(config: QUIDStudy, setting: Setting, results: Sequence[Result]) -> list[Cell]:
    """Return the comparisons of encoders, and one cell for each model, with all its seeds."""
    parts = in_order(setting.parts)
    cells = []
    if "table2" in parts:
        cells += [Cell(f"metrics-{task.name}", partial(run_metrics, config, task, setting)) for task in config.tasks]
    if config.large is not None:
        if "figure3" in parts:
            cells.append(Cell(f"metrics-{config.large.name}", partial(run_metrics, config, config.large, setting)))
        if "figure4" in parts:
            cells += [Cell(f"encodings-{p:g}", partial(run_encodings, config, p, setting)) for p in config.strengths]
        if "figure5" in parts:
            cells += [Cell(f"curve-{name}", partial(run_curve, config, name, setting)) for name in CURVES]
    return cells + [Cell(spec.name, partial(run, config, spec, setting)) for spec in specs(config, parts)]


def run_autoencoder(config: QUIDStudy, task: Task, d: int, setting: Setting) -> list[Result]:
    """Train one autoencoder, or find it, and keep how well it restores pictures that it was not shown."""
    pool = pool_of(config, task, d, setting)
    record = Record("quid", f"autoencoder-{task.name}-{d}", {"task": task.name, "d": d})
    record.value("pixel_error", float((resized(pool.pictures) - pool.restored).square().mean()), 0)
    record.value("n_shown", pool.n_shown, 0)
    record.value("n_pool", len(pool.y), 0)
    return record.results
