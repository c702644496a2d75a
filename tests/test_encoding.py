"""Encodings against brute force: every legal move listed, every bit string decoded, every commit undone."""

import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qanneal_opt.encoding import Levels, Mask, Window, quantizer
from qanneal_opt.encoding.base import gumbel, keep_best
from qanneal_opt.moves import Moves
from qanneal_opt.quadratic import QuadraticModel

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
VALUES = (
    (-1.0, 1.0),
    (-1.0, 0.0, 1.0),
    (0.0, 1.0),
    (1.0, 2.0, 5.0),
    (-3.0, 0.5),
    tuple(range(-8, 8)),
    (-0.3, 0.1, 0.7),
)
SHAPES = ((), (1,), (7,), (1, 1), (3, 5), (4, 1), (2, 3, 2), (2, 2, 3, 1), (2, 9))

dtypes = st.sampled_from(DTYPES)
shapes = st.sampled_from(SHAPES)
seeds = st.integers(0, 10_000)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def params(draw, some=shapes):
    """A parameter: usual, tiny, all of one sign, with rows of zeros, or not contiguous."""
    shape, dtype, g = draw(some), draw(dtypes), generator(draw(seeds))
    weights = torch.randn(shape, generator=g, dtype=torch.float64) * draw(st.sampled_from([1.0, 1e-4, 30.0]))
    kind = draw(st.sampled_from(["usual", "positive", "negative", "zero row", "zeros", "ties"]))
    if kind in ("positive", "negative"):
        weights = weights.abs() * (1 if kind == "positive" else -1)
    elif kind == "zero row" and weights.ndim:
        weights[0] = 0.0
    elif kind == "zeros":
        weights.zero_()
    elif kind == "ties":
        weights = weights.round()
    weights = weights.to(dtype)
    if draw(st.booleans()) and weights.ndim > 1:
        weights = weights.mT.contiguous().mT
    return torch.nn.Parameter(weights)


@st.composite
def scales(draw, param):
    kind = draw(st.sampled_from(["row", "tensor", "number", "column", "full"]))
    if kind in ("row", "tensor"):
        return kind
    if kind == "number" or not param.ndim:
        return torch.tensor(0.37)
    shape = param.shape if kind == "full" else (1,) * (param.ndim - 1) + param.shape[-1:]
    return torch.rand(shape, generator=generator(1)) + 0.1


