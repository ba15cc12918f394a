"""Screening: which labels of a set are suspicious, and how well an encoder keeps its classes apart."""

from redqubit.screening.config import Screening
from redqubit.screening.job import screen

__all__ = ["Screening", "screen"]
