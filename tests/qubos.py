"""Random QUBOs for tests of samplers."""

import numpy as np

from qanneal_opt.qubo import Qubo


def problem(n, seed=0, batch=None, *, shared=False, offset=0.5):
    """All bits coupled by normal numbers; a batch has linear parts of its own, and matrices unless they are shared."""
    rng = np.random.default_rng(seed)
    quadratic = rng.normal(size=(n, n) if batch is None or shared else (batch, n, n))
    quadratic = quadratic + quadratic.swapaxes(-1, -2)
    quadratic[..., np.arange(n), np.arange(n)] = 0
    return Qubo(rng.normal(size=n if batch is None else (batch, n)), quadratic, offset)
