"""Reinforced belief propagation for the binary perceptron: the specialised algorithm that sets the bar.

Braunstein and Zecchina, "Learning by message passing in networks of discrete synapses", Phys. Rev. Lett.
96, 030201 (2006), with messages in the Gaussian approximation of many inputs and closed on single-site
magnetisations m (the TAP form: one pass costs two products with the patterns). With xi = label * pattern and
V = sum_i (1 - m_i^2):

    omega_a = sum_i xi_ai m_i - V g_a(old),   g_a = phi(x) / (sqrt(V) Phi(x)),  x = omega_a / sqrt(V)
    h_i = sum_a xi_ai g_a + m_i sum_a g_a (g_a + omega_a / V) + r_t h_i(old),   m_i = tanh h_i

r_t = 1 - decay^t is the reinforcement: it drives the magnetisations to +-1, that is to one solution.
"""

import math

import numpy as np
from numpy.random import Generator

from qanneal_opt.demo.baselines.binary_mlp import Array
from qanneal_opt.demo.baselines.compiled import compiled
from qanneal_opt.demo.baselines.signs import judge


@compiled
def _hazard(x: float) -> float:
    """phi(x) / Phi(x) for the standard normal: a continued fraction (Mills' ratio) where Phi would vanish."""
    if x > -6.0:
        return 0.7978845608028654 * math.exp(-0.5 * x * x) / math.erfc(-x * 0.7071067811865476)
    tail = -x
    for k in range(12, 0, -1):
        tail = -x + k / tail
    return tail


@compiled
def _reinforced(signed: Array, field: Array, decay: float, iterations: int, best: Array) -> tuple[int, int]:
    """Iterate from `field` until the signs solve all patterns; returns (fewest errors, iterations used)."""
    count, size = signed.shape
    hazard = np.zeros(count, np.float32)
    magnet, weights = np.tanh(field), np.empty(size, np.float32)
    fewest = count + 1
    for iteration in range(1, iterations + 1):
        _, errors, fewest = judge(signed, field, weights, best, fewest)
        if errors == 0:
            return 0, iteration
        variance = 1e-6
        for k in range(size):
            variance += 1.0 - magnet[k] * magnet[k]
        width = math.sqrt(variance)
        means = np.dot(signed, magnet)
        onsager = 0.0
        for a in range(count):
            omega = means[a] - variance * hazard[a]
            pull = _hazard(omega / width) / width
            hazard[a] = pull
            onsager += pull * (pull + omega / variance)
        message = np.dot(signed.T, hazard)
        keep = 1.0 - decay**iteration
        for k in range(size):
            field[k] = message[k] + magnet[k] * onsager + keep * field[k]
            magnet[k] = math.tanh(field[k])
    return fewest, iterations


def solve(patterns: Array, labels: Array, *, decays: tuple[float, ...], seed: int) -> tuple[Array, int, int]:
    """Try slower and slower reinforcement (`decays`) until solved; (weights +-1 `(N,)`, errors, iterations).

    Each is given 2 / (1 - decay) iterations: by then the reinforcement is above .86 and the signs are frozen.
    """
    signed = np.ascontiguousarray(patterns * labels[:, None])
    rng: Generator = np.random.default_rng(seed)
    best, fewest, total = np.ones(signed.shape[1], np.float32), len(signed) + 1, 0
    for decay in decays:
        found = np.empty_like(best)
        field = (0.01 * rng.standard_normal(signed.shape[1])).astype(np.float32)
        errors, used = _reinforced(signed, field, decay, round(2 / (1 - decay)), found)
        total += used
        if errors < fewest:
            fewest, best = errors, found
        if errors == 0:
            break
    return best, fewest, total
