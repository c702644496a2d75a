"""A problem as it is programmed: on qubits, within a machine's ranges, at the scale that a temperature needs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qanneal_opt.samplers.remote.machine import Machine
from qanneal_opt.samplers.remote.placement import Placement
from qanneal_opt.samplers.remote.reduction import Reduced
from qanneal_opt.samplers.remote.tuning import Knobs
from qanneal_opt.samplers.request import Request

__all__ = ["Programmed"]

Array = np.ndarray[Any, Any]

RESOLUTION = 0.01
"""Programmed values carry errors of about this size (D-Wave's "integrated control errors"): smaller ones are lost."""


@dataclass(frozen=True, eq=False)
class Programmed:
    """One problem of a submission.

    Attributes:
        request: asks for it.
        reduced: what of it matters.
        placement: its qubits.
        scale: programmed over asked.
        chain: chain strength, in units of the problem.
        fields: ``(q,)`` biases of qubits, as programmed.
        couplings: ``(e,)`` those of couplers.
    """

    request: Request
    reduced: Reduced
    placement: Placement
    scale: float
    chain: float
    fields: Array
    couplings: Array

    @staticmethod
    def of(request: Request, reduced: Reduced, placement: Placement, machine: Machine, knobs: Knobs) -> Programmed:
        """Scale a problem to the temperature asked for, or to the end of the ranges; chains may be left over."""
        over = len(placement.lengths) - len(reduced.kept)
        linear, quadratic = np.pad(reduced.linear, (0, over)), np.pad(reduced.quadratic, (0, over))
        # of spins 2b - 1: the same energies but for a constant
        fields, couplings = linear / 2 + quadratic.sum(1) / 4, quadratic / 4
        chain = knobs.chain_strength(fields, couplings, request.temperature)
        biases = placement.program(fields, couplings, chain)
        scale = machine.largest_scale(placement, *biases)
        if request.temperature is not None:
            scale = min(scale, knobs.temperature / request.temperature)
        if not math.isfinite(scale):  # nothing to program
            scale = 1.0
        return Programmed(request, reduced, placement, scale, chain, biases[0] * scale, biases[1] * scale)

    @property
    def lost(self) -> float:
        """Share of the problem's nonzero biases that are programmed below the resolution."""
        values = np.abs(np.concatenate([self.fields, self.couplings[self.placement.inner :]]))
        return float((values[values > 0] < RESOLUTION).mean()) if values.any() else 0.0
