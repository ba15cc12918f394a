"""The results of the poisoning experiment by model, and differences between models over seeds."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from redqubit.experiments.quid.plan import Spec
from redqubit.experiments.seeds import BySeed, Mean, difference, mean
from redqubit.result import Result
from redqubit.statistics import Difference


class Table:
    """The numbers of a run, by metric, model and seed."""

    def __init__(self, results: Iterable[Result]) -> None:
        self.results = list(results)
        self._found: dict[tuple[str, Spec], dict[int, Result]] = {}
        for r in self.results:
            if "regime" in r.config and "epoch" not in r.config and r.seed is not None:
                c = r.config
                spec = Spec(c["task"], c["pqc"], c["regime"], c["poison"], c["ratio"], c["defense"], c["radian"])
                self._found.setdefault((r.metric, spec), {})[r.seed] = r

    def by_seed(self, metric: str, spec: Spec) -> dict[int, Result]:
        """Return a metric of a model for each seed that was run."""
        return self._found.get((metric, spec), {})

    def has(self, *specs: Spec) -> bool:
        """Return whether all of these models were trained."""
        return all(("accuracy", spec) in self._found for spec in specs)

    def mean(self, metric: str, spec: Spec) -> Mean:
        """Return the mean over seeds; NaN where there is none."""
        return mean(list(self.by_seed(metric, spec).values()))

    def over(self, metric: str, specs: Sequence[Spec]) -> dict[int, float]:
        """Return a metric, averaged over models, for each seed that all of them have."""
        return over_tasks([self.by_seed(metric, spec).values() for spec in specs])

    def paired(self, a: Sequence[Spec], b: Sequence[Spec], metric: str = "accuracy") -> Difference | None:
        """Return how much larger a metric, averaged over models, is for a than for b, with its interval over seeds."""
        return difference(self.over(metric, a), self.over(metric, b))

    def agreement(self, **where: object) -> list[Result]:
        """Return the shares of labels that encoded states suggest rightly, a result a seed."""
        return [
            r
            for r in self.results
            if r.metric == "label_agreement" and all(r.config.get(k) == v for k, v in where.items())
        ]


def over_tasks(results: Sequence[Iterable[Result]]) -> dict[int, float]:
    """Return the mean over tasks for each seed that all of them have."""
    found = [{r.seed: r.value for r in of_task if r.seed is not None} for of_task in results]
    common = set.intersection(*map(set, found)) if found else set[int]()
    return {seed: fmean(values[seed] for values in found) for seed in sorted(common)}


def minus(a: BySeed, b: BySeed) -> dict[int, float]:
    """Return a - b for the seeds of both."""
    return {seed: a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())}
