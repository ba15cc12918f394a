"""Feature extractors for pictures: their registry, what they share, and how published weights get into them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.models.base import FeatureClassifier
from redqubit.registry import Registry

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green and blue, which weights expect


class Backbone(FeatureClassifier):
    """A network for pictures as a chain of named stages, from pixels in [0, 1] to features or logits.

    With a number of classes it is a classifier; without, it ends with pooled features (B, n_features).

    Attributes:
        n_features: Length of the pooled features.
    """

    n_features: int

    def stages(self) -> dict[str, nn.Module]:
        """Return the stages in order; the last is the head, or what stands in its place."""
        raise NotImplementedError

    @property
    def last_block(self) -> nn.Module:
        """The last module whose output is a map (B, n_features, H, W): what Grad-CAM reads."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the head reads."""
        for stage in list(self.stages().values())[:-1]:
            x = stage(x)
        return x

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes), or pooled features (B, n_features) where there are no classes."""
        out: Tensor = list(self.stages().values())[-1](features)
        return out


class BackboneFactory(Protocol):
    """Builds a backbone with a head for so many classes, or without one."""

    def __call__(self, n_classes: int | None = None, *, generator: torch.Generator) -> Backbone: ...


BACKBONES: Registry[BackboneFactory] = Registry("backbone", "redqubit.models")


class PicturesIn(nn.Module):
    """Normalise pictures in [0, 1] as ImageNet's are: (x - mean) / sd per channel; grey is repeated to three channels.

    Its constants are no part of the state dict, whose names stay those of published weights.

    Example:
        >>> normalised = PicturesIn()(torch.full((1, 1, 1, 1), 0.485))  # red's mean, in grey
        >>> normalised.shape, float(normalised[0, 0])
        (torch.Size([1, 3, 1, 1]), 0.0)
    """

    mean: Tensor
    sd: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor(SD)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised pictures (B, 3, H, W) of pictures (B, 1 or 3, H, W)."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise UsageError(
                f"Argument `x` must be pictures (B, 1, H, W) or (B, 3, H, W), but its shape is {tuple(x.shape)}: "
                "reshape it."
            )
        return (x - self.mean) / self.sd  # one channel broadcasts to three


def check_pictures(input_shape: Sequence[int], smallest: int) -> None:
    """Raise a `UsageError` unless an input shape is (1 or 3, H, W) with sides of `smallest` pixels at least."""
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise UsageError(
            f"Argument `input_shape` must be (1, H, W) or (3, H, W) for pictures, but is {tuple(input_shape)}: use a "
            "model for feature vectors, such as `hybrid`."
        )
    if min(input_shape[1:]) < smallest:
        raise UsageError(
            f"Argument `input_shape` must have sides of {smallest} pixels at least for this backbone, but is "
            f"{tuple(input_shape)}: enlarge the pictures."
        )


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name; nothing in it is run.

    Args:
        path: A safetensors file, or one that `torch.save` wrote of a state dict, read with `weights_only`.

    Raises:
        UsageError: when the file is absent or broken, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise UsageError(f"Argument `weights` must be a file of weights, but {path} is not there: check the path.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, " ".join(str(error).split())) from error
    except Exception as error:  # torch names neither what it raises for a broken file nor for a refused object
        raise _unreadable(path, type(error).__name__) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise _unreadable(path, "it holds other things than tensors by name")
    return dict(state)


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"Argument `weights` must be a safetensors file or a saved state dict, but {path} cannot be read as one "
        f"({why}): fetch it again."
    )


def load_pretrained(backbone: Backbone, path: Path) -> None:
    """Load published weights into a backbone, in place.

    A head in the file is left out when the backbone has none, or has another number of classes; the backbone's own
    head then stays as drawn. Everything else must be there, and of the right shape.

    Args:
        backbone: Takes the weights; torchvision's names.
        path: See `read_state`; any floating type.

    Raises:
        UsageError: when the file cannot be read, lacks a tensor, has one too many, or has one of another shape.
    """
    own, found = backbone.state_dict(), read_state(path)
    head = f"{list(backbone.stages())[-1]}."
    fits = {k for k in own if k.startswith(head)} == {k for k in found if k.startswith(head)} and all(
        found[k].shape == own[k].shape for k in own if k.startswith(head)
    )
    if not fits:
        found = {k: v for k, v in found.items() if not k.startswith(head)}
        own = {k: v for k, v in own.items() if not k.startswith(head)}
    # older files do not count batches, and nothing depends on the count
    missing = sorted(k for k in own.keys() - found.keys() if not k.endswith("num_batches_tracked"))
    wrong = [
        *(f"lacks {k}" for k in missing),
        *(f"has {k} too many" for k in sorted(found.keys() - own.keys())),
        *(
            f"has {k} of shape {tuple(found[k].shape)} for {tuple(own[k].shape)}"
            for k in own
            if k in found and found[k].shape != own[k].shape
        ),
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UsageError(
            f"Argument `weights` must fit {type(backbone).__name__}, but {path} {', '.join(wrong[:3])}{more}: "
            "name the file of this backbone."
        )
    backbone.load_state_dict(found, strict=False)
