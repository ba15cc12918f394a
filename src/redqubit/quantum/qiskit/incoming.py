"""Circuits and neural networks of Qiskit, and OpenQASM programs, as circuits of ours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Input, Weight
from redqubit.quantum.interop import Imported
from redqubit.quantum.measure import Observable, Probabilities, z_of
from redqubit.quantum.qiskit.limits import MAX_BYTES, check_program
from redqubit.quantum.qiskit.optional import need
from redqubit.quantum.qiskit.translate import Angles, Walk

MAX_INTERPRETED = 8  # qubits: an interpret function becomes up to 2^n words for each output
_TINY = 1e-12


def from_qiskit(circuit: Any, *, inputs: Any = None, weights: Any = None, observables: Any = None) -> Imported:
    """Return a circuit or a neural network of Qiskit as a circuit here, with what is read from it.

    Angles are sums of parameters, and of products of inputs as in a ZZ feature map; a sum becomes consecutive gates.
    Gates without a counterpart are taken from their definitions, so that a PauliEvolutionGate is the product formula
    that Qiskit runs, or as matrices. Final measurements are left out, global phases dropped.

    Args:
        circuit: A QuantumCircuit; or an EstimatorQNN, SamplerQNN or TorchConnector of qiskit-machine-learning, which
            names its own inputs, weights and observables.
        inputs: The parameters that are features, in their order: Parameters, ParameterVectors, or names of either.
        weights: The same for weights, or a mapping from these to initial values (radians). Where only one of the two is
            given, the other holds the rest in the order of `circuit.parameters`; where none is, all are weights.
        observables: A SparsePauliOp, Pauli, label or Operator, or several, one output each; <Z> of each qubit when
            absent.

    Returns:
        The circuit, its observables as words with wire 0 (qubit 0) first, and initial weights where there are any.

    Raises:
        UsageError: for an instruction, a parameter expression, an observable or a name that has no counterpart.

    Example:
        >>> from qiskit import QuantumCircuit
        >>> from qiskit.circuit import Parameter
        >>> qc = QuantumCircuit(2)
        >>> _ = qc.ry(2 * Parameter("x"), 0), qc.cx(0, 1), qc.rx(Parameter("w"), 1)
        >>> found = from_qiskit(qc, inputs=["x"], observables="XZ")
        >>> print(found.circuit)
        0: ─RY(2·x0)─●────────
        1: ──────────X─RX(w0)─
        >>> found.observables
        ({'ZX': 1.0},)
    """
    if not isinstance(circuit, need("qiskit").QuantumCircuit):
        if inputs is not None or weights is not None or observables is not None:
            raise UsageError(
                "Arguments `inputs`, `weights` and `observables` belong to a QuantumCircuit, but "
                f"{_kind(circuit)} brings its own."
            )
        return _from_network(circuit)
    walk, values = _walked(circuit, inputs, weights)
    outputs = z_of(circuit.num_qubits, range(circuit.num_qubits))
    if observables is not None:
        outputs = words(observables, circuit.num_qubits)
    return Imported(walk.circuit, outputs, values, tuple(walk.angles.products))


def from_qasm(source: str | Path, *, inputs: Any = None, weights: Any = None, observables: Any = None) -> Imported:
    """Return an OpenQASM 2 or 3 program as a circuit here.

    Args:
        source: The program, or the path of a file that holds it. The version is taken from its first statement.
        inputs: As in `from_qiskit`: names of the parameters that OpenQASM 3 declares by `input float` or `input angle`.
        weights: As in `from_qiskit`.
        observables: As in `from_qiskit`.

    Raises:
        UsageError: for a program that Qiskit cannot read, with its line, or that has no counterpart here.

    Example:
        >>> program = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; h q[0]; cx q[0], q[1];'
        >>> print(from_qasm(program).circuit)
        0: ─H─●─
        1: ───X─
    """
    is_path = isinstance(source, Path) or not (";" in source or "\n" in source)
    if is_path and not Path(source).is_file():
        raise UsageError(f"Argument `source` must be a program or a file that exists, but is {str(source)!r}.")
    text = _text(Path(source)) if is_path else str(source)
    plain = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    check_program(plain)
    version = re.search(r"^\s*OPENQASM\s+(\d+)", plain, re.MULTILINE)
    if version is None or version[1] not in ("2", "3"):
        raise UsageError("Argument `source` must begin with `OPENQASM 2.0;` or `OPENQASM 3.0;`, but does not.")
    circuit = _parsed(text, version[1])
    return from_qiskit(circuit, inputs=inputs, weights=weights, observables=observables)


def _text(path: Path) -> str:
    """Return what is in a file, whose size `check_program` will judge."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Argument `source` must be a program in UTF-8, but {path}: {error}.") from None


