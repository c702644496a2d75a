"""GPTQ as its paper writes it, column after column and slowly: what the fast one has to agree with.

`python -m benchmarks.quantize.reference` rounds all layers of the transformer's encoder by both, for the sentences of
one draw and on the same grids, and counts the integers that are equal.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

import qanneal_opt as qa
from benchmarks import harness
from benchmarks.measurement import show
from benchmarks.quantize import minilm, text
from benchmarks.quantize.run import WIDTHS
from benchmarks.rows import Row, markdown
from qanneal_opt.compress import at_once
from qanneal_opt.compress.grid import Grid
from qanneal_opt.compress.layers import find_layers
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.layer import layer_moments

OUTPUT = harness.RESULTS / "quantize_reference.jsonl"


def gptq(weight: Tensor, moment: Tensor, grid: Grid, damping: float = 0.01) -> Tensor:
    """Codes `(R, C)` of weights `(R, C)`, H `(C, C)`; columns of the largest diagonal of H first.

    Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", 2023:
    with F the inverse of the damped H over the columns that are left, column j is rounded and the others are moved by
    -(w_j - v_j) F_j: / F_jj; then j is eliminated from F.
    """
    order = torch.argsort(moment.diagonal(), descending=True, stable=True)
    H = moment.double()[order][:, order]
    H = H + damping * H.diagonal().mean() * torch.eye(len(H), dtype=torch.float64)
    inverse = torch.linalg.inv(H)
    scale, zero = (part.double()[:, order] for part in grid.spread(weight.shape[1]))
    rest = weight.double()[:, order].clone()
    codes = torch.empty_like(rest)
    for j in range(len(order)):
        codes[:, j] = (rest[:, j] / scale[:, j] + zero[:, j]).round().clamp(0, grid.top)
        error = rest[:, j] - scale[:, j] * (codes[:, j] - zero[:, j])
        rest -= torch.outer(error / inverse[j, j], inverse[j])
        inverse -= torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    result = torch.empty_like(codes)
    result[:, order] = codes
    return result.to(torch.uint8)


def compare(widths: Sequence[str], draw: int) -> Iterator[Row]:
    """For each width and layer, how many integers there are and how many are equal."""
    batches = minilm.batches(text.corpus().calibration(draw))
    original = minilm.SentenceEncoder()
    layers, _ = find_layers(original)
    seen = layer_moments(Feed(original, batches), layers, precision=at_once.PRECISION)
    for width in widths:
        rounded = qa.quantize(minilm.SentenceEncoder(), batches, **WIDTHS[width], method="gptq").rounded
        for layer in layers:
            mine = rounded[layer.name]
            equal = mine.codes == gptq(layer.matrix(), seen[layer.name].inputs[0], mine.grid)
            place = {"width": width, "draw": draw, "layer": layer.name, "shape": list(equal.shape)}
            yield {**place, "integers": equal.numel(), "equal": int(equal.sum()), "commit": harness.commit()}


def table(records: Sequence[Row]) -> str:
    """Sums over layers, for each width."""
    lines = []
    for width in dict.fromkeys(record["width"] for record in records):
        mine = [record for record in records if record["width"] == width]
        total, equal = (sum(record[kind] for record in mine) for kind in ("integers", "equal"))
        lines.append([width, str(len(mine)), f"{total:,}", f"{equal:,}"])
    return markdown(["width", "layers", "integers", "equal to the literal GPTQ's"], lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantize.reference", description=__doc__)
    parser.add_argument("--widths", nargs="+", choices=WIDTHS, default=["3 bits"], metavar="WIDTH")
    parser.add_argument("--draw", type=int, default=0, help="of the calibration sentences")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write JSON lines")
    options = parser.parse_args(arguments)
    records = list(compare(options.widths, options.draw))
    show(records, table, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
