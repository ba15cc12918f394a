"""Write how long the cells of finished runs took, by which `reproduce --dry-run` estimates.

python benchmarks/cell_seconds.py docs/results/*-laptop > src/redqubit/experiments/measured.json
"""

import json
import lzma
import sys
from pathlib import Path
from typing import Any

import yaml

from redqubit.experiments.forecast import kind_of


def main(folders: list[Path]) -> None:
    out: dict[str, dict[str, Any]] = {}
    for folder in folders:
        about = json.loads((folder / "run.json").read_text())
        preset = yaml.safe_load((folder / "config.yaml").read_text())["preset"]
        with lzma.open(folder / "results.jsonl.xz", "rt") as file:
            rows = [json.loads(line) for line in file]
        took: dict[str, float] = {}
        for row in rows:
            took[row["cell"]] = max(took.get(row["cell"], 0.0), row["seconds"] or 0.0)
        kinds = sorted({kind_of(cell) for cell in took})
        groups = {kind: [s for cell, s in took.items() if kind_of(cell) == kind] for kind in kinds}
        out.setdefault(about["experiment"], {})[preset] = {
            "machine": about["cpu"],
            "version": about["versions"]["redqubit"],
            "seconds": {kind: [len(group), round(sum(group) / len(group), 2)] for kind, group in groups.items()},
        }
    print(json.dumps(out, indent=1, sort_keys=True))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
