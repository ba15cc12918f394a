"""Small but real audits: what they write agrees with itself, with the saved models, and with a run that was killed."""

import json
import math
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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit import MODELS, Dataset, UsageError, audit, cli, load_splits
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
}
TINY: dict[str, Any] = {"attacks": ["fgsm"], "eps": [0.1], "seeds": [0], "epochs": 1}


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
    assert rows(out, "seconds") == rows(run, "seconds")
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
    kept = rows(out, "seconds")
    assert kept == rows(run, "seconds")[: len(kept)]


# A user's own model and data.


def blobs(n: int, d: int = 4, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return inputs in [0, 1] in which one feature after another is large by class."""
    y = torch.arange(n) % classes
    x = 0.5 * torch.rand(n, d, generator=seeded(seed))
    x[torch.arange(n), y] += 0.5
    return x, y


def own_sets(shape: tuple[int, ...] = (4,), n: int = 60) -> tuple[Dataset, Dataset]:
    parts = []
    for seed in (0, 1):
        x, y = blobs(n, math.prod(shape), seed=seed)
        parts.append(Dataset(x.reshape(n, *shape), y, 3, "blobs", ("red", "green", "blue")))
    return parts[0], parts[1]


FACTORY = """
import torch
from torch import nn

def make_model(n_classes, input_shape, generator):
    net = nn.Sequential(nn.Flatten(), nn.Linear(input_shape[0], 8), nn.Tanh(), nn.Linear(8, n_classes))
    for part in (net[1], net[3]):
        nn.init.xavier_uniform_(part.weight, generator=generator)
        nn.init.zeros_(part.bias)
    return net
"""


def test_a_factory_of_ones_own_on_data_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ownpackage"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(FACTORY, encoding="utf-8")
    train_set, test_set = own_sets()
    arrays = {"x_train": train_set.x, "y_train": train_set.y, "x_test": test_set.x, "y_test": test_set.y}
    np.savez(tmp_path / "own.npz", **{key: value.numpy() for key, value in arrays.items()})
    monkeypatch.chdir(tmp_path)  # where `python -m` would find the package too
    path = list(sys.path)
    page = audit(
        "ownpackage.nets:make_model", "own.npz", out=tmp_path / "run", **{**TINY, "seeds": [3, 4], "epochs": 30}
    )
    assert sys.path == path
    results = load(page.parent / "results.jsonl")
    assert {r.config["model"] for r in results} == {"make_model"}  # no twin is made up for it
    assert {r.metric for r in results} == {"accuracy", "robust_accuracy"}
    accuracies = [r.value for r in results if r.metric == "accuracy"]
    assert len(accuracies) == 2
    assert min(accuracies) > 0.9
    weights = [load_file(page.parent / "artifacts" / f"make_model-{seed}.safetensors")["1.weight"] for seed in (3, 4)]
    assert not torch.equal(*weights)  # each seed has its own start
    assert "own" in page.read_text(encoding="utf-8")


class Odd(nn.Module):
    """An architecture that nothing here knows: recurrent, normalised, with dropout and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.GRU(6, 5, batch_first=True)
        self.norm = nn.BatchNorm1d(5)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(5, 3).requires_grad_(False)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=seeded(5)))

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rows(x.flatten(1, 2))
        out: Tensor = self.out(self.drop(self.norm(states[:, -1])))
        return out


def test_a_module_is_audited_as_it_is_and_left_as_it_was(tmp_path: Path) -> None:
    model, data = Odd(), own_sets((2, 3, 6))
    model.norm.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    frozen = [p.requires_grad for p in model.parameters()]
    page = audit(model, data, out=tmp_path / "run", **{**TINY, "seeds": [0, 1, 2], "attacks": ["fgsm", "square"]})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == frozen
    assert all(p.grad is None for p in model.parameters())
    model.eval()
    correct = model(data[1].x).argmax(1) == data[1].y
    accuracy = found(page.parent, "accuracy")  # of one seed: there is nothing to train
    assert (accuracy.config["model"], accuracy.k, accuracy.n) == ("Odd", int(correct.sum()), 60)
    assert not list((page.parent / "artifacts").glob("*.safetensors"))
    assert "Security audit of Odd on blobs" in page.read_text(encoding="utf-8")
    with torch.no_grad():
        model.out.weight += 0.1
    with pytest.raises(UsageError, match="holds another"):  # other weights are another run
        audit(model, data, out=tmp_path / "run", **{**TINY, "seeds": [0, 1, 2], "attacks": ["fgsm", "square"]})


def test_other_data_in_the_same_folder_is_another_run(tmp_path: Path) -> None:
    train_set, test_set = own_sets()
    audit("hybrid_twin", (train_set, test_set), out=tmp_path / "run", **TINY)
    audit("hybrid_twin", (train_set, test_set), out=tmp_path / "run", **TINY)
    moved = Dataset(1 - test_set.x, test_set.y, 3, "blobs", test_set.classes)
    with pytest.raises(UsageError, match="holds another"):
        audit("hybrid_twin", (train_set, moved), out=tmp_path / "run", **TINY)


