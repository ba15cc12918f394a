"""What SECURITY.md promises about files that somebody else made; each promise names its test here.

Bombs are made small, and so is the limit that they run into: what counts is the memory at the peak.
"""

import csv
import gzip
import io
import json
import os
import pickle
import re
import struct
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from redqubit import reading
from redqubit.backdoors import Backdoor, Patch, save_pictures
from redqubit.cli import main
from redqubit.config import assignments, read, resolve
from redqubit.data import Dataset, formats, load, load_image_folder, load_npz
from redqubit.defending import Defending, defend
from redqubit.defending.config import METHODS
from redqubit.errors import UsageError, printable
from redqubit.models.backbones import read_state
from redqubit.quantum.qiskit import from_qasm
from redqubit.report import build
from redqubit.result import Finding, Flag, Panel, Result, Summary, append, save_summary
from redqubit.storage.arrays import save_arrays
from redqubit.storage.files import save_json
from redqubit.storage.tables import load_table
from redqubit.victims import Victim, find_victims, save_victim

MIB = 1 << 20
NASTY = "<script>alert(1)</script><img src=x onerror=alert(2)>\" onmouseover='x' [a](javascript:b) `|"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limits, so that small bombs run into them."""
    monkeypatch.setattr(reading, "MAX_BYTES", MIB)
    monkeypatch.setattr(formats, "MAX_UNPACKED", 8 * MIB)


@contextmanager
def frugally(most: int = 8 * MIB, says: str | None = None) -> Iterator[None]:
    """Hold that the block raises one line, and takes no more memory than `most` bytes at any time."""
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=says) as caught:
            yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()
    assert peak < most, f"{peak:,} bytes"


# ---- nothing in a file is run ----------------------------------------------------------------------------------------


class Explosive:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, ("exploded",)


def explosive_npz(path: Path) -> None:
    np.savez(path, x=np.array([Explosive()], dtype=object), y=np.array([0]))


def explosive_pth(path: Path) -> None:
    torch.save({"w": Explosive()}, path)


def old_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w": Explosive()}))


@pytest.mark.parametrize(
    ("name", "make", "reader"),
    [
        ("own.npz", explosive_npz, load_npz),
        ("w.pth", explosive_pth, read_state),
        ("w.pth", old_pickle, read_state),
        ("w.safetensors", old_pickle, read_state),
        ("c.yaml", lambda p: p.write_text("a: !!python/object/apply:os.mkdir [exploded]"), read),
    ],
)
def test_no_file_runs_code(
    name: str, make: Callable[[Path], None], reader: Callable[[Path], object], in_tmp: Path
) -> None:
    make(in_tmp / name)
    with pytest.raises(UsageError):
        reader(in_tmp / name)
    assert not (in_tmp / "exploded").exists()


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_with(folder: Path, **changes: Any) -> Path:
    """Make a run of two models, the second with a backdoor, that are described otherwise than they are."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    told = {"model": {"source": "cnn_frozen"}, "data": {"name": "digits"}, **changes}
    for name, trigger in (("clean", ""), ("bad", "patch")):
        rate = 0.1 if trigger else 0.0
        victim = Victim(name, "digits", 0, n_classes=10, poison_rate=rate, **{"trigger": trigger, **told})  # type: ignore[arg-type]
        save_victim(victim, model, folder / "artifacts")
    return folder


def test_code_and_files_that_a_run_names_are_used_when_the_user_names_them_too(in_tmp: Path) -> None:
    (in_tmp / "theirs.py").write_text("open('exploded', 'w')\ndef net(): raise OSError\n")
    run = run_with(in_tmp / "run", model={"source": "theirs:net"})
    with pytest.raises(UsageError, match=r"lacks theirs:net: .* --trust theirs:net"):
        defend(run, METHODS[:1], config=Defending())
    assert not (in_tmp / "exploded").exists()
    with pytest.raises(UsageError, match="theirs:net raised OSError"):
        defend(run, METHODS[:1], config=Defending(), trusted=["theirs:net"])
    assert (in_tmp / "exploded").exists()
    sys.modules.pop("theirs")
    for changes in ({"data": {"name": "/etc/own.npz"}}, {"trigger": "blend", "settings": {"picture": "/etc/own.npz"}}):
        run = run_with(in_tmp / f"run-{len(changes)}", **changes)
        with pytest.raises(UsageError, match=r"--trust /etc/own\.npz"):
            defend(run, METHODS[:1], config=Defending())


