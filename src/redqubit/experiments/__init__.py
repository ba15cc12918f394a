"""Replications of papers, one file each."""

from redqubit.experiments.base import EXPERIMENTS, Experiment, reproduce

__all__ = ["EXPERIMENTS", "Experiment", "reproduce"]
