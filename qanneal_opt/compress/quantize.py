"""Rounding of a whole model, layer by layer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.layers import Layer, find_layers
from qanneal_opt.compress.report import LayerRow, QuantizationReport, RoundedLayer
from qanneal_opt.compress.rounding import METHODS, Problem, Rounded, round_matrix
from qanneal_opt.compress.undo import Undo
from qanneal_opt.curvature.feed import Feed, Mask
from qanneal_opt.curvature.layer import Moments, layer_moments
from qanneal_opt.terminal import progress

OBJECTIVES = ("input", "kronecker")
_BASELINES = ("rtn", "gptq")  # by default without refit, bias correction and Kronecker objective


def quantize(
    model: nn.Module,
    data: Iterable[Any],
    bits: int = 4,
    *,
    group_size: int | None = None,
    symmetric: bool = False,
    zero: str = "integer",
    weighted: bool = True,
    method: str = "anneal",
    objective: str | None = None,
    refit: bool | None = None,
    bias: bool | None = None,
    damping: float = 0.01,
    sweeps: int = 100,
    beam_width: int = 16,
    kronecker_passes: int = 3,
    projections: int = 2,
    mask: Mask | None = None,
    skip: Iterable[str] = (),
    memory: float = 0.5,
    threads: int | None = None,
    seed: int = 0,
) -> QuantizationReport:
    """Round."""
    begun = time.perf_counter()
    plain = method in _BASELINES
    objective = ("input" if plain else "kronecker") if objective is None else objective
    refit = not plain if refit is None else refit
    bias = not plain if bias is None else bias
    _check(model, bits, method, objective, projections, memory)
    layers, alone = find_layers(model, skip)
    for layer in layers:
        if not bool(layer.matrix().isfinite().all()):
            raise ValueError(f"Invalid model: NaN or infinity in the weight of layer {layer.name!r}")
    feed = Feed(model, data, mask)
    options: dict[str, Any] = {
        "bits": bits,
        "group_size": group_size,
        "symmetric": symmetric,
        "weighted": weighted,
        "zero": zero,
        "method": method,
        "sweeps": sweeps,
        "threads": threads,
        "damping": damping,
        "refit": refit,
        "beam_width": beam_width,
        "kronecker_passes": kronecker_passes,
    }
    projections = projections if objective == "kronecker" else 0
    done: dict[str, tuple[RoundedLayer, LayerRow, Tensor | None]] = {}
    spent = {"statistics": 0.0, "rounding": 0.0}
    for portion in _portions(layers, memory):
        start = time.perf_counter()
        moments = layer_moments(feed, portion, projections=projections, seed=seed)
        spent["statistics"] += time.perf_counter() - start
        for k, layer in enumerate(progress(portion, "rounding")):
            done[layer.name] = _round(layer, moments.get(layer.name), bias, seed + k, options)
        spent["rounding"] += time.perf_counter() - start
    with Undo() as undo:
        for layer in layers:
            rounded, _, shift = done[layer.name]
            undo.write(layer.weight, layer.assembled(rounded.grid.decode(rounded.codes)))
            if layer.bias is not None and shift is not None:
                undo.write(layer.bias, layer.bias.detach() + shift)
    spent["total"] = time.perf_counter() - begun
    settings = {**options, "objective": objective, "bias": bias, "projections": projections, "seed": seed}
    rows = [done[layer.name][1] for layer in layers]
    return QuantizationReport(rows, alone, settings, spent, {n: d[0] for n, d in done.items()}, model)


def _round(
    layer: Layer, moments: Moments | None, bias: bool, seed: int, options: dict[str, Any]
) -> tuple[RoundedLayer, LayerRow, Tensor | None]:
    weight = layer.matrix()
    note = []
    if moments is None:
        columns = weight.shape[1]
        eye = torch.eye(columns, dtype=torch.float64, device=weight.device).expand(layer.groups, -1, -1)
        moments = Moments(eye, eye.new_zeros(layer.groups, columns), None, 0)
        note.append("never reached by the data: rounded to nearest")
        options = {**options, "method": "rtn"}
    elif moments.rows < weight.shape[1]:
        note.append(f"only {moments.rows} samples for {weight.shape[1]} inputs")
    pieces: list[Rounded] = []
    for g, part in enumerate(layer.parts()):
        problem = Problem(
            weight[part].float(),
            moments.inputs[g],
            moments.mean[g] if bias and layer.bias is not None and moments.rows else None,
            moments.outputs[g] if moments.outputs is not None else None,
        )
        state = np.random.SeedSequence([seed, g]).generate_state(1)
        pieces.append(round_matrix(problem, seed=int(state[0]), **options))
    first = pieces[0].grid
    scale, zero = (torch.cat([getattr(piece.grid, name) for piece in pieces]) for name in ("scale", "zero"))
    rounded = RoundedLayer(torch.cat([p.codes for p in pieces]), Grid(first.bits, scale, zero, first.group_size))
    shifts = [piece.bias_shift for piece in pieces if piece.bias_shift is not None]
    sums = {key: sum(piece.objective[key] for piece in pieces) for key in ("rtn", "gptq", "final")}
    note += dict.fromkeys(piece.note for piece in pieces if piece.note)
    row = LayerRow(
        layer.name,
        layer.kind,
        tuple(layer.weight.shape),
        first.bits,
        first.group_size,
        moments.rows,
        **sums,
        seconds=sum(piece.seconds for piece in pieces),
        note="; ".join(note),
    )
    return rounded, row, torch.cat(shifts) if shifts else None


def _portions(layers: Sequence[Layer], memory: float) -> Iterator[list[Layer]]:
    portion: list[Layer] = []
    for layer in layers:
        if portion and sum(other.size for other in portion) + layer.size > memory * 1e9:
            yield portion
            portion = []
        portion.append(layer)
    if portion:
        yield portion


def _check(model: nn.Module, bits: int, method: str, objective: str, projections: int, memory: float) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"Invalid model: {type(model).__name__}; a torch.nn.Module is needed")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 8:
        raise ValueError(f"Invalid bits: {bits}; an int from 1 to 8 is needed")
    if method not in METHODS:
        raise ValueError(f"Invalid method: {method!r}; must be one of {METHODS}")
    if objective not in OBJECTIVES:
        raise ValueError(f"Invalid objective: {objective!r}; must be one of {OBJECTIVES}")
