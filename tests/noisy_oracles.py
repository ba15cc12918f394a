"""Three oracles for noisy circuits: Kraus sums in numpy, PennyLane's default.mixed, Qiskit Aer's density matrices."""

import math
from itertools import product

import numpy as np
import pennylane as qml
import torch
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.quantum_info import Operator
from qiskit_aer import AerSimulator
from qiskit_aer import noise as aer
from scipy.linalg import expm
from torch import Tensor

from redqubit.quantum import Circuit, Input, Weight
from redqubit.quantum.channels import Channel

Array = NDArray[np.complex128]
P = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}
# ---- oracle 1: density matrices and Kraus sums in numpy, nothing of the package but the data


def gate_matrix(name: str, t: list[float]) -> Array:
    turn = {k: (lambda a, g=g: expm(-0.5j * a * g)) for k, g in (("RX", P["X"]), ("RY", P["Y"]), ("RZ", P["Z"]))}
    one = {
        "H": (P["X"] + P["Z"]) / math.sqrt(2), "X": P["X"], "Y": P["Y"], "Z": P["Z"], "S": np.diag([1, 1j]),
        "T": np.diag([1, np.exp(0.25j * math.pi)]), "SWAP": np.eye(4)[[0, 2, 1, 3]],
    }  # fmt: skip
    if name in one:
        return np.asarray(one[name], dtype=complex)
    if name in turn:
        return turn[name](t[0])
    if name == "Rot":
        return turn["RZ"](t[2]) @ turn["RY"](t[1]) @ turn["RZ"](t[0])
    if name == "P":
        return np.diag([1, np.exp(1j * t[0])])
    if name.startswith("Ising"):
        return expm(-0.5j * t[0] * np.kron(P[name[-1]], P[name[-1]]))
    if name == "Toffoli":
        return np.kron(np.diag([0, 0, 0, 1]), P["X"]) + np.kron(np.diag([1, 1, 1, 0]), P["I"])
    return np.kron(np.diag([1, 0]), P["I"]) + np.kron(np.diag([0, 1]), gate_matrix(name[1:], t))  # controlled


def embedded(m: Array, wires: tuple[int, ...], n: int) -> Array:
    rest = [w for w in range(n) if w not in wires]
    full = np.kron(m, np.eye(2 ** len(rest))).reshape([2] * (2 * n))
    order = [[*wires, *rest].index(w) for w in range(n)]
    return full.transpose(order + [n + a for a in order]).reshape(2**n, 2**n)


def dense(circuit: Circuit, x: Tensor, w: Tensor) -> Tensor:
    """Return the probabilities (B, 2^n)."""
    n, out = circuit.n_qubits, []
    for row in x.detach().numpy():
        psi = np.eye(2**n)[0]
        if circuit.initial is not None:
            psi = np.zeros(2**n)
            psi[: circuit.initial.n_features] = row[: circuit.initial.n_features]
            psi /= np.linalg.norm(psi)
        rho = np.outer(psi, psi).astype(complex)
        for item in circuit.gates:
            if isinstance(item, Channel):
                operators = [np.array(k) for k in item.operators]
            elif item.matrix is not None:
                operators = [np.array(item.matrix)]
            else:
                angles = [value(a, row, w.detach().numpy()) for a in item.angles]
                operators = [gate_matrix(item.name, angles)]
            full = [embedded(k, item.wires, n) for k in operators]
            rho = sum((k @ rho @ k.conj().T for k in full), np.zeros_like(rho))
        out.append(np.diag(rho).real)
    return torch.tensor(np.array(out))


def value(angle: object, row: NDArray[np.float64] | Tensor, w: NDArray[np.float64] | Tensor) -> float:
    if isinstance(angle, Input | Weight):
        return angle.scale * (row if isinstance(angle, Input) else w)[angle.index] + angle.offset  # type: ignore[return-value]
    assert isinstance(angle, float | int)
    return float(angle)


# ---- oracle 2: PennyLane's default.mixed, with its own names of gates and channels

PENNYLANE = {
    "H": qml.Hadamard, "X": qml.PauliX, "Y": qml.PauliY, "Z": qml.PauliZ, "P": qml.PhaseShift, "CX": qml.CNOT,
    "CP": qml.ControlledPhaseShift,
}  # fmt: skip


