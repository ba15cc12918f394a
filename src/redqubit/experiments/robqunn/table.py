"""Values of the RobQuNN experiment by draw, and their paired comparison."""

from collections.abc import Sequence

import numpy as np
import torch

from redqubit.result import Result
from redqubit.statistics import Difference, paired_bootstrap


class Table:
    """Values by draw of a metric, selected by config keys."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.index: dict[tuple[object, ...], dict[int, float]] = {}
        for r in results:
            c = r.config
            key = (r.metric, c.get("model"), c.get("attack"), c.get("eps"), c.get("direction"), c.get("dtype"))
            self.index.setdefault(key, {})[c["draw"]] = r.value

    def draws(
        self,
        metric: str,
        model: str | None = None,
        *,
        attack: str | None = None,
        eps: float | None = None,
        direction: str | None = None,
        dtype: str | None = None,
    ) -> list[float]:
        """Return the values in order of the draws."""
        found = self.index[metric, model, attack, eps, direction, dtype]
        return [found[d] for d in sorted(found)]

    def area(self, model: str, attack: str, eps: Sequence[float]) -> list[float]:
        """Return for each draw the mean robust accuracy over the grid of eps."""
        values = np.array([self.draws("robust_accuracy", model, attack=attack, eps=e) for e in eps])
        return [float(v) for v in values.mean(0)]


def paired(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Return the mean of a - b over draws, with its interval."""
    return paired_bootstrap(a, b, generator=torch.Generator().manual_seed(0))


def points(d: Difference) -> str:
    """Return a difference of accuracies in points."""
    return f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
