"""Defenses applied to the models that a run left behind."""

from redqubit.defending.cells import defense_cells
from redqubit.defending.config import METHODS, Defending
from redqubit.defending.rebuild import data_of, held_out, model_of, trigger_label

__all__ = [
    "METHODS",
    "Defending",
    "data_of",
    "defense_cells",
    "model_of",
    "held_out",
    "trigger_label",
]
