"""Angles known only as traced tensors: as which polynomial of features and weights, and as which gates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from redqubit.quantum.circuit import Angle, Gate, Input, Weight

Terms = Mapping[tuple[int, ...], float]  # indices of the variables that are multiplied -> coefficient


def points(n_features: int, n_weights: int) -> tuple[Tensor, Tensor]:
    """Return two points (n_features + n_weights,), leaves that need gradients, to trace a circuit at.

    No coordinate has the same sign at both, so that a kink or branch at 0 shows; the features have norm 1, so that
    they may be amplitudes.
    """
    generator = torch.Generator().manual_seed(0)
    size = torch.rand(2, n_features + n_weights, dtype=torch.float64, generator=generator) + 0.25
    sign = torch.randint(0, 2, (n_features + n_weights,), generator=generator) * 2.0 - 1.0
    both = size * torch.stack([sign, -sign])
    both[:, :n_features] /= torch.linalg.vector_norm(both[:, :n_features], dim=1, keepdim=True)
    first, second = (p.clone().requires_grad_() for p in both)
    return first, second


def terms(value: Tensor | float, point: Tensor) -> Terms:
    """Return the polynomial of second degree that has the value and the derivatives of an angle at a point.

    With gradient g and Hessian H there: value + g (p - point) + (p - point) H (p - point) / 2.

    Args:
        value: The angle (), computed from `point`.
        point: The leaf (n,).
    """
    value = torch.as_tensor(value, dtype=torch.float64)
    if not value.requires_grad:
        return {(): _clean(float(value))}
    gradient = _gradient(value, point)
    p, linear, found = point.detach(), gradient.detach(), dict[tuple[int, ...], float]()
    constant = value.detach() - linear @ p
    if gradient.requires_grad:
        h = torch.stack([_gradient(g, point) if g != 0 else torch.zeros_like(p) for g in gradient]).detach()
        linear, constant = linear - h @ p, constant + p @ h @ p / 2
        found = {(i, j): _clean(float(h[i, j]) / (2 if i == j else 1)) for i, j in h.triu().nonzero().tolist()}
    found |= {(i,): _clean(float(linear[i])) for i in linear.nonzero().flatten().tolist()}
    found[()] = _clean(float(constant))
    return {key: c for key, c in found.items() if c or not key}


def _gradient(value: Tensor, point: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value, point, create_graph=True, allow_unused=True, materialize_grads=True)
    return found


def _clean(value: float) -> float:
    """Return the value without the noise of the last digits: 0.3 for 0.30000000000000004."""
    short = round(value, 9)
    return short if abs(value - short) < 1e-12 else value


def agree(a: Terms, b: Terms) -> bool:
    """Tell whether two polynomials are equal up to rounding."""
    return all(abs(a.get(k, 0.0) - b.get(k, 0.0)) < 1e-6 * max(1.0, abs(a.get(k, 0.0))) for k in {*a, *b})


def products_of(angles: Iterable[Terms]) -> tuple[tuple[int, ...], ...]:
    """Return the products that appear, each once, in order."""
    return tuple(dict.fromkeys(key for angle in angles for key in angle if len(key) > 1))


def gates(
    name: str, wires: tuple[int, ...], angles: Sequence[Terms], n_features: int, products: Sequence[tuple[int, ...]]
) -> tuple[Gate, ...]:
    """Return the gates that make one gate whose angles are polynomials.

    A sum of several variables is a run of gates, which commute: RX(x0 + w0) is RX(x0) RX(w0).
    """
    if name == "Rot" and any(len(a) > 2 for a in angles):
        parts = zip(("RZ", "RY", "RZ"), angles, strict=True)
        return tuple(chain.from_iterable(gates(r, wires, [a], n_features, products) for r, a in parts))
    runs = [_run(a, n_features, products) for a in angles]
    if len(runs) != 1:
        return (Gate(name, wires, tuple(run[0] for run in runs)),)
    return tuple(Gate(name, wires, (a,)) for a in runs[0])


def _run(angle: Terms, n_features: int, products: Sequence[tuple[int, ...]]) -> tuple[Angle, ...]:
    """Return angles of one variable each whose sum is the polynomial."""

    def variable(key: tuple[int, ...]) -> Input | Weight:
        if len(key) > 1:
            return Input(n_features + products.index(key), angle[key])
        return Input(key[0], angle[key]) if key[0] < n_features else Weight(key[0] - n_features, angle[key])

    run = [variable(key) for key in angle if key]
    return (replace(run[0], offset=angle[()]), *run[1:]) if run else (angle[()],)
