"""Annealing steps: compiled and general paths agree, T = 0 is never worse, samplers that fail do no harm."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt import judge
from qanneal_opt.samplers import SamplerError, Samples
from qanneal_opt.steps import compiled
from qanneal_opt.steps.blocks import Block
from qanneal_opt.steps.compiled import CompiledEvaluator
from qanneal_opt.steps.evaluator import Evaluator
from qanneal_opt.steps.evaluators import Evaluators
from qanneal_opt.view import View

ENCODINGS = {
    "binary": qa.Levels.binary(),
    "ternary": qa.Levels.ternary(scale="tensor"),
    "3bit": qa.Levels.uniform(3),
    "mask": qa.Mask(0.5),
}


def data(outputs=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(60, 5, generator=generator)
    return inputs, (inputs @ torch.randn(5, outputs, generator=generator)).argmax(1)


def net(seed=0, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, outputs))


class Opaque(nn.Module):
    """The same function as a stack, but nothing that the compiled path can read."""

    def __init__(self, stack):
        super().__init__()
        self.stack = stack

    def forward(self, x):
        return self.stack(x)


def optimizer_of(model, annealing, encoding=None, loss=functional.cross_entropy, samples=None, **options):
    weights = [p for p in model.parameters() if p.ndim > 1]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "encoding": encoding or qa.Levels.binary()}, {"params": biases}]
    objective = qa.Objective(model, loss, samples or data())
    return qa.AnnealingOptimizer(groups, lr=1e-2, objective=objective, annealing=annealing, **options)


def view_of(optimizer):
    return optimizer._view()


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "hinge"])
def test_compiled_and_general_paths_agree(name, loss):
    samples = data()
    if loss == "mse":
        samples = (samples[0], functional.one_hot(samples[1], 3).float())
    elif loss == "hinge":
        samples = (samples[0], 2 * functional.one_hot(samples[1], 3).float() - 1)
    losses = {"cross_entropy": functional.cross_entropy, "mse": functional.mse_loss, "hinge": qa.losses.hinge(0.5)}
    found = []
    for kind in (Evaluator, CompiledEvaluator):
        model = net()
        optimizer = optimizer_of(model, qa.DirectStep(), ENCODINGS[name], losses[loss], samples)
        view, objective = view_of(optimizer), optimizer.objective
        with objective.frozen():
            evaluator = Evaluators()(view, objective, 1e-3)
            assert isinstance(evaluator, CompiledEvaluator)
            if kind is Evaluator:
                evaluator = Evaluator(view, objective, 1e-3)
            view.begin(evaluator.value)
            generator = torch.Generator().manual_seed(1)
            grads = [grad.clone() for grad in evaluator.gradients()]
            moves = view.propose(grads, 6, 0.01, generator)
            singles = [moves.select(torch.tensor([k])) for k in range(len(moves))]
            candidates = evaluator.losses([*singles, moves])
            uniforms = torch.rand(len(moves), generator=generator, dtype=torch.float64)
            taken = evaluator.metropolis(moves, torch.full((len(moves),), 0.02, dtype=torch.float64), uniforms)
            annealed = evaluator.loss
            refitted = evaluator.refit(5, 0.1)
            assert evaluator.value() == pytest.approx(refitted, rel=1e-5)
        found.append((candidates, taken.tolist(), annealed, refitted, [p.detach().clone() for p in model.parameters()]))
    general, compiled = found
    assert general[0] == pytest.approx(compiled[0], rel=2e-5)
    assert general[1] == compiled[1]
    assert general[2] == pytest.approx(compiled[2], rel=2e-5)
    assert general[3] == pytest.approx(compiled[3], rel=1e-4)
    for one, two in zip(general[4], compiled[4]):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_compiled_qubo_has_exact_linear_terms_and_gauss_newton_couplings():
    model = net()
    optimizer = optimizer_of(model, qa.QuboStep("exact", l0=1e-3))
    view, objective = view_of(optimizer), optimizer.objective
    with objective.frozen():
        evaluator = Evaluators()(view, objective, 1e-3)
        loss = view.begin(evaluator.value)[1]
        moves = view.propose(evaluator.gradients(), 8, 0.0, torch.Generator())
        block = Block(moves)
        qubo = evaluator.qubo(block, "ggn")
        exact = evaluator.losses([moves.select(torch.tensor([k])) for k in range(len(moves))])
    assert qubo.linear.tolist() == pytest.approx([value - loss for value in exact], abs=1e-6)
    # J'AJ of the exact changes of the outputs, by hand
    inputs, _ = data()
    outputs = model(inputs).detach()
    changes = []
    for k in range(len(moves)):
        with view.trying(moves.select(torch.tensor([k]))):
            changes.append(model(inputs).detach() - outputs)
    u, p = torch.stack(changes), outputs.softmax(1)  # (m, N, C), (N, C)
    mean = (p * u).sum(-1, keepdim=True)
    couplings = torch.einsum("knc,lnc,nc->kl", u - mean, u - mean, p) / len(inputs)
    torch.testing.assert_close(qubo.quadratic, couplings.double().fill_diagonal_(0.0), rtol=1e-3, atol=1e-5)


STEPS = {
    "direct": lambda t: qa.DirectStep(proposals=10, sweeps=1, temperature=t),
    "qubo": lambda t: qa.QuboStep(proposals=10, variables=6, temperature=t, num_reads=4),
    "hessian": lambda t: qa.QuboStep("exact", curvature="hessian", proposals=8, variables=8, temperature=t),
    "row": lambda t: qa.QuboStep("greedy", subset="row", proposals=8, temperature=t, num_reads=2),
    "random": lambda t: qa.QuboStep("tabu", subset="random", proposals=8, temperature=t),
}


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_at_zero_temperature_a_step_never_makes_the_objective_worse(step, opaque):
    for name, encoding in ENCODINGS.items():
        model = Opaque(net()) if opaque else net()
        optimizer = optimizer_of(model, STEPS[step](0.0), encoding)
        if name == "mask":
            optimizer.anneal()  # the first one drops weights, which costs what it costs
        for _ in range(4):
            before = float(optimizer.objective())
            record = optimizer.anneal()
            after = float(optimizer.objective())
            assert after <= before + 1e-6
            assert record.loss_before == pytest.approx(before, rel=1e-5)
            assert record.loss_after == pytest.approx(after, rel=1e-5)
        assert not record.fallback


@pytest.mark.parametrize("step", ["direct", "qubo", "row"])
def test_a_span_at_positive_temperature_ends_at_its_best(step):
    model = net()
    optimizer = optimizer_of(model, STEPS[step]((0.3, 0.1)), schedule=qa.Every(1, stop=12))
    for _ in range(12):
        optimizer.zero_grad()
        optimizer.objective.loss(model(data()[0]), data()[1]).backward()
        optimizer.step()
    records = list(optimizer.records)
    assert len(records) == 12
    best = min(record.loss_after for record in records)
    assert float(optimizer.objective()) <= best + 1e-6
    assert json.loads(json.dumps([dataclasses.asdict(record) for record in records]))
    heat = [record.temperature for record in records]
    assert heat[0] / heat[-1] == pytest.approx(3.0, rel=1e-6) and heat == sorted(heat, reverse=True)


@pytest.mark.parametrize("step", ["direct", "qubo"])
def test_a_call_of_its_own_ends_at_its_best(step):
    optimizer = optimizer_of(net(), STEPS[step]((2.0, 1.0)))
    for _ in range(5):
        before = float(optimizer.objective())
        optimizer.anneal()
        assert float(optimizer.objective()) <= before + 1e-6


@pytest.mark.parametrize("step", STEPS)
def test_the_same_seed_gives_the_same_weights(step):
    def weights(seed):
        model = net()
        optimizer = optimizer_of(model, STEPS[step](0.05), seed=seed)
        for _ in range(3):
            optimizer.anneal()
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(3), weights(3))


def test_residual_metropolis_leaves_the_true_boltzmann_distribution_of_a_block_invariant():
    """Candidates and surrogate held fixed, samples exact from exp(-E/T): the chain keeps exp(-f/T), by enumeration."""
    model, temperature = net(), 0.05
    optimizer = optimizer_of(model, qa.QuboStep("exact"))
    view, objective = view_of(optimizer), optimizer.objective
    with objective.frozen():
        evaluator = Evaluators()(view, objective)
        view.begin(evaluator.value)
        moves = view.propose(evaluator.gradients(), 4, 0.0, torch.Generator())
        qubo = evaluator.qubo(Block(moves), "ggn")
        bits = torch.tensor(list(itertools.product([0, 1], repeat=4)), dtype=torch.uint8)
        losses = np.array(evaluator.losses([moves.select(row.bool()) for row in bits]))
    energies = qubo.energies(bits).numpy()
    assert np.abs((losses - losses[0]) - energies).max() > 1e-4  # the surrogate is wrong somewhere
    proposal = np.exp(-(energies - energies.min()) / temperature)
    proposal /= proposal.sum()
    grid = (np.arange(2000) + 0.5) / 2000
    chain = np.zeros((16, 16))
    for now, new in itertools.product(range(16), repeat=2):
        taken = [
            judge.metropolis(
                [losses[new]],
                [energies[new]],
                loss=losses[now],
                energy=energies[now],
                temperature=temperature,
                uniforms=[u],
            )
            == 0
            for u in grid
        ]
        chain[now, new] += proposal[new] * np.mean(taken)
        chain[now, now] += proposal[new] * (1 - np.mean(taken))
    truth = np.exp(-(losses - losses.min()) / temperature)
    truth /= truth.sum()
    assert np.abs(truth @ chain - truth).max() < 1e-3  # the grid of uniforms resolves acceptances to 1/2000
    assert np.abs(proposal @ chain - proposal).max() > 5e-3  # a chain that kept the surrogate's would not do


class Broken:
    """A sampler that fails in the way it is told to."""

    name, draws_at_temperature, parameters = "broken", True, {}

    def __init__(self, how):
        self.how = how

    def sample_arrays(self, qubo, *, num_reads=1, seed=None, temperature=None, initial_states=None):
        n = qubo.n
        if self.how == "raises":
            raise RuntimeError("no luck")
        if self.how == "few variables":
            return Samples(torch.zeros(1, n - 1, dtype=torch.uint8), torch.zeros(1), {})
        if self.how == "none":
            return Samples(torch.zeros(0, n, dtype=torch.uint8), torch.zeros(0), {})
        if self.how == "values":
            return Samples(torch.full((1, n), 7, dtype=torch.uint8), torch.zeros(1), {})
        return Samples(torch.ones(1, n, dtype=torch.uint8), torch.full((1,), math.nan), {})


@pytest.mark.parametrize("how", ["raises", "few variables", "none", "values"])
def test_a_broken_sampler_is_recorded_and_moves_nothing(how):
    model = net()
    optimizer = optimizer_of(model, qa.QuboStep(Broken(how), refit=0))
    before = [p.detach().clone() for p in model.parameters()]
    record = optimizer.anneal()
    assert record.fallback and record.accepted == 0
    assert all(torch.equal(p, kept) for p, kept in zip(model.parameters(), before))
    for _ in range(3):  # the gradient steps go on
        optimizer.zero_grad()
        functional.cross_entropy(model(data()[0]), data()[1]).backward()
        optimizer.step()
    assert "fell back" in optimizer.summary()
    assert issubclass(SamplerError, RuntimeError)


def test_a_sampler_that_lies_about_energies_is_judged_by_the_qubo():
    optimizer = optimizer_of(net(), qa.QuboStep(Broken("nan"), temperature=0.05))
    record = optimizer.anneal()
    assert math.isfinite(record.predicted) and math.isfinite(record.loss_after)


def test_a_nonfinite_objective_is_recorded_and_moves_nothing():
    model = net()
    inputs, targets = data()
    inputs[0, 0] = math.nan
    optimizer = optimizer_of(model, qa.DirectStep(), samples=(inputs, targets))
    before = [p.detach().clone() for p in model.parameters()]
    record = optimizer.anneal()
    assert "objective" in record.fallback
    assert all(torch.equal(p, kept) for p, kept in zip(model.parameters(), before))


def test_windows_move_continuous_weights_and_adapt_their_radius():
    model = net()
    step = qa.QuboStep("exact", proposals=6, variables=12, temperature=0.0, num_reads=4, refit=0)
    optimizer = optimizer_of(model, step, qa.Window(bits=3, radius=0.2))
    start = float(optimizer.objective())
    values = [start]
    for _ in range(30):
        record = optimizer.anneal()
        values.append(record.loss_after)
    assert values == sorted(values, reverse=True) and values[-1] < 0.9 * start
    assert {encoded.radius for encoded in optimizer._encoded} != {0.2}


@pytest.mark.parametrize("bits", [1, 2])
def test_the_qubo_of_a_window_foresees_its_displacements(bits):
    """One bit a weight is no move a bit: its bit is set where nothing moves."""
    optimizer = optimizer_of(net(), qa.QuboStep("exact"), qa.Window(bits=bits, radius=1e-3))
    view, objective = view_of(optimizer), optimizer.objective
    with objective.frozen():
        evaluator = Evaluators()(view, objective)
        loss = view.begin(evaluator.value)[1]
        moves = view.propose(evaluator.gradients(), 3, 0.0, torch.Generator())
        moves = moves.select(moves.owner == 0)
        block = Block.of_window(view.encoded[0], moves)
        qubo = evaluator.qubo(block, "ggn")
        strings = torch.tensor(list(itertools.product([0, 1], repeat=len(block.present))), dtype=torch.uint8)
        changes = np.array(evaluator.losses([block.decode(row) for row in strings])) - loss
    foreseen = (qubo.energies(strings) - qubo.energies(block.present)).numpy()
    assert np.abs(changes).max() > 1e-4
    np.testing.assert_allclose(foreseen, changes, atol=0.01 * np.abs(changes).max())


def test_masks_keep_their_density_and_zeros():
    for step in (qa.DirectStep(proposals=6), qa.QuboStep("exact", proposals=6, temperature=0.02)):
        model = net()
        optimizer = optimizer_of(model, step, qa.Mask(0.25), schedule=qa.Every(2))
        for _ in range(9):
            optimizer.zero_grad()
            functional.cross_entropy(model(data()[0]), data()[1]).backward()
            optimizer.step()
        assert int((model[0].weight != 0).sum()) == 5 and int((model[2].weight != 0).sum()) == 3


def test_l0_buys_zeros():
    counts = []
    for price in (0.0, 0.2):
        model = net()
        step = qa.QuboStep("exact", proposals=12, variables=12, temperature=0.0, num_reads=8, l0=price)
        optimizer = optimizer_of(model, step, qa.Levels.ternary())
        for _ in range(8):
            optimizer.anneal()
        counts.append(sum(int((p != 0).sum()) for p in (model[0].weight, model[2].weight)))
    assert counts[1] < counts[0]


@pytest.mark.parametrize("more", [0, 1])
def test_compiled_code_keeps_no_copies_of_many_weights(more, monkeypatch):
    optimizer = optimizer_of(net(), qa.DirectStep())
    weights = sum(p.numel() for p in optimizer.objective.model.parameters() if p.ndim > 1)
    monkeypatch.setattr(compiled, "MOST_BYTES", 16 * weights - more)
    kind = type(Evaluators()(view_of(optimizer), optimizer.objective))
    assert kind is (Evaluator if more else CompiledEvaluator)


@pytest.mark.parametrize("more", [0, 1])
def test_rounds_of_many_weights_take_a_call_each(more, monkeypatch):
    """One compiled call for all of them records every weight."""
    calls = []
    monkeypatch.setattr(compiled, "anneal", lambda *a, whole=compiled.anneal: calls.append(1) or whole(*a))
    optimizer = optimizer_of(net(), qa.DirectStep(proposals=4, rounds=3, refit=1))
    weights = sum(p.numel() for p in optimizer.objective.model.parameters() if p.ndim > 1)
    monkeypatch.setattr(compiled, "MOST_BYTES", 104 * weights - more)
    record = optimizer.anneal()
    assert record.candidates == 12 and len(calls) == 1 - more


@pytest.mark.parametrize("encoding", [qa.Levels.binary(), qa.Mask(0.5)], ids=["levels", "mask"])
@pytest.mark.parametrize("undone", [False, True])
def test_a_stack_follows_a_refit(encoding, undone, monkeypatch):
    """Also one that trains torch's parameters, and one that is undone: the next round is judged at what is left."""
    model = net()
    optimizer = optimizer_of(model, qa.DirectStep(), encoding)
    view, objective = view_of(optimizer), optimizer.objective
    evaluator = Evaluators()(view, objective)
    assert isinstance(evaluator, CompiledEvaluator)
    evaluator.begin(0)
    before = evaluator.loss
    if undone:
        monkeypatch.setattr(compiled, "LR", 50.0)
        train = view.train
        monkeypatch.setattr(view, "train", lambda *grads: train(*grads, lr=50.0))
    after = evaluator.refit(3, 0.0)
    assert (after == before) if undone else (after < before)
    weights = [encoded.param for encoded in view.encoded]
    _, expected = objective.gradient(weights)
    for found, true in zip(evaluator.gradients(), expected):
        torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-6)


