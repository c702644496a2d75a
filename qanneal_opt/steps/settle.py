"""Judging what a sampler gave for a block of weights: one candidate is made, or none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from qanneal_opt import judge
from qanneal_opt.moves import Moves
from qanneal_opt.samplers.base import Samples
from qanneal_opt.steps.blocks import Block
from qanneal_opt.steps.evaluator import Evaluator
from qanneal_opt.steps.flight import Problem, lasting


@dataclass
class Outcome:
    """What an annealing step has done so far, as its record tells it."""

    temperature: float
    variables: int = 0
    judged: int = 0
    predicted: float = 0.0
    taken: list[Moves] = field(default_factory=list)
    stale: int = 0
    qpu_access_time: float = 0.0
    info: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""

    def count(self, drawn: Samples) -> None:
        """Add what an answer cost, whatever comes of it."""
        self.qpu_access_time += float(drawn.info.get("qpu_access_time", 0.0))


def settle(
    evaluator: Evaluator,
    block: Block,
    problem: Problem,
    drawn: Samples,
    generator: torch.Generator,
    outcome: Outcome,
) -> None:
    """Judge the bits that a sampler gave for a block at the present weights, and make the candidate that is accepted.

    Args:
        evaluator: of the judged objective.
        block: the weights that bits move, around the present ones.
        problem: the QUBO that was sampled.
        drawn: bits and energies; ``info["temperature"]`` is the one that the draws met, None if it is not known.
        generator: of the order of reads and of acceptance.
        outcome: what is added to.
    """
    hot = problem.temperature > 0
    met = drawn.info.get("temperature") if hot else None
    bits, energies = torch.as_tensor(drawn.bits), torch.as_tensor(drawn.energies)
    if hot:
        order = torch.randperm(len(bits), generator=generator)
        bits, energies = bits[order], energies[order]
    else:
        bits, places = torch.unique(bits, dim=0, return_inverse=True)
        energies = torch.zeros(len(bits), dtype=energies.dtype).scatter_(0, places, energies)
    candidates, above = [block.decode(row) for row in bits], (energies - problem.floor).tolist()
    losses = evaluator.losses(candidates)
    if block.windowed is not None and candidates:
        block.windowed.adapt(losses[0] - evaluator.loss, above[0])
    if hot:
        chosen = judge.metropolis(
            losses,
            None if met is None else above,
            loss=evaluator.loss,
            temperature=problem.temperature,
            drawn_at=met,
            uniforms=torch.rand(len(losses), generator=generator, dtype=torch.float64).tolist(),
        )
    else:
        chosen = judge.best(losses, loss=evaluator.loss)
    if chosen != judge.STAY:
        evaluator.take(candidates[chosen], losses[chosen])
        if len(candidates[chosen]):  # a read of the present weights is no move
            outcome.taken.append(candidates[chosen])
            outcome.predicted += above[chosen]
    if hot:
        evaluator.view.consider(evaluator.loss)
    outcome.judged += len(candidates)
    outcome.variables += len(block.present)
    outcome.temperature = problem.temperature
    outcome.info = {**lasting(drawn.info), "judged_by": "loss" if met is None else "residual"}
