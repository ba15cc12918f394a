"""Backdoors in hybrid networks: Tables 1 to 8 and the figures that can be measured, with the controls that they lack.

Reference: Guo et al., "Backdoor attacks against hybrid classical-quantum neural networks", Neural Networks 191, 107776
    (2025), arXiv 2407.16273.
"""

from redqubit.experiments.base import EXPERIMENTS, Experiment
from redqubit.experiments.hqnn_backdoor.cells import first, second, third
from redqubit.experiments.hqnn_backdoor.claims import summarise
from redqubit.experiments.hqnn_backdoor.config import PARTS, PRESETS, SOURCE, HQNNBackdoor
from redqubit.experiments.hqnn_backdoor.plan import sets_for

EXPERIMENTS.register("hqnn-backdoor")(
    Experiment(
        "hqnn-backdoor",
        SOURCE,
        PRESETS,
        first,
        summarise,
        (second, third),
        PARTS,
        lambda config, parts: [part.name for part in sets_for(config, parts)],
    )
)

__all__ = ["PRESETS", "HQNNBackdoor"]
