"""Networks to audit, and their classical twins."""

from redqubit.models.base import MODELS, FeatureClassifier
from redqubit.models.classical import CosineTwin, TwinCNN
from redqubit.models.converted import converted
from redqubit.models.hybrid import HybridNet, HybridTwin
from redqubit.models.layer import QuantumLayer
from redqubit.models.noisy import noisy
from redqubit.models.quanvolution import Quanvolution, QuNN

__all__ = [
    "MODELS",
    "CosineTwin",
    "FeatureClassifier",
    "HybridNet",
    "HybridTwin",
    "QuNN",
    "QuantumLayer",
    "Quanvolution",
    "TwinCNN",
    "converted",
    "noisy",
]
