"""The convolutional network: digits of 8 by 8 pixels, trained here from a seed in a few seconds."""

from functools import cache

import torch
from torch import Tensor, nn

from qanneal_opt.demo.data import Split, digits


def network() -> nn.Sequential:
    """Two convolutions, the second strided, and two linear layers; 27 thousand weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 40),
        nn.ReLU(),
        nn.Linear(40, 10),
    )


@cache
def trained(seed: int, epochs: int = 30) -> tuple[dict[str, Tensor], Split]:
    """Weights of a network trained on the seed's training digits, and the digits."""
    split = digits(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network()
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = images(split.train_inputs), torch.as_tensor(split.train_targets)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(targets), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        schedule.step()
    return {name: value.detach() for name, value in model.state_dict().items()}, split


def images(rows: object) -> Tensor:
    """Rows of pixels `(N, 64)` as images `(N, 1, 8, 8)`."""
    return torch.as_tensor(rows).reshape(-1, 1, 8, 8)
