"""Expressibility and entangling capability of circuits 1 to 19, ours beside the published values.

Reference: Sim, Johnson and Aspuru-Guzik, "Expressibility and entangling capability of parameterized quantum circuits
    for hybrid quantum-classical algorithms", Adv. Quantum Technol. 2, 1900070 (2019), arXiv 1905.10876.
"""

from redqubit.experiments.base import EXPERIMENTS, Experiment
from redqubit.experiments.sim2019.cells import cells, evaluations
from redqubit.experiments.sim2019.claims import summarise
from redqubit.experiments.sim2019.config import PRESETS, SOURCE, Sim2019

EXPERIMENTS.register("sim2019")(Experiment("sim2019", SOURCE, PRESETS, cells, summarise, evaluations=evaluations))

__all__ = ["PRESETS", "Sim2019"]
