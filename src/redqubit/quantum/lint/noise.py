"""Noise that does nothing: RQ007."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Gate, Input, Weight
from redqubit.quantum.lint.findings import LintFinding, counted, finding, gate_at, listed
from redqubit.quantum.lint.probe import TOLERANCE, Probe
from redqubit.quantum.measure import Basis, with_readout
from redqubit.quantum.noise import Crosstalk, NoiseModel, OverRotation, Rule
from redqubit.quantum.simulation import density
from redqubit.quantum.simulation.fuse import cast

MAX_QUBITS = 6  # of density matrices
POINTS = 8


def unused_rules(circuit: Circuit, model: NoiseModel) -> list[LintFinding]:
    """Return RQ007 when no gate matches the rules of a noise model; for some of them it is but told.

    Models of devices have rules for all their gates and wires, of which a circuit uses a few.
    """
    gates = [(g.name, g.wires, bool(g.angles)) for g in circuit.gates if isinstance(g, Gate)]
    if circuit.initial is not None:
        gates.append(("Amplitude", tuple(range(circuit.n_qubits)), False))

    def used(rule: Rule | Crosstalk | OverRotation) -> bool:
        if isinstance(rule, OverRotation):
            return any(angles and (not rule.gates or name in rule.gates) for name, _, angles in gates)
        return any(rule.matches(name, wires) for name, wires, _ in gates)

    unused = [i for i, rule in enumerate(model.rules) if not used(rule)]
    if not model.rules and not model.readout:
        return [finding("RQ007", (), "the noise model is empty", {"rules": 0})]
    if not unused:
        return []
    whole = len(unused) == len(model.rules) and not any(p for pair in model.readout for p in pair)
    which = "any rule" if whole else counted(len(unused), "rule")
    what = listed([f"{i} ({_asked(model.rules[i])})" for i in unused], 6)
    evidence = {"rules": len(model.rules), "unused": len(unused), "gates": len(gates)}
    return [
        finding(
            "RQ007",
            (),
            f"no gate matches {which} of the noise model: {what}",
            evidence,
            severity="error" if whole else "info",
        )
    ]


def _asked(rule: Rule | Crosstalk | OverRotation) -> str:
    """Return what a rule asks of a gate."""
    if isinstance(rule, Crosstalk):
        return f"Crosstalk on {rule.pair[0]},{rule.pair[1]}"
    asked = [f"gates {listed(rule.gates)}"] if rule.gates else []
    if isinstance(rule, Rule):
        asked += [f"wires {listed([','.join(map(str, w)) for w in rule.wires])}"] if rule.wires else []
        asked += [counted(rule.n_wires, "wire")] if rule.n_wires else []
    return " ".join([type(rule).__name__, "for", *asked] if asked else [type(rule).__name__])


def noise_findings(circuit: Circuit, bases: Sequence[Basis], probe: Probe | None) -> list[LintFinding]:
    """Return RQ007 for channels of a circuit that are of strength zero, or whose kind changes no output.

    Channels of one name and strength count as one: that the last of many does not reach the read-out is no defect.
    """
    kinds: dict[tuple[object, ...], list[int]] = {}
    for i, gate in enumerate(circuit.gates):
        if isinstance(gate, Channel):
            kinds.setdefault((gate.name, gate.parameters, gate.kraus), []).append(i)
    zero, off = list[int](), list[int]()
    largest = 0.0
    for places in kinds.values():
        if is_identity(circuit.gates[places[0]]):
            zero += places
        elif probe is not None and circuit.n_qubits <= MAX_QUBITS:
            change = largest_change(circuit, bases, probe, places)
            if change <= TOLERANCE:
                off += places
                largest = max(largest, change)
    found = []
    if zero:
        at = [gate_at(circuit, i) for i in sorted(zero)]
        found.append(finding("RQ007", at, "a channel of strength zero is no noise", {"channels": len(zero)}))
    if off:
        at = [gate_at(circuit, i) for i in sorted(off)]
        evidence = {"largest_output_change": largest, "points": POINTS}
        found.append(finding("RQ007", at, "taking all of this noise out changes no output", evidence))
    if circuit.readout and not any(p for pair in circuit.readout for p in pair):
        found.append(finding("RQ007", (), "all read-out errors are zero", {"wires": len(circuit.readout)}))
    return found


def is_identity(channel: object) -> bool:
    """Tell whether a channel does nothing: every Kraus operator is a multiple of the identity."""
    if not isinstance(channel, Channel):
        return False
    return all(
        abs(v - (m[0][0] if r == c else 0)) <= 1e-12
        for m in channel.operators
        for r, row in enumerate(m)
        for c, v in enumerate(row)
    )


def largest_change(circuit: Circuit, bases: Sequence[Basis], probe: Probe, places: Sequence[int]) -> float:
    """Return the largest change of an output when the channels at these places are taken out."""
    free = replace(circuit, gates=_freed(circuit, probe))
    less = replace(free, gates=tuple(g for i, g in enumerate(free.gates) if i not in set(places)))
    z = probe.values(probe.x, probe.w)[:POINTS]
    return float((_read(free, bases, z) - _read(less, bases, z)).abs().max())


def _freed(circuit: Circuit, probe: Probe) -> tuple[Gate | Channel, ...]:
    """Return the gates of the probe's free circuit with what the noise of `circuit` adds between them."""
    left = list(zip(probe.circuit.gates, probe.free.gates, strict=True))
    gates: list[Gate | Channel] = []
    for item in circuit.gates:
        is_own = isinstance(item, Gate) and bool(left) and _kind(item) == _kind(left[0][0])
        gates.append(left.pop(0)[1] if is_own else item)
    return tuple(gates)


def _kind(gate: Gate | Channel) -> tuple[object, ...]:
    """Return what over-rotation leaves of a gate; gates that noise adds, such as crosstalk, read nothing."""
    angles = gate.angles if isinstance(gate, Gate) else ()
    return gate.name, gate.wires, tuple(isinstance(a, Input | Weight) for a in angles)


def _read(circuit: Circuit, bases: Sequence[Basis], z: Tensor) -> Tensor:
    """Return the outputs (B, K) of a noisy circuit whose angles are all inputs."""
    total = torch.zeros(())
    for b in bases:
        plan = cast(density.build(replace(circuit, gates=(*circuit.gates, *b.gates))), z.dtype, z.device)
        table = with_readout(b.table, circuit.readout)
        total = total + density.expectations(plan, z[:, : circuit.n_inputs], z.new_zeros(0), table)
    return total
