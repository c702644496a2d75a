"""Sample a quadratic model of the objective, then correct by the true objective."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from qanneal_opt import judge, samplers
from qanneal_opt.encoding.window import EncodedWindow
from qanneal_opt.moves import Moves
from qanneal_opt.objective import Objective
from qanneal_opt.schedule import Cooling
from qanneal_opt.steps.blocks import Block, split
from qanneal_opt.steps.compiled import Evaluators
from qanneal_opt.steps.evaluator import CURVATURES, Evaluator
from qanneal_opt.telemetry import AnnealRecord
from qanneal_opt.view import Fallback, View

SUBSETS = ("gain", "row", "random")


class QuboStep:
    r"""Sample a QUBO over candidate moves at temperature T, and accept by the true objective.

    Around the present weights, over candidate moves with displacement d of n weights,

    .. math:: f(w + d) - f(w) \approx E = g \cdot d + \tfrac12 d^\top H d + \ell_0\,\#\{i : w_i + d_i \neq 0\}

    with one bit a move (windows: ``bits`` bits a weight) and H the Gauss-Newton matrix. A sampler draws bits
    b from :math:`\exp(-E(b)/T)`; they replace the present ones with probability

    .. math:: \min(1, \exp(-((f(b) - f(b_{now})) - (E(b) - E(b_{now}))) / T))

    so that with candidates and surrogate held fixed :math:`\exp(-f/T)` stays invariant. Since both are built
    anew in each block, the whole is an optimiser. A sampler that met another temperature T' than it was asked for has
    :math:`(E(b) - E(b_{now}))\,T/T'` taken out instead. At ``temperature=0.0`` it takes the best of ``num_reads``
    low-energy samples by the true objective, and only if it is better: the ground-state control.

    Args:
        sampler: anything that :func:`samplers.resolve` understands. Where the temperature of its draws is not known,
            they are judged by plain Metropolis, and the record's ``sampler_info`` says so.
        curvature: ``"ggn"`` or ``"hessian"``.
        subset: where candidates come from: ``"gain"`` (all encoded weights, ranked by predicted gain),
            ``"row"`` (the same within one row of one parameter, drawn at random) or ``"random"``.
        proposals: candidate moves a call.
        variables: the most bits in one QUBO; candidates are split into blocks of that many.
        temperature: first and last, falling geometrically over the schedule's span; without a span, over
            this call's blocks.
        temperature_unit: ``"relative"`` to the objective when annealing began, or ``"absolute"``.
        num_reads: samples a QUBO; at T > 0 they are judged in random order, at T = 0 the distinct ones.
        refit: full-batch Adam steps (lr 5e-3, betas .9, .99) on scales and continuous parameters after the
            blocks; undone at T = 0 if they raise the objective.
        l0: price of a nonzero encoded weight, in units of the objective, in the QUBO and in what is judged.

    Raises:
        ValueError: if a number is outside its range or a name is unknown.
    """

    name = "qubo"

    def __init__(
        self,
        sampler: Any = "annealer",
        *,
        curvature: str = "ggn",
        subset: str = "gain",
        proposals: int = 48,
        variables: int = 32,
        temperature: float | tuple[float, float] = (0.1, 0.005),
        temperature_unit: str = "relative",
        num_reads: int = 1,
        refit: int = 10,
        l0: float = 0.0,
    ) -> None:
        for name, count, least in (
            ("proposals", proposals, 1),
            ("variables", variables, 1),
            ("num_reads", num_reads, 1),
            ("refit", refit, 0),
        ):
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(f"Invalid {name}: {count}; an int of at least {least} is needed")
        if curvature not in CURVATURES:
            raise ValueError(f"Invalid curvature: {curvature!r}; one of {', '.join(CURVATURES)} is needed")
        if subset not in SUBSETS:
            raise ValueError(f"Invalid subset: {subset!r}; one of {', '.join(SUBSETS)} is needed")
        if not 0 <= l0 < math.inf:
            raise ValueError(f"Invalid l0: {l0}; a finite number of at least 0 is needed")
        self.sampler = samplers.resolve(sampler)
        self.curvature = curvature
        self.subset = subset
        self.proposals = proposals
        self.variables = variables
        self.cooling = Cooling.of(temperature, temperature_unit)
        self.num_reads = num_reads
        self.refit = refit
        self.l0 = l0
        self._evaluators = Evaluators()

    def __call__(self, view: View, objective: Objective, generator: torch.Generator) -> AnnealRecord:
        """Anneal once: propose, and for each block of candidates build, sample, judge; then refit."""
        if self.l0 and any(isinstance(encoded, EncodedWindow) for encoded in view.encoded):
            raise ValueError(f"Invalid l0: {self.l0}; windows have several bits a weight, and their l0 term is no QUBO")
        evaluator = self._evaluators(view, objective, self.l0)
        before, loss = view.begin(evaluator.value)
        hot = view.temperature(self.cooling)
        moves = self._propose(view, evaluator, hot, generator)
        blocks = split(moves, view.encoded, self.variables)
        heat = [view.temperature(self.cooling, k, len(blocks)) for k in range(len(blocks))] or [hot]
        if hot > 0:
            view.consider(loss)
        taken: list[Moves] = []
        predicted, judged, trouble = 0.0, 0, ""
        info: dict[str, Any] = {}
        for block, temperature in zip(blocks, heat, strict=False):
            try:
                candidates, energies, info = self._sample(evaluator, block, temperature, generator)
            except (Fallback, samplers.SamplerError) as error:
                trouble = str(error)
                break
            chosen = self._judge(evaluator, block, candidates, energies, temperature, info["temperature"], generator)
            judged += len(candidates)
            if chosen is not None and len(candidates[chosen]):  # a read of the present weights is no move
                taken.append(candidates[chosen])
                predicted += energies[chosen]
            if temperature > 0:
                view.consider(evaluator.loss)
        annealed = evaluator.loss
        after = evaluator.refit(self.refit, heat[-1])
        if heat[-1] > 0:
            view.consider(after)
        return AnnealRecord(
            step=view.step,
            strategy=self.name,
            variables=sum(len(block.present) for block in blocks),
            candidates=judged,
            predicted=predicted,
            actual=annealed - loss,
            accepted=len(taken),
            moved=sum(len(moves.index) for moves in taken),
            loss_before=before,
            loss_after=after,
            seconds=dict(evaluator.seconds),
            sampler=self.sampler.name,
            sampler_info=info,
            temperature=heat[-1],
            fallback=trouble,
        )

    def state_dict(self) -> dict[str, Any]:
        """What the sampler has to keep, the ledger of a machine far away say; trust radii are with their parameters."""
        state = self.sampler.state_dict()
        return {"sampler": state} if state else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.sampler.load_state_dict(state.get("sampler", {}))

    def _propose(self, view: View, evaluator: Evaluator, temperature: float, generator: torch.Generator) -> Moves:
        grads = evaluator.gradients()
        allowed: list[Tensor | None] | None = None
        if self.subset == "random":
            grads, temperature = [torch.zeros_like(grad) for grad in grads], 1.0
        elif self.subset == "row":
            allowed = _one_row(view, generator)
        return view.propose(grads, self.proposals, temperature, generator, allowed)

    def _sample(
        self, evaluator: Evaluator, block: Block, temperature: float, generator: torch.Generator
    ) -> tuple[list[Moves], list[float], dict[str, Any]]:
        """Give the sampled candidates, their energies above the present weights', and what the sampler told."""
        qubo = evaluator.qubo(block.moves, block.affine, self.curvature)
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        hot = temperature > 0
        with evaluator.clock("sample"):
            drawn = self.sampler.sample_arrays(
                qubo,
                num_reads=self.num_reads,
                seed=seed,
                temperature=temperature if hot else None,
                initial_states=block.present if self.sampler.starts and not hot else None,
            )
        bits, energies = torch.as_tensor(drawn.bits), torch.as_tensor(drawn.energies)
        if hot:
            order = torch.randperm(len(bits), generator=generator)
            bits, energies = bits[order], energies[order]
        else:
            bits, places = torch.unique(bits, dim=0, return_inverse=True)
            energies = torch.zeros(len(bits), dtype=energies.dtype).scatter_(0, places, energies)
        energies = energies - qubo.energies(block.present)
        info = {
            **{key: told for key, told in drawn.info.items() if key != "seconds"},  # equal runs, equal records
            "judged_by": "residual" if hot and drawn.info.get("temperature") else "loss",
        }
        return [block.decode(row) for row in bits], energies.tolist(), info

    def _judge(
        self,
        evaluator: Evaluator,
        block: Block,
        candidates: list[Moves],
        energies: list[float],
        temperature: float,
        drawn_at: float | None,
        generator: torch.Generator,
    ) -> int | None:
        """Make the candidate that is accepted, and tell which; ``drawn_at``: the temperature that the sampler met."""
        losses = evaluator.losses(candidates)
        if block.window is not None and candidates:
            block.window.adapt(losses[0] - evaluator.loss, energies[0])
        if temperature > 0:
            chosen = judge.metropolis(
                losses,
                None if drawn_at is None else energies,
                loss=evaluator.loss,
                temperature=temperature,
                drawn_at=drawn_at,
                uniforms=torch.rand(len(losses), generator=generator, dtype=torch.float64).tolist(),
            )
        else:
            chosen = judge.best(losses, loss=evaluator.loss)
        if chosen == judge.STAY:
            return None
        evaluator.take(candidates[chosen], losses[chosen])
        return chosen


def _one_row(view: View, generator: torch.Generator) -> list[Tensor | None]:
    """Allow the weights of one row, drawn at random among all rows of all encoded parameters."""
    rows = [len(encoded.param) if encoded.param.ndim > 1 else 1 for encoded in view.encoded]
    row = int(torch.randint(sum(rows), (), generator=generator))
    allowed: list[Tensor | None] = []
    for encoded, count in zip(view.encoded, rows, strict=True):
        mask = torch.zeros_like(encoded.param, dtype=torch.bool)
        if 0 <= row < count:
            mask[row if encoded.param.ndim > 1 else slice(None)] = True
        allowed.append(mask)
        row -= count
    return allowed
