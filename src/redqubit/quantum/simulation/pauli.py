"""Noisy circuits in the Pauli basis: real matrices for gates and channels, fused into few.

A density matrix on n wires is its 4^n real coefficients r_P = Tr(P rho), words P ordered I, X, Y, Z with wire 0 the
most significant. A gate or channel on k wires is a real 4^k x 4^k Pauli transfer matrix

    R[i, j] = 2^-k Tr(P_i E(P_j)),

for a gate with one angle a trigonometric polynomial R(u) = sum_m exp(i m u) R_m, |m| <= h. Channels depend on no angle,
so that they multiply into the gate before them and cost nothing; a few gates in a row are one polynomial of several
angles, and all polynomials of a circuit are evaluated by one cosine and one batched product.

Reference: Greenbaum, "Introduction to Quantum Gate Set Tomography", arXiv 1509.02921, section 2.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from redqubit.errors import UsageError
from redqubit.quantum.channels import Channel
from redqubit.quantum.circuit import Gate, Input, Weight
from redqubit.quantum.gates import IDENTITY, X, Y, Z, matrix, native

MAX_WIRES = 5  # of one gate or channel: its matrix has 16^k entries
MAX_ANGLES = 2  # of one polynomial: 9 waves; more are products
_HALF = frozenset({"CRX", "CRY", "CRZ"})  # their period is 4 pi: polynomials in half of the angle
_PAULIS = torch.stack([IDENTITY, X, Y, Z])


def transfer(operators: Tensor) -> Tensor:
    """Return the Pauli transfer matrix (4^k, 4^k) of Kraus operators (m, 2^k, 2^k).

    Example:
        >>> transfer(matrix("H")[None]).round().int().tolist()
        [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, -1, 0], [0, 1, 0, 0]]
    """
    dim = operators.shape[-1]
    words = _PAULIS
    while words.shape[-1] < dim:
        words = torch.einsum("iab,jcd->ijacbd", words, _PAULIS).reshape(4 * len(words), 2 * words.shape[-1], -1)
    image = torch.einsum("mab,jbc,mdc->jad", operators, words, operators.conj())
    out = words.mT.flatten(1) @ image.flatten(1).T  # Tr(P_i E(P_j))
    return _clean(out.real / dim)


def _clean(m: Tensor) -> Tensor:
    """Return m with the zeros that rounding hid, so that what cannot act has no effect at all."""
    return torch.where(m.abs() < 1e-14, 0.0, m)


@dataclass(frozen=True)
class Factor:
    """A gate or channel: `terms` (1 + 2 h, 4^k, 4^k), complex, are R_m for m = -h ... h; h = 0 without an angle."""

    wires: tuple[int, ...]
    terms: Tensor
    angle: Input | Weight | None = None

    @property
    def kind(self) -> type[Input] | type[Weight] | None:
        """What the angle reads."""
        return None if self.angle is None else type(self.angle)

    def after(self, other: "Factor") -> "Factor":
        """Return the product of two factors on the same wires, one of them a constant; `other` acts first."""
        return Factor(self.wires, self.terms @ other.terms, self.angle or other.angle)

    def on(self, wires: tuple[int, ...]) -> "Factor":
        """Return the same map written on `wires`, in that order, the identity on those it does not know."""
        k, missing = len(self.wires), tuple(w for w in wires if w not in self.wires)
        eye = torch.eye(4 ** len(missing), dtype=self.terms.dtype)
        full = torch.einsum("fij,kl->fikjl", self.terms, eye)
        axes = [(*self.wires, *missing).index(w) for w in wires]
        n = k + len(missing)
        full = full.reshape(-1, *[4] * (2 * n)).permute(0, *(1 + a for a in axes), *(1 + n + a for a in axes))
        return Factor(wires, full.reshape(-1, 4**n, 4**n), self.angle)


def identity(*wires: int) -> Factor:
    """Return the factor that does nothing."""
    return Factor(wires, torch.eye(4 ** len(wires), dtype=torch.complex128)[None])


def factors(items: Iterable[Gate | Channel]) -> list[Factor]:
    """Return gates and channels as maps with one angle each at most.

    Raises:
        UsageError: for a gate or channel on more than `MAX_WIRES` wires.
    """
    return [_factor(part) for item in items for part in single_angle(item)]


def single_angle(item: Gate | Channel) -> tuple[Gate | Channel, ...]:
    """Return the item itself, or the three turns of a `Rot`."""
    return native(item) if isinstance(item, Gate) and item.name == "Rot" else (item,)


def _factor(item: Gate | Channel) -> Factor:
    if len(item.wires) > MAX_WIRES:
        raise UsageError(
            f"{item.name} must be on {MAX_WIRES} wires or fewer in a noisy circuit, but is on {len(item.wires)}: "
            "split it."
        )
    angle = item.angles[0] if isinstance(item, Gate) and item.angles else None
    if not isinstance(angle, Input | Weight):
        return Factor(item.wires, _constant(replace(item, wires=tuple(range(len(item.wires))))))
    return Factor(item.wires, _polynomial(item.name), angle / 2 if item.name in _HALF else angle)


@lru_cache(maxsize=256)
def _constant(item: Gate | Channel) -> Tensor:
    if isinstance(item, Channel):
        operators = torch.tensor(item.operators, dtype=torch.complex128)
    elif item.matrix is not None:
        operators = torch.tensor(item.matrix, dtype=torch.complex128)[None]
    else:
        operators = matrix(item.name, *(a for a in item.angles if isinstance(a, float | int)))[None]
    return transfer(operators)[None].to(torch.complex128)


@lru_cache(maxsize=64)
def _polynomial(name: str) -> Tensor:
    """Return the terms of a gate with one angle, from its values at 1 + 2 h angles."""
    h = 2 if name in _HALF else 1
    u = 2 * math.pi * torch.arange(1 + 2 * h, dtype=torch.float64) / (1 + 2 * h)
    values = torch.stack([transfer(matrix(name, h * t)[None]) for t in u])
    waves = torch.exp(-1j * torch.arange(-h, h + 1)[:, None] * u) / len(u)
    terms = torch.einsum("fs,sij->fij", waves, values.to(waves.dtype))
    return torch.complex(_clean(terms.real), _clean(terms.imag))


# a wave cos(offset + scale . source) of angles, and its matrix
Wave = tuple[float, Mapping[int, float], Tensor]


def polynomial(block: Sequence[Factor]) -> list[Wave]:
    """Return the product of factors on the same wires, the last acting last, as waves; the first is the constant."""
    products: list[tuple[tuple[int, ...], Tensor]] = [((), block[0].terms.new_ones(1, 1))]
    for f in block:
        h = len(f.terms) // 2
        products = [
            ((*ms, m), f.terms[m + h] @ p if ms else f.terms[m + h]) for ms, p in products for m in range(-h, h + 1)
        ]
    out: list[Wave] = []
    for ms, r in products:
        if ms < (0,) * len(ms):  # the complex conjugate of another
            continue
        offset, scale = 0.0, dict[int, float]()
        for m, f in zip(ms, block, strict=True):
            if f.angle is not None:
                offset += m * f.angle.offset
                scale[f.angle.index] = scale.get(f.angle.index, 0.0) + m * f.angle.scale
        if not any(ms):
            out.insert(0, (0.0, {}, r.real))
            continue
        out += [(offset, scale, 2 * r.real), (offset - math.pi / 2, scale, -2 * r.imag)]  # cos and sin
    return out


@dataclass(frozen=True)
class Waves:
    """cos(offset + scale @ source): a product, for its gradient is one too, where a gather's is not."""

    offset: Tensor  # (G, 1)
    scale: Tensor  # (G, n_source)

    def of(self, source: Tensor) -> Tensor:
        """Return (G, B) for a source (B, n_source)."""
        return torch.cos(torch.addmm(self.offset, self.scale, source.T))


