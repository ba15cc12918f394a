"""What the defenses of an audit are worth: findings, trust checks and the panels of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from redqubit.adaptive import Verdict, decide
from redqubit.auditing.config import Audit
from redqubit.auditing.defenses import TRANSFER, WITH, WITHOUT, WORST, DefensePlan
from redqubit.data import Dataset
from redqubit.result import Finding, Flag, Result
from redqubit.sanity import black_box_check
from redqubit.statistics import Difference, mcnemar, paired_bootstrap

CLEAN, ONE_DRAW, MEAN_PART, STRAIGHT = "clean", "with, one draw", "deterministic part", "straight through"
Path = tuple[str, str]  # made against, evaluated on
Shares = Mapping[tuple[str, int, str, str, str], Tensor]  # by model, seed, defense and path: how often each is right

STATUS: Mapping[str, Literal["holds", "fails", "unclear"]] = {"helps": "holds", "unclear": "unclear"}  # else fails


@dataclass(frozen=True)
class Judged:
    """What a defense changes for one model, accuracy with it minus without.

    Attributes:
        clean: On clean samples.
        unaware: Under the attack that does not adapt to it and that it gains most against.
        adaptive: Under the worst of all attacks.
        verdict: What this says.
    """

    clean: Difference
    unaware: Difference
    adaptive: Difference
    verdict: Verdict


@dataclass(frozen=True)
class DefenseTable:
    """How the defenses of an audit fared.

    Attributes:
        config: Of the audit.
        plan: Which models and defenses.
        results: Of all cells of the audit.
        shares: How often each judged sample is right, by model, seed, defense, what the attack was made against, and
            whether it is evaluated with the defense or without.
        test_set: The judged samples.
    """

    config: Audit
    plan: DefensePlan
    results: Sequence[Result]
    shares: Shares
    test_set: Dataset

    def defenses(self, model: str) -> list[str]:
        """Return the defenses that are put on a model."""
        return [name for name, subjects in self.plan.applied.items() if model in {s.name for s in subjects}]

    def found(self, model: str, defense: str, metric: str, **where: object) -> list[Result]:
        """Return what each seed says of a metric."""
        where |= {"model": model, "defense": defense}
        return sorted(
            (r for r in self.results if r.metric == metric and where.items() <= r.config.items()),
            key=lambda r: r.seed or 0,
        )

    def seeds(self, model: str, defense: str) -> list[int]:
        """Return the seeds of a model with a defense."""
        return sorted(s for m, s, d, *path in self.shares if (m, d, *path) == (model, defense, CLEAN, WITH))

    def right(self, model: str, defense: str, path: Path) -> Tensor:
        """Return how often each sample is right on a path, by seed, (S, N)."""
        return torch.stack([self.shares[model, s, defense, *path] for s in self.seeds(model, defense)])

    def mean(self, model: str, defense: str, path: Path) -> float:
        """Return the accuracy on a path over seeds."""
        return float(self.right(model, defense, path).mean())

    def gain(self, model: str, defense: str, made: str, baseline: str) -> Difference:
        """Return the accuracy with a defense minus that without, each under an attack of its own.

        Paired over seeds, or over samples where there is one.
        """
        a, b = self.right(model, defense, (made, WITH)), self.right(model, defense, (baseline, WITHOUT))
        if len(a) > 1:
            return paired_bootstrap(a.mean(1).tolist(), b.mean(1).tolist(), generator=torch.Generator().manual_seed(0))
        if all(((x == 0) | (x == 1)).all() for x in (a, b)):
            return mcnemar(a[0] > 0, b[0] > 0)
        return paired_bootstrap(a[0].tolist(), b[0].tolist(), generator=torch.Generator().manual_seed(0))

    def judged(self, model: str, defense: str) -> Judged:
        """Return what a defense changes for a model."""
        clean, adaptive = self.gain(model, defense, CLEAN, CLEAN), self.gain(model, defense, WORST, WORST)
        unaware = [
            self.gain(model, defense, WITHOUT, WITHOUT),
            self.gain(model, defense, f"fgsm {WITHOUT}", f"fgsm {WITHOUT}"),
            self.gain(model, defense, ONE_DRAW, WITHOUT),
        ]
        left = self.found(model, defense, "defense_accuracy", made=WORST, judged=WITH)
        above = all((r.low or 0.0) > self.commonest for r in left)
        verdict = decide(clean=clean, unaware=unaware, adaptive=adaptive, above_chance=above)
        return Judged(clean, max(unaware, key=lambda d: (d.low > 0, d.value)), adaptive, verdict)

    @property
    def commonest(self) -> float:
        """The share of the commonest class among the judged samples."""
        return float(torch.bincount(self.test_set.y).max()) / len(self.test_set)

    def weak(self, model: str) -> list[int]:
        """Return the seeds on which a model without defense is not shown to beat one answer to all."""
        clean = self.found(model, self.defenses(model)[0], "defense_accuracy", made=CLEAN, judged=WITHOUT)
        return [r.seed or 0 for r in clean if (r.low or 0.0) <= self.commonest]


def shares_of(outcomes: pa.Table) -> Shares:
    """Return how often each sample is right with a defense and without it, by model, seed, defense and path."""
    names = ("model", "seed", "defense", "made", "judged", "index", "right")
    columns = {name: outcomes[name].to_numpy(zero_copy_only=False) for name in names}
    starts = np.flatnonzero(columns["index"] == 0)
    out = {}
    for start, end in zip(starts, [*starts[1:], len(columns["right"])], strict=True):
        model, seed, defense, made, judged = (columns[c][start] for c in names[:5])
        key = str(model), int(seed), str(defense), str(made), str(judged)
        out[key] = torch.from_numpy(columns["right"][start:end].copy())
    return out


def defense_limits(table: DefenseTable) -> tuple[str, ...]:
    """Say what the defenses, or their absence, leave open."""
    if not table.plan.applied:
        return ("No defense was tried: nothing here speaks of what one is worth.",)
    config = table.config
    return (
        f"Defenses were judged at one radius, eps {config.judged_eps:g}, on {table.plan.n_test:,} test samples, with "
        "one setting each: nothing here speaks of other radii, or of a defense that is tuned to the data.",
    )


def defense_findings(table: DefenseTable) -> list[Finding]:
    """Say of each defense what it is worth to the model under audit, before an attacker who knows it."""
    if not table.plan.applied:
        return []
    model = table.plan.subjects[0].name
    if seeds := table.weak(model):
        text = f"What defenses are worth to {model} cannot be judged: without them, it is not shown to beat one answer."
        return [Finding(text, "unclear", f"on {table.plan.n_test:,} test samples, seed {', '.join(map(str, seeds))}")]
    out = [_finding(table, name, model) for name in table.defenses(model)]
    refused = [(name, why) for (name, m), why in table.plan.refused.items() if m == model]
    return out + [Finding(f"{name} does not take {model}, and was not tried.", "info", why) for name, why in refused]


def _finding(table: DefenseTable, name: str, model: str) -> Finding:
    found, eps = table.judged(model, name), table.config.judged_eps
    lead = {
        "helps": f"{name} helps {model} before an attacker who knows it",
        "only blocks an attacker who does not know it": f"{name} only blocks an attacker of {model} who does not know "
        "it",
        "hurts": f"{name} hurts {model}",
        "unclear": f"{name} is not shown to help {model}, nor to hurt it",
    }[found.verdict.outcome]
    left, right = (
        [_percent(table.mean(model, name, (made, side))) for side in (WITH, WITHOUT)] for made in (WORST, CLEAN)
    )
    text = (
        f"{lead}: at eps {eps:g} the worst of all attacks leaves {model} right on {left[0]} of the test samples with "
        f"the defense and {left[1]} without; on clean samples {right[0]} and {right[1]}."
    )
    seeds = len(table.seeds(model, name))
    details = [
        f"gains, with minus without: worst of all attacks {_points(found.adaptive)}, attacks that do not adapt to it "
        f"{_points(found.unaware)}, clean samples {_points(found.clean)}; 95 % intervals over {found.adaptive.n} "
        f"{'seeds' if seeds > 1 else 'samples'} ({found.adaptive.method})",
        f"relative gains: worst of all attacks {relative(table, model, name, WORST)}, PGD made without it "
        f"{relative(table, model, name, WITHOUT)}",
        f"the strongest attack on it is {_strongest(table, model, name)}",
        *_certificate(table, model, name),
        *(
            f"its twin {other.name}: {_outcome(table, other.name, name)}"
            for other in table.plan.applied[name]
            if other.name != model
        ),
    ]
    return Finding(text, STATUS.get(found.verdict.outcome, "fails"), "; ".join(details))


def _outcome(table: DefenseTable, model: str, name: str) -> str:
    if table.weak(model):
        return "cannot be judged, as without defense it is not shown to beat one answer"
    found = table.judged(model, name)
    return f"{found.verdict.outcome}, {_points(found.adaptive)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(d: Difference) -> str:
    return f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def relative(table: DefenseTable, model: str, name: str, made: str) -> str:
    """Return a gain over what an attack leaves without the defense, the number that papers print."""
    bare = table.mean(model, name, (made, WITHOUT))
    return f"{100 * (table.mean(model, name, (made, WITH)) / bare - 1):+.0f} %" if bare else "– (of 0)"


def _strongest(table: DefenseTable, model: str, name: str) -> str:
    made = {path[0] for m, _, d, *path in table.shares if (m, d, path[1]) == (model, name, WITH)} - {CLEAN, WORST}
    left = {source: table.mean(model, name, (source, WITH)) for source in sorted(made)}
    source = min(left, key=lambda s: left[s])
    return f"{_attack(source)}, which leaves {_percent(left[source])}"


def _attack(made: str) -> str:
    """Return in words what a row of the grid was made by."""
    words = {
        WITH: "PGD through it",
        WITHOUT: "PGD made without it",
        ONE_DRAW: "PGD through one draw of it",
        TRANSFER: "PGD made on the other model",
        STRAIGHT: "PGD with the gradient of the bare model",
        MEAN_PART: "PGD through its mean logits",
        "gaussian": "PGD through Gaussian noise in its place",
    }
    method, _, side = made.partition(" ")
    by = {"square": "queries", "fgsm": "FGSM"}.get(method, method)
    return words.get(made, f"{by} {'through it' if side == WITH else 'made without it'}")


def _certificate(table: DefenseTable, model: str, name: str) -> list[str]:
    ball = table.found(model, name, "certified_ball_accuracy")
    if not ball:
        return []
    share, radius = float(np.mean([r.value for r in ball])), ball[0].config["radius"]
    return [
        f"certified within every change of eps {table.config.judged_eps:g}, which an L2 radius of {radius:.3g} holds: "
        f"{_percent(share)} of the samples"
    ]


def defense_flags(table: DefenseTable) -> list[Flag]:
    """Return what must be right before the numbers mean something, for each model and defense."""
    out = []
    for model in (s.name for s in table.plan.subjects):
        seeds = ", ".join(map(str, table.weak(model)))
        message = (
            f"On seed {seeds} the model without defense is not shown to beat one answer to all: what a defense changes "
            "then says nothing."
            if seeds
            else "Without defense the model beats one answer to all."
        )
        out.append(Flag("defense-baseline", "fail" if seeds else "ok", message, {"n": table.plan.n_test}, model))
        for name in table.defenses(model):
            out.append(_misleading(table, model, name))
            if table.found(model, name, "defense_is_random")[0].value:
                out.append(_expectation(table, model, name))
    return out


def _misleading(table: DefenseTable, model: str, name: str) -> Flag:
    """Return whether an attack with less to go by leaves less than the one through the defense, on the first seed.

    No more than a warning, as what is said of a defense is of the worst of all attacks.
    """
    seed = table.seeds(model, name)[0]
    rivals = (f"fgsm {WITH}", f"square {WITH}", WITHOUT, f"fgsm {WITHOUT}")
    rival = min(rivals, key=lambda made: float(table.shares[model, seed, name, made, WITH].mean()))
    through, other = (table.shares[model, seed, name, made, WITH] > 0.5 for made in (WITH, rival))  # in most draws
    flag = black_box_check(through, other, black_box=_attack(rival), subject=f"{model} / {name}")
    return replace(flag, severity="warning") if flag.severity == "fail" else flag


def _expectation(table: DefenseTable, model: str, name: str) -> Flag:
    """Return whether attacks average enough draws of a random defense."""
    short = [r.seed for r in table.found(model, name, "eot_converged") if not r.value]
    draws = [int(r.value) for r in table.found(model, name, "eot_draws")]
    message = (
        f"On seed {', '.join(map(str, short))} more draws than {table.config.defense_draws} might make attacks "
        "through the defense stronger: raise `defense_draws`."
        if short
        else f"Averaging more draws of the defense than {', '.join(map(str, draws))} makes no attack stronger."
    )
    evidence = {"draws": max(draws), "limit": table.config.defense_draws}
    return Flag("eot-not-converged", "warning" if short else "ok", message, evidence, f"{model} / {name}")
