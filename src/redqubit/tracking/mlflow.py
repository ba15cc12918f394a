"""MLflow: a run of the experiment "redqubit", on a server or in a database."""

import json
import re
import time

from redqubit.errors import UsageError
from redqubit.tracking.base import TRACKERS, FinishedRun, tag

_KEY, _VALUE, _BATCH = 250, 6000, 1000  # the most that MLflow takes: characters of a name and of a parameter, rows
_FILES = ("report.html", "report.md", "config.yaml", "results.jsonl")


@TRACKERS.register("mlflow")
def log_to_mlflow(run: FinishedRun, uri: str) -> None:
    """Log a run to MLflow: tags, parameters, metrics by seed (`.low` and `.high` bound them), and its files.

    Raises:
        UsageError: when MLflow refuses the place.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    metrics = [
        Metric(_key(tag(result), suffix), value, now, result.seed or 0)
        for result in run.results
        for suffix, value in (("", result.value), (".low", result.low), (".high", result.high))
        if value is not None
    ]
    params = [Param(key, json.dumps(value)[:_VALUE]) for key, value in run.config.items()]
    try:
        client = MlflowClient(uri)
        known = client.get_experiment_by_name("redqubit")
        experiment = client.create_experiment("redqubit") if known is None else known.experiment_id
        tags = {f"redqubit.{key}": value[:_VALUE] for key, value in run.facts.items()}
        run_id = client.create_run(experiment, tags=tags, run_name=run.name).info.run_id
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        for name in _FILES:
            client.log_artifact(run_id, str(run.folder / name))
        client.set_terminated(run_id)
    except Exception as error:  # of MLflow, its database drivers, the network or the disk
        raise UsageError(
            f"Argument `log` must be a place that MLflow can write to, but {uri}: {' '.join(str(error).split())}: "
            f"the run is kept, log it by `redqubit report {run.folder} --log mlflow:URI`."
        ) from error


def _key(name: str, suffix: str) -> str:
    """Return a name that MLflow admits."""
    return re.sub(r"[^\w.:/ -]", "_", name, flags=re.ASCII)[: _KEY - len(suffix)] + suffix
