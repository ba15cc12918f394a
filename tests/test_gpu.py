"""The same code on a GPU: equal numbers, equal random draws. Reported as skipped where there is no GPU."""

from pathlib import Path

import pytest
import torch

from redqubit.auditing import audit
from redqubit.evasion import ATTACKS
from redqubit.models import MODELS, QuantumLayer
from redqubit.quantum import ansatzes, encodings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")

CIRCUITS = {
    "bloch": encodings.angle(4) + ansatzes.robqunn("full", order="zz_first"),
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
