"""The operations of the native kernel on the planes of a block.

A turn by the angle a of rows (u, v) is three shears: u -= t v, v += s u, u -= t v with s = sin a, t = tan(a/2).
Backwards psi and lambda = dL/dpsi are undone together, and what an operation exp(a G) adds to dL/da is
Re <lambda, G psi>.
"""

from redqubit.quantum.simulation.native.plan import PASS
from redqubit.quantum.simulation.native.rows import (
    add,
    fma,
    fnma,
    lanes,
    load,
    mul,
    part,
    splat,
    store,
    sub,
    total,
    zero,
)
from redqubit.quantum.simulation.native.start import inner, sincos


@inner
def turn(t, s, u, v):
    """Return the rows (u, v) turned forwards."""
    u = fnma(t, v, u)
    v = fma(s, u, v)
    return fnma(t, v, u), v


@inner
def unturn(t, s, u, v):
    """Return the rows (u, v) turned backwards."""
    u = fma(t, v, u)
    v = fnma(s, u, v)
    return fma(t, v, u), v


@inner
def spread(i, bit):
    """Return i with a 0 put in at `bit`."""
    return ((i >> bit) << (bit + 1)) | (i & ((1 << bit) - 1))


@inner
def copy(source, order, at, shift, target, to, to_shift, count):
    """Copy the `count` rows order[at + (i << shift)] to the rows to + (i << to_shift)."""
    size = lanes(source)
    for i in range(count):
        store(target, (to + (i << to_shift)) * size, load(source, order[at + (i << shift)] * size))


@inner
def turn_one(source, order, at, shift, target, to, to_shift, count, coefficients, slot, bit):
    """Copy rows, turned on one bit of their number i."""
    size = lanes(source)
    t, s = load(coefficients, 2 * slot * size), load(coefficients, (2 * slot + 1) * size)
    step, to_step = 1 << (bit + shift), 1 << (bit + to_shift)
    for i in range(count >> 1):
        a = spread(i, bit)
        r, w = at + (a << shift), to + (a << to_shift)
        u, v = turn(t, s, load(source, order[r] * size), load(source, order[r + step] * size))
        store(target, w * size, u)
        store(target, (w + to_step) * size, v)


@inner
def turn_two(source, order, at, shift, target, to, to_shift, count, coefficients, slot, low, high):
    """Copy rows, turned on two bits of their number by the slots `slot` and `slot` + 1."""
    size = lanes(source)
    t0, s0 = load(coefficients, 2 * slot * size), load(coefficients, (2 * slot + 1) * size)
    t1, s1 = load(coefficients, (2 * slot + 2) * size), load(coefficients, (2 * slot + 3) * size)
    b, c, wb, wc = 1 << (low + shift), 1 << (high + shift), 1 << (low + to_shift), 1 << (high + to_shift)
    for i in range(count >> 2):
        a = spread(spread(i, low), high)
        r, w = at + (a << shift), to + (a << to_shift)
        x0, x1 = load(source, order[r] * size), load(source, order[r + b] * size)
        x2, x3 = load(source, order[r + c] * size), load(source, order[r + b + c] * size)
        x0, x1 = turn(t0, s0, x0, x1)
        x2, x3 = turn(t0, s0, x2, x3)
        x0, x2 = turn(t1, s1, x0, x2)
        x1, x3 = turn(t1, s1, x1, x3)
        store(target, w * size, x0)
        store(target, (w + wb) * size, x1)
        store(target, (w + wc) * size, x2)
        store(target, (w + wb + wc) * size, x3)


