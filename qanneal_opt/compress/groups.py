"""Layers whose weights are chosen together, and the quadratic models of the loss around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qanneal_opt.compress.choice import Choice
from qanneal_opt.compress.kinds import Layer
from qanneal_opt.compress.pattern import Pattern, positions
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.ggn import ggn
from qanneal_opt.curvature.layer import layer_moments
from qanneal_opt.objective import Objective
from qanneal_opt.subset import Subset

Model = tuple[Tensor, Tensor]  # gradient (n,) and curvature (n, n) of the kept weights of a block


@dataclass(eq=False)
class Block:
    """n weights in m units, chosen by one quadratic model.

    Attributes:
        unit: ``(n,)`` int64: of each weight.
        cell: ``(m,)`` int64: of each unit; densities hold for each cell.
        kept: ``(m,)`` bool: units that are still kept.
    """

    unit: Tensor
    cell: Tensor
    kept: Tensor

    @property
    def alive(self) -> Tensor:
        """Weights that are still kept, ``(n,)`` bool."""
        return self.kept[self.unit]

    def choice(self, w: Tensor, model: Model, density: float) -> Choice:
        """The choice among kept weights ``w`` that leaves ``density`` of each cell's units, rounded, at least one."""
        g, H = (tensor.double().cpu() for tensor in model)
        rank, cell = self.kept.cumsum(0) - 1, self.cell[self.kept]
        quota = (density * torch.bincount(self.cell)).round().long().clamp(min=1)
        quota = torch.minimum(quota, torch.bincount(cell, minlength=len(quota)))
        return Choice(w.double().cpu(), g, H, rank[self.unit[self.alive]], cell, quota)


class Group(ABC):
    """Layers that are judged together: all their weights, in blocks laid end to end.

    Attributes:
        form: what the curvature is.
        local: whether its models hold only near the present weights, so that they are made anew again and again.
        layers: whose weights they are.
        subset: all weights of the layers, block by block.
        blocks: in that order.
        silent: names of layers on which the objective was found not to depend.
    """

    form: str
    local: bool

    def __init__(self, layers: Sequence[Layer], subset: Subset, blocks: Sequence[Block]) -> None:
        self.layers, self.subset, self.blocks = list(layers), subset, list(blocks)
        self.silent: set[str] = set()

    @property
    def alive(self) -> Tensor:
        """Weights that are still kept, ``(n,)`` bool."""
        return torch.cat([block.alive for block in self.blocks])

    @abstractmethod
    def models(self, objective: Objective) -> list[Model]:
        """The model of each block's kept weights, at the present ones and on all the data."""

    def choices(self, objective: Objective, density: float) -> list[Choice]:
        """What is to be chosen in each block."""
        w = self.subset.gather([param.detach() for param in self.subset.params])
        parts = w.cpu()[self.alive].split([int(block.alive.sum()) for block in self.blocks])
        return [b.choice(part, model, density) for b, part, model in zip(self.blocks, parts, self.models(objective))]

    def tensors(self, kept: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Parameters and what they become with the kept weights of each block at ``kept``, all others 0."""
        alive = self.alive
        values = torch.zeros(len(alive), dtype=torch.float64)
        values[alive] = torch.cat(list(kept)).double()
        return list(zip(self.subset.params, self.subset.scatter(values), strict=True))

    def keep(self, units: Sequence[Tensor]) -> None:
        """Of the kept units of each block keep only those marked, bool."""
        for block, chosen in zip(self.blocks, units, strict=True):
            block.kept[block.kept.nonzero().flatten()] = chosen


class Dense(Group):
    """Layers under one Gauss-Newton matrix: one block."""

    form = "dense Gauss-Newton matrix"
    local = True

    def __init__(self, layers: Sequence[Layer], pattern: Pattern) -> None:
        super().__init__(layers, *_together(layers, pattern))

    def models(self, objective: Objective) -> list[Model]:
        """Gradient and Gauss-Newton matrix."""
        alive = self.alive
        kept = Subset(self.subset.params, self.subset.owner[alive], self.subset.index[alive])
        g, H = kept.gather(objective.gradient(kept.params)[1]), ggn(objective, kept)
        if bool(alive.all()):
            felt = kept.scatter(g.abs() + H.diagonal().abs())
            self.silent = {layer.name for layer, tensor in zip(self.layers, felt) if not bool(tensor.any())}
        return [(g, H)]


class Plain(Group):
    """Layers whose weights are chosen by their size alone: one block without a model."""

    form = "magnitude"
    local = False

    def __init__(self, layers: Sequence[Layer], pattern: Pattern) -> None:
        super().__init__(layers, *_together(layers, pattern))

    def models(self, objective: Objective) -> list[Model]:
        """Zeros, which take no memory."""
        n = int(self.alive.sum())
        zero = torch.zeros((), dtype=torch.float64)
        return [(zero.expand(n), zero.expand(n, n))]


class RowBlocks(Group):
    r"""A layer too large for that: every row of its matrix is a block, and all have the same curvature.

    .. math:: \tfrac12 \mathrm{E} (d^\top x)^2 = \tfrac12 d^\top \mathrm{E}[x x^\top] d

    is half the mean squared change of the row's output, with x the layer's inputs. There is no gradient.
    """

    form = "second moments of inputs, row by row"
    local = False

    def __init__(self, layer: Layer, pattern: Pattern) -> None:
        rows, columns = layer.matrix().shape
        place = positions(layer).argsort()  # in the parameter, of each entry of the matrix
        unit = torch.arange(columns)
        cell = unit // pattern.group if pattern.group else torch.zeros_like(unit)
        blocks = [Block(unit, cell, torch.ones(columns, dtype=torch.bool)) for _ in range(rows)]
        super().__init__([layer], Subset.of([(layer.weight, place)]), blocks)

    def models(self, objective: Objective) -> list[Model]:
        """Zeros and the second moments of the row's inputs; zeros alone where no data come."""
        (layer,) = self.layers
        feed = Feed(objective.model, [batch.inputs for batch in objective.batches()])
        found = layer_moments(feed, [layer]).get(layer.name)
        columns, rows = len(self.blocks[0].unit), len(self.blocks) // layer.groups
        self.silent = {layer.name} if found is None else set()
        blank = torch.zeros(layer.groups, columns, columns, dtype=torch.float64)
        inputs = blank if found is None else found.inputs.cpu()
        places = [block.alive.nonzero().flatten() for block in self.blocks]
        return [(inputs.new_zeros(len(at)), inputs[k // rows][at][:, at]) for k, at in enumerate(places)]


def _together(layers: Sequence[Layer], pattern: Pattern) -> tuple[Subset, list[Block]]:
    """All weights of the layers in one block."""
    subset = Subset.of([(layer.weight, torch.arange(layer.weight.numel())) for layer in layers])
    unit, cell = pattern.units(list(layers))
    return subset, [Block(unit, cell, torch.ones(len(cell), dtype=torch.bool))]
