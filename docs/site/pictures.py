"""The picture of a method: drawn once from the digits or Iris, and kept until its code changes."""

import hashlib
import inspect
import io
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import drawn_attacks
import drawn_defenses
import matplotlib as mpl
import methods
import scenes
from matplotlib.figure import Figure

DRAWERS = {**drawn_attacks.DRAWERS, **drawn_defenses.DRAWERS}
DPI = 160
INK = "#808080"  # of text and axes: reads on the light and on the dark page
STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **{key: INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
}


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    data: bytes
    caption: str

    def markdown(self, address: str) -> str:
        """Return it as a figure of a page, with the first sentence of the caption for those who cannot see it."""
        width = round(int.from_bytes(self.data[16:20], "big") / DPI * 88)  # the header of a PNG holds its size
        alt = self.caption.split(". ")[0].replace("`", "")
        return "\n".join(
            (
                '<figure markdown="1" class="picture">',
                f"![{alt}]({address}){{ width={width} }}",
                f'<figcaption markdown="span">{self.caption}</figcaption>',
                "</figure>",
            )
        )


def picture(name: str, folder: Path) -> Picture | None:
    """Return the picture of a method, from the folder where the same code drew it before; None where there is none."""
    if name not in DRAWERS:
        return None
    method = next(f.methods[name] for f in methods.families() if name in f.methods)
    code = inspect.getsource(sys.modules[method.__module__]) + _drawing_code()
    path = folder / f"{name}-{hashlib.sha256(code.encode()).hexdigest()[:16]}"
    image, note = path.with_suffix(".png"), path.with_suffix(".json")
    if note.exists():
        return Picture(image.read_bytes(), json.loads(note.read_text(encoding="utf-8"))["caption"])
    with mpl.rc_context(STYLE):
        figure, caption = DRAWERS[name](method)
        made = Picture(_png(figure), caption)
    folder.mkdir(parents=True, exist_ok=True)
    image.write_bytes(made.data)
    note.write_text(json.dumps({"caption": caption}), encoding="utf-8")
    return made


@cache
def _drawing_code() -> str:
    """Return the code on which every picture depends."""
    modules = (sys.modules[__name__], drawn_attacks, drawn_defenses, scenes)
    return "".join(map(inspect.getsource, modules))


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None})
    return out.getvalue()