def test_a_users_own_loss_and_a_dataloader_go_the_general_way():
    model = net(outputs=1)

    def quartic(outputs, targets):
        return (outputs[:, 0] - targets).pow(4).mean()

    inputs, targets = data()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(inputs, targets.float()), batch_size=16, shuffle=True
    )
    optimizer = optimizer_of(model, [qa.DirectStep(proposals=8), qa.QuboStep(proposals=8)], None, quartic, loader)
    for _ in range(4):
        record = optimizer.anneal()
        assert not record.fallback and record.loss_after <= record.loss_before + 1e-6


def test_smoothing_needs_a_cross_entropy():
    samples = (data()[0], functional.one_hot(data()[1], 3).float())
    optimizer = optimizer_of(net(), qa.DirectStep(smoothing=0.1), None, functional.mse_loss, samples)
    with pytest.raises(ValueError, match=r"Invalid smoothing: 0\.1"):
        optimizer.anneal()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: qa.DirectStep(proposals=-1), "proposals: -1"),
        (lambda: qa.DirectStep(proposals=0), "proposals: 0"),
        (lambda: qa.DirectStep(sweeps=1.5), "sweeps: 1.5"),
        (lambda: qa.DirectStep(smoothing=1.0), "smoothing: 1.0"),
        (lambda: qa.DirectStep(temperature=-1.0), "temperature: -1.0"),
        (lambda: qa.DirectStep(temperature_unit="kelvin"), "temperature_unit: 'kelvin'"),
        (lambda: qa.QuboStep("unheard of"), "sampler: 'unheard of'"),
        (lambda: qa.QuboStep(curvature="flat"), "curvature: 'flat'"),
        (lambda: qa.QuboStep(subset="all"), "subset: 'all'"),
        (lambda: qa.QuboStep(variables=0), "variables: 0"),
        (lambda: qa.QuboStep(num_reads=0), "num_reads: 0"),
        (lambda: qa.QuboStep(l0=-1.0), "l0: -1.0"),
    ],
)
def test_bad_options_are_named(make, named):
    with pytest.raises(ValueError, match="Invalid " + named.replace("(", r"\(")):
        make()


