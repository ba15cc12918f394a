"""The benchmark of QNN training: both tools compute the same numbers, and times are those of whole trainings."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the package is installed without its benchmarks", allow_module_level=True)
sys.path.append(str(FOLDER))

import qnn_training as benchmark  # noqa: E402
import speed  # noqa: E402
import tables  # noqa: E402
from workers import numbers  # noqa: E402

TINY = benchmark.Training(1, samples=3, epochs=1, steps=1)


@pytest.mark.parametrize("library", benchmark.LIBRARIES, ids=lambda library: library.name)
def test_all_contestants_have_the_same_values_and_slopes(library: benchmark.Library) -> None:
    *found, accuracy = (numbers(v) for v in library.build(TINY)())
    wanted = benchmark.judge(TINY)
    assert max(speed.distance(a, b) for a, b in zip(found, wanted, strict=True)) < benchmark.TOLERANCE
    assert float(np.abs(wanted[1]).max()) > 1e-2
    assert [a.shape for a in found] == [(benchmark.CHECKED, 4)] * 2
    assert accuracy.shape == ((1,) if library is benchmark.OURS else (0,))


def test_a_part_of_a_training_counts_as_that_part() -> None:
    part, whole = benchmark.Training(1, steps=2), benchmark.Training(1, models=16, steps=None)
    assert part.all_steps == 30 * 22
    times = {part: {0: 1000.0, 1: 1500.0}, whole: {0: 800.0}}
    ours, theirs = (SimpleNamespace(times=times, library=lib) for lib in (benchmark.OURS, benchmark.THEIRS))
    peer = benchmark.Contestant("peer", theirs, part)  # type: ignore[arg-type]
    stack = benchmark.Contestant("stack", ours, whole)  # type: ignore[arg-type]
    assert peer.seconds() == pytest.approx({0: 330, 1: 495})
    assert stack.seconds() == pytest.approx({0: 0.05})
    assert benchmark.ratios(stack, peer) == pytest.approx([6600])
    assert benchmark.Contestant("whole", theirs, whole).once  # type: ignore[arg-type]
    facts = {**tables.machine(), "rounds": 2, "versions": {"torch": "2"}}
    text = "\n".join(benchmark.notes([[stack, stack, peer, peer]], facts))
    assert "circuit 1: met, 6600, and 6600 over the batch broadcast." in text
    assert "2 of its 660 steps" in text


def test_accuracies_agree_within_their_intervals() -> None:
    stack = [0.80, 0.85, 0.90]
    assert benchmark.agree(stack, [])
    assert benchmark.agree(stack, [0.76])
    assert not benchmark.agree(stack, [0.5])
    assert not benchmark.agree(stack, [1.0])
