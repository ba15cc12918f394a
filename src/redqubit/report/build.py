"""Read a run folder and write its report as one HTML page, as Markdown and as JSON."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from redqubit.errors import UsageError
from redqubit.reading import check_links
from redqubit.report.checked import check_panel, check_values
from redqubit.report.drawing import Drawn, Page, Published, draw, published
from redqubit.report.markdown import markdown
from redqubit.report.tables import label, merged, number, numeric_columns, words
from redqubit.result import Flag, Panel, Result, Summary, load, load_summary
from redqubit.storage.files import load_json, write_text

_FILES = ("config.yaml", "run.json", "results.jsonl", "summary.json")
_MOST_ROWS = 200  # of a table that nobody asked for
_MARKS = {"holds": "✓ Holds", "fails": "✗ Fails", "unclear": "? Unclear", "info": "· Note"}


@dataclass(frozen=True)
class Run:
    """What a run folder holds, as far as it got."""

    folder: Path
    results: Sequence[Result]
    summary: Summary
    about: Mapping[str, Any]
    config: str


def build(folder: Path) -> Path:
    """Write `report.html`, `report.md` and `report.json` from what a run left in its folder.

    The page holds everything it shows, loads nothing and runs no script, so that it opens from disk
    and can be mailed. What is not there yet (results, summary, artifacts) is left out or said.

    Args:
        folder: A run folder.

    Returns:
        The path of `report.html`.

    Raises:
        UsageError: If the folder is not that of a run, a file in it is damaged, or it cannot be written.
    """
    run = _read(Path(folder))
    _check(run)
    styles: dict[str, dict[Any, int]] = {}
    counts = {"Figure": 0, "Table": 0}
    sections: dict[str, list[Drawn]] = {}
    for panel in run.summary.panels:
        sections.setdefault(panel.section or "Results", []).append(
            draw(panel, run.results, run.folder / "artifacts", styles, counts)
        )
    severities: dict[str, list[Flag]] = {"fail": [], "warning": [], "ok": []}
    for flag in run.summary.flags:
        severities[flag.severity].append(flag)
    page = Page(
        summary=run.summary,
        sections=sections,
        checks=severities,
        limits=[*run.summary.limits, *_limits(run.results)],
        published=published(run.results),
        cost=_cost(run),
        rerun=run.summary.rerun or str(run.about.get("rerun", "")),
        about={words(key): value for key, value in run.about.items() if key != "rerun"},
        config=run.config,
        marks=_MARKS,
    )
    write_text(run.folder / "report.json", json.dumps(_machine(page, run), indent=1, allow_nan=False) + "\n")
    write_text(run.folder / "report.md", markdown(page))
    write_text(run.folder / "report.html", _html(page))
    return run.folder / "report.html"


def _read(folder: Path) -> Run:
    if not any((folder / name).is_file() for name in _FILES):
        raise UsageError(
            f"Argument `folder` must be the folder of a run, but {folder} holds none of {', '.join(_FILES)}: "
            "give the --out of a run"
        )
    check_links(folder)
    results = load(folder / "results.jsonl") if (folder / "results.jsonl").exists() else []
    try:
        path = folder / "run.json"
        about = load_json(path) if path.exists() else {}
        path = folder / "config.yaml"
        config = path.read_text(encoding="utf-8") if path.exists() else ""
        head = re.match("# experiment: (.*)\n# sha256: ([0-9a-f]{64})\n", config)
        if head and sha256(f"{head[1]}\n{config[head.end() :]}".encode()).hexdigest() != head[2]:
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Argument `folder` must hold whole files, but {path} is damaged ({error}): start the run again"
        ) from None
    path = folder / "summary.json"
    summary = load_summary(path) if path.exists() else _plain_summary(results, about)
    return Run(folder, _stamped(results, summary.flags), summary, about, config)


def _stamped(results: Sequence[Result], flags: Sequence[Flag]) -> list[Result]:
    """Return the results with the codes of the trust checks that failed on the attack, or on one of a worst case."""
    failed: dict[tuple[str, str], set[str]] = {}
    for flag in flags:
        model, of, attack = flag.subject.partition(" / ")
        if flag.severity == "fail" and of:
            for name in (attack, "worst_case"):  # which the attack is part of
                failed.setdefault((model, name), set()).add(flag.code)

    def stamped(result: Result) -> Result:
        model, attack = (str(result.config.get(key)) for key in ("model", "attack"))
        codes = failed.get((model, attack), set())
        if result.metric != "robust_accuracy" or not codes or result.config.get("eps") == 0:
            return result
        return replace(result, flags=tuple(sorted(codes.union(result.flags))))

    return [stamped(result) for result in results] if failed else list(results)


def _check(run: Run) -> None:
    """Refuse a run that holds what cannot be shown."""
    for panel in run.summary.panels:
        check_values([panel.data, panel.where], "a panel")
        check_panel(panel)
    check_values([run.about, run.summary.cost, *(flag.evidence for flag in run.summary.flags)], "the summary")
    for result in run.results:
        numbers = (result.value, result.low, result.high, result.reported, result.seconds, result.k, result.n)
        check_values([result.config, *numbers], f"the cell {result.cell}")


def _plain_summary(results: Sequence[Result], about: Mapping[str, Any]) -> Summary:
    """Return a summary for a run that did not get to write its own: the numbers, and no verdict."""
    rows = [
        [r.cell, words(r.metric), label(r.config), r.seed, entry.text(unit=True), entry.interval, entry.count]
        for r in results[:_MOST_ROWS]
        for entry in [merged([r])]
    ]
    caption = f"The first {_MOST_ROWS} of {len(results):,} results." if len(results) > _MOST_ROWS else ""
    data = {"columns": ["cell", "metric", "configuration", "seed", "value", "95 % interval", "k/n"], "rows": rows}
    panel = Panel("facts", "All results", caption, data=data)
    return Summary(
        title=f"Run of {about.get('experiment', 'an experiment')}",
        subtitle="This run has not written its summary: there are numbers, and no verdict yet.",
        panels=(panel,) if results else (),
    )


def _limits(results: Sequence[Result]) -> list[str]:
    """Say what follows from the numbers alone about what they cannot show."""
    attacked = any("attack" in result.config for result in results)
    limits = ["An attack that fails shows that this attack failed, not that none succeeds."] if attacked else []
    trials = sorted({(r.n, r.metric) for r in results if r.k is not None and r.n is not None and r.n > 0})
    if trials:
        (fewest, rare), (most, common) = trials[0], trials[-1]
        least, often = (f"{195.996 * math.sqrt(2 * 0.25 / n):.1f}" for n in (fewest, most))
        limits.append(
            f"The smallest proportion rests on n = {fewest:,}: unpaired, two such proportions must differ by "
            f"up to {least} points before chance is an unlikely cause."
            if fewest == most
            else f"Proportions rest on n = {fewest:,} ({words(rare)}) to {most:,} ({words(common)}): unpaired, two of "
            f"the smallest must differ by up to {least} points before chance is an unlikely cause, two of the largest "
            f"by up to {often}."
        )
    seeds = {result.seed for result in results if result.seed is not None}
    if len(seeds) == 1:
        limits.append("There is one seed: nothing here speaks about the spread over trainings.")
    if len(versions := sorted({result.version for result in results if result.version})) > 1:
        limits.append(f"The results come from several versions of RedQubit: {', '.join(versions)}.")
    return limits


def _cost(run: Run) -> dict[str, str]:
    """Return what the run took, in words."""
    seconds = {r.cell: r.seconds for r in run.results if r.seconds is not None and math.isfinite(r.seconds)}
    cost = {words(key): label(value) for key, value in run.summary.cost.items()}
    if seconds:
        cost["computing time of all cells"] = _duration(sum(seconds.values()))
    if run.results:
        cost["cells"] = f"{len({result.cell for result in run.results}):,}"
        cost["results"] = f"{len(run.results):,}"
    return cost


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _html(page: Page) -> str:
    folder = resources.files("redqubit.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"label": label, "words": words, "number": number, "numeric_columns": numeric_columns}
    template = environment.from_string((folder / "template.html").read_text(encoding="utf-8"))
    style = Markup((folder / "style.css").read_text(encoding="utf-8"))
    return template.render(vars(page), style=style) + "\n"


def _machine(page: Page, run: Run) -> Any:
    """Return the report as plain values; fractions stay fractions."""
    return _finite(
        {
            "title": run.summary.title,
            "subtitle": run.summary.subtitle,
            "source": run.summary.source,
            "findings": [asdict(finding) for finding in run.summary.findings],
            "limits": page.limits,
            "panels": [_machine_panel(section, d) for section, drawn in page.sections.items() for d in drawn],
            "checks": run.summary.flags,
            "published": page.published,
            "cost": run.summary.cost,
            "rerun": page.rerun,
            "run": run.about,
            "config": run.config,
            "n_results": len(run.results),
        }
    )


def _machine_panel(section: str, drawn: Drawn) -> dict[str, Any]:
    panel = drawn.panel
    found = [
        {
            "facet": table.facet,
            "entries": [
                {panel.group or "row": row, panel.x or "column": column, **asdict(entry)}
                for (row, column), entry in table.entries.items()
            ],
        }
        for table in drawn.tables
    ]
    names = {"name": drawn.name, "section": section, "kind": panel.kind, "title": panel.title}
    return {**names, "caption": panel.caption, "metric": panel.metric, "tables": found, "data": panel.data}


def _finite(value: Any) -> Any:
    """Return `value` with dataclasses as mappings and with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Flag | Published):
        return _finite(asdict(value))
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
