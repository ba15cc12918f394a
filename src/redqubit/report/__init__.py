"""The report of a run: one self-contained page, Markdown and JSON, drawn from its folder alone."""

from redqubit.report.build import build

__all__ = ["build"]
