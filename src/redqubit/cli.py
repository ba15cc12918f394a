"""The command line: audit | reproduce | defend | screen | lint | list | report | doctor."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from redqubit.bars import cell_bar, download_bar
from redqubit.errors import UsageError
from redqubit.options import (
    ConfigFile,
    DataDir,
    Device,
    Json,
    Noise,
    Out,
    Quiet,
    Settings,
    Workers,
    changed,
    numbers,
    words,
)
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


@app.command("audit")
def audit_command(
    model: Annotated[
        str, typer.Option(help="A model's name (see `list`) or package.module:function that makes one.")
    ] = "qunn",
    data: Annotated[str, typer.Option(help="A data set's name, an npz file, or a folder of pictures.")] = "digits",
    twin: Annotated[str | None, typer.Option(help="The model to compare with; matched to ours by default.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Safetensors file of the model: audited as it is.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2.")] = None,
    eps: Annotated[str | None, typer.Option(help="L-infinity radii, such as 0.05,0.1.")] = None,
    attacks: Annotated[str | None, typer.Option(help="Attacks, such as fgsm,pgd_strong,square.")] = None,
    backdoors: Annotated[
        str | None, typer.Option(help="Triggers to poison pictures with, such as patch,blend; '' for none.")
    ] = None,
    poisons: Annotated[
        str | None, typer.Option(help="Label poisons: random, cyclic, farthest, quid, with commas; '' for none.")
    ] = None,
    noise: Noise = None,
    workers: Workers = None,
    device: Device = "auto",
    out: Out = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Attack a model and its classical twin, check what can be trusted, and write a report."""
    from redqubit.auditing import Audit, audit
    from redqubit.config import resolve

    changes = changed(config, settings)
    changes |= {k: v.split(",") for k, v in (("seeds", seeds), ("eps", eps), ("attacks", attacks)) if v is not None}
    changes |= {k: words(v) for k, v in (("backdoors", backdoors), ("poisons", poisons)) if v is not None}
    changes |= {} if noise is None else {"noise": noise}
    resolve(Audit(), changes)  # a slip in a name is told before any download
    _download(data, data_dir, silent=quiet or as_json)
    folder = out or Path("runs", f"audit-{_named(model, noise)}-{Path(data).stem}")
    with cell_bar(quiet or as_json) as progress:
        page = audit(
            model,
            data,
            twin=twin,
            weights=weights,
            out=folder,
            data_dir=data_dir,
            device=device,
            workers=_workers(workers, device),
            progress=progress,
            **changes,
        )
    _conclude(page, quiet=quiet, as_json=as_json)


@app.command("reproduce")
def reproduce_command(
    name: Annotated[str, typer.Argument(help="The paper, such as robqunn (see `list`).")],
    preset: Annotated[str, typer.Option(help="smoke (minutes), laptop (2 cores) or paper (full size).")] = "laptop",
    table: Annotated[list[int] | None, typer.Option(help="Make this table; may be given again.")] = None,
    figure: Annotated[list[int] | None, typer.Option(help="Make this figure; may be given again.")] = None,
    workers: Workers = None,
    device: Device = "auto",
    out: Out = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Repeat a paper's figures and tables, ours beside theirs."""
    from redqubit import report
    from redqubit.config import resolve
    from redqubit.experiments import EXPERIMENTS, reproduce
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
        _download(data, data_dir, silent=quiet or as_json)
    with cell_bar(quiet or as_json) as progress:
        folder = reproduce(
            name,
            preset=preset,
            changes=changes,
            parts=parts,
            out=out,
            data_dir=data_dir,
            workers=_workers(workers, device),
            device=device,
            progress=progress,
        )
    _conclude(report.build(folder), quiet=quiet, as_json=as_json)


@app.command("defend")
def defend_command(
    run: Annotated[Path, typer.Option("--from", help="Folder of a finished run that left models.")],
    defenses: Annotated[
        list[str] | None, typer.Argument(help="strip, neural_cleanse, fine_pruning; all by default.")
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(help='Trigger that any defense should deal with: the positive control, such as "patch side=6".'),
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    out: Out = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
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
        _download(data, data_dir, silent=quiet or as_json)
    with cell_bar(quiet or as_json) as progress:
        page = defend(
            run,
            names,
            out=out,
            config=resolved,
            control=control,
            data_dir=data_dir,
            workers=_workers(workers, device),
            device=device,
            progress=progress,
        )
    _conclude(page, quiet=quiet, as_json=as_json)


@app.command("screen")
def screen_command(
    data: Annotated[str, typer.Option(help="An npz file with x and y, a folder of pictures, or a data set's name.")],
    encoder: Annotated[str, typer.Option(help="angle, amplitude or package.module:function of a Circuit.")] = "angle",
    reduce: Annotated[str | None, typer.Option(help="For more features than the encoder takes: pca, or none.")] = None,
    noise: Noise = None,
    device: Device = "auto",
    out: Out = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
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
    _download(data, data_dir, silent=quiet or as_json)
    folder = out or Path("runs", f"screen-{_named(encoder, noise)}-{Path(data).stem}")
    with cell_bar(quiet or as_json) as progress:
        page = screen(data, encoder, out=folder, data_dir=data_dir, device=device, progress=progress, **changes)
    _conclude(page, quiet=quiet, as_json=as_json)


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="A run folder.")], quiet: Quiet = False, as_json: Json = False
) -> None:
    """Draw the report of a run folder again."""
    from redqubit import report

    _conclude(report.build(folder), quiet=quiet, as_json=as_json)


@app.command("lint")
def lint_command(
    target: Annotated[
        str | None,
        typer.Argument(help="A model, a circuit such as sim3, package.module:function, or an OpenQASM file."),
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


@app.command("list")
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


@app.command("doctor")
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


def _workers(asked: int | None, device: str) -> int:
    """Return how many processes to use: small models gain from one thread each and all cores."""
    from redqubit.device import find_device

    if asked is not None:
        return asked
    return max(1, len(os.sched_getaffinity(0))) if find_device(device).type == "cpu" else 1


def _named(model: str, noise: str | None) -> str:
    """Return what a folder calls a model, or an encoder, and its noise."""
    return model.rpartition(":")[2] + ("" if noise is None else f"+{noise.replace(':', '-')}")


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def _download(name: str, data_dir: Path | None, *, silent: bool) -> None:
    """Fetch a named data set that is not on this machine yet, with a bar of its own."""
    from redqubit.data import NAMES, load_splits

    if name in NAMES:
        with download_bar(name, silent) as advance:
            load_splits(name, data_dir=data_dir, progress=advance)


def _conclude(page: Path, *, quiet: bool, as_json: bool) -> None:
    """Print the verdict and where the report is."""
    machine = page.with_suffix(".json")
    if as_json:
        typer.echo(machine.read_text(encoding="utf-8"))
        return
    if not quiet:
        for finding in json.loads(machine.read_text(encoding="utf-8"))["findings"]:
            typer.echo(f"[{finding['status']}] {finding['text']}")
    typer.echo(f"Report: {page.resolve()}")


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