def test_direct_refuses_windows():
    optimizer = optimizer_of(net(), qa.DirectStep(), qa.Window(2, 0.1))
    with pytest.raises(ValueError, match="Invalid encoding: Window"):
        optimizer.anneal()


def test_a_relative_temperature_needs_a_positive_objective():
    optimizer = optimizer_of(net(), qa.DirectStep(), loss=lambda o, t: functional.cross_entropy(o, t) - 100)
    with pytest.raises(ValueError, match="Invalid temperature_unit"):
        optimizer.anneal()


def test_the_view_is_what_a_users_own_step_needs():
    class Best:
        name = "one flip"

        def __call__(self, view: View, objective, generator):
            before, loss = view.begin(lambda: float(objective()))
            _, grads = objective.gradient([encoded.param for encoded in view.encoded])
            moves = view.propose(grads, 1, 0.0, generator)
            back = view.apply(moves)
            after = float(objective())
            if after >= loss:
                view.apply(back)
                after = loss
            return qa.AnnealRecord(view.step, self.name, loss_before=before, loss_after=after)

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    optimizer = optimizer_of(net(), Best())
    losses = [optimizer.anneal().loss_after for _ in range(5)]
    assert losses == sorted(losses, reverse=True)


def rounds_of(encoding, loss=functional.cross_entropy, samples=None, **options):
    """A small stack after one call of compiled rounds, what it was judged by, and the record."""
    model = net()
    optimizer = optimizer_of(model, qa.DirectStep(proposals=8, rounds=6, **options), encoding, loss, samples)
    return model, optimizer, optimizer.anneal()


