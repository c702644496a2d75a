"""A check of samplers: what they return, that seeds repeat it, and that a temperature is what it says."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from qanneal_opt import samplers
from qanneal_opt.qubo import Qubo
from qanneal_opt.testing.common import global_numbers_untouched, require, require_plain

READS = 2000
# 2000 exact draws of 3 bits are about 0.03 away from their distribution, and under 0.06 practically always.
DISTANCE = 0.1


def assert_sampler(sampler: Any, *, reproducible: bool = True) -> None:
    r"""Check a sampler of QUBOs on a few small ones.

    Bits and energies have their shapes, dtypes and order, energies are those of the bits, equal seeds give
    equal samples, no global random numbers are touched, the QUBO stays as it was. If the sampler says that
    it draws at a temperature T, its draws are compared with :math:`\exp(-E/T)/Z` at two temperatures.

    Args:
        sampler: what :func:`qanneal_opt.samplers.resolve` takes: a name, a seat, a ``dimod.Sampler``, or an
            object with ``sample_arrays``. Of the last two, their own answers are checked as well.
        reproducible: whether equal seeds have to give equal samples.

    Raises:
        AssertionError: with the reason.

    >>> assert_sampler("dwave-sa")
    >>> class Zeros:
    ...     draws_at_temperature = True
    ...     def sample_arrays(self, qubo, *, num_reads, seed, temperature=None):
    ...         shape = (num_reads, qubo.n) if qubo.batch is None else (qubo.batch, num_reads, qubo.n)
    ...         return samplers.Samples(torch.zeros(shape, dtype=torch.uint8), torch.zeros(shape[:-1]))
    >>> assert_sampler(Zeros())
    Traceback (most recent call last):
    AssertionError: energies of problem (1,) are torch.float32; torch.float64 is needed
    """
    try:
        _check_own_answers(sampler)
        seat = samplers.resolve(sampler)
        for qubo in _problems():
            _check_answer(seat, qubo, reproducible)
        if seat.draws_at_temperature:
            for temperature in (0.5, 2.0):
                _check_temperature(seat, temperature)
    except samplers.SamplerError as error:
        raise AssertionError(str(error)) from error


def _problems() -> list[Qubo]:
    """One variable, six, and a batch of three with a quadratic part in common."""
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=g, dtype=torch.float64)
    batch = torch.randn(3, 6, generator=g, dtype=torch.float64)
    couplings = (matrix + matrix.T).fill_diagonal_(0.0)
    offset = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    one = Qubo(batch[0, :1], torch.zeros(1, 1), 3.0)
    return [one, Qubo(batch[0], couplings, 0.5), Qubo(batch, couplings, offset)]


def _check_own_answers(sampler: Any) -> None:
    """What a seat would put right or not look at."""
    from dimod.core.sampler import Sampler

    if isinstance(sampler, (str, samplers.Seat)):
        return
    if callable(getattr(sampler, "sample_arrays", None)):
        for qubo in _problems():
            _check_samples(sampler.sample_arrays(qubo, num_reads=5, seed=3), qubo, 5)
    elif isinstance(sampler, Sampler):
        from dimod import testing

        checks: Any = testing  # without annotations
        try:
            checks.assert_sampler_api(sampler)
            for qubo in _problems()[:2]:
                bqm = qubo.to_bqm()
                checks.assert_response_energies(sampler.sample(bqm), bqm)
        except AssertionError as error:
            raise AssertionError(f"dimod.testing on the sampler itself, or on its energies: {error}") from error


def _check_answer(seat: samplers.Seat, qubo: Qubo, reproducible: bool) -> None:
    before = [qubo.linear.clone(), qubo.quadratic.clone()]
    with global_numbers_untouched(f"sampler {seat.name!r}"):
        one = seat.sample_arrays(qubo, num_reads=5, seed=3)
        again = seat.sample_arrays(qubo, num_reads=5, seed=3)
    _check_samples(one, qubo, 5)
    require_plain(one.info, "info")
    kept = torch.equal(qubo.linear, before[0]) and torch.equal(qubo.quadratic, before[1])
    require(kept, f"sampler {seat.name!r} changed the QUBO that it was given")
    if reproducible:
        require(torch.equal(one.bits, again.bits), f"sampler {seat.name!r} gave other bits for the same seed")


def _check_samples(samples: Any, qubo: Qubo, reads: int) -> None:
    at = f"of problem {tuple(qubo.linear.shape)}"
    bits, energies = torch.as_tensor(samples.bits), torch.as_tensor(samples.energies)
    lead = () if qubo.batch is None else (qubo.batch,)
    shape = tuple(bits.shape)
    given = shape[:-2] == lead and len(shape) == len(lead) + 2 and shape[-1] == qubo.n
    require(given and 1 <= shape[-2] <= reads, f"bits {at} have shape {shape}; {(*lead, reads, qubo.n)} is needed")
    require(bits.dtype == torch.uint8, f"bits {at} are {bits.dtype}; torch.uint8 is needed")
    require(bool((bits <= 1).all()), f"bits {at} hold {int(bits.max())}; 0 or 1 is needed")
    require(energies.dtype == torch.float64, f"energies {at} are {energies.dtype}; torch.float64 is needed")
    require(energies.shape == bits.shape[:-1], f"energies {at} have shape {tuple(energies.shape)}")
    for k in range(qubo.batch or 1):
        problem = qubo.problem(k)
        mine, told = (bits, energies) if qubo.batch is None else (bits[k], energies[k])
        true = torch.stack([_energy(problem, row) for row in mine])
        right = torch.allclose(told, true, rtol=1e-9, atol=1e-9)
        require(right, f"energies {at} are {told.tolist()}; those of the bits are {true.tolist()}")
        require(bool((told.diff() >= 0).all()), f"energies {at} are not in ascending order: {told.tolist()}")


def _energy(qubo: Qubo, bits: Tensor) -> Tensor:
    b = bits.double()
    return qubo.offset + qubo.linear @ b + b @ qubo.quadratic @ b / 2


def _check_temperature(seat: samplers.Seat, temperature: float) -> None:
    qubo = Qubo.from_matrix([[-1.0, 1.0, -2.0], [0.0, 0.5, 0.7], [0.0, 0.0, 0.3]])
    drawn = seat.sample_arrays(qubo, num_reads=READS, seed=1, temperature=temperature).bits  # (R, 3)
    states = torch.tensor(list(itertools.product((0, 1), repeat=3)))  # (8, 3)
    expected = torch.softmax(-torch.stack([_energy(qubo, row) for row in states]) / temperature, 0)
    places = (drawn.long() * torch.tensor([4, 2, 1])).sum(1)
    found = places.bincount(minlength=8).double() / len(drawn)
    distance = float((found - expected).abs().sum()) / 2
    require(
        distance < DISTANCE,
        f"draws of sampler {seat.name!r} at T = {temperature} are {distance:.2f} (total variation) away from "
        f"exp(-E/T)/Z; less than {DISTANCE} is needed, or draws_at_temperature = False",
    )
