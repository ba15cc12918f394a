import gzip
import hashlib
import io
import os
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_iris

from redqubit import data, formats
from redqubit.data import Dataset, first_stratified, load, load_image_folder, load_npz, load_splits, stratified_subset
from redqubit.downloads import Remote, fetch
from redqubit.errors import UsageError
from redqubit.layouts import IdxLayout
from redqubit.originals import ORIGINALS, Original

RNG = np.random.default_rng(7)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "must" in message
    assert ": " in message
    return message


# ---- Dataset ---------------------------------------------------------------------------------------------------------

X = torch.rand(6, 1, 4, 4, generator=generator())
Y = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("x", "y", "n_classes", "names"),
    [
        (X[:, 0], Y, 3, "shape is (6, 4, 4)"),
        (X.int(), Y, 3, "torch.int32"),
        (X, Y.float(), 3, "torch.float32"),
        (X, Y.int(), 3, "torch.int32"),
        (X, Y[:, None], 3, "(6, 1)"),
        (X, Y[:5], 3, "it has 5"),
        (X[:0], Y[:0], 3, "at least one sample"),
        (X, Y, 1, "n_classes"),
        (X, Y, 2, "0 to 2"),
        (X, Y - 1, 3, "-1 to 1"),
        (X * 255, Y, 3, "divide by 255"),
        (X - 1, Y, 3, "[0, 1]"),
        (X.index_fill(0, torch.tensor([3]), float("nan")), Y, 3, "NaN"),
        (X.index_fill(0, torch.tensor([3]), float("inf")), Y, 3, "inf"),
    ],
)
def test_dataset_refuses(x: torch.Tensor, y: torch.Tensor, n_classes: int, names: str) -> None:
    with pytest.raises(UsageError) as error:
        Dataset(x, y, n_classes)
    assert names in one_line(error)


def test_dataset_refuses_a_wrong_number_of_class_names() -> None:
    with pytest.raises(UsageError, match="names 2"):
        Dataset(X, Y, 3, classes=("a", "b"))


def test_subset_keeps_places_in_order_and_masks() -> None:
    dataset = Dataset(X, Y, 3, "six", ("a", "b", "c"), "here")
    kept = dataset.subset([4, 0, 4])
    assert kept.y.tolist() == [1, 0, 1]
    assert torch.equal(kept.x, X[[4, 0, 4]])
    assert (kept.n_classes, kept.name, kept.classes, kept.source) == (3, "six", ("a", "b", "c"), "here")
    assert torch.equal(dataset.subset(Y == 2).x, X[Y == 2])
    for bad in ([], [6], [-1], torch.zeros(6, dtype=torch.bool), torch.ones(5, dtype=torch.bool), torch.tensor([0.5])):
        with pytest.raises(UsageError) as error:
            dataset.subset(bad)
        one_line(error)


def test_one_class_may_be_held_but_not_trained_on() -> None:
    one = Dataset(X, Y, 3).subset(Y == 1)
    with pytest.raises(UsageError, match="all labels are 1"):
        data.check_trainable(one)
    data.check_trainable(Dataset(X, Y, 3))


# ---- stratified subsets ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=60), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_stratified_subsets_are_in_proportion(labels: list[int], share: float, seed: int) -> None:
    n = max(1, round(share * len(labels)))
    # Each sample's only feature is its place, so a subset shows what was taken.
    places = torch.arange(len(labels)) / 64
    dataset = Dataset(places[:, None], torch.tensor(labels), 4)
    for chosen in (first_stratified(dataset, n), stratified_subset(dataset, n, generator=generator(seed))):
        taken = (chosen.x[:, 0] * 64).long().tolist()
        assert len(taken) == n
        assert taken == sorted(set(taken))
        assert chosen.y.tolist() == [labels[i] for i in taken]
        for label in range(4):
            exact = n * labels.count(label) / len(labels)
            assert abs(chosen.y.tolist().count(label) - exact) < 1
    first = first_stratified(dataset, n)
    for label in set(first.y.tolist()):
        of_class = [i for i, other in enumerate(labels) if other == label]
        taken = (first.x[first.y == label, 0] * 64).long().tolist()
        assert taken == of_class[: len(taken)]


