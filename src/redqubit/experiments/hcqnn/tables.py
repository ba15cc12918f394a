"""The tables of the paper, ours beside the published numbers, and what they lack."""

from collections.abc import Sequence
from dataclasses import replace

from redqubit.experiments.hcqnn import published
from redqubit.experiments.hcqnn.config import IRIS, MNIST, POOLED, PRESETS, STANDARDISED, HCQNNStudy, Task
from redqubit.experiments.hcqnn.judgement import judged
from redqubit.experiments.hcqnn.networks import BEHIND, KINDS, NONE, PLACED, defenses, static
from redqubit.experiments.hcqnn.plan import GREY, NOISY, TRANSFER, WHITE
from redqubit.experiments.hcqnn.restored import AFTER, BEFORE, METRICS
from redqubit.experiments.hcqnn.table import BySeed, Table, gain, mean_of
from redqubit.experiments.seeds import HYPHEN, NBSP, agree, gap, seeds, short, sign
from redqubit.result import Panel

MEASURES = {"mse": "mean squared error", "cosine": "cosine, mean", "cosine_of_set": "cosine, whole set"}
PUBLISHED_AS = (
    "Published: single runs. Reproduced: the published number could be one more seed of ours (95 % prediction "
    "interval); trend only: not so, but ours differ in the same direction."
)
COLUMNS2 = ["task", "radius", "none", "autoencoder", "adversarial", "autoencoder − none", "published", "status"]
JUDGED = ["network", "defense", "clean", "FGSM, grey", "FGSM, white", "PGD", "worst", "gain", "verdict"]
VERDICTS = {  # outcomes, as short as a column is wide
    "helps": "helps",
    "only blocks an attacker who does not know it": f"blocks the{NBSP}unaware",
    "hurts": "hurts",
    "unclear": "unclear",
}
OF_TABLE1 = {IRIS, STANDARDISED}
ENOUGH = 5  # seeds, below which any number lies in the prediction interval
COMPARED = {IRIS, STANDARDISED, MNIST, POOLED}  # tasks that could be the paper's


def one_line(text: str) -> str:
    """Return a text that does not break."""
    return text.replace("-", HYPHEN).replace(" ", NBSP)


def name_of(defense: str) -> str:
    """Return a defense's name in tables."""
    how, _, eps = defense.partition(" ")
    if how in ("static", "online"):
        return f"{'once' if how == 'static' else one_line('on-line')},{NBSP}{eps}"
    return {BEHIND: "trained behind it"}.get(defense, defense)


def is_full(config: HCQNNStudy, task: Task) -> bool:
    """Return whether samples and recipe are those of the largest preset, apart from the number of seeds."""
    reference = PRESETS["paper"]
    same = [t for t in reference.tasks if replace(t, seeds=task.seeds) == task]
    return bool(same) and replace(config, tasks=()) == replace(reference, tasks=())


def meets(ours: BySeed, theirs: float) -> bool:
    """Return whether a published number could be one more seed of ours, where there are enough to tell."""
    return len(ours) >= ENOUGH and agree(ours.values(), theirs)


def size(table: Table, tasks: Sequence[Task]) -> str:
    """Say at which size some tasks were run."""
    parts = [
        f"{t.name} {t.n_train:,} + {table.trials(t.name):,} samples, {seeds(table.n_seeds(t.name))}" for t in tasks
    ]
    return f"{'; '.join(parts)}; each seed draws them anew."


def number(found: BySeed) -> str:
    """Return a number that is no share, with half of its interval."""
    m = mean_of(found)
    return f"{m.value:.3f}{NBSP}±{NBSP}{(m.high - m.low) / 2:.3f}" if found else "–"


def networks(config: HCQNNStudy, table: Table) -> list[Panel]:
    """Return what was trained on what."""
    rows = []
    for task in config.tasks:
        if not table.accuracy(task.name):
            continue
        weights = [
            f"{int(next(iter(table.by_seed('n_weights', task.name, network=kind).values())).value):,}" for kind in KINDS
        ]
        clean = [short(mean_of(table.accuracy(task.name, network=kind))) for kind in KINDS]
        labels = ", ".join(map(str, task.classes)) or "all"
        rows.append(
            [
                task.name,
                task.source,
                labels,
                task.encoding,
                f"{task.n_train:,} + {task.n_test:,}",
                table.n_seeds(task.name),
                weights[0],
                clean[0],
                weights[1],
                clean[1],
            ]
        )
    columns = ["task", "data", "classes", "encoding", "samples", "seeds", "weights", "accuracy"]
    return (
        [
            Panel(
                "facts",
                "Networks without attack or defense",
                "Weights and clean test accuracy, percent with half of its 95 % interval over seeds, of the circuit "
                "and of its classical twin: a perceptron in place of the circuit, with the same inputs, as many hidden "
                "units as qubits and the same bounded read-out.",
                "Networks and samples",
                data={"columns": [*columns, "twin: weights", "twin: accuracy"], "rows": rows},
            )
        ]
        if rows
        else []
    )


