"""Annealing of rules on the true objective, in turn with gradient refits of what is continuous."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qanneal_opt.losses import describe
from qanneal_opt.nn.rules import RuleLayer
from qanneal_opt.objective import Objective
from qanneal_opt.schedule import Cooling
from qanneal_opt.steps.evaluator import Evaluator
from qanneal_opt.steps.rule_search import PIECES, Array, Found, LinearReadout, OrReadout, Readout, Rows, Search
from qanneal_opt.steps.rule_tables import Pass, look, output_forced, rule_forced, squares
from qanneal_opt.telemetry import AnnealRecord
from qanneal_opt.view import View

PATH = (0.4, 1.0, 2.5)  # errors a literal costs: for labels that are clean, a little noisy, noisy
NATS = 3.0  # that a literal costs under a likelihood: about the logarithm of the literals to choose from


class RuleStep:
    r"""Simulated annealing of the literals of every :class:`RuleLayer` in the objective's model.

    For literals W the energy is the true objective, in a unit, and a price for each literal:

    .. math:: E(W) = f(W) / u + l_0 \, |W|_0

    - ``readout="or"``, anywhere in the model, any loss: each sample's loss is tabulated once with the layer's output
      set to 0 and once to 1. u is the mean difference of the two, so that f / u counts errors.
    - ``readout="linear"`` whose output is the model's, under a mean squared error: coefficients and bias are at their
      least squares for each candidate, and f / u becomes m/2 log(SSE/m + 0.001) for targets of unit variance, in nats.
    - ``readout="linear"`` elsewhere: rule by rule, each sample's loss is tabulated with the rule set to hold and not to
      hold; coefficients are then trained by the refit. Losses are taken as nats, squared errors by their mean.

    Chains of Metropolis moves (45% of a literal's level, 48% that swap a literal for another, 5% that grow a rule from
    a sample, 2% that clear one) start at the present literals, and at none; the best state of all replaces the present
    one if its energy is lower. Moves are evaluated exactly on bit-packed samples by compiled code. Literals of columns
    that are constant are not looked for. Layers are visited one after the other, in the order of ``model.modules()``,
    with what lies below them as it is at the moment.

    Args:
        l0: price of a literal, in errors or nats. ``"auto"``: 3 nats; for an OR readout the one of 0.4, 1 and 2.5
            errors whose result has the shortest description, N H(e/N) + |W| log(2n) nats, with e the errors of N
            samples and H the entropy of their rate; the first that leaves no error is taken at once.
        restarts: chains.
        moves: of each chain, shared by the rules where they are annealed one by one.
        temperature: first and last, in errors or nats, falling geometrically over each chain. 0.0 accepts only
            what does not raise the energy.
        refit: full-batch Adam steps on continuous parameters and scales after the search, undone if they raise the
            objective. What lies below a layer has no gradient in eval mode: it is trained by the optimizer's own steps.
        threads: chains at once, ``torch.get_num_threads()`` by default; results do not depend on it.

    Raises:
        ValueError: if a number is outside its range; when called, if the model has no RuleLayer, calls one with
            something else than one row a sample, or a loss is not finite where an output is forced.

    >>> import qanneal_opt as qa
    >>> x = torch.randint(2, (200, 12), generator=torch.Generator().manual_seed(0)).float()
    >>> y = torch.maximum(x[:, 3] * x[:, 7], x[:, 1] * (1 - x[:, 5]))
    >>> layer = qa.RuleLayer(12, 4)
    >>> optimizer = qa.AnnealingOptimizer(
    ...     layer.parameters(), objective=qa.Objective(layer, torch.nn.functional.mse_loss, (x, y)),
    ...     annealing=qa.RuleStep(restarts=2, moves=20_000))
    >>> record = optimizer.anneal()
    >>> sorted(layer.rules())
    ['x1 and not x5', 'x3 and x7']
    """

    name = "rules"

    def __init__(
        self,
        *,
        l0: float | str = "auto",
        restarts: int = 10,
        moves: int = 200_000,
        temperature: float | tuple[float, float] = (1.0, 0.1),
        refit: int = 10,
        threads: int | None = None,
    ) -> None:
        for name, count, least in (
            ("restarts", restarts, 1),
            ("moves", moves, 1),
            ("refit", refit, 0),
            ("threads", 1 if threads is None else threads, 1),
        ):
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(f"Invalid {name}: {count}; an int of at least {least} is needed")
        number = isinstance(l0, (int, float)) and not isinstance(l0, bool) and 0 <= l0 < math.inf
        if l0 != "auto" and not number:
            raise ValueError(f'Invalid l0: {l0!r}; "auto" or a finite number of at least 0 is needed')
        self.l0 = l0
        self.restarts, self.moves, self.refit, self.threads = restarts, moves, refit, threads
        self.cooling = Cooling.of(temperature, "absolute")

    def __call__(self, view: View, objective: Objective, generator: torch.Generator) -> AnnealRecord:
        """Anneal each layer once."""
        layers = [module for module in objective.model.modules() if isinstance(module, RuleLayer)]
        if not layers:
            raise ValueError("Invalid model: it has no RuleLayer; RuleStep moves the literals of those")
        evaluator = Evaluator(view, objective)
        before, loss = view.begin(evaluator.value)
        evaluator.loss = loss
        results = [self._anneal(layer, evaluator, generator) for layer in layers]
        changed = sum(result.moved for result in results)
        annealed = evaluator.value()
        after = evaluator.refit(self.refit, 0.0)
        price = [(result.price * n) for result in results for n in (result.before, result.after)]
        return AnnealRecord(
            step=view.step,
            strategy=self.name,
            variables=sum(layer.literals.numel() for layer in layers),
            candidates=sum(result.moves for result in results),
            predicted=annealed - loss,
            actual=annealed - loss,
            accepted=sum(result.accepted for result in results),
            moved=changed,
            loss_before=before + sum(price[::2]),
            loss_after=after + sum(price[1::2]),
            seconds=dict(evaluator.seconds),
            temperature=max(result.temperature for result in results),
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing has to survive a resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""

    def _anneal(self, layer: RuleLayer, evaluator: Evaluator, generator: torch.Generator) -> _Result:
        """Anneal a layer's literals, and write them if that is better."""
        objective = evaluator.objective
        with evaluator.clock("model"):
            present = look(objective, layer)
            old = _literals(layer)
            rows = Rows.of(present.values.numpy(), (old != 0).any(0))
        job = _Job(self, layer, objective, rows, present, generator)
        with evaluator.clock("judge"):
            if layer.readout == "or":
                job.whole(old)
            elif squares(objective, present):
                job.fitted(old)
            else:
                for k in torch.randperm(len(old), generator=generator).tolist():
                    job.rule(k)
        return job.result(old)


