"""What a run leaves behind: results as JSON lines, and a summary that the report draws.

Standard library only, so that the report and a user's notebook can read a run without torch.

A run folder holds

- `config.yaml`    the resolved configuration, with its hash
- `run.json`       versions, device, seeds, wall time
- `results.jsonl`  one `Result` a line, appended one whole cell at a time
- `summary.json`   a `Summary`: verdict, panels, checks, facts, how to rerun
- `samples.parquet`, `artifacts/`  per-sample outcomes; models and example pictures
- `report.html`, `report.md`, `report.json`
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from errno import ENOSPC
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from redqubit.errors import UsageError
from redqubit.storage.files import plain_int, sealed, sync_folder, unsealed, write_text, writing

Severity = Literal["ok", "warning", "fail"]

_FLOAT = "$float"  # JSON has no NaN or infinity: such a float is written as the object {"$float": "nan"}


@dataclass(frozen=True)
class Flag:
    """The outcome of one trust check.

    `code` names the check, `severity` says how bad it is, `message` is one sentence for a reader and
    `evidence` holds the numbers behind it. A check that ran and found nothing yields an "ok" flag, so
    that a report can show which checks were made.
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, float | int | str | None] = field(default_factory=dict)
    subject: str = ""  # the model, or "model / attack", that the flag is about


@dataclass(frozen=True)
class Result:
    """One measured number with what is needed to judge and repeat it."""

    experiment: str
    cell: str  # name of the cell that measured it
    metric: str  # "accuracy", "robust_accuracy", ...
    value: float
    config: Mapping[str, Any] = field(default_factory=dict)  # model, attack, eps, ... of this number
    low: float | None = None  # bounds of the 95 % interval
    high: float | None = None
    k: int | None = None  # successes of a proportion
    n: int | None = None  # trials
    seed: int | None = None
    reported: float | None = None  # the published number, in the same unit
    flags: tuple[str, ...] = ()  # codes of the trust checks that failed on it
    seconds: float | None = None
    version: str = ""


