"""What must be right before the numbers mean anything, and what they do not show."""

from redqubit.experiments.hqnn_backdoor.config import TWIN, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.plan import CLEAN, main_spec
from redqubit.experiments.hqnn_backdoor.published import SUCCESS
from redqubit.experiments.hqnn_backdoor.rows import CHANCE, NAMES, is_full, trigger_words
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.result import Flag

SATURATED = 0.5  # share of units from which training is in doubt


def flags(config: HQNNBackdoor, table: Table) -> list[Flag]:
    out = []
    spec = main_spec(config, TWIN, config.control)
    if table.has(spec):
        rate = table.mean("attack_success_rate", spec)
        out.append(
            Flag(
                "positive-control",
                "ok" if rate.value >= SUCCESS / 100 else "fail",
                f"A {trigger_words(config.control)} must succeed in the classical twin: {rate.percent()} %.",
                {"attack_success_rate": rate.value},
                NAMES[TWIN],
            )
        )
    for part in config.sets:
        saturated: dict[str, float] = {}
        for spec in table.specs(data=part.name):
            share = table.mean("saturation", spec).value
            saturated[spec.head] = max(saturated.get(spec.head, 0.0), share)
        for head, share in saturated.items():
            out.append(
                Flag(
                    "saturated-head",
                    "ok" if share <= SATURATED else "warning",
                    f"At most {share:.0%} of the units before the head's nonlinearity are saturated"
                    + (", which pass hardly any gradient: compare networks with care." if share > SATURATED else "."),
                    {"share": share},
                    f"{part.name}, {NAMES.get(head, head)}",
                )
            )
        clean = [table.mean("clean_accuracy", s).value for s in table.specs(data=part.name, trigger=CLEAN)]
        if clean:
            poor = min(clean) < 3 * CHANCE
            out.append(
                Flag(
                    "accuracy",
                    "warning" if poor else "ok",
                    f"Clean networks reach {100 * min(clean):.0f} to {100 * max(clean):.0f} %"
                    + (": too little to compare backdoors." if poor else "."),
                    {"least": min(clean)},
                    part.name,
                )
            )
        out += _collapsed(table, part.name)
    return out


def _collapsed(table: Table, data: str) -> list[Flag]:
    """Flag backdoored networks that answer nearly the same whatever they see."""
    lost = [
        spec
        for spec in table.specs(data=data)
        if spec.trigger != CLEAN and table.worst("backdoor_accuracy", spec) < 2 * CHANCE
    ]
    if not any(spec.trigger != CLEAN for spec in table.specs(data=data)):
        return []
    return [
        Flag(
            "collapsed-network",
            "fail" if lost else "ok",
            f"{len(lost)} backdoored networks have an accuracy near chance"
            + (
                ": " + ", ".join(f"{NAMES[s.head]} under {trigger_words(s.trigger)}" for s in lost[:3]) if lost else "."
            ),
            {"networks": len(lost)},
            data,
        )
    ]


def limits(config: HQNNBackdoor, table: Table) -> tuple[str, ...]:
    out = []
    for part in config.sets:
        if not is_full(config, table, part.name):
            start = "ImageNet weights" if config.pretrained and part.pretrained else "random weights"
            out.append(
                f"{part.name} is reduced: {part.side} pixels instead of 224, {' and '.join(part.backbones)} from "
                f"{start}; its numbers stand beside the published ones and never for them."
            )
        elif part.name == "imagenette":
            out.append("Imagenette's pictures are 128 pixels a side here and are enlarged to 224.")
    if config.pretrained and config.sets[0].pretrained:
        out.append("A network pretrained on ImageNet has seen most pictures of Imagenette, test pictures among them.")
    few = sorted({r.value for r in table.results if r.metric == "n_poisoned" and r.value < 50})
    if few:
        out.append(f"The lowest poisoning rates are {few[0]:.0f} pictures; tables give their number.")
    out.append(
        "Training recipe, target class, patterns, bounds of the search and the settings of all defenses are not stated "
        "in the paper; docs/choices.md lists ours."
    )
    return tuple(out)
