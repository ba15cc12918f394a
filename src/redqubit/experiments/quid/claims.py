"""What the results say about the paper's claims."""

from collections.abc import Sequence

from redqubit.experiments.quid import published
from redqubit.experiments.quid.config import SOURCE, QUIDStudy
from redqubit.experiments.quid.defended import defended, table7
from redqubit.experiments.quid.figures import autoencoders, figures
from redqubit.experiments.quid.plan import ADAPTIVE, BILEVEL, CLEAN, CONTROLS, EXACT, SPSA, Spec, environments
from redqubit.experiments.quid.separability import LESS, MORE, Status, agreed, distances, encodings
from redqubit.experiments.quid.table import Table, minus, over_tasks
from redqubit.experiments.quid.tables import by_environment, environment, table2, table3, table6
from redqubit.experiments.quid.trust import flags, limits
from redqubit.experiments.seeds import difference, mean, points, seeds, sign
from redqubit.result import Finding, Result, Summary
from redqubit.statistics import Difference

LITTLE = 0.03  # difference of accuracies that does not matter
PUBLISHED_GAIN = (
    0.06  # least share that noise and SPSA add to what QUID costs in Table 4, costs without poison taken off
)


def summarise(config: QUIDStudy, results: Sequence[Result]) -> Summary:
    """Return the verdict and the panels."""
    table = Table(results)
    found = [
        *_against_random(config, table),
        *_quantum_part(config, table),
        *_below_chance(config, table),
        *_angles(config, table),
        *_noise(config, table),
        *_devices(config, table),
        *_bilevel(config, table),
        *_defenses(config, table),
        *distances(config, table),
        *encodings(config, table),
        *_large(config, table),
        *(Finding(f"Doubt about the paper: {text}") for text in published.DOUBTS),
    ]
    panels = [
        *autoencoders(config, table),
        *table2(config, table, config.tasks, "Table 2: distances"),
        *table3(config, table),
        *by_environment(config, table, "table4"),
        *by_environment(config, table, "table5"),
        *table6(config, table),
        *table7(config, table),
        *figures(config, table),
    ]
    return Summary(
        title="Label poisoning of quantum neural networks: QUID and its controls",
        subtitle=f"Independent replication: {', '.join(t.name for t in config.tasks)}; {seeds(len(config.seeds))}",
        findings=tuple(found),
        panels=tuple(panels),
        flags=flags(config, table),
        cost={"networks trained": sum(_trained(config, r) for r in results)},
        source=SOURCE,
        limits=limits(config),
    )


def _trained(config: QUIDStudy, r: Result) -> int:
    """Return how many networks were trained for the model that a result is of, once for each."""
    if r.metric == "certified":
        return config.k
    last = r.metric == "accuracy" and r.config.get("epoch") == config.epochs
    return int(r.metric == "accuracy_exact" or last)


def _models(config: QUIDStudy, table: Table, regime: str, poison: str, *, radian: bool = False) -> list[Spec]:
    """Return one model for each task, at the main ratio; none unless all tasks have it."""
    ratio = 0.0 if poison == CLEAN else config.ratio
    specs = [Spec(task.name, config.pqcs[0], regime, poison, ratio, radian=radian) for task in config.tasks]
    return specs if table.has(*specs) else []


def _differences(config: QUIDStudy, table: Table, a: str, b: str) -> dict[tuple[str, bool], Difference | None]:
    """Return how much larger the accuracy under poison a is than under b, mean over tasks, by environment."""
    out = {}
    for regime, radian in environments(config):
        ours, theirs = (_models(config, table, regime, name, radian=radian) for name in (a, b))
        if regime != SPSA and ours and theirs:
            out[regime, radian] = table.paired(ours, theirs)
    return out


def _main(found: dict[tuple[str, bool], Difference | None]) -> list[Difference | None]:
    """Return the differences with the angles of the config."""
    return [d for (_, radian), d in found.items() if not radian]


def _listed(found: dict[tuple[str, bool], Difference | None]) -> str:
    return "; ".join(f"{environment(regime, radian=radian)} {points(d)}" for (regime, radian), d in found.items())


