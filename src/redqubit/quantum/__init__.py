"""Circuits and their noise as data, and their batched, differentiable simulation."""

from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Amplitude, Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.measure import Observable, Probabilities, expectation_z, probabilities
from redqubit.quantum.noise import Crosstalk, NoiseModel, OverRotation, Rule, with_noise
from redqubit.quantum.simulation.state_vector import state

__all__ = [
    "Amplitude",
    "Angle",
    "Channel",
    "Circuit",
    "Crosstalk",
    "Gate",
    "Input",
    "NoiseModel",
    "Observable",
    "OverRotation",
    "Probabilities",
    "Rule",
    "Weight",
    "expectation_z",
    "probabilities",
    "state",
    "with_noise",
]
