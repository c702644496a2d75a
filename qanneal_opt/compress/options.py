"""All that rounding can be asked for, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from qanneal_opt.compress.grid import ZEROS
from qanneal_opt.compress.rounding import METHODS

OBJECTIVES = ("input", "kronecker")
_BASELINES = ("rtn", "gptq")  # without refit, bias correction and Kronecker objective unless asked for
_DAMPING = {"input": 0.01, "kronecker": 0.1}  # a coherent H has more of the calibration's noise in it


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
        damping = _DAMPING[objective] if self.damping is None else self.damping
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
        for name, (valid, needed) in _RULES.items():
            value = getattr(self, name)
            if not valid(value):
                raise ValueError(f"Invalid {name}: {value!r}; {needed} is needed")


Rule = tuple[Callable[[Any], bool], str]


def _whole(least: int, most: float = math.inf) -> Rule:
    needed = f"an int from {least} {'on' if most == math.inf else f'to {most}'}"
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most, needed


def _number(valid: Callable[[float], bool], needed: str) -> Rule:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and valid(value), needed


def _one_of(*values: str | bool) -> Rule:
    return lambda value: isinstance(value, (str, bool)) and value in values, f"one of {values}"


def _or_none(rule: Rule) -> Rule:
    return lambda value: value is None or rule[0](value), f"{rule[1]} or None"


_POSITIVE = _number(lambda value: 0 < value < math.inf, "a positive finite number")
_RULES: dict[str, Rule] = {
    "bits": _whole(1, 8),
    "group_size": _or_none(_whole(1)),
    "symmetric": _one_of(True, False),
    "zero": _one_of(*ZEROS),
    "weighted": _one_of(True, False),
    "method": _one_of(*METHODS),
    "objective": _or_none(_one_of(*OBJECTIVES)),
    "refit": _or_none(_one_of(True, False)),
    "bias": _or_none(_one_of(True, False)),
    "sequential": _one_of(True, False),
    "damping": _or_none(_POSITIVE),
    "output_damping": _number(lambda value: 0 <= value < math.inf, "a finite number from 0 on"),
    "sweeps": _whole(0),
    "beam_width": _whole(1),
    "kronecker_passes": _whole(1),
    "projections": _whole(1),
    "coherence": _number(lambda value: 0 <= value < 1, "a number in [0, 1)"),
    "memory": _POSITIVE,
    "threads": _or_none(_whole(1)),
    "seed": _whole(0),
}
