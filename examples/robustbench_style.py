"""A quantum network where RobustBench expects a model, and a model of its zoo where RedQubit expects one.

RobustBench takes an `nn.Module` from inputs in [0, 1] to logits, and so does RedQubit: neither needs a wrapper. With
`robustbench` installed, `clean_accuracy` comes from `robustbench.utils`, and a model of its zoo is audited by

    model = robustbench.utils.load_model("Standard", dataset="cifar10", threat_model="Linf")
    redqubit.audit(model, "cifar10", eps=[8 / 255], claim_eps=8 / 255)

torch alone is needed here.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from redqubit import PGD, QuNN, Square, load_splits, train
from redqubit.data import first_stratified


@torch.no_grad()
def clean_accuracy(
    model: nn.Module, x: Tensor, y: Tensor, batch_size: int = 100, device: torch.device | None = None
) -> float:
    """Return the share of samples that are classified right, called as RobustBench calls its own."""
    batches = zip(x.split(batch_size), y.split(batch_size), strict=True)
    return sum(int((model(some.to(device)).argmax(1) == of.to(device)).sum()) for some, of in batches) / len(x)


def benchmark(
    model: nn.Module, x: Tensor, y: Tensor, attack: Callable[[nn.Module, Tensor, Tensor], Tensor]
) -> tuple[float, float]:
    """Return clean and robust accuracy: a sample counts when it is right before and after the attack."""
    model.eval()
    right = model(x).argmax(1) == y
    x_adv = x.clone()
    x_adv[right] = attack(model, x[right], y[right])
    return clean_accuracy(model, x, y), clean_accuracy(model, x_adv, y)


class Normalised(nn.Module):
    """A model as a zoo holds it: normalisation inside."""

    def __init__(self, net: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        out: Tensor = self.net((x - self.mean) / self.std)
        return out


if __name__ == "__main__":
    torch.manual_seed(0)  # PyTorch's own layers draw from it
    generator = torch.Generator().manual_seed(0)
    train_set, test_set = (first_stratified(part, n) for part, n in zip(load_splits("digits"), (400, 60), strict=True))
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
    models = {"quantum": QuNN((1, 8, 8), 10, generator=generator), "classical": Normalised(net, 0.3, 0.4)}
    for name, model in models.items():
        train(model, train_set.x, train_set.y, epochs=5, lr=5e-3, generator=generator)
        for attack in (PGD(0.1), Square(0.1, queries=200)):
            clean, robust = benchmark(
                model,
                test_set.x,
                test_set.y,
                lambda model, x, y, attack=attack: attack(model, x, y, generator=generator),  # type: ignore[misc]
            )
            print(f"{name:<9} {type(attack).__name__:<6} clean {clean:.3f}, robust {robust:.3f}")
