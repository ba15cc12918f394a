import gzip
import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_iris

from redqubit.data import (
    SPLITS,
    Dataset,
    check_trainable,
    find_weights,
    first_stratified,
    formats,
    load,
    load_npz,
    load_splits,
    stratified_subset,
)
from redqubit.data.originals import ORIGINALS
from redqubit.errors import UsageError
from redqubit.reading import read_npz

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
        check_trainable(one)
    check_trainable(Dataset(X, Y, 3))


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


def test_real_letters_give_250_a_class_where_there_are_so_many(real: Path) -> None:
    fair, filled = (load(name, data_dir=real, download=False) for name in ("letters", "letters_extra"))
    assert torch.equal(filled.x[: len(fair)], fair.x)
    assert len(torch.unique(filled.x.flatten(1), dim=0)) == len(filled)  # no picture twice
    counts = filled.y.bincount(minlength=26)
    assert (int(counts.sum()), int(fair.y.bincount().max())) == (5284, 90)
    assert [filled.classes[int(i)] for i in (counts >= 250).nonzero()] == ["C", "O", "S", "U"]
    held_out = load("letters_extra", data_dir=real, split="test", download=False)
    assert torch.equal(held_out.x, load("letters", data_dir=real, split="test", download=False).x)


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


def test_folders_that_are_not_there_are_refused_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDQUBIT_DATA", raising=False)
    gone = tmp_path / "gone"
    for named in (lambda: load("mnist", data_dir=gone), lambda: find_weights("resnet18", data_dir=gone)):
        with pytest.raises(UsageError, match=r"`data_dir` must be a folder, but .* is not there") as error:
            named()
        one_line(error)
    monkeypatch.setenv("REDQUBIT_DATA", str(gone))
    with pytest.raises(UsageError, match=r"REDQUBIT_DATA must be a folder, but .* is not there"):
        find_weights("resnet18")
    assert not list(tmp_path.iterdir())


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
        ({"x": np.zeros((3, 2)), "y": np.arange(3) + 1}, "they are 1 to 3, each there and none 0: subtract 1"),
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


def test_labels_from_one_are_refused_where_no_class_is_just_absent(tmp_path: Path) -> None:
    path, x = tmp_path / "own.npz", np.zeros((3, 2))
    np.savez(path, x=x, y=np.arange(3) + 1)
    assert load_npz(path, n_classes=4).n_classes == 4  # which says that class 0 has no sample
    np.savez(path, x=x, y=np.array([1, 3, 4]))  # class 2 has none either: a part of a larger set
    assert load_npz(path).n_classes == 5
    np.savez(path, x_train=x, y_train=np.array([1, 2, 1]), x_test=x, y_test=np.array([0, 1, 2]))
    assert load_npz(path, split="train").n_classes == 3  # the other part has class 0
    np.savez(path, x_train=x, y_train=np.array([1, 2, 1]), x_test=x, y_test=np.array([1, 2, 3]))
    for split in SPLITS:
        with pytest.raises(UsageError, match="1 to 3, each there and none 0"):
            load_npz(path, split=split)


def test_both_parts_of_a_set_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = RNG.random((30, 4)).astype(np.float32), np.arange(30) % 3
    x[3] = x[0]  # the same sample twice
    np.savez("parts.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    for path in ("parts.npz", tmp_path / "parts.npz"):
        train, test = load_splits(path)
        assert torch.equal(train.x, torch.from_numpy(x[:20]))
        assert torch.equal(test.x, torch.from_numpy(x[20:]))
    np.savez("whole.npz", x=x, y=y)
    train, test = load_splits("whole.npz")
    assert test.y.bincount().tolist() == [2, 2, 2]
    rows = [{tuple(row) for row in part.x.tolist()} for part in (train, test)]
    assert rows[0].isdisjoint(rows[1])
    assert rows[0] | rows[1] == {tuple(row) for row in x.tolist()}
    for folder in ("train", "test"):
        for label in ("cat", "dog"):
            (tmp_path / "pictures" / folder / label).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / folder / label / "0.png")
    assert [len(part) for part in load_splits("pictures")] == [2, 2]
    np.savez("iris", x=x, y=y)  # iris.npz, and a file with the very name of a set
    Path("iris.npz").rename("iris")
    assert len(load_splits("iris")[0]) == 120
    np.savez("negative.npz", x=x, y=y - 1)
    with pytest.raises(UsageError, match=r"must lie in 0\.\.1, but it spans -1 to 1") as error:
        load_splits("negative.npz")
    one_line(error)


def test_paths_are_not_taken_for_misspelt_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("missing.npz", "some/folder", str(tmp_path / "gone")):
        for read in (load, load_splits):
            with pytest.raises(UsageError, match="must lead to a file or folder of data, but is not there") as error:
                read(name)
            assert name in one_line(error)
    np.savez("own.npz", x=np.zeros((3, 2)), y=np.arange(3))
    with pytest.raises(UsageError, match=r"`own\.npz` is a file or folder: read it by load_splits, load_npz") as error:
        load("own.npz")
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
            read_npz(tmp_path / "own.npz", ("x", "y"))
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
