"""Table I, ours beside the published numbers, and what it leaves out: the attackers who know the defense."""

from redqubit.experiments.qnad import published
from redqubit.experiments.qnad.config import INTRINSIC, JUDGED, PRESETS, Case, QNADStudy
from redqubit.experiments.qnad.judge import CONTRACTED, DETERMINISTIC, GAUSSIAN
from redqubit.experiments.qnad.plan import ATTACKS, NAMES, NONE, ON_TEST, RAW, VALIDATED
from redqubit.experiments.qnad.table import ONE_DRAW, WITH, WITHOUT, BySeed, Table, gain, judged, mean_of
from redqubit.experiments.seeds import NBSP, agree, gap, seeds, short, sign
from redqubit.result import Panel

SECTION = "Table I: relative improvement"
ADAPTIVE = "Attackers who know the defense"
FEW_RIGHT = 0.05  # accuracy below which a quotient by it says nothing


def is_full(config: QNADStudy, case: Case) -> bool:
    """Return whether network, data and levels are those of the preset `paper`."""
    reference = PRESETS["paper"]
    same = ("fractions", "pairs", "ratio", "shots")
    return case in reference.cases and all(getattr(config, f) == getattr(reference, f) for f in same)


def radius(case: Case, eps: float) -> str:
    """Return a radius as tables name it."""
    of_255 = 255 * eps
    return f"{of_255:.0f}/255" if abs(of_255 - round(of_255)) < 1e-6 and case.shown_eps < 0.1 else f"{eps:g}"


def percent(found: BySeed, n: int) -> str:
    """Return relative improvements over n seeds: the mean, the range, and of how many where some have no quotient."""
    values = [100 * r.value for r in found.values()]
    if not values:
        return "–"
    of = "" if len(values) == n else f", {len(values)}{NBSP}of{NBSP}{n}{NBSP}seeds"
    spread = f"({min(values):+.0f}{NBSP}to{NBSP}{max(values):+.0f}{of})"
    return f"{sum(values) / len(values):+.0f} {spread}".replace("-", "−")


def status(config: QNADStudy, table: Table, case: Case, attack: str) -> str:
    """Return how the relative improvement compares with the published one, its level chosen as there."""
    theirs = published.TABLE1.get((case.name, attack))
    if theirs is None:
        return "–"
    ours = table.by_seed("relative_gain", case, defense=ON_TEST, attack=attack, eps=case.shown_eps)
    if len(ours) < len(config.seeds):
        return "not comparable"  # nothing is left to divide by
    if is_full(config, case) and agree(ours.values(), theirs):
        return "reproduced"
    d = gain(table.accuracy(case, ON_TEST, attack, case.shown_eps), table.accuracy(case, NONE, attack, case.shown_eps))
    return "trend only" if sign(d) > 0 else "not reproduced"


def table1(config: QNADStudy, table: Table, cases: list[Case]) -> list[Panel]:
    """Return absolute accuracies first, and then the quotient that the paper prints."""
    rows: list[list[object]] = []
    quotients: list[list[object]] = []
    for case in cases:
        for attack in ATTACKS:
            eps = case.shown_eps
            where = [case.name, f"{NAMES[attack]}, {radius(case, eps)}"]

            def accuracy(defense: str, *, clean: bool = False, attack: str = attack, case: Case = case) -> str:
                return short(mean_of(table.accuracy(case, defense, attack, case.shown_eps, clean=clean)))

            theirs = published.CLEAN.get(case.name)
            rows.append(
                [
                    *where,
                    f"{accuracy(NONE, clean=True)} ({'–' if theirs is None else f'{100 * theirs:.1f}'})",
                    f"{accuracy(INTRINSIC, clean=True)} / {accuracy(VALIDATED, clean=True)}",
                    *(accuracy(defense) for defense in (NONE, INTRINSIC, RAW, VALIDATED, ON_TEST)),
                ]
            )
            ours = [
                percent(
                    table.by_seed("relative_gain", case, defense=defense, attack=attack, eps=eps), len(config.seeds)
                )
                for defense in (INTRINSIC, RAW, VALIDATED, ON_TEST)
            ]
            key = (case.name, attack)
            printed = published.INTRINSIC.get(key), published.TABLE1.get(key)
            quotients.append(
                [
                    *where,
                    *ours,
                    " / ".join("–" if value is None else f"{100 * value:g}" for value in printed),
                    status(config, table, case, attack),
                ]
            )
    if not rows:
        return []
    n = ", ".join(f"{case.n_test:,} pictures of {case.name}" for case in cases)
    return [
        Panel(
            "facts",
            "Accuracy under attacks made on the network itself",
            f"Percent, ± half of the 95 % interval over {seeds(len(config.seeds))}, each with {n}. The attacker does "
            "not know the noise, as in the paper. Offsets left: the device's noise with the read-out's offsets, which "
            "sums of products add up. The last two columns choose fraction and pairs of crosstalk on attacked "
            "validation pictures, and on the attacked test pictures themselves, as the paper does. Chance is "
            + " and ".join(f"{100 / n:.0f} %" for n in sorted({table.n_classes(case) for case in cases}))
            + ".",
            SECTION,
            data={
                "columns": [
                    "network",
                    "attack",
                    "clean (published)",
                    "clean with noise / crosstalk",
                    "attacked",
                    INTRINSIC,
                    RAW,
                    VALIDATED,
                    ON_TEST,
                ],
                "rows": rows,
            },
        ),
        Panel(
            "facts",
            "The same as relative improvement (the paper's Table I)",
            "Accuracy with noise over that without, both attacked, minus 1; percent, mean and range over seeds. – "
            f"where nothing was left to divide by; below {100 * FEW_RIGHT:.0f} % of attacked accuracy it says nothing. "
            "Published: up to, by the device's noise / Table I. Reproduced: the published number could be one more "
            "seed of ours (95 % prediction interval); trend only: both are above 0.",
            SECTION,
            data={
                "columns": ["network", "attack", INTRINSIC, RAW, VALIDATED, ON_TEST, "published", "status"],
                "rows": quotients,
            },
        ),
    ]


