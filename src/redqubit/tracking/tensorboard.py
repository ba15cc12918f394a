"""TensorBoard: event files in a folder of the run's name."""

from pathlib import Path

import yaml

from redqubit.errors import UsageError
from redqubit.tracking.base import TRACKERS, FinishedRun, tag


@TRACKERS.register("tensorboard")
def log_to_tensorboard(run: FinishedRun, folder: str) -> None:
    """Log a run to TensorBoard: numbers by seed, charts with their intervals, configuration and report as text.

    Raises:
        UsageError: when the folder cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter

    try:
        writer = SummaryWriter(str(Path(folder, run.name)))
    except OSError as error:
        raise UsageError(
            f"Argument `log` must be a folder that can be written, but {folder}: {error.strerror}."
        ) from error
    charts: dict[str, dict[str, list[object]]] = {}
    with writer:
        for result in run.results:
            name, step = tag(result), result.seed or 0
            writer.add_scalar(name, result.value, step)
            if result.low is not None and result.high is not None:
                bounds = [f"interval/{name}/low", f"interval/{name}/high"]
                for bound, value in zip(bounds, (result.low, result.high), strict=True):
                    writer.add_scalar(bound, value, step)
                charts.setdefault(result.metric, {})[name] = ["Margin", [name, *bounds]]
        if charts:
            writer.add_custom_scalars(charts)
        config = yaml.safe_dump({**run.facts, **run.config}, allow_unicode=True)
        writer.add_text("config", "```\n" + config + "```")
        writer.add_text("report", (run.folder / "report.md").read_text(encoding="utf-8"))
