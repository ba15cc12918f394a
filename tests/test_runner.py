"""A run that is killed, interrupted or broken off goes on where it stopped and ends in the same results."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

import redqubit
from redqubit.errors import UsageError
from redqubit.result import Result, append, load
from redqubit.runner import Cell, RunFolder, open_run, run_cells

CONFIG = {"eps": [0.1, 0.2], "model": "qnn"}


def measure(name: str, seed: int, pause: float = 0.0) -> list[Result]:
    """A small but real computation with two results."""
    time.sleep(pause)
    x = torch.rand(64, generator=torch.Generator().manual_seed(seed))
    return [Result("test", name, m, float(v), seed=seed) for m, v in [("mean", x.mean()), ("max", x.max())]]


def threads(name: str) -> list[Result]:
    return [Result("test", name, "threads", torch.get_num_threads(), {"pid": os.getpid()})]


def broken(name: str, error: Exception) -> list[Result]:
    raise error


def dying(name: str) -> list[Result]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def make_cells(n: int = 4, pause: float = 0.0) -> list[Cell]:
    return [Cell(f"c{i}", partial(measure, f"c{i}", i, pause)) for i in range(n)]


def timeless(results: list[Result]) -> list[Result]:
    return [replace(r, seconds=None) for r in results]


def start(folder: Path, config: dict[str, object] | None = None) -> RunFolder:
    return open_run(folder, experiment="test", config=CONFIG if config is None else config)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    with start(tmp_path / "run") as folder:
        yield folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """The results of a run that nothing disturbed."""
    with start(tmp_path_factory.mktemp("whole") / "run") as folder:
        return timeless(run_cells(make_cells(), folder))


def test_results_are_measured_completed_and_stored(run: RunFolder, expected: list[Result]) -> None:
    results = run_cells(make_cells(), run)
    assert [r.cell for r in results] == ["c0", "c0", "c1", "c1", "c2", "c2", "c3", "c3"]
    assert results == load(run.results)
    assert all(r.seconds is not None and 0 < r.seconds < 10 and r.version == redqubit.__version__ for r in results)
    x = torch.rand(64, generator=torch.Generator().manual_seed(3))
    assert results[6].value == float(x.mean())
    assert timeless(results) == expected


def test_a_cell_may_state_its_own_seconds(run: RunFolder) -> None:
    own = Result("test", "c", "m", 1.0, seconds=5.0, version="other")
    assert run_cells([Cell("c", lambda: [own])], run) == [own]


def test_what_is_stored_is_not_run_again(run: RunFolder) -> None:
    first = run_cells(make_cells(2), run)
    steps = list[tuple[int, int, str, bool]]()
    cells = [Cell(c.name, partial(broken, c.name, RuntimeError())) for c in make_cells(2)] + make_cells(4)[2:]
    results = run_cells(cells[::-1], run, progress=lambda *a: steps.append((*a[:3], a[3] is None)))
    assert results[4:] == [*first[2:], *first[:2]]
    assert [r.cell for r in load(run.results)] == ["c0", "c0", "c1", "c1", "c3", "c3", "c2", "c2"]
    assert steps == [(2, 4, "", True), (3, 4, "c3", False), (4, 4, "c2", False)]


def test_the_time_left_is_the_mean_so_far_times_what_remains(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 104.0, 106.0, 110.0])
    monkeypatch.setattr("redqubit.runner.running.time", SimpleNamespace(monotonic=lambda: next(clock)))
    calls = list[tuple[int, float | None]]()
    run_cells(make_cells(4), run, progress=lambda done, total, name, left: calls.append((done, left)))
    assert calls == [(0, None), (1, 3.0), (2, 4.0), (3, 2.0), (4, 0.0)]


def test_workers_find_the_same_results_and_share_the_threads(run: RunFolder, expected: list[Result]) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        slow_first = [Cell("c0", partial(measure, "c0", 0, 0.3)), *make_cells()[1:]]
        extra = [Cell(f"t{i}", partial(threads, f"t{i}")) for i in range(2)]
        results = run_cells([*slow_first, *extra], run, workers=2)
    finally:
        torch.set_num_threads(before)
    assert timeless(results[:8]) == expected
    assert {r.value for r in results[8:]} == {2.0}
    assert os.getpid() not in {r.config["pid"] for r in results[8:]}
    assert sorted(r.cell for r in load(run.results)) == sorted(r.cell for r in results)


def test_a_cell_waits_for_those_that_it_needs(run: RunFolder) -> None:
    slow, quick, last = Cell("c0", partial(measure, "c0", 0, 0.5)), make_cells(2)[1], make_cells(3)[2]
    cells = [slow, replace(last, needs=("c0",)), quick]
    run_cells(cells, run, workers=2)
    assert [r.cell for r in load(run.results)] == ["c1", "c1", "c0", "c0", "c2", "c2"]
    assert run_cells([*cells, Cell("c3", partial(measure, "c3", 3), needs=("c0",))], run, workers=2)[-1].cell == "c3"
    for needs in ("c1", "c2", "no"):
        with pytest.raises(ValueError, match=f"c2 needs {needs}, which must stand before it"):
            run_cells([slow, replace(last, needs=(needs,)), quick], run)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_cell_names_it_and_keeps_the_others(workers: int, run: RunFolder) -> None:
    bad = Cell("bad", partial(broken, "bad", ZeroDivisionError("oh")))
    with pytest.raises(ZeroDivisionError) as caught:
        run_cells([*make_cells(2), bad, *make_cells(4, pause=0.3)[2:]], run, workers=workers)
    assert "cell `bad`" in caught.value.__notes__[0]
    assert {"c0", "c1"} <= {r.cell for r in load(run.results)} or workers == 2
    usage = Cell("usage", partial(broken, "usage", UsageError("Argument `eps` must be positive, but is -1: mend it")))
    with pytest.raises(UsageError, match=r"^Cell `usage`: Argument `eps` must be positive, but is -1: mend it$"):
        run_cells([usage], run, workers=workers)
    assert len(run_cells(make_cells(4), run)) == 8


def test_a_worker_that_dies_is_a_plain_error(run: RunFolder) -> None:
    with pytest.raises(UsageError, match="one died in d: use fewer workers"):
        run_cells([Cell("d", partial(dying, "d"))], run, workers=2)


def test_an_error_in_progress_ends_the_workers_at_once(run: RunFolder) -> None:
    def stop(done: int, total: int, name: str, left: float | None) -> None:
        if done:
            raise KeyboardInterrupt

    began = time.monotonic()
    slow = Cell("slow", partial(measure, "slow", 9, 60.0))
    with pytest.raises(KeyboardInterrupt):
        run_cells([slow, *make_cells(1)], run, workers=2, progress=stop)
    assert time.monotonic() - began < 30
    assert {r.cell for r in load(run.results)} == {"c0"}


@pytest.mark.parametrize("wrong", [[], [Result("test", "other", "m", 1.0)]])
def test_a_cell_that_returns_nothing_or_another_cells_results_is_a_fault(wrong: list[Result], run: RunFolder) -> None:
    with pytest.raises(ValueError, match="carry its name"):
        run_cells([Cell("c", lambda: wrong)], run)


def test_arguments_are_checked(run: RunFolder) -> None:
    with pytest.raises(UsageError, match="`c0` is there twice"):
        run_cells([*make_cells(1), *make_cells(1)], run)
    with pytest.raises(UsageError, match="`workers` must be at least 1, but is 0"):
        run_cells(make_cells(1), run, workers=0)
    assert run_cells([], run) == []


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_runner
from redqubit.runner import run_cells

if __name__ == "__main__":
    with test_runner.start(Path(sys.argv[1])) as folder:
        cells = test_runner.make_cells(3) + test_runner.make_cells(4, pause=60)[3:]
        run_cells(cells, folder, workers=int(sys.argv[2]))
"""


