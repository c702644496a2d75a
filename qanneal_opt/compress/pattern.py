"""What is dropped together, and where a number is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from qanneal_opt.compress.kinds import Layer


@dataclass(frozen=True)
class Pattern:
    """Single weights, whole rows of a layer's matrix ``(R, C)``, or ``keep`` of each ``group`` columns of a row.

    Attributes:
        rows: whether rows are dropped as a whole.
        keep: of a group so many weights are kept.
        group: so many columns next to each other; 0 for no groups.
    """

    rows: bool = False
    keep: int = 0
    group: int = 0

    @classmethod
    def of(cls, name: str, density: float) -> Pattern:
        """Read ``"unstructured"``, ``"rows"`` or ``"N:M"``, of which N/M has to be the density.

        >>> Pattern.of("2:4", 0.5)
        Pattern(rows=False, keep=2, group=4)
        """
        if isinstance(density, bool) or not isinstance(density, (int, float)) or not 0 < density <= 1:
            raise ValueError(f"Invalid density: {density}; a number in (0, 1] is needed")
        if name in ("unstructured", "rows"):
            return cls(rows=name == "rows")
        numbers = re.fullmatch(r"(\d+):(\d+)", name) if isinstance(name, str) else None
        keep, group = map(int, numbers.groups()) if numbers else (0, 0)
        if not 0 < keep < group:
            raise ValueError(f'Invalid pattern: {name!r}; "unstructured", "rows" or one such as "2:4" is needed')
        if abs(density - keep / group) > 1e-9:
            raise ValueError(f"Invalid density: {density}; {keep / group} with pattern {name}")
        return cls(keep=keep, group=group)

    def objection(self, layer: Layer) -> str | None:
        """Why a layer cannot have it."""
        columns = layer.matrix().shape[1]
        if self.group and columns % self.group:
            return f"its {columns} inputs do not split into groups of {self.group}"
        return None

    def units(self, layers: list[Layer]) -> tuple[Tensor, Tensor]:
        """Units and cells of the weights of several layers, laid end to end.

        Returns:
            ``(n,)`` int64: the unit of each weight. ``(m,)`` int64: the cell of each unit.
        """
        units, cells, m, c = [], [], 0, 0
        for layer in layers:
            rows, columns = layer.matrix().shape
            place = positions(layer)
            unit = place // columns if self.rows else torch.arange(len(place))
            cell = place // self.group if self.group else torch.zeros(rows if self.rows else len(place)).long()
            units.append(unit + m)
            cells.append(cell + c)
            m += len(cell)
            c += len(place) // self.group if self.group else 0  # without groups all layers are one cell
        return torch.cat(units), torch.cat(cells)


def positions(layer: Layer) -> Tensor:
    """Of each weight of the flattened parameter the place in the flattened matrix ``(R, C)``: ``(n,)`` int64."""
    matrix = layer.matrix()
    return layer.assembled(torch.arange(matrix.numel()).view(matrix.shape)).reshape(-1)
