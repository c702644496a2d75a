"""The optimizer: a base optimizer's gradient steps, and annealing steps when they are due."""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._compile import _disable_dynamo as disable_dynamo
from torch.optim.optimizer import Optimizer

from qanneal_opt import checkpoint
from qanneal_opt.encoding.base import Encoded
from qanneal_opt.encoding.levels import EncodedLevels
from qanneal_opt.objective import Objective
from qanneal_opt.refit import Adam
from qanneal_opt.schedule import Every, Schedule, Span
from qanneal_opt.telemetry import AnnealRecord, add_up, summarize
from qanneal_opt.view import Best, Fallback, Step, View, train_scales

KEPT_RECORDS = 10_000


class AnnealingOptimizer(Optimizer):
    r"""Gradient steps of a base optimizer in turn with annealing steps on a quadratic or exact objective.

    Every :meth:`step` is one step of the base. When ``schedule`` says so, an annealing step follows: it
    proposes moves of the weights whose group carries an ``"encoding"``, and judges them by ``objective``.
    Without ``objective`` or without ``annealing`` nothing is annealed, and without encodings either this
    is the base, bit for bit.

    Args:
        params: as everywhere in torch; a group may carry ``"encoding"``: :class:`Levels`, :class:`Mask` or
            :class:`Window`.
        base: an optimizer class, or a factory ``base(params, **base_options)``.
        objective: the loss that annealing judges moves by.
        annealing: one annealing step object, or a list tried in turn, one each time.
        schedule: when to anneal.
        seed: every annealing step draws from a generator seeded by ``seed`` and its own number.
        **base_options: go to ``base``.

    Attributes:
        records: the last 10,000 :class:`AnnealRecord`.

    Raises:
        TypeError: if ``base`` makes no optimizer, or an argument is of a kind that cannot serve.
        ValueError: if annealing has no group to work on, or ``base`` needs a closure and a group has Levels.

    >>> import qanneal_opt as qa
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Linear(4, 1)
    >>> inputs = torch.randn(32, 4); targets = inputs.sign().sum(1, keepdim=True)
    >>> optimizer = qa.AnnealingOptimizer(
    ...     [{"params": [model.weight], "encoding": qa.Levels.binary()}, {"params": [model.bias]}],
    ...     objective=qa.Objective(model, torch.nn.functional.mse_loss, (inputs, targets)),
    ...     annealing=qa.DirectStep(temperature=0.0), schedule=qa.Every(5), lr=1e-2)
    >>> for _ in range(10):
    ...     optimizer.zero_grad()
    ...     torch.nn.functional.mse_loss(model(inputs), targets).backward()
    ...     optimizer.step()
    >>> len(optimizer.records), optimizer.codes(model.weight)[0].tolist()
    (2, [[1, 1, 1, 1]])
    """

    def __init__(
        self,
        params: Any,
        base: Callable[..., Optimizer] = torch.optim.AdamW,
        *,
        objective: Objective | None = None,
        annealing: Step | Sequence[Step] | None = None,
        schedule: Schedule = Every(100),
        seed: int = 0,
        **base_options: Any,
    ) -> None:
        if not callable(base):
            raise TypeError(f"Invalid base: {base!r}; an optimizer class or a factory is needed")
        self._base = base(params, **base_options)
        if not isinstance(self._base, Optimizer):
            raise TypeError(f"Invalid base: it made a {type(self._base).__name__}; a torch.optim.Optimizer is needed")
        if objective is not None and not isinstance(objective, Objective):
            raise TypeError(f"Invalid objective: {type(objective).__name__}; a qanneal_opt.Objective is needed")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"Invalid seed: {seed}; an int of at least 0 is needed")
        self._objective = objective
        self._steps = _steps(annealing)
        self._schedule = schedule
        self._seed = seed
        self.records: deque[AnnealRecord] = deque(maxlen=KEPT_RECORDS)
        self._encoded: list[Encoded] = []
        self._best = Best()
        self._refit = {"refit": Adam(), "refit_scale": Adam(), "scale": Adam()}
        super().__init__(self._base.param_groups, self._base.defaults)  # the hooks; the groups are the base's own
        self._link()
        for group in self.param_groups:
            self._encode(group)
        if self._anneals and not self._encoded:
            raise ValueError('Invalid annealing: no group carries an "encoding", so there is nothing to anneal')

    @property
    def objective(self) -> Objective | None:
        """The loss that annealing judges moves by."""
        return self._objective

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one gradient step of the base, then an annealing step if the schedule says so.

        Args:
            closure: as the base takes it. With ``Levels`` groups it is evaluated here, once, on the
                discrete weights.

        Returns:
            The closure's loss, or None.

        Raises:
            ValueError: if a gradient of a ``Levels`` group is not finite; nothing moved then.
        """
        if not self._encoded:
            return self._base_step(closure)
        if not any(_moving(group.get("lr", 1.0)) for group in self.param_groups):
            return self._base_step(closure)
        loss = self._gradient_step(closure)
        if self._anneals:
            memory = self._memory
            memory["anneal_step"] += 1
            self._anneal_if_due(memory["anneal_step"], memory)
        return loss

    @disable_dynamo
    def anneal(self) -> AnnealRecord:
        """Take one annealing step now, a span of its own: at T > 0 it ends at the best state it saw.

        Raises:
            ValueError: if there is no objective or no annealing step.
        """
        if not self._anneals:
            name = "objective" if self._objective is None else "annealing"
            raise ValueError(f"Invalid {name}: None; anneal() needs an objective and an annealing step")
        best = Best()
        return self._anneal(None, math.nan, best)

    def restore_best(self) -> None:
        """Put back the best weights and scales of the present span; the base's state stays. No-op without one."""
        self._view(None, math.nan, self._best).restore(self._best)

    def summary(self) -> str:
        """Give a short table of what annealing did, what it cost and what it was worth."""
        return summarize(self._memory, self.records[-1] if self.records else None)

    def codes(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Give codes and scale of a discrete parameter: ``p == levels[codes] * scale`` exactly.

        Returns:
            Codes, int64 and of the shape of ``p``: places in the ascending ``values`` of its ``Levels``; and
            the scale, which broadcasts to ``p``. Both are copies.

        Raises:
            KeyError: if ``p`` is in no group with ``Levels``.
        """
        for encoded in self._encoded:
            if encoded.param is p and isinstance(encoded, EncodedLevels):
                return encoded.codes.long(), encoded.scale.clone()
        raise KeyError("Invalid p: it is in no group with a Levels encoding")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, which may carry an ``"encoding"``."""
        if self.__dict__.get("param_groups") is not self._base.param_groups:  # while torch's constructor runs
            super().add_param_group(param_group)
            return
        self._base.add_param_group(param_group)
        self._encode(self.param_groups[-1])

    def state_dict(self) -> dict[str, Any]:
        """Give the base's state with ours merged in: plain tensors, numbers and strings only.

        Which keys there are depends on groups and options alone, never on what happened so far, so that
        distributed checkpoints can plan a load.
        """
        return checkpoint.merge(super().state_dict(), self)

    @disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` gave, or the state of a plain base optimizer.

        Raises:
            ValueError: if groups or encodings differ from those of this optimizer.
        """
        checkpoint.check(state_dict, self)
        encodings = [group.get("encoding") for group in self.param_groups]
        plain, ours = checkpoint.split(state_dict)
        super().load_state_dict(plain)
        for group, encoding in zip(self.param_groups, encodings, strict=True):
            group.pop("encoding", None)
            if encoding is not None:
                group["encoding"] = encoding
        checkpoint.load(ours, self)

    def __getstate__(self) -> dict[str, Any]:
        # LR schedulers patch an instance-level step in; hooks are closures: neither can be copied or pickled.
        state = {k: v for k, v in self.__dict__.items() if k not in ("step", "_base") and not k.endswith("_hooks")}
        base = {k: v for k, v in self._base.__dict__.items() if k != "step" and not k.endswith("_hooks")}
        return {**state, "_base": (type(self._base), base)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        base = state.get("_base")
        if base is not None:
            kind, attributes = base
            state = {**state, "_base": kind.__new__(kind)}
            state["_base"].__setstate__(attributes)
        super().__setstate__(state)
        if base is None:  # load_state_dict: the base's own repairs of old checkpoints run on the shared groups
            self._base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        else:
            self._link()

    def _link(self) -> None:
        self.param_groups, self.state, self.defaults = self._base.param_groups, self._base.state, self._base.defaults
        # The hooks run once, around our step: the base's is called without its own wrapper where it has one.
        step = type(self._base).step
        self._unhooked = getattr(step, "__wrapped__", step)

    @property
    def _anneals(self) -> bool:
        return self._objective is not None and bool(self._steps)

    @property
    def _memory(self) -> dict[str, Any]:
        """Counters and running totals: in the first group, so that every kind of checkpoint keeps them."""
        return self.param_groups[0]

    @property
    def _discrete(self) -> list[EncodedLevels]:
        return [encoded for encoded in self._encoded if isinstance(encoded, EncodedLevels)]

    def _encode(self, group: dict[str, Any]) -> None:
        encoding = group.get("encoding")
        if encoding is None:
            group.pop("encoding", None)
        elif not hasattr(encoding, "attach"):
            raise TypeError(f"Invalid encoding: {encoding!r}; Levels, Mask or Window is needed")
        else:
            for param in group["params"]:
                self._encoded.append(encoding.attach(param, len(self._encoded)))
        if self._discrete and _needs_closure(self._base):
            raise ValueError(f"Invalid base: {type(self._base).__name__} needs a closure; Levels groups cannot give it one")
        if self._encoded:
            for key in checkpoint.COUNTERS:
                self._memory.setdefault(key, checkpoint.COUNTERS[key])

    def _base_step(self, closure: Callable[[], Any] | None) -> Any:
        return self._unhooked(self._base, closure) if closure is not None else self._unhooked(self._base)

    def _gradient_step(self, closure: Callable[[], Any] | None) -> Any:
        if not self._discrete:
            loss = self._base_step(closure)
        else:
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            self._check_gradients()
            with self._latents():
                self._base_step(None)
            self._train_scales()
        for encoded in self._encoded:
            if not isinstance(encoded, EncodedLevels):
                encoded.after_base()
        return loss

    def _check_gradients(self) -> None:
        for encoded in self._discrete:
            grad = encoded.param.grad
            if grad is not None and not bool(torch.isfinite(grad).all()):
                bad = grad[~torch.isfinite(grad)].flatten()[0].item()
                raise ValueError(
                    f"Invalid gradient: {bad} in a discrete parameter of shape {tuple(grad.shape)}; "
                    "finite gradients are needed, and nothing was moved"
                )

    @contextlib.contextmanager
    def _latents(self) -> Iterator[None]:
        """Let the base see latent weights; once annealing owns the codes, no gradient of them."""
        hidden = [(e.param, e.param.grad) for e in self._discrete if e.latent is None]
        try:
            for encoded in self._discrete:
                encoded.before_base()
            for param, _ in hidden:
                param.grad = None
            yield
            for encoded in self._discrete:
                encoded.after_base()
        except BaseException:
            for encoded in self._discrete:
                encoded.write()
            raise
        finally:
            for param, grad in hidden:
                param.grad = grad

    def _train_scales(self) -> None:
        for group in self.param_groups:
            params = {id(p) for p in group["params"]}
            scaled = [
                e
                for e in self._discrete
                if id(e.param) in params and e.latent is None and e.learns_scale and e.param.grad is not None
            ]
            grads = [e.scale_gradient(e.param.grad) for e in scaled if e.param.grad is not None]
            train_scales(self._refit["scale"], scaled, grads, float(group.get("lr", 1e-3)))

    def _anneal_if_due(self, step: int, memory: dict[str, Any]) -> None:
        assert self._objective is not None
        objective, schedule = self._objective, self._schedule
        now = time.perf_counter()
        if schedule.budget is not None:
            memory["anneal_clock"] += now - self.__dict__.get("_ticked", now)
        due = schedule.due(step, lambda: float(objective()), memory)
        if due:
            span = schedule.span(step)
            spent = memory["anneal_model"] + memory["anneal_sample"] + memory["anneal_judge"]
            if schedule.budget is None or spent <= schedule.budget * memory["anneal_clock"]:
                self._anneal(span, memory["anneal_reference"] if span else math.nan, self._best if span else Best())
            if span is not None and span.round == span.rounds - 1:
                self.restore_best()
                self._best = Best()
                memory["anneal_reference"] = math.nan
        if schedule.budget is not None:
            self._ticked = now

    def _anneal(self, span: Span | None, reference: float, best: Best) -> AnnealRecord:
        assert self._objective is not None
        memory, objective = self._memory, self._objective
        number = memory["anneal_calls"]
        step = self._steps[number % len(self._steps)]
        view = self._view(span, reference, best)
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(seed)
        try:
            with objective.frozen():
                record = step(view, objective, generator)
        except Fallback as reason:
            record = AnnealRecord(memory["anneal_step"], step.name, fallback=str(reason))
        if span is None:
            view.restore(best)
        else:
            memory["anneal_reference"] = view.reference
        self.records.append(record)
        add_up(memory, record)
        return record

    def _view(self, span: Span | None, reference: float, best: Best) -> View:
        encoded = {id(e.param) for e in self._encoded}
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        continuous = [p for p in params if id(p) not in encoded and p.is_floating_point()]
        return View(
            self._encoded,
            continuous,
            self._memory.get("anneal_step", 0),
            span,
            reference,
            best,
            self._refit["refit"],
            self._refit["refit_scale"],
        )


def _steps(annealing: Step | Sequence[Step] | None) -> list[Step]:
    if annealing is None:
        return []
    steps: list[Any] = list(annealing) if isinstance(annealing, (list, tuple)) else [annealing]
    for step in steps:
        if not callable(step) or not hasattr(step, "name"):
            raise TypeError(f"Invalid annealing: {step!r}; a step object, such as QuboStep(), is needed")
    return steps


def _moving(lr: float | Tensor) -> bool:
    return bool(lr != 0)


def _needs_closure(base: Optimizer) -> bool:
    parameter = inspect.signature(type(base).step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty
