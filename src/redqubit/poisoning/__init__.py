"""Label poisoning: attacks that give a part of a training set wrong labels."""

from redqubit.poisoning.adaptive import NeighbourhoodFlip
from redqubit.poisoning.base import POISONS, LabelPoison, PoisonedLabels
from redqubit.poisoning.bi_level import BiLevel
from redqubit.poisoning.cyclic import Cyclic
from redqubit.poisoning.farthest import Farthest
from redqubit.poisoning.quid import QUID
from redqubit.poisoning.random_flip import RandomFlip

__all__ = [
    "POISONS",
    "BiLevel",
    "Cyclic",
    "Farthest",
    "LabelPoison",
    "NeighbourhoodFlip",
    "PoisonedLabels",
    "QUID",
    "RandomFlip",
]
