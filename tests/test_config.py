"""Configurations: what is read from text is checked against the dataclass, and each fault is one line."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from redqubit import Audit
from redqubit.config import assignments, read, resolve
from redqubit.errors import UsageError


@dataclass(frozen=True)
class Config:
    eps: tuple[float, ...] = (0.1, 0.2)
    seeds: tuple[int, ...] = field(default=(0,))
    n_train: int | None = None
    name: str = "pgd"


def told(changes: dict[str, object]) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(Config(), changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.tiny
def test_changes_are_read_as_the_types_of_their_fields() -> None:
    assert resolve(Config(), {}) == Config()
    changed = resolve(Config(), {"eps": ["0.3", 1], "seeds": ["4"], "n_train": "12"})
    assert changed == Config((0.3, 1.0), (4,), 12)
    assert [type(v) for v in (*changed.eps, *changed.seeds, changed.n_train)] == [float, float, int, int]
    assert resolve(Config(n_train=3), {"n_train": None}).n_train is None


def test_the_base_is_kept_where_nothing_changes() -> None:
    base = Config(eps=(0.5,), name="fgsm")
    assert resolve(base, {"n_train": 1}) == Config((0.5,), (0,), 1, "fgsm")
    assert base == Config(eps=(0.5,), name="fgsm")


def test_unknown_keys_are_told_by_the_nearest_name() -> None:
    assert told({"n_trian": 3}) == "Unknown configuration key `n_trian`: did you mean n_train?"
    with pytest.raises(UsageError, match="did you mean epochs"):
        resolve(Audit(), {"epoch": 3})


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"eps": ["wide"]}, "`eps.0`"),
        ({"eps": None}, "`eps`"),
        ({"seeds": [0.5]}, "`seeds.0`"),
        ({"n_train": "many"}, "`n_train`"),
        ({"name": ["a", "b"]}, "`name`"),
    ],
)
def test_wrong_types_are_told_with_their_place(changes: dict[str, object], where: str) -> None:
    assert where in told(changes)
    assert "it is " in told(changes)


def test_assignments_hold_yaml_values() -> None:
    pairs = ["eps=[0.1, 0.2]", "n_train=5", "name=a=b", "n_test=null", "x=1e-3", " spaced =true"]
    assert assignments(pairs) == {
        "eps": [0.1, 0.2],
        "n_train": 5,
        "name": "a=b",
        "n_test": None,
        "x": "1e-3",  # YAML 1.1 reads it as text; the type of the field makes it a number
        "spaced": True,
    }
    assert resolve(Audit(), assignments(["lr=1e-3"])).lr == 1e-3


def test_fractions_are_numbers_wherever_they_are_written(tmp_path: Path) -> None:
    pixels = (4 / 255, 8 / 255)
    file = tmp_path / "audit.yaml"
    file.write_text("eps: [4/255, 8/255]\nclaim_eps: 8/255\n", encoding="utf-8")
    for changes in (
        {"eps": ["4/255", " 8/255 "], "claim_eps": "8/255"},
        {"eps": ("4/255", "8/255"), "claim_eps": 8 / 255},
        assignments(["eps=[4/255, 8/255]", "claim_eps=8/255"]),
        read(file),
    ):
        made = resolve(Audit(), changes)
        assert (made.eps, made.claim_eps) == (pixels, 8 / 255)
    for wrong in ("8/0", "-8/255", "1/2/3", "8/", "/8", "9" * 10 + "/8"):
        with pytest.raises(UsageError, match=r"`eps\.0` is wrong"):
            resolve(Audit(), {"eps": [wrong]})
    nested: list[object] = []
    for _ in range(2000):
        nested = [nested]
    with pytest.raises(UsageError, match=r"`eps\.0` is wrong"):
        resolve(Audit(), {"eps": nested})


@pytest.mark.parametrize("pair", ["eps", "=3", "eps=[0.1", "x={a", "x=!!python/object/apply:os.system [true]"])
def test_assignments_that_are_none_are_told(pair: str) -> None:
    with pytest.raises(UsageError, match="Argument `--set` must be key=value") as caught:
        assignments([pair])
    assert "\n" not in str(caught.value)


def test_a_file_is_read_as_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("eps: [0.1]\nseeds: [1, 2]\n", encoding="utf-8")
    assert read(path) == {"eps": [0.1], "seeds": [1, 2]}


@pytest.mark.parametrize(
    "content",
    [b"- 1\n- 2\n", b"", b"just text", b"1: 2\n", b"a: [1\nb: 2", b"\xff\xfe\x00", b"a: !!python/name:os.system\n"],
)
def test_files_that_hold_no_mapping_are_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="Argument `config` must") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "absent.yaml")
    with pytest.raises(UsageError, match="Is a directory"):
        read(tmp_path)
