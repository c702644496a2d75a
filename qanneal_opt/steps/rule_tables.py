"""What the objective is at each sample when the output of a layer, or one rule of it, is forced to be 0 or 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from qanneal_opt.curvature.rows import first_argument
from qanneal_opt.losses import describe
from qanneal_opt.nn import AutomatonLayer, RuleLayer
from qanneal_opt.nn.automaton import PAD
from qanneal_opt.objective import Objective

Hook = Callable[[Tensor, Tensor], Tensor]  # (inputs, output) of a layer -> what is put in the output's place


@dataclass(frozen=True, eq=False)
class Pass:
    """A pass over all samples, seen from a layer.

    Attributes:
        values: (N, n), what the layer makes of its inputs.
        losses: (N,) float64, each sample's part of the mean loss.
        last: whether the layer's output is the model's.
        targets: (O, N) float64 where it is, and they are of its shape.
    """

    values: Tensor
    losses: Tensor
    last: bool
    targets: Tensor | None


def look(objective: Objective, layer: RuleLayer | AutomatonLayer, force: Hook | None = None) -> Pass:
    """Go through the samples once.

    Raises:
        ValueError: if the layer is not called once with one row a sample, a loss is not finite, or that of a batch is
            not the mean of its samples' own.
    """
    values: list[Tensor] = []
    losses: list[Tensor] = []
    targets: list[Tensor] = []
    last, total = True, 0.0
    calls: list[tuple[Tensor, Tensor]] = []

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        inputs = first_argument(args, kwargs)
        calls.append((inputs, output if force is None else force(inputs, output)))
        return calls[-1][1]

    handle = layer.register_forward_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            for batch in objective.batches():
                calls.clear()
                outputs = objective.forward(batch)
                rows = [len(inputs) for inputs, _ in calls if inputs.ndim == 2]
                own = objective.sample_losses(outputs, batch.targets).double().cpu()
                if rows != [len(own)]:
                    raise ValueError(
                        f"Invalid model: it calls a {type(layer).__name__} with rows {rows} for {len(own)} samples; "
                        "one call with one row a sample is needed"
                    )
                if batch.weights is None:
                    _check_mean(own, float(objective.batch_loss(outputs, batch)))
                values.append(layer.values(calls[0][0]).cpu())
                losses.append(own if batch.weights is None else own * batch.weights.double().cpu())
                total += batch.size
                last &= outputs is calls[0][1]
                if last and isinstance(batch.targets, Tensor) and batch.targets.shape == outputs.shape:
                    targets.append(batch.targets.double().cpu())
    finally:
        handle.remove()
    loss = torch.cat(losses) / total
    if not bool(loss.isfinite().all()):
        raise ValueError(f"Invalid loss: {float(loss[~loss.isfinite()][0])} at a sample; finite losses are needed")
    whole = len(targets) == len(losses)
    if isinstance(layer, AutomatonLayer):  # each batch of a loader may be as long as its longest sequence
        longest = max(value.shape[1] for value in values)
        values = [pad(value, (0, longest - value.shape[1]), value=PAD) for value in values]
    return Pass(torch.cat(values), loss, last, torch.cat(targets).T if whole and targets[0].ndim == 2 else None)


def _check_mean(own: Tensor, loss: float) -> None:
    """Refuse a loss that is not a mean over samples: what its samples say of it would not be what it is."""
    mean = float(own.mean())
    if math.isfinite(mean) and not math.isclose(mean, loss, rel_tol=0.02, abs_tol=1e-6):
        raise ValueError(
            f"Invalid loss: {loss:.4g} of a batch whose samples have a mean loss of {mean:.4g}; a mean over samples is "
            "needed (for weights of classes: Objective's weights, one a sample)"
        )


def squares(objective: Objective, seen: Pass) -> bool:
    """Whether the loss is the mean square of the layer's own outputs: then a readout has its least squares."""
    spec = describe(objective.loss)
    return seen.targets is not None and objective.weights is None and spec is not None and spec.kind == "mse"


def output_forced(value: float) -> Hook:
    """The layer's output in place of what it would be."""
    return lambda _, output: torch.full_like(output, value)


def rule_forced(layer: RuleLayer, k: int, value: float) -> Hook:
    """The output with rule k of a linear readout holding everywhere, or nowhere."""

    def force(inputs: Tensor, output: Tensor) -> Tensor:
        held = layer.activations(inputs)[:, k : k + 1]  # (N, 1)
        return output + (value - held) * layer.coefficients[:, k]

    return force
