"""What must be right before the numbers mean anything, and what they do not show."""

from redqubit.experiments.hcqnn.config import IRIS, MNIST, PRESETS, HCQNNStudy
from redqubit.experiments.hcqnn.networks import KINDS, NONE, defenses
from redqubit.experiments.hcqnn.table import Table, gain, mean_of
from redqubit.result import Flag

MARGIN = 0.05  # by which queries must beat the gradient before it counts as masked


def flags(config: HCQNNStudy, table: Table) -> tuple[Flag, ...]:
    """Return the trust checks."""
    return (*_learns(config, table), *_masked(config, table))


def _learns(config: HCQNNStudy, table: Table) -> list[Flag]:
    """Return whether networks learn, without a defense and with each: one that guesses is robust of nothing."""
    out = []
    for task in config.tasks:
        chance = 1 / (len(task.classes) or 3)
        for kind in KINDS:
            found = {
                name: mean_of(accuracy).value
                for name in (NONE, *defenses(config, kind))
                if (accuracy := table.accuracy(task.name, name, network=kind))
            }
            if not found:
                continue
            poor = [name for name, value in found.items() if value < 2 * chance]
            least, most = min(found.values()), max(found.values())
            out.append(
                Flag(
                    "accuracy",
                    "warning" if poor else "ok",
                    f"Clean samples: {100 * least:.0f} to {100 * most:.0f} % with all defenses"
                    + (f"; less than twice chance, so collapsed: {', '.join(poor)}." if poor else "."),
                    {"least": least, "most": most},
                    f"{task.name}, {kind}",
                )
            )
    return out


def _masked(config: HCQNNStudy, table: Table) -> list[Flag]:
    """Return whether queries without a gradient leave less than PGD does: then the gradient misleads."""
    out = []
    for task in config.tasks:
        for kind in KINDS:
            worst = {}
            for defense in defenses(config, kind):
                for eps in config.judged_eps:
                    where = {"network": kind, "defense": defense, "side": "with", "eps": eps}
                    d = gain(
                        table.by_seed("pgd_accuracy", task.name, **where),
                        table.by_seed("queried_accuracy", task.name, **where),
                    )
                    if d is not None:
                        worst[f"{defense} at {eps:g}"] = d
            if not worst:
                continue
            masked = [name for name, d in worst.items() if d.low > 0 and d.value > MARGIN]
            most = max(d.value for d in worst.values())
            out.append(
                Flag(
                    "gradient-masking",
                    "warning" if masked else "ok",
                    (
                        f"Queries leave less than PGD does, so that its gradient misleads: {', '.join(masked)}."
                        if masked
                        else "PGD leaves no more than queries without a gradient do."
                    ),
                    {"most": most},
                    f"{task.name}, {kind}",
                )
            )
    return out


def limits(config: HCQNNStudy, table: Table) -> tuple[str, ...]:
    """Return what this run does not show."""
    names = {task.name for task in config.tasks}
    out = [
        "Intervals are over seeds, which draw samples, splits, weights, noise and order anew.",
        "Sizes, encodings, circuits, scaling, noise and training are not in the paper: one choice was made of each, "
        "so that a published number that is not met says little about the paper, and one that is met neither.",
        "Circuits are simulated exactly, without noise or shots.",
        "The worst of all attacks is worse than what one attacker gets with one attack.",
        "All attacks are untargeted and bounded in each feature; others may find more.",
        "A gain that is left may fall to an attack that was not tried.",
    ]
    full = {task.name: task for task in PRESETS["paper"].tasks}
    if not {IRIS, MNIST} <= names or any(
        table.n_seeds(t.name) < len(full[t.name].seeds) for t in config.tasks if t.name in full
    ):
        out.append("Fewer seeds than in --preset paper, or other data.")
    return tuple(out)
