"""Gaussian noise on inputs, weights or activations: the control for any defense by noise."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from redqubit.data import Dataset
from redqubit.defenses.base import DEFENSES, Defense, spawned
from redqubit.errors import UsageError
from redqubit.models.base import evaluating
from redqubit.registry import unknown

Place = Literal["inputs", "weights", "activations"]
Control = Literal["weights", "activations", "logits"]


class AddNoise(nn.Module):
    """x + sigma n with fresh n ~ N(0, 1) in every pass.

    Args:
        sigma: Standard deviation.
        generator: CPU source of the noise.
    """

    def __init__(self, sigma: float, generator: torch.Generator) -> None:
        super().__init__()
        self.sigma, self.generator = sigma, generator

    def extra_repr(self) -> str:
        return f"sigma={self.sigma:.4g}"

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy tensor."""
        return x + self.sigma * torch.randn(x.shape, dtype=x.dtype, generator=self.generator).to(x.device)


class NoisyWeights(nn.Module):
    """A linear layer or convolution whose weights get fresh noise in every pass, the same for all samples of it.

    Args:
        layer: The layer; its bias stays as it is.
        sigma: Standard deviation.
        generator: CPU source of the noise.
    """

    def __init__(self, layer: nn.Module, sigma: float, generator: torch.Generator) -> None:
        super().__init__()
        self.layer, self.noise = layer, AddNoise(sigma, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer makes of `x` with noisy weights."""
        out: Tensor = torch.func.functional_call(self.layer, {"weight": self.noise(self.layer.weight)}, x)
        return out


@DEFENSES.register("gaussian_noise")
@dataclass(frozen=True)
class GaussianNoise(Defense):
    """Add fresh Gaussian noise in every pass: what a defense by any other noise has to beat.

        inputs:       x + sigma n
        weights:      w + sigma rms(w) n, of each linear layer and convolution
        activations:  z + sigma rms(z) n, of the output z of each of them; rms over the clean samples

    Raises:
        UsageError: for an unknown place, or a model without a linear layer or convolution for noise within it.

    Example:
        >>> data = Dataset(torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), n_classes=2)
        >>> GaussianNoise(0.1)(nn.Linear(2, 2), data, generator=torch.Generator())[0]
        AddNoise(sigma=0.1)

    Reference: He, Rakin and Fan, "Parametric noise injection", CVPR 2019, which has noise in these three places.
        Differs: sigma is given, not learned, and the model is not trained under the noise.
    """

    sigma: float = 0.1  # in data space for inputs, else in units of the rms
    on: Place = "inputs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on not in get_args(Place):
            raise unknown("value of `on`", self.on, get_args(Place))

    @torch.no_grad()
    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Put the noise into this model."""
        own = spawned(generator)
        if self.on == "inputs":
            return nn.Sequential(AddNoise(self.sigma, own), model)
        if self.on == "weights":
            sizes = {name: rms(layer.weight) for name, layer in layers(model).items()}
        else:
            inputs = seen(model, list(layers(model)), clean.x)
            sizes = {name: rms(layers(model)[name](x)) for name, x in inputs.items()}
        return with_noise(model, {name: self.sigma * size for name, size in sizes.items()}, self.on, own)


@torch.no_grad()
def equal_power(
    model: nn.Module,
    noisy: nn.Module,
    x: Tensor,
    *,
    on: Control = "logits",
    draws: int = 16,
    generator: torch.Generator,
) -> nn.Module:
    """Return a copy of a model with Gaussian noise of the power that another one's noise has.

    The power is the variance over passes, averaged over samples and entries: of the logits, or of the output of each
    linear layer and convolution, whose own noise alone counts, since each is shown the same input in every pass. There
    the noisy model must have a layer of the same name; on the weights the noise gets the size that gives the output
    this power.

    Args:
        model: The model without noise.
        noisy: The same with any noise.
        x: Samples to measure on, one batch.
        on: Where the Gaussian noise goes.
        draws: Passes.
        generator: CPU source of a seed of the noise.

    Raises:
        UsageError: when nothing in the noisy model is random, or no layer has its name.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> noisy = nn.Sequential(nn.Linear(4, 2), AddNoise(0.5, g))
        >>> control = equal_power(noisy[0], noisy, torch.rand(50, 4), generator=g)
        >>> bool(0.45 < control[1].sigma < 0.55)
        True
    """
    if on not in get_args(Control):
        raise unknown("value of `on`", on, get_args(Control))
    own = spawned(generator)
    with evaluating(noisy):
        if on == "logits":
            sizes = {"": scatter(noisy, x, draws)}
        else:
            there = dict(noisy.named_modules())
            shared = [name for name in layers(model) if name in there]
            inputs = seen(noisy, shared, x)
            sizes = {name: scatter(there[name], z, draws) for name, z in inputs.items()}
            if on == "weights":
                sizes = {name: size / gain(layers(model)[name], inputs[name]) for name, size in sizes.items()}
    if not any(sizes.values()):
        raise UsageError(
            f"Argument `noisy` must be random in its {on}, but two passes of {type(noisy).__name__} are the same in "
            "each layer that `model` has too: pass the model with noise, or on='logits'."
        )
    out = copy.deepcopy(model).eval()
    return nn.Sequential(out, AddNoise(sizes[""], own)) if on == "logits" else with_noise(out, sizes, on, own)


def layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the linear layers and convolutions of a model, by name.

    Raises:
        UsageError: when there is none.
    """
    found = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    if not found:
        raise UsageError(
            f"Argument `model` must have a linear layer or a convolution for noise within it, but "
            f"{type(model).__name__} has none: put noise on the inputs."
        )
    return found


def seen(model: nn.Module, names: list[str], x: Tensor) -> dict[str, Tensor]:
    """Return what parts of a model take in one pass over `x`, by name."""
    inputs: dict[str, Tensor] = {}
    parts = dict(model.named_modules())

    def keep(name: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[name] = args[0]

    handles = [parts[name].register_forward_pre_hook(partial(keep, name)) for name in names]
    model(x)
    for handle in handles:
        handle.remove()
    return inputs


def scatter(part: nn.Module, x: Tensor, draws: int) -> float:
    """Return the standard deviation over passes of what a part makes of `x`, its square averaged over all entries."""
    first = part(x)  # from which the others differ by 0 where nothing is random
    others = torch.stack([part(x) - first for _ in range(draws - 1)])
    return float(torch.cat([torch.zeros_like(first)[None], others]).double().var(0).mean().sqrt())


def gain(layer: nn.Linear | nn.Conv2d, x: Tensor) -> float:
    """Return the sd of the outputs of a layer for an sd of 1 of its weights: the root mean sum of squared inputs."""
    ones = {"weight": torch.ones_like(layer.weight)}
    if layer.bias is not None:
        ones["bias"] = torch.zeros_like(layer.bias)
    return float(torch.func.functional_call(layer, ones, x.square()).mean().sqrt())


def with_noise(model: nn.Module, sigmas: Mapping[str, float], on: str, generator: torch.Generator) -> nn.Module:
    """Put noise of these sizes on the weights or behind the outputs of named layers of this model."""
    for name, sigma in sigmas.items():
        layer = model.get_submodule(name)
        noisy = (
            NoisyWeights(layer, sigma, generator)
            if on == "weights"
            else nn.Sequential(layer, AddNoise(sigma, generator))
        ).eval()
        if not name:
            return noisy
        above, _, last = name.rpartition(".")
        setattr(model.get_submodule(above), last, noisy)
    return model


def rms(values: Tensor) -> float:
    """Return the root of the mean square."""
    return float(values.detach().square().mean().sqrt())
