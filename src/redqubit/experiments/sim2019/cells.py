"""The work of the Sim experiment: one cell per circuit and number of layers, and one for Haar-random states."""

from functools import partial

import torch

from redqubit.errors import UsageError
from redqubit.experiments.base import Setting
from redqubit.experiments.sim2019.config import N_QUBITS, Sim2019
from redqubit.experiments.sim2019.published import PUBLISHED
from redqubit.quantum import Circuit
from redqubit.quantum.ansatzes import sim
from redqubit.quantum.descriptors import PAIRS, expressibility, expressibility_floor, linear_entropies, random_states
from redqubit.result import Result
from redqubit.runner import Cell


def cells(config: Sim2019, setting: Setting) -> list[Cell]:
    """Return the cells; this experiment needs no data set."""
    check(config)
    places = [(c, layers) for layers in config.layers for c in config.circuits]
    return [
        Cell("floor", partial(run_floor, config)),
        *(Cell(f"circuit-{c:02d}-layers-{n}", partial(run_circuit, config, c, n, setting.device)) for c, n in places),
    ]


def evaluations(config: Sim2019, setting: Setting) -> dict[str, int]:
    """Return how many states each cell takes from a circuit; Haar-random states need none."""
    each = config.repeats * (2 * PAIRS + config.n_states)
    return {cell.name: 2 * PAIRS if cell.name == "floor" else each for cell in cells(config, setting)}


def check(config: Sim2019) -> None:
    """Raise a `UsageError` for what would break a cell or leave nothing to say."""
    for name, highest in (("circuits", 19), ("layers", 100)):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values) or min(values) < 1 or max(values) > highest:
            raise UsageError(f"Argument `{name}` must hold different numbers of 1 to {highest}, but is {list(values)}.")
    for name in ("repeats", "n_states", "floor_repeats"):
        if getattr(config, name) < 2:
            raise UsageError(f"Argument `{name}` must be 2 or more, but is {getattr(config, name)}.")


def run_floor(config: Sim2019) -> list[Result]:
    """Measure what 5000 pairs of Haar-random states give, and an idle circuit, whose value is known."""
    generator = torch.Generator().manual_seed(config.seed)
    floor = [
        Result("sim2019", "floor", "haar_divergence", _floor(generator), seed=repeat)
        for repeat in range(config.floor_repeats)
    ]
    idle = expressibility(Circuit(N_QUBITS), generator=generator, repeats=1).value
    return [*floor, Result("sim2019", "floor", "idle_divergence", idle, seed=0)]


def _floor(generator: torch.Generator) -> float:
    return expressibility_floor(N_QUBITS, generator=generator, repeats=1).value


def run_circuit(config: Sim2019, number: int, layers: int, device: torch.device) -> list[Result]:
    """Measure one circuit with one number of layers, `config.repeats` times from fresh draws."""
    generator = torch.Generator().manual_seed(config.seed + 1_000_003 * (100 * number + layers))
    circuit = sim(number, N_QUBITS, layers)
    known = PUBLISHED.get((number, layers))
    out = []
    for repeat in range(config.repeats):
        divergence = expressibility(circuit, generator=generator, repeats=1, device=device).value
        psi = random_states(circuit, config.n_states, generator=generator, device=device)
        entropies = linear_entropies(psi).round(decimals=12).clamp(min=0)  # what is exactly 0 or 1 shall say so
        for metric, value, reported in (
            ("expressibility", divergence, known.expressibility if known else None),
            ("entangling_capability", float(entropies.mean()), known.entangling_capability if known else None),
            ("mean_root_entropy", float(entropies.sqrt().mean()), None),
        ):
            where = {"circuit": number, "layers": layers}
            cell = f"circuit-{number:02d}-layers-{layers}"
            out.append(Result("sim2019", cell, metric, value, where, seed=repeat, reported=reported))
    return out
