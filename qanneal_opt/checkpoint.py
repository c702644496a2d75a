"""Saving and loading what annealing adds to an optimizer's state.

Tensors are saved under one key in the state of the parameter they belong to, because distributed checkpoints
keep nothing else; they are held apart while running and taken out before torch loads the rest, because torch
casts what it finds there to the parameter's dtype, and because optimizers of Adam's kind initialise only an
empty state. Counters are plain numbers in the first group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from qanneal_opt.refit import Adam
from qanneal_opt.telemetry import RUN, TOTALS
from qanneal_opt.view import Best

if TYPE_CHECKING:
    from qanneal_opt.optimizer import AnnealingOptimizer

StateDict = dict[str, Any]
Tensors = dict[Tensor, dict[str, Any]]  # of each parameter: section -> name -> tensor

KEY = "anneal"


def counters() -> dict[str, Any]:
    """Give the first group's entries as they are before the first step."""
    return {
        "anneal_step": 0,  # completed optimizer steps
        "anneal_turn": 0,  # annealing steps begun: whose turn the next one is
        **{f"anneal_{name}": 0 for name in TOTALS},
        **{f"anneal_{name}": 0.0 for name in RUN},
        "anneal_reference": math.nan,  # the objective when the present span began
        "anneal_best": math.inf,  # the best objective of the present span
        "anneal_plateau": math.inf,  # the best objective that OnPlateau saw
        "anneal_clock": 0.0,  # seconds of training, where there is a budget
        "anneal_owned": [],  # of each discrete parameter: whether its codes belong to annealing
        "anneal_strategies": [],  # of each annealing step object: its state
    }


def adams() -> dict[str, Adam]:
    """Give the Adams of refits (weights, scales) and of the scales' own gradient steps, without moments yet."""
    return {"refit": Adam(), "refit_scale": Adam(), "scale": Adam()}


def announce(optimizer: AnnealingOptimizer) -> None:
    """Let ``optimizer.state`` show the key of the parameters that the base has had its first look at.

    Distributed checkpoints ask there which keys a parameter's saved state has; :func:`merge` fills them.
    """
    for param in _owners(optimizer):
        if param.grad is not None:
            optimizer.state.setdefault(param, {}).setdefault(KEY, {})


def announced(optimizer: AnnealingOptimizer, param: Tensor) -> bool:
    """Tell whether the base has had its first look at a parameter."""
    return KEY in optimizer.state.get(param, ())


def merge(optimizer: Optimizer, state_dict: StateDict) -> StateDict:
    """Fill in annealing's part of what torch gathered; a hook of ``state_dict()``, before the user's."""
    optimizer = cast("AnnealingOptimizer", optimizer)
    if not optimizer._encoded and not optimizer._alternation.anneals:
        return state_dict
    groups, state = state_dict["param_groups"], {k: dict(v) for k, v in state_dict["state"].items()}
    place = {p: k for k, p in _pairs(groups, optimizer)}
    gathered = list(_gather(optimizer))
    if gathered and optimizer._alternation.buffers:  # the best ones have no parameter of their own to be saved under
        best = optimizer._alternation.best.buffers or optimizer._alternation.buffers
        gathered[0][1]["buffers"] = {str(k): buffer.clone() for k, buffer in enumerate(best)}
    for param, tensors in gathered:
        state.setdefault(place[param], {})[KEY] = tensors
    for group in groups:
        if "encoding" in group:
            group["encoding"] = group["encoding"].spec()
    groups[0]["anneal_best"] = optimizer._alternation.best.loss
    groups[0]["anneal_owned"] = [int(levels.latent is None) for levels in optimizer._levels]
    groups[0]["anneal_strategies"] = [step.state_dict() for step in optimizer._alternation.steps]
    return {**state_dict, "state": state}


def take(optimizer: Optimizer, state_dict: StateDict) -> StateDict:
    """Check annealing's part of a state dict and take it out; a hook of ``load_state_dict()``, behind the user's.

    Raises:
        ValueError: if encodings, names or shapes are not those of the optimizer; a group saved without an
            encoding fits any.
    """
    optimizer = cast("AnnealingOptimizer", optimizer)
    param = dict(_pairs(state_dict["param_groups"], optimizer))
    state, ours = {}, optimizer._loading
    for place, values in state_dict["state"].items():
        rest = values
        if isinstance(values, dict) and KEY in values:
            rest = {k: v for k, v in values.items() if k != KEY}
            if place in param and values[KEY]:
                ours[param[place]] = values[KEY]
        if rest or rest is values:
            state[place] = rest
    saved: dict[Tensor, bool] = {}
    for number, (theirs, group) in enumerate(zip(state_dict["param_groups"], optimizer.param_groups, strict=False)):
        mine = group["encoding"].spec() if "encoding" in group else None
        if theirs.get("encoding", mine) != mine:
            raise ValueError(f"Invalid state_dict: encoding {theirs['encoding']} in group {number}, which has {mine}")
        saved.update((p, "encoding" in theirs and p.requires_grad) for p in group["params"])
    for encoded in optimizer._encoded:
        if not saved.get(encoded.param):
            continue
        needed = _shapes(encoded.tensors())
        found = _shapes(ours.get(encoded.param, {}).get("encoding", {}))
        if found != needed:
            raise ValueError(f"Invalid state_dict: {found} for a parameter under an encoding; {needed} is needed")
    return {**state_dict, "state": state}


