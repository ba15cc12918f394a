"""The report as Markdown: the same numbers, without figures."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from redqubit.report.drawing import Drawn, Page
from redqubit.report.tables import Table, label, number, words


def markdown(page: Page) -> str:
    """Return the page as Markdown text."""
    summary = page.summary
    lines = [f"# {_safe(summary.title)}", "", _safe(summary.subtitle), ""]
    if summary.source:
        lines += [f"After: {_safe(summary.source)}", ""]
    lines += ["## Verdict", ""]
    for finding in summary.findings:
        detail = f" ({_safe(finding.detail)})" if finding.detail else ""
        reported = f" The paper: {_safe(finding.reported)}" if finding.reported else ""
        lines.append(f"- **{page.marks[finding.status]}**: {_safe(finding.text)}{detail}{reported}")
    lines += ["" if summary.findings else "No verdict was drawn.", "", "### What this does not show", ""]
    lines += [f"- {_safe(text)}" for text in page.limits]
    for heading, panels in page.sections.items():
        lines += ["", f"## {_safe(heading)}"]
        for drawn in panels:
            lines += ["", f"### {drawn.name}. {_safe(drawn.panel.title)}", "", _safe(drawn.panel.caption), ""]
            lines += _panel(drawn)
            lines += ["", " ".join(map(_safe, drawn.notes))] if drawn.notes else []
    lines += ["", "## Trust checks", ""]
    if summary.flags:
        lines += [f"{', '.join(f'{len(found)} {severity}' for severity, found in page.checks.items())}.", ""]
        lines += _facts(
            ["outcome", "check", "subject", "what was seen", "evidence"],
            [
                [severity, flag.code, flag.subject or "whole run", flag.message, flag.evidence]
                for severity, found in page.checks.items()
                for flag in found
            ],
        )
    else:
        lines.append("No check was made: take every robustness number as an upper bound.")
    if page.published:
        lines += ["", "## Published beside measured", ""]
        lines += _facts(
            ["what", "measured", "published", "difference", "inside our interval"],
            [(p.what, p.entry.line(unit=True), p.reported, p.difference, p.inside) for p in page.published],
        )
    if page.cost:
        lines += ["", "## Cost", "", *_facts(["what", "how much"], page.cost.items())]
    lines += ["", "## How to run it again", "", _verbatim(page.rerun) or "The command was not recorded."]
    if page.about:
        lines += ["", "## Versions and machine", "", *_facts(["what", "value"], page.about.items())]
    if page.config:
        lines += ["", "## Configuration", "", _verbatim(page.config)]
    return "\n".join(lines) + "\n"


def _panel(drawn: Drawn) -> list[str]:
    data = drawn.panel.data
    if drawn.empty:
        return ["Nothing was measured for this yet."]
    if drawn.panel.kind == "pre":
        return [_verbatim(str(data["text"]))]
    if drawn.panel.kind == "facts":
        return _facts(data.get("columns") or [""] * len(data["rows"][0]), data["rows"])
    if drawn.panel.kind == "images":
        changes = [f"- {_safe(row.label)}: largest change {number(row.largest)}" for row in drawn.rows]
        return ["The pictures are in report.html.", "", *changes]
    if drawn.points is not None:
        return _facts(*drawn.points)
    return [line for table in drawn.tables for line in _table(drawn, table)]


def _table(drawn: Drawn, table: Table) -> list[str]:
    head = [words(drawn.panel.group), *(drawn.column(x) for x in table.columns)]
    rows = [
        [label(row)]
        + [table.entries[row, x].line(unit=table.mixed) if (row, x) in table.entries else "–" for x in table.columns]
        for row in table.rows
    ]
    return [*([f"**{_safe(table.facet)}**", ""] if table.facet else []), *_facts(head, rows), ""]


def _facts(columns: Sequence[Any], rows: Iterable[Iterable[Any]]) -> list[str]:
    def line(items: Iterable[str]) -> str:
        return "| " + " | ".join(items) + " |"

    return [
        line(_safe(label(c)) for c in columns),
        line("---" for _ in columns),
        *(line(_safe(label(i)) for i in r) for r in rows),
    ]


def _safe(text: str) -> str:
    """Keep text from acting as Markdown or HTML."""
    for sign in "\\|*`<>":
        text = text.replace(sign, "\\" + sign)
    text = re.sub(r"\]([(:])", r"]\\\1", text)  # a link, or what a link refers to
    return re.sub(r"[ \t\r\n\f\v]+", " ", text).strip()


def _verbatim(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
