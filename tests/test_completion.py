"""Shell completion: the names it offers are those that there are, and it loads nothing to find them."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from redqubit.cli.complete import FAMILIES, one, several

PROGRAM = """
import os, sys
from redqubit.cli import main
os.environ.update(_REDQUBIT_COMPLETE="complete_bash", COMP_WORDS=sys.argv[1], COMP_CWORD=sys.argv[2])
sys.argv = ["redqubit"]
try:
    main()
finally:
    assert not {"torch", "numpy", "scipy"} & set(sys.modules), "too much is loaded"
"""


@pytest.mark.tiny
def test_the_names_are_those_that_there_are() -> None:
    from redqubit import ATTACKS, EXPERIMENTS, MODELS, TRIGGERS
    from redqubit.auditing import SETTINGS
    from redqubit.auditing.config import EVASION_DEFENSES, POISONINGS
    from redqubit.data import NAMES
    from redqubit.defending import METHODS
    from redqubit.screening.inputs import ENCODERS
    from redqubit.tracking import TRACKERS

    assert set(ATTACKS) < set(SETTINGS)
    known = {
        "models": MODELS,
        "data": NAMES,
        "attacks": SETTINGS,
        "triggers": TRIGGERS,
        "poisons": POISONINGS,
        "evasion defenses": EVASION_DEFENSES,
        "backdoor defenses": METHODS,
        "experiments": EXPERIMENTS,
        "presets": {preset for name in EXPERIMENTS for preset in EXPERIMENTS[name].presets},
        "encoders": ENCODERS,
        "trackers": [f"{name}:" for name in TRACKERS],
    }
    assert known.keys() == FAMILIES.keys()
    for family, names in known.items():
        found = FAMILIES[family]()
        assert sorted(found) == sorted(names), family
        assert found, family


def test_a_list_goes_on_after_a_comma() -> None:
    assert one("attacks")("pgd") == ["pgd", "pgd_strong"]
    assert one("attacks")("nothing") == []
    assert several("attacks")("fgsm,p") == ["fgsm,pgd", "fgsm,pgd_strong"]
    assert several("attacks")("pgd,p") == ["pgd,pgd_strong"]  # each once


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("redqubit audit --model hybrid", ["hybrid", "hybrid_twin"]),
        ("redqubit audit --attacks fgsm,sq", ["fgsm,square"]),
        ("redqubit reproduce sim", ["sim2019"]),
    ],
)
def test_the_shell_is_answered_without_torch(line: str, offered: list[str]) -> None:
    words = [sys.executable, "-c", PROGRAM, line, str(len(line.split()) - 1)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    assert done.stdout.split() == offered


def test_bash_completes_a_line() -> None:
    bash, program = shutil.which("bash"), Path(sysconfig.get_path("scripts"), "redqubit")
    if bash is None or not program.exists():
        pytest.skip("needs bash and the installed command")
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    script = f"""
        eval "$({program} --show-completion bash)"
        COMP_WORDS=(redqubit audit --model hyb) COMP_CWORD=3
        _redqubit_completion {program}
        echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert (done.stdout.split(), done.stderr) == (["hybrid", "hybrid_twin"], "")
