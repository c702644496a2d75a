"""Layers rounded one after the other, each for the inputs that the rounded ones before it leave it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from qanneal_opt.compress.kinds import Layer
from qanneal_opt.compress.layers import portions
from qanneal_opt.compress.layerwise import Result, round_layer
from qanneal_opt.compress.options import Options
from qanneal_opt.compress.undo import Undo
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.layer import Moments, layer_moments
from qanneal_opt.curvature.paired import PairedMoments, call_stages, paired_moments

_RIDGE = 0.01  # of the mean diagonal


def round_in_sequence(
    feed: Feed, layers: Sequence[Layer], options: Options, undo: Undo, spent: dict[str, float]
) -> dict[str, Result]:
    r"""Round and write the layers in the order of their calls, those with the same inputs at once; results by name.

    A layer whose inputs were x and are x' now gets the target

    .. math:: W^* = (W\, \overline{x x'^\top} + \lambda W) (\overline{x' x'^\top} + \lambda)^{-1}

    the least-squares weights for its old outputs, :math:`\lambda` (1% of the mean diagonal) towards W; with
    a bias that takes up means, of x and x' without their means. Gradients at the outputs are those of the model as it
    was.
    """
    numbers = {layer.name: k for k, layer in enumerate(layers)}
    results: dict[str, Result] = {}
    names = _names(feed, layers)

    def before() -> dict[str, Tensor]:
        return {names[param]: undo.original(param) for param in names if param in undo}

    start = time.perf_counter()
    stages, calls = call_stages(feed, layers)
    place = {layer.name: k for k, stage in enumerate(stages) for layer in stage}
    for portion in portions([layer for stage in stages for layer in stage], options.memory):
        slopes: dict[str, Tensor | None] = {}
        if options.projections:
            seen = layer_moments(feed, portion, projections=options.projections, seed=options.seed, weights=before())
            slopes = {name: moments.outputs for name, moments in seen.items()}
            del seen
        for k in sorted({place[layer.name] for layer in portion}):
            stage = [layer for layer in portion if place[layer.name] == k]
            paired = paired_moments(feed, stage, before(), calls)
            spent["statistics"] += time.perf_counter() - start
            start = time.perf_counter()
            found = [
                _round(layer, paired[layer.name], slopes.get(layer.name), options, numbers)
                for layer in stage
                if layer.name in paired
            ]
            for result in found:
                result.write(undo)
            results |= {result.layer.name: result for result in found}
            spent["rounding"] += time.perf_counter() - start
            start = time.perf_counter()
    return results


def _round(
    layer: Layer, paired: PairedMoments, slopes: Tensor | None, options: Options, numbers: dict[str, int]
) -> Result:
    absorbs = bool(options.bias) and layer.bias is not None
    weight = layer.matrix()
    target, more = torch.empty_like(weight, dtype=torch.float64), weight.new_zeros(len(weight), dtype=torch.float64)
    for g, part in enumerate(layer.parts()):
        now, cross, w = paired.now[g], paired.cross[g], weight[part].double()
        if absorbs:
            now = now - torch.outer(paired.mean_now[g], paired.mean_now[g])
            cross = cross - torch.outer(paired.mean_before[g], paired.mean_now[g])
        ridge = torch.eye(len(now), dtype=now.dtype, device=now.device)
        ridge *= (_RIDGE * now.diagonal().mean()).clamp(min=1e-30)
        target[part] = torch.linalg.solve(now + ridge, w @ (cross + ridge), left=False)
        more[part] = w @ paired.mean_before[g] - target[part] @ paired.mean_now[g]
    moments = Moments(paired.now, paired.mean_now, slopes, paired.rows)
    result = round_layer(layer, moments, options, numbers[layer.name], target)
    return result if result.shift is None else dataclasses.replace(result, shift=result.shift + more)


def _names(feed: Feed, layers: Sequence[Layer]) -> dict[Tensor, str]:
    """The name in the state dict of each parameter that rounding may write."""
    own = {param for layer in layers for param in (layer.weight, layer.bias) if param is not None}
    return {param: name for name, param in feed.model.named_parameters() if param in own}
