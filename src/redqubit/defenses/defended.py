"""A model behind several defenses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.data import Dataset
from redqubit.defenses.base import Defense
from redqubit.errors import UsageError


class Defended(nn.Module):
    """A copy of a model to which defenses are applied in turn; each takes what the one before returned.

    So [AdversarialTraining(), DenoisingAutoencoder()] trains the model and then puts an autoencoder before it; in
    the other order it learns from examples that pass the autoencoder.

    Args:
        model: Maps (B, ...) to logits (B, n_classes); left as it was.
        defenses: What to apply, first to last.
        clean: Samples that the defender holds.
        generator: CPU source of the random numbers of all.

    Raises:
        UsageError: when there is no defense, or as one of them raises.

    Example:
        >>> from redqubit.defenses import GaussianNoise
        >>> data = Dataset(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), n_classes=2)
        >>> net = Defended(nn.Linear(2, 2), [GaussianNoise(0.1)], data, generator=torch.Generator())
        >>> net.extra_repr()
        "GaussianNoise(sigma=0.1, on='inputs')"
    """

    def __init__(
        self, model: nn.Module, defenses: Sequence[Defense], clean: Dataset, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.defenses = tuple(defenses)
        if not self.defenses:
            raise UsageError("Argument `defenses` must hold at least one defense, but is empty: name one of DEFENSES.")
        for defense in self.defenses:
            model = defense(model, clean, generator=generator)
        self.model = model
        self.eval()

    def extra_repr(self) -> str:
        return " then ".join(map(repr, self.defenses))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        out: Tensor = self.model(x)
        return out
