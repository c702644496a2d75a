"""What compiled code knows of a network, as records of numbers and addresses; this module needs no compiler.

Records are handed over by address, since numba would count references to each array at each call, which
costs more than the arithmetic on a short row. Whoever makes a record keeps what its addresses point to.
"""

from __future__ import annotations

import numpy as np

IDENTITY, LEAKY, CLAMP, TANH, SIGMOID, SILU, ELU, SOFTPLUS, GELU = range(9)  # activations
CROSS_ENTROPY, SQUARES = range(2)  # losses

NET = np.dtype(
    [
        ("data", np.int64),  # (blocks, height, length) float32: rows of inputs, z, h and what the loss needs
        ("theta", np.int64),  # all parameters, flat float32
        ("layers", np.int64),  # (depth,) LAYER
        ("cache", np.int64),  # (blocks, tall, length) float32: L h of layers with a scale
        ("scratch", np.int64),  # (2 half + 4, length) float32
        ("flags", np.int64),  # (2 half,) int64: which units a move changes
        ("blocks", np.int64),
        ("height", np.int64),
        ("tall", np.int64),
        ("length", np.int64),  # samples in a block, the rest of the last one with weight 0
        ("depth", np.int64),
        ("half", np.int64),  # the most units of a layer, inputs included
        ("loss", np.int64),
        ("classes", np.int64),  # output units
        ("output", np.int64),  # first row of the outputs,
        ("target", np.int64),  # of the targets;
        ("slope", np.int64),  # for squares of the slopes
        ("residual", np.int64),  # and of the residuals slope * output + target;
        ("softmax", np.int64),  # for cross-entropy of the softmax,
        ("linear", np.int64),  # of sum_c y_c W_ci for inputs i of the last layer (-1: not kept),
        ("norm", np.int64),  # row of log sum_c e^o_c,
        ("excess", np.int64),  # of the logarithm of the softmax's sum: 0 but for rounding,
        ("growth", np.int64),  # and of the norm's change under the move evaluated last;
        ("sample", np.int64),  # and row of sample weights, with sum 1;
        ("ones", np.int64),  # row of ones: the input of a bias
        ("floor", np.float32),  # of the residuals that count: 0 for the hinge, -infinity for squares on both sides
    ],
    align=True,
)

LAYER = np.dtype(
    [
        ("inputs", np.int64),
        ("outputs", np.int64),
        ("source", np.int64),  # first row in a block of the inputs,
        ("z", np.int64),  # of z,
        ("h", np.int64),  # and of h: the same rows as z where act is the identity
        ("weight", np.int64),  # place in theta of W or L,
        ("bias", np.int64),  # of the bias (-1: none),
        ("scale", np.int64),  # of the scale (-1: a plain layer)
        ("step", np.int64),  # from one row's scale to the next; 0: one scale for the tensor
        ("cached", np.int64),  # first row of L h in the cache
        ("kind", np.int64),  # activation
        ("a", np.float32),  # and its constants
        ("b", np.float32),
    ],
    align=True,
)

CHANGE = np.dtype(
    [
        ("layer", np.int64),
        ("row", np.int64),  # output unit
        ("column", np.int64),  # input unit; -1: the bias
        ("place", np.int64),  # in theta
        ("value", np.float32),  # new value of the weight
    ],
    align=True,
)

PLACE = np.dtype(
    [
        ("owner", np.int64),  # which of the discrete parameters a weight belongs to
        ("sign", np.int64),  # its level's place in the theta of a refit,
        ("unknown", np.int64),  # and its scale's (-1: the scale is fixed)
        ("scale", np.float32),  # the scale at present
    ],
    align=True,
)
