"""torchattacks on a quantum network, RedQubit's attacks on a network of torchattacks' users: the same pictures.

Install it by `pip install --no-deps torchattacks`: it asks for torchvision and an old requests, and uses neither here.
"""

import torch
import torchattacks
from torch import nn

from redqubit import FGSM, MIM, PGD, QuNN, load_splits, train
from redqubit.data import first_stratified
from redqubit.metrics import accuracy, is_correct
from redqubit.training import logits

EPS, STEPS = 0.1, 10


def pairs(model: nn.Module) -> dict[str, tuple[PGD | FGSM | MIM, torchattacks.attack.Attack]]:
    """Return each attack of ours with the one of torchattacks that does the same."""
    step = EPS / STEPS
    return {
        "FGSM": (FGSM(EPS), torchattacks.FGSM(model, EPS)),
        "PGD": (
            PGD(EPS, steps=STEPS, step_size=step, random_start=False),
            torchattacks.PGD(model, EPS, step, STEPS, random_start=False),
        ),
        "MIM": (MIM(EPS, steps=STEPS), torchattacks.MIFGSM(model, EPS, 2 * step, STEPS, decay=1.0)),
    }


if __name__ == "__main__":
    torch.manual_seed(0)  # PyTorch's own layers draw from it
    generator = torch.Generator().manual_seed(0)
    train_set, test_set = (first_stratified(part, n) for part, n in zip(load_splits("digits"), (400, 60), strict=True))
    models = {
        "quantum": QuNN((1, 8, 8), 10, generator=generator),
        "classical": nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10)),
    }
    for name, model in models.items():
        train(model, train_set.x, train_set.y, epochs=5, lr=5e-3, generator=generator)
        for attack, (ours, theirs) in pairs(model).items():
            x_ours = ours(model, test_set.x, test_set.y, generator=generator)
            x_theirs = theirs(test_set.x, test_set.y)
            right = [accuracy(is_correct(logits(model, x), test_set.y)).value for x in (x_ours, x_theirs)]
            same = float(((x_ours - x_theirs).abs() < 1e-5).float().mean())
            print(
                f"{name:<9} {attack:<4} right: {right[0]:.3f} ours, {right[1]:.3f} theirs; "
                f"{same:.2%} of the pixels equal"
            )
