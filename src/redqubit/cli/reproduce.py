"""`redqubit reproduce`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from redqubit.cli.around import conclude, download
from redqubit.cli.bars import cell_bar
from redqubit.cli.complete import one
from redqubit.cli.options import (
    ConfigFile,
    DataDir,
    Device,
    Json,
    Log,
    Out,
    Quiet,
    Ray,
    Settings,
    Workers,
    changed,
    placed,
)


def reproduce_command(
    name: Annotated[
        str, typer.Argument(help="The paper, such as robqunn (see `list`).", autocompletion=one("experiments"))
    ],
    preset: Annotated[
        str, typer.Option(help="smoke (minutes), laptop (2 cores) or paper (full size).", autocompletion=one("presets"))
    ] = "laptop",
    table: Annotated[list[int] | None, typer.Option(help="Make this table; may be given again.")] = None,
    figure: Annotated[list[int] | None, typer.Option(help="Make this figure; may be given again.")] = None,
    workers: Workers = None,
    ray: Ray = None,
    device: Device = "auto",
    out: Out = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is left to do, and do nothing.")] = False,
    log: Log = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Repeat a paper's figures and tables, ours beside theirs."""
    from redqubit import report
    from redqubit.config import resolve
    from redqubit.experiments import EXPERIMENTS, forecast, reproduce
    from redqubit.registry import unknown

    changes = changed(config, settings)
    experiment = EXPERIMENTS[name]
    if preset not in experiment.presets:
        raise unknown("preset", preset, experiment.presets)
    resolved = resolve(experiment.presets[preset], changes)  # a slip in a name is told before any download
    parts = [f"{kind}{n}" for kind, asked in (("table", table), ("figure", figure)) for n in asked or ()]
    for part in parts:
        if part not in experiment.parts:
            raise unknown("table or figure", part, experiment.parts)
    for data in experiment.data(resolved, parts):
        download(data, data_dir, silent=quiet or as_json)
    where = placed(workers, ray, device, data_dir)
    if dry_run:
        count = where["workers"] if isinstance(where["workers"], int) else None
        said = forecast(name, preset=preset, changes=changes, parts=parts, out=out, **where)
        typer.echo(json.dumps(asdict(said), indent=1) if as_json else "\n".join(said.lines(count)))
        return
    with cell_bar(quiet or as_json) as progress:
        folder = reproduce(
            name,
            preset=preset,
            changes=changes,
            parts=parts,
            out=out,
            **where,
            progress=progress,
        )
    conclude(report.build(folder), quiet=quiet, as_json=as_json, log=log)