def test_stratified_draw_follows_its_generator_and_is_uniform() -> None:
    dataset = Dataset(torch.arange(8)[:, None] / 8, torch.tensor([0, 1] * 4), 2)
    draws = [stratified_subset(dataset, 4, generator=generator(seed)).x for seed in range(400)]
    assert torch.equal(draws[3], stratified_subset(dataset, 4, generator=generator(3)).x)
    # Each place is drawn with probability 1/2: 400 draws give 200 +- 5 * 10.
    hits = torch.bincount((torch.cat(draws)[:, 0] * 8).long(), minlength=8)
    assert (hits - 200).abs().max() <= 50
    for n in (0, 9):
        with pytest.raises(UsageError, match=r"1\.\.8"):
            stratified_subset(dataset, n, generator=generator())


# ---- what comes with scikit-learn ------------------------------------------------------------------------------------


@pytest.mark.tiny
def test_digits_are_those_of_scikit_learn_split_once() -> None:
    train, test = load_splits("digits")
    assert (tuple(train.x.shape), tuple(test.x.shape)) == ((1297, 1, 8, 8), (500, 1, 8, 8))
    assert (train.x.dtype, train.y.dtype, train.n_classes) == (torch.float32, torch.int64, 10)
    table = load_digits()
    want = sorted(
        (bytes(image.astype(np.uint8).ravel()), int(label))
        for image, label in zip(table.images, table.target, strict=True)
    )
    both = zip(torch.cat([train.x, test.x]), torch.cat([train.y, test.y]), strict=True)
    assert sorted((bytes((x * 16).byte().numpy().ravel()), int(y)) for x, y in both) == want
    counts = np.bincount(table.target)
    assert np.abs(test.y.bincount().numpy() - 500 * counts / 1797).max() < 1
    assert torch.equal(load("digits", split="test").x, test.x)


def test_iris_range_is_fitted_on_train_alone() -> None:
    train, test = load_splits("iris")
    assert (train.y.bincount().tolist(), test.y.bincount().tolist()) == ([40] * 3, [10] * 3)
    assert torch.equal(train.x.amin(0), torch.zeros(4))
    assert torch.equal(train.x.amax(0), torch.ones(4))
    table = load_iris()
    assert train.classes == tuple(table.target_names)
    # Some range of raw values turns each column back into scikit-learn's tenths of a centimetre, row by row.
    tenths = torch.tensor(table.data * 10).round().long()
    columns = []
    for raw, scaled in zip(tenths.T, train.x.T.double(), strict=True):
        ends = raw.unique()
        backs = [scaled * (high - low) + low for low in ends[:4] for high in ends[-4:]]
        columns.append(next(back.round().long() for back in backs if (back - back.round()).abs().max() < 1e-4))
    rows = {tuple(row) for row in torch.cat([tenths, torch.tensor(table.target)[:, None]], 1).tolist()}
    assert {tuple(row) for row in torch.stack([*columns, train.y], 1).tolist()} <= rows
    assert 0 <= float(test.x.min()) <= float(test.x.max()) <= 1


# ---- the folder with real files --------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    folder = Path(os.environ.get("REDQUBIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "mnist.npz").is_file():
        pytest.skip(f"no mnist.npz in {folder}: set REDQUBIT_DATA to the folder with the data files")
    return folder


def test_real_mnist_has_its_known_counts(real: Path) -> None:
    test = load("mnist", data_dir=real, split="test", download=False)
    assert test.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.y[:10].tolist() == list(ORIGINALS["mnist"].opening["test"])
    assert (float(test.x.min()), float(test.x.max())) == (0.0, 1.0)
    assert len(torch.unique(test.x * 255)) == 256
    assert test.source == "mnist.npz"


@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [
        ("fashion_mnist", (1, 28, 28), [200] * 10),
        ("cifar10", (3, 32, 32), [80] * 10),
        ("cifar10_official_test", (3, 32, 32), [200] * 10),
        ("letters", (1, 28, 28), [25] * 26),
        ("devanagari", (1, 32, 32), [300] * 6),
        ("imagenette", (3, 128, 128), [50] * 10),
    ],
)
def test_real_files(real: Path, name: str, shape: tuple[int, ...], counts: list[int]) -> None:
    test = load(name, data_dir=real, split="test", download=False)
    assert tuple(test.x.shape[1:]) == shape
    assert test.y.bincount().tolist() == counts
    assert len(test.classes) == test.n_classes == len(counts)


