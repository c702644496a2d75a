"""Rounding of a whole model, layer by layer."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from torch import nn

from qanneal_opt.compress.at_once import round_at_once
from qanneal_opt.compress.layers import find_layers
from qanneal_opt.compress.layerwise import round_layer
from qanneal_opt.compress.options import Options
from qanneal_opt.compress.report import QuantizationReport
from qanneal_opt.compress.sequential import round_in_sequence
from qanneal_opt.compress.uncalled import UNSEEN, used_uncalled
from qanneal_opt.compress.undo import Undo
from qanneal_opt.curvature.feed import Feed, Mask


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
    sequential: bool = False,
    skip: Iterable[str] = (),
    mask: Mask | None = None,
    damping: float | None = None,
    output_damping: float = 1.0,
    sweeps: int = 200,
    beam_width: int = 16,
    kronecker_passes: int = 2,
    projections: int = 1,
    coherence: float = 0.5,
    memory: float = 0.5,
    threads: int | None = None,
    seed: int = 0,
) -> QuantizationReport:
    r"""Round the weights of every ``Linear``, ``Conv2d`` and transformers' ``Conv1D`` to a few bits, in place.

    A layer's weights W, ``(R, C)``, become grid values V that make the error small which the data see:

    .. math:: f(V) = \mathrm{tr}(G (V - W) H (V - W)^\top), \qquad v_{rc} = s_{rg} (q_{rc} - z_{rg}), \quad
              q_{rc} \in \{0, \dots, 2^{bits} - 1\}

    with H the second moment of the layer's inputs and G that of the gradients at its outputs
    (:func:`qanneal_opt.curvature.layer_moments`, its products in bfloat16 where a CPU is faster at these, if not
    ``sequential``); one scale s and zero point z a row, or a row's group of columns.
    Layers are rounded independently of each other, or one after the other with ``sequential``. A model is rounded
    wholly or, on any error or interruption, left as it was. It runs in eval mode meanwhile; modes, random numbers,
    hooks and gradients are as before afterwards. What cannot be rounded is left alone, and listed in the report.

    Args:
        model: any module, on any device, of any floating dtype: weights are decoded in it.
        data: an iterable of batches for calibration, each a tensor, a tuple (positional arguments) or a mapping
            (keyword arguments). An iterator is read once and kept.
        bits: of a weight, 1 to 8.
        group_size: columns that share a scale; None: one scale a row.
        symmetric: the grid is as wide below 0 as above.
        zero: zero points are ``"integer"``, so that 0 is on the grid, or ``"real"``.
        weighted: for each row, of the range from the least to the greatest weight and the one that is best on the data
            for nearest codes, that on which GPTQ errs less; else the former.
        method: ``"rtn"`` (to nearest), ``"gptq"``, ``"cd"`` (coordinate descent from there), ``"beam"`` (the best
            ``beam_width`` of partial roundings, in GPTQ's order) or ``"anneal"`` (from there by annealing, then
            descent).
        objective: ``"kronecker"``, or ``"input"`` for G = 1. By default ``"input"`` for ``"rtn"`` and ``"gptq"``, as
            these are baselines, and ``"kronecker"`` for all others.
        refit: fit scales and zero points to the codes found. By default not for the baselines.
        bias: let biases take up the mean error, where a layer has one of its own. By default not for the baselines.
        sequential: round each layer for the inputs that it gets from those rounded before, towards the outputs that
            it had; slower, as data are read for each.
        skip: names of modules to leave alone, or patterns such as ``"*.query"``; with all that is below them.
        mask: ``mask(batch)`` gives the tokens that count. By default a mapping's ``attention_mask`` does.
        damping: added to H, in units of its mean diagonal. By default 0.01, GPTQ's own, for ``"input"`` and 0.1 for
            ``"kronecker"``: what a search gains on small eigenvalues of few data is not there on others.
        output_damping: added to G, in units of its mean diagonal.
        sweeps: of the first annealing, over all weights.
        beam_width: partial roundings kept.
        kronecker_passes: annealings (or descents) of a layer in turn, each followed by a refit; annealings after the
            first have half the sweeps, and begin at half the temperature.
        projections: random projections of the model's outputs a batch, whose gradients make G.
        coherence: share of H that adds up errors over all places of a sample (tokens, pixels) before it squares them,
            from 0 to less than 1 (:func:`qanneal_opt.curvature.layer_moments`); not with G = 1 or in sequence.
        memory: of layers' second moments at a time, in GB: if all do not fit, data are read several times.
        threads: of compiled code; None: as many as torch has.
        seed: of projections and annealing.

    Returns:
        One row a layer, with the codes; ``print`` it, ``.save`` it.

    Raises:
        TypeError: if an argument is of a kind that cannot serve.
        ValueError: if an argument is out of its range, there are no data, or weights or activations are not finite.

    Warns:
        UserWarning: if a layer was never reached by the data, or saw fewer samples than it has inputs.

    >>> import torch, qanneal_opt as qa
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    >>> batches = [torch.randn(64, 8) for _ in range(4)]
    >>> report = qa.quantize(model, batches, bits=3)
    >>> [len(set(row.tolist())) <= 8 for row in model[2].weight]
    [True, True, True, True]
    """
    begun = time.perf_counter()
    if not isinstance(model, nn.Module):
        raise TypeError(f"Invalid model: {type(model).__name__}; a torch.nn.Module is needed")
    options = Options(
        bits=bits,
        group_size=group_size,
        symmetric=symmetric,
        zero=zero,
        weighted=weighted,
        method=method,
        objective=objective,
        refit=refit,
        bias=bias,
        sequential=sequential,
        damping=damping,
        output_damping=output_damping,
        sweeps=sweeps,
        beam_width=beam_width,
        kronecker_passes=kronecker_passes,
        projections=projections,
        coherence=coherence,
        memory=memory,
        threads=threads,
        seed=seed,
    ).resolved()
    layers, alone = find_layers(model, skip)
    for layer in layers:
        if not bool(layer.matrix().isfinite().all()):
            raise ValueError(
                f"Invalid model: NaN or infinity in the weight of layer {layer.name!r}; nothing was rounded"
            )
    feed = Feed(model, data, mask)
    spent = {"statistics": 0.0, "rounding": 0.0}
    with Undo() as undo:
        way = round_in_sequence if options.sequential else round_at_once
        found = way(feed, layers, options, undo, spent)
        uncalled = [layer for layer in layers if layer.name not in found]
        used = used_uncalled(feed, uncalled)
        alone |= dict.fromkeys(sorted(used), UNSEEN)
        for layer in uncalled:
            if layer.name not in used:
                found[layer.name] = round_layer(layer, None, options, 0)
                found[layer.name].write(undo)
        results = [found[layer.name] for layer in layers if layer.name in found]
        spent["total"] = time.perf_counter() - begun
        report = QuantizationReport(
            rows=[result.row for result in results],
            alone=alone,
            settings=asdict(options),
            seconds=spent,
            rounded={result.layer.name: result.rounded for result in results},
            model=model,
        )
    _warn(report)
    return report


def _warn(report: QuantizationReport) -> None:
    unreached = [row.name or row.kind for row in report.rows if not row.samples]
    few = [row.name or row.kind for row in report.rows if 0 < row.samples < row.inputs]
    if unreached:
        warnings.warn(f"never reached by the data, rounded to nearest: {', '.join(unreached)}", stacklevel=3)
    if few:
        warnings.warn(f"fewer samples than inputs, more data are needed: {', '.join(few)}", stacklevel=3)
