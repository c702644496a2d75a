"""A layer of conjunctions: literals that annealing finds, thresholds and a readout that gradients train."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qanneal_opt.checks import check_int
from qanneal_opt.nn.flips import Flips

WIDTH = 0.2  # of the smooth step that gives a threshold its gradient, in units of an input's spread
QUARTILES = 1.349  # standard deviations of a normal distribution between its quartiles
START = 0.5  # standard deviation of a linear readout's first coefficients


class RuleLayer(nn.Module):
    r"""Rules: conjunctions of literals, each an input, its negation, or none.

    With literals :math:`w_{ki} \in \{-1, 0, 1\}` rule k holds for an input :math:`x \in \{0, 1\}^n` where

    .. math:: a_k = \prod_{i: w_{ki} = 1} x_i \prod_{i: w_{ki} = -1} (1 - x_i)

    is 1; a rule without literals is not in use and holds nowhere. The output is

    .. math:: 1 - \prod_k (1 - a_k) \quad (\text{"or"}) \qquad b_o + \sum_k c_{ok} a_k \quad (\text{"linear"})

    In eval mode inputs are Boolean, and the output of ``"or"`` is exactly 0.0 or 1.0. In train mode the products are
    taken as they stand, of numbers between 0 and 1, so that gradients reach what lies below. With ``thresholds`` an
    input is :math:`u > \theta` in both modes, with :math:`u = (x - m) / s` for a centre m and a spread s that
    :meth:`place_thresholds` takes from samples (0 and 1 before); its gradient is that of
    :math:`\sigma((u - \theta) / 0.2)`, straight through the comparison (Bengio, Leonard and Courville, 2013), so that
    gradients see the very outputs that annealing judges. ``"or"`` gives a probability in train mode, as if a share
    :math:`\epsilon` of labels were flipped: :math:`\epsilon + (1 - 2 \epsilon)\,\mathrm{or}`.

    Literals, ``(rules, n)`` int8, are a buffer: :class:`RuleStep` finds them. All begin as 0. What gradients train are
    the thresholds, the readout's ``coefficients`` and ``bias``, or the logit of twice the share.

    Args:
        in_features: inputs.
        rules: conjunctions, at most.
        readout: ``"or"``: output ``(..., )``; ``"linear"``: output ``(..., out_features)``.
        out_features: of a linear readout.
        thresholds: real inputs are compared with so many thresholds each, which start at quantiles of a standard normal
            distribution (:meth:`place_thresholds`: of samples): n is ``thresholds * in_features`` then. 0: inputs are
            Boolean, and n is ``in_features``.
        device: of buffers and parameters.
        dtype: of parameters.

    Raises:
        ValueError: on a number out of its range or an unknown readout; when called, on inputs of another length, on
            NaN, and without thresholds on inputs that are not 0 or 1 (in train mode: not between them).

    >>> layer = RuleLayer(3, 2).eval()
    >>> layer.literals[0] = torch.tensor([1, -1, 0])
    >>> layer.rules(["warm", "wet", "dark"])
    ['warm and not wet']
    >>> layer(torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]))
    tensor([1., 0.])
    """

    annealed: tuple[str, ...] = ("literals",)  # the buffers that annealing steps move
    literals: Tensor
    centre: Tensor  # (in_features, 1), as is the spread: the units of thresholds
    spread: Tensor
    home: Tensor  # (in_features, thresholds): where they were before rules used them, infinity if none has

    def __init__(
        self,
        in_features: int,
        rules: int,
        *,
        readout: str = "or",
        out_features: int = 1,
        thresholds: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, count, least in (
            ("in_features", in_features, 1),
            ("rules", rules, 1),
            ("out_features", out_features, 1),
            ("thresholds", thresholds, 0),
        ):
            check_int(name, count, least)
        if readout not in ("or", "linear"):
            raise ValueError(f'Invalid readout: {readout!r}; "or" or "linear" is needed')
        if readout == "or" and out_features != 1:
            raise ValueError(f'Invalid out_features: {out_features}; readout="or" has one output')
        self.in_features, self.out_features, self.readout = in_features, out_features, readout
        place: Any = {"device": device, "dtype": dtype}
        columns = in_features * max(thresholds, 1)
        self.register_buffer("literals", torch.zeros(rules, columns, dtype=torch.int8, device=device))
        self.thresholds: Tensor | None = None
        if thresholds:
            shares = torch.arange(1, thresholds + 1, dtype=torch.float64) / (thresholds + 1)
            levels = torch.special.ndtri(shares).to(device, dtype or torch.get_default_dtype())
            self.thresholds = nn.Parameter(levels.expand(in_features, -1).clone())  # (in_features, thresholds)
            self.register_buffer("centre", torch.zeros(in_features, 1, **place))
            self.register_buffer("spread", torch.ones(in_features, 1, **place))
            self.annealed = ("literals", "home")
            self.register_buffer("home", torch.full((in_features, thresholds), math.inf, **place))
        if readout == "or":
            self.flips = Flips(**place)
        else:
            # Not 0: a rule between trained parts would make no difference, wherever it held.
            self.coefficients = nn.Parameter(START * torch.randn(out_features, rules, **place))
            self.bias = nn.Parameter(torch.zeros(out_features, **place))

    def forward(self, inputs: Tensor) -> Tensor:
        """Give the readout of ``inputs``, ``(..., in_features)``."""
        held = self.activations(inputs)  # (..., rules)
        if self.readout == "linear":
            return nn.functional.linear(held, self.coefficients, self.bias)
        some: Tensor = self.flips(1 - (1 - held).prod(-1))
        return some

    def activations(self, inputs: Tensor) -> Tensor:
        """Tell how far each rule holds: ``(..., rules)``, 0 or 1 in eval mode."""
        values, literals = self.values(inputs), self.literals  # (..., n), (rules, n)
        used = (literals != 0).any(-1)
        if not self.training:
            wrong = (1 - values) @ (literals > 0).to(values).T + values @ (literals < 0).to(values).T  # (..., rules)
            return ((wrong == 0) & used).to(values)
        # A product of as many factors as the longest rule has literals, not of all n: the others are 1.
        longest = max(1, int((literals != 0).sum(1).max()))
        columns = (literals != 0).int().argsort(dim=1, descending=True, stable=True)[:, :longest].T  # (longest, rules)
        levels = literals.T.gather(0, columns).unsqueeze(-1)  # (longest, rules, 1)
        # Samples come last, and factors are multiplied one by one: both have gradients that cost little.
        picked = values.flatten(0, -2).T.index_select(0, columns.flatten()).unflatten(0, columns.shape)
        factors = torch.addcmul((levels <= 0).to(values), levels.to(values), picked)  # (longest, rules, N)
        held: Tensor = math.prod(factors.unbind()) * used.unsqueeze(-1)
        return held.T.unflatten(0, values.shape[:-1]) if values.ndim != 2 else held.T

    def values(self, inputs: Tensor) -> Tensor:
        """Give the values that literals are about, ``(..., n)``: the inputs, or how they compare with thresholds."""
        if inputs.ndim == 0 or inputs.shape[-1] != self.in_features:
            shape = tuple(inputs.shape)
            raise ValueError(f"Invalid inputs: shape {shape}; a last dimension of {self.in_features} is needed")
        dtype = self.dtype
        if self.thresholds is None:
            legal = (inputs >= 0) & (inputs <= 1) if self.training else (inputs == 0) | (inputs == 1)
            if not bool(legal.all()):
                wrong = float(inputs[~legal][0])
                raise ValueError(f"Invalid inputs: {wrong:g}; 0 or 1 is needed, or thresholds=1 for real inputs")
            return inputs.to(dtype)
        if bool(inputs.isnan().any()):
            raise ValueError("Invalid inputs: nan; real numbers are needed")
        units = (inputs.to(dtype).unsqueeze(-1) - self.centre) / self.spread  # (..., in_features, 1)
        above = (units - self.thresholds).flatten(-2)  # (..., n)
        decided = (above > 0).to(dtype)
        if not self.training:
            return decided
        smooth = (above / WIDTH).sigmoid()
        return smooth + (decided - smooth).detach()

    @torch.no_grad()
    def place_thresholds(self, inputs: Tensor) -> None:
        """Put thresholds at quantiles of samples ``(N, in_features)``, and measure each input from its own median.

        Its spread, the unit of thresholds and so of the steps that gradients take, becomes the distance of its
        quartiles over 1.349 (of a normal distribution: the standard deviation), or the standard deviation where the
        quartiles are one. T thresholds are at the quantiles 1/(T + 1), ..., T/(T + 1).

        Raises:
            ValueError: without thresholds, or if ``inputs`` are not two or more finite rows of ``in_features``.
        """
        if self.thresholds is None:
            raise ValueError("Invalid thresholds: 0; at least 1 is needed for them to have a place")
        fits = inputs.ndim == 2 and len(inputs) > 1 and inputs.shape[1] == self.in_features
        if not fits or not bool(inputs.isfinite().all()):
            shape, width = tuple(inputs.shape), self.in_features
            raise ValueError(f"Invalid inputs: shape {shape}; two or more rows of {width} finite numbers are needed")
        x, count = inputs.to(self.centre.device, torch.float64), self.thresholds.shape[1]
        low, centre, high = (x.quantile(q, 0) for q in (0.25, 0.5, 0.75))
        spread = torch.where(high > low, (high - low) / QUARTILES, x.std(0))
        spread = torch.where(spread > 0, spread, 1.0)
        levels = torch.arange(1, count + 1).to(x) / (count + 1)
        places = (x.quantile(levels, 0).T - centre[:, None]) / spread[:, None]  # (in_features, thresholds)
        self.centre.copy_(centre[:, None])
        self.spread.copy_(spread[:, None])
        self.thresholds.copy_(places)
        self.home.fill_(math.inf)

    @torch.no_grad()
    def recall_thresholds(self) -> None:
        """Put thresholds that no rule uses any more back to where they were before rules did.

        Gradients moved them for rules that are gone, often to where next to no sample is on their other side, and a
        threshold out of use has no gradient to come back by. Annealing steps call this before and after they search.
        """
        if self.thresholds is None:
            return
        used, known = (self.literals != 0).any(0).view_as(self.home), self.home.isfinite()
        self.thresholds.copy_(torch.where(known & ~used, self.home, self.thresholds))
        self.home.copy_(torch.where(used & ~known, self.thresholds, self.home))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of parameters and outputs."""
        return (self.flips.flipped if self.readout == "or" else self.bias).dtype

    def rules(self, names: Sequence[str] | None = None) -> list[str]:
        """Print the rules in use, one string each; those of a linear readout with their coefficients.

        Args:
            names: of the inputs; ``x0``, ``x1``, ... by default.

        Raises:
            ValueError: if they are not ``in_features`` names.
        """
        literals = self.literals.tolist()
        words = [self._words(row, self._columns(names)) for row in literals]
        if self.readout == "or":
            return [text for text in words if text]
        weights = self.coefficients.detach().T.tolist()  # (rules, out_features)
        return [f"{', '.join(f'{c:+.4g}' for c in row)} if {text}" for row, text in zip(weights, words) if text]

    def plot(self, names: Sequence[str] | None = None, *, axes: Any = None) -> Any:
        """Draw the literals of the rules in use, a row each, on matplotlib axes (new ones if None); give the axes.

        Raises:
            ValueError: if there are not ``in_features`` names.
        """
        import matplotlib.pyplot as plt

        columns = [yes for yes, _ in self._columns(names)]
        rows = [row for row in self.literals.tolist() if any(row)]
        used = [i for i in range(len(columns)) if any(row[i] for row in rows)]
        if axes is None:
            size = (1.5 + 0.35 * len(used), 1.0 + 0.35 * len(rows))
            axes = plt.subplots(figsize=size, layout="constrained")[1]
        picture = [[row[i] for i in used] for row in rows] or [[0]]
        axes.imshow(picture, cmap="coolwarm", vmin=-1, vmax=1, aspect="auto")
        axes.set_xticks(range(len(used)), [columns[i] for i in used], rotation=90)
        axes.set_yticks(range(len(rows)), [f"rule {k + 1}" for k in range(len(rows))])
        return axes

    def extra_repr(self) -> str:
        """What a print of the module tells."""
        rules, columns = self.literals.shape
        text = f"in_features={self.in_features}, rules={rules}, readout={self.readout!r}"
        if self.readout == "linear":
            text += f", out_features={self.out_features}"
        return text if self.thresholds is None else text + f", thresholds={columns // self.in_features}"

    def _columns(self, names: Sequence[str] | None) -> list[tuple[str, str]]:
        """What a literal of each column says, and what its negation says."""
        names = [f"x{i}" for i in range(self.in_features)] if names is None else list(names)
        if len(names) != self.in_features:
            raise ValueError(f"Invalid names: {len(names)} of them; {self.in_features} are needed")
        if self.thresholds is None:
            return [(f"{name}", f"not {name}") for name in names]
        pairs = zip(names, (self.centre + self.spread * self.thresholds).tolist())
        return [(f"{name} > {level:.4g}", f"{name} <= {level:.4g}") for name, row in pairs for level in row]

    @staticmethod
    def _words(row: Sequence[int], columns: Sequence[tuple[str, str]]) -> str:
        return " and ".join(pair[0] if level > 0 else pair[1] for level, pair in zip(row, columns) if level)
