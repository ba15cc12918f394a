"""What the results say about the paper's claims."""

from collections.abc import Mapping, Sequence
from typing import Literal

from redqubit.experiments.qnad import published
from redqubit.experiments.qnad.config import CROSSTALK, INTRINSIC, JUDGED, LOWEST, RANDOM, SOURCE, Case, QNADStudy
from redqubit.experiments.qnad.figures import figures
from redqubit.experiments.qnad.judge import CONTRACTED, DETERMINISTIC, GAUSSIAN
from redqubit.experiments.qnad.plan import ATTACKS, NAMES, NONE, ON_TEST, RAW, VALIDATED, in_order
from redqubit.experiments.qnad.table import WITH, WITHOUT, Table, gain, judged, mean_of
from redqubit.experiments.qnad.tables import adaptive, grid, percent, radius, table1
from redqubit.experiments.qnad.trust import flags, limits
from redqubit.experiments.seeds import points, seeds, short, sign
from redqubit.result import Finding, Result, Summary
from redqubit.statistics import Difference

Status = Literal["holds", "fails", "unclear", "info"]
Found = Mapping[str, Difference | None]  # by case and attack, or case and radius
IN_WORDS = {
    INTRINSIC: "The device's own noise",
    CROSSTALK: "Crosstalk on the weights of greatest gradient",
    RANDOM: "Crosstalk on random weights",
    LOWEST: "Crosstalk on the weights of least gradient",
}


def summarise(config: QNADStudy, results: Sequence[Result]) -> Summary:
    """Return the verdict and the panels."""
    table = Table(results)
    cases = [case for case in config.cases if table.has(case)]
    found = [
        *_verdicts(table, cases),
        *_grey(table, cases),
        *_selection(table, cases),
        *_controls(table, cases),
        *_quotient(table, cases),
        *_optimism(table, cases),
        *(Finding(f"Doubt about the paper: {text}") for text in published.DOUBTS),
    ]
    panels = [
        *adaptive(config, table, cases),
        *(panel for case in cases for panel in grid(table, case)),
        *table1(config, table, cases),
        *figures(config, table, in_order(config, ())),
    ]
    return Summary(
        title="Quantum noise and crosstalk as a defense: QNAD before attackers who know it",
        subtitle=f"Independent replication: {', '.join(c.name for c in cases)}; {seeds(len(config.seeds))}",
        findings=tuple(found),
        panels=tuple(panels),
        flags=flags(table, cases),
        cost={"networks trained": len(cases) * len(config.seeds)},
        source=SOURCE,
        limits=limits(config, table),
    )


def agreed(found: Found) -> Status:
    """Return the verdict on "it is more" on which all agree, or unclear."""
    signs = {sign(d) for d in found.values()}
    return "holds" if signs == {1} else "fails" if signs == {-1} else "unclear"


def _listed(found: Found) -> str:
    return "; ".join(f"{name} {points(d)}" for name, d in found.items())


def _verdicts(table: Table, cases: Sequence[Case]) -> list[Finding]:
    """Say of each defense whether it helps before an attacker who knows it."""
    out = []
    for defense in JUDGED:
        found = {
            f"{case.name}, {radius(case, eps)}": judge
            for case in cases
            for eps in case.judged_eps
            if (judge := judged(table, case, defense, eps)) is not None
        }
        if not found:
            continue
        outcomes = {judge.verdict.outcome for judge in found.values()}
        status: Status = "holds" if outcomes == {"helps"} else "unclear" if outcomes & {"helps", "unclear"} else "fails"
        out.append(
            Finding(
                f"{IN_WORDS[defense]} helps before an attacker who knows it.",
                status,
                "accuracy with minus without, worst of all attacks, and on clean pictures: "
                + "; ".join(
                    f"{name}: {j.verdict.outcome}, {points(j.adaptive)}, clean {points(j.clean)}"
                    for name, j in found.items()
                ),
                "not tried",
            )
        )
    return out


def _per_attack(table: Table, cases: Sequence[Case], a: str, b: str) -> Found:
    return {
        f"{case.name}, {NAMES[attack]}": gain(
            *(table.accuracy(case, defense, attack, case.shown_eps) for defense in (a, b))
        )
        for case in cases
        for attack in ATTACKS
    }


