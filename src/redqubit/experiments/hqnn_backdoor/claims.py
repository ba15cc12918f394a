"""What the results say about the paper's claims."""

import math
from collections.abc import Sequence
from typing import Literal

import torch

from redqubit.defending import checks as defense_checks
from redqubit.defending import findings as defense_findings
from redqubit.defending import trigger_label
from redqubit.experiments.hqnn_backdoor import published
from redqubit.experiments.hqnn_backdoor.config import HYBRID, SOURCE, TWIN, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.panels import panels
from redqubit.experiments.hqnn_backdoor.plan import CLEAN, SEARCHED, Spec, layers, main_spec, victim
from redqubit.experiments.hqnn_backdoor.published import SUCCESS
from redqubit.experiments.hqnn_backdoor.rows import CHANCE, NAMES, trigger_words
from redqubit.experiments.hqnn_backdoor.table import Table
from redqubit.experiments.hqnn_backdoor.trust import flags, limits
from redqubit.experiments.seeds import Mean, points, seeds, sign
from redqubit.result import Finding, Result, Summary
from redqubit.statistics import Difference, paired_bootstrap

Status = Literal["holds", "fails", "unclear", "info"]
LITTLE = 0.1  # attack success rate above the floor that a head may have and count as not having learnt the backdoor
VERDICTS: dict[int, Status] = {-1: "holds", 0: "unclear", 1: "fails"}  # of "hybrid networks have less"


def summarise(config: HQNNBackdoor, results: Sequence[Result]) -> Summary:
    """Return the verdict and the panels."""
    table = Table(results)
    control = trigger_label(
        victim(main_spec(config, HYBRID, config.control), config, 10, {name: {} for name in SEARCHED})
    )
    found = [
        *_hybrid_against_twin(config, table),
        *_fit(config, table),
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
        flags=(*flags(config, table), *defense_checks(results, control)),
        cost={"networks trained": len({r.cell for r in table.results if r.metric == "saturation"})},
        source=SOURCE,
        limits=limits(config, table),
    )


def _both(config: HQNNBackdoor, table: Table, triggers: Sequence[str], a: str, b: str) -> list[str]:
    """Return the triggers that both networks were trained with."""
    return [t for t in triggers if all(table.has(main_spec(config, head, t)) for head in (a, b))]


def _difference(
    config: HQNNBackdoor, table: Table, metric: str, triggers: Sequence[str], a: str, b: str
) -> Difference | None:
    return table.paired(metric, *([main_spec(config, head, t) for t in triggers] for head in (a, b)))


def _sound(config: HQNNBackdoor, table: Table, heads: Sequence[str], triggers: Sequence[str]) -> str:
    """Return why networks cannot be compared, or nothing: one near chance, or a classical one deaf to the control."""
    for head in heads:
        for text in triggers:
            if table.worst("backdoor_accuracy", main_spec(config, head, text)) < 2 * CHANCE:
                return f". Not comparable: {NAMES[head]} under {trigger_words(text)} has an accuracy near chance"
    deaf = [
        h
        for h in heads
        if h != HYBRID  # where not to learn it is what is claimed
        and table.has(main_spec(config, h, config.control))
        and table.mean("attack_success_rate", main_spec(config, h, config.control)).value < SUCCESS / 100
    ]
    return f". Not comparable: {NAMES[deaf[0]]} does not learn the positive control" if deaf else ""


def _words(triggers: Sequence[str]) -> str:
    return ", ".join(map(trigger_words, triggers)) or "none"


def _hybrid_against_twin(config: HQNNBackdoor, table: Table) -> list[Finding]:
    triggers = _both(config, table, config.table1, HYBRID, TWIN)
    if not triggers:
        return []
    d = _difference(config, table, "above_floor", triggers, HYBRID, TWIN)
    raw = _difference(config, table, "attack_success_rate", triggers, HYBRID, TWIN)
    price = _difference(config, table, "backdoor_accuracy", triggers, HYBRID, TWIN)

    def rate(head: str, text: str) -> float:
        return table.mean("attack_success_rate", main_spec(config, head, text)).value

    limit = SUCCESS / 100
    saved = [t for t in triggers if rate(TWIN, t) >= limit > rate(HYBRID, t)]
    doubt = _sound(config, table, (HYBRID, TWIN), triggers)
    status: Status = "unclear" if doubt else VERDICTS[sign(d)]
    out = [
        Finding(
            "Hybrid networks are more robust to backdoors than their classical twins.",
            status,
            f"attack success rate above the clean model's floor, hybrid minus twin, mean over {len(triggers)} triggers "
            f"of Table 1: {points(d)} over {seeds(len(config.seeds))}; without taking off the floors {points(raw)}; "
            f"accuracy of the same networks {points(price)}. Triggers that reach {SUCCESS:.0f} % in the twin and not "
            f"in the hybrid network: {_words(saved)}{doubt}",
            "patches of 1 and 4 pixels and blends of 0.05 and 0.10 fail on hybrid networks alone",
        )
    ]
    larger = _both(config, table, [*config.larger, config.control], HYBRID, TWIN)
    more = list(dict.fromkeys(larger))
    if more:
        d = _difference(config, table, "above_floor", more, HYBRID, TWIN)
        out.append(
            Finding(
                "Under larger patches, which suit small pictures, hybrid networks are more robust too.",
                "unclear" if doubt else VERDICTS[sign(d)],
                f"above the floor, hybrid minus twin, {_words(more)}: {points(d)}{doubt}",
            )
        )
    return out


