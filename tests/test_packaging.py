"""The wheel and the sdist: what is in them, and that the package works from them alone."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from redqubit.version import __version__

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "redqubit"
NEEDED = {"py.typed", "report/template.html", "report/style.css", "cli/__init__.py", "result.py"}
AUDIT = (
    "audit --model qunn --data digits --seeds 0 --eps 0.1 --attacks fgsm --device cpu --workers 1 --quiet "
    "--set epochs=1 --set n_train=60 --set n_test=20 --set backdoors=[] --set poisons=[]"
)
# What a user writes, and what the type checker says of it when the types come along.
SNIPPET = """
from redqubit import PGD, Dataset, Result, load

data: Dataset = load("digits")
attack = PGD(0.1, steps=10)
reveal_type(attack.step)
reveal_type(Result("audit", "cell", "accuracy", 0.5).low)
PGD(0.1, stepz=10)
load(3)
"""
MYPY = """
[mypy]
strict = true
[mypy-torch.*,numpy.*,scipy.*,sklearn.*,pyarrow.*,pydantic.*,numba.*,pymoo.*,captum.*,matplotlib.*,torchmetrics.*]
follow_imports = skip
[mypy-PIL.*,pooch.*,jinja2.*,yaml.*,safetensors.*,pennylane.*,qiskit.*,ray.*,rich.*,typer.*]
follow_imports = skip
"""


def ran(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = {**clean, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    if find_spec("build") is None or find_spec("hatchling") is None:
        pytest.skip("needs build and hatchling, which `make install` installs")
    out = tmp_path_factory.mktemp("dist")
    done = ran(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, folder=out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in out.iterdir()} == {
        f"redqubit-{__version__}.tar.gz",
        f"redqubit-{__version__}-py3-none-any.whl",
    }
    return out


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel alone, and sees the dependencies of this one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", Path(paths["scripts"], "python")]
    done = ran(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=home)
    assert done.returncode == 0, done.stderr
    # as a line of a .pth file, the folder's own .pth files, such as that of an editable redqubit, are not read
    lines = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(paths["purelib"], "dependencies.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(paths["scripts"])


def test_the_archives_hold_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    ours = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours >= NEEDED
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"redqubit-{__version__}.dist-info/METADATA").decode()
    info = {name for name in names if name.startswith(f"redqubit-{__version__}.dist-info/")}
    assert names - info == {f"redqubit/{name}" for name in ours}
    assert any(name.endswith("licenses/LICENSE") for name in info)
    for extra in ("mlflow", "tensorboard", "pennylane", "qiskit"):
        assert f"Provides-Extra: {extra}\n" in metadata
    with tarfile.open(sdist) as archive:
        files = {Path(name).parts[1:] for name in archive.getnames()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = {name.strip("/") for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    assert {part[0] for part in files if part} - included == {"PKG-INFO", "pyproject.toml", ".gitignore"}
    assert ("tests", "data") not in {part[:2] for part in files}
    assert {"/".join(part[2:]) for part in files if part[:2] == ("src", "redqubit")} >= ours
    assert not [part for part in files if "__pycache__" in part]


def test_the_wheel_runs_by_itself(installed: Path, tmp_path: Path) -> None:
    where = ran(installed / "python", "-c", "import redqubit; print(redqubit.__file__)", folder=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent), where
    assert ran(installed / "redqubit", "--version", folder=tmp_path).stdout == f"redqubit {__version__}\n"
    done = ran(installed / "redqubit", *AUDIT.split(), "--out", "run", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout == f"Report: {tmp_path / 'run' / 'report.html'}\n"
    assert "qunn" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_types_come_with_the_wheel(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(MYPY, encoding="utf-8")
    done = ran(
        *(sys.executable, "-m", "mypy", "--python-executable", installed / "python"),
        *("--config-file", "mypy.ini", "--no-incremental", "snippet.py"),
        folder=tmp_path,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("snippet.py")]
    assert [line.partition(": ")[2].replace("builtins.", "") for line in said] == [
        'note: Revealed type is "float"',
        'note: Revealed type is "float | None"',
        'error: Unexpected keyword argument "stepz" for "PGD"; did you mean "steps"?  [call-arg]',
        'error: Argument 1 to "load" has incompatible type "int"; expected "str"  [arg-type]',
    ], done.stdout
