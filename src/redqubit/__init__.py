"""RedQubit red-teams quantum neural networks: attack, defend, and report what holds.

Circuits are data (`redqubit.quantum`), models are `nn.Module`s (`redqubit.models`), attacks are frozen dataclasses
that you call (`redqubit.evasion`), and `audit` puts them together.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from redqubit.version import __version__

if TYPE_CHECKING:
    from redqubit.auditing import Audit, audit
    from redqubit.backdoors import TRIGGERS, Backdoor
    from redqubit.data import Dataset, load, load_splits
    from redqubit.defending import Defending, defend
    from redqubit.errors import UsageError
    from redqubit.evasion import ATTACKS, FGSM, MIM, PGD, RandomNoise, Square, transfer_matrix
    from redqubit.experiments import EXPERIMENTS, reproduce
    from redqubit.models import MODELS, HybridNet, QuantumLayer, QuNN, converted, noisy
    from redqubit.quantum import Channel, Circuit, Gate, Input, NoiseModel, Weight, with_noise
    from redqubit.quantum.lint import lint
    from redqubit.result import Flag, Result
    from redqubit.screening import screen
    from redqubit.training import train

# Names are imported when first used: `redqubit --help` and a reader of results need no torch.
_HOMES = {
    "redqubit.auditing": ("Audit", "audit"),
    "redqubit.backdoors": ("TRIGGERS", "Backdoor"),
    "redqubit.data": ("Dataset", "load", "load_splits"),
    "redqubit.defending": ("Defending", "defend"),
    "redqubit.errors": ("UsageError",),
    "redqubit.evasion": ("ATTACKS", "FGSM", "MIM", "PGD", "RandomNoise", "Square", "transfer_matrix"),
    "redqubit.experiments": ("EXPERIMENTS", "reproduce"),
    "redqubit.models": ("MODELS", "HybridNet", "QuNN", "QuantumLayer", "converted", "noisy"),
    "redqubit.quantum": ("Channel", "Circuit", "Gate", "Input", "NoiseModel", "Weight", "with_noise"),
    "redqubit.quantum.lint": ("lint",),
    "redqubit.result": ("Flag", "Result"),
    "redqubit.screening": ("screen",),
    "redqubit.training": ("train",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ATTACKS",
    "Audit",
    "Backdoor",
    "Channel",
    "Circuit",
    "Dataset",
    "Defending",
    "EXPERIMENTS",
    "FGSM",
    "Flag",
    "Gate",
    "HybridNet",
    "Input",
    "MIM",
    "MODELS",
    "NoiseModel",
    "PGD",
    "QuNN",
    "QuantumLayer",
    "RandomNoise",
    "Result",
    "Square",
    "TRIGGERS",
    "UsageError",
    "Weight",
    "__version__",
    "audit",
    "converted",
    "defend",
    "lint",
    "load",
    "load_splits",
    "noisy",
    "reproduce",
    "screen",
    "train",
    "transfer_matrix",
    "with_noise",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'redqubit' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
