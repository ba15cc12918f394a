"""The section on defenses in the report of an audit."""

from redqubit.adaptive import Outcome
from redqubit.auditing.defense_verdict import CLEAN, MEAN_PART, ONE_DRAW, STRAIGHT, DefenseTable, relative
from redqubit.auditing.defenses import RADII, TRANSFER, WITH, WITHOUT, WORST
from redqubit.result import Panel
from redqubit.statistics import Difference, smallest_detectable_difference

SECTION = "Defenses"
GAUSSIAN = "gaussian"
SHORT: dict[Outcome, str] = {"only blocks an attacker who does not know it": "only blocks"}


def defense_panels(table: DefenseTable) -> list[Panel]:
    """Return the tables and the certificates of the section on defenses."""
    out = [
        panel
        for model in (s.name for s in table.plan.subjects)
        for panel in (_worth(table, model), _paths(table, model), _left(table, model))
    ]
    certified = [r.config["defense"] for r in table.results if r.metric == "certified_accuracy"]
    if certified:
        out.append(
            Panel(
                "curves",
                "Certified accuracy by L2 radius",
                "Right, and certified to be so within the radius, which is wrong for a sample with probability 0.001 "
                f"at most; radii of {', '.join(f'{r:g}' for r in RADII)} times the noise.",
                SECTION,
                "certified_accuracy",
                "radius",
                "L2 radius, inputs in [0, 1]",
                "certified accuracy",
                "model",
                data={"facet": "defense", "order": [*dict.fromkeys(certified), *(s.name for s in table.plan.subjects)]},
            )
        )
    return [*out, _settings(table)] if table.plan.applied else []


def _worth(table: DefenseTable, model: str) -> Panel:
    """Return the verdicts: absolute accuracies and gains, the clean cost first."""
    n, rows = table.plan.n_test, []
    for name in table.defenses(model):
        found = table.judged(model, name)
        verdict = "cannot be judged" if table.weak(model) else SHORT.get(found.verdict.outcome, found.verdict.outcome)
        clean, worst = (_change(table, model, name, made) for made in (CLEAN, WORST))
        rows.append([name, verdict, clean, worst, _gain(found.clean), _gain(found.adaptive)])
    return Panel(
        "facts",
        f"What each defense is worth to {model} at eps {table.config.judged_eps:g}",
        f"Accuracy in percent on {n:,} test samples, without → with the defense. Worst of all: each sample meets the "
        "attack that fools most, on either side. Gains: with minus without, in points, with 95 % intervals paired over "
        "seeds, or over samples where there is one; that under the worst decides. A clean gain below 0 is the clean "
        "cost. Only blocks: an attacker who does not know the defense. Not paired, so many samples can be expected to "
        f"show {100 * smallest_detectable_difference(n):.0f} points.",
        SECTION,
        data={
            "columns": ["defense", "verdict", "clean", "worst of all", "clean gain", "gain, worst of all"],
            "rows": rows,
        },
    )


def _paths(table: DefenseTable, model: str) -> Panel:
    """Return the four paths, with the control by Gaussian noise and the number that papers print."""
    rows: list[list[object]] = []
    for name in table.defenses(model):
        bare, shown, back, through, control = (
            _percent(table, model, name, *path)
            for path in ((WITHOUT, WITHOUT), (WITHOUT, WITH), (WITH, WITHOUT), (WITH, WITH), (GAUSSIAN, GAUSSIAN))
        )
        gain = 100 * table.gain(model, name, WITHOUT, WITHOUT).value
        rows.append([name, bare, shown, back, through, control, f"{gain:+.1f}", relative(table, model, name, WITHOUT)])
    return Panel(
        "facts",
        f"The four paths for {model}",
        f"Accuracy in percent under PGD of {table.config.defense_steps} steps, mean over seeds: made against the model "
        "without or with the defense, and evaluated on it without or with. Control, of a random defense: the bare "
        "model with Gaussian noise of the same power on its logits, attacked itself. Gain, in points, and relative "
        "gain are those against the attack that does not know the defense, as published numbers often are.",
        SECTION,
        data={
            "columns": [
                *("defense", "without → without", "without → with", "with → without", "with → with", "control"),
                *("gain", "relative gain"),
            ],
            "rows": rows,
        },
    )


def _left(table: DefenseTable, model: str) -> Panel:
    """Return what each attack leaves of a model with each defense."""
    rows: list[list[object]] = []
    made = (ONE_DRAW, MEAN_PART, STRAIGHT, f"fgsm {WITHOUT}", f"fgsm {WITH}", f"square {WITH}", TRANSFER, WORST)
    for name in table.defenses(model):
        draws = ", ".join(f"{r.value:.0f}" for r in table.found(model, name, "eot_draws"))
        rows.append([name, draws, *(_percent(table, model, name, source, WITH) for source in made)])
    return Panel(
        "facts",
        f"What other attacks leave of {model} with each defense",
        "Accuracy in percent, mean over seeds. PGD through one draw of the defense, through its mean logits where it "
        "is random, and with the gradient of the bare model; FGSM made without it and through it; Square with "
        f"{table.config.defense_queries} queries; PGD made on the other model. Draws: passes that attacks average, by "
        f"seed, as many as make a difference, {table.config.defense_draws} at most.",
        SECTION,
        data={
            "columns": [
                *("defense", "draws", "one draw", "mean", "bare gradient", "FGSM without", "FGSM with", "queries"),
                *("transfer", "worst of all"),
            ],
            "rows": rows,
        },
    )


def _settings(table: DefenseTable) -> Panel:
    """Return what was put on the models, and what was not."""
    rows: list[list[object]] = []
    for name in table.config.defenses:
        said: dict[str, list[str]] = {}
        for subject in table.plan.applied.get(name, ()):
            setting = table.found(subject.name, name, "eot_draws")[0].config["setting"]
            said.setdefault(setting, []).append(subject.name)
        rows += [[name, ", ".join(models), setting] for setting, models in said.items()]
        rows += [[name, m, f"not tried: {why}"] for (d, m), why in table.plan.refused.items() if d == name]
    return Panel(
        "facts",
        "The defenses",
        "Each holds the training set. Those that train go on from the weights of the model, so that it is also trained "
        "longer, one that came with its weights too. Noisy products leave circuits as they are.",
        SECTION,
        data={"columns": ["defense", "model", "setting"], "rows": rows},
    )


def _percent(table: DefenseTable, model: str, name: str, made: str, judged: str) -> str:
    """Return the accuracy on a path, or a dash where there is none."""
    found = table.found(model, name, "defense_accuracy", made=made, judged=judged)
    return f"{100 * sum(r.value for r in found) / len(found):.1f}" if found else "–"


def _change(table: DefenseTable, model: str, name: str, made: str) -> str:
    return "\u00a0→\u00a0".join(_percent(table, model, name, made, side) for side in (WITHOUT, WITH))


def _gain(d: Difference) -> str:
    return f"{100 * d.value:+.1f}\u00a0[{100 * d.low:+.1f},\u00a0{100 * d.high:+.1f}]"
