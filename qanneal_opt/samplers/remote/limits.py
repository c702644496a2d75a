"""What a seat of a machine far away may spend, how long it waits, and what it does when that is not enough."""

from __future__ import annotations

from dataclasses import dataclass

from qanneal_opt.samplers.deadline import checked_deadline
from qanneal_opt.samplers.request import counted

__all__ = ["Limits"]

FAILURES = ("fallback", "raise")


@dataclass(frozen=True)
class Limits:
    """The options that all such seats have, checked.

    Attributes:
        sampler: its name, which the option ``{sampler}_budget`` has too.
        budget: seconds that may be charged in all, resumes included; ``None`` for no limit.
        on_failure: ``"fallback"`` or ``"raise"``. A budget that is used up falls back in either case.
        deadline: seconds for a call, connection, queue and retries included; ``None`` for any time.
        retries: further tries in a call.
        backoff: seconds before the first of them, doubled for each.
        rest: seconds for which a machine that failed is left alone, doubled for each failure.

    Raises:
        ValueError: if a number is outside its range or a name is unknown.
    """

    sampler: str
    budget: float | None
    on_failure: str
    deadline: float | None
    retries: int
    backoff: float
    rest: float

    def __post_init__(self) -> None:
        if self.on_failure not in FAILURES:
            raise ValueError(f"Invalid on_failure: {self.on_failure!r}; one of {', '.join(FAILURES)} is needed")
        for name, seconds in ((f"{self.sampler}_budget", self.budget), ("backoff", self.backoff), ("rest", self.rest)):
            if seconds is not None and not seconds >= 0:
                raise ValueError(f"Invalid {name}: {seconds}; seconds of at least 0 are needed")
        checked_deadline(self.deadline)
        counted(self.retries, "retries", 0)
