"""Defenses: against evasion, against backdoors, and against wrong labels in a training set."""

from redqubit.defenses.adversarial_training import AdversarialTraining
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
from redqubit.defenses.crosstalk import CrosstalkInjection
from redqubit.defenses.defended import Defended
from redqubit.defenses.denoising import Denoiser, DenoisingAutoencoder, train_denoiser
from redqubit.defenses.fine_pruning import FinePruning, PruningPoint, pruning_curve
from redqubit.defenses.gaussian_noise import GaussianNoise, equal_power
from redqubit.defenses.neural_cleanse import NeuralCleanse, RestoredTriggers
from redqubit.defenses.quantum_noise import QuantumNoise
from redqubit.defenses.sanitizer import ClassVote, NeighbourVote
from redqubit.defenses.smoothing import Certificates, RandomizedSmoothing, Smoothed
from redqubit.defenses.ss_dpa import SSDPA, one_by_one
from redqubit.defenses.strip import STRIP

__all__ = [
    "DATA_DEFENSES",
    "DEFENSES",
    "DETECTORS",
    "SSDPA",
    "STRIP",
    "AdversarialTraining",
    "Certificates",
    "ClassVote",
    "CrosstalkInjection",
    "Defended",
    "Defense",
    "Denoiser",
    "DenoisingAutoencoder",
    "Ensemble",
    "FinePruning",
    "GaussianNoise",
    "InputDetector",
    "LabelDetector",
    "ModelDetector",
    "NeighbourVote",
    "NeuralCleanse",
    "Part",
    "PruningPoint",
    "QuantumNoise",
    "RandomizedSmoothing",
    "RestoredTriggers",
    "Smoothed",
    "Suspicion",
    "Vote",
    "equal_power",
    "one_by_one",
    "pruning_curve",
    "train_denoiser",
]
