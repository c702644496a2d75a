"""Checks of what users hand over, at the door."""

from __future__ import annotations

from typing import Any

__all__ = ["check_int"]


def check_int(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise ``ValueError`` unless ``value`` is an int within bounds; True and False are none.

    >>> check_int("bits", 9, 1, 8)
    Traceback (most recent call last):
    ...
    ValueError: Invalid bits: 9; an int from 1 to 8 is needed
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        needed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"Invalid {name}: {value}; an int {needed} is needed")