def bits(tensor):
    """The bits of a tensor, so that equal means equal to the last one and -0.0 is not 0.0."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().clone(memory_format=torch.contiguous_format).view(whole)


def same(a, b):
    return torch.equal(bits(a), bits(b)) if a.is_floating_point() else torch.equal(a, b)


def every(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}


def assert_same(before, after):
    assert before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)


# ------------------------------------------------------------------------------------------------ levels


@given(st.data(), params(), st.sampled_from(VALUES))
@settings(max_examples=150)
def test_levels_snap_exactly(data, param, values):
    encoding = Levels(values, scale=data.draw(scales(param)))
    given_weights = param.detach().clone()
    state = encoding.attach(param, 0)
    table = torch.tensor(encoding.values, dtype=param.dtype)  # (L,)
    assert state.codes.dtype == torch.uint8 and state.codes.shape == param.shape
    assert state.scale.dtype == param.dtype and bool((state.scale > 0).all() & state.scale.isfinite().all())
    assert torch.equal(param, table[state.codes.long()] * state.scale)
    # The level is the nearest one, up to the rounding of midpoints.
    choices = table.reshape(-1, *[1] * param.ndim).double() * state.scale.double()  # (L, ...)
    gaps = (choices - given_weights.double()).abs()
    taken = gaps.gather(0, state.codes.long()[None])[0]
    slack = 8 * torch.finfo(param.dtype).eps * (choices.abs().amax(0) + given_weights.double().abs())
    assert bool((taken <= gaps.amin(0) + slack).all())
    if isinstance(encoding.scale, torch.Tensor):
        assert torch.equal(state.scale, encoding.scale.to(param.dtype))
    elif encoding.scale == "row" and param.ndim > 1:
        assert state.scale.shape == (len(param), *[1] * (param.ndim - 1))
    else:
        assert state.scale.shape == ()


@pytest.mark.parametrize("values", [values for values in VALUES if min(values) < 0], ids=str)
@pytest.mark.parametrize("shape", [(60, 8), (20, 50)])
def test_a_learned_scale_is_about_the_least_squares_one(values, shape):
    weights = torch.randn(shape, generator=generator(), dtype=torch.float64)
    weights[::3] = weights[::3].abs() + 0.1  # (rows, n)
    param = weights.clone()
    Levels(values).attach(param, 0)
    error, table = (param - weights).square().sum(1), torch.tensor(values, dtype=torch.float64)
    best = torch.full_like(error, math.inf)
    widest = weights.abs().amax(1, keepdim=True) / table.abs().max()
    for factor in torch.linspace(0.02, 3.0, 300, dtype=torch.float64):
        nearest = (weights[..., None] - table * (widest * factor)[..., None]).square().amin(2).sum(1)
        best = torch.minimum(best, nearest)
    # A few starts may miss the best of many minima, but not by much.
    assert bool((error <= 1.1 * best + 0.03 * weights.square().sum(1)).all())


def test_a_binary_scale_follows_the_mean_absolute_latent():
    param = torch.nn.Parameter(torch.randn(4, 9, generator=generator(), dtype=torch.float64))
    state = Levels.binary().attach(param, 0)
    for seed in range(3):
        state.before_base()
        with torch.no_grad():
            param.add_(torch.randn(4, 9, generator=generator(seed), dtype=torch.float64))
        latent = param.detach().clone()
        state.after_base()
        expected = torch.where(latent >= 0, 1.0, -1.0) * latent.abs().mean(1, keepdim=True)
        torch.testing.assert_close(param.detach(), expected)


def all_moves(state, param, values):
    """Every single change of level there is: (flat index, new code, displacement)."""
    codes, now = state.codes.flatten().tolist(), param.detach().flatten()
    scale = state.scale.expand(param.shape).reshape(-1)
    table = torch.tensor(sorted(values), dtype=param.dtype)
    for k, code in enumerate(codes):
        for target in range(len(values)):
            if target != code and (len(values) <= 3 or abs(target - code) == 1):
                yield k, target, float((table[target] * scale[k]).double() - now[k].double())


@given(params(), st.sampled_from(VALUES), seeds, st.integers(0, 12), st.booleans())
@settings(max_examples=100)
def test_levels_propose_the_best_moves(param, values, seed, count, limited):
    state = Levels(values).attach(param, 3)
    gradient = torch.randn(param.shape, generator=generator(seed), dtype=torch.float64).to(param.dtype)
    allowed = torch.rand(param.shape, generator=generator(seed)) < 0.5 if limited else None
    moves, scores = state.propose(gradient, count, 0.0, generator(), allowed)
    best = {}
    for k, target, d in all_moves(state, param, values):
        if allowed is None or bool(allowed.flatten()[k]):
            score = float(gradient.flatten()[k].double()) * d
            best[k] = min(best.get(k, (math.inf, 0)), (score, target))
    expected = sorted(score for score, _ in best.values())[:count]
    rounding = 4 * torch.finfo(param.dtype).eps
    size = max([abs(s) for s in expected], default=0.0)
    assert scores.tolist() == pytest.approx(expected, rel=rounding, abs=rounding * size + 1e-30)
    assert scores.tolist() == sorted(scores.tolist()) and len(moves) == len(expected)
    assert_legal(moves, state, param, values)
    assert moves.owner.tolist() == [3] * len(moves)


def assert_legal(moves, state, param, values):
    table = torch.tensor(sorted(values), dtype=param.dtype)
    scale, now = state.scale.expand(param.shape).reshape(-1), param.detach().flatten()
    assert len(set(moves.index.tolist())) == len(moves.index)
    assert torch.equal(moves.value, table[moves.target] * scale[moves.index])
    assert torch.equal(moves.displacement, moves.value - now[moves.index])
    assert bool((moves.target != state.codes.flatten()[moves.index]).all())
    assert torch.equal(moves.start, torch.arange(len(moves) + 1))


def test_more_weights_than_a_chunk_are_ranked_as_one(monkeypatch):
    param = torch.nn.Parameter(torch.randn(30, 7, generator=generator()))
    gradient = torch.randn(30, 7, generator=generator(1))
    for values in VALUES:
        state = Levels(values).attach(param, 0)
        whole, scores = state.propose(gradient, 20, 0.0, generator())
        with monkeypatch.context() as patch:
            patch.setattr(quantizer, "CHUNK", 8)
            parts, again = state.propose(gradient, 20, 0.0, generator())
        assert torch.equal(whole.index, parts.index) and torch.equal(whole.target, parts.target)
        assert torch.equal(scores, again)


def test_a_gradient_that_is_not_a_number_is_never_followed():
    param = torch.nn.Parameter(torch.randn(5))
    for encoding in (Levels.binary(), Levels.uniform(3), Window(2, 0.1), Mask(0.4)):
        state = encoding.attach(param, 0)
        state.begin()
        gradient = torch.ones(5)
        gradient[:2] = torch.nan
        moves, scores = state.propose(gradient, 5, 0.0, generator())
        assert bool(scores.isfinite().all()) and not {0, 1} & set(moves.index.tolist())


def test_gumbel_noise_is_gumbel_noise():
    noise = gumbel((200_000,), generator(3), torch.device("cpu")).double()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.01)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.02)
    for x in (-1.0, 0.0, 1.0, 3.0):  # distribution function exp(-exp(-x))
        assert float((noise <= x).double().mean()) == pytest.approx(math.exp(-math.exp(-x)), abs=0.005)
    assert torch.equal(gumbel((3, 2), generator(3), torch.device("cpu")).flatten(), noise[:6].float())


def test_noisy_proposals_follow_boltzmann():
    """Gumbel-max: the first of the proposed moves is move k with probability exp(-s_k / T) / Z."""
    param = torch.nn.Parameter(torch.tensor([[0.5, -0.5, 0.5, -0.5]]))
    state = Levels.binary(scale="tensor").attach(param, 0)
    gradient, T, draws = torch.tensor([[0.3, 0.1, -0.4, 0.2]]), 0.5, 3000
    scores = (gradient * -2 * param.detach()).flatten()
    expected = torch.softmax(-scores.double() / T, 0) * draws
    g, counts = generator(11), torch.zeros(4, dtype=torch.float64)
    for _ in range(draws):
        counts[state.propose(gradient, 1, T, g)[0].index] += 1
    assert float(((counts - expected).square() / expected).sum()) < 17  # 3 degrees of freedom: p < 7e-4


@given(params(), st.sampled_from(VALUES), seeds)
@settings(max_examples=60)
def test_a_sweep_of_levels_visits_every_weight_once(param, values, seed):
    state = Levels(values).attach(param, 0)
    moves = state.sweep(generator(seed))
    assert sorted(moves.index.tolist()) == list(range(param.numel()))
    assert_legal(moves, state, param, values)


def test_a_sweep_is_in_random_order_and_reaches_every_level():
    param = torch.nn.Parameter(torch.full((400,), 0.3))
    state = Levels.uniform(2).attach(param, 0)
    moves = state.sweep(generator(1))
    assert moves.index.tolist() != sorted(moves.index.tolist())
    code = int(state.codes[0])
    counts = torch.bincount(moves.target, minlength=4).tolist()
    assert counts.pop(code) == 0 and min(counts) > 90


@given(st.data(), params(), st.sampled_from(VALUES), seeds)
@settings(max_examples=100)
def test_levels_take_back_commits_bit_for_bit(data, param, values, seed):
    state = Levels(values, scale=data.draw(scales(param))).attach(param, 0)
    state.begin()
    before = {"param": param.detach().clone(), **every(state.tensors())}
    moves = state.sweep(generator(seed))
    moves = moves.select(torch.rand(len(moves), generator=generator(seed)) < 0.6)
    back = state.inverse(moves)
    state.commit(moves)
    table = torch.tensor(sorted(values), dtype=param.dtype)
    assert torch.equal(param, table[state.codes.long()] * state.scale)
    assert torch.equal(param.detach().flatten()[moves.index], moves.value)
    assert torch.equal(state.codes_at(moves.index), moves.target)
    state.commit(back)
    assert_same(before, {"param": param, **state.tensors()})


@given(params(), st.sampled_from(VALUES), st.booleans())
@settings(max_examples=40)
def test_levels_are_saved_and_loaded(param, values, owned):
    state = Levels(values).attach(param, 0)
    if owned:
        state.begin()
    state.commit(state.sweep(generator()))
    saved = every(state.tensors())
    twin = torch.nn.Parameter(torch.ones_like(param))
    other = Levels(values).attach(twin, 0)
    assert other.tensors().keys() == saved.keys()
    other.load(saved)
    assert same(twin, param) and same(other.codes, state.codes) and same(other.scale, state.scale)
    snapshot, weights = state.snapshot(), param.detach().clone()
    state.commit(state.sweep(generator(1)))
    state.set_scale(state.scale * 2)
    state.restore(snapshot)
    assert same(param, weights)


def test_a_scale_stays_positive():
    param = torch.nn.Parameter(torch.randn(3, 4))
    state = Levels.ternary().attach(param, 0)
    old = state.scale.clone()
    state.set_scale(torch.tensor([[-1.0], [0.0], [2.0]]))
    torch.testing.assert_close(state.scale, torch.stack([old[0] / 2, old[1] / 2, torch.tensor([2.0])]))
    assert torch.equal(param, state.levels[state.codes.long()] * state.scale)


@pytest.mark.parametrize("scale", ["row", "tensor"])
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 2)])
def test_the_scale_gradient_is_the_chain_rule(scale, shape):
    param = torch.nn.Parameter(torch.randn(shape, generator=generator(), dtype=torch.float64))
    state = Levels.ternary(scale=scale).attach(param, 0)
    gradient = torch.randn(shape, generator=generator(1), dtype=torch.float64)
    free = state.scale.clone().requires_grad_()
    (state.levels[state.codes.long()] * free * gradient).sum().backward()
    torch.testing.assert_close(state.scale_gradient(gradient), free.grad)


def test_weights_that_somebody_else_wrote_are_adopted():
    param = torch.nn.Parameter(torch.randn(3, 4))
    state = Levels.binary().attach(param, 0)
    for _ in range(2):  # straight-through, then owned by annealing
        with torch.no_grad():
            param.copy_(torch.randn(3, 4))
        given_weights = param.detach().clone()
        state.begin()
        assert torch.equal(param, state.levels[state.codes.long()] * state.scale)
        assert torch.equal(param.sign(), given_weights.sign())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Levels((1.0,)), ValueError, r"Invalid values: \(1\.0,\)"),
        (lambda: Levels((1.0, 1.0)), ValueError, "Invalid values"),
        (lambda: Levels((1.0, math.nan)), ValueError, "Invalid values"),
        (lambda: Levels(tuple(range(257))), ValueError, "Invalid values"),
        (lambda: Levels((0, 1), scale="column"), ValueError, "Invalid scale: 'column'"),
        (lambda: Levels((0, 1), scale=0.5), ValueError, "Invalid scale: 0.5"),
        (lambda: Levels((0, 1), scale=torch.tensor(-1.0)), ValueError, "Invalid scale: -1.0"),
        (lambda: Levels((0, 1), scale=torch.tensor(math.inf)), ValueError, "Invalid scale: inf"),
        (lambda: Levels.uniform(0), ValueError, "Invalid bits: 0"),
        (lambda: Levels.uniform(9), ValueError, "Invalid bits: 9"),
        (
            lambda: Levels.binary().attach(torch.zeros(2, dtype=torch.int32), 0),
            TypeError,
            "Invalid params: torch.int32",
        ),
        (lambda: Levels.binary().attach(torch.zeros(0), 0), ValueError, r"Invalid params: shape \(0,\)"),
        (lambda: Levels.binary().attach(torch.tensor([math.nan]), 0), ValueError, "finite weights"),
        (
            lambda: Levels.binary(scale=torch.ones(3)).attach(torch.zeros(2, 4), 0),
            ValueError,
            r"Invalid scale: shape \(3,\); .*\(2, 4\)",
        ),
        (
            lambda: Levels.binary(scale=torch.ones(2, 1, 1)).attach(torch.zeros(2, 4), 0),
            ValueError,
            r"shape \(2, 1, 1\)",
        ),
        (lambda: Mask(0.0), ValueError, "Invalid density: 0.0"),
        (lambda: Mask(1.5), ValueError, "Invalid density: 1.5"),
        (lambda: Mask(math.nan), ValueError, "Invalid density: nan"),
        (lambda: Mask(0.5, steps=0), ValueError, "Invalid steps: 0"),
        (
            lambda: Mask(0.5).attach(torch.zeros(3, dtype=torch.int64), 0),
            ValueError,
            "Invalid params: torch.int64",
        ),
        (lambda: Window(0, 1.0), ValueError, "Invalid bits: 0"),
        (lambda: Window(True, 1.0), ValueError, "Invalid bits: True"),
        (lambda: Window(2, 0.0), ValueError, "Invalid radius: 0.0"),
        (lambda: Window(2, math.inf), ValueError, "Invalid radius: inf"),
        (lambda: Window(2, 1.0).attach(torch.zeros(0), 0), ValueError, r"Invalid params: .*\(0,\)"),
    ],
)
def test_encodings_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_named_levels():
    assert Levels.binary().values == (-1.0, 1.0) == Levels.uniform(1).values
    assert Levels.ternary().values == (-1.0, 0.0, 1.0)
    assert Levels.uniform(3).values == tuple(range(-4, 4))
    assert Levels((5, 1, 2)).values == (1.0, 2.0, 5.0)


# -------------------------------------------------------------------------------------------------- mask

several = st.sampled_from([shape for shape in SHAPES if math.prod(shape) > 1])


@given(params(several), st.floats(0.01, 1.0), seeds)
@settings(max_examples=100)
def test_a_mask_keeps_its_density_and_all_values(param, density, seed):
    encoding = Mask(density)
    original, kept = param.detach().clone(), encoding.kept(param.numel())
    assume(int(torch.count_nonzero(original)) != kept or kept == param.numel())  # otherwise its zeros are a mask
    assert kept == max(1, round(density * param.numel()))
    state = encoding.attach(param, 0)
    state.after_base()
    assert same(param, original)  # nothing is dropped before annealing begins
    assert state.propose(torch.ones_like(param), 5, 0.0, generator())[0].index.numel() == 0
    assert state.begin() == (kept < param.numel()) and not state.begin()
    order = original.double().abs().flatten().sort(descending=True).values
    assert float(param.detach().double().abs().sum()) == pytest.approx(float(order[:kept].sum()))
    g = generator(seed)
    for _ in range(4):
        moves = state.sweep(g)
        assert len(moves) == min(kept, param.numel() - kept)
        assert len(set(moves.index.tolist())) == len(moves.index) == 2 * len(moves)
        moves = moves.select(torch.rand(len(moves), generator=g) < 0.7)
        before = {"param": param.detach().clone(), **every(state.tensors())}
        back = state.inverse(moves)
        assert moves.target.tolist() == [0, 1] * len(moves)
        present = param.detach().flatten()[moves.index]
        torch.testing.assert_close(moves.displacement, moves.value - present)
        state.commit(moves)
        assert torch.equal(param.detach().flatten()[moves.index], moves.value)
        assert torch.equal(state.codes_at(moves.index), moves.target)
        after = {"param": param.detach().clone(), **every(state.tensors())}
        state.commit(back)
        assert_same(before, {"param": param, **state.tensors()})
        state.commit(moves)
        assert_same(after, {"param": param, **state.tensors()})
        assert int(state.mask.sum()) == kept
        assert torch.equal(param, torch.where(state.mask, original, 0.0))  # a swap restores the last value
        with torch.no_grad():
            param.add_(1.0)  # a step of a base that knows nothing of masks
        state.after_base()
        assert torch.equal(param, torch.where(state.mask, param, 0.0))
        original = torch.where(state.mask, param.detach(), original)


@given(params(several), st.floats(0.1, 0.9), seeds, st.integers(0, 6), st.booleans())
@settings(max_examples=60)
def test_a_mask_proposes_the_best_swaps(param, density, seed, count, limited):
    state = Mask(density).attach(param, 1)
    state.begin()
    gradient = torch.randn(param.shape, generator=generator(seed), dtype=torch.float64).to(param.dtype)
    allowed = torch.rand(param.shape, generator=generator(seed)) < 0.6 if limited else torch.ones_like(state.mask)
    moves, scores = state.propose(gradient, count, 0.0, generator(), allowed)
    change = torch.where(state.mask, -param.detach(), state.aside).double() * gradient.double()
    out = sorted(change[state.mask & allowed].tolist())
    back = sorted(change[~state.mask & allowed].tolist())
    expected = [a + b for a, b in zip(out, back)][:count]
    size = max([abs(s) for s in out + back], default=0.0)
    rounding = 4 * torch.finfo(param.dtype).eps
    assert scores.tolist() == pytest.approx(expected, rel=rounding, abs=rounding * size + 1e-30)
    assert bool(allowed.flatten()[moves.index].all())
    if expected:  # the first is the best of all swaps
        assert expected[0] == min(a + b for a, b in itertools.product(out, back))


@given(params(several), st.floats(0.1, 1.0))
@settings(max_examples=40)
def test_masks_are_saved_and_loaded(param, density):
    state = Mask(density).attach(param, 0)
    names = state.tensors().keys()
    state.begin()
    state.commit(state.sweep(generator()))
    twin = torch.nn.Parameter(param.detach().clone())
    other = Mask(density).attach(twin, 0)
    other.load(every(state.tensors()))
    assert torch.equal(twin, param) and other.tensors().keys() == names  # a kept zero may lose its sign
    assert_same(other.tensors(), state.tensors())
    snapshot, before = state.snapshot(), {"param": param.detach().clone(), **every(state.tensors())}
    state.commit(state.sweep(generator(1)))
    state.restore(snapshot)
    assert_same(before, {"param": param, **state.tensors()})


@given(params(several), st.floats(0.01, 1.0), st.integers(1, 6))
@settings(max_examples=60)
def test_a_gradual_mask_keeps_the_largest_of_what_is_left(param, density, steps):
    encoding = Mask(density, steps=steps)
    original, count = param.detach().clone(), param.numel()
    state = encoding.attach(param, 0)
    numbers = [encoding.kept(count, step) for step in range(1, steps + 1)]
    assert numbers == sorted(numbers, reverse=True) and numbers[-1] == encoding.kept(count) == Mask(density).kept(count)
    seen = [int(state.mask.sum())]
    while state.begin():
        seen.append(int(state.mask.sum()))
        assert torch.equal(param, torch.where(state.mask, original, 0.0))
        assert torch.equal(state.aside, torch.where(state.mask, 0.0, original))
        sizes = original.double().abs()
        assert not state.dropped or sizes[state.mask].min() >= sizes[~state.mask].max()
    assert seen[1:] == list(dict.fromkeys(n for n in numbers if n < seen[0]))


def test_a_mask_starts_from_a_pruned_network():
    weight = torch.nn.Parameter(torch.tensor([[0.0, 2.0, 0.0], [-1.0, 0.0, 0.0]]))
    aside = torch.full((2, 3), 5.0)
    state = Mask(1 / 3, aside=aside).attach(weight, 0)
    assert torch.equal(state.mask, weight != 0) and not state.begin()
    assert torch.equal(state.aside, torch.where(state.mask, 0.0, aside))
    state.commit(state.sweep(generator()))
    assert int(state.mask.sum()) == 2 and set(weight.detach().flatten().tolist()) <= {0.0, 5.0, 2.0, -1.0}
    assert not Mask(0.5).attach(weight, 0).dropped  # zeros of another number are not a mask
    for mask, message in [
        (Mask(0.5, aside=aside), "Invalid aside: 2 of 6 weights are not zero; a pruned parameter with 3 is needed"),
        (Mask(1 / 3, aside=aside[0]), r"Invalid aside: shape \(3,\); finite values of shape \(2, 3\)"),
        (Mask(1 / 3, aside=aside / 0), "Invalid aside: not finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            mask.attach(weight, 0)


# ------------------------------------------------------------------------------------------------ window

radii = st.one_of(st.sampled_from([1.0, 0.25, 3.0, 0.5]), st.floats(1e-3, 10.0))


def strings(n):
    return torch.tensor(list(itertools.product((0, 1), repeat=n)), dtype=torch.uint8)  # (2^n, n)


@given(st.integers(1, 8), radii)
def test_window_displacements(width, radius):
    half = 2 ** (width - 1)
    expected = [radius * (k - half) / half for k in range(2**width)]
    assert list(Window(width, radius).displacements) == expected and 0.0 in expected


@given(st.sampled_from([(1, 1), (1, 6), (2, 3), (3, 2), (8, 1), (4, 2)]), radii)
def test_a_window_decodes_every_bit_string(size, radius):
    width, n = size
    window = Window(width, radius)
    assert window.affine(n).decode(window.present(n)).tolist() == [0.0] * n  # exactly
    exact = math.frexp(radius)[0] in (0.5, 0.75)  # few enough digits for every sum to be exact
    decoded = window.affine(n).decode(strings(n * width))
    powers = 2 ** torch.arange(width)
    k = (strings(n * width).view(-1, n, width).long() * powers).sum(2)  # (R, n)
    expected = torch.tensor(window.displacements, dtype=torch.float64)[k]
    tolerance = 0.0 if exact else 4 * 2**-52 * radius
    torch.testing.assert_close(decoded, expected, rtol=0, atol=tolerance)
    assert {tuple(row) for row in k.tolist()} == set(itertools.product(range(2**width), repeat=n))


@given(st.sampled_from([(1, 5), (2, 3), (3, 2), (4, 2)]), radii, seeds)
@settings(max_examples=40)
def test_qubo_energies_of_a_window_are_the_models(size, radius, seed):
    width, n = size
    g = generator(seed)
    matrix = torch.randn(n, n, generator=g, dtype=torch.float64)
    model = QuadraticModel(torch.randn(n, generator=g, dtype=torch.float64), matrix + matrix.T)
    window, all_bits = Window(width, radius), strings(n * width)
    powers = 2 ** torch.arange(width)
    k = (all_bits.view(-1, n, width).long() * powers).sum(2)
    d = torch.tensor(window.displacements, dtype=torch.float64)[k]  # (R, n)
    by_hand = [float(model.g @ row + row @ model.H @ row / 2) for row in d]
    energies = model.encode(window).energies(all_bits)
    assert energies.tolist() == pytest.approx(by_hand, rel=1e-9, abs=1e-9 * (1 + radius**2))


@given(params(), st.integers(1, 4), radii, seeds, st.integers(0, 12), st.booleans())
@settings(max_examples=80)
def test_a_window_proposes_legal_displacements(param, width, radius, seed, count, limited):
    state = Window(width, radius).attach(param, 0)
    gradient = torch.randn(param.shape, generator=generator(seed), dtype=torch.float64).to(param.dtype)
    allowed = torch.rand(param.shape, generator=generator(seed)) < 0.5 if limited else torch.ones(param.shape).bool()
    moves, scores = state.propose(gradient, count, 0.0, generator(), allowed)
    legal = torch.tensor(state.window.displacements, dtype=param.dtype)
    assert bool(torch.isin(moves.displacement, legal).all()) and bool(allowed.flatten()[moves.index].all())
    assert len(set(moves.index.tolist())) == len(moves) == min(count, int(allowed.sum()))
    best = sorted(min(float(g) * float(d) for d in legal) for g in gradient[allowed])[:count]
    assert scores.tolist() == pytest.approx(best, rel=1e-2 if param.dtype == torch.bfloat16 else 1e-6)
    swept = state.sweep(generator(seed))
    assert sorted(swept.index.tolist()) == list(range(param.numel()))
    assert bool(torch.isin(swept.displacement, legal[legal != 0]).all())
    before = param.detach().clone()
    back = state.inverse(swept)
    state.commit(swept)
    assert same(param.detach().flatten()[swept.index], swept.value)
    state.commit(back)
    assert same(param, before)


def test_a_radius_adapts_within_bounds():
    state = Window(2, 0.5).attach(torch.nn.Parameter(torch.zeros(3)), 0)
    steps = [(-1.0, -1.0, 1.0), (-0.5, -1.0, 1.0), (0.3, -1.0, 0.5), (-0.1, -1.0, 0.25), (-2.0, -1.0, 0.5)]
    steps += [(math.nan, -1.0, 0.25), (math.inf, -1.0, 0.125), (1.0, 0.0, 0.125), (1.0, 0.2, 0.125)]
    for actual, predicted, radius in steps:
        state.adapt(actual, predicted)
        assert state.radius == radius
    for actual, bound in ((-1.0, 500.0), (1.0, 0.0005)):
        for _ in range(40):
            state.adapt(actual, -1.0)
        assert state.radius == bound
    state.load({"radius": torch.tensor(0.75)})
    assert state.window == Window(2, 0.75) and float(state.tensors()["radius"]) == 0.75


# ------------------------------------------------------------------------------------------------- moves


def random_moves(sizes, seed=0):
    g = generator(seed)
    c = sum(sizes)
    start = torch.tensor([0, *itertools.accumulate(sizes)])
    owner, index = torch.randint(3, (c,), generator=g), torch.randperm(50, generator=g)[:c]
    return Moves(owner, index, torch.randn(c, generator=g), torch.randn(c, generator=g), torch.arange(c), start)


def listed(moves):
    """Each move as the list of its changes."""
    columns = (moves.owner, moves.index, moves.displacement, moves.value, moves.target)
    changes = list(zip(*(column.tolist() for column in columns)))
    ends = moves.start.tolist()
    return [changes[a:b] for a, b in itertools.pairwise(ends)]


groups = st.lists(st.integers(1, 3), max_size=8)


@given(groups, seeds)
def test_moves_are_lists_of_changes(sizes, seed):
    moves = random_moves(sizes, seed)
    assert len(moves) == len(sizes) and [len(move) for move in listed(moves)] == sizes
    assert moves.bit.tolist() == [k for k, size in enumerate(sizes) for _ in range(size)]
    order = torch.randperm(len(sizes), generator=generator(seed))
    assert listed(moves.select(order)) == [listed(moves)[k] for k in order]
    mask = torch.rand(len(sizes), generator=generator(seed)) < 0.5
    assert listed(moves.select(mask)) == list(itertools.compress(listed(moves), mask.tolist()))
    other = random_moves([2, 1], seed + 1)
    assert listed(Moves.join([moves, other])) == listed(moves) + listed(other)
    for owner in range(3):
        mine = [[change] for move in listed(moves) for change in move if change[0] == owner]
        assert listed(moves.of(owner)) == mine


@given(groups, st.integers(1, 9))
def test_blocks_are_few_and_small(sizes, most):
    moves = random_moves(sizes)
    blocks = moves.blocks(most)
    assert [move for block in blocks for move in listed(block)] == listed(moves)
    lengths = [len(block) for block in blocks]
    assert len(blocks) == -(-len(sizes) // most)
    assert not lengths or (max(lengths) <= most and max(lengths) - min(lengths) <= 1)


def test_no_moves():
    none = Moves.join([])
    assert len(none) == 0 and none.blocks(4) == [] and len(none.select(torch.zeros(0, dtype=torch.bool))) == 0


def test_keep_best_leaves_out_what_is_infinite():
    scores = torch.tensor([3.0, math.inf, -1.0, math.nan, 0.0])
    assert keep_best(scores, 10).tolist() == [2, 4, 0] and keep_best(scores, 1).tolist() == [2]
    assert keep_best(scores, 0).tolist() == [] == keep_best(scores[:0], 3).tolist()
