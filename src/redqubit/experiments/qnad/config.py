"""The configuration of the experiment on quantum noise as a defense."""

from dataclasses import dataclass, replace

SOURCE = "Kundu et al., QNAD: Quantum Noise Injection for Adversarial Defense in Deep Neural Networks, HOST 2024"
INTRINSIC, CROSSTALK = "intrinsic noise", "crosstalk"
RANDOM, LOWEST = "crosstalk, random weights", "crosstalk, least weights"
JUDGED = (INTRINSIC, CROSSTALK, RANDOM, LOWEST)
PARTS = ("table1", *(f"figure{n}" for n in range(3, 15)))


@dataclass(frozen=True)
class Case:
    """A network, its data, and how it is attacked.

    Attributes:
        name: Name in tables; the paper's where it has this case.
        source: Name of the data set.
        model: Name in `redqubit.models.MODELS`.
        eps: Radii of FGSM and PGD, pixels in [0, 1].
        shown_eps: The one of them in Table I.
        judged_eps: Radii of `eps` at which defenses are judged by the worst of all attacks.
        epochs: Passes over the training pictures.
        augment: Whether training pictures are mirrored and shifted.
        batch_size: Pictures in a step.
        lr: Rate of Adam.
        n_train: Training pictures; 0 takes all that validation leaves.
        n_validation: Training pictures that choose the level of crosstalk and calibrate the device.
        n_test: Pictures that are attacked.
        n_judged: First ones of those, by which defenses are judged.
        steps: Of PGD there.
        limit: Most draws of EOT there.
        judged: Names of the defenses there: the device's own noise, and crosstalk on weights by selection.
        queries: Of the gradient-free attack there, per sample.
    """

    name: str
    source: str
    model: str
    eps: tuple[float, ...]
    shown_eps: float
    judged_eps: tuple[float, ...]
    epochs: int
    augment: bool = False
    batch_size: int = 64
    lr: float = 1e-3
    n_train: int = 0
    n_validation: int = 1000
    n_test: int = 1000
    n_judged: int = 200
    steps: int = 40
    limit: int = 16
    queries: int = 200
    judged: tuple[str, ...] = JUDGED


@dataclass(frozen=True)
class QNADStudy:
    """The configuration. Case i has the four figures from 3 + 4 i on."""

    cases: tuple[Case, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    fractions: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # of weights with crosstalk
    pairs: tuple[int, ...] = (1, 2, 4)  # of CX beside each of them
    ratio: float = 1.0  # error of simultaneous over isolated CX
    shots: int = 1024
    draws: int = 10  # fresh passes that score a noisy network under the published attacks
    judge_draws: int = 20  # and under adaptive ones; one half chooses the worst attack, the other judges


MNIST_EPS = (0.05, 0.1, 0.2, 0.3)
COLOUR_EPS = (2 / 255, 4 / 255, 6 / 255, 8 / 255)

LENET = Case("LeNet-MNIST", "mnist", "lenet5", MNIST_EPS, 0.3, (0.1, 0.3), epochs=4)
ALEXNET = Case(
    "AlexNet-CIFAR-10", "cifar10", "alexnet", COLOUR_EPS, 6 / 255, (2 / 255, 6 / 255), 60, augment=True, lr=3e-4
)
VGG16 = Case(
    "VGG16-CIFAR-100", "cifar100", "vgg16", COLOUR_EPS, 6 / 255, (2 / 255, 6 / 255), 100, augment=True, batch_size=128
)

PRESETS = {
    "smoke": QNADStudy(
        (
            Case(
                "CNN-Digits",
                "digits",
                "cnn",
                (0.1, 0.2),
                0.2,
                (0.1,),
                epochs=6,
                lr=0.01,
                n_train=600,
                n_validation=100,
                n_test=100,
                n_judged=40,
                steps=4,
                limit=2,
                queries=10,
            ),
        ),
        seeds=(0, 1),
        fractions=(0.05, 0.3),
        pairs=(1, 4),
        draws=3,
        judge_draws=4,
    ),
    "laptop": QNADStudy(
        (
            replace(LENET, n_judged=100, steps=20, queries=100),
            Case(
                ALEXNET.name,
                "cifar10",
                "alexnet",
                (2 / 255, 6 / 255),
                6 / 255,
                (2 / 255,),
                epochs=30,
                augment=True,
                batch_size=128,
                lr=3e-4,
                n_validation=128,
                n_test=128,
                n_judged=40,
                steps=10,
                limit=4,
                queries=30,
                judged=(INTRINSIC, CROSSTALK),
            ),
        ),
        fractions=(0.02, 0.1, 0.3),
        pairs=(1, 4),
        draws=4,
        judge_draws=16,
    ),
    "paper": QNADStudy((LENET, ALEXNET, VGG16), seeds=(0, 1, 2, 3, 4), draws=20),
}