@dataclass(frozen=True)
class Panel:
    """One figure or table of a report, declared by the experiment and drawn from results alone.

    `kind` is one of

    - "curves": `metric` against `x`, one line per value of `group`; numbers on the x axis make lines,
      names make points, and so does `data["points"]`, for numbers that no line should join, such as the
      candidates of a search. `data["chance"]` draws the level of chance.
    - "heatmap": `metric` in a grid of `group` (rows) and `x` (columns).
    - "table": one row per value of `group`, one column per value of `x` (or of "metric", with
      `metric` empty), with interval, k and n.
    - "images": examples from the file `artifacts/<data["file"]>` (npz, never pickled). Each of
      `data["rows"]` is a mapping with the array names `clean` and `adv`, both (K, C, H, W) pictures or
      (K, d) features in [0, 1], with a heading `label`, and with lists `true`, `before`, `after` of K
      class names: the label, and the prediction without and with the attack, or in their place a list `said` of K
      texts. `data["changed"]` is what the changed picture is called, "adversarial" by default; with `data["pair"]`
      the difference of the two is left out.
    - "pre": the text `data["text"]` in a fixed-width font, such as a circuit drawing.
    - "facts": the values of `data["rows"]`, a list of rows, under `data["columns"]`.

    `group`, `x`, `data["facet"]` and the keys of `where` name a key of a result's config or, where that
    has none, a field of `Result`; a list in `where` admits any of its values. Results that lack one are
    left out. Several results in one place (seeds, draws) become their mean with a t interval of 95 % over
    them; a single one keeps its own.
    For the first three kinds `data` may also hold

    - "facet": a key; each of its values gets a small plot or table of its own;
    - "order": values of `group`, `x` or the facet in the order to show them; numbers sort themselves;
    - "unit": "%" for fractions to be shown in percent, or another unit ("" for none). Without it,
      proportions (with k and n) and metrics named `..accuracy` or `..rate` are shown in percent.
    """

    kind: Literal["curves", "heatmap", "table", "images", "pre", "facts"]
    title: str
    caption: str = ""
    section: str = ""  # heading under which the report places it
    metric: str = ""
    x: str = ""
    x_label: str = ""
    y_label: str = ""
    group: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict, with its status and the numbers behind it."""

    text: str
    status: Literal["holds", "fails", "unclear", "info"] = "info"
    detail: str = ""  # k, n, interval, test, p-value in words
    reported: str = ""  # what the paper states, when it does


@dataclass(frozen=True)
class Summary:
    """All that a report shows beside the results."""

    title: str
    subtitle: str = ""
    findings: tuple[Finding, ...] = ()
    panels: tuple[Panel, ...] = ()
    flags: tuple[Flag, ...] = ()
    cost: Mapping[str, float | int | str] = field(default_factory=dict)
    rerun: str = ""  # the command that makes this run again
    source: str = ""  # the paper, when there is one
    limits: tuple[str, ...] = ()  # what this run does not show, one sentence each


def append(path: Path, results: Iterable[Result]) -> None:
    """Append all results of one cell in a single write, and wait until they are on the disk.

    Each row also carries `cell_size`, the number of rows of its cell, by which `load` tells whether a
    cell is whole, and `crc32`, by which it tells whether a row is as it was written. When the disk is full, the file
    is left as it was.

    Args:
        path: The `results.jsonl` of a run; created when it is not there.
        results: At least one result, all of the same cell.

    Raises:
        UsageError: If the results are none or of several cells, hold what JSON cannot, or the file
            cannot be written or ends in half a line (see `repair`).
    """
    rows = list(results)
    if len({row.cell for row in rows}) != 1:
        names = ", ".join(sorted({row.cell for row in rows})) or "none"
        raise UsageError(f"Argument `results` must be those of one cell, but they are of {names}: append cell by cell")
    text = "".join(sealed(_to_json(row)[:-1] + f', "cell_size": {len(rows)}}}') + "\n" for row in rows).encode()
    with writing(path):
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            start = os.fstat(file).st_size
            if not start:
                sync_folder(path)
            if start and os.pread(file, 1, start - 1) != b"\n":
                raise UsageError(f"Argument `path` must end in a whole line, but {path} does not: call repair() first")
            try:
                if os.write(file, text) != len(text):
                    raise OSError(ENOSPC, os.strerror(ENOSPC))
                os.fsync(file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file, start)
                raise
        finally:
            os.close(file)


def load(path: Path) -> list[Result]:
    """Return the results of the whole cells of a run, in the order of the file.

    A tail that a kill left torn (half a line, or some rows of the last cell) is left out.

    Raises:
        UsageError: If the file is not there, or a line before the tail is damaged.
    """
    return _scan(Path(path))[0]


def repair(path: Path) -> int:
    """Cut off the torn tail that a kill may have left, and return how many bytes it had.

    Raises:
        UsageError: If a line before the tail is damaged, or the file cannot be written.
    """
    path = Path(path)
    if not path.exists():
        return 0
    whole = _scan(path)[1]
    torn = path.stat().st_size - whole
    if torn:
        with writing(path):
            os.truncate(path, whole)
    return torn


def save_summary(path: Path, summary: Summary) -> None:
    """Write `summary` as JSON, whole or not at all."""
    write_text(path, sealed(_to_json(summary, indent=1)) + "\n")


def load_summary(path: Path) -> Summary:
    """Read the summary that `save_summary` wrote.

    Raises:
        UsageError: If the file is not there or is not a summary.
    """
    text = _read(Path(path))
    try:
        summary: Summary = _built(Summary, unsealed(text, _from_json), "summary")
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"Argument `path` must be a summary, but {path} is damaged ({error}): run the command again"
        ) from None
    return summary


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"Argument `path` must be a file of a run, but {path}: {error.strerror}: give the folder of a run"
        ) from None


def _scan(path: Path) -> tuple[list[Result], int]:
    """Return the results of the whole cells and the byte at which the last whole cell ends."""
    whole: list[Result] = []
    cells: set[str] = set()
    block: list[Result] = []  # the rows so far of the cell being read
    end = position = size = 0
    *lines, _torn = _read(path).split(b"\n")
    for number, line in enumerate(lines, start=1):
        position += len(line) + 1
        try:
            raw = unsealed(line, _from_json)
            row_size = raw.pop("cell_size", None)
            row: Result = _built(Result, raw, "result")
            if type(row_size) is not int or row_size < 1:
                raise ValueError("result lacks a positive `cell_size`")
            if block and (row.cell, row_size) != (block[0].cell, size):
                raise ValueError(f"cell `{block[0].cell}` ends after {len(block)} of {size} rows")
            if row.cell in cells:
                raise ValueError(f"cell `{row.cell}` is there twice")
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"Argument `path` must hold one result a line, but {path} line {number} is damaged "
                f"({error}): delete that cell's lines and run again"
            ) from None
        block.append(row)
        size = row_size
        if len(block) == size:
            whole += block
            cells.add(row.cell)
            block, end = [], position
    return whole, end


class _NotPlain(Exception):
    """A value that JSON cannot hold; the message says where it sits."""


def _plain(value: object, where: str) -> object:
    """Return `value` as what JSON can hold; a float that is not finite becomes `{"$float": "nan"}`."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: str(float(value))}
    if value is None or isinstance(value, str | int):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in fields(value)}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _FLOAT:
                raise _NotPlain(f"{where} has the key {key!r}")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise _NotPlain(f"{where} is a {type(value).__name__}")


