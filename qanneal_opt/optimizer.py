"""The optimizer: a base optimizer's gradient steps, and annealing steps when they are due."""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo as disable_dynamo
from torch.optim.optimizer import Optimizer

from qanneal_opt import checkpoint, latents
from qanneal_opt.alternation import Alternation
from qanneal_opt.encoding.base import Encoded
from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.encoding.levels import Levels
from qanneal_opt.objective import Objective
from qanneal_opt.schedule import Every, Schedule
from qanneal_opt.telemetry import AnnealRecord, summarize
from qanneal_opt.view import Step, View


class AnnealingOptimizer(Optimizer):
    r"""Gradient steps of a base optimizer in turn with annealing steps on a quadratic or exact objective.

    Every :meth:`step` is one step of the base. When ``schedule`` says so, an annealing step follows: it
    proposes moves of the weights whose group carries an ``"encoding"``, and judges them by ``objective``.
    Without ``objective`` or without ``annealing`` nothing is annealed, and without encodings either this
    is the base, bit for bit.

    Args:
        params: as everywhere in torch; a group may carry ``"encoding"``: :class:`Levels`, :class:`Mask` or
            :class:`Window`. None is needed for what annealing moves among the buffers of the objective's model:
            the literals of a :class:`RuleLayer`.
        base: an optimizer class, or a factory ``base(params, **base_options)``.
        objective: the loss that annealing judges moves by.
        annealing: one annealing step object, or a list tried in turn, one each time.
        schedule: when to anneal.
        seed: every annealing step draws from a generator seeded by ``seed`` and its own number.
        **base_options: go to ``base``.

    Raises:
        TypeError: if ``base`` makes no optimizer, or an argument is of a kind that cannot serve.
        ValueError: if annealing has nothing to work on, or ``base`` needs a closure and a group has Levels.

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
        self._alternation = Alternation(objective, annealing, schedule, seed)
        self._encoded: list[Encoded] = []
        self._levels: list[EncodedLevels] = []  # those of _encoded that have levels
        self._adams = checkpoint.adams()
        self._loading: checkpoint.Tensors = {}
        super().__init__(self._base.param_groups, self._base.defaults)  # the hooks; the groups are the base's own
        self._link()
        for group in self.param_groups:
            self._encode(group)
        if self._alternation.anneals:
            if not self._encoded and not self._alternation.buffers:
                raise ValueError('Invalid annealing: no group carries an "encoding", so there is nothing to anneal')
            self._count()

    @property
    def objective(self) -> Objective | None:
        """The loss that annealing judges moves by."""
        return self._alternation.objective

    @property
    def records(self) -> deque[AnnealRecord]:
        """The last 10,000 :class:`AnnealRecord`."""
        return self._alternation.records

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
        ours = self._encoded or self._alternation.anneals
        return self._encoded_step(closure) if ours else self._base_step(closure)

    @disable_dynamo
    def anneal(self) -> AnnealRecord:
        """Take one annealing step now, a span of its own: at T > 0 it ends at the best state it saw.

        Raises:
            ValueError: if there is no objective or no annealing step.
        """
        return self._alternation.anneal(self._view(), self._memory)

    @disable_dynamo
    def restore_best(self) -> None:
        """Put back the best weights and scales of the present span; the base's state stays. No-op without one.

        What an asynchronous step has under way is judged before.
        """
        self._alternation.finish(self._view(), self._memory)

    def summary(self, *, watts_per_core: float | None = None) -> str:
        """Give a short table of what annealing did, what it cost and what it was worth.

        *whole run* counts from the first step, and before a resume up to the last annealing step that was saved: CPU
        seconds of all threads, seconds of wall clock, and seconds that a quantum annealer was occupied. Joules are in
        the table where the machine counts them (RAPL of the processors, NVML of GPUs), of all that it did meanwhile.

        Args:
            watts_per_core: power of a busy core. With it there is a row with an estimate of the energy: it times CPU
                seconds, without idle cores, memory, GPUs and quantum annealers.

        Raises:
            ValueError: if ``watts_per_core`` is not a positive finite number.
        """
        if watts_per_core is not None and not 0 < watts_per_core < math.inf:
            raise ValueError(f"Invalid watts_per_core: {watts_per_core}; a positive finite number, or None, is needed")
        meter = self._alternation.meter
        if meter is not None:
            self._alternation.measure(self._memory)
        counters = meter.names if meter is not None else ""
        last = self.records[-1] if self.records else None
        return summarize(self._memory, last, counters, watts_per_core, self._alternation.ledgers)

    def codes(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Give codes and scale of a discrete parameter: ``p == (levels[codes] - zero) * scale`` exactly.

        Returns:
            Codes, int64 and of the shape of ``p``: places in the ascending ``values`` of its ``Levels``; and
            the scale, which broadcasts to ``p``. Both are copies.

        Raises:
            KeyError: if ``p`` is in no group with ``Levels``.
        """
        for encoded in self._levels:
            if encoded.param is p:
                encoded.adopt()
                return encoded.codes.long(), encoded.scale.clone()
        raise KeyError("Invalid p: it is in no group with a Levels encoding")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, which may carry an ``"encoding"``."""
        if self.__dict__.get("param_groups") is not self._base.param_groups:  # while torch's constructor runs
            super().add_param_group(param_group)
            return
        self._base.add_param_group(param_group)
        try:
            self._encode(self.param_groups[-1])
        except BaseException:
            del self.param_groups[-1]
            raise

    def state_dict(self) -> dict[str, Any]:
        """Give the base's state with ours merged in: plain tensors, numbers and strings only.

        Which keys there are depends on groups and options alone, never on what happened so far, so that
        distributed checkpoints can plan a load.
        """
        for levels in self._levels:
            levels.adopt()
        ours = self.register_state_dict_post_hook(checkpoint.merge, prepend=True)  # the user's hooks see all of it
        try:
            return super().state_dict()
        finally:
            ours.remove()

    @disable_dynamo
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` gave, or the state of a plain base optimizer.

        Raises:
            ValueError: if groups, encodings or shapes differ from those of this optimizer; nothing is loaded then.
        """
        ours = self.register_load_state_dict_pre_hook(checkpoint.take)  # behind the user's hooks
        try:
            super().load_state_dict(state_dict)
        finally:
            ours.remove()
            self._loading = {}

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in _portable(self).items() if k not in ("_base", "_unhooked")}
        return {**state, "_base": (type(self._base), _portable(self._base))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_base" in state:
            kind, attributes = state["_base"]
            base = kind.__new__(kind)
            base.__setstate__(attributes)
            super().__setstate__({**state, "_base": base})
            self._link()
            return
        # load_state_dict: the base sees the new groups, and its own repairs of old checkpoints run on them.
        encodings = [group.get("encoding") for group in self.param_groups]
        super().__setstate__(state)
        self._base.__setstate__({"state": self.state, "param_groups": self.param_groups})
        for group, encoding in zip(self.param_groups, encodings, strict=True):
            group.pop("encoding", None)
            if encoding is not None:
                group["encoding"] = encoding
        checkpoint.load(self, self._loading)

    def _link(self) -> None:
        self.param_groups, self.state, self.defaults = (
            self._base.param_groups,
            self._base.state,
            self._base.defaults,
        )
        # Hooks run once, around our step: the base's is called without the wrapper that torch put around it.
        step: Any = type(self._base).step
        self._unhooked = step.__wrapped__ if getattr(step, "hooked", False) else step

    @property
    def _memory(self) -> dict[str, Any]:
        """Counters and running totals: in the first group, so that every kind of checkpoint keeps them."""
        return self.param_groups[0]

    def _encode(self, group: dict[str, Any]) -> None:
        encoding = group.get("encoding")
        if encoding is None:
            group.pop("encoding", None)
            return
        if not hasattr(encoding, "attach") or isinstance(encoding, type):
            raise TypeError(f"Invalid encoding: {encoding!r}; Levels(...), Mask(...) or Window(...) is needed")
        if isinstance(encoding, Levels) and _needs_closure(self._base):
            raise ValueError(
                f"Invalid base: {type(self._base).__name__} needs a closure; Levels groups cannot give it one"
            )
        attached: list[Encoded] = []
        for param in dict.fromkeys(group["params"]):
            if hasattr(param, "to_local"):
                raise TypeError("Invalid params: a sharded DTensor; an encoding needs the whole tensor on each rank")
            attached.append(encoding.attach(param, len(self._encoded) + len(attached)))
        self._encoded += attached
        self._levels += [encoded for encoded in attached if isinstance(encoded, EncodedLevels)]
        self._count()

    def _count(self) -> None:
        for key, value in checkpoint.counters().items():
            self._memory.setdefault(key, value)

    def _base_step(self, closure: Callable[[], Any] | None) -> Any:
        return self._unhooked(self._base, closure) if closure is not None else self._unhooked(self._base)

    def _announced_step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self._base_step(closure)
        checkpoint.announce(self)
        return loss

    @disable_dynamo
    def _encoded_step(self, closure: Callable[[], Any] | None) -> Any:
        moving = any(bool(group.get("lr", 1.0) != 0) for group in self.param_groups)
        loss = self._gradient_step(closure, moving)
        if self._alternation.anneals and moving:
            self._alternation.after(self._view, self._memory)
        return loss

    def _gradient_step(self, closure: Callable[[], Any] | None, moving: bool) -> Any:
        loss = None
        try:
            if not self._levels:
                loss = self._announced_step(closure)
            else:
                if closure is not None:
                    with torch.enable_grad():
                        loss = closure()
                latents.base_step(self._levels, self._announced_step, partial(checkpoint.announced, self), moving)
        finally:
            for encoded in self._encoded:
                if not isinstance(encoded, EncodedLevels):
                    encoded.after_base()
        if moving:
            latents.scale_step(self._levels, self.param_groups, self._adams["scale"])
        return loss

    def _view(self) -> View:
        encoded = {e.param for e in self._encoded}
        params = dict.fromkeys(p for group in self.param_groups for p in group["params"])
        return View(
            self._encoded,
            continuous=[p for p in params if p.requires_grad and p.is_floating_point() and p not in encoded],
            buffers=self._alternation.buffers,
            step=self._memory.get("anneal_step", 0),
            weights_adam=self._adams["refit"],
            scales_adam=self._adams["refit_scale"],
        )


def _portable(optimizer: Optimizer) -> dict[str, Any]:
    """Attributes without the step that LR schedulers patch in and without hooks: neither can be copied or pickled."""
    return {k: v for k, v in optimizer.__dict__.items() if k != "step" and not k.endswith("_hooks")}


def _needs_closure(base: Optimizer) -> bool:
    parameter = inspect.signature(type(base).step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty
