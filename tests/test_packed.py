"""Rounded models in files: packing to the bit, what fits and what does not, all or nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import qanneal_opt as qa
from qanneal_opt.compress.packed import pack, unpack


@given(st.integers(1, 8), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**16))
def test_packing_is_exact_and_without_gaps(bits, rows, columns, seed):
    codes = torch.from_numpy(np.random.default_rng(seed).integers(0, 2**bits, (rows, columns), dtype=np.uint8))
    packed = pack(codes, bits)
    assert packed.shape == (rows, -(-columns * bits // 8))
    assert torch.equal(unpack(packed, bits, columns), codes)
    for row, line in zip(codes.tolist(), packed.tolist()):  # as one long number, lowest code first
        assert sum(code << k * bits for k, code in enumerate(row)) == int.from_bytes(bytes(line), "little")


class Net(nn.Module):
    """Layers of each kind, two that share a weight but are not run, an embedding and buffers."""

    def __init__(self, width=6):
        super().__init__()
        self.conv = nn.Conv2d(2, width, 3, groups=2)
        self.norm = nn.BatchNorm2d(width)
        self.out = nn.Linear(width * 16, 5)
        self.tied, self.twin = nn.Linear(6, 6), nn.Linear(6, 6)
        self.twin.weight = self.tied.weight
        self.words = nn.Embedding(3, 4)

    def forward(self, x):
        return self.out(self.norm(self.conv(x)).flatten(1))


def net(seed, width=6):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(width)


def rounded(seed=0, **options):
    model = net(seed)
    images = torch.randn(60, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    with pytest.warns(UserWarning, match="never reached"):
        return model, qa.quantize(model, images.split(20), sweeps=5, **options)


@pytest.mark.parametrize(
    "options", [{"bits": 3}, {"bits": 1}, {"bits": 8, "group_size": 5}, {"bits": 2, "zero": "real"}]
)
def test_a_file_has_the_whole_model_to_the_bit(tmp_path, options):
    model, report = rounded(**options)
    path = tmp_path / "model.safetensors"
    report.save(path)
    other = net(7)
    again = qa.load_quantized(other, path)
    expected, state = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in state)
    assert other.tied.weight is other.twin.weight
    assert again.to_json() == report.to_json()
    for name, mine in report.rounded.items():
        assert torch.equal(again.rounded[name].codes, mine.codes)
        assert torch.equal(again.rounded[name].grid.scale, mine.grid.scale)
    second = tmp_path / "second.safetensors"
    again.save(second)
    assert second.read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "second.safetensors"]


def test_codes_take_their_bits_and_no_more(tmp_path):
    model = nn.Linear(512, 256, bias=False)
    sizes = {}
    for bits in (2, 3, 8):
        report = qa.quantize(model, [torch.randn(600, 512)], bits=bits, method="rtn")
        report.save(tmp_path / "model")
        sizes[bits] = (tmp_path / "model").stat().st_size
    assert sizes[3] - sizes[2] == pytest.approx(512 * 256 / 8, rel=0.01)
    assert sizes[8] - sizes[2] == pytest.approx(512 * 256 * 6 / 8, rel=0.01)


def test_other_dtypes_load_the_same_grid(tmp_path):
    model, report = rounded(bits=3)
    report.save(tmp_path / "model")
    half = net(7).bfloat16()
    qa.load_quantized(half, tmp_path / "model")
    assert torch.equal(half.conv.weight, model.conv.weight.bfloat16())


def test_a_model_that_was_trained_on_is_not_saved(tmp_path):
    model, report = rounded(bits=3)
    with torch.no_grad():
        model.out.weight[0, 0] += 1.0
    with pytest.raises(ValueError, match="layer 'out' were changed"):
        report.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def replaced(model, name, module):
    setattr(model, name, module)
    return model


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: net(7, width=8), "'conv' has shape"),
        (lambda: replaced(net(7), "out", nn.Identity()), "no layer 'out'"),
        (lambda: replaced(net(7), "words", nn.Embedding(4, 4)), "'words.weight' has shape"),
        (lambda: replaced(net(7), "more", nn.Linear(2, 2)), "'more."),
        (lambda: replaced(net(7), "words", nn.Identity()), "'words.weight' is only in the file"),
    ],
)
def test_a_model_that_does_not_fit_is_left_whole(tmp_path, make, named):
    rounded(bits=3)[1].save(tmp_path / "model")
    model = make()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="Invalid model") as caught:
        qa.load_quantized(model, tmp_path / "model")
    assert named in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_files_of_no_use(tmp_path):
    import safetensors.torch

    with pytest.raises(FileNotFoundError, match="Invalid path"):
        qa.load_quantized(net(0), tmp_path / "none")
    (tmp_path / "text").write_text("not a model")
    with pytest.raises(ValueError, match="no safetensors file"):
        qa.load_quantized(net(0), tmp_path / "text")
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "plain")
    with pytest.raises(ValueError, match=r"that report\.save wrote"):
        qa.load_quantized(net(0), tmp_path / "plain")
    rounded(bits=3)[1].save(tmp_path / "cut")
    whole = (tmp_path / "cut").read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="Invalid path"):
        qa.load_quantized(net(0), tmp_path / "cut")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("codes/out", None, "'codes/out' is missing"),
        ("scale/conv", None, "'scale/conv' is missing"),
        ("codes/out", torch.zeros(1, 1, dtype=torch.uint8), "'codes/out' is torch.uint8 of shape (1, 1)"),
        ("codes/out", torch.zeros(2, 3), "'codes/out' is torch.float32"),
        ("scale/out", torch.ones(1, 1), "'scale/out' is torch.float32 of shape (1, 1)"),
        ("zero/out", torch.zeros(1, 4), "'zero/out' is torch.float32 of shape (1, 4)"),
        ("report", "1\n[]", "its report cannot be read"),
        ("report", '1\n{"rows": [', "its report cannot be read"),
        ("report", '1\n{"rows": [{"name": "out"}]}', "its report cannot be read"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_named_and_writes_nothing(tmp_path, key, value, named):
    import safetensors.torch

    rounded(bits=3)[1].save(tmp_path / "model")
    tensors = safetensors.torch.load_file(tmp_path / "model")
    with safetensors.safe_open(tmp_path / "model", "pt") as file:
        head = file.metadata()
    tensors.pop(key, None)
    if isinstance(value, torch.Tensor):
        tensors[key] = value
    head = {"qanneal_opt": value} if isinstance(value, str) else head
    safetensors.torch.save_file(tensors, tmp_path / "model", metadata=head)
    model = net(7)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="Invalid path") as caught:
        qa.load_quantized(model, tmp_path / "model")
    assert named in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_only_a_module_with_values_is_loaded(tmp_path):
    rounded(bits=3)[1].save(tmp_path / "model")
    with pytest.raises(TypeError, match="Invalid model: str"):
        qa.load_quantized("model", tmp_path / "model")
    with pytest.raises(ValueError, match="cannot be written, its weight has no values yet"):
        qa.load_quantized(net(7).to("meta"), tmp_path / "model")


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    _, report = rounded(bits=3)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"qanneal-opt\[compress\]"):
        report.save(tmp_path / "model")
