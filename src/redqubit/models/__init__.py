"""Networks to audit, and their classical twins."""

from redqubit.models.alexnet import AlexNet
from redqubit.models.autoencoder import Autoencoder, latents, train_autoencoder, trained_autoencoder
from redqubit.models.backbones import BACKBONES, Backbone, load_pretrained, read_state
from redqubit.models.base import MODELS, FeatureClassifier
from redqubit.models.classical import CosineTwin, TwinCNN
from redqubit.models.converted import converted
from redqubit.models.hcqnn import HCQNN
from redqubit.models.hybrid import Bottleneck, HybridNet, HybridTwin
from redqubit.models.layer import QuantumLayer
from redqubit.models.lenet import LeNet5
from redqubit.models.narrow import HEADS, FromStage, on_backbone, saturation, standardise
from redqubit.models.noisy import noisy
from redqubit.models.qnn import QNN
from redqubit.models.quantum_mac import quantum_mac
from redqubit.models.quantum_products import InjectedCrosstalk, QuantumProducts
from redqubit.models.quanvolution import Quanvolution, QuNN
from redqubit.models.rescaled import Rescaled
from redqubit.models.stack import stack_logits, train_stack
from redqubit.models.vgg import VGG16
from redqubit.models.weight_gradients import WeightGradients, weight_gradients

__all__ = [
    "BACKBONES",
    "HCQNN",
    "HEADS",
    "MODELS",
    "AlexNet",
    "Autoencoder",
    "Backbone",
    "Bottleneck",
    "CosineTwin",
    "FeatureClassifier",
    "FromStage",
    "HybridNet",
    "HybridTwin",
    "InjectedCrosstalk",
    "LeNet5",
    "QNN",
    "QuNN",
    "QuantumLayer",
    "QuantumProducts",
    "Quanvolution",
    "Rescaled",
    "TwinCNN",
    "VGG16",
    "WeightGradients",
    "converted",
    "latents",
    "load_pretrained",
    "noisy",
    "on_backbone",
    "quantum_mac",
    "read_state",
    "saturation",
    "stack_logits",
    "standardise",
    "train_autoencoder",
    "trained_autoencoder",
    "train_stack",
    "weight_gradients",
]
