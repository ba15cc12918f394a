"""The packages that `pip install "redqubit[qiskit]"` brings."""

import importlib
from typing import Any

from redqubit.errors import UsageError


def need(module: str) -> Any:
    """Import and return a module of Qiskit or of a package around it.

    Raises:
        UsageError: when it is not installed, with the command that installs it.

    Example:
        >>> need("qiskit_of_tomorrow")
        Traceback (most recent call last):
        redqubit.errors.UsageError: Package qiskit_of_tomorrow is needed for this: pip install "redqubit[qiskit]".
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise UsageError(f'Package {package} is needed for this: pip install "redqubit[qiskit]".') from error
