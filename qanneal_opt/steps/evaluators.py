"""Which evaluator serves an objective: the compiled one where model, loss and data allow it, else the general one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from qanneal_opt.losses import LossSpec, describe
from qanneal_opt.objective import Objective
from qanneal_opt.steps import compiled
from qanneal_opt.steps.evaluator import Evaluator
from qanneal_opt.steps.stack import Stack, Unsupported
from qanneal_opt.steps.stack_layout import parse
from qanneal_opt.view import View

# A stack keeps all data and activations; past this many numbers the general path's batches are kinder to memory.
MOST_NUMBERS = 1 << 28
COPIES = 4  # of the weights, in float32: a stack and its refit hold them and their gradient twice


class Evaluators:
    """Gives each annealing step its evaluator; keeps a stack as long as model, loss and data stay the same."""

    def __init__(self) -> None:
        self._stack: Stack | None = None
        self._refits = compiled.Refits()
        self._like: tuple[Any, ...] = ()  # what has to be the same objects,
        self._equal: tuple[Any, ...] = ()  # and what has to be equal, for the stack to serve again

    def __getstate__(self) -> dict[str, Any]:
        return vars(Evaluators())  # a cache: copies build their own

    def __call__(self, view: View, objective: Objective, l0: float = 0.0) -> Evaluator:
        """Give the compiled evaluator where model, loss and data allow it, else the general one."""
        try:
            stack = self._find(objective)
        except Unsupported:
            return Evaluator(view, objective, l0)
        mine = {id(p) for p in stack.parameters}
        if not all(id(encoded.param) in mine for encoded in view.encoded):
            return Evaluator(view, objective, l0)
        return compiled.CompiledEvaluator(view, objective, l0, stack, self._refits)

    def _find(self, objective: Objective) -> Stack:
        data = objective.data
        linears = [part.linear for part in parse(objective.model).parts]  # parsed anew: it may have changed
        held = COPIES * 4 * sum(linear.weight.numel() for linear in linears)
        if held > compiled.MOST_BYTES:
            allowed = compiled.MOST_BYTES
            raise Unsupported(f"Invalid model: copies of its weights would take {held} bytes; {allowed} are allowed")
        like = (*linears, *(p for linear in linears for p in linear.parameters()), data, objective.weights)
        equal: tuple[LossSpec | None, ...] = (describe(objective.loss),)
        fixed = isinstance(data, (tuple, list)) and all(isinstance(part, Tensor) for part in data)
        if isinstance(data, (tuple, list)) and fixed:
            equal += tuple(part._version for part in data)
            same = len(like) == len(self._like) and all(a is b for a, b in zip(like, self._like))
            if self._stack is not None and same and equal == self._equal:
                return self._stack
        width = sum(linear.in_features + 2 * linear.out_features for linear in linears)
        self._stack = Stack(objective.model, objective.loss, *_whole(objective, MOST_NUMBERS // width))
        self._like, self._equal = (like, equal) if fixed else ((), ())
        return self._stack


def _whole(objective: Objective, most: int) -> tuple[Any, Any, Tensor | None]:
    """All samples as one batch.

    Raises:
        Unsupported: if there are more than ``most``, or their number is not known beforehand.
    """
    data = objective.data
    if isinstance(data, DataLoader) and not (hasattr(data.dataset, "__len__") and len(data.dataset) <= most):
        raise Unsupported(f"Invalid data: a DataLoader of more than {most} samples, or of an unknown number")
    batches = list(objective.batches())
    if sum(len(batch.targets) for batch in batches) > most or not all(
        isinstance(part, Tensor) for batch in batches for part in (batch.inputs, batch.targets)
    ):
        raise Unsupported(f"Invalid data: more than {most} samples, or something other than tensors")
    inputs, targets = (torch.cat([getattr(b, part) for b in batches]) for part in ("inputs", "targets"))
    weights = [batch.weights for batch in batches if batch.weights is not None]
    return inputs, targets, torch.cat(weights) if weights else None
