"""Files that anybody may have made: what is broken becomes one line, and none asks for more memory than it may.

Nothing here unpickles, and nothing opens a path that a file names.
"""

import math
import os
import stat
import struct
import tarfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from redqubit.errors import UsageError

MAX_BYTES = 1 << 30  # of one array in memory; the largest set here, Imagenette at 128 x 128, has 0.47e9

MAX_CLASSES = 1 << 16  # of a data set or a model: a single label says how large a last layer becomes

# What the standard library, numpy and Pillow raise on broken bytes.
BROKEN = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    ArithmeticError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    tokenize.TokenError,  # of the header of an npy file
)


@contextmanager
def reading(where: object, kind: str) -> Iterator[None]:
    """Turn whatever broken bytes raise into one line that names the file."""
    try:
        yield
    except UsageError:
        raise
    except BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise bad(where, f"be a whole, readable {kind}", f"reading it failed ({reason})") from error


def bad(where: object, must: str, but: str) -> UsageError:
    """Return the error of a file that is not what it should be."""
    return UsageError(f"File `{where}` must {must}, but {but}: fetch or copy it again.")


def too_large(where: object, but: str, most: int | None = None) -> UsageError:
    """Return the error of a file that asks for too much memory: `MAX_BYTES` where nothing else is said."""
    limit = MAX_BYTES if most is None else most
    return UsageError(f"File `{where}` must need at most {limit:,} bytes, but {but}: keep fewer or smaller samples.")


def read_bytes(path: Path, *, max_bytes: int) -> bytes:
    """Read a regular file that has no business being larger than `max_bytes`."""
    with reading(path, "file"):
        _check_regular(path)
        if path.stat().st_size > max_bytes:
            raise too_large(path, f"it has {path.stat().st_size:,}", max_bytes)
        return path.read_bytes()


def _check_regular(path: Path) -> None:
    """Refuse a pipe, which would block, and a device, which may never end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # the error of a folder is its own
        raise bad(path, "be a file", "it is a pipe or a device")


def check_links(folder: Path) -> None:
    """Refuse a folder in which a link leads out of it, or which holds a pipe or a device.

    Raises:
        UsageError: If it does.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(folder):
        for path in (os.path.join(place, name) for name in (*folders, *files)):
            mode = os.lstat(path).st_mode
            target = os.path.realpath(path)
            if stat.S_ISLNK(mode) and os.path.commonpath([root, target]) != root:
                raise UsageError(
                    f"Folder `{folder}` must hold what is in it, but {path} is a link to {target}: copy the file there."
                )
            if not (stat.S_ISLNK(mode) or stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UsageError(f"Folder `{folder}` must hold files alone, but {path} is none: delete it.")


def npz_keys(path: Path) -> frozenset[str]:
    """List the arrays of an npz file without reading them."""
    with _opened(path) as archive:
        return frozenset(name.removesuffix(".npy") for name in archive.namelist())


def read_npz(path: Path, keys: Sequence[str]) -> list[NDArray[Any]]:
    """Read arrays of an npz file, in the order of `keys`, after a look at their headers.

    Raises:
        UsageError: If the file is broken, lacks a key, holds Python objects, or asks for too much memory.
    """
    with _opened(path) as archive:
        members = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        if any(key not in members for key in keys):
            has = ", ".join(sorted(members)) or "nothing"
            raise UsageError(
                f"File `{path}` must hold {', '.join(keys)}, but it has {has}: rename the arrays and save again."
            )
        return [_array(archive, key, path) for key in keys]


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with reading(path, "npz file"):
        _check_regular(path)
        with zipfile.ZipFile(path) as archive:
            yield archive


def _array(archive: zipfile.ZipFile, key: str, path: Path) -> NDArray[Any]:
    # read from this very member: np.load would prefer one that lacks the ending .npy, whose header nobody saw
    info = archive.getinfo(f"{key}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise bad(path, "be stored or deflated", f"`{key}` is compressed in another way")
    with archive.open(info) as stream:
        _check_header(cast(BinaryIO, stream), info.file_size, key, path)
    with archive.open(info) as stream:
        array: NDArray[Any] = np.lib.format.read_array(cast(BinaryIO, stream), allow_pickle=False)
        return array


def _check_header(member: BinaryIO, size: int, key: str, path: Path) -> None:
    old = np.lib.format.read_magic(member) == (1, 0)
    header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(member)
    n_bytes = math.prod(shape) * dtype.itemsize
    held = size - member.tell()
    if dtype.hasobject:
        raise UsageError(
            f"File `{path}` must hold plain numbers, but `{key}` holds Python objects, which are never unpickled: "
            "save it again from numeric arrays."
        )
    if n_bytes > MAX_BYTES:
        raise too_large(path, f"`{key}` asks for {n_bytes:,} bytes")
    if n_bytes != held:
        raise bad(
            path, "be a whole npz file", f"the header of `{key}` asks for {n_bytes:,} bytes and {held:,} are there"
        )
