"""The work of an audit: train and attack one model, show examples across models, check the models."""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from redqubit.auditing.config import SETTINGS, Audit
from redqubit.auditing.subjects import Subject, find_data
from redqubit.data import Dataset
from redqubit.evasion import PGD, check_model, transfer_matrix
from redqubit.metrics import accuracy, linf_distance, worst_case
from redqubit.models import QuantumLayer
from redqubit.result import Flag, Result
from redqubit.runner import Cell
from redqubit.sanity import (
    finite_difference_check,
    gradient_check,
    logit_check,
    noise_on_check,
    randomness_check,
)
from redqubit.storage.arrays import save_arrays
from redqubit.storage.tables import load_table, save_table
from redqubit.storage.weights import load_weights, save_weights
from redqubit.training import logits, train

CHECKED = 200  # test samples that the checks of a model see


@dataclass(frozen=True)
class Work:
    """All that a cell needs, as what can be sent to another process.

    Attributes:
        config: What to do.
        subjects: The model, and its twin when there is one.
        data: Name, path, or (training set, test set).
        data_dir: Folder of the data sets.
        artifacts: Folder for models, samples and examples.
        device: Where to compute.
    """

    config: Audit
    subjects: tuple[Subject, ...]
    data: str | tuple[Dataset, Dataset]
    data_dir: Path | None
    artifacts: Path
    device: torch.device

    @property
    def pairs(self) -> list[tuple[Subject, int]]:
        """Every model and seed; one that comes with its weights has no seeds, and is attacked once."""
        seeds = self.config.seeds
        return [(s, seed) for s in self.subjects for seed in (seeds[:1] if s.trained else seeds)]

    def load(self) -> tuple[Dataset, Dataset]:
        """Return the training and test samples."""
        return load_data(self.data, self.data_dir, self.config.n_train, self.config.n_test)

    def test_samples(self) -> tuple[Tensor, Tensor]:
        """Return x and y of the test set on the device."""
        test_set = self.load()[1]
        return test_set.x.to(self.device), test_set.y.to(self.device)

    def samples_file(self, subject: Subject, seed: int) -> Path:
        """Return where the outcome of every sample is kept."""
        return self.artifacts / f"samples-{subject.name}-{seed}.parquet"

    def backdoors_file(self, subject: Subject, seed: int) -> Path:
        """Return where the predictions of a clean model and of its backdoored ones are kept."""
        return self.artifacts / f"backdoors-{subject.name}-{seed}.parquet"

    def poisoning_file(self, subject: Subject, seed: int) -> Path:
        """Return where the predictions of models that were trained on wrong labels are kept."""
        return self.artifacts / f"poisoning-{subject.name}-{seed}.parquet"

    def defenses_file(self, subject: Subject, seed: int, defense: str) -> Path:
        """Return where it is kept how often each sample is right with a defense, and without it."""
        return self.artifacts / f"defenses-{defense}-{subject.name}-{seed}.parquet"

    def weights_file(self, subject: Subject, seed: int) -> Path:
        """Return where a trained model is kept."""
        return self.artifacts / f"{subject.name}-{seed}.safetensors"

    def model(self, subject: Subject, seed: int) -> nn.Module:
        """Return a model that an earlier cell trained."""
        model = subject.make(seed).to(self.device)
        if not subject.trained:
            load_weights(model, self.weights_file(subject, seed), cell=trained(subject, seed))
        return model.eval()

    def cells(self) -> list[Cell]:
        """Return one cell per model and seed."""
        return [Cell(trained(s, seed), partial(attack, self, s, seed)) for s, seed in self.pairs]


def trained(subject: Subject, seed: int) -> str:
    """Return the name of the cell that trains and keeps a model."""
    return f"{subject.name}-seed{seed}"


@lru_cache(maxsize=1)
def load_data(
    data: str | tuple[Dataset, Dataset], data_dir: Path | None, n_train: int | None, n_test: int | None
) -> tuple[Dataset, Dataset]:
    """Return `find_data`, read once per process."""
    return find_data(data, data_dir=data_dir, n_train=n_train, n_test=n_test)


def attack(work: Work, subject: Subject, seed: int) -> list[Result]:
    """Train a model and attack it in every way."""
    config, generator = work.config, torch.Generator().manual_seed(seed)
    train_set, test_set = work.load()
    train_x, train_y = train_set.x.to(work.device), train_set.y.to(work.device)
    x, y = work.test_samples()
    model = subject.make(seed).to(work.device).eval()
    check_model(model, train_x[:64], test_set.n_classes)
    if not subject.trained:
        train(
            model,
            train_x,
            train_y,
            epochs=config.epochs,
            batch_size=config.batch_size,
            lr=config.lr,
            generator=generator,
        )
        save_weights(model, work.weights_file(subject, seed))
    record = _Record(trained(subject, seed), subject.name, seed)
    evaluations = [0]

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        evaluations[0] += len(inputs[0])

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, QuantumLayer)]
    clean = record.prediction("clean", 0.0, logits(model, x), y, x, x)
    examples: dict[str, Tensor] = {}
    for eps in config.eps:
        masks = [clean]
        for label in config.attacks:
            x_adv = SETTINGS[label](eps)(model, x, y, generator=generator)
            masks.append(record.prediction(label, eps, logits(model, x_adv), y, x, x_adv))
            if eps == config.claim_eps:
                examples[label] = x_adv[: config.n_examples]
        record.share(worst_case(masks), "worst_case", eps)
    for label in (*config.attacks, "worst_case"):
        record.share(clean, label, 0.0)  # curves start at the clean accuracy
    for hook in hooks:
        hook.remove()
    if hooks:
        record.value("circuit_evaluations", evaluations[0])
    if seed == config.seeds[0]:
        shown = next((a for a in ("pgd_strong", "pgd", "mim", "fgsm") if a in examples), config.attacks[0])
        clean_x, x_adv = x[: config.n_examples], examples[shown]
        save_arrays(
            work.artifacts / f"examples-{subject.name}.npz",
            clean=drawable(clean_x),
            adv=drawable(x_adv),
            true=y[: config.n_examples].cpu().numpy(),
            before=logits(model, clean_x).argmax(1).cpu().numpy(),
            after=logits(model, x_adv).argmax(1).cpu().numpy(),
        )
    save_table(record.samples(), work.samples_file(subject, seed))
    return record.results


