"""A D-Wave quantum annealer in a seat."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from qanneal_opt.samplers.base import Seat
from qanneal_opt.samplers.checked import Answer
from qanneal_opt.samplers.remote.connection import checked_selection, maker
from qanneal_opt.samplers.remote.embeddings import cache_folder
from qanneal_opt.samplers.remote.limits import Limits
from qanneal_opt.samplers.remote.machine import Machine
from qanneal_opt.samplers.remote.seat import Remote
from qanneal_opt.samplers.remote.submission import Submission
from qanneal_opt.samplers.remote.tuning import Tuning
from qanneal_opt.samplers.request import Request, counted
from qanneal_opt.samplers.tokens import hush_logs

__all__ = ["QPU"]

SET_HERE = ("auto_scale", "initial_state", "anneal_schedule", "reinitialize_state", "num_reads", "answer_mode", "label")


class QPU(Remote[Machine]):
    r"""A D-Wave quantum annealer: spins that it leaves at an effective temperature, by clique embeddings.

    A problem E is programmed as s E with the scale s. The machine draws at a temperature :math:`\theta` of its
    own, in units of what is programmed, so that bits come as if drawn from :math:`\exp(-E / T_{met})` with
    :math:`T_{met} = \theta / s`. To meet the temperature T that is asked for,

    .. math:: s = \min(\theta / T, s_{max})

    where :math:`s_{max}` is as far as the machine's ranges go. :math:`\theta` is learned from call to call, and
    ``info["temperature"]`` is what :func:`estimate_temperature` finds in the reads of this one, by which
    :class:`~qanneal_opt.QuboStep` judges. It is ``None`` where it cannot be told: no read could be lowered or raised
    by a flip. Bits that are certain at T, and prices that no draw pays, would fill the ranges and are left out
    (:class:`~qanneal_opt.samplers.remote.reduction.Reduced`). To minimise, s is :math:`s_{max}`, and reads are
    improved by steepest descent.

    Cliques are embedded once for each size and graph and kept on disk; problems of a batch are placed side by side in
    one submission, as many as fit. Solver, region and token come from your own D-Wave configuration.

    Args:
        machine: a ``DWaveSampler``, what has its attributes (``dwave.system.testing.MockDWaveSampler``), or a function
            that makes one; by default ``DWaveSampler(**config)``, made at the first call.
        qpu_budget: seconds of QPU access time in all, resumes included; then the local sampler answers.
        reads: the least reads of a submission; a read costs a hundredth of programming it, and they tell the
            temperature.
        variables: the most variables of a problem; chains grow with them (7 qubits for 64 on an Advantage).
        chain_limit: share of broken chains beyond which the next chains are made stronger.
        reverse: minimise by reverse annealing from the first of ``initial_states``, where the solver can.
        descend: improve minima by steepest descent.
        config: keywords of ``DWaveSampler``: profile, solver, region. No token: that is for the D-Wave
            configuration or ``DWAVE_API_TOKEN``.
        parameters: further solver parameters of each submission, ``annealing_time`` say.
        cache: folder of embeddings; ``None`` for the user's cache folder, or ``$QANNEAL_OPT_CACHE``.
        on_failure: ``"fallback"``: the local sampler answers where the machine does not; ``"raise"``: a
            :class:`RemoteError`, out of training.
        deadline: seconds for a call, connection, queue and retries included; ``None`` for any time.
        retries: further tries in a call.
        backoff: seconds before the first of them, doubled for each.
        rest: seconds for which a machine that failed is left alone, doubled for each failure, up to an hour.
        fallback: the seat of the local sampler; ``None``: an :class:`Annealer`.

    Raises:
        ValueError: a number outside its range, an unknown name, a token, or a parameter that is set here.

    >>> QPU(qpu_budget=2.0).ledger.qpu_access_time
    0.0
    """

    draws_at_temperature = True

    def __init__(
        self,
        machine: Any = None,
        *,
        qpu_budget: float | None = None,
        reads: int = 100,
        variables: int = 64,
        chain_limit: float = 0.05,
        reverse: bool = True,
        descend: bool = True,
        config: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        cache: str | Path | None = None,
        on_failure: str = "fallback",
        deadline: float | None = 120.0,
        retries: int = 3,
        backoff: float = 1.0,
        rest: float = 30.0,
        fallback: Seat | None = None,
    ) -> None:
        super().__init__(Limits("qpu", qpu_budget, on_failure, deadline, retries, backoff, rest), fallback)
        if not 0 <= chain_limit <= 1:
            raise ValueError(f"Invalid chain_limit: {chain_limit}; a share from 0 to 1 is needed")
        self.extra = dict(parameters or {})
        for name in SET_HERE:
            if name in self.extra:
                raise ValueError(f"Invalid parameters: {name!r}; the seat sets it")
        self.reads = counted(reads, "reads")
        self.variables = counted(variables, "variables")
        self.chain_limit = chain_limit
        self.starts = reverse
        self.descend = descend
        self.cache = Path(cache) if cache is not None else cache_folder()
        self.tuning = Tuning()
        self._make = maker(machine, partial(_connected, checked_selection(config)))

    @property
    def machine(self) -> Machine:
        """The machine, reached now if it was not yet; errors are the machine's own."""
        if self.attempts.machine is None:
            self.attempts.machine = self.connect()
        return self.attempts.machine

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The solver's parameters, once the machine was reached."""
        machine = self.attempts.machine
        return {} if machine is None else machine.sampler.parameters

    def state_dict(self) -> dict[str, Any]:
        """The ledger, and what was learned of each solver."""
        return super().state_dict() | {"tuning": self.tuning.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        super().load_state_dict(state)
        self.tuning.load_state_dict(state.get("tuning", {}))

    def connect(self) -> Machine:
        """Reach the solver of the user's configuration."""
        hush_logs()
        return Machine(self._make(), self.cache)

    def elsewhere(self, machine: Machine) -> Machine:
        """Reach the next one of that configuration."""
        return machine.other(self._make)

    def _answers(self, request: Request) -> list[Answer]:
        if request.qubo.n > self.variables:
            raise ValueError(
                f"Invalid qubo: {request.qubo.n} variables; at most {self.variables} are embedded "
                "(QPU(variables=...) allows more, in longer chains)"
            )
        return super()._answers(request)

    def job(self, machine: Machine, request: Request, first: int) -> Submission:
        """As many problems side by side as fit."""
        return Submission(self, machine, request, first)


def _connected(selection: Mapping[str, Any]) -> Any:
    from dwave.system import DWaveSampler

    return DWaveSampler(**selection)
