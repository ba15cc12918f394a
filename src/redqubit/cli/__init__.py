"""The command line: audit | reproduce | defend | screen | lint | list | report | doctor."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from redqubit.cli.audit import audit_command
from redqubit.cli.defend import defend_command
from redqubit.cli.lint import lint_command
from redqubit.cli.reproduce import reproduce_command
from redqubit.cli.screen import screen_command
from redqubit.cli.show import doctor_command, list_command, report_command
from redqubit.errors import UsageError
from redqubit.version import __version__

app = typer.Typer(
    help="Red-team quantum neural networks: attack them, check what can be trusted, and write a report.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"redqubit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _name, _command in (
    ("audit", audit_command),
    ("reproduce", reproduce_command),
    ("defend", defend_command),
    ("screen", screen_command),
    ("report", report_command),
    ("lint", lint_command),
    ("list", list_command),
    ("doctor", doctor_command),
):
    app.command(_name)(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what the user can put right is one line on standard error and exit code 2."""
    try:
        app(None if arguments is None else list(arguments), standalone_mode=True)
    except UsageError as error:
        typer.echo(f"redqubit: {error}", err=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:  # what typer makes of Ctrl-C
            kept = "what is finished is kept, and the same command goes on from there."
            typer.echo(f"redqubit: stopped; {kept}", err=True)
        raise
