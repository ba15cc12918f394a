"""Backdoors: poison a training set so that a trigger in a picture later calls up the target class."""

from redqubit.backdoors.base import (
    TRIGGERS,
    Backdoor,
    ColorTrigger,
    CoverTrigger,
    Poisoned,
    Trigger,
    Triggered,
)
from redqubit.backdoors.blend import Blend
from redqubit.backdoors.color import Color, ColorCandidate, ColorSearch
from redqubit.backdoors.patch import Patch
from redqubit.backdoors.qcolor import (
    Choice,
    Qcolor,
    QcolorCandidate,
    QcolorFront,
    QcolorSearch,
    load_front,
    save_front,
)
from redqubit.backdoors.saving import save_npz, save_pictures
from redqubit.backdoors.surrogate import Surrogate
from redqubit.backdoors.wanet import WaNet

__all__ = [
    "TRIGGERS",
    "Backdoor",
    "Blend",
    "Choice",
    "Color",
    "ColorCandidate",
    "ColorSearch",
    "ColorTrigger",
    "CoverTrigger",
    "Patch",
    "Poisoned",
    "Qcolor",
    "QcolorCandidate",
    "QcolorFront",
    "QcolorSearch",
    "Surrogate",
    "Trigger",
    "Triggered",
    "WaNet",
    "load_front",
    "save_front",
    "save_npz",
    "save_pictures",
]