@pytest.mark.parametrize("name", ["binary", "ternary", "3bit"])
@pytest.mark.parametrize("temperature", [0.0, (0.1, 0.01)])
def test_compiled_rounds_leave_legal_weights_and_the_loss_they_tell(name, temperature):
    model, optimizer, record = rounds_of(ENCODINGS[name], temperature=temperature, refit=3)
    for p in model.parameters():
        if p.ndim > 1:
            codes, scale = optimizer.codes(p)
            values = torch.tensor(ENCODINGS[name].values)
            assert torch.equal(p.detach(), values[codes] * scale)
    assert record.candidates == 48 and 0 < record.accepted <= 48
    now = float(optimizer.objective())
    if temperature == 0.0:
        assert now == pytest.approx(record.loss_after, rel=1e-5)
        assert record.loss_after < record.loss_before and record.actual < 0
    else:  # a call of its own ends at the best state of its rounds
        assert now <= min(record.loss_after, record.loss_before) + 1e-6


def test_compiled_rounds_with_a_fixed_scale_and_squares():
    inputs, targets = data()
    scale = torch.tensor(0.7)
    samples = inputs, functional.one_hot(targets, 3).float()
    encoding = qa.Levels.binary(scale=scale)
    model, optimizer, record = rounds_of(encoding, functional.mse_loss, samples, temperature=0.0, refit=2)
    assert record.loss_after < record.loss_before
    assert float(optimizer.objective()) == pytest.approx(record.loss_after, rel=1e-5)
    assert all(torch.equal(p.detach().abs(), torch.full_like(p, 0.7)) for p in model.parameters() if p.ndim > 1)


