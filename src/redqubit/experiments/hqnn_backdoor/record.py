"""The results of one cell, as they come."""

from torch import Tensor

from redqubit.experiments.hqnn_backdoor.plan import Spec
from redqubit.metrics import BackdoorRates
from redqubit.result import Result
from redqubit.statistics import Proportion

EXPERIMENT = "hqnn-backdoor"


class Record:
    """The results of one cell, as they come."""

    def __init__(self, cell: str, spec: Spec, **more: object) -> None:
        self.cell, self.config, self.seed = cell, {**spec.config, "frozen": False, **more}, spec.seed
        self.results: list[Result] = []

    def value(self, metric: str, value: float, **more: object) -> None:
        """Keep a number."""
        self.results.append(Result(EXPERIMENT, self.cell, metric, value, {**self.config, **more}, seed=self.seed))

    def mean(self, metric: str, values: Tensor, **more: object) -> None:
        """Keep the mean of the finite ones of several numbers, with its 95 % interval."""
        values = values[values.isfinite()].double()  # a map of zeros has no share inside, an equal picture no PSNR
        if len(values) > 1:
            mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
            config = {**self.config, **more, "n_pictures": len(values)}
            self.results.append(
                Result(EXPERIMENT, self.cell, metric, mean, config, mean - half, mean + half, seed=self.seed)
            )

    def share(self, metric: str, p: Proportion, **more: object) -> None:
        """Keep a proportion; one of no trials is left out."""
        if p.n:
            config = {**self.config, **more}
            self.results.append(
                Result(EXPERIMENT, self.cell, metric, p.value, config, p.low, p.high, p.k, p.n, self.seed)
            )

    def rates(self, rates: BackdoorRates) -> None:
        """Keep what a backdoor does, class by class too."""
        for name in (
            "clean_accuracy",
            "backdoor_accuracy",
            "attack_success_rate",
            "clean_model_floor",
            "untriggered_floor",
            "train_attack_success_rate",
            "robust_accuracy",
        ):
            self.share(name, getattr(rates, name))
        for label, p in enumerate(rates.by_class):
            self.share("attack_success_rate_of_class", p, true_class=label)