def test_real_pictures_equal_pillows(real: Path) -> None:
    test = load("imagenette", data_dir=real, split="test", download=False)
    with np.load(real / "imagenette128.npz", allow_pickle=False) as arrays:
        blob, offsets, y = (arrays[key] for key in ("jpeg_test", "off_test", "y_test"))
    picture = np.asarray(Image.open(io.BytesIO(blob[offsets[7] : offsets[8]].tobytes())))  # (H, W, C)
    assert np.array_equal((test.x[7].permute(1, 2, 0) * 255).round().byte().numpy(), picture)
    assert test.y.tolist() == y.tolist()


def test_folder_named_by_the_environment(real: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDQUBIT_DATA", str(real))
    assert load("letters", split="test").classes[0] == "A"
    monkeypatch.setenv("REDQUBIT_DATA", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="REDQUBIT_DATA") as error:
        load("letters")
    one_line(error)


# ---- publishers' own formats, written here byte by byte --------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], dtype=np.uint8)


@pytest.mark.parametrize("place", [".", "mnist", "mnist/raw", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files(tmp_path: Path, place: str, suffix: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    pack: Callable[[bytes], bytes] = gzip.compress if suffix else bytes
    (folder / f"t10k-images-idx3-ubyte{suffix}").write_bytes(pack(idx(IMAGES)))
    (folder / f"t10k-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(LABELS)))
    test = load("mnist", data_dir=tmp_path, split="test", download=False)
    assert torch.equal(test.x, torch.from_numpy(IMAGES / 255).float()[:, None])
    assert test.y.tolist() == LABELS.tolist()


def test_files_of_another_set_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES[:10]))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([5, 0, 4, 1, 9, 2, 1, 3, 1, 4], dtype=np.uint8)))
    assert len(load("mnist", data_dir=tmp_path, download=False)) == 10
    with pytest.raises(UsageError, match="labels are those of mnist") as error:
        load("kmnist", data_dir=tmp_path, download=False)
    one_line(error)


@pytest.mark.parametrize("zipped", [False, True])
def test_emnist_letters_are_turned_upright_and_numbered_from_0(tmp_path: Path, zipped: bool) -> None:
    letters = np.array([1, 26, 2] * 4, dtype=np.uint8)
    files = {
        "gzip/emnist-letters-test-images-idx3-ubyte.gz": gzip.compress(idx(IMAGES)),
        "gzip/emnist-letters-test-labels-idx1-ubyte.gz": gzip.compress(idx(letters)),
    }
    if zipped:
        with zipfile.ZipFile(tmp_path / "gzip.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        (tmp_path / "gzip").mkdir()
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
    test = load("emnist_letters", data_dir=tmp_path, split="test", download=False)
    assert torch.equal(test.x[5, 0], torch.from_numpy(IMAGES[5].T / 255).float())
    assert test.y.tolist() == [0, 25, 1] * 4
    assert test.classes[25] == "Z"


def cifar_record(labels: list[int], image: np.ndarray) -> bytes:
    return bytes(labels) + image.tobytes()


CIFAR = RNG.integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)


@pytest.mark.parametrize("packed", [False, True])
def test_cifar10_binary(tmp_path: Path, packed: bool) -> None:
    batches = {
        f"cifar-10-batches-bin/data_batch_{b + 1}.bin": b"".join(
            cifar_record([i], CIFAR[i]) for i in (2 * b, 2 * b + 1)
        )
        for b in range(5)
    }
    if packed:
        (tmp_path / "cifar10").mkdir()
        with tarfile.open(tmp_path / "cifar10" / "cifar-10-binary.tar.gz", "w:gz") as archive:
            for name, content in reversed(batches.items()):  # the order of the archive does not matter
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        (tmp_path / "cifar-10-batches-bin").mkdir()
        for name, content in batches.items():
            (tmp_path / name).write_bytes(content)
    train = load("cifar10", data_dir=tmp_path, download=False)
    assert torch.equal(train.x, torch.from_numpy(CIFAR / 255).float())
    assert train.y.tolist() == list(range(10))


def test_cifar10_with_a_batch_missing(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(cifar_record([3], CIFAR[0]))
    with pytest.raises(UsageError, match=r"data_batch_2.bin, .*data_batch_5.bin") as error:
        load("cifar10", data_dir=tmp_path, download=False)
    one_line(error)


def test_cifar100_keeps_the_fine_label(tmp_path: Path) -> None:
    (tmp_path / "test.bin").write_bytes(cifar_record([19, 99], CIFAR[0]) + cifar_record([1, 7], CIFAR[1]))
    test = load("cifar100", data_dir=tmp_path, split="test", download=False)
    assert test.y.tolist() == [99, 7]
    assert test.n_classes == 100


def picture(color: tuple[int, int, int] | int, size: tuple[int, int], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB" if isinstance(color, tuple) else "L", size, color).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.parametrize("packed", [False, True])
def test_imagenette_is_cropped_resized_and_labelled_by_synset(tmp_path: Path, packed: bool) -> None:
    # A red square in the middle of a wide blue picture: the crop leaves the red alone.
    wide = Image.new("RGB", (300, 100), (0, 0, 255))
    wide.paste((255, 0, 0), (100, 0, 200, 100))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    files = {
        "imagenette2-160/val/n01440764/a.png": buffer.getvalue(),
        "imagenette2-160/val/n03888257/b.JPEG": picture((0, 255, 0), (160, 200), "JPEG"),
        "imagenette2-160/train/n03888257/c.png": picture((9, 9, 9), (50, 50)),
        "imagenette2-160/noisy_imagenette.csv": b"path,label",
    }
    if packed:
        with tarfile.open(tmp_path / "imagenette2-160.tgz", "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        for name, content in files.items():
            write(tmp_path / name, content)
    test = load("imagenette", data_dir=tmp_path, split="test", download=False)
    assert tuple(test.x.shape) == (2, 3, 128, 128)
    assert [test.classes[int(label)] for label in test.y] == ["tench", "parachute"]
    assert torch.equal(test.x[0].mean((1, 2)), torch.tensor([1.0, 0.0, 0.0]))


def test_pictures_of_your_own(tmp_path: Path) -> None:
    write(tmp_path / "train" / "cat" / "1.png", picture((255, 0, 0), (5, 4)))
    write(tmp_path / "train" / "dog" / "1.png", picture((0, 51, 0), (5, 4)))
    write(tmp_path / "train" / "dog" / "notes.txt", b"not a picture")
    write(tmp_path / "val" / "dog" / "2.png", picture((0, 0, 255), (5, 4)))
    train = load_image_folder(tmp_path, split="train")
    assert (tuple(train.x.shape), train.y.tolist(), train.classes) == ((2, 3, 4, 5), [0, 1], ("cat", "dog"))
    assert torch.allclose(train.x[1, :, 0, 0], torch.tensor([0, 0.2, 0]))
    # A split that lacks a class keeps the numbering of all splits.
    test = load_image_folder(tmp_path, split="test")
    assert (test.y.tolist(), test.n_classes) == ([1], 2)
    flat = load_image_folder(tmp_path / "train", n_channels=1, size=2)
    assert tuple(flat.x.shape) == (2, 1, 2, 2)


def test_numbered_class_folders_count_by_value(tmp_path: Path) -> None:
    for label in range(11):
        write(tmp_path / str(label) / "a.png", picture(20 * label, (2, 2)))
    own = load_image_folder(tmp_path, n_channels=1)
    assert (own.x[:, 0, 0, 0] * 255).round().int().tolist() == [20 * label for label in range(11)]
    assert own.y.tolist() == list(range(11))


def test_bad_pictures_of_your_own(tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(UsageError, match=match) as error:
            load_image_folder(tmp_path)
        one_line(error)

    refused("there is none")
    write(tmp_path / "a" / "1.png", picture(0, (5, 4)))
    write(tmp_path / "b" / "2.png", picture(0, (4, 4)))
    refused("set `size`")
    for content in (picture(0, (5, 4), "GIF"), picture(0, (90, 90), "JPEG")[:300], b"", b"\x89PNG\r\n\x1a\n"):
        write(tmp_path / "b" / "2.png", content)
        refused(r"b/2\.png")
    buffer = io.BytesIO()
    Image.new("I;16", (5, 4)).save(buffer, "PNG")
    write(tmp_path / "b" / "2.png", buffer.getvalue())
    refused("8 bits")
    write(tmp_path / "b" / "2.png", picture(0, (8000, 8000)))
    refused("8000x8000")
    with pytest.raises(UsageError, match="not there"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="test/ or val/"):
        load_image_folder(tmp_path, split="test")


# ---- npz files of one's own ------------------------------------------------------------------------------------------


def test_own_npz_layouts(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    y = np.array([0, 2, 1])
    color = RNG.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    np.savez_compressed(path, x=color, y=y)
    own = load_npz(path)
    assert torch.equal(own.x, torch.from_numpy(color / 255).float().permute(0, 3, 1, 2))
    assert (own.n_classes, own.name, own.source) == (3, "own", "own.npz")
    for x, shape in (
        (color[..., 0], (3, 1, 4, 5)),
        (color[..., :1], (3, 1, 4, 5)),
        (color.transpose(0, 3, 1, 2), (3, 3, 4, 5)),
        (color.reshape(3, -1), (3, 60)),
        (np.asfortranarray(color.reshape(3, -1) / 255), (3, 60)),
        (color.reshape(3, -1).astype(np.float16) / 255, (3, 60)),
    ):
        np.savez(path, x=x, y=y)
        assert tuple(load_npz(path).x.shape) == shape
    np.savez(path, x_train=color, y_train=y, x_test=color[:1], y_test=y[:1])
    test = load_npz(path, split="test")
    assert (len(test), test.n_classes) == (1, 3)  # the training labels count too
    with pytest.raises(UsageError, match="x_test, x_train, y_test, y_train") as error:
        load_npz(path)
    assert "split='train'" in one_line(error)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.zeros((3, 2)), "labels": np.arange(3)}, "labels, x"),
        ({"x": np.array([{}, {}, {}]), "y": np.arange(3)}, "Python objects"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, 1, None])}, "Python objects"),
        ({"x": np.zeros((3, 2), dtype=np.int64), "y": np.arange(3)}, "int64"),
        ({"x": np.zeros((3, 2)) + 3.5, "y": np.arange(3)}, "3.5"),
        ({"x": np.zeros((3, 2)), "y": np.array([0.0, 1.0, 2.0])}, "float64"),
        ({"x": np.zeros((3, 2)), "y": np.eye(3, dtype=int)}, r"\(3, 3\)"),
        ({"x": np.zeros((3, 2)), "y": np.arange(4)}, "it has 4"),
        ({"x": np.zeros((3, 2)), "y": np.arange(3) - 1}, "-1 to 1"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(3, dtype=int)}, "n_classes"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0, dtype=int)}, "at least one"),
        ({"x": np.zeros((3, 2), dtype="U4"), "y": np.arange(3)}, "<U4"),
    ],
)
def test_own_npz_refused(tmp_path: Path, arrays: dict[str, np.ndarray], match: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match=match) as error:
        load_npz(path, n_classes=None)
    one_line(error)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
            return (Path.write_text, (tmp_path / "sprung", "x"))  # type: ignore[return-value]

    path = tmp_path / "own.npz"
    np.savez(path, x=np.array([Trap(), Trap()]), y=np.arange(2))
    with pytest.raises(UsageError, match="never unpickled"):
        load_npz(path)
    assert not (tmp_path / "sprung").exists()


