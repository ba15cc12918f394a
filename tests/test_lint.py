"""The linter finds what was put in, says nothing about sound circuits, and its numbers are true."""

import json
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from redqubit import UsageError, cli
from redqubit.auditing.lint import CIRCUITS, find_targets, layer_targets, lint_panel
from redqubit.models import MODELS, QuantumLayer
from redqubit.quantum import Circuit, Gate, Input, Weight, ansatzes, encodings
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import SIGNATURES, Amplitude, Angle
from redqubit.quantum.gates import matrix
from redqubit.quantum.lint import RULES, LintFinding, explain, fails, from_json, lint, selected, to_json
from redqubit.quantum.lint.effects import by_numbers, by_structure, sort
from redqubit.quantum.lint.probe import Probe, probe
from redqubit.quantum.lint.structure import Element, elements, hidden, idle, views, without
from redqubit.quantum.measure import Probabilities, bases, z_of
from redqubit.quantum.noise import Crosstalk, NoiseModel, OverRotation, Rule, device, quid_noise, with_noise

X = [Input(i) for i in range(8)]
W = [Weight(i) for i in range(8)]


def one(name: str, wire: int, *angles: Angle) -> Gate:
    return Gate(name, (wire,), angles)


def cx(control: int, target: int) -> Gate:
    return Gate("CX", (control, target))


def layer(n: int, *names: str, ent: Sequence[Gate] = ()) -> Circuit:
    """Return a layer of one-qubit turns by weights, and what follows it."""
    turns = (Gate(name, (q,), (Weight(i * n + q),)) for i, name in enumerate(names) for q in range(n))
    return Circuit(n, (*turns, *ent))


def upload(n: int, *rotations: str) -> Circuit:
    return encodings.angle(n, rotations or ("RY",), scale=1.0, hadamard=True)


def codes(found: Sequence[LintFinding], *, without_info: bool = True) -> list[str]:
    return [f.code for f in found if f.severity != "info" or not without_info]


def places(finding: LintFinding) -> list[int]:
    return [g.index for g in finding.gates]


def look(circuit: Circuit, wires: Sequence[int] | None = None) -> Probe:
    read = bases(circuit.n_qubits, z_of(circuit.n_qubits, wires or range(circuit.n_qubits)))
    return probe(circuit, read, (0.0, 1.0), generator=torch.Generator().manual_seed(1))


# An oracle of its own: dense matrices of the whole space, one sample at a time


