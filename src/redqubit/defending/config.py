"""What is done to the models of a run, and by which defenses."""

from collections.abc import Sequence
from dataclasses import dataclass

from redqubit.defenses import FinePruning, NeuralCleanse
from redqubit.defenses.fine_pruning import RATES, Ranking
from redqubit.errors import UsageError
from redqubit.registry import unknown
from redqubit.victims import Victim

METHODS = ("strip", "neural_cleanse", "fine_pruning")
_CLEANSE = NeuralCleanse.reduced()


@dataclass(frozen=True)
class Defending:
    """The configuration of all defenses.

    The defender holds the first `n_defender` test samples, each class in proportion; the others judge the defense.
    """

    families: tuple[str, ...] = ()  # which models to take; all when empty
    victims: tuple[str, ...] = ()  # the same by name
    n_defender: int = 200  # clean samples
    n_inputs: int = 200  # clean inputs that STRIP judges, and as many triggered
    n_judged: int | None = None  # test samples that judge Fine-Pruning; all when None
    strip_overlays: int = 100
    strip_alpha: float = 1.0
    cleanse_steps: int = _CLEANSE.steps
    cleanse_images_per_step: int = _CLEANSE.images_per_step
    cleanse_restarts: int = _CLEANSE.restarts
    pruning_rates: tuple[float, ...] = RATES
    pruning_rankings: tuple[Ranking, ...] = ("l1", "activation")  # without fine-tuning
    fine_tune_epochs: int = 1  # after pruning by l1; 0 leaves it out
    seed: int = 0  # of overlays, of starts, and of the order of samples


def check(config: Defending) -> None:
    """Raise a `UsageError` for fields that no defense takes."""
    for name in ("n_defender", "n_inputs", "n_judged", "strip_overlays"):
        value = getattr(config, name)
        if value is not None and value < 2:
            raise UsageError(f"Argument `{name}` must be 2 or more, but is {value}.")
    if config.n_defender < config.strip_overlays:
        raise UsageError(
            f"Argument `strip_overlays` must not exceed `n_defender`, {config.n_defender}, from which they are drawn, "
            f"but is {config.strip_overlays}: lower it."
        )
    if not config.pruning_rates:
        raise UsageError("Argument `pruning_rates` must hold at least one rate, but is empty.")
    if not config.pruning_rankings and not config.fine_tune_epochs:
        raise UsageError("Argument `pruning_rankings` must hold a ranking without fine-tuning, but is empty.")
    for rate in config.pruning_rates:
        FinePruning(rate)
    FinePruning(epochs=config.fine_tune_epochs)
    NeuralCleanse(
        steps=config.cleanse_steps,
        images_per_step=config.cleanse_images_per_step,
        restarts=config.cleanse_restarts,
    )


def chosen(config: Defending, victims: Sequence[Victim]) -> list[Victim]:
    """Return the victims of the families and names that the configuration asks for.

    Raises:
        UsageError: for a family or a name that is not there.
    """
    for kind, wanted, known in (
        ("family", config.families, {v.family for v in victims}),
        ("model", config.victims, {v.name for v in victims}),
    ):
        for name in wanted:
            if name not in known:
                raise unknown(kind, name, known)
    return [
        v
        for v in victims
        if (not config.families or v.family in config.families) and (not config.victims or v.name in config.victims)
    ]
