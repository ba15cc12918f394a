"""A PennyLane model as a tape of gates and channels."""

import inspect
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel, Matrix
from redqubit.quantum.circuit import Gate
from redqubit.quantum.pennylane import traced

GATES: Mapping[str, str] = {  # name here -> name in PennyLane
    **{g: g for g in ("S", "T", "RX", "RY", "RZ", "Rot", "CY", "CZ", "SWAP", "CRX", "CRY", "CRZ", "Toffoli")},
    **{g: g for g in ("IsingXX", "IsingYY", "IsingZZ")},
    **{"H": "Hadamard", "X": "PauliX", "Y": "PauliY", "Z": "PauliZ", "CX": "CNOT"},
    **{"P": "PhaseShift", "CP": "ControlledPhaseShift"},
}
CHANNELS: Mapping[str, str] = {  # those of one wire with the same parameters
    **{c: c for c in ("AmplitudeDamping", "PhaseDamping", "BitFlip", "PhaseFlip")},
    "Depolarizing": "DepolarizingChannel",
}
_NEUTRAL = ("Identity", "GlobalPhase", "Barrier", "Snapshot")  # without effect on expectation values
_UNITARY = 2  # up to so many wires a constant operation is one matrix, beyond them its decomposition
_MOST_FEATURES = 64  # up to so many are counted by trying
_LARGEST_UNITARY = 5  # wires of a constant operation without decomposition


def pennylane() -> Any:
    """Return the package, which is optional."""
    try:
        import pennylane
    except ImportError as error:
        raise UsageError('PennyLane must be installed, but is not: pip install "redqubit[pennylane]".') from error
    return pennylane


@dataclass(frozen=True)
class Model:
    """What is traced: `build(tensors)` makes a tape from one tensor for each argument, those of features first."""

    build: Callable[[Sequence[Tensor]], Any]
    arguments: tuple[tuple[str, tuple[int, ...]], ...]  # name and shape
    n_features: int
    weights: tuple[float, ...]
    forms: tuple[bool, ...] = (False,)  # give features as they are, or as a batch of one; in the order to try
    device: Any = None

    def name_of(self, variable: int) -> str:
        """Return the argument that holds a variable."""
        names = (name for name, shape in self.arguments for _ in range(math.prod(shape)))
        return list(names)[variable]


def _model(
    build: Callable[[Sequence[Tensor]], Any],
    features: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    forms: tuple[bool, ...] = (False,),
    device: Any = None,
) -> Model:
    arguments = tuple((name, tuple(v.shape)) for name, v in [*features.items(), *weights.items()])
    values = tuple(v for w in weights.values() for v in w.flatten().tolist())
    return Model(build, arguments, sum(v.numel() for v in features.values()), values, forms, device)


def of_node(qml: Any, node: Any, inputs: Any, weights: Any) -> Model:
    """Return a QNode or TorchLayer as a model."""
    layer = isinstance(node, qml.qnn.TorchLayer)
    qnode = node.qnode if layer else node
    if not isinstance(qnode, qml.QNode):
        raise UsageError(f"Argument `node` must be a QNode, a TorchLayer or a tape, but is {type(node).__name__}.")
    signature = inspect.signature(qnode.func).parameters
    first = node.input_arg if layer else "inputs" if "inputs" in signature else next(iter(signature), "inputs")
    count = inputs is None and (layer or first == "inputs") and first in signature
    given = dict(inputs) if isinstance(inputs, Mapping) else {first: 0 if count else inputs}
    features = {
        name: torch.zeros(v, dtype=torch.float64) if isinstance(v, int) else _values(name, v)
        for name, v in given.items()
        if v is not None
    }
    rest = [name for name in signature if name not in features]
    if layer and weights is None:
        weights = node.qnode_weights
    elif weights is not None and not isinstance(weights, Mapping):
        if len(weights) > len(rest):
            raise UsageError(
                f"Argument `weights` must be values of {', '.join(rest) or 'nothing'}, but there are {len(weights)}."
            )
        weights = dict(zip(rest, weights, strict=False))
    constants = {name: _values(name, v) for name, v in (weights or {}).items()}
    needed = [name for name in rest if signature[name].default is inspect.Parameter.empty and name not in constants]
    strangers = [name for name in {**features, **constants} if name not in signature]
    if needed or strangers:
        raise UsageError(
            f"Arguments `inputs` and `weights` must be values of {', '.join(signature)}, but "
            + (f"{needed[0]} has none." if needed else f"{strangers[0]} is none of them.")
        )

    def build(tensors: Sequence[Tensor]) -> Any:
        named = dict(zip([*features, *constants], tensors, strict=True))
        return qml.workflow.construct_tape(qnode, level="user")(**named)

    vector = any(v.ndim == 1 for v in features.values())
    forms = ((True, False) if layer else (False, True)) if vector else (False,)
    model = _model(build, features, constants, forms, qnode.device)
    return _counted(qml, model, first) if count else model


