"""Quantum noise: the network's products run on a noisy device."""

from dataclasses import dataclass

import torch
from torch import nn

from redqubit.data import Dataset
from redqubit.defenses.base import DEFENSES, Defense, spawned
from redqubit.models import quantum_mac
from redqubit.quantum.multiplication import NAIROBI, Device


@DEFENSES.register("quantum_noise")
@dataclass(frozen=True)
class QuantumNoise(Defense):
    """Run every convolution and linear layer as noisy products on qubits; see `redqubit.models.quantum_mac`.

    The offsets of the read-out are calibrated away by default: summed over a few hundred products they leave nothing of
    what a network knows, and chance is no defense.

    Raises:
        UsageError: for a model with layers that cannot be mapped and are not in `leave`.

    Example:
        >>> from redqubit.models import MODELS
        >>> g = torch.Generator().manual_seed(0)
        >>> data = Dataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 2, n_classes=2)
        >>> QuantumNoise(shots=256)(MODELS["cnn"]((1, 8, 8), 2, generator=g), data, generator=g).head
        QuantumProducts((2, 64), 256 shots)

    Reference: Kundu et al., "QNAD: Quantum Noise Injection for Adversarial Defense in Deep Neural Networks", HOST 2024,
        section III.C. Differs: the map from products to circuits, which the paper leaves open.
    """

    shots: int = 1024  # of each product
    calibrate_offset: bool = True  # subtract the known sum of the read-out's offsets
    n_calibration: int = 512  # clean samples for the layers' ranges, drawn at random; all when there are fewer
    leave: tuple[str, ...] = ()  # names of modules that stay classical
    device: Device = NAIROBI

    def repair(self, model: nn.Module, clean: Dataset, generator: torch.Generator) -> nn.Module:
        """Return the network on the device."""
        drawn = torch.randperm(len(clean), generator=generator)[: self.n_calibration].to(clean.x.device)
        return quantum_mac(
            model,
            clean.x[drawn],
            device=self.device,
            shots=self.shots,
            calibrate_offset=self.calibrate_offset,
            leave=self.leave,
            generator=spawned(generator),
        )