def waves(entries: Sequence[tuple[float, Mapping[int, float]]], n_source: int) -> Waves:
    """Return the waves of (offset, scale by index of the source)."""
    offset = torch.zeros(len(entries), 1, dtype=torch.float64)
    scale = torch.zeros(len(entries), n_source, dtype=torch.float64)
    for i, (shift, scales) in enumerate(entries):
        offset[i] = shift
        for index, value in scales.items():
            scale[i, index] = value
    return Waves(offset, scale)


def blocks(chain: Sequence[Factor], size: int) -> list[list[Factor]]:
    """Return a chain in runs of at most `size` factors."""
    return [list(chain[i : i + size]) for i in range(0, len(chain), size)]


@dataclass(frozen=True)
class Maps:
    """S matrices, each a product of k polynomials of F waves, the last polynomial acting last."""

    size: int  # D
    length: int  # k
    terms: Tensor  # (S k, F, D D)

    @property
    def n_waves(self) -> int:
        """Number of the waves that they take: S k F, none for constants."""
        return self.terms.shape[0] * self.terms.shape[1] if self.terms.shape[1] > 1 else 0

    def matrices(self, values: Tensor) -> Tensor:
        """Return (S, B, D, D) for values (S k F, B) of the waves; (S, 1, D, D) for constants."""
        parts = self.terms
        if self.n_waves:
            parts = torch.bmm(values.view(*self.terms.shape[:2], -1).mT, self.terms)
        if self.length == 1:
            return parts.view(-1, parts.shape[1], self.size, self.size)
        first, *others = parts.view(-1, self.length, parts.shape[1], self.size, self.size).unbind(1)
        for part in others:
            first = part @ first
        return first


def maps(chains: Sequence[Sequence[Factor]]) -> tuple[Maps, list[Wave]]:
    """Return the table of products of factors on the same wires, and the waves that it takes."""
    rows = [[polynomial(b) for b in blocks(c, MAX_ANGLES)] for c in chains]
    length, size = max(map(len, rows)), len(rows[0][0][0][2])
    still: list[Wave] = [(0.0, {}, torch.eye(size, dtype=torch.float64))]
    flat = [p for row in rows for p in (*row, *[still] * (length - len(row)))]
    n_waves = max(map(len, flat))
    none: Wave = (0.0, {}, torch.zeros(size, size, dtype=torch.float64))
    padded = [wave for p in flat for wave in (*p, *[none] * (n_waves - len(p)))]
    out = Maps(size, length, torch.stack([wave[2] for wave in padded]).reshape(len(flat), n_waves, -1))
    return out, padded if n_waves > 1 else []