def _counted(qml: Any, model: Model, name: str) -> Model:
    """Return the model with as many features as its node can have and reads all of.

    More than it reads are left over by a node that picks them one by one, and refused by one that embeds them. A count
    that nothing settles, as where amplitudes are padded, is not guessed.
    """
    found: Model | None = None
    for n in range(1, _MOST_FEATURES + 1):
        tried = replace(model, arguments=((name, (n,)), *model.arguments[1:]), n_features=n)
        point = traced.points(n, len(model.weights))[0]
        try:
            tape = tape_at(qml, tried, point)
        except UsageError:
            if found is None:
                continue
            return found
        if any(isinstance(op, qml.StatePrep) and n < 2 ** len(op.wires) for op in tape.operations):
            break
        if not _reads_all(tape, point, n):
            return found or tried
        found = tried
    raise UsageError("Argument `inputs` must be given: the number of features, or the values of one sample.")


def _reads_all(tape: Any, point: Tensor, n_features: int) -> bool:
    """Tell whether every feature turns up among the parameters of a tape."""
    parameters = [torch.as_tensor(p).flatten() for op in tape.operations for p in op.data]
    values = torch.cat([p.real.double() for p in parameters] or [point])
    mixed = values @ torch.arange(2.0, len(values) + 2, dtype=torch.float64).sqrt()  # in which nothing cancels
    (gradient,) = torch.autograd.grad(mixed, point)
    return bool((gradient[:n_features] != 0).all())


def of_tape(tape: Any, inputs: Any, weights: Any) -> Model:
    """Return a tape as a model; its arguments are called by their positions."""
    parameters = tape.get_parameters(trainable_only=False)
    positions = [*(inputs or ()), *(weights or ())]
    if not all(isinstance(i, int) and 0 <= i < len(parameters) for i in positions):
        raise UsageError(
            f"Arguments `inputs` and `weights` of a tape must be positions among its {len(parameters)} parameters, "
            f"but are {inputs} and {weights}."
        )
    features = {str(i): _values(str(i), parameters[i]) for i in inputs or ()}
    constants = {str(i): _values(str(i), parameters[i]) for i in weights or ()}

    def build(tensors: Sequence[Tensor]) -> Any:
        found = sorted(zip(map(int, [*features, *constants]), tensors, strict=True), key=lambda pair: pair[0])
        return tape.bind_new_parameters([t for _, t in found], [i for i, _ in found])

    return _model(build, features, constants)


