"""Channels and noise models as data: what they are, where they are put, and what is refused."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from redqubit.errors import UsageError
from redqubit.quantum import Circuit, Gate, Input, ansatzes, encodings
from redqubit.quantum.channels import CHANNELS, PAULIS, Channel
from redqubit.quantum.circuit import Amplitude
from redqubit.quantum.noise import DEVICES, Crosstalk, NoiseModel, OverRotation, Rule, device, quid_noise, with_noise

Complex = NDArray[np.complex128]


def kraus(channel: Channel) -> Complex:
    return np.array(channel.operators, dtype=complex)


def after(channel: Channel, rho: Complex) -> Complex:
    return np.array(sum(k @ rho @ k.conj().T for k in kraus(channel)))


def state(x: float, y: float, z: float) -> Complex:
    return sum((c * np.array(PAULIS[p]) for c, p in zip((1, x, y, z), "IXYZ", strict=True)), np.zeros((2, 2))) / 2


def bloch(rho: Complex) -> list[float]:
    return [float(np.trace(np.array(PAULIS[p]) @ rho).real) for p in "XYZ"]


@given(st.sampled_from(sorted(CHANNELS)), st.floats(0, 1), st.floats(0, 1))
def test_every_channel_keeps_the_trace(name: str, a: float, b: float) -> None:
    n_wires, names = CHANNELS[name]
    for wires in n_wires:
        values = (2.0, 1.0 + a, b, a) if name == "ThermalRelaxation" else (a, b)[: len(names)]
        ks = kraus(Channel(name, tuple(range(wires)), values))
        assert np.allclose(sum(k.conj().T @ k for k in ks), np.eye(2**wires), atol=1e-12)


def test_channels_do_to_the_bloch_vector_what_their_names_say() -> None:
    r, p = (0.3, -0.4, 0.5), 0.2
    c = 1 - 4 * p / 3
    s = math.sqrt(1 - p)
    wanted = {
        "AmplitudeDamping": (r[0] * s, r[1] * s, p + (1 - p) * r[2]),
        "PhaseDamping": (r[0] * s, r[1] * s, r[2]),
        "Depolarizing": (r[0] * c, r[1] * c, r[2] * c),
        "BitFlip": (r[0], r[1] * (1 - 2 * p), r[2] * (1 - 2 * p)),
        "PhaseFlip": (r[0] * (1 - 2 * p), r[1] * (1 - 2 * p), r[2]),
        "BitPhaseFlip": (r[0] * (1 - 2 * p), r[1], r[2] * (1 - 2 * p)),
    }
    for name, vector in wanted.items():
        assert np.allclose(bloch(after(Channel(name, (0,), (p,)), state(*r))), vector), name


@pytest.mark.parametrize(("t1", "t2"), [(50.0, 30.0), (50.0, 100.0), (20.0, 20.0)])
def test_thermal_relaxation_decays_by_its_two_times(t1: float, t2: float) -> None:
    duration, excited = 7.0, 0.1
    found = bloch(after(Channel("ThermalRelaxation", (0,), (t1, t2, duration, excited)), state(0.6, 0.2, -0.7)))
    rest = 1 - 2 * excited
    assert np.allclose(found[:2], np.array([0.6, 0.2]) * math.exp(-duration / t2))
    assert found[2] == pytest.approx(rest + (-0.7 - rest) * math.exp(-duration / t1))


def test_generalized_damping_ends_in_its_population() -> None:
    found = after(Channel("GeneralizedAmplitudeDamping", (0,), (1.0, 0.8)), state(0.1, 0.2, 0.3))
    assert np.allclose(found, np.diag([0.8, 0.2]))


def test_pauli_words_are_in_the_order_of_the_docstring() -> None:
    words = ["".join(w) for w in itertools.product("IXYZ", repeat=2)][1:]
    for i, word in enumerate(words):
        one = Channel("Pauli", (0, 1), tuple(float(j == i) for j in range(15)))
        assert np.allclose(kraus(one), np.kron(np.array(PAULIS[word[0]]), np.array(PAULIS[word[1]])))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Channel("AmplitudeDampin", (0,), (0.1,)), "AmplitudeDamping"),
        (lambda: Channel("Depolarizing", (0,), (1.1,)), "within [0, 1]"),
        (lambda: Channel("Depolarizing", (0,), (-0.1,)), "within [0, 1]"),
        (lambda: Channel("Depolarizing", (0,), (math.nan,)), "within [0, 1]"),
        (lambda: Channel("Depolarizing", (0, 1, 2), (0.1,)), "1 or 2 wires"),
        (lambda: Channel("Depolarizing", (0, 0), (0.1,)), "distinct"),
        (lambda: Channel("Pauli", (0,), (0.5, 0.5, 0.5)), "sum 1 or less"),
        (lambda: Channel("ThermalRelaxation", (0,), (1.0, 2.5, 0.1, 0.0)), "t2 <= 2 t1"),
        (lambda: Channel("ThermalRelaxation", (0,), (1.0, 1.0, math.inf, 0.0)), "duration"),
        (lambda: Channel("Kraus", (0,), kraus=(((1, 0), (0, 0.9)),)), "keep the trace"),
        (lambda: Channel("Kraus", (0,), kraus=(((math.nan, 0), (0, 1)),)), "keep the trace"),
        (lambda: Channel("Kraus", (0,), kraus=(((1, 0, 0), (0, 1, 0)),)), "2 x 2"),
        (lambda: Channel("Kraus", (0,)), "2 x 2"),
        (lambda: Channel("BitFlip", (0,), (0.1,), kraus=(((1, 0), (0, 1)),)), "belongs to the channel Kraus"),
        (lambda: Circuit(1, (Channel("BitFlip", (1,), (0.1,)),)), "acts on wires (1,)"),
        (lambda: Circuit(2, readout=((0.1, 0.1),)), "each of 2 wires"),
        (lambda: Circuit(1, readout=((0.1, 1.2),)), "each of 1 wires"),
        (lambda: Circuit(1, readout=((math.nan, 0.0),)), "each of 1 wires"),
        (lambda: Rule((), gates=("RXX",)), "RX"),
        (lambda: Rule((), place="all"), "each"),  # type: ignore[arg-type]
        (lambda: Rule((Channel("BitFlip", (1,), (0.1,)),)), "wires (0,)"),
        (lambda: Rule((Gate("RX", (0,), (Input(0),)),)), "numbers"),
        (lambda: OverRotation(0.1, gates=("RXX",)), "RX"),
        (lambda: with_noise(Circuit(2), NoiseModel(readout=((0.1, 0.1),) * 3)), "2 wires"),
        (lambda: with_noise(Circuit(1, readout=((0.1, 0.1),)), NoiseModel(readout=((0.1, 0.1),))), "brings its own"),
        (
            lambda: with_noise(
                Circuit(1, (Gate("H", (0,)),)), NoiseModel((Rule((Channel("BitFlip", (1,), (0.1,)),), place="gate"),))
            ),
            "wire 1 of a gate that has 1",
        ),
        (lambda: device("ibm_kiev"), "ibm_kyiv"),
        (lambda: Circuit(1, (Channel("BitFlip", (0,), (0.1,)),)).inverse(), "no inverse"),
    ],
)
def test_bad_noise_is_one_clear_line(make: object, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()  # type: ignore[operator]
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_uniform_noise_follows_every_gate_on_its_wires_in_order() -> None:
    circuit = Circuit(2, (Gate("H", (0,)), Gate("CX", (1, 0))))
    noisy = with_noise(circuit, quid_noise(0.05))
    assert [(g.name, g.wires) for g in noisy.gates] == [
        ("H", (0,)), ("AmplitudeDamping", (0,)), ("Depolarizing", (0,)),
        ("CX", (1, 0)), ("AmplitudeDamping", (1,)), ("AmplitudeDamping", (0,)), ("Depolarizing", (1,)),
        ("Depolarizing", (0,)),
    ]  # fmt: skip
    assert noisy.n_inputs == circuit.n_inputs
    assert noisy.depth == circuit.depth


def test_rules_pick_names_wires_and_sizes() -> None:
    flip = Channel("BitFlip", (0,), (0.1,))
    both = Channel("Depolarizing", (1, 0), (0.1,))
    circuit = Circuit(3, (Gate("H", (0,)), Gate("CX", (0, 1)), Gate("CX", (1, 2)), Gate("CZ", (1, 2))))
    model = NoiseModel((Rule((flip,), wires=((0,),)), Rule((both,), gates=("CX",), n_wires=2, place="gate")))
    found = [(g.name, g.wires) for g in with_noise(circuit, model).gates if isinstance(g, Channel)]
    assert found == [("BitFlip", (0,)), ("Depolarizing", (1, 0)), ("Depolarizing", (2, 1))]


def test_over_rotation_changes_the_angles_named() -> None:
    circuit = Circuit(1, (Gate("RX", (0,), (math.pi * Input(0),)), Gate("RY", (0,), (0.5,))))
    noisy = with_noise(circuit, NoiseModel((OverRotation(0.02, 0.1, gates=("RX",)),)))
    angle, other = noisy.angles
    assert isinstance(angle, Input)
    assert (angle.scale, angle.offset, other) == (pytest.approx(1.02 * math.pi), 0.1, 0.5)


def test_crosstalk_turns_the_pair_when_a_gate_touches_one_of_its_wires() -> None:
    gates = (Gate("CX", (0, 1)), Gate("CX", (1, 2)), Gate("RX", (1,), (0.1,)), Gate("CX", (2, 3)), Gate("CX", (3, 4)))
    noisy = with_noise(Circuit(5, gates), NoiseModel((Crosstalk((1, 2), 0.2),)))
    assert [g.name for g in noisy.gates] == ["CX", "IsingZZ", "CX", "RX", "CX", "IsingZZ", "CX"]


def test_an_amplitude_encoding_is_one_gate_on_all_wires() -> None:
    noisy = with_noise(Circuit(2, (), Amplitude(4)), quid_noise())
    assert [g.wires for g in noisy.channels] == [(0,), (1,), (0,), (1,)]


@pytest.mark.parametrize("name", sorted(DEVICES))
def test_a_native_gate_of_a_device_has_the_reported_error(name: str) -> None:
    """Average infidelity from the Kraus operators, 1 - (sum_k |Tr K_k|^2 + d) / (d^2 + d)."""
    c = DEVICES[name]
    for gate, error in ((Gate("X", (0,)), c.one_qubit_error), (Gate("CX", (0, 1)), c.two_qubit_error)):
        n = len(gate.wires)
        whole = np.eye(4**n, dtype=complex)  # superoperator, row-major
        for channel in with_noise(Circuit(n, (gate,)), device(name)).channels:
            pads = [np.eye(2)] * n
            total = np.zeros_like(whole)
            for k in kraus(channel):
                if len(channel.wires) == n:
                    full = k
                else:
                    parts = [k if w in channel.wires else p for w, p in enumerate(pads)]
                    full = np.kron(parts[0], parts[1])
                total += np.kron(full, full.conj())
            whole = total @ whole
        dim = 2**n
        assert 1 - (np.trace(whole).real + dim) / (dim**2 + dim) == pytest.approx(error, rel=1e-6)


def test_devices_charge_every_gate_but_turns_about_z() -> None:
    free = {"RZ", "P", "Z", "S", "T"}
    from redqubit.quantum.circuit import SIGNATURES

    for name, (n_wires, n_angles) in SIGNATURES.items():
        circuit = Circuit(n_wires, (Gate(name, tuple(range(n_wires)), (0.1,) * n_angles),))
        assert bool(with_noise(circuit, device("ibm_kyiv")).channels) == (name not in free), name


@settings(max_examples=20)
@given(st.integers(1, 19), st.floats(0, 1))
def test_noise_changes_no_gate_and_survives_composition(number: int, p: float) -> None:
    circuit = encodings.angle(4) + ansatzes.sim(number, 4, 1)
    noisy = with_noise(circuit, quid_noise(p))
    assert tuple(g for g in noisy.gates if isinstance(g, Gate)) == circuit.gates
    doubled = noisy * 2
    assert (doubled.n_weights, len(doubled.channels)) == (2 * circuit.n_weights, 2 * len(noisy.channels))
    assert str(noisy).count("\n") == 3
