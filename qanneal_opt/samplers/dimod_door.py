"""The door of a seat for `dimod`: a sampler of ours that takes binary quadratic models too."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from dimod import BinaryQuadraticModel, SampleSet, as_samples
from dimod.core.sampler import Sampler

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import Seat

__all__ = ["DimodDoor"]


class DimodDoor(Seat, Sampler):
    """A seat that is a ``dimod.Sampler``: it samples a model as the Qubo of the same energies."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Keywords of :meth:`sample` and :meth:`sample_arrays`."""
        names = list(signature(self.sample_arrays).parameters)[1:]
        return {name: [] for name in names if name != "temperature" or self.draws_at_temperature}

    @property
    def properties(self) -> dict[str, Any]:
        """Nothing beyond the parameters."""
        return {}

    def sample(self, bqm: BinaryQuadraticModel, **parameters: Any) -> SampleSet:
        """Sample a ``dimod.BinaryQuadraticModel``; labels and vartype stay as they are.

        Args:
            bqm: the model.
            **parameters: those of :meth:`sample_arrays`; ``initial_states`` as ``dimod.as_samples`` reads them,
                with values of the model's vartype.

        Raises:
            ValueError: what :meth:`sample_arrays` raises, and initial states of other variables.
            TypeError: something other than a model.
        """
        parameters = self.remove_unknown_kwargs(**parameters)
        qubo, labels, spins = Qubo.from_bqm(bqm), list(bqm.variables), bqm.vartype.name == "SPIN"
        if parameters.get("initial_states") is not None:
            states, given = as_samples(parameters["initial_states"])
            place = {label: k for k, label in enumerate(given)}
            if place.keys() != set(labels):
                raise ValueError(f"Invalid initial_states: variables {str(given)[:60]}; must be those of the model")
            states = states[:, [place[label] for label in labels]]
            parameters["initial_states"] = (states + 1) / 2 if spins else states
        drawn = self.sample_arrays(qubo, **parameters)
        values = drawn.bits.numpy().astype(np.int8)
        make: Any = SampleSet.from_samples_bqm  # not annotated
        samples: SampleSet = make((2 * values - 1 if spins else values, labels), bqm, info=drawn.info)
        return samples
