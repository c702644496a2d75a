"""API tokens never reach a text of ours: they are looked up where they are kept, and cut out."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["scrubbed"]

_SHORTEST = 6  # a shorter setting is no token, and cutting it out would mangle texts


def scrubbed(text: str) -> str:
    """``text`` in one line, without any API token of D-Wave's configuration.

    >>> scrubbed("no  secret here")
    'no secret here'
    """
    for token in sorted(set(_tokens()), key=len, reverse=True):
        text = text.replace(token, "***")
    return " ".join(text.split())


def _tokens() -> Iterator[str]:
    """The tokens of the environment and of every profile in the configuration files."""
    found = [value for name, value in os.environ.items() if name.startswith("DWAVE_") and "TOKEN" in name]
    try:
        from dwave.cloud.config import load_config_from_files

        chosen = os.environ.get("DWAVE_CONFIG_FILE")
        profiles = load_config_from_files([chosen] if chosen else None)
        for section in [profiles.default_section, *profiles.sections()]:
            found += [value for name, value in profiles.items(section) if "token" in name]
    except Exception:  # not installed, or a file that cannot be read: nothing was read from it either
        pass
    yield from (token for token in found if token and len(token) >= _SHORTEST)
