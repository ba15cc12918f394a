"""Evasion attacks: perturb a test input within an L-infinity ball so that the model errs."""

from redqubit.evasion.base import ATTACKS, EvasionAttack, GradientAttack, check_model, input_gradient
from redqubit.evasion.fgsm import FGSM
from redqubit.evasion.pgd import PGD

__all__ = ["ATTACKS", "FGSM", "PGD", "EvasionAttack", "GradientAttack", "check_model", "input_gradient"]
