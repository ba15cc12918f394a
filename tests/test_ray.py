"""Cells and searches on a real Ray cluster of several nodes: the same results, whatever dies."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from redqubit.cli.options import placed
from redqubit.errors import UsageError
from redqubit.experiments import reproduce
from redqubit.result import Result, load
from redqubit.runner import Cell, Cluster, RunFolder, connected, open_run, run_cells
from redqubit.runner.cluster import _Place, _there
from redqubit.search import NSGA2, Vector
from redqubit.version import __version__

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'redqubit[ray]'")
HERE = str(Path(__file__).parent)
LOCAL_STORE = 80 * 2**20  # bytes of a node's object store: little, as a container's /dev/shm may be


def measure(name: str, seed: int, log: Path, gate: Path | None = None) -> list[Result]:
    """A small but real computation, which notes where it began and may wait for a file."""
    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
    with log.open("a") as file:
        file.write(f"{name} {node} {os.getpid()}\n")
    while gate is not None and not gate.exists():
        time.sleep(0.02)
    x = torch.rand(64, generator=torch.Generator().manual_seed(seed))
    result = Result("test", name, "mean", float(x.mean()), {"threads": torch.get_num_threads()}, seed=seed)
    return [result, replace(result, metric="norm", value=float(torch.linalg.norm(x)))]


def make_cells(log: Path, gate: Path | None = None) -> list[Cell]:
    """Two cells, three that wait for the gate, and one that waits for two of those."""
    cells = [Cell(f"c{i}", partial(measure, f"c{i}", i, log, gate if i > 1 else None)) for i in range(6)]
    return [*cells[:5], replace(cells[5], needs=("c0", "c2", "c3"))]


def broken(error: Exception) -> list[Result]:
    raise error


def dying(log: Path) -> list[Result]:
    with log.open("a") as file:
        file.write("d\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def evaluate(v: Vector) -> Vector:
    x = torch.tensor(v, dtype=torch.float64)
    return (float(x.square().sum()), float((x - 1).square().sum()), float(torch.get_num_threads()))


def begun(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def stored(folder: Path) -> set[str]:
    results = folder / "results.jsonl"
    return {r.cell for r in load(results)} if results.exists() else set()


def timeless(results: Sequence[Result]) -> list[Result]:
    return [replace(r, seconds=None) for r in results]


def start(folder: Path) -> RunFolder:
    return open_run(folder, experiment="test", config={"eps": 0.1})


@dataclass(frozen=True)
class Nodes:
    """Two node processes beside a head that runs no cells."""

    made: Any
    nodes: dict[str, Any]
    where: Cluster

    def add(self) -> None:
        node = self.made.add_node(num_cpus=1, object_store_memory=LOCAL_STORE)
        self.nodes[node.node_id] = node

    def kill(self, name: str) -> None:
        self.made.remove_node(self.nodes.pop(name), allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    from ray.cluster_utils import Cluster as Made

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", HERE)  # workers import this file
        fast = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_failure_threshold": 10,
        }
        head = {"num_cpus": 0, "object_store_memory": LOCAL_STORE, "include_dashboard": False, "_system_config": fast}
        made = Made(initialize_head=True, head_node_args=head)
        try:
            here = Nodes(made, {}, Cluster(made.address, retries=2))
            here.add()
            here.add()
            with connected(here.where):
                yield here
        finally:
            made.shutdown()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    with start(tmp_path / "run") as folder:
        yield folder


def local(cells: Sequence[Cell], folder: Path) -> list[Result]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with start(folder) as run:
            return timeless(run_cells(cells, run))
    finally:
        torch.set_num_threads(before)


def test_a_node_that_is_killed_changes_nothing(nodes: Nodes, run: RunFolder, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    ended: list[str] = []
    lost: list[str] = []

    def kill(done: int, total: int, name: str, left: float | None) -> None:
        ended.append(name)
        if done == 2:
            while not (busy := [row for row in begun(log) if row[0] not in ended]):
                time.sleep(0.02)
            cell, node, worker = busy[0]
            nodes.kill(node)
            with suppress(ProcessLookupError):  # it dies with a machine, but outlives its node's process a little
                os.kill(int(worker), signal.SIGKILL)
            lost.append(cell)
            gate.touch()

    try:
        results = run_cells(make_cells(log, gate), run, workers=nodes.where, progress=kill)
    finally:
        nodes.add()
    assert timeless(results) == local(make_cells(tmp_path / "other"), tmp_path / "local")
    assert {r.config["threads"] for r in results} == {1}
    starts = Counter(cell for cell, *_ in begun(log))
    assert starts == dict.fromkeys(starts, 1) | {lost[0]: 2}  # what had ended was not run again
    assert len(load(run.results)) == len(results)
    stored = [r.cell for r in load(run.results)]
    assert stored.index("c5") > max(stored.index("c2"), stored.index("c3"))
    assert not list(run.path.glob("*.token"))
    before = begun(log)
    assert timeless(run_cells(make_cells(log), run, workers=nodes.where)) == timeless(results)
    assert begun(log) == before


def test_a_search_finds_the_same_on_a_cluster(nodes: Nodes) -> None:
    search, seed = NSGA2(population=6, generations=3), torch.Generator().manual_seed
    here, there = (
        search(evaluate, lambda v: v[:2], [-2.0, -2.0], [2.0, 2.0], generator=seed(0), workers=workers)
        for workers in (2, nodes.where)
    )
    assert here == there
    assert {v[2] for v in there.evaluated} == {1.0}


@pytest.mark.soak
def test_a_cell_may_search_on_the_cluster_that_runs_it(nodes: Nodes, run: RunFolder) -> None:
    # as many cells as CPUs: each lends its own while it waits
    cells = [Cell(f"s{i}", partial(nested, f"s{i}", i, nodes.where)) for i in range(2)]
    found = run_cells(cells, run, workers=nodes.where)
    assert [r.value for r in found] == [nested(f"s{i}", i, 1)[0].value for i in range(2)]


def nested(name: str, seed: int, workers: int | Cluster) -> list[Result]:
    generator = torch.Generator().manual_seed(seed)
    found = NSGA2(population=4, generations=2)(
        evaluate, lambda v: v[:2], [-2.0], [2.0], generator=generator, workers=workers
    )
    return [Result("test", name, "least", min(v[0] for v in found.best))]


def test_errors_name_the_cell_and_keep_the_others(nodes: Nodes, run: RunFolder, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ZeroDivisionError, match="oh") as caught:
        run_cells([Cell("bad", partial(broken, ZeroDivisionError("oh")))], run, workers=nodes.where)
    assert "cell `bad`" in caught.value.__notes__[0]
    wrong = UsageError("Argument `eps` must be positive, but is -1: mend it")
    with pytest.raises(UsageError, match=r"^Cell `bad`: Argument `eps` must be positive, but is -1: mend it$"):
        run_cells([Cell("bad", partial(broken, wrong))], run, workers=nodes.where)
    with pytest.raises(UsageError, match=r"^Cell `d`: .* one was lost with 0 retries .*, or raise retries"):
        run_cells([Cell("d", partial(dying, log))], run, workers=replace(nodes.where, retries=0))
    assert len(begun(log)) == 1
    assert len(run_cells(make_cells(log)[:2], run, workers=nodes.where)) == 4


def test_a_result_that_cannot_be_kept_says_why(
    nodes: Nodes, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, results: Sequence[Result]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("redqubit.runner.cluster.append", full)
    with pytest.raises(OSError, match="No space left"):
        run_cells(make_cells(tmp_path / "log")[:1], run, workers=nodes.where)


def test_a_worker_must_see_the_folder_and_be_of_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redqubit.runner.cluster.PATIENCE", 0.1)
    monkeypatch.chdir(tmp_path)
    cell = make_cells(tmp_path / "log")[0]
    elsewhere = _Place(Path("/nowhere"), tmp_path / "run" / "other.token", __version__)
    with pytest.raises(UsageError, match=f"does not see {tmp_path}/run: give a shared one"):
        _there(cell, elsewhere, 1)
    token = tmp_path / "a.token"
    token.touch()
    with pytest.raises(UsageError, match=r"must be a cluster with RedQubit 0\.0\.0"):
        _there(cell, _Place(tmp_path, token, "0.0.0"), 1)
    assert not begun(tmp_path / "log")
    assert len(_there(cell, _Place(tmp_path, Path("a.token"), __version__), torch.get_num_threads())) == 2


SCRIPT = """
import signal
import sys
from pathlib import Path
import test_ray
from redqubit.runner import Cluster, run_cells

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background of a shell
    with test_ray.start(Path("run")) as folder:
        log = Path.cwd() / "log"
        cells = test_ray.make_cells(log, Path("never"))
        run_cells(cells, folder, workers=Cluster(sys.argv[1]))
