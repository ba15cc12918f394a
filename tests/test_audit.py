"""Small but real audits: what they write agrees with itself, with the saved models, and with a run that was killed."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from redqubit import MODELS, UsageError, audit, cli, load_splits
from redqubit.data import first_stratified
from redqubit.result import Result, load, load_summary

SMALL: dict[str, Any] = {
    "attacks": ["fgsm", "pgd", "mim", "random_noise"],
    "eps": [0.05, 0.1],
    "claim_eps": 0.1,
    "seeds": [0, 1],
    "n_train": 200,
    "n_test": 30,
    "epochs": 3,
    "n_examples": 3,
    "poisons": [],  # test_audit_poisoning.py has those
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of a QuNN and its twin on digits that nothing disturbed."""
    out = tmp_path_factory.mktemp("audit") / "run"
    assert audit(out=out, **SMALL) == out / "report.html"
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a run but those that tell when it was last opened."""
    fleeting = ("run.json", "run.lock")
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in fleeting
    }


def rows(folder: Path, *without: str) -> list[dict[str, Any]]:
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in lines]


def samples(folder: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pq.read_table(folder / "samples.parquet").to_pylist()
    return table


def found(folder: Path, metric: str, **config: object) -> Result:
    """Return the one result of a metric with these values in its config."""
    fitting = [r for r in load(folder / "results.jsonl") if r.metric == metric]
    fitting = [r for r in fitting if all(r.config.get(k) == v for k, v in config.items())]
    assert len(fitting) == 1, f"{len(fitting)} results of {metric} {config}"
    return fitting[0]


def test_a_run_folder_is_whole(run: Path) -> None:
    names = set(contents(run))
    assert names >= {"config.yaml", "results.jsonl", "summary.json", "samples.parquet", "report.html", "report.md"}
    for model in ("qunn", "cnn_frozen"):
        assert f"artifacts/examples-{model}.npz" in names
        assert {f"artifacts/{model}-{seed}.safetensors" for seed in (0, 1)} <= names
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Security audit of qunn on digits" in page
    assert "─ZZ(" in page  # the circuit is drawn
    assert json.loads((run / "report.json").read_text(encoding="utf-8"))["findings"]


def test_the_report_tells_what_the_linter_finds(run: Path) -> None:
    (panel,) = [p for p in load_summary(run / "summary.json").panels if p.title.startswith("Linter")]
    assert panel.section == "Circuit"
    rule, severity, what, gates, *_ = panel.data["rows"][0]
    assert (rule, severity) == ("RQ004", "warning")  # the last turn of a Rot before <Z>
    assert "w0, w3, w6 and w9" in what
    assert gates.startswith("10 Rot(w2,w1,w0) on 0, its angle w0")
    assert "RQ004" in (run / "report.html").read_text(encoding="utf-8")


def test_every_cell_has_its_result(run: Path) -> None:
    got = [
        (r.metric, r.config["model"], r.config["seed"], r.config.get("attack"), r.config.get("eps"))
        for r in load(run / "results.jsonl")
        if r.metric in ("accuracy", "robust_accuracy")
    ]
    wanted = {
        ("robust_accuracy", model, seed, attack, eps)
        for model in ("qunn", "cnn_frozen")
        for seed in (0, 1)
        for attack in (*SMALL["attacks"], "worst_case")
        for eps in (0.0, 0.05, 0.1)
    } | {("accuracy", model, seed, None, None) for model in ("qunn", "cnn_frozen") for seed in (0, 1)}
    assert len(got) == len(wanted)
    assert set(got) == wanted
    pairs = {(a, b) for a in ("qunn", "cnn_frozen") for b in ("qunn", "cnn_frozen")}
    assert {
        (source, target) for source, target in pairs if found(run, "transfer_accuracy", source=source, target=target)
    }
    counted = [r for r in load(run / "results.jsonl") if r.metric == "circuit_evaluations"]
    assert [r.config["model"] for r in counted] == ["qunn", "qunn"]
    # the quanvolution runs its circuit on 16 patches, at the least for 30 clean samples
    assert all(r.value % 16 == 0 and r.value > 16 * 30 for r in counted)


def test_samples_agree_with_the_results_and_the_ball(run: Path) -> None:
    table = samples(run)
    assert set(table[0]) == {"model", "seed", "attack", "eps", "index", "label", "prediction", "distance"}
    assert len(table) == 2 * 2 * 30 * (1 + 4 * 2)
    labels = first_stratified(load_splits("digits")[1], 30).y.tolist()
    right: dict[tuple[str, int, str, float], list[bool]] = {}
    for row in table:
        assert row["label"] == labels[row["index"]]
        assert row["distance"] <= row["eps"] + 1e-6
        assert (row["distance"] == 0) == (row["attack"] == "clean")
        key = row["model"], row["seed"], row["attack"], row["eps"]
        right.setdefault(key, []).append(row["prediction"] == row["label"])
    for (model, seed, attack, eps), mask in right.items():
        assert len(mask) == 30
        if attack == "clean":
            r = found(run, "accuracy", model=model, seed=seed)
        else:
            r = found(run, "robust_accuracy", model=model, seed=seed, attack=attack, eps=eps)
        assert (r.k, r.n) == (sum(mask), 30)
        assert r.value == pytest.approx(sum(mask) / 30)
        assert r.low is not None
        assert r.high is not None
        assert r.low <= r.value <= r.high
    for model in ("qunn", "cnn_frozen"):
        for seed in (0, 1):
            for eps in (0.05, 0.1):
                attacked = [right[model, seed, attack, eps] for attack in SMALL["attacks"]]
                left = sum(map(all, zip(right[model, seed, "clean", 0.0], *attacked, strict=True)))
                assert found(run, "robust_accuracy", model=model, seed=seed, attack="worst_case", eps=eps).k == left


def test_the_saved_models_repeat_the_predictions(run: Path) -> None:
    test_set = first_stratified(load_splits("digits")[1], 30)
    for name in ("qunn", "cnn_frozen"):
        for seed in (0, 1):
            model = MODELS[name]((1, 8, 8), 10, generator=seeded(99))
            model.load_state_dict(load_file(run / "artifacts" / f"{name}-{seed}.safetensors"))
            x = test_set.x.clone().requires_grad_()
            logits = model(x)
            (slope,) = torch.autograd.grad(F.cross_entropy(logits, test_set.y, reduction="sum"), x)
            for attack, eps in (("clean", 0.0), ("fgsm", 0.05), ("fgsm", 0.1)):
                predicted = model((x.detach() + eps * slope.sign()).clamp(0, 1)).argmax(1).tolist()
                stored = [
                    row["prediction"]
                    for row in samples(run)
                    if (row["model"], row["seed"], row["attack"], row["eps"]) == (name, seed, attack, eps)
                ]
                assert predicted == stored


def test_transfer_and_the_examples_agree_with_the_saved_models(run: Path) -> None:
    test_set = first_stratified(load_splits("digits")[1], 30)
    transfer = pq.read_table(run / "artifacts" / "transfer.parquet")
    for name in ("qunn", "cnn_frozen"):
        model = MODELS[name]((1, 8, 8), 10, generator=seeded(99))
        model.load_state_dict(load_file(run / "artifacts" / f"{name}-0.safetensors"))
        with np.load(run / "artifacts" / f"examples-{name}.npz", allow_pickle=False) as examples:
            clean, adv = torch.from_numpy(examples["clean"]), torch.from_numpy(examples["adv"])
            assert torch.equal(clean, test_set.x[:3])
            assert float((adv - clean).abs().max()) <= 0.1 + 1e-6
            assert examples["true"].tolist() == test_set.y[:3].tolist()
            assert examples["before"].tolist() == model(clean).argmax(1).tolist()
            assert examples["after"].tolist() == model(adv).argmax(1).tolist()
        for source in ("qunn", "cnn_frozen"):
            k = found(run, "transfer_accuracy", source=source, target=name, eps=0.1).k
            assert k == sum(transfer[f"{source}>{name}"].to_pylist())


def test_the_verdict_states_the_numbers(run: Path) -> None:
    summary = load_summary(run / "summary.json")
    worst = [found(run, "robust_accuracy", model="qunn", seed=s, attack="worst_case", eps=0.1).value for s in (0, 1)]
    assert f"{100 * sum(worst) / 2:.1f}" in summary.findings[0].text
    assert "cnn_frozen" in summary.findings[1].text
    codes = {flag.code for flag in summary.flags}
    assert len(codes) >= 8
    assert {flag.subject.split(" / ")[0] for flag in summary.flags} >= {"qunn", "cnn_frozen"}


def test_the_same_audit_again_does_nothing_new(run: Path) -> None:
    before, started = contents(run), json.loads((run / "run.json").read_text())["started"]
    steps = list[tuple[int, int]]()
    audit(out=run, progress=lambda done, total, name, left: steps.append((done, total)), **SMALL)
    after = contents(run)
    for name in ("results.jsonl", "samples.parquet", "config.yaml", "artifacts/qunn-0.safetensors"):
        assert after[name] == before[name]
    assert {done == total for done, total in steps} == {True}
    record = json.loads((run / "run.json").read_text())
    assert record["started"] == started
    assert record["resumed"]


def test_the_stored_command_takes_up_the_same_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    words = shlex.split(json.loads((run / "run.json").read_text())["rerun"])
    assert words[0] == "redqubit"
    with pytest.raises(SystemExit) as ended:
        cli.main([*words[1:], "--device", "cpu", "--workers", "1", "--quiet"])
    assert ended.value.code == 0, capsys.readouterr().err
    assert contents(run)["results.jsonl"] == before["results.jsonl"]


@pytest.mark.parametrize("change", [{"epochs": 4}, {"eps": [0.1]}, {"seeds": [0]}, {"model": "cnn"}, {"data": "iris"}])
def test_another_audit_in_the_same_folder_is_refused(run: Path, change: dict[str, Any]) -> None:
    before = contents(run)
    options = {"twin": "hybrid_twin", "model": "hybrid"} if "data" in change else {}
    with pytest.raises(UsageError, match=r"must be empty or hold this run, but .* holds another") as caught:
        audit(out=run, **{**SMALL, **options, **change})
    assert "\n" not in str(caught.value)
    assert contents(run) == before


def start(out: Path) -> subprocess.Popen[bytes]:
    options = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.items()]
    program = "from redqubit.cli import main; main()"
    words = [sys.executable, "-c", program, "audit", "--device", "cpu", "--workers", "1", "--out", str(out), *options]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 100
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.002)


def test_a_killed_audit_ends_in_the_same_results(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    process = start(out)
    wait_for(lambda: (out / "results.jsonl").exists() and (out / "results.jsonl").stat().st_size > 0, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "summary.json").exists()
    assert 0 < len({row["cell"] for row in rows(out)}) < 5
    audit(out=out, **SMALL)
    assert rows(out, "seconds", "crc32") == rows(run, "seconds", "crc32")
    assert samples(out) == samples(run)
    for part in ("flags", "findings"):
        assert getattr(load_summary(out / "summary.json"), part) == getattr(load_summary(run / "summary.json"), part)


def test_ctrl_c_keeps_what_is_done_and_says_so(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    process = start(out)
    wait_for(lambda: (out / "results.jsonl").exists() and (out / "results.jsonl").stat().st_size > 0, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    said = err.decode().strip().splitlines()[-1]
    assert said.startswith("redqubit: stopped; what is finished is kept")
    assert "Traceback" not in err.decode()
    kept = rows(out, "seconds", "crc32")
    assert kept == rows(run, "seconds", "crc32")[: len(kept)]
