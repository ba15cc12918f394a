"""Fetch a published file once: checked, resumed after a cut, moved into place whole."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pooch
from filelock import FileLock

from redqubit.errors import UsageError

Progress = Callable[[int, int], None]  # (bytes done, bytes in all or 0 where unknown)

MAX_DOWNLOAD = 1 << 30  # bytes; the largest file here, EMNIST's gzip.zip, has 0.56e9
_CHUNK = 1 << 16
_TIMEOUT = 20.0  # seconds without a byte


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        name: Name under which it is kept.
        urls: Where it is published, best first.
        checksum: "md5:..." or "sha256:..." in lower-case hex.
    """

    name: str
    urls: tuple[str, ...]
    checksum: str


def cache_folder() -> Path:
    """Return the user's cache folder for data; it need not exist."""
    return Path(pooch.os_cache("redqubit"))


def data_folders(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return where data are looked for: `data_dir`, else the folder that REDQUBIT_DATA names and the user's cache.

    The last one takes downloads. The cache is made then; the others must be there, since one that is not is mistyped.

    Raises:
        UsageError: If `data_dir` or what REDQUBIT_DATA names is no folder.
    """
    named = data_dir if data_dir is not None else os.environ.get("REDQUBIT_DATA")
    if data_dir is None and not named:
        return [cache_folder()]
    folder = Path(named or "").expanduser()
    if not folder.is_dir():
        what = "Argument `data_dir`" if data_dir is not None else "Variable REDQUBIT_DATA"
        but = "is a file" if folder.exists() else "is not there"
        remedy = "correct it or make the folder" if data_dir is not None else "correct or unset it"
        raise UsageError(f"{what} must be a folder, but `{folder}` {but}: {remedy}.")
    return [folder] if data_dir is not None else [folder, cache_folder()]


def fetch(remote: Remote, folder: Path, *, progress: Progress | None = None) -> Path:
    """Download a file into a folder unless a copy with the right checksum is there.

    What arrives goes to `<name>.part`. A cut leaves it there and the next try asks for the rest of it. Only a
    file with the right checksum gets its name, in one step. A lock lets processes that want the same file wait for
    the first.

    Args:
        remote: The file.
        folder: Where it goes; made if absent.
        progress: Called with (bytes done, bytes in all) as the file comes; the second is 0 where unknown.

    Returns:
        The path of the whole file.

    Raises:
        UsageError: If the folder cannot be written, no address answers, the transfer is cut, or the checksum is wrong.
    """
    target = folder / remote.name
    part = folder / f"{remote.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{remote.name}.lock"):
            if not (target.is_file() and _matches(target, remote.checksum)):
                _download(remote, part, progress)
                os.replace(part, target)
    except OSError as error:
        raise UsageError(
            f"Folder `{folder}` must be writable to keep {remote.name}, but writing failed ({_reason(error)}): "
            "name another folder as `data_dir` or --data-dir."
        ) from error
    return target


def _download(remote: Remote, part: Path, progress: Progress | None) -> None:
    problems: list[str] = []
    for url in remote.urls:
        problem = _try(url, part, progress)
        if problem:
            problems.append(f"{url} gave {problem}")
        elif _matches(part, remote.checksum):
            return
        else:
            part.unlink()
            problems.append(f"{url} gave a file whose checksum is not {remote.checksum}")
    raise UsageError(
        f"File `{remote.name}` must be downloaded, but {'; '.join(problems)}: try again (what arrived is resumed), "
        f"or put the file into `{part.parent}` by hand."
    )


def _try(url: str, part: Path, progress: Progress | None) -> str:
    """Fetch until the file is whole, as long as each attempt brings something; return what went wrong, or ""."""
    while True:
        before = _size(part)
        try:
            _stream(url, part, progress)
        except HTTPError as error:
            # 416: there is nothing after the part, so it is whole already; its checksum decides.
            return "" if error.code == 416 and before else f"HTTP {error.code}"
        except (OSError, HTTPException) as error:
            if _size(part) <= before:
                return _reason(error)
        else:
            return ""


def _stream(url: str, part: Path, progress: Progress | None) -> None:
    done = _size(part)
    headers = {"User-Agent": "redqubit", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        done = done if resumed else 0
        rest = response.length or 0
        total = done + rest if rest else 0
        with part.open("ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if done > MAX_DOWNLOAD:
                    raise UsageError(
                        f"File `{url}` must have at most {MAX_DOWNLOAD:,} bytes, but it goes on: check it."
                    )
                file.write(chunk)
                if progress is not None:
                    progress(done, total)
    if done < total:
        raise ConnectionError(f"a cut after {done:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _matches(path: Path, checksum: str) -> bool:
    algorithm, _, known = checksum.partition(":")
    return bool(pooch.file_hash(str(path), alg=algorithm) == known)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
