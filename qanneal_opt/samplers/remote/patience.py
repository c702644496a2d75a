"""How long to wait for a machine: the seconds left of a call, and how long one that failed is left alone."""

from __future__ import annotations

import math
import time

__all__ = ["Clock", "Rest"]

_LONGEST = 3600.0


class Clock:
    """Seconds left until a deadline.

    Args:
        deadline: seconds from now, or ``None`` for any time.

    >>> Clock(None).left(), Clock(100.0).left() > 99
    (None, True)
    """

    def __init__(self, deadline: float | None) -> None:
        self._end = math.inf if deadline is None else time.monotonic() + deadline

    def left(self) -> float | None:
        """Seconds left, at least a millisecond; ``None`` for any time."""
        return None if self._end == math.inf else max(self._end - time.monotonic(), 1e-3)

    def allows(self, seconds: float) -> bool:
        """Whether ``seconds`` are left."""
        return time.monotonic() + seconds < self._end


class Rest:
    """How long a machine that failed is left alone, so that training does not wait for it again and again.

    Args:
        seconds: after one failure; doubled at each further one, up to an hour. An answer sets it back.
    """

    def __init__(self, seconds: float) -> None:
        self._first = self._next = seconds
        self._until = -math.inf
        self.reason = ""

    def left(self) -> float:
        """Seconds for which it is still left alone."""
        return max(self._until - time.monotonic(), 0.0)

    def begin(self, reason: str, *, long: bool = False) -> None:
        """Leave it alone after a failure; ``long``: for the longest time at once."""
        self.reason = reason
        seconds = _LONGEST if long and self._first else self._next
        self._until = time.monotonic() + seconds
        self._next = min(2 * self._next, _LONGEST)

    def end(self) -> None:
        """It answered."""
        self._until, self._next = -math.inf, self._first
