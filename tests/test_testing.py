"""The checks that we ship pass what is ours, and catch what is broken."""

import copy
import dataclasses
import random

import dimod
import numpy as np
import pytest
import torch
from torch import nn

import qanneal_opt as qa
from qanneal_opt.encoding.encoded_levels import EncodedLevels
from qanneal_opt.encoding.mask import EncodedMask
from qanneal_opt.samplers import resolve
from qanneal_opt.testing import assert_encoding, assert_sampler, assert_step

# ------------------------------------------------------------------------------------------- samplers


@pytest.mark.parametrize("name", ["annealer", "tabu", "greedy", "exact", "dwave-sa", "sqa"])
def test_our_samplers_pass(name):
    assert_sampler(name)
    assert_sampler(resolve(name))


@pytest.mark.parametrize("sampler", [dimod.ExactSolver(), dimod.RandomSampler()], ids=["exact", "random"])
def test_samplers_of_dimod_pass(sampler):
    assert_sampler(sampler, reproducible=not isinstance(sampler, dimod.RandomSampler))


class Sound:
    """An exact sampler of one's own: draws at a temperature from the list of all states."""

    draws_at_temperature = True

    def sample_arrays(self, qubo, *, num_reads, seed, temperature=None):
        return self.spoilt(
            resolve("exact").sample_arrays(qubo, num_reads=num_reads, seed=seed, temperature=temperature)
        )

    def spoilt(self, samples):
        return samples


def spoilt(**changes):
    """A sampler whose samples have something else in place of one of their parts."""

    class Spoilt(Sound):
        def spoilt(self, samples):
            new = {name: change(getattr(samples, name)) for name, change in changes.items()}
            return dataclasses.replace(samples, **new)

    return Spoilt()


class Unseeded(Sound):
    def __init__(self):
        self.seeds = iter(range(1000))

    def sample_arrays(self, qubo, *, num_reads, seed, temperature=None):
        return super().sample_arrays(qubo, num_reads=num_reads, seed=next(self.seeds), temperature=1.0)


class Global(Sound):
    def spoilt(self, samples):
        random.random()
        return samples


class Cold(Sound):
    """Minimises whatever temperature is asked for, and does not say so."""

    def sample_arrays(self, qubo, *, num_reads, seed, temperature=None):
        return super().sample_arrays(qubo, num_reads=num_reads, seed=seed)


class Half(Sound):
    """Draws at half the temperature."""

    def sample_arrays(self, qubo, *, num_reads, seed, temperature=None):
        half = temperature and temperature / 2
        return super().sample_arrays(qubo, num_reads=num_reads, seed=seed, temperature=half)


class Writer(Sound):
    def sample_arrays(self, qubo, *, num_reads, seed, temperature=None):
        found = super().sample_arrays(qubo, num_reads=num_reads, seed=seed, temperature=temperature)
        qubo.linear.zero_()
        return found


class Raising(Sound):
    def sample_arrays(self, qubo, *, num_reads, seed, temperature=None):
        raise qa.samplers.SamplerError("the machine is away")


class WrongEnergies(dimod.ExactSolver):
    def sample(self, bqm, **parameters):
        return super().sample(2 * bqm, **parameters)


def test_a_sampler_of_ones_own_passes():
    assert_sampler(Sound())


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        (spoilt(energies=lambda e: e.float()), r"energies .* are torch\.float32"),
        (spoilt(energies=lambda e: e + 1), r"energies .*; those of the bits are"),
        (spoilt(energies=lambda e: e[..., 0]), r"energies .* have shape"),
        (spoilt(energies=lambda e: e.flip(-1), bits=lambda b: b.flip(-2)), "not in ascending order"),
        (spoilt(bits=lambda b: b.long()), r"bits .* are torch\.int64"),
        (spoilt(bits=lambda b: b + 1), r"bits .* hold 2"),
        (spoilt(bits=lambda b: b[..., :-1]), r"bits .* have shape"),
        (spoilt(bits=lambda b: torch.cat([b] * 9, -2)), "have shape"),
        (Unseeded(), "other bits for the same seed"),
        (Global(), "touches the global random numbers of Python"),
        (Cold(), r"draws .* at T = 0\.5 .*away from exp\(-E/T\)/Z"),
        (Half(), r"draws .* at T = .*away from exp\(-E/T\)/Z"),
        (Writer(), "energies|changed the QUBO"),
        (Raising(), "the machine is away"),
        (WrongEnergies(), "or on its energies: "),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "sample") else None,
)
def test_broken_samplers_are_caught(sampler, reason):
    with pytest.raises(AssertionError, match=f"(?s){reason}"):
        assert_sampler(sampler)


