"""What `redqubit lint` is given: a model, a circuit by name, a function that makes either, or an OpenQASM file."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from redqubit.auditing.subjects import find_model, imported
from redqubit.errors import UsageError
from redqubit.models import MODELS, QuantumLayer
from redqubit.quantum import Circuit, ansatzes, encodings
from redqubit.quantum.lint import LintFinding, lint, to_json
from redqubit.quantum.lint.findings import counted, listed
from redqubit.quantum.measure import Observable, Probabilities, z_of
from redqubit.quantum.noise import NoiseModel
from redqubit.registry import unknown
from redqubit.result import Panel

# Circuits by name, each a function of the number of qubits
CIRCUITS: Mapping[str, Callable[[int], Circuit]] = {
    "angle": encodings.angle,
    "amplitude": encodings.amplitude,
    "basic_entangling": partial(ansatzes.basic_entangling, layers=2),
    "dressed": ansatzes.dressed,
    "strongly_entangling": partial(ansatzes.strongly_entangling, layers=2),
    **{f"robqunn_{kind}": partial(ansatzes.robqunn, kind) for kind in get_args(ansatzes.RobQuNNKind)},
    **{f"sim{i}": partial(ansatzes.sim, i) for i in range(1, 20)},
}


@dataclass(frozen=True)
class Target:
    """One circuit to lint, what is read from it, and the range of its features."""

    name: str
    circuit: Circuit
    outputs: Sequence[Observable] | Probabilities
    domain: tuple[float, float] = (0.0, 1.0)

    def findings(
        self, *, domain: tuple[float, float] | None = None, noise: NoiseModel | None = None
    ) -> tuple[LintFinding, ...]:
        """Return what is found, for features in another domain and under more noise when given."""
        return lint(self.circuit, observables=self.outputs, domain=domain or self.domain, noise=noise)


def find_targets(
    name: str,
    *,
    input_shape: Sequence[int] = (1, 8, 8),
    n_classes: int = 10,
    n_qubits: int = 4,
    wires: Sequence[int] | None = None,
) -> list[Target]:
    """Return the circuits that a name stands for.

    Args:
        name: A registered model; a name in `CIRCUITS`; "package.module:function" that makes a model, a `QuantumLayer`
            or a `Circuit`; or a file that ends in .qasm.
        input_shape: Shape of a sample, for models.
        n_classes: Number of classes, for models.
        n_qubits: Number of qubits, for circuits by name.
        wires: The wires that are read of a circuit, all by default; a model says itself.

    Raises:
        UsageError: for an unknown name, or what cannot be made or read.

    Example:
        >>> [t.name for t in find_targets("qunn")]
        ['quanvolution.layer']
    """
    made = _made(name, n_qubits)
    if isinstance(made, Circuit):
        outputs = z_of(made.n_qubits, range(made.n_qubits) if wires is None else wires)
        return [Target(Path(name).name.rpartition(":")[2], made, outputs)]
    if isinstance(made, Target):
        return [made]
    if wires is not None:
        raise UsageError("Argument `wires` must be absent for a model: its layers say what they read.")
    model = find_model(name, input_shape, n_classes).make(0)
    if not any(isinstance(m, QuantumLayer) for m in model.modules()):
        raise UsageError(f"Argument `target` must have a quantum layer, but the model {name} has none.")
    shape = (model.n_inputs,) if isinstance(model, QuantumLayer) else tuple(input_shape)
    x = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0))
    try:
        return layer_targets(model, torch.cat([x, x.new_zeros(1, *shape), x.new_ones(1, *shape)]))
    except UsageError:
        raise
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"Argument `input_shape` must fit {name}, but {shape} does not: {said}") from error


def _made(name: str, n_qubits: int) -> object:
    """Return the circuit or target that a name stands for, None for a model."""
    if name.endswith(".qasm"):
        from redqubit.quantum.qiskit import from_qasm

        found = from_qasm(Path(name))
        return Target(Path(name).name, found.circuit, found.observables)
    if ":" in name:
        make = imported(name)
        if inspect.signature(make).parameters:
            return None  # takes a shape and a number of classes, as models do
        made = make()
        return made if isinstance(made, Circuit) else None
    if name in CIRCUITS:
        return CIRCUITS[name](n_qubits)
    if name not in MODELS:
        raise unknown("model or circuit", name, [*MODELS, *CIRCUITS])
    return None


def layer_targets(model: nn.Module, x: Tensor) -> list[Target]:
    """Return the quantum layers of a model, with the range of what they are given for inputs x.

    Features seen within [0, 1] have the domain [0, 1], others within [-1, 1] that one, and all others the range seen.
    """
    layers = {name or "model": m for name, m in model.named_modules() if isinstance(m, QuantumLayer)}
    seen = {layer: (0.0, 1.0) for layer in layers.values()}

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, QuantumLayer)
        low, high = float(given[0].min()), float(given[0].max())
        inside = [(a, b) for a, b in ((0.0, 1.0), (-1.0, 1.0)) if a <= low and high <= b]
        if inside or low < high:
            seen[layer] = (*inside, (low, high))[0]

    was = model.training
    with torch.no_grad(), ExitStack() as hooks:
        for layer in seen:
            hooks.callback(layer.register_forward_pre_hook(note).remove)
        model.eval()(x)
    model.train(was)
    return [Target(n, layer.circuit, layer.outputs, seen[layer]) for n, layer in layers.items()]


def shown(found: Mapping[str, Sequence[LintFinding]], *, as_json: bool = False) -> str:
    """Return the findings in each circuit as text, or as a JSON object of circuit names."""
    if as_json:
        return json.dumps({name: json.loads(to_json(findings)) for name, findings in found.items()}, indent=1)
    blocks = [
        "\n".join(
            [f"{name}: {counted(len(findings), 'finding') if findings else 'nothing found'}", *map(str, findings)]
        )
        for name, findings in found.items()
    ]
    return "\n\n".join(blocks)


def lint_panel(target: Target) -> Panel:
    """Return a table of what the linter finds in a circuit, for a report."""
    found = target.findings()
    low, high = target.domain
    rows = [
        [
            f.code,
            f.severity,
            f.why,
            listed([f"{g.index} {g.text}" for g in f.gates], 12),
            ", ".join(f"{k.replace('_', ' ')} {v:.3g}" for k, v in f.evidence.items()),
            f.fix,
        ]
        for f in found
    ]
    return Panel(
        "facts",
        f"Linter: {target.name}",
        "What in the circuit cannot do what it is there for, for features in "
        f"[{low:g}, {high:g}]." + ("" if rows else " Nothing was found."),
        "Circuit",
        data={
            "columns": ["rule", "severity", "what", "gates", "evidence", "fix"],
            "rows": rows or [["none"] + 5 * [""]],
        },
    )
