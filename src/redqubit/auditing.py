"""The main job: attack a model and its classical twin, check what can be trusted, and report."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from redqubit import report
from redqubit.config import resolve
from redqubit.data import Dataset
from redqubit.device import find_device
from redqubit.errors import UsageError
from redqubit.evasion import ATTACKS, PGD, EvasionAttack, check_model, transfer_matrix
from redqubit.metrics import accuracy, linf_distance, worst_case
from redqubit.models import QuantumLayer
from redqubit.registry import unknown
from redqubit.result import Flag, Result, save_summary
from redqubit.runner import Cell, Progress, open_run, run_cells
from redqubit.sanity import finite_difference_check, gradient_check, logit_check, randomness_check
from redqubit.subjects import TWINS, Subject, find_data, find_model, load_weights
from redqubit.training import logits, train
from redqubit.verdict import AuditTable, summarise

# The settings of an audit by label: every registered attack as it comes, and PGD as a claim needs it.
SETTINGS: Mapping[str, Callable[[float], EvasionAttack]] = {
    **{name: ATTACKS[name] for name in ATTACKS},
    "pgd_strong": PGD.strong,
}


@dataclass(frozen=True)
class Audit:
    """The configuration of an audit."""

    attacks: tuple[str, ...] = tuple(SETTINGS)
    eps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5)  # L-infinity radii
    claim_eps: float = 0.1  # the radius that the verdict is about; one of `eps`
    seeds: tuple[int, ...] = (0, 1, 2)  # of initial weights, circuit angles and order of samples
    n_train: int | None = None  # the first of each class; all by default
    n_test: int | None = None
    epochs: int = 30
    batch_size: int = 32
    lr: float = 5e-3
    n_examples: int = 8  # pictures in the report


def audit(
    model: str | nn.Module = "qunn",
    data: str | tuple[Dataset, Dataset] = "digits",
    *,
    twin: str | nn.Module | None = None,
    weights: Path | None = None,
    out: Path = Path("runs/audit"),
    data_dir: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    **changes: Any,
) -> Path:
    """Audit a classifier and write a report.

    Each model is trained once per seed (unless it comes with its weights), attacked in every way at every eps, and
    put beside its classical twin on the same samples. A run that was stopped is taken up where it was.

    Args:
        model: A registered name, "package.module:function", or an `nn.Module` that maps inputs in [0, 1] to logits
            and is audited as it is.
        data: A registered name, the path of an npz file or of a folder of pictures, or (training set, test set).
        twin: The model to compare with, given like `model`; chosen to match for our own models, none for others.
        weights: Safetensors file of the model, which then is not trained.
        out: The run folder.
        data_dir: Folder of the data sets; REDQUBIT_DATA or downloads by default.
        device: Torch device to compute on, or "auto".
        progress: Called as parts of the work end.
        **changes: Fields of `Audit`.

    Returns:
        The path of report.html.

    Raises:
        UsageError: when the model, the data or an argument cannot be used; the message says what to do.

    Example:
        >>> from redqubit import audit
        >>> page = audit("hybrid", "iris", seeds=[0], eps=[0.1], attacks=["fgsm", "pgd"], out=tmp)
        >>> page.name
        'report.html'
    """
    config = resolve(Audit(), changes)
    _check(config)
    where = find_device(device)
    train_set, test_set = find_data(data, data_dir=data_dir, n_train=config.n_train, n_test=config.n_test)
    shape, n_classes = tuple(train_set.x.shape[1:]), train_set.n_classes
    subjects = [find_model(model, shape, n_classes, weights=weights)]
    if twin is None and isinstance(model, str) and weights is None:
        twin = TWINS.get(model)
    if twin is not None:
        subjects.append(find_model(twin, shape, n_classes))
    if len({s.name for s in subjects}) < len(subjects):
        raise UsageError(f"Argument `twin` must differ from the model by name, but both are {subjects[0].name}.")
    settings = {
        "model": subjects[0].name,
        "twin": subjects[1].name if len(subjects) > 1 else None,
        "data": data if isinstance(data, str) else train_set.name,
        "weights": None if weights is None else str(weights),
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()},
    }
    flags = "".join(f" --set {k}={v}".replace(", ", ",") for k, v in changes.items())
    given = f"--model {model if isinstance(model, str) else subjects[0].name} --data {settings['data']}"
    rerun = f"redqubit audit {given}{flags} --out {out}"
    started = time.monotonic()
    with open_run(out, experiment="audit", config=settings, device=str(where), rerun=rerun) as run:
        work = _Work(config, subjects, train_set, test_set, run.artifacts, where)
        results = run_cells(work.cells(), run, progress=progress)
        samples = pa.concat_tables([pq.read_table(work.samples_file(s, seed)) for s, seed in work.pairs])
        pq.write_table(samples, run.path / "samples.parquet")
        table = AuditTable(
            config,
            [s.name for s in subjects],
            results,
            work.correct(samples),
            work.flags(),
            [m for s in subjects for m in work.model(s, config.seeds[0]).modules() if isinstance(m, QuantumLayer)],
            train_set,
            test_set,
            run.artifacts,
        )
        cost: dict[str, float | int | str] = {
            "this session": f"{time.monotonic() - started:.0f} s",
            "circuit evaluations": f"{sum(int(r.value) for r in results if r.metric == 'circuit_evaluations'):,}",
        }
        save_summary(run.path / "summary.json", summarise(table, cost=cost, rerun=rerun))
    return report.build(Path(out))


def _check(config: Audit) -> None:
    for name in config.attacks:
        if name not in SETTINGS:
            raise unknown("attack", name, SETTINGS)
    for field in fields(config):
        if getattr(config, field.name) == ():
            raise UsageError(f"Argument `{field.name}` must hold at least one value, but is empty.")
    if min(config.eps) <= 0:
        raise UsageError(f"Argument `eps` must hold radii above 0, but has {min(config.eps)}: 0 is always included.")
    if config.claim_eps not in config.eps:
        raise UsageError(f"Argument `claim_eps` must be one of `eps` {list(config.eps)}, but is {config.claim_eps}.")
    if min(config.epochs, config.batch_size) < 1 or config.lr <= 0:
        raise UsageError("Arguments `epochs`, `batch_size` and `lr` must be above 0.")


class _Work:
    """The cells of an audit, and the models they make, which are kept for the cells after them."""

    def __init__(
        self,
        config: Audit,
        subjects: Sequence[Subject],
        train_set: Dataset,
        test_set: Dataset,
        artifacts: Path,
        device: torch.device,
    ) -> None:
        self.config, self.subjects, self.artifacts, self.device = config, subjects, artifacts, device
        self.train_x, self.train_y = train_set.x.to(device), train_set.y.to(device)
        self.x, self.y = test_set.x.to(device), test_set.y.to(device)
        self.n_classes = train_set.n_classes
        # a model that comes with its weights has no seeds; its attacks are run once
        self.pairs = [(s, seed) for s in subjects for seed in (config.seeds[:1] if s.trained else config.seeds)]
        self.models: dict[tuple[str, int], nn.Module] = {}

    def samples_file(self, subject: Subject, seed: int) -> Path:
        return self.artifacts / f"samples-{subject.name}-{seed}.parquet"

    def weights_file(self, subject: Subject, seed: int) -> Path:
        return self.artifacts / f"{subject.name}-{seed}.safetensors"

    def cells(self) -> list[Cell]:
        """Return one cell per model and seed, then transfer between the models."""
        out = [
            Cell(f"{s.name}-seed{seed}", lambda s=s, seed=seed: self.attack(s, seed))  # type: ignore[misc]
            for s, seed in self.pairs
        ]
        if len(self.subjects) > 1:
            out.append(Cell("transfer", self.transfer))
        return out

    def model(self, subject: Subject, seed: int) -> nn.Module:
        """Return a model of an earlier cell, from memory or from its file."""
        if (subject.name, seed) not in self.models:
            model = subject.make(seed).to(self.device)
            if not subject.trained:
                load_weights(model, self.weights_file(subject, seed))
            self.models[subject.name, seed] = model.eval()
        return self.models[subject.name, seed]

    def attack(self, subject: Subject, seed: int) -> list[Result]:
        """Train a model and attack it in every way."""
        generator = torch.Generator().manual_seed(seed)
        model = subject.make(seed).to(self.device)
        check_model(model, self.train_x[:64], self.n_classes)
        config = self.config
        if not subject.trained:
            train(
                model,
                self.train_x,
                self.train_y,
                epochs=config.epochs,
                batch_size=config.batch_size,
                lr=config.lr,
                generator=generator,
            )
            save_file({k: v.contiguous() for k, v in model.state_dict().items()}, self.weights_file(subject, seed))
        self.models[subject.name, seed] = model.eval()
        record = _Record(f"{subject.name}-seed{seed}", subject.name, seed)
        evaluations = [0]

        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            evaluations[0] += len(inputs[0])

        hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, QuantumLayer)]
        clean = record.prediction("clean", 0.0, logits(model, self.x), self.y, self.x, self.x)
        examples: dict[str, Tensor] = {}
        for eps in config.eps:
            masks = [clean]
            for label in config.attacks:
                x_adv = SETTINGS[label](eps)(model, self.x, self.y, generator=generator)
                masks.append(record.prediction(label, eps, logits(model, x_adv), self.y, self.x, x_adv))
                if eps == config.claim_eps:
                    examples[label] = x_adv[: config.n_examples].cpu()
            record.share(worst_case(masks), "worst_case", eps)
        for label in (*config.attacks, "worst_case"):
            record.share(clean, label, 0.0)  # curves start at the clean accuracy
        for hook in hooks:
            hook.remove()
        if hooks:
            record.value("circuit_evaluations", evaluations[0])
        if seed == config.seeds[0]:
            x_adv = examples[_strongest(config)]
            np.savez(
                self.artifacts / f"examples-{subject.name}.npz",
                clean=self.x[: config.n_examples].cpu().numpy(),
                adv=x_adv.numpy(),
                true=self.y[: config.n_examples].cpu().numpy(),
                before=logits(model, self.x[: config.n_examples]).argmax(1).cpu().numpy(),
                after=logits(model, x_adv.to(self.device)).argmax(1).cpu().numpy(),
            )
        pq.write_table(record.samples(), self.samples_file(subject, seed))
        return record.results

    def transfer(self) -> list[Result]:
        """Show the examples of each model to the others, at the eps of the verdict."""
        seed, eps = self.config.seeds[0], self.config.claim_eps
        models = {s.name: self.model(s, seed) for s in self.subjects}
        generator = torch.Generator().manual_seed(seed)
        grid = transfer_matrix(models, PGD(eps), self.x, self.y, generator=generator)
        record = _Record("transfer", "", seed)
        for (source, target), found in grid.items():
            config = {"source": source, "target": target, "eps": eps, "attack": "pgd"}
            record.proportion("transfer_accuracy", found.correct, config)
        pq.write_table(
            pa.table({f"{a}>{b}": found.correct.cpu().numpy() for (a, b), found in grid.items()}),
            self.artifacts / "transfer.parquet",
        )
        return record.results

    def correct(self, samples: pa.Table) -> dict[tuple[str, int, str, float], Tensor]:
        """Return masks of correct samples by (model, seed, attack, eps), and of transfer by "transfer:<source>"."""
        columns = {name: samples[name].to_numpy() for name in ("model", "seed", "attack", "eps", "label", "prediction")}
        right = columns["label"] == columns["prediction"]
        out = {}
        n = len(self.x)
        for start in range(0, len(right), n):  # `_Record` writes n rows at a time
            key = tuple(columns[c][start] for c in ("model", "seed", "attack", "eps"))
            out[str(key[0]), int(key[1]), str(key[2]), float(key[3])] = torch.from_numpy(
                right[start : start + n].copy()
            )
        if len(self.subjects) > 1:
            table = pq.read_table(self.artifacts / "transfer.parquet")
            for a in self.subjects:
                for b in self.subjects:
                    mask = torch.from_numpy(table[f"{a.name}>{b.name}"].to_numpy().copy())
                    out[b.name, self.config.seeds[0], f"transfer:{a.name}", self.config.claim_eps] = mask
        return out

    def flags(self) -> list[Flag]:
        """Return the trust checks that need the models themselves, on the first seed."""
        out = []
        for s in self.subjects:
            model = self.model(s, self.config.seeds[0])
            x, y = self.x[:200], self.y[:200]
            out.append(gradient_check(model, x, y, subject=s.name))
            out.append(logit_check(model, x, subject=s.name))
            out.append(randomness_check(model, x, subject=s.name))
            generator = torch.Generator().manual_seed(0)
            out.append(finite_difference_check(model, x, y, generator=generator, subject=s.name))
        return out


def _strongest(config: Audit) -> str:
    """Return the attack whose examples are shown."""
    return next((a for a in ("pgd_strong", "pgd", "mim", "fgsm") if a in config.attacks), config.attacks[0])


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
