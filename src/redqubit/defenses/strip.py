"""STRIP: a triggered input keeps its class whatever is laid over it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.data import Dataset
from redqubit.defenses.base import DETECTORS, InputDetector, check_enough, frozen_copy
from redqubit.errors import UsageError


@DETECTORS.register("strip")
@dataclass(frozen=True)
class STRIP(InputDetector):
    """Score inputs by how sure the model stays when clean samples are laid over them.

    For the input x and overlays o_1 .. o_N, drawn with replacement from held-out clean samples for each input anew,

        H(x) = 1/N sum_n sum_c -p_c log2 p_c,    p = softmax f(min(1, alpha (x + o_n))).

    The score is -H, in bits: a trigger that dominates leaves H near 0. The threshold of the paper, the quantile of a
    normal distribution fitted to clean scores, is `redqubit.detection.normal_threshold`.

    Raises:
        UsageError: when `clean` holds fewer than `n_overlays` samples, or the inputs have another shape than those.

    Example:
        >>> clean = Dataset(torch.rand(100, 4), torch.arange(100) % 2, n_classes=2)
        >>> undecided = nn.Linear(4, 2)
        >>> undecided = undecided.requires_grad_(False).apply(lambda layer: [w.zero_() for w in layer.parameters()])
        >>> STRIP()(undecided, torch.rand(3, 4), clean, generator=torch.Generator())
        tensor([-1., -1., -1.])

    Reference: Gao et al., "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, sections 4
        and 5; the weights are those of the authors' code.
    """

    n_overlays: int = 100  # N
    alpha: float = 1.0  # weight of both pictures: 1 adds and saturates as the authors' code; 0.5 is their mean
    batch_size: int = 256  # pictures per pass of the model; the scores do not depend on it

    @torch.no_grad()
    def __call__(self, model: nn.Module, x: Tensor, clean: Dataset, *, generator: torch.Generator) -> Tensor:
        """Return -H of each input, (N,), from -log2(n_classes) to 0."""
        check_enough(clean, self.n_overlays, "one per overlay (`n_overlays`)")
        if x.shape[1:] != clean.x.shape[1:] or len(x) == 0:
            raise UsageError(
                f"Argument `x` must hold samples of shape {tuple(clean.x.shape[1:])} like `clean`, but its shape is "
                f"{tuple(x.shape)}: bring both to one size."
            )
        frozen = frozen_copy(model, clean)
        overlay = torch.randint(len(clean), (len(x) * self.n_overlays,), generator=generator)
        entropies = []
        for pairs in torch.arange(len(overlay)).split(self.batch_size):
            inputs = x[(pairs // self.n_overlays).to(x.device)]
            mixed = (inputs + clean.x[overlay[pairs].to(x.device)]).mul_(self.alpha).clamp_(max=1)
            p = frozen(mixed).softmax(1)
            entropies.append(torch.special.entr(p).sum(1) / math.log(2))
        return -torch.cat(entropies).view(len(x), self.n_overlays).mean(1)  # (N * n_overlays,) to (N,)
