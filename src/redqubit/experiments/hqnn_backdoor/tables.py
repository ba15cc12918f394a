"""The tables of the paper, ours beside the published numbers."""

from redqubit.experiments.hqnn_backdoor import published
from redqubit.experiments.hqnn_backdoor.config import HYBRID, TWIN, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.plan import CLEAN, Spec
from redqubit.experiments.hqnn_backdoor.rows import (
    CHANCE,
    NAMES,
    NBSP,
    OURS,
    PUBLISHED_AS,
    REPORTED,
    THEIRS,
    beside,
    models,
    row,
    scale,
    status,
    trigger_words,
)
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.result import Panel


def table1(config: HQNNBackdoor, table: Table) -> list[Panel]:
    order = [*config.table1, *config.larger, config.control, *config.probes]
    rows = []
    for text in dict.fromkeys(order):
        for head in (TWIN, HYBRID, *config.heads):
            for spec in models(config, table, head=head, trigger=text, rate=config.poison_rate):
                if spec.depth in (0, config.depth):
                    rows.append(row(config, table, spec, beside(published.TABLE1, spec)))
    if not rows:
        return []
    main = config.sets[0].name
    clean = []
    for head in (TWIN, HYBRID, *config.heads):
        for spec in models(config, table, head=head, trigger=CLEAN):
            if spec.depth in (0, config.depth):
                theirs = published.CLEAN_ACCURACY.get((head, REPORTED.get(spec.backbone, spec.backbone)))
                clean.append(
                    [
                        NAMES.get(head, head),
                        spec.backbone,
                        table.mean("clean_accuracy", spec).percent(),
                        f"{100 * table.mean('train_accuracy', spec).value:.1f}",
                        f"{100 * table.mean('saturation', spec).value:.0f}",
                        "–" if theirs is None else f"{theirs:.2f}",
                    ]
                )
    return [
        Panel(
            "facts",
            "Clean networks",
            f"{scale(config, main)} Saturated: share of units whose |tanh| exceeds 0.99.",
            "Table 1: patches and blends",
            data={
                "columns": ["network", "backbone", "CA", "train accuracy", "saturated", "published CA"],
                "rows": clean,
            },
        ),
        Panel(
            "facts",
            "Hybrid networks and their twins under patches and blends (the paper's Table 1)",
            f"{scale(config, main)} {PUBLISHED_AS} The sizes 1, 4, 9 and 16 of the paper are read as areas.",
            "Table 1: patches and blends",
            data={"columns": OURS + THEIRS, "rows": rows},
        ),
        Panel(
            "heatmap",
            "Attack success rate by network",
            "Mean over seeds with the 95 % t interval. The tanh and sine bottlenecks are as narrow as the circuit, and "
            "the product of sines is the circuit with all weights 0, which is classical.",
            "Table 1: patches and blends",
            "attack_success_rate",
            "head",
            group="trigger",
            where={
                "data": main,
                "rate": config.poison_rate,
                "frozen": False,
                "trigger": list(dict.fromkeys(order)),
                "depth": [0, config.depth],
            },
            data={"order": [*dict.fromkeys(order), TWIN, HYBRID, *config.heads]},
        ),
    ]


