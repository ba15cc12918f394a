"""One page per attack and defense, from its docstring, its fields and a picture; and the list of all of them."""

import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from types import FunctionType
from typing import Any, Literal, get_args, get_origin

from redqubit.auditing.config import EVASION_DEFENSES, POISONINGS
from redqubit.backdoors import TRIGGERS
from redqubit.defenses import DATA_DEFENSES, DEFENSES, DETECTORS, LabelDetector
from redqubit.evasion import ATTACKS
from redqubit.poisoning import POISONS
from redqubit.registry import Registry


def _audit(option: str, name: str) -> str:
    return f"redqubit audit --{option} {name}"


def _defense(name: str, cls: type) -> tuple[str, str]:
    if getattr(cls, "against", "backdoors") == "backdoors":
        call = "(model, clean, generator=generator)" if name != "strip" else "(model, x, clean, generator=generator)"
        return f"redqubit defend --from runs/cnn {name}", f"{cls.__name__}(){call}"
    audited = name if name in EVASION_DEFENSES else "adversarial_pgd"
    call = f"Defended(model, [{cls.__name__}()], train_set, generator=generator)"
    return _audit("defenses", audited), call


def _poison(name: str, cls: type) -> tuple[str, str]:
    label = next((key for key, method in POISONINGS.items() if method is cls), "")
    first = "encoder, " if any(field.name == "circuit" for field in fields(cls)) else ""
    call = f"{cls.__name__}({first}ratio=0.3)(train_set, generator=generator)"
    return _audit("poisons", label) if label else "", call


def _data_defense(name: str, cls: type) -> tuple[str, str]:
    if issubclass(cls, LabelDetector):
        return "redqubit screen --data my.npz", f"{cls.__name__}(States(encoder))(train_set)"
    return "", f"{cls.__name__}(k=3)(train_set, x, fit_all=one_by_one(fit))"


@dataclass(frozen=True)
class Family:
    """Methods of one kind.

    Attributes:
        title: Heading in the list.
        what: What they do, one sentence.
        methods: The classes by name.
        use: Name and class to the command and the Python call that use it; "" where there is none.
    """

    title: str
    what: str
    methods: dict[str, type]
    use: Callable[[str, type], tuple[str, str]]


def _all(registry: Registry[Any]) -> dict[str, type]:
    return {name: registry[name] for name in registry}


def families() -> list[Family]:
    """Return every attack and defense that is registered."""
    repairs = _all(DEFENSES)
    evasion = {name: cls for name, cls in repairs.items() if cls.against == "evasion"}  # type: ignore[attr-defined]
    backdoors = {name: cls for name, cls in repairs.items() if name not in evasion}
    return [
        Family(
            "Evasion attacks",
            "They change an input within an L-infinity ball so that the model errs.",
            _all(ATTACKS),
            lambda name, cls: (_audit("attacks", name), f"{cls.__name__}(eps=0.1)(model, x, y, generator=generator)"),
        ),
        Family(
            "Triggers of backdoors",
            "A share of the training pictures gets the trigger and the label of a target class.",
            _all(TRIGGERS),
            lambda name, cls: (
                _audit("backdoors", name),
                f"Backdoor({cls.__name__}(), target_class=0, poison_rate=0.1)(train_set, generator=generator)",
            ),
        ),
        Family(
            "Label poisons",
            "They give a share of the training set wrong labels and change no input.",
            _all(POISONS),
            _poison,
        ),
        Family(
            "Defenses against evasion",
            "They take a model and return another one that should be harder to fool.",
            evasion,
            _defense,
        ),
        Family(
            "Defenses against backdoors",
            "They repair a model, or score inputs and classes by how suspicious they are.",
            {**backdoors, **_all(DETECTORS)},
            _defense,
        ),
        Family(
            "Defenses against wrong labels",
            "They score the labels of a training set, or train so that a few wrong ones do little.",
            _all(DATA_DEFENSES),
            _data_defense,
        ),
    ]


def names() -> dict[str, str]:
    """Return the page of every method by its name, such as `methods/pgd.md`."""
    return {name: f"methods/{name}.md" for family in families() for name in family.methods}


def summary(cls: type) -> str:
    """Return the first line of a class's docstring."""
    return (cls.__doc__ or "").strip().split("\n")[0]


def listing() -> str:
    """Return the table of each family, with an anchor per method that other pages link to."""
    parts = []
    for family in families():
        rows = [
            f'| <span id="{name}"></span>[{cls.__name__}]({name}.md) | `{name}` | {_cell(summary(cls))} |'
            for name, cls in family.methods.items()
        ]
        parts += [f"## {family.title}", "", family.what, "", "| | name | |", "|---|---|---|", *rows, ""]
    return "\n".join(parts)


def pages(figure: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Yield the source path and the Markdown of each method's page.

    Args:
        figure: Name of a method to the Markdown of its picture; "" where there is none.
    """
    for family in families():
        for name, cls in family.methods.items():
            yield f"methods/{name}.md", _page(family, name, cls, figure(name))


def _page(family: Family, name: str, cls: type, figure: str) -> str:
    command, call = family.use(name, cls)
    dotted = f"{cls.__module__}.{cls.__qualname__}"
    lines = [f"# {cls.__name__}", "", f"[{family.title}](index.md#{_anchor(family.title)}) · `{name}`", ""]
    lines += [f"::: {dotted}", "    options: {show_signature: false}", "", figure, ""]
    lines += ["## Use", "", "```python", f"from {cls.__module__.rsplit('.', 1)[0]} import {cls.__name__}", "", call]
    lines += ["```", ""]
    if command:
        lines += ["```bash", command, "```", ""]
    if rows := _fields(cls):
        lines += ["## Settings", "", "| field | type | default | |", "|---|---|---|---|", *rows, ""]
    for member in _members(cls):
        lines += [] if "## More" in lines else ["## More", ""]
        lines += [f"::: {dotted}.{member}", "    options: {show_root_heading: true, show_root_toc_entry: true}", ""]
    return "\n".join(lines)


def _fields(cls: type) -> list[str]:
    """Return a table row for each field of a dataclass, with the comment that stands behind it."""
    comments = {key: text for base in reversed(cls.__mro__) for key, text in _comments(base).items()}
    rows = []
    for field in fields(cls):
        default = "required" if field.default is MISSING else f"`{_short(field.default)}`"
        if field.default is MISSING and field.default_factory is not MISSING:
            default = f"`{_short(field.default_factory())}`"
        cells = (f"`{field.name}`", _kind(field.type), default, comments.get(field.name, ""))
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return rows


def _kind(annotation: Any) -> str:
    """Return a type in a reader's words: the values of a literal, or the name without its modules."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    return re.sub(r"\b\w+\.", "", inspect.formatannotation(annotation))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{type(value).__name__}(...)"


def _comments(cls: type) -> dict[str, str]:
    """Return the comments of a class's fields: those on the line of each field."""
    if cls.__module__.partition(".")[0] != "redqubit":
        return {}
    found, name = {}, ""
    source = inspect.getsource(cls)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.start[1] == 4 and ":" in token.line:
            name = token.string
        elif token.type == tokenize.COMMENT and name and token.line.startswith(f"    {name}:"):
            found[name] = token.string.lstrip("# ")
    return found


def _members(cls: type) -> list[str]:
    """Return what a class offers beyond its family: public methods and properties that no base declares."""
    inherited = {name for base in cls.__mro__[1:] for name in vars(base)}
    offered = (FunctionType, classmethod, staticmethod, property)
    return [
        name
        for name, value in vars(cls).items()
        if isinstance(value, offered) and name not in inherited and not name.startswith("_")
    ]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
