"""A product of two numbers on one qubit of a device: its circuit, its noise, and what both do to the mean.

RX(a) and RZ(f) turn |0> to -<Y> = sin(a) cos(f), so that a = arcsin(x) and f = arccos(w) give x w for x, w in [-1, 1].
A turn RX(-pi/2) lets <Z> read it.
"""

import math
from dataclasses import dataclass, fields

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Gate, Input, Weight
from redqubit.quantum.noise import Crosstalk, NoiseModel, Rule

PULSES = 4  # SX of the two RX; RZ is a change of frame and costs nothing


@dataclass(frozen=True)
class DataQubit:
    """Figures of a qubit that multiplies, and of the idle pair of qubits beside it, `hub` and `partner`.

    Raises:
        UsageError: for a figure out of its range.
    """

    qubit: int  # number on the device
    hub: int  # its neighbour
    partner: int  # a neighbour of the hub: CX(hub -> partner) runs twice for each pair
    t1: float  # microseconds
    t2: float  # microseconds
    sx_error: float  # average infidelity
    read_1_for_0: float  # probability
    read_0_for_1: float  # probability
    zz_khz: float  # static ZZ coupling to the hub
    cx_ns: float  # duration of CX(hub -> partner)
    cx_error: float  # average infidelity of it

    def __post_init__(self) -> None:
        for field in fields(self)[3:]:
            value, share = getattr(self, field.name), field.name.endswith("error") or "_for_" in field.name
            if not value >= 0 or (share and value > 0.5):
                raise UsageError(
                    f"Argument `{field.name}` must be {'within [0, 0.5]' if share else '0 or more'}, but is {value}."
                )
        if not 0 < self.t2 <= 2 * self.t1:
            raise UsageError(f"Argument `t2` must be above 0 and at most 2 t1 = {2 * self.t1}, but is {self.t2}.")

    @property
    def offset(self) -> float:
        """What asymmetric read-out adds to the mean: p(0|1) - p(1|0)."""
        return self.read_0_for_1 - self.read_1_for_0

    def gain(self, sx_ns: float) -> float:
        """Return the factor of the mean without crosstalk.

        (1 - p(1|0) - p(0|1)) (1 - 2 e)^4 exp(-4 t_SX / T2): read-out, four SX of infidelity e, which shrink the Bloch
        vector by 1 - 2 e each, and dephasing.
        """
        kept = (1 - 2 * self.sx_error) ** PULSES * math.exp(-PULSES * sx_ns / (1000 * self.t2))
        return (1 - self.read_1_for_0 - self.read_0_for_1) * kept

    def turn(self, pairs: int) -> float:
        """Return the angle of exp(-i angle ZZ / 2) with the hub after so many pairs of CX: pi zeta 2 k t_CX."""
        return math.pi * self.zz_khz * 1e3 * 2 * pairs * self.cx_ns * 1e-9

    def kept(self, pairs: int, ratio: float) -> float:
        """Return the factor that pairs of CX leave of the mean beside their turn.

        (1 - (r - 1) e_CX)^(2k) exp(-2 k t_CX / T2): the excess error of a spectator, and dephasing while it waits.

        Args:
            pairs: Number k of pairs.
            ratio: Error r of simultaneous over isolated CX, 1 or more.

        Raises:
            UsageError: when the excess error is above 1.
        """
        excess = (ratio - 1) * self.cx_error
        if not 0 <= excess <= 1:
            raise UsageError(
                f"Argument `ratio` must be 1 to {1 + 1 / self.cx_error:.4g}, where no signal of qubit {self.qubit} is "
                f"left, but is {ratio}."
            )
        return (1 - excess) ** (2 * pairs) * math.exp(-2 * pairs * self.cx_ns / (1000 * self.t2))


@dataclass(frozen=True)
class Device:
    """A device on which qubits multiply side by side.

    Attributes:
        source: Where the figures come from.
        sx_ns: Duration of an SX, in nanoseconds.
        qubits: Those that multiply; product j of a sum runs on qubit j modulo their number.
    """

    source: str
    sx_ns: float
    qubits: tuple[DataQubit, ...]


# Seven qubits in the shape of an H: the leaves multiply, hubs 1, 3 and 5 stay idle. zz_khz is derived from the device's
# coupling J, frequencies f and anharmonicities a as 2 J^2 [1 / (D - a_hub) - 1 / (D + a_q)], D = f_q - f_hub.
NAIROBI = Device(
    "ibm_nairobi as FakeNairobiV2 of qiskit-ibm-runtime 0.51 has it, snapshot of 2024-05-27",
    35.56,
    (
        DataQubit(0, 1, 3, 89.12, 15.79, 0.000396, 0.037, 0.079, 74.5, 270.2, 0.006791),
        DataQubit(2, 1, 3, 133.24, 127.14, 0.000201, 0.009, 0.0296, 142.4, 270.2, 0.006791),
        DataQubit(4, 5, 3, 131.22, 106.13, 0.000532, 0.0102, 0.0264, 151.7, 604.4, 0.012572),
        DataQubit(6, 5, 3, 76.64, 126.21, 0.000263, 0.0148, 0.0368, 166.5, 604.4, 0.012572),
    ),
)


def product_circuit(pairs: int = 0) -> Circuit:
    """Return the circuit of one product: wire 0 multiplies, wire 1 is its hub in |+>, wire 2 the hub's partner.

    Input 0 is a = arcsin(x), weight 0 is f = arccos(w); <Z_0> is x w, however many pairs of CX there are. They are the
    identity: what they do comes from `product_noise` alone.

    Args:
        pairs: Pairs of CX(hub -> partner) after the weight.

    Example:
        >>> print(product_circuit(1))
        0: ─RX(x0)─RZ(w0)─RX(-π/2)─
        1: ─H─●─●──────────────────
        2: ───X─X──────────────────
    """
    encode = (Gate("RX", (0,), (Input(0),)), Gate("H", (1,)), Gate("RZ", (0,), (Weight(0),)))
    return Circuit(3, (*encode, *(Gate("CX", (1, 2)),) * (2 * pairs), Gate("RX", (0,), (-math.pi / 2,))))


def product_noise(qubit: DataQubit, sx_ns: float, *, ratio: float = 1.0) -> NoiseModel:
    """Return what goes wrong on the wires of `product_circuit`, as far as <Z_0> feels it.

    Depolarizing of two SX follows each RX, dephasing the weight; a CX turns qubit and hub by their static ZZ, and the
    qubit waits and depolarizes meanwhile.

    Args:
        qubit: The qubit of wire 0.
        sx_ns: Duration of an SX.
        ratio: See `DataQubit.kept`.
    """
    pulse = Channel("Depolarizing", (0,), (1.5 * qubit.sx_error,))
    rules = (
        Rule((pulse, pulse), gates=("RX",)),
        Rule((Channel("ThermalRelaxation", (0,), (qubit.t1, qubit.t2, PULSES * sx_ns / 1000, 0.0)),), gates=("RZ",)),
        Crosstalk((0, 1), qubit.turn(1) / 2),
        Rule(
            (
                Channel("ThermalRelaxation", (0,), (qubit.t1, qubit.t2, qubit.cx_ns / 1000, 0.0)),
                Channel("Depolarizing", (0,), (0.75 * (ratio - 1) * qubit.cx_error,)),
            ),
            gates=("CX",),
            place="circuit",
        ),
    )
    clean = (0.0, 0.0)
    return NoiseModel(rules, ((qubit.read_1_for_0, qubit.read_0_for_1), clean, clean))
