"""Rounding of whole models: what is rounded and what is left alone, wholly or not at all, and without a trace."""

import copy
import dataclasses
import json
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import qanneal_opt as qa
from qanneal_opt.compress.layers import find_layers
from qanneal_opt.compress.layerwise import Result

METHODS = ("rtn", "gptq", "cd", "beam", "anneal")
QUICK = {"sweeps": 5}


class Conv1D(nn.Module):
    """As transformers has it: the weight is the transposed matrix."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf, generator=torch.Generator().manual_seed(2)) / nx**0.5)
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.nf)


def net(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(inplace=True), nn.Dropout(), Conv1D(12, 16), nn.Linear(12, 3))


def images(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 6, 3, padding="same", padding_mode="reflect"),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, (3, 2), stride=2, dilation=(1, 2), groups=3, padding=1),
            nn.Flatten(),
            nn.Linear(6 * 4 * 4, 3),
        )


def rows(count=200, width=6, seed=1):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def pictures(count=96, seed=1):
    return torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


def state(model):
    return copy.deepcopy(model.state_dict())


def unchanged(model, before):
    now = model.state_dict()
    return all(torch.equal(now[key], before[key]) for key in before)


def on_grid(report, model):
    """Whether every rounded weight is what codes and grid decode to, to the bit."""
    layers = {layer.name: layer for layer in find_layers(model)[0]}
    return all(
        torch.equal(mine.decode(layers[name]), layers[name].weight.detach())
        and int(mine.codes.max()) < 2**mine.grid.bits
        for name, mine in report.rounded.items()
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_rounds_every_kind_of_layer(method):
    for model, data in ((net(), rows().split(50)), (images(), pictures().split(32))):
        model.eval()
        whole = copy.deepcopy(model)
        x = data[0]
        report = qa.quantize(model, data, bits=4, method=method, **QUICK)
        assert on_grid(report, model)
        error = (model(x) - whole(x)).square().mean() / whole(x).var()
        assert 0 < error < 0.1
        assert [row.samples > 0 and row.bits == 4 for row in report.rows] == [True, True, True]
        for row in report.rows:
            assert row.final <= row.gptq * 1.0001 or method == "rtn"
            assert method != "gptq" or row.final == row.gptq
            assert method != "rtn" or row.final == row.rtn


def test_more_bits_come_closer_and_annealing_beats_nearest():
    errors = {}
    x = rows(400)
    for bits, method in ((2, "rtn"), (2, "anneal"), (8, "anneal")):
        model = net().eval()
        target = model(x)
        qa.quantize(model, x.split(100), bits=bits, method=method)
        errors[bits, method] = float((model(x) - target).square().mean().detach())
    assert errors[8, "anneal"] < errors[2, "anneal"] / 100 and errors[2, "anneal"] < errors[2, "rtn"] / 2


@pytest.mark.parametrize("options", [{}, {"group_size": 4}, {"symmetric": True}, {"zero": "real"}, {"bits": 1}])
def test_grids(options):
    model = net()
    report = qa.quantize(model, rows().split(50), **{"bits": 3, **options}, **QUICK)
    assert on_grid(report, model)
    for row, weight in zip(report.rows, (model[0].weight, model[3].weight.T, model[4].weight)):
        size = options.get("group_size", weight.shape[1])
        assert row.group_size == size
        for part in weight.detach().split(size, 1):
            assert all(len(set(r.tolist())) <= 2**row.bits for r in part)


def test_results_do_not_depend_on_memory_threads_or_the_form_of_the_data():
    reports = []
    data = rows().split(50)
    for given, options in (
        (data, {}),
        (data, {"memory": 1e-9, "threads": 1}),
        ((x for x in data), {"memory": 1e-9, "threads": 2}),
        ([(x,) for x in data], {}),
        ([{"input": x} for x in data], {}),
        (torch.utils.data.DataLoader(rows(), batch_size=50), {}),
    ):
        model = net()
        reports.append((state(model := net()), qa.quantize(model, given, bits=3, **options, **QUICK), state(model)))
    for _, report, after in reports[1:]:
        assert all(torch.equal(after[key], value) for key, value in reports[0][2].items())
        assert [row.final for row in report.rows] == [row.final for row in reports[0][1].rows]


def test_another_seed_is_another_annealing_and_the_same_seed_the_same():
    def codes(seed):
        return qa.quantize(net(), rows().split(50), bits=3, seed=seed, sweeps=2).rounded["3"].codes

    assert torch.equal(codes(0), codes(0)) and not torch.equal(codes(0), codes(1))


@pytest.mark.parametrize("sequential", [False, True])
def test_no_trace_is_left(sequential):
    model = images()
    model[4].eval()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    kept = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    random = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    x = pictures().requires_grad_()
    qa.quantize(model, [x], bits=4, sequential=sequential, **QUICK)
    assert [m.training for m in model.modules()] == modes
    assert all(p.requires_grad == needs and p.grad is grad for p, needs, grad in kept) and x.grad is None
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert (
        torch.equal(torch.get_rng_state(), random[0])
        and (
            np.random.get_state()[1] == random[1]  # noqa: NPY002
        ).all()
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert [p for p, _, _ in kept] == list(model.parameters())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("when", [0, 1, 2])
def test_all_or_nothing(monkeypatch, error, sequential, when):
    model = net()
    before, calls = state(model), []
    inner = Result.write

    def failing(self, undo):
        inner(self, undo)
        calls.append(self)
        if len(calls) > when:
            raise error

    monkeypatch.setattr(Result, "write", failing)
    with pytest.raises(error):
        qa.quantize(model, rows().split(50), bits=2, sequential=sequential, method="rtn")
    assert unchanged(model, before) and all(m.training for m in model.modules())
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_an_error_of_the_model_itself_leaves_it_whole():
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.calls = nn.Linear(6, 3), 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 2:
                raise RuntimeError("no more")
            return self.inner(x)

    model = Failing()
    before = state(model)
    for sequential in (False, True):
        model.calls = 0
        with pytest.raises(RuntimeError, match="no more"):
            qa.quantize(model, rows().split(50), sequential=sequential)
        assert unchanged(model, before) and not model.inner._forward_hooks and model.inner.weight.requires_grad


def poisoned(value):
    x = rows()
    x[7, 2] = value
    return x


def broken(model):
    with torch.no_grad():
        model[3].weight[1, 1] = torch.inf
    return model


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "named"),
    [
        (net(), rows().split(50), {"bits": 0}, ValueError, "bits: 0"),
        (net(), rows().split(50), {"bits": 9}, ValueError, "bits: 9"),
        (net(), rows().split(50), {"bits": 3.0}, ValueError, "bits: 3.0"),
        (net(), rows().split(50), {"bits": True}, ValueError, "bits: True"),
        (net(), rows().split(50), {"group_size": 0}, ValueError, "group_size: 0"),
        (net(), rows().split(50), {"method": "obq"}, ValueError, "method: 'obq'"),
        (net(), rows().split(50), {"objective": "loss"}, ValueError, "objective: 'loss'"),
        (net(), rows().split(50), {"zero": "none"}, ValueError, "zero: 'none'"),
        (net(), rows().split(50), {"damping": 0.0}, ValueError, "damping: 0.0"),
        (net(), rows().split(50), {"memory": -1}, ValueError, "memory: -1"),
        (net(), rows().split(50), {"sweeps": -1}, ValueError, "sweeps: -1"),
        (net(), rows().split(50), {"projections": 0}, ValueError, "projections: 0"),
        (net(), rows().split(50), {"refit": "yes"}, ValueError, "refit: 'yes'"),
        (net(), rows().split(50), {"skip": ["none.*"]}, ValueError, "skip: 'none.*'"),
        (net(), rows().split(50), {"skip": [3]}, TypeError, "skip: 3"),
        (net(), rows().split(50), {"skip": None}, TypeError, "skip: None"),
        (net(), rows().split(50), {"mask": 3}, TypeError, "mask: int"),
        ("net", rows().split(50), {}, TypeError, "model: str"),
        (net(), rows(), {}, TypeError, "data: Tensor"),
        (net(), {"input": rows()}, {}, TypeError, "data: dict"),
        (net(), None, {}, TypeError, "data: NoneType"),
        (net(), [rows().numpy()], {}, TypeError, "inputs: ndarray"),
        (net(), [], {}, ValueError, "data: no batch"),
        (net(), iter(()), {}, ValueError, "data: no batch"),
        (net(), [poisoned(torch.nan)], {}, ValueError, "layer '0'"),
        (net(), [poisoned(torch.inf)], {"objective": "input"}, ValueError, "layer '0'"),
        (broken(net()), rows().split(50), {}, ValueError, "weight of layer '3'"),
    ],
)
@pytest.mark.parametrize("sequential", [False, True])
def test_bad_input(model, data, options, error, named, sequential):
    before = state(model) if isinstance(model, nn.Module) else {}
    with pytest.raises(error, match="Invalid ") as caught:
        qa.quantize(model, data, **options, sequential=sequential)
    assert named in str(caught.value)
    assert not before or unchanged(model, before) or torch.isinf(before["3.weight"]).any()


def test_unsupported_layers_are_listed_and_left_alone():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(5, 6)
            self.along = nn.Conv1d(6, 6, 1)
            self.normal = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
            self.out = nn.Linear(6, 2)

        def forward(self, x):
            x = self.along(self.words(x).mT).mT
            return self.out(self.normal(x)).sum(1)

    model = Model()
    before = state(model)
    report = qa.quantize(model, [torch.randint(0, 5, (40, 4), generator=torch.Generator().manual_seed(0))], bits=2)
    assert [row.name for row in report.rows] == ["out"]
    text = str(report)
    for name in ("words", "along", "normal"):
        assert name in report.alone and name in text
    after = model.state_dict()
    assert {key for key in before if not torch.equal(before[key], after[key])} <= {"out.weight", "out.bias"}


def test_skipping():
    model = net()
    before = state(model)
    report = qa.quantize(model, rows().split(50), bits=2, skip=["0", "[3]"])
    assert [row.name for row in report.rows] == ["4"] and report.alone == {"0": "skipped", "3": "skipped"}
    assert torch.equal(model[0].weight, before["0.weight"])
    nested = nn.Sequential(nn.Sequential(nn.Linear(6, 4)), nn.Linear(4, 2))
    assert [row.name for row in qa.quantize(nested, [rows()], skip="0").rows] == ["1"]


def test_a_tied_weight_is_rounded_once_for_all_its_inputs():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight
            self.c.bias = self.a.bias

        def forward(self, x):
            return self.c(self.b(self.a(x).relu()).relu())

    model = Tied()
    biases = [m.bias.clone() for m in (model.a, model.b)]
    report = qa.quantize(model, [rows(100)], bits=3, **QUICK)
    assert [(row.name, row.samples) for row in report.rows] == [("a", 200), ("c", 100)]
    assert model.a.weight is model.b.weight and on_grid(report, model)
    assert torch.equal(model.a.bias, biases[0]) and torch.equal(model.b.bias, biases[1])


def test_a_weight_tied_to_an_embedding_stays_tied():
    words, out = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False)
    out.weight = words.weight
    model = nn.Sequential(words, out)
    report = qa.quantize(model, [torch.arange(7).repeat(3, 1)], bits=3)
    assert words.weight is out.weight and on_grid(report, model) and [row.name for row in report.rows] == ["1"]
    assert report.alone == {"0": "Embedding is not supported, but its weight is rounded as that of 1"}
    before = state(model)
    report = qa.quantize(model, [torch.arange(7).repeat(3, 1)], bits=2, skip="0")
    assert unchanged(model, before) and report.rows == []
    assert report.alone == {"0": "skipped", "1": "its weight is that of 0, which is skipped"}


def test_a_weight_that_two_layers_use_in_different_ways_is_rounded_for_the_first():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, stride=2)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x).relu())

    model = Tied()
    report = qa.quantize(model, pictures().split(32), bits=3, **QUICK)
    assert [row.name for row in report.rows] == ["a"] and on_grid(report, model)
    assert report.alone == {"b": "it makes other rows of its inputs, but its weight is rounded as that of a"}


@pytest.mark.parametrize("sequential", [False, True])
def test_a_layer_that_data_never_reach_is_rounded_to_nearest_with_a_word(sequential):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(5, 4)

        def forward(self, x):
            return self.used(x)

    model = Model()
    with pytest.warns(UserWarning, match="never reached by the data, rounded to nearest: unused"):
        report = qa.quantize(model, rows().split(50), bits=2, sequential=sequential)
    assert on_grid(report, model) and "unused: never reached" in str(report)
    assert [row.samples for row in report.rows] == [200, 0]


def test_fewer_samples_than_inputs_and_dead_channels():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].weight[2] = 0.0
        model[0].bias[2] = -1.0
    x = rows(5)
    x[:, 4] = 0.0
    with pytest.warns(UserWarning, match="fewer samples than inputs, more data are needed: 0, 2"):
        report = qa.quantize(model, [x], bits=4)
    assert on_grid(report, model) and all(p.isfinite().all() for p in model.parameters())
    assert "only 5 samples for 6 inputs; 1 of 6 inputs always 0" in report.rows[0].note
    assert model[0].weight[2].abs().max() == 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        qa.quantize(model, [rows(50)], bits=4)


class Output(NamedTuple):
    hidden: torch.Tensor
    names: tuple


@dataclasses.dataclass
class Wrapped:
    scores: torch.Tensor
    extra: dict


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: y,
        lambda y: (y, None),
        lambda y: Output(y, ("a",)),
        lambda y: {"y": y, "count": torch.tensor(3)},
        lambda y: Wrapped(y, {"other": [3]}),
    ],
)
def test_any_output_gives_gradients(wrap):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            return wrap(self.inner(x))

    model = Model()
    for p in model.parameters():
        p.requires_grad_(False)
    report = qa.quantize(model, rows().split(50), bits=3, **QUICK)
    plain = net()
    assert [row.final for row in report.rows] == [
        row.final for row in qa.quantize(plain, rows().split(50), 3, **QUICK).rows
    ]


def test_outputs_without_gradient_need_the_input_objective():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            return self.inner(x).argmax(1)

    model = Model()
    before = state(model)
    with pytest.raises(ValueError, match="objective: 'kronecker'"):
        qa.quantize(model, rows().split(50))
    assert unchanged(model, before)
    assert on_grid(qa.quantize(model, rows().split(50), objective="input"), model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype, tmp_path):
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype)
    x = rows().to(dtype)
    report = qa.quantize(model, x.split(50), bits=3, **QUICK)
    assert on_grid(report, model) and all(p.dtype == dtype for p in model.parameters())
    report.save(tmp_path / "model.safetensors")
    other = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype)
    qa.load_quantized(other, tmp_path / "model.safetensors")
    assert unchanged(other, state(model)) and torch.equal(other(x), model(x))


def test_the_root_can_be_the_layer():
    model = nn.Linear(6, 3)
    report = qa.quantize(model, [rows()], bits=2)
    assert on_grid(report, model) and str(report).splitlines()[2].startswith("Linear")


def test_sequential_targets_follow_the_rounded_inputs():
    x = rows(500)
    errors = {}
    for sequential in (False, True):
        model = net().eval()
        target = model(x)
        qa.quantize(model, x.split(100), bits=2, sequential=sequential)
        errors[sequential] = float((model(x) - target).square().mean().detach())
    assert errors[True] < 0.9 * errors[False]


def test_a_bias_takes_up_the_mean_error():
    x = rows(500) + 3.0
    model, plain = nn.Linear(6, 4), nn.Linear(6, 4)
    plain.load_state_dict(model.state_dict())
    target = model(x).mean(0)
    qa.quantize(model, [x], bits=2)
    qa.quantize(plain, [x], bits=2, bias=False)
    assert (model(x).mean(0) - target).abs().max() < 1e-5 < (plain(x).mean(0) - target).abs().max()


def test_the_report_as_text_json_and_picture(tmp_path):
    report = qa.quantize(net(), rows().split(50), bits=3, skip=["4"], **QUICK)
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "shape", "bits", "rtn", "gptq", "final", "final/gptq", "seconds"]
    assert len(lines) == 5 and lines[-1] == "4: left alone, skipped"
    read = json.loads(report.to_json())
    assert [row["name"] for row in read["rows"]] == ["0", "3"] and read["settings"]["bits"] == 3
    assert read["seconds"]["total"] >= read["seconds"]["statistics"] > 0
    assert dataclasses.asdict(report.rows[0])["shape"] == (16, 6)
    report.plot(tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 1000


def test_attention_masks_and_masks_of_ones_own():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 3)

        def forward(self, x, attention_mask=None):
            return self.inner(x)

    x = rows(40).view(8, 5, 6)
    mask = (torch.arange(5) < torch.tensor([[5], [3], [1], [2], [5], [4], [4], [2]])).long()
    model = Model()
    loud = torch.where(mask.bool()[..., None], x, torch.full_like(x, 1e3))
    results = []
    for data, options in (
        ([x[mask.bool()]], {}),
        ([{"x": loud, "attention_mask": mask}], {}),
        ([loud], {"mask": lambda batch: mask}),
    ):
        for sequential in (False, True):
            fresh = copy.deepcopy(model)
            report = qa.quantize(fresh, data, 3, objective="input", sequential=sequential, **options)
            results.append((report.rows[0].samples, report.rounded["inner"].codes))
    assert {samples for samples, _ in results} == {int(mask.sum())}
    assert all(torch.equal(codes, results[0][1]) for _, codes in results)


@pytest.mark.parametrize("sequential", [False, True])
def test_a_layer_that_is_used_without_being_called_is_left_alone(sequential):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.called, self.read, self.unused = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.read.weight.requires_grad_(False)

        def forward(self, x):
            x = functional.linear(self.called(x), self.read.weight, self.read.bias)
            return self.attention(x, x, x)[0]

    model = Model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(UserWarning, match="never reached by the data, rounded to nearest: unused"):
        report = qa.quantize(model, [rows().view(-1, 5, 6)], bits=3, sequential=sequential, **QUICK)
    assert [row.name for row in report.rows] == ["called", "unused"] and on_grid(report, model)
    assert all("used without being called" in report.alone[name] for name in ("read", "attention.out_proj"))
    assert "attention" in report.alone  # whose other projections are parameters of its own
    for name in ("read.weight", "attention.out_proj.weight", "attention.in_proj_weight"):
        assert torch.equal(model.state_dict()[name], before[name])
    assert not model.read.weight.requires_grad and model.attention.out_proj.weight.grad is None


@pytest.mark.parametrize("sequential", [False, True])
def test_tokens_that_do_not_count_may_be_nan(sequential):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x, attention_mask):
            return self.last(self.first(x).relu())

    x, mask = rows(40).view(8, 5, 6), torch.arange(5).expand(8, 5) < torch.arange(1, 9)[:, None]
    model = Model()
    codes = []
    for value in (0.0, torch.nan):
        data = [{"x": torch.where(mask[..., None], x, value), "attention_mask": mask.long()}]
        report = qa.quantize(copy.deepcopy(model), data, 3, sequential=sequential, **QUICK)
        codes.append([report.rounded[name].codes for name in ("first", "last")])
    assert all(map(torch.equal, *codes))


@pytest.mark.parametrize("sequential", [False, True])
def test_a_part_under_no_grad_is_rounded_by_its_inputs(sequential):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x):
            with torch.no_grad():
                x = self.frozen(x)
            return self.head(x)

    model = Model()
    report = qa.quantize(model, rows().split(50), 3, sequential=sequential, **QUICK)
    assert on_grid(report, model) and not model.frozen._forward_hooks
    assert [row.note for row in report.rows] == ["no gradient comes here, rounded by its inputs alone", ""]
    with torch.inference_mode(), pytest.raises(ValueError, match="objective: 'kronecker'"):
        qa.quantize(net(), rows().split(50))


class Experts(nn.Module):
    """Rows choose one of two layers, which may get none of them."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(6, 2), nn.ModuleList([nn.Linear(6, 4) for _ in range(2)])
        with torch.no_grad():
            self.gate.weight.copy_(torch.arange(12.0).view(2, 6).sin())
            self.gate.bias.fill_(0.1)

    def forward(self, x):
        chosen, out = self.gate(x).argmax(1), x.new_zeros(len(x), 4)
        for k, expert in enumerate(self.experts):
            out[chosen == k] = expert(x[chosen == k])
        return out


