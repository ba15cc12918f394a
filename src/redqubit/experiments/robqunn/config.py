"""The configuration of the RobQuNN experiment, and the models that it compares."""

import math
from dataclasses import dataclass
from typing import Literal

ENTANGLED: tuple[Literal["none", "linear", "star", "full"], ...] = ("none", "linear", "star", "full")
QUANTUM = (*ENTANGLED, "random")
CLASSICAL = ("CNN frozen", "CNN cosine", "CNN trained")
MODELS = (*QUANTUM, *CLASSICAL)


@dataclass(frozen=True)
class RobQuNN:
    """The configuration. What the paper leaves open is marked so."""

    data: str = "mnist"
    n_train: int = 10_000  # open; the first of each class
    n_test: int = 2_000  # open
    draws: int = 20  # of all random angles and kernels; the paper shows one
    epochs: int = 30
    batch_size: int = 4
    lr: float = 1e-3
    trained_batch_size: int = 32  # of our own twin, the CNN whose convolution trains too
    phi: float = math.pi / 4  # open; radians, of every ZZ
    eps: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)  # open; FGSM and transfer
    iterative_eps: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)  # PGD and MIM
    n_iterative: int = 300  # first test samples that PGD and MIM see
    pgd_steps: int = 40
    probe_eps: float = 0.1  # of the controls: random noise, softmax loss, absolute step, gradient-free, transfer
    n_square: int = 100  # first test samples that the gradient-free attack sees
    square_queries: int = 1_000
    seed: int = 0


PRESETS = {
    "smoke": RobQuNN(
        data="digits",
        n_train=600,
        n_test=200,
        draws=3,
        epochs=10,
        batch_size=16,
        eps=(0.05, 0.1, 0.2, 0.5),
        iterative_eps=(0.05, 0.1, 0.2),
        n_iterative=100,
        pgd_steps=10,
        n_square=50,
        square_queries=200,
    ),
    "laptop": RobQuNN(),
    "paper": RobQuNN(
        n_train=60_000,
        n_test=10_000,
        iterative_eps=(0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
        n_iterative=10_000,
        n_square=1_000,
    ),
}
