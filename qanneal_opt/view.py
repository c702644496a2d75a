"""What an annealing step sees of the optimizer: the encoded weights, the temperature, the best state so far."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from qanneal_opt.encoding.base import Encoded, keep_best
from qanneal_opt.encoding.levels import EncodedLevels
from qanneal_opt.moves import Moves
from qanneal_opt.objective import Objective
from qanneal_opt.refit import LR, Adam
from qanneal_opt.schedule import Cooling, Span
from qanneal_opt.telemetry import AnnealRecord


class Fallback(RuntimeError):
    """Annealing cannot go on for a reason that is not the caller's; the optimizer records it and goes on training."""


class Step(Protocol):
    """An annealing step: any object with a name, a call and plain-data state.

    One that leaves work under way also has ``pending``, the number of answers it waits for; ``arrived(step)``, whether
    they are to be judged after so many optimizer steps; and ``finish(view, objective, generator)``, which judges them:
    as a call, with nothing new begun.
    """

    @property
    def name(self) -> str:
        """What records call it."""
        ...

    def __call__(self, view: View, objective: Objective, generator: torch.Generator) -> AnnealRecord:
        """Anneal once. ``generator`` is a CPU generator, seeded anew for each annealing step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Give what has to survive a resume: plain numbers, strings and containers of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        ...


@dataclass(eq=False)
class Best:
    """The best weights of a span: the loss they were judged at, and copies of them."""

    loss: float = math.inf
    encoded: list[dict[str, Tensor]] = field(default_factory=list)
    continuous: dict[Tensor, Tensor] = field(default_factory=dict)  # parameter -> its copy
    buffers: list[Tensor] = field(default_factory=list)  # copies of those that annealing moves

    def forget(self) -> None:
        """Hold nothing."""
        self.loss, self.encoded, self.continuous, self.buffers = math.inf, [], {}, []


@dataclass(eq=False)
class View:
    """The weights under annealing, as a step sees them.

    Attributes:
        encoded: the parameters whose weights annealing moves, in the order of ``Moves.owner``.
        continuous: the parameters that only gradients train.
        buffers: of the model, that annealing moves: modules name them in an attribute ``annealed``.
        step: completed optimizer steps.
        span: which annealing step of the schedule's span this is; None for a span of its own.
        reference: the objective when the span began, the unit of relative temperatures; NaN before that.
        best: the best state of the span.
        weights_adam: moments of the refit of continuous parameters, masked and windowed ones among them.
        scales_adam: moments of the refit of scales.
    """

    encoded: Sequence[Encoded]
    continuous: Sequence[Tensor]
    buffers: Sequence[Tensor] = ()
    step: int = 0
    span: Span | None = None
    reference: float = math.nan
    best: Best = field(default_factory=Best)
    weights_adam: Adam = field(default_factory=Adam)
    scales_adam: Adam = field(default_factory=Adam)

    @property
    def scaled(self) -> list[EncodedLevels]:
        """The discrete parameters whose scale is trained."""
        return [e for e in self.encoded if isinstance(e, EncodedLevels) and e.learns_scale]

    @property
    def trained(self) -> list[Tensor]:
        """What a refit trains by gradients besides scales: all but the discrete parameters."""
        return [*self.continuous, *(e.param for e in self.encoded if not isinstance(e, EncodedLevels))]

    def begin(self, value: Callable[[], float], refit: Callable[[], float] | None = None) -> tuple[float, float]:
        """Evaluate the judged objective and hand the codes over; a span's reference is the value it starts from.

        Args:
            value: gives the objective at the present weights.
            refit: trains what is continuous and gives the objective afterwards; called where codes are handed
                over. Scales that have followed latent weights do not fit the codes, and a reference taken with
                them would be several times too high.

        Returns:
            The value before, and the value where annealing starts: another one only where codes were just handed
            over, or masks just dropped weights.

        Raises:
            Fallback: if it is not finite; nothing moved then.
        """
        before = loss = value()
        if not math.isfinite(before):
            raise Fallback(f"the objective is {before} at the present weights")
        latent = any(e.latent is not None for e in self.scaled)
        if any([encoded.begin() for encoded in self.encoded]):
            self.best.forget()  # of another density, or of other levels
            loss = value()
        if latent and refit is not None:
            loss = refit()
        if math.isnan(self.reference):
            self.reference = loss if loss > 0 else before  # a refit may fit few data exactly
        return before, loss

    def temperature(self, cooling: Cooling, round: int = 0, rounds: int = 1) -> float:
        """Give the temperature: that of the schedule's span, or of ``round`` within a call that is its own span."""
        here = self.span or Span(round, rounds)
        return cooling.at(here.round, here.rounds, self.reference)

    def heat(self, cooling: Cooling, rounds: int, moves: int) -> Tensor:
        """Give the temperatures of a call's rounds of moves: ``(rounds, moves)`` float64.

        In the schedule's span they fall from round to round, in a call that is its own span from move to move.
        """
        if self.span is None:
            falling = [cooling.at(k, rounds * moves, self.reference) for k in range(rounds * moves)]
            return torch.tensor(falling, dtype=torch.float64).view(rounds, moves)
        first, total = self.span.round * rounds, self.span.rounds * rounds
        falling = [cooling.at(first + k, total, self.reference) for k in range(rounds)]
        return torch.tensor(falling, dtype=torch.float64)[:, None].repeat(1, moves)

    def propose(
        self,
        gradients: Sequence[Tensor],
        count: int,
        temperature: float,
        generator: torch.Generator,
        allowed: Sequence[Tensor | None] | None = None,
    ) -> Moves:
        """Give the ``count`` moves of all encoded parameters with the best predicted gains, best first."""
        masks = [None] * len(self.encoded) if allowed is None else allowed
        parts = [
            encoded.propose(gradient, count, temperature, generator, mask)
            for encoded, gradient, mask in zip(self.encoded, gradients, masks, strict=True)
        ]
        return Moves.join([moves for moves, _ in parts]).select(keep_best(torch.cat([s for _, s in parts]), count))

    def sweep(self, generator: torch.Generator) -> Moves:
        """Give one move for each weight, of all encoded parameters, in random order."""
        moves = Moves.join([encoded.sweep(generator) for encoded in self.encoded])
        return moves.select(torch.randperm(len(moves), generator=generator))

    def make(self, moves: Moves) -> None:
        """Make ``moves``, all of them together."""
        for encoded in self.encoded:
            if len(moves.places(encoded.owner)):
                encoded.commit(moves.of(encoded.owner))

    def apply(self, moves: Moves) -> Moves:
        """Make ``moves``, all of them together, and give what takes them back."""
        back = Moves.join([encoded.inverse(moves.of(encoded.owner)) for encoded in self.encoded])
        self.make(moves)
        return back

    def present(self, moves: Moves) -> Tensor:
        """Give the present weights that ``moves`` would change, ``(c,)``, on the CPU."""
        values = torch.zeros_like(moves.value)
        for encoded in self.encoded:
            mine = moves.places(encoded.owner)
            if len(mine):
                index = moves.index[mine].to(encoded.param.device)
                values[mine] = encoded.param.detach().take(index).to(values)
        return values

    def codes(self, moves: Moves) -> Tensor:
        """Give the present codes of the weights that ``moves`` would change, ``(c,)`` int64, on the CPU."""
        codes = torch.zeros_like(moves.index)
        for encoded in self.encoded:
            mine = moves.places(encoded.owner)
            if len(mine):
                codes[mine] = encoded.codes_at(moves.index[mine].to(encoded.param.device)).cpu()
        return codes

    def renewed(self, moves: Moves) -> Moves:
        """Give the moves to the same codes from the present weights: scales and kept values may have moved since."""
        value = torch.zeros_like(moves.value)
        for encoded in self.encoded:
            mine = moves.places(encoded.owner)
            if len(mine):
                value[mine] = encoded.values_after(moves.of(encoded.owner)).to(value)
        return replace(moves, displacement=value - self.present(moves), value=value)

    @contextlib.contextmanager
    def trying(self, moves: Moves) -> Iterator[None]:
        """Make ``moves`` for the length of a block, whatever happens in it."""
        back = self.apply(moves)
        try:
            yield
        finally:
            self.apply(back)

    def nonzero(self) -> int:
        """How many encoded weights are not zero."""
        return sum(int(torch.count_nonzero(encoded.param.detach())) for encoded in self.encoded)

    def consider(self, loss: float) -> None:
        """Keep a copy of the present weights if they are the best of the span so far."""
        if loss < self.best.loss:
            self.best.loss = loss
            self.best.encoded = [encoded.snapshot() for encoded in self.encoded]
            self.best.continuous = {p: p.detach().clone() for p in self.continuous}
            self.best.buffers = [buffer.clone() for buffer in self.buffers]

    def restore(self, best: Best) -> None:
        """Write a kept state; nothing happens if there is none."""
        for encoded, snapshot in zip(self.encoded, best.encoded, strict=False):
            encoded.restore(snapshot)
        with torch.no_grad():
            for p, kept in best.continuous.items():
                p.copy_(kept)
            for buffer, kept in zip(self.buffers, best.buffers, strict=False):
                buffer.copy_(kept)

    def train(self, grads: Sequence[Tensor], scale_grads: Sequence[Tensor], lr: float = LR) -> None:
        """Take one refit step: ``grads`` of :attr:`trained`, ``scale_grads`` of the scales of :attr:`scaled`."""
        self.weights_adam.update(self.trained, [p.detach() for p in self.trained], grads, lr)
        for encoded in self.encoded:
            if not isinstance(encoded, EncodedLevels):
                encoded.after_base()
        train_scales(self.scales_adam, self.scaled, scale_grads, lr)


def train_scales(adam: Adam, scaled: Sequence[EncodedLevels], grads: Sequence[Tensor], lr: float) -> None:
    """Take one Adam step on scales, which stay positive, and write the weights."""
    scales = [encoded.scale.clone() for encoded in scaled]
    adam.update([encoded.param for encoded in scaled], scales, grads, lr)
    for encoded, scale in zip(scaled, scales, strict=True):
        encoded.set_scale(scale)
