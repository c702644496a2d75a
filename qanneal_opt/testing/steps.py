"""A check of annealing steps: plain records, legal weights, the same again from the same seed."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qanneal_opt import AnnealingOptimizer, AnnealRecord, Levels, Objective
from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.encoding.mask import EncodedMask
from qanneal_opt.guards import RandomState
from qanneal_opt.testing.common import copies, require, require_plain, require_same

Make = Callable[[Any], AnnealingOptimizer]


def small_problem(step: Any) -> AnnealingOptimizer:
    """An optimizer that anneals by ``step`` the ternary first layer of a small classifier."""
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) / math.sqrt(p.shape[-1]))
    inputs = torch.randn(60, 6, generator=g)  # (N, 6)
    targets = (inputs @ torch.randn(6, 3, generator=g)).argmax(1)
    weight, *rest = model.parameters()
    return AnnealingOptimizer(
        [{"params": [weight], "encoding": Levels.ternary()}, {"params": rest}],
        objective=Objective(model, nn.functional.cross_entropy, (inputs, targets)),
        annealing=step,
    )


def assert_step(step: Any, *, make: Make = small_problem, calls: int = 3) -> None:
    """Check an annealing step by a few calls on a small problem.

    Records are of the step's name and go to JSON; weights stay finite and legal; at temperature 0, which is
    read from the record, no call raises the judged objective; ``.grad`` is left alone; the same seed gives
    the same weights bit for bit, whatever the global random numbers, and also when a checkpoint is taken and
    loaded in between; ``state_dict`` is plain data.

    Args:
        step: the step; it is copied, and left as it is.
        make: gives an optimizer that anneals by the step it is given, over a model made anew with the same
            weights each time. By default a small classifier with ternary weights in its first layer.
        calls: annealing steps to take.

    Raises:
        AssertionError: with the reason.

    >>> import qanneal_opt as qa
    >>> assert_step(qa.DirectStep(temperature=0.0))
    >>> class Lucky:
    ...     name = "lucky"
    ...     def __call__(self, view, objective, generator):
    ...         before, _ = view.begin(lambda: float(objective()))
    ...         view.apply(view.sweep(generator))
    ...         after = float(objective())
    ...         return qa.AnnealRecord(view.step, self.name, loss_before=before, loss_after=after)
    ...     def state_dict(self):
    ...         return {}
    ...     def load_state_dict(self, state):
    ...         pass
    >>> assert_step(Lucky())
    Traceback (most recent call last):
    AssertionError: at temperature 0 the judged objective rose from ...
    """
    require(isinstance(step.name, str) and step.name, f"name is {step.name!r}; a string is needed")
    optimizer = make(copy.deepcopy(step))
    model = _model(optimizer)
    records, weights, saved = [], [], None
    for call in range(calls):
        records.append(_call(optimizer, step.name))
        weights.append(copies(model.state_dict()))
        if call == 0:
            saved = copy.deepcopy((optimizer.state_dict(), model.state_dict()))
    again = make(copy.deepcopy(step))
    for call in range(calls):
        with _other_global_numbers():
            record = again.anneal()
        require(_counts(record) == _counts(records[call]), f"call {call} gave another record from the same seed")
        require_same(weights[call], _model(again).state_dict(), f"after call {call} with the same seed")
    if saved is not None:
        resumed = make(copy.deepcopy(step))
        _model(resumed).load_state_dict(saved[1])
        resumed.load_state_dict(saved[0])
        for call in range(1, calls):
            resumed.anneal()
            when = f"after call {call} from a checkpoint of call 0"
            require_same(weights[call], _model(resumed).state_dict(), when)


@contextlib.contextmanager
def _other_global_numbers() -> Iterator[None]:
    """Let the global generators be elsewhere for a while: a step that draws from them gives itself away."""
    state = RandomState()
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the global generator is meant
    random.seed(123)
    try:
        yield
    finally:
        state.restore()


def _call(optimizer: AnnealingOptimizer, name: str) -> AnnealRecord:
    """One annealing step, and all that can be said of it alone."""
    model, objective = _model(optimizer), optimizer.objective
    assert objective is not None
    before = float(objective())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    record = optimizer.anneal()
    for p in model.parameters():
        require(p.grad is not None and bool((p.grad == 1).all()), "the step touches .grad")
        p.grad = None
    _check_record(record, name)
    for encoded in optimizer._encoded:
        require(bool(encoded.param.isfinite().all()), "the step leaves a weight that is not finite")
        _check_legal(encoded)
    if record.temperature == 0 and record.loss_before is not None and record.loss_after is not None:
        start, end, after = record.loss_before, record.loss_after, float(objective())
        slack = 1e-5 * abs(start)
        require(end <= start + slack, f"at temperature 0 the judged objective rose from {start} to {end}")
        if abs(start - record.price_before - before) <= slack:  # but for a price, it judges by the objective itself
            end -= record.price_after
            require(abs(end - after) <= slack, f"the record's loss_after is {end}, and the objective is {after}")
    for state in [part.state_dict() for part in optimizer._alternation.steps]:
        require_plain(state, "state_dict()")
    return record


def _check_record(record: AnnealRecord, name: str) -> None:
    require_plain(dataclasses.asdict(record), "the record")
    require(record.strategy == name, f"the record's strategy is {record.strategy!r}; the step's name is {name!r}")
    for field in ("step", "variables", "candidates", "accepted", "moved"):
        value = getattr(record, field)
        require(type(value) is int and value >= 0, f"the record's {field} is {value!r}; an int from 0 is needed")
    phases = record.seconds.keys()
    require(phases == {"model", "sample", "judge"}, f"the record's seconds are of {sorted(phases)}")
    require(not record.fallback, f"the step fell back: {record.fallback}")


def _check_legal(encoded: Any) -> None:
    param: Tensor = encoded.param.detach()
    if isinstance(encoded, EncodedLevels):
        require(torch.equal(param, encoded.signs * encoded.scale), "weights are not levels[codes] * scale")
        require(bool((encoded.scale > 0).all()), "a scale is not positive")
    elif isinstance(encoded, EncodedMask):
        require(not bool(param[~encoded.mask].any()), "a dropped weight is not zero")
    before = param.clone()
    encoded.before_base()
    encoded.after_base()
    require(
        torch.equal(before, encoded.param),
        "weights are not legal: a base step that changes nothing moves them",
    )


def _counts(record: AnnealRecord) -> dict[str, Any]:
    """A record without what no seed reproduces."""
    return {k: v for k, v in dataclasses.asdict(record).items() if k not in ("seconds", "sampler_info")}


def _model(optimizer: AnnealingOptimizer) -> nn.Module:
    assert optimizer.objective is not None
    return optimizer.objective.model
