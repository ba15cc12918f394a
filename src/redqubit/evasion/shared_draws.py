"""Several draws of a random model in one pass: what runs before its noise runs once for all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 256  # of a pass; more draws than fit wait for the next: fewer rows leave cores idle, more leave their caches


@contextmanager
def several_draws(model: nn.Module, x: Tensor, draws: int) -> Iterator[Iterator[int]]:
    """Yield how many draws each pass returns, one number before each pass; their sum is `draws`.

    A pass can return several when the first random module to run has an attribute `draws`, whose outputs are
    (draws * B, ...), and nothing before it is random. Else it returns one.

    Args:
        model: Maps (B, ...) to logits (B, n_classes), or (n * B, n_classes) in a pass of n draws.
        x: Inputs of all passes, (B, ...).
        draws: How many in all.
    """
    at_once = max(1, ROWS // len(x))
    first = first_noise(model, x) if min(draws, at_once) > 1 else None
    at_once = 1 if first is None else at_once

    def sizes() -> Iterator[int]:
        for done in range(0, draws, at_once):
            n = min(at_once, draws - done)
            if first is not None:
                first.draws = n
            yield n

    try:
        yield sizes()
    finally:
        if first is not None:
            first.draws = 1


@torch.no_grad()
def first_noise(model: nn.Module, x: Tensor) -> Any:
    """Return the module with `draws` that runs first, or None when its draws cannot share a pass.

    They cannot when its inputs differ between two passes, or when what comes before the noise is joined to what comes
    after it, so that a pass does not return a row per draw and input.
    """
    able = [part for part in model.modules() if hasattr(part, "draws") and getattr(part, "is_random", False)]
    seen: list[tuple[Any, Tensor]] = []

    def saw(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append((module, inputs[0]))

    handles = [part.register_forward_pre_hook(saw) for part in able]
    first: Any = None
    try:
        if able:
            model(x)
            (first, once), n = seen[0], len(seen)
            first.draws = 2
            shared = len(model(x)) == 2 * len(x) and seen[n][0] is first and torch.equal(seen[n][1], once)
            return first if shared else None
    except RuntimeError:  # rows before and after the noise do not fit each other
        return None
    finally:
        for handle in handles:
            handle.remove()
        if first is not None:
            first.draws = 1
    return None
