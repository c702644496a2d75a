"""What rounding did, layer by layer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from qanneal_opt.compress.layers import find_layers
from qanneal_opt.compress.packed import RoundedLayer, write
from qanneal_opt.encoding.levels import Levels
from qanneal_opt.terminal import table


@dataclass(frozen=True)
class LayerRow:
    """One layer of a report, plain values only.

    Attributes:
        name: of the module.
        kind: its class.
        shape: of the weight.
        bits: of a weight.
        group_size: columns of the weight as a matrix that share a scale.
        samples: rows of inputs that the layer saw.
        rtn: the layer objective of rounding to nearest on the same grid.
        gptq: that of GPTQ.
        final: that of the weights which the layer has now.
        seconds: rounding took, statistics apart.
        note: what was out of the ordinary, or empty.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    bits: int
    group_size: int
    samples: int
    rtn: float
    gptq: float
    final: float
    seconds: float
    note: str = ""

    @property
    def inputs(self) -> int:
        """Columns of the weight as a matrix."""
        return self.shape[0] if self.kind == "Conv1D" else math.prod(self.shape[1:])


@dataclass(frozen=True, eq=False)
class QuantizationReport:
    """What :func:`qanneal_opt.quantize` did: one row a layer, the codes, and what it took.

    Attributes:
        rows: the rounded layers, in the model's order.
        alone: names of layers with weights that were left alone, with the reason.
        settings: all that rounding was asked for.
        seconds: ``statistics``, ``rounding``, and ``total``.
        rounded: codes and grids by layer name.
        model: the model itself.
    """

    rows: Sequence[LayerRow]
    alone: Mapping[str, str]
    settings: Mapping[str, Any]
    seconds: Mapping[str, float]
    rounded: Mapping[str, RoundedLayer]
    model: nn.Module

    def __str__(self) -> str:
        header = ["layer", "shape", "bits", "rtn", "gptq", "final", "final/gptq", "seconds"]
        lines = [
            [
                row.name or row.kind,
                "x".join(map(str, row.shape)),
                str(row.bits),
                *(f"{value:.4g}" for value in (row.rtn, row.gptq, row.final)),
                f"{row.final / row.gptq:.3f}" if row.gptq else "-",
                f"{row.seconds:.2f}",
            ]
            for row in self.rows
        ]
        notes = [f"{row.name or row.kind}: {row.note}" for row in self.rows if row.note]
        notes += [f"{name or type(self.model).__name__}: left alone, {reason}" for name, reason in self.alone.items()]
        return "\n".join([table(lines, header), *notes])

    def to_json(self) -> str:
        """Rows, settings and seconds as a JSON object."""
        return json.dumps(
            {
                "rows": [asdict(row) for row in self.rows],
                "alone": dict(self.alone),
                "settings": dict(self.settings),
                "seconds": dict(self.seconds),
            }
        )

    def levels(self, name: str) -> Levels:
        """Give the encoding under which :class:`qanneal_opt.AnnealingOptimizer` goes on from a layer's rounded weights.

        ``{"params": [layer.weight], "encoding": report.levels(name)}`` starts from exactly these codes and scales. Zero
        points stay; scales are trained if there is one a row of the parameter, and stay otherwise.

        Raises:
            KeyError: if no layer of this name was rounded.
        """
        if name not in self.rounded:
            raise KeyError(f"Invalid name: {name!r}; rounded were {list(self.rounded)}")
        (layer,) = [layer for layer in find_layers(self.model)[0] if layer.name == name]
        grid, codes = self.rounded[name].grid, self.rounded[name].codes
        scale, zero = (layer.assembled(values) for values in grid.spread(codes.shape[1]))
        start = None
        if grid.scale.shape[1] == 1 and layer.by_rows:
            start, zero = (values.flatten(1)[:, :1].view(-1, *[1] * (values.ndim - 1)) for values in (scale, zero))
        first = float(zero.flatten()[0])
        alike = bool((zero == first).all())
        return Levels(
            tuple(k - first * alike for k in range(2**grid.bits)),
            scale=scale if start is None else "row",
            start=start,
            zero=None if alike else zero,
        )

    def save(self, path: str | Path) -> None:
        """Write codes, grids, all other tensors of the model and this report to a safetensors file.

        :func:`qanneal_opt.load_quantized` reads it. Codes take ``bits`` bits each, without gaps within a row. Needs
        safetensors: ``pip install 'qanneal-opt[compress]'``.

        Raises:
            ValueError: if the weights are not those of the codes any more, because the model was trained on, say.
            ImportError: if safetensors is not installed.
        """
        layers = {layer.name: layer for layer in find_layers(self.model)[0] if layer.name in self.rounded}
        write(path, self.model, layers, self.rounded, self.to_json())

    def plot(self, path: str | Path) -> None:
        """Draw each layer's objective in units of GPTQ's, as a picture file. Needs matplotlib."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt

        shown = [row for row in self.rows if row.gptq > 0]
        places = range(len(shown))
        figure, axis = plt.subplots(figsize=(8, 1.5 + 0.22 * len(shown)), layout="constrained")
        for field, marker in (("rtn", "x"), ("gptq", "|"), ("final", "o")):
            values = [getattr(row, field) / row.gptq for row in shown]
            axis.plot(values, places, marker, label=field, markersize=5)
        axis.set_yticks(places, [row.name or row.kind for row in shown], fontsize=7)
        axis.invert_yaxis()
        axis.set(xlabel="layer objective / GPTQ's", xscale="log" if shown else "linear")
        axis.grid(axis="x", alpha=0.3)
        axis.legend()
        figure.savefig(path, dpi=120)
        plt.close(figure)
