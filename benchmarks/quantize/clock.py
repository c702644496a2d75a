"""Seconds and memory of a call."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _resident(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most so far), in MB."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


@contextmanager
def clocked() -> Iterator[dict[str, Any]]:
    """Fill in `wall_s`, `cpu_s` (of all threads) and `added_mb`: the most memory beyond what was in use before.

    `added_mb` is `None` where the system does not tell (other than Linux).
    """
    try:
        _RESET.write_text("5")  # the high-water mark starts again from here
        before: float | None = _resident("VmRSS")
    except OSError:
        before = None
    cost: dict[str, Any] = {}
    cpu, wall = time.process_time(), time.perf_counter()
    yield cost
    cost["wall_s"], cost["cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu
    cost["added_mb"] = None if before is None else _resident("VmHWM") - before
