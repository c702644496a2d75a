"""Samplers by name: `resolve` gives the seat of one, `available` tells which there are and what they need."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from qanneal_opt.samplers import ocean
from qanneal_opt.samplers.arrays import ArraySeat
from qanneal_opt.samplers.base import SamplerError, Seat
from qanneal_opt.samplers.exact import MAX_VARIABLES, Exact

__all__ = ["GROUP", "Row", "Table", "available", "resolve"]

GROUP = "qanneal_opt.samplers"
"""Entry points of this group name a seat, a ``dimod.Sampler``, or a class or function that makes one."""


@dataclass(frozen=True)
class _Name:
    what: str
    make: Callable[[], Seat]
    package: str | None = None  # a module to import
    extra: str | None = None  # the extra that brings it; a dependency of ours if None


def _annealer() -> Seat:
    from qanneal_opt.samplers.annealer import Annealer

    return Annealer()


def _tabu() -> Seat:
    from qanneal_opt.samplers.tabu import Tabu

    return Tabu()


def _qpu() -> Seat:
    from qanneal_opt.samplers.remote.qpu import QPU

    return QPU()


def _hybrid() -> Seat:
    from qanneal_opt.samplers.remote.hybrid import Hybrid

    return Hybrid()


_SA = _Name("simulated annealing of dwave-samplers", ocean.dwave_sa, "dwave.samplers")

_NAMES: dict[str, _Name] = {
    "annealer": _Name("the default: our own annealer, batched", _annealer),
    "tabu": _Name("our iterated tabu search, for single hard problems", _tabu),
    "greedy": _Name("steepest descent of dwave-samplers", ocean.greedy, "dwave.samplers"),
    "exact": _Name(f"enumeration of all states, up to {MAX_VARIABLES} variables", Exact),
    "dwave-sa": _SA,
    "neal": _SA,
    "dwave-tabu": _Name("tabu search of dwave-samplers", ocean.dwave_tabu, "dwave.samplers"),
    "sqa": _Name("path-integral (simulated quantum) annealing of dwave-samplers", ocean.sqa, "dwave.samplers"),
    "qpu": _Name("a D-Wave quantum annealer, on embedded cliques", _qpu, "dwave.system", "ocean"),
    "hybrid": _Name("D-Wave's Leap hybrid solver", _hybrid, "dwave.system", "ocean"),
}


def resolve(spec: Any) -> Seat:
    """The seat of a sampler.

    Args:
        spec: a name (see :func:`available`), the name of an entry point of the group
            ``qanneal_opt.samplers``, a seat, a ``dimod.Sampler``, or any object with ``sample_arrays``. A
            ``DWaveSampler`` goes into a :class:`QPU`, a ``LeapHybridSampler`` into a :class:`Hybrid`.

    Raises:
        ValueError: an unknown name.
        TypeError: something that is no sampler.
        ImportError: the package behind a name is not installed; tells which extra brings it.
        SamplerError: an entry point that does not load or makes no sampler.

    >>> resolve("exact").name
    'exact'
    """
    if isinstance(spec, str):
        return _by_name(spec)
    seat = _seat(spec)
    if seat is None:
        needed = "a name, a dimod.Sampler or an object with sample_arrays"
        raise TypeError(f"Invalid sampler: {spec!r}; must be {needed}")
    return seat


def _seat(sampler: Any) -> Seat | None:
    """A seat for a sampler object, ``None`` for what is no sampler."""
    from dimod.core.sampler import Sampler

    from qanneal_opt.samplers.dimod_seat import DimodSeat

    if isinstance(sampler, Seat):
        return sampler
    if isinstance(sampler, type):
        return None
    if callable(getattr(sampler, "sample_arrays", None)):
        return ArraySeat(sampler)
    if not isinstance(sampler, Sampler):
        return None
    return _remote(sampler) or DimodSeat(sampler)


def _remote(sampler: Any) -> Seat | None:
    """A seat for a D-Wave machine that is given as Ocean has it: by itself it takes its own graph's problems alone."""
    from dimod.core.structured import Structured

    if isinstance(sampler, Structured) and "topology" in getattr(sampler, "properties", ()):
        from qanneal_opt.samplers.remote.qpu import QPU

        return QPU(sampler)
    if hasattr(sampler, "min_time_limit"):
        from qanneal_opt.samplers.remote.hybrid import Hybrid

        return Hybrid(sampler)
    return None


def _by_name(name: str) -> Seat:
    known = _NAMES.get(name)
    if known is not None:
        if not _installed(known.package):
            need = f"which comes with: pip install qanneal-opt[{known.extra}]" if known.extra else "a dependency"
            raise ImportError(f"Sampler {name!r} needs {known.package}, {need}", name=known.package)
        return known.make()
    points = _points()
    if name not in points:
        names = ", ".join([*_NAMES, *points])
        raise ValueError(f"Invalid sampler: {name!r}; known: {names}")
    return _load(points[name])


def _points() -> dict[str, EntryPoint]:
    """Entry points by name; ours win over one of the same name."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in _NAMES}


def _load(point: EntryPoint) -> Seat:
    try:
        made = point.load()
        seat = _seat(made)
        if seat is None and callable(made):
            made = made()
            seat = _seat(made)
    except Exception as error:
        raise SamplerError(f"Entry point {point.name!r} ({point.value}) failed: {error}") from error
    if seat is None:
        raise SamplerError(f"Entry point {point.name!r} ({point.value}) makes no sampler but {made!r}")
    return seat


def _installed(package: str | None) -> bool:
    try:
        return package is None or find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


@dataclass(frozen=True)
class Row:
    """One sampler: its name, what it is, the extra to install (or none), and what its configuration lacks."""

    name: str
    what: str
    installed: bool
    install: str
    configured: bool
    missing: str


class Table(list[Row]):
    """Rows that print as a table."""

    def __str__(self) -> str:
        cells = [("name", "what it is", "installed", "configured")]
        for row in self:
            installed = "yes" if row.installed else row.install
            cells.append((row.name, row.what, installed, "yes" if row.configured else f"needs {row.missing}"))
        widths = [max(len(line[k]) for line in cells) for k in range(4)]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)


def available() -> Table:
    """All samplers that :func:`resolve` knows by name; nothing is loaded and no network is used.

    >>> [row.name for row in available() if row.name == "exact"]
    ['exact']
    """
    rows = Table()
    for name, known in _NAMES.items():
        what = known.what + next((f" (also {a})" for a, k in _NAMES.items() if k is known and a != name), "")
        installed = _installed(known.package)
        install = "" if installed else f"pip install qanneal-opt[{known.extra}]" if known.extra else "a dependency"
        missing = _missing_configuration() if known.extra == "ocean" else ""
        rows.append(Row(name, what, installed, install, not missing, missing))
    rows += [Row(name, f"entry point {point.value}", True, "", True, "") for name, point in _points().items()]
    return rows


def _missing_configuration() -> str:
    """What access to D-Wave lacks, as far as can be told without a connection; shows no token."""
    if os.environ.get("DWAVE_API_TOKEN"):
        return ""
    if _installed("dwave.cloud.config"):
        from dwave.cloud.config import load_config

        from qanneal_opt.samplers.tokens import hush_logs

        hush_logs()
        try:
            if load_config().get("token"):
                return ""
        except Exception as error:  # a file that cannot be read or parsed
            return f"a readable D-Wave configuration ({type(error).__name__})"
    return "an API token (DWAVE_API_TOKEN or a D-Wave configuration file)"
