"""Randomized smoothing: the class that most noisy copies of an input get, and a radius in which it stays."""

import math
from dataclasses import dataclass, field

import scipy
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from redqubit.data import Dataset
from redqubit.defenses.base import DEFENSES, Defense, spawned
from redqubit.errors import UsageError
from redqubit.models.base import evaluating
from redqubit.statistics import Proportion
from redqubit.training import BATCH, train

ABSTAINED = -1


@dataclass(frozen=True, eq=False)
class Certificates:
    """What can be said of a smoothed classifier, wrong with probability alpha at most for each sample.

    Attributes:
        prediction: The class of each sample, -1 where the classifier abstains, (N,).
        radius: L2 radius within which that class stays, 0 where it abstains, (N,), in data space.
    """

    prediction: Tensor
    radius: Tensor

    def accuracy(self, y: Tensor, radius: float = 0.0) -> Proportion:
        """Return the certified accuracy: the share of samples that are right anywhere within an L2 radius.

        Args:
            y: True labels, (N,).
            radius: In data space. An L-infinity ball of eps over d entries lies within eps sqrt(d).
        """
        right = (self.prediction == y) & (self.radius >= radius)
        return Proportion(int(right.sum()), len(y))


class Smoothed(nn.Module):
    """A model under Gaussian noise on its inputs.

    A pass returns log (1/n) sum_i softmax f(x + sigma e_i), e_i ~ N(0, 1), which has a gradient; `predict` and
    `certify` count votes instead, as the certificate needs, and abstain when these do not suffice.

    Args:
        model: Maps (B, ...) to logits (B, n_classes).
        sigma: Standard deviation of the noise, in data space; above 0.
        samples: Noisy copies n of each input in a pass.
        generator: CPU source of the noise.
    """

    def __init__(self, model: nn.Module, sigma: float, samples: int, generator: torch.Generator) -> None:
        super().__init__()
        self.model, self.sigma, self.samples, self.generator = model, sigma, samples, generator

    def extra_repr(self) -> str:
        return f"sigma={self.sigma:g}, samples={self.samples}"

    def noisy(self, x: Tensor, n: int) -> Tensor:
        """Return n noisy copies of each input, (n B, ...)."""
        noise = torch.randn((n, *x.shape), dtype=x.dtype, generator=self.generator).to(x.device)
        copies: Tensor = (x + self.sigma * noise).flatten(0, 1)
        return copies

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probabilities, (B, n_classes)."""
        logits: Tensor = self.model(self.noisy(x, self.samples))
        each = logits.log_softmax(1).view(self.samples, len(x), -1)
        return each.logsumexp(0) - math.log(self.samples)

    @torch.no_grad()
    def votes(self, x: Tensor, n: int) -> Tensor:
        """Return how many of n noisy copies of each input get each class, (B, n_classes)."""
        counts: list[Tensor] = []
        with evaluating(self):
            for batch in x.split(BATCH):
                at_once = BATCH // len(batch)
                each = [self._counted(batch, min(at_once, n - start)) for start in range(0, n, at_once)]
                counts.append(torch.stack(each).sum(0))
        return torch.cat(counts)

    def _counted(self, x: Tensor, n: int) -> Tensor:
        logits: Tensor = self.model(self.noisy(x, n))
        chosen = logits.argmax(1).view(n, len(x), 1)
        return (chosen == torch.arange(logits.shape[1], device=x.device)).sum(0)

    def predict(self, x: Tensor, *, n: int = 1000, alpha: float = 0.001) -> Tensor:
        """Return the class with most votes, (B,); -1 where it beats the second by what chance may do.

        Args:
            x: Inputs, (B, ...).
            n: Noisy copies of each.
            alpha: Probability of another answer than the smoothed classifier's, in (0, 1).
        """
        check(n, n, alpha)
        top = self.votes(x, n).topk(2, 1)
        pairs = zip(*top.values.T.tolist(), strict=True)
        sure = [scipy.stats.binomtest(a, a + b).pvalue <= alpha for a, b in pairs]
        return top.indices[:, 0].where(torch.tensor(sure, device=x.device), ABSTAINED)

    def certify(self, x: Tensor, *, n_choose: int = 100, n: int = 10_000, alpha: float = 0.001) -> Certificates:
        """Return classes and the L2 radii in which the smoothed classifier keeps them.

        The class c with most of the first votes gets p, the lower Clopper-Pearson bound at level 1 - alpha of its share
        of n others, and R = sigma Phi^-1(p), or abstains where p <= 1/2.

        Args:
            x: Inputs, (B, ...).
            n_choose: Noisy copies that choose the class.
            n: Other copies that bound its share; the radius is at most sigma Phi^-1(alpha^(1/n)).
            alpha: Probability that a certificate is wrong, in (0, 1).

        Raises:
            UsageError: for counts below 1 or an alpha outside (0, 1).
        """
        check(n_choose, n, alpha)
        chosen = self.votes(x, n_choose).argmax(1)
        k = self.votes(x, n).gather(1, chosen[:, None])[:, 0].cpu().numpy()
        low = scipy.stats.beta.ppf(alpha, k.clip(1), n - k + 1)  # of no votes the bound is 0, of one it is below 1/2
        bound = torch.from_numpy(low).where(torch.from_numpy(k > 0), 0.0).to(x.device)
        radius = self.sigma * torch.from_numpy(scipy.stats.norm.ppf(low)).to(x.device)
        return Certificates(chosen.where(bound > 0.5, ABSTAINED), radius.where(bound > 0.5, 0.0))


@DEFENSES.register("smoothing")
@dataclass(frozen=True)
class RandomizedSmoothing(Defense):
    """Answer with what most noisy copies of an input get; `Smoothed` says how, and `certify` how far it holds.

    Raises:
        UsageError: when sigma is 0 or a loss stops being finite.

    Example:
        >>> data = Dataset(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), n_classes=2)
        >>> smoothed = RandomizedSmoothing(0.5)(nn.Linear(2, 2), data, generator=torch.Generator())
        >>> bool(torch.allclose(smoothed(data.x).exp().sum(1), torch.ones(4)))
        True

    Reference: Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019,
        section 3; the loss of a pass is that of Salman et al., NeurIPS 2019, section 2.2.
    """

    sigma: float = 0.25  # standard deviation of the noise, in data space
    samples: int = 100  # noisy copies in a pass
    epochs: int = field(default=0, metadata={"least": 0})  # in which the model first learns under this noise
    batch_size: int = 32
    lr: float = 1e-3  # of Adam

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma == 0:
            raise UsageError("Argument `sigma` must be above 0, but is 0: without noise there is nothing to certify.")

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Train this model under noise, where asked for, and smooth it."""
        smoothed = Smoothed(model, self.sigma, self.samples, spawned(generator))

        def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(model(smoothed.noisy(x, 1)), y)

        if self.epochs:
            train(
                model,
                clean.x,
                clean.y,
                epochs=self.epochs,
                batch_size=self.batch_size,
                lr=self.lr,
                loss=loss,
                generator=generator,
            )
        return smoothed


def check(n_choose: int, n: int, alpha: float) -> None:
    """Raise an error for counts or a level that certify nothing."""
    if min(n_choose, n) < 1 or not 0 < alpha < 1:
        raise UsageError(
            "Arguments `n_choose`, `n`, `alpha` must be two counts from 1 and a probability in (0, 1), but are "
            f"{n_choose}, {n}, {alpha}."
        )
