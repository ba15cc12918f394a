"""What a screening says: whether it works on this set, which labels are suspicious, what the encoder adds."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redqubit.data import Dataset
from redqubit.defenses import Suspicion
from redqubit.result import Finding, Flag, Result, Severity
from redqubit.screening.cells import FEATURES, SPACES, STATES, THRESHOLDS, WORDS, class_names
from redqubit.screening.config import Screening
from redqubit.screening.inputs import Encoded
from redqubit.statistics import Difference, paired_bootstrap

WORKS, CHANCE = 0.8, 0.5  # AUROC on planted flips from which a detector works, and that of a coin
BLIND = 1e-6  # mean distance between states below which an encoder tells nothing apart
WHERE = {STATES: "among the encoded states", FEATURES: "among the features"}

Pair = tuple[str, str]  # a detector and a space


@dataclass(frozen=True, eq=False)
class Screened:
    """What a screening measured.

    Attributes:
        encoded: The set, and the encoder.
        config: What was done.
        results: Those of all cells.
        found: What each detector made of the labels in each space.
    """

    encoded: Encoded
    config: Screening
    results: Sequence[Result]
    found: Mapping[Pair, Suspicion]

    def values(self, metric: str, pair: Pair) -> list[float]:
        """Return a number of each draw of flips, in their order."""
        mine = [r for r in self.results if r.metric == metric and _pair(r) == pair]
        return [r.value for r in sorted(mine, key=lambda r: int(r.config["draw"]))]

    def one(self, metric: str, pair: Pair | None = None) -> Result | None:
        """Return the only result of a metric."""
        return next((r for r in self.results if r.metric == metric and pair in (None, _pair(r))), None)

    def best(self, space: str) -> Pair:
        """Return the detector of a space that finds planted flips best."""
        return max(((name, space) for name in THRESHOLDS), key=lambda pair: float(np.mean(self.values("auroc", pair))))

    @cached_property
    def judge(self) -> Pair:
        """The detector and space that find planted flips best: they rank the labels."""
        return max(map(self.best, SPACES), key=lambda pair: float(np.mean(self.values("auroc", pair))))

    @cached_property
    def flagged(self) -> Tensor:
        """Which labels the judge flags, bool, (N,)."""
        return self.found[self.judge].flagged(THRESHOLDS[self.judge[0]])

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The samples by falling suspicion of the judge; of equal ones, by that of the classes in its space."""
        ties = self.found["class_vote", self.judge[1]].scores
        return np.lexsort((-ties.numpy(), -self.found[self.judge].scores.numpy()))


def findings(table: Screened) -> list[Finding]:
    """Return the verdict: the positive control before all that rests on it."""
    return [_control(table), _suspicious(table), _quantum(table), _classes(table), _worst(table)]


def checks(table: Screened) -> list[Flag]:
    """Return the trust checks."""
    encoded, k = table.encoded, table.config.neighbours
    data = encoded.given
    above = _above_chance(table, table.judge)
    works: Severity = "ok" if above.low > WORKS else "warning" if above.low > CHANCE else "fail"
    said = f"Planted flips are told from other labels with an AUROC of {_interval(above)} by {_named(table.judge)}."
    flags = [Flag("planted-flips", works, said, {"AUROC": above.value, "low": above.low, "high": above.high})]
    counts = torch.bincount(data.y, minlength=data.n_classes)
    small = [name for name, n in zip(class_names(data), counts.tolist(), strict=True) if n - 1 <= k / 2]
    said = (
        f"{len(small)} classes ({', '.join(small[:5])}) have so few samples that {k} neighbours outvote them."
        if small
        else f"Every class has more samples than half of the {k} neighbours that vote."
    )
    flags.append(Flag("small-classes", "warning" if small else "ok", said, {"smallest class": int(counts.min())}))
    n = conflicts(data)
    said = f"{n} samples equal another one that has a different label: one of each two labels is wrong or arbitrary."
    flags.append(Flag("equal-samples", "warning" if n else "ok", said if n else "Equal samples have equal labels."))
    apart = max(r.value for r in table.results if r.metric == "class_distance" and r.config["space"] == STATES)
    blind = apart < BLIND
    said = "The encoder sends all samples to one state." if blind else "The encoder tells samples apart."
    flags.append(Flag("blind-encoder", "fail" if blind else "ok", said, {"largest mean distance of classes": apart}))
    if encoded.kept < 1:
        said = f"The encoder sees {_percent(encoded.kept)} of the variance of the samples."
        flags.append(Flag("reduction", "ok" if encoded.kept >= 0.5 else "warning", said, {"variance": encoded.kept}))
    return flags


def conflicts(data: Dataset) -> int:
    """Return how many samples equal another one that has a different label.

    Example:
        >>> conflicts(Dataset(torch.tensor([[0.1], [0.1], [0.2], [0.2]]), torch.tensor([0, 1, 1, 1]), 2))
        2
    """
    labels: dict[bytes, list[int]] = {}
    for row, label in zip(data.x.numpy(), data.y.tolist(), strict=True):
        labels.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), []).append(label)
    return sum(len(group) for group in labels.values() if len(set(group)) > 1)


