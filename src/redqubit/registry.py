"""One dict per family of methods, filled from the files of a folder."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

from redqubit.errors import UsageError

T = TypeVar("T")


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name: it lists the nearest known ones.

    Example:
        >>> str(unknown("attack", "pdg", ["pgd", "fgsm"]))
        'Unknown attack `pdg`: did you mean pgd?'
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names)}."
    return UsageError(f"Unknown {kind} `{name}`: {hint}")


class Registry(Generic[T]):
    """The methods of one family by name.

    The modules of `package` are imported at the first look-up, and each registers what it defines,
    so that adding a method touches one file.

    Args:
        kind: What one entry is called in an error, such as "evasion attack".
        package: Dotted name of the package whose modules hold the entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters an object under `name`."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} `{name}` is registered twice")
            self._entries[name] = entry
            return entry

        return enter

    def _load(self) -> dict[str, T]:
        if not self._loaded:
            for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True
        return self._entries

    def __getitem__(self, name: str) -> T:
        entries = self._load()
        if name not in entries:
            raise unknown(self.kind, name, entries)
        return entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())
