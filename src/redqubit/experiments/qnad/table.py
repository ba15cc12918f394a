"""The results of the experiment by case, defense and attack, and what defenses are worth over seeds."""

from collections.abc import Iterable, Mapping

from redqubit.adaptive import decide
from redqubit.experiments.judged import Judged
from redqubit.experiments.qnad.config import Case
from redqubit.experiments.qnad.plan import ATTACKS, NONE
from redqubit.experiments.seeds import Mean, difference, mean
from redqubit.result import Result
from redqubit.statistics import Difference

BySeed = dict[int, Result]
CLEAN, WITHOUT, WITH, ONE_DRAW = "clean", "without", "with", "with, one draw"  # rows and columns of the grid


class Table:
    """The numbers of a run."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._found: dict[tuple[str, str], list[Result]] = {}
        for r in results:
            self._found.setdefault((r.metric, r.config["case"]), []).append(r)

    def by_seed(self, metric: str, case: Case, **where: object) -> BySeed:
        """Return a number of a case for each seed that was run."""
        return {
            r.seed: r
            for r in self._found.get((metric, case.name), [])
            if r.seed is not None and where.items() <= r.config.items()
        }

    def accuracy(self, case: Case, defense: str, attack: str, eps: float, *, clean: bool = False) -> BySeed:
        """Return the accuracy of the first stage: examples made on the network itself, or clean pictures."""
        return self.by_seed("clean_accuracy" if clean else "accuracy", case, defense=defense, attack=attack, eps=eps)

    def path(self, case: Case, defense: str, eps: float, made: str, on: str, attack: str = "pgd") -> BySeed:
        """Return one path of the grid: made against one model, evaluated on another."""
        return self.by_seed("grid_accuracy", case, defense=defense, eps=eps, made=made, judged=on, attack=attack)

    def worst(self, case: Case, defense: str, eps: float, side: str) -> BySeed:
        """Return what the worst of all attacks leaves with a defense, or without it."""
        return self.by_seed("worst_accuracy", case, defense=defense, eps=eps, side=side)

    def n_classes(self, case: Case) -> int:
        """Return the number of classes of a case."""
        return int(next(iter(self.by_seed("n_classes", case).values())).value)

    def has(self, case: Case) -> bool:
        """Return whether a case was run."""
        return bool(self.accuracy(case, NONE, ATTACKS[0], case.shown_eps))


def mean_of(found: Mapping[int, Result]) -> Mean:
    """Return the mean over seeds; NaN where there is none."""
    return mean(list(found.values()))


def gain(a: Mapping[int, Result], b: Mapping[int, Result]) -> Difference | None:
    """Return how much larger a is than b, paired over seeds, with its interval."""
    return difference(*({seed: r.value for seed, r in found.items()} for found in (a, b)))


def judged(table: Table, case: Case, defense: str, eps: float) -> Judged | None:
    """Judge a defense of one case at one radius; None with fewer than two seeds."""

    def over(made: str, baseline: str = WITHOUT, attack: str = "pgd") -> Difference | None:
        plain = table.path(case, defense, eps, baseline, WITHOUT, attack)
        return gain(table.path(case, defense, eps, made, WITH, attack), plain)

    clean, grey, once = over(CLEAN, CLEAN), over(WITHOUT), over(ONE_DRAW)
    fgsm = over(WITHOUT, attack="fgsm")
    left = table.worst(case, defense, eps, WITH)
    adaptive = gain(left, table.worst(case, defense, eps, WITHOUT))
    if clean is None or grey is None or once is None or fgsm is None or adaptive is None:
        return None
    above = mean_of(left).low > 1 / table.n_classes(case)
    verdict = decide(clean=clean, unaware=[grey, once, fgsm], adaptive=adaptive, above_chance=above)
    return Judged(clean, grey, adaptive, verdict)
