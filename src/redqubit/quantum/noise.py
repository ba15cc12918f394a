"""Noise as data: which channel follows which gate on which wires, and models of three devices."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from redqubit.errors import UsageError
from redqubit.quantum.channels import CHANNELS, Channel
from redqubit.quantum.circuit import SIGNATURES, Circuit, Gate, Input, Weight
from redqubit.registry import unknown

Place = Literal["each", "gate", "circuit"]
GATES = (*SIGNATURES, "Unitary", "Amplitude")  # what a rule may name; "Amplitude" is an amplitude encoding


@dataclass(frozen=True, slots=True)
class Rule:
    """Channels, or fixed gates, that follow each gate that matches.

    Example:
        >>> crosstalk = Rule((Gate("IsingZZ", (1, 2), (0.1,)),), gates=("CX",), wires=((0, 1),), place="circuit")
        >>> print(with_noise(Circuit(3, (Gate("CX", (0, 1)),)), NoiseModel((crosstalk,))))
        0: ─●─────────
        1: ─X─ZZ(0.1)─
        2: ───ZZ(0.1)─
    """

    after: tuple[Channel | Gate, ...]
    gates: tuple[str, ...] = ()  # names of gates, any when empty
    wires: tuple[tuple[int, ...], ...] = ()  # wires of gates, in their order; any when empty
    n_wires: int | None = None  # how many wires the gate must have
    place: Place = "each"  # wires of `after`: "each" puts (0,) on every wire of the gate, "gate" counts within the
    # gate, "circuit" names wires of the circuit

    def __post_init__(self) -> None:
        if self.place not in get_args(Place):
            raise unknown("value of `place`", self.place, get_args(Place))
        for name in self.gates:
            if name not in GATES:
                raise unknown("gate", name, GATES)
        if self.place == "each" and any(item.wires != (0,) for item in self.after):
            raise UsageError('Argument `after` must act on wires (0,) when `place` is "each".')
        if any(isinstance(a, Input | Weight) for g in self.after if isinstance(g, Gate) for a in g.angles):
            raise UsageError("Argument `after` must hold gates whose angles are numbers.")

    def matches(self, name: str, wires: tuple[int, ...]) -> bool:
        """Tell whether a gate of this name on these wires is followed by `after`."""
        return (
            (not self.gates or name in self.gates)
            and (not self.wires or wires in self.wires)
            and (self.n_wires is None or len(wires) == self.n_wires)
        )

    def following(self, wires: tuple[int, ...]) -> Iterator[Channel | Gate]:
        """Yield what follows a gate that matches."""
        for item in self.after:
            if self.place == "circuit":
                yield item
            elif self.place == "each":
                yield from (replace(item, wires=(w,)) for w in wires)
            elif max(item.wires) < len(wires):
                yield replace(item, wires=tuple(wires[w] for w in item.wires))
            else:
                raise UsageError(f"A rule puts noise on wire {max(item.wires)} of a gate that has {len(wires)} wires.")


@dataclass(frozen=True, slots=True)
class OverRotation:
    """A coherent error: every angle t of the gates named (of all when empty) becomes (1 + scale) t + offset."""

    scale: float = 0.0
    offset: float = 0.0  # radians
    gates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.gates:
            if name not in GATES:
                raise unknown("gate", name, GATES)


@dataclass(frozen=True, slots=True)
class Crosstalk:
    """ZZ crosstalk: a gate on two or more wires, one of them in `pair`, turns the pair by exp(-i angle ZZ / 2).

    A gate that acts on both wires of the pair drives it on purpose and is left alone.

    Example:
        >>> model = NoiseModel((Crosstalk((1, 2), 0.1),))
        >>> with_noise(Circuit(3, (Gate("CX", (0, 1)), Gate("CX", (1, 2)))), model).counts
        {'CX': 2, 'IsingZZ': 1}
    """

    pair: tuple[int, int]
    angle: float  # radians

    def matches(self, name: str, wires: tuple[int, ...]) -> bool:
        """Tell whether a gate on these wires disturbs the pair."""
        return name != "Amplitude" and len(wires) > 1 and len(set(wires) & set(self.pair)) == 1

    def following(self, wires: tuple[int, ...]) -> Iterator[Channel | Gate]:
        """Yield the turn."""
        yield Gate("IsingZZ", self.pair, (self.angle,))


@dataclass(frozen=True)
class NoiseModel:
    """What goes wrong in a circuit.

    Attributes:
        rules: Apply in this order after every gate; an `OverRotation` changes the gate itself.
        readout: The probabilities to read 1 for 0, and 0 for 1: one pair for all wires, or one for each wire.

    Example:
        >>> model = NoiseModel.uniform(Channel("Depolarizing", (0,), (0.05,)))
        >>> print(with_noise(Circuit(1, (Gate("H", (0,)),)), model))
        0: ─H─[D,0.05]─
    """

    rules: tuple[Rule | Crosstalk | OverRotation, ...] = ()
    readout: tuple[tuple[float, float], ...] = ()

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of all rules, on the wires that the rules give them."""
        return tuple(c for r in self.rules if isinstance(r, Rule) for c in r.after if isinstance(c, Channel))

    @classmethod
    def uniform(cls, *channels: Channel, readout: tuple[float, float] | None = None) -> "NoiseModel":
        """Return the model that puts one-wire channels, given on wire 0, on every wire of every gate."""
        return cls((Rule(channels),), () if readout is None else (readout,))

    @classmethod
    def from_qiskit(cls, source: Any) -> "NoiseModel":
        """Return the noise of a Qiskit backend, fake or real, or of a noise model of Qiskit Aer.

        Its channels follow the native gates of the device on the device's wires: run it on circuits made of these, such
        as `redqubit.quantum.qiskit.on_backend` makes.
        """
        from redqubit.quantum.qiskit import noise_from_qiskit

        return noise_from_qiskit(source)