def test_compiled_rounds_repeat_bit_for_bit_and_go_as_far_as_single_calls():
    one, two = (rounds_of(ENCODINGS["binary"], temperature=(0.1, 0.01))[0] for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters()))
    many, single = [], []
    for seed in range(12):
        for kept, step, calls in ((many, {"rounds": 10}, 1), (single, {}, 10)):
            model = net(seed)
            schedule = qa.Every(1, stop=calls)
            annealing = qa.DirectStep(proposals=8, temperature=(0.05, 0.005), **step)
            optimizer = optimizer_of(model, annealing, schedule=schedule)
            for _ in range(calls):
                optimizer.step()
            kept.append(float(optimizer.objective()))
    assert np.mean(many) == pytest.approx(np.mean(single), rel=0.15)


def test_rounds_on_the_general_path():
    model = Opaque(net())
    optimizer = optimizer_of(model, qa.DirectStep(proposals=8, rounds=3, sweeps=1, temperature=0.0))
    record = optimizer.anneal()
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert record.candidates == 3 * (8 + weights)
    assert record.loss_after < record.loss_before


def test_best_first_is_a_sort():
    import numba

    from qanneal_opt.steps import kernels_rounds

    best_first = numba.njit(kernels_rounds.best_first.py_func)  # the kernel itself has no door to Python
    scores = np.random.default_rng(0).normal(size=200).astype(np.float32)
    scores[::7] = np.inf
    for room in (1, 13, 171, 200):
        picked = np.empty(room, np.int64)
        count = best_first(scores, picked)
        assert np.array_equal(picked[:count], np.argsort(scores)[: min(room, np.isfinite(scores).sum())])


