"""The results of the experiment on denoising by task, network, defense and attack."""

from collections.abc import Iterable, Mapping

from redqubit.experiments.hcqnn.networks import NONE
from redqubit.experiments.hcqnn.plan import CLEAN
from redqubit.experiments.seeds import Mean, difference, mean
from redqubit.result import Result
from redqubit.statistics import Difference

BySeed = dict[int, Result]
KEYS = ("task", "network", "defense")  # of a result's config, by which results are found


class Table:
    """The numbers of a run."""

    def __init__(self, results: Iterable[Result]) -> None:
        self.results = list(results)
        self._found: dict[tuple[object, ...], list[Result]] = {}
        for r in self.results:
            self._found.setdefault((r.metric, *(r.config.get(key) for key in KEYS)), []).append(r)

    def by_seed(self, metric: str, task: str, **where: object) -> BySeed:
        """Return a number of a task for each seed that was run; `where` names network and defense if it has them."""
        return {
            r.seed: r
            for r in self._found.get((metric, task, *(where.get(key) for key in KEYS[1:])), [])
            if r.seed is not None and all(r.config.get(key) == value for key, value in where.items())
        }

    def accuracy(
        self, task: str, defense: str = NONE, attack: str = CLEAN, eps: float = 0.0, network: str = "circuit"
    ) -> BySeed:
        """Return the accuracy of a network on test samples by who made them."""
        return self.by_seed("accuracy", task, network=network, defense=defense, attack=attack, eps=eps)

    def worst(self, task: str, defense: str, eps: float, side: str = "with", network: str = "circuit") -> BySeed:
        """Return what the worst of all attacks leaves of a network with a defense, or without it."""
        return self.by_seed("worst_accuracy", task, network=network, defense=defense, side=side, eps=eps)

    def n_seeds(self, task: str) -> int:
        """Return the number of seeds that were run."""
        return len(self.accuracy(task))

    def trials(self, task: str) -> int:
        """Return the number of test samples of one seed."""
        return next((r.n or 0 for r in self.accuracy(task).values()), 0)


def mean_of(found: Mapping[int, Result]) -> Mean:
    """Return the mean over seeds; NaN where there is none."""
    return mean(list(found.values()))


def gain(a: Mapping[int, Result], b: Mapping[int, Result]) -> Difference | None:
    """Return how much larger a is than b, paired over seeds, with its interval."""
    return difference(*({seed: r.value for seed, r in found.items()} for found in (a, b)))
