"""Trackers: what MLflow and TensorBoard hold after `--log` is what the run folder holds."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from redqubit import tracking
from redqubit.errors import UsageError
from redqubit.result import Result, append

CONFIG = "# sha256: abc\nmodel: qunn\neps:\n- 0.1\nn_train: null\n"
RESULTS = (
    Result("audit", "qunn-seed3", "accuracy", 0.9, {"model": "qunn", "seed": 3}, 0.8, 0.95, 9, 10, 3),
    Result("audit", "qunn-seed3", "robust_accuracy", 0.5, {"model": "qunn (a, b)", "eps": 0.1, "shown": [1]}, seed=3),
    Result("audit", "qunn-seed3", "circuit_evaluations", math.inf),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "audit-qunn"
    path.mkdir()
    (path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    facts = {"experiment": "audit", "config_sha256": "abc", "rerun": "redqubit audit", "device": "cpu"}
    (path / "run.json").write_text(json.dumps({**facts, "versions": {"torch": "2.13.0"}}), encoding="utf-8")
    (path / "report.html").write_text("<h1>Report</h1>", encoding="utf-8")
    (path / "report.md").write_text("# Report, 95 %", encoding="utf-8")
    append(path / "results.jsonl", RESULTS)
    return path


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of SQLAlchemy, to MLflow
def test_mlflow_holds_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(folder.parent)  # beside a database, MLflow keeps files in mlruns
    client: Any = pytest.importorskip("mlflow").MlflowClient("sqlite:///runs.db")
    tracking.log(folder, "mlflow:sqlite:///runs.db")
    (run,) = client.search_runs([client.get_experiment_by_name("redqubit").experiment_id])
    assert (run.info.run_name, run.info.status) == ("audit-qunn", "FINISHED")
    assert run.data.params == {"model": '"qunn"', "eps": "[0.1]", "n_train": "null"}
    assert run.data.tags.items() >= {
        ("redqubit.experiment", "audit"),
        ("redqubit.config_sha256", "abc"),
        ("redqubit.rerun", "redqubit audit"),
        ("redqubit.version.torch", "2.13.0"),
    }
    assert run.data.metrics.keys() == {
        "accuracy/model:qunn",
        "accuracy/model:qunn.low",
        "accuracy/model:qunn.high",
        "robust_accuracy/model:qunn _a_ b_ eps:0.1",
        "circuit_evaluations",
    }
    assert run.data.metrics["accuracy/model:qunn.low"] == 0.8
    (point,) = client.get_metric_history(run.info.run_id, "accuracy/model:qunn")
    assert (point.value, point.step) == (0.9, 3)
    kept = {
        Path(client.download_artifacts(run.info.run_id, item.path)) for item in client.list_artifacts(run.info.run_id)
    }
    assert {file.name: file.read_bytes() for file in kept} == {
        name: (folder / name).read_bytes() for name in ("report.html", "report.md", "config.yaml", "results.jsonl")
    }
    with pytest.raises(UsageError, match=r"that MLflow can write to, but nothing://here: .* the run is kept"):
        tracking.log(folder, "mlflow:nothing://here")


def test_tensorboard_holds_the_run(folder: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracking.log(folder, f"tensorboard:{tmp_path / 'board'}")
    board = events.EventAccumulator(str(tmp_path / "board" / "audit-qunn"))
    board.Reload()
    points = {name: [(e.step, e.value) for e in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert points == {
        "accuracy/model:qunn": [(3, pytest.approx(0.9))],
        "interval/accuracy/model:qunn/low": [(3, pytest.approx(0.8))],
        "interval/accuracy/model:qunn/high": [(3, pytest.approx(0.95))],
        "robust_accuracy/model:qunn (a, b) eps:0.1": [(3, 0.5)],
        "circuit_evaluations": [(0, math.inf)],
    }
    texts = {name: board.Tensors(name)[0].tensor_proto.string_val[0].decode() for name in board.Tags()["tensors"]}
    assert texts["report/text_summary"] == "# Report, 95 %"
    assert "config_sha256: abc" in texts["config/text_summary"]
    assert "interval/accuracy/model:qunn/low" in texts["custom_scalars__config__"]
    with pytest.raises(UsageError, match="must be a folder that can be written"):
        tracking.log(folder, f"tensorboard:{folder / 'report.html'}")


def test_a_target_is_checked_before_any_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.destination("mlflow:http://127.0.0.1:5000") == ("mlflow", "http://127.0.0.1:5000")
    with pytest.raises(UsageError, match="Unknown tracker `mlfow`: did you mean mlflow"):
        tracking.destination("mlfow:x")
    with pytest.raises(UsageError, match="must be tensorboard:PLACE, but is tensorboard: say where"):
        tracking.destination("tensorboard")
    monkeypatch.setattr(tracking.base, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"but mlflow is not: pip install 'redqubit\[mlflow\]'"):
        tracking.destination("mlflow:x")
    monkeypatch.undo()
    (folder / "report.html").unlink()
    with pytest.raises(UsageError, match=r"has no report.html"):
        tracking.log(folder, "tensorboard:board")