def gradients(config: HQNNBackdoor, table: Table) -> list[Panel]:
    main = config.sets[0]

    def ours(metric: str, layer: str, head: str) -> str:
        values = [
            r.value
            for r in table.results
            if r.metric == metric
            and r.config.get("layer", "") == layer
            and (r.config["data"], r.config["head"], r.config["backbone"]) == (main.name, head, main.backbones[0])
            and r.config["depth"] in (0, config.depth)
        ]
        if not values:
            return "–"
        low, high = min(values), max(values)
        if metric in ("n_weights", "n_parameters"):
            return f"{values[0]:,.0f}"
        return f"{sum(values) / len(values):.3g} ({low:.3g} to {high:.3g})"

    if ours("n_parameters", "", HYBRID) == "–":
        return []
    both = (HYBRID, TWIN)
    heads = [
        [
            layer,
            *(x for h in both for x in (ours("n_weights", layer, h), ours("gradient_norm", layer, h))),
            *(f"{norms[h][1]:g}" for h in both),
        ]
        for layer, norms in published.TABLE2.items()
    ]
    names = {
        "gradient_norm": "norm of the whole gradient",
        "mean_gradient": "mean",
        "largest_gradient": "largest",
        "smallest_gradient": "smallest",
    }
    numbers = published.TABLE3["n_parameters"]
    whole = [["parameters", *(ours("n_parameters", "", h) for h in both), *(f"{numbers[h]:,.0f}" for h in both)]]
    for metric, words in names.items():
        values = published.TABLE3[metric]
        whole.append([words, *(ours(metric, "total", h) for h in both), *(f"{values[h]:g}" for h in both)])
    caption = (
        "Gradient of the mean cross-entropy over the first 256 clean test pictures after training, mean over seeds and "
        "their span; the paper states neither batch nor time, on which these numbers depend. "
    )
    section = "Tables 2 and 3: parameters and gradients"
    return [
        Panel(
            "facts",
            "The head, layer by layer (the paper's Table 2)",
            caption + f"Weights without biases. FC1 has {main.backbones[0]}'s number of features.",
            section,
            data={
                "columns": [
                    "layer",
                    "hybrid weights",
                    "hybrid gradient norm",
                    "twin weights",
                    "twin gradient norm",
                    "published hybrid norm",
                    "published twin norm",
                ],
                "rows": heads,
            },
        ),
        Panel(
            "facts",
            "The whole network (the paper's Table 3)",
            caption + "With ResNet-18 our networks have exactly the published numbers of parameters.",
            section,
            data={
                "columns": ["quantity", "hybrid", "twin", "published hybrid", "published twin"],
                "rows": whole,
            },
        ),
    ]


