"""Runs that end badly: nothing reported is lost, and every case ends in one clear line or in the same results."""

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from crashes import (
    MEMBERS,
    N_CELLS,
    Tally,
    attempt,
    begin,
    damages,
    is_clear,
    kill_group,
    killed,
    on_small_disk,
    outcome,
    read,
    read_only,
    small,
    together,
    values,
    with_limit,
)
from redqubit import report
from redqubit.errors import UsageError
from redqubit.result import load, load_summary
from redqubit.runner import folder as folders
from redqubit.storage.arrays import load_arrays, save_arrays
from redqubit.storage.files import load_json, replacing, sealed, sweep, unsealed, write_text
from redqubit.storage.tables import load_table, save_table
from redqubit.storage.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("crash") / "whole"
    small(folder)
    return folder


@pytest.fixture(scope="module")
def expected(whole: Path) -> set[str]:
    found = values(whole)
    assert len(found) == 4 * N_CELLS
    return found


# ---- kills -----------------------------------------------------------------------------------------------------------


def test_a_run_killed_at_random_moments_ends_with_the_same_results(tmp_path: Path, expected: set[str]) -> None:
    tally = killed(small, tmp_path / "run", expected, kills=15, longest=0.4, seed=0)
    assert (tally.faults, tally.lost, tally.wrong) == (15, 0, 0)
    for folder in tmp_path.glob("run*"):
        if folder.is_dir():
            assert not list(folder.rglob("*.part"))


def test_what_a_killed_write_left_is_swept_away(tmp_path: Path) -> None:
    for name in ("artifacts/.x.npz.0123abcd.part", ".run.json.0123abcd.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "mine.part").write_bytes(b"not ours")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.part")] == ["mine.part"]


def test_what_is_being_written_is_not_swept_away(tmp_path: Path) -> None:
    with replacing(tmp_path / "report.html") as file:
        file.write(b"the report of the run before")
        sweep(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == b"the report of the run before"


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def half() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# ---- disks -----------------------------------------------------------------------------------------------------------


def told(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "told.json").read_text())
    if found["error"]:
        pytest.skip(f"this system lets nobody mount a file system: {found['error']}")
    return found


@pytest.mark.parametrize("size", [4096, 16384, 65536, 131072])
def test_a_full_disk_is_one_line_and_room_ends_the_run(size: int, tmp_path: Path, expected: set[str]) -> None:
    assert attempt(partial(on_small_disk, small, size), tmp_path / "f") == ""
    found = told(tmp_path / "f")
    assert is_clear(str(found["said"]))
    assert "No space left on device" in str(found["said"])
    assert found["rest"] == []
    assert isinstance(found["kept"], list)
    assert isinstance(found["values"], list)
    assert set(found["kept"]) <= expected
    assert set(found["values"]) == expected


@pytest.mark.parametrize("size", [0, 100, 400, 1200, 3000])
def test_a_file_that_may_not_grow_is_one_line_and_the_run_goes_on_without_the_limit(
    size: int, tmp_path: Path, expected: set[str]
) -> None:
    said = attempt(partial(with_limit, small, size), tmp_path / "run")
    assert is_clear(said)
    assert "File too large" in said or "No space left on device" in said  # the latter when a part could be written
    assert values(tmp_path / "run") <= expected
    assert attempt(small, tmp_path / "run") == ""
    assert values(tmp_path / "run") == expected


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "f" / "disk").mkdir(parents=True)
    assert attempt(partial(read_only, small), tmp_path / "f") == ""
    said = str(told(tmp_path / "f")["said"])
    assert is_clear(said)
    assert "Read-only file system" in said


# ---- company and clocks ----------------------------------------------------------------------------------------------


def test_of_runs_that_start_at_once_in_a_folder_one_works(tmp_path: Path, expected: set[str]) -> None:
    said = together(small, tmp_path / "run", 3)
    assert said.count("") >= 1
    assert all("another process runs in" in text and is_clear(text) for text in said if text)
    assert values(tmp_path / "run") == expected


def test_a_folder_is_free_as_soon_as_its_run_is_killed(tmp_path: Path, expected: set[str]) -> None:
    child = begin(small, tmp_path / "run")
    child.join(0.1)
    kill_group(child)
    small(tmp_path / "run")
    assert values(tmp_path / "run") == expected


