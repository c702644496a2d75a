"""torch's own optimizer tests, on ours: its shared error inputs, and the checks of its test_optim.py."""

import copy
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    OptimizerInfo,
    _get_optim_inputs_including_global_cliquey_kwargs,
    optim_db,
    optim_error_inputs_func_adamw,
    optim_inputs_func_adamw,
)

import qanneal_opt as qa
from qanneal_opt.optimizer import AnnealingOptimizer
from tests.toys import Idle, groups, net, objective, same, weights

INFO = OptimizerInfo(
    AnnealingOptimizer,
    optim_inputs_func=optim_inputs_func_adamw,
    optim_error_inputs_func=optim_error_inputs_func_adamw,
    supported_impls=("foreach", "fused", "differentiable"),
)
CPU = torch.device("cpu")


def inputs(info):
    """All configurations that torch tests an optimizer of its own with."""
    return _get_optim_inputs_including_global_cliquey_kwargs(CPU, torch.float32, info, skip=("differentiable",))


def configurations(infos):
    for info in infos:
        for number, given in enumerate(inputs(info)):
            yield pytest.param(info, given.kwargs, id=f"{info.name} {number} {given.desc}")


def problem(info, seed=0):
    """Parameters of the kind that the optimizer takes, and a function that sets their gradients anew."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (2, 4)] if info.name == "Muon" else [(4, 3), (4,), (), (2, 3, 2, 2)]
    params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]

    def backward(step):
        loss = sum(((p - (step + 1) / 7) ** 2 * (k + 1)).sum() for k, p in enumerate(params))
        for p in params:
            p.grad = None
        loss.backward()
        if info.only_supports_sparse_grads:
            for p in params:
                p.grad = p.grad.to_sparse()
        return loss

    return params, backward


def run(optimizer, backward, steps, schedulers=()):
    for step in range(steps):
        optimizer.step(partial(backward, step))
        for scheduler in schedulers:
            on_plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(1.0) if on_plateau else scheduler.step()


def alike(left, right):
    """Equal states, to the bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(alike(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(alike, left, right))
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


@pytest.mark.parametrize(("info", "options"), list(configurations(optim_db)))
def test_without_annealing_it_is_its_base_bit_for_bit(info, options):
    params, backward = problem(info)
    params_, backward_ = problem(info)
    base = info.optim_cls(params_, **copy.deepcopy(options))
    optimizer = AnnealingOptimizer(params, info.optim_cls, **copy.deepcopy(options))
    run(optimizer, backward, 4)
    run(base, backward_, 4)
    assert same(params, params_)
    assert alike(optimizer.state_dict(), base.state_dict())
    # What it saved, its base takes, and the other way round.
    ours, theirs = optimizer.state_dict(), base.state_dict()
    base.load_state_dict(copy.deepcopy(ours))
    optimizer.load_state_dict(copy.deepcopy(theirs))
    run(optimizer, backward, 3)
    run(base, backward_, 3)
    assert same(params, params_)


@pytest.mark.parametrize("info", [i for i in optim_db if i.name in ("Adam", "SGD", "Adagrad")], ids=lambda i: i.name)
def test_lr_schedulers_work_as_on_the_base(info):
    for build in info.scheduler_inputs:
        params, backward = problem(info)
        params_, backward_ = problem(info)
        base, optimizer = info.optim_cls(params_, lr=0.1), AnnealingOptimizer(params, info.optim_cls, lr=0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "lr_scheduler.step() before optimizer.step()" among them
            schedulers = [
                [one(o) for one in (build if isinstance(build, list) else [build])] for o in (optimizer, base)
            ]
            run(optimizer, backward, 12, schedulers[0])
            run(base, backward_, 12, schedulers[1])
        assert same(params, params_)


def test_one_hundred_steps_to_the_bit():
    model, model_ = net(), net()
    optimizer = AnnealingOptimizer(model.parameters(), lr=1e-2, foreach=True)
    base = torch.optim.AdamW(model_.parameters(), lr=1e-2, foreach=True)
    data = torch.randn(16, 6)
    for _ in range(100):
        for m, o in ((model, optimizer), (model_, base)):
            o.zero_grad()
            m(data).square().mean().backward()
            o.step()
    assert same(weights(model), weights(model_))


ERRORS = INFO.optim_error_inputs_func(CPU, torch.float32)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: e.optimizer_error_input.desc)
def test_torchs_shared_error_inputs(error):
    given = error.optimizer_error_input
    params = [nn.Parameter(torch.randn(2, 3))] if given.params is None else given.params
    assert error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    if issubclass(error.error_type, Warning):
        with pytest.warns(error.error_type, match=error.error_regex):
            AnnealingOptimizer(params, **given.kwargs)
    else:
        with pytest.raises(error.error_type, match=error.error_regex):
            AnnealingOptimizer(params, **given.kwargs)


# --- The essence of torch/test/test_optim.py, plain and with discrete weights ---------------------------------


def plain(model, **options):
    return AnnealingOptimizer(list(model.parameters()), **options)


def discrete(model, **options):
    return AnnealingOptimizer(groups(model), **options)


def annealed(model, **options):
    return AnnealingOptimizer(
        groups(model), objective=objective(model), annealing=Idle(), schedule=qa.Every(2), **options
    )


KINDS = pytest.mark.parametrize("build", [plain, discrete, annealed])


def take(model, optimizer, steps):
    data = torch.randn(8, 6, generator=torch.Generator().manual_seed(steps))
    for _ in range(steps):
        optimizer.zero_grad()
        model(data).square().mean().backward()
        optimizer.step()


@KINDS
@pytest.mark.parametrize("options", [given.kwargs for given in inputs(INFO)], ids=str)
def test_state_dict_deterministic(build, options):
    """Loaded into another optimizer over copies of the parameters, training goes the same way."""
    model = net()
    optimizer = build(model, **options)
    take(model, optimizer, 3)
    model_ = copy.deepcopy(model)
    optimizer_ = build(model_, **options)
    optimizer_.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    take(model, optimizer, 3)
    take(model_, optimizer_, 3)
    assert same(weights(model), weights(model_))


@KINDS
def test_deepcopy_copies_all_public_attributes(build):
    model = net()
    optimizer = build(model)
    take(model, optimizer, 2)

    def public(o):
        return {k for k in o.__dict__ if not k.startswith("_")}

    assert public(optimizer) == public(copy.deepcopy(optimizer))


@KINDS
def test_step_hooks(build):
    model, count = net(), []
    optimizer = build(model)
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: count.append(("pre", o)))
    after = optimizer.register_step_post_hook(lambda o, args, kwargs: count.append(("post", o)))
    take(model, optimizer, 2)
    assert count == [("pre", optimizer), ("post", optimizer)] * 2
    before.remove()
    after.remove()
    take(model, optimizer, 1)
    assert len(count) == 4