def npy_claiming(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_sizes_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    for shape, match in (((1 << 40, 28, 28), "at most"), ((1000, 28, 28), "0 are there")):
        with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
            archive.writestr("x.npy", npy_claiming(shape))
            archive.writestr("y.npy", npy_claiming((0,)))
        with pytest.raises(UsageError, match=match) as error:
            formats.read_npz(tmp_path / "own.npz", ("x", "y"))
        one_line(error)
    path = tmp_path / "images-idx3-ubyte"
    head = b"\0\0\x08\x03"
    for pack in (bytes, gzip.compress):
        path.write_bytes(pack(head + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)))
        with pytest.raises(UsageError, match="at most"):
            formats.read_idx(path)
        path.write_bytes(pack(head + struct.pack(">3I", 1000, 1000, 1000)))
        with pytest.raises(UsageError, match="cannot hold more"):
            formats.read_idx(path)
    # The header is true to 10 bytes, the stream behind it would go on for 256 MiB: reading stops after the eleventh.
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 10) + bytes(1 << 28), 1))
    with pytest.raises(UsageError, match="longer"):
        formats.read_idx(path)


# ---- broken files ----------------------------------------------------------------------------------------------------


def whole_files(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """Name one small sound file per format with the reader that must refuse every cut of it."""
    np.savez_compressed(folder / "whole.npz", x=IMAGES[:2, :6, :6], y=LABELS[:2])
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("gzip/images.gz", gzip.compress(idx(IMAGES[:2, :6, :6])))
    with tarfile.open(fileobj=tarred, mode="w:gz") as tar:
        info = tarfile.TarInfo("train.bin")
        info.size = 700
        tar.addfile(info, io.BytesIO(RNG.bytes(700)))
    jpeg = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(jpeg, "JPEG")

    def tar_members(path: Path) -> list[tuple[str, bytes]]:
        members = list(formats.read_tar(path, lambda name: True, max_bytes=1000))
        return members if members else pytest.fail("a cut archive read as an empty one")

    return {
        "npz": ((folder / "whole.npz").read_bytes(), lambda p: formats.read_npz(p, ("x", "y"))),
        "idx": (idx(IMAGES[:2, :6, :6]), formats.read_idx),
        "gz": (gzip.compress(idx(IMAGES[:2, :6, :6])), formats.read_idx),
        "zip": (zipped.getvalue(), lambda p: formats.read_zipped_idx(p, "images.gz")),
        "tar": (tarred.getvalue(), tar_members),
        "cifar": (
            cifar_record([3], CIFAR[0]),
            lambda p: formats.parse_cifar(p.read_bytes(), label_bytes=1, where=p),
        ),
        "jpeg": (
            jpeg.getvalue(),
            lambda p: formats.decode_images([(str(p), p.read_bytes())], n_channels=3),
        ),
    }


@pytest.mark.parametrize("kind", ["npz", "idx", "gz", "zip", "tar", "cifar", "jpeg"])
def test_cut_and_damaged_files_give_one_line(tmp_path: Path, kind: str) -> None:
    content, read = whole_files(tmp_path)[kind]
    path = tmp_path / "file"
    path.write_bytes(content)
    read(path)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.integers(0, len(content) - 1))
    def cut_short(cut: int) -> None:
        path.write_bytes(content[:cut])
        if kind == "jpeg" and cut > len(content) - 8:
            return  # the last bits may be padding, and a decoder does not miss the end mark
        with pytest.raises(UsageError) as error:
            read(path)
        assert "\n" not in str(error.value)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(at=st.integers(0, len(content) - 1), value=st.integers(0, 255))
    def damaged(at: int, value: int) -> None:
        path.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
        with suppress(UsageError):  # some bytes (pixels, names, dates) may be anything; no other error may come
            read(path)

    cut_short()
    damaged()


