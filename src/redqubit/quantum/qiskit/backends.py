"""Backends of Qiskit: native gates and routing, their noise, and runs of a circuit on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Input, Weight
from redqubit.quantum.measure import Observable, Probabilities
from redqubit.quantum.noise import NoiseModel, Rule
from redqubit.quantum.qiskit.aer import channels, errors_of
from redqubit.quantum.qiskit.optional import need
from redqubit.quantum.qiskit.outgoing import pauli_sums, to_qiskit
from redqubit.quantum.qiskit.translate import FIXED_TURNS, NAMES, Angles, Follow, Walk
from redqubit.quantum.simulation.state_vector import check

# Qiskit Aer leaves out parameters of these that a primitive binds (its issues 2323 and 2403)
_UNBOUND = ("cp", "crx", "cry", "crz")


@dataclass(frozen=True)
class Transpiled:
    """A circuit in the native gates of a backend, on the qubits that it uses there.

    Attributes:
        circuit: Inputs and weights are those of the original.
        wires: The wire on which each wire of the original is read out.
        qubits: The backend's qubit of each wire, ascending.
    """

    circuit: Circuit
    wires: tuple[int, ...]
    qubits: tuple[int, ...]

    def observables(self, originals: Sequence[Observable]) -> tuple[Observable, ...]:
        """Return observables of the original as observables of `circuit`.

        Example:
            >>> Transpiled(Circuit(3), (2, 0), (1, 3, 5)).observables([{"ZX": 0.5}])
            ({'XIZ': 0.5},)
        """

        def moved(word: str) -> str:
            letters = dict(zip(self.wires, word, strict=True))
            return "".join(letters.get(w, "I") for w in range(self.circuit.n_qubits))

        return tuple({moved(word): c for word, c in o.items()} for o in originals)


def transpile_to(
    circuit: Circuit,
    backend: Any,
    *,
    seed: int = 0,
    optimization_level: int = 1,
    layout: Sequence[int] | None = None,
    routing: bool = True,
    scheduling: str | None = None,
) -> Transpiled:
    """Return a circuit in the native gates of a backend, routed on its coupling map; inputs and weights stay symbols.

    Args:
        circuit: A circuit without noise and without amplitude encoding.
        backend: A BackendV2 of Qiskit, fake or real, or a noise model of Qiskit Aer for its basis gates.
        seed: Seed of Qiskit's transpiler.
        optimization_level: Its optimization level, 0 to 3.
        layout: The backend's qubit for each wire; the transpiler's choice by default.
        routing: Whether SWAPs may be added where qubits are not coupled. Without, wires stay on `layout`, or on the
            first qubits.
        scheduling: "asap" or "alap" makes idle times delays, which relax in `on_backend`; none by default.

    Raises:
        UsageError: when the circuit does not fit the backend, or without routing needs qubits that are not coupled.
    """
    placed = _placed(circuit, backend, seed, optimization_level, layout, routing, scheduling)
    return _taken_back(circuit, *placed, lambda instruction, wires: ())


def on_backend(
    circuit: Circuit,
    backend: Any,
    *,
    seed: int = 0,
    optimization_level: int = 1,
    layout: Sequence[int] | None = None,
    routing: bool = True,
    scheduling: str | None = None,
) -> Transpiled:
    """Return a circuit as a backend would run it: native gates, each followed by its noise, and read-out errors.

    The noise is that of `qiskit_aer.noise.NoiseModel.from_backend`, or of the noise model that an AerSimulator carries.
    Arguments and errors are those of `transpile_to`.

    Example:
        >>> from qiskit_aer.noise import NoiseModel as AerNoise, depolarizing_error
        >>> from redqubit.quantum import Gate
        >>> noise = AerNoise(basis_gates=["rz", "sx", "cx"])
        >>> noise.add_all_qubit_quantum_error(depolarizing_error(0.02, 2), "cx")
        >>> on_backend(Circuit(2, (Gate("RZ", (0,), (Input(0),)), Gate("CX", (0, 1)))), noise).circuit.counts
        {'RZ': 1, 'CX': 1, 'Kraus': 1}
    """
    placed = _placed(circuit, backend, seed, optimization_level, layout, routing, scheduling)
    qubits = placed[1]
    errors = errors_of(backend, qubits)

    def follow(instruction: Any, wires: tuple[int, ...]) -> tuple[Channel, ...]:
        return errors.after(instruction, tuple(qubits[w] for w in wires), wires)

    found = _taken_back(circuit, *placed, follow)
    measure = need("qiskit.circuit").Measure()
    last = tuple(c for w in found.wires for c in errors.after(measure, (qubits[w],), (w,)))
    readout = tuple(errors.readout_of(q) for q in qubits)
    noisy = replace(
        found.circuit,
        gates=found.circuit.gates + last,
        readout=readout if any(p for pair in readout for p in pair) else (),
    )
    return replace(found, circuit=noisy)


def _placed(
    circuit: Circuit,
    backend: Any,
    seed: int,
    level: int,
    layout: Sequence[int] | None,
    routing: bool,
    scheduling: str | None,
) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """Return (circuit on the qubits that are used, the backend's qubit of each, the place of each original wire)."""
    if circuit.is_noisy or circuit.initial is not None:
        what = "amplitude encoding" if circuit.initial is not None else "noise"
        raise UsageError(f"Argument `circuit` must have no {what} to be transpiled: a backend takes gates alone.")
    qiskit = need("qiskit")
    theirs = to_qiskit(circuit)
    if isinstance(backend, need("qiskit.providers").BackendV2):
        where = {"backend": backend}
        _check_fit(circuit, backend, layout)
    elif isinstance(backend, need("qiskit_aer.noise").NoiseModel):
        where = {"basis_gates": backend.basis_gates}
    else:
        raise UsageError(
            f"Argument `backend` must be a BackendV2 or a noise model of Aer, but is of type {type(backend).__name__}."
        )
    if not routing:
        layout = tuple(range(circuit.n_qubits)) if layout is None else layout
        _check_coupling(theirs, backend, layout)
    native = qiskit.transpile(
        theirs,
        **where,
        seed_transpiler=seed,
        optimization_level=level,
        initial_layout=None if layout is None else list(layout),
        routing_method=None if routing else "none",
        scheduling_method=scheduling,
    )
    final = range(circuit.n_qubits) if native.layout is None else native.layout.final_index_layout()
    index = {q: i for i, q in enumerate(native.qubits)}
    active = {index[q] for item in native.data if item.operation.name not in ("delay", "barrier") for q in item.qubits}
    used = tuple(sorted(active | set(final)))
    small = qiskit.QuantumCircuit(len(used))
    for item in native.data:
        at = [index[q] for q in item.qubits]
        if set(at) <= set(used):
            small.append(item.operation, [used.index(q) for q in at])
    return small, used, tuple(used.index(q) for q in final)


def _taken_back(
    circuit: Circuit, native: Any, qubits: tuple[int, ...], wires: tuple[int, ...], follow: Follow
) -> Transpiled:
    sources: dict[str, Input | Weight] = {f"x[{i}]": Input(i) for i in range(circuit.n_inputs)}
    sources |= {f"w[{i}]": Weight(i) for i in range(circuit.n_weights)}
    walk = Walk(len(qubits), Angles(sources, circuit.n_inputs, []), follow).read_all(native)
    return Transpiled(walk.circuit, wires, qubits)


def _check_fit(circuit: Circuit, backend: Any, layout: Sequence[int] | None) -> None:
    size = backend.num_qubits
    if size is not None and circuit.n_qubits > size:
        raise UsageError(f"Argument `circuit` must fit {backend.name} of {size} qubits, but has {circuit.n_qubits}.")
    if layout is not None and (
        len(layout) != circuit.n_qubits
        or len(set(layout)) != len(layout)
        or not set(layout) <= set(range(size or circuit.n_qubits))
    ):
        raise UsageError(
            f"Argument `layout` must name {circuit.n_qubits} different qubits of {size}, but is {tuple(layout)}."
        )


def _check_coupling(theirs: Any, backend: Any, layout: Sequence[int]) -> None:
    coupling = getattr(backend, "coupling_map", None)
    if coupling is None:
        return
    edges = {frozenset(edge) for edge in coupling.get_edges()}
    pairs = need("qiskit").transpile(theirs, basis_gates=["u", "cx"], optimization_level=0)
    for item in pairs.data:
        a, b = (pairs.find_bit(q).index for q in (item.qubits[0], item.qubits[-1]))
        if a != b and frozenset((layout[a], layout[b])) not in edges:
            raise UsageError(
                f"Argument `layout` must put coupled qubits under every two-qubit gate, but wires {a} and {b} are on "
                f"qubits {layout[a]} and {layout[b]} of {backend.name}, which are not coupled: choose other qubits or "
                "leave `routing` on."
            )


def noise_from_qiskit(source: Any) -> NoiseModel:
    """Return the noise of a backend, or of a noise model of Qiskit Aer, as rules for our gates on the device's wires.

    Each error follows the gate that a native gate becomes here, such as RX for SX, on the same qubits. The rules know
    nothing of angles: use them on circuits of native gates. `on_backend` does both, and counts a gate once that is
    several here because its angle is a sum of parameters. Noise of `id`, `delay` and `reset` is left out, since no
    circuit here holds these.

    Raises:
        UsageError: where the rules cannot say what the noise model says; `on_backend` follows it to the letter.
    """
    errors = errors_of(source)
    rules: dict[tuple[str, tuple[int, ...] | None, int], tuple[str, Any]] = {}
    for (name, qubits), error in errors.gates.items():
        if name in ("id", "delay", "reset"):
            continue
        ours = _our_name(name, error.num_qubits)
        if qubits is not None and (name, None) in errors.gates:
            raise UsageError(
                f"Noise of `{name}` must be given for all qubits or for single ones, but has both: use on_backend."
            )
        key = (ours, qubits, error.num_qubits)
        if key in rules and rules[key][1] != error:
            raise UsageError(
                f"Noise must not tell gates apart that are one gate here, but `{rules[key][0]}` and `{name}` are both "
                f"{ours} and have different noise: use on_backend."
            )
        rules[key] = (name, error)
    found = []
    for (ours, qubits, size), (_, error) in rules.items():
        # our unitaries take the wires of Qiskit's gates in reverse
        order = range(size)[::-1] if ours == "Unitary" else range(size)
        wires = () if qubits is None else (tuple(qubits[i] for i in order),)
        found.append(Rule(channels(error, tuple(order)), (ours,), wires, size, "gate"))
    n = max([-1, *(q for q in errors.readout if q is not None)]) + 1
    readout = tuple(errors.readout_of(q) for q in range(n)) if n else (errors.readout_of(0),)
    return NoiseModel(tuple(found), readout if any(p for pair in readout for p in pair) else ())


def _our_name(name: str, n_qubits: int) -> str:
    standard = need("qiskit.circuit.library").get_standard_gate_name_mapping()
    if name in NAMES:
        return NAMES[name]
    if name in FIXED_TURNS:
        return FIXED_TURNS[name][0]
    if name in ("u", "u2", "u3"):
        return "Rot"
    if name == "unitary" or (name in standard and n_qubits <= 2 and name != "measure" and not standard[name].params):
        return "Unitary"
    raise UsageError(f"Noise of `{name}` cannot follow one gate of a circuit here: use on_backend.")


class BackendRun:
    """A circuit made ready for a backend: call it with features and weights for expectation values.

    Args:
        circuit: A circuit without noise and without amplitude encoding.
        observables: Sums of Pauli words, one output each.
        backend: A BackendV2, fake or real, an AerSimulator, or any estimator primitive (BaseEstimatorV2). A real device
            wants the estimator of qiskit-ibm-runtime.
        shots: Read-outs for each word; a primitive is asked for the precision 1 / sqrt(shots). The primitive's own
            default when absent.
        seed: Seed of the transpiler, and of the simulator behind a BackendV2; an estimator keeps its own.

    Raises:
        UsageError: when the circuit does not fit the backend, or `shots` is not 1 or more.
    """

    def __init__(
        self,
        circuit: Circuit,
        observables: Sequence[Observable],
        backend: Any,
        *,
        shots: int | None = None,
        seed: int | None = None,
    ) -> None:
        primitives = need("qiskit.primitives")
        if shots is not None and shots < 1:
            raise UsageError(f"Argument `shots` must be 1 or more, but is {shots}.")
        if circuit.is_noisy or circuit.initial is not None:
            what = "amplitude encoding" if circuit.initial is not None else "noise of its own"
            raise UsageError(f"Argument `circuit` must have no {what} to run on a backend.")
        if isinstance(observables, Probabilities):
            raise UsageError("Argument `observables` must be Pauli sums on a backend, but asks for probabilities.")
        self.circuit = circuit
        native = to_qiskit(circuit)
        if isinstance(backend, primitives.BaseEstimatorV2):
            # the primitives of Aer and of the runtime keep theirs to themselves, and want circuits made for it
            self._estimator, target = backend, getattr(backend, "backend", getattr(backend, "_backend", None))
            target = target() if callable(target) else target
            native = native.decompose(list(_UNBOUND))
        elif isinstance(backend, need("qiskit.providers").BackendV2):
            options = {} if seed is None else {"seed_simulator": seed}
            self._estimator, target = primitives.BackendEstimatorV2(backend=backend, options=options), backend
        else:
            raise UsageError(
                f"Argument `backend` must be a BackendV2 or an estimator, but is of type {type(backend).__name__}."
            )
        self._observables = pauli_sums(observables)
        if target is not None:
            _check_fit(circuit, target, None)
            seed_transpiler = 0 if seed is None else seed
            native = need("qiskit").transpile(native, target, seed_transpiler=seed_transpiler, optimization_level=1)
            self._observables = [o.apply_layout(native.layout) for o in self._observables]
        self._native = native
        # rounded up, or the primitive would take one read-out more
        self._precision = None if shots is None else (1 + 1e-9) / math.sqrt(shots)

    def __call__(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return expectation values (B, K) of features (B, n_inputs), without gradient."""
        check(self.circuit, x, weights)
        numbers = {f"x[{i}]": x[:, i] for i in range(x.shape[1])}
        numbers |= {f"w[{i}]": w.expand(len(x)) for i, w in enumerate(weights)}
        columns = [numbers[p.name].detach().cpu().double().numpy() for p in self._native.parameters]
        outputs = [[o] for o in self._observables]
        values = [np.stack(columns, -1)] if columns else []
        job = self._estimator.run([(self._native, outputs, *values)], precision=self._precision)
        found = np.broadcast_to(job.result()[0].data.evs, (len(outputs), len(x)))
        return torch.tensor(found.T.copy(), dtype=x.dtype, device=x.device)


def run_on_backend(
    circuit: Circuit,
    x: Tensor,
    weights: Tensor,
    observables: Sequence[Observable],
    backend: Any,
    shots: int | None = None,
    seed: int | None = None,
) -> Tensor:
    """Return expectation values (B, K) of a batch that a backend runs; see `BackendRun`, which transpiles once.

    Example:
        >>> from qiskit.primitives import StatevectorEstimator
        >>> from redqubit.quantum import Gate
        >>> circuit = Circuit(1, (Gate("RY", (0,), (Input(0),)),))
        >>> x = torch.tensor([[0.0], [math.pi]])
        >>> run_on_backend(circuit, x, torch.zeros(0), [{"Z": 1.0}, {"I": 2.0}], StatevectorEstimator()).tolist()
        [[1.0, 2.0], [-1.0, 2.0]]
    """
    return BackendRun(circuit, observables, backend, shots=shots, seed=seed)(x, weights)
