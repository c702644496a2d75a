"""The beam against GPTQ in the same order: layers that see digits, 4 bits, `python -m benchmarks.quantize.beam`.

The layer of n = 64 inputs sees the pixels, those of 256 and 512 the units of a random ReLU layer upon them. Weights are
random, 64 rows; GPTQ is the beam of width K = 1. What is shown is the layer objective on GPTQ's, its mean over seeds
and their standard deviation, before and after a coordinate descent.
"""

import argparse
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from benchmarks import harness
from benchmarks.measurement import show
from benchmarks.rows import Row, markdown
from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.grid import fit_grid
from qanneal_opt.compress.lattice import Lattice

INPUTS, ROWS, BITS = (64, 256, 512), 64, 4
WIDTHS = (1, 4, 16, 64)
OUTPUT = harness.RESULTS / "quantize_beam.jsonl"


def layer(inputs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Weights `(64, n)` and the second moment `(n, n)` of what they see."""
    from sklearn.datasets import load_digits

    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(load_digits().data) / 16  # (1797, 64)
    if inputs != x.shape[1]:
        first = torch.randn(x.shape[1], inputs, generator=generator, dtype=torch.float64) / 4
        x = torch.relu((x - x.mean(0)) @ first)
    weight = torch.randn(ROWS, inputs, generator=generator, dtype=torch.float64) / inputs**0.5
    return weight, x.T @ x / len(x)


def measure(inputs: int, seed: int) -> list[Row]:
    """For each width the objective, the same after a descent, and the beam's seconds."""
    weight, moment = layer(inputs, seed)
    grid, factor = fit_grid(weight, moment, BITS), Factor.of(moment)
    lattice, found = Lattice(weight, moment), []
    for width in WIDTHS:
        begun = time.process_time()
        codes = beam(weight, grid, factor, width=width)
        seconds = time.process_time() - begun
        ends = {"beam": codes, "descended": lattice.search(codes, grid, sweeps=0)}
        errors = {kind: float(lattice.errors(end, grid).sum()) for kind, end in ends.items()}
        place = {"inputs": inputs, "seed": seed, "width": width}
        found.append({**place, **errors, "cpu_s": seconds, "commit": harness.commit()})
    return found


def table(records: Sequence[Row]) -> str:
    """For each number of inputs and each width the ratios, means and standard deviations over seeds."""
    base = {(r["inputs"], r["seed"]): r["beam"] for r in records if r["width"] == 1}
    lines = []
    for inputs, width in dict.fromkeys((record["inputs"], record["width"]) for record in records):
        mine = [record for record in records if (record["inputs"], record["width"]) == (inputs, width)]
        ratios = [[record[kind] / base[inputs, record["seed"]] for record in mine] for kind in ("beam", "descended")]
        shown = [f"{mean(values):.3f} ± {stdev(values) if len(values) > 1 else 0.0:.3f}" for values in ratios]
        lines.append([str(inputs), str(width), *shown, f"{mean(record['cpu_s'] for record in mine):.2f}"])
    return markdown(["n", "K", "objective on GPTQ's", "with a descent", "CPU seconds"], lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantize.beam", description=__doc__)
    parser.add_argument(
        "--seeds", default="0:10", help="seeds of weights and of the ReLU layer; from 1000 on for tuning"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write JSON lines")
    options = parser.parse_args(arguments)
    seeds = harness.parse_seeds(options.seeds)
    with harness.single_thread():
        measure(INPUTS[0], seeds[0])  # compiles
        records = [record for inputs, seed in product(INPUTS, seeds) for record in measure(inputs, seed)]
    show(records, table, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
