"""QUBOs in the hands of a sampler while training goes on, and what it takes to judge the answers afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.encoding.window import EncodedWindow, Window
from qanneal_opt.moves import Moves
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import RemoteError, SamplerError, Samples
from qanneal_opt.samplers.deadline import Call, guarded
from qanneal_opt.steps.blocks import Block
from qanneal_opt.view import View

Answer = Samples | SamplerError | RemoteError


@dataclass(frozen=True, eq=False)
class Problem:
    r"""A block whose QUBO was handed to a sampler, as it was then.

    What comes back are draws from :math:`q(b) \propto \exp(-E(b)/T)`, with E and T those of then. Whatever gradient
    steps did since, q is still a distribution over the bits that nothing has looked at: judged by the loss f of the
    moment with the old E in the residual, the same Metropolis rule leaves :math:`\exp(-f/T)` over the block invariant.
    E only foresees f less well, so fewer candidates are taken. The one thing needed is that no bits still mean no
    move, that is, that the codes of the block's weights are those of then.

    Attributes:
        moves: the block's changes; their values and displacements are made anew.
        codes: ``(c,)`` int64, of the weights that they change.
        window: the window of then, where the weights are under one.
        floor: energy of the bits at which nothing moves.
        temperature: T, in units of the objective.
    """

    moves: Moves
    codes: Tensor
    window: Window | None
    floor: float
    temperature: float

    @staticmethod
    def of(block: Block, qubo: Qubo, temperature: float, view: View) -> Problem:
        """Note what ``block`` is at the present weights."""
        # where bits are moves, none of them is set
        floor = float(qubo.offset) if block.window is None else float(qubo.energies(block.present))
        return Problem(block.moves, view.codes(block.moves), block.window, floor, temperature)

    def block(self, view: View) -> Block | None:
        """Give the block around the present weights; None if a code has changed, which makes the answer stale."""
        if not torch.equal(view.codes(self.moves), self.codes):
            return None
        if self.window is None:
            return Block(view.renewed(self.moves))
        encoded = view.encoded[int(self.moves.owner[0])]
        assert isinstance(encoded, EncodedWindow)
        return Block(self.moves, encoded, self.window)

    def state(self) -> dict[str, Any]:
        """Give it as plain numbers and lists of them."""
        moves, window = self.moves, self.window
        return {
            "owner": moves.owner.tolist(),
            "index": moves.index.tolist(),
            "target": moves.target.tolist(),
            "start": moves.start.tolist(),
            "codes": self.codes.tolist(),
            "window": None if window is None else [window.bits, window.radius],
            "floor": self.floor,
            "temperature": self.temperature,
        }

    @staticmethod
    def of_state(state: dict[str, Any]) -> Problem:
        """Take what :meth:`state` gave."""
        owner, index, target, start = (
            torch.tensor(state[name], dtype=torch.int64) for name in ("owner", "index", "target", "start")
        )
        unknown = torch.zeros(len(index))  # displacements and values, which are made anew
        window = None if state["window"] is None else Window(*state["window"])
        return Problem(
            Moves(owner, index, unknown, unknown, target, start),
            torch.tensor(state["codes"], dtype=torch.int64),
            window,
            float(state["floor"]),
            float(state["temperature"]),
        )


class Flight:
    """The problems of one annealing step and their answers, which a thread of its own asks for one by one.

    Args:
        problems: what was asked.
        step: completed optimizer steps when it was.
        answers: those that are there already.
    """

    def __init__(self, problems: Sequence[Problem], step: int, answers: Sequence[Answer] = ()) -> None:
        self.problems = list(problems)
        self.step = step
        self._answers = list(answers)
        self._left = threading.Event()  # nobody wants the rest any more
        self._call: Call[None] | None = None

    @staticmethod
    def launch(problems: Sequence[Problem], step: int, name: str, asks: Sequence[Callable[[], Samples]]) -> Flight:
        """Ask the sampler ``name`` by ``asks``, one for each problem, in a daemon thread."""
        flight = Flight(problems, step)
        given = flight._answers

        def ask_all() -> None:
            for ask in asks:
                if flight._left.is_set():
                    return
                try:
                    given.append(guarded(name, None, ask))
                except (RemoteError, SamplerError) as error:
                    given.append(error)

        flight._call = Call(name, ask_all)
        return flight

    def over(self, deadline: float) -> bool:
        """Whether all answers are there, or ``deadline`` seconds have passed."""
        return self._call is None or self._call.over(deadline)

    def leave(self) -> None:
        """Let the thread ask nothing more."""
        self._left.set()

    def answers(self, deadline: float) -> list[Answer]:
        """Give an answer to each problem, waiting until ``deadline`` seconds after the launch at most.

        What is not there by then is a :class:`SamplerError`, and never will be.
        """
        if self._call is not None:
            try:
                self._call.within(deadline)
            except SamplerError as error:
                self.leave()
                missing: list[Answer] = [error] * len(self.problems)
                self._answers = [*self._answers, *missing][: len(self.problems)]  # a list of its own: none comes late
            self._call = None
        return list(self._answers)

    def save(self, deadline: float) -> str:
        """Give problems and answers as JSON; waits as :meth:`answers` does.

        A sampler may be slow or cost money: what it was asked is not asked again after a resume. It is one string, as
        distributed checkpoints need names that do not depend on what happened.
        """
        answers = [_plain(answer) for answer in self.answers(deadline)]
        problems = [problem.state() for problem in self.problems]
        return json.dumps({"step": self.step, "problems": problems, "answers": answers}, default=str)

    @staticmethod
    def load(text: str) -> Flight:
        """Take what :meth:`save` gave."""
        state = json.loads(text)
        problems = [Problem.of_state(problem) for problem in state["problems"]]
        return Flight(problems, state["step"], [_answer(plain) for plain in state["answers"]])


def lasting(info: dict[str, Any]) -> dict[str, Any]:
    """Give what a sampler told without its seconds: equal runs leave equal records and checkpoints."""
    return {key: told for key, told in info.items() if key != "seconds"}


def _plain(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, (RemoteError, SamplerError)):
        return {"error": str(answer)}  # a resume is told, but not stopped again by a machine that failed before it
    bits, energies = torch.as_tensor(answer.bits), torch.as_tensor(answer.energies)
    return {"bits": bits.tolist(), "energies": energies.tolist(), "info": lasting(answer.info)}


def _answer(plain: dict[str, Any]) -> Answer:
    if "error" in plain:
        return SamplerError(plain["error"])
    return Samples(
        torch.tensor(plain["bits"], dtype=torch.uint8),
        torch.tensor(plain["energies"], dtype=torch.float64),
        plain["info"],
    )