def _grey(table: Table, cases: Sequence[Case]) -> list[Finding]:
    """Say what the noise changes before an attacker who does not know it."""
    if not cases:
        return []
    intrinsic = _per_attack(table, cases, INTRINSIC, NONE)
    more = _per_attack(table, cases, VALIDATED, INTRINSIC)
    left = {
        defense: [table.accuracy(case, defense, attack, case.shown_eps) for case in cases for attack in ATTACKS]
        for defense in (INTRINSIC, VALIDATED)
    }
    chance = [1 / table.n_classes(case) for case in cases for _ in ATTACKS]
    above = {d: [mean_of(a).low > share for a, share in zip(left[d], chance, strict=True)] for d in left}
    told = {d: ", ".join(f"{short(mean_of(a))} %" for a in left[d]) for d in left}
    clean = {
        case.name: gain(*(table.accuracy(case, d, "pgd", case.shown_eps, clean=True) for d in (VALIDATED, INTRINSIC)))
        for case in cases
    }
    return [
        Finding(
            "The device's own noise raises accuracy under attacks made on the network without it.",
            agreed(intrinsic) if all(above[INTRINSIC]) else "unclear",
            f"with noise minus without, at the radius of Table I: {_listed(intrinsic)}. Left, where chance is "
            f"{' and '.join(f'{100 * share:.0f} %' for share in sorted(set(chance)))}: {told[INTRINSIC]}",
            "relative improvements of up to 144 % and 183 % (LeNet), 26 and 28 % (AlexNet), 43 and 44 % (VGG16)",
        ),
        Finding(
            "Crosstalk adds to that.",
            agreed(more) if all(above[VALIDATED]) else "unclear",
            f"crosstalk at the level that validation chose minus the device's own noise: {_listed(more)}. Left: "
            f"{told[VALIDATED]}. On clean pictures, levels chosen under PGD: {_listed(clean)}",
            "235 and 268 % instead of 144 and 183 % (LeNet)",
        ),
    ]


def _on_grid(table: Table, cases: Sequence[Case], a: tuple[str, str], b: tuple[str, str]) -> Found:
    """Return how much more one model gets right than another of what was made on the bare network; (defense, model)."""
    return {
        f"{case.name}, {radius(case, eps)}": gain(
            *(table.path(case, defense, eps, WITHOUT, on) for defense, on in (a, b))
        )
        for case in cases
        for eps in case.judged_eps
        if all(table.worst(case, defense, eps, WITH) for defense in (a[0], b[0]))
    }


def _selection(table: Table, cases: Sequence[Case]) -> list[Finding]:
    random, lowest = (_on_grid(table, cases, (CROSSTALK, WITH), (other, WITH)) for other in (RANDOM, LOWEST))
    if not random:
        return []
    return [
        Finding(
            "Crosstalk on the weights of greatest gradient protects more than on as many random ones.",
            agreed(random),
            f"PGD made on the network itself, gradient minus random: {_listed(random)}; minus least gradient: "
            f"{_listed(lowest)}",
            "no other choice was tried",
        )
    ]


def _controls(table: Table, cases: Sequence[Case]) -> list[Finding]:
    out = []
    for defense in (INTRINSIC, CROSSTALK):
        against = {
            "Gaussian noise of the same power": _on_grid(table, cases, (defense, WITH), (defense, GAUSSIAN)),
            "its deterministic part": _on_grid(table, cases, (defense, WITH), (defense, DETERMINISTIC)),
            "weights scaled alike": _on_grid(table, cases, (defense, WITH), (defense, CONTRACTED)),
        }
        if not any(against.values()):
            continue
        gaussian = next(iter(against.values()))
        out.append(
            Finding(
                f"{IN_WORDS[defense]} protects more than Gaussian noise of the same power.",
                agreed(gaussian),
                "PGD made on the network itself, accuracy minus that of "
                + "; ".join(f"{name}: {_listed(found)}" for name, found in against.items()),
                "not tried",
            )
        )
    return out


def _quotient(table: Table, cases: Sequence[Case]) -> list[Finding]:
    parts = []
    for case in cases:
        for attack in ATTACKS:
            eps = case.shown_eps
            quotient = table.by_seed("relative_gain", case, defense=RAW, attack=attack, eps=eps)
            attacked_by_seed = table.accuracy(case, NONE, attack, eps)
            attacked, raw = mean_of(attacked_by_seed), mean_of(table.accuracy(case, RAW, attack, eps))
            clean = mean_of(table.accuracy(case, RAW, attack, eps, clean=True))
            parts.append(
                f"{case.name}, {NAMES[attack]}: {short(attacked)} % becomes {short(raw)} %, "
                + (f"an improvement of {percent(quotient, len(attacked_by_seed))} %, " if quotient else "")
                + f"by a network that gets {short(clean)} % of clean "
                "pictures right"
            )
    if not parts:
        return []
    return [
        Finding(
            "What the relative improvement rewards: the device with its offsets left in.",
            "info",
            "; ".join(parts),
        )
    ]


def _optimism(table: Table, cases: Sequence[Case]) -> list[Finding]:
    found = _per_attack(table, cases, ON_TEST, VALIDATED)
    if not found:
        return []
    return [
        Finding(
            "Choosing the level of crosstalk on the attacked test pictures flatters it.",
            agreed(found),
            f"chosen on the test minus chosen on validation: {_listed(found)}",
            "chosen on the test",
        )
    ]
