"""One matrix, all methods: order of quality, bias, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qanneal_opt.compress.problem import Problem
from qanneal_opt.compress.rounding import METHODS, round_matrix
from tests.lattices import layer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("output", [False, True])
def test_what_is_reported_is_what_the_codes_give(method, output):
    problem = layer(20, 32, 0, mean=True, output=output)
    rounded = round_matrix(problem, bits=3, method=method, sweeps=20)
    value = rounded.grid.decode(rounded.codes)
    assert rounded.codes.dtype == torch.uint8 and int(rounded.codes.max()) <= 7
    assert rounded.objective["final"] == pytest.approx(problem.objective(value))
    assert set(rounded.objective) == {"rtn", "gptq", "final"}
    error = (value - problem.weight).double() @ problem.mean + rounded.bias_shift
    assert torch.allclose(error, torch.zeros_like(error), atol=1e-6)  # the mean output is that of the weights


def test_a_mean_makes_the_error_what_the_bias_leaves():
    problem = layer(6, 10, 1, mean=True)
    value = problem.weight.double() + 0.1
    plain = Problem(problem.weight, problem.moment).objective(value)
    lost = ((value - problem.weight) @ problem.mean).square().sum()
    assert problem.objective(value) == pytest.approx(plain - float(lost))


@pytest.mark.parametrize("output", [False, True])
def test_methods_stand_in_their_order(output):
    problem = layer(48, 64, 2, output=output)
    ends = {m: round_matrix(problem, bits=3, method=m, refit=False, output_damping=0.0).objective for m in METHODS}
    final = {method: end["final"] for method, end in ends.items()}
    assert final["gptq"] == ends["cd"]["gptq"]
    assert final["rtn"] < ends["cd"]["rtn"]  # which is on the range that suits GPTQ
    assert final["anneal"] < final["cd"] < final["gptq"] < final["rtn"]
    if not output:
        assert final["beam"] < final["gptq"]


@pytest.mark.parametrize("method", METHODS)
def test_a_refit_never_costs(method):
    problem = layer(16, 32, 3)
    plain, fitted = (
        round_matrix(problem, bits=2, group_size=8, method=method, refit=r, sweeps=20) for r in (False, True)
    )
    assert fitted.objective["final"] < plain.objective["final"]


@pytest.mark.parametrize("output", [False, True])
def test_later_annealings_never_cost_and_often_find_more(output):
    options = {"bits": 3, "sweeps": 20, "refit": False, "damping": 0.0, "output_damping": 0.0}
    ends = []
    for seed in range(4):
        problem = layer(48, 64, seed, output=output)
        ends.append([round_matrix(problem, kronecker_passes=k, **options).objective["final"] for k in (1, 2, 4)])
    assert all(first >= second >= fourth for first, second, fourth in ends)
    assert sum(first > fourth for first, _, fourth in ends) >= 2


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 8), st.integers(1, 6), st.integers(1, 20), st.integers(1, 8), st.sampled_from(METHODS),
    st.booleans(), st.sampled_from(["integer", "real"]), st.booleans(), st.integers(1, 30),
)  # fmt: skip
def test_any_shape_comes_back_whole(bits, rows, columns, size, method, symmetric, zero, output, samples):
    problem = layer(rows, columns, samples, samples=samples, mean=True, output=output)
    rounded = round_matrix(
        problem, bits=bits, group_size=size, symmetric=symmetric, zero=zero, method=method, sweeps=5, beam_width=3
    )
    assert rounded.codes.shape == (rows, columns) and int(rounded.codes.max()) < 2**bits
    assert bool(rounded.grid.decode(rounded.codes).isfinite().all()) and bool((rounded.grid.scale > 0).all())
    if zero == "integer":
        assert torch.equal(rounded.grid.zero, rounded.grid.zero.round())


def test_equal_seeds_give_equal_codes_and_threads_change_nothing():
    problem = layer(40, 32, 4, output=True)
    one, two = (round_matrix(problem, bits=3, sweeps=30, seed=7, threads=t) for t in (1, 2))
    assert torch.equal(one.codes, two.codes) and torch.equal(one.grid.scale, two.grid.scale)


def test_outputs_without_gradients_are_no_obstacle():
    problem = layer(8, 16, 5, output=True)
    G = problem.output.clone()
    G[2], G[:, 2] = 0.0, 0.0
    for output in (G, torch.zeros(8, 8)):
        rounded = round_matrix(Problem(problem.weight, problem.moment, None, output), bits=3, output_damping=0.0)
        assert bool(rounded.grid.decode(rounded.codes).isfinite().all())
        assert ("G is zero" in rounded.note) == (not output.any())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": torch.tensor([[torch.nan, 1.0]])}, "Invalid weight: NaN"),
        ({"weight": torch.ones(2)}, "Invalid weight: shape"),
        ({"moment": torch.eye(3)}, r"Invalid moment: shape \(3, 3\); must be \(2, 2\)"),
        ({"moment": torch.full((2, 2), torch.inf)}, "Invalid moment: NaN or infinity"),
        ({"mean": torch.ones(3)}, "Invalid mean: shape"),
        ({"output": torch.eye(2)}, r"Invalid output: shape \(2, 2\); must be \(1, 1\)"),
    ],
)
def test_bad_problems_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        Problem(**({"weight": torch.ones(1, 2), "moment": torch.eye(2)} | changed))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bits", 0), ("bits", 9), ("method", "best"), ("sweeps", -1), ("sweeps", 1.5), ("seed", -1), ("group_size", 0),
        ("damping", -0.1), ("output_damping", float("inf")), ("kronecker_passes", 0), ("zero", "none"),
    ],
)  # fmt: skip
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=f"Invalid {option}: "):
        round_matrix(layer(2, 4, 0), **{option: value})
