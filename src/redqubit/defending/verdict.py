"""What the results of defenses say: each against its clean models, and the positive control before all others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redqubit.defending.cells import CLEAN
from redqubit.defending.config import METHODS
from redqubit.defenses.fine_pruning import ALIVE, TOLERATED_LOSS
from redqubit.detection import ANOMALOUS, null_band
from redqubit.result import Finding, Flag, Result, Severity

TITLES = {"strip": "STRIP", "neural_cleanse": "Neural Cleanse", "fine_pruning": "Fine-Pruning"}
SCORES = {"strip": "strip_auroc", "neural_cleanse": "model_anomaly_index"}  # a detector's number for one model
NAMES = {"strip": "AUROC", "neural_cleanse": "anomaly index"}
CONTROL = 0.8  # attack success rate from which a backdoor can be a positive control
NEEDED = 3  # clean models of a family
LEVEL = 0.05  # chance at which clean models would look as suspicious


@dataclass(frozen=True)
class Outcome:
    """What a defense did about one backdoor in one family of models.

    Attributes:
        family: Of the models.
        backdoor: Its trigger and how much was poisoned.
        trigger: Its trigger alone.
        success: Mean attack success rate of the models as they are.
        status: Whether the defense found (or removed) it in every model, in none, or cannot be told.
        detail: The numbers.
    """

    family: str
    backdoor: str
    trigger: str
    success: float
    status: Literal["works", "misses", "unclear"]
    detail: str


def findings(results: Sequence[Result], control: str | None = None) -> list[Finding]:
    """Return the verdict on each defense, the positive control first.

    A detector finds a backdoor when each of its models has a higher number than every clean model of the family, and
    chance does that in 5 % of cases at most: 1 / C(n + m, m) for m models and n clean ones, or all lie above the 95 %
    prediction interval of the clean ones. Fine-Pruning removes a backdoor when a rate leaves the attack success rate
    below 50 % and the accuracy within 5 points. That a defense misses a backdoor says something only when it works on
    the control.

    Args:
        results: Those of `defense_cells`; others among them are left alone.
        control: Trigger, as `trigger_label` gives it, of a backdoor that any such defense should deal with.
    """
    found = {name: outcomes(results, name) for name in METHODS}
    found = {name: group for name, group in found.items() if group}
    out: list[Finding] = []
    trusted = set[str]()
    if found and control is None:
        out.append(
            Finding(
                "No positive control was named: a defense that misses a backdoor may just not work on these models.",
                "info",
                "name the trigger of a backdoor that is known to be strong, such as a large patch, as the control",
            )
        )
    for name, group in found.items():
        if control is not None:
            verdict = _on_control(name, control, [o for o in group if o.trigger == control])
            out.append(verdict)
            trusted |= {name} if verdict.status == "holds" else set()
    out += _false_alarms(results)
    out += _number_of_tests([o for name, group in found.items() if name in SCORES for o in group])
    for name, group in found.items():
        for family in dict.fromkeys(o.family for o in group):
            others = [o for o in group if o.family == family and o.trigger != control]
            if others:
                out.append(_on_family(name, family, others, trusted=name in trusted, named=control is not None))
    return out


def checks(results: Sequence[Result], control: str | None = None) -> list[Flag]:
    """Return the trust checks: is there a positive control that each defense deals with, and are there clean models.

    Args:
        results: Those of `defense_cells`; others among them are left alone.
        control: As `findings` takes it.
    """
    out = []
    for name in METHODS:
        group = outcomes(results, name)
        if not group:
            continue
        verdict = None if control is None else _on_control(name, control, [o for o in group if o.trigger == control])
        worked = verdict is not None and verdict.status == "holds"
        said = "No positive control was named." if verdict is None else verdict.text
        out.append(Flag("no-positive-control", "ok" if worked else "warning", said, subject=TITLES[name]))
        for family in dict.fromkeys(o.family for o in group) if name in SCORES else ():
            n = len(
                {
                    r.cell
                    for r in results
                    if r.config.get("defense") == name and r.config["family"] == family and r.config["model"] == CLEAN
                }
            )
            said = f"{n} clean models are what models with a backdoor are compared with; {NEEDED} are asked for."
            subject = f"{TITLES[name]} / {family}"
            out.append(Flag("few-clean-models", "ok" if n >= NEEDED else "warning", said, {"models": n}, subject))
        for o in group:
            said = f"The trigger {o.backdoor} calls up the target in {_percent(o.success)} of cases."
            subject = f"{TITLES[name]} / {o.family}, {o.backdoor}"
            alive: Severity = "ok" if o.success >= ALIVE else "warning"
            out.append(Flag("weak-backdoor", alive, said, {"success rate": o.success}, subject))
    return out


def outcomes(results: Sequence[Result], defense: str) -> list[Outcome]:
    """Return what a defense did, by family and backdoor."""
    own = [r for r in results if r.config.get("defense") == defense and "backdoor" in r.config]
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for r in own:
        if r.config["model"] != CLEAN:
            groups.setdefault((r.config["family"], r.config["backdoor"], r.config["trigger"]), []).append(r)
    found = []
    for (family, backdoor, trigger), group in groups.items():
        rates = [r.value for r in group if r.metric == "attack_success_rate" and r.config.get("rate", 0.0) == 0]
        success = sum(rates) / len(rates) if rates else math.nan
        if defense == "fine_pruning":
            status, detail = _removed(group)
        else:
            null = [r for r in own if r.config["family"] == family and r.config["model"] == CLEAN]
            if defense == "strip":  # which shows each trigger to the clean models
                null = [r for r in null if r.config["trigger"] == trigger]
            status, detail = _detected(_scores(group, defense), _scores(null, defense), NAMES[defense])
        if not success >= ALIVE:
            status, detail = "unclear", f"its success rate is {_percent(success)}: hardly a backdoor"
        else:
            detail = f"success rate {_percent(success)}, {detail}"
        found.append(Outcome(family, backdoor, trigger, success, status, detail))
    return found


def _scores(results: Sequence[Result], defense: str) -> list[float]:
    return [r.value for r in results if r.metric == SCORES[defense]]


def _detected(
    values: Sequence[float], null: Sequence[float], name: str
) -> tuple[Literal["works", "misses", "unclear"], str]:
    """Compare a detector's numbers with those of clean models."""
    told = f"{name} {_span(values)}, of clean models {_span(null)}"
    if len(null) < 2 or not all(map(math.isfinite, null)):
        return "unclear", f"{told}: fewer than 2 to compare with"
    band = null_band(null)
    p = [band.p_value(v) for v in values]
    chance = 1 / math.comb(len(values) + len(null), len(values))
    alarms = sum(v > max(null) for v in values)
    told += (
        f" with 95 % band {_span((band.low, band.high))}; {alarms} of {len(values)} above every clean model, p = "
        f"{_span(p)}"
    )
    if alarms == 0:
        return "misses", told
    if alarms < len(values) or (chance > LEVEL and min(values) <= band.high):
        return "unclear", f"{told}; chance does as much in {_percent(chance)} of cases or more"
    return "works", told


