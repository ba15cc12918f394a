import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from redqubit.data import load
from redqubit.data.downloads import Remote, fetch
from redqubit.data.layouts import IdxLayout
from redqubit.data.originals import ORIGINALS, Original
from redqubit.errors import UsageError

RNG = np.random.default_rng(7)


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "must" in message
    assert ": " in message
    return message


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], dtype=np.uint8)


# ---- downloads from a real server ------------------------------------------------------------------------------------


@dataclass
class Server:
    """A web server on this machine: what it serves, how it misbehaves, what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True  # whether it honours Range
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path, Range)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.asked.append((self.path, asked))
            if self.path not in state.files:
                self.send_error(404)
                return
            content = state.files[self.path]
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: state.cuts.pop(0) if state.cuts else None])

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


BLOB = RNG.bytes(300_000)
SHA = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


def blob_at(server: Server, checksum: str = SHA) -> Remote:
    server.files["/blob.bin"] = BLOB
    return Remote("blob.bin", (f"{server.url}/blob.bin",), checksum)


def test_download_reports_progress_and_happens_once(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    remote = blob_at(server)
    path = fetch(remote, tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == BLOB
    assert seen[-1] == (len(BLOB), len(BLOB))
    assert seen == sorted(seen)
    assert len(seen) > 1
    fetch(remote, tmp_path / "new")
    assert server.asked == [("/blob.bin", "")]
    assert capfd.readouterr() == ("", "")


def test_a_cut_is_resumed_within_the_call(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB
    assert [asked for _, asked in server.asked] == ["", "bytes=100000-", "bytes=150000-"]


def test_a_cut_is_resumed_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0]
    with pytest.raises(UsageError, match=r"100,000 of 300,000.*try again") as error:
        fetch(blob_at(server), tmp_path)
    one_line(error)
    assert not (tmp_path / "blob.bin").exists()
    assert (tmp_path / "blob.bin.part").read_bytes() == BLOB[:100_000]
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB
    assert server.asked[-1] == ("/blob.bin", "bytes=100000-")
    assert not (tmp_path / "blob.bin.part").exists()


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "blob.bin.part").write_bytes(BLOB[:1000])
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_a_whole_part_needs_only_its_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blob.bin.part").write_bytes(BLOB)
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checksum is not md5:00") as error:
        fetch(blob_at(server, "md5:" + "0" * 32), tmp_path)
    one_line(error)
    assert not list(tmp_path.glob("blob.bin*[!k]"))  # nothing but the lock


def test_a_stale_part_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blob.bin.part").write_bytes(b"?" * 1000)
    with pytest.raises(UsageError, match="checksum"):
        fetch(blob_at(server), tmp_path)
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_a_damaged_copy_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "blob.bin").write_bytes(BLOB[:-1])
    assert fetch(blob_at(server), tmp_path).read_bytes() == BLOB


def test_absent_page_refused_connection_and_mirror(server: Server, tmp_path: Path) -> None:
    gone = f"{server.url}/gone.bin"
    with pytest.raises(UsageError, match=r"gone\.bin gave HTTP 404") as error:
        fetch(Remote("gone.bin", (gone,), SHA), tmp_path)
    one_line(error)
    with pytest.raises(UsageError, match="refused") as error:
        fetch(Remote("blob.bin", ("http://127.0.0.1:9/blob.bin",), SHA), tmp_path)
    one_line(error)
    mirrored = Remote("blob.bin", (gone, *blob_at(server).urls), SHA)
    assert fetch(mirrored, tmp_path).read_bytes() == BLOB


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="must be writable") as error:
        fetch(blob_at(server), tmp_path / "file" / "below")
    one_line(error)


def test_calls_side_by_side_download_once(server: Server, tmp_path: Path) -> None:
    remote = blob_at(server)
    threads = [threading.Thread(target=fetch, args=(remote, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "blob.bin").read_bytes() == BLOB
    assert len(server.asked) == 1


def test_load_downloads_what_is_absent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"t10k-images-idx3-ubyte.gz": idx(IMAGES), "t10k-labels-idx1-ubyte.gz": idx(LABELS)}
    remotes = []
    for name, content in contents.items():
        packed = server.files[f"/{name}"] = gzip.compress(content)
        remotes.append(Remote(name, (f"{server.url}/{name}",), f"md5:{hashlib.md5(packed).hexdigest()}"))
    layout = IdxLayout({"train": "train", "test": "t10k"}, {"train": (), "test": tuple(remotes)})
    monkeypatch.setitem(ORIGINALS, "local", Original((1, 28, 28), tuple("0123456789"), layouts=(layout,)))
    with pytest.raises(UsageError, match="allow the download"):
        load("local", data_dir=tmp_path, split="test", download=False)
    assert not server.asked
    test = load("local", data_dir=tmp_path, split="test")
    assert test.y.tolist() == LABELS.tolist()
    assert (tmp_path / "local" / "t10k-images-idx3-ubyte.gz").is_file()
    load("local", data_dir=tmp_path, split="test")
    assert len(server.asked) == 2
