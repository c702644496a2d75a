"""Saving, loading, copying: training goes on to the bit, whatever the road."""

import copy
import io
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    _init_optim_state,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.optimizer import AnnealingOptimizer
from tests.toys import Idle, exact, groups, loss_of, make, net, same, train, weights

CASES = {
    "binary": make,
    "ternary, sgd": lambda model, **kw: make(model, qa.Levels.ternary(), base=torch.optim.SGD, **kw),
    "two bits, one scale": lambda model, **kw: make(model, qa.Levels.uniform(2, scale="tensor"), **kw),
    "fixed scale": lambda model, **kw: make(model, qa.Levels.binary(scale=torch.tensor(0.5)), **kw),
    "mask": lambda model, **kw: make(model, qa.Mask(0.4), **kw),
    "window": lambda model, **kw: make(model, qa.Window(2, 0.1), annealing=small_qubo(), **kw),
    "qubo": lambda model, **kw: make(model, annealing=small_qubo(), **kw),
    "asynchronous": lambda model, **kw: make(model, annealing=small_qubo(asynchronous=True), **kw),
    "asynchronous, lag": lambda model, **kw: make(model, annealing=small_qubo(asynchronous=True, lag=1), **kw),
    "asynchronous mask": lambda model, **kw: make(model, qa.Mask(0.4), annealing=small_qubo(asynchronous=True), **kw),
    "asynchronous window": lambda model, **kw: make(
        model, qa.Window(2, 0.1), annealing=small_qubo(asynchronous=True), **kw
    ),
    "compiled": lambda model, **kw: make(model, loss=functional.cross_entropy, **kw),
}


def small_qubo(**options):
    return qa.QuboStep(sampler="exact", proposals=6, variables=3, refit=2, **options)


def saved(thing):
    """What a file keeps of it, read as torch reads it by default."""
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def keys(tree, prefix=""):
    """The names of all tensors in nested containers, with their shapes and dtypes."""
    if isinstance(tree, dict):
        return {name for k, v in tree.items() for name in keys(v, f"{prefix}/{k}")}
    return {(prefix, tuple(tree.shape), tree.dtype)} if isinstance(tree, torch.Tensor) else set()


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for k, v in tree.items() for leaf in (*leaves(k), *leaves(v))]
    if isinstance(tree, (list, tuple)):
        return [leaf for v in tree for leaf in leaves(v)]
    return [tree]


# --- Every way out and back in ------------------------------------------------------------------------------


def by_file(model, optimizer, folder, build):
    new = net(1)
    fresh = build(new)
    state = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    new.load_state_dict(state["model"])
    fresh.load_state_dict(state["optimizer"])
    return new, fresh


def model_last(model, optimizer, folder, build):
    new = net(1)
    fresh = build(new)
    fresh.load_state_dict(saved(optimizer.state_dict()))
    new.load_state_dict(model.state_dict())
    return new, fresh


def into_a_used_one(model, optimizer, folder, build):
    """A rollback: what the other run had by then is forgotten."""
    state = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    new = net(1)
    used = build(new)
    train(new, used, 7)
    new.load_state_dict(state["model"])
    used.load_state_dict(state["optimizer"])
    return new, used


def by_deepcopy(model, optimizer, folder, build):
    return copy.deepcopy((model, optimizer))


def by_pickle(model, optimizer, folder, build):
    return pickle.loads(pickle.dumps((model, optimizer)))


def by_round_trip(model, optimizer, folder, build):
    optimizer.load_state_dict(optimizer.state_dict())
    return model, optimizer


def distributed(**options):
    def way(model, optimizer, folder, build):
        def parts(model, optimizer):
            state = get_optimizer_state_dict(model, optimizer, options=StateDictOptions(**options))
            return {"model": model.state_dict(), "optimizer": state}

        dcp.save(parts(model, optimizer), checkpoint_id=folder)
        new = net(1)
        fresh = build(new)
        state = parts(new, fresh)
        dcp.load(state, checkpoint_id=folder)
        new.load_state_dict(state["model"])
        set_optimizer_state_dict(new, fresh, state["optimizer"], options=StateDictOptions(**options))
        return new, fresh

    return way


