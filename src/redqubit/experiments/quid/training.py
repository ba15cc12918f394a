"""Poison, defend, train and test: what one cell of Tables 3 to 7 and Figure 5 does with all seeds at once."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import cross_entropy

from redqubit.data import Dataset
from redqubit.defenses import SSDPA, ClassVote, NeighbourVote, Vote
from redqubit.experiments.base import Setting
from redqubit.experiments.quid.config import QUIDStudy
from redqubit.experiments.quid.material import MODEL, ORDER, POISON, SHOTS, Samples, samples, stream
from redqubit.experiments.quid.plan import ADAPTIVE, CLEAN, EXACT, Spec, task_named
from redqubit.experiments.record import Record
from redqubit.models.qnn import QNN
from redqubit.models.stack import stack_logits, train_stack
from redqubit.poisoning import (
    QUID,
    BiLevel,
    Cyclic,
    Farthest,
    LabelPoison,
    NeighbourhoodFlip,
    PoisonedLabels,
    RandomFlip,
)
from redqubit.quantum.spaces import Features, Space, States
from redqubit.result import Result

THRESHOLD = {"neighbours": 0.5, "classes": 0.0}  # of the sanitizers' scores, above which a label is suspicious


def run(config: QUIDStudy, spec: Spec, setting: Setting) -> list[Result]:
    """Train and test one model of Tables 3 to 7 with every seed."""
    record = Record("quid", spec.name, spec.config)
    task = task_named(config, spec.task)
    parts = {seed: samples(config, task, config.d, seed, setting, radian=spec.radian) for seed in config.seeds}
    poisoned = {seed: poison(config, spec, part, seed) for seed, part in parts.items()}
    for seed, part in parts.items():
        if spec.poison != CLEAN:
            _describe(record, spec, part, poisoned[seed], seed)
    if spec.defense == "ss_dpa":
        _ensembles(config, spec, parts, poisoned, record)
        return record.results
    sets = {seed: found.dataset for seed, found in poisoned.items()}
    if spec.defense != CLEAN:
        sets = {seed: _sanitized(config, spec, parts[seed], found, record, seed) for seed, found in poisoned.items()}
    nets = {seed: qnn(config, spec, parts[seed], stream(seed, MODEL)) for seed in config.seeds}
    train(config, nets, sets)
    x = {seed: part.test.x for seed, part in parts.items()}
    exact, read = exactly(nets, x), by_shots(config, nets, x)
    for seed, part in parts.items():
        record.share("accuracy", read[seed] == part.test.y, seed)
        record.share("accuracy_exact", exact[seed].argmax(1) == part.test.y, seed)
        record.value("test_loss", float(cross_entropy(exact[seed], part.test.y)), seed)
        fitted = stack_logits([nets[seed]], sets[seed].x)[0].argmax(1)
        record.share("train_accuracy", fitted == sets[seed].y, seed)
    return record.results


def run_curve(config: QUIDStudy, poison_name: str, setting: Setting) -> list[Result]:
    """Train one model of Figure 5 with every seed, and test it after each epoch."""
    task = config.large
    assert task is not None  # as the plan asks for no figure then
    pqc = config.pqcs[0]
    ratio = 0.0 if poison_name == CLEAN else config.ratio
    spec = Spec(task.name, pqc, EXACT, poison_name, ratio)
    record = Record("quid", f"curve-{poison_name}", {**spec.config, "layers": config.large_layers})
    parts = {seed: samples(config, task, config.d_large, seed, setting) for seed in config.seeds}
    sets = {seed: poison(config, spec, part, seed).dataset for seed, part in parts.items()}
    nets = {
        seed: qnn(config, spec, part, stream(seed, MODEL), layers=config.large_layers) for seed, part in parts.items()
    }

    def watch(epoch: int) -> None:
        found = exactly(nets, {seed: part.test.x for seed, part in parts.items()})
        for seed, part in parts.items():
            record.share("accuracy", found[seed].argmax(1) == part.test.y, seed, epoch=epoch)
            record.value("test_loss", float(cross_entropy(found[seed], part.test.y)), seed, epoch=epoch)

    train(config, nets, sets, on_epoch=watch)
    return record.results


def qnn(config: QUIDStudy, spec: Spec, part: Samples, generator: torch.Generator, *, layers: int = 1) -> QNN:
    """Return an untrained network that reads this seed's samples."""
    return QNN(
        part.train.x.shape[1],
        part.train.n_classes,
        scale=part.slope,
        offset=part.offset,
        pqc=spec.pqc,
        layers=layers,
        noise=spec.noise,
        gradient="exact" if spec.regime == EXACT else "spsa",
        generator=generator,
    )