@pytest.mark.parametrize("sequential", [False, True])
def test_a_layer_that_is_called_without_rows_counts_as_never_reached(sequential):
    model = Experts()
    with torch.no_grad():
        model.gate.bias[0] = 100.0
    with pytest.warns(UserWarning, match="never reached by the data, rounded to nearest: .*experts.1"):
        report = qa.quantize(model, [*rows().split(50), rows()[:0]], 3, sequential=sequential, **QUICK)
    assert [row.samples for row in report.rows] == [200, 200, 0] and not report.alone and on_grid(report, model)


def test_rounding_in_sequence_tells_of_rows_that_go_elsewhere():
    model = Experts()
    before = state(model)
    with pytest.raises(ValueError, match=r"sequential: True; layer 'experts\.0' gets other rows"):
        qa.quantize(model, rows().split(50), 1, sequential=True, **QUICK)
    assert unchanged(model, before)


def test_objectives_are_not_negative_and_the_root_has_a_name(tmp_path):
    model = nn.Linear(4, 2)
    with pytest.warns(UserWarning, match="more data are needed: Linear"):
        report = qa.quantize(model, [rows(1, 4)], bits=2, **QUICK)
    assert all(value >= 0 for row in report.rows for value in (row.rtn, row.gptq, row.final))
    report.plot(tmp_path / "nothing.png")


@pytest.mark.parametrize("sequential", [False, True])
def test_a_model_that_computes_in_two_precisions(sequential):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.inner(x)

    model = Model()
    report = qa.quantize(model, rows().split(50), bits=3, sequential=sequential, **QUICK)
    assert on_grid(report, model) and all(row.final <= row.gptq for row in report.rows)
