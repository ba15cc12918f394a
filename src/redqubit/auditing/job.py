"""The main job: attack a model and its classical twin, check what can be trusted, and report."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor, nn

from redqubit.auditing.backdoor_verdict import BackdoorTable, turned_of
from redqubit.auditing.backdoors import Plan, backdoor_cells, plan_backdoors
from redqubit.auditing.cells import Work, correct_samples, load_data, model_flags, trained, transfer
from redqubit.auditing.config import Audit, check
from redqubit.auditing.defense_verdict import DefenseTable, shares_of
from redqubit.auditing.defenses import DefensePlan, defense_cells, plan_defenses
from redqubit.auditing.lint import layer_targets
from redqubit.auditing.poisoning import PoisonPlan, plan_poisoning, poisoning_cells
from redqubit.auditing.poisoning_verdict import PoisoningTable, poisoned_correct
from redqubit.auditing.subjects import TWINS, check_subject, find_model, fingerprint
from redqubit.auditing.verdict import AuditTable, summarise
from redqubit.config import resolve
from redqubit.data import NAMES, Dataset
from redqubit.device import find_device
from redqubit.errors import UsageError
from redqubit.result import Result, save_summary
from redqubit.runner import Cell, Cluster, Progress, connected, open_run, run_cells
from redqubit.storage.tables import load_table, save_table


def audit(
    model: str | nn.Module = "qunn",
    data: str | tuple[Dataset, Dataset] = "digits",
    *,
    twin: str | nn.Module | None = None,
    weights: Path | None = None,
    out: Path = Path("runs/audit"),
    data_dir: Path | None = None,
    device: str = "cpu",
    workers: int | Cluster = 1,
    progress: Progress | None = None,
    **changes: Any,
) -> Path:
    """Audit a classifier and write a report.

    Each model is trained once per seed (unless it comes with its weights), attacked in every way at every eps, and
    put beside its classical twin on the same samples. When the data are pictures, it is also trained on sets poisoned
    with each trigger of the config, and the report says what the triggers then do. It is also trained on wrong labels
    of each kind of the config. Where the config names defenses, each is put on it and attacked by who knows it. A run
    that was stopped is taken up where it was.

    Args:
        model: A registered name, "package.module:function", or an `nn.Module` that maps inputs in [0, 1] to logits
            and is audited as it is; it is left as it was.
        data: A registered name, the path of an npz file or of a folder of pictures, or (training set, test set).
        twin: The model to compare with, given like `model`; chosen to match for our own models, none for others.
        weights: Safetensors file of the model, which then is not trained.
        out: The run folder.
        data_dir: Folder of the data sets; REDQUBIT_DATA or downloads by default.
        device: Torch device to compute on, or "auto".
        workers: Processes, one model and seed each; or a Ray cluster. With more than one process, a script needs
            `if __name__ == "__main__":`.
        progress: Called as parts of the work end.
        **changes: Fields of `Audit`.

    Returns:
        The path of report.html.

    Raises:
        UsageError: when the model, the data or an argument cannot be used; the message says what to do.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> page = audit("hybrid", "iris", seeds=[0], eps=[0.1], epochs=2, attacks=["fgsm", "pgd"], out=folder)
        >>> page.name
        'report.html'
    """
    config = resolve(Audit(), changes)
    if "claim_eps" not in changes and config.eps and config.claim_eps not in config.eps:
        config = replace(config, claim_eps=min(config.eps, key=lambda eps: abs(eps - config.claim_eps)))
    check(config)
    where = find_device(device)
    load_data.cache_clear()  # a file may have changed since the last audit
    train_set, test_set = load_data(data, data_dir, config.n_train, config.n_test)
    shape, n_classes = tuple(train_set.x.shape[1:]), train_set.n_classes
    subjects = [find_model(model, shape, n_classes, weights=weights, noise=config.noise)]
    if twin is None and isinstance(model, str) and weights is None:
        twin = TWINS.get(model)
    if twin is not None:
        subjects.append(find_model(twin, shape, n_classes))
    names = [s.name for s in subjects]
    if len(set(names)) < len(names):
        raise UsageError(f"Argument `twin` must differ from the model by name, but both are {names[0]}.")
    for s in subjects:
        check_subject(s, train_set.x[:64].to(where))
    asked = not {"backdoors", "target_class", "poison_rate"}.isdisjoint(changes)
    plan = plan_backdoors(config, subjects, train_set, test_set, asked=asked)
    labels = plan_poisoning(config, subjects, train_set, device=where, asked=changes)
    shields = plan_defenses(config, subjects, train_set, test_set, device=where)
    given = data if isinstance(data, str) else train_set.name
    # what a name does not tell: the numbers of one's own data and weights, and the code of one's own model
    content = {s.name: fingerprint(s.make(0).state_dict().values()) for s in subjects if s.trained}
    content |= {f"{s.name}, code": s.code for s in subjects if s.code}
    if given not in NAMES or not isinstance(data, str):
        content["data"] = fingerprint([train_set.x, train_set.y, test_set.x, test_set.y])
    settings = {
        "model": names[0],
        "twin": names[1] if len(names) > 1 else None,
        "data": given,
        "weights": None if weights is None else str(weights),
        **({"content": content} if content else {}),
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()},
    }
    words = ["redqubit", "audit", "--model", model if isinstance(model, str) else names[0], "--data", given]
    words += ["--twin", names[1] if isinstance(twin, nn.Module) else twin] if twin is not None else []
    words += [] if weights is None else ["--weights", str(weights)]
    words += [] if data_dir is None else ["--data-dir", str(data_dir)]
    for key in changes:
        words += ["--set", f"{key}={json.dumps(getattr(config, key))}"]
    rerun = shlex.join([*words, "--out", str(out)])
    opened = open_run(Path(out), experiment="audit", config=settings, device=str(where), rerun=rerun)
    with opened as run, connected(workers):
        work = Work(config, tuple(subjects), data, data_dir, run.artifacts, where)
        cells = work.cells()
        if len(subjects) > 1:
            needs = tuple(trained(s, config.seeds[0]) for s in subjects)
            cells.append(Cell("transfer", partial(transfer, work), needs=needs))
        cells += [*backdoor_cells(work, plan), *poisoning_cells(work, labels), *defense_cells(work, shields)]
        results = run_cells(cells, run, workers=workers, progress=progress)
        samples = _joined([work.samples_file(s, seed) for s, seed in work.pairs], run.path / "samples.parquet")
        seen = train_set.x[:256].to(where)
        table = AuditTable(
            config,
            names,
            results,
            correct_samples(work, samples),
            model_flags(work),
            [t for s in subjects for t in layer_targets(work.model(s, config.seeds[0]), seen)],
            _backdoors(work, plan, results),
            _poisoning(work, labels, results),
            _defenses(work, shields, results),
            train_set,
            test_set,
            run.artifacts,
        )
        evaluations = [int(r.value) for r in results if r.metric == "circuit_evaluations"]
        cost: dict[str, float | int | str] = {
            "circuit evaluations": f"{sum(evaluations):,}" if evaluations else "none by a layer of RedQubit",
        }
        save_summary(run.path / "summary.json", summarise(table, cost=cost, rerun=rerun))
    from redqubit import report  # which loads what draws, and is due at the end alone

    return report.build(Path(out))


def _joined(files: Sequence[Path], whole: Path) -> pa.Table:
    """Return the outcomes of all cells, and keep them in one file."""
    table = pa.concat_tables([load_table(file) for file in files])
    save_table(table, whole)
    return table


def _backdoors(work: Work, plan: Plan, results: Sequence[Result]) -> BackdoorTable:
    """Return what the backdoors did, and keep the outcome of every sample in one file."""
    files = [work.backdoors_file(s, seed) for s in plan.subjects for seed in work.config.seeds]
    turned: dict[tuple[str, int, str], Tensor] = {}
    if files:
        outcomes = _joined(files, work.artifacts.parent / "backdoors.parquet")
        turned = turned_of(outcomes, work.config.target_class)
    return BackdoorTable(work.config, plan, results, turned, *work.load(), work.artifacts)


def _poisoning(work: Work, plan: PoisonPlan, results: Sequence[Result]) -> PoisoningTable:
    """Return what the label poisons did, and keep the outcome of every sample in one file."""
    files = [work.poisoning_file(s, seed) for s in plan.subjects for seed in work.config.seeds]
    correct = poisoned_correct(_joined(files, work.artifacts.parent / "poisoning.parquet")) if files else {}
    return PoisoningTable(work.config, plan, results, correct, *work.load())


def _defenses(work: Work, plan: DefensePlan, results: Sequence[Result]) -> DefenseTable:
    """Return how the defenses fared, and keep how often each sample is right in one file."""
    files = [
        work.defenses_file(s, seed, name)
        for name, subjects in plan.applied.items()
        for s, seed in work.pairs
        if s in subjects
    ]
    shares = shares_of(_joined(files, work.artifacts.parent / "defenses.parquet")) if files else {}
    test_set = work.load()[1]
    return DefenseTable(work.config, plan, results, shares, plan.samples(test_set) if files else test_set)
