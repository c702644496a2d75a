"""What pruning did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from qanneal_opt.terminal import table


@dataclass(frozen=True)
class PrunedLayer:
    """One layer of a report, plain values only.

    Attributes:
        name: of the module.
        kind: its class.
        shape: of the weight.
        weights: how many it has.
        kept: how many of them are kept.
        form: of the curvature that they were chosen by.
        note: what was out of the ordinary, or empty.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    kept: int
    form: str
    note: str = ""


@dataclass(frozen=True)
class PruneStage:
    """One choice, plain values only.

    Attributes:
        layers: names of those chosen from together.
        density: kept of them after it.
        damping: of the curvature by whose compensation the objective was lowest; 0 if it was so without any.
        energy: what the QUBO predicts for the drop alone; None where there was none.
        energy_start: that of its start.
        loss: the true objective after it.
        seconds: it took.
    """

    layers: tuple[str, ...]
    density: float
    damping: float
    energy: float | None
    energy_start: float | None
    loss: float
    seconds: float


@dataclass(frozen=True, eq=False)
class PruneReport:
    """What :func:`qanneal_opt.prune` did.

    Attributes:
        rows: one a pruned layer, in the model's order.
        alone: names of layers with weights that were left alone, with the reason.
        stages: one a choice, in order, refits among them.
        settings: all that pruning was asked for.
        loss_before: the objective before.
        loss_after: the objective after.
        seconds: in all.
        masks: of each layer by name, of its weight's shape, bool: True where kept.
        aside: of each layer by name, of its weight's shape: a dropped weight's last value, 0 elsewhere.
        model: the model itself.
    """

    rows: Sequence[PrunedLayer]
    alone: Mapping[str, str]
    stages: Sequence[PruneStage]
    settings: Mapping[str, Any]
    loss_before: float
    loss_after: float
    seconds: float
    masks: Mapping[str, Tensor]
    aside: Mapping[str, Tensor]
    model: nn.Module

    @property
    def density(self) -> float:
        """The fraction kept of all weights of the pruned layers."""
        return sum(row.kept for row in self.rows) / sum(row.weights for row in self.rows)

    def __str__(self) -> str:
        header = ["layer", "shape", "kept", "density", "chosen by"]
        lines = [
            [
                row.name or row.kind,
                "x".join(map(str, row.shape)),
                f"{row.kept} of {row.weights}",
                f"{row.kept / row.weights:.3f}",
                row.form,
            ]
            for row in self.rows
        ]
        notes = [f"{row.name or row.kind}: {row.note}" for row in self.rows if row.note]
        notes += [f"{name or type(self.model).__name__}: left alone, {reason}" for name, reason in self.alone.items()]
        told = f"objective {self.loss_before:.4g} before, {self.loss_after:.4g} after; {self.seconds:.1f} s"
        return "\n".join([table(lines, header), *notes, told])

    def to_json(self) -> str:
        """All but tensors and model, as a JSON object."""
        return json.dumps(
            {
                "rows": [asdict(row) for row in self.rows],
                "alone": dict(self.alone),
                "stages": [asdict(stage) for stage in self.stages],
                "settings": dict(self.settings),
                "density": self.density,
                "loss_before": self.loss_before,
                "loss_after": self.loss_after,
                "seconds": self.seconds,
            }
        )