# ---- no file takes more memory than it may ---------------------------------------------------------------------------


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_npy", ".npy"), content)
    return path


def npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.lib.format.write_array(packed, array, allow_pickle=False)
    return packed.getvalue()


LABELS = npy(np.array([0, 1]))


def npz_of_zeros(path: Path) -> Path:
    return zipped(path / "own.npz", x_npy=npy(np.zeros((64, MIB), np.uint8)), y_npy=LABELS)


def npz_with_a_second_member(path: Path) -> Path:
    """`x` without its ending, which numpy takes before the `x.npy` whose header was looked at."""
    return zipped(path / "own.npz", x_npy=npy(np.zeros((2, 1))), x=npy(np.zeros((64, MIB), np.uint8)), y_npy=LABELS)


def npz_that_lies(path: Path) -> Path:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)})
    return zipped(path / "own.npz", x_npy=head.getvalue() + bytes(100), y_npy=LABELS)


def npz_of_one_label(path: Path) -> Path:
    return zipped(path / "own.npz", x_npy=npy(np.zeros((2, 1), np.float32)), y_npy=npy(np.array([0, 1 << 40])))


def idx(path: Path) -> Path:
    head = b"\0\0\x08\x03" + struct.pack(">3I", 64, 1024, 1024)
    (path / "images").write_bytes(gzip.compress(head + bytes(64 * MIB), 1))
    return path / "images"


def tar_with(path: Path, content: bytes) -> Path:
    (path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(content, 1))
    return path


def tar_of_one_name(path: Path) -> Path:
    """A header whose file name has 64 MiB."""
    member = tarfile.TarInfo("name")
    member.type, member.size = tarfile.XHDTYPE, 64 * MIB
    return tar_with(path, member.tobuf(tarfile.USTAR_FORMAT) + bytes(64 * MIB))


def tar_without_end(path: Path) -> Path:
    return tar_with(path, b"".join(tarfile.TarInfo(f"{i}").tobuf() for i in range(6000)))


