"""Sample a quadratic model of the objective, then correct by the true objective."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch

from qanneal_opt import samplers
from qanneal_opt.checks import check_int
from qanneal_opt.encoding.window import EncodedWindow
from qanneal_opt.objective import Objective
from qanneal_opt.samplers.base import Samples
from qanneal_opt.schedule import Cooling
from qanneal_opt.steps.blocks import Block, split
from qanneal_opt.steps.candidates import SUBSETS, propose
from qanneal_opt.steps.evaluator import CURVATURES, Evaluator
from qanneal_opt.steps.evaluators import Evaluators
from qanneal_opt.steps.flight import Flight, Problem
from qanneal_opt.steps.question import Question, side_by_side
from qanneal_opt.steps.settle import Outcome, settle
from qanneal_opt.telemetry import AnnealRecord
from qanneal_opt.view import Fallback, View


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
        temperature_unit: ``"relative"`` to the objective when annealing began (after the first refit, if there is
            one), or ``"absolute"``.
        num_reads: samples a QUBO; at T > 0 they are judged in random order, at T = 0 the distinct ones.
        refit: full-batch Adam steps (lr 5e-3, betas .9, .99) on scales and continuous parameters after the
            blocks; undone at T = 0 if they raise the objective. Ten times as many come before the first moves
            where codes are handed over: scales that have followed latent weights do not fit them.
        l0: price of a nonzero encoded weight, in units of the objective, in the QUBO and in what is judged.
        side_by_side: build the QUBOs of all blocks at the same weights, and ask the sampler for those of one size and
            temperature in one call: a quantum annealer that has room for both answers two blocks in the time of one.
            Each block is judged at the weights that the one before left, so that :math:`\exp(-f/T)` stays invariant;
            only the surrogates of later blocks are not of those weights.
        asynchronous: let gradient steps go on while the sampler works. A call then hands QUBOs over, all blocks
            built at the same weights, and their answers are judged later at the weights of the moment: by the next
            call at the latest, as the schedule's span ends, or at ``restore_best()``. Answers that no longer fit,
            as another step moved the codes of their weights, are dropped and counted.
        lag: optimizer steps after which answers are judged, if the next call is not earlier: a few more than the
            sampler takes. None leaves them to the next call.
        wait: whether answers that are not there by then are waited for; equal seeds then give equal weights, also
            over a resume. Without it they are judged once they are there, and a call that finds them missing leaves
            them pending: training is never held up.
        deadline: seconds from handing over after which answers are given up, which is a fallback.
        max_age: the most optimizer steps between building a QUBO and judging its answer; older ones are
            dropped and counted. None for any number.

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
        side_by_side: bool = False,
        asynchronous: bool = False,
        lag: int | None = None,
        wait: bool = True,
        deadline: float = 60.0,
        max_age: int | None = None,
    ) -> None:
        for name, count, least in (
            ("proposals", proposals, 1),
            ("variables", variables, 1),
            ("num_reads", num_reads, 1),
            ("refit", refit, 0),
            ("lag", 1 if lag is None else lag, 1),
            ("max_age", 0 if max_age is None else max_age, 0),
        ):
            check_int(name, count, least)
        if curvature not in CURVATURES:
            raise ValueError(f"Invalid curvature: {curvature!r}; one of {', '.join(CURVATURES)} is needed")
        if subset not in SUBSETS:
            raise ValueError(f"Invalid subset: {subset!r}; one of {', '.join(SUBSETS)} is needed")
        if not 0 <= l0 < math.inf:
            raise ValueError(f"Invalid l0: {l0}; a finite number of at least 0 is needed")
        if not deadline > 0:
            raise ValueError(f"Invalid deadline: {deadline}; positive seconds are needed")
        if not asynchronous and (lag, wait, deadline, max_age) != (None, True, 60.0, None):
            raise ValueError("Invalid asynchronous: False; with lag, wait, deadline or max_age it has to be True")
        if lag is not None and not wait:
            raise ValueError(f"Invalid lag: {lag}; with wait=False answers are judged once they are there")
        self.sampler = samplers.resolve(sampler)
        self.curvature = curvature
        self.subset = subset
        self.proposals = proposals
        self.variables = variables
        self.cooling = Cooling.of(temperature, temperature_unit)
        self.num_reads = num_reads
        self.refit = refit
        self.l0 = l0
        self.side_by_side = side_by_side
        self.asynchronous = asynchronous
        self.lag = lag
        self.wait = wait
        self.deadline = deadline
        self.max_age = max_age
        self._evaluators = Evaluators()
        self._flight: Flight | None = None

    def __call__(self, view: View, objective: Objective, generator: torch.Generator) -> AnnealRecord:
        """Anneal once: propose, and for each block of candidates build, sample, judge; then refit.

        Asynchronously: judge what the last call asked and refit, if that was not done yet; then propose and build.
        """
        return self._anneal(view, objective, generator)

    @property
    def pending(self) -> int:
        """QUBOs whose answers are still to be judged."""
        return 0 if self._flight is None else len(self._flight.problems)

    def arrived(self, step: int) -> bool:
        """Whether what is pending is to be judged after ``step`` optimizer steps, though no call is due."""
        if self._flight is None:
            return False
        if not self.wait:
            return self._flight.over(self.deadline)
        return self.lag is not None and step - self._flight.step >= self.lag

    def finish(self, view: View, objective: Objective, generator: torch.Generator) -> AnnealRecord:
        """Judge what is pending, waiting for it, refit, and hand over nothing new."""
        return self._anneal(view, objective, generator, last=True)

    def state_dict(self) -> dict[str, Any]:
        """Give what a sampler far away has to keep, and the answers still to be judged: nothing is asked twice."""
        state: dict[str, Any] = {}
        if self.asynchronous:  # waits for the answers, which the sampler may have to keep account of
            state["flight"] = "" if self._flight is None else self._flight.save(self.deadline)
        kept = self.sampler.state_dict()  # in one string: distributed checkpoints need names that stay the same
        return state | {"sampler": json.dumps(kept)} if kept else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back; what was under way here is left."""
        if self._flight is not None:
            self._flight.leave()
        flight = state.get("flight", "")
        self._flight = Flight.load(flight) if flight and self.asynchronous else None
        self.sampler.load_state_dict(json.loads(state.get("sampler", "{}")))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_flight": None, "_loading": self.state_dict()}  # a thread cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        loading = state.pop("_loading")
        self.__dict__.update(state)
        self.load_state_dict(loading)

    def _anneal(
        self, view: View, objective: Objective, generator: torch.Generator, *, last: bool = False
    ) -> AnnealRecord:
        if self.l0 and any(isinstance(encoded, EncodedWindow) for encoded in view.encoded):
            raise ValueError(f"Invalid l0: {self.l0}; windows have several bits a weight, and their l0 term is no QUBO")
        evaluator = self._evaluators(view, objective, self.l0)
        price = evaluator.price()
        before, loss = evaluator.begin(self.refit)
        hot = self.cooling.first > 0
        if hot:
            view.consider(loss)
        outcome = Outcome(temperature=0.0 if last else view.temperature(self.cooling))
        if not self.asynchronous:
            self._search(evaluator, generator, outcome)
            judged = True
        else:
            judged = self._land(evaluator, generator, outcome, wait=self.wait or last)
        annealed = evaluator.loss
        after, price_after = evaluator.refit(self.refit if judged else 0, outcome.temperature), evaluator.price()
        if hot:
            view.consider(after)
        if self.asynchronous and not self.pending and not last:
            self._launch(evaluator, generator, outcome)
        return AnnealRecord(
            step=view.step,
            strategy=self.name,
            variables=outcome.variables,
            candidates=outcome.judged,
            predicted=outcome.predicted,
            actual=annealed - loss,
            accepted=len(outcome.taken),
            moved=sum(len(moves.index) for moves in outcome.taken),
            loss_before=before,
            loss_after=after,
            price_before=price,
            price_after=price_after,
            seconds=dict(evaluator.seconds),
            sampler=self.sampler.name,
            sampler_info=outcome.info,
            temperature=outcome.temperature,
            fallback=outcome.trouble,
            pending=self.pending,
            stale=outcome.stale,
            qpu_access_time=outcome.qpu_access_time,
        )

    def _search(self, evaluator: Evaluator, generator: torch.Generator, outcome: Outcome) -> None:
        """Build, sample and judge block after block, each at the weights that the one before left.

        Side by side, all are built before the first is judged.
        """
        try:
            for question, ask in self._asked(self._questions(evaluator, generator)):
                with evaluator.clock("sample"):
                    drawn = ask()
                outcome.count(drawn)
                settle(evaluator, question.block, question.problem, drawn, generator, outcome)
        except (Fallback, samplers.SamplerError) as error:
            outcome.trouble = str(error)

    def _launch(self, evaluator: Evaluator, generator: torch.Generator, outcome: Outcome) -> None:
        """Build the QUBOs of all blocks at the present weights, and let the sampler go at them in a thread."""
        view = evaluator.view
        if view.span is None:
            view.restore(view.best)  # what this call will end at
            evaluator.value()
        questions: list[Question] = []
        try:
            for question in self._questions(evaluator, generator):
                questions.append(question)
        except Fallback as error:
            outcome.trouble = str(error)
        if questions:
            problems = [question.problem for question in questions]
            asks = [ask for _, ask in self._asked(questions)]
            self._flight = Flight.launch(problems, view.step, self.sampler.name, asks)

    def _land(self, evaluator: Evaluator, generator: torch.Generator, outcome: Outcome, wait: bool) -> bool:
        """Judge the answers under way at the weights of the moment, if they are there or ``wait``; tell if so."""
        view, flight = evaluator.view, self._flight
        if flight is None or not (wait or flight.over(self.deadline)):
            return False
        with evaluator.clock("sample"):
            answers = flight.answers(self.deadline)
        self._flight = None
        age = view.step - flight.step
        for problem, drawn in zip(flight.problems, answers, strict=True):
            if isinstance(drawn, samplers.RemoteError):
                raise drawn
            if isinstance(drawn, samplers.SamplerError):
                outcome.trouble = str(drawn)
                continue
            outcome.count(drawn)
            block = problem.block(view) if self.max_age is None or age <= self.max_age else None
            if block is None:
                outcome.stale += 1
            else:
                settle(evaluator, block, problem, drawn, generator, outcome)
                outcome.info["age"] = age
        return True

    def _questions(self, evaluator: Evaluator, generator: torch.Generator) -> Iterator[Question]:
        """Propose moves, and give them in blocks, the QUBO of each built as it is asked for."""
        view = evaluator.view
        moves = propose(evaluator, self.subset, self.proposals, view.temperature(self.cooling), generator)
        blocks = split(moves, view.encoded, self.variables)
        for place, block in enumerate(blocks):
            yield self._pose(evaluator, block, view.temperature(self.cooling, place, len(blocks)), generator)

    def _asked(self, questions: Iterable[Question]) -> Iterator[tuple[Question, Callable[[], Samples]]]:
        """Give each with what asks the sampler for it; side by side, all are built before the first is given."""
        if self.side_by_side:
            built = list(questions)
            return zip(built, side_by_side(self.sampler, built), strict=True)
        return ((question, partial(question.ask, self.sampler)) for question in questions)

    def _pose(self, evaluator: Evaluator, block: Block, temperature: float, generator: torch.Generator) -> Question:
        """Build a block's QUBO."""
        qubo = evaluator.qubo(block, self.curvature)
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        problem = Problem.of(block, qubo, temperature, evaluator.view)
        start = block.present if self.sampler.starts and temperature == 0 else None
        return Question(block, problem, qubo, self.num_reads, seed, start)
