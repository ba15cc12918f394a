"""What the results say about the paper's claims."""

from collections.abc import Sequence
from typing import Literal

from redqubit.defending import checks as defense_checks
from redqubit.defending import findings as defense_findings
from redqubit.defending import trigger_label
from redqubit.experiments.hqnn_backdoor import published
from redqubit.experiments.hqnn_backdoor.config import HYBRID, SOURCE, TWIN, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.panels import panels
from redqubit.experiments.hqnn_backdoor.plan import CLEAN, SEARCHED, Spec, victim
from redqubit.experiments.hqnn_backdoor.published import SUCCESS
from redqubit.experiments.hqnn_backdoor.rows import CHANCE, NAMES, is_full, seeds, trigger_words
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.result import Finding, Flag, Result, Summary
from redqubit.statistics import Difference

Status = Literal["holds", "fails", "unclear", "info"]
SATURATED = 0.5  # share of units from which training is in doubt


def summarise(config: HQNNBackdoor, results: Sequence[Result]) -> Summary:
    """Return the verdict and the panels."""
    table = Table(results)
    control = trigger_label(victim(_spec(config, HYBRID, config.control), config, 10, {name: {} for name in SEARCHED}))
    found = [
        *_hybrid_against_twin(config, table),
        *_what_part(config, table),
        *_frozen(config, table),
        *_rates(config, table),
        *_stealth(config, table),
        *_depth(config, table),
        *_search(table),
        *_gradients(config, table),
        *defense_findings(results, control),
        *_doubts(config, table),
    ]
    sets = ", ".join(f"{p.name} at {p.side} pixels" for p in config.sets)
    return Summary(
        title="Backdoors in hybrid quantum-classical networks",
        subtitle=f"Independent replication: {sets}; {seeds(len(config.seeds))}",
        findings=tuple(found),
        panels=tuple(panels(config, table, results)),
        flags=(*_flags(config, table), *defense_checks(results)),
        cost={"networks trained": len({r.cell for r in table.results if r.metric == "saturation"})},
        source=SOURCE,
        limits=_limits(config, table),
    )


def _spec(
    config: HQNNBackdoor, head: str, trigger: str, *, rate: float | None = None, depth: int | None = None
) -> Spec:
    main = config.sets[0]
    layers = (config.depth if depth is None else depth) if head in (HYBRID, "prodsin") else 0
    poison = 0.0 if trigger == CLEAN else config.poison_rate if rate is None else rate
    return Spec(main.name, main.backbones[0], head, layers, trigger, poison, 0)


def _both(config: HQNNBackdoor, table: Table, triggers: Sequence[str], a: str, b: str) -> list[str]:
    """Return the triggers that both networks were trained with."""
    return [t for t in triggers if all(table.has(_spec(config, head, t)) for head in (a, b))]


def _difference(
    config: HQNNBackdoor, table: Table, metric: str, triggers: Sequence[str], a: str, b: str
) -> Difference | None:
    return table.paired(metric, *([_spec(config, head, t) for t in triggers] for head in (a, b)))


def points(d: Difference | None) -> str:
    """Return a difference of shares in points, with its interval."""
    if d is None:
        return "not measured on two seeds"
    return f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]".replace("-", "−")


def _words(triggers: Sequence[str]) -> str:
    return ", ".join(map(trigger_words, triggers)) or "none"


def _hybrid_against_twin(config: HQNNBackdoor, table: Table) -> list[Finding]:
    triggers = _both(config, table, config.table1, HYBRID, TWIN)
    if not triggers:
        return []
    d = _difference(config, table, "above_floor", triggers, HYBRID, TWIN)
    raw = _difference(config, table, "attack_success_rate", triggers, HYBRID, TWIN)
    price = _difference(config, table, "backdoor_accuracy", triggers, HYBRID, TWIN)
    rate = {
        h: {t: table.mean("attack_success_rate", _spec(config, h, t)).value for t in triggers} for h in (HYBRID, TWIN)
    }
    limit = SUCCESS / 100
    saved = [t for t in triggers if rate[TWIN][t] >= limit > rate[HYBRID][t]]
    status: Status = "unclear" if d is None else "holds" if d.high < 0 else "fails" if d.low > 0 else "unclear"
    out = [
        Finding(
            "Hybrid networks are more robust to backdoors than their classical twins.",
            status,
            f"attack success rate above the clean model's floor, hybrid minus twin, mean over {len(triggers)} triggers "
            f"of Table 1: {points(d)} over {seeds(len(config.seeds))}; without taking off the floors {points(raw)}; "
            f"accuracy of the same networks {points(price)}. Triggers that reach {SUCCESS:.0f} % in the twin and not "
            f"in the hybrid network: {_words(saved)}",
            "patches of 1 and 4 pixels and blends of 0.05 and 0.10 fail on hybrid networks alone",
        )
    ]
    larger = _both(config, table, [*config.larger, config.control], HYBRID, TWIN)
    more = list(dict.fromkeys(larger))
    if more:
        d = _difference(config, table, "above_floor", more, HYBRID, TWIN)
        out.append(
            Finding(
                "Under larger patches, which suit small pictures, the two differ the same way.",
                "unclear" if d is None else "holds" if d.high < 0 else "fails" if d.low > 0 else "unclear",
                f"above the floor, hybrid minus twin, {_words(more)}: {points(d)}",
            )
        )
    return out


