"""Evasion attacks: perturb a test input within an L-infinity ball so that the model errs."""

from redqubit.evasion.base import ATTACKS, EvasionAttack

__all__ = ["ATTACKS", "EvasionAttack"]
