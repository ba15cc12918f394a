"""The results of one cell, as they come."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from redqubit.result import Result
from redqubit.statistics import MeanProportion, Proportion


class Record:
    """The results of one cell, as they come."""

    def __init__(self, experiment: str, cell: str, config: Mapping[str, Any]) -> None:
        self.experiment, self.cell, self.config = experiment, cell, dict(config)
        self.results: list[Result] = []

    def value(self, metric: str, value: float, seed: int, **more: object) -> None:
        """Keep a number."""
        self.results.append(Result(self.experiment, self.cell, metric, value, {**self.config, **more}, seed=seed))

    def share(self, metric: str, hits: Tensor, seed: int, **more: object) -> None:
        """Keep the share of hits among trials (N,); one of no trials is left out."""
        if len(hits):
            p = Proportion(int(hits.sum()), len(hits))
            config = {**self.config, **more}
            self.results.append(
                Result(self.experiment, self.cell, metric, p.value, config, p.low, p.high, p.k, p.n, seed)
            )

    def draws(self, metric: str, hits: Tensor, seed: int, **more: object) -> None:
        """Keep the share of hits among trials over draws (K, N); one draw is a share like any other."""
        if len(hits) == 1:
            self.share(metric, hits[0], seed, **more)
            return
        p = MeanProportion.of(hits)
        config = {**self.config, **more}
        self.results.append(
            Result(self.experiment, self.cell, metric, p.value, config, p.low, p.high, n=p.n, seed=seed)
        )
