"""How much of a QuboStep call its sampler takes: `python -m benchmarks.share`.

Digits 64-6-10, weights binary with one scale a row. After a straight-through warm-up come calls of `QuboStep` at its
defaults (48 proposals in blocks of at most 32 bits, temperatures falling over the calls, 10 refit steps), one every 10
gradient steps, with dwave-samplers' simulated annealing and with our annealer in turn: a call of the one training, then
a call of the other. Seconds are CPU time of the one thread, so that other load on the machine counts little. They are
medians over the calls of a seed.
"""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import argparse  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

import qanneal_opt as qa  # noqa: E402
from benchmarks.harness import RESULTS, parse_seeds  # noqa: E402
from benchmarks.rows import Row, markdown, write  # noqa: E402
from qanneal_opt.demo.alternation import network  # noqa: E402
from qanneal_opt.demo.data import digits  # noqa: E402

OUTPUT = RESULTS / "share.jsonl"
WARMUP, CALLS, EVERY, BATCH, RATE = 300, 100, 10, 128, 5e-3
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
    split = digits(seed)
    inputs, targets = torch.from_numpy(split.train_inputs), torch.from_numpy(split.train_targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network([inputs.shape[1], 6, split.classes])
    last = WARMUP + calls * EVERY
    optimizer = qa.AnnealingOptimizer(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "encoding": qa.Levels.binary()},
            {"params": [p for p in model.parameters() if p.ndim == 1]},
        ],
        lr=RATE,
        weight_decay=0.0,
        objective=qa.Objective(model, functional.cross_entropy, (inputs, targets)),
        annealing=step,
        schedule=qa.Every(EVERY, start=WARMUP, stop=last),
        seed=seed,
    )
    generator = torch.Generator().manual_seed(seed)
    for k in range(1, last + 1):
        batch = torch.randint(len(inputs), (BATCH,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.share", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0:5", metavar="START:STOP")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write JSON lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run(1000, 2)  # compiles
    rows = [row for seed in parse_seeds(options.seeds) for row in run(seed)]
    if options.output:
        write(options.output, rows)
    print(table(rows))


if __name__ == "__main__":
    main()
