"""One layer rounded: a problem for each of its groups, put together again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.kinds import Layer
from qanneal_opt.compress.options import Options
from qanneal_opt.compress.packed import RoundedLayer
from qanneal_opt.compress.problem import Problem
from qanneal_opt.compress.report import LayerRow
from qanneal_opt.compress.rounding import round_matrix
from qanneal_opt.compress.undo import Undo
from qanneal_opt.curvature.layer import Moments


@dataclass(frozen=True, eq=False)
class Result:
    """A rounded layer, its row of the report, and what its bias is to be raised by, ``(R,)`` or None."""

    layer: Layer
    rounded: RoundedLayer
    row: LayerRow
    shift: Tensor | None

    def write(self, undo: Undo) -> None:
        """Write weights and bias."""
        undo.write(self.layer.weight, self.rounded.decode(self.layer))
        if self.layer.bias is not None and self.shift is not None:
            undo.write(self.layer.bias, self.layer.bias.detach().float() + self.shift)


def round_layer(
    layer: Layer, moments: Moments | None, options: Options, number: int, target: Tensor | None = None
) -> Result:
    """Round one layer; to nearest where the data never reached it.

    Args:
        layer: the layer; nothing is written.
        moments: what it saw, or None.
        options: resolved ones.
        number: of the layer, from which and from ``options.seed`` its random numbers come.
        target: ``(R, C)``: weights to round instead of the layer's own.
    """
    weight = layer.matrix() if target is None else target
    columns = weight.shape[1]
    notes, settings = [], options.of_one_matrix()
    if moments is None:
        eye = torch.eye(columns, dtype=torch.float64, device=weight.device).expand(layer.groups, -1, -1)
        moments = Moments(eye, eye.new_zeros(layer.groups, columns), None, 0)
        notes.append("never reached by the data, rounded to nearest")
        settings["method"] = "rtn"
    elif moments.rows < columns:
        notes.append(f"only {moments.rows} samples for {columns} inputs")
    dead = int((moments.inputs.diagonal(dim1=1, dim2=2) == 0).sum())
    if dead:
        notes.append(f"{dead} of {layer.groups * columns} inputs always 0")
    if moments.outputs is None and options.objective == "kronecker" and moments.rows:
        notes.append("no gradient comes here, rounded by its inputs alone")
    absorbs = options.bias and layer.bias is not None and moments.rows > 0
    pieces = [
        round_matrix(
            Problem(
                weight[part].float(),
                moments.inputs[g],
                moments.mean[g] if absorbs else None,
                None if moments.outputs is None else moments.outputs[g],
            ),
            seed=int(np.random.SeedSequence([options.seed, number, g]).generate_state(1)[0]),
            **settings,
        )
        for g, part in enumerate(layer.parts())
    ]
    first = pieces[0].grid
    scale, zero = (torch.cat([getattr(piece.grid, name) for piece in pieces]) for name in ("scale", "zero"))
    grid = Grid(first.bits, scale, zero, first.group_size)
    shifts = [piece.bias_shift for piece in pieces if piece.bias_shift is not None]
    row = LayerRow(
        name=layer.name,
        kind=layer.kind,
        shape=tuple(layer.weight.shape),
        bits=first.bits,
        group_size=first.group_size,
        samples=moments.rows,
        rtn=sum(piece.objective["rtn"] for piece in pieces),
        gptq=sum(piece.objective["gptq"] for piece in pieces),
        final=sum(piece.objective["final"] for piece in pieces),
        seconds=sum(piece.seconds for piece in pieces),
        note="; ".join([*notes, *dict.fromkeys(piece.note for piece in pieces if piece.note)]),
    )
    codes = torch.cat([piece.codes for piece in pieces])
    return Result(layer, RoundedLayer(codes, grid), row, torch.cat(shifts) if shifts else None)
