"""The interpreter of the native kernel: forward, and backward without stored states."""

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numba import njit

from redqubit.quantum.simulation.native.passes import (
    apply_dense,
    lane_phases,
    phase,
    phase_lanes,
    pull_phases,
    sign,
    sweep,
    unsweep,
)
from redqubit.quantum.simulation.native.plan import PHASE, SKEW, TURNS, WIDTH
from redqubit.quantum.simulation.native.rows import (
    add,
    fma,
    lanes,
    load,
    mul,
    part,
    pointer,
    splat,
    store,
    sub,
    total,
    zero,
)
from redqubit.quantum.simulation.native.start import (
    AMPLITUDE,
    BACKWARD,
    DENSE_ROWS,
    FORWARD,
    GATHERS,
    MATRICES,
    N_BACKWARD,
    N_FORWARD,
    PARTS,
    PERMUTATIONS,
    PLANES,
    QUBITS,
    SCALES,
    SLOTS,
    SOURCES,
    SWEEPS,
    TABLES,
    TERMS,
    fill_heap,
    inner,
    join,
    prepare,
    run_chains,
    set_amplitudes,
    set_inputs,
    split,
    unwind_chains,
)

PROBABILITIES, TABLE, WIRES = 0, 1, 2  # kinds of read-out


@inner
def run(code, data, coefficients, phases, state, other, scratch):
    """Apply all operations; the result is in `state` after an even number of gathers, in `other` after an odd."""
    size, rows, planes = lanes(data), 1 << code[QUBITS], code[PLANES]
    gap = rows * size
    turned = part(scratch, gap)
    for op in range(code[N_FORWARD]):
        row = part(code, code[FORWARD] + op * WIDTH)
        if row[0] == TURNS:
            order, plain = part(code, code[PERMUTATIONS] + row[1] * rows), part(code, code[PERMUTATIONS])
            passes = part(code, code[SWEEPS] + row[4])
            target = other if row[1] else state
            for plane in range(planes):
                a, b = part(state, plane * gap), part(target, plane * gap)
                sweep(a, b, rows, order, plain, row[2], row[3], passes, row[5], coefficients, scratch)
            if row[1]:
                state, other = other, state
        elif row[0] == PHASE:
            shared = part(phases, 2 * rows * row[1])
            if planes == 1:
                sign(state, rows, shared)
                continue
            phase(state, rows, shared, False)
            if row[4] > row[3]:
                terms = part(code, code[TERMS] + 2 * row[3])
                lane_phases(data, terms, row[4] - row[3], code[TABLES], rows, coefficients, turned, scratch)
                phase_lanes(state, gap, turned, False)
        else:
            members = part(code, code[DENSE_ROWS] + row[3])
            matrix = part(data, code[MATRICES] + row[2])
            apply_dense(state, gap, planes, members, row[1] * row[4], matrix, row[1], False, scratch)


@inner
def run_back(code, data, coefficients, phases, psi, psi_other, lam, lam_other, sums, scratch):
    """Undo all operations on psi and lambda, and add up the derivatives to the angles; where it ends is as in `run`."""
    size, rows, planes = lanes(data), 1 << code[QUBITS], code[PLANES]
    gap = rows * size
    turned = part(scratch, gap)
    for op in range(code[N_BACKWARD]):
        row = part(code, code[BACKWARD] + op * WIDTH)
        if row[0] == TURNS:
            order, plain = part(code, code[PERMUTATIONS] + row[1] * rows), part(code, code[PERMUTATIONS])
            passes = part(code, code[SWEEPS] + row[4])
            psi_to, lam_to = psi, lam
            if row[1]:
                psi_to, lam_to = psi_other, lam_other
            for plane in range(planes):
                at = plane * gap
                a, b, c, d = part(psi, at), part(lam, at), part(psi_to, at), part(lam_to, at)
                bits, length = row[3], row[5]
                unsweep(a, b, c, d, rows, order, plain, row[2], bits, passes, length, coefficients, scratch, sums)
            if row[1]:
                psi, psi_other, lam, lam_other = psi_other, psi, lam_other, lam
        elif row[0] == PHASE:
            shared = part(phases, 2 * rows * row[1])
            if planes == 1:
                sign(psi, rows, shared)
                sign(lam, rows, shared)
                continue
            if row[4] > row[2]:
                terms, count, middle = part(code, code[TERMS] + 2 * row[2]), row[4] - row[2], row[3] - row[2]
                pull_phases(data, terms, count, middle, code[TABLES], psi, lam, rows, sums, scratch)
            phase(psi, rows, shared, True)
            phase(lam, rows, shared, True)
            if row[4] > row[3]:
                terms = part(code, code[TERMS] + 2 * row[3])
                lane_phases(data, terms, row[4] - row[3], code[TABLES], rows, coefficients, turned, scratch)
                phase_lanes(psi, gap, turned, True)
                phase_lanes(lam, gap, turned, True)
        else:
            members = part(code, code[DENSE_ROWS] + row[3])
            matrix = part(data, code[MATRICES] + row[2])
            apply_dense(psi, gap, planes, members, row[1] * row[4], matrix, row[1], True, scratch)
            apply_dense(lam, gap, planes, members, row[1] * row[4], matrix, row[1], True, scratch)