def load(optimizer: AnnealingOptimizer, ours: Tensors) -> None:
    """Take annealing's state: counters from the groups, which torch has loaded, and tensors from ``ours``."""
    if not optimizer._encoded and not optimizer._alternation.anneals:
        return
    memory = optimizer._memory
    for key, value in counters().items():
        memory.setdefault(key, value)
    optimizer._alternation.meter = None
    for step, state in zip(optimizer._alternation.steps, memory["anneal_strategies"], strict=False):
        step.load_state_dict(state)
    for encoded in optimizer._encoded:
        if encoded.param in ours:
            encoded.load(ours[encoded.param]["encoding"])
    for levels, owned in zip(optimizer._levels, memory["anneal_owned"], strict=False):
        if owned:
            levels.begin()
    optimizer._alternation.best, optimizer._adams = Best(), adams()
    best = {p: _copied(sections["best"], p) for p, sections in ours.items() if "best" in sections}
    if memory["anneal_best"] < math.inf and all(encoded.param in best for encoded in optimizer._encoded):
        discrete = [best.pop(encoded.param) for encoded in optimizer._encoded]
        moved = optimizer._alternation.buffers
        saved = [sections["buffers"] for sections in ours.values() if "buffers" in sections]
        buffers = [saved[0][str(k)].to(buffer.device, copy=True) for k, buffer in enumerate(moved)] if saved else []
        optimizer._alternation.best = Best(
            memory["anneal_best"], discrete, {p: kept["weights"] for p, kept in best.items()}, buffers
        )
    for param, sections in ours.items():
        for name, moments in sections.get("adam", {}).items():
            if float(moments["step"]) > 0:
                optimizer._adams[name].load(param, moments)
        if optimizer.state.get(param):
            optimizer.state[param][KEY] = {}


def _owners(optimizer: AnnealingOptimizer) -> list[Tensor]:
    """The parameters under whose state there is something of ours."""
    if optimizer._alternation.anneals:
        return [p for group in optimizer.param_groups for p in group["params"]]
    return [encoded.param for encoded in optimizer._encoded]


def _gather(optimizer: AnnealingOptimizer) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Every parameter's tensors. Where there is nothing yet they are zeros: which names there are is fixed."""
    best, view = optimizer._alternation.best, optimizer._view()
    has_best = best.loss < math.inf
    scales = {e.param: e.scale for e in view.scaled}
    trained = set(view.trained)
    for encoded in optimizer._encoded:
        sections: dict[str, Any] = {"encoding": encoded.tensors(), "adam": {}}
        if optimizer._alternation.anneals:
            sections["best"] = best.encoded[encoded.owner] if has_best else _zeros(encoded.snapshot())
            if encoded.param in trained:
                sections["adam"]["refit"] = optimizer._adams["refit"].tensors(encoded.param, encoded.param)
        if encoded.param in scales:
            for name in ("refit_scale", "scale") if optimizer._alternation.anneals else ("scale",):
                sections["adam"][name] = optimizer._adams[name].tensors(encoded.param, scales[encoded.param])
        yield encoded.param, sections
    if optimizer._alternation.anneals:
        for param in view.continuous:
            weights = best.continuous.get(param) if has_best else torch.zeros_like(param)
            weights = param.detach().clone() if weights is None else weights
            moments = optimizer._adams["refit"].tensors(param, param)
            yield param, {"best": {"weights": weights}, "adam": {"refit": moments}}


def _pairs(saved_groups: list[dict[str, Any]], optimizer: AnnealingOptimizer) -> Iterator[tuple[Any, Tensor]]:
    """What stands for each parameter in a state dict (a number, or a name in a distributed one), and the parameter."""
    for saved, group in zip(saved_groups, optimizer.param_groups, strict=False):
        yield from zip(saved["params"], group["params"], strict=False)


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _zeros(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def _copied(tensors: dict[str, Tensor], param: Tensor) -> dict[str, Tensor]:
    return {name: tensor.to(param.device, copy=True) for name, tensor in tensors.items()}