# --- Blocks side by side ----------------------------------------------------------------------------------------


def test_blocks_built_at_the_same_weights_leave_the_joint_distribution_invariant():
    """Two blocks, the surrogate of the second built before the first is judged: by enumeration of all 16 states."""
    model, temperature = net(), 0.05
    optimizer = optimizer_of(model, qa.QuboStep("exact"))
    view, objective = view_of(optimizer), optimizer.objective
    strings = torch.tensor(list(itertools.product([0, 1], repeat=4)), dtype=torch.uint8)
    with objective.frozen():
        evaluator = Evaluators()(view, objective)
        view.begin(evaluator.value)
        moves = view.propose(evaluator.gradients(), 4, 0.0, torch.Generator())
        qubos = [evaluator.qubo(Block(part), "ggn") for part in moves.blocks(2)]
        losses = np.array(evaluator.losses([moves.select(row.bool()) for row in strings]))
    truth = np.exp(-(losses - losses.min()) / temperature)
    truth /= truth.sum()
    grid, after, sampled = (np.arange(2000) + 0.5) / 2000, truth, truth
    for place, qubo in enumerate(qubos):
        mine = strings[:, 2 * place : 2 * place + 2]  # of each state
        energies = qubo.energies(mine).numpy()
        others = strings[:, 2 - 2 * place : 4 - 2 * place]
        chain, blind = np.zeros((16, 16)), np.zeros((16, 16))
        for now in range(16):
            reachable = [new for new in range(16) if torch.equal(others[new], others[now])]
            proposal = np.exp(-(energies[reachable] - energies[reachable].min()) / temperature)
            for new, chance in zip(reachable, proposal / proposal.sum()):
                given = {"loss": losses[now], "energy": energies[now], "temperature": temperature}
                taken = np.mean(
                    [judge.metropolis([losses[new]], [energies[new]], uniforms=[u], **given) == 0 for u in grid]
                )
                chain[now, new] += chance * taken
                chain[now, now] += chance * (1 - taken)
                blind[now, new] += chance
        after, sampled = after @ chain, sampled @ blind
    assert np.abs(after - truth).max() < 1e-3  # the grid of uniforms resolves acceptances to 1/2000
    assert np.abs(sampled - truth).max() > 5e-3  # without the judge it is another distribution