def _values(name: str, value: Any) -> Tensor:
    try:
        array = value.detach().cpu() if isinstance(value, Tensor) else value
        return torch.as_tensor(np.array(array, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise UsageError(f"Argument `{name}` of the node must be numbers, but is a {type(value).__name__}.") from error


def tape_at(qml: Any, model: Model, point: Tensor) -> Any:
    """Return the tape at a point, without a dimension of batch."""
    failures: list[Exception | str] = []
    for batched in model.forms:
        tensors, start = [], 0
        for _, shape in model.arguments:
            part = point[start : start + math.prod(shape)].reshape(shape)
            tensors.append(part[None] if batched and start < model.n_features else part)
            start += math.prod(shape)
        try:
            tape = model.build(tensors)
            size = tape.batch_size
        except Exception as error:  # PennyLane and the user's code may fail in many ways
            failures.append(error)
            continue
        if model.device is not None and model.device.wires and not model.device.wires.contains_wires(tape.wires):
            failures.append(f"it acts on wires {tape.wires.tolist()}, but its device has {model.device.wires.tolist()}")
            continue
        if size in (None, 1):
            return qml.transforms.broadcast_expand(tape)[0][0] if size else tape
        failures.append(f"one sample makes a batch of {size}")
    reason = str(failures[0]).strip().splitlines() or [type(failures[0]).__name__]
    raise UsageError(
        f"Argument `node` must run with one sample of torch tensors, but does not, {reason[0]}: check the shapes of "
        "`inputs` and `weights`, and that it uses `qml.math` or torch."
    ) from (failures[0] if isinstance(failures[0], Exception) else None)


@dataclass(frozen=True)
class Step:
    """One operation of a traced tape: a gate's name, or a gate or channel on wires 0, 1, ... to be moved."""

    what: str | Gate | Channel
    wires: tuple[Hashable, ...]
    angles: tuple[Any, ...]  # numbers or tensors; of "Amplitude" the state vector
    source: str  # the user's operation that it is a part of


def steps_of(qml: Any, op: Any, source: str) -> Iterator[Step]:
    """Yield the gates and channels that an operation stands for."""
    name, wires = op.name, tuple(op.wires)
    ours = next((g for g, theirs in GATES.items() if theirs == name), None)
    if name == "MultiRZ" and len(wires) == 2:
        ours = "IsingZZ"
    where = name if name == source else f"{name} of {source}"
    constant = not any(qml.math.requires_grad(d) for d in op.data)
    derived = (qml.ops.op_math.Adjoint, qml.ops.op_math.Pow)  # their decompositions are plain gates
    if name in _NEUTRAL:
        return
    if ours is not None:
        yield Step(ours, wires, tuple(op.parameters), source)
    elif isinstance(op, qml.StatePrep) and not constant:
        yield Step("Amplitude", wires, (op.parameters[0],), source)
    elif isinstance(op, qml.operation.Channel):
        if not constant:
            raise UsageError(f"Argument `node` must have channels of constant strength, but that of {where} varies.")
        yield Step(_channel(op), wires, (), source)
    elif constant and op.has_matrix and len(wires) <= _UNITARY and not isinstance(op, derived):
        yield Step(_unitary(op, where), wires, (), source)
    else:
        try:
            parts = _parts(qml, op)
        except Exception as error:
            if constant and op.has_matrix and len(wires) <= _LARGEST_UNITARY:
                yield Step(_unitary(op, where), wires, (), source)
                return
            raise UsageError(
                f"Argument `node` must have operations that are made of gates or channels, but has {where}: replace it."
            ) from error
        for part in parts:
            yield from steps_of(qml, part, source)


def _parts(qml: Any, op: Any) -> Sequence[Any]:
    """Return the decomposition of an operation, or else the Pauli rotations that its generator makes."""
    with qml.QueuingManager.stop_recording():
        try:
            return list(op.decomposition())
        except Exception:
            if op.num_params != 1 or not op.has_generator:
                raise
        generator = op.generator()
        sentence = generator.pauli_rep
        if sentence is None:
            sentence = qml.pauli_decompose(qml.matrix(generator, wire_order=op.wires), wire_order=op.wires, pauli=True)
        if not all(a.commutes_with(b) for a, b in combinations(sentence, 2)):
            raise NotImplementedError("rotations that do not commute")
        # exp(i t sum_k c_k P_k) = prod_k exp(-i (-2 c_k t) P_k / 2)
        return [
            qml.PauliRot(-2 * float(np.real(c)) * op.data[0], "".join(word.values()), wires=list(word))
            for word, c in sentence.items()
            if word
        ]


def _matrix(values: Any) -> Matrix:
    return tuple(tuple(complex(v) for v in row) for row in np.asarray(values))


def _unitary(op: Any, where: str) -> Gate:
    try:
        return Gate("Unitary", tuple(range(len(op.wires))), matrix=_matrix(op.matrix()))
    except UsageError as error:
        raise UsageError(f"Argument `node` must have unitary operations, but {where} is not.") from error


def _channel(op: Any) -> Channel:
    """Return a channel on wires 0, 1, ..."""
    wires = tuple(range(len(op.wires)))
    values = [float(v) for v in op.parameters] if op.name != "QubitChannel" else []
    for ours, theirs in CHANNELS.items():
        if op.name == theirs:
            return Channel(ours, wires, tuple(values))
    if op.name == "GeneralizedAmplitudeDamping":
        # releases of PennyLane differ in which state its second parameter is the weight of
        decay = sum(abs(k[0, 1]) ** 2 for k in op.kraus_matrices())
        return Channel(op.name, wires, (values[0], min(1.0, float(decay) / values[0]) if values[0] else 1.0))
    if op.name == "ThermalRelaxationError":
        excited, t1, t2, duration = values
        return Channel("ThermalRelaxation", wires, (t1, t2, duration, excited))
    if op.name == "PauliError":
        words = ["".join(w) for w in product("IXYZ", repeat=len(wires))][1:]
        return Channel("Pauli", wires, tuple(values[0] * (w == op.hyperparameters["operators"]) for w in words))
    return Channel("Kraus", wires, kraus=tuple(_matrix(k) for k in op.kraus_matrices()))
