"""Sparse rows for a small MLP, unit by unit: row models, QUBOs along an l0 path, the output refitted.

Why it finds a parity y = x_a x_b x_c of random signs x, where first derivatives start blind: over a
unit's incoming row w the loss has couplings H_ab ~ -v E[y act''(w.x) x_a x_b] = -v E[x_c act''(w.x)] (v is
the unit's output weight), and for an odd act'' that is ~ w_c. So at a random row that holds c, the pair a, b
stands out of the noise, and a QUBO with a price on nonzero weights takes it. At the row a, b the slope along
x_c is ~ w_a w_b and stands out by itself.

The ledger, in `ge` (one forward and backward of this network on all the samples, 3 N (n h + h)
multiplications): a forward is 1/3; a row model is one Hessian-vector product (2) and, for H and its standard
errors, 2 N n (n + 1) multiplications; a refit of k live units is a forward, N (k + 1)(k + 2) and (k + 1)^3.
Solving QUBOs costs no ge, but CPU seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qanneal_opt.curvature import row_model
from qanneal_opt.objective import Objective
from qanneal_opt.quadratic import Affine
from qanneal_opt.qubo import Qubo

Solve = Callable[[Qubo, int], Tensor]  # a QUBO and a seed to bits (m,)


@dataclass(frozen=True)
class Setting:
    """Of the network: `hidden` units, the weights of a unit 0 or +-s with s from `sizes[0]` to `sizes[1]`.

    Of the search: an empty unit is looked at with `probe` random weights of norm `strength` and the output
    weight `start` (small, as what is sought grows with it and the Gauss-Newton part of H with its square);
    `threshold` in standard errors; the `path` of l0 in units of the largest coupling or slope; `depth` models
    a visit; `price` of a nonzero weight in what is judged.
    """

    hidden: int = 16
    sizes: tuple[float, float] = (0.5, 1.5)
    probe: int = 20
    strength: float = 0.3
    start: float = 0.03
    threshold: float = 3.0
    path: tuple[float, ...] = (1.2, 0.8, 0.5, 0.3)
    depth: int = 3
    price: float = 0.015
    ridge: float = 1e-3


@dataclass(frozen=True, eq=False)
class Fit:
    """The output layer's least-squares weights `(h,)` and bias, their squared error and wrong samples."""

    weight: Tensor
    bias: Tensor
    loss: float
    wrong: int


@dataclass(frozen=True, eq=False)
class Trial:
    """A row of a unit `(n,)`, the output layer fitted to it, and their squared error plus price."""

    value: float
    row: Tensor
    fit: Fit

    def rank(self) -> float:
        return self.value


