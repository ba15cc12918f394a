"""What a feature's domain and scale lead to: RQ006 and RQ008."""

import torch
from torch import Tensor

from redqubit.quantum.circuit import Input
from redqubit.quantum.lint.findings import GateAt, LintFinding, finding, gate_at, listed
from redqubit.quantum.lint.probe import TOLERANCE, Probe
from redqubit.quantum.lint.structure import angle_of, elements

MOST_TURNS = 64  # periods that may fit into a domain and still be looked for


def range_findings(probe: Probe, domain: tuple[float, float]) -> list[LintFinding]:
    """Return the findings of RQ006 and RQ008 for the features that move an output."""
    general = probe.input_slopes.abs().amax(0)  # (K, n_inputs)
    alive = [i for i in range(probe.circuit.n_inputs) if float(general[:, i].max()) > TOLERANCE]
    return [*_wraps(probe, domain, alive), *_flat_ends(probe, domain, alive, general > TOLERANCE)]


def _gates(probe: Probe, features: list[int]) -> tuple[GateAt, ...]:
    return tuple(
        gate_at(probe.circuit, e.gate, e.angle)
        for e in elements(probe.circuit)
        if isinstance(a := angle_of(probe.circuit, e), Input) and a.index in features
    )


def _with(probe: Probe, feature: int, value: float | Tensor) -> Tensor:
    """Return the outputs (N, K) at the points with one feature changed."""
    x = probe.x.clone()
    x[:, feature] = value
    return probe.outputs_at(x, probe.w)


def _wraps(probe: Probe, domain: tuple[float, float], features: list[int]) -> list[LintFinding]:
    low, high = domain
    found = []
    meeting, gaps = [], []
    periods: dict[int, tuple[float, float]] = {}
    for i in features:
        if i < probe.n_amplitudes:
            continue
        gap = float((_with(probe, i, high) - _with(probe, i, low)).abs().max())
        period = _period(probe, i, domain)
        if period is not None:
            periods[i] = period
        elif gap <= TOLERANCE:
            meeting.append(i)
            gaps.append(gap)
    width = high - low
    whole = [i for i, (p, _) in periods.items() if abs(p - width) <= 1e-9 * width]
    short = [i for i in periods if i not in whole]
    if whole or meeting:
        both = sorted(whole + meeting)
        why = f"outputs are the same at {_names(both)} = {low:g} and {high:g}, whatever the rest"
        gap = max([*gaps, *(periods[i][1] for i in whole)])
        found.append(finding("RQ006", _gates(probe, both), why, {"largest_gap": gap, "points": len(probe.x)}))
    if short:
        least = min(periods[i][0] for i in short)
        why = f"outputs repeat with period {least:.4g} in {_names(short)}, whose domain is {width:g} wide: inputs alias"
        evidence = {"period": least, "largest_gap": max(periods[i][1] for i in short), "points": len(probe.x)}
        found.append(finding("RQ006", _gates(probe, short), why, evidence))
    return found


def _names(features: list[int]) -> str:
    return listed([f"x{i}" for i in features])


def _period(probe: Probe, feature: int, domain: tuple[float, float]) -> tuple[float, float] | None:
    """Return the smallest period of all outputs in a feature that fits into its domain, and the largest gap over it.

    Outputs are sums of sines whose frequencies are sums of scales, and of their halves for controlled turns: a period
    is a small multiple of a full turn of some scale, or of a half or a quarter of it.
    """
    low, high = domain
    width = high - low
    scales = {abs(a.scale) for a in probe.circuit.angles if isinstance(a, Input) and a.index == feature} - {0.0}
    candidates = {2 * torch.pi * k / (s * d) for s in scales for d in (1, 2, 4) for k in range(1, MOST_TURNS + 1)}
    for period in sorted(p for p in candidates if p <= width * (1 + 1e-12)):
        start = low + (width - min(period, width)) * torch.linspace(0, 1, len(probe.x), dtype=torch.float64)
        gap = float((_with(probe, feature, start + period) - _with(probe, feature, start)).abs().max())
        if gap <= TOLERANCE:
            return period, gap
    return None


def _flat_ends(probe: Probe, domain: tuple[float, float], features: list[int], moved: Tensor) -> list[LintFinding]:
    """Return RQ008: features to which outputs that depend on them (K, n_inputs) have no slope at an end."""
    dead: dict[int, list[float]] = {}  # feature -> ends where no output reacts
    part: dict[int, list[float]] = {}  # feature -> ends where some outputs do not react
    worst = {"dead": 0.0, "part": 0.0}
    if probe.n_amplitudes == 1:  # a lone amplitude has no value 0
        features = [i for i in features if i > 0]
    for i in features:
        for end in domain:
            slope = _slope(probe, i, end).abs().amax(0)  # (K,)
            still = moved[:, i] & (slope <= TOLERANCE)
            if bool((still == moved[:, i]).all()):
                dead.setdefault(i, []).append(end)
                worst["dead"] = max(worst["dead"], float(slope[still].max()))
            elif bool(still.any()):
                part.setdefault(i, []).append(end)
                worst["part"] = max(worst["part"], float(slope[still].max()))
    found = []
    if dead:
        why = f"no output reacts to first order to {_at_ends(dead)}, whatever the rest"
        evidence = {"largest_gradient": worst["dead"], "points": len(probe.x)}
        found.append(finding("RQ008", _gates(probe, sorted(dead)), why, evidence))
    if part:
        why = f"some outputs that depend on it do not react to first order to {_at_ends(part)}"
        evidence = {"largest_gradient": worst["part"], "points": len(probe.x)}
        found.append(finding("RQ008", _gates(probe, sorted(part)), why, evidence, severity="info"))
    return found


def _at_ends(ends: dict[int, list[float]]) -> str:
    groups: dict[tuple[float, ...], list[int]] = {}
    for i, where in ends.items():
        groups.setdefault(tuple(where), []).append(i)
    return "; ".join(f"{_names(some)} at {listed([f'{v:g}' for v in where])}" for where, some in groups.items())


def _slope(probe: Probe, feature: int, value: float) -> Tensor:
    """Return the slope (N, K) to a feature at a value: five-point differences, exact to 1e-12 at these frequencies."""
    scale = sum(abs(a.scale) for a in probe.circuit.angles if isinstance(a, Input) and a.index == feature)
    h = 1e-3 / max(scale, 1.0)
    near = _with(probe, feature, value + h) - _with(probe, feature, value - h)
    far = _with(probe, feature, value + 2 * h) - _with(probe, feature, value - 2 * h)
    return (8 * near - far) / (12 * h)
