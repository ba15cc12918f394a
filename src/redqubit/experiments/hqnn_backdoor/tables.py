"""The tables of the paper, ours beside the published numbers."""

from collections.abc import Sequence

from redqubit.experiments.hqnn_backdoor import published
from redqubit.experiments.hqnn_backdoor.config import HYBRID, TWIN, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.plan import CLEAN, Spec, layers
from redqubit.experiments.hqnn_backdoor.rows import (
    NAMES,
    NBSP,
    OURS,
    PUBLISHED_AS,
    REPORTED,
    THEIRS,
    beside,
    is_comparable,
    is_full,
    models,
    row,
    scale,
    status,
    trigger_words,
)
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.result import Panel

RATES = ("CA", "BA", "ASR", "floor: clean model")


def table1(config: HQNNBackdoor, table: Table) -> list[Panel]:
    """Return the clean networks, and all of them under patches and blends."""
    order = list(dict.fromkeys([*config.table1, *config.larger, config.control, *config.probes]))
    heads = (TWIN, HYBRID, *config.heads)

    def found(head: str, **where: object) -> list[Spec]:
        return models(config, table, head=head, depth=layers(head, config.depth), **where)

    rows = [
        row(config, table, spec, beside(config, published.TABLE1, spec))
        for text in order
        for head in heads
        for spec in found(head, trigger=text, rate=config.poison_rate)
    ]
    if not rows:
        return []
    main = config.sets[0]
    clean = [
        [
            NAMES.get(head, head),
            spec.backbone,
            table.mean("clean_accuracy", spec).percent(),
            f"{100 * table.mean('train_accuracy', spec).value:.1f}",
            f"{100 * table.mean('saturation', spec).value:.0f}",
            "–" if theirs is None or not is_comparable(config, main.name) else f"{theirs:.2f}",
        ]
        for head in heads
        for spec in found(head, trigger=CLEAN)
        for theirs in [published.CLEAN_ACCURACY.get((head, REPORTED.get(spec.backbone, spec.backbone)))]
    ]
    section = "Table 1: patches and blends"
    where = {
        "data": main.name,
        "backbone": main.backbones[0],
        "rate": config.poison_rate,
        "frozen": False,
        "trigger": order,
        "depth": [0, config.depth],
    }
    columns = {"order": [*order, *heads]}
    return [
        Panel(
            "facts",
            "Clean networks",
            f"{scale(config, table, main.name)} Saturated: share of units whose |tanh| exceeds 0.99.",
            section,
            data={
                "columns": ["network", "backbone", "CA", "train accuracy", "saturated", "published CA"],
                "rows": clean,
            },
        ),
        Panel(
            "facts",
            "Hybrid networks and their twins under patches and blends (the paper's Table 1)",
            f"{scale(config, table, main.name)} {PUBLISHED_AS} The paper's sizes 1, 4, 9 and 16 are read as areas.",
            section,
            data={"columns": OURS + THEIRS, "rows": rows},
        ),
        Panel(
            "heatmap",
            "Attack success rate by network",
            "Mean over seeds with the 95 % t interval. The tanh and sine bottlenecks are as narrow as the circuit, and "
            "the product of sines is the circuit with all weights 0, which is classical.",
            section,
            "attack_success_rate",
            "head",
            group="trigger",
            where=where,
            data=columns,
        ),
        Panel(
            "heatmap",
            "Accuracy with and without the trigger",
            "Robust accuracy: share of test pictures, of all classes, that are right both times.",
            section,
            "robust_accuracy",
            "head",
            group="trigger",
            where=where,
            data=columns,
        ),
        Panel(
            "heatmap",
            "Attack success rate of the hybrid network by true class",
            "Columns: the true class of a triggered picture; the target class is left out.",
            section,
            "attack_success_rate_of_class",
            "true_class",
            group="trigger",
            where={**where, "head": HYBRID},
            data={"order": order},
        ),
    ]


