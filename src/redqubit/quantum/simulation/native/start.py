"""Where a block of samples starts: its angles, and the product state or amplitudes that they give.

One-qubit vectors are (wire, bit, plane, lane), flat; `heap` has the products of the last k wires at rows 2^k to
2^(k+1), from which the whole product and its derivatives are made at the price of a few operations a row.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from redqubit.quantum.simulation.native.plan import HEADER, PHASE, WIDTH
from redqubit.quantum.simulation.native.rows import fma, fnma, lanes, load, mul, part, store, zero

(
    QUBITS, PLANES, SLOTS, TURNED, CHAINED, AMPLITUDE, GATHERS, N_FORWARD, N_BACKWARD, N_PHASES, FORWARD, BACKWARD,
    SOURCES, PARTS, CHAINS, TERMS, SWEEPS, PERMUTATIONS, DENSE_ROWS, OFFSETS, SCALES, FIXED, TABLES, MATRICES,
) = range(len(HEADER))  # fmt: skip
_INNER: dict[str, Any] = {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "error_model": "numpy",
}  # not for Python
inner = njit(nogil=True, fastmath=True, **_INNER)
exact = njit(nogil=True, fastmath={"contract", "nnan", "ninf", "nsz"}, **_INNER)  # without permission to reorder

_P1, _P2, _P3 = 1.57079625129699707031, 7.54978941586159635335e-8, 5.39030285815811905290e-15  # pi/2 in parts
_S = tuple((-1.0) ** (k // 2) / math.factorial(k) for k in range(3, 17, 2))
_C = tuple((-1.0) ** (k // 2) / math.factorial(k) for k in range(4, 18, 2))


@exact
def sincos(angles, count, sines, cosines):
    """Write sin and cos of the first `count` angles, by Taylor series on [-pi/4, pi/4].

    A loop that vectorises. Reordered it would lose the three-step reduction of the angle.
    """
    for i in range(count):
        a = np.float64(angles[i])
        k = np.rint(a * (2 / math.pi))
        r = ((a - k * _P1) - k * _P2) - k * _P3
        z = r * r
        s = _S[0] + z * (_S[1] + z * (_S[2] + z * (_S[3] + z * (_S[4] + z * (_S[5] + z * _S[6])))))
        c = _C[0] + z * (_C[1] + z * (_C[2] + z * (_C[3] + z * (_C[4] + z * (_C[5] + z * _C[6])))))
        s, c = r + r * z * s, 1.0 - 0.5 * z + z * z * c
        q = k - 4.0 * np.floor(k * 0.25)
        odd = (q == 1.0) | (q == 3.0)
        sine, cosine = (c if odd else s), (s if odd else c)
        sines[i] = -sine if q >= 2.0 else sine
        cosines[i] = -cosine if (q == 1.0) | (q == 2.0) else cosine


@inner
def set_slot(code, slot, angles, coefficients):
    """Write what slot `slot` needs of its angles: turns (tan(a/2), sin a), chains (sin a, cos a), phases a."""
    size = lanes(angles)
    here = part(coefficients, slot * 2 * size)
    if slot >= code[CHAINED]:
        store(here, 0, load(angles, 0))
        return
    sincos(angles, size, here, part(here, size))
    if slot < code[TURNED]:
        for i in range(size):
            s, c = here[i], here[size + i]
            if c < 0:  # the same turn up to the sign of the state
                s, c = -s, -c
            here[i], here[size + i] = s / (1 + c), s


@inner
def prepare(code, data, weights, coefficients, bases, phases, work):
    """Write what no input changes: angles, coefficients of their slots and the phases of all basis states."""
    size, rows = lanes(data), 1 << code[QUBITS]
    for slot in range(code[SLOTS]):
        base = data[code[OFFSETS] + slot]
        at = code[SOURCES] + 2 * slot
        first, begin, end = code[at], code[at + 1], code[at + 2]
        for i in range(begin, end):
            base += data[code[SCALES] + i] * weights[code[code[PARTS] + i]]
        bases[slot] = base
        if first == begin:
            for lane in range(size):
                work[lane] = base
            set_slot(code, slot, work, coefficients)
    sines, cosines = part(work, rows), part(work, 2 * rows)
    for op in range(code[N_FORWARD]):
        at = code[FORWARD] + op * WIDTH
        if code[at] != PHASE:
            continue
        where, begin, end = 2 * rows * code[at + 1], code[at + 2], code[at + 3]
        fixed, out = part(data, code[FIXED] + where), part(phases, where)
        for r in range(2 * rows):
            out[r] = fixed[r]
        if begin == end:
            continue
        for r in range(rows):
            work[r] = 0
        for term in range(begin, end):
            table = code[TABLES] + rows * code[code[TERMS] + 2 * term]
            base = bases[code[code[TERMS] + 2 * term + 1]]
            for r in range(rows):
                work[r] += base * data[table + r]
        sincos(work, rows, sines, cosines)
        for r in range(rows):
            out[r] = fixed[r] * cosines[r] - fixed[rows + r] * sines[r]
            out[rows + r] = fixed[r] * sines[r] + fixed[rows + r] * cosines[r]


@inner
def set_inputs(code, data, bases, x, features, samples, coefficients, work):
    """Write the coefficients of the slots that read inputs, for the first samples of x."""
    size = lanes(data)
    for slot in range(code[SLOTS]):
        begin, end = code[code[SOURCES] + 2 * slot], code[code[SOURCES] + 2 * slot + 1]
        if begin == end:
            continue
        for lane in range(size):
            work[lane] = bases[slot]
        for i in range(begin, end):
            scale, feature = data[code[SCALES] + i], code[code[PARTS] + i]
            for lane in range(samples):
                work[lane] += scale * x[lane * features + feature]
        set_slot(code, slot, work, coefficients)


@inner
def rotate_pair(is_z, sign, coefficients, at, v, size, planes):
    """Apply RY or RZ, or with sign -1 its inverse, to the one-qubit vectors v[bit, plane, lane], in place."""
    one = planes * size
    for lane in range(size):
        s, c = sign * coefficients[at + lane], coefficients[at + size + lane]
        if is_z:
            ar, ai, br, bi = v[lane], v[size + lane], v[one + lane], v[one + size + lane]
            v[lane], v[size + lane] = c * ar + s * ai, c * ai - s * ar
            v[one + lane], v[one + size + lane] = c * br - s * bi, c * bi + s * br
        else:
            for i in range(lane, one, size):
                a, b = v[i], v[one + i]
                v[i], v[one + i] = c * a - s * b, s * a + c * b


@inner
def run_chains(code, coefficients, vectors):
    """Write the one-qubit vectors (n, bit, plane, lane) that the product state is made of."""
    size, planes, n = lanes(vectors), code[PLANES], code[QUBITS]
    for i in range(2 * n * planes * size):
        vectors[i] = 0
    for wire in range(n):
        at = code[CHAINS] + 3 * wire
        v = part(vectors, wire * 2 * planes * size)
        for lane in range(size):
            v[code[at] * planes * size + lane] = 1
        for slot in range(code[at + 1], code[at + 2]):
            is_z = code[code[CHAINS] + 3 * n + slot - code[TURNED]] == 1
            rotate_pair(is_z, 1, coefficients, slot * 2 * size, v, size, planes)


@inner
def unwind_chains(code, coefficients, vectors, pulls, sums):
    """Add the derivatives to the chains' angles, from those to the one-qubit vectors; both are used up."""
    size, planes, n = lanes(vectors), code[PLANES], code[QUBITS]
    one = planes * size
    for wire in range(n):
        at = code[CHAINS] + 3 * wire
        v, g = part(vectors, wire * 2 * one), part(pulls, wire * 2 * one)
        for back in range(code[at + 2] - code[at + 1]):
            slot = code[at + 2] - 1 - back
            is_z = code[code[CHAINS] + 3 * n + slot - code[TURNED]] == 1
            for lane in range(size):
                if is_z:
                    low = g[size + lane] * v[lane] - g[lane] * v[size + lane]
                    high = g[one + size + lane] * v[one + lane] - g[one + lane] * v[one + size + lane]
                    sums[slot * size + lane] += high - low
                else:
                    for i in range(lane, one, size):
                        sums[slot * size + lane] += g[one + i] * v[i] - g[i] * v[one + i]
            rotate_pair(is_z, -1, coefficients, slot * 2 * size, v, size, planes)
            rotate_pair(is_z, -1, coefficients, slot * 2 * size, g, size, planes)