def drawable(x: Tensor) -> NDArray[np.float32]:
    """Return grey or RGB pictures as they are, and what else there is as features."""
    pictures = x.ndim == 4 and x.shape[1] in (1, 3)
    array: NDArray[np.float32] = (x if pictures else x.flatten(1)).float().cpu().numpy()
    return array


def transfer(work: Work) -> list[Result]:
    """Show the PGD examples of each model to the others, at the eps of the verdict."""
    seed, eps = work.config.seeds[0], work.config.claim_eps
    x, y = work.test_samples()
    models = {s.name: work.model(s, seed) for s in work.subjects}
    grid = transfer_matrix(models, PGD(eps), x, y, generator=torch.Generator().manual_seed(seed))
    record = _Record("transfer", "", seed)
    for (source, target), found in grid.items():
        config = {"source": source, "target": target, "eps": eps, "attack": "pgd"}
        record.proportion("transfer_accuracy", found.correct, config)
    masks = {f"{a}>{b}": found.correct.cpu().numpy() for (a, b), found in grid.items()}
    save_table(pa.table(masks), work.artifacts / "transfer.parquet")
    return record.results


def correct_samples(work: Work, samples: pa.Table) -> dict[tuple[str, int, str, float], Tensor]:
    """Return masks of correct samples by (model, seed, attack, eps); "transfer:<source>" is an attack too."""
    columns = {name: samples[name].to_numpy() for name in ("model", "seed", "attack", "eps", "label", "prediction")}
    right = columns["label"] == columns["prediction"]
    out, n = {}, len(work.load()[1])
    for start in range(0, len(right), n):  # `_Record` writes n rows at a time
        model, seed, label, eps = (columns[c][start] for c in ("model", "seed", "attack", "eps"))
        out[str(model), int(seed), str(label), float(eps)] = torch.from_numpy(right[start : start + n].copy())
    if len(work.subjects) > 1:
        table = load_table(work.artifacts / "transfer.parquet", cell="transfer")
        for a in work.subjects:
            for b in work.subjects:
                mask = torch.from_numpy(table[f"{a.name}>{b.name}"].to_numpy().copy())
                out[b.name, work.config.seeds[0], f"transfer:{a.name}", work.config.claim_eps] = mask
    return out


def model_flags(work: Work) -> list[Flag]:
    """Return the trust checks that need the models themselves, on the first seed."""
    x, y = (part[:CHECKED] for part in work.test_samples())
    out = []
    for subject in work.subjects:
        model, name = work.model(subject, work.config.seeds[0]), subject.name
        generator = torch.Generator().manual_seed(0)
        out.append(gradient_check(model, x, y, subject=name))
        out.append(logit_check(model, x, subject=name))
        out.append(randomness_check(model, x, subject=name))
        if any(isinstance(m, QuantumLayer) and m.circuit.channels for m in model.modules()):
            out.append(noise_on_check(model, subject=name))
        out.append(finite_difference_check(model, x, y, generator=generator, subject=name))
    return out


class _Record:
    """The results and per-sample outcomes of one cell, as they come."""

    def __init__(self, cell: str, model: str, seed: int) -> None:
        self.cell, self.model, self.seed = cell, model, seed
        self.results: list[Result] = []
        self.tables: list[pa.Table] = []

    def value(self, metric: str, value: float) -> None:
        self.results.append(Result("audit", self.cell, metric, value, {"model": self.model}, seed=self.seed))

    def proportion(self, metric: str, correct: Tensor, config: dict[str, Any]) -> None:
        p = accuracy(correct)
        self.results.append(
            Result("audit", self.cell, metric, p.value, config, p.low, p.high, p.k, p.n, seed=self.seed)
        )

    def share(self, correct: Tensor, attack: str, eps: float) -> None:
        config = {"model": self.model, "attack": attack, "eps": eps, "seed": self.seed}
        self.proportion("robust_accuracy", correct, config)

    def prediction(self, attack: str, eps: float, scores: Tensor, y: Tensor, x: Tensor, x_adv: Tensor) -> Tensor:
        """Keep the outcome of every sample, and return which are correct."""
        predicted = scores.argmax(1)
        n = len(y)
        self.tables.append(
            pa.table(
                {
                    "model": [self.model] * n,
                    "seed": [self.seed] * n,
                    "attack": [attack] * n,
                    "eps": [eps] * n,
                    "index": np.arange(n),
                    "label": y.cpu().numpy(),
                    "prediction": predicted.cpu().numpy(),
                    "distance": linf_distance(x, x_adv).cpu().numpy(),
                }
            )
        )
        correct = predicted == y
        if attack == "clean":
            self.proportion("accuracy", correct, {"model": self.model, "seed": self.seed})
        else:
            self.share(correct, attack, eps)
        return correct

    def samples(self) -> pa.Table:
        return pa.concat_tables(self.tables)
