"""Circuit -> Plan: the passes that make simulation fast.

Small circuits on large batches are bound by the number of tensor operations, so that the plan has few large
ones. One-qubit gates collect until an entangler needs their wire, and then all of them are applied as one
layer of Kronecker products over blocks of at most five wires. Permutations (CX, SWAP, Toffoli) merge into one
index, diagonal gates into one phase vector. What holds only real numbers stays real.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Amplitude, Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.gates import DIAGONALS, FIXED, GENERATORS, IDENTITY, PERMUTATIONS, REAL, Z, native

BLOCK = 5  # wires of one Kronecker block: a 32 x 32 matrix product runs near the machine's rate


@dataclass(frozen=True)
class Angles:
    """Angles `offset + scale * source[index]`, all of one source."""

    offset: Tensor  # (G,)
    scale: Tensor  # (G,)
    index: Tensor  # (G,) long

    def of(self, source: Tensor) -> Tensor:
        """Return the angles (..., G) for a source (..., n)."""
        return torch.addcmul(self.offset, source[..., self.index], self.scale)


@dataclass(frozen=True)
class Slots:
    """One-qubit matrices prod_k (cos(t_k/2) a_k + sin(t_k/2) b_k), the last factor acting last."""

    angles: Angles  # of S * k angles
    a: Tensor  # (S, k, 2, 2)
    b: Tensor  # (S, k, 2, 2)

    def matrices(self, source: Tensor) -> Tensor:
        """Return (..., S, 2, 2) for a source (..., n)."""
        half = (self.angles.of(source) / 2).reshape(*source.shape[:-1], *self.a.shape[:2], 1, 1)
        factors = torch.cos(half) * self.a + torch.sin(half) * self.b
        out = factors[..., 0, :, :]
        for k in range(1, self.a.shape[1]):
            out = factors[..., k, :, :] @ out
        return out


@dataclass(frozen=True)
class Layer:
    """One-qubit gates on many wires; `blocks[i]` is (first wire, slot numbers) of a run of wires."""

    blocks: tuple[tuple[int, tuple[int, ...]], ...]
    from_inputs: bool
    real: bool


@dataclass(frozen=True)
class Permutation:
    """new[j] = old[source[j]]."""

    source: Tensor  # (2^n,) long
    inverse: Tensor
    from_inputs: bool = False
    real: bool = True


@dataclass(frozen=True)
class Phase:
    """new[j] = constant[j] * exp(i (w @ w_table + x @ x_table)[j]) * old[j]."""

    constant: Tensor  # (2^n,) real when `real`
    weights: Angles
    w_table: Tensor  # (G, 2^n)
    inputs: Angles
    x_table: Tensor
    from_inputs: bool
    real: bool


@dataclass(frozen=True)
class Dense:
    """A fixed unitary on some wires."""

    wires: tuple[int, ...]
    matrix: Tensor
    real: bool
    from_inputs: bool = False


Op = Layer | Permutation | Phase | Dense


@dataclass(frozen=True)
class Plan:
    """What `redqubit.quantum.simulation.state_vector` runs.

    `tables` holds the one-qubit matrices by (from inputs, real). `first` is a leading layer on |0...0>, whose
    result is a product state and costs no matrix product.
    """

    n_qubits: int
    n_inputs: int
    n_weights: int
    initial: Amplitude | None
    first: Layer | None
    ops: tuple[Op, ...]
    tables: dict[tuple[bool, bool], Slots] = field(default_factory=dict)


T = TypeVar("T")


def cast(tree: T, dtype: torch.dtype, device: torch.device) -> T:
    """Return a copy of a plan with its tensors in the precision of real `dtype`, on `device`."""

    def one(value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.is_complex():
                return value.to(device=device, dtype=dtype.to_complex())
            return value.to(device=device, dtype=dtype if value.is_floating_point() else value.dtype)
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{f.name: one(getattr(value, f.name)) for f in fields(value)})
        if isinstance(value, tuple):
            return tuple(map(one, value))
        if isinstance(value, dict):
            return {k: one(v) for k, v in value.items()}
        return value

    out: T = one(tree)
    return out


def build(circuit: Circuit) -> Plan:
    """Return the plan of a circuit, its tensors in float64."""
    fuser = _Fuser(circuit.n_qubits)
    for gate in pure_gates(circuit):
        for g in native(gate):
            fuser.add(g)
    fuser.flush()
    ops = fuser.ops
    product = circuit.initial is None and bool(ops) and isinstance(ops[0], Layer)
    first = ops[0] if product else None
    return Plan(
        circuit.n_qubits,
        circuit.n_inputs,
        circuit.n_weights,
        circuit.initial,
        first if isinstance(first, Layer) else None,
        tuple(ops[1:] if product else ops),
        {key: slots(chains) for key, chains in fuser.chains.items()},
    )


def pure_gates(circuit: Circuit) -> tuple[Gate, ...]:
    """Return the gates of a circuit without noise channels; a state vector cannot hold what a channel makes."""
    if circuit.channels:
        raise UsageError(
            f"Argument `circuit` must have no noise channels for a pure state, but has {len(circuit.channels)}: "
            "use QuantumLayer."
        )
    return tuple(g for g in circuit.gates if isinstance(g, Gate))


def reads_input(gates: Iterable[Gate]) -> bool:
    """Tell whether any angle is an `Input`."""
    return any(isinstance(a, Input) for g in gates for a in g.angles)


def reads_weight(gates: Iterable[Gate]) -> bool:
    """Tell whether any angle is a `Weight`."""
    return any(isinstance(a, Weight) for g in gates for a in g.angles)


def affine(angles: Sequence[Angle], kind: type[Input] | type[Weight]) -> Angles:
    """Return angles, `kind`s and numbers, as one affine map of that source; numbers become offsets."""
    parameters = [a if isinstance(a, Input | Weight) else kind(0, 0.0, a) for a in angles]
    return Angles(
        torch.tensor([p.offset for p in parameters], dtype=torch.float64),
        torch.tensor([p.scale for p in parameters], dtype=torch.float64),
        torch.tensor([p.index for p in parameters], dtype=torch.long),
    )


def one_qubit(gate: Gate) -> tuple[Tensor, Tensor, Angle]:
    """Return (a, b, t) with the gate equal to cos(t/2) a + sin(t/2) b, up to a global phase."""
    if gate.matrix is not None:
        return torch.tensor(gate.matrix, dtype=torch.complex128), torch.zeros_like(IDENTITY), 0.0
    if gate.name in FIXED:
        return FIXED[gate.name], torch.zeros_like(IDENTITY), 0.0
    generator = Z if gate.name == "P" else GENERATORS[gate.name]
    return IDENTITY, -1j * generator, gate.angles[0]


def is_real(gate: Gate) -> bool:
    """Tell whether the matrix of a native gate holds real numbers for every angle."""
    if gate.matrix is not None:
        return all(complex(v).imag == 0 for row in gate.matrix for v in row)
    return gate.name in REAL or (gate.name == "CP" and gate.angles == (math.pi,))


def slots(chains: Sequence[Sequence[Gate]]) -> Slots:
    """Return the table of one-qubit matrices, one per chain of gates on one wire.

    Numbers fold into the neighbouring factor, so that H then RY(t) is one factor. Chains whose angles are all
    `Weight`s and chains with `Input`s must not be mixed.
    """
    real = all(is_real(g) for chain in chains for g in chain)
    kind = Input if any(reads_input(c) for c in chains) else Weight
    rows = []
    for chain in chains:
        factors: list[tuple[Tensor, Tensor, Angle]] = []
        for a, b, t in map(one_qubit, chain):
            if factors and not isinstance(t, Input | Weight):  # a number: one matrix, from the left
                m = math.cos(t / 2) * a + math.sin(t / 2) * b
                la, lb, lt = factors[-1]
                factors[-1] = (m @ la, m @ lb, lt)
            elif factors and not isinstance(lt := factors[-1][2], Input | Weight):  # after a number: from the right
                m = math.cos(lt / 2) * factors[-1][0] + math.sin(lt / 2) * factors[-1][1]
                factors[-1] = (a @ m, b @ m, t)
            else:
                factors.append((a, b, t))
        rows.append(factors or [(IDENTITY, torch.zeros_like(IDENTITY), 0.0)])
    k = max(map(len, rows))
    rest = (IDENTITY, torch.zeros_like(IDENTITY), 0.0)
    rows = [[*r, *([rest] * (k - len(r)))] for r in rows]
    a = torch.stack([torch.stack([f[0] for f in r]) for r in rows])
    b = torch.stack([torch.stack([f[1] for f in r]) for r in rows])
    if real:
        a, b = a.real.contiguous(), b.real.contiguous()
    return Slots(affine([f[2] for r in rows for f in r], kind), a, b)


class _Fuser:
    """The state of the fusion pass: pending one-qubit gates by wire, and the operations so far."""

    def __init__(self, n_qubits: int) -> None:
        self.n = n_qubits
        self.pending: dict[int, list[Gate]] = {}
        self.ops: list[Op] = []
        self.chains: dict[tuple[bool, bool], list[Sequence[Gate]]] = {}

    def add(self, gate: Gate) -> None:
        if len(gate.wires) == 1:
            chain = self.pending.get(gate.wires[0], [])
            # a chain reads inputs or weights, not both: their matrices differ in batch shape
            if reads_input([*chain, gate]) and reads_weight([*chain, gate]):
                self.flush()
            self.pending.setdefault(gate.wires[0], []).append(gate)
            return
        if any(w in self.pending for w in gate.wires):
            self.flush()
        last = self.ops[-1] if self.ops else None
        if gate.name in PERMUTATIONS:
            source = inverse = self._permutation(gate)  # each is its own inverse
            if isinstance(last, Permutation):
                source, inverse = last.source[source], inverse[last.inverse]
                self.ops.pop()
            self.ops.append(Permutation(source, inverse))
        elif gate.name in DIAGONALS:
            phase = self._phase(gate)
            if isinstance(last, Phase):
                phase = _merge(last, phase)
                self.ops.pop()
            self.ops.append(phase)
        else:
            m = torch.tensor(gate.matrix, dtype=torch.complex128)
            self.ops.append(Dense(gate.wires, m.real.contiguous() if is_real(gate) else m, is_real(gate)))

    def flush(self) -> None:
        """Turn the pending gates into layers: one for the wires that read inputs, one for the others."""
        inputs = {w: c for w, c in self.pending.items() if reads_input(c)}
        others = {w: c for w, c in self.pending.items() if w not in inputs}
        if inputs and not self.ops and not any(map(reads_weight, others.values())):
            inputs, others = self.pending, {}  # constants join the product state that the inputs make
        for from_inputs, chains in ((True, inputs), (False, others)):
            if chains:
                self._layer(chains, from_inputs)
        self.pending = {}

    def _layer(self, chains: dict[int, list[Gate]], from_inputs: bool) -> None:
        real = all(is_real(g) for c in chains.values() for g in c)
        table = self.chains.setdefault((from_inputs, real), [])
        blocks = []
        for first, size in _blocks(self.n):
            wires = range(first, first + size)
            if self.ops and not any(w in chains for w in wires):
                continue  # the first layer holds every wire: it makes the product state
            blocks.append((first, tuple(range(len(table), len(table) + size))))
            table.extend(chains.get(w, ()) for w in wires)
        self.ops.append(Layer(tuple(blocks), from_inputs, real))

    def _bits(self, wires: Sequence[int]) -> Tensor:
        """Return for each of the 2^n basis states its index on `wires`."""
        basis = torch.arange(2**self.n)
        out = torch.zeros_like(basis)
        for w in wires:
            out = 2 * out + ((basis >> (self.n - 1 - w)) & 1)
        return out

    def _permutation(self, gate: Gate) -> Tensor:
        # the bits that change, for each state of the gate's wires
        places = [1 << (self.n - 1 - w) for w in reversed(gate.wires)]
        changes = [
            sum(place for i, place in enumerate(places) if ((old ^ new) >> i) & 1)
            for old, new in enumerate(PERMUTATIONS[gate.name])
        ]
        return torch.arange(2**self.n) ^ torch.tensor(changes)[self._bits(gate.wires)]

    def _phase(self, gate: Gate) -> Phase:
        exponents = torch.tensor(DIAGONALS[gate.name], dtype=torch.float64)[self._bits(gate.wires)]
        angle, none = gate.angles[0], exponents[:0].reshape(0, 2**self.n)
        row, reads = exponents.reshape(1, -1), isinstance(angle, Input)
        constant = torch.ones(2**self.n, dtype=torch.float64)
        real = False
        if not isinstance(angle, Input | Weight):
            constant = torch.exp(1j * angle * exponents)
            real = is_real(gate)
            constant = constant.real.round() if real else constant
        w = [angle] if isinstance(angle, Weight) else []
        x = [angle] if isinstance(angle, Input) else []
        return Phase(constant, affine(w, Weight), row if w else none, affine(x, Input), row if x else none, reads, real)


def _merge(a: Phase, b: Phase) -> Phase:
    def join(p: Angles, q: Angles) -> Angles:
        return Angles(*(torch.cat([getattr(p, f.name), getattr(q, f.name)]) for f in fields(p)))

    return Phase(
        a.constant * b.constant,
        join(a.weights, b.weights),
        torch.cat([a.w_table, b.w_table]),
        join(a.inputs, b.inputs),
        torch.cat([a.x_table, b.x_table]),
        a.from_inputs or b.from_inputs,
        a.real and b.real,
    )


def _blocks(n: int) -> list[tuple[int, int]]:
    """Return (first wire, size) of the fewest even blocks of at most `BLOCK` wires."""
    count = -(-n // BLOCK)
    sizes = [n // count + (i < n % count) for i in range(count)]
    return [(sum(sizes[:i]), s) for i, s in enumerate(sizes)]