# ------------------------------------------------------------------------------------------ encodings

ENCODINGS = [
    qa.Levels.binary(),
    qa.Levels.ternary(scale="tensor"),
    qa.Levels.uniform(4),
    qa.Levels((1, 2, 5)),
    qa.Levels((0, 1), scale=torch.tensor(0.3)),
    qa.Mask(0.3),
    qa.Mask(0.3, steps=4),
    qa.Mask(1.0),
    qa.Window(1, 0.5),
    qa.Window(3, 0.01),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_our_encodings_pass(encoding, dtype):
    g = torch.Generator().manual_seed(0)
    for shape in ((6, 5), (7,), (), (3, 2, 2)):
        param = torch.randn(shape, generator=g).to(dtype)
        before = param.clone()
        assert_encoding(encoding, param)
        assert torch.equal(param, before)
    assert_encoding(encoding, torch.randn(3, 2, 4, 4, generator=g).to(dtype, memory_format=torch.channels_last))


TERNARY = qa.Levels.ternary()


def broken(kind=EncodedLevels, encoding=TERNARY, **methods):
    """An encoding whose state has methods of its own, each given the sound one first."""

    def wrap(name, method):
        return lambda self, *args: method(self, getattr(super(state, self), name), *args)

    state = type("Broken", (kind,), {name: wrap(name, method) for name, method in methods.items()})

    class Encoding:
        def attach(self, param, owner):
            return state(encoding, param, owner)

        def spec(self):
            return {"kind": "broken"}

    return Encoding()


def move_twice(self, sweep, generator):
    moves = sweep(generator)
    return qa_moves.join([moves, moves])


qa_moves = type(qa.Levels.binary().attach(torch.ones(1), 0).sweep(torch.Generator()))


def changed(moves, **columns):
    return dataclasses.replace(moves, **{name: change(getattr(moves, name)) for name, change in columns.items()})


def global_noise(self, propose, gradient, *rest):
    np.random.rand()  # noqa: NPY002
    return propose(gradient, *rest)


def sloppy_commit(self, commit, moves):
    commit(moves)
    with torch.no_grad():
        self.param.mul_(1 + 1e-6)


def unsaved(self, tensors):
    return {name: tensor for name, tensor in tensors().items() if name != "scale"}


def forgetful(self, load, tensors):
    load({**tensors, "codes": torch.zeros_like(tensors["codes"])})


def drifting(self, after_base):
    with torch.no_grad():
        self.param.add_(1.0)


BROKEN = {
    "a weight stands in two moves": dict(sweep=move_twice),
    "name another owner": dict(sweep=lambda s, f, g: changed(f(g), owner=lambda o: o + 1)),
    "start of the moves": dict(sweep=lambda s, f, g: changed(f(g), start=lambda t: t[:-1])),
    "displacements are": dict(sweep=lambda s, f, g: changed(f(g), displacement=lambda d: -d)),
    "index of the moves is torch.int32": dict(sweep=lambda s, f, g: changed(f(g), index=lambda i: i.int())),
    "not finite": dict(sweep=lambda s, f, g: changed(f(g), value=lambda v: v / 0)),
    "sweep.. gave other moves": dict(sweep=lambda s, f, g: f(torch.Generator().manual_seed(random.getrandbits(20)))),
    "propose.. gave other moves": dict(propose=lambda s, f, grad, c, t, g, m: f(grad, c, t, s.generator, m)),
    "moves a weight that is not allowed": dict(propose=lambda s, f, grad, c, t, g, m: f(grad, c, t, g, None)),
    "moves where 3 were wanted": dict(propose=lambda s, f, grad, c, t, g, m: f(grad, 9, t, g, m)),
    "scores are not in ascending order": dict(propose=lambda s, f, *a: (f(*a)[0], f(*a)[1].flip(0))),
    "scores at T = 0": dict(propose=lambda s, f, *a: (f(*a)[0], f(*a)[1] - 1)),
    "global random numbers of numpy": dict(propose=global_noise),
    "commit.. wrote other weights": dict(commit=sloppy_commit),
    "codes after commit": dict(codes_at=lambda s, f, index: f(index) * 0),
    "bit for bit, after commit.moves. and commit.inverse.": dict(
        inverse=lambda s, f, moves: changed(f(moves), target=lambda t: t * 0)
    ),
    "values_after.moves. are": dict(values_after=lambda s, f, moves: -f(moves)),
    "a base step that changes nothing": dict(after_base=drifting),
    "restore.snapshot. gave other weights": dict(restore=lambda s, f, snapshot: None),
    "bit for bit, after load": dict(load=forgetful),
    "changed weights": dict(begin=lambda s, f: not f()),
}


@pytest.mark.parametrize("reason", BROKEN, ids=str)
def test_broken_encodings_are_caught(reason):
    EncodedLevels.generator = torch.Generator()
    try:
        with pytest.raises(AssertionError, match=reason):
            assert_encoding(broken(**BROKEN[reason]), torch.randn(6, 5, generator=torch.Generator().manual_seed(0)))
    finally:
        del EncodedLevels.generator


def test_a_mask_that_loses_a_value_is_caught():
    def commit(self, sound, moves):
        sound(moves)
        self.aside.zero_()

    encoding = broken(EncodedMask, qa.Mask(0.5), commit=commit)
    with pytest.raises(AssertionError, match="not the same, bit for bit"):
        assert_encoding(encoding, torch.randn(6, 5))


def test_a_spec_has_to_be_plain():
    encoding = broken()
    encoding.spec = lambda: {"scale": torch.ones(2)}
    with pytest.raises(AssertionError, match=r"spec\(\) is no plain data"):
        assert_encoding(encoding, torch.randn(4))


# ---------------------------------------------------------------------------------------------- steps


def problem(encoding, loss=nn.functional.mse_loss, activation=nn.Tanh):
    """An optimizer over a small regression with all weight matrices encoded."""

    def make(step):
        g = torch.Generator().manual_seed(1)
        model = nn.Sequential(nn.Linear(5, 4), activation(), nn.Dropout(0.3), nn.Linear(4, 2))
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape, generator=g) / 2)
        data = torch.randn(30, 5, generator=g), torch.randn(30, 2, generator=g)
        matrices = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim < 2]
        return qa.AnnealingOptimizer(
            [{"params": matrices, "encoding": encoding}, {"params": rest}],
            objective=qa.Objective(model, loss, data),
            annealing=step,
        )

    return make


