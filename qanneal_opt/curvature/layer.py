"""What reaches the layers of a model: second moments of their inputs, and of the gradients at their outputs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.curvature.coherent import mixed
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.moments import Gram
from qanneal_opt.curvature.outputs import OutputMoments
from qanneal_opt.curvature.rows import Rows, stamp, watching
from qanneal_opt.guards import evaluating
from qanneal_opt.terminal import progress


@dataclass(frozen=True, eq=False)
class Moments:
    r"""Means over the rows that a layer saw; G groups, of C inputs and R outputs each.

    Attributes:
        inputs: ``(G, C, C)`` float64: H, the mean of :math:`x x^\top`, not centred. Layers that see the same tensors
            share one, unless it is in part that of coherent errors.
        mean: ``(G, C)`` float64: the mean of x.
        outputs: ``(G, R, R)`` float64: the mean of :math:`\delta \delta^\top`, the gradients at the output; None if it
            was not asked for or no gradient came there.
        rows: how many x.
    """

    inputs: Tensor
    mean: Tensor
    outputs: Tensor | None
    rows: int


def layer_moments(
    feed: Feed,
    layers: Sequence[Rows],
    *,
    projections: int = 0,
    coherence: float = 0.0,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    weights: dict[str, Tensor] | None = None,
) -> dict[str, Moments]:
    r"""Run the model over its batches once, and average what the layers see.

    .. math:: H = \frac1N \sum_n x_n x_n^\top, \qquad G = \frac1{NP} \sum_{n,p} \delta_{np} \delta_{np}^\top, \qquad
              \delta_{np} = \partial (u_p \cdot f) / \partial y_n

    with f all floating-point outputs of the model as one vector, y the layer's output, and P random vectors u of
    independent signs for each batch, so that G estimates the Gauss-Newton matrix of :math:`|f|^2 / 2` without bias.
    Where ``feed`` has a mask, only tokens that count enter: of inputs, gradients and outputs whose leading dimensions
    are the mask's. The model runs in eval mode; modes, random numbers, gradients and ``requires_grad`` are left as they
    were, and weights need no gradient.

    With a ``coherence`` c of the projections, H is 1 - c of the above and c of

    .. math:: H_c = \frac{\sum_s M_s^\top M_s}{\sum_n |\delta_n|^2}, \qquad M_s = \sum_{n \in s} \delta_n x_n^\top

    over the samples s, in which a weight is used at several places n: errors there cancel or add up in the model's
    outputs (`qanneal_opt.curvature.coherent`). The mean of x is mixed in the same way, and both are divided by what the
    mixture gives for a constant input of 1.

    Args:
        feed: model and batches.
        layers: how to read the layers of interest.
        projections: P; 0 for no G and no backward pass.
        coherence: c, from 0 to less than 1.
        seed: of the signs.
        precision: ``torch.bfloat16``: a CPU that multiplies such numbers faster may round inputs and gradients, less
            their first means, before it multiplies them. The model runs as it is.
        weights: run the model with these in place of its own, by their names in the state dict.

    Returns:
        Moments by layer name, in the order of first calls; layers that were never called have none.

    Raises:
        ValueError: if there is no batch, something not finite reaches a layer, or G is asked of a model whose outputs
            have no gradient.
    """
    inputs = _InputMoments(layers, precision)
    outputs = OutputMoments(feed.model, layers, projections, seed, coherent=coherence > 0, precision=precision)
    empty = True
    with evaluating(feed.model), torch.no_grad(), watching(layers, inputs.add):
        for shown in progress(feed, "statistics", total=feed.length):
            empty = False
            inputs.mask = shown.mask
            if projections:
                with outputs.entered():
                    outputs.add(feed.run(shown, weights), shown.mask)
            else:
                feed.run(shown, weights)
            inputs.forget()
    if empty:
        raise ValueError("Invalid data: no batch; at least one is needed")
    return _means(inputs, outputs, coherence)


class _InputMoments:
    """The sums of all layers' inputs.

    Layers begin with one Gram for all that have the same key. A layer that gets the same tensor as the one before it,
    and had the same so far, takes over that one's new sums instead of adding the tensor again.
    """

    def __init__(self, layers: Sequence[Rows], precision: torch.dtype) -> None:
        blank: dict[Hashable, Gram] = {}
        self.sums = {layer.name: blank.setdefault(layer.key, Gram(precision)) for layer in layers}
        self.order: dict[str, None] = {}  # names, as they were first called
        self.mask: Tensor | None = None
        self._last: tuple[Tensor, Any, Gram, Gram] | None = None  # a tensor, its stamp, the sums before and after it

    def add(self, layer: Rows, x: Tensor) -> None:
        """Take an input."""
        self.order.setdefault(layer.name)
        old, mark = self.sums[layer.name], stamp(x)
        if self._last is not None:
            _, seen, before, after = self._last
            if before is old and seen == mark:
                self.sums[layer.name] = after
                return
        alone = sum(gram is old for gram in self.sums.values()) == 1
        new = old if alone else old.copy()
        for rows in layer.input_rows(x, self.mask):
            new.add(rows)
        self.sums[layer.name] = new
        self._last = None if alone else (x, mark, old, new)

    def forget(self) -> None:
        """Let go of the batch's tensors."""
        self._last = None


def _means(inputs: _InputMoments, outputs: OutputMoments, coherence: float) -> dict[str, Moments]:
    made: dict[Gram, tuple[Tensor, Tensor]] = {}
    found = {}
    for name in inputs.order:
        gram, slopes = inputs.sums.pop(name), outputs.sums.pop(name)
        if not gram.rows:
            continue
        if gram not in made:
            made[gram] = gram.moment(), gram.mean()
        moment, mean = made[gram]
        slope, samples = slopes.moment() if slopes.rows else None, outputs.samples.pop(name)
        if samples.rows and slope is not None and bool(slope.diagonal(dim1=1, dim2=2).any()):
            moment, mean = mixed(moment, mean, samples, coherence)
        if not bool(moment.isfinite().all()):
            raise ValueError(f"Invalid data: NaN or infinity reaches layer {name!r}; finite activations are needed")
        if slope is not None and not bool(slope.isfinite().all()):
            raise ValueError(f"Invalid data: NaN or infinity in the gradient at the output of layer {name!r}")
        found[name] = Moments(moment, mean, slope, gram.rows)
    return found
