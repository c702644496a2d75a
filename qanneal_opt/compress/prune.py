"""Pruning of a trained network: which weights to keep, and what the kept ones become."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qanneal_opt import samplers
from qanneal_opt.checks import check_int
from qanneal_opt.compress.groups import Dense, Group, Plain, RowBlocks
from qanneal_opt.compress.kinds import Layer
from qanneal_opt.compress.layers import find_layers
from qanneal_opt.compress.pattern import Pattern
from qanneal_opt.compress.prune_report import PrunedLayer, PruneReport
from qanneal_opt.compress.pruner import Pruner
from qanneal_opt.compress.undo import Undo
from qanneal_opt.objective import Objective
from qanneal_opt.terminal import progress

METHODS = ("qubo", "obs", "magnitude")
SCOPES = ("global", "layer", "row")
STARTS = ("magnitude", "obs")


def prune(
    model: nn.Module,
    objective: Objective,
    density: float = 0.2,
    *,
    method: str = "qubo",
    pattern: str = "unstructured",
    scope: str | None = None,
    stages: int | None = None,
    refits: int | None = None,
    compensate: bool | None = None,
    damping: float | Sequence[float] = (0.01, 0.1, 1.0),
    sampler: Any = "annealer",
    start: str = "magnitude",
    num_reads: int = 1,
    skip: Iterable[str] = (),
    dense_limit: int = 4096,
    seed: int = 0,
) -> PruneReport:
    r"""Keep ``density`` of a network's weights, in place; the others become exactly zero.

    Around the present weights, with g the gradient of the objective and H its Gauss-Newton matrix on all the data,
    dropping the weights i with bit x_i = 1 changes the objective by about

    .. math:: E(x) = \sum_i h_i x_i + \tfrac12 \sum_{i \ne j} Q_{ij} x_i x_j, \qquad
              h_i = -g_i w_i + \tfrac12 Q_{ii}, \qquad Q_{ij} = w_i H_{ij} w_j

    ``"qubo"`` minimises E at exactly the number wanted, by swaps, and then moves the kept weights to the minimum of
    the quadratic model (least squares). A model holds near its weights only, so the density falls in stages, each
    with a new model, 1 / density rising evenly; ``refits`` more compensate at the final mask, while the objective is
    above what it was before pruning. Every model is tried at several dampings, H plus ``damping`` times its mean
    diagonal, with and without compensation, and the true objective chooses.

    ``"obs"`` is Optimal Brain Surgeon (Hassibi and Stork, 1993), whose update is the same compensation with g = 0;
    ``"magnitude"`` keeps the largest weights as they are. Both are baselines: one stage and no refit unless asked for.

    Args:
        model: any module; its ``Linear``, ``Conv2d`` and transformers' ``Conv1D`` weights are pruned, a tied one once.
        objective: the loss, its model with these weights in it, and its data.
        density: the fraction kept, in (0, 1].
        method: ``"qubo"``, ``"obs"`` or ``"magnitude"``.
        pattern: ``"unstructured"``; ``"rows"``, whole output rows (biases stay), not for ``"obs"``; or ``"N:M"`` such
            as ``"2:4"``, N of M weights next to each other in a row, where ``density`` has to be N/M.
        scope: where the fraction holds: ``"global"``, over all layers, which also share a curvature matrix;
            ``"layer"``, over each one, one after the other; ``"row"``, over each row of a layer's matrix, whose
            curvature is the second moments of its inputs, for layers too large for more. ``None``: the first that
            ``dense_limit`` allows, layer by layer.
        stages: choices until ``density``; ``None``: 12 for ``"qubo"``, otherwise 1.
        refits: compensations afterwards, while they help; ``None``: 5 for ``"qubo"``, otherwise 0. Layers in scope
            ``"row"``, whose model is exact for their outputs, and plain magnitudes need one stage and no refit.
        compensate: whether kept weights move; ``None``: all but ``"magnitude"``.
        damping: positive, one or several.
        sampler: for ``"qubo"``: a name, a ``dimod.Sampler``, or anything else that :func:`samplers.resolve` takes.
            All but our annealer get the numbers as a penalty, and what is off is repaired.
        start: the choice that ``"qubo"`` starts from and is never worse than in E: ``"magnitude"`` or ``"obs"``.
        num_reads: of the sampler, for ``"qubo"``.
        skip: names of layers to leave alone, or patterns such as ``"encoder.*"``.
        dense_limit: so many weights at most stand in one dense matrix; n of them need about 50 n^2 bytes.
        seed: of the sampler.

    Returns:
        A report with layers, stages, masks, and the dropped weights' last values. It prints as a table.

    Raises:
        TypeError: if ``model`` or ``objective`` is none.
        ValueError: on a number or a word out of its range, weights or an objective that are not finite, a model
            without a layer to prune. Whatever is raised, an interruption from the keyboard too, the model is as before.

    >>> import qanneal_opt as qa
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(8, 1, bias=False)
    >>> inputs = torch.randn(64, 8)
    >>> objective = qa.Objective(model, nn.functional.mse_loss, (inputs, inputs[:, :2].sum(1, keepdim=True)))
    >>> report = qa.prune(model, objective, density=0.25)
    >>> model.weight.detach().round(decimals=3)
    tensor([[1., 1., 0., 0., 0., 0., 0., 0.]])
    """
    begun = time.perf_counter()
    if not isinstance(model, nn.Module):
        raise TypeError(f"Invalid model: {type(model).__name__}; a torch.nn.Module is needed")
    if not isinstance(objective, Objective):
        raise TypeError(f"Invalid objective: {type(objective).__name__}; a qanneal_opt.Objective is needed")
    shape = Pattern.of(pattern, density)
    _check(method, scope, start, shape)
    thorough = method == "qubo"
    stages = (12 if thorough else 1) if stages is None else stages
    refits = (5 if thorough else 0) if refits is None else refits
    compensate = method != "magnitude" if compensate is None else compensate
    if not isinstance(compensate, bool):
        raise ValueError(f"Invalid compensate: {compensate!r}; True, False or None is needed")
    given: list[Any] = list(damping) if isinstance(damping, Sequence) else [damping]
    if not given or not all(_positive(value) for value in given):
        raise ValueError(f"Invalid damping: {damping!r}; positive finite numbers are needed")
    dampings = [float(value) for value in given]
    counts = {"stages": stages, "refits": refits, "num_reads": num_reads, "dense_limit": dense_limit}
    for name, count in counts.items():
        check_int(name, count, 0 if name == "refits" else 1)
    seat = samplers.resolve(sampler)
    layers, alone = _layers(model, objective, skip, shape)
    plain = method == "magnitude" and not compensate
    groups = _plain(layers, shape, scope) if plain else _groups(layers, shape, scope, dense_limit)
    with objective.frozen(), Undo() as undo:
        before = loss = float(objective())
        if not math.isfinite(before):
            raise ValueError(f"Invalid objective: {before} at the present weights; must be finite")
        pruner = Pruner(objective, undo, method, compensate, [0.0] if plain else dampings, seat, start, num_reads, seed)
        for k in progress(range(stages if density < 1 else 0), "stages"):
            share = density if k + 1 == stages else 1 / (1 + (1 / density - 1) * (k + 1) / stages)
            for group in groups:
                loss = pruner.prune(group, share) if group.local or share == density else loss
        for _ in progress(range(refits if compensate and density < 1 else 0), "refits"):
            reached = loss
            if reached <= before:  # made up for: more would be training
                break
            for group in groups:
                loss = pruner.prune(group, density) if group.local else loss
            if not loss < reached:
                break
    words = {"density": density, "method": method, "pattern": pattern, "scope": scope, "start": start}
    settings = {**words, **counts, "compensate": compensate, "damping": dampings, "sampler": seat.name, "seed": seed}
    masks = _masks(groups)
    rows = [_row(layer, masks[layer.name], group) for group in groups for layer in group.layers]
    aside = {layer.name: pruner.aside.get(layer.weight, torch.zeros_like(layer.weight.detach())) for layer in layers}
    spent = time.perf_counter() - begun
    return PruneReport(rows, alone, pruner.stages, settings, before, loss, spent, masks, aside, model)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _check(method: str, scope: str | None, start: str, pattern: Pattern) -> None:
    if method not in METHODS:
        raise ValueError(f"Invalid method: {method!r}; must be one of {METHODS}")
    if scope is not None and scope not in SCOPES:
        raise ValueError(f"Invalid scope: {scope!r}; must be one of {SCOPES}, or None")
    if start not in STARTS:
        raise ValueError(f"Invalid start: {start!r}; must be one of {STARTS}")
    if pattern.rows and scope == "row":
        raise ValueError("Invalid scope: 'row' with pattern 'rows'; must be 'global', 'layer' or None")
    if pattern.rows and "obs" in (method, start):
        name = "method" if method == "obs" else "start"
        raise ValueError(f"Invalid {name}: 'obs' with pattern 'rows'; it drops single weights")


def _layers(
    model: nn.Module, objective: Objective, skip: Iterable[str], pattern: Pattern
) -> tuple[list[Layer], dict[str, str]]:
    """Find the layers to prune; those left alone with the reason."""
    found, alone = find_layers(model, skip)
    known = {id(param) for param in objective.model.parameters()}
    layers = []
    for layer in found:
        reason = pattern.objection(layer) if layer.weight.requires_grad else "its weight is frozen"
        if reason is not None:
            alone[layer.name] = reason
            continue
        if id(layer.weight) not in known:
            raise ValueError(f"Invalid objective: its model does not have the weight of layer {layer.name!r}")
        if not bool(layer.weight.detach().isfinite().all()):
            raise ValueError(f"Invalid model: NaN or infinity in the weight of layer {layer.name!r}; must be finite")
        layers.append(layer)
    if not layers:
        told = "; ".join(f"{name or 'itself'}: {reason}" for name, reason in alone.items()) or "it has no weights"
        raise ValueError(f"Invalid model: no layer to prune ({told}); at least one is needed")
    return layers, alone


def _plain(layers: list[Layer], pattern: Pattern, scope: str | None) -> list[Group]:
    """Layers that are chosen from without a model, which has no limit."""
    if scope in (None, "global"):
        return [Plain(layers, pattern)]
    if scope == "row" and not pattern.group:
        return [Plain([layer], Pattern(group=layer.matrix().shape[1])) for layer in layers]
    return [Plain([layer], pattern) for layer in layers]


def _groups(layers: list[Layer], pattern: Pattern, scope: str | None, limit: int) -> list[Group]:
    """Layers that are chosen from together, in the widest scope that one dense matrix allows."""
    sizes = [layer.weight.numel() for layer in layers]
    if scope == "global" or (scope is None and sum(sizes) <= limit):
        parts = [layers]
    else:
        parts = [[layer] for layer in layers]
    groups: list[Group] = []
    for part in parts:
        total = sum(layer.weight.numel() for layer in part)
        if scope == "row" or (scope is None and total > limit):
            if pattern.rows:
                raise ValueError(
                    f"Invalid dense_limit: {limit}; layer {part[0].name!r} has {total} weights, "
                    "which pattern 'rows' needs in one dense matrix"
                )
            groups.append(RowBlocks(part[0], pattern))
        elif total > limit:
            raise ValueError(f"Invalid scope: {scope!r}; its {total} weights are more than dense_limit, {limit}")
        else:
            groups.append(Dense(part, pattern))
    return groups


def _masks(groups: list[Group]) -> dict[str, Tensor]:
    """Of each layer by name: True where a weight is kept, in the parameter's shape."""
    masks = {}
    for group in groups:
        dense = group.subset.scatter(group.alive.to(group.subset.dtype))
        masks.update({layer.name: tensor != 0 for layer, tensor in zip(group.layers, dense, strict=True)})
    return masks


def _row(layer: Layer, mask: Tensor, group: Group) -> PrunedLayer:
    """What a report tells of a layer."""
    kept, notes = int(mask.sum()), []
    if layer.name in group.silent:
        notes.append("the objective does not depend on it, chosen by magnitude alone")
    if not kept:
        notes.append("no weight is kept")
    return PrunedLayer(layer.name, layer.kind, tuple(mask.shape), mask.numel(), kept, group.form, "; ".join(notes))
