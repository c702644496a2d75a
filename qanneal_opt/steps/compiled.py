"""The judged objective of a stack of Linear layers, evaluated incrementally by compiled code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.moves import Moves
from qanneal_opt.objective import Objective
from qanneal_opt.qubo import Qubo
from qanneal_opt.refit import BETAS, LR
from qanneal_opt.steps.blocks import Block
from qanneal_opt.steps.evaluator import Evaluator, Tally, all_finite, as_one
from qanneal_opt.steps.stack import Stack, Unsupported
from qanneal_opt.steps.stack_refit import Refit
from qanneal_opt.steps.stack_rounds import State, anneal
from qanneal_opt.view import Fallback, View

# A stack, its refit, and what rounds in one call record hold copies of the weights, beside the model's own. Past this
# many bytes they would lift training above 1.5 times the base optimizer's peak; the general path holds one gradient.
MOST_BYTES = 1 << 26
RECORDED = 104  # bytes a weight that rounds in one compiled call take; by then a call a round costs nothing


class Refits:
    """Keeps the last refit: its buffers serve as long as the same weights of the same stack are trained."""

    def __init__(self) -> None:
        self._like: tuple[Any, ...] = ()
        self._refit: Refit | None = None

    def __call__(self, stack: Stack, scaled: Sequence[EncodedLevels], trained: Sequence[Any]) -> Refit:
        """Give the refit of ``scaled`` parameters' scales and of ``trained`` parameters."""
        owners: list[Any] = [e.param for e in scaled]
        like = (stack, *owners, None, *trained)
        if self._refit is None or len(like) != len(self._like) or any(a is not b for a, b in zip(like, self._like)):
            self._refit = stack.refit(owners, [e.scale for e in scaled], trained)
            self._like = like
        return self._refit


