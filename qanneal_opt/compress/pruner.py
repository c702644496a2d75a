"""One stage of pruning: choices at several dampings, of which the true objective takes the best."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from qanneal_opt.compress.choice import Choice
from qanneal_opt.compress.groups import Group
from qanneal_opt.compress.magnitude import by_magnitude
from qanneal_opt.compress.obs import by_obs
from qanneal_opt.compress.prune_report import PruneStage
from qanneal_opt.compress.swaps import by_qubo
from qanneal_opt.compress.undo import Undo
from qanneal_opt.objective import Objective
from qanneal_opt.samplers.base import Seat


@dataclass(frozen=True, eq=False)
class Proposal:
    """Units kept of each block, ``(m,)`` bool, and what their weights become, ``(n,)``."""

    units: list[Tensor]
    weights: list[Tensor]
    damping: float = 0.0
    energy: float | None = None
    energy_start: float | None = None


@dataclass(eq=False)
class Pruner:
    """Prunes groups of layers, stage by stage; what it writes is undone with ``undo``.

    Attributes:
        objective: what judges.
        undo: what writes.
        method: how units are chosen: ``"qubo"``, ``"obs"`` or ``"magnitude"``.
        compensate: whether kept weights move.
        dampings: each is tried.
        sampler: of the QUBO.
        start: what the QUBO starts from: ``"magnitude"`` or ``"obs"``.
        num_reads: of the sampler.
        seed: of the sampler's next call.
        stages: what was done so far.
        aside: of each parameter the last values of its dropped weights, 0 elsewhere.
    """

    objective: Objective
    undo: Undo
    method: str
    compensate: bool
    dampings: Sequence[float]
    sampler: Seat
    start: str
    num_reads: int
    seed: int
    stages: list[PruneStage] = field(default_factory=list)
    aside: dict[Tensor, Tensor] = field(default_factory=dict)

    def prune(self, group: Group, density: float) -> float:
        """Leave ``density`` of each cell of the group, and give the objective; with no more to drop, compensate."""
        begun = time.perf_counter()
        choices = group.choices(self.objective, density)
        if self.method == "obs" and any(int(choice.surplus.sum()) for choice in choices):
            choices = [replace(choice, g=torch.zeros_like(choice.g)) for choice in choices]  # as in the paper
        best, least = None, math.inf
        for proposal in self._proposals(choices):
            self._write(group, proposal.weights)
            loss = float(self.objective())
            if loss < least:
                best, least = proposal, loss
        if best is None:
            raise ValueError(f"Invalid objective: not finite at density {density:.3g}; it has to be at some choice")
        kept = [units[choice.unit] for units, choice in zip(best.units, choices, strict=True)]
        for param, last in group.tensors([choice.w * ~keep for choice, keep in zip(choices, kept, strict=True)]):
            self.aside[param] = last + self.aside.get(param, 0.0)
        self._write(group, best.weights)
        group.keep(best.units)
        names = tuple(layer.name for layer in group.layers)
        told = (best.damping, best.energy, best.energy_start, least, time.perf_counter() - begun)
        self.stages.append(PruneStage(names, density, *told))
        return least

    def _proposals(self, choices: Sequence[Choice]) -> Iterator[Proposal]:
        """At each damping a choice, its weights as they are and compensated."""
        plain: list[list[Tensor]] = []
        for damping in self.dampings:
            damped = [choice.damped(damping) for choice in choices]
            units, *energies = self._chosen(damped)
            kept = [mine[choice.unit] for mine, choice in zip(units, damped, strict=True)]
            if not any(all(map(torch.equal, units, other)) for other in plain):
                plain.append(units)
                yield Proposal(units, [c.w * k for c, k in zip(damped, kept, strict=True)], 0.0, *energies)
            if not self.compensate:
                continue
            moved = [choice.compensated(keep) for choice, keep in zip(damped, kept, strict=True)]
            found = [weights for weights in moved if weights is not None]
            if len(found) == len(moved):  # it is not where a loss is not convex and the damping too little
                yield Proposal(units, found, damping, *energies)

    def _chosen(self, choices: Sequence[Choice]) -> tuple[list[Tensor], float | None, float | None]:
        """Units kept of each block; for the QUBO its energies, after and before sampling, summed."""
        if not any(int(choice.surplus.sum()) for choice in choices):
            return [torch.ones(len(choice.cell), dtype=torch.bool) for choice in choices], None, None
        if self.method != "qubo":
            chosen = by_obs if self.method == "obs" else by_magnitude
            return [chosen(choice) for choice in choices], None, None
        start = by_obs if self.start == "obs" else by_magnitude
        found = []
        for choice in choices:
            found.append(by_qubo(choice, self.sampler, start(choice), num_reads=self.num_reads, seed=self.seed))
            self.seed += 1
        return [units for units, _, _ in found], sum(e for _, e, _ in found), sum(e for _, _, e in found)

    def _write(self, group: Group, weights: Sequence[Tensor]) -> None:
        for param, tensor in group.tensors(weights):
            self.undo.write(param, tensor)
