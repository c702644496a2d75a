"""Random numbers in compiled code, a pure function of a counter: SplitMix64.

Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014). What a counter gives does not
depend on what was drawn before, so that loops over it run with SIMD instructions, and in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qanneal_opt.simd import HALF, log, scalar

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX1, MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S11, S27, S30, S31, S32, S40 = (np.uint64(n) for n in (11, 27, 30, 31, 32, 40))
GRAIN = np.float32(2.0**-24)


@scalar
def bits(counter: np.uint64) -> Any:
    """Give 64 random bits for a counter that goes in steps of GOLDEN."""
    x = (counter ^ (counter >> S30)) * MIX1
    x = (x ^ (x >> S27)) * MIX2
    return x ^ (x >> S31)


@scalar
def uniform(counter: np.uint64) -> Any:
    """Give a random number in [0, 1), a multiple of 2^-53."""
    return np.float64(bits(counter) >> S11) * 2.0**-53


@scalar
def below(counter: np.uint64, count: int) -> Any:
    """Give a random integer in [0, count), uniform to 2^-32 count."""
    return np.int64(((bits(counter) >> S32) * np.uint64(count)) >> S32)


@scalar
def gumbel(counter: np.uint64) -> Any:
    """Give a standard Gumbel number, float32."""
    return -log(-log((np.float32(bits(counter) >> S40) + HALF) * GRAIN))
