"""The same code on a GPU: equal numbers, equal random draws. Reported as skipped where there is no GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from redqubit.auditing import audit
from redqubit.evasion import ATTACKS
from redqubit.models import MODELS, QuantumLayer
from redqubit.quantum import Circuit, ansatzes, encodings
from redqubit.quantum.noise import quid_noise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")

CIRCUITS = {
    "heisenberg": encodings.angle(4) + ansatzes.robqunn("full", order="zz_first"),
    "state": ansatzes.dressed(10, 6),
    "complex": (encodings.angle(6) + ansatzes.strongly_entangling(6)) * 2,
}


@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_and_gradients_equal_the_cpu(name: str, dtype: torch.dtype) -> None:
    circuit = CIRCUITS[name]
    x = torch.rand(32, circuit.n_inputs, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found = []
    for device in ("cpu", "cuda"):
        layer = QuantumLayer(circuit, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        leaf = x.to(device).requires_grad_()
        out = layer(leaf)
        found.append([v.cpu() for v in (out.detach(), *torch.autograd.grad(out.square().sum(), (leaf, layer.weights)))])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-4 if dtype == torch.float32 else 1e-11)


MODES: dict[str, tuple[Circuit, dict[str, Any]]] = {
    "noise": (encodings.angle(4) + ansatzes.sim(6), {"noise": quid_noise(0.05)}),
    "density matrix": ((encodings.angle(3) + ansatzes.sim(6, 3)) * 2, {"noise": quid_noise(0.05)}),
    "trajectories": (ansatzes.dressed(9, 1), {"noise": quid_noise(0.05), "n_trajectories": 4}),
    "shots": (encodings.angle(4) + ansatzes.sim(6), {"shots": 100}),
    "adjoint": (ansatzes.dressed(12, 2), {"gradient": "adjoint"}),
    "parameter-shift": (encodings.angle(3) + ansatzes.sim(6, 3), {"gradient": "parameter-shift", "shots": 100}),
    "spsa": (encodings.angle(3) + ansatzes.sim(6, 3), {"gradient": "spsa"}),
    "Pauli sums": (ansatzes.dressed(3, 2), {"observables": [{"XYZ": 1.0, "ZII": 0.5}]}),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_equals_the_cpu(name: str) -> None:
    circuit, options = MODES[name]
    x = torch.rand(8, circuit.n_inputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for device in ("cpu", "cuda"):
        layer = QuantumLayer(circuit, generator=torch.Generator().manual_seed(0), **options).to(device, torch.float64)
        leaf = x.to(device).requires_grad_()
        out = layer(leaf)
        found.append([v.cpu() for v in (out.detach(), *torch.autograd.grad(out.sum(), (leaf, layer.weights)))])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-6 if name == "spsa" else 1e-9)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_attacks_equal_the_cpu(name: str) -> None:
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.arange(16) % 10
    found = []
    for device in ("cpu", "cuda"):
        model = MODELS["qunn"]((1, 8, 8), 10, generator=torch.Generator().manual_seed(0)).to(device, torch.float64)
        generator = torch.Generator().manual_seed(2)
        found.append(ATTACKS[name](0.1)(model, x.to(device), y.to(device), generator=generator).cpu())
    assert torch.allclose(*found, atol=1e-9)


def test_audit_runs_there(tmp_path: Path) -> None:
    page = audit(
        "qunn",
        "digits",
        seeds=[0],
        eps=[0.1],
        n_train=200,
        n_test=50,
        epochs=2,
        attacks=["fgsm", "pgd"],
        out=tmp_path / "run",
        device="cuda",
    )
    assert page.exists()
