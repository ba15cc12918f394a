"""Finished runs in trackers of experiments: MLflow and TensorBoard, one file each."""

from redqubit.tracking.base import TRACKERS, FinishedRun, destination, log, tag

__all__ = ["TRACKERS", "FinishedRun", "destination", "log", "tag"]
