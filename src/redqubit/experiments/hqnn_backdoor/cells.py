"""The work of the backdoor experiment: search the colour triggers, train clean and poisoned models, look at them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redqubit.backdoors import Backdoor, Poisoned, Trigger
from redqubit.data import check_trainable, first_stratified
from redqubit.defending.cells import defense_cells
from redqubit.defending.config import Defending
from redqubit.defending.config import check as check_defenses
from redqubit.errors import UsageError
from redqubit.experiments.base import Setting
from redqubit.experiments.hqnn_backdoor.config import HYBRID, TWIN, HQNNBackdoor, Pictures
from redqubit.experiments.hqnn_backdoor.plan import (
    CAMS,
    CLEAN,
    DEFENDED,
    SEARCHED,
    Found,
    Spec,
    check_triggers,
    in_order,
    is_kept,
    layers,
    sets_for,
    specs,
    trigger_named,
    victim,
)
from redqubit.experiments.hqnn_backdoor.record import Record
from redqubit.experiments.hqnn_backdoor.search import search_cell
from redqubit.experiments.hqnn_backdoor.training import (
    STREAMS,
    Material,
    OnFeatures,
    build,
    find_pretrained,
    in_batches,
    load,
    material,
    poison,
    train,
)
from redqubit.explain import Box, cosine, grad_cam, mass_inside
from redqubit.metrics import BackdoorRates, accuracy, is_correct, lpips, psnr, ssim
from redqubit.models.narrow import HEADS, FromStage, PooledFeatures, saturation
from redqubit.models.weight_gradients import weight_gradients
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.storage.arrays import save_arrays
from redqubit.training import fine_tune
from redqubit.victims import find_victims, load_victim, save_victim, trigger

N_GRADIENT = 256  # test pictures behind Tables 2 and 3
N_CAM = 200  # pictures behind the scores of Figures 5 and 9
N_SHOWN = 4
N_SIMILAR = 500  # test pictures behind SSIM and PSNR
MIDDLES = {HYBRID: "circuit.weights", TWIN: "middle.weight"}  # FC2 of Table 2


def first(config: HQNNBackdoor, setting: Setting) -> list[Cell]:
    """Return the searches and the clean models.

    Raises:
        UsageError: for a config that cannot run, or absent data or weights.
    """
    parts = in_order(setting.parts)
    check(config, setting)
    wanted = specs(config, parts)
    cells = []
    for name in SEARCHED:
        if any(spec.trigger == name for spec in wanted) or (name == "qcolor" and "table4" in parts):
            cells.append(Cell(f"search-{name}", partial(search_cell, config, name, setting)))
    clean = [spec for spec in wanted if spec.trigger == CLEAN]
    return cells + [Cell(spec.name, partial(run_clean, config, spec, setting)) for spec in clean]


def second(config: HQNNBackdoor, setting: Setting, results: Sequence[Result]) -> list[Cell]:
    """Return the poisoned models, those with frozen backbones, and how far triggers can be seen."""
    parts = in_order(setting.parts)
    found = searched(results)
    wanted = [spec for spec in specs(config, parts) if spec.trigger != CLEAN]
    cells = [Cell(spec.name, partial(run_poisoned, config, spec, found, setting)) for spec in wanted]
    if "table4" in parts:
        cells += [
            Cell(f"frozen-{spec.name}", partial(run_frozen, config, spec, found, setting))
            for part in config.sets[:2]
            for backbone in part.backbones
            for head in (HYBRID, TWIN)
            for seed in config.seeds
            for text in ("qcolor", config.control)
            for spec in [Spec(part.name, backbone, head, layers(head, config.depth), text, config.poison_rate, seed)]
        ]
    seen = dict.fromkeys(spec.trigger for spec in wanted if spec.data == config.sets[0].name)
    return cells + [Cell(f"similarity-{text}", partial(run_similarity, config, text, found, setting)) for text in seen]


def third(config: HQNNBackdoor, setting: Setting, results: Sequence[Result]) -> list[Cell]:
    """Return the heat maps and the defenses."""
    parts = in_order(setting.parts)
    found = searched(results)
    cells = []
    kept = [spec for spec in specs(config, [p for p in parts if p in (*CAMS, *DEFENDED)]) if is_kept(spec, config)]
    for part, triggers in (("figure5", ("patch:3", config.control)), ("figure9", ("qcolor",))):
        if part in parts:
            cells += [
                Cell(f"cam-{spec.name}", partial(run_cam, config, spec, found, setting))
                for spec in kept
                if spec.trigger in triggers and spec.seed == config.seeds[0]
            ]
    names = {"figure10": "fine_pruning", "figure11": "neural_cleanse", "figure12": "strip"}
    if asked := [name for part, name in names.items() if part in parts]:
        models = {spec.name for spec in kept if spec.trigger in (CLEAN, "qcolor", config.control)}
        victims = [v for v in find_victims(setting.artifacts) if v.name in models]
        cells += defense_cells(victims, asked, defending(config), setting.artifacts, setting.data_dir, setting.device)
    return cells


def check(config: HQNNBackdoor, setting: Setting) -> None:
    """Raise a `UsageError` for what would end a run after hours of work."""
    if not config.sets or len({part.name for part in config.sets}) < len(config.sets):
        raise UsageError("Argument `sets` must name one data set or more, each once.")
    for name in ("seeds", "sweep_seeds", "search_seeds", "rates", "depths"):
        if not getattr(config, name) or len(set(getattr(config, name))) < len(getattr(config, name)):
            raise UsageError(f"Argument `{name}` must hold different values, but is {list(getattr(config, name))}.")
    if min(config.depths) < 1 or config.depth < 1:
        raise UsageError("Arguments `depth` and `depths` must be 1 layer or more.")
    if config.poison_rate not in config.rates:
        raise UsageError(
            f"Argument `poison_rate` must be one of `rates` {list(config.rates)}, but is {config.poison_rate}."
        )
    if config.control in SEARCHED:
        raise UsageError(f"Argument `control` must be a trigger that needs no search, but is {config.control}.")
    for head in config.heads:
        HEADS[head]  # refuses unknown ones
    check_defenses(defending(config))
    main = config.sets[0]
    for part in sets_for(config, setting.parts):
        train_set, test_set = load(part, setting.data_dir)
        check_trainable(train_set)
        corner = replace(train_set, x=train_set.x[:, :, :1, :1])  # the rates need no whole pictures
        for rate in {config.poison_rate, *(config.rates if part == main else ())}:
            Backdoor(trigger("qcolor", {}), config.target_class, rate)(corner, generator=torch.Generator())
        if part.augment and part.first_stage:
            raise UsageError(f"Argument `augment` must be false for {part.name}, whose first stages are not trained.")
        if part == main:
            check_triggers(config, train_set.x[:1])
            if len(test_set) < config.n_defender + config.n_inputs:
                raise UsageError(
                    f"Argument `n_test` must leave {config.n_inputs} inputs beside the {config.n_defender} of the "
                    f"defender, but {part.name} has {len(test_set)}."
                )
        for backbone in part.backbones:
            find_pretrained(config, part, backbone, setting.data_dir)


def searched(results: Iterable[Result]) -> Found:
    """Return what the searches chose."""
    return {
        r.config["trigger"]: {k: v for k, v in r.config.items() if k not in ("trigger", "rule")}
        for r in results
        if r.metric == "chosen_loss"
    }


def _part(config: HQNNBackdoor, data: str) -> Pictures:
    return next(part for part in config.sets if part.name == data)


def _material(config: HQNNBackdoor, spec: Spec, setting: Setting) -> Material:
    return material(config, _part(config, spec.data), spec.backbone, setting.data_dir, setting.device)


def run_clean(config: HQNNBackdoor, spec: Spec, setting: Setting) -> list[Result]:
    """Train a model without poison; its weights stay."""
    m = _material(config, spec, setting)
    net, late = train(config, spec, m, None)
    save_victim(victim(spec, config, m.train.n_classes, {}), net, setting.artifacts)
    some = first_stratified(m.test, min(N_GRADIENT, len(m.test)))
    record = Record(spec.name, spec)
    record.share("clean_accuracy", accuracy(is_correct(in_batches(late, m.test_maps), m.test.y)))
    record.share("train_accuracy", accuracy(is_correct(in_batches(late, m.train_maps), m.train.y)))
    record.value("saturation", saturation(net, some.x))
    if spec.head in MIDDLES and spec.data == config.sets[0].name:
        names = {"FC1": "down.weight", "FC2": MIDDLES[spec.head], "FC3": "up.weight"}
        gradients = weight_gradients(net, some.x, some.y, tuple(names.values()))
        for layer, g in (("total", gradients["total"]), *((fc, gradients[name]) for fc, name in names.items())):
            record.value("n_weights", g.n_weights, layer=layer)
            record.value("gradient_norm", g.norm, layer=layer)
            record.value("mean_gradient", g.mean, layer=layer)
            record.value("largest_gradient", g.maximum, layer=layer)
            record.value("smallest_gradient", g.minimum, layer=layer)
        record.value("n_parameters", sum(p.numel() for p in net.parameters()))
    return record.results


def run_poisoned(config: HQNNBackdoor, spec: Spec, found: Found, setting: Setting) -> list[Result]:
    """Train a model on a poisoned set and hold it against the clean model of the same seed."""
    m = _material(config, spec, setting)
    v = victim(spec, config, m.train.n_classes, found)
    assert v.backdoor is not None
    poisoned = poison(spec, v.backdoor, m)
    net, late = train(config, spec, m, poisoned)
    if is_kept(spec, config):
        save_victim(v, net, setting.artifacts)
    clean = _loaded(config, spec.clean, m, found, setting)
    record = Record(spec.name, spec)
    record.rates(_rates(v.backdoor, m, poisoned, clean, late))
    record.value("n_poisoned", int(poisoned.is_poisoned.sum()))
    record.value("saturation", saturation(net, first_stratified(m.test, min(N_GRADIENT, len(m.test))).x))
    return record.results


def run_frozen(config: HQNNBackdoor, spec: Spec, found: Found, setting: Setting) -> list[Result]:
    """Put an untrained head on the clean model's backbone and train that alone, on clean and on poisoned pictures."""
    m = _material(config, spec, setting)
    backdoor = victim(spec, config, m.train.n_classes, found).backdoor
    assert backdoor is not None
    poisoned = poison(spec, backdoor, m)
    record = Record(f"frozen-{spec.name}", spec, frozen=True)
    clean, dirty = (_new_head(config, spec, m, part, found, setting) for part in (None, poisoned))
    record.rates(_rates(backdoor, m, poisoned, clean, dirty))
    record.value("n_poisoned", int(poisoned.is_poisoned.sum()))
    return record.results


