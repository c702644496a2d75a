"""GPTQ as its paper writes it, column after column and slowly: what the fast one has to agree with."""

import torch
from torch import Tensor

from qanneal_opt.compress.grid import Grid


def gptq(weight: Tensor, moment: Tensor, grid: Grid, damping: float = 0.01) -> Tensor:
    """Codes `(R, C)` of weights `(R, C)`, H `(C, C)`; columns of the largest diagonal of H first.

    Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers", 2023:
    with F the inverse of the damped H over the columns that are left, column j is rounded and the others are moved by
    -(w_j - v_j) F_j: / F_jj; then j is eliminated from F.
    """
    order = torch.argsort(moment.diagonal(), descending=True, stable=True)
    H = moment.double()[order][:, order]
    H = H + damping * H.diagonal().mean() * torch.eye(len(H), dtype=torch.float64)
    inverse = torch.linalg.inv(H)
    scale, zero = (part.double()[:, order] for part in grid.spread(weight.shape[1]))
    rest = weight.double()[:, order].clone()
    codes = torch.empty_like(rest)
    for j in range(len(order)):
        codes[:, j] = (rest[:, j] / scale[:, j] + zero[:, j]).round().clamp(0, grid.top)
        error = rest[:, j] - scale[:, j] * (codes[:, j] - zero[:, j])
        rest -= torch.outer(error / inverse[j, j], inverse[j])
        inverse -= torch.outer(inverse[:, j], inverse[j]) / inverse[j, j]
    result = torch.empty_like(codes)
    result[:, order] = codes
    return result.to(torch.uint8)
