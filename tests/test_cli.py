"""The command line: what it prints, and that every bad input is one line on standard error and exit code 2."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

import redqubit
from redqubit import cli
from redqubit.result import load

Line = Callable[..., tuple[int, str, str]]
TINY = ["--set", "epochs=1", "--eps", "0.1", "--seeds", "0", "--attacks", "fgsm", "--device", "cpu", "--workers", "1"]
MODELS = """
from torch import nn

class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x):
        return self.inner(x.detach())

def good(): return nn.Linear(4, 3)
def probabilities(): return nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))
def few(): return nn.Linear(4, 2)
def many(): return nn.Linear(4, 7)
def narrow(): return nn.Linear(5, 3)
def flat(): return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
def no_model(): return 3
def double(): return nn.Linear(4, 3).double()
def frozen(): return nn.Linear(4, 3).requires_grad_(False)
def raises(): raise RuntimeError("two\\nlines")
class Needs(nn.Module):
    def __init__(self, width):
        super().__init__()
constant = 3
"""
ENCODERS = """
from redqubit.quantum.encodings import angle

def turns(): return angle(2)
"""


def blobs() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    y = np.arange(60) % 3
    x = np.linspace(0, 0.5, 240, dtype=np.float32).reshape(60, 4)
    x[np.arange(60), y] += 0.5
    return x, y


def save(path: Path, x: NDArray[Any], y: NDArray[Any]) -> None:
    np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sets and models, good and bad."""
    folder = tmp_path_factory.mktemp("place")
    x, y = blobs()
    save(folder / "good.npz", x, y)
    nan = x.copy()
    nan[3, 1] = np.nan
    bad = {
        "bright": (x * 255, y),
        "negative": (x - 0.2, y),
        "nan": (nan, y),
        "infinite": (np.where(np.isnan(nan), np.inf, x), y),
        "rank": (x[:, :, None, None, None], y),
        "vector": (x[:, 0], y),
        "labels": (x, y - 1),
        "counted": (x, y + 1),
        "fractions": (x, y + 0.5),
        "one": (x, np.zeros_like(y)),
        "ones": (x, np.where(np.arange(60) < 40, 1, y)),
        "unequal": (x, np.append(y, [1, 2])),
    }
    for name, arrays in bad.items():
        save(folder / f"{name}.npz", *arrays)
    np.savez(folder / "empty.npz", x_train=x[:0], y_train=y[:0], x_test=x, y_test=y)
    np.savez(folder / "untested.npz", x_train=x, y_train=y, x_test=x[:0], y_test=y[:0])
    np.savez(folder / "narrow.npz", x_train=x, y_train=y, x_test=x[:, :3], y_test=y)
    np.savez(folder / "keys.npz", pixels=x)
    np.savez(folder / "unsplit.npz", x=x, y=y - 1)
    np.savez(folder / "objects.npz", x=np.array([{}, {}], dtype=object), y=y[:2])
    (folder / "torn.npz").write_bytes((folder / "good.npz").read_bytes()[:300])
    (folder / "words.npz").write_text("words", encoding="utf-8")
    (folder / "mymodels.py").write_text(MODELS, encoding="utf-8")
    (folder / "myencoders.py").write_text(ENCODERS, encoding="utf-8")
    (folder / "mybroken.py").write_text("raise ValueError('two\\nlines')", encoding="utf-8")
    (folder / "mytypo.py").write_text("def f(:", encoding="utf-8")
    (folder / "unknown.yaml").write_text("epochs: 1\nepoch: 3\n", encoding="utf-8")
    (folder / "list.yaml").write_text("- 1\n", encoding="utf-8")
    (folder / "good.yaml").write_text("epochs: 2\neps: [0.05, 0.1]\nseeds: [1]\nattacks: [fgsm]\n", encoding="utf-8")
    (folder / "nothing").mkdir()
    (folder / "foreign").mkdir()
    (folder / "foreign" / "notes.txt").write_text("mine", encoding="utf-8")
    return folder


