"""API tokens never reach a text: they are looked up where they are kept, known by their form, and cut out."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["hush_logs", "scrubbed"]

_SHORTEST = 6  # a shorter setting is no token, and cutting it out would mangle texts
# What an error or a log names as one, in a URL or a header say, and what has the form of D-Wave's.
_NAMED = re.compile(r"""(token["']?\s*[=:]\s*["']?)[^\s"',;&)}\]]+""", re.IGNORECASE)
_FORM = re.compile(r"\b[0-9A-Za-z]{2,4}-[0-9A-Fa-f]{32,}\b")

_of_files: set[str] = set()  # those that were found there: looking for them is logged as well


def scrubbed(text: str) -> str:
    """``text`` in one line, without any API token: of D-Wave's configuration, or what is named or looks like one.

    >>> scrubbed("no  secret here"), scrubbed("401 for https://cloud.example?token=abcdef&x=1")
    ('no secret here', '401 for https://cloud.example?token=***&x=1')
    """
    hush_logs()
    return " ".join(_cut(text).split())


def hush_logs() -> None:
    """Cut tokens out of what Ocean logs from here on: at level DEBUG it tells them, to whoever listens."""
    if not isinstance(logging.getLogRecordFactory(), _Hushed):
        logging.setLogRecordFactory(_Hushed(logging.getLogRecordFactory()))
    _of_files.update(_files())


class _Hushed:
    """Makes log records by ``make``; loggers come and go with Ocean's modules, and filters would have to follow."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *arguments: Any, **named: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*arguments, **named)
        if record.name.partition(".")[0] == "dwave":
            with contextlib.suppress(TypeError, ValueError):  # arguments that do not fit: handlers tell of it
                record.msg, record.args = _cut(record.getMessage()), None
            if record.exc_info:
                record.exc_text = _cut(logging.Formatter().formatException(record.exc_info))
        return record


def _cut(text: str) -> str:
    known = {token for token in (*_environment(), *_of_files) if len(token) >= _SHORTEST}
    for token in sorted(known, key=len, reverse=True):
        text = text.replace(token, "***")
    return _FORM.sub("***", _NAMED.sub(r"\1***", text))


def _environment() -> Iterator[str]:
    """The tokens of the environment."""
    yield from (value for name, value in os.environ.items() if name.startswith("DWAVE_") and "TOKEN" in name)


def _files() -> Iterator[str]:
    """The tokens of every profile in the configuration files."""
    try:
        from dwave.cloud.config import load_config_from_files

        chosen = os.environ.get("DWAVE_CONFIG_FILE")
        profiles = load_config_from_files([chosen] if chosen else None)
        for section in [profiles.default_section, *profiles.sections()]:
            yield from (value for name, value in profiles.items(section) if "token" in name and value)
    except Exception:  # not installed, or a file that cannot be read: nothing was read from it either
        pass