def distributed_without_files(**options):
    def way(model, optimizer, folder, build):
        options_ = StateDictOptions(**options)
        state = saved(get_optimizer_state_dict(model, optimizer, options=options_))
        new = net(1)
        new.load_state_dict(model.state_dict())
        fresh = build(new)
        set_optimizer_state_dict(new, fresh, state, options=options_)
        return new, fresh

    return way


WAYS = {
    "file": by_file,
    "model last": model_last,
    "used": into_a_used_one,
    "deepcopy": by_deepcopy,
    "pickle": by_pickle,
    "round trip": by_round_trip,
    "distributed": distributed(),
    "distributed, flat": distributed(flatten_optimizer_state_dict=True),
    "distributed, full": distributed_without_files(full_state_dict=True, cpu_offload=True),
    "distributed, no files": distributed_without_files(),
    "distributed, flat, no files": distributed_without_files(flatten_optimizer_state_dict=True),
}
# Before the first step, in the warm-up, in the middle of a span (J0 and a best state), and after it.
MOMENTS = (0, 1, 3, 6, 9)
SPAN = qa.Every(2, start=1, stop=7)


def check(case, way, moment, schedule, folder, steps=12):
    def build(model):
        return CASES[case](model, schedule=schedule)

    whole, whole_optimizer = net(), None
    whole_optimizer = build(whole)
    train(whole, whole_optimizer, steps)
    model = net()
    optimizer = build(model)
    train(model, optimizer, moment)
    model, optimizer = way(model, optimizer, folder, build)
    train(model, optimizer, range(moment, steps))
    assert same(weights(model), weights(whole))
    ours, theirs = optimizer.state_dict(), whole_optimizer.state_dict()
    assert keys(ours) == keys(theirs)
    for place, values in theirs["state"].items():
        assert same(leaves_of(ours["state"][place]), leaves_of(values))
    for mine, other in zip(ours["param_groups"], theirs["param_groups"]):
        clocks = ("model", "sample", "judge", "clock", "wall", "cpu", "joules")
        timeless = [k for k in other if k not in [f"anneal_{clock}" for clock in clocks]]
        # As text: NaN equals NaN, and torch's own full state dict turns tuples into lists.
        assert json.dumps({k: mine[k] for k in timeless}) == json.dumps({k: other[k] for k in timeless})


def leaves_of(state):
    """Tensors in the order of their names: a dict's own order is no part of the promise."""
    if isinstance(state, dict):
        return [leaf for key in sorted(state) for leaf in leaves_of(state[key])]
    return [torch.as_tensor(state)]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("case", CASES)
def test_resume_to_the_bit_at_any_moment(case, moment, tmp_path):
    check(case, by_file, moment, SPAN, tmp_path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["binary", "mask", "ternary, sgd", "asynchronous"])
def test_resume_to_the_bit_on_every_road(case, way, tmp_path):
    check(case, WAYS[way], 4, SPAN, tmp_path, steps=9)


@pytest.mark.parametrize("way", ["file", "distributed", "distributed, flat"])
@pytest.mark.parametrize("moment", [1, 9])  # at 0 torch itself takes a step of the base, to have a state
def test_distributed_at_other_moments(moment, way, tmp_path):
    check("binary", WAYS[way], moment, SPAN, tmp_path)


@pytest.mark.parametrize("moment", [2, 5])
@pytest.mark.parametrize("schedule", [qa.Every(3), qa.OnPlateau(2, min_delta=0.05)])
@pytest.mark.parametrize("case", ["binary", "qubo"])
def test_resume_under_other_schedules(case, schedule, moment, tmp_path):
    check(case, by_file, moment, schedule, tmp_path)


def test_resume_when_annealing_came_before_the_first_gradient(tmp_path):
    """The base has never seen a gradient of the codes then; the names that are saved are the same all the same."""
    for way in (by_file, distributed(), distributed(flatten_optimizer_state_dict=True)):
        model = net()
        optimizer = make(model)
        optimizer.anneal()
        train(model, optimizer, 3)
        new, fresh = way(model, optimizer, tmp_path / way.__qualname__ / str(id(way)), make)
        assert keys(fresh.state_dict()) == keys(optimizer.state_dict())
        train(model, optimizer, 4)
        train(new, fresh, 4)
        assert same(weights(new), weights(model))


