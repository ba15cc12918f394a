"""The work of the experiment: networks under the published attacks first, then what their defenses are worth."""

from collections.abc import Sequence
from functools import partial

from redqubit.experiments.base import Setting
from redqubit.experiments.qnad.config import QNADStudy
from redqubit.experiments.qnad.judge import chosen_level, judge_name, run_judge
from redqubit.experiments.qnad.plan import cases_for, check, in_order
from redqubit.experiments.qnad.sweep import run_sweep, sweep_name
from redqubit.result import Result
from redqubit.runner import Cell


def first(config: QNADStudy, setting: Setting) -> list[Cell]:
    """Return one cell for each network and seed.

    Raises:
        UsageError: for a config that cannot run, or a figure of a case that it does not have.
    """
    check(config)
    return [
        Cell(sweep_name(case, seed), partial(run_sweep, config, case, seed, setting))
        for case in cases_for(config, setting.parts)
        for seed in config.seeds
    ]


def second(config: QNADStudy, setting: Setting, results: Sequence[Result]) -> list[Cell]:
    """Return the cells that judge defenses, which Table I needs, at the levels that the first ones chose."""
    if "table1" not in in_order(config, setting.parts):
        return []
    return [
        Cell(
            judge_name(case, seed),
            partial(
                run_judge,
                config,
                case,
                seed,
                {eps: chosen_level(results, case, seed, eps) for eps in case.judged_eps},
                setting,
            ),
        )
        for case in config.cases
        for seed in config.seeds
    ]