@KINDS
def test_global_hooks_fire_once_a_step(build):
    model, count = net(), []
    optimizer = build(model)
    hooks = [
        register_optimizer_step_pre_hook(lambda o, a, k: count.append(("global pre", o))),
        register_optimizer_step_post_hook(lambda o, a, k: count.append(("global post", o))),
    ]
    optimizer.register_step_pre_hook(lambda o, a, k: count.append(("pre", o)))
    optimizer.register_step_post_hook(lambda o, a, k: count.append(("post", o)))
    try:
        take(model, optimizer, 2)
    finally:
        for hook in hooks:
            hook.remove()
    assert count == [(name, optimizer) for name in ("global pre", "pre", "post", "global post")] * 2


@KINDS
def test_a_pre_hook_may_replace_the_closure(build):
    model, called = net(), []
    optimizer = build(model)

    def closure():
        called.append("hook's")
        optimizer.zero_grad()
        loss = model(torch.ones(2, 6)).square().mean()
        loss.backward()
        return loss

    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, closure), {}))
    loss = optimizer.step(lambda: called.append("given"))
    assert called == ["hook's"] and isinstance(loss, torch.Tensor)


@KINDS
def test_state_dict_hooks(build):
    model = net()
    optimizer = build(model)
    take(model, optimizer, 1)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append(2))
    optimizer.register_state_dict_pre_hook(lambda o: calls.append(1), prepend=True)

    def late(o, state):
        calls.append(4)
        return {**state, "late": True}

    optimizer.register_state_dict_post_hook(late)
    optimizer.register_state_dict_post_hook(lambda o, state: calls.append(3), prepend=True)
    state = optimizer.state_dict()
    assert calls == [1, 2, 3, 4] and state["late"]
    assert len(optimizer._optimizer_state_dict_post_hooks) == 2


@KINDS
def test_load_state_dict_hooks(build):
    model = net()
    optimizer = build(model)
    take(model, optimizer, 1)
    state, calls = optimizer.state_dict(), []

    def first(o, state):
        calls.append(1)
        state["param_groups"] = copy.deepcopy(state["param_groups"])
        state["param_groups"][0]["lr"] = 0.5

    def second(o, state):
        calls.append(2)
        groups = copy.deepcopy(state["param_groups"])
        groups[0]["lr"] *= 2
        return {**state, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(second)
    optimizer.register_load_state_dict_pre_hook(first, prepend=True)
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append(3))
    optimizer.load_state_dict(state)
    assert calls == [1, 2, 3] and optimizer.param_groups[0]["lr"] == optimizer._base.param_groups[0]["lr"] == 1.0
    assert state["param_groups"][0]["lr"] != 1.0
    assert len(optimizer._optimizer_load_state_dict_pre_hooks) == 2


