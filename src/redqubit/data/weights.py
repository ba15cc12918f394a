"""Published weights of backbones: found in a folder, or downloaded and checked."""

import os
from pathlib import Path

from redqubit.data.downloads import Progress, Remote, data_folders, fetch
from redqubit.errors import UsageError
from redqubit.registry import unknown

_TORCHVISION = "https://download.pytorch.org/models"

# What torchvision publishes as IMAGENET1K_V1; the first eight digits of a checksum are part of the name there.
REMOTES: dict[str, Remote | None] = {
    "resnet18": Remote(
        "resnet18-f37072fd.pth",
        (f"{_TORCHVISION}/resnet18-f37072fd.pth",),
        "sha256:f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "resnet50": Remote(
        "resnet50-0676ba61.pth",
        (f"{_TORCHVISION}/resnet50-0676ba61.pth",),
        "sha256:0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
    "squeezenet1_0": None,  # whose whole checksum is not published
}


def find_weights(
    backbone: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Return the file with a backbone's ImageNet weights.

    It is `<backbone>_imagenet.safetensors` or torchvision's file, in `data_dir` or in a folder `weights` in it or
    beside it; without `data_dir`, there for the folder that the environment variable REDQUBIT_DATA names, and then in
    the user's cache. What is absent is downloaded into `<data_dir>/weights/`, else into the cache, and its checksum is
    compared.

    Args:
        backbone: "resnet18", "resnet50" or "squeezenet1_0", which cannot be downloaded.
        data_dir: Folder of data.
        download: Whether to download what is absent.
        progress: Called with (bytes done, bytes in all) during a download.

    Raises:
        UsageError: If the name is unknown, `data_dir` is no folder, or the file is absent and cannot be downloaded.
    """
    if backbone not in REMOTES:
        raise unknown("backbone", backbone, REMOTES)
    remote = REMOTES[backbone]
    folders = data_folders(data_dir)
    names = [f"{backbone}_imagenet.safetensors", *([] if remote is None else [remote.name])]
    places = [place for f in folders for place in (f, f / "weights", f.absolute().parent / "weights")]
    for file in (place / name for place in places for name in names):
        if file.is_file():
            return file
    if remote is not None and download:
        return fetch(remote, folders[-1] / "weights", progress=progress)
    raise UsageError(
        f"Weights of `{backbone}` must be on disk, but {' or '.join(names)} is in none of "
        f"{', '.join(f'`{place}`' for place in places)}: copy one there"
        f"{' (it cannot be downloaded)' if remote is None else ' or allow the download'}."
    )