def with_noise(circuit: Circuit, model: NoiseModel) -> Circuit:
    """Return the circuit with the channels, crosstalk, over-rotations and read-out errors of a noise model.

    An amplitude encoding counts as one gate on all wires. Wires that a gate does not act on get nothing from it, unless
    a rule of place "circuit" names them.

    Raises:
        UsageError: when the model has read-out errors for another number of wires, or names wires beyond the circuit.
    """
    if len(model.readout) not in (0, 1, circuit.n_qubits):
        raise UsageError(
            f"Argument `model` must have read-out errors for {circuit.n_qubits} wires or one pair for all, but has "
            f"{len(model.readout)}."
        )
    if circuit.readout and model.readout:
        raise UsageError("Argument `circuit` must not have read-out errors yet, since the model brings its own.")
    every = tuple(range(circuit.n_qubits))
    gates: list[Gate | Channel] = []
    if circuit.initial is not None:
        gates += _following(model, "Amplitude", every)
    for gate in circuit.gates:
        if isinstance(gate, Channel):
            gates.append(gate)
            continue
        turned = gate
        for rule in model.rules:
            if isinstance(rule, OverRotation) and (not rule.gates or gate.name in rule.gates):
                angles = tuple(a * (1 + rule.scale) + rule.offset for a in turned.angles)
                turned = replace(turned, angles=angles)
        gates += [turned, *_following(model, gate.name, gate.wires)]
    readout = model.readout * circuit.n_qubits if len(model.readout) == 1 else model.readout
    return replace(circuit, gates=tuple(gates), readout=readout or circuit.readout)


def without_noise(circuit: Circuit) -> Circuit:
    """Return the gates of a circuit without its channels and read-out errors; coherent errors stay."""
    return replace(circuit, gates=tuple(g for g in circuit.gates if isinstance(g, Gate)), readout=())


def _following(model: NoiseModel, name: str, wires: tuple[int, ...]) -> list[Channel | Gate]:
    rules = (r for r in model.rules if isinstance(r, Rule | Crosstalk) and r.matches(name, wires))
    return [item for rule in rules for item in rule.following(wires)]


def quid_noise(p: float = 0.05) -> NoiseModel:
    """Return amplitude damping, then depolarizing, of strength p on each wire of every gate.

    Reference: Kundu and Ghosh, "Adversarial Data Poisoning Attacks on Quantum Machine Learning in the NISQ Era" (2024),
        with p = 0.05, in table 3 also 0.1; the order of the two channels is not given there.
    """
    return NoiseModel.uniform(Channel("AmplitudeDamping", (0,), (p,)), Channel("Depolarizing", (0,), (p,)))


@dataclass(frozen=True)
class Calibration:
    """Median figures of a device. Times in microseconds, but gate times in nanoseconds."""

    t1: float
    t2: float
    readout_error: float
    one_qubit_error: float  # average infidelity of SX
    one_qubit_ns: float
    two_qubit_error: float  # of CX or ECR
    two_qubit_ns: float
    snapshot: str


# From the fake backends of qiskit-ibm-runtime 0.51
DEVICES: Mapping[str, Calibration] = {
    "ibm_nairobi": Calibration(87.27, 106.13, 0.0223, 0.000396, 35.56, 0.0078, 309.35, "FakeNairobiV2, 2024-05-27"),
    "ibm_kyiv": Calibration(287.1, 118.1, 0.0127, 0.0002517, 49.8, 0.01172, 561.8, "FakeKyiv, 2025-02-26"),
    "ibm_brisbane": Calibration(231.95, 150.04, 0.02002, 0.0002426, 60.0, 0.00772, 660.0, "FakeBrisbane, 2025-02-26"),
}
# Native gates that one gate of ours takes: turns about Z are changes of frame and cost nothing
_ONE_QUBIT_COST = {"H": 2, "RX": 2, "RY": 2, "Rot": 2, "X": 1, "Y": 1}
_TWO_QUBIT_COST = {
    "CX": 1, "CY": 1, "CZ": 1, "SWAP": 3, "CP": 2, "CRX": 2, "CRY": 2, "CRZ": 2, "IsingXX": 2, "IsingYY": 2,
    "IsingZZ": 2,
}  # fmt: skip