def _removed(group: Sequence[Result]) -> tuple[Literal["works", "misses", "unclear"], str]:
    """Return in how many models some rate removes the backdoor and keeps the accuracy."""
    cells = dict.fromkeys(r.cell for r in group)
    by: dict[str, set[str]] = {}  # ranking to the models that it mends
    for cell in cells:
        at = {
            (r.config["ranking"], r.config["rate"], r.metric): r.value
            for r in group
            if r.cell == cell and "rate" in r.config
        }
        for (ranking, rate, metric), success in at.items():
            by.setdefault(ranking, set())
            if metric != "attack_success_rate" or rate == 0:
                continue
            kept = at[ranking, rate, "benign_accuracy"] >= at[ranking, 0.0, "benign_accuracy"] - TOLERATED_LOSS
            if kept and success < ALIVE:
                by[ranking].add(cell)
    if not by:
        return "unclear", "there is no convolution to prune"
    mended = set().union(*by.values())
    told = "removed at a rate that keeps the accuracy: " + ", ".join(
        f"{ranking} {len(fixed)} of {len(cells)}" for ranking, fixed in by.items()
    )
    return "works" if len(mended) == len(cells) else "unclear" if mended else "misses", told


def _on_control(name: str, control: str, group: Sequence[Outcome]) -> Finding:
    strong = [o for o in group if o.success >= CONTROL]
    verb = "removes" if name == "fine_pruning" else "finds"
    if not strong:
        told = "; ".join(f"{o.family}: success rate {_percent(o.success)}" for o in group) or "no model has it"
        return Finding(
            f"{TITLES[name]} has no positive control: no backdoor of {control} succeeds in {_percent(CONTROL)} of "
            "cases.",
            "unclear",
            told,
        )
    works = [o for o in strong if o.status == "works"]
    detail = _details(strong, with_family=True)
    if works:
        families = "; ".join(dict.fromkeys(o.family for o in works))
        return Finding(f"{TITLES[name]} {verb} the positive control, {control}, in {families}.", "holds", detail)
    missed = all(o.status == "misses" for o in strong)
    return Finding(
        f"{TITLES[name]} is not shown to {verb[:-1]} even the positive control, {control}: that it fails on another "
        "trigger says nothing.",
        "fails" if missed else "unclear",
        detail,
    )