@dataclass(frozen=True)
class _Result:
    """What came of a layer."""

    moves: int
    accepted: int
    moved: int  # literals
    before: int  # literals in use
    after: int
    price: float  # of one, in units of the objective
    temperature: float  # the last, in units of the objective


class _Job:
    """The annealing of one layer."""

    def __init__(
        self,
        step: RuleStep,
        layer: RuleLayer,
        objective: Objective,
        rows: Rows,
        present: Pass,
        generator: torch.Generator,
    ) -> None:
        self.step, self.layer, self.objective, self.rows, self.present = step, layer, objective, rows, present
        self.generator = generator
        self.moves = self.accepted = 0
        self.unit, self.l0 = 0.0, 0.0

    def whole(self, old: Array) -> None:
        """All rules of an OR readout at once."""
        off, on = (look(self.objective, self.layer, output_forced(value)).losses for value in (0.0, 1.0))
        gains = (on - off).numpy()
        self.unit = float(np.abs(gains).mean())
        if self.unit == 0:
            return  # the output makes no difference
        if len(old) == 1 and (gains < 0).all():
            raise ValueError("Invalid rules: 1; every sample asks for an output of 1, which takes two rules")
        readout = OrReadout(gains / self.unit)
        least = float(np.minimum(readout.gains, 0).sum())
        best, shortest = old, math.inf
        for l0 in PATH if self.step.l0 == "auto" else (float(self.step.l0),):
            found = self._search(readout, old, l0, self.step.moves)
            count = int(np.count_nonzero(found.literals))
            errors = found.energy - l0 * count - least
            length = _description(errors, self.rows.count) + count * math.log(2 * max(1, len(self.rows.kept)))
            if length < shortest:
                best, shortest, self.l0 = found.literals, length, l0
            if errors < 0.5:
                break
        self._write(best)

    def fitted(self, old: Array) -> None:
        """All rules of a linear readout at once, with its least squares."""
        assert self.present.targets is not None
        targets = self.present.targets.numpy()  # (O, N)
        readout = LinearReadout(targets)
        self.l0 = NATS if self.step.l0 == "auto" else float(self.step.l0)
        literals = self._search(readout, old, self.l0, self.step.moves).literals
        self._write(literals)
        truth = self.rows.truth(literals[:, self.rows.kept])
        centred = targets - targets.mean(1, keepdims=True)
        coefficients = np.linalg.lstsq((truth - truth.mean(1, keepdims=True)).T, centred.T, rcond=None)[0].T  # (O, K)
        bias = targets.mean(1) - coefficients @ truth.mean(1)
        layer = self.layer
        with torch.no_grad():
            layer.coefficients.copy_(torch.from_numpy(coefficients))
            layer.bias.copy_(torch.from_numpy(bias))
        rest = targets - coefficients @ truth - bias[:, None]
        self.unit = 2 * float(np.square(rest).mean()) / rest.size

    def rule(self, k: int) -> None:
        """One rule of a linear readout by a table of its own."""
        off, on = (look(self.objective, self.layer, rule_forced(self.layer, k, value)).losses for value in (0.0, 1.0))
        count = len(off)
        spec, mean = describe(self.objective.loss), float(look(self.objective, self.layer).losses.sum())
        self.unit = 2 * mean / count if spec is not None and spec.kind == "mse" else 1 / count
        if self.unit == 0:
            return  # nothing is left to gain
        readout = OrReadout((on - off).numpy() / self.unit)
        self.l0 = NATS if self.step.l0 == "auto" else float(self.step.l0)
        literals = _literals(self.layer)
        literals[k] = self._search(readout, literals[k : k + 1], self.l0, self.step.moves // len(literals) + 1).literals
        self._write(literals)

    def result(self, old: Array) -> _Result:
        """What came of it."""
        new = _literals(self.layer)
        before, after, moved = (int(np.count_nonzero(places)) for places in (old, new, old != new))
        last = self.step.cooling.last * self.unit
        return _Result(self.moves, self.accepted, moved, before, after, self.l0 * self.unit, last)

    def _search(self, readout: Readout, start: Array, l0: float, moves: int) -> Found:
        step = self.step
        heat = [step.cooling.at(k, PIECES, 1.0) for k in range(PIECES)]
        threads = torch.get_num_threads() if step.threads is None else step.threads
        seed = int(torch.randint(2**62, (), generator=self.generator))
        found = Search(step.restarts, moves, heat, l0, threads)(self.rows, readout, start, seed)
        self.moves += found.moves
        self.accepted += found.accepted
        return found

    def _write(self, literals: Array) -> None:
        """All literals in one copy: they are never half-written."""
        self.layer.literals.copy_(torch.from_numpy(literals))


def _literals(layer: RuleLayer) -> Array:
    """A copy of a layer's literals."""
    literals: Array = layer.literals.cpu().numpy().copy()
    return literals


def _description(errors: float, count: int) -> float:
    """Nats to say which of ``count`` samples are wrong."""
    rate = min(max(errors / count, 0.0), 1.0)
    return -count * sum(p * math.log(p) for p in (rate, 1 - rate) if p > 0)
