"""Table 7: what SS-DPA and the sanitizers make of poisoned labels."""

from statistics import fmean

from redqubit.experiments.quid import published
from redqubit.experiments.quid.config import QUIDStudy
from redqubit.experiments.quid.plan import ADAPTIVE, CLEAN, DEFENSES, EXACT, SANITIZERS, Spec
from redqubit.experiments.quid.table import Table
from redqubit.experiments.quid.tables import is_full, name_of, scale
from redqubit.experiments.seeds import NBSP, agree, gap, mean, short
from redqubit.result import Panel

NAMES = {
    CLEAN: "none",
    "ss_dpa": "SS-DPA",
    "neighbours-states-drop": "neighbours among states, drop",
    "neighbours-features-drop": "neighbours among latents, drop",
    "neighbours-states-relabel": "neighbours among states, relabel",
    "classes-states-drop": "classes of states, drop",
    "classes-features-drop": "classes of latents, drop",
    "classes-states-relabel": "classes of states, relabel",
}
POISONS = {
    CLEAN: "none",
    "random": "random",
    "farthest": "farthest",
    "quid": "QUID",
    ADAPTIVE: "adaptive",
}
SECTION = "Table 7: defenses"


def defended(config: QUIDStudy, task: str, poison: str, ratio: float, defense: str) -> Spec:
    """Return a model of Table 7."""
    return Spec(task, config.pqcs[0], EXACT, poison, ratio, defense)


def cases(config: QUIDStudy) -> list[tuple[str, float]]:
    """Return the poisons with their ratios, none first."""
    return [(CLEAN, 0.0), *((p, r) for r in config.defended_ratios for p in POISONS if p != CLEAN)]


def table7(config: QUIDStudy, table: Table) -> list[Panel]:
    """Return accuracies with each defense, and how well the sanitizers find wrong labels."""
    tasks = [t.name for t in config.tasks if table.has(defended(config, t.name, CLEAN, 0.0, "ss_dpa"))]
    if not tasks:
        return []
    gains = [_gains(config, table, tasks, ratio) for ratio in config.defended_ratios]
    return [_ss_dpa(config, table, tasks), *gains, _detection(config, table, tasks)]


def _ss_dpa(config: QUIDStudy, table: Table, tasks: list[str]) -> Panel:
    rows = []
    for task in tasks:
        for poison, ratio in cases(config):
            bare, voted = (defended(config, task, poison, ratio, d) for d in (CLEAN, "ss_dpa"))
            theirs = published.TABLE7.get((task, ratio)) if poison == "quid" else None
            says = "–"
            if theirs is not None:
                both = [
                    agree(table.by_seed("accuracy", spec).values(), value / 100)
                    for spec, value in zip((bare, voted), theirs, strict=True)
                ]
                says = "reproduced" if all(both) and is_full(config, table, task) else "not reproduced"
            rows.append(
                [
                    name_of(task),
                    POISONS[poison],
                    f"{ratio:g}" if ratio else "–",
                    short(table.mean("accuracy", bare)),
                    short(table.mean("accuracy", voted)),
                    gap(table.paired([voted], [bare])),
                    short(table.mean("certified", voted)),
                    "–" if theirs is None else f"{theirs[0]:g} / {theirs[1]:g}".replace(" ", NBSP),
                    says,
                ]
            )
    return Panel(
        "facts",
        f"SS-DPA with {config.k} parts (the paper's Table 7)",
        "Accuracy without noise. Certified: share of test samples whose right prediction no single flipped label "
        f"could change; {config.k} parts certify {(config.k - 1) // 2} at most, and hundreds are flipped. "
        f"{scale(config, table, config.tasks)}",
        SECTION,
        data={
            "columns": [
                "task",
                "poison",
                "ratio",
                "no defense",
                "SS-DPA",
                "gain, points",
                "certified",
                "published: none / SS-DPA",
                "status",
            ],
            "rows": rows,
        },
    )


def _gains(config: QUIDStudy, table: Table, tasks: list[str], ratio: float) -> Panel:
    rows = []
    for defense in DEFENSES:
        row: list[object] = [NAMES[defense]]
        for poison in POISONS:
            share = 0.0 if poison == CLEAN else ratio
            a, b = ([defended(config, t, poison, share, d) for t in tasks] for d in (defense, CLEAN))
            if defense == CLEAN:
                row.append(f"{100 * fmean(table.over('accuracy', b).values()):.1f}")
            else:
                row.append(gap(table.paired(a, b)))
        rows.append(row)
    return Panel(
        "facts",
        f"What each defense gains at ratio {ratio:g}",
        f"First row: accuracy without defense, percent; below: gain in points, paired over seeds, mean over "
        f"{', '.join(tasks)}. Neighbours: the {config.neighbours} nearest samples vote, and half of them must agree "
        "with a label. Classes: the mean distance from each class decides. Latents: the same without a circuit. "
        "Adaptive: flips of whole neighbourhoods.",
        SECTION,
        data={
            "columns": ["defense", *POISONS.values()],
            "rows": rows,
        },
    )


def _detection(config: QUIDStudy, table: Table, tasks: list[str]) -> Panel:
    rows = []
    for defense in (d for d in SANITIZERS if d.endswith("drop")):
        for poison, ratio in cases(config):
            specs = [defended(config, task, poison, ratio, defense) for task in tasks]
            shares = [
                mean([r for spec in specs for r in table.by_seed(metric, spec).values()])
                for metric in ("auroc", "found_wrong", "lost_right")
            ]
            rows.append(
                [
                    NAMES[defense].removesuffix(", drop"),
                    POISONS[poison],
                    f"{ratio:g}" if ratio else "–",
                    "–" if poison == CLEAN else f"{shares[0].value:.3f}",
                    "–" if poison == CLEAN else f"{100 * shares[1].value:.1f}",
                    f"{100 * shares[2].value:.1f}",
                ]
            )
    return Panel(
        "facts",
        "How well the sanitizers tell wrong labels from right ones",
        f"Mean over seeds and {', '.join(tasks)}. AUROC: 0.5 is chance. Found: share of the wrong labels above the "
        "threshold; lost: share of the right ones. Thresholds: half of the neighbours, and equal distances; not tuned.",
        SECTION,
        data={"columns": ["votes", "poison", "ratio", "AUROC", "found, %", "lost, %"], "rows": rows},
    )
