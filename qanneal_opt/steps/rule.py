"""Annealing of rules on the true objective, in turn with gradient refits of what is continuous."""

from __future__ import annotations

import math
from typing import Any

import torch

from qanneal_opt.checks import check_int
from qanneal_opt.nn import AutomatonLayer, RuleLayer
from qanneal_opt.objective import Objective
from qanneal_opt.schedule import Cooling
from qanneal_opt.steps.automaton_layer import AutomatonJob
from qanneal_opt.steps.evaluator import Evaluator
from qanneal_opt.steps.rule_layer import Options, Result, RuleJob
from qanneal_opt.steps.rule_tables import look
from qanneal_opt.telemetry import AnnealRecord
from qanneal_opt.view import View


class RuleStep:
    r"""Simulated annealing of every :class:`RuleLayer` and :class:`AutomatonLayer` in the objective's model.

    For literals W the energy is the true objective, in a unit, and a price for each literal:

    .. math:: E(W) = f(W) / u + l_0 \, |W|_0

    - ``readout="or"``, anywhere in the model, any loss that is a mean over samples: each sample's loss is tabulated
      once with the layer's output set to 0 and once to 1. u is the mean difference of the two, so that f / u counts
      errors.
    - ``readout="linear"`` whose output is the model's, under a mean squared error: coefficients and bias are at their
      least squares for each candidate, and f / u becomes m/2 log(SSE/m + 0.001) for targets of unit variance, in nats.
    - ``readout="linear"`` elsewhere: rule by rule, each sample's loss is tabulated with the rule set to hold and not to
      hold; coefficients are then trained by the refit. Losses are taken as nats, squared errors by their mean.

    Chains of Metropolis moves (45% of a literal's level, 48% that swap a literal for another, 5% that grow a rule from
    a sample, 2% that clear one) start at the present literals, and at none; the best state of all replaces the present
    one if its energy is lower. Moves are evaluated exactly on bit-packed samples by compiled code. Literals of columns
    that are constant are not looked for. Layers are visited one after the other, in the order of ``model.modules()``,
    with what lies below them as it is at the moment, except that thresholds that no rule uses any more go back to where
    they were before rules did (:meth:`RuleLayer.recall_thresholds`).

    An :class:`AutomatonLayer` is tabulated as an OR readout is. Chains of moves that lead a transition to another state
    start at random tables; each state's output is the best one for each candidate. Numbers of states are tried from 1
    on, and the one is taken whose automaton has the shortest description, N H(e/N) + S A log(S) nats with S states
    and A symbols; or fewest errors and ``l0`` S A, if a price is given.

    Args:
        l0: price of a literal, in errors or nats. ``"auto"``: 3 nats; for an OR readout the one of 0.4, 1 and 2.5
            errors whose result has the shortest description, :math:`N H(e/N) + |W|_0 \log 2n` nats, with e the errors
            of N samples and H the entropy of their rate; the first that leaves no error is taken at once. One in five
            restarts tries each price, those that are left take the chosen one.
        restarts: chains.
        moves: of each chain, shared by the rules where they are annealed one by one; of an automaton, by the numbers
            of states that are tried.
        temperature: first and last, in errors or nats, falling geometrically over each chain. 0.0 accepts only
            what does not raise the energy.
        refit: full-batch Adam steps on continuous parameters and scales after the search, undone if they raise the
            objective. What lies below a layer has no gradient in eval mode: it is trained by the optimizer's own steps.
        threads: chains at once, ``torch.get_num_threads()`` by default; results do not depend on it.

    Raises:
        ValueError: if a number is outside its range; when called, if the model has no such layer, calls one with
            something else than one row a sample, a loss is not finite where an output is forced, or that of a batch is
            not the mean of its samples' own, as with weights of classes: an objective takes ``weights`` of samples.

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
            check_int(name, count, least)
        number = isinstance(l0, (int, float)) and not isinstance(l0, bool) and 0 <= l0 < math.inf
        if l0 != "auto" and not number:
            raise ValueError(f'Invalid l0: {l0!r}; "auto" or a finite number of at least 0 is needed')
        cooling = Cooling.of(temperature, "absolute")
        self.options = Options(None if isinstance(l0, str) else float(l0), restarts, moves, cooling, threads)
        self.refit = refit

    def __call__(self, view: View, objective: Objective, generator: torch.Generator) -> AnnealRecord:
        """Anneal each layer once."""
        layers = [module for module in objective.model.modules() if isinstance(module, (RuleLayer, AutomatonLayer))]
        if not layers:
            raise ValueError("Invalid model: it has no RuleLayer and no AutomatonLayer, which RuleStep anneals")
        evaluator = Evaluator(view, objective)
        before, loss = view.begin(evaluator.value)
        evaluator.loss = loss
        with evaluator.clock("model"):
            for layer in layers[1:]:
                look(objective, layer)  # what cannot be annealed is told before the first layer moves
        results = [self._anneal(layer, evaluator, generator) for layer in layers]
        price, price_after = sum(one.price_before for one in results), sum(one.price_after for one in results)
        change = evaluator.value() + price_after - loss - price
        after = evaluator.refit(self.refit, 0.0)
        return AnnealRecord(
            step=view.step,
            strategy=self.name,
            variables=sum(result.variables for result in results),
            candidates=sum(result.moves for result in results),
            predicted=change,
            actual=change,
            accepted=sum(result.accepted for result in results),
            moved=sum(result.moved for result in results),
            loss_before=before + price,
            loss_after=after + price_after,
            price_before=price,
            price_after=price_after,
            seconds=dict(evaluator.seconds),
            temperature=max(result.temperature for result in results),
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing has to survive a resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""

    def _anneal(self, layer: RuleLayer | AutomatonLayer, evaluator: Evaluator, generator: torch.Generator) -> Result:
        """Anneal a layer."""
        job: RuleJob | AutomatonJob
        with evaluator.clock("model"):
            if isinstance(layer, RuleLayer):
                job = RuleJob(self.options, layer, evaluator.objective, generator)
            else:
                job = AutomatonJob(self.options, layer, evaluator.objective, generator)
        with evaluator.clock("judge"):
            return job.run()