def test_broken_offsets_are_refused() -> None:
    blob = np.zeros(10, dtype=np.uint8)
    for offsets in ([0, 5], [1, 10], [0, 7, 3, 10], [0, -5, 10], [0], []):
        with pytest.raises(UsageError, match="offsets"):
            list(formats.split_blob(blob, np.array(offsets, dtype=np.int64), "f"))


# ---- names and absent sets -------------------------------------------------------------------------------------------


def test_unknown_names_and_splits() -> None:
    with pytest.raises(UsageError, match="did you mean cifar10"):
        load("cifar_10")
    with pytest.raises(UsageError, match="did you mean train"):
        load("mnist", split="trian")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must be test"):
        load("cifar10_official_test")


@pytest.mark.parametrize("name", sorted(ORIGINALS))
def test_absent_set_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as error:
        load(name, data_dir=tmp_path, split="test", download=False)
    message = one_line(error)
    for part in (name, str(tmp_path), "REDQUBIT_DATA", "--data-dir"):
        assert part in message
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        load(name, data_dir=tmp_path / "file", split="test")


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_test=np.zeros((2, 8, 8), dtype=np.uint8), y_test=np.arange(2))
    with pytest.raises(UsageError, match=r"\(1, 28, 28\).*\(1, 8, 8\)"):
        load("mnist", data_dir=tmp_path, split="test")