def table1(config: HCQNNStudy, table: Table) -> list[Panel]:
    """Return how near the autoencoder brings samples to the clean ones."""
    tasks = [t for t in config.tasks if table.by_seed("mse", t.name)]
    rows = []
    for task in tasks:
        for metric in METRICS:
            for change in (NOISY, GREY):
                before, after = (
                    table.by_seed(metric, task.name, change=change, stage=stage) for stage in (BEFORE, AFTER)
                )
                theirs = published.TABLE1[metric.removesuffix("_of_set"), change] if task.name in OF_TABLE1 else None
                rows.append(
                    [
                        task.name,
                        MEASURES[metric],
                        "noise" if change == NOISY else "FGSM",
                        number(before),
                        number(after),
                        "–" if theirs is None else one_line(f"{theirs[0]:.3f} → {theirs[1]:.3f}"),
                        "–" if theirs is None else status1(config, task, metric, before, after, theirs[1]),
                    ]
                )
    if not rows:
        return []
    settings = "; ".join(f"{t.name}: noise {t.noise:g}, FGSM radius {t.shown_eps:g}" for t in tasks)
    return [
        Panel(
            "facts",
            "Samples before and after the autoencoder (the paper's Table 1)",
            "Test samples against the clean ones, ± half of the 95 % interval over seeds. FGSM made on the bare "
            f"circuit. {settings}. The errors before the autoencoder follow from these settings, which were taken from "
            f"the published errors of Iris: status is of the restored samples. {PUBLISHED_AS} {size(table, tasks)}",
            "Table 1: what is restored",
            data={
                "columns": ["task", "measure", "change", "before", "restored", "published", "status"],
                "rows": rows,
            },
        )
    ]


def status1(config: HCQNNStudy, task: Task, metric: str, before: BySeed, after: BySeed, theirs: float) -> str:
    """Return how restored samples compare with the published ones."""
    if is_full(config, task) and meets(after, theirs):
        return "reproduced"
    return "trend only" if sign(gain(after, before)) == (-1 if metric == "mse" else 1) else "not reproduced"


def figure4(config: HCQNNStudy, table: Table) -> list[Panel]:
    """Return accuracy by radius on features."""
    tasks = [t for t in config.tasks if not t.is_picture and table.accuracy(t.name)]
    rows = []
    for task in tasks:
        for eps in task.eps:
            bare = table.accuracy(task.name, NONE, GREY, eps)
            placed = table.accuracy(task.name, PLACED, GREY, eps)
            theirs = published.FIGURE4.get(eps) if task.name in COMPARED else None
            rows.append(
                [task.name, f"{eps:g}", short(mean_of(bare)), short(mean_of(placed))]
                + [short(mean_of(table.accuracy(task.name, BEHIND, GREY, eps)))]
                + ["–" if theirs is None else f"{theirs:.1f}", _status(config, task, placed, theirs, bare)]
                + [short(mean_of(table.accuracy(task.name, d, WHITE, eps))) for d in (PLACED, BEHIND)]
            )
    columns = ["task", "radius", "none", "autoencoder", "trained behind it", "published", "status"]
    panels = (
        [
            Panel(
                "facts",
                "Accuracy under FGSM with and without the autoencoder (the paper's Figure 4)",
                "Percent, ± half of the 95 % interval over seeds. Grey-box, where not said: examples are made on the "
                "bare circuit and shown to all; white-box: on the network with its autoencoder. Trained behind it: the "
                f"circuit learns from what the autoencoder returns. {PUBLISHED_AS} {size(table, tasks)}",
                "Figure 4: Iris",
                data={"columns": [*columns, "white-box: autoencoder", "white-box: behind it"], "rows": rows},
            )
        ]
        if rows
        else []
    )
    return panels


