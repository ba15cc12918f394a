"""The inner loops of `stacked`, compiled by Numba: Pauli vectors side by side, one in each lane of a SIMD row.

A program is a tuple of arrays: ops (n, 2), word and number of a turn, or -1 - number of a constant; for each turn the
place of its angle and the factor on it; pairs (words, D/4, 2); constants as compressed rows: begins (C, D + 1), columns
and values. States are (D, lanes). Space comes from the caller: Numba would free its own while pointers are in use.
"""

import math
from typing import Any

import numba

from redqubit.quantum.simulation.native.rows import (
    fma,
    fnma,
    lanes,
    load,
    mul,
    part,
    pointer,
    splat,
    store,
    total,
    zero,
)

_entry: Any = numba.njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")
_INNER: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # not for Python
_inner: Any = numba.njit(nogil=True, boundscheck=False, error_model="numpy", **_INNER)


@_inner
def _turn(state, pairs, word, back, c, s):
    """Turn each pair (a, b) to (c a + s b, c b - s a); the other way if `back` is 1."""
    size = lanes(state)
    for k in range(pairs.shape[1]):
        a, b = pairs[word, k, back] * size, pairs[word, k, 1 - back] * size
        x, y = load(state, a), load(state, b)
        store(state, a, fma(c, x, mul(s, y)))
        store(state, b, fnma(s, x, mul(c, y)))


@_inner
def _multiply(constant, begins, columns, values, state, out):
    """Write a constant times a state."""
    size = lanes(state)
    for i in range(begins.shape[1] - 1):
        row = zero(state)
        for k in range(begins[constant, i], begins[constant, i + 1]):
            row = fma(splat(values, k), load(state, columns[k] * size), row)
        store(out, i * size, row)


@_inner
def _slope(pairs, word, table, state):
    """Return the derivative of table . state by the angle of the turn that made the state, summed over lanes."""
    size = lanes(state)
    row = zero(state)
    for k in range(pairs.shape[1]):
        a, b = pairs[word, k, 0] * size, pairs[word, k, 1] * size
        row = fma(load(table, a), load(state, b), row)
        row = fnma(load(table, b), load(state, a), row)
    return total(row)


@_inner
def _forward(program, waves, state, other, saved, slopes):
    """Return the state after all operations; add the derivatives of `saved` . state to `slopes`, unless it is empty."""
    ops, sources, _, pairs, begins, columns, values = program
    size, dim, n_turns = lanes(state), begins.shape[1] - 1, len(sources)
    numbers = pointer(1.0, values.ctypes.data)
    for o in range(len(ops)):
        word, turn = ops[o, 0], ops[o, 1]
        if word < 0:
            _multiply(-1 - word, begins, columns, numbers, state, other)
            state, other = other, state
            continue
        _turn(state, pairs, word, 0, load(waves, turn * size), load(waves, (n_turns + turn) * size))
        if len(slopes):
            slopes[turn] += _slope(pairs, word, part(saved, turn * dim * size), state)
    return state


@_inner
def _backward(program, waves, table, other, saved, keep):
    """Return observables before all operations; `saved` gets them as they are after each turn if `keep`."""
    ops, sources, _, pairs, begins, columns, values = program
    size, dim, n_turns = lanes(table), begins.shape[1] - 1, len(sources)
    numbers = pointer(1.0, values.ctypes.data)
    for o in range(len(ops) - 1, -1, -1):
        word, turn = ops[o, 0], ops[o, 1]
        if word < 0:
            _multiply(-1 - word, begins, columns, numbers, table, other)
            table, other = other, table
            continue
        if keep:
            for i in range(dim):
                store(saved, (turn * dim + i) * size, load(table, i * size))
        _turn(table, pairs, word, 1, load(waves, turn * size), load(waves, (n_turns + turn) * size))
    return table


