"""The work of defending: one cell per model and defense."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from redqubit.backdoors import Backdoor
from redqubit.data import Dataset, first_stratified
from redqubit.defending.config import METHODS, Defending
from redqubit.defending.late import from_last_convolution
from redqubit.defending.rebuild import held_out, model_of, shared_out, trigger_label
from redqubit.defenses import STRIP, FinePruning, NeuralCleanse, RestoredTriggers, pruning_curve
from redqubit.detection import ANOMALOUS, at_false_positive_rate, auroc, normal_threshold, operating_point
from redqubit.errors import UsageError
from redqubit.metrics import backdoor_success_rate
from redqubit.registry import unknown
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.statistics import Proportion
from redqubit.storage.arrays import save_arrays
from redqubit.training import logits
from redqubit.victims import Victim

CLEAN = "clean"
TUNED = "l1, fine-tuned"
ACCURACY, SUCCESS = "accuracy on clean pictures", "attack success rate"
BATCH = 64  # pictures that get a trigger at a time
BINS = 20  # of entropies
N_SHOWN = 3  # pictures of one class each with a restored trigger, for each of two classes


@dataclass(frozen=True)
class Task:
    """All that a cell needs, as what can be sent to another process.

    Attributes:
        victim: The model to defend.
        rivals: Models of its family with a backdoor, one per trigger: STRIP shows their triggers to a clean model.
        config: What to do.
        artifacts: Folder of the run that trained the model.
        out: Folder for pictures.
        data_dir: Folder of the data sets.
        device: Where to compute.
    """

    victim: Victim
    rivals: tuple[Victim, ...]
    config: Defending
    artifacts: Path
    out: Path
    data_dir: Path | None
    device: torch.device

    @property
    def pass_size(self) -> int:
        """Return how many pictures go through a model at once: few fit a CPU's caches better, and change no result."""
        return 64 if self.device.type == "cpu" else 512

    def load(self) -> tuple[nn.Module, Dataset, Dataset]:
        """Return the model, the samples that the defender holds, and those that judge the defense."""
        test = held_out(self.victim, self.data_dir)
        held, others = shared_out(test, self.config.n_defender)
        model = model_of(self.victim, self.artifacts, test.x.shape[1:]).to(self.device)
        return model, self.moved(held), others

    def moved(self, dataset: Dataset) -> Dataset:
        """Return samples on the device."""
        x, y = dataset.x.to(self.device), dataset.y.to(self.device)
        return Dataset(x, y, dataset.n_classes, dataset.name, dataset.classes, dataset.source)

    def triggered(self, others: Dataset, backdoor: Backdoor, n: int | None) -> Dataset:
        """Return n samples of other classes than the target, with the trigger and their true labels."""
        rest = self.moved(first(others.subset(others.y != backdoor.target_class), n))
        x = torch.cat([backdoor.trigger(batch) for batch in rest.x.split(BATCH)])
        return Dataset(x, rest.y, rest.n_classes, rest.name, rest.classes, rest.source)


def defense_cells(
    victims: Sequence[Victim],
    names: Sequence[str],
    config: Defending,
    artifacts: Path,
    data_dir: Path | None,
    device: torch.device,
    *,
    out: Path | None = None,
) -> list[Cell]:
    """Return one cell per model and defense, named "<defense>-<model>".

    Clean models of a family without a backdoored one are left out, and Fine-Pruning takes backdoored ones alone.

    Args:
        victims: Models of a run.
        names: Defenses, of `METHODS`.
        config: Settings of the defenses.
        artifacts: Folder of the run that trained the models.
        data_dir: Folder of the data sets; REDQUBIT_DATA or downloads by default.
        device: Where to compute.
        out: Folder for pictures of restored triggers; `artifacts` by default.

    Raises:
        UsageError: for an unknown defense, when no model has a backdoor, or for Neural Cleanse on 2 classes.
    """
    for name in names:
        if name not in METHODS:
            raise unknown("defense", name, METHODS)
    rivals: dict[str, dict[str, Victim]] = {}  # by family and trigger
    for victim in victims:
        if victim.backdoor:
            rivals.setdefault(victim.family, {}).setdefault(trigger_label(victim), victim)
    if not rivals:
        raise UsageError(
            "Argument `victims` must hold a model with a backdoor, but none has one: choose a run that plants some."
        )
    few = [v for v in victims if v.n_classes < 3]
    if few and "neural_cleanse" in names:
        raise UsageError(
            f"Argument `names` must not hold neural_cleanse for models of 2 classes, but {few[0].name} is one: an "
            "outlier needs others to differ from, leave that defense out."
        )
    cells = []
    for victim in sorted(victims, key=lambda v: str(sorted(v.data.items()))):  # a data set is read once
        if victim.family not in rivals:
            continue
        task = Task(
            victim,
            (victim,) if victim.backdoor else tuple(rivals[victim.family].values()),
            config,
            artifacts,
            artifacts if out is None else out,
            data_dir,
            device,
        )
        cells += [
            Cell(f"{name}-{victim.name}", partial(RUNS[name], task))
            for name in names
            if victim.backdoor or name != "fine_pruning"
        ]
    return cells


