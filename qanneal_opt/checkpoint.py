"""Saving and loading what annealing adds to an optimizer's state.

Tensors are merged into the state of the parameter they belong to, because distributed checkpoints keep
nothing else; they are taken out again before torch loads the rest, because torch casts what it finds there
to the parameter's dtype, and because optimizers of Adam's kind initialise only an empty state. Counters are
plain numbers in the first group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from qanneal_opt.encoding.levels import EncodedLevels
from qanneal_opt.telemetry import TOTALS
from qanneal_opt.view import Best

if TYPE_CHECKING:
    from qanneal_opt.optimizer import AnnealingOptimizer

StateDict = dict[str, Any]

PREFIX = "anneal_"
COUNTERS: dict[str, float] = {
    "anneal_step": 0,  # completed optimizer steps
    **{f"anneal_{name}": 0 for name in TOTALS},
    "anneal_owned": 0,  # whether the codes belong to annealing
    "anneal_reference": math.nan,  # the objective when the present span began
    "anneal_best": math.inf,  # the best objective of the present span
    "anneal_plateau": math.inf,  # the best objective that OnPlateau saw
    "anneal_clock": 0.0,  # seconds of training, where there is a budget
}


def merge(state_dict: StateDict, optimizer: AnnealingOptimizer) -> StateDict:
    """Give ``state_dict`` (the base's) with the annealing state in it; the base's own is left as it is."""
    state = {key: dict(value) for key, value in state_dict["state"].items()}
    for place, name, tensor in _named(optimizer):
        state.setdefault(place, {})[name] = tensor
    groups = [dict(group) for group in state_dict["param_groups"]]
    for group in groups:
        if "encoding" in group:
            group["encoding"] = group["encoding"].spec()
    if optimizer._encoded:
        owned = any(encoded.latent is None for encoded in optimizer._discrete)
        plain = {"anneal_owned": int(owned), "anneal_best": optimizer._best.loss}
        groups[0].update(plain, anneal_strategies=[step.state_dict() for step in optimizer._steps])
    return {**state_dict, "state": state, "param_groups": groups}


def check(state_dict: StateDict, optimizer: AnnealingOptimizer) -> None:
    """Raise ValueError if a saved group has another encoding; a group saved without one fits any."""
    for place, (saved, group) in enumerate(zip(state_dict["param_groups"], optimizer.param_groups, strict=False)):
        encoding = group.get("encoding")
        mine = encoding.spec() if encoding is not None else None
        if saved.get("encoding", mine) != mine:
            raise ValueError(f"Invalid state_dict: encoding {saved['encoding']} in group {place}, which has {mine}")


def split(state_dict: StateDict) -> tuple[StateDict, dict[int, dict[str, Tensor]]]:
    """Give the base's part of a state dict, and the annealing tensors of each parameter's place."""
    ours: dict[int, dict[str, Tensor]] = {}
    state: dict[Any, Any] = {}
    for place, values in state_dict["state"].items():
        if not isinstance(values, dict):
            state[place] = values
            continue
        ours[place] = {k: v for k, v in values.items() if k.startswith(PREFIX)}
        rest = {k: v for k, v in values.items() if not k.startswith(PREFIX)}
        if rest or not ours[place]:
            state[place] = rest
    return {**state_dict, "state": state}, ours


def load(ours: dict[int, dict[str, Tensor]], optimizer: AnnealingOptimizer) -> None:
    """Take the annealing state: counters from the groups, which torch has loaded, and the tensors ``ours``."""
    if not optimizer._encoded:
        return
    memory = optimizer._memory
    strategies = memory.pop("anneal_strategies", [])
    for step, state in zip(optimizer._steps, strategies, strict=False):
        step.load_state_dict(state)
    for key, value in COUNTERS.items():
        memory.setdefault(key, value)
    optimizer._best = Best(memory["anneal_best"])
    has_best = memory["anneal_best"] < math.inf
    encoded = {id(e.param): e for e in optimizer._encoded}
    for place, param in _places(optimizer):
        tensors = ours.get(place, {})
        if not tensors:
            continue
        mine = encoded.get(id(param))
        if mine is not None:
            mine.load(_under("", tensors))
            if isinstance(mine, EncodedLevels) and memory["anneal_owned"]:
                mine.begin()
        best = _under("best_", tensors)
        if has_best and mine is not None:
            optimizer._best.encoded.append({k: v.to(param.device, copy=True) for k, v in best.items()})
        elif has_best and best:
            optimizer._best.continuous.append(best["weights"].to(param, copy=True))
        for name, adam in optimizer._refit.items():
            moments = _under(f"{name}_", tensors)
            if "step" in moments and float(moments["step"]) > 0:
                adam.load(param, {k: moments[k] for k in ("exp_avg", "exp_avg_sq", "step")})


def _named(optimizer: AnnealingOptimizer) -> Iterator[tuple[int, str, Tensor]]:
    """Every tensor of ours: the parameter's place, the name under its state, the tensor."""
    if not optimizer._encoded:
        return
    view = optimizer._view(None, math.nan, optimizer._best)
    has_best = optimizer._best.loss < math.inf
    encoded = {id(e.param): e for e in optimizer._encoded}
    trained, scaled = {id(p) for p in view.trained}, {id(e.param): e.scale for e in view.scaled}
    ranks = {id(p): rank for rank, p in enumerate(view.continuous)}
    for place, param in _places(optimizer):
        mine = encoded.get(id(param))
        if mine is not None:
            yield from ((place, PREFIX + name, tensor) for name, tensor in mine.tensors().items())
        best: dict[str, Tensor] = {}
        if not optimizer._anneals:
            pass
        elif mine is not None:
            best = optimizer._best.encoded[mine.owner] if has_best else mine.snapshot()
        elif id(param) in ranks:
            best = {"weights": optimizer._best.continuous[ranks[id(param)]] if has_best else param.detach()}
        yield from ((place, f"{PREFIX}best_{name}", tensor) for name, tensor in best.items())
        for name, adam in optimizer._refit.items():
            if id(param) in (trained if name == "refit" else scaled) and (optimizer._anneals or name == "scale"):
                like = param.detach() if name == "refit" else scaled[id(param)]
                moments = adam.tensors(param, like).items()
                yield from ((place, f"{PREFIX}{name}_{key}", tensor) for key, tensor in moments)


def _places(optimizer: AnnealingOptimizer) -> list[tuple[int, Tensor]]:
    params = dict.fromkeys(p for group in optimizer.param_groups for p in group["params"])
    return list(enumerate(params))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins with our prefix and ``prefix``, without both."""
    whole = PREFIX + prefix
    return {k.removeprefix(whole): torch.as_tensor(v) for k, v in tensors.items() if k.startswith(whole)}
