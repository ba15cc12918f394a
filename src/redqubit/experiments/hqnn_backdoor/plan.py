"""Which models each table and figure needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from torch import Tensor

from redqubit.errors import UsageError
from redqubit.experiments.hqnn_backdoor.config import HYBRID, PARTS, TWIN, HQNNBackdoor, Pictures
from redqubit.victims import Victim, trigger

SEARCHED = ("color", "qcolor")  # triggers whose parameters a search finds
CLEAN = "clean"
CHANNELS = ("red", "green", "blue")
DEFENDED = ("figure10", "figure11", "figure12")
CAMS = ("figure5", "figure9")
Found = Mapping[str, Mapping[str, Any]]  # the settings of searched triggers, by name


@dataclass(frozen=True)
class Spec:
    """One model to train.

    `trigger` is "clean" or what `trigger_named` reads; `rate` is the share of the training set that is poisoned.
    """

    data: str
    backbone: str
    head: str
    depth: int
    trigger: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its cell and of its files."""
        poison = self.trigger.replace(":", "-").replace(",", "_")
        poison += "" if self.trigger == CLEAN else f"-{self.rate:g}"
        return f"{self.data}-{self.backbone}-{self.head}-{self.depth}-{poison}-seed{self.seed}"

    @property
    def family(self) -> str:
        """What it shares with the models that differ in poison and seed alone."""
        return f"{self.data}, {self.head} on {self.backbone}" + ("" if self.depth == 0 else f", {self.depth} layers")

    @property
    def config(self) -> dict[str, Any]:
        """What its results are found by."""
        return {
            "data": self.data,
            "backbone": self.backbone,
            "head": self.head,
            "depth": self.depth,
            "trigger": self.trigger,
            "rate": self.rate,
            **_changes(self.trigger),
        }

    @property
    def clean(self) -> "Spec":
        """The same model without poison."""
        return Spec(self.data, self.backbone, self.head, self.depth, CLEAN, 0.0, self.seed)


def in_order(parts: Sequence[str]) -> tuple[str, ...]:
    """Return tables and figures in the order of the paper, all of them when none is named."""
    return tuple(part for part in PARTS if not parts or part in parts)


def layers(head: str, depth: int) -> int:
    """Return the depth of a head's circuit, 0 where it has none."""
    return depth if head in (HYBRID, "prodsin") else 0


def trigger_named(text: str, config: HQNNBackdoor, found: Found) -> tuple[str, dict[str, Any]]:
    """Return name and settings of a trigger.

    "patch:3" is a square of side 3; "blend:0.2" noise at 0.2; "wanet" a warp; "wanet:2" the same with two cover samples
    for each poisoned one; "qcolor:1.05,1,1" three ratios; "color" and "qcolor" what the search found.

    Raises:
        UsageError: for anything else.
    """
    name, _, rest = text.partition(":")
    try:
        if name in SEARCHED and not rest:
            return name, dict(found[name])
        if name == "patch":
            return name, {"side": int(rest), "margin": config.margin}
        if name == "blend":
            return name, {"alpha": float(rest)}
        if name == "wanet":
            return name, {"cover_ratio": float(rest or 0)}
        if name == "qcolor":
            r1, r2, r3 = map(float, rest.split(","))
            return name, {"r1": r1, "r2": r2, "r3": r3}
    except ValueError:
        pass
    raise UsageError(
        f"Trigger `{text}` must be like patch:3, blend:0.2, wanet, wanet:2, color, qcolor or qcolor:1.05,1,1."
    )


def single_changes(config: HQNNBackdoor) -> list[str]:
    """Return the triggers of Figure 6: one channel at a time."""
    return [_ratios({c: change}) for c in range(3) for change in config.single]


def double_changes(config: HQNNBackdoor) -> list[str]:
    """Return the triggers of Figure 7: two channels at a time, both changed."""
    pairs = combinations(range(3), 2)
    grid = product(config.double, config.double)
    return [_ratios({a: x, b: y}) for (a, b), (x, y) in product(list(pairs), list(grid))]


def _ratios(changes: Mapping[int, float]) -> str:
    return "qcolor:" + ",".join(f"{1 + changes.get(c, 0.0):g}" for c in range(3))


def _changes(text: str) -> dict[str, Any]:
    """Return by how much the channels are changed, for the axes of Figures 6 and 7."""
    name, _, ratios = text.partition(":")
    if name != "qcolor" or not ratios:
        return {}
    changed = {c: round(float(r) - 1, 6) for c, r in zip(CHANNELS, ratios.split(","), strict=True) if float(r) != 1}
    if len(changed) == 1:
        [(channel, change)] = changed.items()
        return {"channel": channel, "change": change}
    if len(changed) == 2:
        (a, x), (b, y) = changed.items()
        return {"channels": f"{a} and {b}", "first_change": x, "second_change": y}
    return {}


