"""Defenses: detect or repair backdoored inputs and models, and find or bear wrong labels in a training set."""

from redqubit.defenses.base import (
    DATA_DEFENSES,
    DEFENSES,
    DETECTORS,
    Defense,
    Ensemble,
    InputDetector,
    LabelDetector,
    ModelDetector,
    Part,
    Suspicion,
    Vote,
)
from redqubit.defenses.fine_pruning import FinePruning, PruningPoint, pruning_curve
from redqubit.defenses.neural_cleanse import NeuralCleanse, RestoredTriggers
from redqubit.defenses.sanitizer import ClassVote, NeighbourVote
from redqubit.defenses.ss_dpa import SSDPA, one_by_one
from redqubit.defenses.strip import STRIP

__all__ = [
    "DATA_DEFENSES",
    "DEFENSES",
    "DETECTORS",
    "SSDPA",
    "STRIP",
    "ClassVote",
    "Defense",
    "Ensemble",
    "FinePruning",
    "InputDetector",
    "LabelDetector",
    "ModelDetector",
    "NeighbourVote",
    "NeuralCleanse",
    "Part",
    "PruningPoint",
    "RestoredTriggers",
    "Suspicion",
    "Vote",
    "one_by_one",
    "pruning_curve",
]
