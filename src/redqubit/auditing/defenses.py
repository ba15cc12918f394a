"""The defenses of an audit: defend the models, and attack them as who knows the defense does, and who does not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from math import sqrt

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from redqubit.adaptive import Scored, evaluate_defense
from redqubit.auditing.cells import Work, trained
from redqubit.auditing.config import EVASION_DEFENSES, Audit
from redqubit.auditing.subjects import Subject
from redqubit.data import Dataset, first_stratified
from redqubit.defenses import Defense, Smoothed
from redqubit.errors import UsageError
from redqubit.evasion import FGSM, PGD, check_model
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.statistics import MeanProportion, Proportion
from redqubit.storage.tables import save_table

WORST = "worst of all"  # what each sample meets that is judged by the attack that fools the model most
WITHOUT, WITH = "without", "with"  # the defense
TRANSFER = "transfer"  # from the other model of the audit
TRIED = 2  # samples of each class that tell whether a defense takes a model
N_CHOOSE = 64  # test samples that choose the draws of EOT
RADII = (0.0, 0.5, 1.0, 1.5, 2.0)  # of certificates, in units of the noise
VOTES = 1000  # noisy copies that bound a certificate


@dataclass(frozen=True)
class DefensePlan:
    """Which models of an audit are defended, and how.

    Attributes:
        subjects: The models that some defense is put on, the one under audit first.
        applied: By the name of a defense, the models that it is put on; none when defenses are left out.
        refused: Why a defense is not put on a model, by both names.
        n_test: Test samples that judge them.
    """

    subjects: tuple[Subject, ...] = ()
    applied: Mapping[str, tuple[Subject, ...]] = field(default_factory=dict)
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    n_test: int = 0

    def samples(self, test_set: Dataset) -> Dataset:
        """Return the part of a test set that judges defenses."""
        return first_stratified(test_set, self.n_test)


def plan_defenses(
    config: Audit, subjects: Sequence[Subject], train_set: Dataset, test_set: Dataset, *, device: torch.device
) -> DefensePlan:
    """Say which models each defense is put on, by trying it with an epoch on a few samples.

    Args:
        config: What to do.
        subjects: The model under audit, then its twin when there is one.
        train_set: What the defender holds.
        test_set: What the models are judged on.
        device: Where they compute.

    Raises:
        UsageError: when none of the defenses that are asked for takes the model under audit.
    """
    if not config.defenses:
        return DefensePlan()
    few = first_stratified(train_set, min(len(train_set), TRIED * train_set.n_classes))
    applied: dict[str, tuple[Subject, ...]] = {}
    refused: dict[tuple[str, str], str] = {}
    for name in config.defenses:
        for subject in subjects:
            try:
                model = subject.make(0).to(device).eval()
                defended, _ = protect(replace(config, epochs=1), name, model, on(few, device), seed=0)
                check_model(defended, few.x.to(device), few.n_classes)
            except UsageError as error:
                refused[name, subject.name] = str(error)
            else:
                applied[name] = (*applied.get(name, ()), subject)
    first = subjects[0].name
    if all((name, first) in refused for name in config.defenses):
        *_, (name, why) = ((name, refused[name, first]) for name in config.defenses)
        raise UsageError(f"Argument `defenses` must hold one that {first} takes, but {name} is refused: {why}")
    n = len(test_set) if config.n_defense_test is None else min(config.n_defense_test, len(test_set))
    taken = tuple(s for s in subjects if any(s in those for those in applied.values()))
    return DefensePlan(taken, applied, refused, n)


def protect(
    config: Audit, name: str, model: nn.Module, clean: Dataset, *, seed: int
) -> tuple[nn.Module, tuple[Defense, ...]]:
    """Return a model behind one or several defenses, and these; each is made for what the one before returned.

    Args:
        config: What to do.
        name: Of a defense, or of several with + between.
        model: The model; left as it was.
        clean: Samples that the defender holds, on its device.
        seed: Of all random numbers.

    Raises:
        UsageError: when a defense does not take the model.
    """
    generator = torch.Generator().manual_seed(seed)
    steps: list[Defense] = []
    for part in name.split("+"):
        steps.append(EVASION_DEFENSES[part](config, model, clean.x.shape[1:]))
        model = steps[-1](model, clean, generator=generator)
    return model, tuple(steps)


def on(dataset: Dataset, device: torch.device) -> Dataset:
    """Return samples and labels on a device."""
    return replace(dataset, x=dataset.x.to(device), y=dataset.y.to(device))


def defense_cells(work: Work, plan: DefensePlan) -> list[Cell]:
    """Return one cell per defense, model and seed."""
    models = {seed: tuple(trained(s, seed) for s in work.subjects) for seed in work.config.seeds}
    return [
        Cell(cell_name(name, s, seed), partial(judge, work, s, seed, name, plan), needs=models[seed])
        for name, subjects in plan.applied.items()
        for s, seed in work.pairs
        if s in subjects
    ]


def cell_name(name: str, subject: Subject, seed: int) -> str:
    """Return what a cell is called."""
    return f"defense-{name}-{subject.name}-seed{seed}"


def judge(work: Work, subject: Subject, seed: int, name: str, plan: DefensePlan) -> list[Result]:
    """Defend a model, attack it in every way, and certify what can be certified."""
    config = work.config
    train_set, test_set = (on(part, work.device) for part in work.load())
    part = plan.samples(test_set)
    model = work.model(subject, seed)
    defended, steps = protect(config, name, model, train_set, seed=seed)
    others = [work.model(s, seed) for s in work.subjects if s.name != subject.name]
    eps = config.judged_eps
    found = evaluate_defense(
        model,
        defended,
        PGD(eps, steps=config.defense_steps),
        part.x,
        part.y,
        more={"fgsm": FGSM(eps)},
        others={TRANSFER: others[0]} if others else {},
        queries=config.defense_queries,
        limit=config.defense_draws,
        n_choose=N_CHOOSE,
        generator=torch.Generator().manual_seed(seed),
    )
    where = {"model": subject.name, "defense": name, "eps": eps}
    base = Result("audit", cell_name(name, subject, seed), "", 0.0, where, seed=seed)
    cells = {**found.grid.cells, **{(WORST, side): scored for side, scored in found.worst.items()}}
    results = [
        _share(base, "defense_accuracy", scored, made=made, judged=judged) for (made, judged), scored in cells.items()
    ]
    e = found.expectation
    told = {"eot_draws": e.draws, "eot_converged": e.converged, "defense_is_random": e.change is not None}
    setting = {**where, "setting": " then ".join(map(_in_words, steps))}
    results += [replace(base, metric=metric, value=float(value), config=setting) for metric, value in told.items()]
    if isinstance(defended, Smoothed):
        results += _certified(base, defended, part, eps)
    save_table(_outcomes(base, cells, part.y), work.defenses_file(subject, seed, name))
    return results


def _in_words(defense: Defense) -> str:
    """Return a defense as one would write it, without the device that its noise is of."""
    values = {f.name: getattr(defense, f.name) for f in fields(defense) if f.name != "device"}
    return f"{type(defense).__name__}({', '.join(f'{key}={value!r}' for key, value in values.items())})"


def _share(base: Result, metric: str, scored: Scored, **more: str) -> Result:
    config = {**base.config, **more}
    correct = scored.correct
    if len(correct) == 1:
        p = Proportion(int(correct.sum()), correct.shape[1])
        return replace(base, metric=metric, value=p.value, low=p.low, high=p.high, k=p.k, n=p.n, config=config)
    m = MeanProportion.of(correct)
    return replace(base, metric=metric, value=m.value, low=m.low, high=m.high, n=m.n, config=config)


def _certified(base: Result, smoothed: Smoothed, part: Dataset, eps: float) -> list[Result]:
    """Return the certified accuracy by L2 radius, and within the whole L-infinity ball of the attacks."""
    found = smoothed.certify(part.x, n=VOTES)

    def share(metric: str, radius: float) -> Result:
        p = found.accuracy(part.y, radius)
        config = {**base.config, "radius": radius}
        return replace(base, metric=metric, value=p.value, low=p.low, high=p.high, k=p.k, n=p.n, config=config)

    whole = eps * sqrt(part.x[0].numel())
    return [
        *(share("certified_accuracy", unit * smoothed.sigma) for unit in RADII),
        share("certified_ball_accuracy", whole),
    ]


def _outcomes(base: Result, cells: Mapping[tuple[str, str], Scored], y: Tensor) -> pa.Table:
    """Return how often each sample is right on every path, a row each."""
    n = len(y)
    return pa.concat_tables(
        pa.table(
            {
                **{key: [base.config[key]] * n for key in ("model", "defense", "eps")},
                "seed": [base.seed] * n,
                "made": [made] * n,
                "judged": [judged] * n,
                "draws": [len(scored.correct)] * n,
                "index": np.arange(n),
                "label": y.cpu().numpy(),
                "right": scored.correct.double().mean(0).cpu().numpy(),
            }
        )
        for (made, judged), scored in cells.items()
    )