def table4(config: HQNNBackdoor, table: Table) -> list[Panel]:
    """Return heads that were trained on frozen backbones."""
    rows: list[list[object]] = []
    for part in config.sets[:2]:
        for backbone in part.backbones:
            for head in (HYBRID, TWIN):
                for text in ("qcolor", config.control):
                    spec = Spec(part.name, backbone, head, layers(head, config.depth), text, config.poison_rate, 0)
                    if not table.has(spec, frozen=True):
                        continue
                    theirs = published.TABLE4.get((part.name, REPORTED.get(backbone, backbone)))
                    rate = table.mean("attack_success_rate", spec, frozen=True)
                    accuracy = table.mean("backdoor_accuracy", spec, frozen=True)
                    other = ["–", "–"]
                    if theirs and head == HYBRID and text == "qcolor" and is_comparable(config, part.name):
                        other = [_listed(theirs[0], theirs[2], theirs[3], marks="†††")]
                        full = is_full(config, table, part.name)
                        other.append(status(rate, theirs[3] / 100, accuracy.value, full=full))
                    rows.append(
                        [
                            f"{part.name}, {backbone}",
                            NAMES[head],
                            trigger_words(text),
                            table.mean("clean_accuracy", spec, frozen=True).percent(),
                            accuracy.percent(),
                            rate.percent(),
                            f"{100 * table.mean('clean_model_floor', spec, frozen=True).value:.1f}",
                            f"{100 * table.mean('train_attack_success_rate', spec, frozen=True).value:.1f}",
                            *other,
                        ]
                    )
    if not rows:
        return []
    return [
        Panel(
            "facts",
            "Heads on frozen clean backbones (the paper's Table 4)",
            "The untrained head is put on the backbone of the clean network and trained alone, on clean or on poisoned "
            "pictures. Percent, 95 % interval over seeds. The published accuracies lie above those of the same "
            "networks elsewhere in the paper, and the rates are exactly 0 (†).",
            "Table 4: frozen backbones",
            data={
                "columns": [
                    "data",
                    "network",
                    "trigger",
                    *RATES,
                    "train ASR",
                    "published CA / BA / ASR",
                    "status",
                ],
                "rows": rows,
            },
        )
    ]


def table5(config: HQNNBackdoor, table: Table) -> list[Panel]:
    """Return Qcolor on all data sets."""
    rows: list[list[object]] = []
    scales = []
    for part in config.sets:
        for backbone in part.backbones:
            for head in (HYBRID, TWIN):
                spec = Spec(part.name, backbone, head, layers(head, config.depth), "qcolor", config.poison_rate, 0)
                if not table.has(spec):
                    continue
                theirs = published.TABLE5.get((part.name, REPORTED.get(backbone, backbone)))
                rate, accuracy = table.mean("attack_success_rate", spec), table.mean("backdoor_accuracy", spec)
                other = ["–", "–"]
                if theirs and head == HYBRID and is_comparable(config, part.name):
                    doubt = "†" if (part.name, backbone) == ("imagenette", "resnet18") else ""
                    other = [_listed(theirs[0], theirs[2], theirs[3], marks=["", doubt, doubt])]
                    full = is_full(config, table, part.name)
                    other.append(status(rate, theirs[3] / 100, accuracy.value, full=full))
                scales.append(scale(config, table, part.name))
                floors = [table.mean(m, spec).value for m in ("clean_model_floor", "untriggered_floor")]
                rows.append(
                    [
                        f"{part.name}, {backbone}",
                        NAMES[head],
                        table.mean("clean_accuracy", spec).percent(),
                        accuracy.percent(),
                        rate.percent(),
                        " / ".join(f"{100 * floor:.1f}" for floor in floors).replace(" ", NBSP),
                        *other,
                    ]
                )
    if not rows:
        return []
    return [
        Panel(
            "facts",
            "Qcolor on several data sets (the paper's Table 5)",
            " ".join(dict.fromkeys(scales)) + " The ratios are those that the search found on the first set; on grey "
            "pictures they are a tint. Floors as in Table 1.",
            "Table 5: Qcolor on several data sets",
            data={
                "columns": ["data", "network", "CA", "BA", "ASR", "floors", "published CA / BA / ASR", "status"],
                "rows": rows,
            },
        )
    ]


def table6(config: HQNNBackdoor, table: Table) -> list[Panel]:
    """Return triggers at several poisoning rates."""
    main = config.sets[0]

    def theirs(spec: Spec) -> published.Cell | None:
        known = spec.head == HYBRID and main.name == "imagenette" and config.n_qubits == 10 and config.depth == 6
        backbone = REPORTED.get(spec.backbone, spec.backbone)
        return published.TABLE6.get((backbone, spec.trigger, spec.rate)) if known else None

    rows = [
        row(config, table, spec, theirs(spec))
        for head in (HYBRID, TWIN)
        for text in config.table6
        for rate in sorted(config.rates, reverse=True)
        for spec in models(config, table, head=head, trigger=text, rate=rate, depth=layers(head, config.depth))
    ]
    if not rows:
        return []
    section = "Table 6: poisoning rates"
    return [
        Panel(
            "facts",
            "Triggers and poisoning rates (the paper's Table 6)",
            f"{scale(config, table, main.name)} {PUBLISHED_AS}",
            section,
            data={"columns": OURS + THEIRS, "rows": rows},
        ),
        Panel(
            "curves",
            "Attack success rate of the hybrid network by poisoning rate",
            "Mean over seeds with the 95 % t interval.",
            section,
            "attack_success_rate",
            "rate",
            "share of the training set that is poisoned",
            "attack success rate",
            "trigger",
            {
                "data": main.name,
                "backbone": main.backbones[0],
                "head": HYBRID,
                "frozen": False,
                "depth": config.depth,
                "trigger": list(config.table6),
            },
            {"order": list(config.table6)},
        ),
    ]


