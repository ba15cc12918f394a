"""File formats of public data sets, read into arrays.

Every reader knows how much memory a file may ask for before it asks, so that a broken or hostile
header cannot exhaust the machine, and none unpickles.
"""

import gzip
import io
import math
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redqubit import reading as files
from redqubit.errors import UsageError
from redqubit.reading import bad, reading, too_large

MAX_PIXELS = 1 << 25  # of one picture, before it is resized
MAX_PICTURE_BYTES = 1 << 25  # of one encoded picture
DEFLATE_RATIO = 1032  # deflate cannot expand a byte to more than this (zlib's technical notes)
MAX_UNPACKED = 1 << 33  # of a whole archive; Imagenette at full size has 1.6e9
MAX_HEADER = 1 << 20  # of what an archive says about one file


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, raw or gzipped.

    Header: two zero bytes, 8 (unsigned byte), the number of axes; then each length as a big-endian uint32.

    Raises:
        UsageError: If the file is not one, is cut short, or is longer than its header says.

    Reference:
        Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", file formats.
    """
    with reading(path, "IDX file"), path.open("rb") as file:
        return _parse_idx(file, path.stat().st_size, path)


def read_zipped_idx(path: Path, name: str) -> NDArray[np.uint8]:
    """Read the IDX file whose base name is `name` out of a zip archive.

    Raises:
        UsageError: If the archive is broken or has no such member, or the member is no whole IDX file.
    """
    with reading(path, "zip archive"), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if Path(info.filename).name == name:
                with archive.open(info) as member:
                    return _parse_idx(cast(BinaryIO, member), info.file_size, f"{path}/{name}")
    raise UsageError(f"File `{path}` must hold {name}, but it does not: fetch or copy it again.")


def _parse_idx(file: BinaryIO, file_size: int, where: object) -> NDArray[np.uint8]:
    start = file.read(2)
    file.seek(0)
    if start == b"\x1f\x8b":
        room = DEFLATE_RATIO * file_size
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file, mode="rb"))
    else:
        room, stream = file_size, file
    head = stream.read(4)
    if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 4:
        raise bad(where, "be an IDX file of unsigned bytes", f"it opens with 0x{head.hex()}")
    lengths = stream.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        raise bad(where, "be a whole IDX file", "it ends inside its header")
    shape = struct.unpack(f">{head[3]}I", lengths)
    n_bytes = math.prod(shape)
    if n_bytes > files.MAX_BYTES:
        raise too_large(where, f"its header asks for {n_bytes:,} bytes")
    if n_bytes > room:
        raise bad(
            where, "be a whole IDX file", f"its header asks for {n_bytes:,} bytes and it cannot hold more than {room:,}"
        )
    body = stream.read(n_bytes + 1)  # one more, to see whether the file goes on
    if len(body) != n_bytes:
        state = "longer" if len(body) > n_bytes else "cut short"
        raise bad(where, "be a whole IDX file", f"it is {state}: its header says {n_bytes:,} bytes")
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def parse_cifar(data: bytes, *, label_bytes: int, where: object) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read records of the binary CIFAR format: label byte(s), then 3 x 32 x 32 bytes, red first.

    Args:
        data: Whole records.
        label_bytes: 1 (CIFAR-10), or 2 (CIFAR-100: coarse, then fine; the fine label is kept).
        where: Name of the file, for errors.

    Returns:
        Images (N, 3, 32, 32) and labels (N,).

    Raises:
        UsageError: If the bytes are not whole records.

    Reference:
        A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and the data set's page.
    """
    record = label_bytes + 3 * 32 * 32
    if not data or len(data) % record:
        raise bad(where, f"hold whole records of {record} bytes", f"it has {len(data):,} bytes")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, record)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