def _new_head(
    config: HQNNBackdoor, spec: Spec, m: Material, poisoned: Poisoned | None, found: Found, setting: Setting
) -> FromStage:
    """Return the clean model with the head that it started from, trained alone."""
    late = _loaded(config, spec.clean, m, found, setting)
    fresh, _ = build(config, spec, m)
    parameters = []
    for name, module in fresh.named_children():
        if name != "features":
            part = late.model.get_submodule(name)
            part.load_state_dict(module.state_dict())
            parameters += list(part.parameters())
    x, y = in_batches(late.forward_features, m.train_maps), m.train.y
    if poisoned is not None:
        x, y = x[poisoned.source], poisoned.y
        rows = poisoned.is_poisoned | poisoned.is_cover
        x[rows] = in_batches(lambda part: late.forward_features(late.front(part)), poisoned.changed)
    fine_tune(
        OnFeatures(late.model),
        lambda places: (x[places.to(x.device)], y[places.to(x.device)]),
        len(y),
        [(parameters, m.part.warm_lr)],
        epochs=m.part.warm_epochs,
        batch_size=64,
        generator=torch.Generator().manual_seed(spec.seed * STREAMS + 4),
    )
    return late.eval()


def run_similarity(config: HQNNBackdoor, text: str, found: Found, setting: Setting) -> list[Result]:
    """Measure how far triggered test pictures of the first set are from clean ones."""
    main = config.sets[0]
    _, test = load(main, setting.data_dir)
    x = first_stratified(test, min(N_SIMILAR, len(test))).x
    changed = in_batches(trigger(*trigger_named(text, config, found)), x)
    spec = Spec(main.name, "", "", 0, text, config.poison_rate, config.seeds[0])
    record = Record(f"similarity-{text}", spec)
    record.mean("ssim", ssim(x, changed))
    record.mean("psnr", psnr(x, changed))
    try:
        record.mean("lpips", lpips(x, changed))
    except UsageError as error:
        record.value("lpips_absent", 1.0, reason=str(error))
    return record.results


