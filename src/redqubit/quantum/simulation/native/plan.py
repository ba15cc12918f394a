"""The program of the native kernel: operations as integers, their numbers beside them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from redqubit.quantum.circuit import Circuit
from redqubit.quantum.simulation import fuse
from redqubit.quantum.simulation.native.schedule import Dense, Permutation, Phase, Scheduler, Sum, Turns

TURNS, PHASE, DENSE = 0, 1, 2  # kinds of operations; each takes WIDTH numbers
WIDTH = 6
PASS = 5  # numbers of one pass of a sweep: how many turns, first slot, their bits within the chunk
SKEW = 64  # numbers between states, so that rows of equal number do not meet in one set of the cache
CHUNK = 7  # bits of the largest chunk: psi and lambda of 2^7 rows are 8 KiB
# where `code` says what: the header, and where each of its parts begins
HEADER = (
    "qubits", "planes", "slots", "turns", "chained", "amplitude", "gathers", "n_forward", "n_backward", "n_phases",
    "forward", "backward", "sources", "parts", "chains", "terms", "sweeps", "permutations", "dense",
    "offsets", "scales", "fixed", "tables", "matrices",
)  # fmt: skip
_HALF = 0.5


@dataclass(frozen=True)
class NativePlan:
    """A program of the native kernel, and the plan of the same circuit for torch.

    `code` holds the program's integers (int32), `data` its numbers: offsets and scales of angles, fixed phases,
    exponents of phases, unitaries.
    """

    n_qubits: int
    n_inputs: int
    n_weights: int
    n_features: int  # of an amplitude encoding; 0 without
    n_slots: int
    planes: int  # 1: amplitudes are real, 2: complex
    n_phases: int
    work: int  # multiplications and additions per sample, roughly
    code: Tensor
    data: Tensor
    torch_plan: fuse.Plan


def build(circuit: Circuit) -> NativePlan:
    """Return the program of a circuit without noise, its numbers in float64.

    Raises:
        UsageError: when the circuit has noise channels.
    """
    return _Writer(Scheduler(circuit)).plan(circuit)


class _Writer:
    """Turns the operations of a scheduler into the arrays of a plan."""

    def __init__(self, schedule: Scheduler) -> None:
        self.schedule, self.n = schedule, schedule.n
        self.angles: list[Sum] = []  # of the slots: halves of turns, halves in chains, phases
        self.permutations = [schedule.basis, schedule.readout]
        self.forward: list[list[int]] = []
        self.backward: list[list[int]] = []
        self.chains: list[int] = []
        self.terms: list[tuple[int, int]] = []  # table and slot
        self.sweeps: list[int] = []
        self.dense: list[int] = []
        self.matrices: list[Tensor] = []
        self.fixed: list[Tensor] = []
        self.tables: dict[bytes, tuple[int, Tensor]] = {}
        self.work = 0

    def plan(self, circuit: Circuit) -> NativePlan:
        """Return the plan."""
        ops, rows = self.schedule.ops, 2**self.n
        planes = 1 if self._is_real() else 2
        groups = [op for op in ops if isinstance(op, Turns)]
        first_slot = {id(op): sum(len(o.angles) for o in groups[:i]) for i, op in enumerate(groups)}
        for group in groups:
            self.angles += [group.angles[w].times(_HALF) for w in sorted(group.angles, reverse=True)]
        turns = len(self.angles)
        self._write_chains()
        chained = len(self.angles)
        pending = -1
        for op in ops:
            if isinstance(op, Permutation):
                pending = self._index(pending, op.source)
            elif isinstance(op, Turns):
                self._write_turns(op, first_slot[id(op)], pending)
                pending = -1
            else:
                if pending >= 0:
                    self._write_turns(Turns({}), 0, pending)
                    pending = -1
                self._write_phase(op) if isinstance(op, Phase) else self._write_dense(op)
        starts, sources, scales = self._sources()
        gathers = sum(op[0] == TURNS and op[1] > 0 for op in self.forward)
        parts = {
            "forward": _flat(self.forward),
            "backward": _flat(self.backward[::-1]),
            "sources": _flat([starts]),
            "parts": _flat([sources]),
            "chains": _flat([self.chains]),
            "terms": _flat([list(t) for t in self.terms]),
            "sweeps": _flat([self.sweeps]),
            "permutations": torch.cat(self.permutations).int(),
            "dense": _flat([self.dense]),
        }
        numbers = {
            "offsets": torch.tensor([a.offset for a in self.angles], dtype=torch.float64),
            "scales": torch.tensor(scales, dtype=torch.float64),
            "fixed": torch.cat([torch.zeros(0, dtype=torch.float64), *self.fixed]),
            "tables": torch.cat([torch.zeros(0, dtype=torch.float64), *(t for _, t in self.tables.values())]),
            "matrices": torch.cat([torch.zeros(0, dtype=torch.float64), *self.matrices]),
        }
        header = {
            "qubits": self.n, "planes": planes, "slots": len(self.angles), "turns": turns, "chained": chained,
            "amplitude": circuit.initial.n_features if circuit.initial else 0, "gathers": gathers,
            "n_forward": len(self.forward), "n_backward": len(self.backward), "n_phases": len(self.fixed) // 2,
            **_places(parts, len(HEADER)), **_places(numbers, 0),
        }  # fmt: skip
        code = torch.tensor([header[name] for name in HEADER], dtype=torch.int32)
        return NativePlan(
            n_qubits=self.n,
            n_inputs=circuit.n_inputs,
            n_weights=circuit.n_weights,
            n_features=header["amplitude"],
            n_slots=len(self.angles),
            planes=planes,
            n_phases=header["n_phases"],
            work=rows * planes * (8 + self.work),
            code=torch.cat([code, *parts.values()]),
            data=torch.cat(list(numbers.values())),
            torch_plan=fuse.build(circuit),
        )

    def _is_real(self) -> bool:
        """Tell whether the amplitudes are real for every input and weight."""
        for op in self.schedule.ops:
            if isinstance(op, Phase) and (op.terms or float(torch.sin(op.fixed).abs().max()) > 1e-12):
                return False
            if isinstance(op, Dense) and float(op.matrix.imag.abs().max()) > 0:
                return False
        return not any(is_z for chain in self.schedule.chains for is_z, _ in chain)

    def _index(self, pending: int, source: Tensor) -> int:
        """Return the number of a permutation, merged with the one that waits."""
        if pending >= 0:
            self.permutations[pending] = self.permutations[pending][source]
            return pending
        self.permutations.append(source)
        return len(self.permutations) - 1

    def _write_turns(self, op: Turns, slot: int, permutation: int) -> None:
        bits = sorted(self.n - 1 - w for w in op.angles)
        done = 0
        for some in _windows(bits):
            size = min(self.n, CHUNK)  # short loops are slow
            first = min(some[0] if some else 0, self.n - size)
            where = max(permutation, 0) if done == 0 else 0
            for program, most in ((self.forward, 3), (self.backward, 2)):
                passes = _passes([b - first for b in some], slot + done, most)
                program.append([TURNS, where, first, size, len(self.sweeps), len(passes)])
                self.sweeps += passes
            done += len(some)
        self.work += 3 * len(bits) + (permutation >= 0)

    def _write_chains(self) -> None:
        axes = []
        for start, chain in zip(self.schedule.start, self.schedule.chains, strict=True):
            self.chains += [start, len(self.angles), len(self.angles) + len(chain)]
            axes += [int(is_z) for is_z, _ in chain]
            self.angles += [angle.times(_HALF) for _, angle in chain]
        self.chains += axes

    def _write_phase(self, op: Phase) -> None:
        terms = sorted(op.terms, key=lambda term: _reads_input(term[1]))
        begin = len(self.terms)
        for table, angle in terms:
            number, _ = self.tables.setdefault(table.numpy().tobytes(), (len(self.tables), table))
            self.terms.append((number, len(self.angles)))
            self.angles.append(angle)
        middle = begin + sum(not _reads_input(angle) for _, angle in terms)
        row = _padded([PHASE, len(self.fixed) // 2, begin, middle, len(self.terms)])
        self.forward.append(row)
        self.backward.append(row)
        self.fixed += [torch.cos(op.fixed), torch.sin(op.fixed)]
        self.work += 4 + 20 * (len(self.terms) > middle) + 2 * len(self.terms)

    def _write_dense(self, op: Dense) -> None:
        bits = self.schedule.bits(op.order)
        dim = 2 ** len(op.order)
        members = torch.stack([self.schedule.basis[bits == i] for i in range(dim)])  # (dim, the rest)
        matrix = sum(m.numel() for m in self.matrices)
        row = _padded([DENSE, dim, matrix, len(self.dense), members.shape[1]])
        self.forward.append(row)
        self.backward.append(row)
        self.dense += members.T.flatten().tolist()
        self.matrices += [op.matrix.real.flatten(), op.matrix.imag.flatten()]
        self.work += 4 * dim

    def _sources(self) -> tuple[list[int], list[int], list[float]]:
        """Return where the sources of each slot begin, inputs then weights, their numbers and their scales."""
        starts, sources, scales = [0], list[int](), list[float]()
        for angle in self.angles:
            for wanted in (True, False):
                for (is_input, index), scale in angle.terms.items():
                    if is_input == wanted:
                        sources.append(index)
                        scales.append(scale)
                starts.append(len(sources))
        return starts, sources, scales


def _windows(bits: list[int]) -> list[list[int]]:
    """Return ascending bits in groups that a chunk can hold, as even as can be; one empty group when there are none."""
    if not bits or bits[-1] - bits[0] < CHUNK:
        return [bits]
    groups = -(-len(bits) // CHUNK)
    cut = len(bits) // groups if groups > 1 else 1
    while bits[cut - 1] - bits[0] >= CHUNK:
        cut -= 1
    return [bits[:cut], *_windows(bits[cut:])]


def _passes(places: list[int], slot: int, most: int) -> list[int]:
    """Return passes that turn the bits at `places`, at most so many at once; one that copies when there are none."""
    count = max(1, -(-len(places) // most))
    edges = [len(places) * i // count for i in range(count + 1)]
    out = []
    for begin, end in pairwise(edges):
        row = [end - begin, slot + begin, *places[begin:end]]
        out += row + [0] * (PASS - len(row))
    return out


def _reads_input(angle: Sum) -> bool:
    return any(is_input for is_input, _ in angle.terms)


def _padded(row: list[int]) -> list[int]:
    return row + [0] * (WIDTH - len(row))


def _flat(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([v for row in rows for v in row], dtype=torch.int32)


def _places(parts: dict[str, Tensor], begin: int) -> dict[str, int]:
    """Return where each part begins when all are joined, the first at `begin`."""
    out = {}
    for name, part in parts.items():
        out[name] = begin
        begin += part.numel()
    return out
