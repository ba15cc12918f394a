"""From panels and results to what a page shows of them."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from redqubit.report import pictures, plots
from redqubit.report.tables import Entry, Table, label, lookup, merged, number, tables, words
from redqubit.result import Flag, Panel, Result, Summary


@dataclass(frozen=True)
class Drawn:
    """A panel with all that a page shows of it."""

    panel: Panel
    name: str  # "Figure 1"
    tables: Sequence[Table] = ()
    svgs: Sequence[Markup] = ()
    legend: Sequence[tuple[Markup, str]] = ()
    notes: Sequence[str] = ()
    rows: Sequence[pictures.Row] = ()
    empty: bool = False

    def column(self, x: Any) -> str:
        """Return the heading of a column."""
        if not self.panel.x:
            return self.panel.y_label or words(self.panel.metric)
        return words(label(x)) if self.panel.x == "metric" else label(x)

    @property
    def points(self) -> tuple[list[str], list[list[str]]] | None:
        """Heading and rows that list unjoined points, one a row, as a grid of them would be mostly gaps; else None."""
        panel = self.panel
        if not panel.data.get("points"):
            return None
        heading = [words(panel.group), panel.x_label or words(panel.x), panel.y_label or words(panel.metric)]
        rows = [
            [" ".join(filter(None, (table.facet, label(row)))), label(x), entry.line()]
            for table in self.tables
            for (row, x), entry in sorted(
                table.entries.items(), key=lambda at: (table.rows.index(at[0][0]), table.columns.index(at[0][1]))
            )
        ]
        return heading, rows

    @property
    def _scale(self) -> tuple[float, float, bool]:
        """The values of the lightest and the darkest cell of a heat map, and whether they are percent."""
        entries = [e for table in self.tables for e in table.entries.values() if math.isfinite(e.value)]
        if all(entry.percent for entry in entries):
            return 0.0, 1.0, True
        values = [entry.value for entry in entries]
        return min(values), max(values), False

    @property
    def key(self) -> tuple[str, str]:
        """What the lightest and the darkest cell of a heat map mean."""
        low, high, percent = self._scale
        return ("0\u00a0%", "100\u00a0%") if percent else (number(low), number(high))

    def shade(self, entry: Entry) -> int:
        """Return how dark the cell of an entry is, in percent."""
        low, high, _ = self._scale
        share = (entry.value - low) / (high - low) if high > low else 0.0
        return round(100 * min(1.0, max(0.0, share))) if math.isfinite(share) else 0


@dataclass(frozen=True)
class Published:
    """A measured number beside the one that a paper states."""

    what: str
    entry: Entry
    reported: str
    difference: str
    inside: str


@dataclass(frozen=True)
class Page:
    """All that a report says, whatever its format."""

    summary: Summary
    sections: Mapping[str, Sequence[Drawn]]
    checks: Mapping[str, Sequence[Flag]]  # by severity, the worst first
    limits: Sequence[str]
    published: Sequence[Published]
    cost: Mapping[str, str]
    rerun: str
    about: Mapping[str, Any]
    config: str
    marks: Mapping[str, str]  # sign and word of each status of a finding


def draw(
    panel: Panel,
    results: Iterable[Result],
    artifacts: Path,
    styles: dict[str, dict[Any, int]],
    counts: dict[str, int],
) -> Drawn:
    """Draw one panel.

    Args:
        panel: What to draw.
        results: Those of the whole run; the panel says which it wants.
        artifacts: Folder of the pictures.
        styles: Styles of the lines so far, by group key and row; new rows are entered.
        counts: How many figures and tables there are so far; counted on.
    """
    sort = "Figure" if panel.kind in ("curves", "heatmap", "images", "pre") else "Table"
    counts[sort] += 1
    name = f"{sort} {counts[sort]}"
    if panel.kind == "images":
        rows = pictures.rows(panel, artifacts)
        return Drawn(panel, name, rows=rows, empty=not rows)
    if panel.kind == "facts":
        return Drawn(panel, name, empty=not panel.data.get("rows"))
    if panel.kind == "pre":
        return Drawn(panel, name, empty=not panel.data.get("text"))
    found = tables(panel, results)
    drawn = Drawn(panel, name, found, notes=_notes(found), empty=not found)
    return _with_plots(drawn, styles.setdefault(panel.group, {})) if panel.kind == "curves" and found else drawn


def _with_plots(drawn: Drawn, styles: dict[Any, int]) -> Drawn:
    """Add the plots; a line has the same style in every plot of the report."""
    panel, found = drawn.panel, drawn.tables
    for table in found:
        for row in table.rows:
            styles.setdefault(row, len(styles))
    percent = all(entry.percent for table in found for entry in table.entries.values())
    y_label = panel.y_label or words(panel.metric).capitalize()
    unit = str(panel.data.get("unit", ""))
    unit = "%" if percent else unit
    axis = plots.Axis(
        x_label=panel.x_label or words(panel.x),
        y_label=f"{y_label} ({unit})" if unit and unit not in y_label else y_label,
        percent=percent,
        chance=panel.data.get("chance"),
    )
    prefix, points = drawn.name.replace(" ", "").lower(), bool(panel.data.get("points"))
    crowded = len(found) == 1 and len(found[0].rows) > plots.MOST_LINES
    shown = [(found[0], row) for row in found[0].rows] if crowded else [(table, None) for table in found]
    small = len(shown) > 1
    svgs = [
        Markup(plots.curves(table, styles, axis, name=f"{prefix}-{i}", small=small, only=only, points=points))
        for i, (table, only) in enumerate(shown)
    ]
    lines = dict.fromkeys(row for table in found for row in _by_height(table))
    named = crowded or (not (small or points) and plots.named_at_the_line(found[0])) or list(lines) == [""]
    legend = [] if named else [(Markup(plots.swatch(styles[row], points=points)), label(row)) for row in lines]
    notes = list(drawn.notes)
    if not (crowded or points) and any(len(table.rows) > plots.MOST_BANDS for table in found):
        notes.append("There are too many lines for bands; the intervals stand with the numbers.")
    return Drawn(panel, drawn.name, found, svgs, legend, notes)


def _by_height(table: Table) -> list[Any]:
    """Return the rows in the order in which their lines end, the highest first, as the eye meets them."""
    last = {row: table.entries[row, x].value for x in table.columns for row in table.rows if (row, x) in table.entries}
    return sorted(table.rows, key=lambda row: -last[row] if math.isfinite(last[row]) else math.inf)


def _notes(found: Iterable[Table]) -> list[str]:
    """Say under a table what its intervals are, and which of its numbers failed a check."""
    entries = [entry for table in found for entry in table.entries.values()]
    notes = []
    if entries and all(entry.percent for entry in entries):
        notes.append("Numbers in percent.")
    single = any(entry.draws == 1 and entry.interval for entry in entries)
    several = sorted({entry.draws for entry in entries if entry.draws > 1})
    if single:
        notes.append("Intervals: 95\u00a0%, of the samples.")
    if several:
        runs = f"{several[0]}" if len(several) == 1 else f"{several[0]} to {several[-1]}"
        notes.append(f"Means of {runs} runs with the 95\u00a0% t interval over the runs.")
    if over := sorted({key for entry in entries for key in entry.over}):
        notes.append(f"Some of these means mix different values of {', '.join(map(words, over))}.")
    if codes := sorted({code for entry in entries for code in entry.flags}):
        notes.append(f"† A trust check failed on this number: {', '.join(codes)}.")
    return notes


def published(results: Iterable[Result]) -> list[Published]:
    """Pair each published number with ours, seeds merged."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        if result.reported is not None:
            key = json.dumps([result.metric, {**result.config, "seed": None}], sort_keys=True)
            groups.setdefault(key, []).append(result)
    shared = _shared([group[0] for group in groups.values()])
    found = []
    for group in groups.values():
        first, entry = group[0], merged(group)
        config = {key: value for key, value in first.config.items() if key not in shared and key != "seed"}
        gap = entry.value - (entry.reported or 0.0)
        known = entry.low is not None and entry.high is not None
        inside = entry.low is not None and entry.high is not None and entry.low <= (entry.reported or 0.0) <= entry.high
        found.append(
            Published(
                what=", ".join([words(first.metric), *(f"{words(k)} = {label(v)}" for k, v in config.items())]),
                entry=entry,
                reported=number(entry.reported, percent=entry.percent, unit=True),
                difference=("+" if gap > 0 else "") + number(gap, percent=entry.percent),
                inside=("yes" if inside else "no") if known else "–",
            )
        )
    return found


def _shared(results: Sequence[Result]) -> set[str]:
    """Return the config keys that have one value in all results, and so tell none from another."""
    if len(results) < 2:
        return set()
    first = results[0].config
    return {key for key, value in first.items() if all(lookup(r, key) == value for r in results)}
