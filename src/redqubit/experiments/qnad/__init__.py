"""QNAD: Table I and Figures 3 to 14, ours beside the published numbers, and the attackers that the paper left out.

Reference: Kundu et al., "QNAD: Quantum Noise Injection for Adversarial Defense in Deep Neural Networks", HOST 2024.
"""

from redqubit.experiments.base import EXPERIMENTS, Experiment
from redqubit.experiments.qnad.cells import first, second
from redqubit.experiments.qnad.claims import summarise
from redqubit.experiments.qnad.config import PARTS, PRESETS, SOURCE, QNADStudy
from redqubit.experiments.qnad.plan import data_for

EXPERIMENTS.register("qnad")(Experiment("qnad", SOURCE, PRESETS, first, summarise, (second,), PARTS, data_for))

__all__ = ["PRESETS", "QNADStudy"]
