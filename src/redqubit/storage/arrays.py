"""Arrays of a run in npz files, with a checksum of their contents."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from redqubit import reading
from redqubit.storage.files import damaged, replacing

_KEY = "sha256"


def save_arrays(path: Path, /, **arrays: NDArray[Any]) -> None:
    """Write arrays as a compressed npz file, whole or not at all.

    Raises:
        UsageError: If the file cannot be written.
    """
    with replacing(path) as file:
        np.savez_compressed(file, **arrays, **{_KEY: _digest(arrays)})  # type: ignore[arg-type]


def load_arrays(path: Path, *, cell: str = "") -> dict[str, NDArray[Any]]:
    """Read what `save_arrays` wrote.

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
        arrays = {name: npy.read_array(member, allow_pickle=False) for name, member in members.items()}
        # the checksums of the members alone would not tell that one has gone
        kept = arrays.pop(_KEY, None)
        if kept is None or not np.array_equal(kept, _digest(arrays)):
            raise ValueError("its checksum is wrong or missing")
        return arrays
    except FileNotFoundError:
        raise damaged(path, "it is not there", cell=cell) from None
    except reading.BROKEN as error:
        raise damaged(path, error, cell=cell) from None


def _digest(arrays: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
