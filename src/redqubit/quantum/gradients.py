"""Gradients as hardware has them: from runs at other angles, each run with its noise and shots.

They live in the space of gate angles. `unroll` makes every parametrised angle an input of its own, an affine map
takes features and weights there, and autograd takes the gradient back through that map.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.circuit import Amplitude, Angle, Circuit, Gate, Input, Weight
from redqubit.quantum.simulation.fuse import Angles, affine

Evaluate = Callable[[Tensor], Tensor]  # angles (B', J) -> outputs (B', K)
MAX_ROWS = 1 << 14  # samples evaluated at a time in a backward pass, and
MAX_NUMBERS = 1 << 24  # amplitudes, or elements of density matrices, that these have together
MAX_DRAWS = 1 << 22  # uniform numbers held at a time

_ROOT = math.sqrt(2.0)
# (shift, coefficient): df/dt = sum_r c_r (f(t + s_r) - f(t - s_r))
_TWO_TERMS = ((math.pi / 2, 0.5),)
_FOUR_TERMS = ((math.pi / 2, (_ROOT + 1) / (4 * _ROOT)), (3 * math.pi / 2, -(_ROOT - 1) / (4 * _ROOT)))
RULES: Mapping[str, tuple[tuple[float, float], ...]] = {
    **dict.fromkeys(("RX", "RY", "RZ", "P", "CP", "Rot", "IsingXX", "IsingYY", "IsingZZ"), _TWO_TERMS),
    **dict.fromkeys(("CRX", "CRY", "CRZ"), _FOUR_TERMS),
}


@dataclass(frozen=True)
class SPSA:
    """Simultaneous perturbation: gradients from two runs along a random direction of all angles.

    Args:
        step: How far each angle moves either way, in radians. With shots it must be large (0.1): the error of a
            derivative is about 1 / (step sqrt(shots)).
        directions: Directions averaged over.

    Raises:
        UsageError: for a step that is not above 0 or no direction.

    Reference: Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient
    approximation", IEEE Transactions on Automatic Control 37 (1992); defaults as PennyLane's `spsa_grad`.
    """

    step: float = 1e-5
    directions: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise UsageError(f"Argument `step` must be above 0, but is {self.step}.")
        if self.directions < 1:
            raise UsageError(f"Argument `directions` must be 1 or more, but is {self.directions}.")


@dataclass(frozen=True)
class AngleMap:
    """The affine map from features and weights to the inputs of an unrolled circuit; `fuse.cast` casts it.

    Its columns are the features of an amplitude encoding, the angles that read inputs, those that read weights.
    """

    initial: Amplitude | None
    inputs: Angles
    weights: Angles
    columns: Tensor  # (R,) long: the column that each term of a shift rule moves,
    shifts: Tensor  # (R,) how far, either way,
    coefficients: Tensor  # (R,) and what the difference of the two runs counts
    max_rows: int  # samples evaluated at a time in a backward pass

    def of(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the angles (B, J) of features x (B, n_inputs) and weights (n_weights,)."""
        return torch.cat(self.parts(x, weights), 1)

    def parts(self, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three groups of columns of `of`."""
        features = x[:, : self.initial.n_features if self.initial else 0]
        return features, self.inputs.of(x), self.weights.of(weights).expand(len(x), -1)


def unroll(circuit: Circuit) -> tuple[Circuit, AngleMap]:
    """Return the circuit with every parametrised angle an input of its own, and the map to these angles.

    Args:
        circuit: Any circuit; its noise stays where it is.

    Returns:
        The circuit, without weights, and the map: `new(map.of(x, weights))` equals `circuit(x, weights)`.

    Example:
        >>> twice = Circuit(1, (Gate("RX", (0,), (2.0 * Weight(0),)), Gate("RY", (0,), (Input(0),))) * 2)
        >>> unrolled, angles = unroll(twice)
        >>> print(unrolled)
        0: ─RX(x2)─RY(x0)─RX(x3)─RY(x1)─
        >>> angles.of(torch.tensor([[0.5]]), torch.tensor([3.0])).tolist()
        [[0.5, 0.5, 6.0, 6.0]]
    """
    from_inputs = [a for a in circuit.angles if isinstance(a, Input)]
    from_weights = [a for a in circuit.angles if isinstance(a, Weight)]
    first = circuit.initial.n_features if circuit.initial else 0
    of_input, of_weight = count(first), count(first + len(from_inputs))

    def numbered(angle: Angle) -> Angle:
        if isinstance(angle, Input | Weight):
            return Input(next(of_input if isinstance(angle, Input) else of_weight))
        return angle

    unrolled = circuit.with_angles(numbered)
    terms = [
        (angle.index, shift, coefficient)
        for gate in unrolled.gates
        if isinstance(gate, Gate)
        for angle in gate.angles
        if isinstance(angle, Input)
        for shift, coefficient in RULES[gate.name]
    ]
    rule = torch.tensor(terms, dtype=torch.float64).reshape(-1, 3)
    exponent = 2 * circuit.n_qubits if circuit.channels else circuit.n_qubits
    rows = min(MAX_ROWS, max(1, MAX_NUMBERS >> exponent))
    maps = affine(from_inputs, Input), affine(from_weights, Weight)
    return unrolled, AngleMap(circuit.initial, *maps, rule[:, 0].long(), rule[:, 1], rule[:, 2], rows)


class _Shifted(torch.autograd.Function):
    """evaluate(angles) whose backward pass evaluates at shifted angles, and may itself be differentiated."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, evaluate: Evaluate, angle_map: AngleMap, *parts: Tensor
    ) -> Tensor:
        ctx.evaluate, ctx.angle_map = evaluate, angle_map  # type: ignore[attr-defined]
        ctx.save_for_backward(*parts)
        return evaluate(torch.cat(parts, 1))

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        evaluate, angle_map = ctx.evaluate, ctx.angle_map  # type: ignore[attr-defined]
        parts: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        needs: tuple[bool, ...] = ctx.needs_input_grad[2:]  # type: ignore[attr-defined]
        angles, widths = torch.cat(parts, 1), [p.shape[1] for p in parts]
        needed = [need for need, width in zip(needs, widths, strict=True) for _ in range(width)]
        asked = torch.tensor(needed, device=angles.device)[angle_map.columns]
        at_once = max(1, angle_map.max_rows // (2 * len(angles)))
        terms = [t[asked].split(at_once) for t in (angle_map.columns, angle_map.shifts, angle_map.coefficients)]
        total = angles.new_zeros(len(needed), len(angles))
        for columns, shifts, coefficients in zip(*terms, strict=True):
            moves = torch.zeros(len(columns), 1, len(needed), dtype=angles.dtype, device=angles.device)
            moves.scatter_(2, columns[:, None, None], shifts[:, None, None])
            moved = torch.stack([angles + moves, angles - moves]).flatten(0, 2)
            out: Tensor = _Shifted.apply(  # type: ignore[no-untyped-call]
                evaluate, angle_map, *moved.split(widths, 1)
            )
            plus, minus = out.unflatten(0, (2, len(columns), len(angles))).unbind(0)
            slopes = ((plus - minus) * grads[0]).sum(-1)  # (terms, B)
            total = total.index_add(0, columns, coefficients[:, None] * slopes)
        return None, None, *(g if need else None for g, need in zip(total.T.split(widths, 1), needs, strict=True))


def parameter_shift(evaluate: Evaluate, angle_map: AngleMap, x: Tensor, weights: Tensor) -> Tensor:
    """Return outputs (B, K) whose gradients come from runs at shifted angles, to any order.

    df/dt = 1/2 (f(t + pi/2) - f(t - pi/2)) for rotations, phases and Ising gates; for controlled rotations
    df/dt = c+ (f(t + pi/2) - f(t - pi/2)) - c- (f(t + 3 pi/2) - f(t - 3 pi/2)), c+- = (sqrt(2) +- 1) / (4 sqrt(2)).
    A backward pass evaluates 2 (or 4) runs for each angle that needs a gradient, together, as one batch.

    Args:
        evaluate: The unrolled circuit: angles (B', J) -> outputs (B', K), with noise and shots as they are.
        angle_map: What `unroll` returned, cast to the type and device of `x`.
        x: Features (B, n_inputs).
        weights: Weights (n_weights,).

    Raises:
        UsageError: when features of an amplitude encoding need gradients.

    Reference: Schuld et al., "Evaluating analytic gradients on quantum hardware", Physical Review A 99 (2019);
    Anselmetti et al., "Local, expressive, quantum-number-preserving VQE ansaetze for fermionic systems", New Journal
    of Physics 23 (2021), for controlled rotations.

    Example:
        >>> circuit, angle_map = unroll(Circuit(1, (Gate("RY", (0,), (Input(0),)),)))
        >>> x = torch.tensor([[torch.pi / 2]], requires_grad=True)
        >>> parameter_shift(torch.cos, angle_map, x, torch.zeros(0)).sum().backward()  # <Z> is cos(x)
        >>> x.grad
        tensor([[-1.]])
    """
    parts = angle_map.parts(x, weights)
    if parts[0].shape[1] and parts[0].requires_grad and torch.is_grad_enabled():
        raise UsageError(
            "Argument `gradient` must not be parameter-shift when features of an amplitude encoding need gradients: "
            "the encoding has no shift rule, use exact or spsa."
        )
    out: Tensor = _Shifted.apply(evaluate, angle_map, *parts)  # type: ignore[no-untyped-call]
    return out


class _Perturbed(torch.autograd.Function):
    """evaluate(angles) whose backward pass evaluates along random directions."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        evaluate: Evaluate,
        spsa: SPSA,
        generator: torch.Generator,
        max_rows: int,
        *parts: Tensor,
    ) -> Tensor:
        ctx.evaluate, ctx.spsa = evaluate, spsa  # type: ignore[attr-defined]
        ctx.generator, ctx.max_rows = generator, max_rows  # type: ignore[attr-defined]
        ctx.save_for_backward(*parts)
        return evaluate(torch.cat(parts, 1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        evaluate, spsa = ctx.evaluate, ctx.spsa  # type: ignore[attr-defined]
        parts: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        needs: tuple[bool, ...] = ctx.needs_input_grad[4:]  # type: ignore[attr-defined]
        # in double precision: in single, t + 1e-5 would be wrong by percents of the step
        angles, grad = torch.cat(parts, 1).double(), grads[0].double()
        widths = [p.shape[1] for p in parts]
        moves = torch.tensor([float(n) for n, width in zip(needs, widths, strict=True) for _ in range(width)])
        total = torch.zeros_like(angles)
        at_once = max(1, ctx.max_rows // (2 * len(angles)))  # type: ignore[attr-defined]
        for start in range(0, spsa.directions, at_once):
            size = (min(at_once, spsa.directions - start), *angles.shape)
            d = 2.0 * torch.randint(2, size, generator=ctx.generator) - 1  # type: ignore[attr-defined]
            d = (d * moves).to(angles)  # what needs no gradient stays where it is
            moved = torch.stack([angles + spsa.step * d, angles - spsa.step * d]).flatten(0, 2)
            plus, minus = evaluate(moved).double().unflatten(0, (2, *size[:2])).unbind(0)
            slope = ((plus - minus) * grad).sum(-1) / (2 * spsa.step)
            total += (slope[..., None] * d).sum(0)  # 1 / d is d
        found = (total / spsa.directions).to(parts[0]).split(widths, 1)
        return None, None, None, None, *(g if need else None for g, need in zip(found, needs, strict=True))


def spsa(
    evaluate: Evaluate, angle_map: AngleMap, x: Tensor, weights: Tensor, *, mode: SPSA, generator: torch.Generator
) -> Tensor:
    """Return outputs (B, K) whose gradients come from two runs along a random direction.

    J_ij = (f_i(t + h D) - f_i(t - h D)) / (2 h D_j) with D of +-1 drawn at random, one D for each sample and backward
    pass, averaged over `mode.directions`. Angles that need no gradient are not moved.

    Args:
        evaluate: The unrolled circuit: angles (B', J) -> outputs (B', K). The runs of a backward pass have float64
            angles.
        angle_map: What `unroll` returned, cast to the type and device of `x`.
        x: Features (B, n_inputs).
        weights: Weights (n_weights,).
        mode: Step and directions.
        generator: Source of the directions, on the CPU.

    Example:
        >>> circuit, angle_map = unroll(Circuit(1, (Gate("RY", (0,), (Input(0),)),)))
        >>> x = torch.tensor([[torch.pi / 2]], requires_grad=True)
        >>> random = torch.Generator().manual_seed(0)
        >>> spsa(torch.cos, angle_map, x, torch.zeros(0), mode=SPSA(), generator=random).sum().backward()
        >>> x.grad.round(decimals=4)
        tensor([[-1.]])
    """
    parts = angle_map.parts(x, weights)
    out: Tensor = _Perturbed.apply(evaluate, mode, generator, angle_map.max_rows, *parts)  # type: ignore[no-untyped-call]
    return out


def sample(probabilities: Tensor, table: Tensor, shots: int, *, generator: torch.Generator) -> Tensor:
    """Return the means (B, K) of a table's rows over `shots` draws of a basis state for each sample.

    Args:
        probabilities: (B, 2^n), each row of sum 1 up to rounding.
        table: (2^n, K), the value of each output in each basis state.
        shots: Number of draws, 1 or more.
        generator: Source of the draws, on the CPU: a GPU sees the same numbers.

    Raises:
        UsageError: for fewer than 1 shot.

    Example:
        >>> certain = torch.tensor([[0.0, 1.0, 0.0, 0.0]])
        >>> sample(certain, torch.tensor([[1.0], [2.0], [3.0], [4.0]]), 10, generator=torch.Generator())
        tensor([[2.]])
    """
    check_shots(shots)
    # in double precision, and scaled by the last entry, which is 1 only up to rounding
    cumulated = probabilities.detach().double().clamp(min=0).cumsum(1)
    counts = torch.zeros(probabilities.shape, dtype=torch.long, device=probabilities.device)
    batch = len(probabilities)
    at_once = max(1, MAX_DRAWS // max(batch, 1))
    for start in range(0, shots, at_once):
        size = (batch, min(at_once, shots - start))
        u = torch.rand(size, generator=generator, dtype=torch.float64).to(cumulated.device)
        drawn = torch.searchsorted(cumulated, u * cumulated[:, -1:], right=True)
        drawn = drawn.clamp(max=cumulated.shape[1] - 1)
        counts.scatter_add_(1, drawn, torch.ones_like(drawn))
    return (counts.double() / shots).to(table) @ table


def check_shots(shots: int) -> None:
    """Raise a `UsageError` unless `shots` is 1 or more."""
    if shots < 1:
        raise UsageError(f"Argument `shots` must be 1 or more, but is {shots}: leave it out for exact values.")


def at_value(expectation: Tensor, sampled: Tensor) -> Tensor:
    """Return the sampled values with the gradient of the expectation values.

    Example:
        >>> t = torch.tensor(2.0, requires_grad=True)
        >>> value = at_value(t.square(), torch.tensor(4.5))
        >>> value.item(), torch.autograd.grad(value, t)[0].item()
        (4.5, 4.0)
    """
    return sampled.detach() + (expectation - expectation.detach())
