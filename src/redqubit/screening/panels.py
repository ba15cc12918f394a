"""The figures and tables of a screening."""

from collections.abc import Mapping
from typing import Any

import torch

from redqubit.result import Panel
from redqubit.screening.cells import FEATURES, STATES, WORDS, class_names
from redqubit.screening.verdict import Screened

LISTED = 30  # labels in the table of a report
MOST = 30  # classes of which the distances are drawn; of more they are in results.jsonl alone
UNITS = {STATES: "distance of states", FEATURES: "Euclidean distance"}


def panels(table: Screened, pictures: Mapping[str, Any]) -> list[Panel]:
    """Return what to show of a screening.

    Args:
        table: What was measured.
        pictures: Data of the panel with the most suspicious samples; empty when there are none.
    """
    return [*_labels(table, pictures), *_control(table), *_classes(table), *_setting(table)]


def _labels(table: Screened, pictures: Mapping[str, Any]) -> list[Panel]:
    section, (name, space) = "Suspicious labels", table.judge
    judge = f"the {WORDS[name]} among {space}"
    shown = [int(i) for i in table.order[:LISTED] if table.flagged[i]]
    names, given, places = class_names(table.encoded.given), table.encoded.given.y, table.encoded.places
    rows = [
        [
            str(int(places[i])),
            names[int(given[i])],
            names[int(table.found[table.judge].suggested[i])],
            *(round(float(found.scores[i]), 4) for found in table.found.values()),
        ]
        for i in shown
    ]
    columns = ["sample", "label", "suggested", *(f"{WORDS[detector]}, {where}" for detector, where in table.found)]
    out = [
        Panel(
            "table",
            "Labels that are flagged",
            "Neighbour vote: more than half of the nearest samples have another label; class vote: the samples of "
            "another class are nearer in the mean. When mended: how many are flagged once these have the labels that "
            "are suggested, which is the least that a clean set of these samples would show.",
            section,
            "",
            "metric",
            group="detector",
            where={"metric": ["flagged", "flagged_when_mended"]},
            data={"facet": "space", "order": ["flagged", STATES]},
        )
    ]
    if pictures:
        caption = (
            f"Samples whose labels are most suspicious by {judge}, each beside the nearest sample that has the label "
            "suggested for it."
        )
        out.append(Panel("images", "The most suspicious samples", caption, section, data=pictures))
    if rows:
        caption = (
            f"Sorted by {judge}, which found planted flips best. Samples are counted from 0. Scores: of neighbours the "
            "share that have another label, of classes how much nearer another class is than the own. All "
            f"{int(table.flagged.sum()):,} that are flagged lie in artifacts/suspicious.csv, the scores of every "
            "sample in samples.parquet."
        )
        out.append(
            Panel("facts", "The most suspicious labels", caption, section, data={"columns": columns, "rows": rows})
        )
    return out


def _control(table: Screened) -> list[Panel]:
    section, config = "Are wrong labels found here?", table.config
    part = f"of the first {config.n_control:,} samples, each class in proportion" if _cut(table) else "of the samples"
    caption = (
        f"{100 * config.planted:g} % of the labels {part}, flipped at random in {config.draws} draws. The labels given "
        "are taken for right: wrong ones among them make precision look worse than it is."
    )
    return [
        Panel(
            "table",
            "What becomes of labels flipped on purpose",
            f"{caption} AUROC: 50\u00a0% is chance; recall: flips that are flagged; precision: flagged labels that are "
            "flips; false flag rate: other labels that are flagged.",
            section,
            "",
            "metric",
            group="detector",
            where={"metric": ["auroc", "recall", "precision", "false_flag_rate"]},
            data={"facet": "space", "order": ["auroc", "recall", "precision", "false_flag_rate", STATES], "unit": "%"},
        ),
        Panel(
            "curves",
            "Flips found by looking through the most suspicious labels",
            f"Share of the flips among so many labels at the top of the list; {100 * config.planted:g} % are flips.",
            section,
            "found",
            "inspected",
            "share of labels looked through",
            "share of flips found",
            "detector",
            data={"facet": "space", "order": [STATES], "unit": "%"},
        ),
    ]


def _cut(table: Screened) -> bool:
    most = table.config.n_control
    return most is not None and most < len(table.encoded.dataset)


def _classes(table: Screened) -> list[Panel]:
    section = "How well the encoder keeps the classes apart"
    return [
        Panel(
            "table",
            "Label agreement and silhouette",
            "Agreement: labels of one half of the samples that are those of the class at the least mean distance in "
            "the other half. Silhouette: how much nearer a sample is to its own class than to the nearest other one, "
            "from −1 to 1.",
            section,
            "",
            "metric",
            group="space",
            where={"metric": ["agreement", "silhouette"]},
            data={"order": [STATES, "agreement"]},
        ),
        *(
            Panel(
                "heatmap",
                f"Mean distance between the classes, {space}",
                f"{UNITS[space].capitalize()} between samples of two classes, in the diagonal between different "
                "samples of one: a class is kept apart when its diagonal is the smallest of its row.",
                section,
                "class_distance",
                "other",
                "class",
                group="label",
                where={"space": space},
            )
            for space in (STATES, FEATURES)
            if table.encoded.given.n_classes <= MOST
        ),
        Panel(
            "table",
            "Label agreement, class by class",
            "As above, for the samples of each class.",
            section,
            "class_agreement",
            "space",
            "measured among",
            group="label",
            data={"order": [STATES]},
        ),
    ]


def _setting(table: Screened) -> list[Panel]:
    section, encoded, config = "What was screened", table.encoded, table.config
    data, circuit = encoded.given, encoded.circuit
    counts = torch.bincount(data.y, minlength=data.n_classes)
    rows = [
        ["samples", len(data)],
        ["classes", data.n_classes],
        ["samples of a class", f"{int(counts.min()):,} to {int(counts.max()):,}"],
        ["what enters the encoder", encoded.said],
        ["features among which the control measures", "the same"],
        ["qubits", circuit.n_qubits],
        ["noise", config.noise or ("of the circuit" if circuit.channels else "none")],
        ["distance of states", config.metric],
        ["neighbours that vote", config.neighbours],
    ]
    return [
        Panel("facts", "Data and encoder", "", section, data={"columns": ["what", "value"], "rows": rows}),
        Panel("pre", "The encoder", "x0, x1, ... are the features, in [0, 1].", section, data={"text": str(circuit)}),
    ]