def first(dataset: Dataset, n: int | None) -> Dataset:
    """Return the first n samples of each class in proportion, or all when there are no more."""
    return dataset if n is None or n >= len(dataset) else first_stratified(dataset, n)


def run_strip(task: Task) -> list[Result]:
    """Judge clean and triggered inputs by their entropy under overlays."""
    config, record = task.config, Record("strip", task.victim)
    model, held, others = task.load()
    generator = torch.Generator().manual_seed(config.seed)
    strip = STRIP(config.strip_overlays, config.strip_alpha, batch_size=task.pass_size)
    score: Callable[[Tensor], Tensor] = partial(strip, model, clean=held, generator=generator)
    threshold = normal_threshold(score(held.x))
    clean = score(task.moved(first(others, config.n_inputs)).x)
    for source in task.rivals:
        record.trigger = trigger_label(source)
        backdoor = planted(source)
        inputs = task.triggered(others, backdoor, config.n_inputs)
        triggered = score(inputs.x)
        found = auroc(clean, triggered, generator=generator)
        record.add("strip_auroc", found.value, low=found.low, high=found.high, n=found.n_clean + found.n_triggered)
        record.share("strip_tpr", at_false_positive_rate(clean, triggered).true_positives)
        point = operating_point(clean, triggered, threshold)
        record.share("strip_frr", point.false_positives)
        record.share("strip_far", point.false_acceptance)
        record.success(model, inputs, backdoor)
        for kind, scores in ((CLEAN, clean), ("triggered", triggered)):
            for bits, k in entropy_counts(scores, held.n_classes):
                record.add("strip_entropy_share", k / len(scores), k=k, n=len(scores), bits=bits, inputs=kind)
    return record.results


def entropy_counts(scores: Tensor, n_classes: int) -> list[tuple[float, int]]:
    """Return the centre of each bin of [0, log2 C] in bits, and how many of STRIP's scores, -H, fall into it.

    Example:
        >>> counts = entropy_counts(torch.tensor([-2.0, -0.01, 0.0]), 4)
        >>> counts[0], counts[-1]
        ((0.05, 2), (1.95, 1))
    """
    top = math.log2(n_classes)
    entropies = (-scores.double()).clamp(0, top).cpu().numpy()  # rounding may leave the range
    counts, edges = np.histogram(entropies, bins=BINS, range=(0.0, top))
    return [(round(float(a + b) / 2, 4), int(k)) for k, a, b in zip(counts, edges[:-1], edges[1:], strict=True)]


def run_cleanse(task: Task) -> list[Result]:
    """Restore the smallest trigger of each class, and see whether one is too small."""
    config, record = task.config, Record("neural_cleanse", task.victim)
    model, held, others = task.load()
    backdoor = task.victim.backdoor
    target = task.victim.target_class
    cleanse = NeuralCleanse(
        steps=config.cleanse_steps,
        images_per_step=config.cleanse_images_per_step,
        restarts=config.cleanse_restarts,
        pass_size=task.pass_size,
    )
    restored = cleanse.restore(model, held, generator=torch.Generator().manual_seed(config.seed))
    if backdoor:
        record.success(model, task.triggered(others, backdoor, config.n_inputs), backdoor)
    indices, scores = restored.anomaly_index, restored.scores
    record.add("model_anomaly_index", float(indices.double().quantile(0.5)))
    record.restarts("alarm_rate", indices > ANOMALOUS)
    record.restarts("target_alarm_rate", scores[:, target] > ANOMALOUS)
    record.restarts("target_first_rate", scores.argmax(1) == target)
    for draw, flagged in enumerate(restored.flagged):
        record.add("anomaly_index", float(indices[draw]), draw=draw)
        record.add("flagged_classes", len(flagged), draw=draw, classes=", ".join(map(str, flagged)))
        for label in range(held.n_classes):
            record.add("mask_norm", float(restored.norms[draw, label]), draw=draw, label=label)
            record.add("cleanse_success", float(restored.success[draw, label]), draw=draw, label=label)
    save_restored(task, model, held, restored, record)
    return record.results


def save_restored(task: Task, model: nn.Module, held: Dataset, restored: RestoredTriggers, record: "Record") -> None:
    """Keep pictures with the restored triggers of the target and of the smallest other mask, for the report."""
    target = task.victim.target_class
    norms = restored.norms[0].clone()
    norms[target] = torch.inf
    other = int(norms.argmin())
    names = held.classes or tuple(map(str, range(held.n_classes)))
    arrays: dict[str, Any] = {}
    for kind, label in (("target", target), ("other", other)):
        shown = [int((held.y == c).nonzero()[0, 0]) for c in held.y.unique().tolist() if c != label][:N_SHOWN]
        x = held.x[shown]
        mask, pattern = (part[0, label].to(x) for part in (restored.masks, restored.patterns))
        stamped = ((1 - mask) * x + mask * pattern).clamp(0, 1)
        arrays[f"{kind}_clean"] = x.half().cpu().numpy()
        arrays[f"{kind}_adv"] = stamped.half().cpu().numpy()
        arrays[f"{kind}_trigger"] = (mask * pattern).half().cpu().numpy()
        said: dict[str, Any] = {
            "true": [names[i] for i in held.y[shown].tolist()],
            "before": [names[i] for i in logits(model, x).argmax(1).tolist()],
            "after": [names[i] for i in logits(model, stamped).argmax(1).tolist()],
        }
        norm = float(restored.norms[0, label])
        record.add("restored_norm", norm, shown=kind, class_name=names[label], file=f"{record.cell}.npz", **said)
    save_arrays(task.out / f"{record.cell}.npz", **arrays)


