"""`redqubit defend`."""

from pathlib import Path
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


def defend_command(
    run: Annotated[Path, typer.Option("--from", help="Folder of a finished run that left models.")],
    defenses: Annotated[
        list[str] | None,
        typer.Argument(
            help="strip, neural_cleanse, fine_pruning; all by default.", autocompletion=one("backdoor defenses")
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help='Trigger that any defense should deal with: the positive control, such as "patch side=6".'),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(help="Function or file that the run's models name and that you would run; may be given again."),
    ] = None,
    workers: Workers = None,
    ray: Ray = None,
    device: Device = "auto",
    out: Out = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
    log: Log = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put the models of a finished run through defenses against backdoors, beside its clean models.

    Example: redqubit defend --from runs/hqnn-backdoor-smoke strip neural_cleanse --set n_inputs=100
    """
    from redqubit.config import resolve
    from redqubit.defending import METHODS, Defending, defend, victims_of
    from redqubit.registry import unknown

    changes = changed(config, settings)
    resolved = resolve(Defending(), changes)
    names = tuple(defenses or METHODS)
    for name in names:  # a slip in a name is told before any download
        if name not in METHODS:
            raise unknown("defense", name, METHODS)
    for data in sorted({str(victim.data.get("name", "")) for victim in victims_of(run)}):
        download(data, data_dir, silent=quiet or as_json)
    where = placed(workers, ray, device, data_dir)
    with cell_bar(quiet or as_json) as progress:
        page = defend(
            run,
            names,
            out=out,
            config=resolved,
            control=control,
            trusted=trust or (),
            **where,
            progress=progress,
        )
    conclude(page, quiet=quiet, as_json=as_json, log=log)
