"""How publishers lay out a data set in files: IDX pairs, CIFAR batches, folders of pictures, npz samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from redqubit import reading as files
from redqubit.data import formats
from redqubit.data.downloads import Remote
from redqubit.errors import UsageError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Found:
    """Images (N, C, H, W), (N, H, W, C) or (N, H, W), labels (N,) from 0, and the file or folder they came from."""

    x: NDArray[Any]
    y: NDArray[Any]
    source: str


class Layout(Protocol):
    """How a publisher lays out a data set in files."""

    def files(self, split: Split) -> tuple[str, ...]:
        """Name the files that are looked for."""

    def remotes(self, split: Split) -> tuple[Remote, ...]:
        """Name the files to download for a split."""

    def read(self, place: Path, split: Split) -> Found | None:
        """Read a split from a folder; None where the folder does not hold it."""


@dataclass(frozen=True)
class IdxLayout:
    """MNIST and its kin: one IDX file of images and one of labels a split, raw, gzipped, or in one zip archive.

    Attributes:
        prefixes: First part of the file names of each split.
        published: Files to download, by split; "" for both.
        archive: Zip archive that holds the gzipped files.
        transposed: Whether the file stores each image with rows and columns swapped.
        first_label: Label of the first class in the file.
    """

    prefixes: Mapping[Split, str]
    published: Mapping[Split, tuple[Remote, ...]]
    archive: str = ""
    transposed: bool = False
    first_label: int = 0

    def files(self, split: Split) -> tuple[str, ...]:
        """Name the files that are looked for."""
        return (*(f"{name}[.gz]" for name in self._names(split)), *([self.archive] if self.archive else []))

    def remotes(self, split: Split) -> tuple[Remote, ...]:
        """Name the files to download for a split."""
        return self.published[split]

    def read(self, place: Path, split: Split) -> Found | None:
        """Read a split from a folder; None where the folder does not hold it."""
        images, labels = self._names(split)
        x_path, y_path = _raw_or_gz(place, images), _raw_or_gz(place, labels)
        if x_path and y_path:
            return self._found(formats.read_idx(x_path), formats.read_idx(y_path), x_path)
        archive = place / self.archive
        if self.archive and archive.is_file():
            x, y = (formats.read_zipped_idx(archive, f"{name}.gz") for name in (images, labels))
            return self._found(x, y, archive)
        return None

    def _names(self, split: Split) -> tuple[str, str]:
        prefix = self.prefixes[split]
        return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"

    def _found(self, x: NDArray[np.uint8], y: NDArray[np.uint8], path: Path) -> Found:
        if x.ndim != 3 or y.ndim != 1:
            raise UsageError(
                f"File `{path}` must hold images (N, H, W), labels (N,), but the shapes are {x.shape} and {y.shape}: "
                "fetch or copy it again."
            )
        x = x.transpose(0, 2, 1) if self.transposed else x
        return Found(x, y.astype(np.int64) - self.first_label, path.name)


def _raw_or_gz(place: Path, name: str) -> Path | None:
    # Kaggle's copies say "-images.idx3-ubyte".
    names = (name, f"{name}.gz", name.replace("-idx", ".idx"), f"{name.replace('-idx', '.idx')}.gz")
    return next((place / n for n in names if (place / n).is_file()), None)


@dataclass(frozen=True)
class ArrayLayout:
    """Kuzushiji-MNIST as NumPy arrays: one npz file of images and one of labels a split, each holding `arr_0`.

    Attributes:
        names: Files of images and of labels of each split.
    """

    names: Mapping[Split, tuple[str, str]]

    def files(self, split: Split) -> tuple[str, ...]:
        """Name the files that are looked for."""
        return self.names[split]

    def remotes(self, split: Split) -> tuple[Remote, ...]:
        """Name the files to download for a split: none, as its publisher offers IDX files too."""
        return ()

    def read(self, place: Path, split: Split) -> Found | None:
        """Read a split from a folder; None where the folder does not hold it."""
        images, labels = (place / name for name in self.names[split])
        if not (images.is_file() and labels.is_file()):
            return None
        (x,), (y,) = (files.read_npz(path, ("arr_0",)) for path in (images, labels))
        return Found(x, y, images.name)


@dataclass(frozen=True)
class CifarLayout:
    """The binary version of CIFAR-10 or CIFAR-100, unpacked or as published.

    Attributes:
        batches: Files of each split.
        label_bytes: Label bytes of a record; the last one counts.
        archive: The published tar.gz.
    """

    batches: Mapping[Split, tuple[str, ...]]
    label_bytes: int
    archive: Remote

    def files(self, split: Split) -> tuple[str, ...]:
        """Name the files that are looked for."""
        return (*self.batches[split], self.archive.name)

    def remotes(self, split: Split) -> tuple[Remote, ...]:
        """Name the files to download for a split."""
        return (self.archive,)

    def read(self, place: Path, split: Split) -> Found | None:
        """Read a split from a folder; None where the folder does not hold it."""
        names = self.batches[split]
        archive = place / self.archive.name
        limit = files.MAX_BYTES // len(names)
        if any((place / name).is_file() for name in names):
            source = place
            present = [name for name in names if (place / name).is_file()]
            batches = {name: files.read_bytes(place / name, max_bytes=limit) for name in present}
        elif archive.is_file():
            source = archive
            members = formats.read_tar(archive, lambda name: Path(name).name in names, max_bytes=limit)
            batches = {Path(name).name: data for name, data in members}
        else:
            return None
        lacking = [name for name in names if name not in batches]
        if lacking:
            raise UsageError(
                f"File `{source}` must hold all of {split}, but {', '.join(lacking)} is absent: copy it there."
            )
        parts = [formats.parse_cifar(batches[n], label_bytes=self.label_bytes, where=source / n) for n in names]
        return Found(np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]), source.name)


@dataclass(frozen=True)
class PictureLayout:
    """A folder a class, train/<class>/*.png or *.jpg, and test/ or val/ beside train/; or a tar.gz of that.

    Attributes:
        class_folders: Folder names in the order of the labels; several spellings may be known.
        n_channels: 1 for grey, 3 for RGB.
        size: Side that the pictures are cropped and resized to; None keeps them.
        archive: The published tar.gz, if there is one.
    """

    class_folders: tuple[tuple[str, ...], ...]
    n_channels: int
    size: int | None = None
    archive: Remote | None = None

    def files(self, split: Split) -> tuple[str, ...]:
        """Name the files that are looked for."""
        folder = f"{'train' if split == 'train' else 'test|val'}/<class>/*.png|jpg"
        return (folder, self.archive.name) if self.archive else (folder,)

    def remotes(self, split: Split) -> tuple[Remote, ...]:
        """Name the files to download for a split."""
        return (self.archive,) if self.archive else ()

    def read(self, place: Path, split: Split) -> Found | None:
        """Read a split from a folder; None where the folder does not hold it."""
        folder = split_folder(place, split)
        if folder is not None:
            classes = self._classes(set(class_names(folder)), folder)
            return read_pictures(folder, classes, n_channels=self.n_channels, size=self.size)
        if self.archive and (place / self.archive.name).is_file():
            return self._read_tar(place / self.archive.name, split)
        return None

    def _classes(self, present: set[str], where: Path) -> tuple[str, ...]:
        for classes in self.class_folders:
            if present <= set(classes):
                return classes
        known = " or ".join(", ".join(classes) for classes in self.class_folders)
        raise UsageError(
            f"Folder `{where}` must hold one folder a class, named {known}, but it has others: rename them."
        )

    def _read_tar(self, path: Path, split: Split) -> Found:
        folders = ("train",) if split == "train" else ("test", "val")

        def wanted(name: str) -> bool:
            parts = Path(name).parts
            return len(parts) >= 3 and parts[-3] in folders and Path(name).suffix.lower() in PICTURES

        labels: list[str] = []

        def pictures() -> Iterator[tuple[str, bytes]]:
            for name, data in formats.read_tar(path, wanted, max_bytes=formats.MAX_PICTURE_BYTES):
                labels.append(Path(name).parent.name)
                yield f"{path}/{name}", data

        x = formats.decode_images(pictures(), n_channels=self.n_channels, size=self.size)
        classes = self._classes(set(labels), path)
        return Found(x, np.array([classes.index(label) for label in labels]), path.name)


def split_folder(place: Path, split: Split) -> Path | None:
    """Return the folder of a split, or None: train/ for "train", test/ or val/ for "test"."""
    names = ("train",) if split == "train" else ("test", "val")
    return next((place / name for name in names if (place / name).is_dir()), None)


def class_names(*folders: Path) -> tuple[str, ...]:
    """List the names of the class folders below some folders, numbers in the order of their values."""
    children = (child for folder in folders for child in folder.iterdir())
    names = sorted({child.name for child in children if child.is_dir() and not child.name.startswith(".")})
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else names)


def read_pictures(folder: Path, classes: tuple[str, ...], *, n_channels: int, size: int | None) -> Found:
    """Read <folder>/<class>/*.png or *.jpg; labels count along `classes`, files go by name.

    Raises:
        UsageError: If there is no picture, one is broken, or their sizes differ while `size` is None.
    """
    paths = [
        (label, path)
        for label, name in enumerate(classes)
        for path in (sorted((folder / name).iterdir()) if (folder / name).is_dir() else [])
        if path.suffix.lower() in PICTURES
    ]
    if not paths:
        raise UsageError(f"Folder `{folder}` must hold <class>/*.png or *.jpg, but there is none: check the path.")
    encoded = ((str(path), files.read_bytes(path, max_bytes=formats.MAX_PICTURE_BYTES)) for _, path in paths)
    x = formats.decode_images(encoded, n_channels=n_channels, size=size)
    return Found(x, np.array([label for label, _ in paths]), folder.name)


def read_sample(path: Path, part: str, *, first_label: int) -> Found:
    """Read a part of an npz file: x_<part> and y_<part>, or jpeg_<part>, off_<part> and y_<part>.

    Raises:
        UsageError: If the file is broken or lacks them.
    """
    if f"jpeg_{part}" in files.npz_keys(path):
        blob, offsets, y = files.read_npz(path, (f"jpeg_{part}", f"off_{part}", f"y_{part}"))
        x: NDArray[Any] = formats.decode_images(formats.split_blob(blob, offsets, str(path)), n_channels=3)
    else:
        x, y = files.read_npz(path, (f"x_{part}", f"y_{part}"))
    return Found(x, y.astype(np.int64) - first_label if y.dtype.kind in "iu" else y, path.name)


def joined(parts: Sequence[Found]) -> Found:
    """Return the samples of several parts of one file, in this order.

    Raises:
        UsageError: If their images differ in size or type, or their labels in rank.
    """
    if len({(part.x.shape[1:], part.x.dtype, part.y.ndim) for part in parts}) > 1:
        sizes = " and ".join(f"{part.x.shape} {part.x.dtype}" for part in parts)
        raise UsageError(f"File `{parts[0].source}` must hold images of one size, but has {sizes}: save it again.")
    return Found(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]), parts[0].source)
