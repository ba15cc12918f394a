"""Arrays of a run in npz files."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from redqubit import reading
from redqubit.storage.files import damaged, replacing


def save_arrays(path: Path, /, **arrays: NDArray[Any]) -> None:
    """Write arrays as a compressed npz file, whole or not at all.

    Raises:
        UsageError: If the file cannot be written.
    """
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path, *, cell: str = "") -> dict[str, NDArray[Any]]:
    """Read what `save_arrays` wrote; every byte of an array is checked, which `numpy.load` does not do.

    Args:
        path: The file.
        cell: Name of the cell that wrote it, for the error.

    Raises:
        UsageError: If the file is absent or damaged.

    Example:
        >>> tmp.mkdir(exist_ok=True)
        >>> save_arrays(tmp / "counts.npz", hits=np.arange(3))
        >>> load_arrays(tmp / "counts.npz")["hits"].tolist()
        [0, 1, 2]
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (asked := sum(info.file_size for info in archive.infolist())) > reading.MAX_BYTES:
                raise ValueError(f"it asks for {asked:,} bytes")
            # whole members, since the checksum of one is compared at its end and a wrong header would stop before it
            members = {name.removesuffix(".npy"): io.BytesIO(archive.read(name)) for name in archive.namelist()}
        return {name: npy.read_array(member, allow_pickle=False) for name, member in members.items()}
    except FileNotFoundError:
        raise damaged(path, "it is not there", cell=cell) from None
    except reading.BROKEN as error:
        raise damaged(path, error, cell=cell) from None
