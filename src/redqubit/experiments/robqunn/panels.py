"""The figures and tables of the RobQuNN report."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from redqubit.experiments.robqunn.config import CLASSICAL, MODELS, QUANTUM, RobQuNN
from redqubit.experiments.robqunn.table import Table, paired
from redqubit.quantum import ansatzes, encodings
from redqubit.result import Panel
from redqubit.statistics import Difference

FIGURES = "The paper's figures, ZZ before Rot"
PRINTED = "The circuit as printed"
CONTROLS = "Controls"


def panels(config: RobQuNN, table: Table) -> list[Panel]:
    """Return the paper's figures in both orders, and the controls."""
    mean = f"Mean over {config.draws} draws with the 95 % t interval"
    samples = {"fgsm": config.n_test, "pgd": config.n_iterative, "mim": config.n_iterative}
    figures = {"3a": "fgsm", "3b": "pgd", "3c": "mim"}
    printed = ["none", "random", *CLASSICAL]
    out = [
        _curves(
            f"{attack.upper()} (the paper's figure {figure})",
            f"{mean}; {samples[attack]:,} test samples.",
            FIGURES,
            {"attack": attack},
            {"order": ["quantum", "classical", *MODELS], "facet": "family"},
        )
        for figure, attack in figures.items()
    ]
    for figure, direction, title in (
        ("3d", "to_quantum", "examples of the frozen CNN shown to the quantum models"),
        ("3e", "to_classical", "examples of the quantum models shown to the frozen CNN"),
    ):
        title = f"Transfer: {title} (the paper's figure {figure})"
        caption = f"{mean}; FGSM, {config.n_test:,} test samples. Lines are named after the quantum model."
        where, order = {"direction": direction}, {"order": list(QUANTUM)}
        out.append(_curves(title, caption, FIGURES, where, order, "transfer"))
    out.append(
        Panel(
            "facts",
            "Paired differences, in points of accuracy",
            "Each cell: mean over draws of the difference of robust accuracy, averaged over the eps grid, with its "
            "95 % interval. An interval that excludes 0 is marked by an asterisk.",
            FIGURES,
            data=_differences(config, table),
        )
    )
    out += [
        _curves(
            f"{attack.upper()} in the printed order (figure {figure})",
            'The line "none" is also linear, star and full: they are one function, so they were attacked once.',
            PRINTED,
            {"attack": attack, "model": printed},
            {"order": printed},
        )
        for figure, attack in figures.items()
    ]
    drawings = {
        "Full entanglement as printed": ansatzes.robqunn("full", order="as_written", phi=config.phi),
        "Full entanglement with ZZ first": ansatzes.robqunn("full", order="zz_first", phi=config.phi),
        "Random": ansatzes.robqunn("random"),
    }
    for title, circuit in drawings.items():
        out.append(Panel("pre", title, section=PRINTED, data={"text": str(encodings.angle(4) + circuit)}))
    return out + _controls(config, table)


def _curves(
    title: str,
    caption: str,
    section: str,
    where: Mapping[str, object],
    data: Mapping[str, object],
    metric: Literal["robust", "transfer"] = "robust",
) -> Panel:
    return Panel(
        "curves",
        title,
        caption,
        section,
        f"{metric}_accuracy",
        "eps",
        "eps (L-infinity, pixels in [0, 1])",
        "accuracy under attack" if metric == "robust" else "accuracy of the target",
        "model",
        where,
        {**data, "chance": 0.1},
    )


def _controls(config: RobQuNN, table: Table) -> list[Panel]:
    return [
        _curves(
            "PGD with a random start",
            "The paper's library starts at x itself, where ReLU and the cosine can have no slope. "
            f"{config.n_iterative:,} test samples.",
            CONTROLS,
            {"attack": "pgd_random_start"},
            {"order": ["quantum", "classical", *MODELS], "facet": "family"},
        ),
        Panel(
            "table",
            f"Accuracy under each attack at eps {config.probe_eps:g}",
            f"pgd: {config.pgd_steps} relative steps from x itself, as CleverHans starts; pgd_random_start: from a "
            "random point of the ball; pgd_absolute_step: 40 steps of 0.01 at most; fgsm_softmax: the probabilities "
            "attacked as if they were logits; pgd_square_samples: pgd on the samples that Square sees; pgd_from_cnn: "
            "examples of the frozen CNN.",
            CONTROLS,
            "robust_accuracy",
            "model",
            group="attack",
            where={"eps": config.probe_eps},
            data={"order": list(MODELS)},
        ),
        Panel(
            "facts",
            "Input gradients of the cross-entropy on clean test samples",
            "Mean over draws. The derivative of cos(pi x) vanishes at x = 0 and 1, where most MNIST pixels are; the "
            "derivative of sin(pi x) does not.",
            CONTROLS,
            data={
                "columns": ["model", "entries exactly 0", "median |gradient|", "clean accuracy"],
                "rows": [
                    [
                        m,
                        f"{np.mean(table.draws('zero_gradient_entries', m)):.1%}",
                        f"{np.mean(table.draws('median_gradient', m)):.2e}",
                        f"{np.mean(table.draws('accuracy', m)):.1%}",
                    ]
                    for m in MODELS
                ],
            },
        ),
    ]


def _differences(config: RobQuNN, table: Table) -> dict[str, object]:
    grids = {"FGSM": config.eps, "PGD": config.iterative_eps, "MIM": config.iterative_eps}
    pairs = [(m, "none") for m in ("linear", "star", "full", "random")]
    pairs += [("full", c) for c in CLASSICAL] + [("none", "CNN frozen")]

    def cell(d: Difference) -> str:
        mark = "*" if d.low > 0 or d.high < 0 else ""
        return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]{mark}"

    def area(model: str, attack: str) -> list[float]:
        return table.area(model, attack.lower(), grids[attack])

    return {
        "columns": ["comparison", *grids],
        "rows": [[f"{a} minus {b}", *(cell(paired(area(a, g), area(b, g))) for g in grids)] for a, b in pairs],
    }