def run_cam(config: HQNNBackdoor, spec: Spec, found: Found, setting: Setting) -> list[Result]:
    """Score and keep heat maps of what a backdoored model predicts, without and with the trigger."""
    m = _material(config, spec, setting)
    v = victim(spec, config, m.train.n_classes, found)
    assert v.backdoor is not None
    net = _loaded(config, spec, m, found, setting).model
    features = net.get_submodule("features")
    assert isinstance(features, PooledFeatures)
    layer = next(name for name, module in net.named_modules() if module is features.backbone.last_block)
    others = (m.test.y != config.target_class).nonzero()[:, 0]
    picked = others[torch.linspace(0, len(others) - 1, min(N_CAM, len(others))).long().to(others.device)]
    x, true = m.test.x[picked], m.test.y[picked]
    triggered = v.backdoor.trigger(x)
    before, after = (in_batches(net, part).argmax(1).cpu() for part in (x, triggered))
    maps = [grad_cam(net, part, y.to(part.device), layer=layer).cpu() for part, y in ((x, before), (triggered, after))]
    hit = after == config.target_class
    record = Record(f"cam-{spec.name}", spec)
    record.value("cam_hits", int(hit.sum()), n_pictures=len(x))
    if bool(hit.any()):
        both = [part[hit] for part in maps]
        record.mean("cam_cosine", cosine(*both))
        box = _box(v.backdoor.trigger, m.part.side)
        if box is not None:
            area = (box[2] - box[0]) * (box[3] - box[1]) / m.part.side**2
            for inputs, part in zip(("clean", "triggered"), both, strict=True):
                record.mean("cam_mass_in_patch", mass_inside(part, box), inputs=inputs, area=area)
    shown = hit.nonzero()[:, 0][:N_SHOWN] if bool(hit.any()) else torch.arange(min(N_SHOWN, len(x)))
    classes = m.train.classes or tuple(map(str, range(m.train.n_classes)))
    names = {
        key: [classes[int(c)] for c in labels[shown]]
        for key, labels in (("true", true.cpu()), ("before", before), ("after", after))
    }
    file = f"cam-{spec.name}.npz"
    record.value("cam_shown", len(shown), file=file, **names)
    save_arrays(
        setting.artifacts / file,
        clean=_overlaid(x[shown.to(x.device)].cpu(), maps[0][shown]),
        adv=_overlaid(triggered[shown.to(x.device)].cpu(), maps[1][shown]),
    )
    return record.results


