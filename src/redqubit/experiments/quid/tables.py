"""The tables of the paper, ours beside the published numbers."""

from collections.abc import Sequence
from dataclasses import replace

from redqubit.experiments.quid import published
from redqubit.experiments.quid.config import PRESETS, QUIDStudy, Task
from redqubit.experiments.quid.encoders import CONTROL, METRICS, NO_H, ONE_RADIAN, USUAL
from redqubit.experiments.quid.plan import BILEVEL, CLEAN, CONTROLS, EXACT, SPSA, Spec, environments
from redqubit.experiments.quid.table import Table
from redqubit.experiments.seeds import HYPHEN, NBSP, agree, gap, mean, seeds, short, sign
from redqubit.result import Panel

ENVIRONMENTS = {EXACT: "no noise", SPSA: "SPSA", "ibm_kyiv": "Kyiv", "ibm_brisbane": "Brisbane"}
ACCURACIES = ("none", "random", "farthest", "QUID", "published: none/​random/​QUID", "status")
WHOLE = 50_000  # pictures that an autoencoder is shown where a published set is there whole
DIFFERENCES = ("QUID − random", "QUID − cyclic", "QUID − farthest")
CONTROLS_ARE = "Farthest: the rule of QUID on the latents themselves, without a circuit."
PAIRED = (
    "Differences of accuracy in points, paired over seeds, with their 95 % interval; below 0, QUID costs more. Cyclic: "
    "flips to the next class."
)
PUBLISHED_AS = (
    "Published: single runs. Reproduced: each published number of the row could be one more seed of ours (95 % "
    "prediction interval); trend only: QUID is below random flips in both."
)


def environment(regime: str, *, radian: bool = False) -> str:
    """Return where a model is trained and tested, as tables name it."""
    words = ENVIRONMENTS.get(regime, f"p = {regime.partition(':')[2]}") + (", 1 rad" if radian else "")
    return words.replace(" ", NBSP)


def is_full(config: QUIDStudy, table: Table, task: str) -> bool:
    """Return whether recipe and samples are the paper's, as far as it gives them, and its data set is there whole."""
    shown = [r.value for r in table.results if r.metric == "n_shown" and r.config["task"] == task]
    if not shown or shown[0] < WHOLE:
        return False
    reference = PRESETS["paper"]
    own = [t for t in (*config.tasks, config.large) if t is not None and t.name == task]
    same = [t for t in (*reference.tasks, reference.large) if t is not None and t.name == task]
    recipe = ("d", "d_large", "epochs", "batch_size", "lr", "ratio", "test_share", "autoencoder_epochs")
    fields = (*recipe, "shots", "noise", "strong_noise", "large_layers", "k")
    return own == same and all(getattr(config, f) == getattr(reference, f) for f in fields)


def scale(config: QUIDStudy, table: Table, tasks: Sequence[Task]) -> str:
    """Say at which size some tasks were run."""
    parts = []
    for task in tasks:
        n = len(task.classes) * task.per_class
        shown = next(
            (int(r.value) for r in table.results if r.metric == "n_shown" and r.config["task"] == task.name), 0
        )
        parts.append(f"{task.name} {n:,} samples, autoencoder on {shown:,} other pictures")
    return f"{'; '.join(parts)}. {seeds(len(config.seeds)).capitalize()}; percent, 95 % interval over seeds."


def name_of(task: str) -> str:
    """Return a task's name on one line."""
    return task.replace("-", HYPHEN)


def status(config: QUIDStudy, table: Table, specs: Sequence[Spec], theirs: published.Row | None) -> str:
    """Return how a row of accuracies compares with the published one, as far as both have the same models."""
    if theirs is None:
        return "–"
    both = {s: theirs[s.poison, s.ratio] for s in specs if (s.poison, s.ratio) in theirs}
    if is_full(config, table, specs[0].task) and all(
        agree(table.by_seed("accuracy", s).values(), value / 100) for s, value in both.items()
    ):
        return "reproduced"
    quid, random = (next(s for s in both if s.poison == name) for name in ("quid", "random"))
    below = both[quid] < both[random] and sign(table.paired([quid], [random])) < 0
    return "trend only" if below else "not reproduced"


