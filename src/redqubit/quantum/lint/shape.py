"""What the circuit as a whole can be: redundant weights (RQ009), a state that never entangles (RQ011)."""

import torch

from redqubit.quantum.circuit import Weight
from redqubit.quantum.descriptors import meyer_wallach
from redqubit.quantum.lint.findings import LintFinding, counted, finding, gate_at, listed
from redqubit.quantum.lint.probe import TOLERANCE, Probe, states
from redqubit.quantum.lint.structure import angle_of, elements

_RELATIVE = 1e-8  # singular values below this share of the largest count as zero


def shape_findings(probe: Probe) -> list[LintFinding]:
    """Return the findings of RQ009 and RQ011."""
    return [*_redundant(probe), *_product(probe)]


def _redundant(probe: Probe) -> list[LintFinding]:
    """Look for directions v with sum_i v_i df/dw_i = 0 at every input and weight.

    The rows of one matrix are the slopes of all outputs at all points, each of which has other weights: a direction in
    its null space is one along which the outputs are constant everywhere, not by the choice of the weights.
    """
    slopes = probe.weight_slopes.flatten(0, 1)  # (N * K, n_weights)
    active = [i for i in range(slopes.shape[1]) if float(slopes[:, i].abs().max()) > TOLERANCE]
    if len(active) < 2 or len(slopes) < 2 * len(active):  # too few points to tell
        return []
    columns = slopes[:, active]
    _, singular, directions = torch.linalg.svd(columns / columns.norm(dim=0), full_matrices=True)
    rank = int((singular > _RELATIVE * singular[0]).sum())
    if rank == len(active):
        return []
    null = directions[rank:]  # (n - rank, n)
    together = (null.T @ null).abs() > 1e-6  # the projector links the weights of one direction
    groups = _components(together)
    weights = [active[i] for group in groups for i in group]
    gates = [
        gate_at(probe.circuit, e.gate, e.angle)
        for e in elements(probe.circuit)
        if isinstance(a := angle_of(probe.circuit, e), Weight) and a.index in weights
    ]
    lost = len(active) - rank
    sets = [f"({', '.join(f'w{active[i]}' for i in group)})" for group in groups]
    why = f"{counted(lost, 'weight')} too many: only combinations of {listed(sets, 6)} matter"
    evidence = {"weights": len(active), "rank": rank, "smallest_singular_value": float(singular[rank:].max())}
    return [finding("RQ009", gates, why, {**evidence, "points": len(probe.x)})]


def _components(linked: torch.Tensor) -> list[list[int]]:
    """Return the groups of linked weights, of two or more."""
    left, found = set(range(len(linked))), []
    while left:
        group, todo = set[int](), [min(left)]
        while todo:
            i = todo.pop()
            if i not in group:
                group.add(i)
                todo += torch.nonzero(linked[i]).flatten().tolist()
        left -= group
        if len(group) > 1:
            found.append(sorted(group))
    return found


def _product(probe: Probe) -> list[LintFinding]:
    circuit = probe.circuit
    if circuit.n_qubits < 2:
        return []
    psi = states(probe.free, probe.values(probe.x, probe.w)[:8])
    q = float(meyer_wallach(psi.to(torch.complex128)).max())
    if q > TOLERANCE:
        return []
    why = f"all {circuit.n_qubits} qubits stay in a product state"
    return [finding("RQ011", (), why, {"largest_meyer_wallach": abs(q), "points": len(psi)})]
