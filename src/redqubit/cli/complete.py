"""Names for the shell to complete.

They are read from the source, without running it: an import of what they name takes seconds, and a shell does not wait.
"""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def _registered(registry: str, folder: str) -> Iterator[str]:
    """Yield the names that the files of a folder enter into a registry."""
    entry = re.compile(rf'^@?{registry}\.register\("([^"]+)"\)', re.MULTILINE)
    for file in sorted((_ROOT / folder).rglob("*.py")):
        yield from entry.findall(file.read_text(encoding="utf-8"))


def _listed(name: str, file: str) -> Iterator[str]:
    """Yield the texts of a tuple that a file defines, or the keys of a dict."""
    for node in ast.parse((_ROOT / file).read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == name and isinstance(node, ast.Assign | ast.AnnAssign):
            texts = node.value.keys if isinstance(node.value, ast.Dict) else getattr(node.value, "elts", ())
            yield from (text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str))


FAMILIES: dict[str, Callable[[], list[str]]] = {
    "models": lambda: [*_registered("MODELS", "models")],
    "data": lambda: [*_listed("_BUILT_IN", "data/sets.py"), *_listed("ORIGINALS", "data/originals.py")],
    "attacks": lambda: [*_registered("ATTACKS", "evasion"), *_listed("SETTINGS", "auditing/config.py")],
    "triggers": lambda: [*_registered("TRIGGERS", "backdoors")],
    "poisons": lambda: [*_listed("POISONINGS", "auditing/config.py")],
    "evasion defenses": lambda: [*_listed("EVASION_DEFENSES", "auditing/config.py")],
    "backdoor defenses": lambda: [*_listed("METHODS", "defending/config.py")],
    "experiments": lambda: [*_registered("EXPERIMENTS", "experiments")],
    "presets": lambda: ["smoke", "laptop", "paper"],
    "encoders": lambda: [*_listed("ENCODERS", "screening/inputs.py")],
    "trackers": lambda: ["mlflow:", "tensorboard:"],
}


def one(family: str) -> Callable[[str], list[str]]:
    """Return what completes a name of a family."""

    def complete(incomplete: str) -> list[str]:
        return sorted(name for name in FAMILIES[family]() if name.startswith(incomplete))

    return complete


def several(family: str) -> Callable[[str], list[str]]:
    """Return what completes the last of several names with commas between."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [before + comma + name for name in one(family)(last) if name not in given]

    return complete