def _less(found: Sequence[Difference | None]) -> Status:
    """Return the verdict on "it is less": fails too where no difference matters, unclear where some contradict."""
    signs = {sign(d) for d in found}
    if all(d is not None and d.low > -LITTLE and d.high < LITTLE for d in found):
        return "fails"
    if -1 in signs and 1 not in signs:
        return "holds"
    return "fails" if 1 in signs and -1 not in signs else "unclear"


def _adds(d: Difference | None) -> Status:
    """Return the verdict on noise adding as much as published to what QUID costs; d is below 0 where it adds."""
    if d is None:
        return "unclear"
    return "holds" if d.high < -PUBLISHED_GAIN else "fails" if d.low > -PUBLISHED_GAIN else "unclear"


def _where(config: QUIDStudy) -> str:
    return f"ratio {config.ratio:g}, mean over {', '.join(t.name for t in config.tasks)}"


def _against_random(config: QUIDStudy, table: Table) -> list[Finding]:
    found = _differences(config, table, "quid", "random")
    if not found:
        return []
    return [
        Finding(
            "QUID costs more accuracy than random label flips.",
            agreed([sign(d) for d in _main(found)], LESS),
            f"QUID minus random, {_where(config)}: {_listed(found)}. Random flips minus none: "
            + _listed(_differences(config, table, "random", CLEAN)),
            "45 to 75 points with noise",
        )
    ]


def _quantum_part(config: QUIDStudy, table: Table) -> list[Finding]:
    found = _differences(config, table, "quid", "farthest")
    if not found:
        return []
    same = [
        r
        for regime, radian in found
        if not radian
        for spec in _models(config, table, regime, "quid")
        for r in table.by_seed("same_as_farthest", spec).values()
    ]
    by_ratio = {}
    for ratio in config.ratios:
        quid, farthest = (
            [Spec(t.name, config.pqcs[0], config.noise, name, ratio) for t in config.tasks]
            for name in ("quid", "farthest")
        )
        if table.has(*quid, *farthest):
            by_ratio[ratio] = table.paired(quid, farthest)
    ratios = "; ".join(f"{ratio:g} {points(d)}" for ratio, d in by_ratio.items())
    return [
        Finding(
            "The states of the encoder make QUID stronger than the same rule on the latents, without a circuit.",
            _less([*_main(found), *by_ratio.values()]),
            f"QUID minus the class at the largest mean distance among the latents, {_where(config)}: {_listed(found)}"
            + (f"; by ratio, {environment(config.noise)}: {ratios}" if ratios else "")
            + f". The two choose the same label for {100 * mean(same).value:.0f} % of the samples",
            "not tried",
        )
    ]


def _below_chance(config: QUIDStudy, table: Table) -> list[Finding]:
    most = max(config.ratios)
    chance = 1 / len(config.tasks[0].classes)
    parts, below = [], {}
    for poison in (*CONTROLS, "quid"):
        specs = [Spec(t.name, config.pqcs[0], config.noise, poison, most) for t in config.tasks]
        if not table.has(*specs):
            return []
        d = difference(table.over("accuracy", specs), dict.fromkeys(config.seeds, chance))
        below[poison] = sign(d) < 0
        parts.append(f"{poison} {points(d)}")
    return [
        Finding(
            "An accuracy below chance is a mark of QUID.",
            "fails" if below["quid"] and (below["cyclic"] or below["farthest"]) else "unclear",
            f"accuracy minus chance at ratio {most:g}, {environment(config.noise)}, mean over "
            f"{', '.join(t.name for t in config.tasks)}: {'; '.join(parts)}",
            "0.66 to 1.99 % with circuit 1",
        )
    ]


def _angles(config: QUIDStudy, table: Table) -> list[Finding]:
    """Say which scaling of angles, which the paper leaves open, fits its accuracies without poison."""
    parts: list[str] = []
    for task in config.tasks if (EXACT, True) in environments(config) else ():
        theirs = published.TABLE4.get((task.name, False))
        ours = [Spec(task.name, config.pqcs[0], EXACT, radian=radian) for radian in (False, True)]
        if theirs is not None and table.has(*ours):
            largest, radian = (table.mean("accuracy", spec).percent() for spec in ours)
            parts.append(
                f"{task.name} {largest} with angles up to {config.scale:.3g} pi, {radian} up to one radian; "
                f"published {theirs['none', 0.0]:g}"
            )
    if not parts:
        return []
    return [
        Finding(
            "How far angles reach, which the paper leaves open, decides how well networks do without any poison.",
            "info",
            "accuracy in percent, no noise: " + "; ".join(parts),
        )
    ]


