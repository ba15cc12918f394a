"""Defenses against backdoors: detect poisoned inputs or poisoned models, or repair a model."""

from redqubit.defenses.base import DEFENSES, DETECTORS, Defense, InputDetector, ModelDetector
from redqubit.defenses.fine_pruning import FinePruning, PruningPoint, pruning_curve
from redqubit.defenses.neural_cleanse import NeuralCleanse, RestoredTriggers
from redqubit.defenses.strip import STRIP

__all__ = [
    "DEFENSES",
    "DETECTORS",
    "STRIP",
    "Defense",
    "FinePruning",
    "InputDetector",
    "ModelDetector",
    "NeuralCleanse",
    "PruningPoint",
    "RestoredTriggers",
    "pruning_curve",
]
