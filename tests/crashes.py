"""Runs that end badly, and what must be left of them: shared by the short tests and the soak."""

import ctypes
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from redqubit import audit, report
from redqubit.errors import UsageError
from redqubit.experiments import reproduce
from redqubit.result import Panel, Result, Summary, load, save_summary
from redqubit.runner import Cell, open_run, run_cells
from redqubit.storage.arrays import load_arrays, save_arrays
from redqubit.storage.tables import load_table, save_table
from redqubit.storage.weights import load_weights, save_weights

N_CELLS = 8
MEMBERS = ("arrays.npz", "table.parquet", "weights.safetensors")

# Children are forked from a process without threads that has imported what they need: they start at once, and a kill
# falls into work more often than into imports.
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["redqubit.auditing", "redqubit.experiments.quid", "redqubit.report", "redqubit.storage.tables"]
)

Job = Callable[[Path], object]


# ---- runs ------------------------------------------------------------------------------------------------------------


def small(folder: Path, workers: int = 1) -> None:
    """A run of every kind of artifact, with a second stage that reads what the first left, and a report."""
    with open_run(folder, experiment="crash", config={"cells": N_CELLS}, rerun="again") as run:
        first = [Cell(f"c{i}", partial(measure, i, run.artifacts)) for i in range(N_CELLS)]
        results = run_cells(first, run, workers=workers)
        results += run_cells([Cell("all", partial(gather, run.artifacts))], run)
        panel = Panel("table", "All", group="cell", x="metric")
        shown = Panel("images", "One", data={"file": "c0-arrays.npz", "rows": [{"clean": "x", "adv": "y"}]})
        save_summary(run.path / "summary.json", Summary("crash", panels=(panel, shown)))
    report.build(folder)


def measure(i: int, artifacts: Path) -> list[Result]:
    generator = torch.Generator().manual_seed(i)
    x = torch.rand(6, 3, generator=generator)
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.rand(2, 3, generator=generator))
        model.bias.zero_()
        y = model(x)
    arrays, table, weights = (artifacts / f"c{i}-{name}" for name in MEMBERS)
    save_weights(model, weights)
    time.sleep(0.002)
    save_arrays(arrays, x=x.numpy(), y=y.repeat(1, 2)[:, :3].numpy())
    time.sleep(0.002)
    save_table(pa.table({"i": [i] * 6, "name": [f"s{k}" for k in range(6)], "y": y[:, 0].numpy()}), table)
    time.sleep(0.002)
    base = {"seed": i, "config": {"i": i, "eps": 0.1}}
    return [Result("crash", f"c{i}", f"m{k}", float(y[k, 0]), **base) for k in range(3)]  # type: ignore[arg-type]


def read(i: int, artifacts: Path) -> list[float]:
    """Everything that a cell left, as numbers."""
    arrays, table, weights = (artifacts / f"c{i}-{name}" for name in MEMBERS)
    model = load_weights(nn.Linear(3, 2), weights, cell=f"c{i}")
    found, columns = load_arrays(arrays, cell=f"c{i}"), load_table(table, cell=f"c{i}").to_pydict()
    numbers = [*model.weight.flatten().tolist(), *model.bias.tolist()]
    numbers += [*found["x"].ravel().tolist(), *found["y"].ravel().tolist()]
    return [*numbers, *columns["i"], *columns["y"], *map(len, columns["name"])]


def gather(artifacts: Path) -> list[Result]:
    return [Result("crash", "all", f"sum{i}", float(np.sum(read(i, artifacts)))) for i in range(N_CELLS)]


def small_audit(folder: Path, workers: int = 1) -> None:
    audit(
        "qunn",
        "digits",
        out=folder,
        workers=workers,
        seeds=[0, 1],
        n_train=60,
        n_test=30,
        epochs=1,
        eps=[0.1],
        claim_eps=0.1,
        attacks=["fgsm", "pgd"],
        backdoors=["patch"],
        poisons=["random"],
        poison_ratios=[0.3],
    )


def small_experiment(folder: Path, workers: int = 1) -> None:
    reproduce("quid", preset="smoke", out=folder, workers=workers)
    report.build(folder)


# ---- what is left of them --------------------------------------------------------------------------------------------


