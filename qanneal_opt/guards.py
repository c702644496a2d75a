"""Guards that let annealing look at a model without leaving a trace."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into eval mode, and put mode, buffers and torch's global RNG back afterwards."""
    modes = [(module, module.training) for module in model.modules() if module.training]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices), device_type="cuda"):
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for buffer, kept in buffers:
                    # Almost no model writes a buffer in eval mode: compare before touching its version counter.
                    if not torch.equal(buffer, kept):
                        buffer.copy_(kept)


@contextlib.contextmanager
def repeatable(*generators: torch.Generator | None, seed: int = 0) -> Iterator[None]:
    """Run a block from a fixed seed: torch's, numpy's and Python's global RNG and ``generators`` are put back."""
    own = [generator for generator in generators if generator is not None]
    states: list[Tensor] = [generator.get_state() for generator in own]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            for generator in own:
                generator.manual_seed(seed)
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            for generator, state in zip(own, states, strict=True):
                generator.set_state(state)
