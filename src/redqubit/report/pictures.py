"""Rows of adversarial examples: original, perturbation, adversarial, with labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from redqubit.errors import UsageError
from redqubit.report.plots import bars, picture
from redqubit.result import Panel
from redqubit.storage.arrays import load_arrays
from redqubit.storage.files import damaged

MOST = 12  # examples of one row that a report shows

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Example:
    """Three drawings and what the model said."""

    original: str | Markup
    perturbation: str | Markup
    adversarial: str | Markup
    labels: str
    fooled: bool  # right before the attack and wrong after it


@dataclass(frozen=True)
class Row:
    """Examples of one model and attack."""

    label: str
    largest: float  # largest change of any value
    scale: float  # factor by which the perturbation is magnified
    examples: tuple[Example, ...]
    left_out: int
    image: bool  # pictures, or else bars


def rows(panel: Panel, artifacts: Path) -> list[Row]:
    """Draw the rows of an "images" panel; none when its file is not there.

    Raises:
        UsageError: If the file is damaged or lacks an array, or shapes do not fit.
    """
    path = artifacts / Path(str(panel.data.get("file", "examples.npz"))).name
    if not path.exists():
        return []
    try:
        arrays = load_arrays(path)
        return [_row(row, arrays) for row in panel.data.get("rows", [])]
    except (ValueError, LookupError, TypeError) as error:
        raise error if isinstance(error, UsageError) else damaged(path, error) from None


def _row(row: Mapping[str, Any], arrays: Mapping[str, Array]) -> Row:
    clean, adversarial = (np.asarray(arrays[row[key]], dtype=np.float64) for key in ("clean", "adv"))
    if clean.shape != adversarial.shape or clean.ndim not in (2, 4):
        raise ValueError(f"arrays of shapes {clean.shape} and {adversarial.shape} are no pair of examples")
    difference = adversarial - clean
    largest = float(np.abs(difference).max(initial=0.0))
    scale = 1 / largest if largest > 0 else 1.0
    draw = bars if clean.ndim == 2 else picture
    examples = []
    for i in range(min(MOST, len(clean))):
        drawings = draw(clean[i]), draw(scale * difference[i], signed=True), draw(adversarial[i])
        before, change, after = (Markup(d) if draw is bars else d for d in drawings)
        examples.append(Example(before, change, after, *_outcome(row, i)))
    return Row(str(row.get("label", "")), largest, scale, tuple(examples), len(clean) - len(examples), clean.ndim == 4)


def _outcome(row: Mapping[str, Any], i: int) -> tuple[str, bool]:
    """Say what example `i` is and what the model took it for before and after, and whether that fooled it."""
    if "said" in row:
        return str(row["said"][i]), False
    true, before, after = (row[key][i] if i < len(row.get(key, ())) else None for key in ("true", "before", "after"))
    if true is None:
        return "" if after is None else f"predicted {after}", False
    if before is None or after is None:
        return f"true {true}" + ("" if after is None else f", predicted {after}"), False
    if before != true:
        return f"true {true}, wrong before: {before} → {after}", False
    return (f"true {true}, stays {after}", False) if after == true else (f"true {true}: {before} → {after}", True)
