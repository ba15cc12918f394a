"""Files that a crash leaves as they were or as they should be, and JSON that shows damage; standard library only."""

import fcntl
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from redqubit.errors import UsageError

_SEAL = ', "crc32": "'  # opens the last key of a sealed object


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` in one step when the block ends well, and is gone when it does not.

    The content is on the disk before the name is. A process that is killed leaves a hidden file `.<name>.<hex>.part`,
    see `sweep`.

    Args:
        path: The file; its folder must be there.

    Raises:
        UsageError: If the file cannot be written, for want of space or permission.

    Example:
        >>> tmp.mkdir(exist_ok=True)
        >>> with replacing(tmp / "answer") as file:
        ...     _ = file.write(b"42")
        >>> (tmp / "answer").read_bytes()
        b'42'
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with writing(path):
        try:
            with part.open("wb") as file:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)  # so that `sweep` leaves it
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        sync_folder(path)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of `folder` when the block ends well, and is gone when it does not.

    Args:
        folder: It must not exist, or be empty.

    Raises:
        UsageError: If it cannot be written.
    """
    folder = folder.absolute()
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    with writing(folder):
        try:
            part.mkdir(parents=True)
            yield part
            os.replace(part, folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell what hinders the block from writing a file in one line.

    Raises:
        UsageError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"Argument `path` must be writable, but {path}: {error.strerror or error}: "
            "make room or permit it and start again, what was finished is kept"
        ) from error


def sync_folder(path: Path) -> None:
    """Wait until the name of a file is on the disk, as its content is already."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep(folder: Path) -> None:
    """Remove what killed processes left of files that they were writing, in a folder and those below it."""
    for part in filter(Path.is_file, Path(folder).rglob(".*.part")):
        # what a living process writes, such as the report of the run before this one, is locked, or gone by now
        with suppress(BlockingIOError, FileNotFoundError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, finds the old one or the new one, never half of it.

    Raises:
        UsageError: If the file cannot be written, for want of space or permission.
    """
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # half a pair of UTF-16, which JSON may hold


def damaged(path: Path, why: object, *, cell: str = "") -> UsageError:
    """Return the error for a file of a run that is not as it was written.

    Args:
        path: The file.
        why: What is wrong with it, such as the error that reading it gave.
        cell: Name of the cell that wrote it, where it is known.
    """
    text = " ".join(str(why).split()) or type(why).__name__
    lines = f"the lines of `{cell}`" if cell else "the lines of the cell that wrote it"
    return UsageError(
        f"File {path} must be as the run wrote it, but {text:.200}: delete {lines} in results.jsonl and run again"
    )


def sealed(text: str) -> str:
    """Return the text of a JSON object, which must not be empty, with a checksum of it as its last key.

    Example:
        >>> sealed('{"a": 1}')
        '{"a": 1, "crc32": "7aa88204"}'
    """
    body = text.rstrip().removesuffix("}").rstrip()
    return f'{body}{_SEAL}{zlib.crc32(body.encode()):08x}"}}'


def plain_int(digits: str) -> int:
    """Return a whole number of JSON; one that no float could hold is none that a run wrote."""
    if len(digits) > 300:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _decode(data: bytes) -> Any:
    return json.loads(data, parse_int=plain_int)


def unsealed(data: bytes, decode: Callable[[bytes], Any] = _decode) -> dict[str, Any]:
    """Return the object in a text, without its checksum.

    Raises:
        ValueError: If it is no object, or not the one that was sealed, or was not sealed.

    Example:
        >>> unsealed(b'{"a": 2, "crc32": "7aa88204"}')
        Traceback (most recent call last):
        ValueError: its checksum is wrong or missing
    """
    raw = decode(data)
    if not isinstance(raw, dict):
        raise ValueError("it is no object")
    if raw.pop("crc32", None) != f"{zlib.crc32(data[: data.rfind(_SEAL.encode())]):08x}":
        raise ValueError("its checksum is wrong or missing")
    return raw


def save_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as sealed JSON, whole or not at all."""
    write_text(path, sealed(json.dumps(content, indent=1, allow_nan=False)) + "\n")


def load_json(path: Path) -> dict[str, Any]:
    """Read the object that `save_json` wrote.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged.
    """
    try:
        return unsealed(Path(path).read_bytes())
    except RecursionError:
        raise ValueError("it is nested too deep") from None
