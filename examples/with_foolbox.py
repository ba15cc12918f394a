"""Foolbox on a quantum network, and RedQubit's attacks on a model that Foolbox wraps.

Install it by `pip install foolbox`.
"""

import foolbox
import torch
from torch import Tensor, nn

from redqubit import FGSM, PGD, QuNN, load_splits, train
from redqubit.data import first_stratified
from redqubit.metrics import accuracy, is_correct
from redqubit.training import logits

EPS, STEPS = 0.1, 10


class FromFoolbox(nn.Module):
    """A model of Foolbox as RedQubit takes it: a module from [0, 1] to logits, normalisation inside."""

    def __init__(self, model: foolbox.PyTorchModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        out: Tensor = self.model(x)
        return out


if __name__ == "__main__":
    torch.manual_seed(0)  # PyTorch's own layers draw from it
    generator = torch.Generator().manual_seed(0)
    train_set, test_set = (first_stratified(part, n) for part, n in zip(load_splits("digits"), (400, 60), strict=True))
    x, y = test_set.x, test_set.y

    quantum = QuNN((1, 8, 8), 10, generator=generator)
    train(quantum, train_set.x, train_set.y, epochs=5, lr=5e-3, generator=generator)

    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    scaling = {"mean": torch.tensor([0.3]), "std": torch.tensor([0.4]), "axis": -3}
    train(net, (train_set.x - 0.3) / 0.4, train_set.y, epochs=5, lr=5e-3, generator=generator)
    theirs = foolbox.PyTorchModel(net, bounds=(0, 1), preprocessing=scaling)

    step = EPS / STEPS
    attacks = {
        "FGSM": (FGSM(EPS), foolbox.attacks.LinfFastGradientAttack(random_start=False)),
        "PGD": (
            PGD(EPS, steps=STEPS, step_size=step, random_start=False),
            foolbox.attacks.LinfPGD(abs_stepsize=step, steps=STEPS, random_start=False),
        ),
    }
    judged = {
        "quantum": (quantum, foolbox.PyTorchModel(quantum, bounds=(0, 1))),
        "classical": (FromFoolbox(theirs), theirs),
    }
    for name, (module, wrapped) in judged.items():
        for attack, (ours, other) in attacks.items():
            x_ours = ours(module, x, y, generator=generator)
            _, x_theirs, fooled = other(wrapped, x, y, epsilons=EPS)
            right = accuracy(is_correct(logits(module, x_ours), y)).value
            same = float(((x_ours - x_theirs).abs() < 1e-5).float().mean())
            print(
                f"{name:<9} {attack:<4} right: {right:.3f} ours, {1 - float(fooled.float().mean()):.3f} theirs; "
                f"{same:.2%} of the pixels equal"
            )
