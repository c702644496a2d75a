"""Calls of samplers that may raise or hang: either becomes a `SamplerError`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from qanneal_opt.samplers.base import SamplerError

__all__ = ["checked_deadline", "guarded"]

T = TypeVar("T")


def guarded(name: str, deadline: float | None, call: Callable[[], T]) -> T:
    """``call()``, whose errors become a :class:`SamplerError` that names the sampler.

    Args:
        name: of the sampler.
        deadline: seconds, after which the call is left behind in a daemon thread; ``None`` for any time.
        call: asks the sampler.

    Raises:
        SamplerError: the call raised (its error is the cause) or has not come back.
    """
    try:
        return call() if deadline is None else _within(name, deadline, call)
    except SamplerError:
        raise
    except Exception as error:
        raise SamplerError(f"Sampler {name!r} failed: {type(error).__name__}: {error}") from error


def checked_deadline(deadline: float | None) -> float | None:
    """``deadline``, if it is ``None`` or positive seconds."""
    if deadline is not None and not deadline > 0:
        raise ValueError(f"Invalid deadline: {deadline}; must be positive seconds or None")
    return deadline


def _within(name: str, seconds: float, call: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name=f"sampler {name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise SamplerError(f"Sampler {name!r} gave no answer within {seconds:g} s")
    return results[0]
