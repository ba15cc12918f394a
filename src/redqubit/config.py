"""From mappings (a YAML file, `--set key=value`) to the frozen dataclass that a run needs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from redqubit.errors import UsageError
from redqubit.registry import unknown

C = TypeVar("C")


def resolve(base: C, changes: Mapping[str, Any]) -> C:
    """Return the config `base` with some fields changed, each checked against its type.

    Args:
        base: An instance of a frozen dataclass.
        changes: New values by field name; text is read as the field's type.

    Raises:
        UsageError: for a name that is no field, naming the nearest, or a value of the wrong type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Config:
        ...     eps: float = 0.1
        >>> resolve(Config(), {"eps": "0.3"})
        Config(eps=0.3)
    """
    kind = type(base)
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in changes:
        if key not in names:
            raise unknown("configuration key", key, names)
    try:
        return TypeAdapter(kind).validate_python({**asdict(base), **changes})  # type: ignore[call-overload]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"Argument `{where}` is wrong: {first['msg']}; it is {first['input']!r}.") from error


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, read by the safe loader.

    Raises:
        UsageError: when the file is absent, no YAML, or no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"Argument `config` must be a YAML file, but {path}: {' '.join(str(error).split())}."
        ) from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"Argument `config` must hold `key: value` lines, but {path} holds none.")
    return content


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
        try:
            out[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"Argument `--set` must be key=value with a plain value, but is {pair!r}.") from None
    return out
