"""The noise of a backend as Qiskit Aer models it: which error follows which instruction on which qubits."""

import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.qiskit.optional import need
from redqubit.quantum.qiskit.translate import as_matrix

_NEGLIGIBLE = 1e-10  # norm below which a Kraus operator is rounding


@dataclass
class Errors:
    """The errors of a device; None stands for every qubit that is not named.

    Attributes:
        gates: QuantumErrors of Qiskit Aer after (name of the instruction, its qubits).
        readout: (p(read 1 | is 0), p(read 0 | is 1)) by qubit.
        relaxation: (t1, t2) in seconds by qubit, for delays.
        dt: Seconds of one unit of time of a schedule.
    """

    gates: dict[tuple[str, tuple[int, ...] | None], Any] = field(default_factory=dict)
    readout: dict[int | None, tuple[float, float]] = field(default_factory=dict)
    relaxation: dict[int, tuple[float, float]] = field(default_factory=dict)
    dt: float | None = None

    def after(self, instruction: Any, qubits: tuple[int, ...], wires: tuple[int, ...]) -> tuple[Channel, ...]:
        """Return the channels on `wires` that follow an instruction on the device's `qubits`."""
        if instruction.name == "delay":
            return self._relaxed(instruction, qubits[0], wires)
        error = self.gates.get((instruction.name, qubits), self.gates.get((instruction.name, None)))
        # a name such as `unitary` may be of any size
        return () if error is None or error.num_qubits != len(wires) else channels(error, wires)

    def readout_of(self, qubit: int) -> tuple[float, float]:
        """Return the read-out error of one qubit."""
        return self.readout.get(qubit, self.readout.get(None, (0.0, 0.0)))

    def _relaxed(self, delay: Any, qubit: int, wires: tuple[int, ...]) -> tuple[Channel, ...]:
        if qubit not in self.relaxation:
            return ()
        t1, t2 = self.relaxation[qubit]
        units = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12, "dt": self.dt}
        unit = units.get(delay.unit)
        if unit is None:
            raise UsageError(f"Delays must be of a known duration, but one is in units of `{delay.unit}`.")
        return (Channel("ThermalRelaxation", wires, (t1, t2, float(delay.duration) * unit, 0.0)),)


def channels(error: Any, wires: tuple[int, ...]) -> tuple[Channel, ...]:
    """Return a QuantumError as a channel on `wires`, none where it does nothing."""
    if error.ideal():
        return ()
    info = need("qiskit.quantum_info")
    found = info.Kraus(info.SuperOp(error)).data
    # the first qubit of Qiskit's matrices is the least significant bit
    kraus = tuple(as_matrix(m) for m in found if np.linalg.norm(m) > _NEGLIGIBLE)
    return (Channel("Kraus", wires[::-1], kraus=kraus),)


def errors_of(source: Any, qubits: Collection[int] | None = None) -> Errors:
    """Return the errors of a BackendV2, an AerSimulator or a noise model of Qiskit Aer.

    Args:
        source: Where to take them from.
        qubits: The qubits of a backend that matter, all by default: large devices take long.

    Raises:
        UsageError: for any other source, or a read-out error of several qubits together.
    """
    need("qiskit")
    noise = need("qiskit_aer.noise")
    if isinstance(source, noise.NoiseModel):
        return _from_model(source)
    if not isinstance(source, need("qiskit.providers").BackendV2):
        raise UsageError(
            f"Argument `source` must be a BackendV2 or a noise model of Aer, but is of type {type(source).__name__}."
        )
    if isinstance(source, need("qiskit_aer").AerSimulator):
        model = source.options.noise_model
        found = Errors() if model is None else _from_model(model)
    else:
        found = _from_target(_restricted(source.target, qubits))
    if found.gates:
        for qubit, known in enumerate(source.target.qubit_properties or ()):
            if known is not None and known.t1 and known.t2:
                found.relaxation[qubit] = (known.t1, min(known.t2, 2 * known.t1))
    found.dt = source.dt
    return found


def _restricted(target: Any, qubits: Collection[int] | None) -> Any:
    """Return a target with its instructions on `qubits` alone."""
    if qubits is None:
        return target
    out = need("qiskit.transpiler").Target(
        num_qubits=target.num_qubits, dt=target.dt, qubit_properties=target.qubit_properties
    )
    for name in target.operation_names:
        known = target[name] or {}
        kept = {at: known[at] for at in known if at is not None and set(at) <= set(qubits)}
        if kept:
            out.add_instruction(target.operation_from_name(name), kept, name=name)
    return out


def _from_target(target: Any) -> Errors:
    device = need("qiskit_aer.noise.device")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Aer warns of what it calls itself, and of unphysical data that it mends
        found = Errors()
        for name, at, error in device.basic_device_gate_errors(target=target):
            found.gates[name, tuple(at)] = error
        for at, error in device.basic_device_readout_errors(target=target):
            (_, one_for_zero), (zero_for_one, _) = error.probabilities
            found.readout[at[0]] = (float(one_for_zero), float(zero_for_one))
    return found


def _from_model(model: Any) -> Errors:
    found = Errors()
    for entry, at in _entries(model):
        if entry["type"] == "qerror":
            error = need("qiskit_aer.noise").QuantumError.from_dict(entry)
            found.gates |= {(name, at): error for name in entry["operations"]}
            continue
        p = entry["probabilities"]
        if len(p) != 2:
            raise UsageError(f"Read-out errors must be of one qubit each, but one is of the qubits {at}.")
        found.readout[None if at is None else at[0]] = (float(p[0][1]), float(p[1][0]))
    return found


def _entries(model: Any) -> Iterator[tuple[dict[str, Any], tuple[int, ...] | None]]:
    for entry in model.to_dict()["errors"]:
        for at in entry.get("gate_qubits", [None]):
            yield entry, None if at is None else tuple(at)
