"""A layer that reads a sequence by a table of transitions, which annealing finds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qanneal_opt.checks import check_int
from qanneal_opt.nn.flips import Flips

PAD = -1


class AutomatonLayer(nn.Module):
    r"""A deterministic automaton: from state 0 each symbol leads to a state, and the last state has an output.

    .. math:: q_0 = 0, \qquad q_t = \mathrm{table}[q_{t-1}, x_t], \qquad y = \mathrm{outputs}[q_L] \in \{0, 1\}

    The table, ``(states, symbols)`` int64, and the outputs, ``(states,)`` bool, are buffers: :class:`RuleStep` finds
    them, and how many of the states are worth using. All begin as 0. In eval mode the output is exactly 0.0 or 1.0; in
    train mode it is a probability, as of a :class:`RuleLayer` with an OR readout, whose logit ``flipped`` gradients
    train.

    Args:
        symbols: sequences are of 0 to ``symbols - 1``.
        states: states, at most.
        device: of buffers and parameters.
        dtype: of the output.

    Raises:
        ValueError: on a number out of its range; when called, on inputs that are not ``(N, L)`` integers from -1 to
            ``symbols - 1``. A place of -1 is passed over, so that shorter sequences can be padded.

    >>> layer = AutomatonLayer(symbols=2, states=2).eval()
    >>> layer.table[:] = torch.tensor([[0, 1], [1, 0]])
    >>> layer.outputs[1] = True
    >>> layer(torch.tensor([[1, 0, 1, 1], [1, 0, 1, -1]]))  # an odd number of ones
    tensor([1., 0.])
    >>> layer.rules("ab")
    ['0: a to 0, b to 1', '1 (output 1): a to 1, b to 0']
    """

    annealed = ("table", "outputs")  # the buffers that annealing steps move
    table: Tensor
    outputs: Tensor

    def __init__(
        self,
        symbols: int,
        states: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, count in (("symbols", symbols), ("states", states)):
            check_int(name, count, 1)
        self.symbols, self.states = symbols, states
        self.register_buffer("table", torch.zeros(states, symbols, dtype=torch.int64, device=device))
        self.register_buffer("outputs", torch.zeros(states, dtype=torch.bool, device=device))
        self.flips = Flips(device=device, dtype=dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """Give the output, ``(N,)``, of sequences ``(N, L)``."""
        values = self.values(inputs)
        state = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        for symbol in values.T:
            state = torch.where(symbol == PAD, state, self.table[state, symbol.clamp(min=0)])
        held: Tensor = self.flips(self.outputs[state])
        return held

    def values(self, inputs: Tensor) -> Tensor:
        """Give the sequences, ``(N, L)`` int64."""
        if inputs.ndim != 2:
            raise ValueError(f"Invalid inputs: shape {tuple(inputs.shape)}; sequences (N, L) are needed")
        values = inputs.long()
        legal = (values == inputs) & (values >= PAD) & (values < self.symbols)
        if not bool(legal.all()):
            wrong = float(inputs[~legal][0])
            raise ValueError(f"Invalid inputs: {wrong:g}; integers from -1 to {self.symbols - 1} are needed")
        return values

    def rules(self, names: Sequence[str] | None = None) -> list[str]:
        """Print the states that can be reached, one string each, in the order of their numbers.

        Args:
            names: of the symbols; ``0``, ``1``, ... by default.

        Raises:
            ValueError: if there are not ``symbols`` names.
        """
        names = [str(a) for a in range(self.symbols)] if names is None else list(names)
        if len(names) != self.symbols:
            raise ValueError(f"Invalid names: {len(names)} of them; {self.symbols} are needed")
        table, outputs = self.table.tolist(), self.outputs.tolist()
        reached = {0}
        while (more := reached | {q for p in reached for q in table[p]}) != reached:
            reached = more
        return [
            f"{q}{' (output 1)' if outputs[q] else ''}: "
            + ", ".join(f"{name} to {target}" for name, target in zip(names, table[q]))
            for q in sorted(reached)
        ]

    def extra_repr(self) -> str:
        """What a print of the module tells."""
        return f"symbols={self.symbols}, states={self.states}"
