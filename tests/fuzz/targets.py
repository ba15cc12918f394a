"""What is fed to every reader: bytes go in, and either a value or a one-line `UsageError` comes out.

`fuzzing.py` lets a fuzzer look for bytes that do anything else; `test_fuzz.py` feeds again what it found.
"""

import gzip
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import torch

from redqubit.auditing.config import Audit
from redqubit.auditing.subjects import load_weights
from redqubit.backdoors import Blend, load_front
from redqubit.config import assignments, read, resolve
from redqubit.data import formats, load, load_npz
from redqubit.data.layouts import read_sample
from redqubit.defending.rebuild import check_trust, model_of
from redqubit.errors import UsageError
from redqubit.models.backbones import read_state
from redqubit.quantum.lint.findings import from_json
from redqubit.quantum.qiskit import from_qasm
from redqubit.report import build
from redqubit.result import load as load_results
from redqubit.runner import open_run
from redqubit.storage.files import sealed
from redqubit.storage.tables import load_table
from redqubit.victims import find_victims

BETWEEN = b"\n====\n"  # the files of one run folder


def feed(name: str, data: bytes, folder: Path) -> None:
    """Let a reader read these bytes in an empty folder."""
    with suppress(UsageError):
        TARGETS[name](data, folder)


def _resealed(data: bytes) -> bytes:
    """Return lines of JSON objects, or one on many lines, with the right checksums, so that what is in them is read."""
    text = data.decode(errors="ignore")
    whole = [text] if text.startswith("{\n") else text.split("\n")
    parts = [re.sub(r', "crc32": "\w*"}\s*$', "}", part) for part in whole]
    return "\n".join(sealed(part) if part.rstrip().endswith("}") else part for part in parts).encode()


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _npz(data: bytes, folder: Path) -> None:
    path = _file(folder, "own.npz", data)
    for part in (None, "train"):
        with suppress(UsageError):
            load_npz(path, split=part)  # type: ignore[arg-type]
    read_sample(path, "train", first_label=1)


def _npy(data: bytes, folder: Path) -> None:
    """An npz file whose checksums are right: x, then y."""
    x, _, y = data.partition(BETWEEN)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, part in (("x.npy", x), ("y.npy", y)):
            archive.writestr(name, part)
    _npz(packed.getvalue(), folder)


def _idx(data: bytes, folder: Path) -> None:
    for packed in (data, gzip.compress(data, 1)):
        with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
            archive.writestr("gzip/images", packed)
        for read_one in (
            lambda packed=packed: formats.read_idx(_file(folder, "images", packed)),
            lambda: formats.read_zipped_idx(folder / "gzip.zip", "images"),
        ):
            with suppress(UsageError):
                read_one()


def _tar(data: bytes, folder: Path) -> None:
    for name in ("cifar-10-binary.tar.gz", "imagenette2-160.tgz"):
        _file(folder, name, gzip.compress(data, 1))
    for name in ("cifar10", "imagenette"):
        with suppress(UsageError):
            load(name, data_dir=folder, split="test", download=False)


def _picture(data: bytes, folder: Path) -> None:
    for bytes_ in (data, _with_checksums(data)):
        for channels, size in ((1, None), (3, 8)):
            with suppress(UsageError):
                formats.decode_images([("a picture", bytes_)], n_channels=channels, size=size)
        Blend(picture=str(_file(folder, "pattern.png", bytes_))).pattern(3, 4, 4)


def _with_checksums(png: bytes) -> bytes:
    """Return a PNG file whose chunks have the right checksums, so that what is in them is read."""
    out, at = [png[:8]], 8
    while at + 12 <= len(png):
        size = min(struct.unpack(">I", png[at : at + 4])[0], len(png) - at - 12)
        chunk = png[at + 4 : at + 8 + size]
        out.append(struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk)))
        at += 12 + size
    return b"".join(out)


def _yaml(data: bytes, folder: Path) -> None:
    resolve(Audit(), read(_file(folder, "config.yaml", data)))


def _settings(data: bytes, folder: Path) -> None:
    resolve(Audit(), assignments(data.decode(errors="replace").split("\n")))


def _qasm(data: bytes, folder: Path) -> None:
    str(from_qasm(_file(folder, "circuit.qasm", data)).circuit)


def _results(data: bytes, folder: Path) -> None:
    for bytes_ in (data, _resealed(data)):
        with suppress(UsageError):
            load_results(_file(folder, "results.jsonl", bytes_))


def _run(data: bytes, folder: Path) -> None:
    """A run folder, from which a report is drawn, and which is then taken up."""
    names = ("summary.json", "run.json", "results.jsonl", "config.yaml", "artifacts/examples.npz")
    for name, part in zip(names, data.split(BETWEEN), strict=False):
        _file(folder, name, _resealed(part) if "json" in name else part)
    page = _Page(build(folder).read_text(encoding="utf-8"))
    assert not page.open or page.open == ["html"]
    json.loads((folder / "report.json").read_text(encoding="utf-8"))
    with open_run(folder, experiment="audit", config={"eps": 0.1}):
        pass


class _Page(HTMLParser):
    """A page that runs nothing and loads nothing, whatever it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form"), tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("src", "href", "xlink:href", "action"):
                assert (value or "").startswith(("#", "data:image/png;base64,")), value


def _victim(data: bytes, folder: Path) -> None:
    description, _, weights = data.partition(BETWEEN)
    _file(folder, "models/m.json", _resealed(description))
    _file(folder, "models/m.safetensors", weights)
    victims = find_victims(folder)
    check_trust(victims, ())
    for victim in victims:
        if victim.backdoor:
            victim.backdoor.trigger(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
        model_of(victim, folder, (1, 8, 8))


def _weights(data: bytes, folder: Path) -> None:
    path = _file(folder, "w.safetensors", data)
    read_state(path)
    load_weights(torch.nn.Linear(2, 3), path)


def _pickled(data: bytes, folder: Path) -> None:
    read_state(_file(folder, "w.pth", data))


def _front(data: bytes, folder: Path) -> None:
    load_front(_file(folder, "front.json", _resealed(data))).best(0.9)


def _table(data: bytes, folder: Path) -> None:
    load_table(_file(folder, "samples.parquet", data))


def _findings(data: bytes, folder: Path) -> None:
    from_json(data.decode(errors="replace"))


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "npz": _npz,
    "npy": _npy,
    "idx": _idx,
    "tar": _tar,
    "picture": _picture,
    "yaml": _yaml,
    "settings": _settings,
    "qasm": _qasm,
    "results": _results,
    "run": _run,
    "victim": _victim,
    "weights": _weights,
    "pickled": _pickled,
    "front": _front,
    "findings": _findings,
    "table": _table,
}
