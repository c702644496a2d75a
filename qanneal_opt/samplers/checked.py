"""A seat for samplers that are not trusted: what they return is checked, and put in order."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.qubo import Qubo
from qanneal_opt.samplers.base import SamplerError, Samples, Seat, best_first
from qanneal_opt.samplers.request import Request

__all__ = ["Answer", "CheckedSeat"]

Array = np.ndarray[Any, Any]

Answer = tuple[Any, dict[str, Any]]
"""Of one problem: bits ``(R, n)`` in any order, plain data to tell."""


class CheckedSeat(Seat):
    """A seat whose subclasses say only how to answer a :class:`Request`."""

    @abstractmethod
    def _answers(self, request: Request) -> list[Answer]:
        """One for each problem; there is at least one, of at least one variable."""

    def sample_arrays(
        self,
        qubo: Qubo,
        *,
        num_reads: int = 1,
        seed: int | None = None,
        temperature: float | None = None,
        initial_states: Any = None,
    ) -> Samples:
        """As :meth:`Seat.sample_arrays`."""
        request = Request.of(qubo, num_reads, seed, temperature, initial_states)
        if not self.draws_at_temperature:
            request = replace(request, temperature=None)
        if qubo.n and request.problems:
            answers = self._answers(request)
        else:
            answers = [(np.zeros((request.reads, 0), np.uint8), {})] * request.problems
        drawn = [self._settle(request.problem(i), bits) for i, (bits, _) in enumerate(answers)]
        told = [info for _, info in answers]
        least = min((len(energies) for _, energies in drawn), default=request.reads)
        info = {"sampler": self.name, "reads_returned": least, "temperature": request.temperature}
        if request.temperature is None:  # whatever it is told to be, it is not that of draws
            told = [{key: value for key, value in one.items() if key != "temperature"} for one in told]
        if qubo.batch is None:
            return Samples(*drawn[0], info | told[0])
        if any(told):
            info["problems"] = told
        if any("temperature" in one for one in told):
            info["temperature"] = [one.get("temperature", request.temperature) for one in told]
        if not drawn:
            bits = torch.zeros(0, least, qubo.n, dtype=torch.uint8, device=qubo.linear.device)
            return Samples(bits, qubo.energies(bits), info)
        bits = torch.stack([bits[:least] for bits, _ in drawn])
        return Samples(bits, torch.stack([energies[:least] for _, energies in drawn]), info)

    def _settle(self, request: Request, answer: Any) -> tuple[Tensor, Tensor]:
        """Check an answer; give bits ``(R, n)`` and energies ``(R,)``, best first, no more than asked for."""
        values = self._checked(answer, request.qubo.n)
        if request.temperature is not None and len(values) > request.reads:
            # the sampler's own order may be best first, and its first draws then are no draws
            kept = np.random.default_rng(request.seeds[0]).choice(len(values), request.reads, replace=False)
            values = values[kept]
        bits = torch.from_numpy(values).to(request.qubo.linear.device)
        return best_first(request.qubo, bits, request.reads, request.start if request.temperature is None else None)

    def _checked(self, answer: Any, n: int) -> Array:
        try:
            values = np.asarray(answer)
            bad = values.dtype.kind not in "biuf"
        except (TypeError, ValueError) as error:
            raise SamplerError(f"Sampler {self.name!r} returned no array of bits: {error}") from error
        if bad or values.ndim != 2 or values.shape[1] != n:
            shape = f"{values.dtype} of shape {values.shape}"
            raise SamplerError(f"Sampler {self.name!r} returned {shape}; must be bits of shape (reads, {n})")
        if not len(values):
            raise SamplerError(f"Sampler {self.name!r} returned no sample")
        wrong = values[(values != 0) & (values != 1)]
        if len(wrong):
            raise SamplerError(f"Sampler {self.name!r} returned the value {wrong[0]}; must be 0 or 1")
        return values.astype(np.uint8)