def table4(config: HQNNBackdoor, table: Table) -> list[Panel]:
    rows: list[list[object]] = []
    for part in config.sets[:2]:
        for backbone in part.backbones:
            for head in (HYBRID, TWIN):
                for text in ("qcolor", config.control):
                    depth = config.depth if head == HYBRID else 0
                    spec = Spec(part.name, backbone, head, depth, text, config.poison_rate, 0)
                    if not table.has(spec, frozen=True):
                        continue
                    theirs = published.TABLE4.get((part.name, REPORTED.get(backbone, backbone)))
                    beside = "–"
                    if theirs is not None and head == HYBRID and text == "qcolor":
                        beside = f"{theirs[0]:.2f}† / {theirs[2]:.2f}† / {theirs[3]:.2f}†"
                    rates = ("clean_accuracy", "backdoor_accuracy", "attack_success_rate")
                    rows.append(
                        [
                            part.name,
                            NAMES[head],
                            trigger_words(text),
                            *(table.mean(metric, spec, frozen=True).percent() for metric in rates),
                            f"{100 * table.mean('clean_model_floor', spec, frozen=True).value:.1f}",
                            f"{100 * table.mean('train_attack_success_rate', spec, frozen=True).value:.1f}",
                            beside,
                        ]
                    )
    if not rows:
        return []
    return [
        Panel(
            "facts",
            "Heads on frozen clean backbones (the paper's Table 4)",
            "A new head is trained alone, on clean or on poisoned pictures. Percent, 95 % interval over seeds. The "
            "published accuracies lie above those of the same models elsewhere in the paper (†).",
            "Table 4: frozen backbones",
            data={
                "columns": [
                    "data",
                    "network",
                    "trigger",
                    "CA",
                    "BA",
                    "ASR",
                    "floor: clean model",
                    "train ASR",
                    "published CA / BA / ASR",
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
                depth = config.depth if head == HYBRID else 0
                spec = Spec(part.name, backbone, head, depth, "qcolor", config.poison_rate, 0)
                if not table.has(spec):
                    continue
                theirs = published.TABLE5.get((part.name, REPORTED.get(backbone, backbone)))
                beside: list[object] = ["–", "–"]
                rate, accuracy = table.mean("attack_success_rate", spec), table.mean("backdoor_accuracy", spec)
                if theirs is not None and head == HYBRID:
                    says = status(config, part.name, rate, theirs[3] / 100, accuracy.value, CHANCE)
                    beside = [f"{theirs[0]:.2f} / {theirs[2]:.2f} / {theirs[3]:.2f}".replace(" ", NBSP), says]
                scales.append(scale(config, part.name))
                floors = [table.mean(m, spec).value for m in ("clean_model_floor", "untriggered_floor")]
                rows.append(
                    [
                        part.name,
                        backbone,
                        NAMES[head],
                        table.mean("clean_accuracy", spec).percent(),
                        accuracy.percent(),
                        rate.percent(),
                        " / ".join(f"{100 * floor:.1f}" for floor in floors).replace(" ", NBSP),
                        *beside,
                    ]
                )
    if not rows:
        return []
    return [
        Panel(
            "facts",
            "Qcolor on several data sets (the paper's Table 5)",
            " ".join(dict.fromkeys(scales)) + " The ratios are those that the search found on the first set. Floors as "
            "in Table 1.",
            "Table 5: Qcolor on several data sets",
            data={
                "columns": [
                    "data",
                    "backbone",
                    "network",
                    "CA",
                    "BA",
                    "ASR",
                    "floors",
                    "published CA / BA / ASR",
                    "status",
                ],
                "rows": rows,
            },
        )
    ]


def table6(config: HQNNBackdoor, table: Table) -> list[Panel]:
    rows = []
    for head in (HYBRID, TWIN):
        for text in config.table6:
            for rate in sorted(config.rates, reverse=True):
                for spec in models(config, table, head=head, trigger=text, rate=rate):
                    if spec.depth in (0, config.depth):
                        backbone = REPORTED.get(spec.backbone, spec.backbone)
                        theirs = published.TABLE6.get((backbone, text, rate)) if head == HYBRID else None
                        rows.append(row(config, table, spec, theirs))
    if not rows:
        return []
    main = config.sets[0].name
    section = "Table 6: poisoning rates"
    return [
        Panel(
            "facts",
            "Triggers and poisoning rates (the paper's Table 6)",
            f"{scale(config, main)} {PUBLISHED_AS}",
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
            {"data": main, "head": HYBRID, "frozen": False, "depth": config.depth, "trigger": list(config.table6)},
            {"order": list(config.table6)},
        ),
    ]


def table7(config: HQNNBackdoor, table: Table) -> list[Panel]:
    rows: list[list[object]] = []
    for depth in sorted(config.depths):
        for spec in models(config, table, head=HYBRID, trigger="qcolor", rate=config.poison_rate, depth=depth):
            ca, ba, asr = published.TABLE7.get(depth, (None, None, None))
            rows.append(
                [
                    depth,
                    *(table.mean(m, spec).percent() for m in ("clean_accuracy", "backdoor_accuracy")),
                    table.mean("attack_success_rate", spec).percent(),
                    f"{100 * table.mean('clean_model_floor', spec).value:.1f}",
                    "–" if ca is None else f"{ca:.2f} / {ba:.2f} / {asr:.2f}",
                ]
            )
    if len(rows) < 2:
        return []
    return [
        Panel(
            "facts",
            "Qcolor and the depth of the circuit (the paper's Table 7)",
            f"{scale(config, config.sets[0].name)} The paper does not name the network.",
            "Table 7: depth of the circuit",
            data={
                "columns": ["layers", "CA", "BA", "ASR", "floor: clean model", "published CA / BA / ASR"],
                "rows": rows,
            },
        )
    ]


def table8(config: HQNNBackdoor, table: Table) -> list[Panel]:
    main = config.sets[0].name
    rows: list[list[object]] = []
    for text in dict.fromkeys((*config.table6, *config.table1, *config.larger, config.control)):
        seen = table.one("ssim", data=main, trigger=text)
        if seen is None:
            continue
        spec = next(iter(models(config, table, head=HYBRID, trigger=text, rate=config.poison_rate)), None)
        noise, perceived = table.one("psnr", data=main, trigger=text), table.one("lpips", data=main, trigger=text)
        theirs = published.TABLE8.get(text)
        rows.append(
            [
                trigger_words(text),
                "–" if spec is None else table.mean("attack_success_rate", spec).percent(),
                "–" if spec is None else table.mean("backdoor_accuracy", spec).percent(),
                f"{100 * seen.value:.2f}",
                "–" if noise is None else f"{noise.value:.1f}",
                "weights absent" if perceived is None else f"{perceived.value:.3f}",
                "–" if theirs is None else f"{theirs[0]:.2f} / {theirs[1]:.2f} / {theirs[2]:.1f}",
            ]
        )
    if not rows:
        return []
    return [
        Panel(
            "facts",
            "How far triggers can be seen (the paper's Table 8)",
            f"{scale(config, main)} SSIM (percent), PSNR (dB) and LPIPS (AlexNet): means over test pictures.",
            "Table 8: stealth",
            data={
                "columns": ["trigger", "ASR", "BA", "SSIM", "PSNR", "LPIPS", "published ASR / BA / SSIM"],
                "rows": rows,
            },
        )
    ]
