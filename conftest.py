"""What all tests and doctests share; at the root because the doctests lie under src/."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from crashes import Tally

# The folder with real data sets, when it lies beside the checkout; tests that need it say so when they are skipped.
_BESIDE = Path(__file__).parent.parent / "shared" / "data"
if "REDQUBIT_DATA" not in os.environ and _BESIDE.is_dir():
    os.environ["REDQUBIT_DATA"] = str(_BESIDE)


@pytest.fixture(autouse=True)
def _doctest_folder(doctest_namespace: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give doctests the name `tmp`, a folder to write in."""
    doctest_namespace["tmp"] = tmp_path_factory.getbasetemp() / "doctest"


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator["Tally"]:
    """Count faults that a test injects and what came of them, for the last lines of the soak."""
    from crashes import Tally

    counted = Tally()
    yield counted
    for name in ("faults", "lost", "wrong"):
        record_property(name, getattr(counted, name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many faults all tests injected, and how many results were lost or wrong after them."""
    counts = Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown":
                counts.update({name: n for name, n in report.user_properties if name in ("faults", "lost", "wrong")})
    if counts["faults"]:
        faults, lost, wrong = (f"{counts[name]:,}" for name in ("faults", "lost", "wrong"))
        terminalreporter.write_line(f"faults injected: {faults}; results lost: {lost}; wrong results: {wrong}")
