"""Results survive the way to the disk and back, and a file that a kill left torn loses one cell at most."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redqubit.errors import UsageError
from redqubit.result import (
    Finding,
    Flag,
    Panel,
    Result,
    Summary,
    append,
    load,
    load_summary,
    repair,
    save_summary,
)
from redqubit.storage.files import replacing, sealed, write_text

floats = st.floats(allow_nan=True, allow_infinity=True)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
mappings = st.dictionaries(st.text(), plain, max_size=3)
results = st.builds(
    Result,
    experiment=st.text(),
    cell=st.just("cell"),
    metric=st.text(),
    value=floats,
    config=mappings,
    low=st.none() | floats,
    high=st.none() | floats,
    k=st.none() | st.integers(),
    n=st.none() | st.integers(),
    seed=st.none() | st.integers(),
    reported=st.none() | floats,
    flags=st.lists(st.text(), max_size=2).map(tuple),
    seconds=st.none() | floats,
    version=st.text(),
)
flags = st.builds(
    Flag, code=st.text(), severity=st.sampled_from(["ok", "warning", "fail"]), message=st.text(), evidence=mappings
)
panels = st.builds(Panel, kind=st.sampled_from(["curves", "facts"]), title=st.text(), where=mappings, data=mappings)
findings = st.builds(Finding, text=st.text(), status=st.sampled_from(["holds", "fails", "unclear", "info"]))
summaries = st.builds(
    Summary,
    title=st.text(),
    findings=st.lists(findings, max_size=2).map(tuple),
    panels=st.lists(panels, max_size=2).map(tuple),
    flags=st.lists(flags, max_size=2).map(tuple),
    cost=mappings,
    limits=st.lists(st.text(), max_size=2).map(tuple),
)


def same(a: Any, b: Any) -> bool:
    """Equality under which NaN equals NaN, written apart from the package."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and same(vars(a), vars(b))
    return type(a) is type(b) and a == b


def row(cell: str, metric: str = "accuracy", value: float = 0.5) -> Result:
    return Result("test", cell, metric, value, {"eps": 0.1, "name": "ä\u2028"}, seed=1)


def cells(n_cells: int = 3, rows: int = 2) -> list[list[Result]]:
    return [[row(f"c{i}", f"m{j}", i + j / 10) for j in range(rows)] for i in range(n_cells)]


