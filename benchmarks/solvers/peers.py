"""The solvers of the race: each takes an instance, a setting from its ladder, a number of reads and a seed.

What it returns are the energies of the reads and the CPU seconds of one. Those are of the whole call, the reads of a
call sharing what a solver does once. MQLib is another program: its seconds are those of its search alone, reading
the file left out.
"""

import os
import re
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.solvers.instances import Instance
from qanneal_opt.samplers import Annealer, Tabu
from qanneal_opt.samplers.schedules import BetaRange

Setting = dict[str, Any]
Outcome = tuple[list[float], float]  # energies of the reads, CPU seconds a read

SWEEPS = tuple({"num_sweeps": sweeps} for sweeps in (25, 100, 400, 1600))
LONG = (*SWEEPS, {"num_sweeps": 6400})  # for those whose sweeps are quick
RANGES = tuple({**sweeps, "range": name} for sweeps in SWEEPS for name in ("seat", "annealer"))
LONG_RANGES = (*RANGES, {"num_sweeps": 6400, "range": "annealer"})


@dataclass(frozen=True)
class Solver:
    """A name, the settings to choose from (the first is the default where there is one), reads a call, and the call."""

    name: str
    ladder: tuple[Setting, ...]
    block: int
    solve: Callable[[Instance, Setting, int, int], Outcome]


def clocked(instance: Instance, reads: int, call: Callable[[], Any], bits: Callable[[Any], Any]) -> Outcome:
    """Run `call`; `bits` reads the bit strings (R, n) out of what it gives, outside the clock."""
    begun = time.process_time()
    answer = call()
    seconds = (time.process_time() - begun) / reads
    found = torch.as_tensor(np.asarray(bits(answer)), dtype=torch.float64)
    return instance.qubo.energies(found).tolist(), seconds


def annealer(instance: Instance, setting: Setting, reads: int, seed: int) -> Outcome:
    ours = Annealer(threads=1)
    return clocked(
        instance,
        reads,
        lambda: ours.sample_arrays(instance.qubo, num_reads=reads, seed=seed, **setting),
        lambda s: s.bits,
    )


def tabu(instance: Instance, setting: Setting, reads: int, seed: int) -> Outcome:
    ours = Tabu(**setting)
    return clocked(
        instance, reads, lambda: ours.sample_arrays(instance.qubo, num_reads=reads, seed=seed), lambda s: s.bits
    )


def ordered(samples: Any) -> Any:
    """Bits of a `dimod.SampleSet`, columns in the order of the variables 0 to n - 1."""
    columns = np.argsort(np.asarray(samples.variables, dtype=int))
    return np.asarray(samples.record.sample)[:, columns]


def of_dimod(make: Callable[[], Any], instance: Instance, setting: Setting, reads: int, seed: int) -> Outcome:
    sampler = make()
    return clocked(
        instance, reads, lambda: sampler.sample(instance.bqm, num_reads=reads, seed=seed, **setting), ordered
    )


def in_our_range(
    make: Callable[[], Any], names: tuple[str, ...], instance: Instance, setting: Setting, reads: int, seed: int
) -> Outcome:
    """Another package's annealer in one of two ranges of ours: that of the seat "dwave-sa", or that of the annealer.

    `names` are the keywords that take the inverse temperatures: one for both ends, or one for each.
    """
    setting = dict(setting)
    if setting.pop("range") == "seat":
        betas = BetaRange()(instance.qubo, None)["beta_range"]
    else:
        ends = Annealer(threads=1).sample_arrays(instance.qubo, num_sweeps=2, seed=0).info["temperatures"]
        betas = tuple(1 / end for end in ends)
    setting |= dict(zip(names, betas if len(names) > 1 else (betas,)))
    return of_dimod(make, instance, setting, reads, seed)


