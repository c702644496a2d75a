"""Every contender on the same draws: what it did to the layers and to the whole network, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

import qanneal_opt as qa
from benchmarks import harness
from benchmarks.quantize.clock import clocked
from benchmarks.quantize.contenders import CONTENDERS
from benchmarks.quantize.subjects import SUBJECTS, Subject
from qanneal_opt.compress import at_once
from qanneal_opt.compress.layers import Layer, find_layers
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.layer import Moments, layer_moments

Record = dict[str, Any]
WIDTHS: dict[str, dict[str, Any]] = {
    "4 bits": {"bits": 4},
    "3 bits": {"bits": 3},
    "2 bits, groups of 64": {"bits": 2, "group_size": 64},
}


@contextmanager
def shared_statistics() -> Iterator[Callable[[], float]]:
    """Calls of `quantize` on the same data and with the same options take their statistics from the first one.

    Yields what tells the seconds that were spared since it was last asked: they belong to a call's cost.
    """
    collect = at_once.layer_moments
    known: dict[tuple[Any, ...], tuple[dict[str, Moments], float]] = {}
    seconds = 0.0

    def remembered(feed: Feed, layers: Sequence[Layer], **options: Any) -> dict[str, Moments]:
        nonlocal seconds
        key = (tuple(layer.name for layer in layers), *sorted(options.items()))
        if key not in known:
            start = time.perf_counter()
            found = collect(feed, layers, **options)
            known[key] = found, time.perf_counter() - start
        else:
            found, spent = known[key]
            seconds += spent
        return dict(found)  # which the caller empties as it goes on

    def spared() -> float:
        nonlocal seconds
        told, seconds = seconds, 0.0
        return told

    at_once.layer_moments = remembered  # type: ignore[assignment]
    try:
        yield spared
    finally:
        at_once.layer_moments = collect


def moments(subject: Subject, batches: Sequence[Any]) -> dict[str, Moments]:
    """Second moments of what the layers of the original get from some batches, in full precision."""
    model = subject.make()
    return layer_moments(Feed(model, batches), find_layers(model)[0])


def layer_errors(rounded: nn.Module, original: nn.Module, seen: dict[str, Moments]) -> list[float]:
    """Mean squared error of each layer's output on inputs of the original network, the biases' shift included.

    With D the error of the weights and d of the bias: E|Dx + d|^2 = tr(D H D') + 2 d'D mean + d'd.
    """
    errors = []
    for mine, theirs in zip(find_layers(rounded)[0], find_layers(original)[0]):
        found = seen[theirs.name]
        difference = (mine.matrix() - theirs.matrix()).double()
        shift = _bias(mine) - _bias(theirs)
        total = 0.0
        for g, part in enumerate(theirs.parts()):
            D, d = difference[part], shift[part]
            quadratic = ((D @ found.inputs[g]) * D).sum() + 2 * d @ (D @ found.mean[g]) + d @ d
            total += float(quadratic)
        errors.append(total)
    return errors


def _bias(layer: Layer) -> Tensor:
    if layer.bias is None:
        return torch.zeros(len(layer.matrix()), dtype=torch.float64)
    return layer.bias.detach().double()


def run(
    name: str,
    widths: Sequence[str],
    draws: Sequence[int],
    names: Sequence[str],
    calibrations: Sequence[str] | None = None,
    *,
    alone: bool = False,
) -> Iterator[Record]:
    """A record a run, with what each text is off by.

    With `alone` every contender collects its own statistics, as a user's call does: for seconds and memory.
    """
    for draw in draws:
        subject = SUBJECTS[name](draw)
        original = subject.make()
        for calibration, (data, unseen) in subject.calibrations.items():
            if calibrations is not None and calibration not in calibrations:
                continue
            seen = {"unseen": moments(subject, unseen)}
            with nullcontext(lambda: 0.0) if alone else shared_statistics() as spared:
                seen["calibration"] = moments(subject, data)
                for width, contender in product(widths, names):
                    model = subject.make()
                    with clocked() as cost:
                        qa.quantize(model, data, **WIDTHS[width], seed=draw, **CONTENDERS[contender])
                    cost["wall_s"] += spared()
                    judged = subject.judge(model)
                    yield {
                        "subject": name,
                        "width": width,
                        "calibration": calibration,
                        "draw": draw,
                        "contender": contender,
                        "judged": {kind: means for kind, (means, _) in judged.items()},
                        "errors": {kind: [float(f"{e:.4g}") for e in each] for kind, (_, each) in judged.items()},
                        "layers": {part: layer_errors(model, original, seen[part]) for part in seen},
                        "alone": alone,
                        **cost,
                        "threads": torch.get_num_threads(),
                        "commit": harness.commit(),
                        "versions": harness.versions(),
                    }
