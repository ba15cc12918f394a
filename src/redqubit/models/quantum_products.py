"""Sums of products on noisy qubits, as a layer."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.errors import UsageError
from redqubit.quantum.multiplication import Device
from redqubit.registry import unknown

Selection = Literal["gradient", "random", "lowest", "per-layer"]
Variant = Literal["static", "coherent"]
Mapped = nn.Conv2d | nn.Linear


@dataclass(frozen=True)
class InjectedCrosstalk:
    """Pairs of CX beside the qubits of some weights, to disturb them.

    A pair of CX is the identity: it acts because its hub, in |+>, couples by ZZ to the qubit beside it while the CX
    run. "static": every shot has its own sign of the turn, so that the product shrinks by cos(theta). "coherent": the
    sign is one for all shots of a product, so that the product scatters by sin(theta) as well.

    Raises:
        UsageError: for a fraction outside [0, 1], pairs below 0, a ratio below 1 or an unknown name.
    """

    fraction: float  # share of all mapped weights, in [0, 1]
    pairs: int = 1  # pairs of CX beside each
    selection: Selection = "gradient"  # "gradient": greatest |dL/dw| of all weights; "per-layer": of each layer;
    # "lowest": least of all; "random"
    ratio: float = 1.0  # error of simultaneous over isolated CX: up to 11 on devices; 1 leaves the turn alone
    variant: Variant = "static"

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise UsageError(f"Argument `fraction` must lie in [0, 1], but is {self.fraction}.")
        if not isinstance(self.pairs, int) or self.pairs < 0:
            raise UsageError(f"Argument `pairs` must be an integer of at least 0, but is {self.pairs!r}.")
        if not 1 <= self.ratio < float("inf"):
            raise UsageError(f"Argument `ratio` must be 1 or more, but is {self.ratio}.")
        if self.selection not in get_args(Selection):
            raise unknown("value of `selection`", self.selection, get_args(Selection))
        if self.variant not in get_args(Variant):
            raise unknown("value of `variant`", self.variant, get_args(Variant))


class QuantumProducts(nn.Module):
    """Sums of products x_j w_j on noisy qubits, in place of a convolution or a linear layer.

    With s = max|x| max|w|, gain g_j, offset b_j and S shots, each product is read as a mean of S signs, and

        E[out]   = bias + sum_j (g_j x_j w_j + s b_j)
        Var[out] = sum_j (s^2 - (g_j x_j w_j + s b_j)^2) / S

    exactly; the sum is drawn from the normal distribution with these moments, afresh in every pass. Inputs beyond
    max|x| of the calibration are cut to it, as they have no angle, and get no gradient. Zeros of a padding are products
    like any other.

    Args:
        layer: What it stands for; not changed.
        limit: max|x|.
        device: Whose qubits multiply: product j of a sum on qubit j modulo their number.
        shots: S; None for exact means.
        crosstalk: What disturbs weights.
        disturbed: Which weights, bool, shape of the weight.
        calibrate_offset: Whether the known sum of offsets is subtracted.
        generator: Source of the noise; on another device than the CPU it draws faster there, but other numbers.

    Attributes:
        is_random: Whether two passes over the same inputs differ.
        draws: Draws of the noise per pass, 1 unless set: outputs (draws * B, ...), of which each draw has B in order.
        n_disturbed: Number of weights with crosstalk.
    """

    limit: Tensor
    kernel: Tensor
    bias: Tensor
    spread: Tensor
    constant: Tensor

    def __init__(
        self,
        layer: Mapped,
        limit: float,
        device: Device,
        *,
        shots: int | None,
        crosstalk: InjectedCrosstalk | None,
        disturbed: Tensor | None,
        calibrate_offset: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.multiply, self.with_squares = _operations(layer)
        self.shots, self.generator, self.draws = shots, generator, 1
        self.n_disturbed = 0 if disturbed is None else int(disturbed.sum())
        self.is_random = shots is not None
        w = layer.weight.detach().double()
        fan_in = w[0].numel()
        place = (torch.arange(fan_in) % len(device.qubits)).view(w.shape[1:])

        def figures(of: Callable[[int], float]) -> Tensor:
            return torch.tensor([of(q) for q in range(len(device.qubits))], dtype=torch.float64)[place].to(w.device)

        gain = figures(lambda q: device.qubits[q].gain(device.sx_ns)).expand(w.shape)
        offset = figures(lambda q: device.qubits[q].offset)
        scatter = torch.zeros_like(w)
        if crosstalk is not None and disturbed is not None:
            pairs, ratio = crosstalk.pairs, crosstalk.ratio
            kept = torch.where(disturbed, gain * figures(lambda q: device.qubits[q].kept(pairs, ratio)), gain)
            turn = figures(lambda q: device.qubits[q].turn(pairs)) * disturbed
            gain = kept * turn.cos()
            if crosstalk.variant == "coherent":
                scatter = (kept * turn.sin()).square() * (w.abs().max() ** 2 - w.square())
                self.is_random |= bool(scatter.any())
        scale = limit * float(w.abs().max())
        per_shot = 0.0 if shots is None else 1 / shots
        constants = {
            "limit": w.new_tensor(limit),
            "kernel": gain * w,
            "bias": w.new_zeros(len(w)) if layer.bias is None else layer.bias.detach().double(),
            "spread": torch.cat(  # by which x and x^2 enter the variance
                [-2 * per_shot * scale * offset * gain * w, (1 - per_shot) * scatter - per_shot * (gain * w).square()],
                1,
            ),
            "constant": (per_shot * scale**2 * (1 - offset.square()).sum()).expand(len(w)),
        }
        if not calibrate_offset:
            constants["bias"] = constants["bias"] + scale * offset.sum()
        for name, value in constants.items():
            self.register_buffer(name, value.to(layer.weight).contiguous())

    def extra_repr(self) -> str:
        rest = f", {self.n_disturbed} weights with crosstalk" if self.n_disturbed else ""
        return f"{tuple(self.kernel.shape)}, {self.shots} shots{rest}"

    def forward(self, x: Tensor) -> Tensor:
        """Return one draw of the outputs, of which the layer that it stands for has the shape."""
        x = x.clamp(-self.limit, self.limit)
        mean = self.multiply(x, self.kernel, self.bias)
        if not self.is_random:
            return mean
        # in place: at these sizes memory costs more than arithmetic
        variance = self.multiply(self.with_squares(x), self.spread, self.constant)
        # above 0 but for rounding, and the slope of the root must stay finite
        sd = variance.clamp_(min=torch.finfo(mean.dtype).tiny).sqrt_()
        shape = (self.draws, *mean.shape)
        noise = torch.randn(shape, dtype=mean.dtype, generator=self.generator, device=self.generator.device)
        return torch.addcmul(mean, sd, noise.to(mean.device)).flatten(0, 1)


def _operations(
    layer: Mapped,
) -> tuple[Callable[[Tensor, Tensor, Tensor | None], Tensor], Callable[[Tensor], Tensor]]:
    """Return the layer as a function of input, weight and bias, and what puts squares behind the inputs of each sum."""
    if isinstance(layer, nn.Linear):
        return F.linear, _features_with_squares
    multiply = partial(
        F.conv2d, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups
    )
    return multiply, partial(_channels_with_squares, layer.groups)


def _features_with_squares(x: Tensor) -> Tensor:
    return torch.cat([x, x.square()], -1)


def _channels_with_squares(groups: int, x: Tensor) -> Tensor:
    x = x.unflatten(-3, (groups, -1))  # channels to groups and the channels of each
    return torch.cat([x, x.square()], -3).flatten(-4, -3)