def _noise(config: QUIDStudy, table: Table) -> list[Finding]:
    if not all(_models(config, table, r, "quid") for r in (EXACT, SPSA, config.noise)):
        return []

    def cost(regime: str, reference: str) -> dict[int, float]:
        """Return by seed what QUID takes, against no poison or another one."""
        a, b = (table.over("accuracy", _models(config, table, regime, name)) for name in ("quid", reference))
        return minus(a, b)

    noise = difference(cost(config.noise, CLEAN), cost(SPSA, CLEAN))
    slopes = difference(cost(SPSA, CLEAN), cost(EXACT, CLEAN))
    both = difference(cost(config.noise, CLEAN), cost(EXACT, CLEAN))
    against = difference(cost(config.noise, "random"), cost(SPSA, "random"))
    price = table.paired(_models(config, table, config.noise, CLEAN), _models(config, table, EXACT, CLEAN))
    kept = [
        r for s in _models(config, table, config.noise, "quid") for r in table.by_seed("same_without_noise", s).values()
    ]
    return [
        Finding(
            f"Noise and SPSA add {100 * PUBLISHED_GAIN:.0f} points or more to what QUID costs.",
            _adds(both),
            f"what QUID changes, {_where(config)}: {environment(config.noise)} minus the same without noise "
            f"{points(noise)}, of which beyond random flips {points(against)}; SPSA minus exact slopes, both without "
            f"noise, {points(slopes)}; noise and SPSA minus neither, as in the paper, {points(both)}. Without poison "
            f"these cost {points(price)}. The attacker with noise chooses the same label for "
            f"{100 * mean(kept).value:.0f} % of the samples",
            "6 to 26 points more, the costs without poison taken off",
        )
    ]


def _devices(config: QUIDStudy, table: Table) -> list[Finding]:
    pqc, parts, signs = config.pqcs[0], [], []
    for regime in config.devices:
        quid, random, farthest = (
            [Spec(t.name, pqc, regime, name, config.ratio) for t in config.tasks[:2]]
            for name in ("quid", "random", "farthest")
        )
        if not table.has(*quid, *random, *farthest):
            continue
        d = table.paired(quid, random)
        signs.append(sign(d))
        parts.append(f"{environment(regime)} {points(d)}, minus farthest {points(table.paired(quid, farthest))}")
    if not parts:
        return []
    return [
        Finding(
            "On noise models of devices QUID costs more accuracy than random label flips.",
            agreed(signs, LESS),
            f"QUID minus random, ratio {config.ratio:g}, mean over {' and '.join(t.name for t in config.tasks[:2])}: "
            + "; ".join(parts),
            "61 to 66 points",
        )
    ]


def _bilevel(config: QUIDStudy, table: Table) -> list[Finding]:
    quid, random, random2, quid2 = (
        _models(config, table, config.strong_noise, name) for name in ("quid", "random", *BILEVEL)
    )
    if not quid2:
        return []
    d = table.paired(quid, quid2)
    return [
        Finding(
            "QUID costs more accuracy when labels alone are poisoned than when samples are replaced too.",
            LESS[sign(d)],
            f"labels alone minus bi-level, {_where(config)}, {environment(config.strong_noise)}: {points(d)}; for "
            f"random labels {points(table.paired(random, random2))}",
            "holds for all tasks",
        )
    ]


