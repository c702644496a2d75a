"""How a seat comes to the sampler behind it: one that is given, or one of the user's own configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["checked_selection", "maker"]


def maker(sampler: Any, default: Callable[[], Any]) -> Callable[[], Any]:
    """A function that gives the sampler: ``sampler`` itself if it is one, what it makes, or else the default."""
    if sampler is None:
        return default
    if callable(sampler):
        make: Callable[[], Any] = sampler
        return make
    if hasattr(sampler, "sample"):
        return _Given(sampler)
    raise TypeError(f"Invalid machine: {sampler!r}; must be a sampler or a function that makes one")


class _Given:
    """Gives a sampler; copies of a seat share it, as a connection cannot be copied."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def __call__(self) -> Any:
        return self._sampler

    def __deepcopy__(self, memo: Any) -> _Given:
        return self


def checked_selection(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """``config``, if it holds no token; one that did would be copied with the seat."""
    selection = dict(config or {})
    if any("token" in str(name).lower() for name in selection):
        raise ValueError("Invalid config: a token; it belongs in the D-Wave configuration or DWAVE_API_TOKEN")
    return selection
