"""The workflow of GitHub calls targets and commands that there are."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from redqubit.cli import app

ROOT = Path(__file__).parents[1]


@pytest.mark.tiny
def test_the_workflow_calls_what_there_is() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    said = "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])
    targets = set(re.findall(r"\bmake (\w+)", said))
    assert targets >= {"install", "check", "test", "docs", "vulnerabilities"}
    for name in targets | set(re.findall(r"\b([A-Z_]+)=\S", said)):
        assert re.search(rf"^{name}(:| \?=)", makefile, re.MULTILINE), name
    commands = {command.name for command in app.registered_commands}
    assert set(re.findall(r"bin/redqubit (\S+)", said)) == {"--version", "audit", "doctor"} <= commands | {"--version"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tested = workflow["jobs"]["linux"]["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {version}" for version in tested] == [
        line for line in project["classifiers"] if line.startswith("Programming Language")
    ]