SCRIPT = """
import os, sys, torch
sys.path[:0] = sys.argv[2:]
import qanneal_opt as qa
from tests.toys import make, net, train

model = net()
optimizer = make(model, schedule=qa.Every(2, stop=8))
train(model, optimizer, 5)
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, sys.argv[1])
train(model, optimizer, range(5, 7))
os._exit(9)
"""


def test_a_killed_run_goes_on_from_its_last_file_in_another_process(tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "last.pt"), str(here), str(here.parent)]
    assert subprocess.run(command, check=False).returncode == 9

    def build(model):
        return make(model, schedule=qa.Every(2, stop=8))

    state = torch.load(tmp_path / "last.pt")
    model, whole = net(1), net()
    optimizer = build(model)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    train(model, optimizer, range(5, 10))
    train(whole, build(whole), 10)
    assert same(weights(model), weights(whole))


# --- What a torch optimizer owes its users: the rows about state --------------------------------------------


def test_load_state_dict_relinks_the_base():
    model = net()
    optimizer = make(model)
    train(model, optimizer, 3)
    optimizer.load_state_dict(saved(optimizer.state_dict()))
    assert optimizer.param_groups is optimizer._base.param_groups
    assert optimizer.state is optimizer._base.state
    assert optimizer.param_groups[0]["encoding"] == qa.Levels.binary()


def test_an_lr_scheduler_works_before_and_after_a_load():
    def run(interrupted):
        model = net()
        optimizer = AnnealingOptimizer(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        for step in range(4):
            if interrupted and step == 2:
                optimizer.load_state_dict(saved(optimizer.state_dict()))
                scheduler.load_state_dict(saved(scheduler.state_dict()))
            train(model, optimizer, [step])
            scheduler.step()
        return weights(model), optimizer._base.param_groups[0]["lr"]

    (whole, rate), (resumed, rate_) = run(False), run(True)
    assert rate == rate_ == 0.1 * 0.5**4
    assert same(whole, resumed)


def test_the_bases_own_repairs_of_old_checkpoints_run():
    model = net()
    optimizer = make(model)
    train(model, optimizer, 2)
    old = optimizer.state_dict()
    for group in old["param_groups"]:  # as torch 1.x wrote it: no amsgrad, steps as plain numbers
        del group["amsgrad"], group["maximize"]
    for state in old["state"].values():
        state["step"] = float(state["step"])
    optimizer.load_state_dict(old)
    assert all(group["amsgrad"] is False for group in optimizer.param_groups)
    assert all(isinstance(state["step"], torch.Tensor) for state in optimizer.state.values())
    train(model, optimizer, 1)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD, torch.optim.LBFGS])
def test_copies_have_all_of_the_base_and_go_on_alone(base, copier):
    """LBFGS keeps attributes of its own, which torch's __getstate__ would drop; an LR scheduler patches `step`."""
    model = net()
    optimizer = AnnealingOptimizer(model.parameters(), base, lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def go(model, optimizer, steps):
        for step in range(steps):

            def closure(step=step):
                optimizer.zero_grad()
                loss = loss_of(model, step)
                loss.backward()
                return loss

            optimizer.step(closure)

    go(model, optimizer, 2)
    model_, optimizer_ = copier((model, optimizer))
    assert "step" in optimizer.__dict__ and "step" not in optimizer_.__dict__
    assert optimizer_.param_groups is optimizer_._base.param_groups
    assert {id(p) for g in optimizer_.param_groups for p in g["params"]} == {id(p) for p in model_.parameters()}
    before = weights(model)
    go(model_, optimizer_, 2)
    assert same(before, weights(model))
    go(model, optimizer, 2)
    assert same(weights(model), weights(model_))
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] != optimizer_.param_groups[0]["lr"]


def test_no_key_of_state_is_anything_but_a_parameter():
    model = net()
    optimizer = make(model, schedule=qa.Every(1, stop=6))
    train(model, optimizer, 4)
    assert set(optimizer.state) == set(model.parameters())
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups"}
    assert set(state["state"]) == {0, 1, 2, 3}


