"""Round the weights of a saved model to a few bits, layer by layer, and write them packed.

qanneal_opt.load_quantized reads the file that is written; the factory's model gives it its form.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import qanneal_opt as qa
from qanneal_opt.cli.checkpoint_model import add_model_arguments, load_batches, load_model, running
from qanneal_opt.cli.console import need, need_folder
from qanneal_opt.compress.grid import ZEROS
from qanneal_opt.compress.options import OBJECTIVES
from qanneal_opt.compress.rounding import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    add_model_arguments(parser)
    parser.add_argument("--bits", type=int, default=4, help="of a weight, 1 to 8 (4)")
    parser.add_argument("--group-size", type=int, help="columns that share a scale (a whole row)")
    parser.add_argument("--method", choices=METHODS, default="anneal", help="(anneal)")
    parser.add_argument("--objective", choices=OBJECTIVES, help="(kronecker; input for rtn and gptq)")
    parser.add_argument("--symmetric", action="store_true", help="grids as wide below 0 as above")
    parser.add_argument("--zero", choices=ZEROS, default="integer", help="zero points (integer)")
    parser.add_argument("--sequential", action="store_true", help="round each layer for inputs already rounded")
    parser.add_argument("--skip", action="append", default=[], help="a module or a pattern to leave alone; repeatable")
    parser.add_argument("--sweeps", type=int, default=200, help="of annealing (200)")
    parser.add_argument("--memory", type=float, default=0.5, help="GB of statistics at a time (0.5)")
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    parser.add_argument("--out", type=Path, help="the packed file (CHECKPOINT-BITSbit.safetensors)")
    parser.add_argument("--plot", type=Path, help="also draw the layers' objectives to this file")


def run(options: argparse.Namespace) -> None:
    """Round, write, and print what came out."""
    need("safetensors", "compress")
    if options.plot is not None:
        need("matplotlib")
    out = options.out or options.checkpoint.with_name(f"{options.checkpoint.stem}-{options.bits}bit.safetensors")
    need_folder(out)
    need_folder(options.plot)
    model, batches = load_model(options), load_batches(options)
    with running(options):
        report = qa.quantize(
            model,
            batches,
            options.bits,
            group_size=options.group_size,
            method=options.method,
            objective=options.objective,
            symmetric=options.symmetric,
            zero=options.zero,
            sequential=options.sequential,
            skip=options.skip,
            sweeps=options.sweeps,
            memory=options.memory,
            seed=options.seed,
        )
    report.save(out)
    if options.plot is not None:
        report.plot(options.plot)
    if options.json:
        print(report.to_json())
        return
    print(f"{report}\n\n{out}: {out.stat().st_size:,} bytes")