@_inner
def _share(program, angles, waves):
    """Write cos and sin of all turns, the same in all lanes."""
    for t in range(len(program[1])):
        angle = program[2][t] * angles[program[1][t]]
        c, s = math.cos(angle), math.sin(angle)
        for lane in range(waves.shape[2]):
            waves[0, t, lane], waves[1, t, lane] = c, s


@_inner
def _put(values, first, state):
    """Write rows `first` and on of values (K, D) to the lanes of a state, 0 where there is none."""
    for lane in range(state.shape[1]):
        for i in range(state.shape[0]):
            state[i, lane] = values[first + lane, i] if first + lane < len(values) else 0.0


@_entry
def carry_back(back, angles, observables, space, waves, out):
    """Write observables (K, D), carried back to the start with angles (M, J), to out (M, K, D)."""
    state, other = pointer(1.0, space[0].ctypes.data), pointer(1.0, space[1].ctypes.data)
    w, size = pointer(1.0, waves.ctypes.data), waves.shape[2]
    for m in range(len(angles)):
        _share(back, angles[m], waves)
        for first in range(0, len(observables), size):
            _put(observables, first, space[0])
            end = _backward(back, w, state, other, state, False)
            for lane in range(min(size, len(observables) - first)):
                for i in range(observables.shape[1]):
                    out[m, first + lane, i] = end[i * size + lane]


@_entry
def slopes(program, back, angles, observables, states, space, waves, saved, found, out):
    """Add to out (M, J) the derivatives of the sum over k of observable k after states (M, K, D)."""
    state, other = pointer(1.0, space[0].ctypes.data), pointer(1.0, space[1].ctypes.data)
    w, kept, size = pointer(1.0, waves.ctypes.data), pointer(1.0, saved.ctypes.data), waves.shape[2]
    for m in range(len(angles)):
        _share(back, angles[m], waves)
        found[:] = 0.0
        for first in range(0, len(observables), size):
            _put(observables, first, space[0])
            _backward(back, w, state, other, kept, True)
            _put(states[m], first, space[0])
            _forward(program, w, state, other, kept, found)
        for t in range(len(found)):
            out[m, program[1][t]] += program[2][t] * found[t]


@_entry
def differences(program, angles, directions, step, states, rows, words, space, waves, base, out):
    """Write to out (M, S, K) what a step along directions (M, S, J) of +-1 and one against them change of `words`.

    Run s of model m starts in states[rows[m, s]].
    """
    state, other = pointer(1.0, space[0].ctypes.data), pointer(1.0, space[1].ctypes.data)
    w, size = pointer(1.0, waves.ctypes.data), waves.shape[2]
    sources, factors, none = program[1], program[2], base[0, :0]
    for t in range(len(sources)):
        base[2, t], base[3, t] = math.cos(factors[t] * step), math.sin(factors[t] * step)
    for m in range(len(angles)):
        for t in range(len(sources)):
            angle = factors[t] * angles[m, sources[t]]
            base[0, t], base[1, t] = math.cos(angle), math.sin(angle)
        count = rows.shape[1]
        for first in range(0, count, size // 2):  # even lanes go along a direction, odd ones against it
            here = min(size // 2, count - first)
            for lane in range(size):
                run = first + min(lane // 2, here - 1)
                sign = 1.0 - 2.0 * (lane % 2)
                for t in range(len(sources)):
                    c, s = base[2, t], sign * directions[m, run, sources[t]] * base[3, t]
                    waves[0, t, lane] = base[0, t] * c - base[1, t] * s
                    waves[1, t, lane] = base[1, t] * c + base[0, t] * s
                start = states[rows[m, run]]
                for i in range(len(start)):
                    space[0, i, lane] = start[i]
            end = _forward(program, w, state, other, state, none)
            for s in range(here):
                for k in range(len(words)):
                    out[m, first + s, k] = end[words[k] * size + 2 * s] - end[words[k] * size + 2 * s + 1]
