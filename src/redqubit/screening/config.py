"""What a screening does."""

import math
from dataclasses import dataclass
from typing import Literal

from redqubit.errors import UsageError
from redqubit.quantum.noise import named
from redqubit.quantum.similarity import Metric, check_metric

PURE, NOISY = 12, 8  # qubits that an encoder may have without and with noise


@dataclass(frozen=True)
class Screening:
    """The configuration of a screening.

    The encoder "angle" puts H on every qubit and then RZ, RX, RZ ... in turn by `features_per_qubit` features;
    "amplitude" makes the normalised features the state. Both are those of the model `qnn`.
    """

    reduce: Literal["pca", "none"] = "pca"  # what is done to samples of more features than the encoder takes
    n_features: int = 8  # that principal components leave for a named encoder; one of your own takes what it takes
    features_per_qubit: int = 2  # angle encoding only, as are the three that follow
    prep: Literal["h", "none"] = "h"
    scale: float = math.pi  # radians per unit of a feature
    offset: float = 0.0  # radians at a feature of 0
    noise: str | None = None  # of the encoder: "quid:0.05", "ibm_kyiv" (redqubit.quantum.noise.named)
    metric: Metric = "frobenius"  # between states; without noise all order neighbours alike
    neighbours: int = 10  # that vote on a label
    planted: float = 0.05  # share of labels flipped at random, to see whether they are found
    draws: int = 10  # of such flips
    n_control: int | None = 2000  # samples among which they are planted, the first of each class; all when None
    n_samples: int | None = None  # that are screened, the first of each class; all when None
    n_shown: int = 12  # samples with a picture in the report
    seed: int = 0  # of the flips, of the halves that judge each other, and of the principal components


def check(config: Screening) -> None:
    """Raise a `UsageError` for fields that no screening takes."""
    for name, least in (
        ("n_features", 1),
        ("features_per_qubit", 1),
        ("neighbours", 1),
        ("draws", 2),
        ("n_control", 2),
        ("n_samples", 2),
        ("n_shown", 1),
    ):
        value = getattr(config, name)
        if value is not None and value < least:
            raise UsageError(f"Argument `{name}` must be {least} or more, but is {value}.")
    if not 0 < config.planted < 0.5:
        raise UsageError(f"Argument `planted` must lie between 0 and 0.5, but is {config.planted}: 0.05 is 5 %.")
    if not (math.isfinite(config.scale) and math.isfinite(config.offset) and config.scale):
        raise UsageError(
            f"Arguments `scale` and `offset` must be finite, and `scale` not 0, but are {config.scale} and "
            f"{config.offset}."
        )
    if not 0 <= config.seed < 2**63:
        raise UsageError(f"Argument `seed` must be a whole number from 0 to 2^63 - 1, but is {config.seed}.")
    check_metric(config.metric)
    if config.noise is not None:
        named(config.noise)
