"""Poisoned sets on disk: an npz file to train on, or pictures to look at."""

import csv
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from PIL import Image
from torch import Tensor

from redqubit.backdoors.base import Backdoor, Poisoned
from redqubit.errors import UsageError
from redqubit.storage.files import replacing, replacing_folder, writing


def save_npz(poisoned: Poisoned, path: str | os.PathLike[str]) -> Path:
    """Write a poisoned set as an npz file, which `redqubit.data.load_npz` reads.

    Arrays: `x` (float32 or float64, as it is), `y`, `is_poisoned`, `is_cover` and `source`, the place of each sample in
    the clean set. The inputs are written in batches, without a copy of the set.

    Args:
        poisoned: The set.
        path: File to write; an old one is replaced once the new one is whole.

    Raises:
        UsageError: when the file cannot be written.
    """
    path = Path(path).expanduser()
    shape = (len(poisoned), *poisoned.clean.x.shape[1:])
    dtype = np.dtype(str(poisoned.clean.x.dtype).removeprefix("torch."))
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    small = {name: getattr(poisoned, name) for name in ("y", "is_poisoned", "is_cover", "source")}
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as whole, zipfile.ZipFile(whole, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            npy.write_array_header_2_0(file, header)
            for x, _ in poisoned.batches():
                file.write(x.cpu().numpy().tobytes())
        for name, tensor in small.items():
            with archive.open(f"{name}.npy", "w") as file:
                npy.write_array(file, tensor.cpu().numpy(), allow_pickle=False)
    return path


def save_pictures(poisoned: Poisoned, folder: str | os.PathLike[str], *, backdoor: Backdoor | None = None) -> Path:
    """Write a poisoned set as PNG pictures, a folder a class, which `redqubit.data.load_image_folder` reads.

    A picture lies in the folder of its label and is named by its place, with `_poisoned` or `_cover` behind. The file
    `index.csv` lists file, label, label in the clean set, both marks and the place in the clean set. The pictures have
    8 bits a channel, so that changes below 1/510 are lost: train on the npz file where that matters.

    Args:
        poisoned: A set of pictures of 1 or 3 channels.
        folder: Folder to write; it must not exist or be empty.
        backdoor: How the set was poisoned, for `backdoor.json`.

    Raises:
        UsageError: when the folder holds something or cannot be written, or the channels are not 1 or 3.
    """
    folder = Path(folder).expanduser()
    channels = poisoned.clean.x.shape[1]
    if channels not in (1, 3):
        raise UsageError(
            f"Argument `poisoned` must hold pictures of 1 or 3 channels, but they have {channels}: save an npz file."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"Argument `folder` must be new or empty, but {folder} is not: choose another.")
    names = _folder_names(poisoned)
    columns = (poisoned.is_poisoned, poisoned.is_cover, poisoned.source, poisoned.clean.y[poisoned.source])
    facts = zip(*(column.tolist() for column in columns), strict=True)
    with replacing_folder(folder) as part:
        for name in names:
            (part / name).mkdir()
        with (part / "index.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "label", "clean_label", "is_poisoned", "is_cover", "source"])
            for place, ((picture, label), (bad, cover, source, before)) in enumerate(
                zip(_pictures(poisoned), facts, strict=True)
            ):
                mark = "_poisoned" if bad else "_cover" if cover else ""
                name = f"{names[label]}/{place:07d}{mark}.png"
                _image(picture).save(part / name)
                rows.writerow([name, label, before, int(bad), int(cover), source])
        if backdoor is not None:
            made = {**asdict(backdoor), "trigger_name": type(backdoor.trigger).__name__, "notes": poisoned.notes}
            (part / "backdoor.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
    return folder


def _pictures(poisoned: Poisoned) -> Iterator[tuple[Tensor, int]]:
    for x, y in poisoned.batches():
        yield from zip(x, y.tolist(), strict=True)


def _image(picture: Tensor) -> Image.Image:
    pixels = (picture * 255).round().byte().cpu().numpy()
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _folder_names(poisoned: Poisoned) -> list[str]:
    """Return a folder name per class that sorts by label, so that a reader finds the same labels."""
    classes = poisoned.clean.classes
    width = len(str(poisoned.clean.n_classes - 1))
    numbers = [f"{label:0{width}d}" for label in range(poisoned.clean.n_classes)]
    if not classes or list(classes) == numbers:
        return numbers
    clean = ["".join(c if c.isalnum() or c in "-." else "_" for c in name) for name in classes]
    return [f"{number}_{name}" for number, name in zip(numbers, clean, strict=True)]
