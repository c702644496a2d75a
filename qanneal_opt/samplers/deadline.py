"""Calls of samplers that may raise or hang: either becomes a `SamplerError`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from qanneal_opt.samplers.base import RemoteError, SamplerError
from qanneal_opt.samplers.tokens import scrubbed

__all__ = ["Call", "checked_deadline", "guarded"]

T = TypeVar("T")


class Call(Generic[T]):
    """``call()`` under way in a daemon thread, which no exit of the process waits for.

    Args:
        name: of the sampler, for errors.
        call: what to run, at once.

    >>> Call("quick", lambda: 7).within(10.0)
    7
    """

    def __init__(self, name: str, call: Callable[[], T]) -> None:
        self.name = name
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(call,), name=f"sampler {name}", daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], T]) -> None:
        try:
            self._results.append(call())
        except BaseException as error:  # raised where the answer is asked for
            self._errors.append(error)

    def over(self, seconds: float) -> bool:
        """Whether it has ended, or ``seconds`` have passed since it began."""
        return not self._thread.is_alive() or time.monotonic() - self._begun >= seconds

    def within(self, seconds: float) -> T:
        """What the call gave or raised, waiting for it until ``seconds`` after it began.

        Raises:
            SamplerError: it has not come back by then, and is left behind.
        """
        left = self._begun + seconds - time.monotonic()
        self._thread.join(min(max(left, 0.0), threading.TIMEOUT_MAX))
        if self._errors:
            raise self._errors[0]
        if not self._results:
            raise SamplerError(f"Sampler {self.name!r} gave no answer within {seconds:g} s")
        return self._results[0]


def guarded(name: str, deadline: float | None, call: Callable[[], T]) -> T:
    """``call()``, whose errors become a :class:`SamplerError` that names the sampler and no API token.

    Args:
        name: of the sampler.
        deadline: seconds, after which the call is left behind in a daemon thread; ``None`` for any time.
        call: asks the sampler.

    Raises:
        SamplerError: the call raised (its error is the cause) or has not come back.
        RemoteError: the call raised it, as the user asked for.
    """
    try:
        return call() if deadline is None else Call(name, call).within(deadline)
    except (RemoteError, SamplerError):
        raise
    except Exception as error:
        raise SamplerError(scrubbed(f"Sampler {name!r} failed: {type(error).__name__}: {error}")) from error


def checked_deadline(deadline: float | None) -> float | None:
    """``deadline``, if it is ``None`` or positive seconds."""
    if deadline is not None and not deadline > 0:
        raise ValueError(f"Invalid deadline: {deadline}; must be positive seconds or None")
    return deadline