def _loaded(config: HQNNBackdoor, spec: Spec, m: Material, found: Found, setting: Setting) -> FromStage:
    """Return a model that an earlier cell left, in evaluation mode."""
    net, late = build(config, spec, m)
    load_victim(victim(spec, config, m.train.n_classes, found), net, setting.artifacts)
    return late.eval()


def _rates(backdoor: Backdoor, m: Material, poisoned: Poisoned, clean: FromStage, late: FromStage) -> BackdoorRates:
    """Count hits from maps, so that the frozen stages see each triggered picture once."""
    target = backdoor.target_class
    triggered = in_batches(lambda x: late.front(backdoor.trigger(x)), m.test.x)
    hidden = poisoned.is_poisoned[poisoned.is_poisoned | poisoned.is_cover]
    changed = in_batches(late.front, poisoned.changed[hidden])
    return BackdoorRates.of(
        m.test.y,
        target,
        clean_model=in_batches(clean, m.test_maps),
        clean_model_triggered=in_batches(clean, triggered),
        backdoored=in_batches(late, m.test_maps),
        backdoored_triggered=in_batches(late, triggered),
        train_triggered=in_batches(late, changed),
        train_y=m.train.y[poisoned.source[poisoned.is_poisoned]],
    )


def _box(trigger: Trigger, side: int) -> Box | None:
    """Return the rectangle that a trigger changes; None when that is more than half of a picture."""
    grey = torch.full((1, 3, side, side), 0.5)
    changed = (trigger(grey) != grey)[0].any(0)
    rows, columns = (changed.any(axis).nonzero()[:, 0] for axis in (1, 0))
    if len(rows) == 0 or len(rows) * len(columns) > side**2 / 2:
        return None
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _overlaid(x: Tensor, maps: Tensor) -> NDArray[np.float32]:
    """Return pictures (K, 3, H, W) under their heat maps: the hotter, the less of the picture is left."""
    from matplotlib import colormaps

    heat = torch.from_numpy(colormaps["inferno"](maps.numpy())[..., :3]).permute(0, 3, 1, 2)
    weight = 0.15 + 0.55 * maps[:, None]
    return ((1 - weight) * x + weight * heat).clamp(0, 1).float().numpy()


def defending(config: HQNNBackdoor) -> Defending:
    """Return the settings of the defenses."""
    return Defending(
        n_defender=config.n_defender,
        n_inputs=config.n_inputs,
        strip_overlays=config.strip_overlays,
        cleanse_steps=config.cleanse_steps,
        cleanse_images_per_step=config.cleanse_images_per_step,
        cleanse_restarts=config.cleanse_restarts,
        pruning_rates=config.pruning_rates,
    )
