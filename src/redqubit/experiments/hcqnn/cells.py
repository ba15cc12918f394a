"""The work of the experiment on denoising: one cell trains and attacks all networks of a task and a seed."""

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from redqubit.adaptive import evaluate_defense
from redqubit.evasion import FGSM, PGD
from redqubit.experiments.base import Setting
from redqubit.experiments.hcqnn.config import HCQNNStudy, Task
from redqubit.experiments.hcqnn.material import ATTACK, NOISE, Samples, samples, stream
from redqubit.experiments.hcqnn.networks import KINDS, NONE, PLACED, denoiser, online, trained
from redqubit.experiments.hcqnn.plan import CLEAN, GREY, NOISY, TRANSFER, WHITE, check, path, tasks_for
from redqubit.experiments.hcqnn.restored import keep_pictures, picture_file, similarities
from redqubit.experiments.record import Record
from redqubit.metrics import worst_case
from redqubit.models.rescaled import Rescaled
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.training import logits


def cells(config: HCQNNStudy, setting: Setting) -> list[Cell]:
    """Return one cell for each task and seed, seed by seed: a run that is cut short then has something of all tasks.

    Raises:
        UsageError: for a config that cannot run.
    """
    check(config)
    tasks = tasks_for(config, setting.parts)
    places = sorted((i, t) for t, task in enumerate(tasks) for i in range(len(task.seeds)))
    return [
        Cell(cell_name(tasks[t], tasks[t].seeds[i]), partial(run, config, tasks[t], tasks[t].seeds[i], setting))
        for i, t in places
    ]


def cell_name(task: Task, seed: int) -> str:
    """Return the name of a cell."""
    return f"{task.name.replace(', ', '-')}-seed{seed}"


def run(config: HCQNNStudy, task: Task, seed: int, setting: Setting) -> list[Result]:
    """Train and attack all networks of a task and a seed."""
    part = samples(task, seed, setting)
    record = Record("hcqnn", cell_name(task, seed), {"task": task.name})
    front = denoiser(config, task, part, seed)
    noisy = part.noisy(part.test_x, task.noise, stream(seed, NOISE))
    for kind in KINDS:
        found = trained(config, task, part, kind, front, seed, record)
        _accuracies(config, task, part, kind, found.models, noisy, seed, record)
        for eps in config.judged_eps:
            _adaptive(config, part, kind, found.models, eps, seed, record)
        record.value("n_weights", sum(p.numel() for p in found.models[NONE].parameters()), seed, network=kind)
        if kind == "circuit":
            changed = {NOISY: noisy, GREY: part.features(fgsm(part, found.models[NONE], task.shown_eps, seed))}
            similarities(part, front, changed, seed, record)
            if task.is_picture and seed == task.seeds[0]:
                changed[WHITE] = part.features(fgsm(part, found.models[PLACED], task.shown_eps, seed))
                keep_pictures(part, found, changed, setting.artifacts / picture_file(task), seed, record)
    return record.results


def fgsm(part: Samples, model: nn.Module, eps: float, seed: int) -> Tensor:
    """Return FGSM examples of the test samples, (M, ...) as attacks take them, made on one model."""
    x = part.unit(part.test_x)
    return FGSM(eps / part.width)(model, x, part.test_y, generator=stream(seed, ATTACK))


def _accuracies(
    config: HCQNNStudy,
    task: Task,
    part: Samples,
    kind: str,
    models: Mapping[str, Rescaled],
    noisy: Tensor,
    seed: int,
    record: Record,
) -> None:
    """Keep what each network gets right of clean and noisy samples, and of FGSM examples by who made them."""

    def keep(attack: str, defense: str, x: Tensor, eps: float) -> None:
        hits = logits(models[defense], x).argmax(1) == part.test_y
        where = {"network": kind, "defense": defense, "attack": attack, "eps": eps}
        record.share("accuracy", hits, seed, **where, path=path(defense, attack))

    for defense in models:
        keep(CLEAN, defense, part.unit(part.test_x), 0.0)
        keep(NOISY, defense, part.unit(noisy), 0.0)
    source = online(config.online_eps[0])
    for eps in sorted({0.0, *task.eps, *config.judged_eps}):  # 0 leaves the samples as they are
        made = {name: fgsm(part, model, eps, seed) for name, model in models.items()}
        for defense in models:
            keep(GREY, defense, made[NONE], eps)
            keep(WHITE, defense, made[defense], eps)
            keep(TRANSFER, defense, made[source], eps)


def _adaptive(
    config: HCQNNStudy,
    part: Samples,
    kind: str,
    models: Mapping[str, Rescaled],
    eps: float,
    seed: int,
    record: Record,
) -> None:
    """Keep what the worst of all attacks leaves, on each sample, with each defense and without it."""
    n = config.judged_samples
    x, y = part.unit(part.test_x)[:n], part.test_y[:n]
    source = online(config.online_eps[0])
    for defense in models:
        if defense == NONE:
            continue
        others = {} if defense == source else {TRANSFER: models[source]}
        found = evaluate_defense(
            models[NONE],
            models[defense],
            PGD(eps / part.width, steps=config.judged_steps),
            x,
            y,
            others=others,
            queries=config.queries,
            generator=stream(seed, ATTACK),
        )
        made = [fgsm(part, model, eps, seed)[:n] for model in (models[NONE], models[defense])]
        for side, model in (("without", models[NONE]), ("with", models[defense])):
            where = {"network": kind, "defense": defense, "side": side, "eps": eps}
            masks = [found.worst[side].correct[0], *(logits(model, x_adv).argmax(1) == y for x_adv in made)]
            record.share("worst_accuracy", worst_case(masks), seed, **where)
            record.share("pgd_accuracy", found.grid[side, side].correct[0], seed, **where)
            record.share("queried_accuracy", found.grid[f"square {side}", side].correct[0], seed, **where)
