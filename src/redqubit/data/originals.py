"""The named public data sets: what each holds, where it may lie, where it is published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from redqubit.data.downloads import Remote
from redqubit.data.layouts import (
    ArrayLayout,
    CifarLayout,
    Found,
    IdxLayout,
    Layout,
    PictureLayout,
    Split,
    joined,
    read_sample,
)
from redqubit.errors import UsageError


@dataclass(frozen=True)
class Original:
    """One public data set.

    Attributes:
        shape: (C, H, W) of an image.
        classes: Names of the classes; () where they are only numbered.
        n_classes: Number of classes; 0 stands for the number of names.
        sample: Name of the npz file that may hold a part of it, with x_train, y_train, x_test, y_test, or
            with jpeg_*, off_* and y_* for JPEG bytes and their offsets.
        sample_first_label: Label of the first class in that file.
        sample_extra: Whether x_extra and y_extra of that file follow its training samples.
        layouts: The publisher's own files.
        places: Folders below the data folder to look into, beside its own name and the data folder itself.
        splits: Splits it has.
        opening: First labels of a split in the published order, to tell sets apart whose files share names.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    n_classes: int = 0
    sample: str = ""
    sample_first_label: int = 0
    sample_extra: bool = False
    layouts: tuple[Layout, ...] = ()
    places: tuple[str, ...] = ()
    splits: tuple[Split, ...] = ("train", "test")
    opening: Mapping[Split, tuple[int, ...]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of classes."""
        return self.n_classes or len(self.classes)

    def files(self, split: Split) -> tuple[str, ...]:
        """Name the files that are looked for."""
        return (*([self.sample] if self.sample else []), *(n for layout in self.layouts for n in layout.files(split)))

    def remotes(self, split: Split) -> tuple[Remote, ...]:
        """Name the files to download for a split; () where it is not published in a form that is read here."""
        return tuple(remote for layout in self.layouts for remote in layout.remotes(split))

    def read(self, folder: Path, name: str, split: Split) -> Found | None:
        """Read a split from a data folder; None where it is not there."""
        for path in (folder / place / self.sample for place in (name, ".", *self.places)):
            if self.sample and path.is_file():
                names = (split, "extra") if self.sample_extra and split == "train" else (split,)
                parts = [read_sample(path, part, first_label=self.sample_first_label) for part in names]
                return parts[0] if len(parts) == 1 else joined(parts)
        for place in (name, *(f"{name}/{p}" for p in self.places), *self.places, "."):
            for layout in self.layouts:
                found = layout.read(folder / place, split)
                if found is not None:
                    return found
        return None


# Checksums as the publishers state them (CIFAR) or as torchvision, and with it many public repositories, lists them.
_IDX_FILES: dict[Split, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def _mnist_like(bases: tuple[str, ...], md5: Mapping[Split, tuple[str, str]]) -> IdxLayout:
    published = {
        split: tuple(
            Remote(name, tuple(base + name for base in bases), f"md5:{md5_of_file}")
            for name, md5_of_file in zip(_IDX_FILES[split], md5[split], strict=True)
        )
        for split in _IDX_FILES
    }
    return IdxLayout({"train": "train", "test": "t10k"}, published)


_MNIST = _mnist_like(
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    {
        "train": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432"),
        "test": ("9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c"),
    },
)
_FASHION = _mnist_like(
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    {
        "train": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"),
        "test": ("bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310"),
    },
)
_KMNIST = _mnist_like(
    ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    {
        "train": ("bdb82020997e1d708af4cf47b453dcf7", "e144d726b3acfaa3e44228e80efcd344"),
        "test": ("5c965bf0a639b31b8f53240b1b52f4d7", "7320c461ea6c1c855c0b718fb2a4b134"),
    },
)
_KMNIST_ARRAYS = ArrayLayout(
    {
        "train": ("kmnist-train-imgs.npz", "kmnist-train-labels.npz"),
        "test": ("kmnist-test-imgs.npz", "kmnist-test-labels.npz"),
    }
)
_EMNIST_ZIP = Remote(
    "gzip.zip",
    ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",),
    "md5:58c8d27c78d21e728a6bc7b3cc06412e",
)
_EMNIST = IdxLayout(
    {"train": "emnist-letters-train", "test": "emnist-letters-test"},
    {"train": (_EMNIST_ZIP,), "test": (_EMNIST_ZIP,)},
    archive=_EMNIST_ZIP.name,
    transposed=True,
    first_label=1,
)
_CIFAR10 = CifarLayout(
    {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    1,
    Remote(
        "cifar-10-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        "md5:c32a1d4ab5d03f1284b67883e8d87530",
    ),
)
_CIFAR100 = CifarLayout(
    {"train": ("train.bin",), "test": ("test.bin",)},
    2,
    Remote(
        "cifar-100-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        "md5:03b5dce01913d631647c71ecec9e9cb8",
    ),
)
_CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGENETTE_CLASSES = (
    "tench", "English springer", "cassette player", "chain saw", "church",
    "French horn", "garbage truck", "gas pump", "golf ball", "parachute",
)  # fmt: skip
_IMAGENETTE_FOLDERS = (
    "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
    "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
)  # fmt: skip
_IMAGENETTE = PictureLayout(
    (_IMAGENETTE_FOLDERS, _IMAGENETTE_CLASSES),
    3,
    128,
    Remote(
        "imagenette2-160.tgz",
        ("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",),
        "md5:e793b78cc4c9e9a4ccc0c1155377a412",
    ),
)
_LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")

ORIGINALS: dict[str, Original] = {
    "mnist": Original(
        shape=(1, 28, 28),
        classes=tuple("0123456789"),
        sample="mnist.npz",
        layouts=(_MNIST,),
        places=("raw", "MNIST/raw"),
        opening={"train": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4), "test": (7, 2, 1, 0, 4, 1, 4, 9, 5, 9)},
    ),
    "fashion_mnist": Original(
        shape=(1, 28, 28),
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        sample="fashion_mnist.npz",
        layouts=(_FASHION,),
        places=("raw", "FashionMNIST/raw"),
        opening={"train": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5), "test": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)},
    ),
    "kmnist": Original(
        shape=(1, 28, 28),
        classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        sample="kmnist.npz",
        layouts=(_KMNIST, _KMNIST_ARRAYS),
        places=("raw", "KMNIST/raw"),
    ),
    "emnist_letters": Original(
        shape=(1, 28, 28),
        classes=_LETTERS,
        layouts=(_EMNIST,),
        places=("gzip", "raw", "EMNIST/raw", "EMNIST/raw/gzip"),
    ),
    "letters": Original(shape=(1, 28, 28), classes=_LETTERS, sample="letters.npz", sample_first_label=1),
    "letters_extra": Original(
        shape=(1, 28, 28),
        classes=_LETTERS,
        sample="letters.npz",
        sample_first_label=1,
        sample_extra=True,
        places=("letters",),
    ),
    "devanagari": Original(
        shape=(1, 32, 32), classes=("ka", "kha", "ga", "gha", "nga", "cha"), sample="devanagari.npz"
    ),
    "cifar10": Original(
        shape=(3, 32, 32),
        classes=_CIFAR10_CLASSES,
        sample="cifar10.npz",
        layouts=(_CIFAR10, PictureLayout((_CIFAR10_CLASSES,), 3)),
        places=("cifar-10-batches-bin",),
    ),
    "cifar10_official_test": Original(
        shape=(3, 32, 32), classes=_CIFAR10_CLASSES, sample="cifar10_official_test_jpeg.npz", splits=("test",)
    ),
    "cifar100": Original(
        shape=(3, 32, 32), n_classes=100, sample="cifar100.npz", layouts=(_CIFAR100,), places=("cifar-100-binary",)
    ),
    "imagenette": Original(
        shape=(3, 128, 128),
        classes=_IMAGENETTE_CLASSES,
        sample="imagenette128.npz",
        layouts=(_IMAGENETTE,),
        places=("imagenette2-160", "imagenette2-320", "imagenette2"),
    ),
}


def absent(name: str, split: Split, folders: Sequence[Path]) -> UsageError:
    """Return the error for a data set that is in none of the folders."""
    original = ORIGINALS[name]
    places = " or ".join(f"`{folder}`" for folder in folders)
    what = "allow the download" if original.remotes(split) else "copy one there (it cannot be downloaded)"
    return UsageError(
        f"Data set `{name}` must be on disk, but {places} holds none of {', '.join(original.files(split))}, "
        f"in itself or in {name}/: set REDQUBIT_DATA or --data-dir to the folder that does, or {what}."
    )


def check_identity(name: str, split: Split, found: Found) -> None:
    """Refuse MNIST's files in the place of Fashion-MNIST's, and the like: their files have the same names.

    Raises:
        UsageError: If the first ten labels are those of another set.
    """
    opening = tuple(found.y[:10].tolist())
    for other, original in ORIGINALS.items():
        if other != name and original.opening.get(split) == opening:
            raise UsageError(
                f"File `{found.source}` must hold {name}, but its labels are those of {other}: move it to {other}/."
            )
