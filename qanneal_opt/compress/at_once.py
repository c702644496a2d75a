"""Layers rounded independently of each other, each for the inputs that it has in the model as it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from qanneal_opt.compress.kinds import Layer
from qanneal_opt.compress.layers import portions
from qanneal_opt.compress.layerwise import Result, round_layer
from qanneal_opt.compress.options import Options
from qanneal_opt.compress.threads import side_by_side
from qanneal_opt.compress.undo import Undo
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.layer import Moments, layer_moments
from qanneal_opt.terminal import progress

PRECISION = torch.bfloat16  # of products in second moments: how data were drawn moves these by more


def round_at_once(
    feed: Feed, layers: Sequence[Layer], options: Options, undo: Undo, spent: dict[str, float]
) -> dict[str, Result]:
    """Round and write all layers that the data reach; results by name."""
    numbers = {layer.name: k for k, layer in enumerate(layers)}
    results: list[Result] = []
    threads = torch.get_num_threads() if options.threads is None else options.threads
    for portion in portions(layers, options.memory):
        start = time.perf_counter()
        moments = layer_moments(
            feed,
            portion,
            projections=options.projections,
            coherence=options.coherence,
            seed=options.seed,
            precision=PRECISION,
        )
        spent["statistics"] += time.perf_counter() - start
        start = time.perf_counter()
        called = [layer for layer in portion if layer.name in moments]
        called.sort(key=_effort, reverse=True)  # no thread is left with a large one at the end
        workers = min(threads, max(1, len(called)))
        own = replace(options, threads=threads // workers)
        jobs = [partial(_round, layer, moments, own, numbers[layer.name]) for layer in called]
        results += progress(side_by_side(jobs, workers), "rounding", total=len(jobs))
        spent["rounding"] += time.perf_counter() - start
    for result in results:
        result.write(undo)
    return {result.layer.name: result for result in results}


def _round(layer: Layer, moments: dict[str, Moments], options: Options, number: int) -> Result:
    """Round a layer, whose moments nobody needs afterwards."""
    return round_layer(layer, moments.pop(layer.name), options, number)


def _effort(layer: Layer) -> int:
    """About proportional to the time of rounding."""
    rows, columns = layer.matrix().shape
    return rows * columns * (rows + columns)
