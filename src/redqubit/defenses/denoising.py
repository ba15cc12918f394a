"""A denoising autoencoder before a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from redqubit.data import Dataset
from redqubit.defenses.base import DEFENSES, Defense
from redqubit.models.initial import linear
from redqubit.training import train


class Denoiser(nn.Module):
    """An autoencoder of the shape of its inputs.

    Feature vectors of d entries go through d-4d-2d-4d-d with tanh and a linear end; images of d values through
    d-16d/49-4d/49-16d/49-d with ReLU and a sigmoid: 784-256-64-256-784 for MNIST, 4-16-8-16-4 for Iris.

    Args:
        shape: (d,) of features, or (C, H, W).
        generator: CPU source of the initial weights, Glorot uniform.

    Example:
        >>> Denoiser((4,), generator=torch.Generator()).widths, Denoiser((1, 28, 28), generator=torch.Generator()).widths
        ((4, 16, 8, 16, 4), (784, 256, 64, 256, 784))
    """  # noqa: E501

    def __init__(self, shape: Sequence[int], *, generator: torch.Generator) -> None:
        super().__init__()
        d = int(torch.Size(shape).numel())
        self.is_image = len(shape) > 1
        outer, inner = (max(1, round(16 * d / 49)), max(1, round(4 * d / 49))) if self.is_image else (4 * d, 2 * d)
        self.widths = (d, outer, inner, outer, d)
        parts: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in zip(self.widths[:-1], self.widths[1:], strict=True):
            parts += [linear(n_in, n_out, generator=generator), nn.ReLU() if self.is_image else nn.Tanh()]
        parts[-1] = nn.Sigmoid() if self.is_image else nn.Identity()
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Return the inputs without their noise, in their shape."""
        out: Tensor = self.layers(x)
        return out.view(x.shape)


def train_denoiser(
    x: Tensor,
    *,
    sigma: float,
    epochs: int = 20,
    batch_size: int = 32,
    lr: float = 1e-3,
    generator: torch.Generator,
) -> Denoiser:
    """Train a `Denoiser` g by Adam on ||x - g(x + sigma n)||^2 with fresh n ~ N(0, 1), and return it.

    Noisy images are clipped to [0, 1]; features are not, and may have any range.

    Args:
        x: Clean samples, (N, d) or (N, C, H, W).
        sigma: Standard deviation of the noise, in units of x.
        epochs: Passes over the samples.
        batch_size: Samples per step.
        lr: Adam's learning rate.
        generator: CPU source of the initial weights, the noise and the order of the samples.

    Raises:
        UsageError: when the loss stops being finite.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.rand(64, 1, generator=g).repeat(1, 4)  # on a line
        >>> net = train_denoiser(x, sigma=0.2, epochs=100, generator=g)
        >>> noisy = x + 0.2 * torch.randn(x.shape, generator=g)
        >>> bool(mse_loss(net(noisy), x) < 0.5 * mse_loss(noisy, x))
        True

    Reference: Vincent et al., "Stacked denoising autoencoders", JMLR 11, 2010, section 3.
    """
    net = Denoiser(x.shape[1:], generator=generator).to(x.device, x.dtype)

    def loss(net: nn.Module, x: Tensor, _: Tensor) -> Tensor:
        noisy = x + sigma * torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)
        return mse_loss(net(noisy.clamp(0, 1) if x.ndim > 2 else noisy), x)

    train(net, x, x, epochs=epochs, batch_size=batch_size, lr=lr, loss=loss, generator=generator)
    return net


@DEFENSES.register("denoising")
@dataclass(frozen=True)
class DenoisingAutoencoder(Defense):
    """Put an autoencoder that was trained to remove Gaussian noise before the model.

    f'(x) = f(g(x)) with g as of `train_denoiser`. g is trained alone and then frozen; it has a gradient, so that an
    attacker who knows it attacks f' as any other network.

    Raises:
        UsageError: for a negative field, or when a loss stops being finite.

    Example:
        >>> DenoisingAutoencoder.paper((4,))
        DenoisingAutoencoder(sigma=0.5, epochs=500, batch_size=32, lr=0.001, refit=0)

    Reference: Yang, Zhang and Yan, "Hybrid classical quantum neural network with high adversarial robustness", PMLR,
        section 3. Differs: sizes, noise and training are not stated there.
    """

    sigma: float = 0.3  # standard deviation of the noise, in data space
    epochs: int = 20  # of the autoencoder
    batch_size: int = 32  # samples per step
    lr: float = 1e-3  # of Adam
    refit: int = field(default=0, metadata={"least": 0})  # epochs in which the model then learns behind the autoencoder

    @classmethod
    def paper(cls, shape: Sequence[int]) -> Self:
        """Return our reading of the paper for features (d,), or for images (C, H, W)."""
        return cls() if len(shape) > 1 else cls(sigma=0.5, epochs=500)

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Train the autoencoder and put it before this model."""
        front = train_denoiser(
            clean.x,
            sigma=self.sigma,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            generator=generator,
        ).requires_grad_(False)
        behind = nn.Sequential(front, model)
        if self.refit:
            train(
                behind,
                clean.x,
                clean.y,
                epochs=self.refit,
                batch_size=self.batch_size,
                lr=self.lr,
                generator=generator,
            )
        return behind
