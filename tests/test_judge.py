"""Residual Metropolis against its transition matrix, written out over all bit strings of a small block."""

import itertools
import math

import pytest
import torch

from qanneal_opt.judge import STAY, best, metropolis


def landscape(n, seed, roughness=1.0):
    """f of all 2^n states (not quadratic in the bits), and a quadratic surrogate E of it that is off."""
    g = torch.Generator().manual_seed(seed)
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)  # (2^n, n)
    h, J = (
        torch.randn(n, generator=g, dtype=torch.float64),
        torch.randn(n, n, generator=g, dtype=torch.float64),
    )
    E = states @ h + ((states @ J.triu(1)) * states).sum(1)
    f = E + roughness * torch.randn(len(states), generator=g, dtype=torch.float64)
    return f.tolist(), E.tolist()


def boltzmann(values, T):
    return torch.softmax(-torch.tensor(values, dtype=torch.float64) / T, 0)


def acceptance(f, E, a, b, T, drawn_at=None):
    """The probability that a chain at ``a`` takes ``b``: the uniform number at which its answer changes."""
    energies, energy = ([E[b]], E[a]) if E is not None else (None, 0.0)

    def taken(u):
        ask = {"loss": f[a], "energy": energy, "temperature": T, "drawn_at": drawn_at}
        return metropolis([f[b]], energies, **ask, uniforms=[u]) != STAY

    if taken(1 - 2**-53):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    return low


def transitions(f, E, draw, T, drawn_at=None):
    """P over all states for one independent proposal drawn from ``draw``, judged with E (or without)."""
    count = len(f)
    P = torch.zeros(count, count, dtype=torch.float64)
    for a, b in itertools.permutations(range(count), 2):
        P[a, b] = draw[b] * acceptance(f, E, a, b, T, drawn_at)
    return P + torch.diag(1 - P.sum(1))


@pytest.mark.parametrize(("n", "seed", "T"), [(4, 0, 0.7), (4, 1, 0.1), (5, 2, 1.5), (6, 3, 0.5)])
def test_residual_metropolis_leaves_the_true_boltzmann_distribution(n, seed, T):
    f, E = landscape(n, seed)
    pi = boltzmann(f, T)
    P = transitions(f, E, boltzmann(E, T), T)
    torch.testing.assert_close(pi @ P, pi, rtol=0, atol=1e-10)
    flow = pi[:, None] * P
    torch.testing.assert_close(flow, flow.T, rtol=0, atol=1e-10)  # detailed balance
    assert float(P.min()) >= -1e-12


def test_plain_metropolis_on_sampled_candidates_does_not():
    f, E = landscape(5, 2)
    pi, draw = boltzmann(f, 0.7), boltzmann(E, 0.7)
    P = transitions(f, None, draw, 0.7)
    assert float((pi @ P - pi).abs().sum()) > 0.1  # it counts the surrogate twice
    flat = torch.full((32,), 1 / 32, dtype=torch.float64)
    torch.testing.assert_close(pi @ transitions(f, None, flat, 0.7), pi, rtol=0, atol=1e-10)  # right where E = 0


def test_a_wrong_temperature_of_the_sampler_shows():
    f, E = landscape(4, 0)
    pi = boltzmann(f, 0.7)
    assert float((pi @ transitions(f, E, boltzmann(E, 1.4), 0.7) - pi).abs().sum()) > 0.01


@pytest.mark.parametrize("met", [0.35, 0.6, 1.4, 5.0])
@pytest.mark.parametrize(("n", "seed"), [(4, 0), (5, 2)])
def test_draws_at_another_temperature_leave_it_too_once_that_is_told(n, seed, met):
    f, E = landscape(n, seed)
    pi = boltzmann(f, 0.7)
    P = transitions(f, E, boltzmann(E, met), 0.7, drawn_at=met)
    torch.testing.assert_close(pi @ P, pi, rtol=0, atol=1e-10)
    flow = pi[:, None] * P
    torch.testing.assert_close(flow, flow.T, rtol=0, atol=1e-10)  # detailed balance


def test_several_reads_are_steps_of_one_chain():
    """R candidates at once: the composition of R single steps, each proposal drawn independently."""
    f, E = landscape(4, 4)
    T, reads, runs = 0.6, 3, 20_000
    pi, draw = boltzmann(f, T), boltzmann(E, T)
    g = torch.Generator().manual_seed(0)
    starts = torch.multinomial(pi, runs, True, generator=g).tolist()
    drawn = torch.multinomial(draw, runs * reads, True, generator=g).view(runs, reads).tolist()
    uniforms = torch.rand(runs, reads, generator=g, dtype=torch.float64).tolist()
    ends = torch.zeros(len(f), dtype=torch.float64)
    for a, candidates, u in zip(starts, drawn, uniforms):
        losses, energies = [f[b] for b in candidates], [E[b] for b in candidates]
        place = metropolis(losses, energies, loss=f[a], energy=E[a], temperature=T, uniforms=u)
        ends[a if place == STAY else candidates[place]] += 1
    expected = pi * runs
    common = expected > 5
    chi2 = float(((ends - expected).square() / expected)[common].sum())
    assert chi2 < 40  # 15 degrees of freedom: p < 5e-4


def test_a_chain_remembers_where_it_is():
    # From 0 it goes to 5 (u = 0); from there anything lower is taken whatever u; 4.0 in the end.
    assert metropolis([5.0, 4.0], None, loss=0.0, temperature=1.0, uniforms=[0.0, 0.999]) == 1
    # Residuals: the second candidate is compared with the first, not with the start.
    residual = metropolis([1.0, 1.5], [0.0, 2.0], loss=0.0, energy=-1.0, temperature=0.1, uniforms=[0.999, 0.999])
    assert residual == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_never_taken(bad):
    assert metropolis([bad, bad], [0.0, -9.0], loss=1.0, temperature=9.0, uniforms=[0.0, 0.0]) == STAY
    assert metropolis([0.5, bad], None, loss=1.0, temperature=9.0, uniforms=[0.0, 0.0]) == 0
    assert best([bad, bad], loss=1.0) == STAY
    assert best([bad, 0.5, bad, 0.25], loss=1.0) == 3


def test_tiny_temperatures_neither_overflow_nor_climb():
    assert metropolis([2.0], None, loss=1.0, temperature=1e-300, uniforms=[0.0]) == STAY
    assert metropolis([0.5], None, loss=1.0, temperature=1e-300, uniforms=[0.999]) == 0


def test_best_is_never_worse():
    g = torch.Generator().manual_seed(0)
    for _ in range(200):
        losses = torch.randn(4, generator=g).tolist()
        loss = float(torch.randn((), generator=g))
        place = best(losses, loss=loss)
        if place == STAY:
            assert min(losses) >= loss
        else:
            assert losses[place] == min(losses) < loss
    assert best([1.0], loss=1.0) == STAY and best([], loss=1.0) == STAY


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_metropolis_needs_a_temperature(temperature):
    with pytest.raises(ValueError, match=f"Invalid drawn_at: {temperature}"):
        metropolis([1.0], [0.0], loss=1.0, temperature=1.0, drawn_at=temperature, uniforms=[0.5])
    with pytest.raises(ValueError, match=f"Invalid temperature: {temperature}"):
        metropolis([1.0], None, loss=1.0, temperature=temperature, uniforms=[0.5])
