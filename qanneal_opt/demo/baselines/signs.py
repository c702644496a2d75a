"""What the perceptron's baselines share: the signs of a field as weights, judged on all patterns."""

import numpy as np

from qanneal_opt.demo.baselines.binary_mlp import Array
from qanneal_opt.demo.baselines.compiled import compiled


@compiled
def judge(signed: Array, field: Array, weights: Array, best: Array, fewest: int) -> tuple[Array, int, int]:
    """Write sign(field) to ``weights``, and to ``best`` where it has fewer errors than ``fewest``.

    Returns (outputs of the patterns times their labels, errors, fewest errors so far).
    """
    for k in range(len(field)):
        weights[k] = np.float32(1.0) if field[k] >= 0 else np.float32(-1.0)
    outputs = np.dot(signed, weights)
    errors = 0
    for a in range(len(signed)):
        errors += outputs[a] <= 0
    if errors < fewest:
        fewest = errors
        best[:] = weights
    return outputs, errors, fewest