@inner
def turn_three(source, order, at, shift, target, to, to_shift, count, coefficients, slot, low, middle, high):
    """Copy rows, turned on three bits of their number by three slots from `slot` on."""
    size = lanes(source)
    t0, s0 = load(coefficients, 2 * slot * size), load(coefficients, (2 * slot + 1) * size)
    t1, s1 = load(coefficients, (2 * slot + 2) * size), load(coefficients, (2 * slot + 3) * size)
    t2, s2 = load(coefficients, (2 * slot + 4) * size), load(coefficients, (2 * slot + 5) * size)
    b, c, d = 1 << (low + shift), 1 << (middle + shift), 1 << (high + shift)
    wb, wc, wd = 1 << (low + to_shift), 1 << (middle + to_shift), 1 << (high + to_shift)
    for i in range(count >> 3):
        a = spread(spread(spread(i, low), middle), high)
        r, w = at + (a << shift), to + (a << to_shift)
        x0, x1 = load(source, order[r] * size), load(source, order[r + b] * size)
        x2, x3 = load(source, order[r + c] * size), load(source, order[r + b + c] * size)
        r = r + d
        x4, x5 = load(source, order[r] * size), load(source, order[r + b] * size)
        x6, x7 = load(source, order[r + c] * size), load(source, order[r + b + c] * size)
        x0, x1 = turn(t0, s0, x0, x1)
        x2, x3 = turn(t0, s0, x2, x3)
        x4, x5 = turn(t0, s0, x4, x5)
        x6, x7 = turn(t0, s0, x6, x7)
        x0, x2 = turn(t1, s1, x0, x2)
        x1, x3 = turn(t1, s1, x1, x3)
        x4, x6 = turn(t1, s1, x4, x6)
        x5, x7 = turn(t1, s1, x5, x7)
        x0, x4 = turn(t2, s2, x0, x4)
        x1, x5 = turn(t2, s2, x1, x5)
        x2, x6 = turn(t2, s2, x2, x6)
        x3, x7 = turn(t2, s2, x3, x7)
        store(target, w * size, x0)
        store(target, (w + wb) * size, x1)
        store(target, (w + wc) * size, x2)
        store(target, (w + wb + wc) * size, x3)
        w = w + wd
        store(target, w * size, x4)
        store(target, (w + wb) * size, x5)
        store(target, (w + wc) * size, x6)
        store(target, (w + wb + wc) * size, x7)


@inner
def uncopy(source, at, shift, target, order, to, to_shift, count):
    """Copy the `count` rows at + (i << shift) to the rows order[to + (i << to_shift)]."""
    size = lanes(source)
    for i in range(count):
        store(target, order[to + (i << to_shift)] * size, load(source, (at + (i << shift)) * size))


@inner
def unturn_one(psi, lam, at, shift, psi_to, lam_to, order, to, to_shift, count, coefficients, slot, bit, sums):
    """Copy the rows of both, turned back on one bit, and add to the derivative to the angle."""
    size = lanes(psi)
    t, s = load(coefficients, 2 * slot * size), load(coefficients, (2 * slot + 1) * size)
    g = load(sums, slot * size)
    b, wb = 1 << (bit + shift), 1 << (bit + to_shift)
    for i in range(count >> 1):
        a = spread(i, bit)
        r, w = at + (a << shift), to + (a << to_shift)
        u, v = load(psi, r * size), load(psi, (r + b) * size)
        x, y = load(lam, r * size), load(lam, (r + b) * size)
        g = add(g, fnma(x, v, mul(y, u)))
        u, v = unturn(t, s, u, v)
        x, y = unturn(t, s, x, y)
        w0, w1 = order[w] * size, order[w + wb] * size
        store(psi_to, w0, u)
        store(psi_to, w1, v)
        store(lam_to, w0, x)
        store(lam_to, w1, y)
    store(sums, slot * size, g)


