"""What the order of gates alone tells: gates that idle on a basis state, gates hidden from the read-out."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Angle, Circuit, Gate
from redqubit.quantum.measure import Observable, Probabilities

_DIAGONAL = frozenset({"Z", "S", "T", "RZ", "P", "CZ", "CP", "CRZ", "IsingZZ"})
_CONTROLS = {"CX": 1, "CY": 1, "CZ": 1, "CP": 1, "CRX": 1, "CRY": 1, "CRZ": 1, "Toffoli": 2}
_SYMMETRIC = frozenset({"CZ", "CP"})  # either wire may count as the control
_PERMUTING = frozenset({"X", "Y", "CX", "CY", "SWAP", "Toffoli"})  # up to phases: they keep diagonal operators diagonal
_TURNS = ("RZ", "RY", "RZ")  # what the angles of Rot do, in the order of time


@dataclass(frozen=True, order=True)
class Element:
    """What can be taken out of a circuit: a gate, or one of the three turns of a Rot.

    `gate` is its place in `Circuit.gates`, `angle` the place of its angle in `Gate.angles`, None without angle.
    """

    gate: int
    angle: int | None
    name: str
    wires: tuple[int, ...]


def elements(circuit: Circuit) -> tuple[Element, ...]:
    """Return the elements of a circuit without noise, in the order of time."""
    found = []
    for i, gate in enumerate(circuit.gates):
        if not gate_angles(gate):
            found.append(Element(i, None, gate.name, gate.wires))
        elif gate.name == "Rot":
            found += [Element(i, j, name, gate.wires) for j, name in enumerate(_TURNS)]
        else:
            found.append(Element(i, 0, gate.name, gate.wires))
    return tuple(found)


def gate_angles(gate: object) -> tuple[Angle, ...]:
    """Return the angles of a gate; a channel has none."""
    return gate.angles if isinstance(gate, Gate) else ()


def angle_of(circuit: Circuit, element: Element) -> Angle | None:
    """Return the angle of an element, None without."""
    return None if element.angle is None else gate_angles(circuit.gates[element.gate])[element.angle]


def without(circuit: Circuit, gone: Iterable[Element]) -> Circuit:
    """Return the circuit without some elements: gates with an angle stay, at angle 0, where each is the identity."""
    places: dict[int, set[int | None]] = {}
    for e in gone:
        places.setdefault(e.gate, set()).add(e.angle)
    gates = []
    for i, gate in enumerate(circuit.gates):
        out = places.get(i, set())
        if None in out:
            continue
        angles = gate_angles(gate)
        if isinstance(gate, Gate) and out:
            gate = replace(gate, angles=tuple(0.0 if j in out else a for j, a in enumerate(angles)))
        gates.append(gate)
    return replace(circuit, gates=tuple(gates))


def idle(circuit: Circuit) -> set[Element]:
    """Return elements that act on a known basis state as a global phase, such as RZ on |0> or CX with control |0>.

    Example:
        >>> from redqubit.quantum.circuit import Input
        >>> sorted(e.gate for e in idle(Circuit(1, (Gate("RZ", (0,), (Input(0),)), Gate("H", (0,))))))
        [0]
    """
    bit: list[int | None] = [None if circuit.initial else 0] * circuit.n_qubits  # None where it is not known
    found = set()
    for e in elements(circuit):
        bits = [bit[w] for w in e.wires]
        controls = bits if e.name in _SYMMETRIC else bits[: _CONTROLS.get(e.name, 0)]
        known = None not in bits
        if angle_of(circuit, e) == 0.0 or 0 in controls or (e.name in _DIAGONAL and known):
            found.add(e)
        elif e.name == "SWAP":
            bit[e.wires[0]], bit[e.wires[1]] = bits[1], bits[0]
        elif e.name in _PERMUTING and known:  # X on the last wire, whose controls are 1
            bit[e.wires[-1]] = 1 - (bits[-1] or 0)
        elif e.name not in _DIAGONAL:
            for w in e.wires[-1:] if e.name in _CONTROLS and all(controls) else e.wires:
                bit[w] = None
    return found


View = Mapping[int, bool]  # wires that an observable acts on -> whether it is diagonal there


def views(n_qubits: int, outputs: Sequence[Observable] | Probabilities) -> tuple[tuple[View, ...], ...]:
    """Return for each output how it sees the wires, once for each of its words.

    Example:
        >>> views(2, [{"ZI": 1.0}, {"XZ": 1.0}])
        (({0: True},), ({0: False, 1: True},))
    """
    if isinstance(outputs, Probabilities):
        marginal: View = dict.fromkeys(outputs.wires, True)
        return ((marginal,),) * (1 << len(outputs.wires))
    found: list[tuple[View, ...]] = []
    for observable in outputs:
        wrong = [word for word in observable if len(word) != n_qubits]
        if wrong:
            raise UsageError(
                f"Argument `observables` must have words of {n_qubits} letters I, X, Y, Z, but has {wrong[0]!r}."
            )
        acting = ({w: letter == "Z" for w, letter in enumerate(word) if letter != "I"} for word in observable)
        found.append(tuple(acting))
    return tuple(found)


def hidden(circuit: Circuit, view: View) -> set[Element]:
    """Return elements that the read-out does not see, since what they do commutes with all that follows.

    The observable is carried back gate by gate; on each wire it is absent, diagonal, or anything.

    Example:
        >>> sorted(e.gate for e in hidden(Circuit(2, (Gate("H", (0,)), Gate("CZ", (0, 1)))), {0: True, 1: True}))
        [1]
    """
    diagonal = dict(view)
    found = set()
    for e in reversed(elements(circuit)):
        seen = [w for w in e.wires if w in diagonal]
        plain = all(diagonal[w] for w in seen)
        targets = e.wires[_CONTROLS.get(e.name, 0) :]
        if not seen or (plain and (e.name in _DIAGONAL or (e.name in _CONTROLS and not set(targets) & set(seen)))):
            found.add(e)
        elif e.name == "SWAP":
            a, b = e.wires
            was = diagonal.pop(a, None), diagonal.pop(b, None)
            diagonal |= {w: v for w, v in ((b, was[0]), (a, was[1])) if v is not None}
        else:  # diagonal gates and controls leave a wire as it is; what was absent there becomes diagonal
            kept = e.wires if e.name in _DIAGONAL else e.wires[: len(e.wires) - len(targets)]
            diagonal |= {w: diagonal.get(w, True) for w in kept}
            diagonal |= dict.fromkeys(set(e.wires) - set(kept), plain and e.name in _PERMUTING)
    return found


def cone(circuit: Circuit, read: Collection[int]) -> set[Element]:
    """Return the elements that are linked by shared wires to those read at the end."""
    reached, found = set(read), set()
    for e in reversed(elements(circuit)):
        if reached & set(e.wires):
            reached |= set(e.wires)
            found.add(e)
    return found
