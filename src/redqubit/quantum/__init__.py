"""Circuits as data, and their exact, batched, differentiable simulation."""

from redqubit.quantum.circuit import Amplitude, Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.measure import expectation_z, probabilities
from redqubit.quantum.simulate import state

__all__ = [
    "Amplitude",
    "Angle",
    "Circuit",
    "Gate",
    "Input",
    "Weight",
    "expectation_z",
    "probabilities",
    "state",
]
