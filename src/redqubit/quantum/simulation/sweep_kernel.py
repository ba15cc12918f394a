"""Small sweeps compiled by Numba: at 16 x 16 a product costs less than the call of one.

Arrays: state and g (rows, 4^n); matrices (S, 16, 16); order (T,) the matrix of each step; turns (T + 1, 4^n) the column
that each column comes from before each step and after the last; seen (T, rows * 4^n / 16, 16) the left factors.
"""

from typing import Any

import numba
import numpy as np

_compiled: Any = numba.njit(cache=True, nogil=True, fastmath=True, boundscheck=False, error_model="numpy")


@_compiled
def forward(state, matrices, order, transposed, turns, seen, last):
    """Write the left factor of each product to `seen` and the last state to `last`."""
    rows, size = state.shape
    now = state.copy().reshape(-1, 16)
    for step in range(len(order)):
        left, m = seen[step], matrices[order[step]]
        _turn(now, turns[step], rows, size, left)
        if transposed:
            np.dot(left, m.T, now)
        else:
            np.dot(left, m, now)
    _turn(now, turns[len(order)], rows, size, last)


@_compiled
def backward(g, matrices, order, transposed, turns, seen, slopes, start):
    """Write the gradient of each matrix to `slopes` and that of the state to `start`; `turns` undo the others."""
    rows, size = g.shape
    now = np.empty((rows * size // 16, 16), g.dtype)
    product = g.copy().reshape(-1, 16)
    for step in range(len(order), 0, -1):
        left, at = seen[step - 1], order[step - 1]
        _turn(product, turns[step], rows, size, now)
        if transposed:
            np.dot(now.T, left, slopes[at])
            np.dot(now, matrices[at], product)
        else:
            np.dot(left.T, now, slopes[at])
            np.dot(now, matrices[at].T, product)
    _turn(product, turns[0], rows, size, start)


@_compiled
def _turn(values, turn, rows, size, out):
    old, new = values.reshape(-1), out.reshape(-1)
    for r in range(rows):
        for i in range(size):
            new[r * size + i] = old[r * size + turn[i]]
