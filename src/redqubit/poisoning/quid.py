"""QUID: label flips to the class that is farthest in the state space of the victim's encoder."""

from dataclasses import dataclass

import torch
from torch import Tensor

from redqubit.data import Dataset
from redqubit.errors import UsageError
from redqubit.poisoning.base import POISONS, LabelPoison, clean_part
from redqubit.quantum.circuit import Circuit
from redqubit.quantum.ess import encoder_similarity, farthest_class
from redqubit.quantum.noise import NoiseModel
from redqubit.quantum.similarity import Metric, check_metric


@POISONS.register("quid")
@dataclass(frozen=True)
class QUID(LabelPoison):
    """Give each poisoned sample the class at the largest mean distance in state space.

    y = argmax_c mean of d(rho(x), rho(x_j)) over the clean samples j of class c, over all classes, the sample's own
    included; of equal ones the lowest

    The attacker knows the training set and the encoder, and neither the rest of the circuit nor any test data.

    Example:
        >>> from redqubit.quantum.encodings import angle
        >>> x = torch.tensor([[0.0], [0.1], [0.5], [0.6], [0.9], [1.0]])
        >>> data = Dataset(x, torch.tensor([0, 0, 1, 1, 2, 2]), n_classes=3)
        >>> poisoned = QUID(angle(1), ratio=0.3)(data, generator=torch.Generator().manual_seed(0))
        >>> poisoned.is_poisoned.tolist(), poisoned.y.tolist()
        ([False, False, True, False, False, True], [0, 0, 0, 1, 2, 0])

    Reference: Kundu and Ghosh, "Adversarial Data Poisoning Attacks on Quantum Machine Learning in the NISQ Era", arXiv
        2411.14412, algorithm 1; section 6 names the variant with `targeted`, without saying what the ratio is then.
    """

    circuit: Circuit  # the encoder, as it reads the inputs of the set: with its scaling, and without weights
    metric: Metric = "frobenius"  # the paper's choice
    noise: NoiseModel | None = None  # of the device that runs the encoder; the paper's noisy runs: quid_noise(0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_metric(self.metric)
        if self.circuit.n_weights:
            raise UsageError(
                f"Argument `circuit` must be an encoder without weights, but has {self.circuit.n_weights}: pass the "
                "part before them, or bind them."
            )

    def relabel(self, dataset: Dataset, is_poisoned: Tensor, generator: torch.Generator) -> Tensor:
        """Return the new labels."""
        classes: Tensor = dataset.y.unique()
        return classes[farthest_class(self.scores(dataset, is_poisoned))]

    def scores(self, dataset: Dataset, is_poisoned: Tensor) -> Tensor:
        """Return the mean distance of each poisoned sample from the clean samples of each class.

        Args:
            dataset: The training set.
            is_poisoned: Which samples are poisoned, bool, (N,).

        Returns:
            (P, C), float64, for the C classes that the set has, rising.

        Raises:
            UsageError: when the encoder takes another number of features, or a class has no clean sample left.
        """
        x, y, classes = clean_part(dataset, is_poisoned)
        poisoned = dataset.x[is_poisoned].flatten(1)
        return encoder_similarity(self.circuit, poisoned, x, y, len(classes), metric=self.metric, noise=self.noise)
