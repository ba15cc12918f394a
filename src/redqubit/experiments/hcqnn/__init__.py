"""A denoising autoencoder before a quantum network: Tables 1 and 2 and Figures 4 to 6, judged by adaptive attack.

Reference: Yang, Zhang and Yan, "Hybrid Classical Quantum Neural Network with High Adversarial Robustness", PMLR.
"""

from redqubit.experiments.base import EXPERIMENTS, Experiment
from redqubit.experiments.hcqnn.cells import cells
from redqubit.experiments.hcqnn.claims import summarise
from redqubit.experiments.hcqnn.config import PARTS, PRESETS, SOURCE, HCQNNStudy
from redqubit.experiments.hcqnn.plan import data_for

EXPERIMENTS.register("hcqnn")(Experiment("hcqnn", SOURCE, PRESETS, cells, summarise, (), PARTS, data_for))

__all__ = ["PRESETS", "HCQNNStudy"]
