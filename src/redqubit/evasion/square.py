"""Square attack: random search without gradients."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.evasion.base import ATTACKS, EvasionAttack

# Share of 10,000 queries after which the fraction of changed entries halves again.
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@ATTACKS.register("square")
@dataclass(frozen=True)
class Square(EvasionAttack):
    """Random search that sees outputs only: it keeps a change of a random square when the margin falls.

    The margin is f_y - max_{k != y} f_k, or max_{k != y} f_k - f_y when targeted. From vertical stripes of +-eps,
    each query sets a random square of every image to +-eps, one sign per channel, and keeps it where the margin falls.
    The share of pixels that a square covers starts at `p_init` and halves along the paper's schedule, scaled to
    `queries`. Flat features get random signs at first and then a random subset of coordinates. A sample stops as soon
    as the margin is negative; one that is misclassified from the start is returned as it is.

    Where this attack is stronger than PGD, the model masks its gradients.

    Example:
        >>> [Square(queries=1000).share(query) for query in (1, 900)]
        [0.8, 0.0015625]

    Reference: Andriushchenko et al., "Square attack: a query-efficient black-box adversarial attack via random
        search", ECCV 2020, section 3. Differs: the search of coordinate subsets for flat features, and the margin is
        used for targets too.
    """

    queries: int = 1000  # perturbed inputs shown to the model per sample, at most
    p_init: float = 0.8  # share of the pixels that the first squares cover
    draws: int = 1  # passes of a randomised model whose logits are averaged per query

    def share(self, query: int) -> float:
        """Return the share of entries that query number `query` (from 0) changes."""
        return self.p_init / 2.0 ** sum(query > bound * self.queries for bound in HALVINGS)

    @torch.no_grad()
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_adv of one batch."""
        x_adv = x.clone()
        best = self._margin(model, x, y)
        active = (~(best < 0)).nonzero()[:, 0]  # NaN is no success
        for query in range(self.queries):
            if len(active) == 0:
                break
            clean, labels = x[active], y[active]
            if query == 0:
                candidate = (clean + self.eps * _first(clean, generator)).clamp_(0, 1)
            else:
                where, signs = _change(clean, self.share(query), generator)
                candidate = torch.where(where, (clean + self.eps * signs).clamp_(0, 1), x_adv[active])
            margin = self._margin(model, candidate, labels)
            better = margin < best[active] if query else torch.ones_like(margin, dtype=torch.bool)
            x_adv[active[better]] = candidate[better]
            best[active[better]] = margin[better]
            active = active[~(best[active] < 0)]
        return x_adv

    def _margin(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits: Tensor = model(x)
        for _ in range(self.draws - 1):
            logits = logits + model(x)
        own = logits.gather(1, y[:, None])[:, 0]
        other = logits.scatter(1, y[:, None], -math.inf).max(1).values
        return other - own if self.targeted else own - other


def _signs(x: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=generator).mul_(2).sub_(1).to(x.device, x.dtype)


def _first(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return vertical stripes (B, C, 1, W) for images, random signs for other inputs."""
    return _signs(x, (*x.shape[:2], 1, x.shape[3]) if x.ndim == 4 else x.shape, generator)


def _change(x: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return which entries change (B, ...) and their signs; an image's square has one sign per channel."""
    if x.ndim != 4:
        size = x[0].numel()
        order = torch.rand(len(x), size, dtype=torch.float64, generator=generator)  # the least of each row are chosen
        chosen = order <= order.kthvalue(max(1, round(share * size)), 1, keepdim=True).values
        return chosen.view(x.shape).to(x.device), _signs(x, x.shape, generator)
    height, width = x.shape[2:]
    side = min(max(1, round(math.sqrt(share * height * width))), height, width)
    top = torch.randint(height - side + 1, (len(x), 1), generator=generator)
    left = torch.randint(width - side + 1, (len(x), 1), generator=generator)
    rows, columns = torch.arange(height), torch.arange(width)
    inside = ((rows >= top) & (rows < top + side))[:, None, :, None] & ((columns >= left) & (columns < left + side))[
        :, None, None, :
    ]  # (B, 1, H, W)
    return inside.to(x.device), _signs(x, (*x.shape[:2], 1, 1), generator)