def values(folder: Path) -> set[str]:
    """What a run has reported so far, without times."""
    path = folder / "results.jsonl"
    return {
        json.dumps([r.cell, r.metric, r.value, r.low, r.high, r.k, r.n, r.seed, r.config, r.flags], default=list)
        for r in (load(path) if path.exists() else [])
        if not r.metric.endswith("_seconds")
    }


@dataclass
class Tally:
    """What was done to runs, and what came of it."""

    faults: int = 0
    lost: int = 0  # results that had been reported and were gone
    wrong: int = 0  # results that differ from those of an undisturbed run
    said: list[str] = field(default_factory=list)  # what the runs said

    def compare(self, before: set[str], folder: Path) -> set[str]:
        now = values(folder)
        self.lost += len(before - now)
        return now

    def judge(self, folder: Path, expected: set[str]) -> None:
        found = values(folder)
        self.wrong += len(found - expected)
        self.lost += len(expected - found)

    def add(self, other: "Tally") -> None:
        self.faults += other.faults
        self.lost += other.lost
        self.wrong += other.wrong
        self.said += other.said


def outcome(action: Callable[[], object], *, names: str = "") -> object:
    """Return what reading a file gave, or its complaint, which must be one clear line that names the file."""
    try:
        return action()
    except UsageError as error:
        if not is_clear(str(error)) or names not in str(error):
            raise
        return error


def is_clear(message: str) -> bool:
    """Whether a message is one line that says what to do."""
    return bool(message) and "\n" not in message and ": " in message


# ---- ways to end badly -----------------------------------------------------------------------------------------------


def _child(job: Job, folder: Path, said: Path) -> None:
    os.setsid()
    try:
        job(folder)
    except UsageError as error:
        said.write_text(str(error), encoding="utf-8")
        os._exit(2)


def begin(job: Job, folder: Path) -> ForkServerProcess:
    """Start a run in a process group of its own."""
    said = folder.with_name(f"{folder.name}.said")
    said.unlink(missing_ok=True)
    child = CONTEXT.Process(target=_child, args=(job, folder, said))
    child.start()
    return child


def end(child: ForkServerProcess, folder: Path) -> str:
    """Wait for a run, and return what it said; "" when it went through, anything but a `UsageError` fails."""
    child.join(600)
    assert child.exitcode in (0, 2), f"a run ended with {child.exitcode}"
    return folder.with_name(f"{folder.name}.said").read_text(encoding="utf-8") if child.exitcode else ""


def attempt(job: Job, folder: Path) -> str:
    """Run in a child, to its end."""
    return end(begin(job, folder), folder)


def kill_group(child: ForkServerProcess) -> None:
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join()
    with suppress(ProcessLookupError):  # it had no workers, or none that outlived it
        os.killpg(child.pid or 0, signal.SIGKILL)