def png(path: Path) -> bytes:
    """A picture of 60,000 x 60,000 pixels in a few bytes."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = (b"IHDR" + head, b"IDAT" + zlib.compress(bytes(1000)), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )


def safetensors(path: Path) -> Path:
    (path / "w.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    return path / "w.safetensors"


def laughs(path: Path) -> Path:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    (path / "c.yaml").write_text("\n".join([*lines, "eps: *i"]))
    return path / "c.yaml"


def text(name: str, content: str) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        (path / name).write_text(content)
        return path / name

    return write


QASM = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
GATES = "gate g0 a { x a; }\n" + "".join(f"gate g{i} a {{ g{i - 1} a; g{i - 1} a; }}\n" for i in range(1, 40))


def refused_member(path: Path) -> None:
    load_npz(path)
    raise UsageError("it holds two samples")  # what the reader saw, not the member beside it


BOMBS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], object]]] = {
    "npz of zeros": (npz_of_zeros, load_npz),
    "npz with a second member": (npz_with_a_second_member, refused_member),
    "npz that lies": (npz_that_lies, load_npz),
    "npz of one label": (npz_of_one_label, load_npz),
    "gzipped idx": (idx, formats.read_idx),
    "tar of one name": (tar_of_one_name, lambda p: load("cifar10", data_dir=p, download=False)),
    "tar without end": (tar_without_end, lambda p: load("cifar10", data_dir=p, download=False)),
    "png": (png, lambda data: formats.decode_images([("p", data)], n_channels=1)),
    "safetensors": (safetensors, read_state),
    "yaml laughs": (laughs, read),
    "yaml nested": (text("c.yaml", "a: " + "[" * 900), read),
    "yaml of many lists": (text("c.yaml", "a: " + "[" * 100_000), read),
    "yaml large": (text("c.yaml", "a: 1\n" * MIB), read),
    "yaml on the command line": (lambda p: ["a=" + "[" * 900], assignments),
    "qasm register": (text("c.qasm", QASM + "qreg q[1000000000];"), from_qasm),
    "qasm gates of gates": (text("c.qasm", f"{QASM}{GATES}qreg q[1]; g39 q[0];"), from_qasm),
    "qasm loop": (text("c.qasm", "OPENQASM 3.0; qubit q; for int i in [0:1000000000] { U(0, 0, 0) q; }"), from_qasm),
    "qasm controls": (text("c.qasm", "OPENQASM 3.0; qubit[2] q; ctrl(30) @ pow(2) @ U(0, 0, 0) q;"), from_qasm),
    "qasm large": (text("c.qasm", QASM + " " * (2 * MIB)), from_qasm),
}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("bomb", BOMBS)
def test_no_file_takes_more_memory_than_it_may(bomb: str, tmp_path: Path) -> None:
    make, reader = BOMBS[bomb]
    given = make(tmp_path)
    if bomb.startswith("qasm"):
        from_qasm("OPENQASM 3.0; qubit q;")  # imports the parser, which is no part of what is measured
    with frugally({"qasm": 24, "tar ": 4}.get(bomb[:4], 8) * MIB):
        reader(given)


LONG = "x" * (MIB // 64)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("table", "how", "says"),
    [
        (pa.table({"x": np.zeros(MIB, np.int8)}), {}, "asks for 8,388,608 bytes"),
        (pa.table({"x": [LONG] * 1000}), {}, "asks for 16,384,000 bytes"),
        (pa.table({"x": np.arange(1 << 18)}), {"compression": "none"}, "asks for"),
        (pa.table({"x": [[1.0]]}), {}, "holds list<element: double>"),
        (pa.table({"x": pa.array(["a"]).dictionary_encode()}), {}, "holds dictionary"),
        (pa.table({"x": [b"a"]}), {}, "holds binary"),
    ],
)
def test_tables_take_no_more_memory_than_they_may(
    table: pa.Table, how: dict[str, Any], says: str, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "t.parquet", **how)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    try:
        with frugally(says=says):
            load_table(tmp_path / "t.parquet")
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < 8 * MIB


@pytest.mark.usefixtures("small")
def test_artifacts_of_a_run_take_no_more_memory_than_they_may(tmp_path: Path) -> None:
    row = {"clean": "x", "adv": "x"}
    save_summary(tmp_path / "summary.json", Summary("T", panels=(Panel("images", "I", data={"rows": [row]}),)))
    (tmp_path / "artifacts").mkdir()
    os.replace(npz_of_zeros(tmp_path), tmp_path / "artifacts" / "examples.npz")
    with frugally():
        build(tmp_path)


@pytest.mark.parametrize("name", ["summary.json", "run.json", "results.jsonl", "config.yaml"])
@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, '{"title": ' + "9" * 5000 + "}\n", '{"a": 1e999}\n']
)
def test_odd_json_is_one_line(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with suppress(UsageError):
        build(tmp_path)  # a config is shown as it is


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")  # which nobody writes to: reading it would never end
    for read_one in (load_npz, read, read_state):
        with pytest.raises(UsageError):
            read_one(tmp_path / "pipe.npz")
    (tmp_path / "run.json").write_text("{}")
    os.mkfifo(tmp_path / "summary.json")
    with pytest.raises(UsageError, match="files alone"):
        build(tmp_path)


# ---- no path that a file names is opened -----------------------------------------------------------------------------


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_archives_write_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        link = tarfile.TarInfo("test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name in ("../../test_batch.bin", "/test_batch.bin"):
            member = tarfile.TarInfo(name)
            member.size = 3073
            archive.addfile(member, io.BytesIO(b"\1" + bytes(3072)))
    (data / "cifar-10-binary.tar.gz").write_bytes(packed.getvalue())
    before = everything(tmp_path)
    assert load("cifar10", data_dir=data, split="test", download=False).y.tolist() == [1]
    assert everything(tmp_path) == before


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder beside which lies a secret."""
    np.savez(tmp_path / "secret.npz", x=np.zeros((1, 1, 2, 2)))
    folder = tmp_path / "run"
    (folder / "artifacts").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", ["../../secret.npz", "../secret.npz", "{outside}/secret.npz", "..", ""])
