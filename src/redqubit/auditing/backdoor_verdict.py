"""What the backdoors of an audit amount to: findings, trust checks and the panels of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from redqubit.auditing.backdoors import METRICS, Plan, class_name
from redqubit.auditing.config import Audit
from redqubit.backdoors import Patch, Trigger
from redqubit.data import Dataset
from redqubit.result import Finding, Flag, Panel, Result
from redqubit.statistics import mcnemar, paired_bootstrap
from redqubit.storage.arrays import load_arrays

WORKS = 0.8  # attack success rate from which a backdoor is said to work
MEMORISED = 0.3  # by how much the rate on training pictures must exceed that on test pictures to be told
CONTROLS = ("train_attack_success_rate", "triggered_accuracy")
SECTION = "Backdoors"
SHOWN_CLASSES = 30  # up to which the success rates by class are drawn


@dataclass(frozen=True)
class BackdoorTable:
    """What the backdoors of an audit did.

    Attributes:
        config: Of the audit.
        plan: Which models and triggers.
        results: Of all cells of the audit.
        turned: Which test samples of other classes the trigger turns to the target, by model, seed and trigger.
        train_set: What was poisoned.
        test_set: What it was judged on.
        artifacts: Folder with the examples.
    """

    config: Audit
    plan: Plan
    results: Sequence[Result]
    turned: Mapping[tuple[str, int, str], Tensor]
    train_set: Dataset
    test_set: Dataset
    artifacts: Path

    @property
    def models(self) -> list[str]:
        """The models that were poisoned, the one under audit first."""
        return [s.name for s in self.plan.subjects]

    @property
    def target(self) -> str:
        """What a reader knows the target class by."""
        return class_name(self.test_set, self.config.target_class)

    def found(self, model: str, trigger: str, metric: str) -> list[Result]:
        """Return the results of one metric, seed by seed."""
        named = [r for r in self.results if r.metric == metric and r.config.get("trigger") == trigger]
        return sorted((r for r in named if r.config["model"] == model), key=lambda r: r.seed or 0)

    def mean(self, model: str, trigger: str, metric: str) -> float:
        """Return the mean of a metric over the seeds."""
        return float(np.mean([r.value for r in self.found(model, trigger, metric)]))

    def collapsed(self, model: str, trigger: str) -> list[Result]:
        """Return the success rates that say nothing, since the model gives one answer to all: 0 or 1 beside chance."""
        largest = float(torch.bincount(self.test_set.y).max()) / len(self.test_set)
        rates = zip(*(self.found(model, trigger, m) for m in ("attack_success_rate", "backdoor_accuracy")), strict=True)
        return [asr for asr, accuracy in rates if asr.value in (0.0, 1.0) and (accuracy.low or 0.0) <= largest]

    def unseen(self, model: str, trigger: str) -> bool:
        """Return whether the outputs of a backdoored model are the same with the trigger as without."""
        return min(r.value for r in self.found(model, trigger, "largest_logit_change")) == 0


def turned_of(outcomes: pa.Table, target_class: int) -> dict[tuple[str, int, str], Tensor]:
    """Return which samples of other classes are taken for the target with the trigger, and not without it.

    A model that takes many samples for the target anyway has a high success rate without any backdoor; these samples
    are those that the trigger accounts for.
    """
    columns = {c: outcomes[c].to_numpy(zero_copy_only=False) for c in ("model", "seed", "trigger", "index", "label")}
    after, before = (outcomes[c].to_numpy() == target_class for c in ("backdoored_triggered", "backdoored"))
    starts = np.flatnonzero(columns["index"] == 0)
    out = {}
    for start, end in zip(starts, [*starts[1:], len(after)], strict=True):
        others = columns["label"][start:end] != target_class
        key = str(columns["model"][start]), int(columns["seed"][start]), str(columns["trigger"][start])
        out[key] = torch.from_numpy((after & ~before)[start:end][others])
    return out


def backdoor_limits(plan: Plan) -> tuple[str, ...]:
    """Say what the backdoors, or their absence, leave open."""
    if plan.subjects:
        return (
            "Evasion was tried by L-infinity perturbations of test inputs, and backdoors by one fixed trigger at a "
            "time with false labels: nothing here speaks of other norms, of poison with true labels, or of triggers "
            "made for this model.",
        )
    evasion = (
        "Evasion was tried by L-infinity perturbations of test inputs: nothing here speaks of other norms, or of "
        "backdoors."
    )
    return (evasion, plan.skipped) if plan.skipped else (evasion,)


def backdoor_findings(table: BackdoorTable) -> list[Finding]:
    """Say of each trigger whether its backdoor works on the model, and how the twin compares."""
    out = [_finding(table, table.models[0], name) for name in table.plan.triggers if table.models]
    return [*out, _against_twin(table)] if len(table.models) > 1 else out


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _phrase(name: str, trigger: Trigger) -> str:
    return f"a patch of {trigger.side}x{trigger.side} pixels" if isinstance(trigger, Patch) else f"the {name} trigger"


def _finding(table: BackdoorTable, model: str, name: str) -> Finding:
    rates = table.found(model, name, "attack_success_rate")
    floors = [table.found(model, name, m) for m in ("clean_model_floor", "untriggered_floor")]
    mean = {metric: table.mean(model, name, metric) for metric in METRICS.values()}
    # intervals apart on a seed, that of the success rate above those of both floors
    apart = [(r.low or 0.0) > max(a.high or 0.0, b.high or 0.0) for r, a, b in zip(rates, *floors, strict=True)]
    collapsed = ", ".join(str(r.seed) for r in table.collapsed(model, name))
    void = [f"collapsed on seed {collapsed}"] if collapsed else []
    void += ["the model does not see the trigger"] if table.unseen(model, name) else []
    works = not void and any(apart) and mean["attack_success_rate"] >= WORKS
    word = "works on" if works else "works in part on" if any(apart) else "does not take hold of"
    text = (
        f"A backdoor by {_phrase(name, table.plan.triggers[name])} in {100 * table.config.poison_rate:g} % of the "
        f"training set {'cannot be judged on' if void else word} {model}: "
        f"{_percent(mean['attack_success_rate'])} of the triggered test samples of other classes are taken for "
        f"{table.target}, the target; a clean model takes {_percent(mean['clean_model_floor'])} of them so."
    )
    first, values = rates[0], [r.value for r in rates]
    detail = [
        f"seed {first.seed}: {first.k} of {first.n}, 95 % interval {100 * (first.low or 0):.1f} to "
        f"{_percent(first.high or 0)}",
        f"{len(rates)} seed{'s' * (len(rates) > 1)}: {100 * min(values):.1f} to {_percent(max(values))}",
        f"without the trigger {_percent(mean['untriggered_floor'])}",
        f"accuracy {_percent(mean['backdoor_accuracy'])}, that of a clean model {_percent(mean['clean_accuracy'])}",
        f"on the {table.plan.n_poisoned:,} poisoned training samples {_percent(mean['train_attack_success_rate'])}",
    ]
    return Finding(text, "fails" if works else "unclear", "; ".join([*detail, *void]))


def _against_twin(table: BackdoorTable) -> Finding:
    """Compare how many of the same samples each trigger turns to the target in model and twin."""
    model, twin = table.models
    said: dict[int, list[str]] = {1: [], -1: [], 0: []}  # by the sign of the difference
    details = []
    void = 0
    for name in table.plan.triggers:
        # a model that gives one answer to all, or does not see the trigger, turns no sample, and is not robust for that
        lost = {r.seed for m in (model, twin) for r in table.collapsed(m, name)}
        seeds = sorted(s for (m, s, t) in table.turned if (m, t) == (model, name) and s not in lost)
        if not seeds or any(table.unseen(m, name) for m in (model, twin)):
            details.append(f"{name}: not compared, as a model does not see it or gives one answer to all")
            void += 1
            continue
        test = mcnemar(table.turned[model, seeds[0], name], table.turned[twin, seeds[0], name])
        value, low, high = test.value, test.low, test.high
        detail = (
            f"{name}, seed {seeds[0]}: {100 * value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], exact McNemar "
            f"p = {test.p_value:.2g}"
        )
        if len(seeds) > 1:
            a, b = ([float(table.turned[m, s, name].double().mean()) for s in seeds] for m in (model, twin))
            over = paired_bootstrap(a, b, generator=torch.Generator().manual_seed(0))
            value, low, high = over.value, over.low, over.high
            detail += (
                f"; mean over {len(seeds)} seeds {100 * value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] "
                f"({over.method})"
            )
        rates = (table.mean(m, name, "attack_success_rate") for m in (model, twin))
        detail += "; attack success rates {} and {}".format(*map(_percent, rates))
        agreed = len(seeds) > 1 and over.method == "constant"  # a few seeds that happen to agree show nothing
        said[0 if agreed else (low > 0) - (high < 0)].append(f"{name} ({100 * value:+.1f} points)")
        details.append(detail)
    if void == len(table.plan.triggers):
        return Finding(
            f"How backdoors act on {model} and its twin {twin} cannot be compared.", "unclear", "; ".join(details)
        )
    words = {1: "more with", -1: "fewer with", 0: "no difference shown with"}
    parts = [f"{words[sign]} {', '.join(names)}" for sign, names in said.items() if names]
    return Finding(
        f"Test samples that a trigger turns to the target, in {model} beside its twin {twin}: {'; '.join(parts)}.",
        "unclear" if bool(said[1]) == bool(said[-1]) else "fails" if said[1] else "holds",
        "; ".join([*details, "each interval by itself is of 95 %"]),
    )


def backdoor_flags(table: BackdoorTable) -> list[Flag]:
    """Return the checks on what stands behind the success rates, for every model and trigger."""
    return [
        check(table, m, t) for m in table.models for t in table.plan.triggers for check in (_seen, _whole, _general)
    ]


def _seen(table: BackdoorTable, model: str, name: str) -> Flag:
    unseen = table.unseen(model, name)
    message = (
        "The model's outputs are the same with the trigger: it does not see it, so that no backdoor can work."
        if unseen
        else "The trigger changes the model's outputs."
    )
    evidence = {"largest_logit_change": table.mean(model, name, "largest_logit_change")}
    return Flag("trigger-not-seen", "fail" if unseen else "ok", message, evidence, f"{model} / {name}")


def _whole(table: BackdoorTable, model: str, name: str) -> Flag:
    found = table.collapsed(model, name)
    evidence = {m: table.mean(model, name, m) for m in ("attack_success_rate", "backdoor_accuracy", "clean_accuracy")}
    message = (
        f"On seed {', '.join(str(r.seed) for r in found)} the backdoored model gives one answer to all: its success "
        "rate says nothing about the trigger, change the training."
        if found
        else "No backdoored model gives one answer to all."
    )
    return Flag("backdoored-model-collapsed", "fail" if found else "ok", message, evidence, f"{model} / {name}")


def _general(table: BackdoorTable, model: str, name: str) -> Flag:
    train, test = (table.mean(model, name, m) for m in ("train_attack_success_rate", "attack_success_rate"))
    memorised = train - test >= MEMORISED
    said = (
        f"The trigger succeeds on {_percent(train)} of the poisoned training samples and {_percent(test)} of test ones"
    )
    message = f"{said}: the model has learned these pictures by heart, hardly the trigger." if memorised else f"{said}."
    evidence = {"train_attack_success_rate": train, "attack_success_rate": test, "n_poisoned": table.plan.n_poisoned}
    return Flag("backdoor-memorised", "warning" if memorised else "ok", message, evidence, f"{model} / {name}")


def backdoor_panels(table: BackdoorTable) -> list[Panel]:
    """Return the tables, the rates by class and the pictures of the section "Backdoors"."""
    if not table.models:
        return []
    seeds = len(table.config.seeds)
    poisoned = f"{table.plan.n_poisoned:,} of {len(table.train_set):,}"
    means = f"Means over {seeds} seeds. " if seeds > 1 else ""
    rates = [m for m in METRICS.values() if m not in CONTROLS]
    rows = [f"{t}, {m}" for t in table.plan.triggers for m in table.models]
    out = [
        _table(
            "What the backdoors do",
            f"A backdoored model is trained like the clean one, {poisoned} training samples of other classes carrying "
            f"the trigger and the label {table.target}. Clean accuracy is the clean model's, backdoor accuracy the "
            "backdoored one's without trigger. The attack success rate is the share of triggered test samples of other "
            f"classes that are taken for {table.target}; the floors are the clean model's rate on the same inputs, and "
            "the backdoored model's without the trigger. A backdoor is said to work from a rate of "
            f"{100 * WORKS:g} % on, and below that in part when, on a seed, its interval lies above those of both "
            "floors. One that fails shows that this trigger failed.",
            rates,
            rows,
        ),
        _table(
            "Controls of the backdoors",
            "Success on the poisoned training samples: high beside a low rate on test samples, it means learned by "
            "heart. Triggered accuracy: right with and without the trigger.",
            CONTROLS,
            rows,
        ),
        Panel(
            "facts",
            "The triggers",
            "SSIM (1 is the same picture) and PSNR of clean and triggered test pictures: mean, 95 % interval, and how "
            "many; PSNR of those that the trigger changes."
            + "".join(f" {name}: {note}" for name, notes in table.plan.notes.items() for note in notes),
            SECTION,
            data={"columns": ["trigger", "settings", "SSIM", "PSNR (dB)"], "rows": _described(table)},
        ),
    ]
    if table.test_set.n_classes <= SHOWN_CLASSES:
        out.append(
            Panel(
                "heatmap",
                "Attack success rate by true class",
                f"{means}Share of the triggered test samples of a class that are taken for {table.target}.",
                SECTION,
                "class_success_rate",
                "backdoor",
                "backdoor",
                group="true_class",
                data={"order": [*rows, *_names(table.test_set)]},
            )
        )
    return [*out, *(_pictures(table, model) for model in table.models)]


def _table(title: str, caption: str, metrics: Sequence[str], rows: Sequence[str]) -> Panel:
    order = {"order": [*rows, *metrics]}
    return Panel("table", title, caption, SECTION, x="metric", group="backdoor", where={"metric": metrics}, data=order)


def _described(table: BackdoorTable) -> list[list[object]]:
    out: list[list[object]] = []
    for name, trigger in table.plan.triggers.items():
        shares = []
        for metric, digits in (("ssim", 3), ("psnr", 1)):
            found = table.found(table.models[0], name, metric)  # the same for every model and seed
            interval = f" [{found[0].low:.{digits}f}, {found[0].high:.{digits}f}]" if found and found[0].low else ""
            shares.append(f"{found[0].value:.{digits}f}{interval}, n\u00a0{found[0].n}" if found else "–")
        settings = {key: value for key, value in asdict(trigger).items() if value != ""}
        out.append([name, settings, *shares])
    return out


def _names(dataset: Dataset) -> list[str]:
    return [class_name(dataset, label) for label in range(dataset.n_classes)]


def _pictures(table: BackdoorTable, model: str) -> Panel:
    file, names, rows = f"examples-backdoors-{model}.npz", _names(table.test_set), []
    arrays = load_arrays(table.artifacts / file, cell=f"backdoors-{model}-seed{table.config.seeds[0]}")
    for name in table.plan.triggers:
        keys = {"true": "true", "before": f"{name}_before", "after": f"{name}_after"}
        labels = {key: [names[i] for i in arrays[kept]] for key, kept in keys.items()}
        rows.append({"label": name, "clean": "clean", "adv": name, **labels})
    return Panel(
        "images",
        f"Triggered pictures, backdoored {model}",
        f"The first test samples of other classes than the target, {table.target}, and what the model that was "
        f"poisoned with this trigger says without and with it; seed {table.config.seeds[0]}.",
        SECTION,
        data={"file": file, "rows": rows, "changed": "triggered"},
    )
