"""A saved model and its inputs: a checkpoint and a factory that makes the module, files of tensors, batches."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qanneal_opt.cli.console import UsageError, need

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare checkpoint, factory and data."""
    parser.add_argument("checkpoint", type=Path, help="a state dict: .safetensors, or of torch.save (weights only)")
    parser.add_argument("--factory", required=True, help="what makes the model, such as package.module:function")
    parser.add_argument(
        "--data",
        required=True,
        help="inputs: .npz, .pt or .safetensors; or what makes batches, package.module:function",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="samples a batch of a file (32)")


def load_model(options: argparse.Namespace) -> nn.Module:
    """Make the model, and load the checkpoint into it: every tensor has to fit."""
    made = make(options.factory, "--factory")
    if not isinstance(made, nn.Module):
        raise UsageError(f"Invalid --factory: {options.factory}; it made {type(made).__name__}, not a torch.nn.Module")
    state = read_tensors(options.checkpoint, "checkpoint")
    inner = state.get("state_dict") if isinstance(state, Mapping) else None
    state = inner if isinstance(inner, Mapping) else state
    if not isinstance(state, Mapping):
        raise UsageError(f"Invalid checkpoint: {options.checkpoint}; a state dict is needed")
    try:
        made.load_state_dict(dict(state))
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UsageError(f"Invalid checkpoint: {options.checkpoint}; it does not fit the model ({error})") from error
    return made


def load_batches(options: argparse.Namespace) -> Iterable[Any]:
    """Read or make the batches.

    A file with one array gives it as the model's argument; a file with several, as keyword arguments by their names. A
    list of torch.save is taken as the batches themselves.
    """
    if _NAME.fullmatch(options.data) and not Path(options.data).exists():
        made = make(options.data, "--data")
        if not isinstance(made, Iterable) or isinstance(made, (Tensor, Mapping, str)):
            raise UsageError(f"Invalid --data: {options.data}; it made {type(made).__name__}, not batches")
        return made
    if options.batch_size < 1:
        raise UsageError(f"Invalid --batch-size: {options.batch_size}; a positive number is needed")
    value = read_tensors(Path(options.data), "--data")
    if isinstance(value, Tensor):
        return list(value.split(options.batch_size)) if value.ndim else _useless(options, "a number")
    if isinstance(value, list):
        return value
    if not isinstance(value, Mapping) or not value or not all(isinstance(v, Tensor) and v.ndim for v in value.values()):
        return _useless(options, type(value).__name__)
    if len({len(tensor) for tensor in value.values()}) != 1:
        return _useless(options, "arrays of different lengths")
    if len(value) == 1:
        return list(next(iter(value.values())).split(options.batch_size))
    parts = (tensor.split(options.batch_size) for tensor in value.values())
    return [dict(zip(value, part)) for part in zip(*parts)]


@contextmanager
def running(options: argparse.Namespace) -> Iterator[None]:
    """Blame the data for what the model itself raises on them."""
    try:
        yield
    except (TypeError, RuntimeError, AttributeError, LookupError, ArithmeticError) as error:
        raise UsageError(f"Invalid --data: {options.data}; the model fails on it ({_told(error)})") from error


def make(name: str, option: str) -> Any:
    """What ``package.module:function`` gives when it is called; whatever it raises is told in one line."""
    function = find(name, option)
    try:
        return function()
    except Exception as error:  # it is the user's code, which may raise anything
        raise UsageError(f"Invalid {option}: {name}; it fails ({_told(error)})") from error


def find(name: str, option: str) -> Callable[..., Any]:
    """Import ``package.module:function``, from the working directory too."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"Invalid {option}: {name}; a name such as package.module:function is needed")
    module, _, path = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module that is imported is run, and may raise anything
        raise UsageError(f"Invalid {option}: {name}; {error}") from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise UsageError(f"Invalid {option}: {name}; it is not callable")
    return found  # type: ignore[no-any-return]


def read_tensors(path: Path, option: str) -> Any:
    """What a .safetensors or .npz file, or one of torch.save, holds; on the CPU, and nothing is executed."""
    if not path.is_file():
        raise UsageError(f"Invalid {option}: {path}; there is no such file")
    try:
        if path.suffix == ".safetensors":
            return need("safetensors.torch", "compress").load_file(path)
        if path.suffix in (".npz", ".npy"):
            arrays = np.load(path, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                return torch.from_numpy(arrays)
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        return torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except Exception as error:  # each library has its own, for files of all kinds of wrong
        why = (str(error).strip() or type(error).__name__).split(". ")[0]
        raise UsageError(f"Invalid {option}: {path}; it cannot be read ({why})") from error


def _told(error: Exception) -> str:
    """The error's words; with its kind where they alone say little, as in KeyError: 'x'."""
    plain = isinstance(error, (ValueError, TypeError, RuntimeError))
    return str(error) if plain else f"{type(error).__name__}: {error}"


def _useless(options: argparse.Namespace, given: str) -> list[Any]:
    raise UsageError(f"Invalid --data: {options.data}; it holds {given}, tensors with a sample dimension are needed")
