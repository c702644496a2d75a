"""How much of a QuboStep call its sampler takes: `python -m benchmarks.share`.

Digits 64-6-10, weights binary with one scale a row. After a straight-through warm-up come calls of `QuboStep` at its
defaults (48 proposals in blocks of at most 32 bits, temperatures falling over the calls, 10 refit steps), one every 10
gradient steps, with dwave-samplers' simulated annealing and with our annealer in turn: a call of the one training, then
a call of the other. Seconds are CPU time of the one thread, so that other load on the machine counts little. They are
medians over the calls of a seed.
"""

import benchmarks.one_thread  # noqa: F401

# isort: split
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

import qanneal_opt as qa
from benchmarks import measurement
from benchmarks.digits_net import Training
from benchmarks.harness import RESULTS, parse_seeds
from benchmarks.rows import Row, markdown

OUTPUT = RESULTS / "share.jsonl"
WARMUP, CALLS, EVERY = 300, 100, 10
SAMPLERS = ("dwave-sa", "annealer")


class Timed(qa.QuboStep):
    """A step that notes the seconds of its calls, and which of them its sampler took."""

    def __init__(self, sampler: str) -> None:
        super().__init__(sampler)
        self.calls: list[float] = []
        self.samples: list[float] = []
        self._sample, self.sampler.sample_arrays = self.sampler.sample_arrays, self._timed

    def __call__(self, *arguments: Any) -> qa.AnnealRecord:
        self.samples.append(0.0)
        begun = time.thread_time()
        record = super().__call__(*arguments)
        self.calls.append(time.thread_time() - begun)
        return record

    def _timed(self, qubo: qa.Qubo, **ask: Any) -> Any:
        begun = time.thread_time()
        drawn = self._sample(qubo, **ask)
        self.samples[-1] += time.thread_time() - begun
        return drawn


def training(seed: int, step: qa.QuboStep, calls: int) -> Iterator[None]:
    """Train, and pause after each annealing step."""
    last = WARMUP + calls * EVERY
    trained = Training(seed, step, qa.Every(EVERY, start=WARMUP, stop=last))
    for k in range(1, last + 1):
        trained.step()
        if k > WARMUP and k % EVERY == 0:
            yield


def run(seed: int, calls: int = CALLS) -> list[Row]:
    """One training with each sampler, a call of each in turn."""
    steps = [Timed(sampler) for sampler in SAMPLERS]
    for _ in zip(*(training(seed, step, calls) for step in steps), strict=True):
        pass
    rows = []
    for sampler, step in zip(SAMPLERS, steps, strict=True):
        call, sample = statistics.median(step.calls), statistics.median(step.samples)
        share = statistics.median(one / whole for one, whole in zip(step.samples, step.calls, strict=True))
        rows.append({"sampler": sampler, "seed": seed, "call_s": call, "sample_s": sample, "share": share})
    return rows


def table(rows: Sequence[Row]) -> str:
    """Medians over seeds; shares with their range."""
    lines = []
    for sampler in SAMPLERS:
        mine = [row for row in rows if row["sampler"] == sampler]
        call, sample = (1e3 * statistics.median(row[name] for row in mine) for name in ("call_s", "sample_s"))
        shares = [row["share"] for row in mine]
        spread = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        lines.append([f"`{sampler}`", f"{call:.2f}", f"{sample:.2f}", spread])
    return markdown(
        ["sampler", "CPU ms a call", "of sampling", f"share, {len({row['seed'] for row in rows})} seeds"], lines
    )


def main() -> None:
    """Run and print."""
    options = measurement.parser("share", __doc__).parse_args()
    torch.set_num_threads(1)
    run(1000, 2)  # compiles
    rows = [row for seed in parse_seeds(options.seeds) for row in run(seed)]
    measurement.show(rows, table, options.output)


if __name__ == "__main__":
    main()