def run_pruning(task: Task) -> list[Result]:
    """Prune the last convolution at each rate, by each ranking, and once with fine-tuning.

    A model without a convolution cannot be pruned, and has no number but its attack success rate.
    """
    config, record = task.config, Record("fine_pruning", task.victim)
    model, held, others = task.load()
    backdoor = planted(task.victim)
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        record.success(model, task.triggered(others, backdoor, config.n_judged), backdoor)
        return record.results
    test = task.moved(first(others, config.n_judged))
    triggered = task.triggered(others, backdoor, config.n_judged).x
    whole = model, [held, test], triggered
    late = from_last_convolution(*whole)  # as long as only the last convolution changes
    curves: list[tuple[str, FinePruning, tuple[nn.Module, list[Dataset], Tensor]]] = [
        (ranking, FinePruning(ranking=ranking, epochs=0), late) for ranking in config.pruning_rankings
    ]
    if config.fine_tune_epochs:
        curves.append((TUNED, FinePruning(ranking="l1", epochs=config.fine_tune_epochs), whole))
    for ranking, defense, (net, (clean, judged), pictures) in curves:
        points = pruning_curve(
            defense,
            net,
            clean,
            judged,
            pictures,
            backdoor.target_class,
            rates=config.pruning_rates,
            generator=torch.Generator().manual_seed(config.seed),
        )
        for point in points:
            at: dict[str, Any] = {"ranking": ranking, "rate": point.rate}
            record.share("benign_accuracy", point.benign_accuracy, measure=ACCURACY, **at)
            record.share("attack_success_rate", point.attack_success_rate, measure=SUCCESS, **at)
            record.add("fails", float(point.fails), **at)
            record.add("fails_by_paper", float(point.fails_by_paper), **at)
    return record.results


RUNS: dict[str, Callable[[Task], list[Result]]] = {
    "strip": run_strip,
    "neural_cleanse": run_cleanse,
    "fine_pruning": run_pruning,
}


def planted(victim: Victim) -> Backdoor:
    """Return the backdoor of a victim that has one."""
    if victim.backdoor is None:
        raise UsageError(f"Model `{victim.name}` must have a backdoor, but is clean: choose another.")
    return victim.backdoor


class Record:
    """The results of one cell, as they come."""

    def __init__(self, defense: str, victim: Victim) -> None:
        self.cell, self.defense, self.victim = f"{defense}-{victim.name}", defense, victim
        self.trigger = trigger_label(victim)  # that is shown to the model
        self.results: list[Result] = []

    @property
    def config(self) -> dict[str, Any]:
        """What every result says: `model` is "clean" or how much was poisoned, `backdoor` also by what."""
        victim, rate = self.victim, f"{100 * self.victim.poison_rate:g} %"
        backdoor = f"{trigger_label(victim)}, {rate}" if victim.backdoor else CLEAN
        return {
            "defense": self.defense,
            "family": victim.family,
            "seed": victim.seed,
            "trigger": self.trigger,
            "model": f"poisoned {rate}" if victim.backdoor else CLEAN,
            "backdoor": backdoor,
            "case": f"{victim.family}: {backdoor}",
        }

    def add(
        self,
        metric: str,
        value: float,
        *,
        low: float | None = None,
        high: float | None = None,
        k: int | None = None,
        n: int | None = None,
        **more: Any,
    ) -> None:
        """Enter a number; `more` joins its config."""
        config = self.config | more
        self.results.append(
            Result("defend", self.cell, metric, float(value), config, low, high, k, n, seed=self.victim.seed)
        )

    def share(self, metric: str, share: Proportion, **more: Any) -> None:
        """Enter a proportion."""
        self.add(metric, share.value, low=share.low, high=share.high, k=share.k, n=share.n, **more)

    def restarts(self, metric: str, found: Tensor) -> None:
        """Enter in which share of the restarts something was found; they are no independent trials."""
        self.add(metric, float(found.double().mean()), n=len(found))

    def success(self, model: nn.Module, inputs: Dataset, backdoor: Backdoor) -> None:
        """Enter how often the trigger calls up the target; of a clean model it is the floor."""
        rate = backdoor_success_rate(logits(model, inputs.x), inputs.y, backdoor.target_class)
        self.share("attack_success_rate", rate)
