"""`python -m benchmarks.solvers.throughput`: what the annealer's kernel and its batches are worth, on one thread.

- Row updates: bytes of the matrix that flips of an annealing add to the fields in a second, n = 1000, all couplings;
  beside it a loop that does nothing but add random rows of the same matrix.
- Batches: CPU seconds a problem and the mean energy of one read each, of one call for all problems and of a loop over
  dwave-samplers' annealer, by default and at its best, with as many sweeps as ours and our range of temperatures.
- One call for one problem of n = 32: to minimise, and to draw at a temperature.

All take turns. Problems have standard normal entries.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness, rows
from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers import Annealer
from qanneal_opt.samplers.cooling import minimising
from qanneal_opt.samplers.layout import Dense, aligned, laid_out

OUTPUT = harness.RESULTS / "throughput.jsonl"
Record = dict[str, Any]
SWEEPS = 100  # of annealings in batches
KINDS: dict[str, Record] = {"minimising": {}, "drawing at T = 2": {"temperature": 2.0}}  # of single calls


def normal(seed: int, n: int, batch: int | None = None, *, shared: bool = False) -> Qubo:
    """Standard normal entries; a batch has linear parts of its own, and matrices unless they are shared."""
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(size=(n, n) if batch is None or shared else (batch, n, n)), 1)
    return Qubo(rng.normal(size=n if batch is None else (batch, n)), upper + upper.swapaxes(-1, -2))


def additions() -> Callable[[Any, Any, Any], None]:
    """The loop that bounds all annealing, (rows, order, field): rows added to fields as the kernel adds them."""
    from qanneal_opt.samplers.lanes import shift
    from qanneal_opt.simd import ONE, at, entry, floats

    @entry
    def add(rows: Any, order: Any, field: Any) -> None:
        width = rows.shape[1]
        for k in range(len(order)):
            shift(floats(field.ctypes.data), ONE, at(floats(rows.ctypes.data), order[k] * width), width)

    return add


def row_updates(n: int, sweeps: int, turns: int) -> Iterator[Record]:
    """Bytes a second of annealings, and of additions alone."""
    qubo, annealer, add = normal(0, n), Annealer(threads=1), additions()
    rows, field = Dense.of(qubo).rows[0], aligned((1, -(-n // 16) * 16))
    order, size = np.random.default_rng(0).integers(0, n, 100 * n), rows.shape[1] * rows.itemsize
    field[:] = 0
    add(rows, order[:1], field)
    for turn in range(-1, turns):  # the first is not counted
        info = annealer.sample_arrays(qubo, num_sweeps=sweeps, seed=max(turn, 0)).info
        begun = time.perf_counter()
        add(rows, order, field)
        spent = time.perf_counter() - begun
        if turn >= 0:
            speeds = {"annealer": info["flips"] / info["seconds"]["anneal"], "additions alone": len(order) / spent}
            for name, flips in speeds.items():
                yield {"measure": f"row updates, n = {n}", "n": n, "of": name, "bytes_s": flips * size}


def batches(n: int, count: int, turns: int, *, shared: bool) -> Iterator[Record]:
    """Seconds a problem, and mean energies, of one call and of loops over dwave-samplers."""
    from dwave.samplers import SimulatedAnnealingSampler

    qubo, annealer, theirs = normal(1, n, count, shared=shared), Annealer(threads=1), SimulatedAnnealingSampler()
    models, layout = [qubo.to_bqm(p) for p in range(count)], laid_out(qubo)
    ends = minimising(layout, 2) * layout.unit[:, None]  # (B, 2)
    tuned = [{"num_sweeps": SWEEPS, "beta_range": (1 / hot, 1 / cold)} for hot, cold in ends.tolist()]

    def ours(seed: int) -> float:
        return float(annealer.sample_arrays(qubo, num_sweeps=SWEEPS, seed=seed).energies.mean())

    def loop(options: Sequence[Record], seed: int) -> float:
        reads = [theirs.sample(m, num_reads=1, seed=seed + p, **o) for p, (m, o) in enumerate(zip(models, options))]
        return statistics.fmean(float(read.record.energy[0]) for read in reads)

    runs = {
        "annealer, one call": ours,
        "dwave-sa, our range": lambda seed: loop(tuned, seed),
        "dwave-sa": lambda seed: loop([{}] * count, seed),
    }
    ours(0)
    for turn in range(turns):
        for name, run in runs.items():
            begun = time.process_time()
            energy = run(1000 * turn)
            spent = (time.process_time() - begun) / count
            what = f"{count} problems, n = {n}, " + ("one matrix" if shared else "a matrix each")
            yield {"measure": what, "n": n, "of": name, "problem_s": spent, "energy": energy}


def single_calls(calls: int) -> Iterator[Record]:
    """Seconds of a call for one problem of n = 32: the median."""
    qubo, annealer = normal(2, 32), Annealer(threads=1)
    spent: dict[str, list[float]] = {name: [] for name in KINDS}
    for seed in range(-20, calls):
        for name, options in KINDS.items():
            begun = time.perf_counter()
            annealer.sample_arrays(qubo, seed=max(seed, 0), **options)
            if seed >= 0:
                spent[name].append(time.perf_counter() - begun)
    for name, seconds in spent.items():
        yield {"measure": "one call, n = 32", "n": 32, "of": name, "problem_s": statistics.median(seconds)}


def table(records: Sequence[Record]) -> str:
    """A Markdown table: medians over the turns, and how many times as fast ours, the first, is as each other."""
    lines = []
    groups: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        groups.setdefault(record["measure"], {}).setdefault(record["of"], []).append(record)
    for measure, found in groups.items():
        first = None
        for name, own in found.items():
            speed = "bytes_s" in own[0]
            values = [r["bytes_s"] / 1e9 if speed else r["problem_s"] * 1e6 for r in own]
            middle, unit = statistics.median(values), "GB/s" if speed else "µs a problem"
            ratio = f"×{first / middle if speed else middle / first:.3g}" if first and name not in KINDS else ""
            first = first or middle
            energy = f"{statistics.fmean(r['energy'] for r in own):.2f}" if "energy" in own[0] else ""
            spread = f"{middle:.3g} ({min(values):.3g} to {max(values):.3g}) {unit}"
            lines.append([measure, name, spread, ratio, energy])
    return rows.markdown(["measure", "of", "median (least to most)", "ours against it", "mean energy"], lines)


def measured(*, quick: bool) -> Iterator[Record]:
    """All of it; a quick one shows that it works."""
    if quick:
        yield from row_updates(64, 20, 1)
        yield from batches(16, 4, 1, shared=True)
        yield from single_calls(3)
        return
    yield from row_updates(1000, 1000, 15)
    yield from batches(256, 512, 3, shared=True)
    yield from batches(64, 64, 15, shared=False)
    yield from single_calls(3000)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.solvers.throughput")
    parser.add_argument("--quick", action="store_true", help="tiny problems, to see that it works; writes no file")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"JSON lines ({OUTPUT.name} in benchmarks/results)")
    options = parser.parse_args(arguments)
    with harness.single_thread():
        head = {"commit": harness.commit()}
        records = [{**record, **head} for record in measured(quick=options.quick)]
    output = options.output or (None if options.quick else OUTPUT)
    if output:
        rows.write(output, records)
    print(table(records))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