def device(name: str) -> NoiseModel:
    """Return the noise of an IBM device whose qubits and edges all have its median figures.

    Each native gate is followed by thermal relaxation for its duration and by depolarizing topped up to the reported
    error; a read-out flips with the reported probability either way. H, RX and RY take two SX, a controlled rotation
    two two-qubit gates, Z, S, T, P and RZ nothing, and an amplitude encoding and unitaries on three or more wires
    get none either. A coupling map and its routing are left out: `NoiseModel.from_qiskit` has them.

    Args:
        name: "ibm_nairobi", "ibm_kyiv" or "ibm_brisbane".

    Example:
        >>> with_noise(Circuit(2, (Gate("RX", (0,), (0.1,)), Gate("CX", (0, 1)))), device("ibm_kyiv")).counts
        {'RX': 1, 'ThermalRelaxation': 4, 'Depolarizing': 3, 'CX': 1}
    """
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    c = DEVICES[name]
    single = _native_noise(c, 1, c.one_qubit_ns / 1000, c.one_qubit_error)
    double = _native_noise(c, 2, c.two_qubit_ns / 1000, c.two_qubit_error)
    rules = [Rule(single * times, gates=(gate,)) for gate, times in _ONE_QUBIT_COST.items()]
    rules += [Rule(single * 2, gates=("Unitary",), n_wires=1)]
    rules += [Rule(double * 3, gates=("Unitary",), n_wires=2, place="gate")]
    rules += [Rule(_on_pairs(double, ((1, 2), (0, 2), (0, 1)) * 2), gates=("Toffoli",), place="gate")]
    rules += [Rule(double * times, gates=(gate,), place="gate") for gate, times in _TWO_QUBIT_COST.items()]
    return NoiseModel(tuple(rules), ((c.readout_error, c.readout_error),))


def named(text: str) -> NoiseModel:
    """Return the noise that a short text names: "quid:0.05", "ibm_kyiv", or a channel such as "Depolarizing:0.01".

    A channel with one strength follows every gate on each of its wires.

    Example:
        >>> named("Depolarizing:0.01").channels
        (Channel(name='Depolarizing', wires=(0,), parameters=(0.01,), kraus=None),)
    """
    name, _, strength = text.partition(":")
    if name in DEVICES and not strength:
        return device(name)
    channels = [channel for channel, (_, parameters) in CHANNELS.items() if len(parameters) == 1]
    if name not in ("quid", *channels):
        raise unknown("noise", name, ["quid", *DEVICES, *channels])
    try:
        p = float(strength)
    except ValueError:
        raise UsageError(f'Argument `noise` must be like "{name}:0.05", but is "{text}".') from None
    return quid_noise(p) if name == "quid" else NoiseModel.uniform(Channel(name, (0,), (p,)))


def _native_noise(c: Calibration, n_wires: int, duration: float, error: float) -> tuple[Channel, ...]:
    """Return relaxation on each wire, and depolarizing such that the average infidelity is `error`."""
    relaxation = tuple(Channel("ThermalRelaxation", (w,), (c.t1, c.t2, duration, 0.0)) for w in range(n_wires))
    dim = 2**n_wires
    process = math.prod(_process_fidelity(channel) for channel in relaxation)
    wanted = ((1 - error) * (dim + 1) - 1) / dim  # process fidelity of the whole
    # depolarizing scales every Pauli coefficient but the identity's by 1 - p d^2 / (d^2 - 1)
    kept = (wanted * dim**2 - 1) / (process * dim**2 - 1)
    p = (1 - kept) * (dim**2 - 1) / dim**2
    if p <= 0:  # relaxation alone explains the error
        return relaxation
    return (*relaxation, Channel("Depolarizing", tuple(range(n_wires)), (p,)))


def _on_pairs(channels: Sequence[Channel], pairs: Sequence[tuple[int, int]]) -> tuple[Channel, ...]:
    """Return the channels, given on wires 0 and 1, on each pair of wires."""
    return tuple(replace(c, wires=tuple(pair[w] for w in c.wires)) for pair in pairs for c in channels)


def _process_fidelity(channel: Channel) -> float:
    """Return sum_k |Tr K_k|^2 / d^2."""
    return math.fsum(abs(_trace(m)) ** 2 for m in channel.operators) / 4.0 ** len(channel.wires)


def _trace(m: Sequence[Sequence[complex]]) -> complex:
    return sum((row[i] for i, row in enumerate(m)), 0j)
