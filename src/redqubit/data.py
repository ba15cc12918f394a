"""Data sets: labelled inputs in [0, 1]."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Dataset:
    """Labelled inputs.

    Attributes:
        x: Inputs in [0, 1], float32; images are (N, C, H, W), features (N, d).
        y: Labels in 0..n_classes-1, int64, (N,).
        n_classes: Number of classes.
        name: Name of the set, for reports.
        classes: Names of the classes, one per label.
    """

    x: Tensor
    y: Tensor
    n_classes: int
    name: str = ""
    classes: tuple[str, ...] = ()
