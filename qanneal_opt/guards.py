"""Guards that let annealing look at a model and at its data without leaving a trace."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

T = TypeVar("T")
_END = object()


class RandomState:
    """The global random numbers of torch, numpy and Python at one moment, and those of some generators.

    >>> state, first = RandomState(), torch.rand(())
    >>> state.restore()
    >>> bool(torch.rand(()) == first)
    True
    """

    def __init__(self, *, devices: Iterable[torch.device] = (), generators: Iterable[torch.Generator] = ()) -> None:
        self._torch = torch.get_rng_state()
        self._cuda = [(device, torch.cuda.get_rng_state(device)) for device in devices]
        self._numpy, self._python = np.random.get_state(), random.getstate()
        self._own = [(generator, generator.get_state()) for generator in generators]

    def rewind(self) -> None:
        """Put torch's generators back, which is what models draw from."""
        torch.set_rng_state(self._torch)
        for device, state in self._cuda:
            torch.cuda.set_rng_state(state, device)

    def restore(self) -> None:
        """Put all of them back."""
        self.rewind()
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        for generator, state in self._own:
            generator.set_state(state)


def annealed_buffers(model: nn.Module) -> list[Tensor]:
    """Give the buffers that annealing steps move: modules name them in an attribute ``annealed``."""
    return [getattr(module, name) for module in model.modules() for name in getattr(module, "annealed", ())]


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[RandomState]:
    """Put ``model`` into eval mode, and put modes, buffers and random numbers back afterwards.

    Buffers that a module names in its attribute ``annealed`` are left alone: annealing steps write them, and no model
    does in eval mode.
    """
    modules = list(model.modules())
    modes = [(module, module.training) for module in modules]
    named = [
        (module, name) for module in modules for name in module._buffers if name not in getattr(module, "annealed", ())
    ]
    buffers = [module._buffers[name] for module, name in named]
    values = [None if buffer is None else buffer.clone() for buffer in buffers]
    parameters = (p for module in modules for p in module._parameters.values() if p is not None)
    state = RandomState(devices={p.device for p in parameters if p.device.type == "cuda"})
    try:
        for module, mode in modes:
            if mode:
                module.training = False
        yield state
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.training = mode
        for (module, name), buffer, value in zip(named, buffers, values, strict=True):
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            # Almost no model writes a buffer in eval mode: compare before touching its version counter.
            if buffer is not None and value is not None and not torch.equal(buffer, value):
                buffer.detach().copy_(value)
        state.restore()


def passing(loader: DataLoader[T], seed: int = 0) -> Iterator[T]:
    """Go through ``loader`` with all its random numbers drawn from ``seed``: the same items at each pass.

    The global generators and the loader's own are seeded only while an item is made, and put back before it
    is handed out, so that nothing leaks if the reader draws, stops early or raises. A pass does not disturb
    another one that is under way.

    >>> loader = DataLoader(torch.arange(5), shuffle=True)
    >>> list(passing(loader)) == list(passing(loader))
    True
    """
    if loader.persistent_workers:  # iter() would take the workers away from the pass that they are in
        loader = copy.copy(loader)
        loader._iterator = None
    inner = getattr(loader.batch_sampler, "sampler", None)
    owners = (loader, loader.sampler, loader.batch_sampler, inner, loader.dataset)
    found = dict.fromkeys(getattr(owner, "generator", None) for owner in owners)
    generators = [generator for generator in found if isinstance(generator, torch.Generator)]
    with _restoring(generators):
        for generator in (torch.default_generator, *generators):  # torch.manual_seed would seed all devices
            generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        items = iter(loader)
        inside = RandomState(generators=generators)
    while True:
        with _restoring(generators):
            inside.restore()
            item = next(items, _END)
            inside = RandomState(generators=generators)
        if item is _END:
            return
        yield cast(T, item)


@contextlib.contextmanager
def _restoring(generators: Sequence[torch.Generator]) -> Iterator[None]:
    outside = RandomState(generators=generators)
    try:
        yield
    finally:
        outside.restore()