def workers_of(child: ForkServerProcess) -> list[int]:
    """Return the processes that compute for a run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == child.pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended
    return found


def killed(
    job: Job, folder: Path, expected: set[str], *, kills: int, longest: float, seed: int, worker: bool = False
) -> Tally:
    """Kill a run at random moments and take it up again, and start another when one is through, `kills` times.

    Args:
        job: What to run.
        folder: Where; further runs get a number behind.
        expected: What an undisturbed run reports.
        kills: How often.
        longest: Seconds within which the kill falls, until a run that is not killed shows how long one takes now.
        seed: Of the moments.
        worker: Whether one worker is killed, and not the whole group.
    """
    draws, tally, before, number = random.Random(seed), Tally(), set[str](), 0
    here, faults_before = folder, 0
    while True:
        start = time.monotonic()
        child = begin(job, here)
        if tally.faults < kills:
            child.join(draws.uniform(0, longest))
        else:
            child.join(600)
        if child.exitcode is None and worker:
            victims = workers_of(child)
            if victims:
                os.kill(draws.choice(victims), signal.SIGKILL)
                tally.faults += 1
            message = end(child, here)
            if message:
                tally.said.append(message)
                assert is_clear(message), message
        elif child.exitcode is None:
            kill_group(child)
            tally.faults += 1
        else:
            assert child.exitcode == 0, end(child, here)
        before = tally.compare(before, here)
        if child.exitcode == 0:
            tally.judge(here, expected)
            if tally.faults >= kills:
                return tally
            if tally.faults == faults_before:
                longest = 0.9 * (time.monotonic() - start)
            number, faults_before = number + 1, tally.faults
            here, before = folder.with_name(f"{folder.name}-{number}"), set[str]()


def damages(content: bytes, *, step: int, seed: int) -> list[bytes]:
    """Return a file cut short, and with one bit flipped, at every `step`-th byte."""
    draws = random.Random(seed)
    cut = [content[:at] for at in range(0, len(content), step)]
    flipped = [
        content[:at] + bytes([content[at] ^ (1 << draws.randrange(8))]) + content[at + 1 :]
        for at in range(draws.randrange(step), len(content), step)
    ]
    return [*cut, *flipped]


# ---- a disk of one's own ---------------------------------------------------------------------------------------------

_NEW_MOUNTS, _NEW_USERS, _READ_ONLY, _REMOUNT, _RECURSIVE, _PRIVATE = 0x20000, 0x10000000, 1, 32, 1 << 14, 1 << 18


class NoMount(Exception):
    """This system lets nobody mount a file system, not even in a namespace of its own."""


def own_mounts() -> Callable[..., None]:
    """Part from the mounts of all others, and return a function that mounts; both for this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    ids = os.getuid(), os.getgid()
    if libc.unshare(_NEW_MOUNTS | (_NEW_USERS if ids[0] else 0)):
        raise NoMount(os.strerror(ctypes.get_errno()))
    if ids[0]:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{ids[0]} {ids[0]} 1")
        Path("/proc/self/gid_map").write_text(f"{ids[1]} {ids[1]} 1")

    def mount(source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
        words = [word if word is None else word.encode() for word in (source, target, kind)]
        if libc.mount(*words, ctypes.c_ulong(flags), options if options is None else options.encode()):
            raise NoMount(os.strerror(ctypes.get_errno()))

    mount(None, "/", None, _RECURSIVE | _PRIVATE)
    return mount


def on_small_disk(job: Job, size: int, folder: Path) -> None:
    """Run on a disk of so many bytes; make room when it is full, run again, and leave what was reported and said."""
    told = {"error": "", "said": "", "kept": [], "values": []}
    try:
        mount = own_mounts()
        disk = folder / "disk"
        disk.mkdir(parents=True)
        mount("tmpfs", str(disk), "tmpfs", 0, f"size={size}")
        run = disk / "run"
        try:
            job(run)
        except UsageError as error:
            told["said"] = str(error)
        told["kept"] = sorted(values(run))
        mount("tmpfs", str(disk), "tmpfs", _REMOUNT, "size=64m")
        job(run)
        told["values"] = sorted(values(run))
        told["rest"] = [str(path) for path in run.rglob("*.part")]
    except NoMount as error:
        told["error"] = str(error)
    (folder / "told.json").write_text(json.dumps(told))


def read_only(job: Job, folder: Path) -> None:
    """Run in a folder that has become read-only, and leave what was said."""
    told = {"error": "", "said": ""}
    try:
        mount = own_mounts()
        disk = folder / "disk"
        mount("tmpfs", str(disk), "tmpfs")
        mount("tmpfs", str(disk), "tmpfs", _REMOUNT | _READ_ONLY)
        try:
            job(disk / "run")
        except UsageError as error:
            told["said"] = str(error)
    except NoMount as error:
        told["error"] = str(error)
    (folder / "told.json").write_text(json.dumps(told))


def with_limit(job: Job, size: int, folder: Path) -> None:
    """Run while no file may become larger than so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        job(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def together(job: Job, folder: Path, n: int) -> Sequence[str]:
    """Start `n` runs in one folder at once, and return what each said."""
    children = [CONTEXT.Process(target=_child, args=(job, folder, folder.with_name(f"said-{i}"))) for i in range(n)]
    for child in children:
        child.start()
    for child in children:
        child.join(600)
        assert child.exitcode in (0, 2)
    said = [folder.with_name(f"said-{i}") for i in range(n)]
    return [file.read_text() if child.exitcode else "" for file, child in zip(said, children, strict=True)]
