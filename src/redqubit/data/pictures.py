"""Pictures brought to one size and three channels."""

from dataclasses import replace

from torch.nn.functional import interpolate

from redqubit.data.dataset import Dataset
from redqubit.errors import UsageError

BATCH = 256  # pictures at a time, so that no second copy of a large set is held


def as_rgb(dataset: Dataset, side: int) -> Dataset:
    """Return square pictures of three channels; grey ones get three equal channels.

    Sizes change by bilinear interpolation, antialiased.

    Args:
        dataset: Pictures (N, 1 or 3, H, W), H = W.
        side: Pixels along each side.

    Raises:
        UsageError: for features, other channels, or pictures that are not square.

    Example:
        >>> from redqubit.data import load
        >>> as_rgb(load("digits"), 32).x.shape
        torch.Size([1297, 3, 32, 32])
    """
    if dataset.x.ndim != 4 or dataset.x.shape[1] not in (1, 3) or dataset.x.shape[2] != dataset.x.shape[3]:
        raise UsageError(
            f"Argument `dataset` must hold square pictures of 1 or 3 channels, but a sample is "
            f"{tuple(dataset.x.shape[1:])}: crop or convert them first."
        )
    if side < 1:
        raise UsageError(f"Argument `side` must be 1 pixel or more, but is {side}.")
    x = dataset.x.new_empty((len(dataset), 3, side, side))
    for rows, batch in zip(x.split(BATCH), dataset.x.split(BATCH), strict=True):
        resized = interpolate(batch, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        rows.copy_(resized.clamp(0, 1))  # one channel broadcasts to three
    return replace(dataset, x=x)
