"""Models of rules between trained parts: a score, and the layer with literals that gradients train."""

from typing import Any

import torch
from torch import Tensor, nn

import qanneal_opt as qa
from qanneal_opt.nn.rules import WIDTH


class SoftRules(qa.RuleLayer):
    """The same layer with memberships of literals in (0, 1) that gradients train, rounded in eval mode.

    `hard` forward and smooth backward (straight-through) are `"nothing"`, the `"thresholds"`, or also the `"literals"`.
    """

    def __init__(self, in_features: int, count: int, *, hard: str, **options: Any) -> None:
        super().__init__(in_features, count, **options)
        self.hard = hard
        self.members = nn.Parameter(0.5 * torch.randn(2, *self.literals.shape) - 2.0)  # logits: plain and negated

    def activations(self, inputs: Tensor) -> Tensor:
        """How far each rule holds, (N, K)."""
        members = self.members.sigmoid()  # (2, K, n)
        if not self.training:
            members = members.round()
            return self._held(self.values(inputs), members) * (members > 0).any(0).any(-1)
        if self.hard == "literals":
            members = members + (members.round() - members).detach()
        return self._held(self.smooth(inputs) if self.hard == "nothing" else self.values(inputs), members)

    def smooth(self, inputs: Tensor) -> Tensor:
        """How far inputs are above thresholds."""
        units = (inputs.unsqueeze(-1) - self.centre) / self.spread
        return ((units - self.thresholds) / WIDTH).sigmoid().flatten(-2)

    @staticmethod
    def _held(values: Tensor, members: Tensor) -> Tensor:
        (plain, negated), values = members, values.unsqueeze(-2)  # (K, n), (N, 1, n)
        return ((1 - plain * (1 - values)) * (1 - negated * values)).prod(-1)


class Score(nn.Module):
    """Logits (N,) of inputs (N, linear + rest): a linear part, and rules over what lies below makes of the rest."""

    def __init__(self, layer: qa.RuleLayer, linear: int = 0, below: nn.Module | None = None) -> None:
        super().__init__()
        self.linear, self.below, self.layer = linear, below or nn.Identity(), layer
        self.head = nn.Linear(linear + 1, 1)
        with torch.no_grad():  # a rule that holds asks for a label 1, and nothing else does anything yet
            self.head.weight.zero_()
            self.head.weight[0, -1], self.head.bias[0] = 2.0, -1.0

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        held = self.layer(self.below(x[:, self.linear :]))
        logits: Tensor = self.head(torch.cat([x[:, : self.linear], held[:, None]], 1))[:, 0]
        return logits
