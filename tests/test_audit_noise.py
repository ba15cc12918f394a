"""Audits of noisy models: the noise is on, named, and part of what is attacked."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from redqubit.auditing import audit
from redqubit.cli import app
from redqubit.errors import UsageError
from redqubit.quantum import Channel
from redqubit.quantum.noise import NoiseModel, device, named, quid_noise

QUICK = [
    "--data",
    "iris",
    "--seeds",
    "0",
    "--eps",
    "0.1",
    "--set",
    "claim_eps=0.1",
    "--attacks",
    "fgsm",
    "--workers",
    "1",
]


def test_a_noisy_model_stands_beside_itself_without_noise(tmp_path: Path) -> None:
    command = ["audit", "--model", "hybrid", "--twin", "hybrid", "--noise", "quid:0.01", *QUICK]
    done = CliRunner().invoke(app, [*command, "--set", "epochs=4", "--json", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, (done.output, done.exception)
    page = json.loads(done.stdout)
    text = json.dumps(page)
    assert "hybrid+quid-0.01" in text
    flags = [f for f in json.loads((tmp_path / "run/summary.json").read_text())["flags"] if f["code"] == "noise-is-off"]
    (flag,) = flags  # of the noisy model alone
    assert (flag["severity"], flag["subject"]) == ("ok", "hybrid+quid-0.01")
    assert flag["evidence"]["smallest_effect"] > 1e-3
    assert "28 AmplitudeDamping" not in text  # the counts are those of this circuit:
    assert "68 AmplitudeDamping" in text  # 4 H, 4 + 24 RY, 18 CX on two wires each


def test_noise_of_a_model_without_circuit_is_told() -> None:
    with pytest.raises(UsageError, match="QuantumLayer"):
        audit("cnn", "digits", noise="ibm_kyiv")


def test_short_names_of_noise() -> None:
    assert named("quid:0.1") == quid_noise(0.1)
    assert named("ibm_kyiv") == device("ibm_kyiv")
    assert named("BitFlip:0.2") == NoiseModel.uniform(Channel("BitFlip", (0,), (0.2,)))
    for text, told in (
        ("quit:0.1", "quid"),
        ("quid:x", "quid:0.05"),
        ("BitFlip", "BitFlip:0.05"),
        ("quid:2", "[0, 1]"),
    ):
        with pytest.raises(UsageError) as caught:
            named(text)
        assert told in str(caught.value)
