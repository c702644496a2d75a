"""Which moves a QUBO is built over."""

from __future__ import annotations

import torch
from torch import Tensor

from qanneal_opt.moves import Moves
from qanneal_opt.steps.evaluator import Evaluator
from qanneal_opt.view import View

SUBSETS = ("gain", "row", "random")


def propose(evaluator: Evaluator, subset: str, count: int, temperature: float, generator: torch.Generator) -> Moves:
    """Give ``count`` moves, best first.

    Args:
        evaluator: of the present weights.
        subset: ``"gain"`` (all encoded weights, ranked by predicted gain), ``"row"`` (the same within one row of one
            parameter, drawn at random) or ``"random"``.
        count: of moves; fewer where there are not that many.
        temperature: of the noise in predicted gains.
        generator: of all draws.
    """
    view, grads = evaluator.view, evaluator.gradients()
    allowed: list[Tensor | None] | None = None
    if subset == "random":
        grads, temperature = [torch.zeros_like(grad) for grad in grads], 1.0
    elif subset == "row":
        allowed = _one_row(view, generator)
    return view.propose(grads, count, temperature, generator, allowed)


def _one_row(view: View, generator: torch.Generator) -> list[Tensor | None]:
    """Allow the weights of one row, drawn at random among all rows of all encoded parameters."""
    rows = [len(encoded.param) if encoded.param.ndim > 1 else 1 for encoded in view.encoded]
    row = int(torch.randint(sum(rows), (), generator=generator))
    allowed: list[Tensor | None] = []
    for encoded, count in zip(view.encoded, rows, strict=True):
        mask = torch.zeros_like(encoded.param, dtype=torch.bool)
        if 0 <= row < count:
            mask[row if encoded.param.ndim > 1 else slice(None)] = True
        allowed.append(mask)
        row -= count
    return allowed