def _fit(config: HQNNBackdoor, table: Table) -> list[Finding]:
    """Ask whether what resists poison just learns less of anything."""
    triggers = _both(config, table, config.table1, HYBRID, TWIN)
    if not triggers:
        return []
    clean = table.paired("train_accuracy", [main_spec(config, HYBRID, CLEAN)], [main_spec(config, TWIN, CLEAN)])
    poison = _difference(config, table, "train_attack_success_rate", triggers, HYBRID, TWIN)
    return [
        Finding(
            "Hybrid networks fit their training pictures as well as their twins do.",
            "fails" if sign(clean) < 0 else "unclear",
            f"accuracy on clean training pictures, hybrid minus twin: {points(clean)}; success on the poisoned "
            f"training pictures, mean over {len(triggers)} triggers of Table 1: {points(poison)}. What learns less of "
            "everything learns less poison too",
        )
    ]


def _what_part(config: HQNNBackdoor, table: Table) -> list[Finding]:
    triggers = [t for t in config.probes if all(table.has(main_spec(config, h, t)) for h in (HYBRID, *config.heads))]
    if not triggers or not config.heads:
        return []
    found = {h: _difference(config, table, "above_floor", triggers, HYBRID, h) for h in config.heads}
    price = {h: _difference(config, table, "backdoor_accuracy", triggers, HYBRID, h) for h in config.heads}
    doubt = _sound(config, table, (HYBRID, *config.heads), triggers)
    signs = {head: sign(d) for head, d in found.items()}
    status: Status = "unclear"
    if not doubt and "prodsin" in signs:
        status = "fails" if max(signs.values()) > 0 else "holds" if set(signs.values()) == {-1} else "unclear"
    return [
        Finding(
            "It is the circuit that makes hybrid networks more robust, not a narrow head or a product of sines.",
            status,
            f"above the floor, hybrid minus each classical head, mean over {_words(triggers)}: "
            + "; ".join(f"{NAMES[head]} {points(d)}, accuracy {points(price[head])}" for head, d in found.items())
            + doubt,
        )
    ]


def _frozen(config: HQNNBackdoor, table: Table) -> list[Finding]:
    parts, highest, learnt, controlled = [], 0.0, False, True
    for part in config.sets[:2]:
        for head in (HYBRID, TWIN):
            for text in ("qcolor", config.control):
                deep = layers(head, config.depth)
                spec = Spec(part.name, part.backbones[0], head, deep, text, config.poison_rate, 0)
                if not table.has(spec, frozen=True):
                    continue
                above, rate = (table.mean(m, spec, frozen=True) for m in ("above_floor", "attack_success_rate"))
                highest = max(highest, above.high)
                learnt |= above.low > LITTLE
                if text == config.control and part == config.sets[0] and table.has(spec):
                    controlled &= table.mean("attack_success_rate", spec).value >= SUCCESS / 100
                who = f"{part.name}, {NAMES[head]}, {trigger_words(text)}"
                parts.append(f"{who} {rate.percent()} % ({points_of(above)} above the clean head)")
    if not parts:
        return []
    return [
        Finding(
            "A head on a frozen clean backbone does not learn a backdoor.",
            "fails" if learnt else "holds" if highest < LITTLE and controlled else "unclear",
            f"attack success rates: {'; '.join(parts)}; more than {100 * LITTLE:.0f} points above counts as learnt",
            "both accuracies stay and no triggered picture is turned",
        )
    ]


def points_of(mean: Mean) -> str:
    """Return a mean difference of shares in points."""
    return f"{100 * mean.value:+.1f} points [{100 * mean.low:+.1f}, {100 * mean.high:+.1f}]".replace("-", "−")


