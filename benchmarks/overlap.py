"""What asynchronous annealing is worth where the sampler is slow: `python -m benchmarks.overlap`.

Digits 64-6-10, weights binary with one scale a row, batches of 128. After a straight-through warm-up come 40 annealing
steps of `QuboStep` at its default temperatures, one every so many gradient steps, a QUBO of 32 variables each. The
annealer stands behind a sleep as long as 20 gradient steps of the warm-up. "none" goes on straight-through. The ways
of a seed are trained in turn, one period from annealing step to annealing step each, and the share is the median over
periods of the time that "none" took to what the way took just after: what else the machine does meets both. Seconds are
those of the training thread: its CPU time and the time that it waited for answers. With `--busy` the sampler computes
instead of sleeping, and seconds are those of wall clock. The loss, over all training data at the end, depends on no
clock.

The committed rows are those of `--seeds 0:5`, and of `--seeds 5:20 --no-latency` for losses.
"""

from __future__ import annotations

import benchmarks.one_thread  # noqa: F401

# isort: split
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
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


class Run:
    """One way of training, a warm-up and then a period at a time, on a clock that stands still between its calls."""

    def __init__(self, seed: int, way: str, every: int, slow: bool, busy: bool) -> None:
        self.way, self.every, self.seed, self.busy = way, every, seed, busy
        self.sampler = Far(busy)
        step = qa.QuboStep(self.sampler, proposals=32, variables=32, **WAYS[way])
        schedule = qa.Every(every, start=WARMUP, stop=WARMUP + CALLS * every)
        self.training = Training(seed, None if way == "none" else step, schedule)
        warm = self._seconds(WARMUP - 1)
        self.sampler.seconds = slow * LATENCY * warm / (WARMUP - 1)
        self._seconds(1)  # the first annealing step: codes are handed over
        self.periods: list[float] = []

    def period(self) -> None:
        """Train until after the next annealing step."""
        self.periods.append(self._seconds(self.every))

    def row(self, base: Run) -> Row:
        """What came of it, its speed beside that of ``base`` in the same moments."""
        shares = [without / mine for mine, without in zip(self.periods, base.periods, strict=True)]
        return {
            "way": self.way,
            "every": self.every,
            "seed": self.seed,
            "steps_per_s": self.every / statistics.median(self.periods),
            "share": statistics.median(shares),
            "latency_s": self.sampler.seconds,
            "waited_s": self._waited(),
            "loss": float(self.training.objective()),
        }

    def _seconds(self, steps: int) -> float:
        began = self._clock()
        for _ in range(steps):
            self.training.step()
        return self._clock() - began

    def _clock(self) -> float:
        return time.perf_counter() if self.busy else time.thread_time() + self._waited()

    def _waited(self) -> float:
        if WAYS[self.way]:
            return sum(record.seconds["sample"] for record in self.training.optimizer.records)
        return self.sampler.slept


def runs(every: Sequence[int], seeds: Sequence[int], slow: bool, busy: bool) -> Iterator[Row]:
    """All ways of a seed, in turn period by period; a first run, which compiles, is left out."""
    Run(seeds[0], "asynchronous", 1, False, False).period()
    for period in every:
        for seed in seeds:
            ways = [Run(seed, way, period, slow, busy) for way in WAYS]
            for _ in range(CALLS):
                for one in ways:
                    one.period()
            yield from (one.row(ways[0]) for one in ways)


def table(rows: Sequence[Row]) -> str:
    """Medians over seeds of steps a second and of their share of those without annealing; means of losses.

    Speeds are those of rows with a slow sampler, if there are any.
    """
    seeds, timed = ({row["seed"] for row in some} for some in (rows, _timed(rows)))
    speeds = [f"steps/s, {len(timed)} seeds", "share"] if timed else []
    header = ["annealing every", "way", *speeds, f"loss, {len(seeds)} seeds"]
    lines = []
    for every in dict.fromkeys(row["every"] for row in rows):
        found = _by_way(rows, every)
        for way, mine in found.items():
            cells = _speeds(_timed(mine)) if timed else []
            lines.append([f"{every} steps", way, *cells, _losses(found, way)])
    return markdown(header, lines)


def _speeds(rows: Sequence[Row]) -> list[str]:
    speed, share = (statistics.median(row[name] for row in rows) for name in ("steps_per_s", "share"))
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
