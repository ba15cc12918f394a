"""Replications of papers, one file each."""

from redqubit.experiments.base import EXPERIMENTS, Experiment, reproduce
from redqubit.experiments.forecast import Forecast, forecast

__all__ = ["EXPERIMENTS", "Experiment", "Forecast", "forecast", "reproduce"]
