"""The results of the backdoor experiment by model, and what seeds say together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

import torch

from redqubit.experiments.hqnn_backdoor.plan import CLEAN, Spec
from redqubit.experiments.seeds import Mean, mean
from redqubit.result import Result
from redqubit.statistics import Difference, paired_bootstrap

Key = tuple[str, str, str, int, str, float, bool]  # data, backbone, head, depth, trigger, rate, frozen


class Table:
    """The numbers of a run, by metric, model and seed.

    "above_floor" is the attack success rate minus the clean model's rate on the same pictures.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        self.results = [r for r in results if "defense" not in r.config]
        self._found: dict[tuple[str, Key], dict[int, Result]] = {}
        for r in self.results:
            if r.seed is not None and "head" in r.config and "true_class" not in r.config and "layer" not in r.config:
                c = r.config
                key = (c["data"], c["backbone"], c["head"], c["depth"], c["trigger"], c["rate"], c["frozen"])
                self._found.setdefault((r.metric, key), {})[r.seed] = r
        for (metric, key), found in list(self._found.items()):
            if metric == "attack_success_rate":
                floors = self._found["clean_model_floor", key]
                self._found["above_floor", key] = {
                    seed: replace(r, value=r.value - floors[seed].value, k=None, n=None) for seed, r in found.items()
                }

    def by_seed(self, metric: str, spec: Spec, *, frozen: bool = False) -> dict[int, Result]:
        """Return a metric of a model for each seed that was run."""
        key = (spec.data, spec.backbone, spec.head, spec.depth, spec.trigger, spec.rate, frozen)
        return self._found.get((metric, key), {})

    def has(self, spec: Spec, *, frozen: bool = False) -> bool:
        """Return whether a model was trained with any seed."""
        metric = "clean_accuracy" if spec.trigger == CLEAN else "attack_success_rate"
        return bool(self.by_seed(metric, spec, frozen=frozen))

    def mean(self, metric: str, spec: Spec, *, frozen: bool = False) -> Mean:
        """Return the mean over seeds; NaN where there is none."""
        return mean(list(self.by_seed(metric, spec, frozen=frozen).values()))

    def worst(self, metric: str, spec: Spec) -> float:
        """Return the least of a metric over seeds; NaN where there is none."""
        return min((r.value for r in self.by_seed(metric, spec).values()), default=math.nan)

    def trials(self, metric: str, spec: Spec) -> int:
        """Return the number of test samples behind one seed's rate."""
        return next((r.n or 0 for r in self.by_seed(metric, spec).values()), 0)

    def paired(self, metric: str, a: Sequence[Spec], b: Sequence[Spec]) -> Difference | None:
        """Return the difference of a metric, averaged over pairs of models, with its interval over seeds.

        None unless two seeds or more have all of these models.
        """
        sides = []
        for side in (a, b):
            found = [self.by_seed(metric, spec) for spec in side]
            seeds = set.intersection(*(set(f) for f in found)) if found else set[int]()
            sides.append({seed: fmean(f[seed].value for f in found) for seed in seeds})
        both = sorted(sides[0].keys() & sides[1].keys())
        if len(both) < 2:
            return None
        generator = torch.Generator().manual_seed(0)
        return paired_bootstrap([sides[0][s] for s in both], [sides[1][s] for s in both], generator=generator)

    def specs(self, **where: object) -> list[Spec]:
        """Return the models that were trained, without their seeds, that have these fields."""
        keys = dict.fromkeys(key for metric, key in self._found if metric in ("clean_accuracy", "attack_success_rate"))
        specs = [Spec(*key[:6], seed=0) for key in keys if not key[6] and key[2]]
        return [s for s in specs if all(getattr(s, name) == value for name, value in where.items())]

    def one(self, metric: str, **where: object) -> Result | None:
        """Return the first result of a metric with these values in its config."""
        return next(
            (r for r in self.results if r.metric == metric and all(r.config.get(k) == v for k, v in where.items())),
            None,
        )
