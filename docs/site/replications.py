"""A page per replication, drawn by the report's own code from the results that are kept in docs/results."""

import hashlib
import json
import lzma
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import yaml

from redqubit import report
from redqubit.experiments import EXPERIMENTS
from redqubit.result import Finding, Summary, load_summary
from redqubit.storage.files import sealed

RESULTS = Path(__file__).parents[1] / "results"
MARKS = {"holds": "✓", "fails": "✗", "unclear": "?"}
WORDS = {"holds": "✓ Holds", "fails": "✗ Fails", "unclear": "? Unclear", "info": "· Note"}


@dataclass(frozen=True)
class Kept:
    """A run whose results are in the repository."""

    folder: Path
    about: dict[str, Any]
    config: dict[str, Any]

    @property
    def label(self) -> str:
        """What the run is called in the navigation: `quid, laptop, radian`."""
        name = str(self.about["experiment"])
        return ", ".join([name, *self.folder.name.removeprefix(name).strip("-").split("-")])

    @property
    def page(self) -> str:
        """The source path of its page."""
        return f"replications/{self.folder.name}.md"

    @property
    def summary(self) -> Summary:
        """What its results say."""
        return load_summary(self.folder / "summary.json")


@cache
def kept() -> list[Kept]:
    """Return the runs in docs/results."""
    return [
        Kept(
            folder,
            json.loads((folder / "run.json").read_text(encoding="utf-8")),
            yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
        )
        for folder in sorted(path.parent for path in RESULTS.glob("*/run.json"))
    ]


def names() -> dict[str, str]:
    """Return the pages by what the navigation calls them: the kept runs, then the experiments without one."""
    runs = kept()
    without = [name for name in EXPERIMENTS if name not in {run.about["experiment"] for run in runs}]
    return {run.label: run.page for run in runs} | {name: f"replications/{name}.md" for name in without}


def listing() -> str:
    """Return the table of all replications."""
    rows = ["| paper | run | verdict |", "|---|---|---|"]
    for name in EXPERIMENTS:
        source = EXPERIMENTS[name].source
        runs = [run for run in kept() if run.about["experiment"] == name]
        for run in runs:
            found = [finding.status for finding in run.summary.findings]
            counts = ", ".join(f"{found.count(status)} {mark}" for status, mark in MARKS.items() if status in found)
            rows.append(f"| {source} | [{run.label}]({run.folder.name}.md) | {counts} |")
        if not runs:
            rows.append(f"| {source} | [{name}]({name}.md) | no run is kept yet |")
    rows += ["", "✓ holds, ✗ fails, ? unclear: sentences of the verdict, which may be the paper's or ours."]
    return "\n".join(rows)