def test_a_summary_names_files_of_its_own_artifacts_alone(name: str, run: Path) -> None:
    data = {"file": name.format(outside=run.parent), "rows": [{"clean": "x", "adv": "x"}]}
    save_summary(run / "summary.json", Summary("T", panels=(Panel("images", "I", data=data),)))
    with suppress(UsageError):  # a folder is no npz file
        assert "data:image" not in build(run).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["summary.json", "artifacts/examples.npz", "artifacts"])
def test_links_that_lead_out_of_a_run_are_refused(name: str, run: Path) -> None:
    save_summary(run / "summary.json", Summary("T"))
    path = run / name
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    path.symlink_to(run.parent / "secret.npz")
    with pytest.raises(UsageError, match=r"is a link to .*secret\.npz"):
        build(run)
    with pytest.raises(UsageError, match=r"is a link to .*secret\.npz"):
        defend(run)


def test_links_within_a_run_are_followed(run: Path) -> None:
    save_summary(run / "kept.json", Summary("T"))
    (run / "summary.json").symlink_to("kept.json")
    assert build(run).exists()


def test_a_link_in_the_place_of_what_is_written_is_replaced(run: Path, tmp_path: Path) -> None:
    save_summary(run / "summary.json", Summary("T"))
    (run / "report.html").symlink_to("summary.json")
    before = (run / "summary.json").read_bytes()
    build(run)
    assert (run / "summary.json").read_bytes() == before
    assert not (run / "report.html").is_symlink()


def test_a_model_is_that_of_its_own_file(run: Path) -> None:
    run_with(run)
    path = run / "artifacts" / "models" / "bad.json"
    told = json.loads(path.read_text(encoding="utf-8")) | {"name": "../../../secret"}
    told.pop("crc32", None)
    save_json(path, told)
    with pytest.raises(UsageError, match="of another model"):
        find_victims(run / "artifacts")


@pytest.mark.parametrize("version", ["2.0", "3.0"])
@pytest.mark.parametrize("name", ["/etc/passwd", "secret.inc", "../secret.inc"])
def test_a_program_includes_no_file(version: str, name: str, in_tmp: Path) -> None:
    (in_tmp / "secret.inc").write_text("secret;")
    with pytest.raises(UsageError, match=r"must include qelib1\.inc or stdgates\.inc alone") as caught:
        from_qasm(f'OPENQASM {version};\ninclude "{name}";\n')
    assert "secret;" not in str(caught.value)


# ---- what is shown is text -------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags and handlers of a page, and what it shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.shown = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.shown += data


def nasty_run(folder: Path) -> None:
    """Store a run whose every text is hostile."""
    config = {"model": NASTY, NASTY: NASTY, "eps": 0.1}
    append(
        folder / "results.jsonl",
        [Result(NASTY, NASTY, NASTY, 0.5, config, 0.4, 0.6, 5, 10, 0, 0.5, (NASTY,), 1.0, NASTY)],
    )
    plot = {"metric": NASTY, "x": "model", "group": NASTY, "x_label": NASTY, "y_label": NASTY}
    shared = {"title": NASTY, "caption": NASTY, "section": NASTY}
    pictures = {name: [NASTY] for name in ("true", "before", "after")}
    panels = (
        *(Panel(kind, **shared, **plot, data={"facet": NASTY}) for kind in ("curves", "heatmap", "table")),
        Panel("facts", **shared, data={"columns": [NASTY], "rows": [[NASTY], [{NASTY: NASTY}]]}),
        Panel("pre", **shared, data={"text": NASTY}),
        Panel(
            "images",
            **shared,
            data={"changed": NASTY, "rows": [{"label": NASTY, "clean": "x", "adv": "x", **pictures}]},
        ),
    )
    flags = tuple(Flag(NASTY, severity, NASTY, {NASTY: NASTY}, NASTY) for severity in ("ok", "warning", "fail"))
    findings = (Finding(NASTY, "fails", NASTY, NASTY),)
    summary = Summary(NASTY, NASTY, findings, panels, flags, {NASTY: NASTY}, NASTY, NASTY, (NASTY,))
    save_summary(folder / "summary.json", summary)
    save_json(folder / "run.json", {NASTY: NASTY, "rerun": NASTY})
    (folder / "config.yaml").write_text(f"{NASTY}\n")
    (folder / "artifacts").mkdir()
    save_arrays(folder / "artifacts" / "examples.npz", x=np.zeros((1, 1, 2, 2)))