@inner
def unturn_two(psi, lam, at, shift, psi_to, lam_to, order, to, to_shift, count, coefficients, slot, low, high, sums):
    """Copy the rows of both, turned back on two bits, and add to the derivatives to both angles."""
    size = lanes(psi)
    t0, s0 = load(coefficients, 2 * slot * size), load(coefficients, (2 * slot + 1) * size)
    t1, s1 = load(coefficients, (2 * slot + 2) * size), load(coefficients, (2 * slot + 3) * size)
    g0, g1 = load(sums, slot * size), load(sums, (slot + 1) * size)
    b, c, wb, wc = 1 << (low + shift), 1 << (high + shift), 1 << (low + to_shift), 1 << (high + to_shift)
    for i in range(count >> 2):
        a = spread(spread(i, low), high)
        r, w = at + (a << shift), to + (a << to_shift)
        p0, p1 = load(psi, r * size), load(psi, (r + b) * size)
        p2, p3 = load(psi, (r + c) * size), load(psi, (r + b + c) * size)
        l0, l1 = load(lam, r * size), load(lam, (r + b) * size)
        l2, l3 = load(lam, (r + c) * size), load(lam, (r + b + c) * size)
        g0 = add(g0, fma(l3, p2, fnma(l2, p3, fnma(l0, p1, mul(l1, p0)))))
        g1 = add(g1, fma(l3, p1, fnma(l1, p3, fnma(l0, p2, mul(l2, p0)))))
        p0, p1 = unturn(t0, s0, p0, p1)
        p2, p3 = unturn(t0, s0, p2, p3)
        p0, p2 = unturn(t1, s1, p0, p2)
        p1, p3 = unturn(t1, s1, p1, p3)
        l0, l1 = unturn(t0, s0, l0, l1)
        l2, l3 = unturn(t0, s0, l2, l3)
        l0, l2 = unturn(t1, s1, l0, l2)
        l1, l3 = unturn(t1, s1, l1, l3)
        w0, w1 = order[w] * size, order[w + wb] * size
        w2, w3 = order[w + wc] * size, order[w + wb + wc] * size
        store(psi_to, w0, p0)
        store(psi_to, w1, p1)
        store(psi_to, w2, p2)
        store(psi_to, w3, p3)
        store(lam_to, w0, l0)
        store(lam_to, w1, l1)
        store(lam_to, w2, l2)
        store(lam_to, w3, l3)
    store(sums, slot * size, g0)
    store(sums, (slot + 1) * size, g1)


@inner
def sweep(source, target, rows, order, plain, first, bits, passes, length, coefficients, chunk):
    """Write the rows source[order[j]], turned on some of the `bits` bits from bit `first` on.

    Chunks of rows that differ in these bits alone go through all `passes` while they are in the nearest cache.
    """
    count, last = 1 << bits, length - PASS
    for number in range(rows >> bits):
        base = ((number >> first) << (first + bits)) | (number & ((1 << first) - 1))
        a, where, r, shift = source, order, base, first
        for at in range(0, length, PASS):
            b, w, to_shift = chunk, 0, 0
            if at == last:
                b, w, to_shift = target, base, first
            slot, low, middle = passes[at + 1], passes[at + 2], passes[at + 3]
            if passes[at] == 3:
                high = passes[at + 4]
                turn_three(a, where, r, shift, b, w, to_shift, count, coefficients, slot, low, middle, high)
            elif passes[at] == 2:
                turn_two(a, where, r, shift, b, w, to_shift, count, coefficients, slot, low, middle)
            elif passes[at] == 1:
                turn_one(a, where, r, shift, b, w, to_shift, count, coefficients, slot, low)
            else:
                copy(a, where, r, shift, b, w, to_shift, count)
            a, where, r, shift = chunk, plain, 0, 0


@inner
def unsweep(psi, lam, psi_to, lam_to, rows, order, plain, first, bits, passes, length, coefficients, chunk, sums):
    """Undo a sweep on both, row j to order[j], and add to the derivatives to its angles."""
    count, last = 1 << bits, length - PASS
    lam_chunk = part(chunk, count * lanes(psi))
    for number in range(rows >> bits):
        base = ((number >> first) << (first + bits)) | (number & ((1 << first) - 1))
        a, b, r, shift = psi, lam, base, first
        for at in range(0, length, PASS):
            c, d, where, w, to_shift = chunk, lam_chunk, plain, 0, 0
            if at == last:
                c, d, where, w, to_shift = psi_to, lam_to, order, base, first
            slot, low, high = passes[at + 1], passes[at + 2], passes[at + 3]
            if passes[at] == 2:
                unturn_two(a, b, r, shift, c, d, where, w, to_shift, count, coefficients, slot, low, high, sums)
            elif passes[at] == 1:
                unturn_one(a, b, r, shift, c, d, where, w, to_shift, count, coefficients, slot, low, sums)
            else:
                uncopy(a, r, shift, c, where, w, to_shift, count)
                uncopy(b, r, shift, d, where, w, to_shift, count)
            a, b, r, shift = chunk, lam_chunk, 0, 0


