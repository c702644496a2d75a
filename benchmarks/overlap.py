"""What asynchronous annealing is worth where the sampler is slow: `python -m benchmarks.overlap`.

Digits 64-6-10, weights binary with one scale a row, batches of 128. After a straight-through warm-up come 40 annealing
steps of `QuboStep` at its default temperatures, one every so many gradient steps, a QUBO of 32 variables each. The
annealer stands behind a sleep as long as 20 gradient steps of the warm-up. "none" goes on straight-through. Gradient
steps a second are those of the median annealing period, in seconds of the training thread: its CPU time and the time
that it waited for answers; on a machine that is busy with other things they scatter all the same. With `--busy` the
sampler computes instead of sleeping, and seconds are those of wall clock. The loss, over all training data at the end,
does not depend on the machine.

The committed rows are those of `--seeds 0:20 --no-latency`: losses alone.
"""

import benchmarks.one_thread  # noqa: F401

# isort: split
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

import qanneal_opt as qa
from benchmarks import measurement
from benchmarks.digits_net import Training
from benchmarks.harness import RESULTS, parse_seeds
from benchmarks.report import paired
from benchmarks.rows import Row, markdown, mean

OUTPUT = RESULTS / "overlap.jsonl"
WARMUP, CALLS, LATENCY = 300, 40, 20
WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "blocking": {},
    "asynchronous": {"asynchronous": True},  # judged at the next annealing step
    "with lag": {"asynchronous": True, "lag": LATENCY + 5},  # judged soon after they came
}


class Far:
    """The annealer, whose answers take `seconds` longer: asleep, or busy without holding Python's lock."""

    name, draws_at_temperature = "far", True

    def __init__(self, busy: bool) -> None:
        self.inner, self.seconds, self.busy = qa.samplers.Annealer(threads=1), 0.0, busy
        self.slept = 0.0  # in the training thread

    def sample_arrays(self, qubo: qa.Qubo, **arguments: Any) -> Any:
        until = time.perf_counter() + self.seconds
        while self.busy and time.perf_counter() < until:
            self.inner.sample_arrays(qubo, num_reads=100, seed=0)
        left = max(0.0, until - time.perf_counter())
        time.sleep(left)
        if threading.current_thread() is threading.main_thread():
            self.slept += left
        return self.inner.sample_arrays(qubo, **arguments)


def run(seed: int, way: str, every: int, slow: bool, busy: bool) -> Row:
    """Train once."""
    sampler, last = Far(busy), WARMUP + CALLS * every
    step = qa.QuboStep(sampler, proposals=32, variables=32, **WAYS[way])
    training = Training(seed, None if way == "none" else step, qa.Every(every, start=WARMUP, stop=last))

    def waited() -> float:
        return sum(record.seconds["sample"] for record in training.optimizer.records) if WAYS[way] else sampler.slept

    def clock() -> float:
        return time.perf_counter() if busy else time.thread_time() + waited()

    began, moments = clock(), []
    for k in range(1, last + 1):
        training.step()
        if k == WARMUP:
            sampler.seconds = slow * LATENCY * (clock() - began) / WARMUP
        if k >= WARMUP and (k - WARMUP) % every == 0:
            moments.append(clock())
    return {
        "way": way,
        "every": every,
        "seed": seed,
        "steps_per_s": every / statistics.median(after - before for before, after in pairwise(moments)),
        "latency_s": sampler.seconds,
        "waited_s": waited(),
        "loss": float(training.objective()),
    }


def runs(every: Sequence[int], seeds: Sequence[int], slow: bool, busy: bool) -> Iterator[Row]:
    """All ways, interleaved; a first run, which compiles, is left out."""
    run(seeds[0], "asynchronous", 1, False, False)
    for period in every:
        for seed in seeds:
            for way in WAYS:
                yield run(seed, way, period, slow, busy)


def table(rows: Sequence[Row]) -> str:
    """Medians over seeds of steps a second, as a share of those without annealing of the same seed; means of losses.

    Speeds are those of rows with a slow sampler, if there are any.
    """
    seeds, timed = ({row["seed"] for row in some} for some in (rows, _timed(rows)))
    speeds = [f"steps/s, {len(timed)} seeds", "share"] if timed else []
    header = ["annealing every", "way", *speeds, f"loss, {len(seeds)} seeds"]
    lines = []
    for every in dict.fromkeys(row["every"] for row in rows):
        found = _by_way(rows, every)
        for way, mine in found.items():
            cells = _speeds(_timed(mine), _timed(found["none"])) if timed else []
            lines.append([f"{every} steps", way, *cells, _losses(found, way)])
    return markdown(header, lines)


def _speeds(mine: Sequence[Row], base: Sequence[Row]) -> list[str]:
    pairs = list(zip(mine, base, strict=True))
    speed = statistics.median(row["steps_per_s"] for row, _ in pairs)
    share = statistics.median(row["steps_per_s"] / other["steps_per_s"] for row, other in pairs)
    return [f"{speed:.0f}", f"{share:.3f}"]


def _timed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["latency_s"] > 0]


def _by_way(rows: Sequence[Row], every: int) -> dict[str, list[Row]]:
    return {way: [row for row in rows if (row["every"], row["way"]) == (every, way)] for way in WAYS}


def _losses(found: dict[str, list[Row]], way: str) -> str:
    """The mean loss; for asynchronous forms also the ratio to blocking, and how often they tie with it or win."""
    mine, base = ([row["loss"] for row in found[name]] for name in (way, "blocking"))
    if not WAYS[way]:
        return mean(mine)
    test, wins = paired(mine, base), sum(one <= other for one, other in zip(mine, base, strict=True))
    return f"{mean(mine)}; ×{test.ratio:.3f} (p {test.wilcoxon:.2g}), {wins} of {len(mine)} no worse"


def main() -> None:
    """Run and print a table."""
    parser = measurement.parser("overlap", __doc__)
    parser.add_argument(
        "--every", type=int, nargs="+", default=[25, 50, 100, 200], help="gradient steps an annealing step"
    )
    parser.add_argument("--no-latency", action="store_true", help="for losses alone")
    parser.add_argument("--busy", action="store_true", help="a sampler that computes instead of sleeping")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(runs(options.every, parse_seeds(options.seeds), not options.no_latency, options.busy))
    measurement.show(rows, table, options.output)


if __name__ == "__main__":
    main()
