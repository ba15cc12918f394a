"""Trace norms of the differences of small Hermitian matrices, four pairs at a time, compiled by Numba.

A call of LAPACK for each matrix of 16 x 16 costs more than its arithmetic. Here four differences lie side by side in one
register: Householder reflections make them tridiagonal together, and the eigenvalues follow one matrix at a time.

Arrays, by their addresses: a (A, n, n, 2) complex numbers as pairs; b (G, n, n, 2, 4), four matrices side by side;
work (2 n n + 6 n + 2, 4); out (A, G, 4).

Reference: Golub and Van Loan, "Matrix Computations" (2013), section 8.3.1 (tridiagonal form); Parlett, "The Symmetric
    Eigenvalue Problem" (1980), section 8.15 (QL without square roots).
"""

import numba
import numpy as np

from redqubit.quantum.simulation.native.rows import (
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

_EPS = 2.220446049250313e-16
_inner = numba.njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")


@numba.njit(cache=True, nogil=True, error_model="numpy")
def trace_norms(one, n, a, low, high, b, groups, work, out):
    """Write the trace norms of a_i - b_j for the rows low <= i < high and all j; `one` is a float64."""
    a, b, work, out = pointer(one, a), pointer(one, b), pointer(one, work), pointer(one, out)
    size = lanes(work)
    vectors = part(work, 2 * n * n * size)
    diagonal, squares = part(vectors, 4 * n * size), part(vectors, 5 * n * size)
    for i in range(low, high):
        for group in range(groups):
            left, right = part(a, i * 2 * n * n), part(b, group * 2 * n * n * size)
            for k in range(2 * n * n):
                store(work, k * size, sub(splat(left, k), load(right, k * size)))
            _tridiagonal(n, work, vectors, diagonal, squares)
            for lane in range(size):
                at = part(out, (i * groups + group) * size + lane)
                at[0] = _sum_of_magnitudes(n, part(diagonal, lane), part(squares, lane), size)


@_inner
def _tridiagonal(n, m, v, diagonal, squares):
    """Write the diagonals and the squared magnitudes beside them; only the lower triangles of `m` are read and kept.

    With the column x below the diagonal, v = x + phase(x_0) ||x|| e_0 and beta = 2 / (v^H v), a step takes the rest to
    A - v w^H - w v^H, where p = beta A v and w = p - (beta / 2) (v^H p) v.
    """
    size = lanes(m)
    w = part(v, 2 * n * size)
    beta = part(squares, n * size)  # and the row after it is kappa
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
            whole, part_of_it = squares[k * size + lane], v[first] * v[first] + v[first + size] * v[first + size]
            length = np.sqrt(whole) * np.sqrt(part_of_it)
            beta[lane] = 1 / (whole + length) if whole > 0 else 0.0
            if part_of_it > 0:
                stretch = 1 + np.sqrt(whole / part_of_it)
                v[first] *= stretch
                v[first + size] *= stretch
            else:
                v[first] = np.sqrt(whole)
        _multiply(n, k + 1, m, v, w)
        b, kappa = load(beta, 0), zero(m)
        for i in range(2 * (k + 1), 2 * n):
            p = mul(b, load(w, i * size))
            store(w, i * size, p)
            kappa = fma(load(v, i * size), p, kappa)
        kappa = mul(kappa, b)
        store(beta, size, kappa)
        for lane in range(size):
            beta[size + lane] *= 0.5
        kappa = load(beta, size)
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
def _sum_of_magnitudes(n, d, e, step):
    """Return sum |lambda| of a tridiagonal matrix: d its diagonal, e the squares beside it, `step` numbers apart."""
    largest = 0.0
    for i in range(n):
        largest = max(largest, abs(d[i * step]))
    for i in range(n - 1):
        largest = max(largest, np.sqrt(e[i * step]))
    small = (_EPS * largest) ** 2
    first = 0
    for _ in range(60 * n):  # two passes an eigenvalue are usual
        while first < n - 1 and e[first * step] <= small:
            first += 1
        if first >= n - 1:
            break
        last = first + 1
        while last < n - 1 and e[last * step] > small:
            last += 1
        _pass(first, last, d, e, step)
    total = 0.0
    for i in range(n):
        total += abs(d[i * step])
    return total


@_inner
def _pass(first, last, d, e, step):
    """Take one step of QL, shifted by Wilkinson's estimate of the first eigenvalue, on a block that does not split."""
    root = np.sqrt(e[first * step])
    ratio = (d[(first + 1) * step] - d[first * step]) / (2 * root)
    shift = d[first * step] - root / (ratio + np.copysign(np.sqrt(1 + ratio * ratio), ratio))
    c, s = 1.0, 0.0
    gamma = d[last * step] - shift
    p = gamma * gamma
    for i in range(last - 1, first - 1, -1):
        square, old_c, old_gamma, here = e[i * step], c, gamma, d[i * step]
        r = p + square
        if i < last - 1:
            e[(i + 1) * step] = s * r
        c, s = p / r, square / r
        gamma = c * (here - shift) - s * old_gamma
        d[(i + 1) * step] = old_gamma + (here - gamma)
        p = gamma * gamma / c if c > 0 else old_c * square
    e[first * step] = s * p
    d[first * step] = shift + gamma
