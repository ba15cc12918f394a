"""The Adversarial Robustness Toolbox on a quantum network, and RedQubit's attacks on a network that it trained.

Install it by `pip install adversarial-robustness-toolbox`.
"""

import numpy as np
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn

from redqubit import FGSM, PGD, QuNN, load_splits, train
from redqubit.data import first_stratified

EPS, STEPS = 0.1, 10


def classifier(model: nn.Module) -> PyTorchClassifier:
    """Return a model as the toolbox takes it."""
    return PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3),
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


if __name__ == "__main__":
    torch.manual_seed(0)  # PyTorch's own layers draw from it
    generator = torch.Generator().manual_seed(0)
    train_set, test_set = (first_stratified(part, n) for part, n in zip(load_splits("digits"), (400, 60), strict=True))
    x, y = test_set.x.numpy(), test_set.y.numpy()

    quantum = QuNN((1, 8, 8), 10, generator=generator)
    train(quantum, train_set.x, train_set.y, epochs=5, lr=5e-3, generator=generator)
    classical = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    judged = {"quantum": (quantum, classifier(quantum)), "classical": (classical, classifier(classical))}
    judged["classical"][1].fit(train_set.x.numpy(), train_set.y.numpy(), nb_epochs=5, batch_size=32)

    step = EPS / STEPS
    for name, (module, theirs) in judged.items():
        attacks = {
            "FGSM": (FGSM(EPS), FastGradientMethod(theirs, eps=EPS)),
            "PGD": (
                PGD(EPS, steps=STEPS, step_size=step, random_start=False),
                ProjectedGradientDescent(theirs, eps=EPS, eps_step=step, max_iter=STEPS, verbose=False),
            ),
        }
        for attack, (ours, other) in attacks.items():
            x_ours = ours(module, test_set.x, test_set.y, generator=generator).numpy()
            x_theirs = other.generate(x, y)
            right = [float((theirs.predict(found).argmax(1) == y).mean()) for found in (x_ours, x_theirs)]
            same = float((np.abs(x_ours - x_theirs) < 1e-5).mean())
            print(
                f"{name:<9} {attack:<4} right: {right[0]:.3f} ours, {right[1]:.3f} theirs; "
                f"{same:.2%} of the pixels equal"
            )