def pages(cache_folder: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of each page, and of the whole report of each kept run."""
    done = set()
    for run in kept():
        done.add(run.about["experiment"])
        markdown, whole = _drawn(run, cache_folder)
        yield f"replications/{run.folder.name}.report.html", whole
        yield run.page, _page(run, markdown, whole)
    for name in EXPERIMENTS:
        if name not in done:
            yield f"replications/{name}.md", _without(name)


def _drawn(run: Kept, cache_folder: Path) -> tuple[str, str]:
    """Return the report of a run as Markdown and as HTML."""
    code = b"".join(path.read_bytes() for path in sorted(Path(report.__path__[0]).glob("*.*")))
    data = b"".join(path.read_bytes() for path in sorted(run.folder.iterdir()))
    place = cache_folder / f"{run.folder.name}-{hashlib.sha256(code + data).hexdigest()[:16]}"
    if not place.exists():
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            for path in run.folder.iterdir():
                if path.suffix == ".xz":
                    rows = lzma.decompress(path.read_bytes()).decode().splitlines()  # kept without their checksums
                    (work / path.stem).write_text("".join(f"{sealed(row)}\n" for row in rows), encoding="utf-8")
                else:
                    shutil.copy(path, work)
            report.build(work)
            place.mkdir(parents=True)
            for file in ("report.md", "report.html"):
                shutil.copy(work / file, place)
    return tuple((place / file).read_text(encoding="utf-8") for file in ("report.md", "report.html"))  # type: ignore[return-value]


def _page(run: Kept, markdown: str, whole: str) -> str:
    """Return the report as a page: what it is, verdict, tables, and figures with their numbers folded."""
    figures = _figures(whole)
    markdown = markdown.replace("\\<", "&lt;")  # an escape that CommonMark knows and this Markdown does not
    head, *sections = re.split(r"^(?=## )", markdown, flags=re.MULTILINE)
    title, _, rest = head.partition("\n")
    lines = [title, "", rest.strip(), "", *_provenance(run), ""]
    for section in sections:
        heading, _, body = section.partition("\n")
        name = heading.removeprefix("## ")
        if name in ("How to run it again", "Configuration", "Versions and machine"):
            lines += _folded(name, body)
        elif name == "Verdict":
            _, below, rest = body.partition("### What this does not show")
            lines += [heading, "", *_verdict(run.summary.findings), "", below + rest]
        elif name == "Trust checks":
            lines += [heading, "", *_checks(body)]
        else:
            lines += [heading, *_panels(body, figures)]
    return "\n".join(lines) + "\n"


def _provenance(run: Kept) -> list[str]:
    about = run.about
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        '!!! abstract "Where these numbers come from"',
        "    ```text",
        f"    {about['rerun']}",
        "    ```",
        "",
        f"    Code of commit {about['commit']}, {about['started'][:10]}; {versions}; {about['cpu']}.",
        f"    The results are in `docs/results/{run.folder.name}/`.",
        "",
        f"    [The whole report in one file]({run.folder.name}.report.html){{ .md-button }}",
    ]
    if changed := _changed(run):
        lines += ["", f"    The preset has changed since: {'; '.join(changed)}."]
    return lines


def _changed(run: Kept) -> list[str]:
    """Say in which fields the run's configuration is not that of its preset and command as they are today."""
    preset = run.config["preset"]
    today = json.loads(json.dumps(asdict(EXPERIMENTS[run.about["experiment"]].presets[preset])))
    asked = {text.partition("=")[0] for text in re.findall(r"--set (\S+)", run.about["rerun"])}
    return [
        f"`{key}` was {run.config.get(key)!r} and is {value!r}"
        for key, value in today.items()
        if key not in asked and run.config.get(key) != value
    ]


def _verdict(findings: Sequence[Finding]) -> list[str]:
    """Return the sentences of the verdict, the numbers behind each below it in small print."""
    lines = []
    for finding in findings:
        paper = f"The paper: {finding.reported}" if finding.reported else ""
        small = [f"<br><small>{_escaped(text)}</small>" for text in (finding.detail, paper) if text]
        lines.append(f"- **{WORDS[finding.status]}.** {_escaped(finding.text)}{''.join(small)}")
    return lines


def _escaped(text: str) -> str:
    """Keep text from acting as Markdown or HTML."""
    return escape(re.sub(r"([\\`*_\[\]|])", r"\\\1", text), quote=False)


def _figures(whole: str) -> dict[str, str]:
    """Return the plots of a report with their legends, by name, a line of HTML each."""
    found = {}
    for figure in re.findall(r"<figure.*?</figure>", whole, re.DOTALL):
        name = re.search(r"<b>(Figure \d+)\.", figure)
        plots = re.search(r'<div class="plots.*?(?=<p class="note"|<details>)', figure, re.DOTALL)
        if name and plots:
            found[name[1]] = " ".join(f'<div class="figure">{plots[0]}</div>'.split())
    return found


def _panels(body: str, figures: Mapping[str, str]) -> list[str]:
    """Return a section with its figures; the numbers of those that are drawn are folded."""
    first, *panels = re.split(r"^(?=### )", body, flags=re.MULTILINE)
    lines = [first]
    for panel in panels:
        heading, _, rest = panel.partition("\n")
        name = heading.removeprefix("### ").partition(".")[0]
        if name not in figures:
            lines += [heading, rest]
            continue
        caption, _, numbers = rest.strip().partition("\n\n")
        lines += [heading, "", caption, "", figures[name], "", *_folded(f"The numbers of {name}", numbers)]
    return lines


def _checks(body: str) -> list[str]:
    """Return the trust checks: failures and warnings in sight, all of them folded."""
    rows = body.strip().splitlines()
    head = [i for i, row in enumerate(rows) if row.startswith("| outcome")]
    if not head:
        return [body]
    table, start = rows[head[0] : head[0] + 2], head[0] + 2
    bad = [row for row in rows[start:] if row.startswith(("| fail", "| warning"))]
    shown = [*table, *bad] if bad else ["None failed."]
    return [*rows[: head[0]], *shown, "", *_folded("All checks", "\n".join(rows[head[0] :]))]


def _folded(title: str, body: str) -> list[str]:
    return [f'??? note "{title}"', "", *(f"    {line}".rstrip() for line in body.strip("\n").splitlines()), ""]


def _without(name: str) -> str:
    """Return the page of an experiment of which no run is kept."""
    experiment = EXPERIMENTS[name]
    lines = [f"# {name}", "", f"After: {experiment.source}", ""]
    lines += [
        "No run of this replication is kept in the repository yet. To make one:",
        "",
        "```bash",
        f"redqubit reproduce {name} --preset laptop",
        "```",
        "",
    ]
    lines += ["`--preset smoke` is a test of minutes. The report has the measured numbers beside the published ones."]
    if experiment.parts:
        lines += ["", f"Parts: {', '.join(experiment.parts)}."]
    return "\n".join([*lines, "", "What the paper leaves open is in [choices](../choices.md).", ""])