def dense(gate: Gate, n: int, x: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return a gate's matrix on all n wires, entry by entry."""
    values = [
        a.scale * (x if isinstance(a, Input) else w)[a.index] + a.offset if isinstance(a, Input | Weight) else a
        for a in gate.angles
    ]
    small = matrix(gate.name, *values).numpy()
    out = np.zeros((2**n, 2**n), complex)
    k = len(gate.wires)
    for bits in product((0, 1), repeat=n):
        column = sum(b << (n - 1 - q) for q, b in enumerate(bits))
        inside = sum(bits[q] << (k - 1 - i) for i, q in enumerate(gate.wires))
        for row in range(2**k):
            changed = list(bits)
            for i, q in enumerate(gate.wires):
                changed[q] = (row >> (k - 1 - i)) & 1
            out[sum(b << (n - 1 - q) for q, b in enumerate(changed)), column] += small[row, inside]
    return out


def z_values(circuit: Circuit, wires: Sequence[int], x: NDArray[np.float64], w: NDArray[np.float64]) -> list[float]:
    n = circuit.n_qubits
    psi = np.eye(2**n, dtype=complex)[0]
    for gate in circuit.gates:
        assert isinstance(gate, Gate)
        psi = dense(gate, n, x, w) @ psi
    p = np.abs(psi) ** 2
    signs = [[1 - 2 * ((i >> (n - 1 - q)) & 1) for i in range(2**n)] for q in wires]
    return [float(p @ s) for s in signs]


def changes(circuit: Circuit, gone: set[Element], wires: Sequence[int], points: int = 3) -> float:
    rng = np.random.default_rng(3)
    less, worst = without(circuit, gone), 0.0
    for _ in range(points):
        x, w = rng.uniform(0, 1, circuit.n_inputs), rng.uniform(0, 2 * math.pi, circuit.n_weights)
        pairs = zip(z_values(circuit, wires, x, w), z_values(less, wires, x, w), strict=True)
        worst = max(worst, *(abs(a - b) for a, b in pairs))
    return worst


@st.composite
def circuits(draw: st.DrawFn) -> tuple[Circuit, list[int]]:
    """Draw a circuit on 2 or 3 wires, each angle a feature, a weight or a number, and what is read."""
    n, gates, used = draw(st.integers(2, 3)), [], [0, 0]
    for _ in range(draw(st.integers(1, 8))):
        name = draw(st.sampled_from([s for s in SIGNATURES if SIGNATURES[s][0] <= n]))
        angles: list[Angle] = []
        for _ in range(SIGNATURES[name][1]):
            kind = draw(st.sampled_from(["x", "w", "number"]))
            angles.append({"x": Input(used[0]), "w": Weight(used[1]), "number": math.pi / 2}[kind])
            used[0] += kind == "x"
            used[1] += kind == "w"
        wires = draw(st.permutations(range(n)))[: SIGNATURES[name][0]]
        gates.append(Gate(name, tuple(wires), tuple(angles)))
    read = draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    return Circuit(n, tuple(gates)), read


@given(circuits())
@settings(max_examples=40, deadline=None)
def test_what_is_said_to_have_no_effect_can_be_taken_out_and_nothing_else(case: tuple[Circuit, list[int]]) -> None:
    circuit, read = case
    outputs = views(circuit.n_qubits, z_of(circuit.n_qubits, read))
    plain, found = by_structure(circuit, outputs), by_numbers(look(circuit, read), outputs)
    assert plain <= found
    assert changes(circuit, found, read) < 1e-9
    some = set(list(found)[::2])
    assert changes(circuit, some & plain, read) < 1e-9
    for e in set(elements(circuit)) - found:
        # without it, alone or beside the others, or with its angle at another value, something is different
        taken = max(changes(circuit, {e}, read), changes(circuit, {*found, e}, read))
        assert max(taken, difference(circuit, moved(circuit, e), read)) > 1e-9


def moved(circuit: Circuit, e: Element) -> Circuit:
    if e.angle is None:
        return circuit
    gates = list(circuit.gates)
    gate = gates[e.gate]
    assert isinstance(gate, Gate)
    angles = tuple(a + 0.37 if j == e.angle else a for j, a in enumerate(gate.angles))
    gates[e.gate] = Gate(gate.name, gate.wires, angles)
    return Circuit(circuit.n_qubits, tuple(gates))


def difference(a: Circuit, b: Circuit, wires: Sequence[int]) -> float:
    rng = np.random.default_rng(4)
    worst = 0.0
    for _ in range(3):
        x, w = rng.uniform(0, 1, a.n_inputs), rng.uniform(0, 2 * math.pi, a.n_weights)
        pairs = zip(z_values(a, wires, x, w), z_values(b, wires, x, w), strict=True)
        worst = max(worst, *(abs(p - q) for p, q in pairs))
    return worst


@given(circuits())
@settings(max_examples=25, deadline=None)
def test_each_element_is_reported_under_one_rule(case: tuple[Circuit, list[int]]) -> None:
    circuit, read = case
    outputs = views(circuit.n_qubits, z_of(circuit.n_qubits, read))
    e = sort(circuit, outputs, look(circuit, read))
    parts = [e.dead, e.blind, e.hidden, e.flat, e.rest]
    assert sum(map(len, parts)) == len(frozenset().union(*parts))
    found = lint(circuit, wires=read)
    assert from_json(to_json(found)) == found
    assert [f.code for f in found] == sorted(f.code for f in found)


ZZ = tuple(Gate("IsingZZ", (q, q + 1), (Weight(q),)) for q in range(3))
CZ = tuple(Gate("CZ", (q, q + 1)) for q in range(3))
SOUND = {
    "dressed, 2 qubits": ansatzes.dressed(2, 2, scale=math.pi / 2),
    "dressed, 4 qubits": ansatzes.dressed(4, 6, scale=math.pi / 2),
    "dressed, 6 qubits": ansatzes.dressed(6, 6, scale=math.pi / 2),
    "ring of CX and RY": upload(4) + ansatzes.basic_entangling(4, 2, rotation="RY"),
    "strongly entangling, closed by RY": upload(4) + ansatzes.strongly_entangling(4, 2) + layer(4, "RY"),
    "strongly entangling after RZ RY": upload(3, "RZ", "RY") + ansatzes.strongly_entangling(3) + layer(3, "RY"),
    "data uploaded thrice": (upload(2) + layer(2, "RZ", "RY", ent=[cx(0, 1)])) * 3,
    "one qubit, data uploaded thrice": Circuit(1, (one("RX", 0, X[0] + 0.7), one("RY", 0, W[0]))) * 3,
    "ZZ before RX": upload(4) + Circuit(4, ZZ) + layer(4, "RX"),
    "RobQuNN's full graph first, without the last RZ": Circuit(4, tuple(one("RY", q, X[q] + 0.4) for q in range(4)))
    + Circuit(4, ansatzes.robqunn("full", order="zz_first").gates[:6])
    + layer(4, "RZ", "RY"),
    "amplitudes": encodings.amplitude(3) + ansatzes.strongly_entangling(3, 2) + layer(3, "RY"),
    "amplitudes, padded": encodings.amplitude(3, 6) + ansatzes.strongly_entangling(3, 2) + layer(3, "RY"),
    "hardware-efficient, RY and CZ": upload(4) + layer(4, "RY", ent=CZ) * 2 + layer(4, "RY"),
    **{f"Sim circuit {i}": upload(4) + ansatzes.sim(i) for i in (10, 14, 15, 19)},
    "Sim circuit 6, closed by RX": upload(4) + ansatzes.sim(6) + layer(4, "RX"),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_circuits_pass_in_silence(name: str) -> None:
    assert lint(SOUND[name]) == ()


def test_another_read_out_makes_other_circuits_sound() -> None:
    circuit = upload(3) + ansatzes.strongly_entangling(3, 2)
    (last,) = lint(circuit)
    assert (last.code, [g.text[-3:] for g in last.gates]) == ("RQ004", ["w11", "w14", "w17"])
    assert lint(circuit, observables=[{"XXI": 1.0}, {"IYZ": 1.0, "ZII": 0.5}, {"IIX": 1.0}]) == ()
    diagonal = lint(circuit, observables=Probabilities((0, 1, 2)))
    assert [places(f) for f in diagonal] == [places(last)]


@pytest.mark.parametrize(("kind", "entanglers"), [("linear", 3), ("star", 3), ("full", 6)])
def test_the_printed_order_of_robqunn(kind: ansatzes.RobQuNNKind, entanglers: int) -> None:
    circuit = encodings.angle(4) + ansatzes.robqunn(kind)
    zz, last_rz = lint(circuit)
    assert (zz.code, zz.severity, len(zz.gates)) == ("RQ003", "error", entanglers)
    assert all(circuit.gates[i].name == "IsingZZ" for i in places(zz))
    # ZZ(pi/2) turns |++> into a state of overlap (cos(pi/4))^2
    assert zz.evidence["largest_state_change"] == pytest.approx(0.5, abs=0.05)
    assert zz.evidence["largest_output_change"] < 1e-12
    assert (last_rz.code, places(last_rz)) == ("RQ004", [4, 5, 6, 7])
    assert last_rz.gates[0].text == "Rot(w2,w1,w0) on 0, its angle w0"
    first = lint(encodings.angle(4) + ansatzes.robqunn(kind, order="zz_first"))
    assert codes(first) == ["RQ004"]


def test_rz_on_zero_is_a_blind_encoder_and_nothing_else() -> None:
    # the encoder of QUID without H
    blind, last = (f for f in lint(encodings.angle(4, ("RZ",), scale=1.0) + ansatzes.sim(1)) if f.severity != "info")
    assert (blind.code, places(blind)) == ("RQ002", [0, 1, 2, 3])
    assert "x0, x1, x2 and x3" in blind.why
    assert (last.code, places(last)) == ("RQ004", [8, 9, 10, 11])
    assert codes(lint(encodings.angle(4, ("RZ",), scale=1.0, hadamard=True) + ansatzes.sim(1))) == ["RQ004"]


def test_closing_rz_of_sim_circuit_1() -> None:
    (last,) = (f for f in lint(upload(4, "RZ", "RX") + ansatzes.sim(1)) if f.severity != "info")
    assert last.code == "RQ004"
    assert {g.text for g in last.gates} == {f"RZ(w{4 + q}) on {q}" for q in range(4)}
    assert "4 of 8 weights" in last.why


def test_rx_after_h_is_blind() -> None:
    (found,) = lint(Circuit(1, (one("H", 0), one("RX", 0, X[0]))))
    assert (found.code, places(found)) == ("RQ002", [1])


def test_features_that_are_declared_cancelled_or_wasted_once() -> None:
    (unused,) = lint(Circuit(1, (one("RY", 0, X[1] + 1.0),)))
    assert (unused.code, unused.gates) == ("RQ002", ())
    assert "no gate takes x0" in unused.why
    (cancelled,) = lint(Circuit(1, (one("RY", 0, X[0]), one("RY", 0, -X[0]), one("RX", 0, W[0]))))
    assert (cancelled.code, places(cancelled)) == ("RQ002", [0, 1])
    # a feature that arrives by another gate: only the gate is without effect
    (wasted,) = lint(Circuit(1, (one("RY", 0, X[0] + 1.0), one("RZ", 0, X[0]))))
    assert (wasted.code, places(wasted)) == ("RQ001", [1])


@pytest.mark.parametrize(
    ("gates", "wasted"),
    [
        ((one("Z", 0), one("RY", 0, X[0] + 1.0)), [0]),  # on |0>
        ((one("RY", 0, X[0] + 1.0), one("S", 0), one("T", 0)), [1, 2]),  # before the read-out
        ((one("RY", 0, X[0] + 1.0), one("RX", 0, 0.0)), [1]),  # no turn
        ((cx(1, 0), one("RY", 0, X[0] + 1.0), one("RX", 1, W[0])), [0]),  # control |0>
        ((one("X", 1), Gate("SWAP", (0, 1)), one("RY", 0, X[0] + 1.0), Gate("CZ", (0, 1)), one("RX", 1, W[0])), [3]),
    ],
)
def test_gates_without_effect(gates: tuple[Gate, ...], wasted: list[int]) -> None:
    (found,) = (f for f in lint(Circuit(1 + max(w for g in gates for w in g.wires), gates)) if f.severity != "info")
    assert (found.code, places(found)) == ("RQ001", wasted)


def test_gates_that_cancel_each_other_each_have_an_effect() -> None:
    assert lint(Circuit(1, (one("X", 0), one("RY", 0, X[0] + 1.0), one("X", 0)))) == ()


def test_of_gates_that_stand_in_for_each_other_the_first_is_kept() -> None:
    # either CX alone dephases wire 0, so that what the other does is not seen
    both = Circuit(3, (one("RY", 0, X[0] + 1.0), cx(0, 1), cx(0, 2), one("RY", 0, W[0])))
    (found,) = lint(both, wires=[0])
    assert (found.code, places(found)) == ("RQ005", [2])
    assert found.why == "no output depends on what happens on wire 2"
    assert found.evidence["largest_output_change"] < 1e-9


def test_the_order_of_gates_tells_what_idles() -> None:
    gates = (one("X", 0), cx(0, 1), Gate("CZ", (0, 1)), Gate("CRX", (2, 0), (W[0],)), one("RY", 0, X[0]), cx(0, 1))
    circuit = Circuit(3, gates)
    assert {e.gate for e in idle(circuit)} == {2, 3}  # CZ on |11> and a turn controlled by |0>
    assert {e.gate for e in idle(Circuit(3, (one("RY", 0, X[0]), *gates[1:])))} == {3}
    assert {e.gate for e in hidden(circuit, {0: True})} == {5}
    assert {e.gate for e in hidden(circuit, {1: True})} == set()
    assert {e.gate for e in hidden(circuit, {2: True})} == {0, 1, 2, 3, 4, 5}


def test_weak_effects_are_effects() -> None:
    circuit = Circuit(1, (one("RY", 0, 1e-5 * X[0] + 1.0), one("RX", 0, 1e-4), one("RY", 0, 1e-5 * W[0])))
    assert lint(circuit) == ()


def test_dead_wires_are_one_finding() -> None:
    sound = upload(2) + layer(2, "RY", ent=[cx(0, 1)]) + layer(2, "RY")
    wider = Circuit(4, (*sound.gates, one("RY", 3, W[4]), one("RX", 3, X[2])))
    (both,) = lint(wider, wires=[0, 1])
    assert (both.code, places(both)) == ("RQ005", [len(sound.gates), len(sound.gates) + 1])
    assert both.why == "no gate acts on wire 2, no output depends on what happens on wire 3, x2 and w4 go with it"
    (read,) = (f for f in lint(wider, wires=[0, 1, 2]) if f.code == "RQ005")
    assert (read.why, read.gates) == (both.why, both.gates)  # a wire that is read but never driven says nothing more
    coupled = Circuit(3, (*sound.gates, cx(1, 2), one("RY", 2, W[4])))
    (tail,) = lint(coupled, wires=[0, 1])
    assert (tail.code, places(tail)) == ("RQ005", [len(sound.gates), len(sound.gates) + 1])


def test_outputs_that_never_change() -> None:
    fixed = lint(Circuit(2, (one("RY", 0, X[0] + 1.0), one("H", 1), cx(0, 1))), wires=[1])
    assert codes(fixed) == ["RQ005"]  # CX leaves |+> as it is: the wire of the feature says it all
    found = lint(Circuit(2, (one("RY", 0, X[0] + 1.0), one("H", 1))))
    assert [(f.code, f.why) for f in found if f.severity == "error"] == [("RQ010", "output 1 never changes")]
    blind = lint(Circuit(2, (one("RY", 0, X[0] + 1.0), one("RY", 1, W[0]))))
    assert [f.why for f in blind if f.code == "RQ010"] == ["output 1 depends on weights, but on no feature"]


@pytest.mark.parametrize("scale", [2 * math.pi, 4 * math.pi, -2 * math.pi])
def test_angles_that_wrap(scale: float) -> None:
    circuit = Circuit(2, tuple(one("RY", q, s * X[q] + 0.4) for q, s in ((0, scale), (1, 1.0)))) + layer(
        2, "RX", "RZ", ent=[cx(0, 1)]
    )
    circuit += layer(2, "RY")
    (found,) = lint(circuit)
    assert (found.code, places(found)) == ("RQ006", [0])
    if abs(scale) > 7:
        assert found.evidence["period"] == pytest.approx(0.5)
        assert "repeat with period 0.5 in x0" in found.why
    else:
        assert found.why == "outputs are the same at x0 = 0 and 1, whatever the rest"
    layer_ = QuantumLayer(circuit, weights=torch.arange(circuit.n_weights).float()).double()
    y = layer_(torch.tensor([[0.0, 0.3], [1.0, 0.3]], dtype=torch.float64)).detach()
    assert float((y[0] - y[1]).abs().max()) < 1e-6


def test_wrapping_depends_on_the_domain_and_on_controls() -> None:
    half = Circuit(1, (one("RY", 0, math.pi * X[0] + 0.4),))
    assert lint(half) == ()
    assert codes(lint(half, domain=(-1, 1))) == ["RQ006"]
    # a controlled turn of 2 pi is a sign, one of 4 pi is none
    for turns, wanted in ((2, []), (4, ["RQ006"])):
        turn = Gate("CRX", (0, 1), (turns * math.pi * X[0] + 0.4,))
        circuit = Circuit(2, (one("RY", 0, W[0]), one("RY", 1, W[1]), turn, one("RY", 0, W[2]), one("RX", 1, W[3])))
        assert [f.code for f in lint(circuit) if f.code == "RQ006"] == wanted
    often = circuit.with_angles(lambda a: 8 * math.pi * X[0] + 0.4 if isinstance(a, Input) else a)
    (found,) = (f for f in lint(often) if f.code == "RQ006")
    assert found.evidence["period"] == pytest.approx(0.5)
    # two turns of 2 pi are one of 4 pi
    twice = Circuit(1, (one("RY", 0, 2 * math.pi * X[0]), one("RY", 0, 2 * math.pi * X[0] + 0.4)))
    (found,) = lint(twice)
    assert (found.code, found.evidence["period"]) == ("RQ006", pytest.approx(0.5))


def test_slopes_that_vanish_at_the_ends() -> None:
    (found,) = (f for f in lint(encodings.angle(2)) if f.code == "RQ008")
    assert found.severity == "warning"
    assert "x0 and x1 at 0 and 1" in found.why
    assert found.evidence["largest_gradient"] < 1e-9
    x = torch.tensor([[0.0, 1.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(QuantumLayer(encodings.angle(2))(x).sum(), x)
    assert float(slope.abs().max()) < 1e-6  # d cos(pi x) / dx = -pi sin(pi x)
    shifted = Circuit(2, tuple(one("RY", q, math.pi / 2 * X[q] + math.pi / 4) for q in range(2)))
    assert codes(lint(shifted)) == []
    one_end = Circuit(1, (one("RY", 0, math.pi / 2 * X[0]),))
    (found,) = lint(one_end)
    assert found.why == "no output reacts to first order to x0 at 0, whatever the rest"
    # entangled and turned, each qubit's own output reacts and the others do not: no warning
    (mild,) = (f for f in lint(encodings.angle(4) + ansatzes.robqunn("full", order="zz_first")) if f.code == "RQ008")
    assert mild.severity == "info"


def test_redundant_weights() -> None:
    first = Circuit(2, (one("RY", 0, X[0] + 1.0), one("RX", 0, W[0]), one("RX", 0, W[1]), cx(0, 1), one("RX", 1, W[2])))
    (found,) = lint(first)
    assert (found.code, places(found)) == ("RQ009", [1, 2])
    assert found.why == "1 weight too many: only combinations of (w0, w1) matter"
    assert (found.evidence["weights"], found.evidence["rank"]) == (3, 2)
    # RX on the target commutes with CX
    (through,) = (f for f in lint(upload(2) + ansatzes.basic_entangling(2, 2)) if f.code == "RQ009")
    assert [g.text for g in through.gates] == ["RX(w1) on 1", "RX(w3) on 1"]


def test_many_weights_are_not_redundant_by_being_many() -> None:
    circuit = upload(2) + layer(2, "RX", "RY", ent=[Gate("CZ", (0, 1))]) * 6 + layer(2, "RX")
    assert circuit.n_weights > 2 * 3**2  # more than the outputs have coefficients at products of 1, sin x, cos x
    assert lint(circuit) == ()


def test_products_are_told() -> None:
    (found,) = lint(upload(3))
    assert (found.code, found.severity) == ("RQ011", "info")
    assert not fails([found])
    assert lint(upload(2) + Circuit(2, (cx(0, 1),))) == ()
    assert lint(upload(1)) == ()


NOISELESS = upload(2) + layer(2, "RY", ent=[cx(0, 1)]) + layer(2, "RX")


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule((Channel("BitFlip", (0,), (0.1,)),), gates=("CZ",)), "Rule for gates CZ"),
        (Rule((Channel("BitFlip", (0,), (0.1,)),), wires=((1, 0),)), "Rule for wires 1,0"),
        (Rule((Channel("BitFlip", (0,), (0.1,)),), n_wires=3), "Rule for 3 wires"),
        (OverRotation(0.1, gates=("CRX",)), "OverRotation for gates CRX"),
        (Crosstalk((0, 1), 0.1), "Crosstalk on 0,1"),  # CX(0, 1) drives the pair on purpose
    ],
)
def test_noise_that_touches_no_gate(rule: Rule | OverRotation | Crosstalk, told: str) -> None:
    (found,) = lint(NOISELESS, noise=NoiseModel((rule,)))
    assert (found.code, found.severity, found.gates) == ("RQ007", "error", ())
    assert found.why == f"no gate matches any rule of the noise model: 0 ({told})"
    used = Rule((Channel("BitFlip", (0,), (0.1,)),), gates=("CX",))
    (told_only,) = lint(NOISELESS, noise=NoiseModel((used, rule)))
    assert (told_only.code, told_only.severity) == ("RQ007", "info")
    assert told_only.evidence == {"rules": 2, "unused": 1, "gates": len(NOISELESS.gates)}
    assert lint(NOISELESS, noise=NoiseModel((used,))) == ()


def test_noise_without_strength_or_effect() -> None:
    (zero,) = lint(NOISELESS, noise=NoiseModel.uniform(Channel("Depolarizing", (0,), (0.0,))))
    noisy = with_noise(NOISELESS, NoiseModel.uniform(Channel("Depolarizing", (0,), (0.0,))))
    assert all(isinstance(noisy.gates[i], Channel) for i in places(zero))
    assert len(zero.gates) == len(noisy.channels)
    dephased = Circuit(2, (*NOISELESS.gates, Channel("PhaseDamping", (0,), (0.3,)), Channel("PhaseFlip", (1,), (0.2,))))
    (off,) = lint(dephased)  # right before the read-out
    assert (off.code, places(off)) == ("RQ007", [len(NOISELESS.gates), len(NOISELESS.gates) + 1])
    assert off.evidence["largest_output_change"] < 1e-9
    assert codes(lint(NOISELESS, noise=NoiseModel())) == ["RQ007"]
    assert codes(lint(NOISELESS, noise=NoiseModel(readout=((0.0, 0.0),)))) == ["RQ007"]
    assert lint(NOISELESS, noise=NoiseModel(readout=((0.01, 0.02),))) == ()


def test_noise_that_adds_and_turns_gates_is_read_as_it_is() -> None:
    circuit = upload(3) + ansatzes.sim(4, 3) + layer(3, "RX")
    added = (Crosstalk((1, 2), 0.1), OverRotation(scale=0.02))
    channels = NoiseModel((*added, *quid_noise(0.05).rules))
    assert lint(circuit, noise=channels) == ()
    idle = NoiseModel((*added, *quid_noise(0.0).rules))
    assert codes(lint(circuit, noise=idle)) == ["RQ007"]


def test_real_noise_passes_and_gates_are_judged_without_it() -> None:
    assert lint(NOISELESS, noise=quid_noise()) == ()
    assert codes(lint(NOISELESS, noise=device("ibm_kyiv"))) == []  # which has rules for other gates too
    blind = encodings.angle(2, ("RZ",)) + layer(2, "RX", ent=[cx(0, 1)])
    noisy = with_noise(blind, quid_noise())
    (found,) = (f for f in lint(noisy) if f.code == "RQ002")
    assert [noisy.gates[i].name for i in places(found)] == ["RZ", "RZ"]  # places in the circuit that was given


def test_large_circuits_are_judged_by_structure() -> None:
    circuit = encodings.angle(20, ("RZ",)) + ansatzes.sim(1, 20) + ansatzes.sim(1, 20)
    size, *found = lint(circuit)
    assert (size.code, size.severity) == ("RQ000", "info")
    assert [f.code for f in found] == ["RQ002", "RQ004"]
    assert places(found[0]) == list(range(20))
    assert places(found[1]) == list(range(80, 100))
    large = encodings.angle(16) + ansatzes.robqunn("full", 16)
    assert [len(f.gates) for f in lint(large) if f.code == "RQ003"] == [16 * 15 // 2]
    assert [f.code for f in lint(large, observables=[{"X" * 16: 1.0}])] == ["RQ000"]  # which sees the last RZ and ZZ
    with pytest.raises(UsageError, match="words of 16 letters"):
        lint(large, observables=[{"X": 1.0}])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"domain": (1.0, 1.0)}, "`domain` must be"),
        ({"domain": (0.0, math.inf)}, "`domain` must be"),
        ({"wires": [5]}, "`wires` must be among 0 to 1"),
        ({"observables": [{"Z": 1.0}]}, "words of 2 letters"),
        ({"wires": [0], "observables": [{"ZZ": 1.0}]}, "`wires` must be absent"),
        ({"n_points": 1}, "`n_points` must be 2 or more"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        lint(NOISELESS, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_odd_circuits_do_not_stop_it() -> None:
    assert codes(lint(Circuit(2))) == ["RQ005"]
    assert codes(lint(Circuit(1, (one("H", 0),)))) == []
    lint(Circuit(1, (), Amplitude(1)))
    assert codes(lint(encodings.amplitude(2))) == ["RQ008"]
    assert lint(NOISELESS) == lint(NOISELESS)
    assert lint(NOISELESS, n_points=2) == ()


def test_rules_are_whole_and_findings_can_be_chosen() -> None:
    assert list(RULES) == [f"RQ{i:03d}" for i in range(12)]
    found = lint(encodings.angle(4) + ansatzes.robqunn("full"))
    assert codes(selected(found, select=["RQ003"])) == ["RQ003"]
    assert codes(selected(found, ignore=["RQ003"])) == ["RQ004"]
    assert explain("RQ003").startswith("RQ003: entangler that commutes with the read-out (error)")
    for wrong in ("RQ3", "RQ999"):
        with pytest.raises(UsageError, match="Unknown rule"):
            explain(wrong)
        with pytest.raises(UsageError, match="Unknown rule"):
            selected(found, ignore=[wrong])
    assert from_json(to_json(found)) == found
    for broken in ("{", "[1]", '[{"gates": []}]', '{"a": 1}'):
        with pytest.raises(UsageError, match="must be findings"):
            from_json(broken)
    text = str(found[0])
    assert text.splitlines()[0].startswith("RQ003 [error] entangler that commutes with the read-out: ")


# What the command is given


def test_targets_by_name() -> None:
    for name in CIRCUITS:
        (target,) = find_targets(name)
        assert target.circuit.n_qubits == 4
    (five,) = find_targets("dressed", n_qubits=5, wires=[0])
    assert (five.circuit.n_qubits, len(five.outputs)) == (5, 1)  # type: ignore[arg-type]
    assert [t.name for t in find_targets("qunn_trainable")] == ["quanvolution.layer"]
    for name, told in (("cnn", "has none"), ("qun", "Unknown model or circuit")):
        with pytest.raises(UsageError, match=told):
            find_targets(name)
    with pytest.raises(UsageError, match="`wires` must be absent"):
        find_targets("qunn", wires=[0])


def test_a_models_layers_are_found_with_the_range_of_their_features() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = QuantumLayer(upload(2))
            self.b = QuantumLayer(upload(2))
            self.idle = QuantumLayer(upload(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.b(5 * self.a(x)))

    model = Two().train()
    targets = {t.name: t.domain for t in layer_targets(model, torch.rand(9, 2))}
    low, high = targets.pop("b")
    assert -5 <= low < -1
    assert low < high < 5
    assert targets == {"a": (0.0, 1.0), "idle": (0.0, 1.0)}
    assert model.training
    assert not model.a._forward_pre_hooks
    hybrid = MODELS["hybrid"]((4,), 3, generator=torch.Generator().manual_seed(0))
    assert [t.domain for t in layer_targets(hybrid, torch.rand(9, 4))] == [(-1.0, 1.0)]


OWN = """
from redqubit.models import QuantumLayer
from redqubit.quantum import Circuit, Gate, Input
import torch

def circuit(): return Circuit(1, (Gate("RZ", (0,), (Input(0),)),))
def quantum_layer(): return QuantumLayer(circuit())
def model(n_classes): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 1), QuantumLayer(circuit()))
def nothing(): return 3
"""
PROGRAM = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; h q[0]; h q[1]; rz(0.3) q[1]; cz q[0], q[1];'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_circuits.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "program.qasm").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(["lint", *words])
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err


@pytest.mark.usefixtures("place")
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "hybrid")
    assert (code, out) == (0, "circuit: nothing found\n")
    code, out, _ = run(capsys, "robqunn_full")
    assert code == 1
    assert "RQ003 [error]" in out
    assert run(capsys, "robqunn_full", "--ignore", "RQ003,RQ004")[0] == 0
    code, out, _ = run(capsys, "robqunn_full", "--select", "RQ003", "--json")
    assert code == 1
    (findings,) = json.loads(out).values()
    (zz,) = from_json(json.dumps(findings))
    assert (zz.code, len(zz.gates)) == ("RQ003", 6)
    code, out, _ = run(capsys, "angle", "--select", "RQ011")
    assert code == 0
    assert "RQ011 [info]" in out
    assert run(capsys, "hybrid", "--domain", "-2,2")[0] == 1
    assert run(capsys, "dressed", "--noise", "quid:0.05")[0] == 0
    code, out, _ = run(capsys, "dressed", "--noise", "Depolarizing:0")
    assert code == 1
    assert "a channel of strength zero is no noise" in out
    assert "RQ003: entangler" in run(capsys, "--explain", "RQ003")[1]
    for name in ("circuit", "quantum_layer"):
        code, out, _ = run(capsys, f"my_circuits:{name}")
        assert code == 1
        assert "no output depends on x0" in out
    assert run(capsys, "my_circuits:model", "--shape", "4")[0] == 1


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["qunm"],
        ["cnn"],
        ["my_circuits:nothing"],
        ["my_circuits:absent"],
        ["my_circuits:model", "--shape", "5"],
        ["qunn", "--shape", "4"],
        ["qunn", "--shape", "a"],
        ["qunn", "--wires", "0"],
        ["sim3", "--wires", "9"],
        ["sim3", "--domain", "1"],
        ["sim3", "--domain", "1,0"],
        ["sim3", "--select", "RQ3"],
        ["sim3", "--noise", "quid"],
        ["sim13", "--qubits", "5"],
        ["absent.qasm"],
        ["--explain", "RQ099"],
    ],
)
def test_bad_usage_is_one_line_and_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("redqubit: ")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("place")
def test_an_openqasm_file(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("qiskit")
    code, out, _ = run(capsys, "program.qasm", "--json")
    assert code == 1
    (findings,) = json.loads(out).values()
    assert {f["code"] for f in findings} >= {"RQ003"}


def test_the_panel_of_a_report() -> None:
    (target,) = find_targets("robqunn_full")
    panel = lint_panel(target)
    assert [row[0] for row in panel.data["rows"]] == [f.code for f in target.findings()]
    assert all(len(row) == len(panel.data["columns"]) for row in panel.data["rows"])
    (sound,) = find_targets("dressed")
    assert "Nothing was found" in lint_panel(sound).caption
