"""Units to drop by annealing a QUBO, their number in each cell exact."""

from __future__ import annotations

import torch
from torch import Tensor

from qanneal_opt import samplers
from qanneal_opt.compress.choice import Choice
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import Seat


def by_qubo(choice: Choice, sampler: Seat, start: Tensor, *, num_reads: int, seed: int) -> tuple[Tensor, float, float]:
    """Keep what a sampler finds best, never worse than ``start`` in the QUBO's energy, and minimal against swaps.

    One cell goes to our annealer with a fixed number of ones. Several cells, and all other samplers, get a penalty
    for each cell's number; where it does not hold, the cheapest flips repair it.

    Args:
        choice: the problem.
        sampler: any.
        start: ``(m,)`` bool, units kept; the sampler starts there too where it can.
        num_reads: of the sampler.
        seed: of the sampler.

    Returns:
        ``(m,)`` bool, units kept; the QUBO's energy; and that of ``start``.
    """
    qubo, dropped = choice.qubo(), (~start).to(torch.uint8)
    count = int(dropped.sum())
    if isinstance(sampler, samplers.Annealer) and len(choice.quota) == 1:
        samples = sampler.sample_arrays(qubo, num_reads=num_reads, seed=seed, initial_states=dropped, cardinality=count)
        found = list(samples.bits)
    else:
        fined = penalised(qubo, choice, dropped)
        samples = sampler.sample_arrays(fined, num_reads=num_reads, seed=seed, initial_states=dropped)
        found = [repaired(qubo, choice, bits) for bits in samples.bits]
    found = [descended(qubo, choice.cell, bits) for bits in [dropped, *found]]
    energies = qubo.energies(torch.stack(found))
    best = int(energies.argmin())
    return found[best] == 0, float(energies[best]), float(qubo.energies(dropped))


def penalised(qubo: Qubo, choice: Choice, dropped: Tensor) -> Qubo:
    """``qubo`` plus A times the squared error of each cell's count; A is the most that a flip is worth at ``dropped``.

    A larger A would hold the counts without repair, and drown the rest.
    """
    price = float((qubo.linear + qubo.quadratic @ dropped.double()).abs().max())
    together = (choice.cell[:, None] == choice.cell).double().fill_diagonal_(0.0)  # (m, m)
    count = choice.surplus.double()[choice.cell]
    return Qubo(qubo.linear + price * (1 - 2 * count), qubo.quadratic + 2 * price * together)


def repaired(qubo: Qubo, choice: Choice, bits: Tensor) -> Tensor:
    """Flip the cheapest bits until every cell drops as many as it has to."""
    x = bits.double()
    fields = qubo.linear + qubo.quadratic @ x
    while True:
        excess = torch.zeros(len(choice.quota)).double().index_add_(0, choice.cell, x) - choice.surplus
        side = excess[choice.cell]  # > 0: a one of this cell has to go, < 0: a zero has to come
        price = torch.where(side > 0, -fields, fields).masked_fill((side == 0) | ((side > 0) != (x > 0)), torch.inf)
        best = int(price.argmin())
        if not price[best] < torch.inf:
            return x.to(torch.uint8)
        sign = 1.0 - 2.0 * float(x[best])
        x[best] += sign
        fields.add_(qubo.quadratic[best], alpha=sign)


def descended(qubo: Qubo, cell: Tensor, bits: Tensor) -> Tensor:
    """Make the best swap of a one and a zero of the same cell while one lowers the energy."""
    x = bits.double()
    fields = qubo.linear + qubo.quadratic @ x
    least = 1e-12 * float(fields.abs().max()) if len(x) else 0.0  # less is rounding
    several = bool((cell != cell[0]).any()) if len(cell) else False
    while True:
        on, off = (x > 0).nonzero().flatten(), (x == 0).nonzero().flatten()
        change = fields[off] - fields[on][:, None] - qubo.quadratic[on][:, off]  # (ones, zeros)
        if several:
            change.masked_fill_(cell[on][:, None] != cell[off], torch.inf)
        if not change.numel() or not change.min() < -least:
            return x.to(torch.uint8)
        best = int(change.argmin())
        i, j = on[best // len(off)], off[best % len(off)]
        x[i], x[j] = 0.0, 1.0
        fields += qubo.quadratic[j] - qubo.quadratic[i]
