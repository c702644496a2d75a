"""Layers to be rounded, small and ill-conditioned, and slow ways to round them that are obviously right."""

import itertools

import torch

from qanneal_opt.compress.problem import Problem


def layer(rows, columns, seed, *, samples=None, mean=False, output=False):
    """A problem whose inputs have a spread of scales, and outputs that feel each other."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x = draw(samples or 4 * columns, columns) @ (
        torch.logspace(-1.5, 0.5, columns).double()[:, None] * draw(columns, columns)
    )
    x = x + draw(columns)
    gradients = draw(2 * rows, rows) @ (torch.eye(rows) + draw(rows, rows) / rows**0.5)
    return Problem(
        0.1 * draw(rows, columns).float(),
        x.T @ x / len(x),
        x.mean(0) if mean else None,
        gradients.T @ gradients / len(gradients) if output else None,
    )


def loop_gptq(weight, grid, moment, damping, activation_order=True):
    """GPTQ as its paper has it: one column after another, with the Cholesky factor of the inverse."""
    H = moment.double() + damping * moment.double().diagonal().mean() * torch.eye(len(moment))
    order = torch.argsort(-moment.double().diagonal(), stable=True) if activation_order else torch.arange(len(H))
    U = torch.linalg.cholesky(torch.linalg.inv(H[order][:, order]), upper=True)
    scale, zero = (part.double()[:, order] for part in grid.spread(len(H)))
    W = weight.double()[:, order].clone()
    codes = torch.empty_like(W)
    for i in range(len(H)):
        codes[:, i] = (W[:, i] / scale[:, i] + zero[:, i]).round().clamp(0, grid.top)
        error = (W[:, i] - (codes[:, i] - zero[:, i]) * scale[:, i]) / U[i, i]
        W[:, i:] -= error[:, None] * U[i, i:]
    back = torch.empty_like(codes)
    back[:, order] = codes
    return back.to(torch.uint8)


def every(columns, bits):
    """All rows of codes, `(2**(bits columns), columns)`."""
    return torch.tensor(list(itertools.product(range(2**bits), repeat=columns)), dtype=torch.uint8)


def values(problem, grid, codes):
    """f of each of a batch of code matrices `(B, R, C)`."""
    return torch.tensor([problem.objective(grid.decode(c)) for c in codes])
