"""What the command lines of all benchmarks share: what may be asked for, and where the results go."""

import json
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tables import between_markers, marked, version
from workers import Library


def positive(text: str) -> int:
    """Return a number of 1 or more, as the type of an option."""
    if (value := int(text)) < 1:
        raise ArgumentTypeError(f"must be 1 or more, but is {value}.")
    return value


def arguments(parser: ArgumentParser, marker: str, line: Sequence[str] | None = None) -> Namespace:
    """Return the options, those for the results added, or leave with one line that says what is wrong."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table between the markers of a file")
    options = parser.parse_args(line)
    if options.json and not options.json.parent.is_dir():
        parser.error(f"The folder of {options.json} must be there: make it first.")
    if options.markdown and (wrong := marked(options.markdown, marker)):
        parser.error(wrong)
    return options


def installed(parser: ArgumentParser, libraries: Iterable[Library]) -> dict[str, str | None]:
    """Return the version of every package that is needed, or leave with one line that says which are not there."""
    versions = {p: version(p) for library in libraries for p in library.packages}
    if absent := [p for p, found in versions.items() if found is None]:
        parser.error(f"All contestants are needed, but {', '.join(absent)} is not installed: run `make bench` once.")
    return versions


def publish(options: Namespace, marker: str, lines: Iterable[str], content: Any, *, right: bool = True) -> int:
    """Show the table, write it where it was asked for, and return the exit code; what is wrong gets into no page."""
    text = "\n".join(lines) + "\n"
    print(text)
    if options.json:
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.markdown and right:
        options.markdown.write_text(between_markers(options.markdown, marker, text), encoding="utf-8")
    return 0 if right else 1
