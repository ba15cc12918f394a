"""Data sets by name: from scikit-learn, a folder, or a checked download; or those of your own by their path."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from redqubit.data.dataset import Dataset, as_dataset, first_of_each, wrong
from redqubit.data.downloads import Progress, data_folders, fetch
from redqubit.data.layouts import SPLITS, Split
from redqubit.data.originals import ORIGINALS, absent, check_identity
from redqubit.data.own import own_splits
from redqubit.errors import UsageError
from redqubit.registry import unknown


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
        raise _no_set(name)
    original = ORIGINALS[name]
    if split not in original.splits:
        raise wrong("split", f"be {' or '.join(original.splits)} for {name}", f"it is {split}", "the set has no other")
    folders = data_folders(data_dir)
    found = next((f for f in (original.read(folder, name, split) for folder in folders) if f is not None), None)
    if found is None and download and original.remotes(split):
        for remote in original.remotes(split):
            fetch(remote, folders[-1] / name, progress=progress)
        found = original.read(folders[-1], name, split)
    if found is None:
        raise absent(name, split, folders)
    check_identity(name, split, found)
    dataset = as_dataset(found, original.size, name, original.classes)
    if tuple(dataset.x.shape[1:]) != original.shape:
        but = f"they are {tuple(dataset.x.shape[1:])}: fetch or copy it again."
        raise UsageError(f"File `{found.source}` must hold images {original.shape} for {name}, but {but}")
    return dataset


def load_splits(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> tuple[Dataset, Dataset]:
    """Load the train and the test split of a named data set, or of your own.

    Args:
        name: A name, see `load`; or the path of a folder of pictures with train and test, or of an npz file with
            x_train, y_train, x_test and y_test, or with x and y, of which a fifth is kept for testing.
        data_dir: As for `load`.
        download: As for `load`.
        progress: As for `load`.

    Raises:
        UsageError: As `load`, `load_npz` and `load_image_folder` do.

    Example:
        >>> train, test = load_splits("iris")
        >>> len(train), len(test)
        (120, 30)
    """
    name = os.fspath(name)
    if name not in NAMES and os.path.exists(os.path.expanduser(name)):
        return own_splits(name)
    options: dict[str, Any] = {"data_dir": data_dir, "download": download, "progress": progress}
    return load(name, split="train", **options), load(name, split="test", **options)


def _no_set(name: str) -> UsageError:
    """Return the error for what is no data set's name: it may be meant as a path."""
    if os.path.exists(os.path.expanduser(name)):
        return UsageError(
            f"Argument `name` must be the name of a data set, but `{name}` is a file or folder: read it by "
            "load_splits, load_npz or load_image_folder."
        )
    if name.endswith(".npz") or os.path.basename(name) != name:
        return UsageError(f"Path `{name}` must lead to a file or folder of data, but is not there: check the spelling.")
    return unknown("data set", name, NAMES)


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
    in_test[first_of_each(y, n_test, order)] = True
    return whole.subset(~in_test), whole.subset(in_test)


_BUILT_IN: dict[str, Callable[[Split], Dataset]] = {"digits": _digits, "iris": _iris}
NAMES: tuple[str, ...] = (*_BUILT_IN, *ORIGINALS)