class RowSearch:
    """A tanh network on inputs `(N, n)` and labels -1, 1 `(N,)`, empty at first, and what its rows cost."""

    def __init__(
        self, inputs: Tensor, labels: Tensor, solve: Solve, setting: Setting, generator: torch.Generator
    ) -> None:
        count, n = inputs.shape
        self.hidden = nn.utils.skip_init(nn.Linear, n, setting.hidden, bias=False)
        self.output = nn.utils.skip_init(nn.Linear, setting.hidden, 1)
        self.model = nn.Sequential(self.hidden, nn.Tanh(), self.output)
        for param in self.model.parameters():
            nn.init.zeros_(param)
        self.rows = self.hidden.weight.detach()  # (h, n)
        self.sizes = torch.linspace(*setting.sizes, setting.hidden)
        self.inputs, self.labels = inputs, labels
        self.objective = Objective(self.model, nn.functional.mse_loss, (inputs, labels[:, None]))
        self.solve, self.setting, self.generator = solve, setting, generator
        self.unit_ge = 3 * count * (n + 1) * setting.hidden  # multiplications of one ge
        self.ge = 0.0
        self.models = self.judged = 0

    def run(self, cap: float) -> Fit:
        """Visit units until no training sample is wrong or `cap` ge are spent."""
        fit = self._refit()
        while True:
            for unit in torch.randperm(self.setting.hidden, generator=self.generator).tolist():
                if fit.wrong == 0 or self.ge >= cap:
                    return fit
                fit = self._visit(unit, fit)

    def _visit(self, unit: int, fit: Fit) -> Fit:
        """Move along from the unit's row, keep the best row that was judged, drop what it does not need."""
        start = here = best = Trial(self._value(fit), self.rows[unit].clone(), fit)
        for _ in range(self.setting.depth):
            trials = [self._judge(unit, row) for row in self._candidates(unit, here.row)]
            if not trials:
                break
            here = min(trials, key=Trial.rank)  # uphill if need be: a pair is worth nothing without its third
            best = min(best, here, key=Trial.rank)
        if best is not start:
            for place in best.row.nonzero().flatten().tolist():
                without = best.row.clone()
                without[place] = 0.0
                best = min(best, self._judge(unit, without), key=Trial.rank)
        self.rows[unit] = best.row
        self._write(best.fit)
        return best.fit

    def _candidates(self, unit: int, row: Tensor) -> list[Tensor]:
        """Rows that a QUBO over additions to `row` prefers to it, one for each l0 of the path, distinct."""
        setting, size = self.setting, float(self.sizes[unit])
        free = (row == 0).nonzero().flatten()
        if not len(free):
            return []
        probe = torch.zeros_like(row)
        if not row.any():  # act'' is 0 at an empty row, and so is all that could be seen
            places = torch.randperm(len(row), generator=self.generator)[: setting.probe]
            signs = torch.randint(2, (len(places),), generator=self.generator) * 2.0 - 1.0
            probe[places] = signs * setting.strength / len(places) ** 0.5
            with torch.no_grad():
                self.output.weight[0, unit] = setting.start
        self.rows[unit] = row + probe
        model = row_model(self.objective, self.hidden, unit, threshold=setting.threshold)
        self.rows[unit] = row
        self.models += 1
        self._spend(passes=2.0, products=2 * len(self.labels) * len(row) * (len(row) + 1))
        couplings = model.H[free][:, free].fill_diagonal_(0.0)
        top = max(float(couplings.abs().max()) * size**2, float(model.g[free].abs().max()) * size)
        if top == 0.0:
            return []
        signs = 2.0 * self._bits(model.encode(_moves(probe, free, -size, 2 * size))) - 1.0
        moves = _moves(probe, free, 0.0, size * signs)
        found: dict[tuple[int, ...], Tensor] = {}
        for factor in setting.path:
            bits = self._bits(model.encode(moves, weights=row + probe, l0=factor * top))
            candidate = row.clone()
            candidate[free] = (size * signs * bits).to(row)
            if bits.any():
                found.setdefault(tuple(bits.tolist()), candidate)
        return list(found.values())

    def _bits(self, qubo: Qubo) -> Tensor:
        seed = int(torch.randint(2**31 - 1, (), generator=self.generator))
        return self.solve(qubo, seed).double()

    def _judge(self, unit: int, row: Tensor) -> Trial:
        """Try `row` in the unit, with the output refitted; the network stays as it is."""
        old = self.rows[unit].clone()
        self.rows[unit] = row
        fit = self._refit()
        trial = Trial(self._value(fit), row, fit)
        self.rows[unit] = old
        self.judged += 1
        return trial

    def _value(self, fit: Fit) -> float:
        return fit.loss + self.setting.price * int(torch.count_nonzero(self.rows))

    def _refit(self) -> Fit:
        """Fit the output layer over the units that are not empty, by (slightly ridged) least squares."""
        live = self.rows.any(1).nonzero().flatten()
        with torch.no_grad():
            units = self.model[:2](self.inputs)[:, live].double()  # (N, k)
        features = torch.cat([units, torch.ones(len(units), 1, dtype=units.dtype)], 1)  # (N, k + 1)
        targets = self.labels.double()
        count, k = features.shape
        self._spend(passes=1 / 3, products=count * k * (k + 1) + k**3)
        gram = features.T @ features + self.setting.ridge * count * torch.eye(k, dtype=features.dtype)
        solution = torch.linalg.solve(gram, features.T @ targets)
        outputs = features @ solution
        weight = torch.zeros(self.setting.hidden).index_put((live,), solution[:-1].float())
        wrong = int((outputs * targets <= 0).sum())
        return Fit(weight, solution[-1:].float(), float((outputs - targets).square().mean()), wrong)

    def _write(self, fit: Fit) -> None:
        with torch.no_grad():
            self.output.weight.copy_(fit.weight[None])
            self.output.bias.copy_(fit.bias)

    def _spend(self, passes: float, products: float) -> None:
        self.ge += passes + products / self.unit_ge


def _moves(probe: Tensor, free: Tensor, low: float, step: float | Tensor) -> Affine:
    """Displacements that take the probe away and put `low + step b` on the weights `free`, a bit each."""
    offset = -probe.double()
    offset[free] += low
    matrix = torch.zeros(len(probe), len(free), dtype=torch.float64)  # (n, m)
    matrix[free, torch.arange(len(free))] = torch.as_tensor(step, dtype=torch.float64)
    return Affine(offset, matrix)


def greedy(qubo: Qubo, pairs: bool) -> Tensor:
    """T = 0 from zeros: the best flip (or, with `pairs`, flip of two) as long as it lowers the energy."""
    bits = torch.zeros(qubo.n, dtype=torch.float64)
    tolerance = 1e-12 * float(qubo.linear.abs().max() + qubo.quadratic.abs().max())
    while True:
        signs = 1.0 - 2.0 * bits
        single = signs * (qubo.linear + qubo.quadratic @ bits)  # (m,) change by each flip
        gain, flips = single.min(), single.argmin()[None]
        if pairs:
            double = single[:, None] + single + qubo.quadratic * signs[:, None] * signs  # (m, m)
            double.fill_diagonal_(torch.inf)
            if double.min() < gain:
                gain, place = double.min(), double.argmin()
                flips = torch.stack([place // qubo.n, place % qubo.n])
        if gain >= -tolerance:
            return bits
        bits[flips] = 1.0 - bits[flips]