def _control(table: Screened) -> Finding:
    above, judge = _above_chance(table, table.judge), table.judge
    recall, false = (float(np.mean(table.values(m, judge))) for m in ("recall", "false_flag_rate"))
    detail = (
        f"AUROC {_interval(above)} over {table.config.draws} draws; {_percent(recall)} of the flips are flagged, and "
        f"so are {_percent(false)} of the other labels, which this takes for right"
    )
    planted = f"{100 * table.config.planted:g} % of the labels, flipped at random,"
    if above.low > WORKS:
        return Finding(f"The screening works on this set: {planted} are found by {_named(judge)}.", "holds", detail)
    if above.low > CHANCE:
        return Finding(
            f"The screening works in part: {planted} are told from the others, but not well, by {_named(judge)}.",
            "unclear",
            detail,
        )
    return Finding(
        f"The screening does not work on this set: {planted} are not told from the others. Its list says nothing.",
        "fails",
        detail,
    )


def _suspicious(table: Screened) -> Finding:
    judge, mended = table.judge, table.one("flagged_when_mended", table.judge)
    flagged = table.one("flagged", judge)
    assert flagged is not None  # the cell of each space enters it
    k, n, recall = flagged.k or 0, flagged.n or 0, float(np.mean(table.values("recall", judge)))
    text = f"{k:,} of {n:,} labels are suspicious by {_named(judge)}."
    detail = f"{_percent(flagged.value)} [{_percent(flagged.low)}, {_percent(flagged.high)}]"
    if mended is not None:
        detail += (
            f"; once these have the labels that are suggested, {mended.k:,} are, {_percent(mended.value)} "
            f"[{_percent(mended.low)}, {_percent(mended.high)}]: a clean set would have between {mended.k:,} and {k:,}"
        )
    if recall > 0:
        most = min(1.0, (flagged.high or 0.0) / recall)
        detail += f"; if wrong labels are random flips, at most {_percent(most)} of the labels are wrong"
    if k == 0:
        return Finding(text, "holds", detail)
    if mended is not None and (flagged.low or 0.0) <= (mended.high or 0.0):
        return Finding(f"{text} A clean set might show as many: look at them.", "unclear", detail)
    return Finding(f"{text} Either they are wrong, or classes overlap there: look at them.", "unclear", detail)


def _quantum(table: Screened) -> Finding:
    ours, control = table.best(STATES), table.best(FEATURES)
    values = [table.values("auroc", pair) for pair in (ours, control)]
    gain = paired_bootstrap(*values, generator=torch.Generator().manual_seed(table.config.seed))
    detail = (
        f"difference of the AUROC {_interval(gain, sign=True)} over {gain.n} draws: {_named(ours)} "
        f"{np.mean(values[0]):.3f}, {_named(control)} {np.mean(values[1]):.3f}"
    )
    if gain.low > 0:
        return Finding(
            "The states show planted flips better than the features that enter the encoder.", "holds", detail
        )
    if gain.high < 0:
        return Finding(
            "The states show planted flips less well than the features that enter the encoder: the quantum part adds "
            "nothing to the screening.",
            "fails",
            detail,
        )
    return Finding(
        "States and features show planted flips equally well, as far as was measured: that the quantum part adds "
        "something is not shown.",
        "unclear",
        detail,
    )


def _classes(table: Screened) -> Finding:
    gain = table.one("agreement_gain")
    shares = [table.one("agreement", ("", space)) for space in SPACES]
    assert gain is not None
    said = [f"{_percent(r.value)} [{_percent(r.low)}, {_percent(r.high)}]" for r in shares if r is not None]
    detail = (
        f"label agreement on half of the samples: states {said[0]}, features {said[1]}; difference "
        f"{100 * gain.value:+.1f} [{100 * (gain.low or 0):+.1f}, {100 * (gain.high or 0):+.1f}] points, p = "
        f"{gain.config['p_value']:.2g} (McNemar)"
    ).replace("-", "−")
    if (gain.low or 0.0) > 0:
        return Finding("The encoder keeps the classes further apart than the features that enter it.", "holds", detail)
    if (gain.high or 0.0) < 0:
        return Finding(
            "The encoder keeps the classes less well apart than the features that enter it.", "fails", detail
        )
    return Finding(
        "The encoder keeps the classes as well apart as the features that enter it, as far as was measured.",
        "info",
        detail,
    )


def _worst(table: Screened) -> Finding:
    """Name the class that the encoder keeps least apart."""
    mine = [r for r in table.results if r.metric == "class_silhouette" and r.config["space"] == STATES]
    worst = min(mine, key=lambda r: r.value)
    label = worst.config["label"]
    row = [
        r
        for r in table.results
        if r.metric == "class_distance" and r.config["space"] == STATES and r.config["label"] == label
    ]
    own = next(r.value for r in row if r.config["other"] == label)
    near = min((r for r in row if r.config["other"] != label), key=lambda r: r.value)
    return Finding(
        f"Class {label} is kept least apart, from class {near.config['other']} first of all.",
        "info",
        f"its states are {own:.3f} from each other in the mean, and {near.value:.3f} from those of the other class; "
        f"silhouette {worst.value:.2f}".replace("-", "−"),
    )


def _above_chance(table: Screened, pair: Pair) -> Difference:
    """Return the mean AUROC on planted flips with its interval over the draws."""
    values = table.values("auroc", pair)
    generator = torch.Generator().manual_seed(table.config.seed)
    return paired_bootstrap(values, [0.0] * len(values), generator=generator)


def _pair(result: Result) -> Pair:
    return str(result.config.get("detector", "")).replace(" ", "_"), str(result.config.get("space", ""))


def _named(pair: Pair) -> str:
    return f"the {WORDS[pair[0]]} {WHERE[pair[1]]}"


def _interval(found: Difference, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{found.value:{form}} [{found.low:{form}}, {found.high:{form}}]".replace("-", "−")


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"