def table2(config: QUIDStudy, table: Table, tasks: Sequence[Task], section: str) -> list[Panel]:
    """Return which labels encoded states suggest rightly, by distance."""
    rows: list[list[object]] = []
    ways = [*((m, USUAL) for m in METRICS), ("frobenius", NO_H), ("frobenius", ONE_RADIAN)]
    for task in (task.name for task in tasks):
        control = table.agreement(task=task, distance=CONTROL)
        if not control:
            continue
        for distance, encoder in ways:
            plain, noisy = (
                table.agreement(task=task, distance=distance, encoder=encoder, noise=noise)
                for noise in ("", config.noise)
            )
            theirs = published.TABLE2.get(task, {}).get(distance) if encoder == USUAL else None
            says = "–" if theirs is None else "reproduced" if agree(noisy, theirs / 100) else "not reproduced"
            if says == "reproduced" and not is_full(config, table, task):
                says = "trend only"
            rows.append(
                [
                    name_of(task),
                    distance if encoder == USUAL else f"{distance}; {encoder}",
                    mean(plain).percent(),
                    mean(noisy).percent(),
                    "–" if theirs is None else f"{theirs:.1f}",
                    says,
                ]
            )
        rows.append([name_of(task), CONTROL, mean(control).percent(), "–", "–", "–"])
    if not rows:
        return []
    return [
        Panel(
            "facts",
            f"Labels that encoded states suggest rightly, by distance ({section.partition(':')[0]})",
            "One half of each class suggests the labels of the other half: the class at the least mean distance. "
            f"Noise: {config.noise} on the encoder, as in the published column. The last row of a task needs no "
            f"circuit. {scale(config, table, tasks)}",
            section,
            data={
                "columns": ["task", "distance", "no noise", "with noise", "published, with noise", "status"],
                "rows": rows,
            },
        )
    ]


def table3(config: QUIDStudy, table: Table) -> list[Panel]:
    """Return poison of labels alone beside poison of samples and labels."""
    pqc, tasks, rows = config.pqcs[0], config.tasks, []
    for task in tasks:
        clean = Spec(task.name, pqc, config.strong_noise)
        random, quid, random2, quid2 = (
            Spec(task.name, pqc, config.strong_noise, name, config.ratio) for name in ("random", "quid", *BILEVEL)
        )
        if not table.has(clean, random, quid, random2, quid2):
            continue
        theirs = published.TABLE3.get(task.name)
        keys = [(s.poison, s.ratio) for s in (clean, random, quid, random2, quid2)]
        rows.append(
            [
                name_of(task.name),
                *(short(table.mean("accuracy", s)) for s in (clean, random, quid, random2, quid2)),
                _listed(theirs, keys),
                status(config, table, (clean, random, quid, random2, quid2), theirs),
            ]
        )
    if not rows:
        return []
    columns = ["task", "none", "random", "QUID", "bi-level random", "bi-level QUID"]
    return [
        Panel(
            "facts",
            "Label flips and bi-level poison (the paper's Table 3)",
            f"Accuracy at ratio {config.ratio:g}, {environment(config.strong_noise)}, circuit {pqc}. Bi-level: the "
            "poisoned samples are replaced by uniform draws, and labelled by the method. Published in the same order. "
            f"{PUBLISHED_AS} {scale(config, table, tasks)}",
            "Table 3: bi-level poison",
            data={"columns": [*columns, "published", "status"], "rows": rows},
        )
    ]


