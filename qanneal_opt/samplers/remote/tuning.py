"""What a seat learns of a machine: the temperature that it samples at, and how strong its chains have to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Knobs", "Tuning"]

Array = np.ndarray[Any, Any]

# k_B T over B / 2 at freeze-out of an Advantage (15.4 mK, 3.91 GHz), in units of programmed couplings.
_MACHINE_TEMPERATURE = 0.16
_WEIGHT = 0.5  # of a new estimate, in the logarithm
_STEP = 2.0  # for an estimate of zero or infinity, which tell a direction only
_PREFACTOR = 1.414  # of uniform torque compensation
_STRONGER, _STRONGEST = 1.5, 4.0
_HELD = 3.0  # chain strength in temperatures: a coupler breaks with probability exp(-2 * 3)
_RANGE = 1e-4, 1e4  # of the machine's temperature


@dataclass
class Knobs:
    """For one solver.

    Attributes:
        temperature: of the machine, in units of programmed couplings.
        prefactor: of chain strengths.
        seen: estimates of the temperature so far.
    """

    temperature: float = _MACHINE_TEMPERATURE
    prefactor: float = _PREFACTOR
    seen: int = 0

    def chain_strength(self, fields: Array, couplings: Array, temperature: float | None) -> float:
        """Chain strength for spins with fields ``(n,)`` and couplings ``(n, n)``.

        Uniform torque compensation, Ocean's (Raymond et al., "Improving performance of logical qubits by parameter
        tuning and topology compensation", 2020), with our prefactor. Weak couplings would leave chains to the heat:
        at a temperature T it is at least 3 T, in proportion to the prefactor.
        """
        from dimod import SPIN, BinaryQuadraticModel
        from dwave.embedding.chain_strength import uniform_torque_compensation

        torque = 0.0
        if couplings.any():  # it gives 1 where there are none
            model = BinaryQuadraticModel(len(fields), SPIN)
            model.add_quadratic_from_dense(np.triu(couplings, 1))
            torque = float(uniform_torque_compensation(model, prefactor=1.0))
        heat = _HELD * temperature / _PREFACTOR if temperature is not None else 0.0
        return self.prefactor * max(torque, heat) or float(np.abs(fields).max()) or 1.0

    def learn(self, scale: float, met: float) -> None:
        """Take in that a problem programmed at ``scale`` came back at the temperature ``met``, in its own units."""
        if 0 < met < math.inf:
            weight = _WEIGHT if self.seen else 1.0
            self.temperature *= (met * scale / self.temperature) ** weight
            self.seen += 1
        else:
            self.temperature *= _STEP if met else 1 / _STEP
        self.temperature = min(max(self.temperature, _RANGE[0]), _RANGE[1])

    def strengthen(self) -> None:
        """Make chains stronger: too many broke."""
        self.prefactor = min(self.prefactor * _STRONGER, _STRONGEST * _PREFACTOR)


class Tuning:
    """The knobs for each solver."""

    def __init__(self) -> None:
        self._knobs: dict[str, Knobs] = {}

    def of(self, solver: str) -> Knobs:
        """Those of ``solver``."""
        return self._knobs.setdefault(solver, Knobs())

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers by solver."""
        return {key: dict(vars(knobs)) for key, knobs in self._knobs.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self._knobs = {key: Knobs(**knobs) for key, knobs in state.items()}