def test_the_oracle_of_these_tests_tells_values_apart() -> None:
    assert same({"a": [math.nan]}, {"a": [math.nan]})
    assert not same({"a": [1.0]}, {"a": [2.0]})
    assert not same({"a": 1}, {"a": True})


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(results, min_size=1, max_size=3))
def test_results_come_back_as_they_went(rows: list[Result], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("r") / "results.jsonl"
    append(path, rows)
    assert same(load(path), rows)


@settings(max_examples=40, deadline=None)
@given(summary=summaries)
def test_a_summary_comes_back_as_it_went(summary: Summary, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "summary.json"
    save_summary(path, summary)
    assert same(load_summary(path), summary)


def test_the_file_is_json_of_the_strict_kind(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append(path, [replace(row("c"), value=math.nan, low=-math.inf, config={"eps": math.inf})])

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    raw = json.loads(path.read_text(), parse_constant=refuse)
    assert raw["value"] == {"$float": "nan"}
    assert raw["cell_size"] == 1


def test_a_numpy_float_is_stored_as_a_plain_one(tmp_path: Path) -> None:
    append(tmp_path / "r", [row("c", value=np.float64(0.25))])
    assert load(tmp_path / "r")[0].value == 0.25


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"eps": np.float32(0.1)}, "Result.config.eps is a float32"),
        ({"grid": [1, {2}]}, r"Result.config.grid\[1\] is a set"),
        ({1: "a"}, "Result.config has the key 1"),
        ({"$float": "nan"}, "has the key"),
    ],
)
def test_what_json_cannot_hold_is_refused_by_name_and_nothing_is_written(
    config: Any, named: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named):
        append(tmp_path / "r", [replace(row("c"), config=config)])
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("rows", [[], [row("a"), row("b")]])
def test_only_the_results_of_one_cell_are_appended(rows: list[Result], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one cell"):
        append(tmp_path / "r", rows)


def test_a_tail_torn_at_any_byte_loses_the_last_cell_only(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    *first, last = cells()
    for cell in first:
        append(path, cell)
    start = path.stat().st_size
    append(path, last)
    content = path.read_bytes()
    kept = [r for cell in first for r in cell]
    for cut in range(start, len(content)):
        path.write_bytes(content[:cut])
        assert load(path) == kept
        assert repair(path) == cut - start
        assert path.read_bytes() == content[:start]
        append(path, last)
        assert path.read_bytes() == content
    assert load(path) == [*kept, *last]
    assert repair(path) == 0


def test_zeros_that_a_power_cut_left_at_the_end_are_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "r"
    append(path, [row("a")])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + bytes(64))
    assert load(path) == [row("a")]
    with pytest.raises(UsageError, match="repair"):
        append(path, [row("b")])
    assert repair(path) == 64
    assert path.stat().st_size == size


def edited(lines: list[str], change: str) -> list[str]:
    raw = json.loads(lines[1])
    if change == "not json":
        return [lines[0], lines[1][:-5], *lines[2:]]
    if change == "return":
        return [lines[0], "\r" + lines[1][7:], *lines[2:]]
    if change == "no checksum":
        return [lines[0], lines[1].replace("crc32", "arc32"), *lines[2:]]
    if change == "missing row":
        return [lines[0], *lines[2:]]
    if change == "twice":
        return [*lines[:2], *lines]
    if change == "digit":
        return [lines[0], lines[1].replace('"value": 0.1', '"value": 0.2'), *lines[2:]]
    del raw["crc32"]
    raw |= {
        "unknown key": {"valeu": 1},
        "wrong type": {"value": "0.5"},
        "bool": {"k": True},
        "flags": {"flags": "ab"},
        "size": {"cell_size": 0},
        "no size": {"cell_size": None},
    }.get(change, {})
    if change == "missing key":
        del raw["metric"]
    return [lines[0], "[1]" if change == "not an object" else sealed(json.dumps(raw)), *lines[2:]]


@pytest.mark.parametrize(
    ("change", "line", "why"),
    [
        ("not json", 2, ""),
        ("return", 2, ""),
        ("no checksum", 2, "its checksum is wrong or missing"),
        ("unknown key", 2, "unknown key `valeu`"),
        ("missing key", 2, "lacks the key `metric`"),
        ("wrong type", 2, "result.value has the wrong value '0.5'"),
        ("bool", 2, "result.k"),
        ("flags", 2, "result.flags"),
        ("size", 2, "cell_size"),
        ("no size", 2, "cell_size"),
        ("digit", 2, "its checksum is wrong"),
        ("not an object", 2, "object"),
        ("missing row", 2, "`c0` ends after 1 of 2 rows"),
        ("twice", 3, "`c0` is there twice"),
    ],
)
def test_damage_before_the_tail_is_named_and_nothing_is_cut(change: str, line: int, why: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for cell in cells():
        append(path, cell)
    path.write_bytes(("\n".join(edited(path.read_text().splitlines(), change)) + "\n").encode())
    before = path.read_bytes()
    for reader in (load, repair):
        with pytest.raises(UsageError, match=f"results.jsonl line {line} is damaged") as caught:
            reader(path)
        assert why in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(UsageError, match="No space left on device"):
        append(full, [row("a")])
    monkeypatch.setattr("secrets.token_hex", lambda n: "0")
    (tmp_path / ".s.0.part").symlink_to(full)
    with pytest.raises(UsageError, match="No space left on device"):
        write_text(tmp_path / "s", "text")


def test_a_write_that_fails_leaves_the_old_text_and_no_rest(tmp_path: Path) -> None:
    write_text(tmp_path / "s", "old")
    with pytest.raises(TypeError), replacing(tmp_path / "s") as file:
        file.writelines([b"new", "no bytes"])  # fails when half is written
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert (tmp_path / "s").read_text() == "old"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for action in (lambda p: append(p, [row("a")]), load, load_summary, lambda p: save_summary(p, Summary("t"))):
        with pytest.raises(UsageError, match="No such file"):
            action(tmp_path / "none" / "file")
    assert repair(tmp_path / "none") == 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"title": 1}', '{"title": "t", "panels": [{"kind": "pie", "title": "t"}]}', '{"titel": ""}'],
)
def test_a_damaged_summary_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(UsageError, match=r"summary.json is damaged"):
        load_summary(tmp_path / "summary.json")
