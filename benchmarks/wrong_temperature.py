"""What the seat's estimate of a machine's temperature is worth: `python -m benchmarks.wrong_temperature`.

The binary digits network 64-6-10 is trained through the mock machine, as the benchmark's contender `qubo` is through
the annealer: 300 calls of `QuboStep`. The machine is as hot as the seat thinks at first, or a quarter, half, twice or
four times as hot. The seat

- "estimates": programs the next problem at the scale learned from the reads, and tells the judge the temperature met;
- "tells": keeps to the scale of its first guess, and tells the judge the temperature met;
- "trusts": keeps to that scale, and tells the judge the temperature asked for.

The last one is what a seat without an estimate does. Chains are strengthened by all three alike.
"""

import benchmarks.one_thread  # noqa: F401

# isort: split
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

import qanneal_opt as qa
from benchmarks import measurement
from benchmarks.harness import RESULTS, parse_seeds
from benchmarks.rows import Row, markdown, mean
from qanneal_opt.demo import alternation
from qanneal_opt.demo.contenders import QUBO, QUBO_HEAT
from qanneal_opt.demo.data import digits
from qanneal_opt.demo.mock_machine import MockMachine
from qanneal_opt.samplers.remote.tuning import Knobs

WAYS = {"estimates": (True, True), "tells": (False, True), "trusts": (False, False)}  # whether it learns, and tells
HEATS = (1.0, 0.5, 2.0, 0.25, 4.0)
OUTPUT = RESULTS / "wrong_temperature.jsonl"


class Seat(qa.samplers.QPU):
    """A seat that uses of its estimate what `way` says.

    It notes how much hotter than asked for reads were, and the energies of what it gave, in temperatures asked for.
    """

    def __init__(self, machine: MockMachine, way: str, cache: str) -> None:
        super().__init__(machine, cache=cache, on_failure="raise")
        self.learns, self.tells = WAYS[way]
        self.ratios: list[float] = []
        self.energies: list[float] = []

    def sample_arrays(self, qubo: qa.Qubo, **ask: Any) -> Any:
        drawn = super().sample_arrays(qubo, **ask)
        met, asked = drawn.info["temperature"], drawn.info["temperature_asked"]
        if met is not None:
            self.ratios.append(met / asked)
        self.energies.append(float(drawn.energies[0]) / asked)  # no move has an energy of 0
        if not self.learns:
            self.tuning.of(self.machine.name).temperature = Knobs.temperature
        return drawn if self.tells else replace(drawn, info=drawn.info | {"temperature": asked})


class Noting(qa.QuboStep):
    """A step that adds up its records."""

    judged = accepted = 0

    def __call__(self, *arguments: Any) -> qa.AnnealRecord:
        record = super().__call__(*arguments)
        self.judged += record.candidates
        self.accepted += record.accepted
        return record


def run(seed: int, heat: float, way: str, cache: str) -> Row:
    """Train once."""
    machine = MockMachine("pegasus", (6,), temperature=heat * Knobs.temperature, seed=seed)
    seat = Seat(machine, way, cache)
    step = Noting(seat, temperature=QUBO_HEAT)
    trained = alternation.train(digits(seed), (6,), step, QUBO, seed)
    return {
        "heat": heat,
        "way": way,
        "seed": seed,
        "loss": trained.loss,
        "accuracy": trained.accuracy,
        "accepted": step.accepted / step.judged,
        "met_over_asked": statistics.median(seat.ratios),
        "energy_over_asked": statistics.median(seat.energies),
    }


def table(rows: Sequence[Row]) -> str:
    """Means over seeds; losses also as a ratio to those of the right temperature with the estimate."""
    right = [row["loss"] for row in rows if (row["heat"], row["way"]) == (1.0, "estimates")]
    header = ["machine's temperature", "the seat", "temperature met / asked", "moves accepted", "loss", "× right"]
    lines = []
    for heat in sorted({row["heat"] for row in rows}):
        for way in WAYS:
            mine = [row for row in rows if (row["heat"], row["way"]) == (heat, way)]
            met, taken = (statistics.mean(row[name] for row in mine) for name in ("met_over_asked", "accepted"))
            losses = [row["loss"] for row in mine]
            ratio = statistics.mean(losses) / statistics.mean(right)
            lines.append([f"× {heat:g}", way, f"{met:.2f}", f"{taken:.0%}", mean(losses), f"{ratio:.2f}"])
    return markdown(header, lines)


def runs(heats: Sequence[float], seeds: Sequence[int]) -> Iterator[Row]:
    """All of them, seed by seed."""
    with tempfile.TemporaryDirectory() as cache:
        for seed in seeds:
            for heat in heats:
                for way in WAYS:
                    yield run(seed, heat, way, cache)


def main() -> None:
    """Run and print."""
    parser = measurement.parser("wrong_temperature", __doc__)
    parser.add_argument("--heats", type=float, nargs="+", default=list(HEATS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(runs(options.heats, parse_seeds(options.seeds)))
    measurement.show(rows, table, options.output)


if __name__ == "__main__":
    main()
