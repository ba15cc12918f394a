"""The linter: what in a circuit cannot do what its author meant, found by numbers and by the order of gates."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Circuit, Gate
from redqubit.quantum.lint.effects import effect_findings
from redqubit.quantum.lint.findings import (
    RULES,
    GateAt,
    LintFinding,
    Rule,
    explain,
    fails,
    finding,
    from_json,
    selected,
    to_json,
)
from redqubit.quantum.lint.noise import noise_findings, unused_rules
from redqubit.quantum.lint.probe import probe
from redqubit.quantum.lint.ranges import range_findings
from redqubit.quantum.lint.shape import shape_findings
from redqubit.quantum.lint.structure import views
from redqubit.quantum.measure import Observable, Probabilities, bases, z_of
from redqubit.quantum.noise import NoiseModel, with_noise

__all__ = [
    "RULES",
    "GateAt",
    "LintFinding",
    "Rule",
    "explain",
    "fails",
    "from_json",
    "lint",
    "selected",
    "to_json",
    "unused_rules",
]

MAX_QUBITS = 12  # beyond, by structure alone


def lint(
    circuit: Circuit,
    *,
    wires: Sequence[int] | None = None,
    observables: Sequence[Observable] | Probabilities | None = None,
    noise: NoiseModel | None = None,
    domain: tuple[float, float] = (0.0, 1.0),
    n_points: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[LintFinding, ...]:
    """Return what in a circuit cannot do what its author meant.

    Outputs and their slopes are computed in float64 at random features in the domain and random weights in [0, 2 pi),
    and again without each gate; what changes by less than 1e-9 at all points counts as no change. Rules about gates,
    features and weights look at the circuit without its noise. Each defect is reported once, under the first rule
    that fits in the order RQ005, RQ002, RQ003, RQ004, RQ001; see `docs/lint.md`.

    Args:
        circuit: The circuit; more than 12 qubits are judged by structure alone.
        wires: The wires whose <Z> is read, all by default.
        observables: What is read instead, as in `QuantumLayer`.
        noise: A model to add; places of gates in RQ007 are those of `with_noise(circuit, noise)`.
        domain: Smallest and largest value of a feature, before the circuit scales it.
        n_points: Random points; 32 by default, or 8 beyond 8 qubits, and more where there are many weights.
        generator: Source of the points; the same ones in every call by default.

    Returns:
        The findings by code; none for a sound circuit.

    Raises:
        UsageError: for an empty domain, or a wire or observable that does not fit the circuit.

    Example:
        >>> from redqubit.quantum import Input, Weight
        >>> (found,) = lint(Circuit(1, (Gate("RZ", (0,), (Input(0),)), Gate("RY", (0,), (Weight(0),)))))
        >>> print(found.code, found.gates[0].text, "-", found.why)
        RQ002 RZ(x0) on 0 - no output depends on x0
    """
    low, high = domain
    if not -math.inf < low < high < math.inf:
        raise UsageError(f"Argument `domain` must be (low, high) with low < high, but is {domain}.")
    if wires is not None and observables is not None:
        raise UsageError("Argument `wires` must be absent when `observables` are given: they say what is read.")
    if n_points is not None and n_points < 2:
        raise UsageError(f"Argument `n_points` must be 2 or more, but is {n_points}.")
    n = circuit.n_qubits
    outputs = z_of(n, range(n) if wires is None else wires) if observables is None else observables
    read = bases(n, outputs) if n <= MAX_QUBITS else ()
    pure = replace(circuit, gates=tuple(g for g in circuit.gates if isinstance(g, Gate)), readout=())
    generator = generator or torch.Generator().manual_seed(0)
    look = probe(pure, read, domain, n_points=n_points, generator=generator) if n <= MAX_QUBITS else None
    found = effect_findings(pure, views(n, outputs), look)
    if look is None:
        found.append(finding("RQ000", (), f"{n} qubits are more than {MAX_QUBITS}: judged by structure alone"))
    else:
        found += [*range_findings(look, domain), *shape_findings(look)]
    places = [i for i, g in enumerate(circuit.gates) if isinstance(g, Gate)]
    found = [replace(f, gates=tuple(replace(g, index=places[g.index]) for g in f.gates)) for f in found]
    if noise is not None:
        found += unused_rules(circuit, noise)
    found += noise_findings(circuit if noise is None else with_noise(circuit, noise), read, look)
    return tuple(sorted(found, key=lambda f: f.code))
