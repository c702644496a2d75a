"""What a run takes: wall seconds, CPU seconds, and joules where the machine counts them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

POWERCAP = Path("/sys/class/powercap")
MOST_WATTS = 1000.0  # of one counter: a wrap may go unseen only after the time that this takes


class Counter(NamedTuple):
    """A counter of joules, that of a processor's package or of a GPU.

    Attributes:
        name: what it measures, and by what.
        read: gives joules since some moment.
        range: where it starts again at 0, in joules; infinite if it does not.
    """

    name: str
    read: Callable[[], float]
    range: float = math.inf


class Meter:
    """Measures what the process takes from one reading to the next.

    CPU seconds are those of all threads of the process. Joules are those of all counters together: what the whole
    machine did in that time, other processes included. They are NaN where there is no counter or where one may have
    wrapped unseen.

    Args:
        powercap: folder of Linux's power capping framework, with its RAPL counters.

    >>> sorted(Meter().lap())
    ['cpu', 'joules', 'wall']
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self.counters = [*_packages(powercap), *_gpus()]
        self._last = self._now()

    @property
    def names(self) -> str:
        """What joules are measured of, empty if of nothing."""
        return ", ".join(counter.name for counter in self.counters)

    def lap(self) -> dict[str, float]:
        """Give seconds of ``wall`` and ``cpu`` and ``joules`` since the last reading."""
        (wall, cpu, before), self._last = self._last, self._now()
        seconds, joules = self._last[0] - wall, math.nan if not self.counters else 0.0
        for counter, old, new in zip(self.counters, before, self._last[2], strict=True):
            unseen = seconds * MOST_WATTS > counter.range
            joules += math.nan if unseen else (new - old) % counter.range
        return {"wall": seconds, "cpu": self._last[1] - cpu, "joules": joules}

    def _now(self) -> tuple[float, float, list[float]]:
        return time.perf_counter(), time.process_time(), [_value(counter) for counter in self.counters]


def _value(counter: Counter) -> float:
    try:
        return counter.read()
    except Exception:  # a counter that has gone: what it would have told is unknown
        return math.nan


def _packages(powercap: Path) -> Iterator[Counter]:
    """RAPL's processor packages, where they may be read; their parts (cores, graphics) are in them."""
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") > 1:
            continue
        try:
            name, most = (zone / "name").read_text().strip(), float((zone / "max_energy_range_uj").read_text())
            (zone / "energy_uj").read_text()
        except (OSError, ValueError):  # for the administrator only, mostly
            continue
        if name.startswith("package"):
            yield Counter(f"{name} by RAPL", partial(_microjoules, zone / "energy_uj"), most / 1e6)


def _microjoules(file: Path) -> float:
    return float(file.read_text()) / 1e6


def _gpus() -> Iterator[Counter]:
    """NVIDIA's GPUs, where pynvml is installed and they count energy."""
    if find_spec("pynvml") is None:
        return
    import pynvml as nvml  # type: ignore[import-not-found,unused-ignore]

    try:
        nvml.nvmlInit()
        handles: list[Any] = [nvml.nvmlDeviceGetHandleByIndex(k) for k in range(nvml.nvmlDeviceGetCount())]
        for handle in handles:
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:
        return
    for k, handle in enumerate(handles):
        yield Counter(f"gpu {k} by NVML", partial(_millijoules, nvml, handle))


def _millijoules(nvml: Any, handle: Any) -> float:
    joules: float = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    return joules
