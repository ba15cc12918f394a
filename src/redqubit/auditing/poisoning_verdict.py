"""What the label poisons of an audit amount to: findings, a trust check and the panels of the report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from redqubit.auditing.config import Audit
from redqubit.auditing.poisoning import NONE, PoisonPlan
from redqubit.data import Dataset
from redqubit.metrics import accuracy
from redqubit.result import Finding, Flag, Panel, Result
from redqubit.statistics import Difference, PairedTest, paired_bootstrap, paired_shares

SECTION = "Poisoned labels"

# What is said of each poison: its name in a sentence, and the label that it gives
POISONS = {
    "random": ("random flips", "one of the other classes, drawn"),
    "cyclic": ("flips to the next class", "the next class"),
    "farthest": ("flips to the class farthest in the features", "the class whose samples are farthest in the features"),
    "quid": ("QUID", "the class whose samples are farthest in the state space of an encoder"),
}


@dataclass(frozen=True)
class PoisoningTable:
    """What the label poisons of an audit did.

    Attributes:
        config: Of the audit.
        plan: Which models and poisons.
        results: Of all cells of the audit.
        correct: Which test samples are right, by model, seed, poison and ratio; without poison by `NONE` and 0.
        train_set: What was poisoned.
        test_set: What the models were judged on.
    """

    config: Audit
    plan: PoisonPlan
    results: Sequence[Result]
    correct: Mapping[tuple[str, int, str, float], Tensor]
    train_set: Dataset
    test_set: Dataset

    @property
    def models(self) -> list[str]:
        """The models that were poisoned, the one under audit first."""
        return [s.name for s in self.plan.subjects]

    @property
    def ratios(self) -> list[float]:
        """The shares of poisoned labels, rising."""
        return sorted(self.config.poison_ratios)

    def right(self, model: str, name: str = NONE, ratios: Sequence[float] = (0.0,)) -> Tensor:
        """Return which test samples are right by seed and ratio, bool, (S, R, N)."""
        seeds = [torch.stack([self.correct[model, seed, name, r] for r in ratios]) for seed in self.config.seeds]
        return torch.stack(seeds)

    def labels(self, name: str, metric: str) -> float:
        """Return the share of the poisoned labels that a metric counts, over all ratios and seeds."""
        config = self.models[0], name  # the labels are the same for every model
        own = [r for r in self.results if (r.config.get("model"), r.config.get("poison")) == config]
        found, among = (sum(r.value for r in own if r.metric == m) for m in (metric, "poisoned_labels"))
        return found / among

    def weak(self, model: str) -> list[int]:
        """Return the seeds on which training without poison is not shown to beat one answer to all."""
        largest = float(torch.bincount(self.test_set.y).max()) / len(self.test_set)
        clean = zip(self.config.seeds, self.right(model)[:, 0], strict=True)
        return [seed for seed, mask in clean if accuracy(mask).low <= largest]


def poisoned_correct(outcomes: pa.Table) -> dict[tuple[str, int, str, float], Tensor]:
    """Return which test samples are right, by model, seed, poison and ratio."""
    names = ("model", "seed", "poison", "ratio", "index", "label", "prediction")
    columns = {name: outcomes[name].to_numpy(zero_copy_only=False) for name in names}
    right = columns["label"] == columns["prediction"]
    starts = np.flatnonzero(columns["index"] == 0)
    out = {}
    for start, end in zip(starts, [*starts[1:], len(right)], strict=True):
        model, seed, name, ratio = (columns[c][start] for c in names[:4])
        out[str(model), int(seed), str(name), float(ratio)] = torch.from_numpy(right[start:end].copy())
    return out


def poisoning_limits(plan: PoisonPlan) -> tuple[str, ...]:
    """Say what the label poisons, or their absence, leave open."""
    if not plan.subjects:
        return (plan.skipped or "No label poison was tried: nothing here speaks of wrong labels.",)
    said = (
        f"Label poison was tried on {plan.n_train:,} training samples, and on samples drawn at random: nothing here "
        "speaks of larger sets, or of an attacker who chooses which samples to poison.",
    )
    return said if plan.encoder or not plan.note else (*said, plan.note)


def poisoning_findings(table: PoisoningTable) -> list[Finding]:
    """Say what each poison costs the model, how QUID compares with its controls, and the model with its twin."""
    if not table.models:
        return []
    model, names = table.models[0], table.plan.poisons
    if seeds := table.weak(model):
        text = (
            f"What label poison costs {model} cannot be judged: without it, it is not shown to beat one answer to all."
        )
        said = f"on {table.plan.n_train:,} training samples, seed {', '.join(map(str, seeds))}"
        return [Finding(text, "unclear", said)]
    out = [_cost(table, name) for name in names]
    out += [_quid_against(table, name) for name in ("random", "farthest") if {"quid", name} <= set(names)]
    out += _below_any_guess(table)
    return [*out, _against_twin(table)] if len(table.models) > 1 else out


def _mean(right: Tensor) -> float:
    return float(right.double().mean())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _listed(shares: Iterable[float], digits: str) -> str:
    *others, last = (format(100 * share, digits) for share in shares)
    return f"{', '.join(others)} and {last}" if others else last


def _difference(a: Tensor, b: Tensor) -> Difference:
    """Return the mean of a - b, both (S, R, N), paired over seeds, or over samples when there is one seed."""
    if len(a) == 1:
        return paired_shares(a[0], b[0], generator=torch.Generator().manual_seed(0))
    return _over_seeds(a.sum((1, 2)), b.sum((1, 2)), a[0].numel())


def _over_seeds(a: Tensor, b: Tensor, n: int) -> Difference:
    """Return the mean of (a - b) / n over seeds; of counts, in which equal differences are equal to the last digit."""
    d = paired_bootstrap(a.tolist(), b.tolist(), generator=torch.Generator().manual_seed(0))
    return replace(d, value=d.value / n, low=d.low / n, high=d.high / n)


def _sign(d: Difference) -> int:
    """Return the sign that is shown of a difference, 0 for none; a few seeds that happen to agree show nothing."""
    return 0 if d.method == "constant" else (d.low > 0) - (d.high < 0)


def _points(d: Difference) -> str:
    p = f", exact McNemar p = {d.p_value:.2g}" if isinstance(d, PairedTest) else ""
    return f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]{p}"


def _intervals(table: PoisoningTable, found: Sequence[Difference]) -> str:
    seeds, methods = len(table.config.seeds), sorted({d.method for d in found})
    over = f"{seeds} seeds" if seeds > 1 else "the test samples"
    return f"each interval by itself is of 95 %, over {over} ({', '.join(methods)})"


def _cost(table: PoisoningTable, name: str) -> Finding:
    model, (phrase, _), clean = table.models[0], POISONS[name], table.right(table.models[0])
    chance = 1 / table.test_set.n_classes
    limit = max(_mean(clean) / 2, chance)
    details, losses, failed = [], [], False
    for ratio in table.ratios:
        left = table.right(model, name, [ratio])
        lost = _difference(clean, left)
        losses.append(lost)
        failed = failed or (_mean(left) < limit and _sign(lost) > 0)
        details.append(f"{100 * ratio:g} %: {_percent(_mean(left))} right, lost {_points(lost)}")
    text = (
        f"{phrase[0].upper()}{phrase[1:]} in {_listed(table.ratios, 'g')} % of the training labels cost {model} "
        f"{_listed((lost.value for lost in losses), '.1f')} points of accuracy; without poison it is right on "
        f"{_percent(_mean(clean))} of the test samples."
    )
    details += [
        _intervals(table, losses),
        f"chance is {_percent(chance)}; a loss that is shown and leaves less than {_percent(limit)} counts as failed",
    ]
    return Finding(text, "fails" if failed else "unclear", "; ".join(details))


def _quid_against(table: PoisoningTable, other: str) -> Finding:
    model, phrase = table.models[0], POISONS[other][0]
    every, *single = (
        _difference(table.right(model, other, ratios), table.right(model, "quid", ratios))
        for ratios in (table.ratios, *([r] for r in table.ratios))
    )
    sign = _sign(every)
    quid = "QUID" if table.plan.own else "QUID with another encoder"
    text = (
        f"{quid} costs {model} {'more' if sign > 0 else 'less'} accuracy than {phrase}: {100 * every.value:+.1f} points"
        if sign
        else f"{quid} is not shown to cost {model} more or less accuracy than {phrase}"
    )
    if other == "farthest" and sign <= 0:
        text += ", so that its state space is not shown to add anything"
    details = [f"mean over shares {_points(every)}"]
    details += [f"{100 * r:g} %: {_points(d)}" for r, d in zip(table.ratios, single, strict=True)]
    if other == "farthest":
        details.append(f"{_percent(table.labels('quid', 'labels_as_farthest'))} of its labels are those of the control")
    return Finding(
        f"{text}.", _status({sign}), "; ".join([*details, _intervals(table, [every, *single]), table.plan.note])
    )


def _status(signs: set[int]) -> Literal["holds", "fails", "unclear"]:
    """Return what it means for the model when one thing costs more than another, less, both or neither."""
    return "unclear" if (1 in signs) == (-1 in signs) else "fails" if 1 in signs else "holds"


def _below_any_guess(table: PoisoningTable) -> list[Finding]:
    """Say where the model is worse than whoever guesses without a look, which is right on the rarest class at least."""
    model, n = table.models[0], len(table.test_set)
    least = torch.bincount(table.test_set.y, minlength=table.test_set.n_classes).min()
    found, names = [], set[str]()
    for name in table.plan.poisons:
        for ratio in table.ratios:
            right = table.right(model, name, [ratio])
            hits = right.sum((1, 2))
            below = (
                accuracy(right[0, 0]).high < float(least) / n
                if len(hits) == 1
                else _sign(_over_seeds(hits, least.expand_as(hits), n)) < 0
            )
            if below:
                names.add(name)
                found.append(f"{POISONS[name][0]} in {100 * ratio:g} % ({_percent(_mean(right))})")
    if not found:
        return []
    text = f"{model} is right less often than any guess after {', '.join(found)}: it has learned wrong labels."
    if names != {"quid"}:
        text += " Labels that no circuit chose are enough for that, so that it is no quantum effect."
    detail = f"a guess is right on {_percent(float(least) / n)} at least, the share of the rarest class"
    return [Finding(text, "fails", detail)]


def _against_twin(table: PoisoningTable) -> Finding:
    """Compare what each poison costs model and twin, over seeds."""
    model, twin = table.models
    if table.weak(twin) or len(table.config.seeds) < 2:
        text = f"What label poison costs {model} and its twin {twin} cannot be compared"
        why = f"{twin} is not shown to beat one answer to all" if table.weak(twin) else "one seed shows no spread"
        return Finding(f"{text}.", "unclear", why)
    r, n = len(table.ratios), len(table.test_set)
    said: dict[int, list[str]] = {1: [], -1: [], 0: []}
    details, found = [], []
    for name in table.plan.poisons:
        a, b = (r * table.right(m).sum((1, 2)) - table.right(m, name, table.ratios).sum((1, 2)) for m in table.models)
        more = _over_seeds(a, b, r * n)
        said[_sign(more)].append(f"{name} ({100 * more.value:+.1f} points)")
        found.append(more)
        details.append(f"{name}, mean over shares: {_points(more)}")
    words = {1: "more with", -1: "less with", 0: "no difference shown with"}
    parts = [f"{words[sign]} {', '.join(names)}" for sign, names in said.items() if names]
    return Finding(
        f"Accuracy that label poison costs {model}, beside its twin {twin}: {'; '.join(parts)}.",
        _status({sign for sign, names in said.items() if names}),
        "; ".join([*details, _intervals(table, found)]),
    )


def poisoning_flags(table: PoisoningTable) -> list[Flag]:
    """Return whether the models learn without poison, for each model."""
    out = []
    for model in table.models:
        seeds = ", ".join(map(str, table.weak(model)))
        message = (
            f"On seed {seeds} training without poison is not shown to beat one answer to all: what poison costs then "
            "says nothing, train longer or on more samples."
            if seeds
            else "Without poison the training beats one answer to all."
        )
        evidence = {"accuracy": _mean(table.right(model)), "n_train": table.plan.n_train}
        out.append(Flag("poisoning-baseline", "fail" if seeds else "ok", message, evidence, f"{model} / {NONE}"))
    return out


def poisoning_panels(table: PoisoningTable) -> list[Panel]:
    """Return the curves, the tables and the encoder of the section on poisoned labels."""
    if not table.models:
        return []
    plan, seeds = table.plan, len(table.config.seeds)
    interval = f"Mean over {seeds} seeds with the 95 % t interval." if seeds > 1 else "One seed, 95 % Wilson interval."
    part = "the" if plan.n_train == len(table.train_set) else f"the first {plan.n_train:,} of {len(table.train_set):,}"
    order = [*plan.poisons, *table.models, *(f"{p}, {m}" for p in plan.poisons for m in table.models)]
    out = [
        Panel(
            "curves",
            "Accuracy against the share of poisoned labels",
            f"Each point is a training of its own on {part} training samples, like the clean one, with the labels of "
            "some drawn samples replaced: the same samples for every poison and model, those of a smaller share among "
            f"those of a larger one. All test samples keep their labels. {interval} {plan.note}".strip(),
            SECTION,
            "poisoned_accuracy",
            "poison_ratio",
            "share of poisoned labels",
            "accuracy",
            "poison",
            data={"facet": "model", "order": order, "chance": 1 / table.test_set.n_classes},
        ),
        Panel(
            "table",
            "Accuracy by poison and share",
            "At 0 no label is poisoned: the floor of every row.",
            SECTION,
            "poisoned_accuracy",
            "poison_ratio",
            group="poisoning",
            data={"order": order},
        ),
        Panel(
            "facts",
            "The poisoned labels",
            "Over all shares and seeds. A label stays right when the class that a rule names is the sample's own. "
            "Random, cyclic and farthest are controls: they know no circuit.",
            SECTION,
            data=_labels(table),
        ),
    ]
    if plan.encoder is not None:
        out.append(
            Panel("pre", "The encoder of QUID", plan.note, SECTION, data={"text": str(plan.encoder.circuit)}),
        )
    return out


def _labels(table: PoisoningTable) -> dict[str, list[object]]:
    names, with_quid = table.plan.poisons, table.plan.encoder is not None
    rows: list[list[object]] = [[n, POISONS[n][1], _percent(table.labels(n, "wrong_labels"))] for n in names]
    if with_quid:
        for name, row in zip(names, rows, strict=True):
            row.append(_percent(table.labels(name, "labels_as_farthest")) if name == "quid" else "")
    columns = ["poison", "new label", "wrong labels", *["same label as farthest"] * with_quid]
    return {"columns": [*columns], "rows": [*rows]}