@KINDS
def test_a_load_of_other_groups_is_refused(build):
    model, optimizer = net(), None
    optimizer = build(model)
    state = optimizer.state_dict()
    state["param_groups"].append(state["param_groups"][0])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(state)
    state = optimizer.state_dict()
    state["param_groups"][-1]["params"] = state["param_groups"][-1]["params"][:-1]
    with pytest.raises(ValueError, match="doesn't match the size"):
        optimizer.load_state_dict(state)


@KINDS
def test_a_step_without_gradients_is_a_no_op(build):
    model = net()
    optimizer = build(model)
    if build is annealed:
        optimizer._alternation.schedule = qa.Every(100)
    before = weights(model)
    optimizer.step()
    assert same(before, weights(model))


@KINDS
def test_closures_are_evaluated_once_and_their_loss_is_returned(build):
    model = net()
    optimizer = build(model)
    losses = []

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = model(torch.ones(2, 6)).square().mean()
        loss.backward()
        losses.append(loss)
        return loss

    with torch.no_grad():
        returned = optimizer.step(closure)
    assert len(losses) == 1 and returned is losses[0]
    assert optimizer.step() is None


@KINDS
def test_parameter_groups_have_options_of_their_own(build):
    model = net()
    optimizer = build(model, lr=1e-2)
    extra = nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [extra], "lr": 0.0, "weight_decay": 0.3})
    assert optimizer.param_groups is optimizer._base.param_groups
    assert optimizer.param_groups[-1]["betas"] == (0.9, 0.999)
    extra.grad = torch.ones(3)
    take_before = extra.detach().clone()
    model(torch.ones(2, 6)).square().mean().backward()
    optimizer.step()
    assert torch.equal(extra, take_before)
    optimizer.param_groups[-1]["lr"] = 0.1
    extra.grad = torch.ones(3)
    optimizer.step()
    assert not torch.equal(extra, take_before)


@KINDS
def test_it_can_be_printed(build):
    text = repr(build(net()))
    assert text.startswith("AnnealingOptimizer (") and "weight_decay" in text


@KINDS
def test_zero_grad(build):
    model = net()
    optimizer = build(model)
    take(model, optimizer, 1)
    optimizer.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in model.parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_named_parameters():
    model, model_ = net(), net()
    named = [("weight", model[0].weight), ("other", model[2].weight)]
    optimizer = AnnealingOptimizer([{"params": named, "encoding": qa.Levels.binary()}], lr=1e-2)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "other"]
    named_ = [("weight", model_[0].weight), ("other", model_[2].weight)]
    again = AnnealingOptimizer([{"params": named_, "encoding": qa.Levels.binary()}], lr=1e-2)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["param_names"] == ["weight", "other"]


def test_tensor_learning_rates():
    model, model_ = net(), net()
    optimizer = AnnealingOptimizer(model.parameters(), lr=torch.tensor(1e-2), foreach=False)
    base = torch.optim.AdamW(model_.parameters(), lr=torch.tensor(1e-2), foreach=False)
    take(model, optimizer, 3)
    take(model_, base, 3)
    assert same(weights(model), weights(model_))
    third = net()
    take(third, discrete(third, lr=torch.tensor(1e-2), foreach=False), 2)


def test_complex_parameters():
    params = [nn.Parameter(torch.randn(3, dtype=torch.complex64)) for _ in range(2)]
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    optimizer, base = AnnealingOptimizer(params, lr=1e-2), torch.optim.AdamW(copies, lr=1e-2)
    for some, o in ((params, optimizer), (copies, base)):
        for p in some:
            p.grad = p.detach() * 2
        o.step()
    assert same([torch.view_as_real(p) for p in params], [torch.view_as_real(p) for p in copies])


def test_differentiable():
    """A loss that is differentiated through the step, as in learning to optimize."""
    values = []
    for build in (torch.optim.SGD, partial(AnnealingOptimizer, base=torch.optim.SGD)):
        weight = torch.tensor([1.0, 2.0], requires_grad=True)
        moved = weight.clone()
        moved.grad = 3.0 * weight
        build([moved], lr=0.1, differentiable=True).step()
        values.append(torch.autograd.grad(moved.sum(), weight)[0])
    assert torch.equal(*values) and values[0].tolist() == pytest.approx([0.7, 0.7])


def test_a_compiled_function_may_call_step():
    def go(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(4, 6)).square().mean().backward()
        optimizer.step()

    for build in (plain, annealed):
        model, model_ = net(), net()
        optimizer, eager = build(model, lr=1e-2), build(model_, lr=1e-2)
        compiled = torch.compile(go, backend="eager")
        for _ in range(4):
            compiled(model, optimizer)
            go(model_, eager)
        torch._dynamo.reset()
        torch.testing.assert_close(weights(model), weights(model_))  # compiled, torch rounds in another order
        assert len(optimizer.records) == (2 if build is annealed else 0)
