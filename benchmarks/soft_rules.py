"""Gradients on the hypothesis class of rules: memberships of literals in (0, 1), trained by AdamW, rounded at last."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, mse_loss

STEPS = 600  # of a restart
EDGE = 1e-4  # probabilities keep so far from 0 and 1, without a clamp, at which gradients of rounded rules end


@dataclass(frozen=True)
class Soft:
    """`decay` pulls memberships to none; `hard`: rounded forward, smooth backward (straight-through)."""

    lr: float
    decay: float
    hard: bool


class Relaxed:
    """K products over memberships of the inputs and their negations, and a readout."""

    def __init__(self, rules: int, n: int, real: bool, hard: bool, generator: torch.Generator) -> None:
        self.real = real
        # Rounded memberships need some that are in: a rule without literals holds everywhere, and no gradient gets by.
        spread, mean = (1.0, -1.5) if hard else (0.5, -2.0)
        self.logits = (spread * torch.randn(rules, 2 * n, generator=generator) + mean).requires_grad_()
        self.readout = torch.randn(rules, generator=generator).requires_grad_()
        self.bias = torch.zeros((), requires_grad=True)

    def held(self, x: Tensor, members: Tensor) -> Tensor:
        """How far each product holds, (N, K)."""
        both = torch.cat([x, 1 - x], 1)  # (N, 2n)
        return (1 - members * (1 - both.unsqueeze(-2))).prod(-1)

    def __call__(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """Outputs (N,); with rounded memberships unless others are given."""
        held = self.held(x, self.logits.sigmoid().round() if members is None else members)
        return held @ self.readout + self.bias if self.real else 1 - (1 - held).prod(-1)

    def train(self, x: Tensor, y: Tensor, setting: Soft, until: float) -> int:
        """Train until the process has used so many seconds, or for `STEPS`; how many there were."""
        base = torch.optim.AdamW([self.logits, self.readout, self.bias], lr=setting.lr, weight_decay=0.0, fused=True)
        step, least, kept = 0, float("inf"), self.logits.detach().clone()
        while step < STEPS and time.process_time() < until:
            members = self.logits.sigmoid()
            if setting.hard:
                members = members + (members.round() - members).detach()
            found = self(x, members)
            fit = mse_loss(found, y) if self.real else binary_cross_entropy(EDGE + (1 - 2 * EDGE) * found, y)
            if setting.hard and float(fit.detach()) < least:  # of rounded rules, so that the best can be kept
                least, kept = float(fit.detach()), self.logits.detach().clone()
            base.zero_grad()
            (fit + setting.decay * members.sum() / len(x)).backward()
            base.step()
            step += 1
        if setting.hard:
            with torch.no_grad():
                self.logits.copy_(kept)
        return step

    def refit(self, x: Tensor, y: Tensor) -> None:
        """Least squares of a real readout at the rounded memberships."""
        with torch.no_grad():
            held = self.held(x, self.logits.sigmoid().round())
            design = torch.cat([held, torch.ones(len(x), 1)], 1)
            best = torch.linalg.lstsq(design, y[:, None], driver="gelsd").solution[:, 0]
            self.readout.copy_(best[:-1])
            self.bias.copy_(best[-1])


def relax(
    x: Tensor, y: Tensor, rules: int, real: bool, setting: Soft, seconds: float, seed: int
) -> tuple[Callable[[Tensor], Tensor], int]:
    """The rounded model with the best training loss of as many restarts as fit into the time, and all steps taken."""
    generator, until, steps = torch.Generator().manual_seed(seed), time.process_time() + seconds, 0
    models: list[tuple[float, Relaxed]] = []
    while not models or time.process_time() < until:
        model = Relaxed(rules, x.shape[1], real, setting.hard, generator)
        steps += model.train(x, y, setting, until)
        if real:
            model.refit(x, y)
        with torch.no_grad():
            models.append((float(mse_loss(model(x), y)), model))
    return min(models, key=lambda pair: pair[0])[1], steps
