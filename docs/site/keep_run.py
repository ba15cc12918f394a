"""Keep a run in docs/results, small and without the paths of the machine that made it.

    python docs/site/keep_run.py runs/quid-laptop --commit 1a2b3c4 [--name quid] [--out docs/results]

The commit is that of the code that ran; it is written into run.json, which the pages show.
"""

import argparse
import json
import lzma
import re
from pathlib import Path

from redqubit.storage.files import load_json, sealed

MACHINE = re.compile(r"(?<![\w.])/(?:tmp|work|home|root|Users|mnt|opt|var)/[^\s\"',]*")

SEAL = re.compile(r', "crc32": "\w{8}"}$', re.MULTILINE)


def keep(run: Path, name: str, commit: str, out: Path) -> Path:
    """Write a run folder's numbers to a folder of `out`, and return it.

    Artifacts stay behind, and with them the panels that show pictures from them.

    Raises:
        ValueError: when a path of the machine is left in some text.
    """
    about, summary = (load_json(run / file) for file in ("run.json", "summary.json"))
    experiment = about["experiment"]
    about["commit"] = commit
    about["platform"] = re.sub(r"^(\w+)-.*?(x86_64|aarch64|arm64).*", r"\1 \2", about["platform"])
    summary["panels"] = [panel for panel in summary["panels"] if panel["kind"] != "images"]
    texts = {
        "config.yaml": (run / "config.yaml").read_text(encoding="utf-8"),
        "run.json": json.dumps(about, indent=1),
        "summary.json": json.dumps(summary),
        "results.jsonl": (run / "results.jsonl").read_text(encoding="utf-8"),
    }
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        plain = re.sub(r"--out \S+?(?=[\"\s])", f"--out runs/{name}", text)
        if found := MACHINE.search(plain):
            raise ValueError(f"{file} of {experiment} names {found[0]}")
        if file == "results.jsonl":
            plain = SEAL.sub("}", plain)  # they do not compress, and xz has its own checksum
            (folder / f"{file}.xz").write_bytes(lzma.compress(plain.encode(), preset=6))
        else:
            (folder / file).write_text(plain if file == "config.yaml" else sealed(plain) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--name", help="folder below --out; that of the run by default")
    parser.add_argument("--out", type=Path, default=Path("docs", "results"))
    given = parser.parse_args()
    keep(given.run, given.name or given.run.name, given.commit, given.out)