def _on_family(name: str, family: str, group: Sequence[Outcome], *, trusted: bool, named: bool) -> Finding:
    verbs = {"works": "removes", "misses": "does not remove"} if name == "fine_pruning" else {}
    verbs = {"works": "finds", "misses": "misses", "unclear": "undecided on"} | verbs
    said = [
        f"{verb} {', '.join(o.backdoor for o in group if o.status == status)}"
        for status, verb in verbs.items()
        if any(o.status == status for o in group)
    ]
    kinds = {o.status for o in group}
    text = f"{TITLES[name]} on {family}: {'; '.join(said)}."
    if kinds == {"works"}:
        status: Literal["holds", "fails", "unclear"] = "holds"
    elif kinds == {"misses"} and trusted:
        status = "fails"
    else:
        status = "unclear"
    if "misses" in kinds and not trusted:
        text += " It is not shown to work on the positive control." if named else " There is no positive control."
    return Finding(text, status, _details(group, with_family=False))


def _false_alarms(results: Sequence[Result]) -> list[Finding]:
    """Say how often clean models exceed the usual threshold of Neural Cleanse."""
    mine = [r for r in results if r.config.get("defense") == "neural_cleanse" and r.metric == "anomaly_index"]
    clean = [r.value for r in mine if r.config["model"] == CLEAN]
    poisoned = [r.value for r in mine if r.config["model"] != CLEAN]
    if not mine:
        return []
    a, b = (f"{sum(v > ANOMALOUS for v in values)} of {len(values)}" for values in (clean, poisoned))
    return [
        Finding(
            f"Neural Cleanse's usual alarm, an anomaly index above {ANOMALOUS:g}, is raised by clean models in {a} "
            f"restarts, and by models with a backdoor in {b}.",
            "info",
            "the alarm is no test at a stated level; the verdicts here compare models with clean ones instead",
        )
    ]


def _number_of_tests(tried: Sequence[Outcome]) -> list[Finding]:
    """Say how often detectors would find something by chance alone."""
    if len(tried) < 2:
        return []
    return [
        Finding(
            f"Detectors were put to {len(tried)} tests, at a level of {_percent(LEVEL)} each.",
            "info",
            f"were they independent and no model backdoored, {_percent(1 - (1 - LEVEL) ** len(tried))} of such runs "
            "would show a detection",
        )
    ]


def _details(group: Sequence[Outcome], *, with_family: bool) -> str:
    return "; ".join(f"{o.family + ', ' if with_family else ''}{o.backdoor}: {o.detail}" for o in group)


def _span(values: Sequence[float]) -> str:
    if not values:
        return "(none)"
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return (low if low == high else f"{low} to {high}").replace("-", "−")


def _percent(share: float) -> str:
    return "unknown" if math.isnan(share) else f"{100 * share:.0f} %"
