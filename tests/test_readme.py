"""What README.md, CONTRIBUTING.md and docs/ show works: Python is run, commands are parsed and, where quick, run."""

import re
import shlex
import tomllib
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
import yaml
from safetensors.torch import save_file
from typer.testing import CliRunner

from redqubit.auditing import Audit
from redqubit.cli import app
from redqubit.config import assignments, resolve
from redqubit.data import NAMES, load_splits
from redqubit.experiments import EXPERIMENTS
from redqubit.models import MODELS
from redqubit.screening import Screening
from redqubit.version import __version__

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TINY = shlex.split("--seeds 0 --eps 0.1 --attacks fgsm --workers 1 --set epochs=1 --set n_train=60 --set n_test=20")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path, program: str) -> list[list[str]]:
    """Return the arguments of each call of a program in the bash blocks of a page."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines]
    return [w[1:] for w in words if w and Path(w[0]).name == program]


def parsed(arguments: list[str]) -> tuple[str, dict[str, object]]:
    """Return the name and options of a `redqubit` command, parsed as the command line does, and not run."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    with group.make_context("redqubit", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, arguments)
        assert name is not None
        assert command is not None
        with command.make_context(name, rest, parent=context) as found:
            return name, found.params


def cases(program: str, *, without: str = "") -> list[object]:
    return [
        pytest.param(arguments, id=f"{page.stem}: {' '.join(arguments)}")
        for page in PAGES
        for arguments in commands(page, program)
        if arguments[0] != without
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages speak of: my_model.py and others as shown, my.npz, my.safetensors."""
    path = tmp_path_factory.mktemp("newcomer")
    for code in chain.from_iterable(blocks(page, "python") for page in PAGES):
        if named := re.match(r"# (my_\w+\.py)\n", code):
            (path / named[1]).write_text(code, encoding="utf-8")
    code = (path / "my_model.py").read_text(encoding="utf-8")
    splits = zip(("train", "test"), load_splits("digits"), strict=True)
    np.savez(path / "my.npz", **{f"{k}_{s}": v for s, d in splits for k, v in (("x", d.x.numpy()), ("y", d.y.numpy()))})
    space: dict[str, object] = {}
    exec(code, space)  # noqa: S102
    make = space["make_model"]
    assert callable(make)
    save_file(make((1, 8, 8), 10, torch.Generator().manual_seed(0)).state_dict(), path / "my.safetensors")
    return path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for i, code in enumerate(blocks(page, "python")):
        exec(compile(code, f"{page.name}, Python block {i + 1}", "exec"), space)  # noqa: S102


@pytest.mark.tiny
@pytest.mark.parametrize("arguments", cases("redqubit"))
def test_commands_parse_and_name_what_there_is(arguments: list[str]) -> None:
    # the folder is the reader's, and refused where it is not there
    name, options = parsed([str(ROOT) if before == "--data-dir" else a for before, a in pairwise(["", *arguments])])
    changes = assignments(options.get("settings") or [])  # type: ignore[arg-type]
    if name == "audit":
        resolve(Audit(), changes)
        for option in ("model", "twin"):
            assert options[option] is None or ":" in str(options[option]) or options[option] in MODELS
        assert options["data"] in NAMES or Path(str(options["data"])).suffix == ".npz"
    if name == "screen":
        resolve(Screening(), changes)
    if name == "reproduce":
        resolve(EXPERIMENTS[str(options["name"])].presets[str(options["preset"])], changes)


@pytest.mark.parametrize("arguments", cases("redqubit", without="reproduce"))  # the presets have tests of their own
def test_quick_commands_run(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    name, options = parsed(arguments)
    if name == "report":  # shows the folder of a command above it
        audits = commands(ROOT / "README.md", "redqubit")
        audit = next(a for a in audits if {"hybrid", "iris"} <= set(a))
        assert CliRunner().invoke(app, [*audit, *TINY, "--set", "seeds=[0]"]).exit_code == 0
    if name == "defend":  # takes the run of a command above it
        audits = commands(ROOT / "README.md", "redqubit")
        (audit,) = [a for a in audits if a[0] == "audit" and str(options["run"]) in a]
        enough = shlex.split("--set n_train=100 --set n_test=120")
        assert CliRunner().invoke(app, [*audit, *TINY, *enough]).exit_code == 0
        arguments += shlex.split("--set n_defender=50 --set n_inputs=20 --set strip_overlays=20 --workers 1")
    if name == "audit":
        if options["data"] == "mnist":
            arguments = ["digits" if a == "mnist" else a for a in arguments]
        arguments = [*arguments, *TINY, "--out", "runs/" + re.sub(r"\W", "", " ".join(arguments))]
    done = CliRunner().invoke(app, arguments)
    findings = 1 if name == "lint" else 0  # the exit code that tells of findings is none of a failure
    assert done.exit_code in (0, findings), (done.output, done.exception)


@pytest.mark.tiny
@pytest.mark.parametrize("arguments", cases("make"))
def test_make_targets_exist(arguments: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in arguments:
        name, _, value = word.partition("=")
        assert re.search(rf"^{name} \?=" if value else rf"^{name}:", makefile, re.MULTILINE), word


@pytest.mark.tiny
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.tiny
def test_citation_and_changelog_know_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == __version__
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.tiny
def test_the_pins_name_every_package_that_is_declared() -> None:
    """What `make install` installs is fixed: each requirement of pyproject.toml has one exact version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert not any(re.search(r"[+@/]", line) for line in lines if not line.startswith("#"))

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~ ;]", name)[0]).lower()

    wanted = list(chain(project["dependencies"], *project["optional-dependencies"].values()))
    assert {plain(name) for name in wanted} <= {plain(name) for name in pins}
