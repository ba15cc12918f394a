"""Defenses applied to the models that a run left behind."""

from redqubit.defending.cells import defense_cells
from redqubit.defending.config import METHODS, Defending
from redqubit.defending.job import defend, victims_of
from redqubit.defending.panels import panels
from redqubit.defending.rebuild import data_of, held_out, model_of, trigger_label
from redqubit.defending.verdict import checks, findings

__all__ = [
    "METHODS",
    "Defending",
    "checks",
    "data_of",
    "defend",
    "defense_cells",
    "findings",
    "held_out",
    "model_of",
    "panels",
    "trigger_label",
    "victims_of",
]
