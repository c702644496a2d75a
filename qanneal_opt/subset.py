"""Which weights a quadratic model speaks of, and the way between their n values and whole tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qanneal_opt.checks import check_int

_NONE = torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Subset:
    """n distinct weights in a fixed order: weight k is ``params[owner[k]].flatten()[index[k]]``.

    Args:
        params: the tensors that the weights stand in, floating; each once.
        owner: ``(n,)`` int64, which of ``params``.
        index: ``(n,)`` int64, the weight's place in the flattened tensor.

    Raises:
        TypeError: if a tensor is not floating.
        ValueError: on shapes that differ, a place outside its tensor, or a weight named twice.

    >>> weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> subset = Subset.of([(weight, [3, 0])])
    >>> subset.gather([weight])
    tensor([4., 1.])
    >>> subset.scatter(torch.tensor([0.5, -1.0]))
    [tensor([[-1.0000,  0.0000],
            [ 0.0000,  0.5000]])]
    """

    params: tuple[Tensor, ...]
    owner: Tensor
    index: Tensor
    _parts: tuple[tuple[Tensor, Tensor], ...] = field(init=False, repr=False)  # a parameter's (ranks, places)
    _order: Tensor = field(init=False, repr=False)  # (n,) from "tensor by tensor" to the subset's own order

    def __post_init__(self) -> None:
        params = tuple(self.params)
        owner = torch.as_tensor(self.owner, dtype=torch.int64, device="cpu")
        index = torch.as_tensor(self.index, dtype=torch.int64, device="cpu")
        for param in params:
            if not param.is_floating_point():
                raise TypeError(f"Invalid params: one of dtype {param.dtype}; floating tensors are needed")
        if len({id(param) for param in params}) != len(params):
            raise ValueError("Invalid params: one is named twice; each tensor may stand once")
        if owner.ndim != 1 or owner.shape != index.shape:
            shapes = f"{tuple(owner.shape)} and {tuple(index.shape)}"
            raise ValueError(f"Invalid index: owner and index have shapes {shapes}; both must be (n,)")
        if len(owner) and not 0 <= int(owner.min()) <= int(owner.max()) < len(params):
            raise ValueError(f"Invalid owner: {int(owner.min())} to {int(owner.max())}; must be < {len(params)}")
        ranks = [(owner == k).nonzero().flatten() for k in range(len(params))]
        parts = tuple((rank, index[rank]) for rank in ranks)
        for param, (_, places) in zip(params, parts, strict=True):
            if len(places) and not 0 <= int(places.min()) <= int(places.max()) < param.numel():
                low, high = int(places.min()), int(places.max())
                raise ValueError(f"Invalid index: {low} to {high}; must be in 0 .. {param.numel() - 1}")
            if bool((places.sort().values.diff() == 0).any()):
                raise ValueError("Invalid index: a weight is named twice; each may stand once")
        order = torch.cat([_NONE, *(rank for rank, _ in parts)]).argsort()
        fields = {"params": params, "owner": owner, "index": index, "_parts": parts, "_order": order}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, pairs: Iterable[tuple[Tensor, Tensor | Sequence[int]]]) -> Subset:
        """Name weights by ``(tensor, flat indices)`` pairs, in their order."""
        named = [(param, torch.as_tensor(places, dtype=torch.int64).flatten()) for param, places in pairs]
        params = list({id(param): param for param, _ in named}.values())
        rank = {id(param): k for k, param in enumerate(params)}
        owner = torch.cat([_NONE, *(torch.full_like(places, rank[id(param)]) for param, places in named)])
        return cls(tuple(params), owner, torch.cat([_NONE, *(places for _, places in named)]))

    @classmethod
    def by_gain(cls, params: Sequence[Tensor], gains: Sequence[Tensor], k: int) -> Subset:
        """The ``k`` weights of the largest predicted gain, best first, ties in the order of the tensors.

        Args:
            params: tensors to choose from.
            gains: one tensor of each one's shape; ``-inf`` keeps a weight out.
            k: how many; fewer when fewer gains are above ``-inf``.
        """
        check_int("k", k, 0)
        shapes = [tuple(gain.shape) for gain in gains]
        if shapes != [tuple(param.shape) for param in params]:
            raise ValueError(f"Invalid gains: shapes {shapes}; must be those of params")
        flat = torch.cat([gain.detach().flatten().cpu().double() for gain in gains])
        if bool(flat.isnan().any()):
            raise ValueError("Invalid gains: nan; must be numbers")
        best = flat.argsort(descending=True, stable=True)[:k]
        return cls._at(params, best[flat[best] > -torch.inf])

    @classmethod
    def by_row(cls, param: Tensor, row: int) -> Subset:
        """All weights of one row of a 2-D tensor: what comes into one unit of a ``Linear``."""
        if param.ndim != 2:
            raise ValueError(f"Invalid param: shape {tuple(param.shape)}; must be 2-D to have rows")
        rows, columns = param.shape
        if not 0 <= row < rows:
            raise ValueError(f"Invalid row: {row}; must be in 0 .. {rows - 1}")
        return cls.of([(param, torch.arange(row * columns, (row + 1) * columns))])

    @classmethod
    def at_random(cls, params: Sequence[Tensor], k: int, generator: torch.Generator) -> Subset:
        """``k`` distinct weights, all equally likely (all of them when there are fewer)."""
        check_int("k", k, 0)
        total = sum(param.numel() for param in params)
        return cls._at(params, torch.randperm(total, generator=generator)[:k])

    @classmethod
    def _at(cls, params: Sequence[Tensor], places: Tensor) -> Subset:
        """The weights at ``places`` of all tensors laid end to end."""
        sizes = torch.tensor([param.numel() for param in params], dtype=torch.int64)
        ends = sizes.cumsum(0)
        owner = torch.searchsorted(ends, places, right=True)
        return cls(tuple(params), owner, places - (ends - sizes)[owner])

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def dtype(self) -> torch.dtype:
        """What models of the subset are computed in: the widest of the tensors' dtypes, at least float32."""
        wide = torch.float32
        for param in self.params:
            wide = torch.promote_types(wide, param.dtype)
        return wide

    def gather(self, tensors: Sequence[Tensor]) -> Tensor:
        """The subset's entries of ``tensors`` (one of each parameter's shape) as ``(n,)`` of ``dtype``."""
        if [t.shape for t in tensors] != [p.shape for p in self.params]:
            shapes = [tuple(t.shape) for t in tensors]
            raise ValueError(f"Invalid tensors: shapes {shapes}; must be those of params")
        device = self.params[0].device if self.params else torch.device("cpu")
        parts = [
            tensor.reshape(-1)[places.to(tensor.device)].to(device, self.dtype)
            for tensor, (_, places) in zip(tensors, self._parts, strict=True)
        ]
        return torch.cat(parts)[self._order.to(device)] if parts else torch.zeros(0)

    def scatter(self, values: Tensor) -> list[Tensor]:
        """Dense tensors of each parameter's shape and dtype: ``values``, ``(n,)``, in place and 0 elsewhere.

        Differentiable in ``values``, by ``torch.func`` transforms too.
        """
        if values.shape != (len(self),):
            raise ValueError(f"Invalid values: shape {tuple(values.shape)}; must be ({len(self)},)")
        dense = []
        for param, (ranks, places) in zip(self.params, self._parts, strict=True):
            own = values[ranks.to(values.device)].to(param.device, param.dtype)
            blank = torch.zeros(param.numel(), dtype=param.dtype, device=param.device)
            dense.append(blank.index_put((places.to(param.device),), own).view(param.shape))
        return dense

    def displaced(self, values: Tensor) -> list[Tensor]:
        """The tensors with ``values``, ``(n,)``, added in place: one new tensor for each that is touched.

        Differentiable in ``values``, by ``torch.func`` transforms too.
        """
        moved = []
        for param, (ranks, places) in zip(self.params, self._parts, strict=True):
            flat = param.detach().reshape(-1)
            if len(places):
                own = values[ranks.to(values.device)].to(flat)
                flat = flat.scatter_add(0, places.to(flat.device), own)
            moved.append(flat.view(param.shape))
        return moved

    def direction(self, k: int) -> list[Tensor]:
        """Dense tensors that are 1 at weight ``k`` and 0 elsewhere."""
        if not 0 <= k < len(self):
            raise IndexError(f"Invalid k: {k}; there are {len(self)} weights")
        return self.scatter(torch.eye(len(self), dtype=self.dtype)[k])
