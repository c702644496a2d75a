"""`Qubo`, `QuadraticModel` and `Affine` against brute force, and against dimod's own energies."""

import itertools

import dimod
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qanneal_opt.quadratic import Affine, QuadraticModel
from qanneal_opt.qubo import Qubo

NUMBER = st.integers(-8, 8).map(lambda k: k / 4)  # sums of products of these are exact in float64


def array(*shape):
    """Arrays of such numbers, a third of them 0."""
    seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)
    return seeds.map(lambda rng: rng.integers(-8, 9, shape) / 4 * (rng.random(shape) > 1 / 3))


def symmetric(n):
    return array(n, n).map(lambda a: a + a.T)


def hollow(n):
    return symmetric(n).map(lambda a: a - np.diag(np.diag(a)))


def states(n):
    return np.array(list(itertools.product((0, 1), repeat=n)), dtype=np.uint8).reshape(2**n, n)


@st.composite
def problems(draw, least=0):
    n = draw(st.integers(least, 5))
    return draw(array(n)), draw(hollow(n)), draw(NUMBER)


def energy(linear, quadratic, offset, bits):
    """The definition, term by term."""
    n = len(bits)
    pairs = sum(quadratic[i, j] * bits[i] * bits[j] for i in range(n) for j in range(i))
    return offset + sum(linear[i] * bits[i] for i in range(n)) + pairs


@given(problems())
def test_energies_are_the_definition(problem):
    bits = states(len(problem[0]))
    found = Qubo(*problem).energies(bits)
    assert found.dtype == torch.float64
    assert found.tolist() == [energy(*problem, b) for b in bits]
    assert Qubo(*problem).energies(bits[-1]).shape == ()


@given(st.integers(0, 4), st.integers(1, 3), st.booleans(), st.booleans(), st.data())
def test_a_batch_is_its_problems(n, batch, shared, many_offsets, data):
    linear, quadratic = data.draw(array(batch, n)), data.draw(hollow(n))
    if not shared:
        quadratic = np.stack([data.draw(hollow(n)) for _ in range(batch)])
    offset = data.draw(array(batch)) if many_offsets else data.draw(NUMBER)
    qubo = Qubo(linear, quadratic, offset)
    assert (qubo.n, qubo.batch) == (n, batch)
    bits = np.stack([np.roll(states(n), k, axis=0) for k in range(batch)])
    energies = qubo.energies(bits)
    assert energies.shape == (batch, 2**n)
    for k in range(batch):
        one = Qubo(linear[k], quadratic if shared else quadratic[k], offset[k] if many_offsets else offset)
        assert torch.equal(energies[k], one.energies(bits[k]))
        assert torch.equal(energies[k], qubo.problem(k - batch).energies(bits[k]))
        assert qubo.to_bqm(k) == one.to_bqm()


@given(problems())
def test_to_bqm_has_the_same_energies(problem):
    bqm = Qubo(*problem).to_bqm()
    n = len(problem[0])
    assert list(bqm.variables) == list(range(n))
    assert bqm.vartype is dimod.BINARY
    assert bqm.num_interactions == np.count_nonzero(np.triu(problem[1]))
    assert bqm.energies((states(n), range(n))).tolist() == Qubo(*problem).energies(states(n)).tolist()
    again = Qubo.from_bqm(bqm)
    assert torch.equal(again.linear, Qubo(*problem).linear)
    assert torch.equal(again.quadratic, Qubo(*problem).quadratic)
    assert again.offset == problem[2]


@given(problems(), st.sampled_from(["BINARY", "SPIN"]), st.sampled_from([np.float32, np.float64, object]))
def test_from_bqm_keeps_energies_and_order(problem, vartype, dtype):
    linear, quadratic, offset = problem
    n = len(linear)
    names = [f"v{(3 * k + 2) % 7}" for k in range(n)]  # neither sorted nor 0 .. n - 1
    bqm = dimod.BinaryQuadraticModel(vartype, dtype=dtype)
    for name, bias in zip(names, linear, strict=True):
        bqm.add_linear(name, bias)
    for i, j in itertools.combinations(range(n), 2):
        bqm.add_quadratic(names[i], names[j], quadratic[i, j])
    bqm.offset = offset
    before = bqm.copy()
    values = states(n).astype(np.int8) if vartype == "BINARY" else 2 * states(n).astype(np.int8) - 1
    expected = bqm.energies((values, names)).astype(float)
    assert Qubo.from_bqm(bqm).energies(states(n)).tolist() == expected.tolist()
    assert bqm == before
    assert bqm.vartype.name == vartype


