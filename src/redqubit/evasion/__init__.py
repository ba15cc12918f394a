"""Evasion attacks: perturb a test input within an L-infinity ball so that the model errs."""

from redqubit.evasion.base import ATTACKS, EvasionAttack, GradientAttack, check_model, input_gradient
from redqubit.evasion.fgsm import FGSM
from redqubit.evasion.mim import MIM
from redqubit.evasion.pgd import PGD
from redqubit.evasion.random_noise import RandomNoise
from redqubit.evasion.square import Square
from redqubit.evasion.transfer import Transfer, transfer_matrix

__all__ = [
    "ATTACKS",
    "FGSM",
    "MIM",
    "PGD",
    "EvasionAttack",
    "GradientAttack",
    "RandomNoise",
    "Square",
    "Transfer",
    "check_model",
    "input_gradient",
    "transfer_matrix",
]
