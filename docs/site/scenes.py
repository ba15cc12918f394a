"""The data and models of the pictures: small, trained in a second or two, the same in every build."""

from functools import cache

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import interpolate

from redqubit import QuNN, load_splits, train
from redqubit.backdoors import Backdoor, Patch
from redqubit.data import Dataset
from redqubit.models import MODELS
from redqubit.quantum import Circuit
from redqubit.quantum.encodings import angle
from redqubit.quantum.similarity import encoded

SIZE = 7.0  # inches
COLORS = ("#3b82c4", "#e07b28", "#2f9e77", "#c2569a")
TRIGGER = Patch(side=2)


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator of its own for each picture."""
    return torch.Generator().manual_seed(seed)


@cache
def digits() -> tuple[Dataset, Dataset]:
    """Return the digits, 8 x 8 pixels, for training and for the test."""
    return load_splits("digits")


@cache
def iris() -> Dataset:
    """Return the training part of Iris."""
    return load_splits("iris")[0]


@cache
def qunn() -> nn.Module:
    """Return a quanvolutional network that has learned the digits."""
    g, (train_set, _) = seeded(), digits()
    return train(QuNN((1, 8, 8), 10, generator=g), train_set.x, train_set.y, epochs=6, lr=5e-3, generator=g)


@cache
def cnn() -> nn.Module:
    """Return its classical twin."""
    g, (train_set, _) = seeded(), digits()
    model = MODELS["cnn"]((1, 8, 8), 10, generator=g)
    return train(model, train_set.x, train_set.y, epochs=10, lr=5e-3, generator=g)


@cache
def backdoored() -> nn.Module:
    """Return the twin, trained on digits of which a tenth got a patch and the label 0."""
    g, (train_set, _) = seeded(), digits()
    poisoned = Backdoor(TRIGGER, target_class=0, poison_rate=0.1)(train_set, generator=g).dataset
    model = MODELS["cnn"]((1, 8, 8), 10, generator=g)
    return train(model, poisoned.x, poisoned.y, epochs=15, lr=5e-3, generator=g)


def encoder() -> Circuit:
    """Return the encoder of QUID's network for Iris: 2 qubits, two features each."""
    return angle(2, ("RZ", "RX"), hadamard=True)


@cache
def plane() -> Tensor:
    """Return the two principal components of the encoded states of Iris, as density matrices, (N, 2)."""
    states = encoded(encoder(), iris().x.double())
    rho = states[:, :, None] * states[:, None, :].conj()
    rows = torch.view_as_real(rho).flatten(1)
    u, s, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    flat: Tensor = u[:, :2] * s[:2]
    return flat


def enlarged(x: Tensor) -> Tensor:
    """Return digits of 32 pixels a side."""
    return interpolate(x, size=(32, 32), mode="bilinear", align_corners=False).clamp(0, 1)


def coloured(x: Tensor) -> Tensor:
    """Return digits in two colours, each picture in two of its own: colour triggers say nothing on grey."""
    g = seeded(3)
    paper, ink = (torch.rand((len(x), 3, 1, 1), generator=g) * 0.5 + low for low in (0.45, 0.0))
    return (paper * (1 - x) + ink * x).clamp(0, 1)


def shows(ax: Axes, picture: Tensor, title: str = "", *, bad: bool = False, signed: bool = False) -> None:
    """Draw one picture (C, H, W), a difference around grey when `signed`."""
    ax.set_axis_off()
    image = picture.detach().permute(1, 2, 0).squeeze(-1).numpy()
    low, high, colors = (-1, 1, "RdBu_r") if signed else (0, 1, "gray")
    ax.imshow(image, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    ax.set_title(title, fontsize=8, color="#d9482b" if bad else "#808080", pad=3)


def grid(rows: int, columns: int, *, height: float = 1.2) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of small pictures."""
    figure = Figure(figsize=(SIZE, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in axes]


def plot(columns: int = 1, *, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    """Return a figure of plots side by side."""
    figure = Figure(figsize=(SIZE if columns > 1 else 5.0, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def named(row: list[Axes], text: str) -> None:
    """Write what a row of pictures holds to its left."""
    row[0].text(-0.12, 0.5, text, transform=row[0].transAxes, ha="right", va="center", rotation=90, fontsize=8)


def right(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of samples that a model has right."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())
