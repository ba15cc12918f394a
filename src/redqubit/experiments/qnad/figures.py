"""Figures 3 to 14: accuracy by radius, and by fraction of the weights with crosstalk."""

from redqubit.experiments.qnad.config import INTRINSIC, QNADStudy
from redqubit.experiments.qnad.plan import NAMES, NONE, ON_TEST, RAW, VALIDATED, figure
from redqubit.experiments.qnad.table import Table
from redqubit.experiments.seeds import seeds
from redqubit.result import Panel


def figures(config: QNADStudy, table: Table, parts: tuple[str, ...]) -> list[Panel]:
    """Return the figures whose cases were run."""
    out = []
    for part in parts:
        if not part.startswith("figure"):
            continue
        place, attack, along = figure(part)
        case = config.cases[place]
        if not table.has(case):
            continue
        of = f"{case.name}, {case.n_test:,} pictures; {seeds(len(config.seeds))}, 95 % interval"
        section = f"Figure {part.removeprefix('figure')}: {NAMES[attack]}, {case.name}"
        chance = 1 / table.n_classes(case)
        if along == "eps":
            out.append(
                Panel(
                    "curves",
                    "Accuracy by radius",
                    f"Attacks made on the network itself, as in the paper. {of}.",
                    section,
                    "accuracy",
                    "eps",
                    "radius",
                    "accuracy",
                    "defense",
                    where={"case": case.name, "attack": attack},
                    data={"order": [NONE, INTRINSIC, RAW, VALIDATED, ON_TEST], "unit": "%", "chance": chance},
                )
            )
        else:
            out.append(
                Panel(
                    "curves",
                    "Accuracy by fraction of the weights with crosstalk",
                    "Attacks made on the network itself, by radius; a plot for each number of pairs of CX. At 0 there "
                    f"is the device's own noise. Weights of greatest gradient. {of}.",
                    section,
                    "level_accuracy",
                    "fraction",
                    "fraction of weights",
                    "accuracy",
                    "eps",
                    where={"case": case.name, "attack": attack, "split": "test"},
                    data={"facet": "pairs", "unit": "%", "chance": chance},
                )
            )
    return out
