"""What layers get from a model whose earlier layers were changed, beside what they got before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.curvature.feed import Feed, Shown
from qanneal_opt.curvature.moments import Gram
from qanneal_opt.curvature.rows import AnyRows, Rows, stamp, watching
from qanneal_opt.guards import evaluating
from qanneal_opt.terminal import progress


@dataclass(frozen=True, eq=False)
class PairedMoments:
    r"""Means over the rows x that a layer got before, and x' that it gets now; all float64, G groups of C columns.

    Attributes:
        now: ``(G, C, C)``: the mean of :math:`x' x'^\top`.
        cross: ``(G, C, C)``: the mean of :math:`x x'^\top`.
        mean_now: ``(G, C)``: the mean of x'.
        mean_before: ``(G, C)``: the mean of x.
        rows: how many.
    """

    now: Tensor
    cross: Tensor
    mean_now: Tensor
    mean_before: Tensor
    rows: int


def call_stages(feed: Feed, layers: Sequence[AnyRows]) -> tuple[list[list[AnyRows]], Counter[str]]:
    """Order layers by their first calls; those that first got the very same tensor one after the other are a stage.

    Returns:
        The stages, without layers that were never called; and how often a batch calls each layer, at most.

    Raises:
        ValueError: if there is no batch.
    """
    stages: list[list[AnyRows]] = []
    known: set[str] = set()
    calls: Counter[str] = Counter()
    most: Counter[str] = Counter()
    last: list[Any] = []  # the input of the latest stage and its stamp, while its batch is under way
    empty = True

    def take(layer: AnyRows, x: Tensor) -> None:
        calls[layer.name] += 1
        if layer.name in known:
            return
        known.add(layer.name)
        mark = stamp(x)
        if not (last and last[1] == mark):
            stages.append([])
        stages[-1].append(layer)
        last[:] = [x, mark]

    with evaluating(feed.model), torch.no_grad(), watching(layers, take):
        for shown in feed:
            empty = False
            calls.clear()
            feed.run(shown)
            last.clear()
            most |= calls
    if empty:
        raise ValueError("Invalid data: no batch; at least one is needed")
    return stages, most


def paired_moments(
    feed: Feed, layers: Sequence[Rows], before: dict[str, Tensor], calls: Mapping[str, int]
) -> dict[str, PairedMoments]:
    """Run the model with its weights ``before`` and with those of now, each batch up to the last of ``layers``.

    Args:
        feed: model and batches.
        layers: how to read the layers of interest.
        before: earlier weights, by their names in the state dict; where there is none it is that of now.
        calls: how often a batch calls each layer at most: the rest of a pass is left out then.

    Raises:
        ValueError: if something not finite reaches a layer.
    """
    sums = {layer.name: Gram() for layer in layers}
    with evaluating(feed.model), torch.no_grad():
        for shown in progress(feed, "statistics", total=feed.length):
            earlier = _inputs(feed, shown, layers, calls, before)
            later = _inputs(feed, shown, layers, calls, {})
            for layer in layers:
                pairs = list(zip(earlier[layer.name], later[layer.name]))
                if len(earlier[layer.name]) != len(later[layer.name]) or any(x.shape != y.shape for x, y in pairs):
                    raise ValueError(
                        f"Invalid sequential: True; layer {layer.name!r} gets other rows since earlier layers were "
                        "rounded, as by a choice among experts: False is needed"
                    )
                for x, y in pairs:
                    for pair in zip(layer.input_rows(x, shown.mask), layer.input_rows(y, shown.mask), strict=True):
                        sums[layer.name].add(torch.cat(pair, -1))
    found = {}
    for layer in layers:
        gram = sums.pop(layer.name)
        if not gram.rows:
            continue
        moment, mean = gram.moment(), gram.mean()
        if not bool(moment.isfinite().all()):
            raise ValueError(
                f"Invalid data: NaN or infinity reaches layer {layer.name!r}; finite activations are needed"
            )
        n = mean.shape[1] // 2
        found[layer.name] = PairedMoments(moment[:, n:, n:], moment[:, :n, n:], mean[:, n:], mean[:, :n], gram.rows)
    return found


class _Enough(BaseException):
    """All inputs of interest are known."""


def _inputs(
    feed: Feed, shown: Shown, layers: Sequence[Rows], calls: Mapping[str, int], weights: dict[str, Tensor]
) -> dict[str, list[Tensor]]:
    """What each layer gets in one pass, call by call."""
    found: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}

    def take(layer: Rows, x: Tensor) -> None:
        found[layer.name].append(x)
        if all(len(found[name]) >= calls[name] for name in found):
            raise _Enough

    try:
        with watching(layers, take):
            feed.run(shown, weights)
    except _Enough:
        pass
    return found