def read_tar(path: Path, wanted: Callable[[str], bool], *, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, bytes) of the wanted files of a gzipped tar, in the archive's order; nothing is extracted to disk.

    Raises:
        UsageError: If the archive is broken or a wanted file is larger than `max_bytes`.
    """
    with reading(path, "tar.gz archive"), gzip.open(path) as packed:
        stream = _Bounded(packed, path)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while (member := archive.next()) is not None:
                cast(Any, archive).members.clear()  # which it would keep for ever
                if not member.isfile() or not wanted(member.name):
                    continue
                if member.size > max_bytes:
                    raise too_large(f"{path}/{member.name}", f"it has {member.size:,}", max_bytes)
                content = archive.extractfile(member)
                if content is not None:
                    stream.most = max_bytes
                    data = content.read()
                    stream.most = MAX_HEADER
                    yield member.name, data
            # tarfile takes a broken header for the end; gzip's own checksum at the end of the stream does not.
            while stream.read(1 << 20):
                pass


class _Bounded(io.RawIOBase):
    """An unpacked stream that gives no more at once than `most`, and no more in all than an archive may have.

    Without it a header of 512 bytes could ask for a name of 8 GiB.
    """

    def __init__(self, stream: gzip.GzipFile, where: object) -> None:
        self._stream, self._where, self.most = stream, where, MAX_HEADER

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        if not 0 <= size <= self.most:
            raise too_large(self._where, f"a part of it asks for {size:,}", self.most)
        if self._stream.tell() > MAX_UNPACKED:
            raise too_large(self._where, "it does not end", MAX_UNPACKED)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        if offset > MAX_UNPACKED:
            raise too_large(self._where, f"a part of it has {offset:,}", MAX_UNPACKED)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._stream.tell()


def decode_images(
    encoded: Iterable[tuple[str, bytes]], *, n_channels: int, size: int | None = None
) -> NDArray[np.uint8]:
    """Decode PNG or JPEG pictures into one array.

    Args:
        encoded: Pairs of a name (for errors) and the bytes of a picture.
        n_channels: 1 for grey, 3 for RGB.
        size: Side in pixels of the centred square that each picture is cropped and resized (Lanczos) to;
            None takes the pictures as they are, which must then agree in size.

    Returns:
        Images (N, n_channels, H, W).

    Raises:
        UsageError: If a picture is broken, too large, not 8-bit or of another size than the first, or there is none.
    """
    images: list[NDArray[np.uint8]] = []
    for where, data in encoded:
        image = _decode_image(data, n_channels=n_channels, size=size, where=where)
        if images and image.shape != images[0].shape:
            (_, h, w), (_, h0, w0) = image.shape, images[0].shape
            raise UsageError(
                f"File `{where}` must be as large as the first, but it is {h}x{w}, not {h0}x{w0}: set `size`."
            )
        images.append(image)
        if len(images) * image.size > files.MAX_BYTES:
            raise too_large(where, f"the pictures up to it need {len(images) * image.size:,}")
    if not images:
        raise UsageError("The pictures must be at least one, but there is none: check the folder.")
    return np.stack(images)


def _decode_image(data: bytes, *, n_channels: int, size: int | None, where: str) -> NDArray[np.uint8]:
    with reading(where, "PNG or JPEG picture"):
        image = open_picture(data, n_channels=n_channels, where=where)
        if size is not None:
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            square = image.crop((left, top, left + side, top + side))  # first, so that nothing outside bleeds in
            image = square.resize((size, size), Image.Resampling.LANCZOS)
        pixels = np.asarray(image, dtype=np.uint8)
        return pixels[None] if n_channels == 1 else pixels.transpose(2, 0, 1)  # (C, H, W)


def open_picture(data: bytes, *, n_channels: int, where: str) -> Image.Image:
    """Decode one PNG or JPEG picture as it is.

    Args:
        data: Its bytes.
        n_channels: 1 for grey, 3 for RGB.
        where: Name for errors.

    Raises:
        UsageError: If it is broken, too large or not 8-bit.
    """
    with reading(where, "PNG or JPEG picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        try:
            opened = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        except Image.DecompressionBombError as error:
            raise too_large(where, str(error)) from None
        with opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise too_large(where, f"it has {opened.width}x{opened.height} pixels")
            if opened.mode.startswith(("I", "F")):
                raise UsageError(
                    f"File `{where}` must have 8 bits a channel, but its mode is {opened.mode}: convert it."
                )
            return opened.convert("L" if n_channels == 1 else "RGB")


def split_blob(blob: NDArray[Any], offsets: NDArray[Any], where: str) -> Iterator[tuple[str, bytes]]:
    """Cut a byte array at offsets: picture i is blob[offsets[i]:offsets[i+1]].

    Raises:
        UsageError: If the offsets do not rise from 0 to the length of the blob.
    """
    sound = blob.dtype == np.uint8 and blob.ndim == 1 and offsets.dtype.kind in "iu" and offsets.ndim == 1
    if (
        not sound
        or len(offsets) < 2
        or offsets[0] != 0
        or offsets[-1] != len(blob)
        or (offsets[1:] <= offsets[:-1]).any()
    ):
        raise bad(where, "hold byte offsets that rise from 0 to the number of bytes", "they do not")
    for i in range(len(offsets) - 1):
        yield f"{where}, picture {i}", blob[offsets[i] : offsets[i + 1]].tobytes()