def _rates(config: HQNNBackdoor, table: Table) -> list[Finding]:
    limit = SUCCESS / 100
    rates = sorted(config.rates, reverse=True)
    found = {
        text: {
            r: table.mean("attack_success_rate", spec)
            for r in rates
            if table.has(spec := main_spec(config, HYBRID, text, rate=r))
        }
        for text in config.table6
    }
    mine = found.get("qcolor", {})
    if len(mine) < 2:
        return []
    rivals = {text: of for text, of in found.items() if text != "qcolor" and of}
    beaten = bool(rivals) and all(of[min(of)].high < limit for of in rivals.values())
    status: Status = "unclear"
    if any(m.high < limit for m in mine.values()):
        status = "fails"
    elif all(m.low >= limit for m in mine.values()) and beaten:
        status = "holds"
    detail = "; ".join(
        f"{trigger_words(text)} " + ", ".join(f"{100 * r:g} %: {m.percent()} %" for r, m in of.items())
        for text, of in found.items()
        if of
    )
    return [
        Finding(
            "Qcolor works at every poisoning rate, where other triggers need much poison.",
            status,
            f"attack success rates of the hybrid network: {detail}; a backdoor counts as working from {SUCCESS:.0f} %",
            "Qcolor above 94 % at all rates from 10 % to 1 %; all others fail below 3 %",
        )
    ]


def _stealth(config: HQNNBackdoor, table: Table) -> list[Finding]:
    main = config.sets[0].name
    seen = {t: r for t in config.table6 if (r := table.one("ssim", data=main, trigger=t)) is not None}
    rivals = {t: r for t, r in seen.items() if t != "qcolor" and not t.startswith("patch")}
    if "qcolor" not in seen or not rivals:
        return []
    mine = seen["qcolor"]
    status: Status = "unclear"
    if all((r.high or 0.0) < (mine.low or 0.0) for r in rivals.values()):
        status = "holds"
    elif any((r.low or 0.0) > (mine.high or 0.0) for r in rivals.values()):
        status = "fails"
    return [
        Finding(
            "Qcolor is harder to see than the other triggers that change whole pictures.",
            status,
            "SSIM: " + ", ".join(f"{trigger_words(t)} {100 * r.value:.2f} %" for t, r in seen.items()),
            "SSIM 99.9 % against 91.6 to 92.8 %",
        )
    ]


def _depth(config: HQNNBackdoor, table: Table) -> list[Finding]:
    depths = [d for d in sorted(config.depths) if table.has(main_spec(config, HYBRID, "qcolor", depth=d))]
    if len(depths) < 2:
        return []
    first, last = (main_spec(config, HYBRID, CLEAN, depth=d) for d in (depths[0], depths[-1]))
    gain = table.paired("clean_accuracy", [last], [first])
    rates = [table.mean("attack_success_rate", main_spec(config, HYBRID, "qcolor", depth=d)) for d in depths]
    limit = SUCCESS / 100
    status: Status = "unclear"
    if sign(gain) < 0 or any(r.high < limit for r in rates):
        status = "fails"
    elif sign(gain) > 0 and all(r.low >= limit for r in rates):
        status = "holds"
    return [
        Finding(
            f"More layers ({depths[0]} to {depths[-1]}) make the network more accurate, and Qcolor works with each.",
            status,
            f"clean accuracy, {depths[-1]} minus {depths[0]} layers: {points(gain)}; attack success rates "
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
    said = "an optimum." if best.value else "one choice of several: no optimum is shown."
    detail = f"{ties.value:.0f} others have a loss within the spread over seeds, {spread.value:.2f} nats"
    if best.config["rule"] == "knee":
        said, detail = "the knee of the front, as none is similar enough.", "no optimum is claimed"
    ratios = ", ".join(f"{best.config[name]:.3f}" for name in ("r1", "r2", "r3"))
    return [Finding(f"The ratios that the search chose for Qcolor are {said}", "info", f"r = ({ratios}); {detail}")]


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
    logs = [[math.log(norms[head][seed]) for seed in both] for head in (HYBRID, TWIN)]
    d = paired_bootstrap(*logs, generator=torch.Generator().manual_seed(0)) if len(both) > 1 else None
    interval = "" if d is None else f", mean {math.exp(d.value):.2f} [{math.exp(d.low):.2f}, {math.exp(d.high):.2f}]"
    ratios = ", ".join(f"{norms[HYBRID][s] / norms[TWIN][s]:.2f}" for s in both)
    return [
        Finding(
            "Gradients of hybrid networks are larger than those of their twins (Tables 2 and 3).",
            VERDICTS[-sign(d)],
            f"norm of the whole gradient after training, hybrid over twin, by seed: {ratios}{interval}",
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
            f"40 attack success rates are {published.ZERO}{measured}. Table 6, hybrid ResNet-18 at 10 %, patches and "
            f"Color: {published.REUSED}. Table 4: accuracies {published.SHIFTED}. Also, {published.FOUR_VALUES}. "
            "All are single runs without intervals",
        )
    ]
