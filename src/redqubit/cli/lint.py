"""`redqubit lint`."""

from typing import Annotated

import typer

from redqubit.cli.complete import one
from redqubit.cli.options import Json, numbers, words
from redqubit.errors import UsageError


def lint_command(
    target: Annotated[
        str | None,
        typer.Argument(
            help="A model, a circuit such as sim3, package.module:function, or an OpenQASM file.",
            autocompletion=one("models"),
        ),
    ] = None,
    shape: Annotated[str, typer.Option(help="Shape of a sample, for models.")] = "1,8,8",
    classes: Annotated[int, typer.Option(min=2, help="Number of classes, for models.")] = 10,
    qubits: Annotated[int, typer.Option(min=1, help="Number of qubits, for circuits by name.")] = 4,
    wires: Annotated[str | None, typer.Option(help="Wires read of a circuit, such as 0,1; all by default.")] = None,
    domain: Annotated[str | None, typer.Option(help="Range of a feature, such as 0,1; as seen by default.")] = None,
    noise: Annotated[str | None, typer.Option(help="Noise to add, such as quid:0.05 or ibm_kyiv.")] = None,
    select: Annotated[str, typer.Option(help="Rules to show, such as RQ001,RQ003; all by default.")] = "",
    ignore: Annotated[str, typer.Option(help="Rules to leave out.")] = "",
    explain: Annotated[str | None, typer.Option(help="Print what this rule is about.")] = None,
    as_json: Json = False,
) -> None:
    """Find what in a circuit cannot do what it is there for; exit code 1 when there is an error or a warning."""
    from redqubit.auditing.lint import find_targets, shown
    from redqubit.quantum.lint import explain as told
    from redqubit.quantum.lint import fails, selected
    from redqubit.quantum.noise import named

    if explain is not None:
        typer.echo(told(explain))
        return
    if target is None:
        raise UsageError("Argument `target` must be given: a model, a circuit, package.module:function or a file.")
    rules = {"select": words(select), "ignore": words(ignore)}
    selected((), **rules)  # a slip in a code is told before any work
    ends = None if domain is None else numbers("domain", domain, float)
    if ends is not None and len(ends) != 2:
        raise UsageError(f"Option --domain must be two numbers, low,high, but is {domain}.")
    targets = find_targets(
        target,
        input_shape=numbers("shape", shape, int),
        n_classes=classes,
        n_qubits=qubits,
        wires=None if wires is None else numbers("wires", wires, int),
    )
    span, model = ends and (ends[0], ends[1]), None if noise is None else named(noise)
    found = {t.name: selected(t.findings(domain=span, noise=model), **rules) for t in targets}
    typer.echo(shown(found, as_json=as_json))
    if any(fails(findings) for findings in found.values()):
        raise typer.Exit(1)