@inner
def join(vector, half, rest, to, at, planes, gap):
    """Write the product of a one-qubit vector and `half` rows of `rest`, found at row `half`, to row `at` on."""
    size = lanes(rest)
    one = planes * size
    for bit in range(2):
        re = load(vector, bit * one)
        for i in range(half):
            a, target = load(rest, (half + i) * size), (at + bit * half + i) * size
            if planes == 1:
                store(to, target, mul(re, a))
            else:
                im, b = load(vector, bit * one + size), load(rest, gap + (half + i) * size)
                store(to, target, fnma(im, b, mul(re, a)))
                store(to, gap + target, fma(im, a, mul(re, b)))


@inner
def fill_heap(code, vectors, heap):
    """Write the products of the last k wires at rows 2^k to 2^(k+1), for k < n."""
    size, planes, n = lanes(heap), code[PLANES], code[QUBITS]
    gap = size << n
    for lane in range(size, 2 * size):
        heap[lane] = 1
        if planes == 2:
            heap[gap + lane] = 0
    for wire in range(n - 1, 0, -1):
        half = 1 << (n - 1 - wire)
        join(part(vectors, wire * 2 * planes * size), half, heap, heap, 2 * half, planes, gap)


@inner
def split(code, vectors, heap, lam, pulls):
    """Write the derivatives to the one-qubit vectors of a product state, from those to the state, which it uses up."""
    size, planes, n = lanes(heap), code[PLANES], code[QUBITS]
    gap, one = size << n, planes * size
    for wire in range(n):
        half = 1 << (n - 1 - wire)
        v, out = part(vectors, wire * 2 * one), part(pulls, wire * 2 * one)
        g0, g1 = zero(heap), zero(heap)
        h0, h1 = zero(heap), zero(heap)
        for i in range(half):
            r, a, b = load(heap, (half + i) * size), load(lam, i * size), load(lam, (half + i) * size)
            g0, g1 = fma(r, a, g0), fma(r, b, g1)
            back = fma(load(v, 0), a, mul(load(v, one), b))
            if planes == 2:
                s, c = load(heap, gap + (half + i) * size), load(lam, gap + i * size)
                d = load(lam, gap + (half + i) * size)
                g0, g1 = fma(s, c, g0), fma(s, d, g1)
                h0, h1 = fma(r, c, fnma(s, a, h0)), fma(r, d, fnma(s, b, h1))
                im0, im1 = load(v, size), load(v, one + size)
                back = fma(im0, c, fma(im1, d, back))
                other = fma(load(v, 0), c, mul(load(v, one), d))
                store(lam, gap + i * size, fnma(im0, a, fnma(im1, b, other)))
            store(lam, i * size, back)
        store(out, 0, g0)
        store(out, one, g1)
        if planes == 2:
            store(out, size, h0)
            store(out, one + size, h1)


@inner
def set_amplitudes(code, x, features, samples, psi, norms):
    """Write the normalised first features of each sample as real amplitudes; lanes without sample: |0>."""
    size, count = lanes(psi), code[AMPLITUDE]
    for i in range(code[PLANES] * (size << code[QUBITS])):
        psi[i] = 0
    for lane in range(size):
        norms[lane] = 1
        if lane >= samples:
            psi[lane] = 1
            continue
        square = 0.0
        for i in range(count):
            square += np.float64(x[lane * features + i]) ** 2
        norms[lane] = math.sqrt(square)
        for i in range(count):
            psi[i * size + lane] = x[lane * features + i] / norms[lane]
