"""Audit a PyTorch model of your own beside a classical twin.

Run it by `python examples/own_model.py`, or use the function from the command line:
`cd examples && redqubit audit --model own_model:make_model --twin cnn --data digits`.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from redqubit import audit
from redqubit.models import QuantumLayer
from redqubit.quantum import ansatzes


class MyNet(nn.Module):
    """Pooled pixels, a circuit on them, a linear head; any module from [0, 1] to logits will do."""

    def __init__(self, input_shape: Sequence[int], n_classes: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, height, width = input_shape
        side = 2
        self.pool = nn.AvgPool2d((height // side, width // side))
        circuit = ansatzes.dressed(channels * side**2, depth=3, scale=math.pi)
        self.circuit = QuantumLayer(circuit, generator=generator)
        self.head = nn.Linear(channels * side**2, n_classes)
        nn.init.xavier_uniform_(self.head.weight, generator=generator)  # so that the seed decides all weights
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.circuit(self.pool(x).flatten(1)))
        return logits


def make_model(input_shape: Sequence[int], n_classes: int, generator: torch.Generator) -> MyNet:
    """Return the model; the audit calls this once per seed and trains what it returns."""
    return MyNet(input_shape, n_classes, generator)


if __name__ == "__main__":
    page = audit(
        "own_model:make_model",
        "digits",
        twin="cnn",
        out=Path("runs", "own-model"),
        seeds=[0],
        eps=[0.05, 0.1],
        attacks=["fgsm", "pgd", "square"],
        n_test=50,
        epochs=5,
    )
    print(f"Report: {page.resolve()}")