@pytest.fixture
def line(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Line:
    """Return a function that runs a command in the folder and returns its exit code, output and errors."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("REDQUBIT_DATA", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return run


def audit_of(model: str = "hybrid", data: str = "good.npz") -> list[str]:
    return ["audit", "--model", model, "--data", data, *TINY]


DATA = {
    "bright": "must lie in [0, 1]",
    "negative": "must lie in [0, 1]",
    "nan": "must be finite",
    "infinite": "must lie in [0, 1]",
    "rank": "must be images (N, C, H, W) or features (N, d)",
    "vector": "must be images (N, C, H, W) or features (N, d)",
    "labels": "must lie in 0..",
    "counted": "they are 1 to 3, each there and none 0: subtract 1",
    "fractions": "must hold whole-number labels",
    "unsplit": "must lie in 0..1, but it spans -1 to 1",
    "one": "must be at least 2",
    "ones": "must hold two classes",
    "unequal": "must have the 20 rows",
    "empty": "must hold at least one sample",
    "untested": "must hold at least one sample",
    "narrow": "`data` must",
    "keys": "must hold x_train and y_train",
    "objects": "objects",
    "torn": "must be a whole, readable npz file",
    "words": "must be a whole, readable npz file",
    "absent": "Path `absent.npz` must lead to a file or folder of data, but is not there",
}
MODEL = {
    "mymodels:probabilities": "are probabilities (rows of numbers from 0 that sum to 1): drop its last softmax",
    "mymodels:few": "must return a logit per class",
    "mymodels:many": "must return a logit per class",
    "mymodels:narrow": "must take inputs of shape (4,)",
    "mymodels:flat": "must return logits of shape",
    "mymodels:Cut": "must pass gradients to its input",
    "mymodels:double": "call .double() on the inputs, or .float() on the model",
    "mymodels.py:good": "mymodels.py:good names a file: write mymodels:good",
    "sub/mymodels.py:good": "write sub.mymodels:good",
    "mymodels:no_model": "must make an nn.Module",
    "mymodels:frozen": "must have a trainable parameter",
    "mymodels:raises": "two lines",
    "mymodels:Needs": "width",
    "mymodels:constant": "is no function",
    "mymodels:absent": "has no attribute 'absent'",
    "mymodels:": "package.module:function",
    "nowhere:f": "No module named 'nowhere'",
    "mybroken:f": "two lines",
    "mytypo:f": "mytypo",
    "hybrib": "did you mean hybrid",
    "qunn": "must be (C, H, W) for a convolution",
}
OPTIONS = {
    "eps=[-0.1]": "`eps` must hold radii above 0, but has -0.1",
    "eps=[]": "`eps` must hold at least one value",
    "eps=wide": "`eps` is wrong",
    "eps=[.nan]": "eps",
    "eps=[0.1, .inf]": "`eps` must",
    "claim_eps=0.3": "`claim_eps` must be one of `eps`",
    "seeds=[0, 0]": "`seeds` must",
    "attacks=[pdg]": "Unknown attack `pdg`: did you mean pgd?",
    "epoch=3": "Unknown configuration key `epoch`: did you mean epochs",
    "epochs=0": "`epochs`",
    "epochs=many": "`epochs` is wrong",
    "lr=.nan": "`lr`",
    "lr=1e40": "Training diverged in epoch 1: lower `lr`",
    "n_test=0": "n",
    "epochs": "must be key=value",
}
OTHER = {
    "--config unknown.yaml": "Unknown configuration key `epoch`",
    "--config list.yaml": "must hold `key: value` lines",
    "--config absent.yaml": "No such file",
    "--twin hybird": "did you mean hybrid",
    "--twin hybrid": "`twin` must differ",
    "--weights absent.safetensors": "absent.safetensors is not there",
    "--weights words.npz": "must be a safetensors file",
    "--device tpu9": "`device` must be one of this machine",
    "--eps -0.1": "`eps` must hold radii above 0",
    "--eps wide": "`eps.0` is wrong",
    "--data nothing": "`nothing` has none",
    "--data letters --data-dir nothing": "Data set `letters` must be on disk",
    "--data letters --data-dir words.npz": "`data_dir` must be a folder",
    "--data-dir gone": "`data_dir` must be a folder, but `gone` is not there",  # though it is not needed
    "--eps 8/0": "`eps.0` is wrong",
    "--data mnits": "did you mean mnist",
    "--out foreign": "foreign holds notes.txt",
    "--out words.npz": "words.npz",
}
REPRODUCE = {
    "robqun": "Unknown experiment `robqun`: did you mean robqunn?",
    "robqunn --preset smok": "Unknown preset `smok`: did you mean smoke?",
    "robqunn --set drawz=3": "Unknown configuration key `drawz`: did you mean draws?",  # before any download
    "robqunn --preset smoke --set data=letters --data-dir nothing": "Data set `letters` must be on disk",
    "robqunn --preset smoke --data-dir gone": "`data_dir` must be a folder, but `gone` is not there",
    "robqunn --preset smoke --data-dir gone --dry-run": "`data_dir` must be a folder, but `gone` is not there",
    "robqunn --preset smoke --set data=mnits": "did you mean mnist",
    "robqunn --preset smoke --set n_train=100000": "must lie in 1..1297",
    "robqunn --preset smoke --set draws=1": "`draws` must",
    "robqunn --preset smoke --set probe_eps=0.07": "`probe_eps` must",
    "robqunn --preset smoke --set eps=[-1]": "`eps` must",
    "robqunn --preset smoke --config list.yaml": "must hold `key: value` lines",
}
SCREEN = {
    "--data nan.npz": "`x` must be finite",
    "--data one.npz": "must be at least 2",
    "--data ones.npz": "must hold two classes",
    "--data fractions.npz": "must hold whole-number labels",
    "--data bright.npz": "must lie in [0, 1]",
    "--data keys.npz": "must hold x_train and y_train",
    "--data torn.npz": "must be a whole, readable npz file",
    "--data absent.npz": "Path `absent.npz` must lead to a file or folder of data, but is not there",
    "--data counted.npz": "they are 1 to 3, each there and none 0: subtract 1",
    "--data digits --data-dir gone": "`data_dir` must be a folder, but `gone` is not there",
    "--data nothing": "nothing",
    "--data good.npz --encoder angel": "Unknown encoder `angel`: did you mean angle?",
    "--data good.npz --encoder mymodels:good": "quantum.Circuit, but mymodels:good returned Linear",
    "--data good.npz --encoder mymodels:raises": "`encoder` must make a Circuit",
    "--data good.npz --encoder mymodels:absent": "`encoder` must be package.module:function",
    "--data digits --reduce none": "must have 24 features or less for the encoder angle",
    "--data good.npz --reduce ica": "`reduce` is wrong",
    "--data good.npz --noise loud": "Unknown noise `loud`",
    "--data good.npz --set neighbors=3": "did you mean neighbours",
    "--data good.npz --set neighbours=0": "`neighbours` must be 1 or more",
    "--data good.npz --out foreign": "foreign holds notes.txt",
}
OPTIONS_TOO = ("eps", "seeds", "attacks")  # which have an option that stands above --set
CASES = (
    [(audit_of(data=f"{name}.npz"), said) for name, said in DATA.items()]
    + [(audit_of(model=name), said) for name, said in MODEL.items()]
    + [([*audit_of(), "--set", pair], said) for pair, said in OPTIONS.items() if not pair.startswith(OPTIONS_TOO)]
    + [
        (["audit", "--model", "hybrid", "--data", "good.npz", "--workers", "1", "--set", pair], said)
        for pair, said in OPTIONS.items()
        if pair.startswith(OPTIONS_TOO)
    ]
    + [([*audit_of(), *words.split()], said) for words, said in OTHER.items()]
    + [(["reproduce", *words.split(), "--workers", "1"], said) for words, said in REPRODUCE.items()]
    + [(["screen", *words.split()], said) for words, said in SCREEN.items()]
    + [(["report", "absent"], "must be the folder of a run"), (["report", "nothing"], "must be the folder of a run")]
)


@pytest.mark.parametrize(
    ("words", "said"), CASES, ids=[" ".join([w for w in words if w not in TINY][1:]) for words, _ in CASES]
)
def test_bad_input_is_one_line_and_exit_code_2(words: list[str], said: str, line: Line, tmp_path: Path) -> None:
    out = tmp_path / "run"
    where = [] if "--out" in words or words[0] == "report" else ["--out", str(out)]
    code, printed, err = line(*words, *where)
    assert code == 2
    assert printed == ""
    assert err.count("\n") == 1
    assert err.startswith("redqubit: ")
    assert said in err
    late = "diverged" in said or "trainable" in said  # known only when training starts
    assert out.exists() == late  # else the folder is still free for the right command


def test_a_folder_with_another_run_is_refused_and_kept(line: Line, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert line(*audit_of("hybrid_twin"), "--out", str(out))[0] == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    code, _, err = line(*audit_of("hybrid_twin"), "--set", "epochs=2", "--out", str(out))
    assert code == 2
    assert "holds another (other epochs): choose another --out" in err
    code, _, err = line("reproduce", "robqunn", "--preset", "smoke", "--out", str(out))
    assert code == 2
    assert "holds another" in err
    assert err.count("\n") == 1
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert (place / "foreign" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_an_audit_prints_its_findings_and_where_the_report_is(line: Line, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, printed, _ = line(*audit_of("hybrid_twin"), "--out", str(out))
    assert code == 0
    lines = printed.strip().splitlines()
    assert lines[-1] == f"Report: {out / 'report.html'}"
    findings = json.loads((out / "report.json").read_text(encoding="utf-8"))["findings"]
    assert lines[:-1] == [f"[{f['status']}] {f['text']}" for f in findings]
    code, printed, err = line(*audit_of("hybrid_twin"), "--out", str(out), "--quiet")
    assert (code, printed, err) == (0, f"Report: {out / 'report.html'}\n", "")
    code, printed, err = line(*audit_of("hybrid_twin"), "--out", str(out), "--json")
    assert (code, err) == (0, "")
    assert json.loads(printed)["findings"] == findings
    (out / "report.html").unlink()
    assert line("report", str(out), "--quiet") == (0, f"Report: {out / 'report.html'}\n", "")
    assert "hybrid_twin" in (out / "report.html").read_text(encoding="utf-8")
    assert json.loads(line("report", str(out), "--json")[1])["findings"] == findings


def test_a_screening_prints_its_findings_and_where_the_report_is(line: Line, place: Path) -> None:
    words = ["screen", "--data", "good.npz", "--encoder", "myencoders:turns", "--set", "draws=2", "--device", "cpu"]
    code, printed, err = line(*words, "--noise", "quid:0.05", "--set", "noise=loud", "--set", "neighbours=5")
    assert code == 0, err
    folder = place / "runs" / "screen-turns+quid-0.05-good"  # the default: the names of encoder and data
    findings = json.loads((folder / "report.json").read_text(encoding="utf-8"))["findings"]
    assert printed.strip().splitlines() == [
        *(f"[{f['status']}] {f['text']}" for f in findings),
        f"Report: {folder / 'report.html'}",
    ]
    rerun = shlex.split(json.loads((folder / "run.json").read_text(encoding="utf-8"))["rerun"])
    before = (folder / "results.jsonl").read_bytes()
    code, printed, err = line(*rerun[1:], "--json")  # finds everything done
    assert (code, err) == (0, "")
    assert json.loads(printed)["findings"] == findings
    assert (folder / "results.jsonl").read_bytes() == before


def test_options_stand_above_settings_above_the_file(line: Line, place: Path) -> None:
    words = [
        "audit",
        "--model",
        "mymodels:good",
        "--data",
        "good.npz",
        "--config",
        "good.yaml",
        "--workers",
        "1",
        "--quiet",
    ]
    code, printed, err = line(*words, "--set", "epochs=3", "--set", "seeds=[2]", "--seeds", "4,5")
    assert code == 0, err
    folder = place / "runs" / "audit-good-good"  # the default: the names of model and data
    assert printed == f"Report: {folder / 'report.html'}\n"
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert (config["epochs"], config["eps"], config["seeds"]) == (3, [0.05, 0.1], [4, 5])
    assert {r.seed for r in load(folder / "results.jsonl")} == {4, 5}


@pytest.mark.tiny
def test_list_names_what_there_is(line: Line) -> None:
    from redqubit import ATTACKS, EXPERIMENTS
    from redqubit import MODELS as REGISTERED

    code, printed, _ = line("list")
    assert code == 0
    known = json.loads(line("list", "--json")[1])
    assert set(known["models"]) == set(REGISTERED)
    assert set(known["attacks"]) == {*ATTACKS, "pgd_strong"}
    assert set(known["experiments"]) == set(EXPERIMENTS)
    assert {"digits", "mnist", "imagenette"} <= set(known["data"])
    for family, names in known.items():
        assert f"{family}:" in printed
        for name, text in names.items():
            assert f"  {name}" in printed
            assert text in printed
            assert text or family == "data"


def test_doctor_checks_a_circuit_whose_value_is_known(line: Line) -> None:
    code, printed, _ = line("doctor")
    assert code == 0
    assert "canary circuit  ok" in printed
    found = json.loads(line("doctor", "--json")[1])
    assert found["canary circuit"] == "ok"
    assert found["redqubit"] == redqubit.__version__


def test_version_and_help(line: Line) -> None:
    assert line("--version") == (0, f"redqubit {redqubit.__version__}\n", "")
    code, printed, _ = line("--help")
    assert code == 0
    assert all(command in printed for command in ("audit", "reproduce", "screen", "list", "report", "doctor"))


def test_wrong_words_on_the_line_end_with_2(line: Line) -> None:
    for words in (["adit"], ["audit", "--modle", "qunn"], ["reproduce"], ["reproduce", "robqunn", "--workers", "0"]):
        code, printed, err = line(*words)
        assert code == 2
        assert printed == ""
        assert err


def test_a_process_ends_with_2_and_one_line(place: Path) -> None:
    program = "from redqubit.cli import main; main()"
    words = [sys.executable, "-c", program, *audit_of(data="nan.npz"), "--out", "never"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=place, timeout=100)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == ("redqubit: Argument `x` must be finite, but it holds NaN: drop or fill those samples.\n")
    assert not (place / "never").exists()