def small(kind, **options):
    return kind(proposals=8, refit=2, **options)


@pytest.mark.parametrize("temperature", [0.0, (0.1, 0.01)], ids=["cold", "hot"])
@pytest.mark.parametrize("kind", [qa.DirectStep, qa.QuboStep])
def test_our_steps_pass(kind, temperature):
    assert_step(small(kind, temperature=temperature))


@pytest.mark.parametrize("temperature", [0.0, (0.1, 0.01)], ids=["cold", "hot"])
@pytest.mark.parametrize("encoding", [qa.Levels.uniform(2), qa.Mask(0.5), qa.Window(2, 0.1)], ids=str)
def test_our_steps_pass_on_other_problems(encoding, temperature):
    options = dict(temperature=temperature, temperature_unit="absolute")
    l0 = 0.0 if isinstance(encoding, qa.Window) else 1e-3
    assert_step(small(qa.QuboStep, l0=l0, num_reads=3, **options), make=problem(encoding), calls=2)
    if not isinstance(encoding, qa.Window):
        step = small(qa.DirectStep, sweeps=1, **options)
        assert_step(step, make=problem(encoding, activation=nn.Mish), calls=2)


class Plain:
    """A sound step of one's own: one sweep, kept if it helps."""

    name = "plain"

    def __call__(self, view, objective, generator):
        before, loss = view.begin(lambda: float(objective()))
        moves = self.moves(view, generator)
        back = view.apply(moves)
        after = float(objective())
        if after >= loss:
            view.apply(back)
            after = loss
        return self.record(qa.AnnealRecord(view.step, self.name, loss_before=before, loss_after=after))

    def moves(self, view, generator):
        return view.sweep(generator)

    def record(self, record):
        return record

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def replaced(**fields):
    class Replaced(Plain):
        def record(self, record):
            return dataclasses.replace(record, **fields)

    return Replaced()