def test_weights_are_loaded_and_not_trained(tmp_path: Path) -> None:
    train_set, test_set = own_sets((1, 4, 4))
    model = MODELS["cnn"]((1, 4, 4), 3, generator=seeded(7))
    file = tmp_path / "mine.safetensors"
    save_file(model.state_dict(), file)
    options: dict[str, Any] = {"weights": file, "out": tmp_path / "run", **TINY, "seeds": [5, 6]}
    page = audit("cnn", (train_set, test_set), **options)
    accuracy = found(page.parent, "accuracy")
    assert accuracy.k == int((model(test_set.x).argmax(1) == test_set.y).sum())
    assert not list((page.parent / "artifacts").glob("*.safetensors"))
    assert audit("cnn", (train_set, test_set), **options) == page
    save_file(MODELS["cnn"]((1, 4, 4), 3, generator=seeded(8)).state_dict(), file)
    with pytest.raises(UsageError, match="holds another"):
        audit("cnn", (train_set, test_set), **options)
    with pytest.raises(UsageError, match="Argument `weights` must fit the model") as caught:
        audit("cnn_frozen", own_sets((1, 6, 6)), **{**options, "out": tmp_path / "new"})
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="Argument `weights`"):
        audit(model, (train_set, test_set), **{**options, "out": tmp_path / "new"})


def test_the_twin_is_the_one_that_is_asked_for(tmp_path: Path) -> None:
    data = own_sets()
    page = audit("hybrid", data, out=tmp_path / "matched", **TINY)
    assert {r.config.get("model") for r in load(page.parent / "results.jsonl")} == {"hybrid", "hybrid_twin", None}
    other = nn.Sequential(nn.Linear(4, 3))
    page = audit("hybrid_twin", data, twin=other, out=tmp_path / "own", **{**TINY, "seeds": [1, 2]})
    counts = [r.config["model"] for r in load(page.parent / "results.jsonl") if r.metric == "accuracy"]
    assert counts == ["hybrid_twin", "hybrid_twin", "Sequential"]
    assert "Sequential" in load_summary(page.parent / "summary.json").findings[1].text
    with pytest.raises(UsageError, match="`twin` must differ"):
        audit("hybrid", data, twin="hybrid", out=tmp_path / "same", **TINY)
    assert not (tmp_path / "same").exists()


def test_progress_names_every_cell(tmp_path: Path) -> None:
    steps = list[tuple[int, int, str]]()
    audit(
        "hybrid_twin",
        own_sets(),
        twin=nn.Linear(4, 3),
        out=tmp_path,
        progress=lambda *now: steps.append(now[:3]),
        **TINY,
    )
    assert steps[0][0] == 0
    assert [name for _, _, name in steps[:3]] == ["", "hybrid_twin-seed0", "Linear-seed0"]
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.tiny
def test_faults_are_told_before_anything_is_written(tmp_path: Path) -> None:
    train_set, test_set = own_sets()
    few = Dataset(test_set.x, test_set.y.clamp(max=1), 2, "blobs")
    narrow = Dataset(test_set.x[:, :3], test_set.y, 3, "blobs")
    one = Dataset(train_set.x, torch.ones(60, dtype=torch.int64), 3, "blobs")
    cases: list[tuple[object, tuple[Dataset, Dataset], dict[str, object], str]] = [
        ("hybrid", (train_set, narrow), {}, "`data` must .* shape"),
        ("hybrid", (train_set, few), {}, "`data` must .* classes"),
        ("hybrid", (one, test_set), {}, "two classes"),
        ("hybrid", (train_set, test_set), {"n_train": 1}, "two classes"),
        ("hybrid", (train_set, test_set), {"eps": [math.inf], "claim_eps": math.inf}, "`eps` must"),
        ("hybrid", (train_set, test_set), {"eps": [0.1, 0.1]}, "`eps` must"),
        ("hybrid", (train_set, test_set), {"seeds": [1, 1]}, "`seeds` must"),
        ("hybrid", (train_set, test_set), {"seeds": [-1]}, "`seeds` must"),
        ("hybrid", (train_set, test_set), {"seeds": [2**70]}, "`seeds` must"),
        ("hybrid", (train_set, test_set), {"lr": math.nan}, "`lr`"),
        ("hybrid", (train_set, test_set), {"n_examples": 0}, "`n_examples`"),
        ("qunn", (train_set, test_set), {}, "`input_shape` must"),
        (nn.Linear(4, 2), (train_set, test_set), {}, "a logit per class"),
        (nn.Linear(4, 5), (train_set, test_set), {}, "a logit per class"),
        (nn.Linear(7, 3), (train_set, test_set), {}, "`model` must take inputs"),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), (train_set, test_set), {}, "are probabilities"),
    ]
    for model, data, change, said in cases:
        with pytest.raises(UsageError, match=said) as caught:
            audit(model, data, out=tmp_path / "run", **{**TINY, **change})  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()
