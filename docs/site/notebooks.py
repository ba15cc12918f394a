"""Notebooks as pages: run when the site is built, so that what a page shows is what the code does."""

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode


def executed(path: Path) -> NotebookNode:
    """Run a notebook in a fresh kernel, in its folder, and return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def pages(path: Path, cache: Path) -> Iterator[tuple[str, str | bytes]]:
    """Yield the page of a notebook and its pictures; outputs are kept until the notebook or the package changes."""
    package = Path(__file__).parents[2] / "src"
    code = b"".join(file.read_bytes() for file in [path, *sorted(package.rglob("*.py"))])
    kept = cache / f"{path.stem}-{hashlib.sha256(code).hexdigest()[:16]}.ipynb"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        nbformat.write(executed(path), kept)
    yield from _page(nbformat.read(kept, as_version=4), path)


def _page(notebook: NotebookNode, path: Path) -> Iterator[tuple[str, str | bytes]]:
    lines, pictures = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            lines += [cell.source, ""]
            continue
        lines += ["```python", cell.source, "```", ""]
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if image := data.get("image/png"):
                pictures += 1
                name = f"{path.stem}-{pictures}.png"
                yield f"notebooks/{name}", base64.b64decode(image)
                lines += [f"![What the code above draws]({name})", ""]
            elif text := _plain(output.get("text") or data.get("text/plain", "")):
                lines += ["```text", text, "```", ""]
    note = f"*This page is a notebook, run when the site was built: [{path.name}]({path.name}).*"
    title, _, rest = "\n".join(lines).partition("\n")
    yield f"notebooks/{path.stem}.md", f"{title}\n\n{note}\n{rest}\n"


def _plain(text: str) -> str:
    """Return what a terminal would show in the end, without colours."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n")
    return "\n".join(line.split("\r")[-1] for line in lines).rstrip()
