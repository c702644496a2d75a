"""Writes to parameters that are taken back unless all of them succeed."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor


class Undo:
    """A block whose writes are undone when an exception leaves it, an interruption from the keyboard too.

    >>> p = torch.zeros(2)
    >>> try:
    ...     with Undo() as undo:
    ...         undo.write(p, torch.ones(2))
    ...         raise KeyboardInterrupt
    ... except KeyboardInterrupt:
    ...     p
    tensor([0., 0.])
    """

    def __init__(self) -> None:
        self._kept: dict[Tensor, Tensor] = {}  # parameters and what they were

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            with torch.no_grad():
                for param, value in self._kept.items():
                    param.copy_(value)
        self._kept.clear()

    def write(self, param: Tensor, value: Tensor) -> None:
        """Write ``value`` into ``param``, in its dtype."""
        if param not in self._kept:
            self._kept[param] = param.detach().clone()
        with torch.no_grad():
            param.copy_(value)

    def __contains__(self, param: Tensor) -> bool:
        return param in self._kept

    def original(self, param: Tensor) -> Tensor:
        """What a parameter that was written was before."""
        return self._kept[param]
