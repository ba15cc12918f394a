"""The colour triggers: what an attacker without the victim finds by a stand-in."""

from dataclasses import replace

import torch

from redqubit.backdoors import Color, ColorSearch, QcolorFront, QcolorSearch, Surrogate, save_front
from redqubit.data import stratified_subset
from redqubit.experiments.base import Setting
from redqubit.experiments.hqnn_backdoor.config import HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.record import EXPERIMENT
from redqubit.experiments.hqnn_backdoor.training import STREAMS, find_pretrained, load
from redqubit.models.narrow import FromStage, on_backbone, standardise
from redqubit.result import Result
from redqubit.search import NSGA2, ParticleSwarm
from redqubit.training import fine_tune


def search_cell(config: HQNNBackdoor, name: str, setting: Setting) -> list[Result]:
    """Search the settings of a colour trigger and keep them, with all that was looked at."""
    surrogate = stand_in(config, setting)
    generator = torch.Generator().manual_seed(STREAMS)
    if name == "qcolor":
        return _qcolor(config, surrogate, generator, setting)
    return _color(config, surrogate, generator, setting)


def stand_in(config: HQNNBackdoor, setting: Setting) -> Surrogate:
    """Return the attacker's network: the first backbone under a classical head, its last stages trained.

    Its pictures are part of the training set; a network from random weights learns them first.
    """
    part = config.sets[0]
    train, _ = load(part, setting.data_dir)
    generator = torch.Generator().manual_seed(STREAMS + 1)
    drawn = stratified_subset(train, config.search_train + config.search_held, generator=generator)
    order = torch.randperm(len(drawn), generator=generator)
    held, mine = (
        replace(part, x=part.x.to(setting.device), y=part.y.to(setting.device))
        for part in (drawn.subset(order[: config.search_held]), drawn.subset(order[config.search_held :]))
    )
    weights = find_pretrained(config, part, part.backbones[0], setting.data_dir)
    generator = torch.Generator().manual_seed(STREAMS + 2)
    known = on_backbone(part.backbones[0], "tanh", train.n_classes, weights=weights, generator=generator)
    known.to(setting.device)
    if weights is None:
        fine_tune(
            known,
            lambda places: (mine.x[places.to(mine.x.device)], mine.y[places.to(mine.y.device)]),
            len(mine),
            [(known.parameters(), part.lr)],
            epochs=part.epochs,
            generator=generator,
        )
    else:
        standardise(known, mine.x)

    def rest(generator: torch.Generator) -> FromStage:
        net = on_backbone(part.backbones[0], "tanh", train.n_classes, generator=generator).to(setting.device)
        net.features.load_state_dict(known.features.state_dict())
        return FromStage(net, config.search_stage)

    return Surrogate(
        FromStage(known, config.search_stage).front,
        rest,
        mine,
        held,
        target_class=config.target_class,
        poison_rate=config.poison_rate,
        steps=config.search_steps,
        warm_steps=config.search_warm_steps,
        seeds=config.search_seeds,
    )


def _qcolor(config: HQNNBackdoor, surrogate: Surrogate, generator: torch.Generator, setting: Setting) -> list[Result]:
    """Search channel ratios by NSGA-II; the whole search is kept as `qcolor-front.json`."""
    front = QcolorSearch(NSGA2(config.population, config.generations))(
        surrogate, surrogate.dissimilarity, generator=generator, workers=setting.search_workers
    )
    save_front(front, setting.artifacts / "qcolor-front.json")
    return told(front)


def told(front: QcolorFront) -> list[Result]:
    """Return what a search says: the choice, how much it means, and every candidate."""
    choice = front.best()
    best, trigger = choice.candidate, choice.candidate.trigger
    cell = "search-qcolor"
    ratios = {"r1": trigger.r1, "r2": trigger.r2, "r3": trigger.r3}
    chosen = {"trigger": "qcolor", "rule": choice.rule, **ratios}
    out = [
        Result(EXPERIMENT, cell, "chosen_loss", best.loss, chosen),
        Result(EXPERIMENT, cell, "chosen_spread", best.spread, chosen),
        Result(EXPERIMENT, cell, "chosen_ssim", best.ssim, chosen),
        Result(EXPERIMENT, cell, "ties", len(choice.tied), chosen),
        Result(EXPERIMENT, cell, "is_optimum", float(choice.is_optimum), chosen),
        Result(EXPERIMENT, cell, "candidates", len(front.evaluated), chosen),
    ]
    on_front = {id(candidate) for candidate in front.candidates}
    for candidate in (*front.candidates, *(c for c in front.evaluated if id(c) not in on_front)):
        where = "front" if id(candidate) in on_front else "dominated"
        place = {"search": where, "dissimilarity": candidate.dissimilarity}
        out.append(Result(EXPERIMENT, cell, "candidate_loss", candidate.loss, place))
    return out


def _color(config: HQNNBackdoor, surrogate: Surrogate, generator: torch.Generator, setting: Setting) -> list[Result]:
    """Search a shift of hue, saturation and value by a particle swarm."""

    def mean_loss(trigger: Color) -> float:
        losses = surrogate(trigger)
        return sum(losses) / len(losses)

    swarm = ParticleSwarm(config.population, config.swarm_generations)
    found = ColorSearch(swarm)(mean_loss, surrogate.dissimilarity, generator=generator, workers=setting.search_workers)
    best, cell = found.best[0], "search-color"
    shift = {"hue": best.trigger.hue, "saturation": best.trigger.saturation, "value": best.trigger.value}
    chosen = {"trigger": "color", **shift}
    return [
        Result(EXPERIMENT, cell, "chosen_loss", best.loss, chosen),
        Result(EXPERIMENT, cell, "chosen_ssim", best.ssim, chosen),
        Result(EXPERIMENT, cell, "candidates", len(found.evaluated), chosen),
    ]
