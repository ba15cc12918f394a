"""Grad-CAM: where in a picture a model looks, and how far a trigger moves that."""

import copy

import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.registry import unknown

Box = tuple[int, int, int, int]  # top, left, bottom, right, in pixels; the last two are outside


def grad_cam(model: nn.Module, x: Tensor, y: Tensor, *, layer: str, batch_size: int = 64) -> Tensor:
    """Return a heat map of what speaks for the class y in each picture.

    L = max(0, sum_k w_k A_k), w_k = mean over places of d logit_y / d A_k, A_k the channels of a layer's output;
    brought to the picture's size by bilinear interpolation and divided by its maximum. It is 0 where nothing speaks
    for the class.

    Args:
        model: Maps (B, C, H, W) to logits (B, n_classes); left as it was.
        x: Pictures in [0, 1], (N, C, H, W).
        y: The class to explain for each, such as the predicted one, int64, (N,).
        layer: Name of the layer, as in `model.named_modules()`: for a ResNet the last block, "layer4.1".
        batch_size: Pictures per pass.

    Returns:
        Maps in [0, 1], (N, H, W).

    Raises:
        UsageError: when the layer is unknown or has no places, or a label is no class of the model.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(128, 3))
        >>> grad_cam(model, torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64), layer="0").shape
        torch.Size([5, 8, 8])

    Reference: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        ICCV 2017, section 3; computed by captum.
    """
    frozen = copy.deepcopy(model).eval().requires_grad_(False)  # captum's hooks stay with the copy
    layers = dict(frozen.named_modules())
    if layer not in layers:
        raise unknown("layer", layer, [name for name in layers if name])
    if x.ndim != 4 or len(x) == 0 or y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise UsageError(
            f"Argument `x` must hold pictures (N, C, H, W) and `y` a label for each, but the shapes are "
            f"{tuple(x.shape)} and {tuple(y.shape)}, labels {y.dtype}: pass class indices."
        )
    with torch.no_grad():
        n_classes = frozen(x[:1]).shape[1]
    if int(y.min()) < 0 or int(y.max()) >= n_classes:
        raise UsageError(
            f"Argument `y` must lie in 0..{n_classes - 1}, but spans {int(y.min())} to {int(y.max())}: pass classes "
            "of the model."
        )
    cam = LayerGradCam(frozen, layers[layer])
    maps = []
    for pictures, labels in zip(x.detach().split(batch_size), y.split(batch_size), strict=True):
        heat = cam.attribute(pictures.clone().requires_grad_(), labels, relu_attributions=True).detach()
        if heat.ndim != 4:
            raise UsageError(
                f"Argument `layer` must name a layer with places (B, K, H, W), but the output of `{layer}` has "
                f"{heat.ndim} axes: take the last convolution or block."
            )
        maps.append(LayerAttribution.interpolate(heat, tuple(x.shape[2:]), "bilinear")[:, 0])
    heat = torch.cat(maps)
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)


def mass_inside(cam: Tensor, box: Box) -> Tensor:
    """Return the share of each map's mass inside a box, (N,); NaN for a map that is 0 all over.

    Args:
        cam: Maps, (N, H, W), not negative.
        box: (top, left, bottom, right) in pixels, inside the map; bottom and right are the first outside the box.

    Raises:
        UsageError: when the box is empty or not inside the map.

    Example:
        >>> mass_inside(torch.ones(1, 4, 4), (2, 2, 4, 4))
        tensor([0.2500])
    """
    top, left, bottom, right = box
    if not (0 <= top < bottom <= cam.shape[1] and 0 <= left < right <= cam.shape[2]):
        raise UsageError(
            f"Argument `box` must be (top, left, bottom, right) inside {cam.shape[1]} x {cam.shape[2]} pixels, but is "
            f"{box}: bottom and right are the first outside the box."
        )
    return cam[:, top:bottom, left:right].sum((1, 2)) / cam.sum((1, 2))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine between pairs of maps, (N,): 1 where both look at the same places, 0 for a map of zeros.

    Args:
        a: Maps, (N, H, W), as of clean pictures.
        b: The same for the other pictures, as with a trigger.

    Raises:
        UsageError: when the shapes differ.

    Example:
        >>> cosine(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]]))
        tensor([0.7071])
    """
    if a.shape != b.shape:
        raise UsageError(f"Argument `b` must have the shape {tuple(a.shape)} of `a`, but has {tuple(b.shape)}.")
    return nn.functional.cosine_similarity(a.flatten(1), b.flatten(1), dim=1)
