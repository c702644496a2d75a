"""A check of encodings: legal moves, commits that can be taken back, and state that survives saving."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qanneal_opt.encoding.base import Encoded, Encoding
from qanneal_opt.moves import Moves
from qanneal_opt.testing.common import (
    copies,
    global_numbers_untouched,
    require,
    require_plain,
    require_same,
    same,
)


def assert_encoding(encoding: Encoding, param: Tensor, *, seed: int = 0) -> None:
    """Check an encoding on copies of a parameter.

    Proposed and swept moves are well formed and touch a weight at most once; what ``commit`` writes is what
    the moves promised, and committing their inverse puts every bit of the weights and of the state back;
    proposals are ranked by gradient times displacement, within ``allowed``; a base step that changes
    nothing leaves the weights alone; ``tensors`` and ``load``, ``snapshot`` and ``restore`` are round trips.

    Args:
        encoding: what a parameter group carries under ``"encoding"``.
        param: a floating tensor that it suits; it is left as it is.
        seed: of gradients and of the generators that moves are drawn from.

    Raises:
        AssertionError: with the reason.

    >>> import qanneal_opt as qa
    >>> assert_encoding(qa.Levels.ternary(), torch.randn(4, 5))
    >>> assert_encoding(qa.Mask(0.25), torch.randn(4, 5))
    >>> assert_encoding(qa.Window(3, radius=0.1), torch.randn(4, 5))
    """
    require_plain(encoding.spec(), "spec()")
    state = encoding.attach(torch.nn.Parameter(param.detach().clone()), 2)
    require(state.owner == 2, f"owner is {state.owner} after attach(param, 2)")
    names = _named(state).keys()
    rest = (state.begin() for _ in range(param.numel() + 1))  # a gradual mask drops at least one weight each time
    require(not all(rest), "begin() says each time that it changed weights")
    before = copies(_named(state))
    require(before.keys() == names, f"tensors() has other names once annealing has begun: {sorted(before)}")
    require(not state.begin(), "a begin() after one that changed nothing says that it changed weights")
    require_same(before, _named(state), "after a begin() that says it changed nothing")
    for moves in _check_proposals(state, seed):
        _check_moves(state, moves)
        _check_round_trip(state, moves, seed)
    _check_base_step(state)
    _check_saving(encoding, state, param, seed)


def _named(state: Encoded) -> dict[str, Tensor]:
    """All that has to come back: the weights and the state that is saved."""
    return {"the parameter": state.param, **state.tensors()}


def _check_proposals(state: Encoded, seed: int) -> list[Moves]:
    """Check the ranking; give some proposals, cold and hot, and a sweep."""
    g = torch.Generator().manual_seed(seed)
    gradient = torch.randn(state.param.shape, generator=g, dtype=torch.float64).to(state.param)
    allowed = (torch.rand(state.param.shape, generator=g) < 0.5).to(state.param.device)
    before, found = copies(_named(state)), []
    with global_numbers_untouched("propose() or sweep()"):
        for temperature in (0.0, 0.3):
            for count, mask in ((state.param.numel(), None), (3, None), (state.param.numel(), allowed)):
                draw = (gradient, count, temperature)
                moves, scores = state.propose(*draw, _generator(seed), mask)
                again, _ = state.propose(*draw, _generator(seed), mask)
                require(_equal(moves, again), "propose() gave other moves for the same generator")
                require(len(moves) == len(scores), f"{len(scores)} scores for {len(moves)} moves")
                require(len(moves) <= count, f"propose() gave {len(moves)} moves where {count} were wanted")
                require(bool((scores.diff() >= 0).all()), f"scores are not in ascending order: {scores.tolist()}")
                if mask is not None:
                    inside = mask.flatten().cpu()[moves.index]
                    require(bool(inside.all()), "propose() moves a weight that is not allowed")
                if temperature == 0:
                    _check_scores(moves, scores, gradient)
                found.append(moves)
        swept = state.sweep(_generator(seed))
        require(_equal(swept, state.sweep(_generator(seed))), "sweep() gave other moves for the same generator")
    require_same(before, _named(state), "after propose() and sweep(), which must change nothing")
    return [*found, swept]


def _check_scores(moves: Moves, scores: Tensor, gradient: Tensor) -> None:
    gains = gradient.flatten().cpu().double()[moves.index] * moves.displacement.double()  # (c,)
    expected = torch.zeros(len(moves), dtype=torch.float64).index_add_(0, moves.bit, gains)
    size = torch.zeros(len(moves), dtype=torch.float64).index_add_(0, moves.bit, gains.abs())
    slack = 8 * torch.finfo(gradient.dtype).eps * size + 1e-12
    right = bool(((scores.cpu().double() - expected).abs() <= slack).all())
    require(right, f"scores at T = 0 are {scores.tolist()}; gradient * displacement is {expected.tolist()}")


def _check_moves(state: Encoded, moves: Moves) -> None:
    count, start = len(moves.index), moves.start.tolist()
    for name in ("owner", "index", "target", "start"):
        dtype = getattr(moves, name).dtype
        require(dtype == torch.int64, f"{name} of the moves is {dtype}; torch.int64 is needed")
    lengths = {len(getattr(moves, name)) for name in ("owner", "displacement", "value", "target")}
    require(lengths <= {count}, f"the moves' columns have lengths {sorted(lengths)} beside {count} indices")
    ends = start[0] == 0 and start[-1] == count and start == sorted(start)
    require(ends, f"start of the moves is {start}; 0 to {count} in order is needed")
    require(bool((moves.owner == state.owner).all()), f"moves of owner {state.owner} name another owner")
    inside = bool(((moves.index >= 0) & (moves.index < state.param.numel())).all())
    require(inside, f"the moves name a weight outside the parameter: {moves.index.tolist()}")
    require(len(moves.index.unique()) == count, "a weight stands in two moves")
    require(
        bool(moves.value.isfinite().all()),
        f"the moves hold a value that is not finite: {moves.value.tolist()}",
    )
    now = state.param.detach().flatten().cpu()[moves.index].double()
    change = moves.value.double() - now
    slack = 4 * torch.finfo(state.param.dtype).eps * (now.abs() + moves.value.double().abs()) + 1e-30
    right = bool(((moves.displacement.double() - change).abs() <= slack).all())
    require(right, f"displacements are {moves.displacement.tolist()}; value minus weight is {change.tolist()}")


def _check_round_trip(state: Encoded, moves: Moves, seed: int) -> None:
    """Commit some of the moves, then what takes them back."""
    moves = moves.select(torch.rand(len(moves), generator=_generator(seed)) < 0.7)
    before = copies(_named(state))
    back = state.inverse(moves)
    state.commit(moves)
    expected = before["the parameter"].clone().flatten()
    expected[moves.index.to(expected.device)] = moves.value.to(expected)
    written = same(state.param.detach().flatten(), expected)
    require(written, "commit() wrote other weights than the moves' values, or weights that are in no move")
    codes = state.codes_at(moves.index.to(state.param.device)).cpu()
    require(torch.equal(codes, moves.target), f"codes after commit() are {codes.tolist()}, not the moves' target")
    _check_base_step(state)
    state.commit(back)
    require_same(before, _named(state), "after commit(moves) and commit(inverse)")
    foreseen = state.values_after(moves)
    right = torch.equal(foreseen, moves.value.to(foreseen))
    require(right, f"values_after(moves) are {foreseen.tolist()}, not the moves' values")


def _check_base_step(state: Encoded) -> None:
    before = state.param.detach().clone()
    state.before_base()
    state.after_base()
    require(same(state.param, before), "a base step that changes nothing changed weights: they were not legal")


def _check_saving(encoding: Encoding, state: Encoded, param: Tensor, seed: int) -> None:
    snapshot, before = state.snapshot(), copies(_named(state))
    for _ in range(2):  # a snapshot may be restored more than once
        state.commit(state.sweep(_generator(seed + 1)))
        state.restore(snapshot)
        require(same(state.param, before["the parameter"]), "restore(snapshot) gave other weights")
    state.commit(state.sweep(_generator(seed + 2)))
    twin = encoding.attach(torch.nn.Parameter(param.detach().clone()), 2)
    with torch.no_grad():
        twin.param.copy_(state.param)
    twin.load(copies(state.tensors()))
    twin.begin()
    require_same(copies(_named(state)), _named(twin), "after load(tensors())")
    gradient = torch.ones_like(state.param)
    moves, others = (e.propose(gradient, 5, 0.0, _generator(seed))[0] for e in (state, twin))
    require(_equal(moves, others), "propose() gives other moves after load(tensors())")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _equal(a: Moves, b: Moves) -> bool:
    columns: tuple[Any, ...] = ("owner", "index", "displacement", "value", "target", "start")
    return all(same(getattr(a, name), getattr(b, name)) for name in columns)