def specs(config: HQNNBackdoor, parts: Sequence[str]) -> list[Spec]:
    """Return the models that these tables and figures need, the clean ones first, each once."""
    main, base = config.sets[0], config.poison_rate
    wanted: list[Spec] = []

    def add(
        sets: Sequence[Pictures],
        heads: Sequence[str],
        triggers: Sequence[str],
        *,
        rates: Sequence[float] = (base,),
        depths: Sequence[int] = (config.depth,),
        seeds: Sequence[int] = config.seeds,
        first_backbone: bool = False,
    ) -> None:
        for part in sets:
            backbones = part.backbones[:1] if first_backbone else part.backbones
            for backbone, head, depth, seed in product(backbones, heads, depths, seeds):
                deep = layers(head, depth)
                wanted.append(Spec(part.name, backbone, head, deep, CLEAN, 0.0, seed))
                wanted.extend(Spec(part.name, backbone, head, deep, t, r, seed) for t in triggers for r in rates)

    both = (HYBRID, TWIN)
    for part in parts:
        if part == "table1":
            add([main], both, (*config.table1, *config.larger, config.control))
            add([main], (*both, *config.heads), config.probes, first_backbone=True)
        elif part in ("table2", "table3"):
            add([main], both, (), first_backbone=True)
        elif part == "table4":
            add(config.sets[:2], both, ())
        elif part == "table5":
            add(config.sets, both, ("qcolor",))
        elif part == "table6":
            add([main], (HYBRID,), config.table6, rates=config.rates)
            add([main], (TWIN,), config.table6)
        elif part == "table7":
            add([main], (HYBRID,), ("qcolor",), depths=config.depths, first_backbone=True)
        elif part == "table8":
            add([main], (HYBRID,), config.table6, first_backbone=True)
        elif part in ("figure6", "figure7"):
            sweep = single_changes(config) if part == "figure6" else double_changes(config)
            add([main], (HYBRID,), sweep, seeds=config.sweep_seeds, first_backbone=True)
        elif part in (*CAMS, *DEFENDED):
            add([main], both, ("patch:3", "qcolor", config.control), first_backbone=True)
    return sorted(dict.fromkeys(wanted), key=lambda spec: spec.trigger != CLEAN)


def main_spec(
    config: HQNNBackdoor, head: str, trigger: str, *, rate: float | None = None, depth: int | None = None
) -> Spec:
    """Return a model of the first set and backbone; rate and depth are those of the config when None."""
    main = config.sets[0]
    poison = 0.0 if trigger == CLEAN else config.poison_rate if rate is None else rate
    return Spec(main.name, main.backbones[0], head, layers(head, depth or config.depth), trigger, poison, 0)


def sets_for(config: HQNNBackdoor, parts: Sequence[str]) -> list[Pictures]:
    """Return the data sets that these tables and figures need; the searches need the first."""
    needed = {config.sets[0].name, *(spec.data for spec in specs(config, in_order(parts)))}
    return [part for part in config.sets if part.name in needed]


def is_kept(spec: Spec, config: HQNNBackdoor) -> bool:
    """Return whether a model's weights stay in the run folder: what floors, frozen heads or defenses need."""
    if spec.trigger == CLEAN:
        return True
    main = config.sets[0]
    return (
        spec.trigger in ("patch:3", "qcolor", config.control)
        and (spec.data, spec.backbone) == (main.name, main.backbones[0])
        and spec.head in (HYBRID, TWIN)
        and spec.rate == config.poison_rate
        and spec.depth in (0, config.depth)
    )


def victim(spec: Spec, config: HQNNBackdoor, n_classes: int, found: Found) -> Victim:
    """Return what a model is, for the defenses."""
    part = next(part for part in config.sets if part.name == spec.data)
    sizes = {"n_train": part.n_train, "n_test": part.n_test}
    name, settings = ("", {}) if spec.trigger == CLEAN else trigger_named(spec.trigger, config, found)
    return Victim(
        name=spec.name,
        family=spec.family,
        seed=spec.seed,
        model={
            "backbone": spec.backbone,
            "head": spec.head,
            "n_qubits": config.n_qubits,
            "depth": spec.depth or config.depth,
        },
        data={"name": part.name, "side": part.side, **{key: n for key, n in sizes.items() if n}},
        n_classes=n_classes,
        trigger=name,
        settings=settings,
        target_class=config.target_class,
        poison_rate=spec.rate,
    )


def check_triggers(config: HQNNBackdoor, x: Tensor) -> None:
    """Raise a `UsageError` for a trigger that cannot be made or put into these pictures, before any work."""
    found: Found = {name: {} for name in SEARCHED}
    sweeps = (*single_changes(config), *double_changes(config))
    for text in (*config.table1, *config.larger, config.control, *config.probes, *config.table6, *sweeps):
        trigger(*trigger_named(text, config, found))(x)
