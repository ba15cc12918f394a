"""Crosstalk injection: pairs of CX beside the weights that matter most, on a noisy device."""

from dataclasses import dataclass

import torch
from torch import nn

from redqubit.data import Dataset
from redqubit.defenses.base import DEFENSES, Defense, spawned
from redqubit.models import InjectedCrosstalk, quantum_mac
from redqubit.models.quantum_products import Selection, Variant
from redqubit.quantum.multiplication import NAIROBI, Device


@DEFENSES.register("crosstalk")
@dataclass(frozen=True)
class CrosstalkInjection(Defense):
    """Run the network as noisy products on qubits, and disturb some weights by crosstalk; the paper's whole QNAD.

    `fraction` of all weights, those of greatest |dL/dw| on clean samples, get `pairs` of CX on the idle qubits beside
    theirs. The intrinsic noise is that of `QuantumNoise`, offsets calibrated away by default.

    Raises:
        UsageError: for a fraction outside [0, 1], a ratio below 1 or without signal, an unknown selection or variant,
            or a model with layers that cannot be mapped and are not in `leave`.

    Example:
        >>> from redqubit.models import MODELS
        >>> g = torch.Generator().manual_seed(0)
        >>> data = Dataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 2, n_classes=2)
        >>> defense = CrosstalkInjection(0.1, selection="per-layer")
        >>> defense(MODELS["cnn"]((1, 8, 8), 2, generator=g), data, generator=g).head
        QuantumProducts((2, 64), 1024 shots, 13 weights with crosstalk)

    Reference: Kundu et al., "QNAD: Quantum Noise Injection for Adversarial Defense in Deep Neural Networks", HOST 2024,
        section III.D and algorithm 1. Differs: how crosstalk acts on a weight, which the paper leaves open.
    """

    fraction: float = 0.05  # share of all mapped weights, in [0, 1]
    pairs: int = 1  # of CX
    selection: Selection = "gradient"
    ratio: float = 1.0  # error of simultaneous over isolated CX
    variant: Variant = "static"
    shots: int = 1024  # of each product
    calibrate_offset: bool = True  # subtract the known sum of the read-out's offsets
    n_calibration: int = 512  # clean samples for ranges and gradients, drawn at random; all when there are fewer
    leave: tuple[str, ...] = ()  # names of modules that stay classical
    device: Device = NAIROBI

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.injected  # which checks the fields

    @property
    def injected(self) -> InjectedCrosstalk:
        """What disturbs the weights."""
        return InjectedCrosstalk(self.fraction, self.pairs, self.selection, self.ratio, self.variant)

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Return the network on the device, with crosstalk."""
        drawn = torch.randperm(len(clean), generator=generator)[: self.n_calibration].to(clean.x.device)
        return quantum_mac(
            model,
            clean.x[drawn],
            calibration_y=clean.y[drawn],
            device=self.device,
            shots=self.shots,
            crosstalk=self.injected,
            calibrate_offset=self.calibrate_offset,
            leave=self.leave,
            generator=spawned(generator),
        )
