"""The benchmarks: every library computes the same numbers, a worker leaves with its parent, a bad call is one line.

No times are measured here.
"""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from redqubit.models.layer import QuantumLayer
from redqubit.quantum import Circuit, Gate, Input
from redqubit.quantum.noise import quid_noise, with_noise

FOLDER = Path(__file__).parent.parent / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the package is installed without its benchmarks", allow_module_level=True)
sys.path.append(str(FOLDER))

import heads  # noqa: E402
import noisy_attack  # noqa: E402
import peers  # noqa: E402
import qnad  # noqa: E402
import quid  # noqa: E402
import scale  # noqa: E402
import screening  # noqa: E402
import speed  # noqa: E402
import tables  # noqa: E402
from cases import CASES, WORKLOADS, Case  # noqa: E402
from reference import reference, simulate  # noqa: E402
from workers import Library, Worker, numbers  # noqa: E402

PEERS = {library.name: library for library in peers.LIBRARIES["cpu"]}


def error(library: Library, case: Case) -> float:
    wanted = [numbers(v) for v in reference(case)()]
    found = [numbers(v) for v in library.build(case)()]
    return max(speed.distance(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("gradient", [False, True])
def test_redqubit_equals_the_reference(workload: str, gradient: bool) -> None:
    assert error(PEERS["RedQubit"], Case(workload, 5, gradient)) < speed.TOLERANCE


# those of JAX are no part of the test environment: the benchmark checks every peer before its time counts
TORCH_PEERS = [
    (name, workload)
    for name, library in PEERS.items()
    for workload in WORKLOADS
    if name != "RedQubit" and "JAX" not in name and not (library.lacks and Case(workload, 3, True).noisy)
]


@pytest.mark.parametrize(("name", "workload"), TORCH_PEERS)
def test_peers_equal_the_reference(name: str, workload: str) -> None:
    assert error(PEERS[name], Case(workload, 3, True)) < speed.TOLERANCE


def test_the_reference_knows_a_closed_form_and_the_circuits_have_their_noise() -> None:
    case = Case("W3", 4, True)
    circuit = case.circuit()
    assert [g.name for g in circuit.gates[:3]] == ["H", "AmplitudeDamping", "Depolarizing"]
    assert circuit.counts["AmplitudeDamping"] == circuit.counts["Depolarizing"] == 20
    entangling = Case("W3b", 1, False).circuit()
    on_wires = sum(len(g.wires) for g in entangling.gates if g.name not in ("AmplitudeDamping", "Depolarizing"))
    assert entangling.counts["AmplitudeDamping"] == on_wires
    # damping takes z to (1 - p) z + p, depolarizing to (1 - 4 p / 3) z
    noisy = with_noise(Circuit(1, (Gate("RX", (0,), (Input(0),)),)), quid_noise(0.1))
    x = torch.tensor([[0.3], [2.0]], dtype=torch.float64)
    wanted = (1 - 0.4 / 3) * (0.9 * torch.cos(x) + 0.1)
    assert torch.allclose(simulate(noisy, x, x.new_zeros(0)), wanted, atol=1e-12)


def test_the_reference_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("W3", 5, True)
    whole = reference(case)()
    monkeypatch.setattr("reference.ROWS", 2)
    for a, b in zip(whole, reference(case)(), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_cases_are_what_the_tables_say() -> None:
    assert {c.workload for c in CASES["cpu"]} == {c.workload for c in CASES["cuda"]} == set(WORKLOADS)
    assert {c.batch for c in CASES["cuda"]} == {64, 1024, 16384}
    assert {c.device for c in CASES["cuda"]} == {"cuda"}
    x, w, direction = Case("W3b", 32, True).arrays()
    assert (x.shape, w.shape, direction.shape) == ((32, 8), (28,), (32, 4))


def test_a_worker_measures_and_says_what_failed() -> None:
    worker = Worker(Library("division", partial(partial, divmod, 7), ()))
    try:
        results = worker.start(3)
        assert results is not None
        assert [v.tolist() for v in results] == [2, 1]
        worker.run(3, 0)
        assert 0 < worker.times[3][0] < 1
        assert worker.start(0) is None
        assert worker.failures[0].startswith("ZeroDivisionError: ")
        worker.run(0, 0)
        assert 0 not in worker.times
        worker.process.kill()
        assert worker.start(2) is None
        assert worker.failures[2] == "its process died"
    finally:
        worker.close()


def test_results_of_any_library_become_numpy() -> None:
    assert numbers(torch.ones(2)).dtype == np.float64
    assert speed.distance(np.ones(3), np.ones(2)) == float("inf")
    assert speed.distance(np.array([9.0, 20.0]), np.array([10.0, 20.0])) == pytest.approx(1 / 20)


ORPHAN = """
import sys
import time
sys.path.insert(0, {folder!r})
from workers import Library, Worker

if __name__ == "__main__":
    worker = Worker(Library("endless", time.sleep, ()))
    worker.connection.send(1000)
    print(worker.process.pid, flush=True)
    worker.connection.recv()
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked for in /proc")
def test_a_worker_leaves_with_its_parent_in_the_midst_of_a_call(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN.format(folder=str(FOLDER)))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert Path(f"/proc/{worker}").exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(300):
        if not running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    pytest.fail("the worker went on without its parent")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("model", noisy_attack.MODELS)
def test_both_tools_find_the_same_examples(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noisy_attack, "STEPS", 3)
    attack = noisy_attack.Attack(model, str(tmp_path / "model.npz"))
    rng, layer = np.random.default_rng(0), QuantumLayer(attack.circuit(), generator=torch.Generator().manual_seed(0))
    x = rng.uniform(0, 1, (6, 8)).astype(np.float32)
    head = {"weight": rng.normal(size=(4, 4)).astype(np.float32), "bias": np.zeros(4, np.float32)}
    np.savez(attack.file, x=x, y=np.arange(6) % 4, weights=layer.weights.detach().numpy(), **head)
    (ours, logits), (theirs, _) = noisy_attack.redqubit(attack)(), noisy_attack.foolbox(attack)()
    assert float((ours - torch.from_numpy(x)).abs().mean()) > 0.02
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert speed.distance(numbers(logits), noisy_attack.judge(attack, ours.numpy())) < speed.TOLERANCE


@pytest.mark.parametrize("place", range(len(quid.METRICS)), ids=quid.METRICS)
def test_quid_and_its_loop_give_the_same_labels(place: int, tmp_path: Path) -> None:
    task = quid.prepare(40, tmp_path)[place]
    ours, theirs = ([numbers(v) for v in library.build(task)()] for library in quid.LIBRARIES[:2])
    assert ours[1].shape == (20, 4)
    assert quid.difference(ours, theirs) < quid.TOLERANCE
    assert np.array_equal(ours[0], ours[1].argmax(1))
    assert len(set(ours[0])) > 1
    theirs[0][3] += 1
    assert quid.difference(ours, theirs) == float("inf")


def test_quid_is_compared_within_rounds() -> None:
    tasks = [quid.Task(metric, "") for metric in quid.METRICS]

    def measured(name: str, *rounds: float) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, times={t: dict(enumerate(rounds)) for t in tasks}, errors=dict.fromkeys(tasks, 1e-9)
        )

    workers: list[Any] = [measured("RedQubit", 10.0, 20.0), measured("loop", 200.0, 200.0), measured("pairs", 100.0)]
    assert quid.ratios(workers[1], workers[0], tasks) == [20, 10]
    assert quid.ratios(workers[2], workers[0], tasks) == [10]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in quid.table(workers, tasks)]
    assert rows[3] == ["loop", *["0.2 (0.2 to 0.2)"] * 3, "15 (10 to 20)"]
    text = "\n".join(quid.notes(workers, tasks, 700, {**tables.machine(), "rounds": 2, "versions": {"torch": "2"}}))
    assert "at least 15 times the loop: met, 15; over its pairs alone 10" in text


def test_screening_scores_every_label_and_the_vote_is_that_of_scikit_learn() -> None:
    x, y = screening.draw(200)
    scores = {str(task): task.scores(x, y) for task in screening.TASKS}
    assert len(scores) == 9
    assert all(v.shape == (200,) and np.isfinite(v).all() for v in scores.values())
    theirs = scores[f"{screening.PEER}, features"]
    assert np.abs(scores["NeighbourVote, features"] - theirs).max() <= screening.TOLERANCE
    assert np.abs(scores["NeighbourVote, noisy states"] - theirs).max() > screening.TOLERANCE
    assert 0.05 < (theirs > 0.5).mean() < 0.2


def test_qnad_times_the_same_tasks_of_both_networks() -> None:
    assert qnad.noise_fits()
    nets, x, y = qnad.networks()
    found = {key: call() for key, call in qnad.calls(nets, x[:4], y[:4]).items()}
    assert [v.shape for v in found.values()] == [(4, 10), (4, 10), (4, 1, 28, 28), (4, 1, 28, 28)]
    assert not found["forward", "noisy"].requires_grad
    assert not torch.allclose(found["forward", "plain"], found["forward", "noisy"], atol=0.1)
    assert qnad.ratios({("a", "plain"): [1.0, 2.0], ("a", "noisy"): [3.0, 4.0]}, "a") == [3, 2]


@pytest.mark.parametrize("step", [heads.Step("head", 5), heads.Step("whole", 5, 32)], ids=lambda step: step.part)
def test_both_quantum_heads_take_the_same_step(step: heads.Step) -> None:
    calls = [library.build(step) for library in (heads.OURS, heads.THEIRS, heads.TWIN)]
    ours, theirs, twin = ([numbers(v) for v in call()] for call in calls)
    assert heads.difference(ours, theirs) < heads.TOLERANCE
    assert [v.shape for v in ours[-5:]] == [(10, 512), (10,), (60,), (10, 10), (10,)]
    assert len(ours) == (6 if step.part == "head" else 66)
    assert heads.difference(ours, twin) == float("inf")
    assert all(
        np.abs(numbers(call()[0]) - first[0]).max() > 1e-3
        for call, first in zip(calls, (ours, theirs, twin), strict=True)
    )
    ours[-1] = ours[-1] + 2e-4 * np.abs(ours[-1]).max()
    assert heads.difference(ours, theirs) > heads.TOLERANCE
    assert not heads.difference([np.array([np.nan])], [np.ones(1)]) <= heads.TOLERANCE


def test_heads_are_compared_within_rounds() -> None:
    def measured(name: str, *ms: tuple[float, float]) -> SimpleNamespace:
        times = {step: dict(enumerate(values)) for step, values in zip(heads.STEPS, ms, strict=True)}
        return SimpleNamespace(name=name, times=times, errors=dict.fromkeys(heads.STEPS, 1e-6))

    twin, ours = measured("twin", (100.0, 200.0), (1.0, 2.0)), measured("RedQubit", (110.0, 210.0), (20.0, 30.0))
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in heads.table([twin, ours])]  # type: ignore[list-item]
    assert rows[0][1:3] == ["whole step, ms", "whole step, over the twin's"]
    assert [row[2] for row in rows[2:]] == ["1", "1.08 (1.05 to 1.1)"]
    assert rows[3][3:] == ["25 (20 to 30)", "17.5 (15 to 20)"]
    facts = {**tables.machine(), "rounds": 2, "versions": {"torch": "2"}}
    text = "\n".join(heads.notes([twin, ours, ours], facts))  # type: ignore[list-item]
    assert (
        "whole step at most 1.1 times the twin's: met, 1.08; head step at most 10 times the twin's: missed, 17" in text
    )


def test_scale_compares_what_it_measures(tmp_path: Path) -> None:
    points = [scale.Point(lib.name, 3, 16, 2.0, 0.5, 0.1) for lib in scale.LIBRARIES]
    for point, library in zip(points, scale.LIBRARIES, strict=True):
        point.results = [numbers(v) for v in library.build(scale.Size(3))()]
    scale.compare(points)
    assert all(p.error is not None and p.error < speed.TOLERANCE for p in points)
    points[0].results[0] = points[0].results[0] + 1e-3
    scale.compare(points)
    assert points[0].error == pytest.approx(1e-3, rel=1e-3)


def test_scale_draws_points_and_names_those_left_out(tmp_path: Path) -> None:
    names = [lib.name for lib in scale.LIBRARIES]
    points = [scale.Point(name, n, 16, 2.0**n, 0.5, 4.0) for n in (4, 8) for name in names]
    points[-1] = scale.Point(names[-1], 8, 16, left_out="more than 60 s")
    scale.draw(points, names, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    rows = scale.table(points, names)
    assert len({len(row) for row in rows}) == 1
    assert rows[-1].split("|")[4].strip() == "-"
    facts = {**tables.machine(), "versions": {"torch": "2"}}
    assert f"Left out: {names[-1]}, 8 qubits: more than 60 s." in scale.notes(points, facts)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (["--rounds", "0"], "argument --rounds: must be 1 or more, but is 0."),
        (["--only", "W9"], "invalid choice: 'W9'"),
        (["--json", "nowhere/a.json"], "The folder of nowhere/a.json must be there"),
        (["--markdown", "pyproject.toml"], "Argument `--markdown` must be a new file or have one"),
    ],
)
def test_a_wrong_argument_is_one_line(
    line: list[str], wrong: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER.parent)
    with pytest.raises(SystemExit):
        speed.asked(line)
    assert wrong in capsys.readouterr().err


def test_a_gpu_must_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        assert speed.asked(["--device", "cuda"]).device == "cuda"
        return
    with pytest.raises(SystemExit):
        speed.asked(["--device", "cuda"])
    assert "torch finds no GPU" in capsys.readouterr().err


def test_a_table_shows_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    class Measured:
        def __init__(self, name: str, ms: float, cases: list[Case]) -> None:
            self.name, self.failures = name, dict[Case, str]()
            self.times = {case: {0: ms, 1: 2 * ms} for case in cases}
            self.first, self.errors = dict.fromkeys(cases, 1.0), dict.fromkeys(cases, 1e-7)

    cases = [Case("W3", 32, False), Case("W3", 32, True)]
    workers = [Measured("RedQubit", 2.0, cases), Measured("A", 6.0, cases), Measured("B", 8.0, cases[1:])]
    lines = speed.table(workers, "W3", 32, cases)  # type: ignore[arg-type]
    cells = {line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]] for line in lines if "|" in line}
    assert cells["RedQubit"][1] == "3 (3 to 3)"
    assert cells["A"][1] == "1"
    assert cells["B"][:2] == ["-", "-"]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench:start -->\nold\n<!-- bench:end -->\nafter\n")
    assert tables.marked(page, "bench") == ""
    written = tables.between_markers(page, "bench", "new\n")
    assert written == "before\n<!-- bench:start -->\nnew\n<!-- bench:end -->\nafter\n"
    page.write_text("no markers")
    assert "must be a new file or have one" in tables.marked(page, "bench")
