"""Instructions of Qiskit as gates and channels, one walk through a circuit at a time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import pi, prod
from typing import Any

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel, Matrix
from redqubit.quantum.circuit import SIGNATURES, Amplitude, Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.qiskit.optional import need

# Qiskit's name -> ours, with angles and wires in the same order
NAMES: Mapping[str, str] = {
    "h": "H", "x": "X", "y": "Y", "z": "Z", "s": "S", "t": "T", "rx": "RX", "ry": "RY", "rz": "RZ", "p": "P",
    "u1": "P", "cx": "CX", "cy": "CY", "cz": "CZ", "swap": "SWAP", "cp": "CP", "cu1": "CP", "crx": "CRX",
    "cry": "CRY", "crz": "CRZ", "rxx": "IsingXX", "ryy": "IsingYY", "rzz": "IsingZZ", "ccx": "Toffoli",
}  # fmt: skip
# equal up to a global phase
FIXED_TURNS: Mapping[str, tuple[str, float]] = {
    "sx": ("RX", pi / 2),
    "sxdg": ("RX", -pi / 2),
    "sdg": ("P", -pi / 2),
    "tdg": ("P", -pi / 4),
}
SILENT = frozenset({"barrier", "id", "delay", "global_phase"})  # no effect without noise

MAX_TERMS = 10_000  # of one angle

Follow = Callable[[Any, tuple[int, ...]], Iterable[Channel]]  # instruction and wires -> the noise after it


@dataclass
class Angles:
    """Parameter expressions as sums of our angles; keeps the products of features that they need.

    Attributes:
        sources: The angle of each parameter, by name.
        n_features: Number of features; products are inputs numbered after them.
        products: The products so far, each the features that it multiplies.
    """

    sources: Mapping[str, Input | Weight]
    n_features: int
    products: list[tuple[int, ...]]

    def terms(self, value: Any, gate: str) -> list[Angle]:
        """Return angles whose sum is a number or a ParameterExpression."""
        names = [p.name for p in getattr(value, "parameters", ())]
        if not names:
            return [_real(value.numeric() if hasattr(value, "numeric") else value, gate)]
        if isinstance(value, need("qiskit.circuit").Parameter):
            return [self.sources[value.name]]
        sympy = need("sympy")
        expression = value.sympify()
        symbols = sorted(expression.free_symbols, key=str)
        if _expanded(expression) > MAX_TERMS:
            raise UsageError(
                f"Angles must be sums of {MAX_TERMS:,} products at most, but one of gate `{gate}` is a product of sums "
                "that has more: compute such a feature before the circuit."
            )
        try:
            polynomial = sympy.Poly(expression, *symbols).terms() if symbols else [((), expression)]
        except sympy.PolynomialError:
            raise UsageError(
                f"Angles must be sums of parameters and of products of inputs, but gate `{gate}` has {value}: "
                "compute such a feature before the circuit."
            ) from None
        offset, out = 0.0, list[Angle]()
        for powers, coefficient in polynomial:
            factors = [str(s) for s, power in zip(symbols, powers, strict=True) for _ in range(power)]
            if factors:
                out.append(self._product(factors, gate, value) * _real(coefficient, gate))
            else:
                offset = _real(coefficient, gate)
        return [out[0] + offset, *out[1:]] if out else [offset]

    def _product(self, names: Sequence[str], gate: str, value: Any) -> Input | Weight:
        sources = [self.sources[name] for name in names]
        if len(sources) == 1:
            return sources[0]
        if any(isinstance(s, Weight) for s in sources):
            weight = next(n for n, s in zip(names, sources, strict=True) if isinstance(s, Weight))
            raise UsageError(
                f"Angles may multiply inputs alone, but gate `{gate}` has {value} with the weight `{weight}`: make it "
                "an input or bind it to a number."
            )
        product = tuple(sorted(s.index for s in sources))
        if product not in self.products:
            self.products.append(product)
        return Input(self.n_features + self.products.index(product))


def _expanded(expression: Any) -> float:
    """Return how many terms, or factors of one, an expression of sympy has at most when it is multiplied out."""
    inner = [_expanded(part) for part in expression.args]
    if expression.is_Add:
        return sum(inner)
    if expression.is_Pow and expression.exp.is_Integer:
        power = min(abs(int(expression.exp)), MAX_TERMS + 1)
        return max(min(inner[0], MAX_TERMS + 1.0) ** min(power, 64), power)
    return prod(inner) if expression.is_Mul else 1


def _real(value: Any, gate: str) -> float:
    number = complex(value)
    if number.imag:
        raise UsageError(f"Angles must be real, but gate `{gate}` has {value}.")
    return number.real


class Walk:
    """Reads a QuantumCircuit instruction by instruction.

    Args:
        n_qubits: Number of wires.
        angles: The meaning of the parameters.
        follow: The noise after each instruction of the outermost circuit; none by default.
    """

    def __init__(self, n_qubits: int, angles: Angles, follow: Follow = lambda instruction, wires: ()) -> None:
        self.n_qubits = n_qubits
        self.angles = angles
        self.follow = follow
        self.gates: list[Gate | Channel] = []
        self.initial: Amplitude | None = None
        self.read: dict[int, int] = {}  # classical bit -> wire
        self._touched: set[int] = set()
        self._standard = need("qiskit.circuit.library").get_standard_gate_name_mapping()

    @property
    def circuit(self) -> Circuit:
        """What was read so far."""
        return Circuit(self.n_qubits, tuple(self.gates), self.initial)

    def read_all(self, circuit: Any) -> "Walk":
        """Read every instruction of a QuantumCircuit on as many qubits as there are wires, and return the walk."""
        wire = {qubit: i for i, qubit in enumerate(circuit.qubits)}
        bit = {clbit: i for i, clbit in enumerate(circuit.clbits)}
        for item in circuit.data:
            wires = tuple(wire[q] for q in item.qubits)
            self._add(item.operation, wires, [bit[c] for c in item.clbits])
            self.gates += self.follow(item.operation, wires)
        return self

    def _add(self, operation: Any, wires: tuple[int, ...], bits: Sequence[int]) -> None:
        name = operation.name
        if name in SILENT:
            return
        if name == "measure":
            self.read[bits[0]] = wires[0]
            return
        if name == "reset" and wires[0] not in self._touched:
            return  # a wire starts in |0>
        if name == "reset" or isinstance(operation, need("qiskit.circuit").ControlFlowOp):
            raise UsageError(
                f"Instruction `{name}` on {wires} cannot be taken over: a circuit here has no resets, read-outs or "
                "control flow between its gates."
            )
        early = sorted(set(wires) & set(self.read.values()))
        if early:
            raise UsageError(
                f"Measurements must come last, but wire {early[0]} is measured before `{name}`: remove the measurement."
            )
        found = self._counterpart(operation, wires)
        if found is None:
            self._definition(operation, wires, bits)
        else:
            self.gates += found
        self._touched.update(wires)

    def _counterpart(self, operation: Any, wires: tuple[int, ...]) -> Sequence[Gate | Channel] | None:
        """Return the gates or the channel that an instruction is, or None when its definition has to be read."""
        name = operation.name
        if name == "kraus":
            return [Channel("Kraus", wires[::-1], kraus=tuple(map(as_matrix, operation.params)))]
        if name == "unitary":
            return [Gate("Unitary", wires[::-1], matrix=as_matrix(operation.to_matrix()))]
        if name == "ParameterizedInitialize":
            return self._amplitudes(operation, wires)
        # a gate of the user's own may bear a standard name
        if name not in self._standard or operation.base_class is not self._standard[name].base_class:
            return None
        if name in NAMES:
            ours = NAMES[name]
            if not SIGNATURES[ours][1]:
                return [Gate(ours, wires)]
            return self._turn(ours, wires, operation.params[0], name)
        if name in FIXED_TURNS:
            ours, angle = FIXED_TURNS[name]
            return [Gate(ours, wires, (angle,))]
        if name in ("u", "u2", "u3"):
            theta, phi, lam = operation.params if name != "u2" else (pi / 2, *operation.params)
            return self._euler(wires, (lam, theta, phi), name)
        if len(wires) <= 2 and not any(getattr(p, "parameters", ()) for p in operation.params):
            return [Gate("Unitary", wires[::-1], matrix=as_matrix(operation.to_matrix()))]
        return None

    def _turn(self, name: str, wires: tuple[int, ...], angle: Any, gate: str) -> list[Gate]:
        # turns about one axis commute and their angles add
        return [Gate(name, wires, (a,)) for a in self.angles.terms(angle, gate)]

    def _euler(self, wires: tuple[int, ...], angles: Sequence[Any], gate: str) -> list[Gate]:
        terms = [self.angles.terms(a, gate) for a in angles]
        if all(len(t) == 1 for t in terms):
            return [Gate("Rot", wires, tuple(t[0] for t in terms))]
        return [Gate(n, wires, (a,)) for n, t in zip(("RZ", "RY", "RZ"), terms, strict=True) for a in t]

    def _amplitudes(self, operation: Any, wires: tuple[int, ...]) -> list[Gate]:
        sources = [t for p in operation.params for t in self.angles.terms(p, operation.name)]
        whole = self.initial is None and not self._touched and sorted(wires) == list(range(self.n_qubits))
        if not whole or sources != [Input(i) for i in range(len(operation.params))]:
            raise UsageError(
                "Amplitude encoding must come first, on all qubits, and take the first inputs in their order, but "
                f"`{operation.name}` takes {len(sources)} parameters on {wires}."
            )
        self.initial = Amplitude(len(sources))
        # the encoding here counts wire 0 as the most significant bit: put bit k of the index on wires[k]
        at = list(range(self.n_qubits))  # at[w]: which bit of the index, counted from the most significant, is on w
        swaps = []
        for k, w in enumerate(reversed(wires)):
            holder = at.index(k)
            if holder != w:
                swaps.append(Gate("SWAP", (holder, w)))
                at[holder], at[w] = at[w], at[holder]
        return swaps

    def _definition(self, operation: Any, wires: tuple[int, ...], bits: Sequence[int]) -> None:
        error = need("qiskit.exceptions").QiskitError
        try:
            definition = getattr(operation, "definition", None)
        except error:
            definition = None
        if definition is not None:
            wire = dict(zip(definition.qubits, wires, strict=True))
            bit = dict(zip(definition.clbits, bits, strict=True))
            for item in definition.data:
                self._add(item.operation, tuple(wire[q] for q in item.qubits), [bit[c] for c in item.clbits])
            return
        try:
            matrix = need("qiskit.quantum_info").Operator(operation).data
        except (error, TypeError, AttributeError):
            raise UsageError(
                f"Instruction `{operation.name}` on {wires} has no counterpart here and no definition: remove it or "
                "decompose it."
            ) from None
        self.gates.append(Gate("Unitary", wires[::-1], matrix=as_matrix(matrix)))


def as_matrix(array: Any) -> Matrix:
    """Return a NumPy matrix as tuples."""
    return tuple(tuple(complex(v) for v in row) for row in array)


def renumbered(item: Gate | Channel, wires: Mapping[int, int]) -> Gate | Channel:
    """Return a gate or channel on other wires."""
    return replace(item, wires=tuple(wires[w] for w in item.wires))
