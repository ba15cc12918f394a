"""Audits: a model and its classical twin, attacked in every way, with what can be trusted of the outcome."""

from redqubit.auditing.config import SETTINGS, Audit
from redqubit.auditing.job import audit

__all__ = ["SETTINGS", "Audit", "audit"]
