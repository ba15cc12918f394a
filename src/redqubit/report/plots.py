"""Figures as SVG and PNG text that a page can hold: no colour is fixed, so that light and dark both work."""

import base64
import io
import re
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from redqubit.report.tables import Table, label

# Placeholders that `_page_colours` turns into the variables of the style sheet.
_INK, _RULE, _MUTED = "#0000e1", "#0000e2", "#0000e3"
_SERIES = [f"#0000c{i}" for i in range(1, 9)]
_MARKERS = "os^DvPXp"
_DASHES: list[tuple[float, ...]] = [(), (5, 2), (1.2, 1.6), (6, 2, 1.2, 2)]
MOST_LINES = len(_SERIES)  # in one plot; beyond it each line gets a plot of its own
MOST_BANDS = 4  # in one plot; more of them cover each other

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "redqubit",
    "font.size": 10.5,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}


@dataclass(frozen=True)
class Axis:
    """What the axes of a plot say."""

    x_label: str
    y_label: str
    percent: bool
    chance: float | None = None


def curves(
    table: Table,
    styles: dict[Any, int],
    axis: Axis,
    *,
    name: str,
    small: bool = False,
    only: Any = None,
    points: bool = False,
) -> str:
    """Draw one line per row of `table` against its columns, with bands for the intervals of few lines.

    Args:
        table: Rows are lines, columns are positions on the x axis.
        styles: Number of the style of each row.
        axis: Labels and unit.
        name: A prefix for the ids in the SVG, unique in the page.
        small: Whether it is one of several beside each other.
        only: The one row to draw in ink, the others being its grey background; None for all.
        points: Whether to leave points unjoined though their places are numbers.

    Returns:
        An SVG element.
    """
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(3.9, 3.0) if small else (4.9, 3.4), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.grid(axis="y")
        numeric = all(isinstance(x, int | float) and not isinstance(x, bool) for x in table.columns)
        joined = numeric and not points
        places = {x: float(x) if numeric else float(i) for i, x in enumerate(table.columns)}
        for row in table.rows:
            if only is not None and row != only:
                _line(axes, table, row, places, None, joined=joined, apart=not numeric, banded=False)
        shown = table.rows if only is None else (only,)
        for row in shown:
            banded = len(shown) <= MOST_BANDS
            _line(axes, table, row, places, styles[row], joined=joined, apart=not numeric, banded=banded)
        if axis.percent:
            axes.set_ylim(-3, 103)
            axes.set_yticks(range(0, 101, 20 if not small else 25))
        if axis.chance is not None:
            level = axis.chance * (100 if axis.percent else 1)
            axes.axhline(level, color=_MUTED, linewidth=0.9, dashes=(2, 2), zorder=1)
            axes.annotate(
                "chance", (0, level), (2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                fontsize=9, color=_MUTED,
            )  # fmt: skip
        if all(isinstance(x, int) for x in table.columns):  # layers, qubits: no half of one
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if not numeric:
            axes.set_xlim(-0.5, len(places) - 0.5)
            crowded = sum(len(_short(x)) for x in places) > (30 if small else 52)
            axes.set_xticks(list(places.values()), [_short(x) for x in places])
            if crowded:
                axes.tick_params(axis="x", labelrotation=35)
                for text in axes.get_xticklabels():
                    text.set(ha="right", rotation_mode="anchor")
        axes.set_xlabel(label(axis.x_label))
        axes.set_ylabel(label(axis.y_label))
        title = table.facet if only is None else label(only)
        if title and small:
            axes.set_title(_short(title), loc="left", fontsize=10.5, fontweight="bold")
        if only is None and not points and named_at_the_line(table):
            _name_at_the_line(axes, table, styles)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_a_page(out.getvalue(), name, f"{title + ': ' if title else ''}{axis.y_label} against {axis.x_label}")


def named_at_the_line(table: Table) -> bool:
    """Whether the lines of a plot are few, with names so short, that they stand at the lines, not in a legend."""
    return len(table.rows) <= 5 and all(len(label(row)) <= 12 for row in table.rows) and not table.facet


def swatch(style: int, *, points: bool = False) -> str:
    """Return a short piece of a line with its marker, or the marker alone, for a legend."""
    colour = f"var(--c{style % len(_SERIES) + 1})"
    marker = MarkerStyle(_MARKERS[style % len(_MARKERS)])
    outline = marker.get_path().transformed(marker.get_transform()).to_polygons()
    polygons = (np.asarray(polygon) * (7, -7) + (17, 7) for polygon in outline)
    path = " ".join("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in polygon) + "Z" for polygon in polygons)
    dashes = " ".join(f"{1.6 * d:.1f}" for d in _DASHES[style % len(_DASHES)])
    line = f'<path d="M0,7H34" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dashes}" fill="none"/>'
    return (
        f'<svg class="swatch" viewBox="0 0 34 14" aria-hidden="true">{"" if points else line}'
        f'<path d="{path}" fill="{colour}"/></svg>'
    )


def picture(image: NDArray[np.float64], *, signed: bool = False) -> str:
    """Return a picture (C, H, W) as a PNG data URI; C is 1 or 3.

    Args:
        image: Values in [0, 1], or in [-1, 1] when `signed`.
        signed: Whether it is a perturbation: blue below zero, white at zero, red above.
    """
    pixels = np.nan_to_num(image, nan=0.0)
    if signed and len(pixels) == 1:
        pixels = np.asarray(mpl.colormaps["RdBu_r"](0.5 + 0.4 * pixels[0])).transpose(2, 0, 1)[:3]
    elif signed:
        pixels = 0.5 + 0.5 * pixels
    if len(pixels) == 1:
        pixels = pixels.repeat(3, axis=0)
    out = io.BytesIO()
    imsave(out, np.clip(pixels[:3], 0, 1).transpose(1, 2, 0), format="png", metadata={"Software": None})  # type: ignore[dict-item]
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def bars(values: NDArray[np.float64], *, signed: bool = False) -> str:
    """Return features (d,) as an SVG of bars over [0, 1], or over [-1, 1] when `signed`."""
    top = 1.0
    heights = np.clip(np.nan_to_num(values, nan=0.0), -top if signed else 0, top)
    zero, scale = (50.0, 50.0) if signed else (100.0, 100.0)
    path = "".join(f"M{i + 0.1:g},{zero:g}v{-scale * h:.1f}h.8V{zero:g}z" for i, h in enumerate(heights))
    return (
        f'<svg class="bars" viewBox="0 0 {len(heights)} 100" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M0,{zero:g}H{len(heights)}" class="zero"/><path d="{path}"/></svg>'
    )


def _line(
    axes: Axes,
    table: Table,
    row: Any,
    places: dict[Any, float],
    style: int | None,
    *,
    joined: bool,
    apart: bool,
    banded: bool,
) -> None:
    """Draw one row; without a style it is grey, in the background. Rows stand beside each other when `apart`."""
    found = [(places[x], table.entries[row, x]) for x in table.columns if (row, x) in table.entries]
    x = np.array([place for place, _ in found])
    entries = [entry for _, entry in found]
    factor = [100.0 if entry.percent else 1.0 for entry in entries]
    y = np.array([f * entry.value for f, entry in zip(factor, entries, strict=True)])
    if style is None:
        axes.plot(x, y, "-" if joined or apart else "o", color=_RULE, linewidth=1.1, markersize=3, zorder=1.5)
        return
    colour = _SERIES[style % len(_SERIES)]
    marker = _MARKERS[style % len(_MARKERS)]
    low = np.array([f * (e.value if e.low is None else e.low) for f, e in zip(factor, entries, strict=True)])
    high = np.array([f * (e.value if e.high is None else e.high) for f, e in zip(factor, entries, strict=True)])
    if joined:
        (line,) = axes.plot(x, y, color=colour, linewidth=1.6, marker=marker, markersize=4.5, markeredgewidth=0)
        if dashes := _DASHES[style % len(_DASHES)]:
            line.set_dashes(list(dashes))
        if banded:
            axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
        return
    lines = len(table.rows)
    if apart and lines > 1:
        x = x + 0.5 * (table.rows.index(row) / (lines - 1) - 0.5)
    wide = high > low
    axes.vlines(x[wide], low[wide], high[wide], color=colour, linewidth=1.4)
    axes.plot(x, y, color=colour, linestyle="none", marker=marker, markersize=5, markeredgewidth=0)


def _name_at_the_line(axes: Axes, table: Table, styles: dict[Any, int]) -> None:
    """Write each line's name right of its end, pushed apart so that none covers another."""
    ends = []
    for row in table.rows:
        found = [table.entries[row, x] for x in table.columns if (row, x) in table.entries]
        heights = [entry.value * (100 if entry.percent else 1) for entry in found if np.isfinite(entry.value)]
        ends += [(y, row) for y in heights[-1:]]
    bottom, top = axes.get_ylim()
    for y, row in _spread(sorted(ends, key=lambda end: end[0]), gap=0.062 * (top - bottom), top=top):
        axes.annotate(
            label(row), (1, y), (5, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", color=_SERIES[styles[row] % len(_SERIES)], annotation_clip=False,
        )  # fmt: skip


def _short(value: Any) -> str:
    """Return a name that leaves room for the plot; the tables have it in full."""
    text = label(value)
    return text if len(text) <= 32 else text[:31] + "…"


def _spread(ends: list[tuple[float, Any]], gap: float, top: float) -> list[tuple[float, Any]]:
    """Move sorted heights up, and then down from the top, until they are `gap` apart."""
    heights = [y for y, _ in ends]
    if not heights:
        return []
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights[-1] = min(heights[-1], top)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - gap)
    return [(y, row) for y, (_, row) in zip(heights, ends, strict=True)]


def _for_a_page(svg: str, name: str, title: str) -> str:
    """Make matplotlib's file an element: no header, ids of its own, colours and fonts of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg class="plot" role="img" aria-label="{escape(title)}" {box[0] if box else ""}>'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r' id="', f' id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"#0000c([1-8])", r"var(--c\1)", svg)
    for placeholder, variable in ((_INK, "ink"), (_RULE, "rule"), (_MUTED, "muted")):
        svg = svg.replace(placeholder, f"var(--{variable})")
    return re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
