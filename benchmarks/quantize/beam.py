"""The beam against GPTQ in the same order: layers that see digits, 4 bits, `python -m benchmarks.quantize.beam`.

The layer of n = 64 inputs sees the pixels, those of 256 and 512 the units of a random ReLU layer upon them. Weights are
random, 64 rows; GPTQ is the beam of width 1. What is shown is the layer objective on GPTQ's, its mean over seeds and
their standard deviation, before and after a coordinate descent.
"""

import argparse
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import harness
from qanneal_opt.compress.beam import beam
from qanneal_opt.compress.factor import Factor
from qanneal_opt.compress.grid import fit_grid
from qanneal_opt.compress.lattice import Lattice

INPUTS, ROWS, BITS = (64, 256, 512), 64, 4
WIDTHS = (1, 4, 16, 64)


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


def measure(inputs: int, seed: int) -> dict[int, tuple[float, float, float]]:
    """For each width the objective, the same after a descent, and the beam's seconds."""
    weight, moment = layer(inputs, seed)
    grid, factor = fit_grid(weight, moment, BITS), Factor.of(moment)
    lattice, found = Lattice(weight, moment), {}
    for width in WIDTHS:
        begun = time.process_time()
        codes = beam(weight, grid, factor, width=width)
        seconds = time.process_time() - begun
        down = lattice.search(codes, grid, sweeps=0)
        found[width] = (float(lattice.errors(codes, grid).sum()), float(lattice.errors(down, grid).sum()), seconds)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantize.beam", description=__doc__)
    parser.add_argument(
        "--seeds", default="0:10", help="seeds of weights and of the ReLU layer; from 1000 on for tuning"
    )
    seeds = harness.parse_seeds(parser.parse_args(arguments).seeds)
    print("| n | K | objective on GPTQ's | with a descent | CPU seconds |\n|---|---|---|---|---|")
    with harness.single_thread():
        measure(INPUTS[0], seeds[0])  # compiles
        for inputs in INPUTS:
            runs = [measure(inputs, seed) for seed in seeds]
            for width in WIDTHS:
                ratios = torch.tensor([[run[width][k] / run[1][0] for k in (0, 1)] for run in runs])
                spread = ratios.std(0) if len(runs) > 1 else torch.zeros(2)
                shown = " | ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(ratios.mean(0), spread))
                seconds = sum(run[width][2] for run in runs) / len(runs)
                print(f"| {inputs} | {width} | {shown} | {seconds:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
