"""Data sets: labelled inputs in [0, 1], from a name, an npz file or a folder of pictures."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redqubit import reading as files
from redqubit.data import layouts
from redqubit.data.downloads import Progress, cache_folder, fetch
from redqubit.data.layouts import Found, Split
from redqubit.data.originals import ORIGINALS, absent, check_identity
from redqubit.errors import UsageError
from redqubit.registry import unknown

SPLITS: tuple[Split, ...] = ("train", "test")


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
            raise _wrong(
                "x", "be images (N, C, H, W) or features (N, d)", f"its shape is {tuple(self.x.shape)}", "reshape"
            )
        if self.x.dtype not in (torch.float32, torch.float64):
            raise _wrong("x", "be float32", f"it is {self.x.dtype}", "scale it to [0, 1] and call .float()")
        if self.y.ndim != 1 or self.y.dtype != torch.int64:
            but = f"it is {self.y.dtype} of shape {tuple(self.y.shape)}"
            raise _wrong("y", "be int64 labels (N,)", but, "give one whole number a sample and call .long()")
        if len(self.x) != len(self.y):
            raise _wrong("y", f"have the {len(self.x)} rows of `x`", f"it has {len(self.y)}", "pair them up")
        if not self.x.numel():
            raise _wrong(
                "x", "hold at least one sample", f"its shape is {tuple(self.x.shape)}", "check the file or the filter"
            )
        if self.n_classes < 2:
            raise _wrong("n_classes", "be at least 2", f"it is {self.n_classes}", "a classifier needs two classes")
        if self.classes and len(self.classes) != self.n_classes:
            raise _wrong(
                "classes", f"name {self.n_classes} classes", f"it names {len(self.classes)}", "name each one once"
            )
        low, high = (float(v) for v in torch.aminmax(self.x.detach()))  # aminmax propagates NaN
        if low != low:
            raise _wrong("x", "be finite", "it holds NaN", "drop or fill those samples")
        if low < 0 or high > 1:
            raise _wrong(
                "x", "lie in [0, 1]", f"it spans {low:g} to {high:g}", "divide by 255" if high > 1 else "rescale it"
            )
        first, last = (int(v) for v in torch.aminmax(self.y))
        if first < 0 or last >= self.n_classes:
            but = f"it spans {first} to {last}"
            raise _wrong("y", f"lie in 0..{self.n_classes - 1}", but, "number the classes from 0 or set `n_classes`")

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
                raise _wrong(
                    "indices", f"be a mask ({len(self)},)", f"its shape is {tuple(keep.shape)}", "make one a sample"
                )
            keep = keep.nonzero()[:, 0]
        if keep.ndim != 1 or not keep.numel() or keep.is_floating_point():
            raise _wrong(
                "indices", "name at least one sample", f"they are {keep.dtype} {tuple(keep.shape)}", "widen them"
            )
        if int(keep.min()) < 0 or int(keep.max()) >= len(self):
            but = f"they span {int(keep.min())} to {int(keep.max())}"
            raise _wrong("indices", f"lie in 0..{len(self) - 1}", but, "keep them inside the set")
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
        raise _wrong("dataset", "hold two classes to train on", but, "add samples of another class")


def stratified_subset(dataset: Dataset, n: int, *, generator: torch.Generator) -> Dataset:
    """Draw n samples without replacement, each class in proportion; they keep their order.

    Args:
        dataset: The set to draw from.
        n: Number of samples, 1..N. Class k gets n N_k / N, rounded by the largest remainder.
        generator: CPU generator of the draw.

    Raises:
        UsageError: If n is out of range.

    Example:
        >>> drawn = stratified_subset(load("iris"), 30, generator=torch.Generator().manual_seed(0))
        >>> torch.bincount(drawn.y).tolist()
        [10, 10, 10]
    """
    return dataset.subset(_first_of_each(dataset.y, n, torch.randperm(len(dataset), generator=generator)))


def first_stratified(dataset: Dataset, n: int) -> Dataset:
    """Take the first samples of each class, each class in proportion; they keep their order.

    Args:
        dataset: The set to take from.
        n: Number of samples, 1..N. Class k gets n N_k / N, rounded by the largest remainder.

    Raises:
        UsageError: If n is out of range.

    Example:
        >>> torch.bincount(first_stratified(load("digits"), 50).y).tolist()
        [5, 5, 5, 5, 5, 5, 5, 5, 5, 5]
    """
    return dataset.subset(_first_of_each(dataset.y, n, torch.arange(len(dataset))))


def _first_of_each(y: Tensor, n: int, order: Tensor) -> Tensor:
    """Return sorted places of n samples: of each class the first along `order`."""
    if not 1 <= n <= len(y):
        raise _wrong("n", f"lie in 1..{len(y)}", f"it is {n}", "ask for as many samples as the set has, or fewer")
    y = y.cpu()
    counts = torch.bincount(y)
    exact = n * counts  # share of each class, times N: whole numbers, so that no share is rounded wrongly
    quota = exact // len(y)
    # stable: of equal remainders the lower label comes first
    largest = torch.sort(exact % len(y), descending=True, stable=True).indices
    quota[largest[: n - int(quota.sum())]] += 1
    kept = [order[y[order] == label][: int(quota[label])] for label in range(len(counts))]
    return torch.cat(kept).sort().values


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    split: Split = "train",
    download: bool = True,
    progress: Progress | None = None,
) -> Dataset:
    """Load one split of a named data set.

    `digits` and `iris` come with scikit-learn. The others are looked for in `data_dir`; without it, in the folder
    that the environment variable REDQUBIT_DATA names and then in the user's cache. There, in the folder itself or
    in `<name>/`, may lie `<name>.npz` or the publisher's own files. What is absent is downloaded into
    `<data_dir>/<name>/`, else into the cache, and its checksum is compared.

    Args:
        name: `digits`, `iris`, `mnist`, `fashion_mnist`, `kmnist`, `emnist_letters`, `letters`, `letters_extra` (more
            in train), `devanagari`, `cifar10`, `cifar10_official_test`, `cifar100` or `imagenette` (128 x 128).
        data_dir: Folder with the files.
        split: "train" or "test".
        download: Whether to download what is absent.
        progress: Called with (bytes done, bytes in all) during a download.

    Raises:
        UsageError: If the name is unknown, or the set is absent, broken, or cannot be downloaded.

    Example:
        >>> train = load("digits")
        >>> train.x.shape, train.n_classes
        (torch.Size([1297, 1, 8, 8]), 10)
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if name in _BUILT_IN:
        return _BUILT_IN[name](split)
    if name not in ORIGINALS:
        raise unknown("data set", name, NAMES)
    original = ORIGINALS[name]
    if split not in original.splits:
        raise _wrong("split", f"be {' or '.join(original.splits)} for {name}", f"it is {split}", "the set has no other")
    folders = _folders(data_dir)
    found = next((f for f in (original.read(folder, name, split) for folder in folders) if f is not None), None)
    if found is None and download and original.remotes(split):
        for remote in original.remotes(split):
            fetch(remote, folders[-1] / name, progress=progress)
        found = original.read(folders[-1], name, split)
    if found is None:
        raise absent(name, split, folders)
    check_identity(name, split, found)
    dataset = _dataset(found, original.size, name, original.classes)
    if tuple(dataset.x.shape[1:]) != original.shape:
        but = f"they are {tuple(dataset.x.shape[1:])}: fetch or copy it again."
        raise UsageError(f"File `{found.source}` must hold images {original.shape} for {name}, but {but}")
    return dataset


