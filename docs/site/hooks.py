"""What MkDocs makes beside the pages that are written by hand: methods, replications, notebooks, and pictures."""

import re
from pathlib import Path

import methods
import notebooks
import pictures
import replications
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "site-cache"  # pictures and outputs, by what made them


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the parts of the navigation that depend on what is registered, what has been run, and what is in docs/."""
    sections = [item for item in config.nav or [] if isinstance(item, dict)]
    for section in sections:
        for title, target in section.items():
            if target == "methods/":
                families = [{f.title: [f"methods/{name}.md" for name in f.methods]} for f in methods.families()]
                section[title] = ["methods/index.md", *families]
            elif target == "replications/":
                runs = [{label: path} for label, path in replications.names().items()]
                section[title] = ["replications/index.md", *runs]
    pages = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    sections[-1]["More"] += sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    def figure(name: str) -> str:
        made = pictures.picture(name, CACHE)
        if made is None:
            return ""
        add(f"methods/{name}.png", made.data)
        return made.markdown(f"{name}.png")

    for path, text in methods.pages(figure):
        add(path, text)
    for path, content in replications.pages(CACHE):
        add(path, content)
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        for path, content in notebooks.pages(notebook, CACHE):
            add(path, content)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in the lists that are generated, and lead links where the site has the page."""
    for place, made in (("<!-- methods -->", methods.listing), ("<!-- replications -->", replications.listing)):
        if place in markdown:
            markdown = markdown.replace(place, made())
    if not _is_top(page):
        return markdown
    for name, path in methods.names().items():  # the list of methods is there on disk, their pages are not
        markdown = markdown.replace(f"(methods/index.md#{name})", f"({path})")
    markdown = re.sub(r"\((notebooks/\w+)\.ipynb\)", r"(\1.md)", markdown)
    return re.sub(r"\[([^\]]*)\]\(\.\./([\w./-]+)(?:#[\w-]*)?\)", _named, markdown)


def _is_top(page: Page) -> bool:
    return "/" not in page.file.src_uri


def _named(match: re.Match[str]) -> str:
    """Return what stands for a link to a file of the repository that is no page."""
    text, path = match[1], match[2]
    return f"`{path}`" if text.endswith(path) else f"{text} (`{path}` in the repository)"