def _defenses(config: QUIDStudy, table: Table) -> list[Finding]:
    tasks = [t.name for t in config.tasks]

    def gain(poison: str, ratio: float, defense: str, reference: str = CLEAN) -> Difference | None:
        a, b = ([defended(config, t, poison, ratio, d) for t in tasks] for d in (defense, reference))
        return table.paired(a, b) if table.has(*a, *b) else None

    ratios = config.defended_ratios
    voted = {r: gain("quid", r, "ss_dpa") for r in ratios}
    if any(d is None for d in voted.values()):
        return []
    certified = [
        r for t in tasks for r in table.by_seed("certified", defended(config, t, "quid", ratios[-1], "ss_dpa")).values()
    ]
    usual, control = "neighbours-states-relabel", "neighbours-features-drop"
    cleaned = {r: gain("quid", r, usual) for r in ratios}
    dropped = {r: gain("quid", r, "neighbours-states-drop", control) for r in ratios}
    grouped = {r: gain("quid", r, "classes-states-drop") for r in ratios}
    latent = {r: gain("quid", r, "classes-features-drop") for r in ratios}
    adaptive = {r: gain(ADAPTIVE, r, usual) for r in ratios}

    def least(ratio: float, defense: str) -> dict[int, float]:
        """Return by seed the accuracy under the poison that leaves least, mean over tasks."""
        found = [
            table.over("accuracy", [defended(config, t, poison, ratio, defense) for t in tasks])
            for poison in ("random", "farthest", "quid", ADAPTIVE)
        ]
        return {seed: min(f[seed] for f in found) for seed in found[0] if all(seed in f for f in found)}

    worst = {r: difference(least(r, usual), least(r, CLEAN)) for r in ratios}

    def listed(found: dict[float, Difference | None]) -> str:
        return "; ".join(f"ratio {r:g} {points(d)}" for r, d in found.items())

    over = f"mean over {', '.join(tasks)}"
    return [
        Finding(
            f"SS-DPA with {config.k} parts raises accuracy under QUID.",
            agreed([sign(d) for d in voted.values()], MORE),
            f"accuracy with SS-DPA minus without, {over}: {listed(voted)}; without poison "
            f"{points(gain(CLEAN, 0.0, 'ss_dpa'))}. Certified against one flip at ratio {ratios[-1]:g}: "
            f"{100 * mean(certified).value:.1f} % of the test samples",
            "gains of 0.3 to 9 points, and one loss of 9",
        ),
        Finding(
            "A vote of neighbours in state space on each label raises accuracy under QUID.",
            agreed([sign(d) for d in cleaned.values()], MORE),
            f"relabelled minus no defense, {over}: {listed(cleaned)}; without poison "
            f"{points(gain(CLEAN, 0.0, usual))}. A vote of class means, dropped: among states {listed(grouped)}; among "
            f"latents {listed(latent)}",
            "not tried",
        ),
        Finding(
            "State space is a better place for that vote than the latents.",
            agreed([sign(d) for d in dropped.values()], MORE),
            f"neighbours, dropped, states minus latents, {over}: {listed(dropped)}",
            "not tried",
        ),
        Finding(
            "The vote of neighbours raises accuracy under the poison that is worst for it.",
            _withstands(list(worst.values())),
            "least accuracy over random, farthest, QUID and flips of whole neighbourhoods, relabelled minus no "
            f"defense, {over}: {listed(worst)}; under flips of whole neighbourhoods alone {listed(adaptive)}",
            "not tried",
        ),
    ]


def _withstands(gains: Sequence[Difference | None]) -> Status:
    """Return whether a defense still gains something under an attack on it."""
    if any(d is None or d.high < LITTLE for d in gains):
        return "fails"
    return "holds" if all(sign(d) > 0 for d in gains) else "unclear"


def _large(config: QUIDStudy, table: Table) -> list[Finding]:
    def last(poison: str) -> dict[int, float]:
        where = {"epoch": config.epochs, "poison": poison}
        return over_tasks([[r for r in table.results if r.metric == "accuracy" and where.items() <= r.config.items()]])

    d = difference(last("quid"), last("random"))
    if d is None or config.large is None:
        return []
    return [
        Finding(
            f"With ten classes and {config.d_large // 2} qubits QUID costs more accuracy than random label flips.",
            LESS[sign(d)],
            f"QUID minus random after {config.epochs} epochs, {config.large.name}, ratio {config.ratio:g}: "
            f"{points(d)}; QUID minus farthest {points(difference(last('quid'), last('farthest')))}; random minus none "
            f"{points(difference(last('random'), last(CLEAN)))}",
            f"about {published.GAP5:g} points",
        )
    ]
