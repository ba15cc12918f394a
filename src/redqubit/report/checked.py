"""What a panel must hold to be drawn, whoever wrote the summary."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from redqubit.errors import UsageError
from redqubit.result import Panel

DEEPEST = 32  # lists in lists, or mappings
LARGEST = 1e300  # of numbers, so that their sums and squares are numbers too


class _Data(BaseModel):
    model_config = ConfigDict(strict=True)


class _Plot(_Data):
    facet: str | None = None
    order: list[Any] = []
    unit: str | None = None
    chance: float | None = None
    points: bool = False


class _Facts(_Data):
    columns: list[Any] = []
    rows: list[list[Any]] = []


class _Text(_Data):
    text: str = ""


class _Examples(_Data):
    label: str = ""
    clean: str
    adv: str
    true: list[Any] = []
    before: list[Any] = []
    after: list[Any] = []
    said: list[Any] = []


class _Images(_Data):
    file: str = ""
    rows: list[_Examples] = []
    changed: str = ""
    pair: bool = False


_DATA: Mapping[str, type[_Data]] = {
    **dict.fromkeys(("curves", "heatmap", "table"), _Plot),
    "facts": _Facts,
    "pre": _Text,
    "images": _Images,
}


def check_panel(panel: Panel) -> None:
    """Refuse a panel whose data cannot be drawn.

    Raises:
        UsageError: naming the panel and what is wrong with it.

    Example:
        >>> check_panel(Panel("facts", "Sizes", data={"rows": [3]}))
        Traceback (most recent call last):
        redqubit.errors.UsageError: Panel `Sizes` must hold what is drawn, but rows.0: Input should be a valid list: run
            the command again.
    """
    try:
        _DATA[panel.kind].model_validate(dict(panel.data))
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UsageError(
            f"Panel `{panel.title:.80}` must hold what is drawn, but {why}: run the command again."
        ) from None


def check_values(value: Mapping[str, Any] | Sequence[Any], what: str, room: int = DEEPEST) -> None:
    """Refuse values that are nested deeper, or numbers that are larger, than anything a run writes.

    Raises:
        UsageError: naming `what` holds them.
    """
    if not room:
        raise _odd(what, f"lists in lists, {DEEPEST} deep")
    for item in value.values() if isinstance(value, Mapping) else value:
        if isinstance(item, int | float):
            if abs(item) > LARGEST and math.isfinite(item):
                raise _odd(what, f"the number {item:.3g}")
        elif isinstance(item, Mapping | list | tuple):
            check_values(item, what, room - 1)


def _odd(what: str, holds: str) -> UsageError:
    return UsageError(f"Argument `folder` must hold values that a report can show, but {what} has {holds}: correct it.")