def test_a_state_dict_holds_plain_values_only():
    model = net()
    optimizer = make(model, annealing=[qa.DirectStep(proposals=4, refit=1), Idle()], schedule=qa.Every(1, stop=6))
    train(model, optimizer, 4)
    state = optimizer.state_dict()
    kinds = {type(leaf) for leaf in leaves(state)}
    assert kinds <= {torch.Tensor, int, float, str, bool, type(None)}
    assert keys(saved(state)) == keys(state)


def test_names_do_not_depend_on_what_happened():
    for build in CASES.values():
        fresh, trained = net(), net()
        empty, optimizer = build(fresh, schedule=SPAN), build(trained, schedule=SPAN)
        _init_optim_state(empty)
        assert same(weights(fresh), weights(net_of(build)))
        expected = keys(empty.state_dict())
        for step in range(9):
            train(trained, optimizer, [step])
            assert keys(optimizer.state_dict()) == expected
            names = [set(group) for group in optimizer.state_dict()["param_groups"]]
            assert names == [set(group) for group in empty.state_dict()["param_groups"]]


def net_of(build):
    model = net()
    build(model)
    return model


def test_saved_tensors_are_never_the_weights_themselves():
    """Distributed checkpoints load in place, into the tensors of the present state dict."""
    for build in CASES.values():
        model = net()
        optimizer = build(model, schedule=qa.Every(1, stop=5))
        for steps in (0, 1, 2, 6):
            train(model, optimizer, steps)
            tensors = [leaf for leaf in leaves(optimizer.state_dict()) if isinstance(leaf, torch.Tensor)]
            own = {p.data_ptr() for p in model.parameters()}
            assert not own & {tensor.data_ptr() for tensor in tensors}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_nothing_is_cast_on_load(dtype):
    def build(model):
        return make(model, schedule=qa.Every(1, stop=5), eps=1e-3)

    model = net(dtype=dtype)
    optimizer = build(model)
    train(model, optimizer, 3)
    state = optimizer.state_dict()["state"][0]["anneal"]
    assert state["encoding"]["codes"].dtype == torch.uint8
    wide = torch.promote_types(dtype, torch.float32)
    assert {state["adam"][name]["exp_avg"].dtype for name in state["adam"]} == {wide}
    other = net(1, dtype)
    fresh = build(other)
    fresh.load_state_dict(saved(optimizer.state_dict()))
    assert keys(fresh.state_dict()) == keys(optimizer.state_dict())
    for place, values in optimizer.state_dict()["state"].items():
        assert same(leaves_of(fresh.state_dict()["state"][place]), leaves_of(values))
    assert exact(fresh, other[0].weight)


def test_a_state_dict_shares_nothing_with_a_later_load():
    model = net()
    optimizer = make(model, schedule=qa.Every(1, stop=9))
    train(model, optimizer, 4)
    state = saved({"m": model.state_dict(), "o": optimizer.state_dict()})
    kept = [tensor.clone() for tensor in leaves_of(state["o"]["state"][0]["anneal"])]
    other = net(1)
    fresh = make(other, schedule=qa.Every(1, stop=9))
    other.load_state_dict(state["m"])
    fresh.load_state_dict(state["o"])
    train(other, fresh, range(4, 7))
    assert same(kept, leaves_of(state["o"]["state"][0]["anneal"]))


def test_the_state_of_a_plain_base_loads_and_its_weights_are_snapped():
    plain = net()
    base = torch.optim.AdamW(groups_without_encoding(plain), lr=1e-2)
    train(plain, base, 3)
    model = net(1)
    optimizer = make(model)
    train(model, optimizer, 3)
    model.load_state_dict(plain.state_dict())
    optimizer.load_state_dict(saved(base.state_dict()))
    assert torch.equal(model[0].weight.sign(), model[0].weight.sign())
    train(model, optimizer, 3)
    assert exact(optimizer, model[0].weight)


def groups_without_encoding(model):
    return [{k: v for k, v in group.items() if k != "encoding"} for group in groups(model)]


