"""A convolutional autoencoder: a few features of each picture, learned without labels, kept on disk by content."""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn.functional import interpolate, mse_loss
from torch.nn.utils import skip_init

from redqubit.errors import UsageError
from redqubit.storage.weights import load_weights, save_weights

SIDE = 28  # pixels along a picture
BATCH = 256  # pictures that are encoded at a time
RECIPE = 1  # of network and training, part of the name in the cache: count up when either changes


class Autoencoder(nn.Module):
    """Grey pictures of 28 x 28 to d features and back.

    Encoder: three convolutions (8, 16, 32 channels, kernel 3, stride 2, ReLU, batch normalisation after the second),
    28 -> 14 -> 7 -> 3 pixels, then Linear 288-128-d and a layer norm without parameters, so that the features of each
    picture have mean 0 and variance 1. The decoder mirrors it and ends in a sigmoid. Other sizes of picture are
    brought to 28 x 28 by bilinear interpolation, antialiased. Weights start Glorot uniform, biases 0.

    Args:
        d: Number of features, at least 3: the layer norm leaves d - 2 of them free.
        generator: CPU source of the initial weights.

    Raises:
        UsageError: for fewer features.

    Example:
        >>> model = Autoencoder(8, generator=torch.Generator().manual_seed(0)).eval()
        >>> model.encode(torch.rand(5, 1, 32, 32)).shape, model(torch.rand(5, 1, 32, 32)).shape
        (torch.Size([5, 8]), torch.Size([5, 1, 28, 28]))

    Reference: The network is that of the code published with Alam et al., "Quantum-classical hybrid machine learning
        for image classification", ICCAD 2021, on which Kundu and Ghosh, arXiv 2411.14412, build.
        Differs: d (5 there), and Glorot's weights for torch's own.
    """

    def __init__(self, d: int, *, generator: torch.Generator) -> None:
        super().__init__()
        if d < 3:
            raise UsageError(
                f"Argument `d` must be 3 features or more, but is {d}: the layer norm at the end leaves d - 2 free."
            )
        # without initial weights, which torch would draw from its own generator
        self.encoder = nn.Sequential(
            skip_init(nn.Conv2d, 1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            skip_init(nn.Conv2d, 8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            skip_init(nn.Conv2d, 16, 32, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),  # (B, 32, 3, 3) to (B, 288)
            skip_init(nn.Linear, 288, 128),
            nn.ReLU(),
            skip_init(nn.Linear, 128, d),
            nn.LayerNorm(d, elementwise_affine=False),
        )
        self.decoder = nn.Sequential(
            skip_init(nn.Linear, d, 128),
            nn.ReLU(),
            skip_init(nn.Linear, 128, 288),
            nn.ReLU(),
            nn.Unflatten(1, (32, 3, 3)),
            skip_init(nn.ConvTranspose2d, 32, 16, 3, stride=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            skip_init(nn.ConvTranspose2d, 16, 8, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            skip_init(nn.ConvTranspose2d, 8, 1, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def encode(self, x: Tensor) -> Tensor:
        """Return the features (B, d) of grey pictures in [0, 1], (B, 1, H, H).

        Raises:
            UsageError: when `x` holds no square grey pictures.
        """
        features: Tensor = self.encoder(resized(x))
        return features

    def decode(self, features: Tensor) -> Tensor:
        """Return pictures in [0, 1], (B, 1, 28, 28), of features (B, d)."""
        pictures: Tensor = self.decoder(features)
        return pictures

    def forward(self, x: Tensor) -> Tensor:
        """Return what remains of pictures after encoding and decoding, (B, 1, 28, 28)."""
        return self.decode(self.encode(x))


def resized(x: Tensor) -> Tensor:
    """Return grey pictures as 28 x 28, float32: bilinear interpolation, antialiased; those of that size as they are.

    Args:
        x: Square pictures in [0, 1], (B, 1, H, H).

    Raises:
        UsageError: when `x` holds no square grey pictures.

    Example:
        >>> resized(torch.ones(2, 1, 32, 32)).shape
        torch.Size([2, 1, 28, 28])
    """
    if x.ndim != 4 or x.shape[1] != 1 or x.shape[2] != x.shape[3] or not x.numel():
        raise UsageError(
            f"Argument `x` must hold square grey pictures (B, 1, H, H), but its shape is {tuple(x.shape)}: crop them, "
            "or take the mean over the channels."
        )
    x = x.float()
    if x.shape[2] == SIDE:
        return x
    return interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)


def train_autoencoder(
    x: Tensor,
    *,
    d: int,
    epochs: int = 30,
    batch_size: int = 256,
    lr: float = 1e-3,
    weight_decay: float = 1e-5,
    held_out: float = 0.2,
    generator: torch.Generator,
    on_epoch: Callable[[int, float, float], None] | None = None,
) -> Autoencoder:
    """Train an autoencoder by Adam on the mean squared error of pixels and return it in evaluation mode.

    Args:
        x: Pictures in [0, 1], (N, 1, H, H); labels play no part.
        d: Number of features.
        epochs: Passes over the data.
        batch_size: Pictures per step.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 penalty.
        held_out: Share of the pictures that are not trained on, in (0, 1).
        generator: CPU source of the initial weights, of which pictures are held out, and of their order.
        on_epoch: Called with the number of finished epochs, the last epoch's mean loss and that of the pictures held
            out, which is computed for this call alone.

    Raises:
        UsageError: when `x` holds no pictures or too few, or the loss stops being finite.

    Example:
        >>> losses = []
        >>> pictures = torch.linspace(0, 1, 40).reshape(40, 1, 1, 1).expand(-1, 1, 28, 28)
        >>> model = train_autoencoder(
        ...     pictures, d=4, epochs=2, generator=torch.Generator().manual_seed(0),
        ...     on_epoch=lambda done, loss, held_out: losses.append(loss),
        ... )
        >>> losses[1] < losses[0]
        True

    Reference: as of `Autoencoder`; settings of the published code.
    """
    x = resized(x)
    n_held = round(held_out * len(x))
    if not 0 < n_held < len(x):
        raise UsageError(
            f"Argument `held_out` must leave pictures on both sides, but of {len(x)} it holds out {n_held}: pass more "
            "pictures, or another share in (0, 1)."
        )
    model = Autoencoder(d, generator=generator).to(x.device)
    order = torch.randperm(len(x), generator=generator)
    kept, held = order[n_held:], x[order[:n_held].to(x.device)]
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for places in kept[torch.randperm(len(kept), generator=generator)].to(x.device).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            batch = x[places]
            loss = mse_loss(model(batch), batch)
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        if not math.isfinite(total):
            raise UsageError(f"Training diverged in epoch {epoch + 1}: lower `lr`, which is {lr}.")
        if on_epoch is not None:
            model.eval()
            on_epoch(epoch + 1, total / len(kept), _error(model, held))
    return model.eval()


def latents(
    train_x: Tensor, x: Tensor, *, d: int, epochs: int = 30, cache: Path | None = None, seed: int = 0
) -> Tensor:
    """Return the features of pictures by an autoencoder that is trained on others, once.

    In the folder `cache` its weights are kept in a safetensors file whose name is a hash of the training pictures, d,
    epochs and seed, and which holds a hash of the weights. A file that is damaged is replaced. It is written whole or
    not at all, and of several processes that want it one trains while the others wait.

    Args:
        train_x: Pictures to train on, in [0, 1], (M, 1, H, H).
        x: Pictures to encode, (N, 1, H', H'), on the same device.
        d: Number of features.
        epochs: Passes over the training pictures.
        cache: Folder of trained autoencoders, made if absent; None trains anew.
        seed: Seed of everything random in the training.

    Returns:
        (N, d), each row with mean 0 and variance 1.

    Raises:
        UsageError: when the folder cannot be written, or as `train_autoencoder` does.

    Example:
        >>> pictures = torch.rand(64, 1, 28, 28)
        >>> first, second = (latents(pictures, pictures[:3], d=8, epochs=1, cache=tmp / "cache") for _ in range(2))
        >>> first.shape, torch.equal(first, second), len(list((tmp / "cache").glob("*.safetensors")))
        (torch.Size([3, 8]), True, 1)
    """
    model = trained_autoencoder(train_x, d=d, epochs=epochs, cache=cache, seed=seed)
    with torch.no_grad():
        return torch.cat([model.encode(batch) for batch in x.split(BATCH)])


def trained_autoencoder(
    x: Tensor, *, d: int, epochs: int = 30, cache: Path | None = None, seed: int = 0
) -> Autoencoder:
    """Return an autoencoder in evaluation mode that was trained on these pictures, now or before; see `latents`.

    Args:
        x: Pictures to train on, in [0, 1], (M, 1, H, H).
        d: Number of features.
        epochs: Passes over the pictures.
        cache: Folder of trained autoencoders, made if absent; None trains anew.
        seed: Seed of everything random in the training.

    Raises:
        UsageError: when the folder cannot be written, or as `train_autoencoder` does.
    """
    generator = torch.Generator().manual_seed(seed)
    if cache is None:
        return train_autoencoder(x, d=d, epochs=epochs, generator=generator)
    path = cache / f"autoencoder-{_name(x, d=d, epochs=epochs, seed=seed)}.safetensors"
    model = _read(path, d)
    if model is None:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                model = _read(path, d)  # another process may have written it in the meantime
                if model is None:
                    model = train_autoencoder(x, d=d, epochs=epochs, generator=generator)
                    save_weights(model, path)
        except OSError as error:
            why = " ".join(str(error).split())
            raise UsageError(
                f"Argument `cache` must be a folder to write in, but {cache} is not ({why}): name another."
            ) from error
    return model.to(x.device)


@torch.no_grad()
def _error(model: Autoencoder, x: Tensor) -> float:
    """Return the mean squared error of pixels over all pictures."""
    return sum(float(mse_loss(model(batch), batch)) * len(batch) for batch in x.split(BATCH)) / len(x)


def _name(x: Tensor, **settings: int) -> str:
    """Return 32 hex digits that stand for the pictures, the settings and the recipe."""
    about = json.dumps([RECIPE, list(x.shape), str(x.dtype), settings], sort_keys=True)
    content = hashlib.sha256(about.encode())
    content.update(x.detach().cpu().contiguous().numpy().data)
    return content.hexdigest()[:32]


def _read(path: Path, d: int) -> Autoencoder | None:
    """Return the autoencoder in a file; None where the file is absent, broken or not what was written."""
    try:
        return load_weights(Autoencoder(d, generator=torch.Generator()), path).eval()
    except UsageError:
        return None
