"""Every contender on the same draws: what it did to the layers and to the whole network, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import qanneal_opt as qa
from benchmarks import harness
from benchmarks.quantize.clock import clocked
from benchmarks.quantize.contenders import CONTENDERS, PAIRS
from benchmarks.quantize.measures import ratio
from benchmarks.quantize.subjects import SUBJECTS, Subject
from qanneal_opt.compress.layers import Layer, find_layers
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.layer import Moments, layer_moments

Record = dict[str, Any]
WIDTHS: dict[str, dict[str, Any]] = {
    "4 bits": {"bits": 4},
    "3 bits": {"bits": 3},
    "2 bits, groups of 64": {"bits": 2, "group_size": 64},
}


def moments(subject: Subject, batches: Sequence[Any]) -> dict[str, Moments]:
    """Second moments of what the layers of the original get from some batches."""
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


def run(name: str, widths: Sequence[str], draws: Sequence[int], names: Sequence[str]) -> Iterator[Record]:
    """A record a run; then for each width and pair of contenders, what one error is of the other over all draws."""
    errors: dict[tuple[str, str, str], list[Tensor]] = {}
    for draw in draws:
        subject = SUBJECTS[name](draw)
        original = subject.make()
        parts = {"calibration": subject.calibration, "unseen": subject.unseen}
        seen = {part: moments(subject, batches) for part, batches in parts.items()}
        for width in widths:
            for contender in names:
                model = subject.make()
                with clocked() as cost:
                    qa.quantize(model, subject.calibration, **WIDTHS[width], seed=draw, **CONTENDERS[contender])
                judged = subject.judge(model)
                for kind, (_, each) in judged.items():
                    errors.setdefault((width, contender, kind), []).append(each)
                yield {
                    "record": "run",
                    "subject": name,
                    "width": width,
                    "draw": draw,
                    "contender": contender,
                    **{kind: means for kind, (means, _) in judged.items()},
                    "layers": {part: layer_errors(model, original, seen[part]) for part in parts},
                    **cost,
                    "threads": torch.get_num_threads(),
                    "commit": harness.commit(),
                    "versions": harness.versions(),
                }
    kinds = dict.fromkeys(kind for _, _, kind in errors)
    for width in widths:
        for ours, theirs in PAIRS:
            for kind in kinds if {ours, theirs} <= set(names) else ():
                # a text's error, mean over draws: the interval is that of other texts
                a, b = (torch.stack(errors[width, who, kind]).mean(0) for who in (ours, theirs))
                value, low, high = ratio(a, b)
                head = {"record": "ratio", "subject": name, "width": width, "kind": kind, "draws": len(draws)}
                yield {**head, "contender": ours, "to": theirs, "ratio": value, "low": low, "high": high}