def _to_json(value: Any, **layout: Any) -> str:
    try:
        return json.dumps(_plain(value, type(value).__name__), allow_nan=False, **layout)
    except _NotPlain as error:
        raise UsageError(
            f"Argument `{type(value).__name__.lower()}` must hold plain numbers, text, lists and string keys, "
            f"but {error}: convert it first"
        ) from None


def _float_back(raw: dict[str, Any]) -> Any:
    return float(str(raw[_FLOAT])) if raw.keys() == {_FLOAT} else raw


_DECODER = json.JSONDecoder(object_hook=_float_back, parse_int=plain_int)


def _from_json(text: bytes) -> Any:
    return _DECODER.decode(text.decode())


@cache
def _types(kind: type) -> dict[str, tuple[Any, frozenset[type]]]:
    """Return the type of each field, and the types of raw values that are taken at once, as most are."""
    plain: dict[Any, set[type]] = {str: {str}, int: {int}, float: {float}}
    plain |= {one | None: {*raw, NoneType} for one, raw in plain.items()}
    return {name: (hint, frozenset(plain.get(hint, ()))) for name, hint in get_type_hints(kind).items()}


def _typed(kind: Any, raw: Any, where: str) -> Any:
    """Return `raw` as the annotated type `kind`; a ValueError says what is wrong where."""
    if kind is Any:
        return raw
    if kind is float and isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    if isinstance(kind, type):  # before get_origin, which is slow, as most fields are plain
        if is_dataclass(kind) and isinstance(raw, dict):
            return _built(kind, raw, where)
        if kind in (str, int) and type(raw) is kind:
            return raw
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal and raw in inner:
        return raw
    if origin is UnionType:  # every union here is "... | None"
        return None if raw is None else _typed(inner[0], raw, where)
    if origin is tuple and isinstance(raw, list):
        return tuple(_typed(inner[0], item, f"{where}[{i}]") for i, item in enumerate(raw))
    if origin is Mapping and isinstance(raw, dict):
        return raw
    raise ValueError(f"{where} has the wrong value {raw!r:.60}")


def _built(kind: type, raw: dict[str, Any], where: str) -> Any:
    types = _types(kind)
    if not raw.keys() <= types.keys():
        raise ValueError(f"{where} has the unknown key `{min(raw.keys() - types.keys())}`")
    values = {}
    for name, value in raw.items():
        hint, plain = types[name]
        values[name] = value if type(value) in plain else _typed(hint, value, f"{where}.{name}")
    try:
        return kind(**values)
    except TypeError:  # the constructor names what is missing, but not in our words
        missing = [f.name for f in fields(kind) if f.name not in raw and f.default is f.default_factory is MISSING]
        raise ValueError(f"{where} lacks the key `{missing[0]}`") from None
