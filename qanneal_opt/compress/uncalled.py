"""Layers that no batch calls: whose weights the outputs depend on all the same, as they are used in other ways."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qanneal_opt.compress.kinds import Layer
from qanneal_opt.curvature.feed import Feed
from qanneal_opt.curvature.outputs import tensors
from qanneal_opt.curvature.rows import watching
from qanneal_opt.guards import evaluating

UNSEEN = "used without being called, which hides its inputs"


def used_uncalled(feed: Feed, layers: Sequence[Layer]) -> set[str]:
    """Names of those of ``layers`` whose weights the model's outputs depend on.

    What a weight is multiplied with is not seen where code reads it without calling its module, as
    ``nn.MultiheadAttention`` does with its ``out_proj`` and ``functional.linear(x, layer.weight)`` with any.
    """
    rest, found = list(layers), set()
    called: set[str] = set()  # though with no row that counts
    frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
    try:
        for weight in frozen:
            weight.requires_grad_(True)
        with evaluating(feed.model), torch.enable_grad(), watching(layers, lambda layer, _: called.add(layer.name)):
            for shown in feed if rest else ():
                outputs = [y.sum() for y in tensors(feed.run(shown)) if y.requires_grad]
                if outputs and rest:
                    slopes = torch.autograd.grad(outputs, [layer.weight for layer in rest], allow_unused=True)
                    found |= {layer.name for layer, slope in zip(rest, slopes) if slope is not None}
                    rest = [layer for layer in rest if layer.name not in found]
    finally:
        for weight in frozen:
            weight.requires_grad_(False)
    return found - called
