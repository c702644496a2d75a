"""What a sampler is asked for a block of weights: its QUBO by itself, or those of several blocks in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby

import torch
from torch import Tensor

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import Samples, Seat
from qanneal_opt.steps.blocks import Block
from qanneal_opt.steps.flight import Problem


@dataclass(frozen=True, eq=False)
class Question:
    """A QUBO to be sampled, and what it takes to judge the answer.

    Attributes:
        block: the weights that its bits move.
        problem: what of the block has to be known when the answer comes.
        qubo: of the block.
        reads: how many samples.
        seed: of the sampler.
        start: bits to start at, ``(n,)``, or None.
    """

    block: Block
    problem: Problem
    qubo: Qubo
    reads: int
    seed: int
    start: Tensor | None

    def ask(self, seat: Seat) -> Samples:
        """Ask for it alone."""
        return self._ask(seat, self.qubo, self.start)

    def _ask(self, seat: Seat, qubo: Qubo, start: Tensor | None) -> Samples:
        heat = self.problem.temperature if self.problem.temperature > 0 else None
        return seat.sample_arrays(qubo, num_reads=self.reads, seed=self.seed, temperature=heat, initial_states=start)

    @property
    def _kind(self) -> tuple[int, int, float, bool]:
        return self.qubo.n, self.qubo.word, self.problem.temperature, self.start is None


def side_by_side(seat: Seat, questions: Sequence[Question]) -> Iterator[Callable[[], Samples]]:
    """Give what asks for each, where those of one size and temperature that follow each other go in one call.

    The first of them to be called asks for all.
    """
    for _, same in groupby(questions, key=lambda question: question._kind):
        group = list(same)
        if len(group) == 1:
            yield partial(group[0].ask, seat)
            continue
        qubos, first = [question.qubo for question in group], group[0]
        batch = Qubo(
            torch.stack([qubo.linear for qubo in qubos]),
            torch.stack([qubo.quadratic for qubo in qubos]),
            torch.tensor([float(qubo.offset) for qubo in qubos], dtype=torch.float64),
            first.qubo.word,
        )
        starts = [question.start[None] for question in group if question.start is not None]
        whole = cache(partial(first._ask, seat, batch, torch.stack(starts) if starts else None))
        yield from (partial(_part, whole, k) for k in range(len(group)))


def _part(whole: Callable[[], Samples], k: int) -> Samples:
    return whole().problem(k)