def pennylane_channel(c: Channel) -> None:
    words = ["".join(v) for v in product("IXYZ", repeat=len(c.wires))]
    if c.name == "ThermalRelaxation":
        t1, t2, duration, excited = c.parameters
        qml.ThermalRelaxationError(excited, t1, t2, duration, wires=c.wires)
    elif c.name == "GeneralizedAmplitudeDamping":  # takes the population of |1>
        qml.GeneralizedAmplitudeDamping(c.parameters[0], 1 - c.parameters[1], wires=c.wires)
    elif c.name == "BitPhaseFlip":
        qml.PauliError("Y", c.parameters[0], wires=c.wires)
    elif c.name in ("Pauli", "Kraus") or len(c.wires) > 1:
        operators = c.kraus
        if operators is None:
            p = c.parameters if c.name == "Pauli" else (c.parameters[0] / 15,) * 15
            kron = {v: np.kron(P[v[0]], P[v[1]]) if len(v) == 2 else P[v] for v in words}
            operators = [math.sqrt(q) * kron[v] for q, v in zip((1 - sum(p), *p), words, strict=True)]
        qml.QubitChannel([torch.tensor(np.array(k), dtype=torch.complex128) for k in operators], wires=c.wires)
    else:
        getattr(qml, {"Depolarizing": "DepolarizingChannel"}.get(c.name, c.name))(*c.parameters, wires=c.wires)


def pennylane(circuit: Circuit, x: Tensor, w: Tensor) -> Tensor:
    """Return the probabilities (B, 2^n), differentiable."""

    @qml.qnode(qml.device("default.mixed", wires=circuit.n_qubits), interface="torch", diff_method="backprop")
    def node(row: Tensor) -> object:
        for item in circuit.gates:
            if isinstance(item, Channel):
                pennylane_channel(item)
            elif item.matrix is not None:
                qml.QubitUnitary(torch.tensor(item.matrix, dtype=torch.complex128), wires=item.wires)
            else:
                angles = [value(a, row, w) for a in item.angles]
                (PENNYLANE.get(item.name) or getattr(qml, item.name))(*angles, wires=item.wires)
        return qml.density_matrix(wires=range(circuit.n_qubits))  # its gradient of probs is nan where they are 0

    return torch.stack([torch.diagonal(node(row)).real for row in x])


# ---- oracle 3: Qiskit Aer's density matrices, with its own error channels


def aer_error(c: Channel) -> object:
    p = c.parameters
    n = len(c.wires)
    if c.name == "AmplitudeDamping":
        return aer.amplitude_damping_error(p[0])
    if c.name == "GeneralizedAmplitudeDamping":
        return aer.amplitude_damping_error(p[0], excited_state_population=1 - p[1])
    if c.name == "PhaseDamping":
        return aer.phase_damping_error(p[0])
    if c.name == "Depolarizing":  # its parameter is the weight of the fully mixed state
        return aer.depolarizing_error(p[0] * 4**n / (4**n - 1), n)
    if c.name in ("BitFlip", "PhaseFlip", "BitPhaseFlip"):
        letter = {"BitFlip": "X", "PhaseFlip": "Z", "BitPhaseFlip": "Y"}[c.name]
        return aer.pauli_error([(letter, p[0]), ("I", 1 - p[0])])
    if c.name == "ThermalRelaxation":
        return aer.thermal_relaxation_error(p[0], p[1], p[2], p[3])
    if c.name == "Pauli":
        words = [a + b for a in "IXYZ" for b in "IXYZ"] if n == 2 else list("IXYZ")
        return aer.pauli_error(list(zip(words, (1 - sum(p), *p), strict=True)))
    return aer.kraus_error([np.array(k) for k in c.operators])


def aer_probabilities(circuit: Circuit, row: Tensor, w: Tensor) -> Tensor:
    """Return the probabilities (2^n,); qubit 0 of Qiskit is the least significant, as its first wire of a matrix."""
    n = circuit.n_qubits
    names = {"CP": "cp", "IsingXX": "rxx", "IsingYY": "ryy", "IsingZZ": "rzz", "Toffoli": "ccx"}
    qc = QuantumCircuit(n)
    for item in circuit.gates:
        wires = [n - 1 - q for q in item.wires]
        if isinstance(item, Channel):
            qc.append(aer_error(item), wires[::-1])
        elif item.matrix is not None:
            qc.unitary(np.array(item.matrix), wires[::-1])
        else:
            angles = [value(a, row.numpy(), w.numpy()) for a in item.angles]
            one = QuantumCircuit(len(wires))
            if item.name == "Rot":
                for name, t in zip(("rz", "ry", "rz"), angles, strict=True):
                    getattr(one, name)(t, 0)
            else:
                getattr(one, names.get(item.name, item.name.lower()))(*angles, *range(len(wires)))
            qc.unitary(Operator(one), wires)
    qc.save_density_matrix()
    rho = AerSimulator(method="density_matrix").run(qc).result().data()["density_matrix"]
    return torch.tensor(np.diag(np.asarray(rho)).real)
