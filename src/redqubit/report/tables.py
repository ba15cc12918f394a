"""From results to tables: choose, merge repeated draws, and write numbers as text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

import numpy as np

from redqubit.result import Panel, Result

# Student's t at 97.5 %, by degrees of freedom from 1 (any table of the distribution; a test compares scipy).
_T975 = [
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
]

_FIELDS = {f.name for f in fields(Result)}
_ABSENT = object()


@dataclass(frozen=True)
class Entry:
    """One number of a table: a result, or the mean of `draws` results."""

    value: float
    low: float | None
    high: float | None
    k: int | None
    n: int | None
    draws: int
    reported: float | None
    percent: bool  # whether it is a fraction to be shown in percent
    flags: tuple[str, ...]
    over: tuple[str, ...] = ()  # config keys, seeds apart, in which the merged results differ

    def text(self, *, unit: bool = False) -> str:
        """Return the value alone."""
        return number(self.value, percent=self.percent, unit=unit)

    @property
    def interval(self) -> str:
        """The 95 % interval in brackets, or nothing."""
        if self.low is None or self.high is None:
            return ""
        return f"[{number(self.low, percent=self.percent)}, {number(self.high, percent=self.percent)}]"

    def line(self, *, unit: bool = False) -> str:
        """Return value, interval and counts in one line of text."""
        value = self.text(unit=unit) + ("†" if self.flags else "")
        return " ".join(part for part in (value, self.interval, f"({self.count})" if self.count else "") if part)

    @property
    def count(self) -> str:
        """Successes over trials, and over how many results they are added up."""
        counted = f"{self.k:,}/{self.n:,}" if self.k is not None and self.n is not None else ""
        trials = f"n {self.n:,}" if self.n is not None and not counted else counted
        return ", ".join(part for part in (trials, f"{self.draws} runs" if self.draws > 1 else "") if part)


@dataclass(frozen=True)
class Table:
    """Entries by row and column; `facet` names the value of the facet key that they share."""

    facet: str
    rows: tuple[Any, ...]
    columns: tuple[Any, ...]
    entries: Mapping[tuple[Any, Any], Entry]  # by (row, column); a gap is absent

    @property
    def mixed(self) -> bool:
        """Whether some entries are percent and others are not, so that each must say so."""
        return len({entry.percent for entry in self.entries.values()}) > 1

    @property
    def flags(self) -> tuple[str, ...]:
        """The codes of the checks that failed on any of the entries."""
        return tuple(sorted({code for entry in self.entries.values() for code in entry.flags}))


def numeric_columns(rows: Iterable[Sequence[Any]]) -> set[int]:
    """Return the places of the columns that hold numbers alone, which a page aligns by their ends."""
    columns = enumerate(zip(*rows, strict=False))
    return {i for i, column in columns if all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)}


def lookup(result: Result, key: str) -> Any:
    """Return what a result says under `key`: in its config, or else in its own fields."""
    if key in result.config:
        return result.config[key]
    return getattr(result, key) if key in _FIELDS else _ABSENT


def tables(panel: Panel, results: Iterable[Result]) -> list[Table]:
    """Return the tables of a "curves", "heatmap" or "table" panel, one per value of its facet."""
    facet_key = str(panel.data.get("facet", ""))
    unit = panel.data.get("unit")
    admitted = [(key, _listed(value)) for key, value in panel.where.items()]
    keys = (facet_key, panel.group, panel.x)
    parts: dict[Any, dict[tuple[Any, Any], list[Result]]] = {}
    for result in results:
        if panel.metric and result.metric != panel.metric:
            continue
        if admitted and any(lookup(result, key) not in values for key, values in admitted):
            continue
        facet, row, column = place = [_hashable(lookup(result, key)) if key else "" for key in keys]
        if _ABSENT not in place:
            parts.setdefault(facet, {}).setdefault((row, column), []).append(result)
    order = [_hashable(value) for value in panel.data.get("order", [])]
    return [
        Table(
            facet=label(facet) if facet_key else "",
            rows=_sorted((row for row, _ in parts[facet]), order),
            columns=_sorted((column for _, column in parts[facet]), order),
            entries={place: merged(group, unit) for place, group in parts[facet].items()},
        )
        for facet in _sorted(parts, order)
    ]


def merged(results: Sequence[Result], unit: Any = None) -> Entry:
    """Return the entry of results that measure the same thing.

    Several become their mean with the interval mean ± t s/√m over the m results; one keeps its own.

    Args:
        results: At least one result.
        unit: "%" for a fraction to be shown in percent, any other text for a number shown as it is,
            None to tell by the result: one with k and n, or a metric named an accuracy or a rate.
    """
    first, m = results[0], len(results)
    values = [result.value for result in results]
    value, low, high = values[0], first.low, first.high
    counted = all(result.k is not None and result.n is not None for result in results)
    percent = unit == "%" if unit is not None else counted or first.metric.endswith(("accuracy", "rate"))
    if m > 1:
        value = fmean(values)
        with np.errstate(all="ignore"):  # what is not finite gives NaN
            half = t975(m - 1) * float(np.std(values, ddof=1)) / math.sqrt(m)
        low, high = value - half, value + half
        if percent:
            low, high = max(low, 0.0), min(high, 1.0)
    return Entry(
        value=value,
        low=low,
        high=high,
        k=sum(result.k or 0 for result in results) if counted else None,
        n=sum(result.n or 0 for result in results) if all(result.n is not None for result in results) else None,
        draws=m,
        reported=first.reported,
        percent=percent,
        flags=tuple(sorted({code for result in results for code in result.flags})),
        over=_differing(results) if m > 1 else (),
    )


def t975(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, for 1 degree of freedom or more."""
    # Beyond the table the first two terms of the expansion in 1/degrees are exact to four digits.
    return _T975[degrees - 1] if degrees <= len(_T975) else 1.95996 + 2.3723 / degrees + 2.82 / degrees**2


def number(value: float | None, *, percent: bool = False, unit: bool = False) -> str:
    """Write a number for a reader: percent with one decimal, others with four digits."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if percent:
        text = f"{100 * value:.1f}" + ("\u00a0%" if unit else "")
    elif value == int(value) and abs(value) < 1e15:
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return text.replace("-", "−")


def label(value: Any) -> str:
    """Write any value of a config, or of a table of facts, for a reader."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{words(str(key))} = {label(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(label, value))
    return str(value).encode(errors="backslashreplace").decode()  # JSON may hold half a pair of UTF-16


def words(key: str) -> str:
    """Turn the name of a config key or metric into words."""
    return key.replace("_", " ")


def _differing(results: Sequence[Result]) -> tuple[str, ...]:
    keys = {key for result in results for key in result.config if not key.endswith(("seed", "draw"))}
    return tuple(sorted(key for key in keys if any(r.config.get(key) != results[0].config.get(key) for r in results)))


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _hashable(value: Any) -> Any:
    return label(value) if isinstance(value, list | dict) else value


def _sorted(values: Iterable[Any], order: Sequence[Any]) -> tuple[Any, ...]:
    """Return the distinct values: those of `order` first, then numbers by size, then the others as they came."""
    distinct = {value: i for i, value in enumerate(dict.fromkeys(values))}

    def place(value: Any) -> tuple[int, float]:
        if value in order:
            return 0, order.index(value)
        if isinstance(value, int | float):
            return 1, value
        return 2, distinct[value]

    return tuple(sorted(distinct, key=place))
