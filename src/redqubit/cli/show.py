"""`redqubit list | doctor | report`: what there is."""

import json
from pathlib import Path
from typing import Annotated

import typer

from redqubit.cli.around import conclude
from redqubit.cli.options import Json, Log, Quiet


def report_command(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    log: Log = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw the report of a run folder again."""
    from redqubit import report

    conclude(report.build(folder), quiet=quiet, as_json=as_json, log=log)


def list_command(as_json: Json = False) -> None:
    """Name the models, data sets, attacks, triggers, poisons, defenses and experiments."""
    from redqubit.auditing import SETTINGS
    from redqubit.backdoors import TRIGGERS
    from redqubit.data import NAMES
    from redqubit.defenses import DATA_DEFENSES, DEFENSES, DETECTORS
    from redqubit.experiments import EXPERIMENTS
    from redqubit.models import MODELS
    from redqubit.poisoning import POISONS

    known = {
        "models": {name: _first_line(MODELS[name].__doc__) for name in MODELS},
        "data": {name: "" for name in NAMES},
        "attacks": {name: _first_line(SETTINGS[name].__doc__) for name in SETTINGS},
        "triggers": {name: _first_line(TRIGGERS[name].__doc__) for name in TRIGGERS},
        "poisons": {name: _first_line(POISONS[name].__doc__) for name in POISONS},
        "defenses": {
            **{name: _first_line(DETECTORS[name].__doc__) for name in DETECTORS},
            **{name: _first_line(DEFENSES[name].__doc__) for name in DEFENSES},
            **{name: _first_line(DATA_DEFENSES[name].__doc__) for name in DATA_DEFENSES},
        },
        "experiments": {name: EXPERIMENTS[name].source for name in EXPERIMENTS},
    }
    if as_json:
        typer.echo(json.dumps(known, indent=1))
        return
    for family, names in known.items():
        typer.echo(f"{family}:")
        for name, line in names.items():
            typer.echo(f"  {name:<20} {line}".rstrip())


def doctor_command(as_json: Json = False) -> None:
    """Check the installation: versions, device, circuits of known value, and how circuits are simulated."""
    from redqubit.doctor import examine

    seen = examine()
    if as_json:
        typer.echo(json.dumps({**seen.found, "methods": seen.methods}, indent=1))
    else:
        for key, text in seen.found.items():
            typer.echo(f"{key:<15} {text}")
        typer.echo("how circuits are simulated:")
        for key, text in seen.methods.items():
            typer.echo(f"  {key:<37} {text}")
    if not seen.healthy:
        raise typer.Exit(1)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]