def test_every_published_file_has_a_checksum_and_an_address() -> None:
    for original in ORIGINALS.values():
        for split in original.splits:
            for remote in original.remotes(split):
                algorithm, _, digest = remote.checksum.partition(":")
                assert len(digest) == hashlib.new(algorithm).digest_size * 2
                assert all(url.startswith("http") and url.endswith(f"/{remote.name}") for url in remote.urls)


# ---- downloads from a real server ------------------------------------------------------------------------------------


@dataclass
class Server:
    """A web server on this machine: what it serves, how it misbehaves, what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True  # whether it honours Range
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path, Range)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.asked.append((self.path, asked))
            if self.path not in state.files:
                self.send_error(404)
                return
            content = state.files[self.path]
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: state.cuts.pop(0) if state.cuts else None])

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


BLOB = RNG.bytes(300_000)
SHA = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


def blob_at(server: Server, checksum: str = SHA) -> Remote:
    server.files["/blob.bin"] = BLOB
    return Remote("blob.bin", (f"{server.url}/blob.bin",), checksum)


def test_download_reports_progress_and_happens_once(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    remote = blob_at(server)
    path = fetch(remote, tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BLOB
    assert seen[-1] == (len(BLOB), len(BLOB))
    assert seen == sorted(seen)
    assert len(seen) > 1
    fetch(remote, tmp_path / "new")
    assert server.asked == [("/blob.bin", "")]
    assert capfd.readouterr() == ("", "")


def test_a_cut_is_resumed_within_the_call(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB
    assert [asked for _, asked in server.asked] == ["", "bytes=100000-", "bytes=150000-"]


def test_a_cut_is_resumed_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0]
    with pytest.raises(UsageError, match=r"100,000 of 300,000.*try again") as error:
        fetch(blob_at(server), tmp_path)
    one_line(error)
    assert not (tmp_path / "blob.bin").exists()
    assert (tmp_path / "blob.bin.part").read_bytes() == BLOB[:100_000]
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB
    assert server.asked[-1] == ("/blob.bin", "bytes=100000-")
    assert not (tmp_path / "blob.bin.part").exists()


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "blob.bin.part").write_bytes(BLOB[:1000])
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_a_whole_part_needs_only_its_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blob.bin.part").write_bytes(BLOB)
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checksum is not md5:00") as error:
        fetch(blob_at(server, "md5:" + "0" * 32), tmp_path)
    one_line(error)
    assert not list(tmp_path.glob("blob.bin*[!k]"))  # nothing but the lock


def test_a_stale_part_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blob.bin.part").write_bytes(b"?" * 1000)
    with pytest.raises(UsageError, match="checksum"):
        fetch(blob_at(server), tmp_path)
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_a_damaged_copy_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blob.bin").write_bytes(BLOB[:-1])
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_absent_page_refused_connection_and_mirror(server: Server, tmp_path: Path) -> None:
    gone = f"{server.url}/gone.bin"
    with pytest.raises(UsageError, match=r"gone\.bin gave HTTP 404") as error:
        fetch(Remote("gone.bin", (gone,), SHA), tmp_path)
    one_line(error)
    with pytest.raises(UsageError, match="refused") as error:
        fetch(Remote("blob.bin", ("http://127.0.0.1:9/blob.bin",), SHA), tmp_path)
    one_line(error)
    mirrored = Remote("blob.bin", (gone, *blob_at(server).urls), SHA)
    assert fetch(mirrored, tmp_path).read_bytes() == BLOB


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="must be writable") as error:
        fetch(blob_at(server), tmp_path / "file" / "below")
    one_line(error)


def test_calls_side_by_side_download_once(server: Server, tmp_path: Path) -> None:
    remote = blob_at(server)
    threads = [threading.Thread(target=fetch, args=(remote, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "blob.bin").read_bytes() == BLOB
    assert len(server.asked) == 1


def test_load_downloads_what_is_absent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"t10k-images-idx3-ubyte.gz": idx(IMAGES), "t10k-labels-idx1-ubyte.gz": idx(LABELS)}
    remotes = []
    for name, content in contents.items():
        packed = server.files[f"/{name}"] = gzip.compress(content)
        remotes.append(Remote(name, (f"{server.url}/{name}",), f"md5:{hashlib.md5(packed).hexdigest()}"))
    layout = IdxLayout({"train": "train", "test": "t10k"}, {"train": (), "test": tuple(remotes)})
    monkeypatch.setitem(ORIGINALS, "local", Original((1, 28, 28), tuple("0123456789"), layouts=(layout,)))
    with pytest.raises(UsageError, match="allow the download"):
        load("local", data_dir=tmp_path, split="test", download=False)
    assert not server.asked
    test = load("local", data_dir=tmp_path, split="test")
    assert test.y.tolist() == LABELS.tolist()
    assert (tmp_path / "local" / "t10k-images-idx3-ubyte.gz").is_file()
    load("local", data_dir=tmp_path, split="test")
    assert len(server.asked) == 2
