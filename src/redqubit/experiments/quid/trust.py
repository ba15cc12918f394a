"""What must be right before the numbers mean anything, and what they do not show."""

from redqubit.experiments.quid.config import QUIDStudy
from redqubit.experiments.quid.plan import CLEAN, Spec
from redqubit.experiments.quid.table import Table
from redqubit.experiments.quid.tables import environment
from redqubit.result import Flag

WRONG = 0.6  # least share of the chosen samples whose label must change: below it a poison is hardly one


def flags(config: QUIDStudy, table: Table) -> tuple[Flag, ...]:
    """Return the trust checks."""
    return (*_learns(config, table), *_poisoned(table))


def _learns(config: QUIDStudy, table: Table) -> list[Flag]:
    """Return whether networks learn without poison, by circuit and environment."""
    out = []
    specs = dict.fromkeys(
        Spec(r.config["task"], r.config["pqc"], r.config["regime"], radian=r.config["radian"])
        for r in table.results
        if r.metric == "accuracy" and r.config.get("poison") == CLEAN and "epoch" not in r.config
    )
    for pqc, regime, radian in dict.fromkeys((s.pqc, s.regime, s.radian) for s in specs):
        own = [s for s in specs if (s.pqc, s.regime, s.radian) == (pqc, regime, radian)]
        accuracies = {s.task: table.mean("accuracy", s).value for s in own}
        chance = {t.name: 1 / len(t.classes) for t in config.tasks}
        poor = sorted(t for t, a in accuracies.items() if a < 2 * chance[t])
        least, most = min(accuracies.values()), max(accuracies.values())
        out.append(
            Flag(
                "accuracy",
                "warning" if poor else "ok",
                f"Without poison networks reach {100 * least:.0f} to {100 * most:.0f} %"
                + (f", too little to compare poisons on {', '.join(poor)}." if poor else "."),
                {"least": least, "most": most},
                f"circuit {pqc}, {environment(regime, radian=radian)}",
            )
        )
    return out


def _poisoned(table: Table) -> list[Flag]:
    """Return whether poisons change as many labels as they may."""
    out = []
    for poison in ("random", "quid", "farthest", "cyclic"):
        shares = [
            r.value / r.config["ratio"]
            for r in table.results
            if r.metric == "wrong_labels" and r.config["poison"] == poison
        ]
        if shares:
            least = min(shares)
            out.append(
                Flag(
                    "wrong-labels",
                    "ok" if least >= WRONG else "warning",
                    f"At least {100 * least:.0f} % of the chosen samples get another label than their own.",
                    {"least": least},
                    poison,
                )
            )
    return out


def limits(config: QUIDStudy) -> tuple[str, ...]:
    """Return what this run does not show."""
    names = {task.source for task in config.tasks}
    out = [
        "Intervals are over seeds, which draw samples (where there are more than a task takes), splits, poison, "
        "weights and order anew; the tasks are fixed, and each has one autoencoder.",
        "Training uses analytic expectation values, shots only the test: with shots in training a step of 1e-5 is all "
        "noise.",
        "The paper leaves open the gate before RZ, the scaling of angles, the layers of the circuits and the order of "
        "the channels; one choice was made of each beforehand. Of angles, that was up to pi, and one radian its "
        "ablation.",
        "Thresholds and numbers of neighbours of the sanitizers were not tuned, and the attack on them knows both.",
        "Circuit 1 on this encoder is a product of sines of single qubits: what holds for it is no quantum effect.",
    ]
    if "emnist_letters" not in names or "kmnist" not in names:
        out.append(
            "Kuzushiji-4 and Letters-4 (EMNIST) were not run; Capitals-4 and Devanagari-4 stand in for them, and have "
            "no published numbers. With these data at hand: --preset paper."
        )
    return tuple(out)