def _parsed(text: str, version: str) -> Any:
    """Return an OpenQASM program as a QuantumCircuit."""
    if version == "3":
        need("qiskit_qasm3_import")
    qasm2, qasm3, heard = need("qiskit.qasm2"), need("qiskit.qasm3"), StringIO()
    try:
        with redirect_stderr(heard):  # the parser of OpenQASM 3 says there what is wrong
            if version == "3":
                return qasm3.loads(text)
            # gates that qelib1.inc lacks but Qiskit writes, unless the program defines its own
            own = set(re.findall(r"\b(?:gate|opaque)\s+(\w+)", text))
            known = [g for g in qasm2.LEGACY_CUSTOM_INSTRUCTIONS if g.name not in own]
            return qasm2.loads(text, include_path=(), custom_instructions=known)
    except Exception as error:  # besides their own errors the parsers let through what odd programs lead them to
        said = " ".join(str(getattr(error, "message", "") or heard.getvalue() or error or type(error).__name__).split())
        raise UsageError(f"Argument `source` must be OpenQASM that Qiskit can read, but it says: {said}") from None


def _walked(circuit: Any, inputs: Any, weights: Any) -> tuple[Walk, tuple[float, ...]]:
    values = weights if isinstance(weights, Mapping) else None
    known = list(circuit.parameters)
    in_x = _names(inputs, known, "inputs") if inputs is not None else None
    in_w = _names(weights, known, "weights") if weights is not None else None
    names = [p.name for p in known]
    if in_x is None:
        in_x = [] if in_w is None else [n for n in names if n not in in_w]
    if in_w is None:
        in_w = [n for n in names if n not in in_x]
    missing = [n for n in names if n not in in_x and n not in in_w]
    if missing:
        raise UsageError(
            f"Parameters must each be among `inputs` or `weights`, but `{missing[0]}` is in neither: add it to one."
        )
    both = [n for n in in_x if n in in_w]
    if both:
        raise UsageError(f"Parameters must each be among `inputs` or `weights`, but `{both[0]}` is in both.")
    for argument, listed in (("inputs", in_x), ("weights", in_w)):
        # a circuit knows as many inputs as its gates read
        if listed and listed[-1] not in names:
            raise UsageError(
                f"Argument `{argument}` must end with a parameter of the circuit, but `{listed[-1]}` is in none of its "
                "gates: leave it out."
            )
    sources = {n: Input(i) for i, n in enumerate(in_x)} | {n: Weight(i) for i, n in enumerate(in_w)}
    walk = Walk(circuit.num_qubits, Angles(sources, len(in_x), [])).read_all(circuit)
    return walk, () if values is None else tuple(float(v) for v in values.values())


def _names(listed: Any, known: Sequence[Any], argument: str) -> list[str]:
    """Return the names of parameters that are listed as Parameters, ParameterVectors or names of either."""
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        listed = [listed]
    vectors = {p.vector.name: p.vector for p in known if hasattr(p, "vector")}
    out: list[str] = []
    for entry in listed:
        found = vectors.get(entry, entry) if isinstance(entry, str) else entry
        if isinstance(found, str):
            if found not in [p.name for p in known]:
                raise UsageError(
                    f"Argument `{argument}` must name parameters of the circuit, but `{found}` is none of "
                    f"{', '.join(p.name for p in known) or 'its parameters: it has none'}."
                )
            out.append(found)
            continue
        for parameter in found if isinstance(found, Iterable) else [found]:
            if not isinstance(parameter, need("qiskit.circuit").Parameter):
                raise UsageError(
                    f"Argument `{argument}` must list Parameters, ParameterVectors or names, but has "
                    f"{_kind(parameter)} {parameter}."
                )
            out.append(parameter.name)
    twice = [n for i, n in enumerate(out) if n in out[:i]]
    if twice:
        raise UsageError(f"Argument `{argument}` must name each parameter once, but has `{twice[0]}` twice.")
    return out


