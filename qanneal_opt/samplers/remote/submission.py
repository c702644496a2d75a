"""One submission to a quantum annealer: problems scaled and placed side by side, and the bits that come back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import SamplerError
from qanneal_opt.samplers.checked import Answer
from qanneal_opt.samplers.remote.ledger import reported
from qanneal_opt.samplers.remote.machine import Machine
from qanneal_opt.samplers.remote.programmed import Programmed
from qanneal_opt.samplers.remote.reduction import Reduced
from qanneal_opt.samplers.request import Request
from qanneal_opt.samplers.temperature import estimate_temperature, expected_excitations

if TYPE_CHECKING:
    from qanneal_opt.samplers.remote.qpu import QPU

__all__ = ["Submission"]

Array = np.ndarray[Any, Any]

# Excitations that have to be expected for none at all to tell that the machine is colder than thought.
_EXPECTED = 5.0
# Microseconds and annealing fraction of a reverse anneal: back to half way, a pause, and forward again.
_REVERSE = ((0.0, 1.0), (5.0, 0.45), (25.0, 0.45), (30.0, 1.0))


class Submission:
    """A job for problem ``first`` of a request and as many after it as fit beside it.

    Args:
        seat: whose options, ledger and tuning it uses.
        machine: to submit to.
        request: of the whole batch.
        first: the first problem that is still to be answered.
    """

    def __init__(self, seat: QPU, machine: Machine, request: Request, first: int) -> None:
        self.seat, self.machine = seat, machine
        self.knobs = seat.tuning.of(machine.name)
        problems = [request.problem(k) for k in range(first, request.problems)]
        reduced = [Reduced.of(one.qubo, one.temperature) for one in problems]
        places = machine.placements(max(len(one.kept) for one in reduced), len(problems))
        self.placed = [Programmed.of(*each, machine, self.knobs) for each in zip(problems, reduced, places)]
        self.parameters = self._parameters(request)
        self.seconds = machine.seconds(sum(len(place.qubits) for place in places), self.parameters)

    def _parameters(self, request: Request) -> dict[str, Any]:
        """What the submission carries, as far as the solver takes it."""
        wanted: dict[str, Any] = {
            "num_reads": self.machine.reads(max(request.reads, self.seat.reads)),
            "answer_mode": "raw",
            "auto_scale": False,
            "label": "qanneal_opt",
        }
        reverses = {"initial_state", "anneal_schedule"} <= self.machine.parameters
        if self.seat.starts and reverses and request.temperature is None and request.start is not None:
            state: dict[int, int] = {}
            for one in self.placed:
                assert one.request.start is not None
                state |= one.placement.spread(one.request.start[0, 0])
            wanted |= {"anneal_schedule": [list(point) for point in _REVERSE], "initial_state": state}
            wanted["reinitialize_state"] = True
        taken = {name: value for name, value in wanted.items() if name in self.machine.parameters}
        extra = dict(self.seat.extra)
        if "anneal_schedule" in taken:  # which says how long itself
            extra.pop("annealing_time", None)
        return {"num_reads": wanted["num_reads"]} | taken | extra

    def submit(self) -> Any:
        """Send it and wait for the answer."""
        from dimod import SPIN, BinaryQuadraticModel

        qubits = np.concatenate([one.placement.qubits for one in self.placed])
        starts = np.cumsum([0, *(len(one.placement.qubits) for one in self.placed)])
        ends = np.concatenate([one.placement.ends + start for one, start in zip(self.placed, starts)], 1)
        biases = [np.concatenate([getattr(one, name) for one in self.placed]) for name in ("fields", "couplings")]
        model: Any = BinaryQuadraticModel.from_numpy_vectors(
            biases[0], (ends[0], ends[1], biases[1]), 0.0, SPIN, variable_order=qubits.tolist()
        )
        answer = self.machine.sampler.sample(model, **self.parameters)
        answer.resolve()
        return answer

    def read(self, answer: Any) -> list[Answer]:
        """Bits of each problem, the temperature that they met, and what is to be learned for the next submission."""
        ledger = self.seat.ledger
        seconds = reported(answer.info, "qpu_access_time")
        ledger.charge(self.seconds if seconds is None else seconds)
        ledger.qpu_access_time += seconds or 0.0
        spins = self._spins(answer)
        ledger.problems += len(self.placed)
        answers, first = [], 0
        for one in self.placed:
            last = first + len(one.placement.qubits)
            answers.append(self._settled(one, spins[:, first:last]))
            first = last
        return answers

    def _spins(self, answer: Any) -> Array:
        """Spins ``(R, q)`` in the order of the qubits of all problems.

        Raises:
            SamplerError: the answer is empty, lacks qubits, or holds something else than spins and finite energies.
        """
        qubits = [qubit for one in self.placed for qubit in one.placement.qubits.tolist()]
        columns = {label: column for column, label in enumerate(answer.variables)}
        missing = sum(qubit not in columns for qubit in qubits)
        if missing:
            raise SamplerError(f"{self.machine.name} answered {len(columns)} qubits, {missing} of them missing")
        record = answer.record
        if not len(record):
            raise SamplerError(f"{self.machine.name} returned no sample")
        if not np.isfinite(record.energy).all():
            raise SamplerError(f"{self.machine.name} returned energies that are not finite")
        values = record.sample[:, [columns[qubit] for qubit in qubits]]
        if (np.abs(values) != 1).any() or (record.num_occurrences < 1).any():
            raise SamplerError(f"{self.machine.name} returned something else than spins")
        return np.repeat(values, record.num_occurrences, axis=0)

    def _settled(self, one: Programmed, spins: Array) -> Answer:
        request, knobs, ledger = one.request, self.knobs, self.seat.ledger
        drawn, broken = one.placement.read(spins, np.random.default_rng(request.seeds[0]))
        bits = one.reduced.restored(drawn[:, : len(one.reduced.kept)])
        ledger.reads += len(bits)
        ledger.chains += broken.size
        ledger.broken += int(broken.sum())
        met = estimate_temperature(request.qubo, bits)
        if request.temperature is not None and _tells(request, bits, met):
            knobs.learn(one.scale, met)
        share = float(broken.mean())
        if share > self.seat.chain_limit:
            knobs.strengthen()
        info: dict[str, Any] = {
            "solver": self.machine.name,
            "reads": len(bits),
            "variables": len(one.reduced.kept),
            "qubits": len(one.placement.qubits),
            "chain_length": int(one.placement.lengths.max()),
            "chain_strength": one.chain * one.scale,
            "chain_breaks": share,
            "scale": one.scale,
            "precision_lost": one.lost,
            "reverse": "initial_state" in self.parameters,
        }
        known = met if 0 < met < math.inf else None
        if request.temperature is not None:
            return bits, info | {"temperature": known, "temperature_asked": request.temperature}
        return self._descended(request.qubo, bits), info | {"temperature_estimate": known}

    def _descended(self, qubo: Qubo, bits: Array) -> Array:
        """Minima by steepest descent from ``bits``."""
        if not self.seat.descend:
            return bits
        from dwave.samplers import SteepestDescentSolver

        start = (bits.astype(np.int8), list(range(qubo.n)))
        solver: Any = SteepestDescentSolver  # not annotated
        minima: Array = solver().sample(qubo.to_bqm(), initial_states=start).record.sample
        return minima


def _tells(request: Request, bits: Array, met: float) -> bool:
    """Whether an estimate says something of the machine; one of 0 only where higher states were to be expected."""
    assert request.temperature is not None
    return met > 0 or (met == 0 and expected_excitations(request.qubo, bits, request.temperature) > _EXPECTED)
