"""NSGA-II and the particle swarm against pymoo's own runs, and what must not change a result."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from redqubit.errors import UsageError
from redqubit.search import NSGA2, Found, ParticleSwarm, Search, Vector, knee


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def zdt1(v: Vector) -> Vector:
    """Zitzler, Deb and Thiele 2000: the front is f2 = 1 - sqrt(f1), where all but the first gene are 0."""
    g = 1 + 9 * sum(v[1:]) / (len(v) - 1)
    return v[0], g * (1 - (v[0] / g) ** 0.5)


def bowl(v: Vector) -> Vector:
    return (float(np.sum((np.array(v) - [0.3, -0.2, 0.5]) ** 2)),)


def run(search: Search, n: int = 3, seed: int = 0, workers: int = 1) -> Found[Vector]:
    objectives = zdt1 if search.N_OBJECTIVES == 2 else bowl
    low = [0.0 if search.N_OBJECTIVES == 2 else -1.0] * n
    return search(lambda v: v, objectives, low, [1.0] * n, generator=seeded(seed), workers=workers)


def test_front_of_zdt1_is_pymoos_own() -> None:
    from pymoo.algorithms.moo import nsga2
    from pymoo.optimize import minimize
    from pymoo.problems import get_problem

    ours = run(NSGA2(population=20, generations=25), n=30, seed=3)
    seed = int(torch.randint(2**31, (1,), generator=seeded(3)))
    theirs = minimize(get_problem("zdt1"), nsga2.NSGA2(pop_size=20), ("n_gen", 25), seed=seed)
    assert len(ours.best) == len(theirs.X) > 5
    np.testing.assert_allclose(sorted(ours.best), sorted(map(tuple, theirs.X)), rtol=0, atol=1e-12)


def test_swarm_is_pymoos_own_without_what_it_adds() -> None:
    from pymoo.algorithms.soo.nonconvex.pso import PSO
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize

    visited = list[Vector]()

    class Bowl(ElementwiseProblem):
        def _evaluate(self, v: np.ndarray, out: dict[str, object], *_: object, **__: object) -> None:
            visited.append(tuple(map(float, v)))
            out["F"] = bowl(visited[-1])

    ours = run(ParticleSwarm(9, 6), seed=3)
    seed = int(torch.randint(2**31, (1,), generator=seeded(3)))
    plain = PSO(pop_size=9, w=0.7, c1=1.5, c2=1.5, max_velocity_rate=0.2, adaptive=False, pertube_best=False)
    theirs = minimize(Bowl(n_var=3, n_obj=1, xl=[-1.0] * 3, xu=[1.0] * 3), plain, ("n_gen", 6), seed=seed)
    assert ours.evaluated == tuple(visited)
    assert ours.best == (tuple(map(float, theirs.X)),)


def test_front_of_zdt1_is_the_known_curve() -> None:
    found = run(NSGA2(population=40, generations=60))
    f1, f2 = np.array([zdt1(v) for v in found.best]).T
    above = f2 - (1 - np.sqrt(f1))
    assert above.min() > -1e-12, "nothing lies below the front"
    assert np.quantile(above, 0.9) < 0.02
    assert f1.min() < 0.02
    assert f1.max() > 0.9


def test_swarm_finds_the_least_point() -> None:
    (best,) = run(ParticleSwarm(population=20, generations=40)).best
    np.testing.assert_allclose(best, [0.3, -0.2, 0.5], atol=0.01)


EACH = pytest.mark.parametrize("search", [NSGA2(8, 5), ParticleSwarm(8, 5)], ids=lambda s: type(s).__name__)


@EACH
def test_workers_change_no_digit_and_nothing_is_evaluated_twice(search: Search) -> None:
    weights = torch.randn(3, 200, 200, generator=seeded())
    seen, threads = list[Vector](), set[int]()
    calls, together = itertools.count(), threading.Barrier(3)

    def evaluate(v: Vector) -> Vector:
        if next(calls) < 3:
            together.wait(20)  # so that three evaluations truly run at a time
        seen.append(v)
        threads.add(torch.get_num_threads())
        product = torch.eye(200)
        for weight, gene in zip(weights, v, strict=True):
            product = torch.tanh(product @ (weight * gene))
        return (*v, float(product.sum()))

    def objectives(out: Vector) -> Vector:
        return (out[3], -out[3] + out[0])[: search.N_OBJECTIVES]

    bounds = [0.0] * 3, [1.0] * 3
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        many = search(evaluate, objectives, *bounds, generator=seeded(), workers=3)
        with ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert threads == {1}
    assert len(seen) == len(set(seen)) == len(many.evaluated)
    one = search(evaluate, objectives, *bounds, generator=seeded(), workers=1)
    assert one == many
    other = search(evaluate, objectives, *bounds, generator=seeded(1), workers=1)
    assert other != one


def test_a_candidate_that_comes_back_is_not_evaluated_again() -> None:
    """Between 1 and its second next float there are 3 numbers to look at."""
    calls = list[Vector]()
    found = ParticleSwarm(8, 5)(
        lambda v: calls.append(v) or v, lambda v: v, [1.0], [1 + 2.0**-51], generator=seeded(), workers=2
    )
    assert len(calls) == len(set(calls)) == len(found.evaluated) <= 3
    assert found.best == ((1.0,),)


@EACH
def test_global_random_numbers_and_threads_are_left_alone(search: Search) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    np.random.seed(7)  # noqa: NPY002 - the global source is what must not be touched
    first = run(search)
    drawn = np.random.rand()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert drawn == np.random.rand()  # noqa: NPY002
    assert torch.equal(state, torch.get_rng_state())
    assert run(search) == first
    torch.set_num_threads(2)
    try:
        with pytest.raises(ArithmeticError):
            search(_fails, lambda v: v, [0.0], [1.0], generator=seeded())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def _fails(v: Vector) -> Vector:
    raise ArithmeticError("of the fitness")


@pytest.mark.parametrize(
    ("search", "field", "value"),
    [
        (NSGA2(8, 5), "crossover_prob", 0.1),
        (NSGA2(8, 5), "crossover_eta", 3.0),
        (NSGA2(8, 5), "mutation_prob", 0.1),
        (NSGA2(8, 5), "mutation_eta", 3.0),
        (ParticleSwarm(8, 5), "inertia", 0.1),
        (ParticleSwarm(8, 5), "cognitive", 0.1),
        (ParticleSwarm(8, 5), "social", 0.1),
        (ParticleSwarm(8, 5), "max_velocity", 0.02),
    ],
)
def test_each_setting_reaches_the_search(search: Search, field: str, value: float) -> None:
    assert run(search).evaluated[:8] == run(replace(search, **{field: value})).evaluated[:8]
    assert run(search) != run(replace(search, **{field: value}))


@EACH
def test_generations_are_told_and_counted(search: Search) -> None:
    told = list[tuple[int, int]]()
    found = search(
        lambda v: v,
        lambda v: (v[0], -v[0])[: search.N_OBJECTIVES],
        [0.0],
        [1.0],
        generator=seeded(),
        on_generation=lambda done, total: told.append((done, total)),
    )
    assert told == [(k, 5) for k in range(1, 6)]
    assert len(found.evaluated) <= 40


def test_bad_arguments() -> None:
    def call(low: list[float], high: list[float], value: Vector = (0.0, 0.0), workers: int = 1) -> None:
        NSGA2(4, 2)(lambda v: v, lambda v: value, low, high, generator=seeded(), workers=workers)

    for low, high in (([], []), ([0.0], [0.0]), ([0.0], [1.0, 2.0]), ([1.0], [0.0])):
        with pytest.raises(UsageError, match="`low` and `high` must bound each parameter"):
            call(low, high)
    with pytest.raises(UsageError, match="`workers` must be at least 1"):
        call([0.0], [1.0], workers=0)
    for value in ((float("nan"), 0.0), (0.0, float("inf")), (0.0,)):
        with pytest.raises(UsageError, match="`objectives` must give 2 finite numbers"):
            call([0.0], [1.0], value)
    for changes in ({"population": 0}, {"generations": 0}, {"mutation_eta": -1.0}, {"crossover_eta": np.nan}):
        with pytest.raises(UsageError, match=f"`{next(iter(changes))}`"):
            NSGA2(**changes)


def test_knee_is_furthest_below_the_line_between_the_ends() -> None:
    f1 = np.linspace(0, 1, 101)
    assert knee(f1, (1 - f1**0.5) ** 2) == pytest.approx(25)  # f1 + (1 - sqrt f1)^2 is least at 1/4
    assert knee(50 * f1 - 3, 0.01 * (1 - f1**0.5) ** 2) == 25  # whatever the units
    assert knee([1.0], [2.0]) == 0