def test_a_clock_that_goes_back_changes_no_result(
    tmp_path: Path, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        years = 10

        @classmethod
        def now(cls, tz: object = None) -> "Clock":
            cls.years -= 20
            return cls.fromtimestamp((datetime.now(UTC) + timedelta(days=365 * cls.years)).timestamp(), UTC)

    monkeypatch.setattr(folders, "datetime", Clock)
    for _ in range(3):
        small(tmp_path / "run")
    assert values(tmp_path / "run") == expected
    times = load_json(tmp_path / "run" / "run.json")
    assert max(times["resumed"]) < times["started"]
    assert all(r.seconds is not None and 0 <= r.seconds < 60 for r in load(tmp_path / "run" / "results.jsonl"))


# ---- damage ----------------------------------------------------------------------------------------------------------


def reopened(folder: Path) -> None:
    """All that reads a finished run: the run again, its report, and what its cells left."""
    small(folder)
    for i in range(N_CELLS):
        read(i, folder / "artifacts")


FILES = ["results.jsonl", "summary.json", "run.json", "config.yaml", *(f"artifacts/c0-{name}" for name in MEMBERS)]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_or_mended(name: str, whole: Path, tmp_path: Path, expected: set[str]) -> None:
    folder, numbers = tmp_path / "run", read(0, whole / "artifacts")
    content, tally = (whole / name).read_bytes(), Tally()
    for bad in damages(content, step=max(1, len(content) // 5), seed=1):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        (folder / name).write_bytes(bad)
        names = "" if name == "config.yaml" else Path(name).name
        outcome(partial(report.build, folder), names=names)
        if not isinstance(outcome(partial(reopened, folder), names=names), UsageError):
            tally.judge(folder, expected)
            assert read(0, folder / "artifacts") == numbers
    assert (tally.lost, tally.wrong) == (0, 0)


def test_the_remedy_that_a_damaged_artifact_names_works(whole: Path, tmp_path: Path, expected: set[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    path = folder / "artifacts" / f"c3-{MEMBERS[0]}"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UsageError, match=r"delete the lines of `c3` in results.jsonl and run again"):
        read(3, folder / "artifacts")
    rows = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(row for row in rows if '"cell": "c3"' not in row))
    reopened(folder)
    assert values(folder) == expected


def small_files(folder: Path) -> dict[Path, Callable[[], object]]:
    """Small files of each kind, and how what they hold is read and made comparable."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    save_weights(model, folder / "w")
    save_arrays(folder / "a", x=np.arange(5.0), y=np.arange(6, dtype=np.uint8).reshape(2, 3))
    columns = {"i": [1, 2, 3], "s": ["a", "b", "c"], "f": [0.1, 0.2, 0.3], "b": [True, False, True]}
    save_table(pa.table(columns), folder / "t")
    (folder / "j").write_text(sealed(json.dumps({"a": [1, 2.5], "b": "text"})))

    def weights() -> object:
        state = load_weights(nn.Linear(3, 2), folder / "w").state_dict()
        return {key: value.tolist() for key, value in state.items()}

    def text() -> object:
        try:
            return unsealed((folder / "j").read_bytes())
        except ValueError as error:
            raise UsageError(f"{folder / 'j'}: {error}") from None

    return {
        folder / "w": weights,
        folder / "a": lambda: {key: (str(v.dtype), v.tolist()) for key, v in load_arrays(folder / "a").items()},
        folder / "t": lambda: load_table(folder / "t").to_pydict(),
        folder / "j": text,
    }


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_no_cut_and_no_flipped_bit_yields_other_contents(step: int, tmp_path: Path, tally: Tally) -> None:
    for path, contents in small_files(tmp_path).items():
        good, content = contents(), path.read_bytes()
        for seed in range(1 if step > 1 else 3):
            for bad in damages(content, step=step, seed=seed):
                path.write_bytes(bad)
                tally.faults += 1
                found = outcome(contents)
                changed = found != good and not isinstance(found, UsageError)
                tally.wrong += changed
                assert not changed, (path.name, bad)


def test_files_come_back_as_they_went(tmp_path: Path) -> None:
    whole = pa.table({"n": [1, None], "s": ["ä", None], "e": [0.5, 1.5]})
    for table in (whole, whole.slice(1), whole.slice(0, 0), pa.concat_tables([whole, whole])):
        save_table(table, tmp_path / "t")
        assert load_table(tmp_path / "t").to_pydict() == table.to_pydict()
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, dtype=torch.float16))  # a count has no dimension
    save_weights(model, tmp_path / "w")
    again = load_weights(nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2, dtype=torch.float16)), tmp_path / "w")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    arrays = {"f": np.zeros((0, 2)), "h": np.ones(3, np.float16), "s": np.array(["a", "bc"])}
    save_arrays(tmp_path / "a", **arrays)
    assert {k: v.tolist() for k, v in load_arrays(tmp_path / "a").items()} == {k: v.tolist() for k, v in arrays.items()}


def test_files_without_a_checksum_are_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from safetensors.torch import save_file

    pq.write_table(pa.table({"x": [1]}), tmp_path / "t")
    with pytest.raises(UsageError, match="its checksum is wrong or missing"):
        load_table(tmp_path / "t")
    save_file({"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(UsageError, match="its checksum is wrong or missing"):
        load_weights(nn.Linear(1, 1), tmp_path / "w")


def test_artifacts_that_are_gone_are_named(tmp_path: Path) -> None:
    for action in (load_arrays, load_table, partial(load_weights, nn.Linear(1, 1))):
        with pytest.raises(UsageError, match=r"gone must be as the run wrote it, but it is not there") as caught:
            action(tmp_path / "gone")
        assert is_clear(str(caught.value))


@pytest.mark.parametrize("text", ["3", "[]", "null", '{"crc32": 1}', '{"rerun": 7, "resumed": 1}'])
def test_a_foreign_run_json_does_not_stop_a_run(text: str, whole: Path, tmp_path: Path, expected: set[str]) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(text)
    small(tmp_path / "run")
    assert values(tmp_path / "run") == expected
    assert load_json(tmp_path / "run" / "run.json")["started"]


def test_a_finished_run_that_is_run_again_changes_nothing(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "artifacts").iterdir()}
    small(tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run" / "artifacts").iterdir()} == before
    assert load_summary(tmp_path / "run" / "summary.json") == load_summary(whole / "summary.json")
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == (whole / "results.jsonl").read_bytes()
    assert os.listdir(tmp_path) == ["run"]