class Counting(qa.samplers.Annealer):
    """Counts calls and the problems of each."""

    def __init__(self):
        super().__init__(threads=1)
        self.asked = []

    def sample_arrays(self, qubo, **arguments):
        self.asked.append(qubo.batch or 1)
        return super().sample_arrays(qubo, **arguments)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("proposals", "asked"), [(8, [2]), (12, [3]), (7, [1, 1]), (4, [1])])
@pytest.mark.parametrize("temperature", [0.05, 0.0])
def test_blocks_of_one_size_go_in_one_call(asynchronous, proposals, asked, temperature):
    seat, model = Counting(), net()
    options = {"proposals": proposals, "variables": 4, "temperature": temperature, "num_reads": 2}
    step = qa.QuboStep(seat, side_by_side=True, asynchronous=asynchronous, **options)
    optimizer = optimizer_of(model, step, schedule=qa.Every(1, stop=3))
    for _ in range(3):
        functional.cross_entropy(model(data()[0]), data()[1]).backward()
        optimizer.step()
    assert seat.asked == 3 * asked
    records = [record for record in optimizer.records if record.candidates]
    assert len(records) == 3 and all(record.variables == proposals for record in records)
    assert sum(record.accepted for record in records) > 0
    before, after = records[-1].loss_before, records[-1].loss_after
    assert temperature or after <= before + 1e-6


def test_one_block_is_asked_for_as_ever():
    ends = []
    for options in ({}, {"side_by_side": True}):
        model = net()
        optimizer = optimizer_of(model, qa.QuboStep("annealer", proposals=6, **options))
        for _ in range(3):
            optimizer.anneal()
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends))


def test_a_part_of_a_batch_has_what_was_told_of_it():
    told = [{"scale": 1.0, "temperature": 0.1}, {"scale": 2.0, "temperature": 0.3}]
    info = {"sampler": "qpu", "temperature": [0.1, 0.3], "problems": told, "qpu_access_time": 0.5}
    batch = Samples(torch.zeros(2, 3, 4, dtype=torch.uint8), torch.arange(6.0).view(2, 3), info)
    part = batch.problem(1)
    assert part.bits.shape == (3, 4) and part.energies.tolist() == [3.0, 4.0, 5.0]
    assert part.info == {"sampler": "qpu", "temperature": 0.3, "scale": 2.0, "qpu_access_time": 0.25}
    plain = Samples(batch.bits, batch.energies, {"sampler": "annealer", "temperature": None}).problem(0)
    assert plain.info == {"sampler": "annealer", "temperature": None}
