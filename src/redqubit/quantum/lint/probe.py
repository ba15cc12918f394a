"""A circuit's outputs at random features and weights, and their slopes, in float64."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from redqubit.quantum.circuit import Angle, Circuit, Input, Weight
from redqubit.quantum.lint.structure import Element, angle_of, elements, without
from redqubit.quantum.measure import Basis, probabilities
from redqubit.quantum.simulation.fuse import Plan, build
from redqubit.quantum.simulation.state_vector import run

TOLERANCE = 1e-9  # of outputs and slopes in float64, where rounding leaves some 1e-14
POINTS = 32  # random points; 8 where states are large
_VALUES, _KEPT = 2**19, 2**15  # numbers held at once: of a batch of states, and of one whose history is kept


@dataclass(frozen=True)
class Probe:
    """A circuit without noise, and where to look at it.

    Attributes:
        circuit: Its inputs and weights may repeat.
        bases: How it is read.
        x: Random features (N, n_inputs), within their domain.
        w: Random weights (N, n_weights), in radians, different in each row.
    """

    circuit: Circuit
    bases: tuple[Basis, ...]
    x: Tensor
    w: Tensor

    @cached_property
    def free(self) -> Circuit:
        """The circuit with an input of its own for every angle that is not a number; amplitudes come first."""
        count = iter(range(self.n_amplitudes, self.n_amplitudes + len(self.circuit.angles)))
        return self.circuit.with_angles(lambda a: Input(next(count)) if isinstance(a, Input | Weight) else a)

    @property
    def n_amplitudes(self) -> int:
        """Number of features that are amplitudes."""
        return self.circuit.initial.n_features if self.circuit.initial else 0

    @cached_property
    def slots(self) -> dict[Element, int]:
        """The column of `values` that turns each element; elements whose angle is a number have none."""
        angles = {e: angle_of(self.free, e) for e in elements(self.free)}
        return {e: a.index for e, a in angles.items() if isinstance(a, Input)}

    @cached_property
    def _maps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features (n_inputs, Z) and weights (n_weights, Z) to angles, and constants (Z,)."""
        angles: list[Angle] = [Input(i) for i in range(self.n_amplitudes)]
        angles += [a for a in self.circuit.angles if isinstance(a, Input | Weight)]
        from_x = torch.zeros(self.x.shape[1], len(angles), dtype=torch.float64)
        from_w = torch.zeros(self.w.shape[1], len(angles), dtype=torch.float64)
        constant = torch.zeros(len(angles), dtype=torch.float64)
        for z, a in enumerate(angles):
            assert isinstance(a, Input | Weight)
            (from_x if isinstance(a, Input) else from_w)[a.index, z] = a.scale
            constant[z] = a.offset
        return from_x, from_w, constant

    def values(self, x: Tensor, w: Tensor) -> Tensor:
        """Return what the free circuit takes (B, Z) at features and weights."""
        from_x, from_w, constant = self._maps
        return x @ from_x + w @ from_w + constant

    def outputs_at(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the outputs (B, K)."""
        return read(self.free, self.bases, self.values(x, w))

    @cached_property
    def outputs(self) -> Tensor:
        """The outputs (N, K) at the points."""
        return self.outputs_at(self.x, self.w)

    def change_without(self, gone: Collection[Element], n_points: int | None = None) -> float:
        """Return the largest change of an output, over the points or the first of them, when elements are taken out."""
        z = self.values(self.x, self.w)[:n_points]
        changed = read(without(self.free, gone), self.bases, z)
        return float((changed - self.outputs[:n_points]).abs().max())

    def unchanged_without(self, gone: Collection[Element]) -> bool:
        """Tell whether no output changes when elements go; few points tell most gates that have an effect."""
        return self.change_without(gone, 4) <= TOLERANCE and self.change_without(gone) <= TOLERANCE

    def state_change(self, gone: Collection[Element]) -> float:
        """Return 1 - |<a|b>|^2, the largest over the points, of the final states with and without some elements."""
        z = self.values(self.x, self.w)
        a, b = (states(c, z).to(torch.complex128) for c in (self.free, without(self.free, gone)))
        return float((1 - (a.conj() * b).sum(1).abs().square()).max())

    @cached_property
    def slopes(self) -> Tensor:
        """Slopes (N, K, Z) of the outputs to `values` at the points."""
        if not self._maps[2].numel():
            return self.outputs[..., None][..., :0]
        found = []
        for z in self.values(self.x, self.w).split(max(1, _KEPT // 2**self.circuit.n_qubits)):
            z = z.detach().requires_grad_()
            out = read(self.free, self.bases, z)
            rows = [torch.autograd.grad(column.sum(), z, retain_graph=True)[0] for column in out.unbind(1)]
            found.append(torch.stack(rows, 1))
        return torch.cat(found)

    @cached_property
    def input_slopes(self) -> Tensor:
        """Slopes (N, K, n_inputs) to the features."""
        return self.slopes @ self._maps[0].T

    @cached_property
    def weight_slopes(self) -> Tensor:
        """Slopes (N, K, n_weights) to the weights."""
        return self.slopes @ self._maps[1].T


def probe(
    circuit: Circuit,
    bases: tuple[Basis, ...],
    domain: tuple[float, float],
    *,
    n_points: int | None = None,
    generator: torch.Generator,
) -> Probe:
    """Return a probe at random points, enough of them to tell combinations of weights apart."""
    n_outputs = bases[0].table.shape[1]
    least = POINTS if circuit.n_qubits <= 8 else POINTS // 4
    n = n_points or max(least, 2 * circuit.n_weights // n_outputs + 8)
    low, high = domain
    x = low + (high - low) * torch.rand(n, circuit.n_inputs, generator=generator, dtype=torch.float64)
    w = 2 * torch.pi * torch.rand(n, circuit.n_weights, generator=generator, dtype=torch.float64)
    return Probe(circuit, bases, x, w)


def states(circuit: Circuit, z: Tensor) -> Tensor:
    """Return the states (B, 2^n) of a circuit whose angles are all inputs; it may take fewer than z has."""
    return run(_plan(circuit), z[:, : circuit.n_inputs], z.new_zeros(0))


@lru_cache(maxsize=8)
def _plan(circuit: Circuit) -> Plan:
    """Return the plan of a circuit: the whole one is run many times, those without a gate once or twice."""
    return build(circuit)


def read(circuit: Circuit, bases: Sequence[Basis], z: Tensor) -> Tensor:
    """Return the outputs (B, K) of a circuit whose angles are all inputs."""
    rows = max(1, _VALUES // 2**circuit.n_qubits)
    if len(z) > rows:
        return torch.cat([read(circuit, bases, part) for part in z.split(rows)])
    turned = [replace(circuit, gates=(*circuit.gates, *b.gates)) for b in bases]
    parts = [probabilities(states(c, z)) @ b.table for c, b in zip(turned, bases, strict=True)]
    return torch.stack(parts).sum(0)