def train(
    config: QUIDStudy,
    nets: Mapping[int, QNN],
    sets: Mapping[int, Dataset],
    on_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train each seed's network on its set, all at once."""
    train_stack(
        list(nets.values()),
        [sets[seed].x for seed in nets],
        [sets[seed].y for seed in nets],
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        generators=[stream(seed, ORDER) for seed in nets],
        on_epoch=on_epoch,
    )


def exactly(nets: Mapping[int, QNN], x: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Return each network's logits on its samples, as many for each."""
    return dict(zip(nets, stack_logits(list(nets.values()), [x[seed] for seed in nets]), strict=True))


def by_shots(config: QUIDStudy, nets: Mapping[int, QNN], x: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Return the labels that each network predicts by shots."""
    found = stack_logits(
        list(nets.values()),
        [x[seed] for seed in nets],
        shots=config.shots,
        generators=[stream(seed, SHOTS) for seed in nets],
    )
    return dict(zip(nets, found.argmax(2), strict=True))


def poison(config: QUIDStudy, spec: Spec, part: Samples, seed: int) -> PoisonedLabels:
    """Return the poisoned training set of a seed; all methods but the one on neighbourhoods choose the same samples."""
    if spec.poison == CLEAN:
        return PoisonedLabels(part.train, part.train, torch.zeros(len(part.train), dtype=torch.bool))
    generator = stream(seed, POISON)
    if spec.poison == "farthest":  # among the latents themselves
        found = Farthest(ratio=spec.ratio)(part.plain, generator=generator)
        return PoisonedLabels(part.train, replace(part.train, y=found.y), found.is_poisoned)
    quid = QUID(part.encoder, noise=spec.noise, ratio=spec.ratio)
    methods: dict[str, LabelPoison | BiLevel | NeighbourhoodFlip] = {
        "random": RandomFlip(ratio=spec.ratio),
        "cyclic": Cyclic(ratio=spec.ratio),
        "quid": quid,
        "bilevel-random": BiLevel(RandomFlip(ratio=spec.ratio)),
        "bilevel-quid": BiLevel(quid),
        ADAPTIVE: NeighbourhoodFlip(States(part.encoder), config.cluster, ratio=spec.ratio),
    }
    return methods[spec.poison](part.train, generator=generator)


def _describe(record: Record, spec: Spec, part: Samples, poisoned: PoisonedLabels, seed: int) -> None:
    """Keep how many labels are wrong, and how often QUID chooses as its controls do."""
    record.share("wrong_labels", poisoned.is_flipped, seed)
    if spec.poison == "quid" and spec.defense == CLEAN:
        chosen = poisoned.is_poisoned
        farthest = Farthest(ratio=spec.ratio)(part.plain, generator=stream(seed, POISON))
        record.share("same_as_farthest", poisoned.y[chosen] == farthest.y[chosen], seed)
        if spec.noise is not None:
            noiseless = QUID(part.encoder, ratio=spec.ratio)(part.train, generator=stream(seed, POISON))
            record.share("same_without_noise", poisoned.y[chosen] == noiseless.y[chosen], seed)


def _sanitized(
    config: QUIDStudy, spec: Spec, part: Samples, poisoned: PoisonedLabels, record: Record, seed: int
) -> Dataset:
    """Return what a sanitizer leaves of the training set, and keep how well it tells wrong labels from right ones."""
    votes, space, action = spec.defense.split("-")
    dataset = poisoned.dataset if space == "states" else replace(part.plain, y=poisoned.y)
    found = _detector(config, votes, States(part.encoder) if space == "states" else Features())(dataset)
    flagged, wrong = found.flagged(THRESHOLD[votes]), poisoned.is_flipped
    if bool(wrong.any()):
        record.value("auroc", float(roc_auc_score(wrong.numpy(), found.scores.numpy())), seed)
    record.share("found_wrong", flagged[wrong], seed)
    record.share("lost_right", flagged[~wrong], seed)
    cleaned = replace(poisoned.dataset, y=found.relabel(THRESHOLD[votes]).y)
    return cleaned if action == "relabel" or bool(flagged.all()) else cleaned.subset(~flagged)


def _detector(config: QUIDStudy, votes: str, space: Space) -> ClassVote | NeighbourVote:
    return ClassVote(space) if votes == "classes" else NeighbourVote(space, config.neighbours)


def _ensembles(
    config: QUIDStudy,
    spec: Spec,
    parts: dict[int, Samples],
    poisoned: dict[int, PoisonedLabels],
    record: Record,
) -> None:
    """Train the ensembles of SS-DPA of all seeds; their samples are dealt out by latents, which saw no labels."""
    dealer, nets, sets, x = SSDPA(config.k), {}, {}, {}
    for seed, part in parts.items():
        for i, places in enumerate(dealer.parts(part.train.x)):
            own = _own(seed, i)
            nets[own] = qnn(config, spec, part, stream(own, MODEL))
            sets[own], x[own] = poisoned[seed].dataset.subset(places), part.test.x
    train(config, nets, sets)
    read = by_shots(config, nets, x)
    for seed, part in parts.items():
        vote = Vote.of(torch.stack([read[_own(seed, i)] for i in range(config.k)]), part.test.n_classes)
        record.share("accuracy", vote.predictions == part.test.y, seed)
        record.share("certified", vote.certificates(part.test.y) >= 1, seed)


def _own(seed: int, part: int) -> int:
    """Return a seed for one model of an ensemble, which no other seed has."""
    return 1000 * (seed + 1) + part