@inner
def clear(array, count):
    """Write zeros to the first `count` elements."""
    for i in range(count):
        array[i] = 0


@inner
def squares(state, gap, planes, at):
    """Return |amplitude|^2 of the row at `at`."""
    a = load(state, at)
    if planes == 1:
        return mul(a, a)
    b = load(state, gap + at)
    return fma(b, b, mul(a, a))


@inner
def read(code, state, readout, numbers, out, columns, samples, values, scratch):
    """Write the read-out of a block: the probabilities, their sums with a table, or <Z> of wires."""
    size, n, planes = lanes(state), code[QUBITS], code[PLANES]
    rows = 1 << n
    gap = rows * size
    order, kind = part(code, code[PERMUTATIONS] + rows), readout[0]
    if kind == WIRES:
        half = rows // 2
        g = zero(state)
        for i in range(half):
            a = squares(state, gap, planes, order[2 * i] * size)
            b = squares(state, gap, planes, order[2 * i + 1] * size)
            g = add(g, sub(a, b))
            store(scratch, i * size, add(a, b))
        store(values, (n - 1) * size, g)
        for wire in range(n - 2, -1, -1):
            half //= 2
            g = zero(state)
            for i in range(half):
                a, b = load(scratch, 2 * i * size), load(scratch, (2 * i + 1) * size)
                g = add(g, sub(a, b))
                store(scratch, i * size, add(a, b))
            store(values, wire * size, g)
        for k in range(columns):
            for lane in range(samples):
                z = values[readout[1 + k] * size + lane]
                out[lane * columns + k] = numbers[k] * scratch[lane] + numbers[columns + k] * z
        return
    for j in range(rows):
        store(scratch, j * size, squares(state, gap, planes, order[j] * size))
    if kind == PROBABILITIES:
        for j in range(rows):
            for lane in range(samples):
                out[lane * columns + j] = scratch[j * size + lane]
        return
    for k in range(0, columns, 4):  # the table is (columns / 4, rows, 4), filled up with zeros
        a, b, c, d = zero(state), zero(state), zero(state), zero(state)
        for j in range(rows):
            p, at = load(scratch, j * size), k * rows + 4 * j
            a, b = fma(splat(numbers, at), p, a), fma(splat(numbers, at + 1), p, b)
            c, d = fma(splat(numbers, at + 2), p, c), fma(splat(numbers, at + 3), p, d)
        store(values, 0, a)
        store(values, size, b)
        store(values, 2 * size, c)
        store(values, 3 * size, d)
        for i in range(min(4, columns - k)):
            for lane in range(samples):
                out[lane * columns + k + i] = values[i * size + lane]


