"""The annealing of one layer of rules: what its readout is judged by, and which price of a literal that asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from qanneal_opt.losses import describe
from qanneal_opt.nn.rules import RuleLayer
from qanneal_opt.objective import Objective
from qanneal_opt.schedule import Cooling
from qanneal_opt.steps.rule_search import FLOOR, PIECES, Array, Found, LinearReadout, OrReadout, Readout, Rows, Search
from qanneal_opt.steps.rule_tables import look, output_forced, rule_forced, squares

PATH = (0.4, 1.0, 2.5)  # errors a literal costs: for labels that are clean, a little noisy, noisy
PROBES = 5  # one in so many restarts tries each price; those that are left take the best
NATS = 3.0  # that a literal costs under a likelihood: about the logarithm of the literals to choose from


@dataclass(frozen=True)
class Options:
    """What a search is asked for; ``l0`` and ``threads`` may be left to it."""

    l0: float | None
    restarts: int
    moves: int
    cooling: Cooling
    threads: int | None


@dataclass(frozen=True)
class Result:
    """What came of a layer."""

    variables: int
    moves: int
    accepted: int
    moved: int  # variables
    price_before: float  # of literals, or of states, in units of the objective
    price_after: float
    temperature: float  # the last, in units of the objective


class RuleJob:
    """The annealing of one layer of rules."""

    def __init__(
        self,
        options: Options,
        layer: RuleLayer,
        objective: Objective,
        generator: torch.Generator,
    ) -> None:
        self.options, self.layer, self.objective, self.generator = options, layer, objective, generator
        layer.recall_thresholds()
        self.present = look(objective, layer)
        self.old = _literals(layer)
        self.rows = Rows.of(self.present.values.bool().numpy(), (self.old != 0).any(0))
        self.moves = self.accepted = 0
        self.unit, self.l0 = 0.0, NATS if options.l0 is None else options.l0

    def run(self) -> Result:
        """Anneal as the readout wants it."""
        if self.layer.readout == "or":
            self._whole()
        elif squares(self.objective, self.present) and _trained(self.layer):
            self._fitted()
        else:
            self._one_by_one()
        self.layer.recall_thresholds()
        new = _literals(self.layer)
        before, after, moved = (int(np.count_nonzero(places)) for places in (self.old, new, self.old != new))
        price, last = self.l0 * self.unit, self.options.cooling.last * self.unit
        return Result(self.old.size, self.moves, self.accepted, moved, price * before, price * after, last)

    def _whole(self) -> None:
        """All rules of an OR readout at once."""
        off, on = (look(self.objective, self.layer, output_forced(value)).losses for value in (0.0, 1.0))
        gains = (on - off).numpy()
        self.unit = float(np.abs(gains).mean())
        if self.unit == 0:
            return  # the output makes no difference
        if len(self.old) == 1 and (gains < 0).all():
            raise ValueError("Invalid rules: 1; every sample asks for an output of 1, which takes two rules")
        readout = OrReadout(gains / self.unit)
        best, left = self.old, self.options.restarts
        if self.options.l0 is None:
            best, left = self._priced(readout)
        if left > 0:
            best = self._search(readout, best, left, self.options.moves).literals
        self._write(best)

    def _priced(self, readout: Readout) -> tuple[Array, int]:
        """Choose the price of a literal by the shortest description; give its literals and how many chains are left."""
        least = float(np.minimum(readout.gains, 0).sum())
        best, shortest, left, price = self.old, math.inf, self.options.restarts, 0.0
        for l0 in PATH:
            self.l0 = l0
            probes = max(1, self.options.restarts // PROBES)
            found = self._search(readout, self.old, probes, self.options.moves)
            left -= probes
            count = int(np.count_nonzero(found.literals))
            errors = found.energy - l0 * count - least
            length = description(errors, self.rows.count) + count * math.log(2 * max(1, len(self.rows.kept)))
            if length < shortest:
                best, shortest, price = found.literals, length, l0
            if errors < 0.5:
                break
        self.l0 = price
        return best, left

    def _fitted(self) -> None:
        """All rules of a linear readout at once, with its least squares."""
        assert self.present.targets is not None
        targets = self.present.targets.numpy()  # (O, N)
        readout = LinearReadout(targets)
        literals = self._search(readout, self.old, self.options.restarts, self.options.moves).literals
        truth = self.rows.truth(literals[:, self.rows.kept])
        centred = targets - targets.mean(1, keepdims=True)
        coefficients = np.linalg.lstsq((truth - truth.mean(1, keepdims=True)).T, centred.T, rcond=None)[0].T  # (O, K)
        bias = targets.mean(1) - coefficients @ truth.mean(1)
        self._write(literals)
        with torch.no_grad():
            self.layer.coefficients.copy_(torch.from_numpy(coefficients))
            self.layer.bias.copy_(torch.from_numpy(bias))
        rest = targets - coefficients @ truth - bias[:, None]
        # The logarithm's slope at the end: where the energy does not rise, neither does what is judged.
        self.unit = 2 * (float(np.square(rest).mean()) + FLOOR * readout.variance) / rest.size

    def _one_by_one(self) -> None:
        """The rules of a linear readout by tables of their own, in random order."""
        spec, mean, count = describe(self.objective.loss), float(self.present.losses.sum()), self.rows.count
        self.unit = 2 * mean / count if spec is not None and spec.kind == "mse" else 1 / count
        if self.unit == 0:
            return  # nothing is left to gain
        moves = -(-self.options.moves // len(self.old))
        for k in torch.randperm(len(self.old), generator=self.generator).tolist():
            off, on = (look(self.objective, self.layer, rule_forced(self.layer, k, v)).losses for v in (0.0, 1.0))
            readout, literals = OrReadout((on - off).numpy() / self.unit), _literals(self.layer)
            literals[k] = self._search(readout, literals[k : k + 1], self.options.restarts, moves).literals
            self._write(literals)

    def _search(self, readout: Readout, start: Array, restarts: int, moves: int) -> Found:
        options = self.options
        heat = [options.cooling.at(k, PIECES, 1.0) for k in range(PIECES)]
        seed = int(torch.randint(2**62, (), generator=self.generator))
        found = Search(restarts, moves, heat, self.l0, options.threads)(self.rows, readout, start, seed)
        self.moves += found.moves
        self.accepted += found.accepted
        return found

    def _write(self, literals: Array) -> None:
        """All literals in one copy: they are never half-written."""
        self.layer.literals.copy_(torch.from_numpy(literals))


def _trained(layer: RuleLayer) -> bool:
    """Whether a linear readout may be written: a frozen one stays, and literals are found for it."""
    return layer.coefficients.requires_grad and layer.bias.requires_grad


def _literals(layer: RuleLayer) -> Array:
    """A copy of a layer's literals."""
    literals: Array = layer.literals.cpu().numpy().copy()
    return literals


def description(errors: float, count: int) -> float:
    """Nats to say which of ``count`` samples are wrong."""
    rate = min(max(errors / count, 0.0), 0.5)  # past a half it is noise
    return -count * sum(p * math.log(p) for p in (rate, 1 - rate) if p > 0)


def per_error(errors: float, count: int) -> float:
    """Nats of one more error: the slope of :func:`description`, kept finite and above 0."""
    least = 0.25 / count
    rate = min(max(errors / count, least), 0.5 - least)
    return math.log((1 - rate) / rate)
