"""What a sampler gives (`Samples`), how it fails (`SamplerError`), and the seat that holds it to both."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qanneal_opt.qubo import Qubo

__all__ = ["Request", "SamplerError", "Samples", "Seat"]


class SamplerError(RuntimeError):
    """A sampler raised, hung, or returned what is no sample; names the sampler and what was wrong."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Bit strings of one QUBO or of a batch, best first.

    Args:
        bits: uint8, ``(R, n)`` or ``(B, R, n)``.
        energies: float64, ``(R,)`` or ``(B, R)``, ascending; of ``bits``, computed from the Qubo.
        info: plain data: ``"sampler"``, ``"reads_returned"`` (R: it may be fewer than asked for),
            ``"temperature"`` (that of the draws, ``None`` for minima), and what the sampler had to tell.
    """

    bits: Tensor
    energies: Tensor
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Request:
    """What is asked of a sampler for one problem, validated.

    Args:
        qubo: one problem of at least one variable, not a batch.
        reads: how many bit strings, at least 1.
        seed: in [0, 2^31).
        temperature: to draw at, in units of the energies, or ``None`` to minimise.
        start: initial states, uint8 ``(S, n)`` with S between 1 and ``reads``, or ``None``.
    """

    qubo: Qubo
    reads: int
    seed: int
    temperature: float | None
    start: np.ndarray[Any, Any] | None


class Seat(ABC):
    """The one interface through which QUBOs are sampled; what comes back is checked.

    Subclasses say how to answer a :class:`Request`.

    Attributes:
        name: for records.
        draws_at_temperature: whether a temperature is honoured. Where it is not, the sampler minimises in its
            own way whatever temperature is asked for, and ``info["temperature"]`` is ``None``.
    """

    name: str
    draws_at_temperature: bool

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """Keywords that the sampler behind this seat takes, as ``dimod.Sampler.parameters`` lists them."""

    @abstractmethod
    def _answers(self, qubo: Qubo, requests: list[Request]) -> list[tuple[Any, dict[str, Any]]]:
        """For each request, one a problem of ``qubo``: bits ``(R, n)`` in any order, plain data to tell."""

    def sample_arrays(
        self,
        qubo: Qubo,
        *,
        num_reads: int = 1,
        seed: int | None = None,
        temperature: float | None = None,
        initial_states: Any = None,
    ) -> Samples:
        """Sample ``qubo``: low-energy states, or draws from exp(-E/T) at a temperature T.

        Args:
            qubo: one problem, or a batch (solved one after the other, with seeds of their own).
            num_reads: bit strings a problem; a sampler may return fewer.
            seed: any integer from 0; the same seed gives the same samples where the sampler itself is
                reproducible. ``None``: a fresh one. No global generator is touched.
            temperature: positive, in units of the energies; ``None`` minimises.
            initial_states: ``(n,)`` or ``(S, n)``, for a batch ``(B, S, n)``: zeros and ones, S <= num_reads.
                Samplers that start somewhere start there, and a minimiser returns nothing worse.

        Raises:
            ValueError: a number, or a shape, out of its range.
            TypeError: something other than a Qubo.
            SamplerError: the sampler failed, or what it returned is not bit strings of this problem.
        """
        if not isinstance(qubo, Qubo):
            raise TypeError(f"Invalid qubo: {type(qubo).__name__}; must be a Qubo (see Qubo.from_bqm, from_matrix)")
        reads, wanted = counted(num_reads, "num_reads"), heated(temperature)
        heat = wanted if self.draws_at_temperature else None
        problems = [qubo] if qubo.batch is None else [qubo.problem(i) for i in range(qubo.batch)]
        requests = [
            Request(problem, reads, own_seed, heat, start)
            for problem, own_seed, start in zip(
                problems, derived_seeds(seed, len(problems)), starting_states(initial_states, qubo, reads)
            )
        ]
        if qubo.n and requests:
            answers = self._answers(qubo, requests)
        else:
            answers = [(np.zeros((reads, 0), np.uint8), {}) for _ in requests]
        drawn = [self._settle(request, bits) for request, (bits, _) in zip(requests, answers)]
        told = [info for _, info in answers]
        least = min((len(energies) for _, energies in drawn), default=reads)
        info = {"sampler": self.name, "reads_returned": least, "temperature": heat}
        if qubo.batch is None:
            return Samples(*drawn[0], info | told[0])
        if any(told):
            info["problems"] = told
        bits = torch.stack([bits[:least] for bits, _ in drawn]) if drawn else torch.zeros(0, reads, qubo.n)
        energies = torch.stack([energies[:least] for _, energies in drawn]) if drawn else torch.zeros(0, reads)
        return Samples(bits.to(torch.uint8), energies.to(torch.float64), info)

    def _settle(self, request: Request, answer: Any) -> tuple[Tensor, Tensor]:
        """Check an answer; give bits ``(R, n)`` and energies ``(R,)``, best first, no more than asked for."""
        bits = self._checked(answer, request.qubo.n)
        if request.temperature is None and request.start is not None:
            bits = np.concatenate([bits, request.start])  # a minimum is no worse than where it started
        elif request.temperature is not None and len(bits) > request.reads:
            # the sampler's own order may be best first, and its first draws then are no draws
            chosen = np.random.default_rng(request.seed).choice(len(bits), request.reads, replace=False)
            bits = bits[chosen]
        tensor = torch.from_numpy(bits).to(request.qubo.linear.device)  # (R, n)
        energies = request.qubo.energies(tensor)  # (R,)
        if len(energies) > 1:
            order = torch.argsort(energies, stable=True)[: request.reads]
            tensor, energies = tensor[order], energies[order]
        return tensor, energies

    def _checked(self, answer: Any, n: int) -> np.ndarray[Any, Any]:
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


def derived_seeds(seed: int | None, count: int) -> list[int]:
    """``count`` well mixed seeds in [0, 2^31) from one integer (``None``: from the system's entropy)."""
    if seed is not None:
        try:
            seed = operator.index(seed)
        except TypeError as error:
            raise TypeError(f"Invalid seed: {seed!r}; must be an integer or None") from error
        if seed < 0:
            raise ValueError(f"Invalid seed: {seed}; must not be negative")
    return [int(word) >> 1 for word in np.random.SeedSequence(seed).generate_state(max(count, 1))]


def counted(value: int, name: str) -> int:
    """``value`` as an int of at least 1."""
    try:
        count = operator.index(value)
    except TypeError as error:
        raise TypeError(f"Invalid {name}: {value!r}; must be an integer") from error
    if count < 1:
        raise ValueError(f"Invalid {name}: {value}; must be at least 1")
    return count


def heated(temperature: float | None) -> float | None:
    """``temperature`` as a positive float, or ``None``."""
    if temperature is None:
        return None
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"Invalid temperature: {temperature}; must be positive, or None to minimise")
    return float(temperature)


def starting_states(initial_states: Any, qubo: Qubo, reads: int) -> list[np.ndarray[Any, Any] | None]:
    """The initial states of each problem, uint8 ``(S, n)``."""
    batch = qubo.batch
    count = 1 if batch is None else batch
    if initial_states is None:
        return [None] * count
    states = torch.as_tensor(initial_states).detach().cpu().numpy()
    if batch is None:
        states = states[None, None] if states.ndim == 1 else states[None]
    if states.ndim != 3 or states.shape[0] != count or states.shape[2] != qubo.n or not states.shape[1]:
        valid = f"({qubo.n},) or (S, {qubo.n})" if batch is None else f"({batch}, S, {qubo.n})"
        given = tuple(torch.as_tensor(initial_states).shape)
        raise ValueError(f"Invalid initial_states: shape {given}; must be {valid}")
    if states.shape[1] > reads:
        raise ValueError(f"Invalid initial_states: {states.shape[1]} states for {reads} reads; must not be more")
    if not np.isin(states, (0, 1)).all():
        raise ValueError("Invalid initial_states: entries other than 0 and 1")
    return list(states.astype(np.uint8))
