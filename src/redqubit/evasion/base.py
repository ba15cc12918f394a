"""What every evasion attack shares: the call, the checks of its arguments, projection, the input gradient."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from redqubit.registry import Registry

ATTACKS: Registry[type["EvasionAttack"]] = Registry("evasion attack", "redqubit.evasion")


@dataclass(frozen=True)
class EvasionAttack(ABC):
    """An L-infinity attack on inputs in [0, 1]; `attack(model, x, y, generator=g)` returns x_adv."""

    eps: float = 0.1  # radius of the L-infinity ball, in data space

    @abstractmethod
    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Return x_adv; the arguments are checked and the model is in evaluation mode."""
