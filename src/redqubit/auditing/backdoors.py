"""The backdoors of an audit: poison the training set, train the same model on it, and count what the trigger does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial

import numpy as np
import pyarrow as pa
import scipy
import torch
from torch import Tensor

from redqubit.auditing.cells import Work, drawable, trained
from redqubit.auditing.config import Audit
from redqubit.auditing.subjects import Subject
from redqubit.backdoors import TRIGGERS, Backdoor, Blend, Patch, Poisoned, Trigger, Triggered
from redqubit.data import Dataset
from redqubit.errors import UsageError
from redqubit.metrics import BackdoorRates, psnr, ssim
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.storage.arrays import save_arrays
from redqubit.storage.tables import save_table
from redqubit.training import logits, train
from redqubit.victims import Victim, save_victim

SEEN = 500  # test pictures on which a trigger's SSIM and PSNR are taken
EXAMPLES = 3  # pictures of each trigger that the report shows
SSIM_SIDE = 6  # pixels that SSIM needs along each side

# What is counted, by the field of `BackdoorRates`
METRICS = {
    "attack_success_rate": "attack_success_rate",
    "clean_model_floor": "clean_model_floor",
    "untriggered_floor": "untriggered_floor",
    "backdoor_accuracy": "backdoor_accuracy",
    "clean_accuracy": "clean_accuracy",
    "train_attack_success_rate": "train_attack_success_rate",
    "robust_accuracy": "triggered_accuracy",
}


@dataclass(frozen=True)
class Plan:
    """Which models of an audit get backdoors, and which.

    Attributes:
        subjects: The models that can be trained anew, the one under audit first; none when backdoors are left out.
        triggers: By name, in the order of the config.
        notes: What a reader should know about a trigger on these pictures, by name.
        n_poisoned: Training samples that each of them poisons.
        skipped: Why nothing is done, a sentence; empty when something is, or nothing was asked for.
    """

    subjects: tuple[Subject, ...] = ()
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    n_poisoned: int = 0
    skipped: str = ""


def audit_trigger(name: str, shape: Sequence[int]) -> Trigger:
    """Return a trigger as an audit puts it into pictures of shape (C, H, W).

    The side of the patch is an eighth of the shorter side of the picture, and at least 2 pixels where there are as
    many; Blend has alpha 0.2; the others are as their papers have them.

    Raises:
        UsageError: for an unknown name.

    Example:
        >>> audit_trigger("patch", (3, 32, 48)).side, audit_trigger("patch", (1, 8, 8)).side
        (4, 2)
    """
    if name == "patch":
        short = min(shape[1:])
        return Patch(side=min(max(2, round(short / 8)), short))
    return Blend(alpha=0.2) if name == "blend" else TRIGGERS[name]()


def plan_backdoors(
    config: Audit, subjects: Sequence[Subject], train_set: Dataset, test_set: Dataset, *, asked: bool
) -> Plan:
    """Say which models get backdoors, or why none does.

    Args:
        config: What to do.
        subjects: The model under audit, then its twin when there is one.
        train_set: What the models are trained on.
        test_set: What they are judged on.
        asked: Whether the user chose triggers, target or rate, so that one that does not suit the data is an error.

    Raises:
        UsageError: when the target is no class of the data, or `asked` and the data cannot be poisoned so.
    """
    target, no = config.target_class, "No backdoor was tried:"
    if not config.backdoors:
        return Plan()
    if target >= train_set.n_classes:
        raise UsageError(
            f"Argument `target_class` must lie in 0..{train_set.n_classes - 1}, but is {target}: choose a class of "
            "the data."
        )
    if subjects[0].trained:
        return Plan(skipped=f"{no} the model comes with its weights, and a backdoor is put in by training a new one.")
    if train_set.x.ndim != 4:
        return Plan(skipped=f"{no} the inputs are no pictures, and a trigger needs pictures.")
    if not (train_set.y == target).any():
        return Plan(skipped=f"{no} the target, {class_name(train_set, target)}, is absent from the training set.")
    if (test_set.y == target).all():
        return Plan(skipped=f"{no} the test set has no class but the target, {class_name(train_set, target)}.")
    triggers = {name: audit_trigger(name, subjects[0].input_shape) for name in config.backdoors}
    try:
        trials = {name: _poisoned(config, t, train_set, 0) for name, t in triggers.items()}
    except UsageError as error:
        if asked:
            raise
        return Plan(skipped=f"{no} {error}")
    return Plan(
        tuple(s for s in subjects if not s.trained),
        triggers,
        {name: trial.notes for name, trial in trials.items()},
        max(int(trial.is_poisoned.sum()) for trial in trials.values()),
    )


def class_name(dataset: Dataset, label: int) -> str:
    """Return what a reader knows a class by."""
    return dataset.classes[label] if dataset.classes else f"class {label}"


def backdoor_cells(work: Work, plan: Plan) -> list[Cell]:
    """Return one cell per model and seed."""
    return [
        Cell(_cell_name(s, seed), partial(implant, work, s, seed, plan.triggers), needs=(trained(s, seed),))
        for s in plan.subjects
        for seed in work.config.seeds
    ]


def implant(work: Work, subject: Subject, seed: int, triggers: Mapping[str, Trigger]) -> list[Result]:
    """Train a model on a training set poisoned with each trigger in turn, and count what the trigger does to it."""
    config, target = work.config, work.config.target_class
    train_set, test_set = work.load()
    x, y = work.test_samples()
    clean = work.model(subject, seed)
    clean_scores = logits(clean, x)
    victim = _victim(work, subject, seed, test_set.n_classes)
    if victim is not None:
        save_victim(victim, clean, work.artifacts)
    shown = (y != target).nonzero()[: min(EXAMPLES, config.n_examples), 0]
    examples = {"clean": drawable(x[shown]), "true": y[shown].cpu().numpy()}
    results: list[Result] = []
    outcomes: list[pa.Table] = []
    for name, trigger in triggers.items():
        poisoned = _poisoned(config, trigger, train_set, seed)
        model = subject.make(seed).to(work.device)
        train(
            model,
            poisoned.dataset.x.to(work.device),
            poisoned.y.to(work.device),
            epochs=config.epochs,
            batch_size=config.batch_size,
            lr=config.lr,
            generator=torch.Generator().manual_seed(seed),  # the samples come in the order of the clean training
        )
        scores = {
            "clean_model": clean_scores,
            "clean_model_triggered": logits(Triggered(clean, trigger), x),
            "backdoored": logits(model, x),
            "backdoored_triggered": logits(Triggered(model, trigger), x),
        }
        places = poisoned.is_poisoned.nonzero()[:, 0]
        rates = BackdoorRates.of(
            y,
            target,
            **scores,
            train_triggered=logits(model, poisoned.batch(places)[0].to(work.device)),
            train_y=train_set.y[poisoned.source[places]].to(work.device),
        )
        config_of_result = {"model": subject.name, "trigger": name, "backdoor": f"{name}, {subject.name}"}
        base = Result("audit", _cell_name(subject, seed), "", 0.0, config_of_result, seed=seed)
        results += _counted(base, rates, test_set)
        results += _similarity(base, x[:SEEN], trigger)
        results.append(replace(base, metric="poisoned_samples", value=float(len(places))))
        change = (scores["backdoored_triggered"] - scores["backdoored"]).abs().max()
        results.append(replace(base, metric="largest_logit_change", value=float(change)))
        said = {key: value.argmax(1).cpu().numpy() for key, value in scores.items()}
        who = {"model": [subject.name] * len(y), "seed": [seed] * len(y), "trigger": [name] * len(y)}
        outcomes.append(pa.table({**who, "index": np.arange(len(y)), "label": y.cpu().numpy(), **said}))
        rows = shown.cpu().numpy()
        examples[name] = drawable(trigger(x[shown]))
        examples |= {f"{name}_before": said["backdoored"][rows], f"{name}_after": said["backdoored_triggered"][rows]}
        if victim is not None:
            save_victim(_with_backdoor(victim, subject, name, trigger, config), model, work.artifacts)
    if seed == config.seeds[0]:
        save_arrays(work.artifacts / f"examples-backdoors-{subject.name}.npz", **examples)
    save_table(pa.concat_tables(outcomes), work.backdoors_file(subject, seed))
    return results


def _cell_name(subject: Subject, seed: int) -> str:
    return f"backdoors-{subject.name}-seed{seed}"


def _poisoned(config: Audit, trigger: Trigger, train_set: Dataset, seed: int) -> Poisoned:
    """Return the training set with the samples poisoned that this seed draws, the same for every model and trigger."""
    backdoor = Backdoor(trigger, config.target_class, config.poison_rate)
    return backdoor(train_set, generator=torch.Generator().manual_seed(seed))


def _counted(base: Result, rates: BackdoorRates, test_set: Dataset) -> list[Result]:
    """Return the rates, that of success also by true class."""
    found = [(metric, getattr(rates, field), base.config) for field, metric in METRICS.items()]
    for label, share in enumerate(rates.by_class):
        if share.n:
            config = {**base.config, "true_class": class_name(test_set, label)}
            found.append(("class_success_rate", share, config))
    return [
        replace(base, metric=metric, value=p.value, low=p.low, high=p.high, k=p.k, n=p.n, config=config)
        for metric, p, config in found
    ]


def _similarity(base: Result, x: Tensor, trigger: Trigger) -> list[Result]:
    """Return how like the clean pictures the triggered ones are; PSNR is of those that the trigger changes."""
    triggered = trigger(x)
    ratio = psnr(x, triggered)
    found = {"psnr": ratio[ratio.isfinite()]}
    if min(x.shape[2:]) >= SSIM_SIDE:
        found["ssim"] = ssim(x, triggered)
    return [_mean(base, metric, values) for metric, values in found.items() if len(values)]


def _mean(base: Result, metric: str, values: Tensor) -> Result:
    """Return a mean over pictures, with its 95 % t interval when there are several."""
    n, mean = len(values), float(values.double().mean())
    half = float(scipy.stats.t.ppf(0.975, n - 1) * values.double().std()) / n**0.5 if n > 1 else None
    bounds = {} if half is None else {"low": mean - half, "high": mean + half}
    return replace(base, metric=metric, value=mean, n=n, **bounds)


def _victim(work: Work, subject: Subject, seed: int, n_classes: int) -> Victim | None:
    """Return the clean model as a defense takes it up; None for data that no name makes again."""
    config = work.config
    if not isinstance(work.data, str) or not isinstance(subject.source, str):
        return None
    sizes = {key: n for key in ("n_train", "n_test") if (n := getattr(config, key)) is not None}
    return Victim(
        f"{subject.name}-clean-seed{seed}",
        f"{work.data}, {subject.name}",
        seed,
        {"source": subject.source, "noise": subject.noise},
        {"name": work.data, **sizes},
        n_classes,
        target_class=config.target_class,
    )


def _with_backdoor(clean: Victim, subject: Subject, name: str, trigger: Trigger, config: Audit) -> Victim:
    """Return the backdoored model that stands beside a clean one."""
    return replace(
        clean,
        name=f"{subject.name}-{name}-seed{clean.seed}",
        trigger=name,
        settings=settings_of(trigger),
        poison_rate=config.poison_rate,
    )


def settings_of(trigger: Trigger) -> dict[str, object]:
    """Return the fields of a trigger that are not as it comes."""
    return {f.name: value for f in fields(trigger) if (value := getattr(trigger, f.name)) != f.default}
