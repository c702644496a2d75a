"""One set of numba options for all compiled baselines."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call, keep the machine code on disk, let sums be reordered for SIMD.

    ``error_model="numpy"`` drops the branch for division by zero from inner loops.
    """
    return cast(Callable[P, R], numba.njit(cache=True, fastmath=True, error_model="numpy")(function))
