"""Labelled inputs in [0, 1], and the first or a random part of each class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redqubit.data.layouts import Found
from redqubit.errors import UsageError
from redqubit.reading import MAX_CLASSES


@dataclass(frozen=True, eq=False)
class Dataset:
    """Hold labelled inputs; whatever breaks what follows is refused.

    Attributes:
        x: Inputs in [0, 1], float32 (or float64); images are (N, C, H, W), features (N, d).
        y: Labels in 0..n_classes-1, int64, (N,).
        n_classes: Number of classes, at least 2.
        name: Name of the set, for reports.
        classes: Names of the classes, one per label.
        source: File, folder or library that it came from, for reports.

    Raises:
        UsageError: If it is empty, or a rank, a length, a type or a range is wrong, or an input is NaN or infinite.

    Example:
        >>> ones = Dataset(torch.ones(3, 2), torch.tensor([0, 1, 1]), n_classes=2)
        >>> len(ones), len(ones.subset([0, 2]))
        (3, 2)
        >>> Dataset(torch.ones(3, 2) * 255, torch.tensor([0, 1, 1]), n_classes=2)
        Traceback (most recent call last):
        redqubit.errors.UsageError: Argument `x` must lie in [0, 1], but it spans 255 to 255: divide by 255.
    """

    x: Tensor
    y: Tensor
    n_classes: int
    name: str = ""
    classes: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if self.x.ndim not in (2, 4):
            raise wrong(
                "x", "be images (N, C, H, W) or features (N, d)", f"its shape is {tuple(self.x.shape)}", "reshape"
            )
        if self.x.dtype not in (torch.float32, torch.float64):
            raise wrong("x", "be float32", f"it is {self.x.dtype}", "scale it to [0, 1] and call .float()")
        if self.y.ndim != 1 or self.y.dtype != torch.int64:
            but = f"it is {self.y.dtype} of shape {tuple(self.y.shape)}"
            raise wrong("y", "be int64 labels (N,)", but, "give one whole number a sample and call .long()")
        if len(self.x) != len(self.y):
            raise wrong("y", f"have the {len(self.x)} rows of `x`", f"it has {len(self.y)}", "pair them up")
        if not self.x.numel():
            raise wrong(
                "x", "hold at least one sample", f"its shape is {tuple(self.x.shape)}", "check the file or the filter"
            )
        if self.n_classes < 2:
            raise wrong("n_classes", "be at least 2", f"it is {self.n_classes}", "a classifier needs two classes")
        if self.classes and len(self.classes) != self.n_classes:
            raise wrong(
                "classes", f"name {self.n_classes} classes", f"it names {len(self.classes)}", "name each one once"
            )
        low, high = (float(v) for v in torch.aminmax(self.x.detach()))  # aminmax propagates NaN
        if low != low:
            raise wrong("x", "be finite", "it holds NaN", "drop or fill those samples")
        if low < 0 or high > 1:
            raise wrong(
                "x", "lie in [0, 1]", f"it spans {low:g} to {high:g}", "divide by 255" if high > 1 else "rescale it"
            )
        first, last = (int(v) for v in torch.aminmax(self.y))
        if first < 0 or last >= self.n_classes:
            but = f"it spans {first} to {last}"
            raise wrong("y", f"lie in 0..{self.n_classes - 1}", but, "number the classes from 0 or set `n_classes`")

    def __len__(self) -> int:
        return len(self.y)

    def subset(self, indices: Tensor | Sequence[int]) -> "Dataset":
        """Keep the samples at these places, in this order.

        Args:
            indices: Places in 0..N-1, or a boolean mask (N,).

        Raises:
            UsageError: If nothing is kept, a place is out of range, or a mask has another length.
        """
        keep = torch.as_tensor(indices, device=self.y.device)
        if keep.dtype == torch.bool:
            if keep.shape != self.y.shape:
                raise wrong(
                    "indices", f"be a mask ({len(self)},)", f"its shape is {tuple(keep.shape)}", "make one a sample"
                )
            keep = keep.nonzero()[:, 0]
        if keep.ndim != 1 or not keep.numel() or keep.is_floating_point():
            raise wrong(
                "indices", "name at least one sample", f"they are {keep.dtype} {tuple(keep.shape)}", "widen them"
            )
        if int(keep.min()) < 0 or int(keep.max()) >= len(self):
            but = f"they span {int(keep.min())} to {int(keep.max())}"
            raise wrong("indices", f"lie in 0..{len(self) - 1}", but, "keep them inside the set")
        keep = keep.long()
        return replace(self, x=self.x[keep], y=self.y[keep])


def check_trainable(dataset: Dataset) -> None:
    """Refuse a set that no classifier can be trained on.

    Raises:
        UsageError: If all samples carry one label.
    """
    present = torch.unique(dataset.y)
    if len(present) < 2:
        but = f"all labels are {int(present[0])}"
        raise wrong("dataset", "hold two classes to train on", but, "add samples of another class")


def stratified_subset(dataset: Dataset, n: int, *, generator: torch.Generator) -> Dataset:
    """Draw n samples without replacement, each class in proportion; they keep their order.

    Args:
        dataset: The set to draw from.
        n: Number of samples, 1..N. Class k gets n N_k / N, rounded by the largest remainder.
        generator: CPU generator of the draw.

    Raises:
        UsageError: If n is out of range.

    Example:
        >>> from redqubit.data import load
        >>> drawn = stratified_subset(load("iris"), 30, generator=torch.Generator().manual_seed(0))
        >>> torch.bincount(drawn.y).tolist()
        [10, 10, 10]
    """
    return dataset.subset(first_of_each(dataset.y, n, torch.randperm(len(dataset), generator=generator)))


def first_stratified(dataset: Dataset, n: int) -> Dataset:
    """Take the first samples of each class, each class in proportion; they keep their order.

    Args:
        dataset: The set to take from.
        n: Number of samples, 1..N. Class k gets n N_k / N, rounded by the largest remainder.

    Raises:
        UsageError: If n is out of range.

    Example:
        >>> from redqubit.data import load
        >>> torch.bincount(first_stratified(load("digits"), 50).y).tolist()
        [5, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    """
    return dataset.subset(first_of_each(dataset.y, n, torch.arange(len(dataset))))


def first_of_each(y: Tensor, n: int, order: Tensor) -> Tensor:
    """Return sorted places of n samples: of each class the first along `order`."""
    if not 1 <= n <= len(y):
        raise wrong("n", f"lie in 1..{len(y)}", f"it is {n}", "ask for as many samples as the set has, or fewer")
    y = y.cpu()
    counts = torch.bincount(y)
    exact = n * counts  # share of each class, times N: whole numbers, so that no share is rounded wrongly
    quota = exact // len(y)
    # stable: of equal remainders the lower label comes first
    largest = torch.sort(exact % len(y), descending=True, stable=True).indices
    quota[largest[: n - int(quota.sum())]] += 1
    kept = [order[y[order] == label][: int(quota[label])] for label in range(len(counts))]
    return torch.cat(kept).sort().values


def as_dataset(found: Found, n_classes: int, name: str, classes: tuple[str, ...]) -> Dataset:
    """Return arrays that were read as a set: uint8 from 0 to 255 or floats in [0, 1], colours first or last."""
    x, y = found.x, as_labels(found.y, found.source)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise UsageError(
            f"File `{found.source}` must hold uint8 or floats in [0, 1], but its inputs are {x.dtype}: rescale them."
        )
    if x.ndim == 4 and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    elif x.ndim == 3:
        x = x[:, None]  # (N, H, W) -> (N, 1, H, W)
    scaled = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    if x.dtype == np.uint8:
        scaled.div_(255)
    return Dataset(scaled, torch.from_numpy(y), n_classes, name, classes, found.source)


def as_labels(y: NDArray[Any], where: str) -> NDArray[np.int64]:
    """Return whole-number labels (N,), refusing what is none."""
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.max(initial=0) >= MAX_CLASSES:
        but = f"they are {y.dtype} {y.shape}: save class numbers below {MAX_CLASSES:,}."
        raise UsageError(f"File `{where}` must hold whole-number labels (N,), but {but}")
    return y.astype(np.int64)


def wrong(argument: str, must: str, but: str, advice: str) -> UsageError:
    """Return the error of an argument."""
    return UsageError(f"Argument `{argument}` must {must}, but {but}: {advice}.")
