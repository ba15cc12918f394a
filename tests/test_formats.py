import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from redqubit.data import formats, load, load_image_folder
from redqubit.errors import UsageError
from redqubit.reading import read_npz

RNG = np.random.default_rng(7)


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "must" in message
    assert ": " in message
    return message


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


def test_kuzushiji_as_numpy_arrays(tmp_path: Path) -> None:
    (tmp_path / "kmnist").mkdir()
    np.savez_compressed(tmp_path / "kmnist" / "kmnist-test-imgs.npz", IMAGES)  # savez names it arr_0
    with pytest.raises(UsageError, match=r"kmnist-test-labels\.npz"):  # half a split is none
        load("kmnist", data_dir=tmp_path, split="test", download=False)
    np.savez_compressed(tmp_path / "kmnist" / "kmnist-test-labels.npz", LABELS)
    test = load("kmnist", data_dir=tmp_path, split="test", download=False)
    assert torch.equal(test.x, torch.from_numpy(IMAGES / 255).float()[:, None])
    assert test.y.tolist() == LABELS.tolist()
    assert test.classes[:2] == ("o", "ki")


@pytest.mark.parametrize("place", [".", "letters", "letters_extra"])
def test_letters_extra_adds_to_the_training_samples_alone(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    arrays = {"x_train": IMAGES[:4], "y_train": LABELS[:4], "x_test": IMAGES[4:6], "y_test": LABELS[4:6]}
    extra = {"x_extra": IMAGES[6:], "y_extra": LABELS[6:]}
    np.savez(tmp_path / place / "letters.npz", **arrays, **extra)
    train = load("letters_extra", data_dir=tmp_path)
    assert torch.equal(train.x, torch.from_numpy(IMAGES[[0, 1, 2, 3, *range(6, 12)]] / 255).float()[:, None])
    assert train.y.tolist() == [label - 1 for label in (3, 1, 4, 1, 2, 6, 5, 3, 5, 8)]
    assert load("letters_extra", data_dir=tmp_path, split="test").y.tolist() == [4, 8]
    if place != "letters_extra":
        assert load("letters", data_dir=tmp_path).y.tolist() == [2, 0, 3, 0]
    np.savez(tmp_path / place / "letters.npz", **arrays)
    with pytest.raises(UsageError, match="must hold x_extra, y_extra") as error:
        load("letters_extra", data_dir=tmp_path)
    one_line(error)
    np.savez(tmp_path / place / "letters.npz", **arrays, x_extra=IMAGES[6:, :20], y_extra=LABELS[6:])
    with pytest.raises(UsageError, match="images of one size") as error:
        load("letters_extra", data_dir=tmp_path)
    one_line(error)


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
        "npz": ((folder / "whole.npz").read_bytes(), lambda p: read_npz(p, ("x", "y"))),
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