def adaptive(config: QNADStudy, table: Table, cases: list[Case]) -> list[Panel]:
    """Return what each defense leaves before attackers who know it, and the verdict."""
    rows: list[list[object]] = []
    controls: list[list[object]] = []
    verdicts: list[list[object]] = []
    for case in cases:
        for eps in case.judged_eps:
            for defense in JUDGED:
                if not table.worst(case, defense, eps, WITH):
                    continue

                def path(
                    made: str,
                    on: str = WITH,
                    attack: str = "pgd",
                    case: Case = case,
                    defense: str = defense,
                    eps: float = eps,
                ) -> str:
                    return short(mean_of(table.path(case, defense, eps, made, on, attack)))

                where = [f"{case.name}, {radius(case, eps)}", defense]
                rows.append(
                    [
                        *where,
                        path(WITHOUT, WITHOUT),
                        path(WITHOUT),
                        path(DETERMINISTIC),
                        path(ONE_DRAW),
                        path(WITH),
                        path(WITH, attack="fgsm"),
                        path("square with"),
                    ]
                )
                controls.append(
                    [
                        *where,
                        *(short(mean_of(table.worst(case, defense, eps, side))) for side in (WITHOUT, WITH)),
                        path(GAUSSIAN, GAUSSIAN),
                        path(CONTRACTED, CONTRACTED),
                    ]
                )
                found = judged(table, case, defense, eps)
                if found is not None:
                    verdicts.append(
                        [*where, gap(found.clean), gap(found.grey), gap(found.adaptive), found.verdict.outcome]
                    )
    if not rows:
        return []
    n = ", ".join(f"{case.n_judged} of {case.name} with PGD of {case.steps} steps" for case in cases)
    return [
        Panel(
            "facts",
            "Verdicts",
            f"Accuracy with the defense minus without, in points, paired over {seeds(len(config.seeds))}, with 95 % "
            f"intervals; {n}. Worst: the attack that fools each picture most. Crosstalk at the level that validation "
            "chose, on the weights of greatest gradient, on random ones and on those of least gradient.",
            ADAPTIVE,
            data={
                "columns": ["network, radius", "defense", "clean", "made without", "worst of all", "verdict"],
                "rows": verdicts,
            },
        ),
        Panel(
            "facts",
            "What attacks leave",
            "Accuracy in percent. PGD made without the noise and shown to the network without and with it; made on the "
            "deterministic part alone, through one draw, and through the mean of as many draws as convergence asks "
            f"for, at most {', '.join(f'{case.limit} for {case.name}' for case in cases)}, all shown to the network "
            "with noise; FGSM through the same mean; queries (Square).",
            ADAPTIVE,
            data={
                "columns": [
                    *("network, radius", "defense", "bare", "made without", "noise left out", "one draw"),
                    *("EOT", "FGSM, EOT", "queries"),
                ],
                "rows": rows,
            },
        ),
        Panel(
            "facts",
            "The worst of all attacks, and controls",
            "Accuracy in percent. Worst: of all attacks on each picture, without and with the defense. Controls, each "
            "under PGD made on itself: the bare network with Gaussian noise of the same power behind each layer, and "
            "with each layer's weights scaled alike.",
            ADAPTIVE,
            data={
                "columns": ["network, radius", "defense", "worst without", "worst with", GAUSSIAN, CONTRACTED],
                "rows": controls,
            },
        ),
    ]


def grid(table: Table, case: Case) -> list[Panel]:
    """Return the four paths of each defense with controls, at the first radius that is judged."""
    eps = case.judged_eps[0]
    if not table.worst(case, INTRINSIC, eps, WITH):
        return []
    order = ["clean", WITHOUT, DETERMINISTIC, ONE_DRAW, WITH, GAUSSIAN, CONTRACTED]
    panel = Panel(
        "heatmap",
        f"{case.name}: made against (rows), evaluated on (columns)",
        f"PGD at {radius(case, eps)}, mean over seeds. Without: the bare network; with: on the device.",
        ADAPTIVE,
        "grid_accuracy",
        "judged",
        "evaluated on",
        "made against",
        "made",
        where={"case": case.name, "attack": "pgd", "eps": eps, "made": order},
        data={"facet": "defense", "order": [*order, *JUDGED], "unit": "%"},
    )
    return [panel]