@inner
def sign(state, rows, phases):
    """Multiply the rows of a real state by +-1."""
    size = lanes(state)
    for r in range(rows):
        store(state, r * size, mul(splat(phases, r), load(state, r * size)))


@inner
def phase(state, rows, phases, inverse):
    """Multiply the rows of a complex state by phases (cos, sin), or by their conjugates."""
    size = lanes(state)
    for r in range(rows):
        c, s = splat(phases, r), splat(phases, rows + r)
        x, y = load(state, r * size), load(state, (rows + r) * size)
        if inverse:
            store(state, r * size, fma(s, y, mul(c, x)))
            store(state, (rows + r) * size, fnma(s, x, mul(c, y)))
        else:
            store(state, r * size, fnma(s, y, mul(c, x)))
            store(state, (rows + r) * size, fma(s, x, mul(c, y)))


@inner
def lane_phases(data, terms, count, tables, rows, coefficients, out, angles):
    """Write cos and sin, (2, row, lane), of the sum of exponents times angles that differ by sample."""
    size = lanes(data)
    for r in range(rows):
        a = zero(data)
        for i in range(0, 2 * count, 2):
            a = fma(splat(data, tables + terms[i] * rows + r), load(coefficients, 2 * terms[i + 1] * size), a)
        store(angles, r * size, a)
    sincos(angles, rows * size, part(out, rows * size), out)


@inner
def phase_lanes(state, gap, phases, inverse):
    """Multiply a complex state by phases (cos, sin) that differ by sample, or by their conjugates."""
    for r in range(0, gap, lanes(state)):
        c, s, x, y = load(phases, r), load(phases, gap + r), load(state, r), load(state, gap + r)
        if inverse:
            store(state, r, fma(s, y, mul(c, x)))
            store(state, gap + r, fnma(s, x, mul(c, y)))
        else:
            store(state, r, fnma(s, y, mul(c, x)))
            store(state, gap + r, fma(s, x, mul(c, y)))


@inner
def pull_phases(data, terms, count, middle, tables, psi, lam, rows, sums, pull):
    """Add to the derivatives to the angles of a phase: shared ones (the first `middle` of `terms`), then others."""
    size = lanes(psi)
    gap = rows * size
    for r in range(rows):
        at = r * size
        q = fnma(load(lam, at), load(psi, gap + at), mul(load(lam, gap + at), load(psi, at)))
        pull[r] = total(q)
        for i in range(2 * middle, 2 * count, 2):
            slot = terms[i + 1] * size
            store(sums, slot, fma(splat(data, tables + terms[i] * rows + r), q, load(sums, slot)))
    for i in range(0, 2 * middle, 2):
        out = sums[terms[i + 1] * size]
        for r in range(rows):
            out += data[tables + terms[i] * rows + r] * pull[r]
        sums[terms[i + 1] * size] = out


@inner
def apply_dense(state, gap, planes, members, length, matrix, dim, inverse, spare):
    """Apply a unitary (re, im), or its inverse, to the sets of `dim` rows that `members` lists, in place."""
    size = lanes(state)
    square = dim * dim
    for base in range(0, length, dim):
        for i in range(dim):
            at = members[base + i] * size
            for plane in range(planes):
                store(spare, (plane * dim + i) * size, load(state, plane * gap + at))
        for i in range(dim):
            re, im = zero(state), zero(state)
            for j in range(dim):
                m = j * dim + i if inverse else i * dim + j
                c, x = splat(matrix, m), load(spare, j * size)
                re = fma(c, x, re)
                if planes == 2:
                    s, y = splat(matrix, square + m), load(spare, (dim + j) * size)
                    if inverse:
                        s = sub(zero(state), s)
                    re, im = fnma(s, y, re), add(im, fma(s, x, mul(c, y)))
            at = members[base + i] * size
            store(state, at, re)
            if planes == 2:
                store(state, gap + at, im)