@given(st.integers(0, 5).flatmap(lambda n: array(n, n)))
def test_from_matrix_is_the_quadratic_form(Q):
    bits = states(len(Q)).astype(float)
    assert Qubo.from_matrix(Q).energies(bits).tolist() == [b @ Q @ b for b in bits]
    batch = Qubo.from_matrix(np.stack([Q, 2 * Q.T]))
    assert torch.equal(batch.energies(np.stack([bits, bits]))[1], 2 * Qubo.from_matrix(Q).energies(bits))


def test_what_comes_in():
    qubo = Qubo([1, 2], [[0, 1], [1, 0]], 3)
    assert qubo.linear.dtype == qubo.quadratic.dtype == torch.float64
    assert qubo.offset == 3.0
    assert Qubo([0.1], [[0]], 0.1).energies([1]).item() == 0.2  # numbers do not pass through float32
    held = np.zeros((2, 2))
    held.flags.writeable = False
    assert Qubo(np.arange(4.0)[::-2], held).linear.tolist() == [3, 1]
    weights = torch.randn(6, 4, requires_grad=True)
    product = (weights @ weights.T).float()
    product = product - torch.diag(product.diagonal())
    skewed = product * (1 + 1e-7 * torch.triu(torch.ones(6, 6)))  # a product's rounding
    qubo = Qubo(weights[:, 0], skewed)
    assert not qubo.linear.requires_grad
    assert torch.equal(qubo.quadratic, qubo.quadratic.T)
    assert Qubo([], []).energies(np.zeros((3, 0))).tolist() == [0, 0, 0]
    assert Qubo(torch.zeros(0, 2), torch.zeros(2, 2)).energies(np.zeros((0, 3, 2))).shape == (0, 3)
    assert Qubo([2.0], [[0.0]]).energies(torch.tensor([[True], [False]])).tolist() == [2, 0]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Qubo([NAN, 1.0], np.zeros((2, 2))), ValueError, "Invalid linear: nan"),
        (lambda: Qubo([0.0, 1.0], [[0, INF], [INF, 0]]), ValueError, "Invalid quadratic: inf"),
        (lambda: Qubo([0.0, 1.0], np.zeros((2, 2)), -INF), ValueError, "Invalid offset: -inf"),
        (lambda: Qubo([0.0, 1.0], [[0, 1], [2, 0]]), ValueError, "Invalid quadratic: .*symmetric"),
        (lambda: Qubo([0.0, 1.0], [[0, 1], [1, 3]]), ValueError, "Invalid quadratic: 3 on its diagonal"),
        (lambda: Qubo([0.0, 1.0], np.zeros((3, 3))), ValueError, r"Invalid quadratic: shape \(3, 3\)"),
        (
            lambda: Qubo([0.0, 1.0], np.zeros((1, 2, 2))),
            ValueError,
            r"Invalid quadratic: .*must be \(2, 2\)$",
        ),
        (lambda: Qubo(np.zeros((3, 2)), np.zeros((4, 2, 2))), ValueError, r"\(2, 2\) or \(3, 2, 2\)"),
        (lambda: Qubo(np.zeros((1, 1, 2)), np.zeros((2, 2))), ValueError, "Invalid linear: shape"),
        (lambda: Qubo(1.0, [[0.0]]), ValueError, "Invalid linear: shape"),
        (lambda: Qubo([0.0, 1.0], np.zeros((2, 2)), [1.0, 2.0]), ValueError, "Invalid offset: shape"),
        (lambda: Qubo(np.zeros((3, 2)), np.zeros((2, 2)), [1.0]), ValueError, r"Invalid offset: .*\(3,\)"),
        (lambda: Qubo("ab", np.zeros((2, 2))), TypeError, "Invalid linear"),
        (lambda: Qubo([1j], [[0]]), TypeError, "Invalid linear"),
        (lambda: Qubo.from_matrix(np.zeros((2, 3))), ValueError, "Invalid Q: shape"),
        (lambda: Qubo.from_matrix([[NAN]]), ValueError, "Invalid Q: nan"),
        (lambda: Qubo.from_bqm({}), TypeError, "Invalid bqm: dict"),
        (lambda: Qubo([0.0], [[0.0]]).energies([0, 1]), ValueError, "Invalid bits: shape"),
        (lambda: Qubo([0.0], [[0.0]]).energies([-1]), ValueError, "Invalid bits: entries"),
        (lambda: Qubo([0.0], [[0.0]]).energies([NAN]), ValueError, "Invalid bits: entries"),
        (lambda: Qubo(np.zeros((2, 1)), [[0.0]]).energies([[0]]), ValueError, r"must be \(2, R, 1\)"),
        (lambda: Qubo(np.zeros((2, 1)), [[0.0]]).to_bqm(2), IndexError, "Invalid i: 2; there are 2"),
        (lambda: QuadraticModel([NAN], [[1.0]]), ValueError, "Invalid g: nan"),
        (lambda: QuadraticModel([[1.0]], [[1.0]]), ValueError, "Invalid g: shape"),
        (lambda: QuadraticModel([1.0], [1.0]), ValueError, r"Invalid H: shape \(1,\); must be \(1, 1\)"),
        (lambda: QuadraticModel([1.0, 1.0], [[1, 2], [0, 1]]), ValueError, "Invalid H: .*symmetric"),
        (lambda: QuadraticModel([1.0], [[1.0]])([1.0, 2.0]), ValueError, "Invalid d: shape"),
        (lambda: Affine([[0.0]], [[1.0]]), ValueError, "Invalid offset: shape"),
        (lambda: Affine([0.0], [[1.0], [1.0]]), ValueError, r"Invalid matrix: .*must be \(1, m\)"),
        (lambda: Affine([0.0], [[INF]]), ValueError, "Invalid matrix: inf"),
        (lambda: Affine([0.0], [[1.0]]).decode([0, 1]), ValueError, "Invalid bits: shape"),
    ],
)
def test_bad_input_is_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


