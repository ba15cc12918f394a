"""Defend: take a finished run, put its models through defenses, and report."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from redqubit import report
from redqubit.defending.cells import defense_cells
from redqubit.defending.config import METHODS, Defending, check, chosen
from redqubit.defending.panels import panels
from redqubit.defending.rebuild import check_trust, held_out, model_of, read_part, shared_out, trigger_label
from redqubit.defending.verdict import checks, findings
from redqubit.device import find_device
from redqubit.errors import UsageError
from redqubit.reading import check_links
from redqubit.registry import unknown
from redqubit.result import Result, Summary, load, save_summary
from redqubit.runner import Cluster, Progress, connected, open_run, run_cells
from redqubit.victims import FOLDER, Victim, find_victims


def defend(
    run: Path,
    names: Sequence[str] = METHODS,
    *,
    out: Path | None = None,
    config: Defending | None = None,
    control: str | None = None,
    data_dir: Path | None = None,
    trusted: Sequence[str] = (),
    workers: int | Cluster = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Put the models of a run through defenses against backdoors, and write a report.

    A run of defenses that was stopped is taken up where it was, and one that has ended takes further defenses.

    Args:
        run: Folder of a finished run that left models.
        names: Defenses, of `METHODS`; all by default.
        out: Folder for results and report; `defend` in `run` by default.
        config: Settings of the defenses.
        control: Trigger, as `trigger_label` gives it, that every defense should deal with: the positive control.
        data_dir: Folder of the data sets; REDQUBIT_DATA or downloads by default.
        trusted: What the models of the run may name beyond RedQubit: package.module:function of a model, which is run,
            and paths of data and pictures.
        workers: Processes, or a Ray cluster: one model and defense each.
        device: Torch device to compute on, or "auto".
        progress: Called as cells end.

    Returns:
        The path of report.html.

    Raises:
        UsageError: for an unknown defense or trigger, a folder without models, names in it that are not `trusted`,
            absent data, or models that were made anew since the folder `out` was begun.
    """
    config = Defending() if config is None else config
    check(config)
    every = victims_of(run)
    victims = chosen(config, every)
    check_trust(every, trusted)
    triggers = {trigger_label(v) for v in victims if v.backdoor}
    if control is not None and control not in triggers:
        raise unknown("trigger", control, triggers)
    where, folder, artifacts = find_device(device), Path(run, "defend") if out is None else Path(out), run / "artifacts"
    cells = defense_cells(
        victims, tuple(dict.fromkeys(names)), config, artifacts, data_dir, where, out=folder / "artifacts"
    )
    read_part.cache_clear()  # a file may have changed since the last call
    for victim in {repr((v.model, v.data)): v for v in victims}.values():  # told before any work
        held = shared_out(held_out(victim, data_dir), config.n_defender)[0]
        model_of(victim, artifacts, held.x.shape[1:])
    words = ["redqubit", "defend", "--from", str(run), *names]
    words += [] if data_dir is None else ["--data-dir", str(data_dir)]
    words += [word for name in trusted for word in ("--trust", name)]
    words += [] if control is None else ["--control", control]
    for key, value in asdict(config).items():
        if value != getattr(Defending(), key):
            words += ["--set", f"{key}={json.dumps(value)}"]
    rerun = shlex.join([*words, "--out", str(folder)])
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    settings["models"] = fingerprint(every, artifacts)
    opened = open_run(folder, experiment="defend", config=settings, device=str(where), rerun=rerun)
    with opened, connected(workers):
        run_cells(cells, opened, workers=workers, progress=progress)
        results = load(opened.results)  # also those of defenses of an earlier call
        save_summary(folder / "summary.json", summarise(run, victims, results, control, rerun))
    return report.build(folder)


def victims_of(run: Path) -> list[Victim]:
    """Return the models that a run left.

    Raises:
        UsageError: when the folder is not there or holds none.
    """
    if not run.is_dir():
        raise UsageError(f"Argument `from` must be the folder of a finished run, but {run} is not there: check it.")
    check_links(run)
    victims = find_victims(run / "artifacts")
    if not victims:
        raise UsageError(
            f"Argument `from` must be a run that left models, but {run / 'artifacts' / FOLDER} holds none: make some "
            "by `redqubit reproduce hqnn-backdoor` or `redqubit audit`."
        )
    return victims


def fingerprint(victims: Sequence[Victim], artifacts: Path) -> str:
    """Return a short hash of the models and of what they are, by which a folder knows its models again.

    Raises:
        UsageError: when a file is not there.
    """
    digest = hashlib.sha256()
    for victim in victims:
        for ending in ("json", "safetensors"):
            path = artifacts / FOLDER / f"{victim.name}.{ending}"
            try:
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise UsageError(
                    f"Model `{victim.name}` must be whole, but {path}: {error.strerror}: run it again."
                ) from None
    return digest.hexdigest()[:16]


def summarise(
    run: Path, victims: Sequence[Victim], results: Sequence[Result], control: str | None, rerun: str
) -> Summary:
    """Return the verdict and the panels."""
    clean = sum(not v.backdoor for v in victims)
    families = len({v.family for v in victims})
    return Summary(
        title=f"Defenses against the backdoors of {run.resolve().name}",
        subtitle=f"{len(victims) - clean} models with a backdoor and {clean} clean ones, of {families} "
        f"{'kind' if families == 1 else 'kinds'}.",
        findings=tuple(findings(results, control)),
        panels=tuple(panels(results)),
        flags=tuple(checks(results, control)),
        rerun=rerun,
        limits=(
            "The attacker did not adapt to any of these defenses: one who does may pass where these were stopped.",
            "The defender's samples are test samples of the same source, which is more than most defenders have.",
        ),
    )