def table2(config: HCQNNStudy, table: Table) -> list[Panel]:
    """Return accuracy by radius on pictures, before attackers who do not know the defense and before those who do."""
    tasks = [t for t in config.tasks if t.is_picture and table.accuracy(t.name)]
    rows, known, transferred = [], [], []
    hardened = static(config.static_eps[-1])
    names = (NONE, *defenses(config))
    for task in tasks:
        for eps in task.eps:
            bare, placed, trained = (table.accuracy(task.name, d, GREY, eps) for d in (NONE, PLACED, hardened))
            theirs = published.TABLE2.get(eps) if task.name in COMPARED else None
            where = [task.name, f"{eps:g}"]
            rows.append(
                [
                    *where,
                    *(short(mean_of(a)) for a in (bare, placed, trained)),
                    gap(gain(placed, bare)),
                    "–" if theirs is None else one_line(" / ".join(f"{v:.1f}" for v in theirs)),
                    "–" if theirs is None else _status2(config, task, (bare, placed, trained), theirs),
                ]
            )
            known.append([*where, *(short(mean_of(table.accuracy(task.name, d, WHITE, eps))) for d in names)])
            transferred.append([*where, *(short(mean_of(table.accuracy(task.name, d, TRANSFER, eps))) for d in names)])
    if not rows:
        return []
    section = "Table 2: pictures"
    wide = ["task", "radius", *map(name_of, names)]
    return [
        Panel(
            "facts",
            "Accuracy under FGSM made on the bare circuit (the paper's Table 2)",
            "Grey-box, percent, ± half of the 95 % interval over seeds: one set of examples is shown to all. "
            f"Adversarial training is the paper's: examples made once, radius {config.static_eps[-1]:g}. Published in "
            f"the order none / autoencoder / adversarial training; status is of all three. {PUBLISHED_AS} "
            f"{size(table, tasks)}",
            section,
            data={
                "columns": COLUMNS2,
                "rows": rows,
            },
        ),
        Panel(
            "facts",
            "Accuracy under FGSM made on the defended network itself",
            "White-box, percent: each column has examples of its own, made through the autoencoder where there is "
            "one. Once: adversarial training with examples made beforehand, at that radius; on-line: with fresh PGD "
            "examples.",
            section,
            data={"columns": wide, "rows": known},
        ),
        Panel(
            "facts",
            "Accuracy under FGSM made on a network of on-line adversarial training",
            f"Transfer, percent, from the network of radius {config.online_eps[0]:g}, in whose own column this is the "
            "white-box attack.",
            section,
            data={"columns": wide, "rows": transferred},
        ),
    ]


def _status(config: HCQNNStudy, task: Task, ours: BySeed, theirs: float | None, bare: BySeed) -> str:
    if theirs is None:
        return "–"
    if is_full(config, task) and meets(ours, theirs / 100):
        return "reproduced"
    return "trend only" if sign(gain(ours, bare)) > 0 else "not reproduced"


def _status2(config: HCQNNStudy, task: Task, ours: Sequence[BySeed], theirs: Sequence[float]) -> str:
    """Return how a row of Table 2 compares: the trend is that the autoencoder is above the other two."""
    if is_full(config, task) and all(meets(a, b / 100) for a, b in zip(ours, theirs, strict=True)):
        return "reproduced"
    above = [sign(gain(ours[1], other)) > 0 for other in (ours[0], ours[2])]
    return "trend only" if all(above) else "not reproduced"


def verdicts(config: HCQNNStudy, table: Table) -> list[Panel]:
    """Return every defense under the worst of all attacks."""
    out = []
    for task in (t for t in config.tasks if table.accuracy(t.name)):
        for eps in config.judged_eps:
            rows = [
                row
                for kind in KINDS
                for defense in defenses(config, kind)
                if (row := _judged(table, task, defense, eps, kind))
            ]
            if not rows:
                continue
            n = min(config.judged_samples, table.trials(task.name))
            out.append(
                Panel(
                    "facts",
                    f"{task.name}: defenses at radius {eps:g}",
                    "Percent, ± half of the 95 % interval over seeds: clean samples; FGSM made on the bare network "
                    f"(grey) and on the defended one (white); PGD with {config.judged_steps} steps through the "
                    "defense; the worst of all on each sample, with transfer from the network of on-line training at "
                    f"radius {config.online_eps[0]:g}, and with {config.queries:,} queries without gradient. Gain: "
                    "what the worst leaves with the defense minus without it, in points, paired over seeds. Blocks the "
                    "unaware: helps against an attacker who does not know it, and no other. The last three numbers on "
                    f"{n:,} samples of each of {seeds(table.n_seeds(task.name))}.",
                    "Defenses before an attacker who knows them",
                    data={
                        "columns": JUDGED,
                        "rows": rows,
                    },
                )
            )
    return out


def _judged(table: Table, task: Task, defense: str, eps: float, kind: str) -> list[object]:
    """Return a defense's row; empty without results."""
    found = judged(table, task, defense, eps, kind)
    if found is None:
        return []
    shown = [
        table.accuracy(task.name, defense, network=kind),
        table.accuracy(task.name, defense, GREY, eps, kind),
        table.accuracy(task.name, defense, WHITE, eps, kind),
        table.by_seed("pgd_accuracy", task.name, network=kind, defense=defense, side="with", eps=eps),
        table.worst(task.name, defense, eps, network=kind),
    ]
    cells = [short(mean_of(number)) for number in shown]
    return [kind, name_of(defense), *cells, gap(found.adaptive), VERDICTS[found.verdict.outcome]]
