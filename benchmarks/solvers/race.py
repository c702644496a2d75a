"""Interleaved calls on tuning seeds, a setting chosen for each solver, and the same again on fresh seeds.

A solver whose read takes t CPU seconds and ends at or below the goal with probability p has found it with
certainty 99% after

    TTS99 = t max(1, ln 0.01 / ln(1 - p)),

no less than one read and infinite at p = 0.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import harness
from benchmarks.solvers.instances import Instance
from benchmarks.solvers.peers import Setting, Solver

GOALS = {"near": 1e-3, "best": 0.0}  # relative distance to the best known energy
TUNING_SEED, REPORTING_SEED = 30_000, 0
STRIDE = 20  # seeds of a call: as many as reads, and MQLib takes none beyond 65535
Record = dict[str, Any]
Entry = tuple[Solver, Setting]


def tts(seconds: float, p: float) -> float:
    """Seconds until 99% certainty.

    >>> tts(2.0, 0.9), tts(2.0, 1.0), tts(2.0, 0.0)
    (4.0, 2.0, inf)
    """
    if not p:
        return math.inf
    return seconds * (max(1.0, round(math.log(0.01) / math.log1p(-p), 12)) if p < 1 else 1.0)


def wilson(hits: int, reads: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a probability (Wilson's)."""
    p, spread = hits / reads, z**2 / reads
    middle, half = p + spread / 2, z * math.sqrt((p * (1 - p) + spread / 4) / reads)
    # at the ends exactly: rounding would make a huge time of an infinite one
    low = (middle - half) / (1 + spread) if hits else 0.0
    return low, (middle + half) / (1 + spread) if hits < reads else 1.0


def measure(instance: Instance, entries: Sequence[Entry], reads: int, seed: int, cap: float) -> Iterator[Record]:
    """A record an entry: `reads` energies, fewer when they have taken `cap` CPU seconds.

    Calls take turns, and the order of the entries is turned by one each time.
    """
    energies: list[list[float]] = [[] for _ in entries]
    cpu = [0.0] * len(entries)
    turn = 0
    while True:
        open_ = [k for k in range(len(entries)) if len(energies[k]) < reads and cpu[k] < cap]
        if not open_:
            break
        shift = turn % len(open_)
        for k in (*open_[shift:], *open_[:shift]):
            solver, setting = entries[k]
            block = min(solver.block, reads - len(energies[k]))
            found, seconds = solver.solve(instance, setting, block, seed + STRIDE * turn)
            energies[k] += found
            cpu[k] += seconds * block
        turn += 1
    for k, (solver, setting) in enumerate(entries):
        yield {
            "instance": instance.name,
            "n": instance.qubo.n,
            "solver": solver.name,
            "setting": setting,
            "read_s": cpu[k] / len(energies[k]),
            "energies": energies[k],
        }


def goal(best: float, goal_name: str) -> float:
    """The energy to reach."""
    return best + GOALS[goal_name] * abs(best)


def hits(record: Record, target: float) -> int:
    """Reads that reached it; energies are whole numbers, so half a unit is rounding."""
    return sum(energy <= target + 1e-6 for energy in record["energies"])


def time_to(record: Record, target: float) -> float:
    """TTS99 of a record."""
    return tts(record["read_s"], hits(record, target) / len(record["energies"]))


def chosen(tuning: Sequence[Record], solver: Solver, target: float) -> Setting:
    """The setting of the least TTS99; where none reached the goal, that of the lowest mean energy."""
    own = [record for record in tuning if record["solver"] == solver.name]

    def rank(record: Record) -> tuple[float, float]:
        return time_to(record, target), sum(record["energies"]) / len(record["energies"])

    setting: Setting = min(own, key=rank)["setting"]
    return setting


def race(
    instance: Instance, solvers: Sequence[Solver], *, reads: int, cap: float, tuning_reads: int, tuning_cap: float
) -> list[Record]:
    """All records of an instance; those of the reporting seeds name the goals that their settings were chosen for.

    Caps are multiplied by the instance's patience. A setting whose one read takes more than the cap is left out.
    """
    cap, tuning_cap = cap * instance.patience, tuning_cap * instance.patience
    entries = [(solver, setting) for solver in solvers for setting in solver.ladder if setting.get("seconds", 0) <= cap]
    tuning = list(measure(instance, entries, tuning_reads, TUNING_SEED, tuning_cap))
    published = [] if instance.published is None else [instance.published]
    seen = min([*published, *(min(record["energies"]) for record in tuning)])
    picks: list[tuple[Solver, Setting, list[str]]] = []
    for solver in solvers:
        for name in GOALS:
            setting = chosen(tuning, solver, goal(seen, name))
            same = [names for other, its, names in picks if other is solver and its == setting]
            if same:
                same[0].append(name)
            else:
                picks.append((solver, setting, [name]))
    final = list(measure(instance, [(s, setting) for s, setting, _ in picks], reads, REPORTING_SEED, cap))
    best = min([seen, *(min(record["energies"]) for record in final)])
    records = [{**record, "phase": "tuning", "goals": []} for record in tuning]
    records += [{**record, "phase": "report", "goals": names} for record, (_, _, names) in zip(final, picks)]
    head = {"best": best, "published": instance.published, "cap_s": cap, "commit": harness.commit()}
    return [{**record, **head} for record in records]
