r"""Second moments of inputs as a weight's errors add up over a sample.

The error E of a weight that is used at T places of a sample (tokens, pixels) moves a projection of the model's output
by :math:`\sum_t g_t^\top E x_t = \langle M, E \rangle`, :math:`M = \sum_t g_t x_t^\top`, with x the layer's inputs and
g the gradients at its output: errors of different places cancel or add up. The Kronecker factor of the inputs is then
the mean of M'M = X'KX, K = gg' with X ``(T, C)`` and g ``(T, R)``; the mean of x x' takes places for independent, and
all gradients for alike. (Eschenhagen et al., "Kronecker-factored approximate curvature for modern neural network
architectures", 2023, on when the one and when the other holds.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from qanneal_opt.curvature.moments import Gram
from qanneal_opt.curvature.rows import Rows

_CHUNK = 2**24  # entries of inputs as rows at a time: 64 MB


def samples(
    layer: Rows, module: nn.Module, x: Tensor, dy: Tensor, mask: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs ``(G, B, T, C)`` and gradients ``(G, B, T, R)`` of some samples at a time.

    Samples are the first dimension, or the mask's where tokens come as one list; gradients of tokens that do not count
    are 0.
    """
    if not dy.numel():
        return
    if mask is not None and x.ndim == 2 and len(x) == mask.numel():
        x, dy = x.unflatten(0, mask.shape), dy.unflatten(0, mask.shape)
    if x.ndim == 1 or (x.ndim == 3 and isinstance(module, nn.Conv2d)):
        x, dy = x[None], dy[None]
    if mask is not None and dy.shape[:-1] == mask.shape:
        # Not by a product: what does not count may be NaN, in inputs and gradients.
        x, dy = (torch.where(mask[..., None], part, 0.0) for part in (x, dy))
    g = _joined(layer.output_rows(dy, None)).unflatten(1, (len(x), -1))  # (G, B, T, R)
    step = max(1, _CHUNK // max(1, g.shape[2] * next(layer.input_rows(x[:1], None)).shape[2]))
    for part, its in zip(x.split(step), g.split(step, 1)):
        yield _joined(layer.input_rows(part, None)).unflatten(1, (len(part), -1)), its


def _joined(chunks: Iterable[Tensor]) -> Tensor:
    """Chunks of ``(G, N, C)`` as one, which is no copy where there is but one."""
    first, *others = chunks
    return torch.cat([first, *others], 1) if others else first


def add_samples(gram: Gram, x: Tensor, g: Tensor) -> None:
    r"""Add :math:`\sum M^\top M` of samples, in units of :math:`\sum |g_t|^2`.

    Args:
        gram: of C columns.
        x: ``(G, B, T, C)``: inputs of B samples, for G groups of columns.
        g: ``(G, B, T, R)``: gradients, zero at places that do not count.

    >>> gram = Gram()
    >>> x, g = torch.tensor([[[[2.0], [1.0]]]]), torch.tensor([[[[1.0], [1.0]]]])
    >>> add_samples(gram, x, g)
    >>> [round(float(part), 4) for part in (gram.moment(), gram.mean(), gram.constant())]  # M = 3, or 2 for a 1; 1 + 1
    [4.5, 3.0, 2.0]
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, g.dtype), torch.float32)  # two of them under autocast
    x, g = x.to(dtype), g.to(dtype)
    weight = torch.linalg.vector_norm(g, dim=(2, 3)).double().square().sum(1)
    x = gram.differences(x.flatten(1, 2)).unflatten(1, x.shape[1:3])
    if x.shape[2] < g.shape[3]:  # K is small
        K = g @ g.mT
        left, right = x, K @ x
        line, unit = right.sum((1, 2)), K.double().sum((1, 2, 3))
    else:
        left = right = g.mT @ x  # M
        ones = g.sum(2)  # what it is for a constant 1
        line, unit = (ones[..., None] * right).sum((1, 2)), ones.double().square().sum((1, 2))
    gram.add_products(left.flatten(1, 2), right.flatten(1, 2), (line, unit, weight))


def mixed(moment: Tensor, mean: Tensor, coherent: Gram, share: float) -> tuple[Tensor, Tensor]:
    """Both kinds of moments in one, in units of what they say of a constant input of 1.

    Args:
        moment: ``(G, C, C)``: of rows.
        mean: ``(G, C)``: of rows.
        coherent: of samples.
        share: of the coherent ones, 0 to 1. At 1 there is no unit where gradients of a sample add up to 0.

    Returns:
        A moment and a mean that stand in for those of rows: H - mean mean' is the moment where a bias takes up the
        mean error.
    """
    scale = 1 / ((1 - share) + share * coherent.constant())  # (G,)
    return (
        scale[:, None, None] * ((1 - share) * moment + share * coherent.moment()),
        scale[:, None] * ((1 - share) * mean + share * coherent.mean()),
    )
