"""Docstrings are plain text; this lets Markdown show them as they read."""

import re
from html import escape
from typing import Any

import griffe

# What Markdown would take as markup in a formula: x_{t+1}, a * b, |x|, [0, 1). It knows no escape for < and >.
SIGNS = re.compile(r"([\\*_|\[\]`])")


class PlainDocstrings(griffe.Extension):
    """Escape formulas, fence doctests, and set references apart."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of an object that was read."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring as Markdown, with the section titles that the parser knows."""
    parts = []
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("Reference:"):
            words = " ".join(paragraph.removeprefix("Reference:").split())
            parts.append("**Reference.** " + _escaped(words).replace("Differs:", "\n\n**Differs:**"))
        elif ">>>" in paragraph:
            parts.append(re.sub(r"^Example:", "Examples: Example", paragraph))
        elif re.match(r"(Args|Returns|Raises|Attributes):\n", paragraph):
            head, *rest = paragraph.split("\n")
            parts.append("\n".join([head, *map(_escaped_entry, rest)]))
        elif all(line.startswith("    ") for line in paragraph.splitlines()):
            parts.append(paragraph)  # indented: code to Markdown as well
        else:
            parts.append(_escaped(paragraph))
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Escape all but what stands in backticks."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else escape(SIGNS.sub(r"\\\1", p), quote=False) for p in pieces)


def _escaped_entry(line: str) -> str:
    """Escape the description of an entry, not its name."""
    name, colon, rest = line.partition(": ")
    plain = re.fullmatch(r" {4}[\w*]+", name)
    return f"{name}{colon}{_escaped(rest)}" if colon and plain else _escaped(line)
