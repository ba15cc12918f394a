"""Gates, features, weights, wires and outputs without effect: RQ001 to RQ005, RQ010."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from redqubit.quantum.circuit import Circuit, Input, Weight
from redqubit.quantum.lint.findings import GateAt, LintFinding, counted, finding, gate_at, listed
from redqubit.quantum.lint.probe import TOLERANCE, Probe
from redqubit.quantum.lint.structure import Element, View, angle_of, cone, elements, hidden, idle

Outputs = Sequence[Sequence[View]]
Evidence = dict[str, float | int]


@dataclass(frozen=True)
class Effects:
    """What in a circuit has no effect, each defect in the one place where it belongs.

    Attributes:
        dead: Elements on wires that no output depends on.
        blind: Those that are turned by a feature that no output depends on.
        hidden: Entanglers that change the state and no output.
        flat: Elements turned by a weight that no output depends on.
        rest: Other elements without effect.
    """

    dead: frozenset[Element]
    blind: frozenset[Element]
    hidden: frozenset[Element]
    flat: frozenset[Element]
    rest: frozenset[Element]
    wires: tuple[int, ...]  # dead wires
    features: tuple[int, ...]  # that no output depends on
    weights: tuple[int, ...]  # that no output depends on


def by_structure(circuit: Circuit, outputs: Outputs) -> set[Element]:
    """Return the elements without effect that the order of gates gives away."""
    distinct = {tuple(sorted(view.items())) for output in outputs for view in output}
    return idle(circuit) | set.intersection(*(hidden(circuit, dict(view)) for view in sorted(distinct)))


def by_numbers(probe: Probe, outputs: Outputs) -> set[Element]:
    """Return elements that may all be taken out at once and change no output at any point."""
    known = by_structure(probe.circuit, outputs)
    steep = probe.slopes.abs().amax((0, 1)) > TOLERANCE
    turning = {e for e, slot in probe.slots.items() if bool(steep[slot])}
    open_ = [e for e in elements(probe.circuit) if e not in known and e not in turning]
    found = known | {e for e in open_ if probe.unchanged_without({e})}
    if probe.unchanged_without(found):
        return found
    found = set(known)  # some stand in for each other: the first of these are kept
    for e in reversed(open_):
        if probe.unchanged_without({*found, e}):
            found.add(e)
    return found


def sort(circuit: Circuit, outputs: Outputs, probe: Probe | None) -> Effects:
    """Return each element without effect under its rule; without a probe by structure alone."""
    every = elements(circuit)
    unseen = by_structure(circuit, outputs) if probe is None else by_numbers(probe, outputs)
    idling = idle(circuit)
    if probe is None:
        used_inputs, used_weights = _turned_by(circuit, set(every) - unseen)
        features = sorted(set(range(_n_amplitudes(circuit), circuit.n_inputs)) - set(used_inputs))
        weights = sorted(set(range(circuit.n_weights)) - set(used_weights))
    else:
        features = [i for i in range(circuit.n_inputs) if _input_change(probe, i) <= TOLERANCE]
        weights = [i for i in range(circuit.n_weights) if float(probe.weight_slopes[..., i].abs().max()) <= TOLERANCE]
    read = {w for output in outputs for view in output for w in view}
    on = {w: {e for e in every if w in e.wires} for w in range(circuit.n_qubits)}
    wires = [w for w in on if (not on[w] and not circuit.initial) or (on[w] and w not in read and on[w] <= unseen)]
    dead = {e for e in unseen if set(e.wires) & set(wires)}
    blind = {e for e in unseen - dead if _index(circuit, e, Input) in features}
    left = {e for e in unseen - dead - blind if len(e.wires) > 1 and e not in idling}
    seen = left if probe is None else {e for e in left if probe.state_change([e]) > TOLERANCE}
    flat = {e for e in unseen - dead - blind - seen if _index(circuit, e, Weight) in weights}
    rest = unseen - dead - blind - seen - flat
    d, b, h, f, r = map(frozenset, (dead, blind, seen, flat, rest))
    return Effects(d, b, h, f, r, tuple(wires), tuple(features), tuple(weights))


def _n_amplitudes(circuit: Circuit) -> int:
    return circuit.initial.n_features if circuit.initial else 0


def _turned_by(circuit: Circuit, some: Iterable[Element]) -> tuple[list[int], list[int]]:
    """Return the features and the weights that turn some elements."""
    found: tuple[set[int], set[int]] = (set(), set())
    for e in some:
        angle = angle_of(circuit, e)
        if isinstance(angle, Input | Weight):
            found[isinstance(angle, Weight)].add(angle.index)
    return sorted(found[0]), sorted(found[1])


def _index(circuit: Circuit, e: Element, kind: type[Input] | type[Weight]) -> int | None:
    angle = angle_of(circuit, e)
    return angle.index if isinstance(angle, kind) else None


def _input_change(probe: Probe, i: int) -> float:
    """Return the largest slope to a feature, or change of an output when it is drawn again."""
    x = probe.x.clone()
    x[:, i] = x[:, i].roll(1)
    change = (probe.outputs_at(x, probe.w) - probe.outputs).abs().max()
    return float(max(change, probe.input_slopes[..., i].abs().max()))


def effect_findings(circuit: Circuit, outputs: Outputs, probe: Probe | None) -> list[LintFinding]:
    """Return the findings of RQ001 to RQ005 and RQ010."""
    e = sort(circuit, outputs, probe)
    found = []

    def at(some: Iterable[Element]) -> tuple[GateAt, ...]:
        return tuple(gate_at(circuit, s.gate, s.angle) for s in sorted(some))

    def evidence(some: Collection[Element], **more: float) -> Evidence:
        if probe is None:
            return {"points": 0}
        change = {"largest_output_change": probe.change_without(some)} if some else {}
        return {**change, **more, "points": len(probe.outputs)}

    if e.rest:
        one = len(e.rest) == 1
        why = f"taking {'it' if one else f'these {len(e.rest)}'} out changes no output"
        found.append(finding("RQ001", at(e.rest), why, evidence(e.rest)))

    lost = [i for i in e.features if not _covered(circuit, i, Input, e.dead)]
    if lost:
        gates = [s for s in elements(circuit) if _index(circuit, s, Input) in lost]
        unused = sorted(set(lost) - set(_turned_by(circuit, gates)[0]) - set(range(_n_amplitudes(circuit))))
        why = f"no output depends on {listed([f'x{i}' for i in lost])}"
        why += f"; no gate takes {listed([f'x{i}' for i in unused])}" if unused else ""
        slope = {} if probe is None else {"largest_change_or_gradient": max(_input_change(probe, i) for i in lost)}
        found.append(finding("RQ002", at(gates), why, evidence(e.blind, **slope)))

    if e.hidden:
        entanglers = counted(len(e.hidden), "entangling gate")
        why = f"{entanglers} {'changes' if len(e.hidden) == 1 else 'change'} the state, but no output"
        change = {} if probe is None else {"largest_state_change": max(probe.state_change([s]) for s in e.hidden)}
        found.append(finding("RQ003", at(e.hidden), why, evidence(e.hidden, **change)))

    lost = [i for i in e.weights if not _covered(circuit, i, Weight, e.dead | e.hidden)]
    if lost:
        gates = [s for s in elements(circuit) if _index(circuit, s, Weight) in lost]
        why = f"no output depends on {listed([f'w{i}' for i in lost])}: {len(lost)} of {circuit.n_weights} weights"
        slope = {} if probe is None else {"largest_gradient": float(probe.weight_slopes[..., lost].abs().max())}
        found.append(finding("RQ004", at(gates), why, evidence(e.flat, **slope)))

    if e.wires:
        found.append(finding("RQ005", at(e.dead), _why_dead(circuit, e), evidence(e.dead)))
    if probe is not None:
        found += _still_outputs(probe, outputs, e)
    return found


def _covered(circuit: Circuit, index: int, kind: type[Input] | type[Weight], some: Collection[Element]) -> bool:
    """Tell whether all that a feature or weight turns is among some elements, which have a finding of their own."""
    turned = {s for s in elements(circuit) if _index(circuit, s, kind) == index}
    return bool(turned) and turned <= set(some)


def _why_dead(circuit: Circuit, e: Effects) -> str:
    touched = {w for s in elements(circuit) for w in s.wires}
    empty, off = [w for w in e.wires if w not in touched], [w for w in e.wires if w in touched]
    parts = [f"no gate acts on {_wires(empty)}"] if empty else []
    if off:
        inputs, weights = _turned_by(circuit, e.dead)
        gone = [f"x{i}" for i in inputs if i in e.features] + [f"w{i}" for i in weights if i in e.weights]
        parts.append(f"no output depends on what happens on {_wires(off)}")
        parts += [f"{listed(gone)} {'goes' if len(gone) == 1 else 'go'} with it"] if gone else []
    return ", ".join(parts)


def _wires(wires: Sequence[int]) -> str:
    return f"{'wire' if len(wires) == 1 else 'wires'} {listed(wires)}"


def _still_outputs(probe: Probe, outputs: Outputs, e: Effects) -> list[LintFinding]:
    """Return RQ010 for outputs that no feature moves, unless a finding about a gate on their way says why."""
    moved = probe.input_slopes if probe.circuit.n_inputs else probe.weight_slopes
    if not moved.shape[-1]:
        return []
    largest = moved.abs().amax((0, 2))
    still = [k for k in range(len(largest)) if float(largest[k]) <= TOLERANCE]
    lost = {s for s in elements(probe.circuit) if _index(probe.circuit, s, Input) in e.features}
    explained = lost | e.dead | e.blind | e.hidden | e.flat | e.rest
    left = []
    for k in still:
        wires = {w for view in outputs[k] for w in view}
        if not wires <= set(e.wires) and not cone(probe.circuit, wires) & explained:
            left.append(k)
    if not left:
        return []
    constant = float((probe.outputs[:, left] - probe.outputs[:1, left]).abs().max()) <= TOLERANCE
    why = f"output {listed(left)} {'never changes' if constant else 'depends on weights, but on no feature'}"
    evidence = {"largest_gradient": float(largest[left].max()), "points": len(probe.outputs)}
    return [finding("RQ010", (), why, evidence)]