class CompiledEvaluator(Evaluator):
    """The evaluator of a :class:`Stack`: exact changes of single weights cost a small part of a forward pass."""

    def __init__(self, view: View, objective: Objective, l0: float, stack: Stack, refits: Refits) -> None:
        super().__init__(view, objective, l0)
        self.stack = stack
        self.refits = refits
        self.owners: list[Any] = [encoded.param for encoded in view.encoded]
        self.levels = [encoded for encoded in view.encoded if isinstance(encoded, EncodedLevels)]
        # Codes that compiled loops may move: their weights are levels[code] * scale.
        self._plain = len(self.levels) == len(view.encoded) and all(e.zero is None for e in self.levels)

    def value(self) -> float:
        """Read the present weights, and evaluate the judged objective."""
        self.loss = self.stack.load() + self.price()
        return self.loss

    def gradients(self) -> list[Tensor]:
        """Give the objective's gradient for each encoded parameter; valid until the next call."""
        with self.clock("model"):
            found = self._gradients(self.owners)
        if not all_finite(found):
            raise Fallback("the gradient of the objective is not finite")
        return found

    def losses(self, candidates: Sequence[Moves]) -> list[float]:
        """Give the judged objective after each candidate set of moves, by exact changes."""
        if not candidates:
            return []
        with self.clock("judge"):
            whole = Moves.join([as_one(moves) for moves in candidates])
            changes = self.stack.deltas(whole, self.owners) + self._prices(whole)
            return [self.loss + change for change in changes.tolist()]

    def take(self, moves: Moves, loss: float) -> None:
        """Make moves in the stack and in the parameters."""
        super().take(moves, loss)
        self.loss = self.stack.apply(moves, self.owners) + self.price()

    def qubo(self, block: Block, curvature: str) -> Qubo:
        """Give exact single-move changes as linear part and Gauss-Newton couplings; else the general model."""
        if curvature != "ggn" or block.window is not None:
            return super().qubo(block, curvature)
        moves = block.moves
        with self.clock("model"):
            linear = self.stack.deltas(moves, self.owners) + self._prices(moves)  # (m,)
            # The exact changes hold the diagonal.
            couplings = self.stack.couplings(moves, self.owners).fill_diagonal_(0.0)  # (m, m)
            try:
                return Qubo(linear, couplings)
            except ValueError as error:
                raise Fallback(str(error)) from error

    def metropolis(self, moves: Moves, temperatures: Tensor, uniforms: Tensor) -> Tensor:
        """Judge and make moves one after the other, in one compiled call."""
        with self.clock("judge"):
            accepted = self.stack.metropolis(moves, self.owners, temperatures, uniforms)
            self.view.make(moves.select(accepted))
            self.loss = self.stack.value + self.price()
        return accepted

    def rounds(self, heat: Tensor, proposals: int, steps: int, generator: torch.Generator) -> Tally:
        """Anneal in one compiled call, where all moves are gradient-ranked ones of levels."""
        small = RECORDED * sum(p.numel() for p in self.owners) <= MOST_BYTES
        ranked = heat.shape[1] == proposals and self._plain
        refit = self._refit() if small and ranked else None
        if refit is None:
            return super().rounds(heat, proposals, steps, generator)
        self.gradients()  # refuses what is not finite
        view = self.view
        hot, seed = float(heat[-1, -1]) > 0, int(torch.randint(2**62, (), generator=generator))
        with self.clock("judge"):
            done = anneal(refit, self.levels, heat, steps, self._moments(), seed, view.best.loss if hot else -math.inf)
            if done.best is not None:
                self._write(done.best)
                view.consider(done.best.value)
            self._write(done.last)
        self.loss = done.last.value
        return Tally(done.judged, done.moved, done.moved, done.gained)

    def sweep(self, temperatures: Sequence[float], generator: torch.Generator) -> tuple[int, int]:
        """Sweep in one compiled call, where all encoded parameters have levels, and no zero points."""
        encoded = self.levels
        if not self._plain:
            return super().sweep(temperatures, generator)
        seed = int(torch.randint(2**62, (), generator=generator))
        heat = torch.tensor(temperatures, dtype=torch.float64)
        with self.clock("judge"):
            swept = self.stack.sweep(
                [e.codes for e in encoded],
                [e.levels for e in encoded],
                [e.scale for e in encoded],
                self.owners,
                heat,
                seed,
            )
            if float(heat.max()) > 0 and swept.best_value < self.view.best.loss:
                for e, codes in zip(encoded, swept.best_codes):
                    e.set_codes(codes)
                self.view.consider(swept.best_value)
            for e, codes in zip(encoded, swept.codes):
                e.set_codes(codes)
            self.loss = swept.value
        return swept.proposed, swept.accepted

    def refit(self, steps: int, temperature: float) -> float:
        """As the general path, and have the stack follow where it was torch's parameters that changed."""
        after = super().refit(steps, temperature)
        if self.stack.value + self.price() != after:  # trained the general way, or undone
            self.stack.load()
        return after

    def _train(self, steps: int) -> float:
        refit = self._refit()
        if refit is None:
            return super()._train(steps)
        value = refit.train(steps, self._moments(), lr=LR, betas=BETAS)
        self._write_continuous(refit.values)
        return value + self.price()

    def _refit(self) -> Refit | None:
        """Give what refits the present weights by compiled steps; None where that cannot be."""
        view, scaled = self.view, self.view.scaled
        if len(view.trained) > len(view.continuous):
            return None  # masks have to be kept at every step
        try:
            refit = self.refits(self.stack, scaled, view.continuous)
        except Unsupported:
            return None
        refit.load([e.signs for e in scaled], [e.scale for e in scaled])
        return refit

    def _moments(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        view = self.view
        scales = [view.scales_adam.moments(e.param, e.scale) for e in view.scaled]
        return scales + [view.weights_adam.moments(p, p) for p in view.continuous]

    def _write(self, state: State) -> None:
        """Write a state to the torch parameters."""
        for e, codes in zip(self.levels, state.codes):
            e.codes.copy_(codes)
        self._write_continuous(state.unknowns)
        for e in self.levels:
            e.write()

    def _write_continuous(self, values: Sequence[Tensor]) -> None:
        scaled, continuous = self.view.scaled, self.view.continuous
        with torch.no_grad():
            for p, trained in zip(continuous, values[len(scaled) :]):
                p.copy_(trained)
        for e, scale in zip(scaled, values):
            e.set_scale(scale.view(e.scale.shape).to(e.scale, copy=True))

    def _gradients(self, params: Sequence[Tensor]) -> list[Tensor]:
        by_param = dict(zip(map(id, self.stack.parameters), self.stack.gradients()))
        return [by_param[id(p)] for p in params]