@given(st.integers(0, 4), st.integers(0, 5), st.data())
def test_encode_is_the_model_of_what_is_decoded(n, m, data):
    model = QuadraticModel(data.draw(array(n)), data.draw(symmetric(n)))
    affine = Affine(data.draw(array(n)), data.draw(array(n, m)))
    bits = states(m)
    moves = affine.decode(bits)
    assert moves.shape == (2**m, n)
    assert torch.equal(affine.decode(bits[-1]), moves[-1])
    expected = [float(model.g @ d + d @ model.H @ d / 2) for d in moves]
    assert model(moves).tolist() == expected
    assert model.encode(affine).energies(bits).tolist() == expected


@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_l0_counts_nonzero_weights(n, m, data):
    """At most one bit a weight; a column that moves two weights is a swap."""
    mover = data.draw(st.lists(st.integers(0, m), min_size=n, max_size=n))  # m: no bit moves this weight
    weights = data.draw(array(n))
    offset = data.draw(st.sampled_from([np.zeros(n), -weights]))
    steps = data.draw(st.sampled_from([-weights, -weights - offset, np.full(n, 0.5), np.zeros(n)]))
    matrix = np.zeros((n, m + 1))
    matrix[np.arange(n), mover] = steps
    affine = Affine(offset, matrix[:, :m])
    model = QuadraticModel(data.draw(array(n)), data.draw(symmetric(n)))
    bits = states(m)
    moves = affine.decode(bits)
    count = (torch.from_numpy(weights) + moves != 0).sum(1)
    found = model.encode(affine, weights=weights, l0=0.25).energies(bits)
    assert found.tolist() == (model(moves) + 0.25 * count).tolist()


def test_encodings_are_asked_for_their_affine_form():
    class TwoBits:
        def affine(self, n):
            return Affine(-torch.ones(n), torch.kron(torch.eye(n), torch.tensor([[0.5, 1.0]])))

    model = QuadraticModel([1.0, -2.0], [[2.0, 1.0], [1.0, 4.0]])
    qubo = model.encode(TwoBits())
    assert qubo.n == 4
    assert torch.equal(qubo.energies(states(4)), model(TwoBits().affine(2).decode(states(4))))
    with pytest.raises(ValueError, match=r"Invalid l0: 0\.1, where 2 bits move weight 0"):
        model.encode(TwoBits(), weights=[1.0, 1.0], l0=0.1)
    with pytest.raises(ValueError, match="Invalid weights: None"):
        model.encode(Affine([0.0, 0.0], np.eye(2)), l0=0.1)
    with pytest.raises(ValueError, match="Invalid weights: shape"):
        model.encode(Affine([0.0, 0.0], np.eye(2)), weights=[1.0], l0=0.1)
    with pytest.raises(ValueError, match="Invalid l0: -1"):
        model.encode(Affine([0.0, 0.0], np.eye(2)), weights=[1.0, 1.0], l0=-1)
    with pytest.raises(ValueError, match="Invalid encoding: 1 displacements; the model has 2"):
        model.encode(Affine([0.0], [[1.0]]))
    with pytest.raises(TypeError, match="Invalid encoding: 7"):
        model.encode(7)


def test_float32_curvature_is_taken_up_to_rounding():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(40, 30, generator=generator)
    H = factor.T @ factor
    H[3, 5] *= 1 + 2e-7
    model = QuadraticModel(torch.randn(30, generator=generator), H)
    assert torch.equal(model.H, model.H.T)
    bits = torch.randint(2, (8, 30), generator=generator)
    affine = Affine(torch.randn(30, generator=generator), torch.diag(torch.randn(30, generator=generator)))
    torch.testing.assert_close(model.encode(affine).energies(bits), model(affine.decode(bits)))
