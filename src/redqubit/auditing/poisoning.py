"""The label poisons of an audit: train the same model on wrong labels, and count what it still gets right."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from redqubit.auditing.cells import Work, trained
from redqubit.auditing.config import POISONINGS, Audit
from redqubit.auditing.encoder import Encoder, find_encoder
from redqubit.auditing.subjects import Subject
from redqubit.data import Dataset, first_stratified
from redqubit.errors import UsageError
from redqubit.metrics import accuracy
from redqubit.models import MODELS
from redqubit.models.qnn import MAX_ANGLES
from redqubit.poisoning import QUID, LabelPoison, PoisonedLabels
from redqubit.poisoning.base import clean_part
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.statistics import Proportion
from redqubit.storage.tables import save_table
from redqubit.training import logits, train

NONE = "none"  # what training without poison is called
FIELDS = frozenset(("poisons", "poison_ratios", "n_poison_train"))  # of the config


@dataclass(frozen=True)
class PoisonPlan:
    """Which models of an audit are trained on wrong labels, and which labels.

    Attributes:
        subjects: The models that can be trained anew, the one under audit first; none when label poisons are left out.
        poisons: Names of the label poisons, in the order of the config.
        encoder: In whose state space QUID measures; None without QUID.
        own: Whether that is the encoder of the model under audit.
        note: On that encoder or on why there is no QUID, a sentence; empty when QUID was not asked for.
        n_train: Training samples, of which each ratio is a share.
        skipped: Why nothing is done, a sentence; empty when something is, or nothing was asked for.
    """

    subjects: tuple[Subject, ...] = ()
    poisons: tuple[str, ...] = ()
    encoder: Encoder | None = None
    own: bool = False
    note: str = ""
    n_train: int = 0
    skipped: str = ""

    def samples(self, train_set: Dataset) -> Dataset:
        """Return the part of a training set that is poisoned and trained on."""
        return first_stratified(train_set, self.n_train)

    def poisoned(self, name: str, ratio: float, dataset: Dataset, seed: int) -> PoisonedLabels:
        """Return samples with the labels of a poison; a seed draws the same samples for every poison and model.

        Those of a smaller ratio are among those of a larger one.
        """
        given = dataset
        if self.encoder is not None and name == "quid":
            poison: LabelPoison = QUID(self.encoder.circuit, ratio=ratio)
            given = replace(dataset, x=self.encoder.inputs(dataset.x))
        else:
            poison = POISONINGS[name](ratio=ratio)
        return poison(given, generator=torch.Generator().manual_seed(seed))


def plan_poisoning(
    config: Audit, subjects: Sequence[Subject], train_set: Dataset, *, device: torch.device, asked: Collection[str] = ()
) -> PoisonPlan:
    """Say which models are trained on wrong labels, or why none is.

    Args:
        config: What to do.
        subjects: The model under audit, then its twin when there is one.
        train_set: What the models are trained on.
        device: Where they compute.
        asked: Fields that the user chose. What does not suit the data is an error when one of them is of label poisons,
            and so is QUID without an encoder when the poisons are.

    Raises:
        UsageError: for what was asked and cannot be done.
    """
    if not config.poisons:
        return PoisonPlan()
    no = "No label poison was tried:"
    if subjects[0].trained:
        return PoisonPlan(skipped=f"{no} the model comes with its weights, and labels are poisoned before training.")
    n = len(train_set) if config.n_poison_train is None else min(config.n_poison_train, len(train_set))
    plan = PoisonPlan(tuple(s for s in subjects if not s.trained), config.poisons, n_train=n)
    if "quid" in config.poisons:
        plan = _with_encoder(plan, train_set, device, asked="poisons" in asked)
    try:
        _check(config, plan.samples(train_set))
    except UsageError as error:
        if not FIELDS.isdisjoint(asked):
            raise
        return PoisonPlan(skipped=f"{no} {error}")
    return plan if plan.poisons else PoisonPlan(skipped=f"{no} {plan.note}")


def _with_encoder(plan: PoisonPlan, train_set: Dataset, device: torch.device, *, asked: bool) -> PoisonPlan:
    """Add the encoder of the model, or else that of `qnn` where features are few, or else leave QUID out."""
    model, shape, seen = plan.subjects[0], train_set.x.shape[1:], train_set.x[:64]
    found = find_encoder(model.make(0).to(device).eval(), seen.to(device))
    if isinstance(found, Encoder):
        said = f"QUID measures in the state space of {model.name}'s own encoder, without noise."
        return replace(plan, encoder=found, own=True, note=said)
    why = f"{model.name} has no encoder of its own ({found})"
    if prod(shape) > MAX_ANGLES:
        why += f", and {prod(shape)} features are more than the {MAX_ANGLES} that the angle encoding of `qnn` takes"
        if asked:
            raise UsageError(f"Argument `poisons` must hold no quid here, as {why}: leave it out.")
        others = tuple(name for name in plan.poisons if name != "quid")
        return replace(plan, poisons=others, note=f"QUID was not tried, since {why}.")
    other = find_encoder(MODELS["qnn"](shape, train_set.n_classes, generator=torch.Generator()), seen)
    assert isinstance(other, Encoder)
    said = f"QUID measures in the state space of the angle encoding of `qnn`, since {why}."
    return replace(plan, encoder=other, note=said)


def _check(config: Audit, dataset: Dataset) -> None:
    """Raise a `UsageError` when some draw cannot be: no sample, or a class without one that is clean."""
    for seed in config.seeds:
        for ratio in config.poison_ratios:
            drawn = POISONINGS["random"](ratio=ratio).draw(dataset, torch.Generator().manual_seed(seed))
            if not {"farthest", "quid"}.isdisjoint(config.poisons):
                clean_part(dataset, drawn)


def poisoning_cells(work: Work, plan: PoisonPlan) -> list[Cell]:
    """Return one cell per model and seed."""
    return [
        Cell(_cell_name(s, seed), partial(mislead, work, s, seed, plan), needs=(trained(s, seed),))
        for s in plan.subjects
        for seed in work.config.seeds
    ]


def mislead(work: Work, subject: Subject, seed: int, plan: PoisonPlan) -> list[Result]:
    """Train a model on the labels of each poison and ratio in turn, and count the test samples that it gets right."""
    dataset = plan.samples(work.load()[0])
    y = work.test_samples()[1]
    outcomes: list[pa.Table] = []
    results: list[Result] = []

    def said(name: str, ratio: float, labels: Tensor) -> Tensor:
        predicted = _predicted(work, subject, seed, dataset, labels)
        who = {"model": [subject.name] * len(y), "seed": [seed] * len(y), "poison": [name] * len(y)}
        what = {"ratio": [ratio] * len(y), "index": np.arange(len(y)), "label": y.cpu().numpy()}
        outcomes.append(pa.table({**who, **what, "prediction": predicted.cpu().numpy()}))
        return predicted == y

    def record(name: str, ratio: float, right: Proportion, **counts: int) -> None:
        config = {
            "model": subject.name, "poison": name, "poison_ratio": ratio, "poisoning": f"{name}, {subject.name}",
        }  # fmt: skip
        base = Result("audit", _cell_name(subject, seed), "", 0.0, config, seed=seed)
        p = right
        results.append(replace(base, metric="poisoned_accuracy", value=p.value, low=p.low, high=p.high, k=p.k, n=p.n))
        results.extend(replace(base, metric=metric, value=float(n)) for metric, n in counts.items())

    clean = accuracy(said(NONE, 0.0, dataset.y))
    for name in plan.poisons:
        record(name, 0.0, clean)  # curves start where no label is wrong
        for ratio in work.config.poison_ratios:
            poisoned = plan.poisoned(name, ratio, dataset, seed)
            chosen = poisoned.is_poisoned
            counts = {"poisoned_labels": int(chosen.sum()), "wrong_labels": int(poisoned.is_flipped.sum())}
            if name == "quid":
                same = poisoned.y == plan.poisoned("farthest", ratio, dataset, seed).y
                counts["labels_as_farthest"] = int(same[chosen].sum())
            record(name, ratio, accuracy(said(name, ratio, poisoned.y)), **counts)
    save_table(pa.concat_tables(outcomes), work.poisoning_file(subject, seed))
    return results


def _cell_name(subject: Subject, seed: int) -> str:
    return f"poisoning-{subject.name}-seed{seed}"


def _predicted(work: Work, subject: Subject, seed: int, dataset: Dataset, labels: Tensor) -> Tensor:
    """Train the model as the audit does, on these labels, and return what it makes of the test samples."""
    config = work.config
    model = subject.make(seed).to(work.device)
    train(
        model,
        dataset.x.to(work.device),
        labels.to(work.device),
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        generator=torch.Generator().manual_seed(seed),  # weights and order of samples are those of the clean training
    )
    return logits(model, work.test_samples()[0]).argmax(1)
