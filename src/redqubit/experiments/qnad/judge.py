"""Each defense before attackers who know it: the four-path grid, its controls, and the worst of all attacks."""

from collections.abc import Iterable, Mapping

from redqubit.adaptive import Evaluation, evaluate_defense
from redqubit.defenses import equal_power
from redqubit.evasion import FGSM, PGD
from redqubit.experiments.base import Setting
from redqubit.experiments.qnad.config import INTRINSIC, Case, QNADStudy
from redqubit.experiments.qnad.material import ATTACK, CONTROL, contracted, network, on_device, samples, stream
from redqubit.experiments.qnad.plan import SELECTED, VALIDATED, Level
from redqubit.experiments.record import Record
from redqubit.result import Result

DETERMINISTIC, GAUSSIAN, CONTRACTED = "deterministic part", "gaussian", "contraction"
N_CHOOSE = 100  # pictures that choose the draws of EOT
N_POWER = 128  # pictures on which the power of the noise is measured


def judge_name(case: Case, seed: int) -> str:
    """Return the name of a cell."""
    return f"judge-{case.name}-seed{seed}"


def chosen_level(results: Iterable[Result], case: Case, seed: int, eps: float) -> Level:
    """Return the level that a seed's validation pictures chose under PGD at some radius."""
    where = {"case": case.name, "defense": VALIDATED, "attack": "pgd", "eps": eps}
    found = {r.metric: r.value for r in results if r.seed == seed and where.items() <= r.config.items()}
    return Level(found["chosen_fraction"], int(found["chosen_pairs"]))


def judged_levels(case: Case, chosen: Level) -> dict[str, Level]:
    """Return the defenses to judge: the device's own noise, and crosstalk on chosen, random and least weights."""
    crosstalk = {
        name: Level(chosen.fraction, chosen.pairs, selection=selection) for name, selection in SELECTED.items()
    }
    return {name: level for name, level in {INTRINSIC: Level(), **crosstalk}.items() if name in case.judged}


def run_judge(
    config: QNADStudy, case: Case, seed: int, chosen: Mapping[float, Level], setting: Setting
) -> list[Result]:
    """Attack the network of a seed with each defense, and without it; the level of crosstalk is chosen by radius."""
    part = samples(case, seed, setting)
    net = network(case, part, seed, setting)
    record = Record("qnad", judge_name(case, seed), {"case": case.name})
    record.value("n_train", len(part.train), seed)
    x, y = part.test.x[: case.n_judged], part.test.y[: case.n_judged]
    clean = part.calibration
    for eps in case.judged_eps:
        for defense, level in judged_levels(case, chosen[eps]).items():
            noisy = on_device(config, net, clean, level, seed, shots=config.shots)
            where = {"defense": defense, "eps": eps}
            record.value("judged_fraction", level.fraction, seed, **where)
            record.value("judged_pairs", level.pairs, seed, **where)
            found = evaluate_defense(
                net,
                noisy,
                PGD(eps, steps=case.steps),
                x,
                y,
                more={"fgsm": FGSM(eps)},
                controls={
                    DETERMINISTIC: on_device(config, net, clean, level, seed, shots=None),
                    GAUSSIAN: equal_power(
                        net, noisy, clean.x[:N_POWER], on="activations", generator=stream(seed, CONTROL)
                    ),
                    CONTRACTED: contracted(net, noisy),
                },
                queries=case.queries,
                limit=case.limit,
                n_choose=N_CHOOSE,
                draws=config.judge_draws,
                generator=stream(seed, ATTACK),
            )
            _keep(record, found, seed, where)
    return record.results


def _keep(record: Record, found: Evaluation, seed: int, where: Mapping[str, object]) -> None:
    for (made, judged), scored in found.grid.cells.items():
        attack, source = ("fgsm", made.removeprefix("fgsm ")) if made.startswith("fgsm ") else ("pgd", made)
        record.draws("grid_accuracy", scored.correct, seed, **where, attack=attack, made=source, judged=judged)
    for side, scored in found.worst.items():
        record.draws("worst_accuracy", scored.correct, seed, **where, side=side)
    record.value("eot_draws", found.expectation.draws, seed, **where)
    record.value("eot_converged", float(found.expectation.converged), seed, **where)
