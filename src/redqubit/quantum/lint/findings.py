"""What the linter says: its rules, its findings, and both as text and JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Circuit, Gate, angle_text
from redqubit.registry import unknown

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Rule:
    """One rule: `title` in a few words, `why` it matters, and what to do about it."""

    title: str
    severity: Severity  # of its findings; RQ008 has milder ones
    why: str
    fix: str


RULES: Mapping[str, Rule] = {
    "RQ000": Rule(
        "circuit too large to simulate",
        "info",
        "Beyond 12 qubits nothing is simulated: gates without effect are found by their structure alone (idle on a "
        "basis state, or commuting with all that follows and with the read-out), and periods, end points, redundant "
        "weights, constant outputs and entanglement are not looked at.",
        "Lint the same circuit on fewer qubits.",
    ),
    "RQ001": Rule(
        "gate without effect",
        "warning",
        "Taking the gate out, or changing its angle, changes no output at any input or weight: it costs time and "
        "noise on hardware and does nothing.",
        "Remove the gate, or put it where what follows turns its effect into a measured one.",
    ),
    "RQ002": Rule(
        "feature that cannot reach an output",
        "error",
        "No output depends on the feature: RZ on |0> is a global phase, RX leaves |+> as it is, and a number that no "
        "gate takes is not encoded. The model is blind to it, and no attack through it can succeed: robustness that "
        "means nothing.",
        "Encode it with a rotation that moves the state: RY or RX on |0>, RZ or RY after H.",
    ),
    "RQ003": Rule(
        "entangler that commutes with the read-out",
        "error",
        "The gate changes the state, but only in what the read-out does not see: ZZ, CZ or CX in front of <Z> (the "
        "order in which RobQuNN prints its circuits). Outputs are those of a circuit without it.",
        "Put the entangler before the last rotations that do not commute with it, or measure in another basis.",
    ),
    "RQ004": Rule(
        "weight with zero gradient everywhere",
        "warning",
        "No output depends on the weight, as on the angle of an RZ in front of <Z>: it never trains, and counts of "
        "parameters that include it are too high.",
        "Remove the weight, or follow its gate by one that does not commute with it.",
    ),
    "RQ005": Rule(
        "dead wire",
        "warning",
        "No gate acts on the wire, or no output depends on what happens on it: the circuit is smaller than it looks.",
        "Remove the wire, read it, or couple it to one that is read.",
    ),
    "RQ006": Rule(
        "angle that wraps",
        "error",
        "Different values of the feature give the same outputs whatever the other features and weights are: a full "
        "turn brings both ends of its domain together (a scale of 2 pi on [0, 1]), or several periods fit into it.",
        "Scale the feature so that its domain covers at most half a turn, such as pi for [0, 1].",
    ),
    "RQ007": Rule(
        "noise that does nothing",
        "error",
        "The noise model has a rule that no gate matches, a channel of strength zero, or channels that change no "
        "output: results called noisy are noise-free to that extent.",
        "Name gates and wires that the circuit has, give the channel a strength, or remove it.",
    ),
    "RQ008": Rule(
        "input gradient that vanishes at an end of the domain",
        "warning",
        "At an end of the feature's domain, where images have most pixels and clipped attacks end, outputs do not "
        "react to first order, as <Z> after RY(pi x) at 0 and 1: gradient attacks are misled there. A warning when "
        "no output reacts for any other features and weights; info when some do.",
        "Scale the feature so that the ends lie inside a slope, such as RY(pi x / 2 + pi / 4), and attack without "
        "gradients as well.",
    ),
    "RQ009": Rule(
        "redundant weights",
        "warning",
        "The outputs depend on the weights only through fewer combinations, the same at every input and weight, as "
        "on the sum of two rotations in a row about one axis: counts of parameters that include all are too high.",
        "Keep one weight of each combination.",
    ),
    "RQ010": Rule(
        "output that never changes",
        "error",
        "The output is the same for every sample, so that it carries no information about it.",
        "Couple its wire to the features, measure another one, or remove the output.",
    ),
    "RQ011": Rule(
        "circuit that never entangles",
        "info",
        "The state is a product at every input and weight: each qubit's outputs are sums of products of sines of its "
        "own angles, which a classical computer has for free.",
        "Add an entangler before the last rotations, or say that the model is classical.",
    ),
}


@dataclass(frozen=True)
class GateAt:
    """A gate of the circuit: its place in `Circuit.gates`, and what it is, such as "RZ(w3) on 2"."""

    index: int
    text: str


@dataclass(frozen=True)
class LintFinding:
    """One defect.

    Attributes:
        code: The rule, a key of `RULES`.
        severity: "error" and "warning" fail a check, "info" does not.
        gates: Where it is; empty when it is about what is missing.
        why: What is wrong, in one line.
        evidence: The numbers behind it.
        fix: What to do, in one line.
    """

    code: str
    severity: Severity
    gates: tuple[GateAt, ...]
    why: str
    evidence: Mapping[str, float | int] = field(default_factory=dict)
    fix: str = ""

    def __str__(self) -> str:
        lines = [f"{self.code} [{self.severity}] {RULES[self.code].title}: {self.why}"]
        if self.gates:
            lines.append("  gates: " + listed([f"{g.index} {g.text}" for g in self.gates], 12))
        if self.evidence:
            lines.append("  evidence: " + ", ".join(f"{k} {v:.3g}" for k, v in self.evidence.items()))
        return "\n".join([*lines, f"  fix: {self.fix}"])


def finding(
    code: str,
    gates: Sequence[GateAt],
    why: str,
    evidence: Mapping[str, float | int] | None = None,
    *,
    severity: Severity | None = None,
) -> LintFinding:
    """Return a finding with the severity and the fix of its rule."""
    rule = RULES[code]
    return LintFinding(code, severity or rule.severity, tuple(gates), why, evidence or {}, rule.fix)


def fails(findings: Iterable[LintFinding]) -> bool:
    """Tell whether there are findings of severity "error" or "warning"."""
    return any(f.severity != "info" for f in findings)


def selected(
    findings: Iterable[LintFinding], *, select: Sequence[str] = (), ignore: Sequence[str] = ()
) -> tuple[LintFinding, ...]:
    """Return the findings of the rules `select` (of all when empty), without those of `ignore`.

    Raises:
        UsageError: for an unknown code.
    """
    for code in (*select, *ignore):
        if code not in RULES:
            raise unknown("rule", code, RULES)
    return tuple(f for f in findings if (not select or f.code in select) and f.code not in ignore)


def explain(code: str) -> str:
    """Return what a rule finds, why it matters and what to do, as text.

    Example:
        >>> print(explain("RQ004").splitlines()[0])
        RQ004: weight with zero gradient everywhere (warning)
    """
    if code not in RULES:
        raise unknown("rule", code, RULES)
    rule = RULES[code]
    return f"{code}: {rule.title} ({rule.severity})\n\n{rule.why}\n\nFix: {rule.fix}"


def to_json(findings: Iterable[LintFinding]) -> str:
    """Return findings as JSON, which `from_json` reads."""
    return json.dumps([asdict(f) for f in findings], indent=1, ensure_ascii=False)


def from_json(text: str) -> tuple[LintFinding, ...]:
    """Return the findings that `to_json` wrote.

    Raises:
        UsageError: when the text holds something else.
    """
    try:
        rows = json.loads(text)
        return tuple(LintFinding(**{**row, "gates": tuple(GateAt(**g) for g in row["gates"])}) for row in rows)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"Argument `text` must be findings as JSON, but is not: {error!r}.") from None


def gate_at(circuit: Circuit, index: int, angle: int | None = None) -> GateAt:
    """Return a gate with its text; `angle` names one of several angles that is meant."""
    gate = circuit.gates[index]
    wires = ",".join(map(str, gate.wires))
    if isinstance(gate, Channel):
        inside = ",".join(f"{p:.3g}" for p in gate.parameters)
    else:
        inside = ",".join(map(angle_text, gate.angles))
    text = f"{gate.name}({inside}) on {wires}" if inside else f"{gate.name} on {wires}"
    if isinstance(gate, Gate) and angle is not None and len(gate.angles) > 1:
        text += f", its angle {angle_text(gate.angles[angle])}"
    return GateAt(index, text)


def listed(words: Sequence[object], most: int = 8) -> str:
    """Return words in a row, "a, b and c", cut after `most`.

    Example:
        >>> listed(["x0", "x1", "x2"]), listed(range(20), 3)
        ('x0, x1 and x2', '0, 1, 2 and 17 more')
    """
    texts = [str(w) for w in words]
    if len(texts) > most:
        return f"{', '.join(texts[:most])} and {len(texts) - most} more"
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def counted(n: int, thing: str) -> str:
    """Return "1 gate" or "3 gates"."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
