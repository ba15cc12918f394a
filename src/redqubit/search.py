"""Searches of a box of parameters, by pymoo: candidates are evaluated in parallel and never twice.

An evaluation runs on one thread whatever the number of workers, so that this number changes no digit of a result.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar, final

import numpy as np
import torch

from redqubit.errors import UsageError
from redqubit.runner import Cluster, spread

Vector = tuple[float, ...]
OnGeneration = Callable[[int, int], None]
Workers = int | Cluster
T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a search ends with.

    Attributes:
        best: The candidates that none beats: the front, or the single best.
        evaluated: All that were looked at, each once, in the order of the search.
    """

    best: tuple[T, ...]
    evaluated: tuple[T, ...]


@dataclass(frozen=True)
class Search(ABC):
    """A search by generations; call it to run it.

    Raises:
        UsageError: when a count is below 1, or another field is negative or not finite.
    """

    N_OBJECTIVES: ClassVar[int]

    population: int = 20  # candidates of a generation
    generations: int = 15  # the first one, which is random, included

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (not isinstance(value, int) or value < 1):
                raise UsageError(f"Argument `{field.name}` must be an integer of at least 1, but is {value!r}.")
            if field.type is float and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"Argument `{field.name}` must be finite and not negative, but is {value!r}.")

    @final
    def __call__(
        self,
        evaluate: Callable[[Vector], T],
        objectives: Callable[[T], Vector],
        low: Sequence[float],
        high: Sequence[float],
        *,
        generator: torch.Generator,
        workers: Workers = 1,
        on_generation: OnGeneration | None = None,
    ) -> Found[T]:
        """Look for small objectives in the box low <= v <= high.

        Args:
            evaluate: What is to be known of a candidate. Several threads call it at once: it must be a function of
                its argument alone and train a copy of a model, never one that it shares.
            objectives: The numbers to be made small, out of what `evaluate` returned.
            low: Lower bound of each parameter.
            high: Upper bound of each parameter.
            generator: CPU source of the search's random numbers.
            workers: Evaluations at a time, one thread each; or a Ray cluster, to whose processes `evaluate` is sent.
            on_generation: Called with the number of finished generations and of all.

        Raises:
            UsageError: when the box is empty, `workers` is below 1, or an objective is not finite.
        """
        from pymoo.core.evaluator import Evaluator
        from pymoo.core.problem import Problem
        from pymoo.problems.static import StaticProblem

        if not 0 < len(low) == len(high) or not all(a < b for a, b in zip(low, high, strict=True)):
            raise UsageError(
                f"Arguments `low` and `high` must bound each parameter, but are {list(low)} and {list(high)}: give "
                "as many of both, the lower ones smaller."
            )
        if isinstance(workers, int) and workers < 1:
            raise UsageError(f"Argument `workers` must be at least 1, but is {workers}: use 1 for one at a time.")
        known: dict[Vector, T] = {}
        problem = Problem(n_var=len(low), n_obj=self.N_OBJECTIVES, xl=list(low), xu=list(high))
        algorithm = self.algorithm()
        seed = int(torch.randint(2**31, (1,), generator=generator))
        algorithm.setup(problem, termination=("n_gen", self.generations), seed=seed)
        with spread(evaluate, workers) if isinstance(workers, Cluster) else _threads(evaluate, workers) as each:
            while algorithm.has_next():
                asked = algorithm.ask()
                if asked is None:  # no candidate that is new could be made
                    break
                vectors = [tuple(map(float, row)) for row in asked.get("X")]
                new = [v for v in dict.fromkeys(vectors) if v not in known]
                known.update(zip(new, each(new), strict=True))
                rows = [_finite(objectives(known[v]), v, self.N_OBJECTIVES) for v in vectors]
                Evaluator().eval(StaticProblem(problem, F=np.array(rows)), asked)
                algorithm.tell(infills=asked)
                if on_generation is not None:
                    on_generation(algorithm.n_gen - 1, self.generations)
        best = dict.fromkeys(tuple(map(float, row)) for row in algorithm.opt.get("X"))
        return Found(tuple(known[v] for v in best), tuple(known.values()))

    @abstractmethod
    def algorithm(self) -> Any:
        """Return pymoo's algorithm with the settings of these fields."""