def load_splits(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> tuple[Dataset, Dataset]:
    """Load the train and the test split of a named data set; see `load`.

    Raises:
        UsageError: As `load` does.

    Example:
        >>> train, test = load_splits("iris")
        >>> len(train), len(test)
        (120, 30)
    """
    options: dict[str, Any] = {"data_dir": data_dir, "download": download, "progress": progress}
    return load(name, split="train", **options), load(name, split="test", **options)


def load_npz(path: str | os.PathLike[str], *, split: Split | None = None, n_classes: int | None = None) -> Dataset:
    """Load a set of your own from an npz file.

    Args:
        path: File with `x` and `y`, or with `x_train`, `y_train`, `x_test` and `y_test`. Images are (N, H, W),
            (N, H, W, 1), (N, H, W, 3) or (N, C, H, W), features (N, d); uint8 counts from 0 to 255, floats lie in
            [0, 1]. Labels (N,) are whole numbers from 0.
        split: "train" or "test"; None reads `x` and `y`.
        n_classes: Number of classes; None takes one more than the largest label of the file.

    Raises:
        UsageError: If the file is broken, holds Python objects or other keys, or the values are no `Dataset`.
    """
    file = _existing(path)
    keys = files.npz_keys(file)
    wanted = ("x", "y") if split is None else (f"x_{split}", f"y_{split}")
    if not keys.issuperset(wanted):
        raise UsageError(
            f"File `{file}` must hold {' and '.join(wanted)} for split={split!r}, but has {', '.join(sorted(keys))}: "
            "save x and y (split=None), or x_train, y_train, x_test and y_test (split='train' or 'test')."
        )
    x, y = files.read_npz(file, wanted)
    if n_classes is None:
        others = [key for key in ("y_train", "y_test") if split is not None and key in keys]
        labels = [_labels(array, str(file)) for array in (y, *files.read_npz(file, others))]
        n_classes = 1 + max((int(array.max()) for array in labels if array.size), default=0)
    return _dataset(Found(x, y, file.name), n_classes, file.stem, ())


def load_image_folder(
    path: str | os.PathLike[str], *, split: Split | None = None, n_channels: int = 3, size: int | None = None
) -> Dataset:
    """Load a set of your own from pictures, a folder a class.

    Args:
        path: Folder that holds `<class>/*.png` or `*.jpg`, or these below `train/` and `test/` or `val/`.
        split: "train" or "test"; None reads the class folders in `path` itself.
        n_channels: 1 for grey, 3 for RGB.
        size: Side in pixels of the centred square that pictures are cropped and resized to; None keeps them.

    Returns:
        The set; labels count the class folders by name, those of all splits together.

    Raises:
        UsageError: If a folder is absent or empty, or a picture is broken or, without `size`, of another size.
    """
    root = _existing(path)
    if n_channels not in (1, 3):
        raise _wrong("n_channels", "be 1 or 3", f"it is {n_channels}", "choose grey or RGB")
    folder = root if split is None else layouts.split_folder(root, split)
    if folder is None or not folder.is_dir():
        raise _wrong(
            "path", f"hold {'train/' if split == 'train' else 'test/ or val/'}", f"`{root}` has none", "add it"
        )
    splits = [folder] if split is None else [f for s in SPLITS if (f := layouts.split_folder(root, s))]
    classes = layouts.class_names(*splits)
    found = layouts.read_pictures(folder, classes, n_channels=n_channels, size=size)
    return _dataset(found, len(classes), root.name, classes)


def _existing(path: str | os.PathLike[str]) -> Path:
    full = Path(path).expanduser()
    if not full.exists():
        raise _wrong("path", "exist", f"`{full}` is not there", "check the spelling")
    return full


def _folders(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return where to look; the last one takes downloads."""
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        if folder.exists() and not folder.is_dir():
            raise _wrong("data_dir", "be a folder", f"`{folder}` is a file", "name the folder that holds it")
        return [folder]
    named = os.environ.get("REDQUBIT_DATA")
    if not named:
        return [cache_folder()]
    if not Path(named).expanduser().is_dir():
        raise UsageError(f"Variable REDQUBIT_DATA must name a folder, but `{named}` is none: correct or unset it.")
    return [Path(named).expanduser(), cache_folder()]


def _dataset(found: Found, n_classes: int, name: str, classes: tuple[str, ...]) -> Dataset:
    x, y = found.x, _labels(found.y, found.source)
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


def _labels(y: NDArray[Any], where: str) -> NDArray[np.int64]:
    if y.ndim != 1 or y.dtype.kind not in "iu" or y.max(initial=0) >= files.MAX_CLASSES:
        but = f"they are {y.dtype} {y.shape}: save class numbers below {files.MAX_CLASSES:,}."
        raise UsageError(f"File `{where}` must hold whole-number labels (N,), but {but}")
    return y.astype(np.int64)


def _digits(split: Split) -> Dataset:
    from sklearn.datasets import load_digits

    table = load_digits()
    x = torch.from_numpy(table.images).float()[:, None] / 16  # (N, 8, 8) in 0..16 -> (N, 1, 8, 8)
    return _split_off("digits", x, torch.from_numpy(table.target).long(), tuple("0123456789"), 500)[SPLITS.index(split)]


def _iris(split: Split) -> Dataset:
    from sklearn.datasets import load_iris

    table = load_iris()
    x, y = torch.from_numpy(table.data).float(), torch.from_numpy(table.target).long()
    low, span = x.amin(0), x.amax(0) - x.amin(0)
    train, test = _split_off("iris", (x - low) / span, y, tuple(table.target_names.tolist()), 30)
    # Fit the range on train alone; a test value beyond it is clipped.
    low, span = train.x.amin(0), train.x.amax(0) - train.x.amin(0)
    chosen = train if split == "train" else test
    return replace(chosen, x=((chosen.x - low) / span).clamp(0, 1))


def _split_off(name: str, x: Tensor, y: Tensor, classes: tuple[str, ...], n_test: int) -> tuple[Dataset, Dataset]:
    whole = Dataset(x, y, len(classes), name, classes, "scikit-learn")
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    in_test = torch.zeros(len(y), dtype=torch.bool)
    in_test[_first_of_each(y, n_test, order)] = True
    return whole.subset(~in_test), whole.subset(in_test)


def _wrong(argument: str, must: str, but: str, advice: str) -> UsageError:
    return UsageError(f"Argument `{argument}` must {must}, but {but}: {advice}.")


_BUILT_IN: dict[str, Callable[[Split], Dataset]] = {"digits": _digits, "iris": _iris}
NAMES: tuple[str, ...] = (*_BUILT_IN, *ORIGINALS)
