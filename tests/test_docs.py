"""The site of docs/: its pages are there, cover what is registered, lead somewhere, and its notebooks run.

`make docs` builds the site itself, with strict links.
"""

import json
import lzma
import posixpath
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
import yaml
from typer.testing import CliRunner

from redqubit.cli import app
from redqubit.experiments import EXPERIMENTS
from redqubit.storage.files import save_json, sealed
from test_readme import parsed

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "site"))
import keep_run  # noqa: E402
import methods  # noqa: E402
import replications  # noqa: E402

MOST = 3_000_000  # bytes of kept results
LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


REPORT = """# Title

Subtitle

## Verdict

- old

### What this does not show

- much

## Numbers

### Table 1. A table

| a |
| --- |
| 1 |

### Figure 1. A figure

Its caption

| b |
| --- |
| 2 |

## Trust checks

1 fail, 1 ok.

| outcome | check |
| --- | --- |
| fail | bad |
| ok | good |

## Configuration

    seed: 0
"""


DRAWN = """<figure>
<figcaption><b>Figure 1. A figure.</b> Its caption</figcaption>
<div class="plots"><svg
class="plot"></svg></div>
<details>numbers</details></figure>
<figure><figcaption><b>Table 1. A table.</b></figcaption></figure>"""


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """All pages of the site by path: those in docs/, and those that are made of the code and of kept runs."""
    written = [path for path in DOCS.rglob("*.md") if "results" not in path.parts]
    found = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in written}
    found |= dict(methods.pages(lambda name: ""))
    found["methods/index.md"] += methods.listing()
    found["replications/index.md"] += replications.listing()
    found |= {run.page: replications._page(run, REPORT, DRAWN) for run in replications.kept()}
    found |= {path: replications._without(name) for name, path in replications.names().items() if path not in found}
    return found


def targets(node: object) -> Iterator[str]:
    """Yield the pages of a navigation."""
    if isinstance(node, str):
        yield node
    for item in node if isinstance(node, list) else node.values() if isinstance(node, dict) else ():
        yield from targets(item)


@pytest.mark.tiny
def test_the_navigation_names_what_there_is_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = list(targets(config["nav"]))
    generated = {"methods/", "replications/"}
    notebooks = {f"notebooks/{path.stem}.md" for path in NOTEBOOKS}
    written = {path.name for path in DOCS.glob("*.md")}  # those without a place of their own go under "More"
    assert len(named) == len(set(named))
    assert notebooks | generated <= set(named) <= written | notebooks | generated
    assert "://" not in json.dumps({key: config[key] for key in ("theme", "extra", "extra_css")})  # no CDN


def test_every_registered_method_has_a_page(pages: dict[str, str]) -> None:
    known = json.loads(CliRunner().invoke(app, ["list", "--json"]).output)
    names = {name for family in ("attacks", "triggers", "poisons", "defenses") for name in known[family]}
    assert set(methods.names()) == names - {"pgd_strong"}  # a setting of PGD, on its page
    for name, path in methods.names().items():
        assert f"({Path(path).name})" in pages["methods/index.md"], name
    assert "redqubit.evasion.pgd.PGD.strong" in pages["methods/pgd.md"]


def test_a_page_shows_fields_with_their_comments(pages: dict[str, str]) -> None:
    assert "| `rel_step` | float | `2.5` | step size times steps, in units of eps |" in pages["methods/pgd.md"]
    assert "| `eps` | float | `0.1` | radius of the L-infinity ball, in data space |" in pages["methods/pgd.md"]
    assert "| `ratio` | float | required |" in pages["methods/quid.md"]
    for name, path in methods.names().items():
        text = pages[path]
        table = text.partition("## Settings")[2].partition("\n## ")[0]
        assert all(row.count("|") - row.count("\\|") == 5 for row in table.strip().splitlines()), name