def _what_part(config: HQNNBackdoor, table: Table) -> list[Finding]:
    found = {}
    for head in config.heads:
        triggers = _both(config, table, config.probes, HYBRID, head)
        if triggers:
            found[head] = _difference(config, table, "above_floor", triggers, HYBRID, head)
    if not found:
        return []
    known = [d for d in found.values() if d is not None]
    below = bool(known) and all(d.high < 0 for d in known)
    above = any(d.low > 0 for d in known)
    return [
        Finding(
            "It is the circuit that makes a difference, not a narrow head or a product of sines.",
            "holds" if below else "fails" if above else "unclear",
            f"above the floor, hybrid minus each classical head, mean over {_words(config.probes)}: "
            + "; ".join(f"{NAMES[head]} {points(d)}" for head, d in found.items()),
        )
    ]


def _frozen(config: HQNNBackdoor, table: Table) -> list[Finding]:
    parts = []
    highest = 0.0
    for part in config.sets[:2]:
        for head in (HYBRID, TWIN):
            for text in ("qcolor", config.control):
                depth = config.depth if head == HYBRID else 0
                spec = Spec(part.name, part.backbones[0], head, depth, text, config.poison_rate, 0)
                if table.has(spec, frozen=True):
                    rate = table.mean("attack_success_rate", spec, frozen=True)
                    highest = max(highest, rate.high)
                    parts.append(f"{part.name}, {NAMES[head]}, {trigger_words(text)} {rate.percent()} %")
    if not parts:
        return []
    return [
        Finding(
            "A head on a frozen clean backbone does not learn a backdoor.",
            "holds" if highest < SUCCESS / 100 else "unclear",
            f"attack success rates: {'; '.join(parts)}",
            "both accuracies stay and no triggered picture is turned",
        )
    ]


def _rates(config: HQNNBackdoor, table: Table) -> list[Finding]:
    limit = SUCCESS / 100
    rates = sorted(config.rates, reverse=True)

    def working(text: str) -> list[float]:
        return [
            r for r in rates if table.mean("attack_success_rate", _spec(config, HYBRID, text, rate=r)).value >= limit
        ]

    measured = [r for r in rates if table.has(_spec(config, HYBRID, "qcolor", rate=r))]
    if len(measured) < 2:
        return []
    works = working("qcolor")
    detail = "; ".join(
        f"{trigger_words(text)} "
        + ", ".join(
            f"{r:.0%}: {table.mean('attack_success_rate', _spec(config, HYBRID, text, rate=r)).percent()} %"
            for r in measured
            if table.has(_spec(config, HYBRID, text, rate=r))
        )
        for text in config.table6
    )
    return [
        Finding(
            "Qcolor works at every poisoning rate, where other triggers need much poison.",
            "holds" if works == measured and not all(working(t) == measured for t in config.table6) else "fails",
            f"attack success rates of the hybrid network: {detail}; a backdoor counts as working from {SUCCESS:.0f} %",
            "Qcolor above 94 % at all rates from 10 % to 1 %; all others fail below 3 %",
        )
    ]


def _stealth(config: HQNNBackdoor, table: Table) -> list[Finding]:
    main = config.sets[0].name
    seen = {t: r for t in config.table6 if (r := table.one("ssim", data=main, trigger=t)) is not None}
    if "qcolor" not in seen or len(seen) < 2:
        return []
    rivals = {t: r for t, r in seen.items() if t != "qcolor" and not t.startswith("patch")}
    mine = seen["qcolor"]
    status: Status = "holds" if all((r.high or 0) < (mine.low or 0) for r in rivals.values()) else "unclear"
    return [
        Finding(
            "Qcolor is harder to see than the other triggers that change whole pictures.",
            status,
            "SSIM: " + ", ".join(f"{trigger_words(t)} {100 * r.value:.2f} %" for t, r in seen.items()),
            "SSIM 99.9 % against 91.6 to 92.8 %",
        )
    ]


