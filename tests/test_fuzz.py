"""The corpus of the fuzzers once more: its files, and each with some bytes changed."""

import random
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent / "fuzz"
sys.path.append(str(HERE))

from targets import TARGETS, feed  # noqa: E402

CORPUS = {name: sorted((HERE / "corpus" / name).iterdir()) for name in TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_is_read_or_refused(name: str, tmp_path: Path) -> None:
    assert CORPUS[name]
    for i, path in enumerate(CORPUS[name]):
        folder = tmp_path / str(i)
        folder.mkdir()
        feed(name, path.read_bytes(), folder)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_changed_bytes_are_read_or_refused(name: str, tmp_path: Path, seed: int, n: int) -> None:
    chance = random.Random(seed)
    data = bytearray(chance.choice(CORPUS[name]).read_bytes())
    for _ in range(n):
        at = chance.randrange(len(data) + 1)
        change = chance.randrange(4)
        if change == 0:
            del data[at : at + chance.randrange(1, 40)]
        elif change == 1:
            data[at:at] = bytes(data[at : at + chance.randrange(1, 40)])
        else:
            data[at : at + 1] = bytes([chance.randrange(256)])
    folder = tmp_path / "work"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    feed(name, bytes(data), folder)