def test_what_a_page_says_of_use_is_true(pages: dict[str, str]) -> None:
    for path in methods.names().values():
        for block in re.findall(r"```python\n(.*?)```", pages[path], re.DOTALL):
            importing, call = block.strip().split("\n\n")
            exec(importing)  # noqa: S102
            compile(call, path, "eval")
        for block in re.findall(r"```bash\n(.*?)```", pages[path], re.DOTALL):
            parsed(shlex.split(block)[1:])


def test_links_lead_to_pages(pages: dict[str, str]) -> None:
    paths = set(pages) | {run.page.replace(".md", ".report.html") for run in replications.kept()}
    for page, text in pages.items():
        plain = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for link in LINK.findall(plain):
            target, _, anchor = link.partition("#")
            if "://" in target or not target:
                continue
            where = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
            assert where in paths or (DOCS / where).exists(), f"{page}: {link}"
            if anchor and where == "methods/index.md":
                assert f'id="{anchor}"' in pages[where] or methods._anchor(anchor) == anchor, f"{page}: {link}"


def test_kept_runs_are_whole_small_and_of_no_machine(pages: dict[str, str]) -> None:
    files = [path for path in (DOCS / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST
    for run in replications.kept():
        assert run.about["experiment"] in EXPERIMENTS
        assert set(run.about) >= {"rerun", "commit", "started", "versions"}
        for path in run.folder.iterdir():
            data = path.read_bytes()
            text = (lzma.decompress(data) if path.suffix == ".xz" else data).decode()
            assert not keep_run.MACHINE.search(text), path


def test_a_replication_shows_its_command_verdict_and_tables(pages: dict[str, str]) -> None:
    assert replications.kept()
    for run in replications.kept():
        page = pages[run.page]
        assert f"    {run.about['rerun']}\n" in page
        assert f"commit {run.about['commit']}" in page
        assert page.count("- **") == len(run.summary.findings)
        assert "- old" not in page
        assert "### What this does not show\n\n- much" in page
        assert "### Table 1. A table\n\n| a |" in page
        assert '<div class="figure"><div class="plots"><svg class="plot"></svg></div> </div>\n' in page
        assert '??? note "The numbers of Figure 1"\n\n    | b |' in page
        seen, folded = page.partition("## Trust checks")[2].split('??? note "All checks"')
        assert "| fail | bad |" in seen
        assert "good" not in seen
        assert "good" in folded


def test_a_kept_run_is_drawn_as_its_report(tmp_path: Path) -> None:
    run = next(run for run in replications.kept() if run.folder.name == "sim2019-laptop")
    markdown, whole = replications._drawn(run, tmp_path)
    assert run.summary.title in markdown
    assert whole.count("<svg") >= 3


def test_a_run_is_kept_without_paths(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    rerun = "redqubit reproduce robqunn --out /tmp/x/run"
    about = {"experiment": "robqunn", "rerun": rerun, "platform": "Linux-6.1-x86_64-with"}
    save_json(run / "run.json", about)
    save_json(run / "summary.json", {"title": "t", "panels": [{"kind": "images"}, {"kind": "facts"}]})
    (run / "config.yaml").write_text("preset: smoke\n")
    (run / "results.jsonl").write_text(sealed('{"a": 1}') + "\n" + sealed('{"a": 2}') + "\n")
    folder = keep_run.keep(run, "kept", "1a2b3c4", tmp_path / "results")
    kept = json.loads((folder / "run.json").read_text())
    assert kept["rerun"] == "redqubit reproduce robqunn --out runs/kept"
    assert (kept["platform"], kept["commit"]) == ("Linux x86_64", "1a2b3c4")
    assert lzma.decompress((folder / "results.jsonl.xz").read_bytes()) == b'{"a": 1}\n{"a": 2}\n'
    assert [panel["kind"] for panel in json.loads((folder / "summary.json").read_text())["panels"]] == ["facts"]
    (run / "config.yaml").write_text("data_dir: /home/someone/data\n")
    with pytest.raises(ValueError, match="/home/someone"):
        keep_run.keep(run, "kept", "1a2b3c4", tmp_path / "results")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code), "commit notebooks without outputs"
    space: dict[str, object] = {}
    with mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(code):
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), space)  # noqa: S102
    assert capsys.readouterr().out
