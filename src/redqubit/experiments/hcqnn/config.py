"""The configuration of the experiment on denoising."""

import math
from dataclasses import dataclass

from redqubit.models.hcqnn import Encoding

SOURCE = "Yang, Zhang and Yan, Hybrid Classical Quantum Neural Network with High Adversarial Robustness, PMLR"
PARTS = ("table1", "table2", "figure4", "figure5", "figure6")


@dataclass(frozen=True)
class Task:
    """Some classes of a data set, and the networks for them.

    Attributes:
        name: Name in tables.
        source: Name of the data set: `iris`, all of it split anew by each seed, or grey pictures.
        encoding: How the circuit takes its samples: "angle" for features, "amplitude" or "pooled" for pictures.
        seeds: Each draws samples, splits, weights, noise and order anew.
        n_train: Samples for training, each class in proportion.
        n_test: Samples for the test.
        eps: Radii of FGSM, in units of the features that networks take.
        sigma: Standard deviation of the noise that the autoencoder learns to remove.
        noise: Of that in the test.
        shown_eps: Radius of the FGSM of Table 1 and Figure 6.
        epochs: Passes of every training of a classifier.
        denoising_epochs: Of the autoencoder.
        layers: Strongly entangling layers.
        classes: Labels of the data set; all when empty.
        standardised: Features have mean 0 and variance 1 over the training set, instead of reaching from 0 to 1.
        scale: Radians per unit of a feature.
    """

    name: str
    source: str
    encoding: Encoding
    seeds: tuple[int, ...]
    n_train: int
    n_test: int
    eps: tuple[float, ...]
    sigma: float
    noise: float
    shown_eps: float
    epochs: int
    denoising_epochs: int
    layers: int
    classes: tuple[int, ...] = ()
    standardised: bool = False
    scale: float = math.pi

    @property
    def is_picture(self) -> bool:
        """Whether samples are pictures."""
        return self.encoding != "angle"


@dataclass(frozen=True)
class HCQNNStudy:
    """The configuration. Networks train by Adam; autoencoders with a rate of 1e-3."""

    tasks: tuple[Task, ...]
    lr: float = 0.01
    batch_size: int = 32
    static_eps: tuple[float, ...] = (
        0.15,
        0.3,
    )  # of adversarial training with examples made once
    online_eps: tuple[float, ...] = (0.1, 0.3)  # of adversarial training with fresh PGD examples
    online_steps: int = 7
    judged_eps: tuple[float, ...] = (0.1, 0.3)  # where defenses are judged by the worst of all attacks
    judged_steps: int = 40  # of PGD
    judged_samples: int = 200  # first ones of the test set, at most
    queries: int = 100  # of the gradient-free attack, per sample


def iris(name: str, n_seeds: int, *, standardised: bool, epochs: int = 60, denoising_epochs: int = 500) -> Task:
    """Return Iris, split 120 to 30."""
    return Task(
        name,
        "iris",
        "angle",
        tuple(range(n_seeds)),
        n_train=120,
        n_test=30,
        eps=(0.15, 0.3, 0.45, 0.6),
        sigma=0.5,
        noise=0.51,
        shown_eps=0.46,
        epochs=epochs,
        denoising_epochs=denoising_epochs,
        layers=3,
        standardised=standardised,
        scale=1.0 if standardised else math.pi,
    )


def pictures(
    name: str,
    source: str,
    encoding: Encoding,
    n_seeds: int,
    *,
    n_train: int = 4000,
    n_test: int = 1000,
    epochs: int = 10,
    denoising_epochs: int = 20,
) -> Task:
    """Return pictures of the digits 0 to 3."""
    return Task(
        name,
        source,
        encoding,
        tuple(range(n_seeds)),
        n_train=n_train,
        n_test=n_test,
        eps=(0.15, 0.3, 0.45),
        sigma=0.3,
        noise=0.3,
        shown_eps=0.3,
        epochs=epochs,
        denoising_epochs=denoising_epochs,
        layers=4,
        classes=(0, 1, 2, 3),
    )


IRIS, STANDARDISED = "Iris", "Iris, standardised"
MNIST, POOLED = "MNIST-4", "MNIST-4, pooled"


def _full(n_iris: int, n_amplitude: int, n_pooled: int) -> HCQNNStudy:
    return HCQNNStudy(
        (
            iris(IRIS, n_iris, standardised=False),
            iris(STANDARDISED, n_iris, standardised=True),
            pictures(MNIST, "mnist", "amplitude", n_amplitude),
            pictures(POOLED, "mnist", "pooled", n_pooled),
        )
    )


PRESETS = {
    "smoke": HCQNNStudy(
        (
            iris(IRIS, 2, standardised=False, epochs=15, denoising_epochs=40),
            pictures("Digits-4", "digits", "amplitude", 2, n_train=120, n_test=40, epochs=3, denoising_epochs=10),
        ),
        static_eps=(0.3,),
        online_eps=(0.1,),
        online_steps=2,
        judged_eps=(0.3,),
        judged_steps=5,
        judged_samples=20,
        queries=10,
    ),
    "laptop": _full(20, 5, 5),
    "paper": _full(100, 20, 20),
}