def by_environment(config: QUIDStudy, table: Table, part: str) -> list[Panel]:
    """Return Table 4 or 5: QUID and its controls where models are trained with and without noise."""
    if part == "table4":
        places, tasks = environments(config), config.tasks
        title = "Training with and without noise (the paper's Table 4)"
        section = "Table 4: noise"
    else:
        places, tasks = tuple((name, False) for name in config.devices), config.tasks[:2]
        title = "Noise models of devices (the paper's Table 5)"
        section = "Table 5: devices"
    rows, differences = [], []
    for task in tasks:
        for regime, radian in places:
            if part == "table4":
                theirs = None if regime == SPSA else published.TABLE4.get((task.name, regime != EXACT))
            else:
                theirs = published.TABLE5.get((task.name, regime))
            clean = Spec(task.name, config.pqcs[0], regime, radian=radian)
            if found := accuracies(config, table, clean, config.ratio, theirs):
                where = [name_of(task.name), environment(regime, radian=radian)]
                rows.append([*where, *found])
                differences.append([*where, *paired(table, clean, config.ratio)])
    if not rows:
        return []
    return [
        Panel(
            "facts",
            title,
            f"Accuracy at ratio {config.ratio:g}, circuit {config.pqcs[0]}, ± half of the interval. Without noise "
            f"slopes are exact; SPSA: without noise too; with noise they are SPSA's. Angles reach {config.scale:.3g} "
            f"pi, unless one radian is named. {CONTROLS_ARE} {PUBLISHED_AS} {scale(config, table, tasks)}",
            section,
            data={"columns": ["task", "environment", *ACCURACIES], "rows": rows},
        ),
        Panel(
            "facts",
            "QUID minus its controls",
            PAIRED,
            section,
            data={"columns": ["task", "environment", *DIFFERENCES], "rows": differences},
        ),
    ]


def accuracies(
    config: QUIDStudy, table: Table, clean: Spec, ratio: float, theirs: published.Row | None
) -> list[object]:
    """Return the cells of one row: accuracies, published numbers and status; empty without results."""
    random, farthest, quid = (replace(clean, poison=name, ratio=ratio) for name in ("random", "farthest", "quid"))
    if not table.has(clean, random, farthest, quid):
        return []
    return [
        *(short(table.mean("accuracy", s)) for s in (clean, random, farthest, quid)),
        _listed(theirs, [(s.poison, s.ratio) for s in (clean, random, quid)]),
        status(config, table, (clean, random, quid), theirs),
    ]


def paired(table: Table, clean: Spec, ratio: float) -> list[object]:
    """Return QUID minus each control."""
    random, cyclic, farthest, quid = (replace(clean, poison=name, ratio=ratio) for name in (*CONTROLS, "quid"))
    return [gap(table.paired([quid], [other])) for other in (random, cyclic, farthest)]


def table6(config: QUIDStudy, table: Table) -> list[Panel]:
    """Return accuracy by circuit and poison ratio."""
    tasks, rows, differences = config.tasks, [], []
    for task in tasks:
        for pqc in config.pqcs:
            for ratio in config.ratios:
                theirs = published.TABLE6.get((task.name, pqc))
                known = theirs if theirs and ("quid", ratio) in theirs else None
                clean = Spec(task.name, pqc, config.noise)
                if found := accuracies(config, table, clean, ratio, known):
                    where = [name_of(task.name), pqc, f"{ratio:g}"]
                    rows.append([*where, *found])
                    differences.append([*where, *paired(table, clean, ratio)])
    if not rows:
        return []
    section = "Table 6: poison ratio"
    return [
        Panel(
            "facts",
            "Circuits and poison ratios (the paper's Table 6)",
            f"Accuracy, {environment(config.noise)}, ± half of the interval. {CONTROLS_ARE} {PUBLISHED_AS} "
            f"{scale(config, table, tasks)}",
            section,
            data={"columns": ["task", "circuit", "ratio", *ACCURACIES], "rows": rows},
        ),
        Panel(
            "facts",
            "QUID minus its controls, by circuit and ratio",
            PAIRED,
            section,
            data={"columns": ["task", "circuit", "ratio", *DIFFERENCES], "rows": differences},
        ),
        Panel(
            "curves",
            "Accuracy by poison ratio",
            "Cyclic, farthest and QUID are labellings that a network can learn.",
            section,
            "accuracy",
            "ratio",
            "share of poisoned training samples",
            "test accuracy",
            "poison",
            where={
                "regime": config.noise,
                "pqc": config.pqcs[0],
                "defense": CLEAN,
                "radian": False,
                "poison": [*CONTROLS, "quid"],
                "ratio": list(config.ratios),
            },
            data={"facet": "task", "order": [*CONTROLS, "quid"], "chance": 1 / len(config.tasks[0].classes)},
        ),
    ]


def _listed(theirs: published.Row | None, keys: Sequence[tuple[str, float]]) -> str:
    """Return the published numbers of a row, in percent; a line may break after each."""
    if theirs is None:
        return "–"
    return "/\u200b".join(f"{theirs[key]:g}" if key in theirs else "–" for key in keys)
