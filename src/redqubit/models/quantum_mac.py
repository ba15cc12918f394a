"""A classical network whose sums of products run on a noisy quantum device."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.errors import UsageError
from redqubit.models.base import evaluating
from redqubit.models.quantum_products import InjectedCrosstalk, Mapped, QuantumProducts
from redqubit.quantum.gradients import check_shots
from redqubit.quantum.multiplication import NAIROBI, Device
from redqubit.registry import unknown

# Layers with weights of their own that work element by element, and so stay classical
ELEMENTWISE = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.GroupNorm, nn.LayerNorm, nn.PReLU),
)
BATCH = 128  # samples per pass of the calibration


def quantum_mac(
    model: nn.Module,
    calibration_x: Tensor,
    *,
    calibration_y: Tensor | None = None,
    device: Device = NAIROBI,
    shots: int | None = 1024,
    crosstalk: InjectedCrosstalk | None = None,
    calibrate_offset: bool = False,
    leave: Sequence[str] = (),
    generator: torch.Generator,
) -> nn.Module:
    """Return a copy of a network in which every Conv2d and Linear is a `QuantumProducts`.

    Biases, activations, pooling and normalisation stay classical. Gradients reach the inputs through mean and noise;
    weights are folded into constants, so that training comes before. The copy draws one noise per pass: attack it by
    expectation over transformation, `PGD(eps, draws=32)(noisy, x, y, generator=g)`, and evaluate several passes.

    Args:
        model: Maps (B, ...) to logits; left as it was.
        calibration_x: Clean inputs (N, ...), from which each layer's range max|x| is taken, and gradients.
        calibration_y: Their labels (N,), for selection by gradient.
        device: Whose noise there is.
        shots: Of each product; None for exact means.
        crosstalk: What disturbs weights; none when None.
        calibrate_offset: Whether the offsets of the read-out, which a large sum adds up, are subtracted.
        leave: Names of modules that stay classical, with all that is in them.
        generator: Source of a random selection, and then of the noise; the copy keeps it.

    Raises:
        UsageError: for layers that cannot be mapped and are not left, weights that are not finite, calibration data
            that the model does not take, labels that are missing or no classes, or shots below 1.

    Example:
        >>> from redqubit.models import MODELS
        >>> g = torch.Generator().manual_seed(0)
        >>> net, x = MODELS["cnn"]((1, 8, 8), 10, generator=g), torch.rand(32, 1, 8, 8, generator=g)
        >>> noisy = quantum_mac(net, x, generator=g)
        >>> noisy.head
        QuantumProducts((10, 64), 1024 shots)
        >>> torch.equal(noisy(x), noisy(x))
        False

    Reference: Kundu et al., "QNAD: Quantum Noise Injection for Adversarial Defense in Deep Neural Networks", HOST 2024.
        Differs: the paper leaves open how a product becomes a circuit, and how crosstalk acts; both are ours.
    """
    if shots is not None:
        check_shots(shots)
    layers = _mappable(model, leave)
    _check_weights(model)
    _check_samples(calibration_x)
    out = copy.deepcopy(model)
    own = {name: part for name, part in out.named_modules() if name in layers and isinstance(part, Mapped)}
    with evaluating(out):
        limits = _limits(out, own, calibration_x)
        masks: Mapping[str, Tensor | None] = dict.fromkeys(own)
        if crosstalk is not None:
            masks = _selected(out, own, calibration_x, calibration_y, crosstalk, generator)
    new = {
        own[name]: QuantumProducts(
            own[name],
            limits[name],
            device,
            shots=shots,
            crosstalk=crosstalk,
            disturbed=masks[name],
            calibrate_offset=calibrate_offset,
            generator=generator,
        )
        for name in own
    }
    for name, part in list(out.named_modules(remove_duplicate=False)):
        if part in new:
            parent, _, last = name.rpartition(".")
            if not last:
                return new[part]
            setattr(out.get_submodule(parent), last, new[part])
    return out


def _mappable(model: nn.Module, leave: Sequence[str]) -> list[str]:
    """Return the names of the layers to map."""
    known = dict(model.named_modules())
    for name in leave:
        if name not in known:
            raise unknown("module", name, known)
    left = {id(part) for name in leave for part in known[name].modules()}
    layers, others = [], []
    for name, part in known.items():
        if id(part) in left or isinstance(part, ELEMENTWISE):
            continue
        if type(part) is nn.Linear or (type(part) is nn.Conv2d and part.padding_mode == "zeros"):
            layers.append(name)
        elif next(part.parameters(recurse=False), None) is not None:
            others.append(f"{name or 'the model itself'} ({type(part).__name__})")
    if others:
        raise UsageError(
            f"Argument `model` must have no weights but those of Conv2d (padded by zeros) and Linear, but has "
            f"{', '.join(others)}: name them in `leave` to keep them classical."
        )
    if not layers:
        raise UsageError(
            f"Argument `model` must have a Conv2d or Linear to map, but {type(model).__name__} has none that is not "
            "left classical."
        )
    return layers


def _check_weights(model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise UsageError(
                f"Argument `model` must have finite weights, but {name} holds NaN or infinity: train it again."
            )


def _check_samples(x: Tensor) -> None:
    if x.ndim < 2 or not x.numel() or not x.is_floating_point() or not x.isfinite().all():
        raise UsageError(
            f"Argument `calibration_x` must be finite inputs of the model, at least one, but is {x.dtype} "
            f"{tuple(x.shape)} or holds NaN: pass clean training samples."
        )


@torch.no_grad()
def _limits(model: nn.Module, layers: Mapping[str, Mapped], x: Tensor) -> dict[str, float]:
    """Return max|input| of each layer over the samples."""
    found: dict[str, float] = {}

    def saw(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[name] = max(found.get(name, 0.0), float(inputs[0].abs().max()))

    handles = [layer.register_forward_pre_hook(partial(saw, name)) for name, layer in layers.items()]
    try:
        for batch in x.split(BATCH):
            model(batch)
    except RuntimeError as error:
        raise UsageError(
            f"Argument `calibration_x` must be inputs of the model, but {type(model).__name__} does not take "
            f"{x.dtype} samples of shape {tuple(x.shape[1:])} on {x.device}: pass some of the training set."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    idle = [name for name in layers if name not in found]
    if idle:
        raise UsageError(
            f"Argument `model` must run each layer that is mapped, but does not run {', '.join(idle)}: name it in "
            "`leave`."
        )
    return found


def _selected(
    model: nn.Module,
    layers: Mapping[str, Mapped],
    x: Tensor,
    y: Tensor | None,
    crosstalk: InjectedCrosstalk,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return which weights of each layer are disturbed."""
    weights = [layer.weight for layer in layers.values()]
    sizes = [w.numel() for w in weights]
    if crosstalk.selection == "random":
        scores = torch.rand(sum(sizes), generator=generator, device=generator.device).split(sizes)
    else:
        gradients = _gradients(model, weights, x, y)
        scores = tuple(g.flatten() if crosstalk.selection != "lowest" else -g.flatten() for g in gradients)
    ranked = scores if crosstalk.selection == "per-layer" else (torch.cat(scores),)
    chosen = torch.cat([_top(part, crosstalk.fraction) for part in ranked]).split(sizes)
    return {name: c.view_as(w).to(w.device) for name, c, w in zip(layers, chosen, weights, strict=True)}


