"""What machines far away were asked for and what they cost, in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Ledger", "reported"]


@dataclass
class Ledger:
    """Running totals of one seat; they survive a resume.

    Attributes:
        calls: times that samples were asked for.
        fallbacks: of these, those that the local sampler answered, or a part of them.
        submissions: what was sent to the machine, retries included.
        problems: QUBOs that it answered.
        reads: bit strings that it gave, summed over problems.
        chains: chains of qubits that were read.
        broken: of these, those whose qubits disagreed.
        retries: further tries after something that may pass.
        failovers: changes to another solver.
        unanswered: submissions whose answer never came; they are charged at their estimate.
        qpu_access_time: seconds that a quantum annealer was occupied, as it reported them.
        charged: seconds that count against the budget: those reported, and estimates where nothing was.

    >>> ledger = Ledger()
    >>> ledger.charge(0.5)
    >>> ledger.affords(0.6, budget=1.0), ledger.affords(0.5, budget=1.0), ledger.affords(9.0, budget=None)
    (False, True, True)
    """

    calls: int = 0
    fallbacks: int = 0
    submissions: int = 0
    problems: int = 0
    reads: int = 0
    chains: int = 0
    broken: int = 0
    retries: int = 0
    failovers: int = 0
    unanswered: int = 0
    qpu_access_time: float = 0.0
    charged: float = 0.0

    def affords(self, seconds: float, budget: float | None) -> bool:
        """Whether ``seconds`` more stay within ``budget``; ``None`` is no limit."""
        return budget is None or self.charged + seconds <= budget

    def charge(self, seconds: float) -> None:
        """Count ``seconds`` against the budget."""
        self.charged += seconds

    def state_dict(self) -> dict[str, Any]:
        """The totals by name."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take totals back, but none that is less than now: a step back to an earlier checkpoint refunds nothing."""
        for name, now in asdict(self).items():
            setattr(self, name, max(now, type(now)(state.get(name, now))))


def reported(info: Any, name: str) -> float | None:
    """Seconds that a machine tells in microseconds, at the top of ``info`` or in its timing; ``None`` for no time.

    >>> [reported({"timing": {"charge_time": time}}, "charge_time") for time in (20_000, -1, "soon")]
    [0.02, None, None]
    """
    told: Any = info if isinstance(info, Mapping) else {}
    timing: Any = told.get("timing")
    try:
        seconds = float(told[name] if name in told else timing[name]) / 1e6
    except (KeyError, TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None
