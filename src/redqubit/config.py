"""From mappings (a YAML file, `--set key=value`) to the frozen dataclass that a run needs."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from redqubit.errors import UsageError
from redqubit.reading import read_bytes
from redqubit.registry import unknown

C = TypeVar("C")

MAX_BYTES = 1 << 20  # of a configuration file
MAX_LISTS = 1000  # in it


def resolve(base: C, changes: Mapping[str, Any]) -> C:
    """Return the config `base` with some fields changed, each checked against its type.

    Args:
        base: An instance of a frozen dataclass.
        changes: New values by field name; text is read as the field's type, and 8/255 as the number it stands for.

    Raises:
        UsageError: for a name that is no field, naming the nearest, or a value of the wrong type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Config:
        ...     eps: float = 0.1
        >>> resolve(Config(), {"eps": "0.3"}), resolve(Config(), {"eps": "1/8"})
        (Config(eps=0.3), Config(eps=0.125))
    """
    kind = type(base)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in changes:
        if key not in names:
            raise unknown("configuration key", key, names)
    given = {k: [_divided(e) for e in v] if isinstance(v, list | tuple) else _divided(v) for k, v in changes.items()}
    try:
        return TypeAdapter(kind).validate_python(asdict(base) | given)  # type: ignore[call-overload]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"Argument `{where}` is wrong: {first['msg']}; it is {reprlib.repr(first['input'])}."
        ) from error


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, read by the safe loader.

    Raises:
        UsageError: when the file is absent, no YAML, or no mapping.
    """
    complaint = f"Argument `config` must be a YAML file, but {path}"
    try:
        text = read_bytes(path, max_bytes=MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{complaint}: {error}.") from None
    content = parsed(text, complaint)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"Argument `config` must hold `key: value` lines, but {path} holds none.")
    return content


class _Plain(yaml.SafeLoader):
    """YAML without anchors, since a few lines of references to references stand for more than a machine can hold."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to an anchor: write the value out")
        return super().compose_node(parent, index)


def parsed(text: str, complaint: str) -> Any:
    """Return what YAML says in plain values: numbers, text, dates, lists and mappings.

    Args:
        text: YAML without anchors.
        complaint: How the error begins, such as "Argument `config` must be a YAML file, but it".

    Raises:
        UsageError: when it is no YAML, refers to anchors, or is nested too deep.
    """
    if text.count("[") + text.count("{") > MAX_LISTS:  # whose nesting takes the parser time that grows with its square
        raise UsageError(f"{complaint}: it has more than {MAX_LISTS:,} lists.")
    try:
        loader = _Plain(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    # besides YAMLError: ValueError for a 31st of February, RecursionError for brackets in brackets
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"{complaint}: {' '.join(str(error).split())}.") from None


def assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the mapping of `key=value` texts, values read as YAML.

    Example:
        >>> assignments(["draws=3", "eps=[0.1, 0.2]"])
        {'draws': 3, 'eps': [0.1, 0.2]}
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        key, found, value = pair.partition("=")
        if not found or not key:
            raise UsageError(f"Argument `--set` must be key=value, but is {pair!r}.")
        out[key.strip()] = parsed(value, f"Argument `--set` must be key=value with a plain value, but is {pair!r}")
    return out


def _divided(value: Any) -> Any:
    """Return the number that a fraction such as 8/255 stands for, and anything else as it is."""
    fraction = re.fullmatch(r"\s*([0-9]{1,9})/([1-9][0-9]{0,8})\s*", value) if isinstance(value, str) else None
    return int(fraction[1]) / int(fraction[2]) if fraction else value