def _top(scores: Tensor, fraction: float) -> Tensor:
    """Return which of the scores are among that share of the greatest, bool."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen[scores.topk(round(fraction * len(scores))).indices] = True
    return chosen


def _gradients(model: nn.Module, weights: Sequence[Tensor], x: Tensor, y: Tensor | None) -> list[Tensor]:
    """Return |dL/dw| of the mean cross-entropy over all samples."""
    if y is None or y.shape != (len(x),) or y.dtype != torch.int64:
        raise UsageError(
            f"Argument `calibration_y` must be the {len(x)} labels of `calibration_x`, int64, for a selection by "
            f"gradient, but is {'absent' if y is None else f'{y.dtype} {tuple(y.shape)}'}: pass them, or select random."
        )
    total = [torch.zeros_like(w) for w in weights]
    for w in weights:
        w.requires_grad_(True)
    for samples, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
        with torch.enable_grad():
            logits = model(samples)
            if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
                raise UsageError(
                    f"Argument `calibration_y` must hold classes 0 to {logits.shape[1] - 1} of the model, but spans "
                    f"{int(y.min())} to {int(y.max())}: number them so."
                )
            loss = F.cross_entropy(logits, labels, reduction="sum") / len(x)
        for so_far, g in zip(total, torch.autograd.grad(loss, weights), strict=True):
            so_far += g
    return [g.abs() for g in total]