def test_whatever_a_report_is_given_is_shown_as_text(tmp_path: Path) -> None:
    nasty_run(tmp_path)
    page = Page(build(tmp_path).read_text(encoding="utf-8"))
    assert not page.tags & {"script", "iframe", "object", "embed", "link", "base", "form", "foreignobject"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    loaded = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in loaded)
    assert page.shown.count("<script>alert(1)</script>") > 30
    policy = dict(page.attributes)["content"]  # the last line of defense: a browser would run nothing anyway
    assert "default-src 'none'" in policy


def test_markdown_shows_text_as_text(tmp_path: Path) -> None:
    nasty_run(tmp_path)
    build(tmp_path)
    for line in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("    "):  # verbatim
            bare = line.replace("\\\\", "").replace("\\<", "").replace("](", "!") if "\\](" in line else line
            assert "<script" not in bare.replace("\\<script", ""), line
            assert "](" not in line.replace("]\\(", ""), line


def test_a_terminal_is_not_steered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steer = "\x1b]0;title\x07\x1b[2J\r\nfake: all is well"
    save_summary(tmp_path / "summary.json", Summary("T", findings=(Finding(steer, "holds"),)))
    main_ends(["report", str(tmp_path)])
    assert "\x1b" not in (said := capsys.readouterr().out)
    assert printable(steer) in said
    np.savez(tmp_path / "own.npz", **{steer.replace("/", ""): np.zeros(1)})
    main_ends(["audit", "--data", str(tmp_path / "own.npz")])
    heard = capsys.readouterr().err
    assert heard.startswith("redqubit: ")
    assert heard.rstrip("\n").isprintable()


def main_ends(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)


def test_errors_are_one_line_of_bearable_length() -> None:
    error = UsageError("a\n\x1b[31m\u202e" + "x" * 10_000 + ": do this.")
    assert str(error).isprintable()
    assert len(str(error)) < 3000
    assert str(error).endswith(": do this.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301, our own, as workers send it


def test_a_spreadsheet_finds_no_formula(tmp_path: Path) -> None:
    names = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)")
    clean = Dataset(
        torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4, 4, "", names
    )
    poisoned = Backdoor(Patch(2), 0, 0.5)(clean, generator=torch.Generator().manual_seed(0))
    folder = save_pictures(poisoned, tmp_path / "set")
    with (folder / "index.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert len(cells) == 6 * 9
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert len(load_image_folder(folder)) == 8
    assert Image.open(next(folder.rglob("*.png"))).size == (6, 6)


def test_wrong_settings_are_told_without_repeating_them_at_length() -> None:
    from redqubit.auditing.config import Audit

    with pytest.raises(UsageError) as caught:
        resolve(Audit(), {"n_train": [list(range(1000))] * 1000})
    assert len(str(caught.value)) < 500


def test_every_promise_names_a_test_that_is_there() -> None:
    here = Path(__file__).parent
    rows = [line.split("|")[1:3] for line in (here.parent / "SECURITY.md").read_text().splitlines() if line[:2] == "| "]
    promises = [(promise, re.findall(r"`(?:(test_\w+\.py)(?:::)?)?(test_\w+)?`", tests)) for promise, tests in rows]
    assert sum("the same" in tests for _, tests in rows) + sum(bool(named) for _, named in promises) >= 18
    for promise, named in promises[1:]:
        for file, test in named:
            text = (here / (file or "test_hostile.py")).read_text(encoding="utf-8")
            assert not test or f"def {test}(" in text, f"{promise} names {test}"