@inner
def pull(code, state, readout, numbers, grads, columns, samples, psi, lam, values, scratch):
    """Write psi and lambda = dL/dpsi = 2 (dL/dp) psi from the derivatives to what was read."""
    size, n, planes = lanes(state), code[QUBITS], code[PLANES]
    rows = 1 << n
    gap = rows * size
    order, kind = part(code, code[PERMUTATIONS] + rows), readout[0]
    if kind == WIRES:
        clear(values, n * size)
        clear(scratch, size)
        for k in range(columns):
            for lane in range(samples):
                g = 2 * grads[lane * columns + k]
                scratch[lane] += numbers[k] * g
                values[readout[1 + k] * size + lane] += numbers[columns + k] * g
        for wire in range(n):
            z = load(values, wire * size)
            for back in range(1 << wire):
                i = (1 << wire) - 1 - back
                f = load(scratch, i * size)
                store(scratch, 2 * i * size, add(f, z))
                store(scratch, (2 * i + 1) * size, sub(f, z))
    elif kind == PROBABILITIES:
        clear(scratch, gap)
        for j in range(rows):
            for lane in range(samples):
                scratch[j * size + lane] = 2 * grads[lane * columns + j]
    else:
        clear(scratch, gap)
        for k in range(0, columns, 4):
            clear(values, 4 * size)
            for i in range(min(4, columns - k)):
                for lane in range(samples):
                    values[i * size + lane] = 2 * grads[lane * columns + k + i]
            a, b, c, d = load(values, 0), load(values, size), load(values, 2 * size), load(values, 3 * size)
            for j in range(rows):
                f, at = load(scratch, j * size), k * rows + 4 * j
                f = fma(splat(numbers, at), a, fma(splat(numbers, at + 1), b, f))
                f = fma(splat(numbers, at + 2), c, fma(splat(numbers, at + 3), d, f))
                store(scratch, j * size, f)
    for j in range(rows):
        f, at = load(scratch, j * size), order[j] * size
        for begin in range(0, planes * gap, gap):
            v = load(state, begin + at)
            store(psi, begin + at, v)
            store(lam, begin + at, mul(f, v))