def _kind(thing: Any) -> str:
    return f"the {type(thing).__name__}"


def _from_network(network: Any) -> Imported:
    if hasattr(network, "neural_network"):  # TorchConnector
        found = _from_network(network.neural_network)
        return Imported(
            found.circuit, found.observables, tuple(network.weight.detach().double().tolist()), found.products
        )
    if not hasattr(network, "input_params"):
        raise UsageError(
            "Argument `circuit` must be a QuantumCircuit, EstimatorQNN, SamplerQNN or TorchConnector, but is "
            f"{_kind(network)}."
        )
    circuit = network.circuit
    walk, _ = _walked(circuit, network.input_params, network.weight_params)
    if hasattr(network, "observables"):
        outputs: tuple[Observable, ...] | Probabilities = words(network.observables, circuit.num_qubits)
    else:
        outputs = _sampled(network, walk)
    return Imported(walk.circuit, outputs, (), tuple(walk.angles.products))


def _sampled(network: Any, walk: Walk) -> tuple[Observable, ...] | Probabilities:
    """Return what a SamplerQNN puts out: the probability of each read-out, or of each value of `interpret`."""
    n = walk.n_qubits
    read = walk.read or {i: i for i in range(n)}
    if sorted(read) != list(range(len(network.circuit.clbits) or n)):
        raise UsageError("A SamplerQNN must measure into all its classical bits, but some are left empty.")
    states = 2 ** len(read)
    labels = [network.interpret(i) for i in range(states)]
    if labels == list(range(states)):
        return Probabilities(tuple(read[bit] for bit in reversed(range(len(read)))))
    if len(network.output_shape) != 1 or len(read) > MAX_INTERPRETED:
        raise UsageError(
            "A SamplerQNN with an interpret function must have outputs of one dimension and at most "
            f"{MAX_INTERPRETED} qubits, but has shape {tuple(network.output_shape)} and {len(read)} qubits."
        )
    outputs = []
    for output in range(network.output_shape[0]):
        # the indicator of the states that bear this label, as a sum of words of Z: a Walsh-Hadamard transform
        word_sum = {}
        for mask in range(states):
            signed = sum((-1) ** (i & mask).bit_count() for i in range(states) if labels[i] == output)
            if signed or not mask:
                letters = ["I"] * n
                for bit, wire in read.items():
                    letters[wire] = "Z" if mask >> bit & 1 else "I"
                word_sum["".join(letters)] = signed / states
        outputs.append(word_sum)
    return tuple(outputs)


def words(observables: Any, n_qubits: int) -> tuple[Observable, ...]:
    """Return observables of Qiskit as sums of Pauli words with wire 0 first."""
    info = need("qiskit.quantum_info")
    single = isinstance(observables, str | need("qiskit.quantum_info.operators.base_operator").BaseOperator)
    out = []
    for operator in [observables] if single else observables:
        total: dict[str, float] = {}
        for label, coefficient in _pauli_sum(operator, info).to_list():
            if len(label) != n_qubits:
                raise UsageError(
                    f"Argument `observables` must act on the circuit's {n_qubits} qubits, but one acts on {len(label)}."
                )
            if not isinstance(coefficient, complex) or abs(coefficient.imag) > _TINY:
                raise UsageError(f"Argument `observables` must have real coefficients, but {label} has {coefficient}.")
            total[label[::-1]] = total.get(label[::-1], 0.0) + coefficient.real
        out.append(total)
    return tuple(out)


def _pauli_sum(operator: Any, info: Any) -> Any:
    if isinstance(operator, info.SparsePauliOp):
        return operator
    if isinstance(operator, str | info.Pauli):
        return info.SparsePauliOp(operator)
    if isinstance(operator, info.SparseObservable):
        return info.SparsePauliOp.from_sparse_observable(operator)
    if isinstance(operator, info.Operator):
        return info.SparsePauliOp.from_operator(operator)
    raise UsageError(
        f"Argument `observables` must hold SparsePauliOps, Paulis, labels or Operators, but has {_kind(operator)}."
    )
