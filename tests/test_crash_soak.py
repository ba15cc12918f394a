"""The soak of crash safety: many faults in real runs. `pytest -m soak` runs it and counts them."""

import random
import shutil
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import pytest

from crashes import (
    Job,
    Tally,
    attempt,
    damages,
    is_clear,
    killed,
    on_small_disk,
    small,
    small_audit,
    small_experiment,
    together,
    values,
    with_limit,
)
from test_crash import told

pytestmark = pytest.mark.soak

JOBS: dict[str, Callable[..., None]] = {"audit": small_audit, "experiment": small_experiment}


@cache
def undisturbed(name: str, workers: int) -> tuple[Path, set[str], float]:
    """A run that nothing disturbed, what it reports, and how many seconds it took."""
    folder = Path(mkdtemp()) / name
    start = time.monotonic()
    assert attempt(partial(JOBS[name], workers=workers), folder) == ""
    return folder, values(folder), time.monotonic() - start


@pytest.mark.parametrize(
    ("name", "workers", "worker", "kills"),
    [
        ("audit", 1, False, 15),
        ("audit", 2, False, 10),
        ("audit", 2, True, 5),
        ("experiment", 2, False, 10),
        ("experiment", 2, True, 5),
        ("experiment", 1, False, 15),
    ],
)
def test_kills(name: str, workers: int, worker: bool, kills: int, tmp_path: Path, tally: Tally) -> None:
    _, expected, seconds = undisturbed(name, workers)
    job: Job = partial(JOBS[name], workers=workers)
    found = killed(job, tmp_path / "run", expected, kills=kills, longest=0.9 * seconds, seed=7, worker=worker)
    tally.add(found)
    assert (found.lost, found.wrong) == (0, 0)
    assert all("one died in" in said for said in found.said)


@pytest.mark.parametrize("name", list(JOBS))
def test_full_disks(name: str, tmp_path: Path, tally: Tally) -> None:
    whole, expected, _ = undisturbed(name, 1)
    total = sum(path.stat().st_size for path in whole.rglob("*"))
    for i, share in enumerate((0.1, 0.4, 0.7, 0.9)):
        folder = tmp_path / str(i)
        assert attempt(partial(on_small_disk, JOBS[name], round(share * total)), folder) == ""
        found = told(folder)
        tally.faults += 1
        assert is_clear(str(found["said"]))
        tally.lost += len(expected - set(found["values"]))  # type: ignore[call-overload]
        tally.wrong += len(set(found["values"]) - expected)  # type: ignore[call-overload]
    assert (tally.lost, tally.wrong) == (0, 0)


@pytest.mark.parametrize("name", list(JOBS))
def test_files_that_may_not_grow(name: str, tmp_path: Path, tally: Tally) -> None:
    whole, expected, _ = undisturbed(name, 1)
    sizes = sorted({path.stat().st_size for path in whole.rglob("*") if path.is_file()})
    for i, size in enumerate(random.Random(3).sample(sizes[1:-1], min(5, len(sizes) - 2))):
        folder = tmp_path / str(i)
        said = attempt(partial(with_limit, JOBS[name], size), folder)
        tally.faults += 1
        assert is_clear(said)
        assert attempt(JOBS[name], folder) == ""
        tally.judge(folder, expected)
    assert (tally.lost, tally.wrong) == (0, 0)


def test_races(tmp_path: Path, tally: Tally) -> None:
    small(tmp_path / "whole")
    expected = values(tmp_path / "whole")
    for i in range(10):
        said = together(small, tmp_path / str(i), 4)
        tally.faults += 1
        assert all(is_clear(text) for text in said if text)
        tally.judge(tmp_path / str(i), expected)
    assert (tally.lost, tally.wrong) == (0, 0)


@pytest.mark.parametrize("name", list(JOBS))
def test_damaged_files(name: str, tmp_path: Path, tally: Tally) -> None:
    whole, expected, _ = undisturbed(name, 1)
    draws = random.Random(5)
    for path in sorted(path for path in whole.rglob("*") if path.is_file() and not path.name.startswith("report")):
        content = path.read_bytes()
        bad = damages(content, step=max(1, len(content) // 40), seed=5)
        for changed in draws.sample(bad, min(2, len(bad))):
            folder = tmp_path / "run"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            (folder / path.relative_to(whole)).write_bytes(changed)
            said = attempt(JOBS[name], folder)
            tally.faults += 1
            if said:
                assert is_clear(said), said
            else:
                tally.judge(folder, expected)
                assert (tally.lost, tally.wrong) == (0, 0), path