@pytest.mark.parametrize("encoding", [qa.Levels.ternary(), qa.Levels.binary(scale="tensor"), qa.Mask(0.5)])
def test_a_state_with_another_encoding_is_refused_and_nothing_is_loaded(encoding):
    model, other = net(), net(1)
    optimizer, fresh = make(model), make(other, encoding)
    train(model, optimizer, 3)
    before, state = weights(other), fresh.state_dict()
    with pytest.raises(ValueError, match="Invalid state_dict: encoding"):
        fresh.load_state_dict(optimizer.state_dict())
    assert same(before, weights(other))
    assert repr(fresh.state_dict()) == repr(state)


def test_a_state_without_codes_is_refused():
    """What flattening loses where the base never had its first look, say so rather than train something else."""
    model = net()
    optimizer = make(model)
    train(model, optimizer, 3)
    state = optimizer.state_dict()
    del state["state"][0]["anneal"]
    with pytest.raises(ValueError, match="Invalid state_dict"):
        optimizer.load_state_dict(state)
    state = optimizer.state_dict()
    state["state"][0]["anneal"]["encoding"]["codes"] = torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match="Invalid state_dict"):
        optimizer.load_state_dict(state)


def test_hooks_see_the_whole_state():
    model = net()
    optimizer = make(model)
    seen = []
    optimizer.register_state_dict_post_hook(lambda o, state: seen.append(state["state"][0]["anneal"]["encoding"]))
    optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append(state["state"][0]["anneal"]["encoding"]))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(exact(o, model[0].weight)))
    train(model, optimizer, 2)
    optimizer.load_state_dict(optimizer.state_dict())
    assert [s if s is True else set(s) for s in seen] == [{"codes", "scale", "latent"}] * 2 + [True]


def test_a_hook_may_rename_parameters():
    model = net()
    optimizer = make(model)
    train(model, optimizer, 3)
    names = dict(enumerate("abcd"))

    def rename(optimizer, state):
        state["state"] = {names[k]: v for k, v in state["state"].items()}
        for group in state["param_groups"]:
            group["params"] = [names[k] for k in group["params"]]

    handle = optimizer.register_state_dict_post_hook(rename)
    state = saved(optimizer.state_dict())
    handle.remove()
    assert set(state["state"]) == set("abcd")
    other = net()
    other.load_state_dict(model.state_dict())
    fresh = make(other)
    fresh.load_state_dict(state)
    train(model, optimizer, 3)
    train(other, fresh, 3)
    assert same(weights(model), weights(other))


def test_external_writes_are_saved():
    model = net()
    optimizer = make(model)
    train(model, optimizer, 1)
    model.load_state_dict(net(5).state_dict())
    state = saved(optimizer.state_dict())
    new = net(1)
    fresh = make(new)
    fresh.load_state_dict(state)
    assert torch.equal(new[0].weight.sign(), net(5)[0].weight.sign())


def test_the_best_state_and_j0_are_saved():
    model = net()
    optimizer = make(model, schedule=qa.Every(1, stop=8))
    train(model, optimizer, 3)
    group = optimizer.state_dict()["param_groups"][0]
    assert math.isfinite(group["anneal_reference"]) and math.isfinite(group["anneal_best"])
    other = net(1)
    fresh = make(other, schedule=qa.Every(1, stop=8))
    fresh.load_state_dict(saved(optimizer.state_dict()))
    fresh.restore_best()
    optimizer.restore_best()
    assert same(weights(model), weights(other))
    assert float(optimizer.objective()) == pytest.approx(group["anneal_best"], rel=1e-6)


def test_a_steps_own_state_is_saved(tmp_path):
    for way in (by_file, distributed(), distributed(flatten_optimizer_state_dict=True)):
        model, step = net(), Idle()
        optimizer = make(model, annealing=step, schedule=qa.Every(1))
        train(model, optimizer, 3)
        again = Idle()
        folder = tmp_path / str(id(way))
        way(
            model,
            optimizer,
            folder,
            lambda new, again=again: make(new, annealing=again, schedule=qa.Every(1)),
        )
        assert again.draws == step.draws and len(again.draws) == 3
