"""The examples run, each by itself, and what they show about other libraries is so."""

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
COMPARED = re.compile(
    r"^(\w+) +(\w+) +right: ([\d.]+) ours, ([\d.]+) theirs; ([\d.]+)% of the pixels equal$", re.MULTILINE
)
ROWS = {"with_torchattacks": 6, "with_foolbox": 4, "with_art": 4}


def missing(script: Path) -> list[str]:
    """Return what an example imports and is not installed."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return sorted(name for name in {n.partition(".")[0] for n in names} if find_spec(name) is None)


def shown(script: Path, folder: Path) -> str:
    """Run an example in a folder and return what it prints."""
    if lacking := missing(script):
        pytest.skip(f"{script.name} needs {', '.join(lacking)}, which is not installed: its first lines say how")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # tests run beside each other
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=folder, env=one_thread, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    said = shown(script, tmp_path)
    assert said
    if script.stem in ROWS:  # the same attack in both libraries, on a quantum and a classical network
        rows = COMPARED.findall(said)
        assert len(rows) == ROWS[script.stem], said
        assert {row[0] for row in rows} == {"quantum", "classical"}
        for _, _, ours, theirs, equal in rows:
            assert abs(float(ours) - float(theirs)) < 0.04, said  # 2 of 60 samples: rounding turns single pixels
            assert float(equal) > 99, said
    if script.stem == "robustbench_style":
        shares = [
            (float(clean), float(robust)) for clean, robust in re.findall(r"clean ([\d.]+), robust ([\d.]+)", said)
        ]
        assert len(shares) == 4
        assert all(robust < clean and clean > 0.5 for clean, robust in shares), said
    if script.stem == "samples_in_sql":
        in_pandas, in_sql, _ = (
            [line.split() for line in part.splitlines() if line.strip().startswith("hybrid")]
            for part in re.split("in SQL:|samples that", said)
        )
        assert len(in_pandas) == 2 * (1 + 2 * 2)  # models; clean, and two attacks at two eps
        assert in_pandas == in_sql, said


def test_what_an_example_needs_is_seen(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text("import no_such_library.part\nfrom torch import nn\n", encoding="utf-8")
    assert missing(tmp_path / "example.py") == ["no_such_library"]
