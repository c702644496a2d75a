"""Prunes digits networks at several densities, finetunes them 200 steps, and tells loss, accuracy and CPU seconds.

The learning rate of finetuning is chosen for each contender and density on tuning seeds.
"""

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks import harness
from benchmarks.prune.contenders import CONTENDERS, TUNED
from benchmarks.prune.network import Trained, weights

DENSITIES = (0.2, 0.1)
LRS = (3e-3, 1e-2, 3e-2)
TUNING_SEEDS = (1000, 1001)
OURS = "ours"  # first of all: the others' time is measured by it
Record = dict[str, Any]


def measure(seed: int, density: float, lrs: dict[str, Sequence[float]]) -> Iterator[Record]:
    """Records of all contenders at their learning rates, on one network; those of ours come first."""
    trained = Trained(seed)
    dense_loss, dense_accuracy = trained.scores(trained.model)
    budget = 0.0
    for name, rates in lrs.items():
        pruned, spent = None, 0.0
        for lr in rates:
            if pruned is None or name in TUNED:
                begun = time.process_time()
                pruned = CONTENDERS[name](trained, density, lr, budget)
                spent = time.process_time() - begun
            begun = time.process_time()
            tuned = trained.finetuned(pruned, lr)
            finetuning = time.process_time() - begun
            loss, accuracy = trained.scores(tuned)
            yield {
                "contender": name,
                "density": density,
                "seed": seed,
                "lr": lr,
                "kept": sum(int(weight.count_nonzero()) for weight in weights(tuned)),
                "loss_dense": dense_loss,
                "accuracy_dense": dense_accuracy,
                "loss_pruned": trained.scores(pruned)[0],
                "loss": loss,
                "accuracy": accuracy,
                "cpu_s": spent,
                "finetune_cpu_s": finetuning,
                "commit": harness.commit(),
                "versions": harness.versions(),
            }
        if name == OURS:
            budget = spent


def run(
    names: Sequence[str], densities: Iterable[float], seeds: Iterable[int], tuning: Sequence[int]
) -> Iterator[Record]:
    """Tuning records, then those of reporting seeds at the learning rates that were chosen."""
    names = [OURS, *(name for name in names if name != OURS)]
    with harness.single_thread():
        for density in densities:
            found = []
            for seed in tuning:
                for record in measure(seed, density, dict.fromkeys(names, LRS)):
                    found.append(record)
                    yield {**record, "phase": "tuning"}
            best = {name: [chosen(found, name)] for name in names}
            for seed in seeds:
                yield from ({**record, "phase": "report"} for record in measure(seed, density, best))


def chosen(records: Sequence[Record], name: str) -> float:
    """The learning rate of the least mean loss."""
    losses = {lr: [r["loss"] for r in records if r["contender"] == name and r["lr"] == lr] for lr in LRS}
    return min(losses, key=lambda lr: statistics.fmean(losses[lr]))
