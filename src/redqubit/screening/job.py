"""The job: screen a labelled set before anything is trained on it."""

import hashlib
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import torch

from redqubit import report
from redqubit.auditing.subjects import fingerprint
from redqubit.config import resolve
from redqubit.data import NAMES, Dataset
from redqubit.device import find_device
from redqubit.errors import UsageError
from redqubit.quantum import Circuit
from redqubit.result import Summary, save_summary
from redqubit.runner import Progress, open_run, run_cells
from redqubit.screening.cells import SPACES, Work, class_names, plant
from redqubit.screening.config import Screening, check
from redqubit.screening.inputs import encode, find_set
from redqubit.screening.panels import panels
from redqubit.screening.verdict import Screened, checks, findings
from redqubit.storage.arrays import save_arrays
from redqubit.storage.files import replacing
from redqubit.storage.tables import save_table

PICTURES = "suspicious.npz"


def screen(
    data: str | Dataset = "digits",
    encoder: str | Circuit = "angle",
    *,
    out: Path = Path("runs/screen"),
    data_dir: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    **changes: Any,
) -> Path:
    """Screen a labelled set: which labels are suspicious, and how well an encoder keeps the classes apart.

    Each label is judged by the samples near it and by the classes, among the states of the encoder and, as the control,
    among the features that the encoder is given. Labels flipped at random on purpose show how many wrong ones are
    found. A screening that was stopped is taken up where it was.

    Args:
        data: A registered name, whose training samples are screened; the path of an npz file with x and y (or x_train
            and y_train), or of a folder of pictures; or a set.
        encoder: "angle", "amplitude", "package.module:function" whose function returns a `Circuit`, or a circuit, of
            features in [0, 1].
        out: The run folder: report.html, samples.parquet with every label's scores, artifacts/suspicious.csv with the
            flagged ones, the most suspicious first.
        data_dir: Folder of the data sets; REDQUBIT_DATA or downloads by default.
        device: Torch device to compute on, or "auto".
        progress: Called as parts of the work end.
        **changes: Fields of `Screening`.

    Returns:
        The path of report.html.

    Raises:
        UsageError: when the data, the encoder or an argument cannot be used; the message says what to do.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> screen("iris", out=folder, draws=2).name, (folder / "artifacts" / "suspicious.csv").exists()
        ('report.html', True)
    """
    config = resolve(Screening(), changes)
    check(config)
    where = find_device(device)
    encoded = encode(find_set(data, data_dir), encoder, config)
    small = min(len(encoded.dataset), config.n_control or len(encoded.dataset))
    if config.neighbours >= small:
        raise UsageError(
            f"Argument `neighbours` must be below the number of samples, {small}, but is {config.neighbours}: lower it."
        )
    for draw in range(config.draws):  # what cannot be planted is told before any work
        plant(encoded.dataset, config, draw)
    given = data if isinstance(data, str) else data.name
    named = encoder.rpartition(":")[2] if isinstance(encoder, str) else "Circuit"
    # what a name does not tell
    content = {"encoder": hashlib.sha256(repr(encoded.circuit).encode()).hexdigest()[:16]}
    if given not in NAMES or not isinstance(data, str):
        content["data"] = fingerprint([encoded.given.x, encoded.given.y])
    settings = {"data": given, "encoder": named, "content": content, **asdict(config)}
    words = ["redqubit", "screen", "--data", given, "--encoder", encoder if isinstance(encoder, str) else named]
    words += [] if data_dir is None else ["--data-dir", str(data_dir)]
    for key in changes:
        words += ["--set", f"{key}={json.dumps(getattr(config, key))}"]
    rerun = shlex.join([*words, "--out", str(out)])
    with open_run(Path(out), experiment="screen", config=settings, device=str(where), rerun=rerun) as run:
        work = Work(encoded.dataset, encoded.circuit, config, run.artifacts, where)
        results = run_cells(work.cells(), run, progress=progress)
        found = {(name, space): scores for space in SPACES for name, scores in work.scores(space).items()}
        table = Screened(encoded, config, results, found)
        _write(table, run.path)
        pictures = _pictures(table, work, run.artifacts)
        save_summary(run.path / "summary.json", _summary(table, given, named, pictures, rerun))
    return report.build(Path(out))


def _write(table: Screened, folder: Path) -> None:
    """Keep the scores of every label, and a list of the flagged ones, the most suspicious first."""
    encoded, best = table.encoded, table.found[table.judge]
    columns = {
        "sample": encoded.places.numpy(),
        "label": encoded.given.y.numpy(),
        "suggested": best.suggested.numpy(),
        "flagged": table.flagged.numpy(),
        **{f"{name}_{space}": found.scores.numpy() for (name, space), found in table.found.items()},
    }
    samples = pa.table(columns)
    save_table(samples, folder / "samples.parquet")
    first = table.order[table.flagged.numpy()[table.order]]
    with replacing(folder / "artifacts" / "suspicious.csv") as file:
        pc.write_csv(samples.take(first).drop_columns("flagged"), file)


def _pictures(table: Screened, work: Work, artifacts: Path) -> dict[str, Any]:
    """Keep the most suspicious samples, each with the nearest one of the suggested label, and say how to show them."""
    x, y, names = table.encoded.given.x, table.encoded.given.y, class_names(table.encoded.given)
    best = table.found[table.judge]
    shown = [int(i) for i in table.order if table.flagged[i]][: table.config.n_shown]
    if not shown:
        return {}
    features, wanted = table.encoded.dataset.x, best.suggested[shown]
    apart = work.spaces[table.judge[1]].distances(features[shown], features)
    apart[(wanted[:, None] != y) | (torch.arange(len(y)) == torch.tensor(shown)[:, None])] = torch.inf
    near = apart.argmin(1)
    save_arrays(artifacts / PICTURES, given=x[shown].half().numpy(), near=x[near].half().numpy())
    said = [
        f"{int(table.encoded.places[i])}: label {names[int(y[i])]}, suggested {names[int(c)]}"
        for i, c in zip(shown, wanted, strict=True)
    ]
    row = {"label": "most suspicious first", "clean": "given", "adv": "near", "said": said}
    return {"file": PICTURES, "rows": [row], "pair": True, "changed": "the nearest sample of the suggested label"}


def _summary(table: Screened, given: str, named: str, pictures: dict[str, Any], rerun: str) -> Summary:
    encoded, noise = table.encoded, table.config.noise
    limits = [
        "A suspicious label need not be wrong: where classes overlap, right ones look the same. Look before you drop.",
        "The flips that are planted are random. An attacker who flips whole neighbourhoods, or samples that lie among "
        "another class anyway, is not found this way.",
        "The labels that are given are taken for mostly right, by the detectors and by their control.",
    ]
    if encoded.kept < 1:
        limits.append("Samples that differ only in what the principal components leave out look alike here.")
    return Summary(
        title=f"Screening of {Path(given).name}",
        subtitle=f"{len(encoded.given):,} samples of {encoded.given.n_classes} classes; encoder {named} on "
        f"{encoded.circuit.n_qubits} qubits{f' with noise {noise}' if noise else ''}; {encoded.said}.",
        findings=tuple(findings(table)),
        panels=tuple(panels(table, pictures)),
        flags=tuple(checks(table)),
        rerun=rerun,
        limits=tuple(limits),
    )
