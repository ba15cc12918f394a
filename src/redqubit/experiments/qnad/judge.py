"""Each defense before attackers who know it: the four-path grid, its controls, and the worst of all attacks."""

from collections.abc import Iterable, Mapping

from redqubit.adaptive import Evaluation, Scored, evaluate_defense, four_path_grid
from redqubit.defenses import equal_power
from redqubit.evasion import FGSM, PGD
from redqubit.experiments.base import Setting
from redqubit.experiments.qnad.config import Case, QNADStudy
from redqubit.experiments.qnad.material import ATTACK, CONTROL, contracted, network, on_device, samples, stream
from redqubit.experiments.qnad.plan import INTRINSIC, SELECTED, VALIDATED, Level
from redqubit.experiments.record import Record
from redqubit.result import Result

DETERMINISTIC, GAUSSIAN, CONTRACTED = "deterministic part", "gaussian", "contraction"
N_CHOOSE = 100  # pictures that choose the draws of EOT
N_POWER = 128  # pictures on which the power of the noise is measured


def judge_name(case: Case, seed: int) -> str:
    """Return the name of a cell."""
    return f"judge-{case.name}-seed{seed}"


def chosen_level(results: Iterable[Result], case: Case, seed: int) -> Level:
    """Return the level that a seed's validation pictures chose under PGD at the shown radius."""
    where = {"case": case.name, "defense": VALIDATED, "attack": "pgd", "eps": case.shown_eps}
    found = {r.metric: r.value for r in results if r.seed == seed and where.items() <= r.config.items()}
    return Level(found["chosen_fraction"], int(found["chosen_pairs"]))


def judged_levels(chosen: Level) -> dict[str, Level]:
    """Return the defenses to judge: the device's own noise, and crosstalk on chosen, random and least weights."""
    crosstalk = {
        name: Level(chosen.fraction, chosen.pairs, selection=selection) for name, selection in SELECTED.items()
    }
    return {INTRINSIC: Level(), **crosstalk}


def run_judge(config: QNADStudy, case: Case, seed: int, chosen: Level, setting: Setting) -> list[Result]:
    """Attack the network of a seed with each defense, and without it."""
    part = samples(case, seed, setting)
    net = network(case, part, seed, setting)
    record = Record("qnad", judge_name(case, seed), {"case": case.name})
    x, y = part.test.x[: case.n_judged], part.test.y[: case.n_judged]
    clean = part.calibration
    for defense, level in judged_levels(chosen).items():
        noisy = on_device(config, net, clean, level, seed, shots=config.shots)
        controls = {
            DETERMINISTIC: on_device(config, net, clean, level, seed, shots=None),
            GAUSSIAN: equal_power(net, noisy, clean.x[:N_POWER], on="activations", generator=stream(seed, CONTROL)),
            CONTRACTED: contracted(net, noisy),
        }
        for eps in case.judged_eps:
            where = {"defense": defense, "eps": eps}
            record.value("judged_fraction", level.fraction, seed, **where)
            record.value("judged_pairs", level.pairs, seed, **where)
            found = evaluate_defense(
                net,
                noisy,
                PGD(eps, steps=case.steps),
                x,
                y,
                controls=controls,
                queries=case.queries,
                limit=case.limit,
                n_choose=N_CHOOSE,
                draws=config.draws,
                generator=stream(seed, ATTACK),
            )
            _keep(record, found, seed, where)
            once = four_path_grid(
                net,
                noisy,
                FGSM(eps),
                x,
                y,
                eot=found.expectation.draws,
                draws=config.draws,
                generator=stream(seed, ATTACK),
            )
            _keep_grid(record, once.cells, seed, {**where, "attack": "fgsm"})
    return record.results


def _keep(record: Record, found: Evaluation, seed: int, where: Mapping[str, object]) -> None:
    _keep_grid(record, found.grid.cells, seed, {**where, "attack": "pgd"})
    for side, scored in found.worst.items():
        record.draws("worst_accuracy", scored.correct, seed, **where, side=side)
    record.value("eot_draws", found.expectation.draws, seed, **where)
    record.value("eot_converged", float(found.expectation.converged), seed, **where)


def _keep_grid(record: Record, cells: Mapping[tuple[str, str], Scored], seed: int, where: Mapping[str, object]) -> None:
    for (made, judged), scored in cells.items():
        record.draws("grid_accuracy", scored.correct, seed, **where, made=made, judged=judged)
