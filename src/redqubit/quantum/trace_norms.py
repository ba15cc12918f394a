"""Trace norms of the differences of small Hermitian matrices, four pairs at a time, compiled by Numba.

A call of LAPACK for each matrix of 16 x 16 costs more than its arithmetic. Here four differences lie side by side in a
register: Householder reflections make them tridiagonal, and QL steps diagonal, all four together. With it QUID is 67
times as fast as its loop over pairs, with `torch.linalg.eigvalsh` instead 11 times: 700 noisy samples on 4 qubits,
three metrics, benchmarks/quid.py.

Arrays, by their addresses: a (count, n, n, 2) complex numbers as pairs; b (groups, n, n, 2, LANES), matrices side by
side; work (2 n n + 6 n + 2, LANES); out (count, groups, LANES).

Reference: Golub and Van Loan, "Matrix Computations" (2013), section 8.3.1 (tridiagonal form); Parlett, "The Symmetric
    Eigenvalue Problem" (1980), section 8.15 (QL without square roots).
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from redqubit.quantum.simulation.native.rows import (
    BYTES,
    add,
    fma,
    fnma,
    lanes,
    load,
    mul,
    part,
    pointer,
    splat,
    store,
    sub,
    zero,
)

LANES = BYTES // 8  # float64 in a row
_EPS = 2.220446049250313e-16
_TINY = 1e-100  # far below what rounding leaves of numbers near 1, and its square is no 0


@intrinsic
def divide(typingctx, a, b):
    """Return a / b of two rows."""

    def code(context, builder, signature, args):
        return builder.fdiv(*args)

    return a(a, b), code


@intrinsic
def off_zero(typingctx, a, tiny):
    """Return a row in which numbers nearer to 0 than `tiny` are moved there, with their signs."""

    def code(context, builder, signature, args):
        value, bound = args
        kind = value.type

        def call(name, *numbers):
            name = f"llvm.{name}.v{kind.count}f{a.dtype.bitwidth}"
            function = ir.FunctionType(kind, [kind] * len(numbers))
            return builder.call(cgutils.get_or_insert_function(builder.module, function, name), numbers)

        below = builder.fcmp_ordered("<", call("fabs", value), bound)
        return builder.select(below, call("copysign", bound, value), value)

    return a(a, tiny), code


_OPTIONS: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # not for Python
_inner = numba.njit(nogil=True, error_model="numpy", **_OPTIONS)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def trace_norms(one, n, count, groups, a, b, work, out):
    """Write the trace norms of a_i - b_j for `count` matrices a_i and all b_j, n x n; `one` is a float64."""
    a, b, work, out = pointer(one, a), pointer(one, b), pointer(one, work), pointer(one, out)
    size = lanes(work)
    vectors = part(work, 2 * n * n * size)
    diagonal, squares = part(vectors, 4 * n * size), part(vectors, 5 * n * size)
    for i in range(count):
        for group in range(groups):
            left, right = part(a, i * 2 * n * n), part(b, group * 2 * n * n * size)
            for k in range(2 * n * n):
                store(work, k * size, sub(splat(left, k), load(right, k * size)))
            _tridiagonal(n, work, vectors, diagonal, squares)
            _sum_magnitudes(n, diagonal, squares, vectors, part(out, (i * groups + group) * size))


@_inner
def _tridiagonal(n, m, v, diagonal, squares):
    """Write the diagonals and the squared magnitudes beside them; only the lower triangles of `m` are read and kept.

    With the column x below the diagonal, v = x + phase(x_0) ||x|| e_0 and beta = 2 / (v^H v), a step takes the rest to
    A - v w^H - w v^H, where p = beta A v and w = p - (beta / 2) (v^H p) v.
    """
    size = lanes(m)
    w = part(v, 2 * n * size)
    beta = part(squares, n * size)  # and half of it in the row after
    for k in range(n - 1):
        store(diagonal, k * size, load(m, 2 * (k * n + k) * size))
        norm = zero(m)
        for i in range(k + 1, n):
            re, im = load(m, 2 * (i * n + k) * size), load(m, 2 * (i * n + k) * size + size)
            store(v, 2 * i * size, re)
            store(v, 2 * i * size + size, im)
            norm = fma(re, re, fma(im, im, norm))
        store(squares, k * size, norm)
        if k == n - 2:
            break
        for lane in range(size):
            first = 2 * (k + 1) * size + lane
            whole, head = squares[k * size + lane], v[first] * v[first] + v[first + size] * v[first + size]
            if head > _TINY:
                stretch = 1 + np.sqrt(whole / head)
                v[first] *= stretch
                v[first + size] *= stretch
            else:  # its phase is lost in rounding, and does not matter
                head, v[first], v[first + size] = 0.0, np.sqrt(whole), 0.0
            beta[lane] = 1 / (whole + np.sqrt(whole) * np.sqrt(head)) if whole > _TINY else 0.0
            beta[size + lane] = beta[lane] / 2
        _multiply(n, k + 1, m, v, w)
        b, kappa = load(beta, 0), zero(m)
        for i in range(2 * (k + 1), 2 * n):
            p = mul(b, load(w, i * size))
            store(w, i * size, p)
            kappa = fma(load(v, i * size), p, kappa)
        kappa = mul(kappa, load(beta, size))
        for i in range(2 * (k + 1), 2 * n):
            store(w, i * size, fnma(kappa, load(v, i * size), load(w, i * size)))
        _subtract(n, k + 1, m, v, w)
    store(diagonal, (n - 1) * size, load(m, 2 * (n * n - 1) * size))


@_inner
def _multiply(n, begin, m, v, w):
    """Write A v to w, for the lower triangle from row and column `begin` on."""
    size = lanes(m)
    for i in range(begin, n):
        vr, vi = load(v, 2 * i * size), load(v, 2 * i * size + size)
        diagonal = load(m, 2 * (i * n + i) * size)
        sr, si = mul(diagonal, vr), mul(diagonal, vi)
        for j in range(begin, i):
            at, to = 2 * (i * n + j) * size, 2 * j * size
            re, im = load(m, at), load(m, at + size)
            xr, xi = load(v, to), load(v, to + size)
            sr, si = fnma(im, xi, fma(re, xr, sr)), fma(im, xr, fma(re, xi, si))
            store(w, to, fma(im, vi, fma(re, vr, load(w, to))))
            store(w, to + size, fnma(im, vr, fma(re, vi, load(w, to + size))))
        store(w, 2 * i * size, sr)
        store(w, 2 * i * size + size, si)


@_inner
def _subtract(n, begin, m, v, w):
    """Subtract v w^H + w v^H from the lower triangle from row and column `begin` on."""
    size = lanes(m)
    for i in range(begin, n):
        vr, vi = load(v, 2 * i * size), load(v, 2 * i * size + size)
        wr, wi = load(w, 2 * i * size), load(w, 2 * i * size + size)
        for j in range(begin, i + 1):
            at, to = 2 * (i * n + j) * size, 2 * j * size
            xr, xi = load(v, to), load(v, to + size)
            yr, yi = load(w, to), load(w, to + size)
            re = add(fma(vr, yr, mul(vi, yi)), fma(wr, xr, mul(wi, xi)))
            im = add(fnma(vr, yi, mul(vi, yr)), fnma(wr, xi, mul(wi, xr)))
            store(m, at, sub(load(m, at), re))
            store(m, at + size, sub(load(m, at + size), im))


@_inner
def _sum_magnitudes(n, d, e, work, out):
    """Write sum |lambda| of tridiagonal matrices: d their diagonals, e the squares beside them; both are lost.

    QL steps run from the last row up to the first that some matrix has not done with. Where a matrix has split before,
    a step treats its parts as matrices of their own.
    """
    size = lanes(d)
    small, shift, one, tiny = work, part(work, size), part(work, 2 * size), part(work, 3 * size)
    for lane in range(size):
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(d[i * size + lane]))
        for i in range(n - 1):
            largest = max(largest, np.sqrt(e[i * size + lane]))
        small[lane], one[lane], tiny[lane] = (_EPS * largest) ** 2, 1.0, _TINY
    first = 0
    for _ in range(60 * n):  # two or three steps an eigenvalue are usual
        while first < n - 1 and _all_below(e, first * size, small):
            first += 1
        if first >= n - 1:
            break
        for lane in range(size):
            begin, square = d[first * size + lane], e[first * size + lane]
            shift[lane] = begin
            if square > 0:
                root = np.sqrt(square)
                ratio = (d[(first + 1) * size + lane] - begin) / (2 * root)
                shift[lane] -= root / (ratio + np.copysign(np.sqrt(1 + ratio * ratio), ratio))
        _step(first, n - 1, d, e, load(shift, 0), load(one, 0), load(tiny, 0))
    for lane in range(size):
        out[lane] = 0.0
        for i in range(n):
            out[lane] += abs(d[i * size + lane])


@_inner
def _all_below(values, at, bounds):
    below = True
    for lane in range(lanes(values)):
        below = below and values[at + lane] <= bounds[lane]
    return below


@_inner
def _step(first, last, d, e, shift, one, tiny):
    """Take a step of QL without square roots; gamma stays off 0, where its square would lose what it stands for."""
    size = lanes(d)
    s = sub(one, one)
    gamma = off_zero(sub(load(d, last * size), shift), tiny)
    p = mul(gamma, gamma)
    for i in range(last - 1, first - 1, -1):
        square, here, old = load(e, i * size), load(d, i * size), gamma
        r = add(p, square)
        if i < last - 1:
            store(e, (i + 1) * size, mul(s, r))
        inverse = divide(one, r)
        c, s = mul(p, inverse), mul(square, inverse)
        gamma = off_zero(fnma(s, old, mul(c, sub(here, shift))), tiny)
        store(d, (i + 1) * size, add(old, sub(here, gamma)))
        p = mul(mul(gamma, gamma), divide(r, p))
    store(e, first * size, mul(s, p))
    store(d, first * size, add(shift, gamma))
