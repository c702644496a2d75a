"""Compiled search for the best flip: fields, signs and bars of all bits as rows.

Flipping bit k changes the energy by ``sign_k field_k``, with ``sign = 1 - 2 b`` and ``field = linear + quadratic b``.
A flip adds one row of the matrix to the fields; the same pass over them finds the best flip that is not barred.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.simd import MAGNITUDE, Float, Row, add, as_float, as_int, at, compiled, scalar

Array = np.ndarray[Any, Any]

SIGN = np.int32(31)
NEVER = MAGNITUDE  # above all keys; as a bar, until the end of time


@scalar
def key(x: Float) -> Any:
    """Give an integer in the order of the floats: SIMD has a minimum of integers that needs no care for NaN."""
    i = as_int(x)
    return np.int32(i ^ (np.int32(i >> SIGN) & MAGNITUDE))


@scalar
def value(i: np.int32) -> Any:
    """Give the float of a key."""
    return as_float(np.int32(i ^ (np.int32(i >> SIGN) & MAGNITUDE)))


@compiled
def advance(field: Row, sign: Row, bar: Row, row: Row, weight: Float, now: np.int32, n: int) -> Any:
    """Add weight * row to the fields, and give the lowest key of a flip that is not barred."""
    low = NEVER
    for j in range(n):
        h = field[j] + weight * row[j]
        field[j] = h
        low = min(low, key(sign[j] * h) if bar[j] <= now else NEVER)
    return low


@compiled
def find(field: Row, sign: Row, bar: Row, now: np.int32, low: np.int32, first: np.int32, n: int) -> Any:
    """Give the first bit from ``first`` on, cyclically, whose flip has the key ``low`` and is not barred."""
    size = np.int32(n)
    found = NEVER
    for j in range(n):
        k = np.int32(np.int32(j) - first)
        k = k if k >= 0 else np.int32(k + size)
        found = min(found, k if (bar[j] <= now) & (key(sign[j] * field[j]) == low) else NEVER)
    return (np.int64(found) + first) % n


@compiled
def flip(field: Row, sign: Row, rows: Row, width: int, k: int) -> Any:
    """Flip bit k; give what that adds to the energy."""
    weight = sign[k]
    change = weight * field[k]
    sign[k] = -weight
    add(field, weight, at(rows, k * width), width)
    return np.float64(change)


@compiled
def move_to(goal: Array, field: Row, sign: Row, rows: Row, width: int) -> Any:
    """Flip the bits in which the state differs from ``goal``; give what that adds to the energy."""
    change = 0.0
    for j in range(len(goal)):
        if (sign[j] < 0) != (goal[j] == 1):
            change += flip(field, sign, rows, width, j)
    return change
