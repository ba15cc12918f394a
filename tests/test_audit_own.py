"""Audits of a user's own model and data: audited as they are, left as they were, and every fault told at once."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from redqubit import MODELS, Dataset, UsageError, audit
from redqubit.result import Result, load, load_summary

TINY: dict[str, Any] = {"attacks": ["fgsm"], "eps": [0.1], "seeds": [0], "epochs": 1, "poisons": []}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def found(folder: Path, metric: str, **config: object) -> Result:
    """Return the one result of a metric with these values in its config."""
    fitting = [r for r in load(folder / "results.jsonl") if r.metric == metric]
    fitting = [r for r in fitting if all(r.config.get(k) == v for k, v in config.items())]
    assert len(fitting) == 1, f"{len(fitting)} results of {metric} {config}"
    return fitting[0]


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


PLAIN = """
from torch import nn

def make_net(input_shape, n_classes):
    return nn.Sequential(nn.Linear(input_shape[0], 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, n_classes))
"""


def test_a_factory_without_a_generator_gives_the_same_again_until_its_code_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plainnet.py").write_text(PLAIN, encoding="utf-8")
    (tmp_path / "shownnet.py").write_text("from plainnet import make_net\n", encoding="utf-8")
    weights = []
    for run in "ab":
        torch.rand(1)  # what ran before is no matter
        audit("shownnet:make_net", own_sets(), out=tmp_path / run, **{**TINY, "seeds": [0, 1]})
        weights += [
            load_file(tmp_path / run / "artifacts" / f"make_net-{seed}.safetensors")["0.weight"] for seed in (0, 1)
        ]
    assert torch.equal(weights[0], weights[2])
    assert torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[0], weights[1])
    (tmp_path / "plainnet.py").write_text(PLAIN.replace("0.2", "0.5"), encoding="utf-8")
    with pytest.raises(UsageError, match="holds another"):
        audit("shownnet:make_net", own_sets(), out=tmp_path / "a", **{**TINY, "seeds": [0, 1]})


DEAD = """
from torch import nn

class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return 1e-3 * x[:, :3] * self.out.bias.abs() - x.new_tensor([0, 5, 5])
"""


def test_a_model_that_guesses_is_not_called_robust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deadnet.py").write_text(DEAD, encoding="utf-8")
    page = audit("deadnet:Dead", own_sets(), twin="hybrid_twin", out=tmp_path / "run", **{**TINY, "epochs": 60})
    said = json.loads(page.with_suffix(".json").read_text())
    texts = [finding["text"] for finding in said["findings"]]
    assert "without attack Dead is not shown to beat one answer to all" in next(t for t in texts if "twin" in t)
    flag = next(
        f for f in said["checks"] if f["code"] == "no-better-than-guessing" and f["subject"] == "Dead / worst_case"
    )
    assert (flag["severity"], flag["evidence"]["one_answer"]) == ("fail", pytest.approx(1 / 3))
    assert "†" in page.read_text(encoding="utf-8")


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


def test_tensors_in_place_of_data_sets_are_refused(tmp_path: Path) -> None:
    train_set, test_set = own_sets()
    with pytest.raises(UsageError, match=r"make each by redqubit\.Dataset\(x, y, n_classes\)"):
        audit("cnn", ((train_set.x, train_set.y), (test_set.x, test_set.y)), out=tmp_path / "run")  # type: ignore[arg-type]


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