def table7(config: HQNNBackdoor, table: Table) -> list[Panel]:
    """Return Qcolor on circuits of several depths."""
    main = config.sets[0]
    rows: list[list[object]] = []
    for depth in sorted(config.depths):
        spec = Spec(main.name, main.backbones[0], HYBRID, depth, "qcolor", config.poison_rate, 0)
        if not table.has(spec):
            continue
        other = ["–", "–"]
        rate, accuracy = table.mean("attack_success_rate", spec), table.mean("backdoor_accuracy", spec)
        if depth in published.TABLE7 and is_comparable(config, main.name):
            theirs = published.TABLE7[depth]
            other = [_listed(*theirs, marks="†††" if depth == config.depth else ["", "", ""])]
            full = is_full(config, table, main.name)
            other.append(status(rate, theirs[2] / 100, accuracy.value, full=full))
        floor = table.mean("clean_model_floor", spec).value
        clean = table.mean("clean_accuracy", spec).percent()
        rows.append([depth, clean, accuracy.percent(), rate.percent(), f"{100 * floor:.1f}", *other])
    if len(rows) < 2:
        return []
    return [
        Panel(
            "facts",
            "Qcolor and the depth of the circuit (the paper's Table 7)",
            f"{scale(config, table, main.name)} The paper does not name the network.",
            "Table 7: depth of the circuit",
            data={"columns": ["layers", *RATES, "published CA / BA / ASR", "status"], "rows": rows},
        )
    ]


def table8(config: HQNNBackdoor, table: Table) -> list[Panel]:
    """Return how far triggers can be seen."""
    main = config.sets[0]
    rows: list[list[object]] = []
    for text in dict.fromkeys((*config.table6, *config.table1, *config.larger, config.control)):
        seen, noise = (table.one(metric, data=main.name, trigger=text) for metric in ("ssim", "psnr"))
        if seen is None:
            continue
        spec = Spec(main.name, main.backbones[0], HYBRID, config.depth, text, config.poison_rate, 0)
        rate, accuracy = table.mean("attack_success_rate", spec), table.mean("backdoor_accuracy", spec)
        other = ["–", "–"]
        if text in published.TABLE8 and is_comparable(config, main.name):
            theirs = published.TABLE8[text]
            doubt = "†" if text in published.IN_DOUBT else ""
            full = is_full(config, table, main.name)
            other = [
                _listed(*theirs, marks=[doubt, doubt, ""]),
                status(rate, theirs[0] / 100, accuracy.value, full=full),
            ]
        rows.append(
            [
                trigger_words(text),
                rate.percent(),
                accuracy.percent(),
                f"{100 * seen.value:.2f}",
                "–" if noise is None else f"{noise.value:.1f}",
                *other,
            ]
        )
    if not rows:
        return []
    absent = table.one("lpips_absent")
    shown = [
        [trigger_words(text), f"{r.value:.3f}"]
        for text in dict.fromkeys((*config.table6, *config.table1, *config.larger, config.control))
        if (r := table.one("lpips", data=main.name, trigger=text)) is not None
    ]
    note = "" if absent is None else f" LPIPS was left out: {absent.config['reason']}"
    out = [
        Panel(
            "facts",
            "How far triggers can be seen (the paper's Table 8)",
            f"{scale(config, table, main.name)} SSIM (percent) and PSNR (dB): means over test pictures.{note}",
            "Table 8: stealth",
            data={
                "columns": ["trigger", "ASR", "BA", "SSIM", "PSNR", "published ASR / BA / SSIM", "status"],
                "rows": rows,
            },
        )
    ]
    if shown:
        perceived = Panel(
            "facts",
            "Perceived distance",
            "LPIPS (AlexNet), means over test pictures.",
            "Table 8: stealth",
            data={"columns": ["trigger", "LPIPS"], "rows": shown},
        )
        out.append(perceived)
    return out


def _listed(*numbers: float, marks: Sequence[str]) -> str:
    """Return published numbers, those in doubt marked."""
    return " / ".join(f"{x:.2f}{mark}" for x, mark in zip(numbers, marks, strict=True))
