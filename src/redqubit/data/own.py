"""Sets of your own, from an npz file or a folder of pictures."""

import os
from pathlib import Path

import numpy as np
import torch

from redqubit import reading as files
from redqubit.data import layouts
from redqubit.data.dataset import Dataset, as_dataset, as_labels, stratified_subset, wrong
from redqubit.data.layouts import SPLITS, Found, Split
from redqubit.errors import UsageError


def load_npz(path: str | os.PathLike[str], *, split: Split | None = None, n_classes: int | None = None) -> Dataset:
    """Load a set of your own from an npz file.

    Args:
        path: File with `x` and `y`, or with `x_train`, `y_train`, `x_test` and `y_test`. Images are (N, H, W),
            (N, H, W, 1), (N, H, W, 3) or (N, C, H, W), features (N, d); uint8 counts from 0 to 255, floats lie in
            [0, 1]. Labels (N,) are whole numbers from 0; those from 1 to n are refused unless `n_classes` is set.
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
        labels = [as_labels(array, str(file)) for array in (y, *files.read_npz(file, others))]
        present = np.unique(np.concatenate(labels))
        n_classes = 1 + int(present.max(initial=0))
        if len(present) > 1 and np.array_equal(present, np.arange(1, n_classes)):
            raise UsageError(
                f"File `{file}` must hold labels from 0, but they are 1 to {present[-1]}, each there and none 0: "
                "subtract 1, or set `n_classes` where class 0 has no sample."
            )
    return as_dataset(Found(x, y, file.name), n_classes, file.stem, ())


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
        raise wrong("n_channels", "be 1 or 3", f"it is {n_channels}", "choose grey or RGB")
    folder = root if split is None else layouts.split_folder(root, split)
    if folder is None or not folder.is_dir():
        raise wrong("path", f"hold {'train/' if split == 'train' else 'test/ or val/'}", f"`{root}` has none", "add it")
    splits = [folder] if split is None else [f for s in SPLITS if (f := layouts.split_folder(root, s))]
    classes = layouts.class_names(*splits)
    found = layouts.read_pictures(folder, classes, n_channels=n_channels, size=size)
    return as_dataset(found, len(classes), root.name, classes)


def own_splits(path: str | os.PathLike[str]) -> tuple[Dataset, Dataset]:
    """Load a set of your own for training and for testing.

    Args:
        path: Folder of pictures with train and test, or npz file with x_train, y_train, x_test and y_test, or with x
            and y: a fifth of these is kept for testing, and what equals a sample of it is not trained on.

    Raises:
        UsageError: As `load_npz` and `load_image_folder` do.
    """
    place = _existing(path)
    if place.is_dir():
        return load_image_folder(place, split="train"), load_image_folder(place, split="test")
    keys = files.npz_keys(place)
    if not keys.issuperset({"x", "y"}) or keys.issuperset({"x_train", "y_train", "x_test", "y_test"}):
        return load_npz(place, split="train"), load_npz(place, split="test")
    whole = load_npz(place)
    test_set = stratified_subset(whole, max(len(whole) // 5, 1), generator=torch.Generator().manual_seed(0))
    kept = {tuple(row.flatten().tolist()) for row in test_set.x}
    rest = [i for i, row in enumerate(whole.x) if tuple(row.flatten().tolist()) not in kept]
    return whole.subset(rest), test_set


def _existing(path: str | os.PathLike[str]) -> Path:
    full = Path(path).expanduser()
    if not full.exists():
        raise wrong("path", "exist", f"`{full}` is not there", "check the spelling")
    return full
