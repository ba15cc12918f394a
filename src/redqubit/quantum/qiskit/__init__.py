"""Qiskit and OpenQASM, in and out: circuits, neural networks, and the noise and native gates of backends.

Qubit i of Qiskit is wire i here. Qiskit counts qubit 0 as the least significant bit of a basis state and writes it last
in a Pauli label; here wire 0 is the most significant bit and stands first in a word. Qiskit itself is an optional
package, imported when it is needed.
"""

from redqubit.quantum.qiskit.backends import (
    BackendRun,
    Transpiled,
    noise_from_qiskit,
    on_backend,
    run_on_backend,
    transpile_to,
)
from redqubit.quantum.qiskit.incoming import from_qasm, from_qiskit
from redqubit.quantum.qiskit.outgoing import to_qiskit

__all__ = [
    "BackendRun",
    "Transpiled",
    "from_qasm",
    "from_qiskit",
    "noise_from_qiskit",
    "on_backend",
    "run_on_backend",
    "to_qiskit",
    "transpile_to",
]
