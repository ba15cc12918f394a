"""RobQuNNs: does entanglement in a quanvolution make it robust? Figures 3a to 3e, with the controls it lacks.

Reference: El Maouaki et al., "RobQuNNs: A methodology for robust quanvolutional neural networks against adversarial
    attacks", arXiv 2407.03875 (2024).
"""

from redqubit.experiments.base import EXPERIMENTS, Experiment
from redqubit.experiments.robqunn.cells import cells
from redqubit.experiments.robqunn.claims import summarise
from redqubit.experiments.robqunn.config import PRESETS, RobQuNN

EXPERIMENTS.register("robqunn")(
    Experiment(
        "robqunn",
        "El Maouaki et al., RobQuNNs, arXiv 2407.03875 (2024)",
        PRESETS,
        cells,
        summarise,
        data=lambda config, parts: (config.data,),
    )
)

__all__ = ["PRESETS", "RobQuNN"]