def bifurcation(instance: Instance, setting: Setting, reads: int, seed: int) -> Outcome:
    import simulated_bifurcation

    # b'Ab + c.b + a number, as the package reads them; float32 is its default.
    quadratic, linear = (instance.qubo.quadratic / 2).float(), instance.qubo.linear.float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return clocked(
            instance,
            reads,
            lambda: simulated_bifurcation.minimize(
                quadratic, linear, 0.0, domain="binary", agents=reads, best_only=False, verbose=False, **setting
            ),
            lambda answer: answer[0],
        )


def mqlib(
    program: str,
    folder: tempfile.TemporaryDirectory[str],
    instance: Instance,
    setting: Setting,
    reads: int,
    seed: int,
) -> Outcome:
    """Palubeckis' iterated tabu search; it maximises, and its limit is in seconds of the clock."""
    path = Path(folder.name, f"{instance.name}.txt")
    if not path.exists():
        matrix = -(instance.qubo.quadratic / 2 + torch.diag(instance.qubo.linear)).numpy()
        places = np.argwhere(np.triu(matrix))
        lines = [f"{len(matrix)} {len(places)}", *(f"{i + 1} {j + 1} {matrix[i, j]:.17g}" for i, j in places)]
        path.write_text("\n".join(lines) + "\n")
    energies, spent = [], 0.0
    for read in range(reads):
        before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        options = ("-fQ", str(path), "-h", "PALUBECKIS2006", "-r", str(setting["seconds"]), "-s", str(seed + read))
        answer = subprocess.run([program, *options, "-nv"], capture_output=True, text=True, check=True).stdout
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - clock
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        energies.append(-float(re.findall(r"([-\d.e+]+):", answer)[-1]))
        spent += float(answer.split(",")[4]) * min(cpu / wall, 1.0)
    return energies, spent / reads


def solvers(mqlib_path: str | None) -> tuple[list[Solver], list[str]]:
    """Those that can run here, and a line for each that cannot."""
    found = list(_always())
    absent = []
    if find_spec("openjij"):
        from openjij import SASampler

        found.append(Solver("openjij", SWEEPS, 5, partial(of_dimod, SASampler)))
        tuned = partial(in_our_range, SASampler, ("beta_min", "beta_max"))
        found.append(Solver("openjij, our range", RANGES, 5, tuned))
    else:
        absent.append("openjij: left out; pip install openjij")
    if find_spec("simulated_bifurcation"):
        ladder = tuple({"mode": m, "max_steps": s} for m in ("ballistic", "discrete") for s in (100, 1000))
        found.append(Solver("bifurcation", ladder, 10, bifurcation))
    else:
        absent.append("bifurcation: left out; pip install simulated-bifurcation")
    if mqlib_path and os.access(mqlib_path, os.X_OK):
        folder = tempfile.TemporaryDirectory(prefix="solvers")
        ladder = tuple({"seconds": s} for s in (0.01, 0.05, 0.2, 1.0, 3.0, 10.0))
        found.append(Solver("mqlib", ladder, 1, partial(mqlib, mqlib_path, folder)))
    else:
        absent.append("mqlib: left out; --mqlib PATH or MQLIB=PATH names its program, built from MQLib's sources")
    return found, absent


def _always() -> Iterator[Solver]:
    from dwave.samplers import SimulatedAnnealingSampler, TabuSampler

    yield Solver("annealer", ({}, *LONG), 5, annealer)
    yield Solver("tabu", tuple({"moves": m} for m in (10, 100, 1000, 5000)), 1, tabu)
    yield Solver("dwave-sa", ({}, *LONG), 5, partial(of_dimod, SimulatedAnnealingSampler))
    tuned = partial(in_our_range, SimulatedAnnealingSampler, ("beta_range",))
    yield Solver("dwave-sa, our range", LONG_RANGES, 5, tuned)
    yield Solver("dwave-tabu", tuple({"timeout": t} for t in (5, 20, 100, 500)), 1, partial(of_dimod, TabuSampler))
