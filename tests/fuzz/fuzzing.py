"""Look for bytes that make a reader do anything but return or raise a one-line `UsageError`.

    python tests/fuzz/fuzzing.py SECONDS [TARGET ...]

gives each target that many seconds, one process after the other. What is new goes into `corpus/TARGET`, what breaks a
reader into `crashes/TARGET-*`, and the exit code is 1 where there is such a one.
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CORPUS, FOUND, CRASHES = HERE / "corpus", HERE / "found", HERE / "crashes"
TEXT = ("yaml", "settings", "qasm", "results", "run", "victim", "front", "findings")
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, float("nan"), float("inf"), -1e308, 1e-320),
    *("", "x", "<script>alert(1)</script>", '"onload=', "../../x", "\ud800", "\x1b[31m", "\n\n# x", "a:b", "%", "=1+1"),
    *([], {}, [[]], [None], {"": None}, {"$float": "nan"}, {"$float": "x"}),
)


def altered(value: Any, chance: random.Random, others: list[Any]) -> Any:
    """Return a JSON value with one place changed."""
    children = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not children or chance.random() < 0.1:
        return chance.choice([*ODD, *others])
    key, child = chance.choice(children)
    copy = dict(value) if isinstance(value, dict) else list(value)
    what = chance.random()
    if what < 0.08:
        del copy[key]
    elif what < 0.14 and isinstance(copy, dict):
        copy[chance.choice([*map(str, others[:20]), "x", "data", "where", "facet", "order", "unit"])] = child
    elif what < 0.2 and isinstance(copy, list):
        copy.insert(key, child)
    else:
        copy[key] = altered(child, chance, others)
    return copy


def places(value: Any) -> list[Any]:
    """Return all values within a JSON value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(place for item in inner for place in places(item))]


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """Change one value of JSON documents or lines, or some bytes of anything."""
    import atheris

    chance = random.Random(seed)
    if chance.random() < 0.3:
        return atheris.Mutate(data, most)
    from targets import BETWEEN

    files = data.split(BETWEEN)
    which = chance.randrange(len(files))
    lines = [files[which]] if chance.random() < 0.5 else files[which].split(b"\n")
    line = chance.randrange(len(lines))
    try:
        value = json.loads(lines[line])
        new = altered(value, chance, places(value)[:200])
        lines[line] = json.dumps(new).encode()
    except (ValueError, RecursionError):
        return atheris.Mutate(data, most)
    files[which] = b"\n".join(lines)
    out = BETWEEN.join(files)
    return out if len(out) <= most else data


def one(name: str, seconds: int) -> None:
    """Fuzz one target in this process; the fuzzer ends it."""
    import atheris

    parts = ("backdoors", "config", "data", "quantum.qiskit", "reading", "report", "result", "storage", "victims")
    with atheris.instrument_imports(include=[*(f"redqubit.{part}" for part in parts), "tarfile", "yaml", "zipfile"]):
        import targets
    from redqubit import reading

    reading.MAX_BYTES = 1 << 24  # so that the fuzzer's own limit on memory tells
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))

    def test(data: bytes) -> None:
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        targets.feed(name, data, work)

    for place in (FOUND / name, CRASHES):
        place.mkdir(parents=True, exist_ok=True)
    words = [sys.argv[0], str(FOUND / name), str(CORPUS / name), f"-max_total_time={seconds}", "-rss_limit_mb=3000"]
    words += [
        "-timeout=60",
        f"-artifact_prefix={CRASHES}/{name}-",
        "-max_len=16384",
        "-print_final_stats=1",
        "-verbosity=1",
    ]
    dictionary = HERE / f"{name}.dict"
    words += [f"-dict={dictionary}"] if dictionary.exists() else []
    more = {"custom_mutator": mutate} if name in TEXT else {}
    atheris.Setup(words, test, **more)
    atheris.Fuzz()


def main(words: list[str]) -> int:
    """Fuzz the targets one after the other, and return how many broke."""
    if words[0] == "--one":
        one(words[1], int(words[2]))
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    names = words[1:] or list(TARGETS)
    ends = [subprocess.run([sys.executable, __file__, "--one", name, words[0]]).returncode for name in names]
    return 1 if any(ends) else 0


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.exit(main(sys.argv[1:]))
