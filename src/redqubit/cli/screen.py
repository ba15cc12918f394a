"""`redqubit screen`."""

from pathlib import Path
from typing import Annotated

import typer

from redqubit.cli.around import conclude, download
from redqubit.cli.bars import cell_bar
from redqubit.cli.complete import one
from redqubit.cli.options import ConfigFile, DataDir, Device, Json, Log, Noise, Out, Quiet, Settings, changed, run_name


def screen_command(
    data: Annotated[
        str,
        typer.Option(
            help="An npz file with x and y, a folder of pictures, or a data set's name.", autocompletion=one("data")
        ),
    ],
    encoder: Annotated[
        str,
        typer.Option(help="angle, amplitude or package.module:function of a Circuit.", autocompletion=one("encoders")),
    ] = "angle",
    reduce: Annotated[str | None, typer.Option(help="For more features than the encoder takes: pca, or none.")] = None,
    noise: Noise = None,
    device: Device = "auto",
    out: Out = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
    log: Log = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find suspicious labels before training, and how well an encoder keeps the classes apart.

    Example: redqubit screen --data my.npz --encoder angle --set n_features=8
    """
    from redqubit.config import resolve
    from redqubit.screening import Screening, screen

    changes = changed(config, settings)
    changes |= {key: value for key, value in (("reduce", reduce), ("noise", noise)) if value is not None}
    resolve(Screening(), changes)  # a slip in a name is told before any download
    download(data, data_dir, silent=quiet or as_json)
    folder = out or Path("runs", f"screen-{run_name(encoder, noise)}-{Path(data).stem}")
    with cell_bar(quiet or as_json) as progress:
        page = screen(data, encoder, out=folder, data_dir=data_dir, device=device, progress=progress, **changes)
    conclude(page, quiet=quiet, as_json=as_json, log=log)
