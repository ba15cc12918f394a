"""`redqubit audit`."""

from pathlib import Path
from typing import Annotated

import typer

from redqubit.cli.around import conclude, download
from redqubit.cli.bars import cell_bar
from redqubit.cli.complete import one, several
from redqubit.cli.options import (
    ConfigFile,
    DataDir,
    Device,
    Json,
    Log,
    Noise,
    Out,
    Quiet,
    Ray,
    Settings,
    Workers,
    changed,
    placed,
    run_name,
    words,
)


def audit_command(
    model: Annotated[
        str,
        typer.Option(
            help="A model's name (see `list`) or package.module:function that makes one.", autocompletion=one("models")
        ),
    ] = "qunn",
    data: Annotated[
        str, typer.Option(help="A data set's name, an npz file, or a folder of pictures.", autocompletion=one("data"))
    ] = "digits",
    twin: Annotated[
        str | None,
        typer.Option(help="The model to compare with; matched to ours by default.", autocompletion=one("models")),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Safetensors file of the model: audited as it is.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2.")] = None,
    eps: Annotated[str | None, typer.Option(help="L-infinity radii, such as 0.05,0.1 or 4/255,8/255.")] = None,
    attacks: Annotated[
        str | None, typer.Option(help="Attacks, such as fgsm,pgd_strong,square.", autocompletion=several("attacks"))
    ] = None,
    backdoors: Annotated[
        str | None,
        typer.Option(
            help="Triggers to poison pictures with, such as patch,blend; or none.", autocompletion=several("triggers")
        ),
    ] = None,
    poisons: Annotated[
        str | None,
        typer.Option(
            help="Label poisons: random, cyclic, farthest, quid, with commas; or none.",
            autocompletion=several("poisons"),
        ),
    ] = None,
    defenses: Annotated[
        str | None,
        typer.Option(
            help="Defenses to put on it and attack, none by default: denoising, quantum_noise, crosstalk, "
            "adversarial_fgsm, adversarial_pgd, trades, gaussian_noise, smoothing, with commas; a+b for a and then b.",
            autocompletion=several("evasion defenses"),
        ),
    ] = None,
    noise: Noise = None,
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
    """Attack a model and its classical twin, check what can be trusted, and write a report."""
    from redqubit.auditing import Audit, audit
    from redqubit.config import resolve

    changes = changed(config, settings)
    changes |= {k: v.split(",") for k, v in (("seeds", seeds), ("eps", eps), ("attacks", attacks)) if v is not None}
    lists = {"backdoors": backdoors, "poisons": poisons, "defenses": defenses}
    changes |= {k: [] if v == "none" else words(v) for k, v in lists.items() if v is not None}
    changes |= {} if noise is None else {"noise": noise}
    resolve(Audit(), changes)  # a slip in a name is told before any download
    download(data, data_dir, silent=quiet or as_json)
    folder = out or Path("runs", f"audit-{run_name(model, noise)}-{Path(data).stem}")
    where = placed(workers, ray, device, data_dir)
    with cell_bar(quiet or as_json) as progress:
        page = audit(
            model,
            data,
            twin=twin,
            weights=weights,
            out=folder,
            **where,
            progress=progress,
            **changes,
        )
    conclude(page, quiet=quiet, as_json=as_json, log=log)
