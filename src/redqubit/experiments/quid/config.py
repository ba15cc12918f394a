"""The configuration of the poisoning experiment."""

from dataclasses import dataclass

SOURCE = (
    "Kundu and Ghosh, Adversarial Data Poisoning Attacks on Quantum Machine Learning in the NISQ Era, arXiv 2411.14412"
)
PARTS = (*(f"table{n}" for n in range(2, 8)), "figure3", "figure4", "figure5")


@dataclass(frozen=True)
class Task:
    """Some classes of a data set, with equally many samples of each.

    Samples come from the test split, and where it has too few of a class from the training split; the autoencoder is
    not shown those.
    """

    name: str
    source: str
    classes: tuple[int, ...]
    per_class: int = 250


@dataclass(frozen=True)
class QUIDStudy:
    """The configuration. Noise is written as `redqubit.quantum.noise.named` reads it."""

    tasks: tuple[Task, ...]
    large: Task | None  # of Figures 3 to 5
    seeds: tuple[int, ...] = tuple(range(20))
    test_share: float = 0.3
    d: int = 8
    d_large: int = 16
    autoencoder_pictures: int = 0  # first of the training split; 0 takes all
    autoencoder_epochs: int = 30
    scale: float = 1.0  # largest angle in units of pi
    epochs: int = 30
    batch_size: int = 32
    lr: float = 0.01
    shots: int = 1000  # read-outs of each test sample
    ratio: float = 0.5  # share of the training set that is poisoned, but for Table 6
    ratios: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)  # of Table 6
    defended_ratios: tuple[float, ...] = (0.3, 0.5)  # of Table 7
    noise: str = "quid:0.05"
    strong_noise: str = "quid:0.1"  # of Table 3
    devices: tuple[str, ...] = ("ibm_kyiv", "ibm_brisbane")
    pqcs: tuple[int, ...] = (1, 8, 6)  # of Table 6, the first that of all else
    strengths: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2)  # p of Figure 4
    large_layers: int = 2
    k: int = 3  # parts of SS-DPA
    neighbours: int = 10  # that vote in the sanitizer
    cluster: int = 50  # labels that the attack on the sanitizer flips around one sample


DIGITS = (0, 1, 2, 3)
MNIST = Task("MNIST-4", "mnist", DIGITS)
FASHION = Task("Fashion-4", "fashion_mnist", (6, 7, 8, 9))
KUZUSHIJI = Task("Kuzushiji-4", "kmnist", (3, 5, 6, 9))
LETTERS = Task("Letters-4", "emnist_letters", DIGITS)
CAPITALS = Task("Capitals-4", "letters_extra", DIGITS, per_class=140)
DEVANAGARI = Task("Devanagari-4", "devanagari", DIGITS)
MNIST10 = Task("MNIST-10", "mnist", tuple(range(10)), per_class=200)

PRESETS = {
    "smoke": QUIDStudy(
        tasks=(Task("Digits-4", "digits", DIGITS, per_class=60),),
        large=Task("Digits-10", "digits", tuple(range(10)), per_class=30),
        seeds=(0, 1),
        autoencoder_epochs=4,
        d_large=8,
        epochs=2,
        lr=0.1,
        shots=100,
        ratios=(0.3, 0.5),
        defended_ratios=(0.5,),
        devices=("ibm_kyiv",),
        pqcs=(1, 6),
        strengths=(0.0, 0.1),
        cluster=10,
    ),
    "laptop": QUIDStudy(tasks=(MNIST, FASHION, CAPITALS, DEVANAGARI), large=MNIST10),
    "paper": QUIDStudy(
        tasks=(MNIST, FASHION, KUZUSHIJI, LETTERS, CAPITALS, DEVANAGARI), large=MNIST10, seeds=tuple(range(100))
    ),
}