def entry_points(stamp: int) -> tuple[Any, Any, Any, Any]:
    """Return what Python calls: `prepare`, `forward`, `backward` and `collect`.

    They take addresses, which cost less than arrays, and first a number of the type that the addresses lead to.
    Each returns the stamp of the sources: Numba keys its cache by what a function closes over, and would not notice
    on its own that a file other than this one changed.
    """
    cached = njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

    @cached
    def prepare_(one, places, weights, work):
        code, data, coefficients = pointer(np.int32(0), places[0]), pointer(one, places[1]), pointer(one, places[2])
        bases, phases = pointer(one, places[3]), pointer(one, places[4])
        prepare(code, data, pointer(one, weights), coefficients, bases, phases, pointer(one, work))
        return stamp

    @cached
    def forward(one, places, out, keep, sizes, work, low, high):
        code, data, coefficients = pointer(np.int32(0), places[0]), pointer(one, places[1]), pointer(one, places[2])
        bases, phases, x = pointer(one, places[3]), pointer(one, places[4]), pointer(one, places[5])
        saved, readout, numbers = pointer(one, places[6]), pointer(np.int32(0), places[7]), pointer(one, places[8])
        count, features, columns = sizes
        result, base = pointer(one, out), pointer(one, work)
        size, n, planes, shared = lanes(data), code[QUBITS], code[PLANES], 2 * lanes(data) * code[SLOTS]
        gap = size << n
        block = planes * gap
        own, vectors = base, part(base, shared)
        values = part(vectors, 2 * n * planes * size)
        other = part(values, (n + 4) * size + SKEW)
        final = part(other, block + SKEW)
        scratch = part(final, block + SKEW)
        for i in range(shared):
            own[i] = coefficients[i]
        for number in range(low, high):
            first = number * size
            samples, here = min(size, count - first), part(x, first * features)
            if keep:
                final = part(saved, number * block)
            state, spare = final, other
            if code[GATHERS] % 2:
                state, spare = other, final
            set_inputs(code, data, bases, here, features, samples, own, values)
            if code[AMPLITUDE]:
                set_amplitudes(code, here, features, samples, state, values)
            else:
                run_chains(code, own, vectors)
                fill_heap(code, vectors, spare)
                join(vectors, 1 << (n - 1), spare, state, 0, planes, gap)
            run(code, data, own, phases, state, spare, scratch)
            read(code, final, readout, numbers, part(result, first * columns), columns, samples, values, scratch)
        return stamp

    @cached
    def backward(one, places, grads, parts, grad_x, sizes, work, low, high):
        code, data, coefficients = pointer(np.int32(0), places[0]), pointer(one, places[1]), pointer(one, places[2])
        bases, phases, x = pointer(one, places[3]), pointer(one, places[4]), pointer(one, places[5])
        saved, readout, numbers = pointer(one, places[6]), pointer(np.int32(0), places[7]), pointer(one, places[8])
        count, features, columns = sizes
        pulled, sums_, pushed = pointer(one, grads), pointer(one, parts), pointer(one, grad_x)
        base = pointer(one, work)
        size, n, planes, slots = lanes(data), code[QUBITS], code[PLANES], code[SLOTS]
        gap = size << n
        block, shared = planes * gap, 2 * size * slots
        own, sums = base, part(base, shared)
        vectors = part(sums, slots * size)
        pulls = part(vectors, 2 * n * planes * size)
        values = part(pulls, 2 * n * planes * size)
        psi = part(values, (n + 4) * size + SKEW)
        lam = part(psi, block + SKEW)
        psi_other = part(lam, block + SKEW)
        lam_other = part(psi_other, block + SKEW)
        scratch = part(lam_other, block + SKEW)
        start, spare, last = psi, psi_other, lam
        if code[GATHERS] % 2:
            start, spare, last = psi_other, psi, lam_other
        for i in range(shared):
            own[i] = coefficients[i]
        for number in range(low, high):
            first = number * size
            samples, here, out = min(size, count - first), part(x, first * features), part(pushed, first * features)
            clear(sums, slots * size)
            clear(out, samples * features)
            set_inputs(code, data, bases, here, features, samples, own, values)
            grad = part(pulled, first * columns)
            pull(code, part(saved, number * block), readout, numbers, grad, columns, samples, psi, lam, values, scratch)
            run_back(code, data, own, phases, psi, psi_other, lam, lam_other, sums, scratch)
            if code[AMPLITUDE]:
                set_amplitudes(code, here, features, samples, start, values)
                along = zero(data)
                for r in range(code[AMPLITUDE]):
                    along = fma(load(start, r * size), load(last, r * size), along)
                store(values, size, along)
                for r in range(code[AMPLITUDE]):
                    for lane in range(samples):
                        at = r * size + lane
                        out[lane * features + r] = (last[at] - start[at] * values[size + lane]) / values[lane]
            else:
                run_chains(code, own, vectors)
                fill_heap(code, vectors, spare)
                split(code, vectors, spare, last, pulls)
                unwind_chains(code, own, vectors, pulls, sums)
            for slot in range(slots):
                sums_[number * slots + slot] = total(load(sums, slot * size))
                for i in range(code[code[SOURCES] + 2 * slot], code[code[SOURCES] + 2 * slot + 1]):
                    scale, feature = data[code[SCALES] + i], code[code[PARTS] + i]
                    for lane in range(samples):
                        out[lane * features + feature] += scale * sums[slot * size + lane]
        return stamp

    @cached
    def collect(one, places, parts, blocks, grad_weights, count):
        code, data = pointer(np.int32(0), places[0]), pointer(one, places[1])
        sums, out = pointer(one, parts), pointer(one, grad_weights)
        clear(out, count)
        for slot in range(code[SLOTS]):
            sum_ = np.float64(0)
            for number in range(blocks):
                sum_ += sums[number * code[SLOTS] + slot]
            for i in range(code[code[SOURCES] + 2 * slot + 1], code[code[SOURCES] + 2 * slot + 2]):
                out[code[code[PARTS] + i]] += data[code[SCALES] + i] * sum_
        return stamp

    return prepare_, forward, backward, collect


def source_stamp() -> int:
    """Return a number that changes with the sources of what is compiled."""
    here = Path(__file__).parent
    return crc32(b"".join((here / f"{name}.py").read_bytes() for name in ("kernel", "passes", "plan", "rows", "start")))
