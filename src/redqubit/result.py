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
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from redqubit.errors import UsageError

Severity = Literal["ok", "warning", "fail"]


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

    - "curves": `metric` against `x` (a config key), one line per value of `group`; several results with
      equal x and group (draws, seeds) become their mean with a band of 95 %; a single one keeps its interval.
    - "heatmap": `metric` in a grid of config keys `group` (rows) and `x` (columns).
    - "table": one row per value of `group`, one column per value of `x`, with interval and n.
    - "images": pictures from `artifacts/<data["file"]>`, see `redqubit.report`.
    - "pre": the text `data["text"]` in a fixed-width font, such as a circuit drawing.
    - "facts": the pairs of `data["rows"]`, a list of rows, under `data["columns"]`.

    `where` keeps the results whose config (or field) has these values.
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
