"""QUID and its controls: Tables 2 to 7 and Figures 3 to 5, ours beside the published numbers.

Reference: Kundu and Ghosh, "Adversarial Data Poisoning Attacks on Quantum Machine Learning in the NISQ Era", arXiv
    2411.14412.
"""

from redqubit.experiments.base import EXPERIMENTS, Experiment
from redqubit.experiments.quid.cells import first, second
from redqubit.experiments.quid.claims import summarise
from redqubit.experiments.quid.config import PARTS, PRESETS, SOURCE, QUIDStudy
from redqubit.experiments.quid.plan import data_for

EXPERIMENTS.register("quid")(Experiment("quid", SOURCE, PRESETS, first, summarise, (second,), PARTS, data_for))

__all__ = ["PRESETS", "QUIDStudy"]
