"""What steps ask of the judged objective at the present weights, for any model and any loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from qanneal_opt.curvature import ggn, hessian
from qanneal_opt.moves import Moves
from qanneal_opt.objective import Objective
from qanneal_opt.quadratic import QuadraticModel
from qanneal_opt.qubo import Qubo
from qanneal_opt.steps import together
from qanneal_opt.steps.blocks import Block
from qanneal_opt.subset import Subset
from qanneal_opt.view import Best, Fallback, View

CURVATURES = {"ggn": ggn, "hessian": hessian}
FIRST = 10  # times as many refit steps where codes are handed over


@dataclass
class Tally:
    """What rounds of annealing did: moves judged, accepted, weights moved, and what moves alone changed f by."""

    judged: int = 0
    accepted: int = 0
    moved: int = 0
    gained: float = 0.0

    def add(self, judged: int, accepted: int, moved: int) -> None:
        """Count some more."""
        self.judged, self.accepted, self.moved = self.judged + judged, self.accepted + accepted, self.moved + moved


class Evaluator:
    """The judged objective ``f(w) + l0 * #{nonzero encoded weights}``, and moves of weights under it.

    This is the general path: exact for every model and loss, a forward pass over all the data for each
    trial. :class:`~qanneal_opt.steps.compiled.CompiledEvaluator` does the same incrementally for stacks of
    Linear layers.

    Args:
        view: the weights under annealing.
        objective: frozen by the caller.
        l0: the price of a nonzero encoded weight, in units of the objective.
    """

    def __init__(self, view: View, objective: Objective, l0: float = 0.0) -> None:
        self.view = view
        self.objective = objective
        self.l0 = l0
        self.loss = math.nan
        self.seconds = {"model": 0.0, "sample": 0.0, "judge": 0.0}

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add the block's wall-clock to a phase of the record."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += perf_counter() - start

    def value(self) -> float:
        """Evaluate the judged objective at the present weights, and take it as the present loss."""
        self.loss = float(self.objective()) + self.price()
        return self.loss

    def begin(self, steps: int) -> tuple[float, float]:
        """Begin as :meth:`View.begin`, with so many refit steps where codes are handed over.

        Raises:
            ValueError: if no weight is encoded, so that there is nothing to move.
        """
        if not self.view.encoded:
            raise ValueError('Invalid annealing: no group carries an "encoding", and this step moves nothing else')
        return self.view.begin(self.value, lambda: self.refit(FIRST * steps, 0.0))

    def gradients(self) -> list[Tensor]:
        """Give the objective's gradient for each encoded parameter, without the l0 term.

        Raises:
            Fallback: if it is not finite.
        """
        with self.clock("model"):
            _, grads = self.objective.gradient([encoded.param for encoded in self.view.encoded])
        if not all_finite(grads):
            raise Fallback("the gradient of the objective is not finite")
        return grads

    def losses(self, candidates: Sequence[Moves]) -> list[float]:
        """Give the judged objective after each candidate set of moves; the weights stay as they are."""
        moving = [moves for moves in candidates if len(moves)]
        with self.clock("judge"):
            found = together.losses(self.objective, [encoded.param for encoded in self.view.encoded], moving)
            if found is None:
                found = [self._after(moves) for moves in moving]
            prices = self.price() + self._prices(Moves.join([as_one(moves) for moves in moving]))
        values = iter((torch.tensor(found, dtype=torch.float64) + prices).tolist())
        return [next(values) if len(moves) else self.loss for moves in candidates]

    def take(self, moves: Moves, loss: float) -> None:
        """Make moves whose loss is known."""
        self.view.make(moves)
        self.loss = loss

    def qubo(self, block: Block, curvature: str) -> Qubo:
        """Build the quadratic model over the weights of ``block``, in its bits.

        Raises:
            Fallback: if gradient or curvature is not finite.
        """
        encoded, moves = self.view.encoded, block.moves
        subset = Subset(tuple(e.param for e in encoded), moves.owner, moves.index)
        slope = subset.gather(self.gradients()).cpu()  # (n,): the whole gradient is not held any longer
        with self.clock("model"):
            try:
                matrix = CURVATURES[curvature](self.objective, subset)
                model = QuadraticModel(slope, matrix.cpu())
            except ValueError as error:
                raise Fallback(str(error)) from error
            weights = subset.gather([e.param.detach() for e in encoded]).cpu() if self.l0 else None
            return model.encode(block.affine, weights=weights, l0=self.l0)

    def metropolis(self, moves: Moves, temperatures: Tensor, uniforms: Tensor) -> Tensor:
        """Judge moves one after the other at their temperatures ``(m,)``, and make those that are accepted.

        Returns:
            ``(m,)`` bool: which were accepted.
        """
        accepted = torch.zeros(len(moves), dtype=torch.bool)
        with self.clock("judge"):
            for place in range(len(moves)):
                move = moves.select(torch.tensor([place]))
                back = self.view.apply(move)
                kept = False
                try:
                    loss = float(self.objective()) + self.price()
                    kept = _accepts(loss - self.loss, float(temperatures[place]), float(uniforms[place]))
                finally:
                    if not kept:
                        self.view.apply(back)
                if kept:
                    self.loss = loss
                accepted[place] = kept
        return accepted

    def rounds(self, heat: Tensor, proposals: int, steps: int, generator: torch.Generator) -> Tally:
        """Anneal in rounds: gradient-ranked proposals, uniform sweeps, refit steps; keep the best state seen.

        Args:
            heat: ``(rounds, proposals + sweeps)`` float64, temperatures in units of the objective.
            proposals: moves a round, those with the best predicted gains.
            steps: refit steps a round.
            generator: of ranks and acceptance.
        """
        tally = Tally()
        for temperatures in heat:
            before = self.loss
            if proposals:
                hot = float(temperatures[0])
                moves = self.view.propose(self.gradients(), proposals, hot, generator)
                uniforms = torch.rand(len(moves), generator=generator, dtype=torch.float64)
                taken = self.metropolis(moves, temperatures[: len(moves)], uniforms)
                moved = int(moves.start.diff()[taken].sum())
                tally.add(len(moves), int(taken.sum()), moved)
            if len(temperatures) > proposals:
                judged, accepted = self.sweep(temperatures[proposals:].tolist(), generator)
                tally.add(judged, accepted, accepted)
            tally.gained += self.loss - before
            last = float(temperatures[-1])
            self.refit(steps, last)
            if last > 0:
                self.view.consider(self.loss)
        return tally

    def sweep(self, temperatures: Sequence[float], generator: torch.Generator) -> tuple[int, int]:
        """Sweep over all weights in random order, once for each temperature; keep the best state seen.

        Returns:
            How many moves were judged, and how many accepted.
        """
        judged = accepted = 0
        for temperature in temperatures:
            moves = self.view.sweep(generator)
            uniforms = torch.rand(len(moves), generator=generator, dtype=torch.float64)
            accepted += int(self.metropolis(moves, torch.full((len(moves),), temperature), uniforms).sum())
            judged += len(moves)
            if temperature > 0:
                self.view.consider(self.loss)
        return judged, accepted

    def refit(self, steps: int, temperature: float) -> float:
        """Train continuous parameters and scales by full-batch steps; undone at T = 0 if that raises the objective.

        Returns:
            The judged objective afterwards.
        """
        view = self.view
        if steps == 0 or not (view.trained or view.scaled):
            return self.loss
        before, undo = self.loss, Best()
        state = View(view.encoded, view.continuous, best=undo)
        state.consider(before)
        with self.clock("model"):
            after = self._train(steps)
        if not math.isfinite(after) or (temperature == 0 and after > before):
            view.restore(undo)
            after = before
        self.loss = after
        return after

    def price(self) -> float:
        """Give the l0 term of the present weights."""
        return self.l0 * self.view.nonzero() if self.l0 else 0.0

    def _train(self, steps: int) -> float:
        trained, scaled = self.view.trained, self.view.scaled
        for _ in range(steps):
            _, grads = self.objective.gradient([*trained, *(encoded.param for encoded in scaled)])
            if not all_finite(grads):
                return math.nan
            pairs = zip(scaled, grads[len(trained) :], strict=True)
            self.view.train(grads[: len(trained)], [e.scale_gradient(grad) for e, grad in pairs])
            del grads, pairs  # before the next ones are made
        return float(self.objective()) + self.price()

    def _after(self, moves: Moves) -> float:
        with self.view.trying(moves):
            return float(self.objective())

    def _prices(self, moves: Moves) -> Tensor:
        """``(m,)`` float64: what each move adds to the l0 term."""
        prices = torch.zeros(len(moves), dtype=torch.float64)
        if self.l0:
            change = (moves.value != 0).double() - (self.view.present(moves) != 0).double()
            prices.index_add_(0, moves.bit, self.l0 * change)
        return prices


def _accepts(change: float, temperature: float, uniform: float) -> bool:
    if not math.isfinite(change):
        return False
    return change < 0 or (temperature > 0 and uniform < math.exp(-change / temperature))


def as_one(moves: Moves) -> Moves:
    """All of ``moves`` together as one move."""
    start = torch.tensor([0, len(moves.index)])
    return Moves(moves.owner, moves.index, moves.displacement, moves.value, moves.target, start)


def all_finite(grads: Sequence[Tensor]) -> bool:
    """Whether every number in ``grads`` is finite."""
    return bool(torch.stack([norm.cpu() for norm in torch._foreach_norm(list(grads))]).isfinite().all())