class Nameless(Plain):
    name = None


class Scribbler(Plain):
    """Writes weights past their encoding."""

    def record(self, record):
        with torch.no_grad():
            self.param.add_(0.01)
        return record

    def moves(self, view, generator):
        self.param = view.encoded[0].param
        return view.sweep(generator)


class Grads(Plain):
    def record(self, record):
        self.param.grad = None
        return record

    def moves(self, view, generator):
        self.param = view.encoded[0].param
        return view.sweep(generator)


class Own(Plain):
    """A generator that nobody seeds."""

    def moves(self, view, generator):
        return view.sweep(torch.Generator().manual_seed(random.SystemRandom().getrandbits(30)))


class TorchGlobal(Plain):
    def moves(self, view, generator):
        return view.sweep(torch.default_generator)


class Counting(Plain):
    """Remembers how often it was called, and keeps it to itself."""

    def __init__(self):
        self.calls = 0

    def moves(self, view, generator):
        self.calls += 1
        moves = view.sweep(generator)
        return moves.select(torch.arange(len(moves)) % 3 < self.calls)


class Telling(Counting):
    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Tensorial(Plain):
    def state_dict(self):
        return {"history": torch.ones(2)}


class Uphill(Plain):
    """Takes a sweep whatever it does, and reports what would look good."""

    def __call__(self, view, objective, generator):
        before, _ = view.begin(lambda: float(objective()))
        view.apply(view.sweep(generator))
        return qa.AnnealRecord(view.step, self.name, loss_before=before, loss_after=before / 2)


@pytest.mark.parametrize("step", [Plain(), Telling()], ids=["plain", "telling"])
def test_a_step_of_ones_own_passes(step):
    before = copy.deepcopy(vars(step))
    assert_step(step)
    assert vars(step) == before


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Nameless(), "name is None; a string"),
        (replaced(strategy="other"), "strategy is 'other'; the step's name is 'plain'"),
        (replaced(sampler_info={"x": torch.ones(1)}), "the record is no plain data"),
        (replaced(predicted=float("nan")), "the record is no plain data"),
        (replaced(accepted=torch.tensor(1)), "the record is no plain data"),
        (replaced(accepted=-1), "accepted is -1"),
        (replaced(seconds={"model": 1.0}), "seconds are of"),
        (replaced(fallback="no gradient"), "fell back: no gradient"),
        (replaced(loss_after=99.0), "rose from .* to 99.0"),
        (Uphill(), "loss_after is .*, and the objective is"),
        (Scribbler(), r"weights are not levels\[codes\] . scale"),
        (Grads(), "touches .grad"),
        (Own(), "from the same seed|with the same seed"),
        (TorchGlobal(), "the same seed"),
        (Counting(), "from a checkpoint of call 0"),
        (Tensorial(), r"state_dict\(\) is no plain data"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Plain) else None,
)
def test_broken_steps_are_caught(step, reason):
    with pytest.raises(AssertionError, match=reason):
        assert_step(step)