"""


def test_a_run_that_is_interrupted_goes_on(nodes: Nodes, tmp_path: Path) -> None:
    script, log = tmp_path / "main.py", tmp_path / "log"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), nodes.where.address]
    environment = {**os.environ, "PYTHONPATH": HERE}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        try:
            deadline = time.monotonic() + 400  # seconds, on a machine that does much else
            while len(begun(log)) < 3 or len(stored(tmp_path / "run")) < 2:
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=90)[1]
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT, errors
    assert stored(tmp_path / "run") == {"c0", "c1"}
    deadline = time.monotonic() + 90
    while ray.available_resources().get("CPU", 0) < 2:  # what ran has ended
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with start(tmp_path / "run") as again:
        results = run_cells(make_cells(log), again, workers=nodes.where)
    assert timeless(results) == local(make_cells(tmp_path / "other"), tmp_path / "local")
    assert Counter(cell for cell, *_ in begun(log))["c0"] == 1


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("cpus", 0, "`cpus` must be at least 1"),
        ("gpus", 1.5, "a share below 1 or a whole number, but is 1.5"),
        ("gpus", -1.0, "a share below 1 or a whole number"),
        ("retries", -1, "`retries` must not be negative"),
        ("address", "ray://head:10001", "ray job submit"),
    ],
)
def test_a_cluster_is_checked(field: str, value: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        replace(Cluster(), **{field: value})
    assert "\n" not in str(caught.value)


def test_the_option_says_what_a_cell_gets_and_where_the_data_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDQUBIT_DATA", "sets")
    where = placed(None, "head:6379 cpus=4 gpus=0.5", "auto", None)
    expected = Cluster("head:6379", cpus=4, gpus=0.5)
    assert where == {"workers": expected, "device": "cuda", "data_dir": tmp_path / "sets"}
    assert placed(None, "auto", "auto", Path("/data"))["device"] == "cpu"
    assert placed(2, None, "cpu", None)["data_dir"] is None
    with pytest.raises(UsageError, match="is cuda with gpus=0: use cuda with some, cpu with none"):
        placed(None, "auto", "cuda", None)
    with pytest.raises(UsageError, match="--workers must be left out"):
        placed(2, "auto", "cpu", None)
    with pytest.raises(UsageError, match="did you mean cpus"):
        placed(None, "auto cpu=2", "cpu", None)


def test_without_ray_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'redqubit\[ray\]'"), connected(Cluster()):
        pass


@pytest.mark.soak
def test_a_replication_whose_nodes_die_again_and_again_says_the_same(nodes: Nodes, tmp_path: Path) -> None:
    ended = Counter[str]()

    def kill(done: int, total: int, name: str, left: float | None) -> None:
        ended[name] += name != ""
        if len(ended) % 20 == 5:
            nodes.kill(next(iter(nodes.nodes)))
            nodes.add()

    where = replace(nodes.where, retries=20)
    there = reproduce("hqnn-backdoor", preset="smoke", out=tmp_path / "there", workers=where, progress=kill)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = reproduce("hqnn-backdoor", preset="smoke", out=tmp_path / "here")
    finally:
        torch.set_num_threads(before)
    by_cell = [sorted(timeless(load(p / "results.jsonl")), key=lambda r: (r.cell, repr(r))) for p in (there, here)]
    assert by_cell[0] == by_cell[1]
    assert max(ended.values()) == 1
    models = [{p.name: p.read_bytes() for p in (f / "artifacts").rglob("*.safetensors")} for f in (there, here)]
    assert models[0]
    assert models[0] == models[1]


@pytest.mark.soak
def test_an_audit_on_a_cluster_of_this_machine_says_the_same(tmp_path: Path) -> None:
    program = "from redqubit.cli import main; main()"
    small = ["--data", "iris", "--model", "hybrid", "--seeds", "0,1", "--eps", "0.1", "--attacks", "fgsm", "--quiet"]
    found = []
    for where in (["--ray", "local"], ["--workers", "1"]):
        out = tmp_path / where[0].strip("-")
        command = [sys.executable, "-c", program, "audit", *small, *where, "--set", "epochs=2", "--out", str(out)]
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""
        found.append(timeless(load(out / "results.jsonl")))
    assert sorted(found[0], key=repr) == sorted(found[1], key=repr)
