"""The device that a run computes on."""

import torch

from redqubit.errors import UsageError


def find_device(name: str) -> torch.device:
    """Return the torch device of a name; "auto" is a GPU when there is one.

    Raises:
        UsageError: when this machine has no such device.

    Example:
        >>> find_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UsageError(f"Argument `device` must be one of this machine, but {name} is not: {why}") from None
    return device