def _depth(config: HQNNBackdoor, table: Table) -> list[Finding]:
    depths = [d for d in sorted(config.depths) if table.has(_spec(config, HYBRID, "qcolor", depth=d))]
    if len(depths) < 2:
        return []
    first, last = (_spec(config, HYBRID, CLEAN, depth=d) for d in (depths[0], depths[-1]))
    d = table.paired("clean_accuracy", [last], [first])
    rates = [table.mean("attack_success_rate", _spec(config, HYBRID, "qcolor", depth=d)) for d in depths]
    return [
        Finding(
            f"More layers ({depths[0]} to {depths[-1]}) make the network more accurate, and Qcolor works with each.",
            "unclear"
            if d is None or d.low <= 0
            else "holds"
            if all(r.value >= SUCCESS / 100 for r in rates)
            else "fails",
            f"clean accuracy, {depths[-1]} minus {depths[0]} layers: {points(d)}; attack success rates "
            + ", ".join(f"{n}: {r.percent()} %" for n, r in zip(depths, rates, strict=True)),
            "accuracy rises from 90.27 to 93.83 %, ASR stays above 99 %",
        )
    ]


def _search(table: Table) -> list[Finding]:
    best = table.one("is_optimum", trigger="qcolor")
    if best is None:
        return []
    ties, spread = table.one("ties", trigger="qcolor"), table.one("chosen_spread", trigger="qcolor")
    assert ties is not None
    assert spread is not None
    return [
        Finding(
            "The ratios that the search chose for Qcolor are "
            + ("an optimum." if best.value else "one choice of several: no optimum is shown."),
            "info",
            f"r = ({best.config['r1']:.3f}, {best.config['r2']:.3f}, {best.config['r3']:.3f}); "
            f"{ties.value:.0f} others of the front have a loss within the spread over seeds, {spread.value:.2f} nats",
        )
    ]


def _gradients(config: HQNNBackdoor, table: Table) -> list[Finding]:
    main = config.sets[0]
    norms: dict[str, dict[int, float]] = {HYBRID: {}, TWIN: {}}
    for r in table.results:
        c = r.config
        if r.metric != "gradient_norm" or c["layer"] != "total" or r.seed is None:
            continue
        same = (c["data"], c["backbone"]) == (main.name, main.backbones[0]) and c["depth"] in (0, config.depth)
        if same and c["head"] in norms:
            norms[c["head"]][r.seed] = r.value
    both = sorted(norms[HYBRID].keys() & norms[TWIN].keys())
    if not both:
        return []
    ratios = [norms[HYBRID][s] / norms[TWIN][s] for s in both]
    return [
        Finding(
            "Gradients of hybrid networks are larger than those of their twins (Tables 2 and 3).",
            "holds" if min(ratios) > 1 else "fails" if max(ratios) < 1 else "unclear",
            "norm of the whole gradient after training, hybrid over twin, by seed: "
            + ", ".join(f"{r:.2f}" for r in ratios),
            "19 against 7.93, a ratio of 2.4",
        )
    ]


def _doubts(config: HQNNBackdoor, table: Table) -> list[Finding]:
    floors = [
        table.mean("clean_model_floor", spec).value
        for spec in table.specs(data=config.sets[0].name)
        if spec.trigger != CLEAN
    ]
    measured = f"; here clean models give {100 * min(floors):.1f} to {100 * max(floors):.1f} %" if floors else ""
    return [
        Finding(
            "Several published numbers cannot be taken as they stand (†).",
            "info",
            f"40 attack success rates are {published.ZERO}{measured}. Table 6, hybrid ResNet-18 at 10 %: for patches "
            f"and Color {published.REUSED}. Table 4: accuracies {published.SHIFTED}. Also, {published.FOUR_VALUES}. "
            "All are single runs without intervals",
        )
    ]


def _flags(config: HQNNBackdoor, table: Table) -> list[Flag]:
    out = []
    for head in (TWIN, HYBRID):
        spec = _spec(config, head, config.control)
        if table.has(spec):
            rate = table.mean("attack_success_rate", spec)
            out.append(
                Flag(
                    "positive-control",
                    "ok" if rate.value >= SUCCESS / 100 else "fail",
                    f"A {trigger_words(config.control)} must succeed in any network: {rate.percent()} %.",
                    {"attack_success_rate": rate.value},
                    NAMES[head],
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
        if spec.trigger != CLEAN and table.mean("backdoor_accuracy", spec).value < 2 * CHANCE
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


def _limits(config: HQNNBackdoor, table: Table) -> tuple[str, ...]:
    out = []
    for part in config.sets:
        if not is_full(config, part.name):
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
