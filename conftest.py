"""What all tests and doctests share; at the root because the doctests lie under src/."""

import os
from pathlib import Path

import pytest

# The folder with real data sets, when it lies beside the checkout; tests that need it say so when they are skipped.
_BESIDE = Path(__file__).parent.parent / "shared" / "data"
if "REDQUBIT_DATA" not in os.environ and _BESIDE.is_dir():
    os.environ["REDQUBIT_DATA"] = str(_BESIDE)


@pytest.fixture(autouse=True)
def _doctest_folder(doctest_namespace: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give doctests the name `tmp`, a folder to write in."""
    doctest_namespace["tmp"] = tmp_path_factory.getbasetemp() / "doctest"