def launch(folder: Path, workers: int) -> subprocess.Popen[str]:
    script = folder.with_name("main.py")
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, str(script), str(folder), str(workers)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_a_cell(process: subprocess.Popen[str], folder: Path) -> None:
    results = folder / "results.jsonl"
    deadline = time.monotonic() + 60
    while not (results.exists() and results.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group_is_gone(group: int) -> bool:
    """Whether every process that the run started has ended, within a few seconds."""
    for _ in range(250):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_is_stopped_goes_on_to_the_same_results(
    stop: signal.Signals, workers: int, tmp_path: Path, expected: list[Result]
) -> None:
    folder = tmp_path / "run"
    with launch(folder, workers) as process:
        wait_for_a_cell(process, folder)
        with pytest.raises(UsageError, match="another process runs in"):
            start(folder)
        process.send_signal(stop)
        errors = process.communicate(timeout=20)[1]
    assert process.returncode == -stop
    assert ("KeyboardInterrupt" in errors) == (stop == signal.SIGINT)
    assert group_is_gone(process.pid)
    kept = {r.cell for r in load(folder / "results.jsonl")}
    assert 1 <= len(kept) < 4
    with start(folder) as again:
        results = run_cells(make_cells(), again)
        assert timeless(results) == expected
        assert len(load(again.results)) == len(expected)
    assert len(json.loads((folder / "run.json").read_text())["resumed"]) == 1


def test_a_tail_torn_at_any_byte_is_run_again(tmp_path: Path, expected: list[Result]) -> None:
    folder = tmp_path / "run"
    with start(folder) as run:
        run_cells(make_cells(3), run)
        before = run.results.stat().st_size
        append(run.results, expected[6:])
    content = (folder / "results.jsonl").read_bytes()
    for cut in range(before, len(content), 23):
        (folder / "results.jsonl").write_bytes(content[:cut])
        with start(folder) as run:
            assert timeless(run_cells(make_cells(), run)) == expected


def test_a_full_disk_is_one_line_and_keeps_what_is_written(run: RunFolder, expected: list[Result]) -> None:
    run_cells(make_cells(2), run)
    whole = run.results.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, limits[1]))  # room for a part of a cell
    try:
        with pytest.raises(UsageError, match="No space left on device") as caught:
            run_cells(make_cells(), run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert run.results.read_bytes() == whole
    assert timeless(run_cells(make_cells(), run)) == expected


def test_the_folder_says_what_was_run_and_where(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    open_run(path, experiment="audit", config=CONFIG, rerun="redqubit audit").close()
    text = (path / "config.yaml").read_text()
    assert yaml.safe_load(text) == CONFIG
    about = json.loads((path / "run.json").read_text())
    assert f"# sha256: {about['config_sha256']}\n" in text
    assert len(about["config_sha256"]) == 64
    assert about["experiment"] == "audit"
    assert about["rerun"] == "redqubit audit"
    assert about["device"] == "cpu"
    assert about["versions"]["torch"] == torch.__version__
    assert about["versions"]["redqubit"] == redqubit.__version__
    assert about["resumed"] == []
    assert sorted(p.name for p in path.iterdir()) == ["artifacts", "config.yaml", "run.json", "run.lock"]
    open_run(path, experiment="audit", config=dict(reversed(CONFIG.items()))).close()  # order is not meaning
    again = json.loads((path / "run.json").read_text())
    assert again["started"] == about["started"]
    assert len(again["resumed"]) == 1


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    start(tmp_path).close()
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"\(other eps, steps\): choose another --out, or delete"):
        start(tmp_path, {"eps": [0.1], "model": "qnn", "steps": 3})
    with pytest.raises(UsageError, match="of another experiment"):
        open_run(tmp_path, experiment="other", config=CONFIG)
    with pytest.raises(UsageError, match="holds this run already: resume it"):
        open_run(tmp_path, experiment="test", config=CONFIG, resume=False)
    assert (tmp_path / "config.yaml").read_bytes() == before
    start(tmp_path).close()  # the refused ones have let go of the lock


@pytest.mark.parametrize("damage", ["eps: [", "- a", ""])
def test_a_damaged_config_is_another_run(damage: str, tmp_path: Path) -> None:
    start(tmp_path).close()
    (tmp_path / "config.yaml").write_text(damage)
    with pytest.raises(UsageError, match="choose another --out"):
        start(tmp_path)


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"holds thesis.tex: choose another --out"):
        start(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_or_a_place_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    # Permissions do not bind root, but nobody can make a folder in /proc.
    for place in (tmp_path / "file", (Path("/proc") if os.geteuid() == 0 else closed) / "run"):
        with pytest.raises(UsageError, match="must be writable, but"):
            start(place)


def test_a_config_that_is_not_plain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must hold plain values") as caught:
        start(tmp_path / "run", {"eps": object()})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
