"""The four-path grid: attacks made with and without a defense's noise, evaluated with and without it."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.adaptive.draws import Scored, examples, in_passes, passes_of
from redqubit.errors import UsageError
from redqubit.evasion import EvasionAttack
from redqubit.statistics import Difference, paired_shares
from redqubit.training import BATCH

CLEAN, WITHOUT, WITH = "clean", "without", "with"


class Averaged(nn.Module):
    """The deterministic part of a random model: its logits, averaged over so many passes.

    Where a model can be had without its noise that is better than this: exact, and one pass.

    Args:
        model: Maps (B, ...) to logits (B, n_classes).
        draws: Passes.
    """

    def __init__(self, model: nn.Module, draws: int) -> None:
        super().__init__()
        self.model, self.draws = model, draws

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean logits, (B, n_classes)."""
        total: Tensor = self.model(x)
        for _ in range(self.draws - 1):
            total = total + self.model(x)
        return total / self.draws


@dataclass(frozen=True, eq=False)
class Grid:
    """What models get right of the examples that were made against each of them.

    Attributes:
        cells: By (made against, evaluated on); "without" is the model as it was, "with" the defended one, others are
            controls. Made against "clean" are the samples as they come.
    """

    cells: Mapping[tuple[str, str], Scored]

    def __getitem__(self, path: tuple[str, str]) -> Scored:
        return self.cells[path]

    def difference(self, a: tuple[str, str], b: tuple[str, str], *, generator: torch.Generator) -> Difference:
        """Return the accuracy of one path minus that of another, paired over samples."""
        return paired_shares(self.cells[a].correct, self.cells[b].correct, generator=generator)


def four_path_grid(
    plain: nn.Module,
    defended: nn.Module,
    attack: EvasionAttack,
    x: Tensor,
    y: Tensor,
    *,
    controls: Mapping[str, nn.Module] | None = None,
    eot: int = 32,
    draws: int = 20,
    generator: torch.Generator,
    batch_size: int = BATCH,
) -> Grid:
    """Attack a model and its defended version, and show the examples of each to both.

    A defense that gains on ("without", "with"), which published numbers often are, and loses it on ("with", "with")
    only blocks who does not know it. Controls say where a gain comes from: `equal_power` Gaussian noise, whether it
    takes this noise; the deterministic part alone, whether it takes noise at all or just another network.

    Args:
        plain: The model without the defense.
        defended: The model with it.
        attack: An untargeted attack; random models are attacked by expectation over `eot` draws.
        x: Clean inputs in [0, 1], (N, ...).
        y: True labels, (N,).
        controls: Other models to attack and to evaluate on, by name.
        eot: Passes of a random model that the attack averages; `converged_draws` chooses.
        draws: Fresh passes that score a random model.
        generator: CPU source of the attack's random numbers, the same for each model.
        batch_size: Samples per pass.

    Raises:
        UsageError: when a control has the name of a path, or as the attack raises.

    Example:
        >>> from redqubit.evasion import FGSM
        >>> models, x = [nn.Linear(4, 2), nn.Linear(4, 2)], torch.rand(8, 4)
        >>> grid = four_path_grid(*models, FGSM(0.1), x, torch.arange(8) % 2, generator=torch.Generator())
        >>> [" -> ".join(path) for path in grid.cells]  # doctest: +NORMALIZE_WHITESPACE
        ['clean -> without', 'clean -> with', 'without -> without', 'without -> with', 'with -> without',
         'with -> with']
    """
    models = {WITHOUT: plain, WITH: defended}
    taken = {CLEAN, *models} & set(controls or {})
    if taken:
        raise UsageError(f"Argument `controls` must not name `{taken.pop()}`, which is a path of the grid: rename it.")
    models |= controls or {}
    seed = int(torch.randint(2**62, (1,), generator=generator))
    shown = {CLEAN: x} | {
        name: examples(attack, model, x, y, draws=eot, seed=seed, batch_size=batch_size)
        for name, model in models.items()
    }
    return Grid(show(shown, models, y, draws=draws, batch_size=batch_size))


def show(
    shown: Mapping[str, Tensor], models: Mapping[str, nn.Module], y: Tensor, *, draws: int, batch_size: int
) -> dict[tuple[str, str], Scored]:
    """Return what each model gets right of each set of inputs with labels `y`."""
    first = next(iter(shown.values()))[:batch_size]
    passes = {name: passes_of(model, first, draws) for name, model in models.items()}
    return {
        (made, judged): in_passes(model, x_adv, y, passes[judged], batch_size)
        for made, x_adv in shown.items()
        for judged, model in models.items()
    }
