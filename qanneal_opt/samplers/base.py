"""What a sampler gives (`Samples`), how it fails (`SamplerError`), and the interface of all of them (`Seat`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from qanneal_opt.qubo import Qubo

__all__ = ["RemoteError", "SamplerError", "Samples", "Seat", "best_first"]


class SamplerError(RuntimeError):
    """A sampler raised, hung, or returned what is no sample; names the sampler and what was wrong."""


class RemoteError(RuntimeError):
    """A machine far away failed, and the user asked for ``on_failure="raise"``: no annealing step catches it."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Bit strings of one QUBO or of a batch, best first.

    Args:
        bits: uint8, ``(R, n)`` or ``(B, R, n)``.
        energies: float64, ``(R,)`` or ``(B, R)``, ascending; of ``bits``, computed from the Qubo.
        info: plain data: ``"sampler"``, ``"reads_returned"`` (R: it may be fewer than asked for),
            ``"temperature"`` (that which the draws met, for a batch a list where its problems met different
            ones; ``None`` for minima, and where it is not known), and what the sampler had to tell. Of machines
            far away there are ``"qpu_access_time"`` in seconds and the ``"ledger"``.
    """

    bits: Tensor
    energies: Tensor
    info: dict[str, Any] = field(default_factory=dict)

    def problem(self, i: int) -> Samples:
        """Those of problem ``i`` of a batch, with what was told of it; what the call cost is shared evenly."""
        info = {key: told for key, told in self.info.items() if key != "problems"}
        if isinstance(info.get("temperature"), list):
            info["temperature"] = info["temperature"][i]
        if "problems" in self.info:
            info |= self.info["problems"][i]
        if "qpu_access_time" in info:
            info["qpu_access_time"] /= len(self.bits)
        return Samples(self.bits[i], self.energies[i], info)


class Seat(ABC):
    """The one interface through which QUBOs are sampled; what comes back is right whatever sits behind it.

    Attributes:
        name: for records.
        draws_at_temperature: whether a temperature is honoured. Where it is not, the sampler minimises in its
            own way whatever temperature is asked for, and ``info["temperature"]`` is ``None``.
        starts: whether it minimises better when told the present state, as reverse annealing does.
    """

    name: str
    draws_at_temperature: bool
    starts: bool = False

    def state_dict(self) -> dict[str, Any]:
        """What has to survive a resume: plain numbers, strings and containers of them; nothing for most samplers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""

    @property
    @abstractmethod
    def parameters(self) -> Mapping[str, Any]:
        """Keywords that the sampler behind this seat takes, as ``dimod.Sampler.parameters`` lists them."""

    @abstractmethod
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
            qubo: one problem, or a batch, each of whose problems has a seed of its own.
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


def best_first(qubo: Qubo, bits: Tensor, reads: int, start: Any = None) -> tuple[Tensor, Tensor]:
    """The ``reads`` lowest of ``bits`` (..., C, n) with their energies, ascending; equal ones stay in order.

    ``start``, an array of (B, S, n) initial states, takes part: a minimum is no worse than where it started.
    """
    if start is not None:
        given = torch.from_numpy(start).to(bits.device)
        bits = torch.cat([bits, given.reshape(*bits.shape[:-2], *given.shape[1:])], -2)
    energies = qubo.energies(bits)  # (..., C)
    if energies.shape[-1] < 2:
        return bits, energies
    order = torch.argsort(energies, dim=-1, stable=True)[..., :reads]
    return chosen(bits, order), energies.gather(-1, order)


def chosen(bits: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` (..., R) of ``bits`` (..., C, n)."""
    return bits.gather(-2, index[..., None].expand(*index.shape, bits.shape[-1]))