@dataclass(frozen=True)
class NSGA2(Search):
    """The front of two objectives by the non-dominated sorting genetic algorithm.

    Binary tournaments by domination, then crowding; simulated binary crossover; polynomial mutation; survival by rank,
    then crowding. The algorithm and the defaults of its operators are pymoo's.

    Example:
        >>> found = NSGA2(population=8, generations=4)(
        ...     evaluate=lambda v: v,
        ...     objectives=lambda v: (v[0] ** 2, (v[0] - 1) ** 2),
        ...     low=[-2.0],
        ...     high=[2.0],
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> len(found.evaluated), all(-0.2 < v[0] < 1.2 for v in found.best)
        (32, True)

    Reference: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Transactions on
        Evolutionary Computation 6, 2002; Blank and Deb, "pymoo: multi-objective optimization in Python", IEEE Access 8,
        2020.
    """

    N_OBJECTIVES: ClassVar[int] = 2

    crossover_prob: float = 0.9  # per pair of parents
    crossover_eta: float = 15.0  # distribution index; larger keeps children closer to their parents
    mutation_prob: float = 0.9  # per child; each of its n genes then changes with probability min(1/2, 1/n)
    mutation_eta: float = 20.0  # distribution index; larger changes genes less

    def algorithm(self) -> Any:
        """Return pymoo's NSGA-II."""
        from pymoo.algorithms.moo import nsga2
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM

        return nsga2.NSGA2(
            pop_size=self.population,
            crossover=SBX(eta=self.crossover_eta, prob=self.crossover_prob),
            mutation=PM(eta=self.mutation_eta, prob=self.mutation_prob),
        )


@dataclass(frozen=True)
class ParticleSwarm(Search):
    """The least value of one objective by a swarm that flies toward what it knows to be good.

    v <- w v + c1 u1 (own best - x) + c2 u2 (swarm's best - x), x <- x + v, with u1, u2 ~ U(0, 1) and each component of
    |v| at most `max_velocity` of the box.

    Example:
        >>> found = ParticleSwarm()(
        ...     evaluate=lambda v: v,
        ...     objectives=lambda v: ((v[0] - 0.5) ** 2 + v[1] ** 2,),
        ...     low=[-1.0, -1.0],
        ...     high=[1.0, 1.0],
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> [abs(a - b) < 0.05 for a, b in zip(found.best[0], (0.5, 0.0))]
        [True, True]

    Reference: Kennedy and Eberhart, "Particle swarm optimization", ICNN 1995; Shi and Eberhart, "A modified particle
        swarm optimizer", ICEC 1998 (the inertia w). The implementation is pymoo's, without its adaptation of w, c1, c2
        and without its mutation of the best.
    """

    N_OBJECTIVES: ClassVar[int] = 1

    inertia: float = 0.7  # w
    cognitive: float = 1.5  # c1
    social: float = 1.5  # c2
    max_velocity: float = 0.2  # share of the box's side

    def algorithm(self) -> Any:
        """Return pymoo's particle swarm."""
        from pymoo.algorithms.soo.nonconvex.pso import PSO

        return PSO(
            pop_size=self.population,
            w=self.inertia,
            c1=self.cognitive,
            c2=self.social,
            max_velocity_rate=self.max_velocity,
            adaptive=False,
            pertube_best=False,
        )


@contextmanager
def _threads(evaluate: Callable[[Vector], T], workers: int) -> Iterator[Callable[[Sequence[Vector]], Iterable[T]]]:
    """Yield what evaluates some vectors in threads of this process."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield lambda vectors: pool.map(evaluate, vectors)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)


def knee(first: Iterable[float], second: Iterable[float]) -> int:
    """Return the place of the knee of a front of two objectives.

    Both objectives are scaled to [0, 1] over the front; the knee is the point furthest below the line between the two
    ends, that is the least sum. Of several the first.

    Example:
        >>> knee([0.0, 0.1, 1.0], [1.0, 0.2, 0.0])
        1

    Reference: Das, "On characterizing the 'knee' of the Pareto curve based on normal-boundary intersection",
        Structural Optimization 18, 1999.
    """
    sums = torch.stack([_scaled(torch.tensor(list(f), dtype=torch.float64)) for f in (first, second)]).sum(0)
    return int(sums.argmin())


def _scaled(values: torch.Tensor) -> torch.Tensor:
    span = values.max() - values.min()
    return (values - values.min()) / span if span > 0 else torch.zeros_like(values)


def _finite(values: Vector, candidate: Vector, n: int) -> Vector:
    if len(values) != n or not all(math.isfinite(value) for value in values):
        raise UsageError(
            f"Argument `objectives` must give {n} finite numbers, but gave {list(values)} for the candidate "
            f"{[round(v, 4) for v in candidate]}: check the fitness there."
        )
    return values
