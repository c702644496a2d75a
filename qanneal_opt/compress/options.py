"""All that rounding can be asked for, checked."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from qanneal_opt.compress.rounding import METHODS

OBJECTIVES = ("input", "kronecker")
ZEROS = ("integer", "real")
_BASELINES = ("rtn", "gptq")  # without refit, bias correction and Kronecker objective unless asked for
_DAMPING = 0.1  # where codes are searched for: small eigenvalues of H are the calibration's noise


@dataclass(frozen=True)
class Options:
    """The options of :func:`qanneal_opt.quantize`, where they are told; None is the method's own choice."""

    bits: int
    group_size: int | None
    symmetric: bool
    zero: str
    weighted: bool
    method: str
    objective: str | None
    refit: bool | None
    bias: bool | None
    sequential: bool
    damping: float | None
    output_damping: float
    sweeps: int
    beam_width: int
    kronecker_passes: int
    projections: int
    coherence: float
    memory: float
    threads: int | None
    seed: int

    def resolved(self) -> Options:
        """The same with the method's own choices in place of None.

        Raises:
            ValueError: if an option is out of its range.
        """
        self._check()
        plain = self.method in _BASELINES
        objective = ("input" if plain else "kronecker") if self.objective is None else self.objective
        refit, bias = (not plain if chosen is None else chosen for chosen in (self.refit, self.bias))
        projections, coherence = (self.projections, self.coherence) if objective == "kronecker" else (0, 0.0)
        damping = (0.01 if plain else _DAMPING) if self.damping is None else self.damping
        return replace(
            self,
            objective=objective,
            refit=refit,
            bias=bias,
            projections=projections,
            coherence=coherence,
            damping=damping,
        )

    def of_one_matrix(self) -> dict[str, Any]:
        """Those of :func:`round_matrix`."""
        others = ("objective", "bias", "sequential", "projections", "coherence", "memory", "seed")
        return {name: value for name, value in asdict(self).items() if name not in others}

    def _check(self) -> None:
        whole = (
            ("group_size", 1, True),
            ("sweeps", 0, False),
            ("beam_width", 1, False),
            ("kronecker_passes", 1, False),
        )
        for name, least, optional in (*whole, ("projections", 1, False), ("threads", 1, True), ("seed", 0, False)):
            value = getattr(self, name)
            if not (optional and value is None) and not (_whole(value) and value >= least):
                raise ValueError(f"Invalid {name}: {value}; an int from {least} on is needed{' or None' * optional}")
        if not (_whole(self.bits) and 1 <= self.bits <= 8):
            raise ValueError(f"Invalid bits: {self.bits}; an int from 1 to 8 is needed")
        choices = {"method": METHODS, "objective": (*OBJECTIVES, None), "zero": ZEROS}
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise ValueError(f"Invalid {name}: {getattr(self, name)!r}; must be one of {valid}")
        for name in ("symmetric", "weighted", "sequential", "refit", "bias"):
            value = getattr(self, name)
            if not isinstance(value, bool) and not (value is None and name in ("refit", "bias")):
                raise ValueError(f"Invalid {name}: {value!r}; True or False is needed")
        for name in ("damping", "output_damping", "memory", "coherence"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
            if not (number and (value or name in ("output_damping", "coherence"))) and (name, value) != (
                "damping",
                None,
            ):
                raise ValueError(f"Invalid {name}: {value}; a positive finite number is needed")
        if self.coherence >= 1:
            raise ValueError(f"Invalid coherence: {self.coherence}; a number in [0, 1) is needed")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
