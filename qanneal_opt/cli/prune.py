"""Keep a fraction of a saved model's weights and drop the others to zero.

What is written is a state dict of the same form, which the factory's model loads.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.cli.checkpoint_model import add_model_arguments, find, load_model, make, read_tensors, running
from qanneal_opt.cli.console import UsageError, need, need_folder
from qanneal_opt.compress.prune import METHODS, SCOPES

LOSSES: dict[str, Callable[..., Any]] = {"cross_entropy": functional.cross_entropy, "mse_loss": functional.mse_loss}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    add_model_arguments(parser)
    parser.add_argument("--targets", default="targets", help="which array of the data file is the targets (targets)")
    parser.add_argument("--loss", default="cross_entropy", help=f"{', '.join(LOSSES)}, or package.module:function")
    parser.add_argument("--density", type=float, default=0.2, help="the fraction kept (0.2)")
    parser.add_argument("--method", choices=METHODS, default="qubo", help="(qubo)")
    parser.add_argument("--pattern", default="unstructured", help="unstructured, rows, or one such as 2:4")
    parser.add_argument("--scope", choices=SCOPES, help="where the fraction holds (the widest that fits)")
    parser.add_argument("--stages", type=int, help="choices until the density (12; 1 for obs and magnitude)")
    parser.add_argument("--refits", type=int, help="compensations afterwards (5; 0 for obs and magnitude)")
    parser.add_argument("--sampler", default="annealer", help="of the QUBO (annealer)")
    parser.add_argument("--skip", action="append", default=[], help="a module or a pattern to leave alone; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="(0)")
    parser.add_argument("--out", type=Path, help="the pruned checkpoint (CHECKPOINT-pruned, of the same kind)")


def run(options: argparse.Namespace) -> None:
    """Prune, write, and print what came out."""
    checkpoint: Path = options.checkpoint
    out: Path = options.out or checkpoint.with_name(f"{checkpoint.stem}-pruned{checkpoint.suffix}")
    need_folder(out)
    if out.suffix == ".safetensors":
        need("safetensors", "compress")
    loss = LOSSES.get(options.loss) or find(options.loss, "--loss")
    model = load_model(options)
    objective = qa.Objective(model, loss, **_data(options))
    with running(options):
        report = qa.prune(
            model,
            objective,
            options.density,
            method=options.method,
            pattern=options.pattern,
            scope=options.scope,
            stages=options.stages,
            refits=options.refits,
            sampler=options.sampler,
            skip=options.skip,
            seed=options.seed,
        )
    _save(model, out)
    print(report.to_json() if options.json else f"{report}\n\n{out}")


def _data(options: argparse.Namespace) -> dict[str, Any]:
    """Inputs and targets as an objective takes them: arrays of a file, or what a function makes."""
    if ":" in options.data and not Path(options.data).exists():
        return {"data": make(options.data, "--data")}
    if options.batch_size < 1:
        raise UsageError(f"Invalid --batch-size: {options.batch_size}; a positive number is needed")
    value = read_tensors(Path(options.data), "--data")
    named = isinstance(value, dict) and len(value) > 1 and all(isinstance(part, Tensor) for part in value.values())
    if not named or options.targets not in value:
        names = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise UsageError(f"Invalid --data: {options.data}; inputs and {options.targets!r} are needed, it has {names}")
    inputs = {name: part for name, part in value.items() if name != options.targets}
    given = next(iter(inputs.values())) if len(inputs) == 1 else inputs  # one is the model's argument, more by name
    return {"data": (given, value[options.targets]), "batch_size": options.batch_size}


def _save(model: nn.Module, path: Path) -> None:
    """Write the state dict; a tied weight stands in it under each of its names."""
    state = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    if path.suffix == ".safetensors":
        need("safetensors.torch", "compress").save_file(state, path)
    else:
        torch.save(state, path)
