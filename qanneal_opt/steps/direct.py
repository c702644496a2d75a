"""Simulated annealing of discrete weights on the true objective, in turn with gradient refits."""

from __future__ import annotations

from typing import Any

import torch

from qanneal_opt.checks import check_int
from qanneal_opt.encoding.window import EncodedWindow
from qanneal_opt.objective import Objective
from qanneal_opt.schedule import Cooling
from qanneal_opt.steps.evaluators import Evaluators
from qanneal_opt.telemetry import AnnealRecord
from qanneal_opt.view import View


class DirectStep:
    r"""Rounds of simulated annealing of discrete weights on the true objective.

    A round proposes the moves with the smallest scores

    .. math:: s_k = g_k d_k - T\,\mathrm{Gumbel}_k

    (g the gradient, d the displacement that move k makes), evaluates each exactly on all the data, accepts
    it if the objective falls or with probability :math:`\exp(-\Delta J / T)`, and then trains scales and
    continuous parameters for ``refit`` full-batch steps. It is an optimiser, not an exact sampler: gradient
    ranking is not symmetric. Stacks of Linear layers with common activations and losses are evaluated
    incrementally by compiled code, any other model by full forward passes.

    Args:
        proposals: gradient-ranked moves a round; 5 to 10% of the weights work well.
        sweeps: uniform sweeps over all weights a round, after the proposals.
        rounds: rounds a call. Stacks with Levels and no sweeps run all of them in one compiled call, without
            the overhead of Python between them; all of its time then counts as ``judge``.
        temperature: first and last, falling geometrically over the rounds of the schedule's span; without a
            span, over this call's proposals and sweeps. 0.0 accepts only what lowers the objective.
        temperature_unit: ``"relative"`` to the objective when annealing began (after the first refit, if there is
            one), or ``"absolute"``.
        refit: full-batch Adam steps (lr 5e-3, betas .9, .99) on scales and continuous parameters after a
            round; undone at T = 0 if they raise the objective. Ten times as many come before the first moves
            where codes are handed over: scales that have followed latent weights do not fit them.
        smoothing: label smoothing of the judged cross-entropy.

    Raises:
        ValueError: if a number is outside its range; when called, on groups with a :class:`Window`.
    """

    name = "direct"

    def __init__(
        self,
        *,
        proposals: int = 48,
        sweeps: int = 0,
        rounds: int = 1,
        temperature: float | tuple[float, float] = (0.1, 0.005),
        temperature_unit: str = "relative",
        refit: int = 10,
        smoothing: float = 0.0,
    ) -> None:
        for name, count, least in (
            ("proposals", proposals, 0),
            ("sweeps", sweeps, 0),
            ("refit", refit, 0),
            ("rounds", rounds, 1),
        ):
            check_int(name, count, least)
        if proposals == 0 and sweeps == 0:
            raise ValueError("Invalid proposals: 0; with sweeps=0 there would be nothing to do")
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"Invalid smoothing: {smoothing}; a number in [0, 1) is needed")
        self.proposals = proposals
        self.sweeps = sweeps
        self.rounds = rounds
        self.cooling = Cooling.of(temperature, temperature_unit)
        self.refit = refit
        self.smoothing = smoothing
        self._evaluators = Evaluators()

    def __call__(self, view: View, objective: Objective, generator: torch.Generator) -> AnnealRecord:
        """Anneal for so many rounds."""
        if any(isinstance(encoded, EncodedWindow) for encoded in view.encoded):
            raise ValueError("Invalid encoding: Window; DirectStep moves Levels and Mask groups, QuboStep all three")
        evaluator = self._evaluators(view, objective.smoothed(self.smoothing))
        before, loss = evaluator.begin(self.refit)
        heat = view.heat(self.cooling, self.rounds, self.proposals + self.sweeps)
        if float(heat[0, 0]) > 0:
            view.consider(loss)
        tally = evaluator.rounds(heat, self.proposals, self.refit, generator)
        return AnnealRecord(
            step=view.step,
            strategy=self.name,
            variables=sum(encoded.param.numel() for encoded in view.encoded),
            candidates=tally.judged,
            predicted=tally.gained,  # every candidate is evaluated exactly: nothing is foreseen but the truth
            actual=tally.gained,
            accepted=tally.accepted,
            moved=tally.moved,
            loss_before=before,
            loss_after=evaluator.loss,
            seconds=dict(evaluator.seconds),
            temperature=float(heat[-1, -1]),
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing has to survive a resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""
